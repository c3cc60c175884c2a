//! As much of HTTP as asking one question takes. Version 1.0, so that the answer ends where the connection does.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// One request to `port` of the loopback address. `headers` are whole lines, each ending in `\r\n`.
pub fn ask(port: u16, method: &str, path: &str, headers: &str, body: &str) -> io::Result<Answer> {
    let (status, body) = bytes(port, method, path, headers, body)?;
    Ok(Answer { status, body: String::from_utf8(body).map_err(io::Error::other)? })
}

/// The same, for an answer that need not be text: the status code and the body.
pub fn bytes(port: u16, method: &str, path: &str, headers: &str, body: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| io::Error::other("the answer has no end of head"))?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status: {head}")))?;
    Ok((status, answer.split_off(end + 4)))
}

/// `GET`.
pub fn get(port: u16, path: &str) -> io::Result<Answer> {
    ask(port, "GET", path, "", "")
}

/// Base64 with padding: what basic authentication wants.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let bits = three.iter().fold(0, |bits, &byte| bits << 8 | usize::from(byte));
        for digit in 0..4 {
            text.push(if digit <= chunk.len() { DIGITS[bits >> (18 - 6 * digit) & 63] as char } else { '=' });
        }
    }
    text
}

#[test]
fn base64_by_rfc_4648() {
    for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}
