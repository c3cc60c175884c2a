//! From the bytes of a reply to its result.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::http::Response;
use crate::NodeError;

/// The `result` of a reply: null is an answer to some questions, its absence to none.
#[derive(Debug, Default)]
pub(super) enum Answer<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

/// A JSON object. What is derived for a struct also takes a list of its fields' values, so that `[null]` would be a
/// reply that says yes.
pub(super) struct Object<T>(pub(super) T);

#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct Envelope<'a, T> {
    #[serde(default)]
    result: Answer<T>,
    #[serde(borrow, default)]
    error: Option<Object<Fault<'a>>>,
}

#[derive(Deserialize)]
struct Fault<'a> {
    code: i64,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Answer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let result = Option::deserialize(deserializer)?;
        Ok(result.map_or(Answer::Null, Answer::Value))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reading<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Reading(PhantomData))
    }
}

impl<T> Answer<T> {
    /// The answer, where null is none.
    pub(super) fn value(self, method: &'static str) -> Result<T, NodeError> {
        match self {
            Answer::Value(value) => Ok(value),
            Answer::Null => Err(NodeError::Reply { method, why: "the result is null".into() }),
            Answer::Absent => Err(NodeError::Reply { method, why: "there is no result".into() }),
        }
    }
}

/// What `response` says. An RPC error comes with status 200 in JSON-RPC 2.0 and with 500 before it.
pub(super) fn parse<'a, T: Deserialize<'a>>(
    method: &'static str,
    response: &'a Response,
) -> Result<Answer<T>, NodeError> {
    let parsed = serde_json::from_slice::<Object<Envelope<'a, T>>>(&response.body);
    match parsed {
        Ok(Object(Envelope { error: Some(Object(Fault { code, message })), .. })) => {
            // The words of another machine end up in logs: one line, and not a novel.
            Err(NodeError::Rpc { method, code, message: beginning(message.as_bytes()) })
        }
        _ if !(200..300).contains(&response.status) => {
            Err(NodeError::Http { status: response.status, begins: beginning(&response.body) })
        }
        Ok(Object(Envelope { result, error: None })) => Ok(result),
        // It quotes what it does not like, all of it.
        Err(e) if e.is_data() => Err(NodeError::Reply { method, why: beginning(e.to_string().as_bytes()) }),
        Err(e) => {
            let why = format!("not whole JSON ({e}); it begins {:?}", beginning(&response.body));
            Err(NodeError::Reply { method, why })
        }
    }
}

/// The first characters of what somebody sent, fit for a log line.
pub(in crate::node) fn beginning(bytes: &[u8]) -> String {
    const SHOWN: usize = 200;
    let text = String::from_utf8_lossy(bytes.get(..4 * SHOWN).unwrap_or(bytes));
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
