//! The dashboard's files, which are part of the binary.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use axum::{
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};

use crate::{fault::Fault, figures::Shown};

/// Nothing but our own files, nothing inline, nobody's frame. Scripts and styles stand in files for this.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

const INDEX: File = ("index.html", "text/html; charset=utf-8", include_str!("../page/index.html"));
const ASSETS: [File; 10] = [
    ("style.css", "text/css; charset=utf-8", include_str!("../page/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("../page/icon.svg")),
    ("app.js", JAVASCRIPT, include_str!("../page/app.js")),
    ("pool.js", JAVASCRIPT, include_str!("../page/pool.js")),
    ("miner.js", JAVASCRIPT, include_str!("../page/miner.js")),
    ("rows.js", JAVASCRIPT, include_str!("../page/rows.js")),
    ("chart.js", JAVASCRIPT, include_str!("../page/chart.js")),
    ("source.js", JAVASCRIPT, include_str!("../page/source.js")),
    ("format.js", JAVASCRIPT, include_str!("../page/format.js")),
    ("dom.js", JAVASCRIPT, include_str!("../page/dom.js")),
];

/// Name, media type, content.
type File = (&'static str, &'static str, &'static str);

/// The paths of the dashboard.
pub(crate) fn routes() -> [(&'static str, MethodRouter<Arc<Shown>>); 2] {
    [("/", get(index)), ("/assets/{file}", get(asset))]
}

async fn index(headers: HeaderMap) -> Response {
    file(INDEX, &headers)
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.into_iter().find(|(known, ..)| *known == name) {
        Some(found) => file(found, &headers),
        None => Fault::NoSuchPath.into_response(),
    }
}

/// The file, or 304 if the visitor has it. Browsers ask each time: after an upgrade no page mixes old and new files.
fn file((_, media_type, content): File, headers: &HeaderMap) -> Response {
    let tag = tag(content);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let known =
        known.is_some_and(|tags| tags.split(',').any(|each| each.trim().trim_start_matches("W/") == tag));
    let caching = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    ([(header::CONTENT_TYPE, media_type)], caching, content).into_response()
}

fn tag(content: &str) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// Headers that every answer carries.
pub(crate) async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests;
