//! The form that nearly all requests have, read in one pass: an object of `id`, `method` and `params`, each at most once,
//! without a backslash, numbers no more than digits, and no list but `params`.
//!
//! This is all that a share needs, in a page of code: a general reader of JSON is ten times that, and a server that waits
//! between two shares finds most of it gone from the processor's caches. What looks otherwise in any way is left to that
//! reader, which is right also here.

use super::{decode::Envelope, params::Params};

/// The members of `line`; `None` if it is of another form, or no JSON at all.
pub(super) fn read(line: &str) -> Option<Envelope<'_>> {
    let mut rest = Rest(line);
    let (mut id, mut method, mut params) = (None, None, None);
    rest.take(b'{')?;
    loop {
        let key = rest.string()?;
        rest.take(b':')?;
        match key {
            r#""id""# if id.is_none() => id = Some(rest.value()?),
            r#""method""# if method.is_none() => method = Some(rest.value()?),
            r#""params""# if params.is_none() => params = Some(rest.list()?),
            _ => return None,
        }
        if rest.take(b',').is_none() {
            rest.take(b'}')?;
            break;
        }
    }
    let is_all = rest.first().is_none();
    is_all.then(|| Envelope { id, method, params: params.unwrap_or_default(), is_response: false })
}

/// What is still to be read. Every step skips the blanks before what it looks for.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn first(&mut self) -> Option<u8> {
        while let Some(rest) = self.0.strip_prefix(' ') {
            self.0 = rest;
        }
        self.0.bytes().next()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.first()? == byte).then(|| self.0 = &self.0[1..])
    }

    /// The first `length` bytes, which end where a character does.
    fn split(&mut self, length: usize) -> Option<&'a str> {
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    /// A string as it stands, with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        if self.first()? != b'"' {
            return None;
        }
        let behind = self.0.as_bytes().get(1..)?;
        let inside = behind.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..b' '))?;
        (behind.get(inside) == Some(&b'"')).then_some(inside + 2).and_then(|length| self.split(length))
    }

    /// A string, a number or a word, as it stands.
    fn value(&mut self) -> Option<&'a str> {
        match self.first()? {
            b'"' => self.string(),
            b'n' => self.word("null"),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'0' => self.split(1),
            b'1'..=b'9' => {
                let digits = self.0.bytes().position(|byte| !byte.is_ascii_digit())?;
                self.split(digits)
            }
            _ => None,
        }
    }

    fn word(&mut self, word: &str) -> Option<&'a str> {
        self.0.starts_with(word).then_some(word.len()).and_then(|length| self.split(length))
    }

    fn list(&mut self) -> Option<Params<'a>> {
        let mut params = Params::default();
        self.take(b'[')?;
        if self.take(b']').is_some() {
            return Some(params);
        }
        for place in params.places() {
            *place = Some(self.value()?);
            if self.take(b',').is_none() {
                self.take(b']')?;
                return Some(params);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SUBMIT: &str =
        r#"{"id":4,"method":"mining.submit","params":["bc1q.rig","2a","c7080000","64b3f3ec","ed460d91"]}"#;

    #[test]
    fn is_enough_for_what_miners_send() {
        let check = |line: &str, expect| assert_eq!(read(line).is_some(), expect, "{line:?}");
        check(SUBMIT, true);
        check(
            r#"{"id": 4, "method": "mining.submit", "params": ["é", "1", "", "2", "3", "20000000"]}"#,
            true,
        );
        check(r#" { "params" : [ ] , "method" : "mining.ping" } "#, true);
        check(r#"{"params":["a",null],"id":"x","method":"mining.authorize"}"#, true);
        check(r#"{"id":null,"method":"mining.suggest_difficulty","params":[0,10,true,false]}"#, true);
        // All of these are the general reader's, whether they are JSON or not.
        check(r#"{}"#, false);
        check(r#"{"id":1,"method":"m","params":[],"jsonrpc":"2.0"}"#, false);
        check(r#"{"id":1,"id":2,"method":"m"}"#, false);
        check(r#"{"id":1,"method":"m\u0061"}"#, false);
        check(r#"{"id":01,"method":"m"}"#, false);
        check(r#"{"id":1.5,"method":"m"}"#, false);
        check(r#"{"id":-1,"method":"m"}"#, false);
        check(r#"{"id":1,"method":"m"}x"#, false);
        check(r#"{"id":1,"method":"m",}"#, false);
        check(r#"{"id":nul"#, false);
        check(r#"{"id":1"#, false);
        check(r#"{"method":"m","params":[1,]}"#, false);
        check(r#"{"method":"m","params":[1,2,3,4,5,6,7]}"#, false);
        check(r#"{"method":"m","params":[["a"]]}"#, false);
        check(r#"{"method":"m","params":{"a":1}}"#, false);
        check("{\"method\":\"a\tb\"}", false);
    }

    /// Of the pieces that such lines are made of, and of some that they are not.
    fn lines() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"id\"", "\"method\"", "\"params\"", "\"a.é\"", "\"\"", "1", "0", " ", "null",
                "\"id\":", "\"method\":\"m\"", "\"params\":[", "\"1\",\"2\",", "\"id\":7,",
            ]),
            1 => prop::sample::select(vec![
                "\\", "\"", "\t", "\r", ".", "-", "e", "01", "\u{7f}", "\u{1}", "true", "false", "nul", "\"result\":null,",
                "\"\\u0061\"", "\u{feff}", "x",
            ]),
        ];
        let mended = |pieces: Vec<&str>| format!("{{{}}}", pieces.concat());
        let whole = (0usize..SUBMIT.len(), any::<char>()).prop_map(|(at, other)| {
            let mut line: Vec<char> = SUBMIT.chars().collect();
            line[at] = other;
            line.into_iter().collect()
        });
        prop_oneof![prop::collection::vec(piece, 0..14).prop_map(mended), whole]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn reads_as_the_general_reader_does(line in lines()) {
            if let Some(envelope) = read(&line) {
                let general = serde_json::from_str::<Envelope<'_>>(&line);
                prop_assert_eq!(Some(envelope), general.ok(), "{:?}", line);
            }
        }
    }
}
