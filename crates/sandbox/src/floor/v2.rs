//! The floor in Stratum V2: the handshake, encryption, one extended channel for each connection.

use std::{io, sync::Arc, time::SystemTime};

use bytes::BytesMut;
use stratum::{
    noise::{AuthorityKey, ELLSWIFT_SIZE, Error, Identity, StaticKey, Transport, respond},
    v2::{
        Frame, Message, channel_id,
        common::{SetupConnection, SetupConnectionSuccess, VERSION},
        encode,
        mining::{
            OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess, SubmitSharesExtended,
            SubmitSharesSuccess,
        },
        wire::B32,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::Job;

/// The number of everybody's channel.
const CHANNEL: u32 = 1;
/// The number of everybody's group, which jobs are for.
pub const GROUP: u32 = 2;
/// As much as Sluice gives, in bytes: its own part and the miner's.
const EXTRANONCE: (usize, u16) = (4, 8);
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 1 << 12;
/// Bytes that a connection keeps for what it says next.
const KEPT: usize = 256;
/// How long a certificate is good, in seconds, before and after now.
const VALIDITY: u32 = 3600;

/// Who signs the certificates of a floor: everybody knows this key.
const AUTHORITY: [u8; 32] = [1; 32];

/// When the floor's key is certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certified {
    /// At the start.
    Once,
    /// For each connection, with a new key, as the Stratum Reference Implementation does.
    Always,
}

/// Serves who connects, in frames that are the same for all: those of `job` after the channel is open, and each new
/// ones at once. Runs until dropped; connections go on until the runtime ends or `job` is closed.
pub async fn serve(listener: TcpListener, job: watch::Receiver<Job>, certified: Certified) -> io::Result<()> {
    let identity = Arc::new(identity().map_err(broken)?);
    super::accept(listener, move |stream, seat| {
        let (job, identity) = (job.clone(), identity.clone());
        async move {
            let identity = match certified {
                Certified::Once => identity,
                Certified::Always => Arc::new(self::identity().map_err(broken)?),
            };
            converse(stream, job, seat, identity).await
        }
    })
    .await;
    Ok(())
}

fn identity() -> Result<Identity, Error> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = u32::try_from(now).unwrap_or(u32::MAX);
    let (from, until) = (now.saturating_sub(VALIDITY), now.saturating_add(VALIDITY));
    let authority = AuthorityKey::from_bytes(AUTHORITY)?;
    Ok(StaticKey::new(&rand::random())?.certify(&authority, from, until, &rand::random()))
}

async fn converse(
    mut stream: TcpStream,
    mut job: watch::Receiver<Job>,
    seat: u32,
    identity: Arc<Identity>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut first, mut out) = ([0; ELLSWIFT_SIZE], Vec::new());
    stream.read_exact(&mut first).await?;
    let Transport { mut sender, mut receiver } =
        respond(&identity, &first, &rand::random(), &mut out).map_err(broken)?;
    drop(identity);
    stream.write_all(&out).await?;
    out = Vec::new();
    let (mut buffer, mut frames, mut is_open) = (BytesMut::with_capacity(512), Vec::new(), false);
    loop {
        tokio::select! {
            read = stream.read_buf(&mut buffer) => {
                if read? == 0 {
                    return Ok(());
                }
                let mut arrived = &mut buffer[..];
                while let Some(frame) = receiver.next(&mut arrived, MAX_MESSAGE).map_err(broken)? {
                    if answer(frame, seat, &mut frames) {
                        is_open = true;
                        frames.extend_from_slice(&job.borrow_and_update());
                    }
                }
                buffer.clear();
                sender.seal(&frames, &mut out).map_err(broken)?;
            }
            changed = job.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let job = job.borrow_and_update();
                if is_open {
                    sender.seal(&job, &mut out).map_err(broken)?;
                }
            }
        }
        stream.write_all(&out).await?;
        for buffer in [&mut out, &mut frames] {
            buffer.clear();
            // What took a job is not kept: most connections say their next word much later.
            buffer.shrink_to(KEPT);
        }
        buffer.reserve(512);
    }
}

/// Answers a message. True: the channel is open now.
fn answer(frame: Frame<'_>, seat: u32, out: &mut Vec<u8>) -> bool {
    const SETUP: u8 = SetupConnection::TYPE;
    const OPEN: u8 = OpenExtendedMiningChannel::TYPE;
    const SUBMIT: u8 = SubmitSharesExtended::TYPE;
    match frame.header.msg_type {
        // Of all submissions so far and to come: it is the same for all.
        SUBMIT => encode(
            &SubmitSharesSuccess {
                channel_id: CHANNEL,
                last_sequence_number: u32::MAX / 2,
                new_submits_accepted_count: 1,
                new_shares_sum: 1,
            },
            out,
        ),
        SETUP => encode(&SetupConnectionSuccess { used_version: VERSION, flags: 0 }, out),
        OPEN => {
            let mut prefix = [0; EXTRANONCE.0];
            prefix.copy_from_slice(&seat.to_be_bytes());
            let success = OpenExtendedMiningChannelSuccess {
                // The first field of this message is the number of the request.
                request_id: channel_id(frame.payload).unwrap_or_default(),
                channel_id: CHANNEL,
                target: [0xff; 32],
                extranonce_size: EXTRANONCE.1,
                extranonce_prefix: B32::cut(&prefix),
                group_channel_id: GROUP,
            };
            encode(&success, out);
            return true;
        }
        _ => {}
    }
    false
}

fn broken(error: impl Into<Error>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.into().to_string())
}
