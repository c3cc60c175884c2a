//! Stratum V2 from the miner's side: the handshake, then frames, of one [`Channel`].

use stratum::noise::{Arriving, AuthorityPublicKey, Error, Initiator, RESPONSE_SIZE, Transport};

use crate::miner::{
    MinerConfig,
    session::{Broken, Event, Session},
    work::Found,
};

mod channel;

use channel::Channel;
pub use channel::Kind;

/// The longest message that a pool may send, in bytes.
const MAX_MESSAGE: usize = 1 << 18;

/// A connection, from its handshake on.
pub struct Stream {
    authority: AuthorityPublicKey,
    stage: Stage,
    channel: Channel,
    /// Frames that are not encrypted yet.
    frames: Vec<u8>,
}

enum Stage {
    Handshake(Box<Handshake>),
    Encrypted(Transport),
    Over,
}

struct Handshake {
    initiator: Initiator,
    arriving: Arriving<RESPONSE_SIZE>,
    /// When it began, in seconds since 1970.
    begun: u32,
}

impl Stream {
    /// A new session with the pool that `authority` vouches for, and what opens it. `serial` is above that of all jobs
    /// before; `entropy` must be fresh and secret; `now` is in seconds since 1970.
    pub fn open(
        config: &MinerConfig,
        (authority, kind): (AuthorityPublicKey, Kind),
        serial: u64,
        entropy: &[u8; 64],
        now: u32,
    ) -> Result<(Self, Vec<u8>), Error> {
        let initiator = Initiator::new(entropy)?;
        let first = initiator.first().to_vec();
        let handshake = Handshake { initiator, arriving: Arriving::default(), begun: now };
        let stage = Stage::Handshake(Box::new(handshake));
        let channel = Channel::new(config, kind, serial);
        Ok((Self { authority, stage, channel, frames: Vec::new() }, first))
    }

    /// Takes in what arrived of the handshake, and after it says what a connection is opened with.
    fn shake_hands(&mut self, arrived: &mut &mut [u8]) -> Result<(), Broken> {
        let response = match &mut self.stage {
            Stage::Handshake(handshake) => handshake.arriving.take(arrived).copied(),
            Stage::Encrypted(_) | Stage::Over => None,
        };
        let Some(response) = response else { return Ok(()) };
        if let Stage::Handshake(handshake) = std::mem::replace(&mut self.stage, Stage::Over) {
            let Handshake { initiator, begun, .. } = *handshake;
            let transport = initiator.finish(&response, Some(&self.authority), begun);
            self.stage = Stage::Encrypted(transport.map_err(|error| match error {
                Error::Forged => Broken::Message("its handshake makes no sense".into()),
                error @ Error::CertificateTime { .. } => Broken::Clock(error),
                error => Broken::Untrusted(error),
            })?);
            self.channel.begin(&mut self.frames);
        }
        Ok(())
    }

    /// Appends the frames that are waiting to `out`, encrypted.
    fn seal(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        match &mut self.stage {
            Stage::Encrypted(transport) => transport.sender.seal(&self.frames, out).map_err(broken)?,
            Stage::Handshake(_) | Stage::Over => {}
        }
        self.frames.clear();
        Ok(())
    }
}

impl Session for Stream {
    fn arrived(
        &mut self,
        mut bytes: &mut [u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        self.shake_hands(&mut bytes)?;
        if let Stage::Encrypted(transport) = &mut self.stage {
            while let Some(frame) = transport.receiver.next(&mut bytes, MAX_MESSAGE).map_err(broken)? {
                self.channel.on_frame(frame, &mut self.frames, events)?;
            }
        }
        self.seal(out)
    }

    fn submit(&mut self, found: &Found, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.channel.submit(found, &mut self.frames)?;
        self.seal(out)
    }

    fn pending(&self) -> usize {
        self.channel.pending()
    }

    fn hint(&self) -> &'static str {
        match &self.stage {
            Stage::Handshake(_) => " in the handshake: is this its Stratum V2 port?",
            Stage::Encrypted(_) | Stage::Over => "",
        }
    }
}

fn broken(error: Error) -> Broken {
    Broken::Message(error.to_string())
}
