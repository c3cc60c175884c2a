//! One HTTP question and its answer, within a time and a length.

use std::{
    error::Error,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Client, Url, header, redirect};
use tokio::time::timeout;

use super::Auth;
use crate::NodeError;

/// A node drops connections that were idle for 30 s; we do so a little earlier than it, so as not to write into a
/// connection that it is just closing.
const IDLE: Duration = Duration::from_secs(20);

/// How long a node may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// The way to one node.
pub(super) struct Http {
    client: Client,
    url: Url,
    name: String,
    auth: Auth,
    /// User and password as last read from the cookie file.
    cookie: Mutex<Option<(String, String)>>,
}

/// What came back: any status but those that say that we were not heard.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Http {
    pub(super) fn new(address: &str, auth: Auth) -> Result<Self, NodeError> {
        // What follows an @ is shown, what precedes it may be a secret.
        let shown = address.rsplit('@').next().unwrap_or_default();
        let unusable = |why: &str| NodeError::Address { url: shown.to_owned(), why: why.to_owned() };
        let url = Url::parse(address).map_err(|e| unusable(&e.to_string()))?;
        if url.scheme() != "http" {
            return Err(unusable("a node speaks plain http only; tunnel it where that is not safe"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable("user and password belong into keys of their own"));
        }
        let host = url.host_str().ok_or_else(|| unusable("it names no host"))?;
        let name = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .build()
            .map_err(|e| unusable(&e.to_string()))?;
        Ok(Self { client, url, name, auth, cookie: Mutex::new(None) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Posts `body`. Reads the cookie file again when the node does not know us (it writes a new one at each start).
    pub(super) async fn post(
        &self,
        body: Bytes,
        (within, limit): (Duration, usize),
    ) -> Result<Response, NodeError> {
        let exchange = async {
            let (mut user, mut fresh) = match (&self.auth, self.known_cookie()) {
                (Auth::Password { user, password }, _) => ((user.clone(), password.clone()), true),
                (Auth::Cookie(_), Some(cookie)) => (cookie, false),
                (Auth::Cookie(path), None) => (self.read_cookie(path).await?, true),
            };
            loop {
                match self.exchange(body.clone(), &user, limit).await {
                    Err(NodeError::Credentials { .. }) if !fresh => {}
                    other => return other,
                }
                if let Auth::Cookie(path) = &self.auth {
                    user = self.read_cookie(path).await?;
                }
                fresh = true;
            }
        };
        timeout(within, exchange).await.unwrap_or(Err(NodeError::Timeout(within)))
    }

    async fn exchange(
        &self,
        body: Bytes,
        (user, password): &(String, String),
        limit: usize,
    ) -> Result<Response, NodeError> {
        let request = self
            .client
            .post(self.url.clone())
            .basic_auth(user, Some(password))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        let mut response = request.send().await.map_err(|e| NodeError::Unreachable(cause(&e)))?;
        let status = response.status().as_u16();
        match status {
            401 | 403 => return Err(NodeError::Credentials { status }),
            503 => return Err(NodeError::Busy),
            _ => {}
        }
        let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(NodeError::TooLong(limit));
        }
        // Reserved at once where the length is known: a buffer that doubles holds the reply twice.
        let mut body = Vec::with_capacity(announced.unwrap_or(0));
        while let Some(part) = response.chunk().await.map_err(|e| NodeError::Cut(cause(&e)))? {
            if part.len() > limit - body.len() {
                return Err(NodeError::TooLong(limit));
            }
            if part.len() > body.capacity() - body.len() {
                // By half, and not to twice as much: while it grows, the old buffer and the new one are both there.
                body.reserve_exact(part.len().max(body.len() / 2));
            }
            body.extend_from_slice(&part);
        }
        Ok(Response { status, body })
    }

    fn known_cookie(&self) -> Option<(String, String)> {
        self.cookie.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn read_cookie(&self, path: &Path) -> Result<(String, String), NodeError> {
        let failed = |source| NodeError::Cookie { path: path.to_owned(), source };
        let text = tokio::fs::read_to_string(path).await.map_err(failed)?;
        let (user, password) = text.trim_end().split_once(':').ok_or_else(|| {
            failed(std::io::Error::new(std::io::ErrorKind::InvalidData, "it does not hold user:password"))
        })?;
        let cookie = (user.to_owned(), password.to_owned());
        *self.cookie.lock().unwrap_or_else(PoisonError::into_inner) = Some(cookie.clone());
        Ok(cookie)
    }
}

/// The innermost cause: what the system or the parser says, without the layers around it.
fn cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
