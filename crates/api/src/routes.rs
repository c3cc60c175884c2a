//! Every path, in one table.

mod audit;
pub(crate) mod blocks;
mod health;
mod miners;
mod payouts;
pub(crate) mod pool;

use std::sync::Arc;

use axum::{
    Router,
    http::header,
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};

use crate::{events, fault::Fault, figures::Shown, metrics, pages};

const OPENAPI: &str = include_str!("openapi.json");

/// What programs may ask; `openapi.json` describes each.
fn api() -> [(&'static str, MethodRouter<Arc<Shown>>); 21] {
    [
        ("/api/v1/pool", get(pool::pool)),
        ("/api/v1/pool/hashrate", get(pool::hashrate)),
        ("/api/v1/pool/fees", get(pool::fees)),
        ("/api/v1/miners/{address}", get(miners::miner)),
        ("/api/v1/miners/{address}/workers", get(miners::workers)),
        ("/api/v1/miners/{address}/hashrate", get(miners::hashrate)),
        ("/api/v1/miners/{address}/credits", get(miners::credits)),
        ("/api/v1/miners/{address}/payouts", get(payouts::of_miner)),
        ("/api/v1/miners/{address}/slots", get(miners::slots)),
        ("/api/v1/payouts", get(payouts::payouts)),
        ("/api/v1/blocks", get(blocks::blocks)),
        ("/api/v1/blocks/{hash}/weights", get(audit::weights)),
        ("/api/v1/slots/{slot}/rates", get(audit::rates)),
        ("/api/v1/audit/segments", get(audit::segments)),
        ("/api/v1/audit/segments/{sequence}", get(audit::segment)),
        ("/api/v1/audit/proof", get(audit::proof)),
        ("/api/v1/events", get(events::events)),
        ("/api/openapi.json", get(openapi)),
        ("/healthz", get(health::health)),
        ("/livez", get(health::alive)),
        ("/metrics", get(metrics::metrics)),
    ]
}

pub(crate) fn router(shown: Arc<Shown>) -> Router {
    let table = api().into_iter().chain(pages::routes());
    table
        .fold(Router::new(), |router, (path, method)| router.route(path, method))
        .fallback(|| async { Fault::NoSuchPath })
        .method_not_allowed_fallback(|| async { Fault::OnlyGet })
        .layer(middleware::map_response(pages::harden))
        .with_state(shown)
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::house;
