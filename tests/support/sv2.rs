//! A client of Stratum V2 made of the reference implementation's crates: encryption, frames and messages are all theirs.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use binary_sv2::to_bytes;
use codec_sv2::{
    Decrypted, Handshake, NoiseDecoder, NoiseEncoder, SerializedFrame, TransportDecryptState,
    TransportEncryptState,
};
use common_messages_sv2::{Protocol, SetupConnection};
use mining_sv2::{OpenExtendedMiningChannel, OpenStandardMiningChannel};
use noise_sv2::Initiator;
use parsers_sv2::{
    AnyMessage, AnyMessageOwned, CommonMessages, CommonMessagesOwned, ExtensionsOwned, IsSv2Message, Mining,
    MiningOwned,
};

use super::pool::Pool;

pub mod channel;

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Flags of a setup.
pub const STANDARD_JOBS: u32 = 1;
pub const WORK_SELECTION: u32 = 2;
pub const VERSION_ROLLING: u32 = 4;

/// A target that every hash meets.
pub const ANY_TARGET: [u8; 32] = [0xff; 32];

/// A connection after the handshake.
pub struct Client {
    pub stream: TcpStream,
    encoder: NoiseEncoder,
    encrypt: TransportEncryptState,
    decoder: NoiseDecoder,
    decrypt: Option<TransportDecryptState>,
    requests: u32,
}

/// Why nothing came.
#[derive(Debug, PartialEq, Eq)]
pub enum Silence {
    /// The pool has closed the connection.
    Closed,
    /// It is still open.
    Quiet,
}

/// Where `pool` serves V2, and the key that it is known by, as its API says.
pub fn place(pool: &Pool) -> (u16, [u8; 32]) {
    let about = pool.api("/api/v1/pool");
    let urls: Vec<&str> =
        about["stratum_urls"].as_array().unwrap().iter().filter_map(|url| url.as_str()).collect();
    let url = urls.iter().find_map(|url| url.strip_prefix("stratum2+tcp://")).expect("a URL of V2");
    let (place, key) = url.split_once('/').expect("a key");
    let port = place.rsplit_once(':').unwrap().1.parse().unwrap();
    let key = bitcoin::base58::decode_check(key).unwrap();
    assert_eq!((key.len(), &key[..2]), (34, &[1, 0][..]));
    (port, key[2..].try_into().unwrap())
}

impl Client {
    /// Connects to `pool` and shakes hands; it must be who its URL says.
    pub fn connect(pool: &Pool) -> Self {
        let (port, key) = place(pool);
        Self::connect_to(port, key).unwrap()
    }

    /// The same by port and key.
    pub fn connect_to(port: u16, key: [u8; 32]) -> io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let initiator = Initiator::from_raw_k(key).expect("a key");
        let (first, client) = Handshake::initiator(initiator).step_0().expect("a first message");
        stream.write_all(first.payload())?;
        let mut response = [0; 234];
        stream.read_exact(&mut response)?;
        let transport = client.step_2(response).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let (encrypt, decrypt) = transport.split();
        Ok(Self {
            stream,
            encoder: NoiseEncoder::new(),
            encrypt,
            decoder: NoiseDecoder::new(),
            decrypt: Some(decrypt),
            requests: 0,
        })
    }

    /// Connects and sets up with `flags`, which must succeed.
    pub fn set_up(pool: &Pool, flags: u32) -> Self {
        let mut client = Self::connect(pool);
        client.begin(flags);
        client
    }

    /// Sets up with `flags`, which must succeed.
    pub fn begin(&mut self, flags: u32) {
        self.send(setup(Protocol::MiningProtocol, 2..=2, flags));
        match self.hear() {
            AnyMessageOwned::Common(CommonMessagesOwned::SetupConnectionSuccess(success)) => {
                assert_eq!((success.used_version, success.flags), (2, 0));
            }
            other => panic!("{other}"),
        }
    }

    /// What `message` is when it is encrypted.
    pub fn sealed(&mut self, message: AnyMessage<'_>) -> Vec<u8> {
        let (extension, kind, channel) =
            (message.extension_type(), message.message_type(), message.channel_bit());
        let extension = extension | if channel { 0x8000 } else { 0 };
        let payload = to_bytes(message).unwrap();
        self.sealed_frame(extension, kind, &payload)
    }

    /// The same for any frame.
    pub fn sealed_frame(&mut self, extension: u16, kind: u8, payload: &[u8]) -> Vec<u8> {
        let [a, b] = extension.to_le_bytes();
        let [c, d, e, _] = (payload.len() as u32).to_le_bytes();
        let bytes = [&[a, b, kind, c, d, e], payload].concat();
        let frame = SerializedFrame::from_bytes(bytes).expect("a frame");
        let sealed = self.encoder.encode_transport(frame, &mut self.encrypt).unwrap();
        AsRef::<[u8]>::as_ref(&sealed).to_vec()
    }

    /// Sends a message. Whether the pool still takes it is not looked at.
    pub fn send(&mut self, message: AnyMessage<'_>) {
        let sealed = self.sealed(message);
        let _ = self.stream.write_all(&sealed);
    }

    /// The same for a message of mining.
    pub fn say(&mut self, message: Mining<'_>) {
        self.send(AnyMessage::Mining(message));
    }

    /// The next frame: extension with its channel bit, message, payload.
    pub fn frame(&mut self) -> Result<(u16, u8, Vec<u8>), Silence> {
        loop {
            let state = self.decrypt.take().expect("it was never broken");
            match self.decoder.next_transport_frame(state).expect("frames of the pool") {
                Decrypted::Frame(frame, state) => {
                    self.decrypt = Some(state);
                    let header = frame.header();
                    let bytes = frame.into_bytes();
                    let payload = AsRef::<[u8]>::as_ref(&bytes)[6..].to_vec();
                    return Ok((header.ext_type(), header.msg_type(), payload));
                }
                Decrypted::Incomplete(_, state) => {
                    self.decrypt = Some(state);
                    let room = self.decoder.writable();
                    match self.stream.read_exact(room) {
                        Ok(()) => {}
                        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                            return Err(Silence::Quiet);
                        }
                        Err(_) => return Err(Silence::Closed),
                    }
                }
            }
        }
    }

    /// The next message, if there is one.
    pub fn try_hear(&mut self) -> Result<AnyMessageOwned, Silence> {
        let (extension, kind, mut payload) = self.frame()?;
        let [a, b] = extension.to_le_bytes();
        let [c, d, e, _] = (payload.len() as u32).to_le_bytes();
        let header = framing_sv2::header::Header::from_bytes(&[a, b, kind, c, d, e]).unwrap();
        let message = AnyMessage::try_from((header, &mut payload[..])).expect("a message");
        assert_eq!(message.channel_bit(), extension & 0x8000 != 0, "the channel bit of {message}");
        Ok(message.into_owned())
    }

    /// The next message.
    pub fn hear(&mut self) -> AnyMessageOwned {
        self.try_hear().unwrap_or_else(|silence| panic!("{silence:?}"))
    }

    /// The next message, of mining.
    pub fn mining(&mut self) -> MiningOwned {
        match self.hear() {
            AnyMessageOwned::Mining(message) => message,
            other => panic!("not of mining: {other}"),
        }
    }

    /// The next message, of extensions.
    pub fn extension(&mut self) -> ExtensionsOwned {
        match self.hear() {
            AnyMessageOwned::Extensions(message) => message,
            other => panic!("of no extension: {other}"),
        }
    }

    /// Reads on until the pool closes; it must.
    pub fn must_be_closed(&mut self) -> Vec<AnyMessageOwned> {
        let mut heard = Vec::new();
        loop {
            match self.try_hear() {
                Ok(message) => heard.push(message),
                Err(Silence::Closed) => return heard,
                Err(Silence::Quiet) => panic!("still open, after {heard:?}"),
            }
        }
    }

    /// Whether nothing comes for `limit`.
    pub fn is_quiet_for(&mut self, limit: Duration) -> bool {
        self.stream.set_read_timeout(Some(limit)).unwrap();
        let heard = self.try_hear();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        heard.is_err_and(|silence| silence == Silence::Quiet)
    }

    /// Asks for a standard channel; the number of the request.
    pub fn ask_standard(&mut self, user: &str, rate: f32, max_target: [u8; 32]) -> u32 {
        self.requests += 1;
        let request_id = self.requests;
        self.say(Mining::OpenStandardMiningChannel(OpenStandardMiningChannel {
            request_id,
            user_identity: user.as_bytes().try_into().unwrap(),
            nominal_hash_rate: rate,
            max_target: (&max_target).into(),
        }));
        request_id
    }

    /// Asks for an extended channel; the number of the request.
    pub fn ask_extended(
        &mut self,
        user: &str,
        rate: f32,
        max_target: [u8; 32],
        min_extranonce_size: u16,
    ) -> u32 {
        self.requests += 1;
        let request_id = self.requests;
        self.say(Mining::OpenExtendedMiningChannel(OpenExtendedMiningChannel {
            request_id,
            user_identity: user.as_bytes().try_into().unwrap(),
            nominal_hash_rate: rate,
            max_target: (&max_target).into(),
            min_extranonce_size,
        }));
        request_id
    }
}

/// The first message.
pub fn setup(protocol: Protocol, versions: std::ops::RangeInclusive<u16>, flags: u32) -> AnyMessage<'static> {
    let text = |text: &'static str| text.as_bytes().try_into().unwrap();
    AnyMessage::Common(CommonMessages::SetupConnection(SetupConnection {
        protocol,
        min_version: *versions.start(),
        max_version: *versions.end(),
        flags,
        endpoint_host: text("pool.example"),
        endpoint_port: 3336,
        vendor: text("acme"),
        hardware_version: text("one"),
        firmware: text(""),
        device_id: text(""),
    }))
}
