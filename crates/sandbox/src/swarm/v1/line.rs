//! What a pool says, as far as a swarm cares; borrowed from the line, since there are many.

use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest job id or time that is given back, in bytes with its quotes.
const MAX_TOKEN: usize = 128;
/// The longest reason that is kept, in characters.
const MAX_REASON: usize = 80;

/// One line of a pool.
#[derive(Debug)]
pub enum Said<'a> {
    /// The answer to the request with this id: its result, or why there is none.
    Reply(u64, Result<&'a RawValue, String>),
    /// A job to work on.
    Job(Job<'a>),
    /// Nothing to act upon.
    Other,
}

/// What of a `mining.notify` comes back in a submission, still as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job<'a> {
    /// Its id, with quotes.
    pub id: &'a str,
    /// Header time, with quotes.
    pub time: &'a str,
    /// Whether it ends all earlier jobs.
    pub clean: bool,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// Reads one line. What is not JSON, or a job that cannot be worked on, is as good as nothing.
pub fn read(line: &[u8]) -> Said<'_> {
    let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else { return Said::Other };
    if let Some(method) = line.method {
        let job = line.params.filter(|_| method.get() == r#""mining.notify""#).and_then(job);
        return job.map_or(Said::Other, Said::Job);
    }
    let Some(id) = line.id.and_then(|id| id.get().parse().ok()) else { return Said::Other };
    Said::Reply(
        id,
        match (line.error, line.result) {
            (Some(error), _) => Err(reason(error.get())),
            (None, Some(result)) if result.get() != "false" => Ok(result),
            (None, _) => Err("no reason given".into()),
        },
    )
}

/// The size of the miner's extranonce, in bytes, of what `mining.subscribe` returns.
pub fn extranonce2_size(result: &RawValue) -> Option<usize> {
    let parts: Vec<&RawValue> = serde_json::from_str(result.get()).ok()?;
    parts.get(2)?.get().parse().ok().filter(|size| (1..=16).contains(size))
}

fn job(params: &RawValue) -> Option<Job<'_>> {
    let params: Vec<&RawValue> = serde_json::from_str(params.get()).ok()?;
    let text = |at: usize| {
        let raw = params.get(at)?.get();
        (raw.starts_with('"') && raw.len() <= MAX_TOKEN).then_some(raw)
    };
    let clean = params.get(8).is_some_and(|clean| clean.get() == "true");
    Some(Job { id: text(0)?, time: text(7)?, clean })
}

/// The text of an error, which is mostly `[code, text, …]`.
fn reason(error: &str) -> String {
    let parts: Option<Vec<&RawValue>> = serde_json::from_str(error).ok();
    let text = parts.and_then(|parts| parts.get(1).map(|text| text.get())).unwrap_or(error);
    text.trim_matches('"').chars().filter(|char| !char.is_control()).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let check = |line: &str, expect: Result<&str, &str>| match read(line.as_bytes()) {
            Said::Reply(4, result) => {
                assert_eq!(result.as_ref().map(|raw| raw.get()).map_err(String::as_str), expect, "{line}");
            }
            other => panic!("{line}: {other:?}"),
        };
        check(r#"{"id":4,"result":true,"error":null}"#, Ok("true"));
        check(r#"{ "error" : null, "result" : true, "id" : 4 }"#, Ok("true"));
        check(r#"{"id":4,"result":null,"error":[21,"Job not found",null]}"#, Err("Job not found"));
        check(r#"{"id":4,"result":false,"error":null}"#, Err("no reason given"));
        check(r#"{"id":4,"result":null,"error":"banned"}"#, Err("banned"));
        check(r#"{"id":4}"#, Err("no reason given"));
    }

    #[test]
    fn jobs() {
        let line = |clean: &str| {
            format!(
                r#"{{"id":null,"method":"mining.notify","params":["1f","00","01","02",["03"],"20000000","1d00ffff","64b3f3ec"{clean}]}}"#
            )
        };
        let check = |clean: &str, expect: bool| match read(line(clean).as_bytes()) {
            Said::Job(job) => assert_eq!(job, Job { id: "\"1f\"", time: "\"64b3f3ec\"", clean: expect }),
            other => panic!("{other:?}"),
        };
        check(",true", true);
        check(",false", false);
        check("", false);
    }

    #[test]
    fn the_rest_is_passed_over() {
        for line in [
            "",
            "HTTP/1.1 400",
            "{",
            "[]",
            "{}",
            r#"{"id":null,"result":true}"#,
            r#"{"id":null,"method":"mining.set_difficulty","params":[1]}"#,
            r#"{"id":null,"method":"mining.notify","params":[]}"#,
            r#"{"id":null,"method":"mining.notify","params":[1,2,3,4,5,6,7,8,9]}"#,
            r#"{"id":null,"method":"mining.notify"}"#,
        ] {
            assert!(matches!(read(line.as_bytes()), Said::Other), "{line}");
        }
    }

    #[test]
    fn subscriptions() {
        let check = |result: &str, expect: Option<usize>| {
            let result: &RawValue = serde_json::from_str(result).unwrap();
            assert_eq!(extranonce2_size(result), expect, "{result}");
        };
        check(r#"[[["mining.notify","1"]],"00000001",8]"#, Some(8));
        check(r#"[[],"",4]"#, Some(4));
        check(r#"[[],"00",0]"#, None);
        check(r#"[[],"00",17]"#, None);
        check("true", None);
    }
}
