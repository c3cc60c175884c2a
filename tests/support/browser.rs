//! A real browser without a window, spoken to by the DevTools protocol over a pipe: JSON texts, each ended by a zero
//! byte.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{directory, wait_for};

/// A browser with one page open. Ended when dropped.
pub struct Browser {
    process: Child,
    messages: Receiver<Value>,
    session: Option<String>,
    count: u64,
    /// What the page complained of: exceptions, refused loads, failed requests.
    pub complaints: Vec<String>,
    /// Every address that the page asked for something.
    pub requests: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts the browser and opens `url`.
    pub fn open(url: &str) -> Self {
        let profile = directory();
        // The protocol wants to be spoken on the file descriptors 3 and 4.
        let mut process = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1"])
            .arg(binary())
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the browser starts");
        let (sender, messages) = mpsc::channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        thread::spawn(move || {
            for text in output.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&text) else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            process,
            messages,
            session: None,
            count: 0,
            complaints: Vec::new(),
            requests: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime", "Log", "Network", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.call("Page.navigate", json!({"url": url}));
        browser
    }

    /// The value of a JavaScript expression; null if it throws.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true});
        self.call("Runtime.evaluate", params)["result"]["value"].take()
    }

    /// The value of a JavaScript expression, as soon as it is `expected`.
    pub fn wait_for(&mut self, expression: &str, expected: &Value) {
        let mut last = Value::Null;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(expression, Duration::from_secs(20), || {
                last = self.evaluate(expression);
                (last == *expected).then_some(())
            });
        }));
        if let Err(panic) = result {
            eprintln!("{expression} is {last}, not {expected}; complaints: {:#?}", self.complaints);
            std::panic::resume_unwind(panic);
        }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.count += 1;
        let mut message = json!({"id": self.count, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let input = self.process.stdin.as_mut().unwrap();
        input.write_all(format!("{message}\0").as_bytes()).expect("the browser listens");
        loop {
            let answer = self.messages.recv_timeout(Duration::from_secs(30));
            let mut answer = answer.unwrap_or_else(|e| panic!("the browser does not answer {method}: {e}"));
            if answer["id"] == json!(self.count) {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"].to_string());
            }
            Some("Network.requestWillBeSent") => {
                self.requests.push(params["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
            _ => (),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its other processes end when this one does.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `$CHROMIUM`, else what is on PATH.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let found = std::env::split_paths(&path)
        .flat_map(|place| names.map(|name| place.join(name)))
        .find(|p| p.exists());
    found.expect(
        "no Chromium on PATH, and CHROMIUM is not set: run scripts/test, or: apt-get install chromium",
    )
}
