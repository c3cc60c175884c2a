//! From a line to a request.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use share::Reason;

use super::{
    params::{self, Params},
    plain,
    request::{Call, Configure, Fault, Id, Malformed, Request, Submit, VersionRolling},
};

/// Longest agent that is kept, in characters.
const MAX_AGENT: usize = 128;

/// Reads one line. `None`: nothing to do, since it is blank or the response to something the pool sent.
///
/// What comes out borrows from the line: an ordinary submit allocates nothing. Text that is not UTF-8 is copied, with
/// replacement characters for what cannot be read.
pub fn decode(line: &[u8]) -> Result<Option<Request<'_>>, Malformed<'_>> {
    match line.trim_ascii_start().first() {
        None => return Ok(None),
        Some(b'{') => (),
        Some(_) => return Err(Malformed { id: Id(None), fault: Fault::NotJson }),
    }
    if let Ok(line) = str::from_utf8(line) {
        return request(line);
    }
    match request(&String::from_utf8_lossy(line)) {
        Ok(request) => Ok(request.map(Request::into_owned)),
        Err(malformed) => Err(malformed.into_owned()),
    }
}

fn request(line: &str) -> Result<Option<Request<'_>>, Malformed<'_>> {
    let Some(envelope) = plain::read(line).or_else(|| serde_json::from_str(line).ok()) else {
        return Err(Malformed { id: Id(None), fault: Fault::NotJson });
    };
    if envelope.method.is_none_or(|method| method == "null") && envelope.is_response {
        return Ok(None);
    }
    let id = match envelope.id {
        Some(raw) if raw.len() > Id::MAX || raw.contains('\n') => {
            return Err(Malformed {
                id: Id::NULL,
                fault: malformed("id is not one JSON token of at most 64 bytes"),
            });
        }
        raw => Id(raw.map(Cow::Borrowed)),
    };
    let Some(method) = envelope.method.and_then(params::text) else {
        let text = "method is missing or not a string";
        return Err(Malformed { id, fault: Fault::BadParams { reason: Reason::UnknownMethod, text } });
    };
    match call(method, &envelope.params) {
        Ok(call) => Ok(Some(Request { id, call })),
        Err(fault) => Err(Malformed { id, fault }),
    }
}

fn call<'a>(method: Cow<'a, str>, params: &Params<'a>) -> Result<Call<'a>, Fault> {
    Ok(match method.as_ref() {
        "mining.submit" => Call::Submit(submit(params)?),
        "mining.subscribe" => Call::Subscribe {
            agent: params.text(0).map(agent).filter(|agent| !agent.is_empty()),
            session: params.text(1).filter(|session| !session.is_empty()),
        },
        "mining.authorize" => {
            let user = params.text(0).ok_or(malformed("user name is missing or not a string"))?;
            Call::Authorize { user, password: params.text(1) }
        }
        "mining.configure" => Call::Configure(configure(params)?),
        "mining.suggest_difficulty" => {
            let value = params.get(0).and_then(params::text_or_number);
            Call::SuggestDifficulty(value.and_then(|value| params::difficulty(&value)))
        }
        "mining.suggest_target" => {
            Call::SuggestDifficulty(params.text(0).and_then(|value| params::difficulty_of_target(&value)))
        }
        "mining.extranonce.subscribe" => Call::ExtranonceSubscribe,
        "mining.ping" => Call::Ping,
        name => match name.strip_prefix("mining.suggest_difficulty(") {
            Some(value) => Call::SuggestDifficulty(params::difficulty(value.trim_end_matches(')'))),
            None => Call::Unknown(method),
        },
    })
}

fn submit<'a>(params: &Params<'a>) -> Result<Submit<'a>, Fault> {
    let text = |at, fault| params.text(at).ok_or(malformed(fault));
    let number = |at, fault| params::hex_u32(&text(at, fault)?).ok_or(malformed(fault));
    let worker = text(0, "worker name is missing or not a string")?;
    let job = text(1, "job id is missing or not a string")?;
    let extranonce2 = text(2, "extranonce2 is missing or not a string")?;
    let version_bits = match params.get(5) {
        None => None,
        Some(_) => Some(number(5, "version bits are not a string of 1 to 8 hex digits")?),
    };
    Ok(Submit {
        worker,
        job: params::hex_u32(&job),
        extranonce2: params::hex_extranonce(&extranonce2),
        time: number(3, "ntime is not a string of 1 to 8 hex digits")?,
        nonce: number(4, "nonce is not a string of 1 to 8 hex digits")?,
        version_bits,
    })
}

fn configure<'a>(params: &Params<'a>) -> Result<Configure<'a>, Fault> {
    let names = params.get(0).and_then(|raw| serde_json::from_str::<Vec<&'a RawValue>>(raw).ok());
    let names = names.ok_or(malformed("list of extensions is missing or not an array"))?;
    let options =
        params.get(1).and_then(|raw| serde_json::from_str::<BTreeMap<String, &'a RawValue>>(raw).ok());
    let options = options.unwrap_or_default();
    let option = |name: &str| options.get(name).map(|raw| raw.get()).filter(|raw| *raw != "null");

    let mut wanted = Configure::default();
    for name in names.into_iter().map(RawValue::get).filter_map(params::text) {
        match name.as_ref() {
            "version-rolling" => {
                let mask = option("version-rolling.mask");
                let mask = mask
                    .map_or(Some(u32::MAX), |raw| params::text(raw).and_then(|text| params::hex_u32(&text)));
                let min_bits = option("version-rolling.min-bit-count").and_then(bit_count);
                let (mask, min_bits) = (mask.unwrap_or(0), min_bits.unwrap_or(0));
                wanted.version_rolling = Some(VersionRolling { mask, min_bits });
            }
            "minimum-difficulty" => {
                let value = option("minimum-difficulty.value").and_then(params::text_or_number);
                wanted.minimum_difficulty = Some(value.and_then(|value| params::difficulty(&value)));
            }
            "subscribe-extranonce" => wanted.subscribe_extranonce = true,
            "info" => wanted.info = true,
            _ if name.len() > Configure::MAX_NAME || wanted.unknown.contains(&name) => (),
            _ if wanted.unknown.len() == Configure::MAX_UNKNOWN => (),
            _ => wanted.unknown.push(name),
        }
    }
    Ok(wanted)
}

/// A JSON integer, or a string of hex.
fn bit_count(raw: &str) -> Option<u32> {
    params::text(raw).map_or_else(|| raw.parse().ok(), |text| params::hex_u32(&text))
}

fn agent(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() <= MAX_AGENT && !text.contains(char::is_control) {
        return text;
    }
    text.chars().filter(|c| !c.is_control()).take(MAX_AGENT).collect()
}

fn malformed(text: &'static str) -> Fault {
    Fault::BadParams { reason: Reason::Malformed, text }
}

/// The members of a message, still as JSON. Where one is given twice the last counts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Envelope<'a> {
    pub id: Option<&'a str>,
    pub method: Option<&'a str>,
    pub params: Params<'a>,
    pub is_response: bool,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Id,
    Method,
    Params,
    Result,
    Error,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
                let mut envelope = Envelope::default();
                let raw = |raw: &'de RawValue| Some(raw.get());
                while let Some(member) = map.next_key()? {
                    // Raw and ignored values are skipped by a loop, not by recursion: depth costs no stack.
                    match member {
                        Member::Id => envelope.id = raw(map.next_value()?),
                        Member::Method => envelope.method = raw(map.next_value()?),
                        Member::Params => envelope.params = Params::read(map.next_value()?),
                        Member::Result | Member::Error => {
                            map.next_value::<IgnoredAny>()?;
                            envelope.is_response = true;
                        }
                        Member::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests;
