//! What the API says when it cannot answer.

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Why there is no answer. The text goes to whoever asked, as `{"error": ...}`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// 400
    #[error("{0}")]
    BadRequest(String),
    /// 404
    #[error("there is nothing at this path; /api/openapi.json lists what there is")]
    NoSuchPath,
    /// 404
    #[error(
        "no miner of this address has mined here; check the spelling, or point a miner at the pool with the user name \
         ADDRESS.worker: it is known from its first share on"
    )]
    UnknownMiner,
    /// 404
    #[error("the pool has found no block of this hash; /api/v1/blocks lists those that it has")]
    UnknownBlock,
    /// 404
    #[error(
        "there is no finished segment of this sequence, or it is not kept any longer; /api/v1/audit/segments lists them"
    )]
    NoSuchSegment,
    /// 404
    #[error(
        "no such share in the finished segments of that time that are kept; a share can be proven once its segment is \
         finished, which takes up to ten minutes and a drain; say time_ms if it is older"
    )]
    NoSuchShare,
    /// 404
    #[error(
        "there is no closed slot of this number that paid work at a fixed rate (pps, fpps, pps_plus), or its work is not \
         kept any longer; /api/v1/miners/ADDRESS/slots lists what slots have paid an address"
    )]
    NoSuchSlot,
    /// 405
    #[error("this path can only be read; use GET")]
    OnlyGet,
    /// 503
    #[error(
        "the ledger does not answer at this time; mining and its records go on, so try again in a few seconds"
    )]
    Ledger,
    /// 503
    #[error("too many listeners at this time; try again in a minute, or read /api/v1/pool instead")]
    TooManyListeners,
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NoSuchPath
            | Self::UnknownMiner
            | Self::UnknownBlock
            | Self::NoSuchSegment
            | Self::NoSuchSlot
            | Self::NoSuchShare => StatusCode::NOT_FOUND,
            Self::OnlyGet => StatusCode::METHOD_NOT_ALLOWED,
            Self::Ledger | Self::TooManyListeners => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = (status, Json(json!({ "error": self.to_string() }))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// The parameters behind the `?`, or a 400 in JSON.
pub(crate) struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(Fault::BadRequest(rejection.body_text())),
        }
    }
}

/// The parameter in the path, or a 400 in JSON.
pub(crate) struct Place<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Place<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Fault::BadRequest(rejection.body_text())),
        }
    }
}

/// `value`, or `default` where it is not given, if it is within `range`.
pub(crate) fn within(
    name: &str,
    value: Option<u32>,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, Fault> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = range.into_inner();
    Err(Fault::BadRequest(format!("{name} is {value}; it must be from {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use ledger::LedgerError;

    use super::*;
    use crate::figures::answer;

    #[tokio::test]
    async fn a_ledger_that_is_away_is_said_without_its_secrets() {
        let refusal = LedgerError::Unsound("postgres://sluice:secret@db/ledger".into());
        let fault = answer(async { Err::<(), _>(refusal) }).await.unwrap_err();
        let response = fault.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let text = value["error"].as_str().unwrap();
        assert!(text.contains("try again") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn ranges() {
        let check = |value, expect: Option<u32>| {
            let got = within("limit", value, 50, 1..=500);
            assert_eq!(got.as_ref().ok().copied(), expect, "{value:?}");
            if let Err(fault) = got {
                let text = fault.to_string();
                assert!(text.contains("limit is") && text.contains("from 1 to 500"), "{text}");
            }
        };
        check(None, Some(50));
        check(Some(1), Some(1));
        check(Some(500), Some(500));
        check(Some(0), None);
        check(Some(501), None);
    }
}
