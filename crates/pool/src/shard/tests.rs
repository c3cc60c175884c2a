//! A shard in the hands of a test: a real socket, a real spool, and a turn at a time.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream as Socket},
};

use bytes::Bytes;
use ledger::{Scheme, Spool, SpoolConfig, Terms};
use serde_json::{Value, json};
use share::{Difficulty, Target};
use tempfile::TempDir;
use template::{Submitter, Template};

use super::*;
use crate::{Acks, Limits, Listener, VardiffConfig, wire::Door};

mod v2;

const USER: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.w";

/// Everything that a shard needs, and the miner at its other end.
struct Bench {
    shard: Shard,
    events: Events,
    address: SocketAddr,
    templates: watch::Sender<Option<Arc<Template>>>,
    _waker: Waker,
    _dir: TempDir,
}

fn template(prev: u8) -> Arc<Template> {
    Arc::new(Template {
        height: 101,
        prev_hash: [prev; 32],
        version: 0x2000_0000,
        bits: 0x1d00_ffff,
        network_target: Target::from_compact(0x1d00_ffff).unwrap(),
        time: (crate::clock::unix_ms() / 1000) as u32,
        min_time: 1_000_000_000,
        coinbase_value: 5_000_000_000,
        witness_commitment: None,
        transactions: Bytes::new(),
        transaction_count: 0,
        branch: vec![[9; 32]; 12],
        long_poll: None,
    })
}

impl Bench {
    fn new() -> Self {
        Self::behind(Door::default())
    }

    fn behind(door: Door) -> Self {
        let dir = TempDir::new().unwrap();
        let spool = Spool::open(&dir.path().join("spool"), SpoolConfig::default()).unwrap();
        let submitter = Submitter::start(Vec::new(), dir.path().join("blocks")).unwrap();
        // Every hash is a share.
        let easy = Difficulty::new(1e-12).unwrap();
        let config = Arc::new(Config {
            network: bitcoin::Network::Regtest,
            tag: "/test/".into(),
            instance: 0,
            shards: 1,
            vardiff: VardiffConfig { shares_per_minute: 10.0, start: easy, min: easy, max: easy },
            limits: Limits { submits_per_second: 1_000_000, ..Limits::default() },
            trusted: Vec::new(),
            acks: Acks::default(),
            repeat: Duration::from_secs(30),
        });
        let terms = Terms {
            scheme: Scheme::Pplns { factor: 2 },
            fee_ppm: 0,
            pool_script: vec![0x51],
            pool_address: String::new(),
        };
        let board = Board::new(terms, config.tag.clone());
        let (templates, source) = watch::channel(Some(template(1)));
        let (posting, postings) = watch::channel(None);
        tokio::spawn(board.clone().run(
            source,
            Duration::from_secs(1000),
            Duration::from_secs(1000),
            posting,
        ));
        let house = House {
            gate: Gate::new(config.limits, Vec::new()),
            space: Space::new(0, 1, 1000),
            config,
            board,
            closed: Closings::default(),
            postings,
            stop: Arc::default(),
        };
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), 1, door).unwrap();
        let address = listener.address();
        let (entrance, waker) = Entrance::new(listener.into_sockets().collect()).unwrap();
        let turn = Turn::new(spool.writer(0).unwrap(), submitter);
        let shard = Shard::new(house, entrance, turn, Arc::default());
        let events = Events::with_capacity(EVENTS);
        Self { shard, events, address, templates, _waker: waker, _dir: dir }
    }

    async fn post(&mut self, prev: u8) {
        self.templates.send_replace(Some(template(prev)));
        self.shard.house.postings.changed().await.unwrap();
        self.shard.house.postings.mark_changed();
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            // It waits until something happens: make sure that it does.
            self._waker.wake().unwrap();
            self.shard.go_round(&mut self.events);
        }
    }

    fn miner(&mut self) -> Miner {
        let socket = Socket::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let reader = BufReader::new(socket.try_clone().unwrap());
        let mut miner = Miner { socket, reader, job: String::new(), time: String::new(), nonce: 0 };
        miner.say(&json!({"id": 1, "method": "mining.subscribe", "params": []}));
        miner.say(&json!({"id": 2, "method": "mining.authorize", "params": [USER, "x"]}));
        self.turns(3);
        assert_eq!((miner.hear()["id"].clone(), miner.hear()["result"].clone()), (json!(1), json!(true)));
        assert_eq!(miner.hear()["method"], "mining.set_difficulty");
        miner.take_job();
        miner
    }
}

struct Miner {
    socket: Socket,
    reader: BufReader<Socket>,
    job: String,
    time: String,
    nonce: u32,
}

impl Miner {
    fn say(&mut self, message: &Value) {
        self.socket.write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn take_job(&mut self) -> bool {
        let notify = self.hear();
        assert_eq!(notify["method"], "mining.notify", "{notify}");
        self.job = notify["params"][0].as_str().unwrap().to_owned();
        self.time = notify["params"][7].as_str().unwrap().to_owned();
        notify["params"][8].as_bool().unwrap()
    }

    fn submit(&mut self) {
        self.nonce += 1;
        let params = json!([USER, self.job, "0000000000000000", self.time, format!("{:08x}", self.nonce)]);
        self.say(&json!({"id": 4, "method": "mining.submit", "params": params}));
    }
}

#[tokio::test]
async fn a_share_allocates_nothing_from_the_socket_to_its_reply() {
    let mut bench = Bench::new();
    bench.post(2).await;
    let mut miner = bench.miner();
    // What grows with the number of shares on a block (the hashes that were credited) doubles now and then: not between
    // the thousandth and the twelve hundredth.
    for _ in 0..1000 {
        miner.submit();
        bench.turns(1);
        assert_eq!(miner.hear()["result"], true);
    }
    let mut shares = 0;
    bench.shard.show_workers = u64::MAX; // a list, and for people
    for _ in 0..200 {
        miner.submit();
        let (shard, events) = (&mut bench.shard, &mut bench.events);
        let counted = allocation_counter::measure(|| shard.go_round(events));
        assert_eq!(counted.count_total, 0, "share {shares}");
        assert_eq!(miner.hear()["result"], true);
        shares += 1;
    }
    assert_eq!(shares, 200);
}

#[tokio::test]
async fn a_new_tip_goes_to_the_fastest_first() {
    let mut bench = Bench::new();
    bench.post(2).await;
    let mut miners: Vec<Miner> = (0..TURNS_OF_MINERS.len()).map(|_| bench.miner()).collect();
    for (miner, &shares) in miners.iter_mut().zip(&TURNS_OF_MINERS) {
        for _ in 0..shares {
            miner.submit();
            bench.turns(1);
            assert_eq!(miner.hear()["result"], true);
        }
    }
    let fastest_last = bench.shard.by_speed();
    assert_eq!(fastest_last, [1, 3, 0, 2]);
    bench.post(3).await;
    bench.turns(1);
    assert!(miners.iter_mut().all(Miner::take_job), "everybody has it, and it ends what was before");
    // Newer work on the same tip is dealt out by and by.
    bench.templates.send_modify(|template| {
        let mut newer = (**template.as_ref().unwrap()).clone();
        newer.coinbase_value += 1;
        *template = Some(Arc::new(newer));
    });
    bench.shard.house.postings.changed().await.unwrap();
    bench.shard.house.postings.mark_changed();
    bench.turns(2);
    assert!(bench.shard.connections.iter().all(|(_, connection)| {
        bench.shard.fanout.posting().is_some_and(|posting| connection.session.lacks(posting.id))
    }));
}

#[tokio::test]
async fn a_shard_that_serves_looks_up_though_nobody_wakes_it() {
    let mut bench = Bench::new();
    bench.post(2).await;
    let mut miner = bench.miner();
    let turn = |bench: &mut Bench, miner: &mut Miner| {
        miner.submit();
        bench.shard.go_round(&mut bench.events);
        assert_eq!(miner.hear()["result"], true);
        bench.shard.fanout.posting().map(|posting| posting.template.prev_hash[0])
    };
    bench.post(3).await;
    bench.shard.chores_ms = u64::MAX;
    assert_eq!(turn(&mut bench, &mut miner), Some(2), "a turn for shares is no more than that");
    bench.turns(1); // woken
    assert!(miner.take_job());
    bench.post(4).await;
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(turn(&mut bench, &mut miner), Some(4));
    assert!(miner.take_job());
}

#[tokio::test]
async fn a_new_tip_goes_on_to_everybody_though_it_is_told_once() {
    const MINERS: usize = 270; // more than are sent it in one turn
    let mut bench = Bench::new();
    bench.post(2).await;
    let hear = |socket: &mut Socket, wanted: &str| {
        let (mut heard, mut part) = (String::new(), [0; 4096]);
        while !heard.contains(wanted) {
            let length =
                socket.read(&mut part).unwrap_or_else(|error| panic!("{error}: {wanted} of {heard}"));
            assert!(length > 0, "closed: {heard}");
            heard.push_str(std::str::from_utf8(&part[..length]).unwrap());
        }
    };
    let mut miners: Vec<Socket> = Vec::new();
    for _ in 0..MINERS {
        let mut socket = Socket::connect(bench.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let authorize = json!({"id": 2, "method": "mining.authorize", "params": [USER, "x"]});
        let words =
            format!("{}\n{authorize}\n", json!({"id": 1, "method": "mining.subscribe", "params": []}));
        socket.write_all(words.as_bytes()).unwrap();
        bench.turns(3);
        hear(&mut socket, "mining.notify");
        miners.push(socket);
    }
    bench.post(3).await;
    bench.turns(1);
    bench.shard.chores_ms = u64::MAX;
    bench.shard.go_round(&mut bench.events);
    assert!(!bench.shard.fanout.is_under_way());
    miners.iter_mut().for_each(|socket| hear(socket, "03030303"));
}

/// How many shares each miner hands in.
const TURNS_OF_MINERS: [u32; 4] = [3, 1, 9, 2];

#[tokio::test]
async fn f41_who_does_not_read_has_one_job_waiting() {
    let mut bench = Bench::new();
    bench.post(2).await;
    let (mut good, slow) = (bench.miner(), bench.miner());
    let mut sizes = Vec::new();
    for prev in 3..=250 {
        bench.post(prev).await;
        bench.turns(1);
        assert!(good.take_job());
        sizes.push(bench.shard.connections.iter().map(|(_, one)| one.waiting()).max().unwrap());
    }
    let job = 8 * 1024;
    assert!(sizes.iter().all(|&size| size < job), "{sizes:?}");
    assert!(sizes.last() > Some(&0), "the kernel has taken all of it: nothing was tested");
    // It has no end of what waits for it: the rest of an old job, then the newest.
    let mut reader = BufReader::new(slow.socket.try_clone().unwrap());
    let (mut seen, mut line) = (0, String::new());
    loop {
        line.clear();
        bench.turns(1);
        reader.read_line(&mut line).unwrap();
        let notify: Value = serde_json::from_str(&line).unwrap();
        seen += 1;
        if notify["params"][1].as_str().unwrap().starts_with("fafafafa") {
            break;
        }
    }
    assert!(seen < 200, "it was spared jobs that were old already: {seen}");
}

#[tokio::test]
async fn who_leaves_is_gone() {
    let mut bench = Bench::new();
    bench.post(2).await;
    let (mut stays, leaves) = (bench.miner(), bench.miner());
    leaves.socket.shutdown(std::net::Shutdown::Write).unwrap(); // C-05: half is all
    bench.turns(2);
    assert_eq!(bench.shard.connections.len(), 1);
    stays.submit();
    bench.turns(1);
    assert_eq!(stays.hear()["result"], true);
}

#[tokio::test]
async fn c05_who_leaves_with_its_last_word_is_gone() {
    let mut bench = Bench::new();
    // All of it has come before the shard looks: one event tells of the words and of the end.
    for words in [
        "",
        "{\"id\":null,\"result\":true,\"error\":null}\n",
        "{\"id\":1,\"method\":\"mining.ping\",\"params\":[]}\n",
    ] {
        let mut socket = Socket::connect(bench.address).unwrap();
        socket.write_all(words.as_bytes()).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        bench.turns(4);
        assert_eq!(bench.shard.connections.len(), 0, "{words:?}");
    }
}

#[tokio::test]
async fn f31_a_flood_waits_once_for_the_next_turn() {
    let mut bench = Bench::new();
    let mut socket = Socket::connect(bench.address).unwrap();
    let mut answers = socket.try_clone().unwrap();
    let reader = std::thread::spawn(move || _ = io::copy(&mut answers, &mut io::sink()));
    bench.turns(1);
    // More than a turn reads, and more of it before each: an event, and what is left from the turn before.
    let flood = "{\"id\":1,\"method\":\"mining.ping\",\"params\":[]}\n".repeat(1_000);
    for _ in 0..4 {
        socket.write_all(flood.as_bytes()).unwrap();
        bench.turns(1);
        assert_eq!(bench.shard.again.len(), 1, "reads that wait for the next turn");
    }
    socket.shutdown(std::net::Shutdown::Both).unwrap();
    reader.join().unwrap();
}
