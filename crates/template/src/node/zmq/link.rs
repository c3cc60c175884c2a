//! As much of ZMTP 3.1 (<https://rfc.zeromq.org/spec/37/>) as a subscriber without secrets needs.
//!
//! Spoken here, and not by a library, for what a pool cannot do without: a length that a peer makes up must not end
//! the process, and a connection that has silently died must be noticed.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use super::endpoint::Endpoint;

/// The longest frame that is taken, in bytes. The longest honest one, an error in words, has less than 300.
const LIMIT: usize = 4096;

/// Flags of a frame; the other bits are zero.
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// Signature, version 3.1, mechanism NULL, not a server; 64 bytes in all, to which a peer answers with its own.
const GREETING: [u8; 64] = {
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10], greeting[11]) = (0xff, 0x7f, 3, 1);
    (greeting[12], greeting[13], greeting[14], greeting[15]) = (b'N', b'U', b'L', b'L');
    greeting
};

/// Name and properties: each length before it, one byte for names, four for values.
const READY: &[u8] = b"\x05READY\x0bSocket-Type\0\0\0\x03SUB";

/// How long a peer may wait for our PING before it gives up, in tenths of a second: 0, it need not mind. No context.
const PING: &[u8] = b"\x04PING\0\0";

/// A connection to a publisher, after the greetings.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    /// What came and is not yet taken apart: less than one frame, and one read.
    buffer: BytesMut,
    /// What there is of the message that is coming.
    message: Message,
    minor_version: u8,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The parts of a message, as far as they are of interest.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<Bytes>);

impl Message {
    /// One more part than any message that we know is enough to see that it is none.
    const PARTS: usize = 4;

    pub(super) fn parts(&self) -> &[Bytes] {
        &self.0
    }

    pub(super) fn add(&mut self, part: Bytes) {
        if self.0.len() < Self::PARTS {
            self.0.push(part);
        }
    }
}

pub(super) struct Frame {
    flags: u8,
    pub(super) body: Bytes,
}

impl Link {
    /// Connects, and subscribes to all topics that begin with `topic`.
    pub(super) async fn open(endpoint: &Endpoint, topic: &[u8]) -> io::Result<Link> {
        let stream: Box<dyn Stream> = match endpoint {
            Endpoint::Tcp { host, port } => Box::new(TcpStream::connect((host.as_str(), *port)).await?),
            Endpoint::Ipc(path) => Box::new(UnixStream::connect(path).await?),
        };
        let (buffer, message) = (BytesMut::new(), Message::default());
        let mut link = Link { stream, buffer, message, minor_version: 0 };
        link.stream.write_all(&GREETING).await?;
        while link.buffer.len() < GREETING.len() {
            link.read().await?;
        }
        let theirs = link.buffer.split_to(GREETING.len());
        let [0xff, _, _, _, _, _, _, _, _, 0x7f, major, minor, mechanism @ ..] = &theirs[..] else {
            return Err(invalid("this is no ZMQ"));
        };
        if *major < 3 {
            return Err(invalid("its ZMQ is older than version 4.0"));
        }
        if !mechanism.starts_with(b"NULL\0") {
            return Err(invalid("it wants a password or a key"));
        }
        link.minor_version = if *major == 3 { *minor } else { u8::MAX };
        link.command(READY).await?;
        let ready = link.frame().await?;
        let said = ready.command().ok_or_else(|| invalid("it does not begin with a command"))?;
        match said {
            (b"READY", properties) if is_publisher(properties) => {}
            (b"READY", _) => return Err(invalid("it is no publisher")),
            (b"ERROR", reason) => {
                let reason = reason.get(1..).unwrap_or_default().escape_ascii();
                return Err(invalid(format!("it refuses us: {reason}")));
            }
            _ => return Err(invalid("it is not ready")),
        }
        if link.minor_version > 0 {
            link.command(&[b"\x09SUBSCRIBE", topic].concat()).await?;
        } else {
            link.send(0, &[b"\x01", topic].concat()).await?;
        }
        Ok(link)
    }

    /// Whether the peer is of a version that must answer [`Self::ping`].
    pub(super) fn answers_pings(&self) -> bool {
        self.minor_version > 0
    }

    /// Asks the peer to say anything.
    pub(super) async fn ping(&mut self) -> io::Result<()> {
        self.command(PING).await
    }

    /// The next message, or `None` where something was heard that is not for us. Cancel-safe but for an answer to a
    /// question of the peer, which may go out in part only; they are so short that this does not happen.
    pub(super) async fn next(&mut self) -> io::Result<Option<Message>> {
        let frame = self.frame().await?;
        if frame.flags & COMMAND != 0 {
            match frame.command() {
                // Two bytes of time to live, then what is to be sent back.
                Some((b"PING", [_, _, context @ ..])) if context.len() <= 16 => {
                    self.command(&[b"\x04PONG", context].concat()).await?;
                }
                Some((b"ERROR", _)) => return Err(invalid("it says that something is wrong")),
                _ => {}
            }
            return Ok(None);
        }
        self.message.add(frame.body);
        Ok((frame.flags & MORE == 0).then(|| std::mem::take(&mut self.message)))
    }

    async fn frame(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = cut(&mut self.buffer)? {
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.buffer.reserve(1);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the publisher closed the connection")),
            _ => Ok(()),
        }
    }

    async fn command(&mut self, body: &[u8]) -> io::Result<()> {
        self.send(COMMAND, body).await
    }

    /// Sends a short frame in one write.
    async fn send(&mut self, flags: u8, body: &[u8]) -> io::Result<()> {
        let length = u8::try_from(body.len()).map_err(|_| invalid("we have too much to say"))?;
        self.stream.write_all(&[&[flags, length], body].concat()).await
    }
}

impl Frame {
    /// Name and the rest of a command.
    pub(super) fn command(&self) -> Option<(&[u8], &[u8])> {
        let (&length, rest) = self.body.split_first().filter(|_| self.flags & COMMAND != 0)?;
        rest.split_at_checked(length.into())
    }
}

/// Takes the first frame out of `buffer`, if all of it is there.
pub(super) fn cut(buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
    let Some((&flags, rest)) = buffer.split_first() else { return Ok(None) };
    if flags & !(MORE | LONG | COMMAND) != 0 {
        return Err(invalid("it sends something else than ZMQ frames"));
    }
    let (length, head) = if flags & LONG == 0 {
        (rest.first().copied().map(u64::from), 2)
    } else {
        (rest.first_chunk().copied().map(u64::from_be_bytes), 9)
    };
    let Some(length) = length else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|&length| length <= LIMIT);
    let length = length.ok_or_else(|| invalid("it sends more than any announcement of a block"))?;
    if buffer.len() < head + length {
        return Ok(None);
    }
    buffer.advance(head);
    // Copied: the buffer is used again, and a part that somebody keeps holds no more than itself.
    let body = Bytes::copy_from_slice(&buffer.split_to(length));
    Ok(Some(Frame { flags, body }))
}

/// Whether these properties of a READY say that messages can be had from it.
pub(super) fn is_publisher(mut properties: &[u8]) -> bool {
    while let Some((name, value, rest)) = property(properties) {
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            return value == b"PUB" || value == b"XPUB";
        }
        properties = rest;
    }
    false
}

fn property(properties: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&length, rest) = properties.split_first()?;
    let (name, rest) = rest.split_at_checked(length.into())?;
    let (length, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length).try_into().ok()?)?;
    Some((name, value, rest))
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}
