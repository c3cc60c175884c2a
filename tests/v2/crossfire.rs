//! Everything bad at once, from one address, while a miner of another is answered as before.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use common_messages_sv2::Protocol;
use mining_sv2::{CloseChannel, UpdateChannel};
use parsers_sv2::Mining;

use super::{House, user};
use crate::support::sv2::{ANY_TARGET, Client, STANDARD_JOBS, VERSION_ROLLING, channel::Channel, setup};

/// How long the fire lasts.
const FIRE: Duration = Duration::from_secs(15);
/// How long an answer may take meanwhile, on a machine that does all of it on the same two processors.
const ANSWER: Duration = Duration::from_secs(3);

/// What a bad client goes by.
struct Front<'a> {
    house: &'a House,
    is_over: AtomicBool,
    /// How often something bad was done.
    done: AtomicUsize,
}

impl Front<'_> {
    /// Does `harm` again and again.
    fn attack(&self, mut harm: impl FnMut(usize)) {
        for round in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            harm(round);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn client(&self, flags: u32) -> Option<Client> {
        let mut client = Client::connect_to(self.house.port, self.house.key).ok()?;
        client.stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        client.send(setup(Protocol::MiningProtocol, 2..=2, flags));
        client.try_hear().ok().map(|_| client)
    }

    /// Bytes that nobody agreed on.
    fn noise(&self) {
        self.attack(|round| {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.house.port)) else { return };
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let bytes: Vec<u8> = random(round).take(64 + round % 400).collect();
            let _ = stream.write_all(&bytes);
            let _ = stream.read(&mut [0; 512]);
        });
    }

    /// Frames that are cut, changed, said twice, too long, or of nonsense.
    fn frames(&self) {
        self.attack(|round| {
            let Some(mut client) = self.client(VERSION_ROLLING) else { return };
            let payload: Vec<u8> = random(round).take(round % 300).collect();
            let mut sealed =
                client.sealed_frame(0x8000 * (round as u16 % 2), 0x10 + (round % 0x16) as u8, &payload);
            match round % 5 {
                0 => sealed.truncate(sealed.len() / 2),
                1 => sealed[10] ^= 1,
                2 => sealed = [&sealed[..], &sealed].concat(),
                3 => sealed = client.sealed_frame(0, 0x13, &vec![0; 100_000]),
                _ => {}
            }
            let _ = client.stream.write_all(&sealed);
            let _ = client.try_hear();
        });
    }

    /// Channels that come, change by values that make no sense, and go.
    fn channels(&self) {
        let mut client = None;
        self.attack(|round| {
            let Some(open) = client.get_or_insert_with(|| self.client(0)) else { return client = None };
            let rate = [0.0, f32::NAN, f32::INFINITY, -1.0, 1e30, 1e-30][round % 6];
            let target = if round % 7 == 0 { [0; 32] } else { ANY_TARGET };
            open.ask_extended(&format!("{}n{}", user(4), round % 50), rate, target, (round % 20) as u16);
            open.ask_standard("nobody", rate, target);
            let channel_id = round as u32 % 100;
            let update =
                UpdateChannel { channel_id, nominal_hash_rate: rate, maximum_target: (&target).into() };
            open.say(Mining::UpdateChannel(update));
            let reason_code = b"\n".as_slice().try_into().unwrap();
            open.say(Mining::CloseChannel(CloseChannel { channel_id: channel_id / 2, reason_code }));
            if !open.pass_over() {
                client = None;
            }
        });
    }

    /// A proxy with many standard channels that stops reading, and comes again when it is closed.
    fn stalled(&self) {
        self.attack(|_| {
            let Some(mut client) = self.client(STANDARD_JOBS) else { return };
            (0..1_000).for_each(|_| _ = client.ask_standard(&user(6), 1e6, ANY_TARGET));
            thread::sleep(Duration::from_secs(3));
        });
    }
}

impl Client {
    /// Takes what there is to hear, whatever it is. Whether the connection is open still.
    fn pass_over(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let end = loop {
            match self.stream.read(&mut [0; 16 * 1024]) {
                Ok(length) if length > 0 => {}
                end => break end,
            }
        };
        self.stream.set_nonblocking(false).unwrap();
        end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// Bytes by no rule that anybody would see.
fn random(seed: usize) -> impl Iterator<Item = u8> {
    (0u64..).map(move |n| {
        ((n + 1).wrapping_mul(seed as u64 * 2 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
    })
}

#[test]
fn while_others_do_all_the_harm_they_can_a_miner_is_answered_as_before() {
    let house = House::new(|setup| setup.limits = "handshake = 2\nwrite = 2\n");
    let mut good = Client::set_up(&house.pool, VERSION_ROLLING);
    let mut channel = Channel::open_extended(&mut good, &user(3), 1e6);
    channel.mine(&mut good);
    let front = Front { house: &house, is_over: AtomicBool::new(false), done: AtomicUsize::new(0) };
    let (memory, start) = (house.pool.memory(), Instant::now());
    let (mut answers, mut slowest) = (0, Duration::ZERO);
    thread::scope(|threads| {
        threads.spawn(|| front.noise());
        threads.spawn(|| front.frames());
        threads.spawn(|| front.channels());
        threads.spawn(|| front.stalled());
        while start.elapsed() < FIRE {
            let asked = Instant::now();
            let share = channel.share();
            let number = channel.submit(&mut good, &share);
            channel.is_acknowledged(&mut good, number);
            (answers, slowest) = (answers + 1, slowest.max(asked.elapsed()));
            thread::sleep(Duration::from_millis(20));
        }
        front.is_over.store(true, Ordering::Relaxed);
    });
    assert!(front.done.into_inner() > 50, "nobody did harm");
    assert!(slowest < ANSWER, "an answer took {slowest:?}");
    assert!(answers > 50, "{answers}");
    let grown = house.pool.memory().saturating_sub(memory);
    assert!(grown < 64 << 20, "memory grew by {} MiB", grown >> 20);
    channel.mine(&mut good);
}
