//! A client of a swarm in Stratum V2: one extended channel. It asks nobody for a certificate, since it is a load and no
//! miner.

use stratum::{
    noise::{Arriving, Initiator, RESPONSE_SIZE, Receiver, Sender, Transport},
    v2::{
        Fault as Unread, Frame,
        common::{Common, Protocol, SetupConnection, VERSION},
        encode,
        mining::{Mining, OpenExtendedMiningChannel, SubmitSharesExtended, flags},
        wire::{B32, HashRate, Str255},
    },
};
use tokio::net::TcpStream;

use super::{
    Fault,
    link::{Said, arrived, send, step},
};

/// The longest message that a pool may send, in bytes.
const MAX_MESSAGE: usize = 1 << 18;
/// What is asked for, in bytes.
const EXTRANONCE_SIZE: u16 = 8;
/// The longest that a pool can grant, in bytes.
const MAX_EXTRANONCE: u16 = 32;
/// What a client says that it has, in hashes a second.
const HASHRATE: f32 = 1e12;

/// What submits.
pub struct Voice {
    sender: Sender,
    channel: Option<Channel>,
    /// The latest job that waits for its block: number and version.
    future: (u32, u32),
    /// The job that is submitted for.
    job: Option<Job>,
    /// Counts submissions: their nonce, too.
    sequence: u32,
    /// A frame before it is encrypted.
    frame: Vec<u8>,
}

struct Channel {
    id: u32,
    extranonce: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Job {
    id: u32,
    version: u32,
    time: u32,
}

/// Shakes hands, opens a channel and waits for the first job.
pub async fn open(stream: &TcpStream, user: &str) -> Result<(Voice, Receiver), Fault> {
    let Transport { sender, mut receiver } = step("the handshake", handshake(stream)).await??;
    let mut voice =
        Voice { sender, channel: None, future: (0, 0), job: None, sequence: 0, frame: Vec::new() };
    voice.say(stream, setup).await?;
    step("setting up the connection", voice.set_up(stream, &mut receiver)).await??;
    voice.say(stream, |out| ask(user, out)).await?;
    step("opening a channel", async {
        while voice.job.is_none() {
            arrived(stream, |bytes, _| voice.hear(&mut receiver, bytes, &mut |_| ())).await?;
        }
        Ok(())
    })
    .await??;
    Ok((voice, receiver))
}

async fn handshake(stream: &TcpStream) -> Result<Transport, Fault> {
    let initiator = Initiator::new(&rand::random()).map_err(Fault::Noise)?;
    send(stream, &initiator.first()).await?;
    let mut arriving = Arriving::<RESPONSE_SIZE>::default();
    loop {
        // The pool speaks next when it has heard from us: nothing can have come behind its answer.
        let response = arrived(stream, |mut bytes, _| Ok(arriving.take(&mut bytes).copied())).await?;
        if let Some(response) = response {
            return initiator.finish(&response, None, 0).map_err(Fault::Noise);
        }
    }
}

fn setup(out: &mut Vec<u8>) {
    let text = |text: &'static str| Str255::cut(text.as_bytes());
    let setup = SetupConnection {
        protocol: Protocol::Mining as u8,
        min_version: VERSION,
        max_version: VERSION,
        flags: flags::REQUIRES_VERSION_ROLLING,
        endpoint_host: text(""),
        endpoint_port: 0,
        vendor: text("sluice-swarm"),
        hardware_version: text("none"),
        firmware: text("1.0"),
        device_id: text(""),
    };
    encode(&setup, out);
}

fn ask(user: &str, out: &mut Vec<u8>) {
    let open = OpenExtendedMiningChannel {
        request_id: 1,
        user_identity: Str255::cut(user.as_bytes()),
        nominal_hash_rate: HashRate(HASHRATE),
        max_target: [0xff; 32],
        min_extranonce_size: EXTRANONCE_SIZE,
    };
    encode(&open, out);
}

impl Voice {
    /// Appends a submission that was not made before; false without a job.
    pub fn submit(&mut self, out: &mut Vec<u8>) -> bool {
        let Self { sender, channel: Some(channel), job: Some(job), sequence, frame, .. } = self else {
            return false;
        };
        let share = SubmitSharesExtended {
            channel_id: channel.id,
            sequence_number: *sequence,
            job_id: job.id,
            nonce: *sequence,
            ntime: job.time,
            version: job.version,
            extranonce: B32::cut(&channel.extranonce),
        };
        *sequence = sequence.wrapping_add(1);
        frame.clear();
        encode(&share, frame);
        sender.seal(frame, out).is_ok()
    }

    /// Submits nothing until there is another job.
    pub fn hush(&mut self) {
        self.job = None;
    }

    /// Takes in what arrived.
    pub fn hear(
        &mut self,
        receiver: &mut Receiver,
        mut bytes: &mut [u8],
        said: &mut impl FnMut(Said),
    ) -> Result<(), Fault> {
        while let Some(frame) = receiver.next(&mut bytes, MAX_MESSAGE).map_err(Fault::Noise)? {
            self.heard(frame, said)?;
        }
        Ok(())
    }

    fn heard(&mut self, frame: Frame<'_>, said: &mut impl FnMut(Said)) -> Result<(), Fault> {
        let message = match Mining::decode(frame) {
            Ok((message, _)) => message,
            Err(Unread::UnknownExtension(_) | Unread::UnknownMessage(_)) => return Ok(()),
            Err(unread) => return Err(Fault::Unread(unread)),
        };
        match message {
            Mining::SubmitSharesSuccess(m) => said(Said::Accepted(m.new_submits_accepted_count)),
            Mining::SubmitSharesError(m) => said(Said::Refused(words(m.error_code))),
            Mining::NewExtendedMiningJob(m) => match m.min_ntime {
                None => self.future = (m.job_id, m.version),
                Some(time) => {
                    self.job = Some(Job { id: m.job_id, version: m.version, time });
                    said(Said::Job { is_clean: false });
                }
            },
            Mining::SetNewPrevHash(m) => {
                let (id, version) = self.future;
                self.job = (id == m.job_id).then_some(Job { id, version, time: m.min_ntime });
                said(Said::Job { is_clean: true });
            }
            Mining::OpenExtendedMiningChannelSuccess(m) => {
                let extranonce = vec![0; usize::from(m.extranonce_size.min(MAX_EXTRANONCE))];
                self.channel = Some(Channel { id: m.channel_id, extranonce });
            }
            Mining::OpenMiningChannelError(m) => return Err(Fault::Refused(words(m.error_code))),
            _ => {}
        }
        Ok(())
    }

    async fn say(&mut self, stream: &TcpStream, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Fault> {
        let (mut frame, mut sealed) = (Vec::new(), Vec::new());
        write(&mut frame);
        self.sender.seal(&frame, &mut sealed).map_err(Fault::Noise)?;
        send(stream, &sealed).await
    }

    /// Waits for the pool to say yes. It says nothing more before a channel is asked for.
    async fn set_up(&self, stream: &TcpStream, receiver: &mut Receiver) -> Result<(), Fault> {
        loop {
            let said = arrived(stream, |mut bytes, _| {
                let frame = receiver.next(&mut bytes, MAX_MESSAGE).map_err(Fault::Noise)?;
                let Some(frame) = frame else { return Ok(false) };
                match Common::decode(frame).map_err(Fault::Unread)?.0 {
                    Common::SetupConnectionSuccess(_) => Ok(true),
                    Common::SetupConnectionError(m) => Err(Fault::Refused(words(m.error_code))),
                    _ => Ok(false),
                }
            });
            if said.await? {
                return Ok(());
            }
        }
    }
}

fn words(code: Str255<'_>) -> String {
    String::from_utf8_lossy(code.get()).into_owned()
}
