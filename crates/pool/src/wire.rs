//! What stands between the bytes of a socket and the lines or frames of a session: a PROXY header, then TLS, or the
//! encryption of V2, or nothing.
//!
//! Knows no socket: bytes as they arrive go in, what they carry comes out, and so on the way back.

use std::{
    io::{Read as _, Write as _},
    net::IpAddr,
};

use ipnet::IpNet;
use ppp::{HeaderResult, v1, v2};
use rustls::ServerConnection;
use stratum::noise::{Arriving, ELLSWIFT_SIZE, Receiver, Transport};

use crate::{closed::Closed, noise::Noise, tls::Tls};

/// The longest PROXY header that is waited for, in bytes.
const HEADER: usize = 1024;
/// The first byte of a TLS connection: a handshake record.
const HANDSHAKE: u8 = 0x16;

/// How a listener takes connections in.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// For those who speak TLS.
    pub tls: Option<Tls>,
    /// Whether everybody must. If not, both are taken, since the first byte tells them apart (C-04).
    pub is_tls_only: bool,
    /// Whose connections begin with a PROXY header, of version 1 or 2, that says who really connects. Nobody else's may.
    pub proxies: Vec<IpNet>,
    /// For those who speak V2, which everybody must then.
    pub noise: Option<Noise>,
}

/// The state of one connection.
pub(crate) enum Wire {
    /// Nothing has come yet.
    New,
    /// A proxy's header has come in part.
    Headed(Vec<u8>),
    /// Lines as they are.
    Plain,
    /// Lines in TLS.
    Tls(Box<ServerConnection>),
    /// The beginning of a handshake of V2 has come in part.
    Greeted(Arriving<ELLSWIFT_SIZE>),
    /// Encrypted frames.
    Sealed(Sealed),
}

/// A connection of V2 after the handshake.
pub(crate) struct Sealed {
    transport: Transport,
    /// What ends the handshake, until it is sent.
    response: Vec<u8>,
}

/// What bytes carried.
pub(crate) enum Carried<'a> {
    /// Nothing yet.
    Nothing,
    /// This, as it came.
    Plain(&'a [u8]),
    /// This, out of TLS.
    Secret(Vec<u8>),
    /// Frames, for [`Wire::receiver`].
    Sealed(&'a mut [u8]),
}

impl Door {
    /// Whether connections from `address` have to begin with a PROXY header.
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// The wire of a new connection from `address`.
    pub(crate) fn wire(&self, address: IpAddr) -> Wire {
        if self.is_proxy(address) { Wire::Headed(Vec::new()) } else { Wire::New }
    }
}

impl Wire {
    /// Takes bytes in. `came_from` is told the address that a PROXY header names, and may refuse it.
    ///
    /// # Errors
    /// If this is no connection for this door.
    pub fn take<'a>(
        &mut self,
        bytes: &'a mut [u8],
        door: &Door,
        came_from: &mut dyn FnMut(IpAddr) -> Result<(), Closed>,
    ) -> Result<Carried<'a>, Closed> {
        match self {
            Wire::Plain => Ok(Carried::Plain(bytes)),
            _ => self.take_wrapped(bytes, door, came_from),
        }
    }

    #[inline(never)]
    fn take_wrapped<'a>(
        &mut self,
        mut bytes: &'a mut [u8],
        door: &Door,
        came_from: &mut dyn FnMut(IpAddr) -> Result<(), Closed>,
    ) -> Result<Carried<'a>, Closed> {
        if let Wire::Headed(begun) = self {
            let before = begun.len();
            begun.extend_from_slice(bytes.get(..bytes.len().min(HEADER)).unwrap_or_default());
            let Some((length, address)) = header(begun)? else { return Ok(Carried::Nothing) };
            address.map_or(Ok(()), came_from)?;
            bytes = bytes.get_mut(length.saturating_sub(before)..).unwrap_or_default();
            *self = Wire::New;
        }
        let Some(&first) = bytes.first() else { return Ok(Carried::Nothing) };
        if let Wire::New = self {
            *self = match &door.tls {
                Some(tls) if first == HANDSHAKE => {
                    Wire::Tls(Box::new(tls.connection().map_err(|_| Closed::NotTls)?))
                }
                _ if door.is_tls_only => return Err(Closed::NotTls),
                _ if door.noise.is_some() && is_text_or_tls(bytes) => return Err(Closed::NotStratum),
                _ if door.noise.is_some() => Wire::Greeted(Arriving::default()),
                _ => Wire::Plain,
            };
        }
        if let Wire::Greeted(arriving) = self {
            let Some((first, noise)) = arriving.take(&mut bytes).zip(door.noise.as_ref()) else {
                return Ok(Carried::Nothing);
            };
            let mut response = Vec::new();
            let transport = noise.respond(first, &mut response).map_err(|_| Closed::Broken)?;
            *self = Wire::Sealed(Sealed { transport, response });
        }
        match self {
            Wire::Tls(tls) => opened(tls, bytes).map(Carried::Secret),
            Wire::Sealed(_) => Ok(Carried::Sealed(bytes)),
            _ => Ok(Carried::Plain(bytes)),
        }
    }

    /// Turns `bytes` for the peer into what goes over the socket, behind what the encryption has to say itself; `room` is
    /// for that.
    ///
    /// # Errors
    /// If no more can be encrypted.
    pub fn wrap<'a>(&mut self, bytes: &'a [u8], room: &'a mut Vec<u8>) -> Result<&'a [u8], Closed> {
        room.clear();
        match self {
            Wire::Tls(tls) => {
                // Into memory: neither can fail.
                let _ = tls.writer().write_all(bytes);
                while tls.wants_write() {
                    if tls.write_tls(room).is_err() {
                        break;
                    }
                }
            }
            Wire::Sealed(sealed) => {
                room.append(&mut sealed.response);
                sealed.response = Vec::new();
                sealed.transport.sender.seal(bytes, room).map_err(|_| Closed::Broken)?;
            }
            _ => return Ok(bytes),
        }
        Ok(room)
    }

    /// What decrypts the frames of [`Carried::Sealed`].
    pub fn receiver(&mut self) -> Option<&mut Receiver> {
        match self {
            Wire::Sealed(sealed) => Some(&mut sealed.transport.receiver),
            _ => None,
        }
    }

    /// Whether the next bytes may take the arithmetic of a handshake: up to a millisecond.
    pub fn is_handshaking(&self) -> bool {
        match self {
            Wire::Tls(tls) => tls.is_handshaking(),
            Wire::Greeted(_) => true,
            _ => false,
        }
    }

    /// Whether the encryption has something to say of its own.
    pub fn wants_write(&self) -> bool {
        match self {
            Wire::Tls(tls) => tls.wants_write(),
            Wire::Sealed(sealed) => !sealed.response.is_empty(),
            _ => false,
        }
    }

    /// Whether what the session is sent may arrive yet.
    pub fn is_open(&self) -> bool {
        matches!(self, Wire::Plain | Wire::Tls(_) | Wire::Sealed(_))
    }
}

/// Whether `bytes` begin another conversation than a handshake of V2, which is random: a line of text (V1, HTTP and the like;
/// one handshake in 200 million looks as if), or TLS.
fn is_text_or_tls(bytes: &[u8]) -> bool {
    const ENOUGH: usize = 20;
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let begins = bytes.get(..ENOUGH);
    let is_tls = matches!(bytes, [HANDSHAKE, 3, 0..=4, 0..=0x40, _, 1, ..]);
    is_tls || begins.is_some_and(|bytes| bytes.iter().all(is_text))
}

/// What there is behind the TLS records in `bytes`.
fn opened(tls: &mut ServerConnection, mut bytes: &[u8]) -> Result<Vec<u8>, Closed> {
    let mut plain = Vec::new();
    // Behind its farewell nothing is taken of a peer any more, however much it sends.
    while !bytes.is_empty() && tls.read_tls(&mut bytes).map_err(|_| Closed::NotTls)? > 0 {
        tls.process_new_packets().map_err(|_| Closed::NotTls)?;
        // Ends with an error that says only that there is no more as yet.
        let _ = tls.reader().read_to_end(&mut plain);
    }
    Ok(plain)
}

/// Whether a PROXY header at the beginning of `bytes` has come whole; an error if it cannot become one.
fn is_whole(bytes: &[u8]) -> Result<bool, Closed> {
    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    const V1: &[u8] = b"PROXY ";
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, expected)| byte == expected);
    let whole = match bytes {
        _ if begins(V1) => bytes.contains(&b'\n'),
        [_, _, _, _, _, _, _, _, _, _, _, _, _, _, high, low, ..] if begins(V2) => {
            bytes.len() >= 16 + usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ if begins(V2) => false,
        _ => return Err(Closed::NoProxyHeader),
    };
    if whole || bytes.len() < HEADER { Ok(whole) } else { Err(Closed::NoProxyHeader) }
}

/// The length of the PROXY header that `bytes` begin with and the client that it names, if it names one; `None` if more
/// has to come.
fn header(bytes: &[u8]) -> Result<Option<(usize, Option<IpAddr>)>, Closed> {
    if !is_whole(bytes)? {
        return Ok(None);
    }
    let parsed = HeaderResult::parse(bytes);
    match parsed {
        HeaderResult::V1(Ok(header)) => {
            let address = match header.addresses {
                v1::Addresses::Tcp4(tcp) => Some(tcp.source_address.into()),
                v1::Addresses::Tcp6(tcp) => Some(tcp.source_address.into()),
                v1::Addresses::Unknown => None,
            };
            Ok(Some((header.header.len(), address)))
        }
        HeaderResult::V2(Ok(header)) => {
            // A check of the proxy's own health speaks for nobody.
            let address = match (header.command, &header.addresses) {
                (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => Some(ip.source_address.into()),
                (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => Some(ip.source_address.into()),
                _ => None,
            };
            Ok(Some((header.len(), address)))
        }
        _ => Err(Closed::NoProxyHeader),
    }
}

#[cfg(test)]
mod tests;
