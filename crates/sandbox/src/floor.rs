//! The least that a Stratum V1 or V2 server can do: the same work on the sockets as a pool, and nothing else. What a pool
//! costs over this floor is its own.
//!
//! It is built as servers mostly are: one task per connection, each woken for a new job. It judges nothing, stores
//! nothing and limits nothing but the length of a line; never let it listen to a network.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};

pub mod v2;

/// The answer to every submission: the id is fixed, as with clients that give all submissions the same.
const ACCEPTED: &[u8] = b"{\"id\":4,\"result\":true,\"error\":null}\n";
/// As a pool has it before the first job.
const DIFFICULTY: &[u8] = b"{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[0.000000000001]}\n";
/// The longest line, in bytes.
const MAX_LINE: usize = 16 << 10;

/// A job as every connection gets it: a whole `mining.notify`, with its line break, or in V2 frames.
pub type Job = Arc<[u8]>;

/// Serves who connects: the present line of `job` after the authorization, and each new one at once. Runs until
/// dropped; connections go on until the runtime ends or `job` is closed.
pub async fn serve(listener: TcpListener, job: watch::Receiver<Job>) {
    accept(listener, |stream, seat| converse(stream, job.clone(), seat)).await;
}

/// Gives everybody who connects a task and a number.
async fn accept<C>(listener: TcpListener, converse: impl Fn(TcpStream, u32) -> C)
where
    C: Future<Output = io::Result<()>> + Send + 'static,
{
    for seat in 1.. {
        match listener.accept().await {
            Ok((stream, _)) => {
                let conversation = converse(stream, seat);
                tokio::spawn(async move {
                    if let Err(error) = conversation.await {
                        tracing::debug!(%error, "connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: TcpStream, mut job: watch::Receiver<Job>, seat: u32) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut out, mut authorized) = (BytesMut::with_capacity(512), Vec::new(), false);
    loop {
        tokio::select! {
            read = stream.read_buf(&mut buffer) => {
                if read? == 0 || buffer.len() > MAX_LINE {
                    return Ok(());
                }
                while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                    if answer(&buffer[..end], seat, &mut out) {
                        authorized = true;
                        out.extend_from_slice(DIFFICULTY);
                        out.extend_from_slice(&job.borrow_and_update());
                    }
                    buffer.advance(end + 1);
                }
                stream.write_all(&out).await?;
                out.clear();
            }
            changed = job.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let line = job.borrow_and_update().clone();
                if authorized {
                    stream.write_all(&line).await?;
                }
            }
        }
        buffer.reserve(512);
    }
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
}

/// Answers a line. True: the client is authorized now.
fn answer(line: &[u8], seat: u32, out: &mut Vec<u8>) -> bool {
    const SUBMIT: &[u8] = b"mining.submit";
    if line.windows(SUBMIT.len()).any(|part| part == SUBMIT) {
        out.extend_from_slice(ACCEPTED);
        return false;
    }
    let Ok(request) = serde_json::from_slice::<Request<'_>>(line) else { return false };
    let id = request.id.map_or("null", RawValue::get);
    let method = request.method.map_or("", RawValue::get).trim_matches('"');
    let result = match method {
        "mining.subscribe" => {
            format!(r#"[[["mining.set_difficulty","{seat}"],["mining.notify","{seat}"]],"{seat:08x}",8]"#)
        }
        "mining.configure" => "{}".into(),
        _ => "true".into(),
    };
    out.extend_from_slice(format!("{{\"id\":{id},\"result\":{result},\"error\":null}}\n").as_bytes());
    method == "mining.authorize"
}
