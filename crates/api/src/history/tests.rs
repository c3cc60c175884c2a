use pool::WorkerState;

use super::*;

fn snapshot(time_ms: u64, rates: &[(&str, f64)]) -> Snapshot {
    let worker = |&(address, hashrate): &(&str, f64)| WorkerState {
        address: Arc::from(address),
        name: Arc::from(""),
        agent: Arc::from(""),
        protocol: "V1",
        connections: 1,
        hashrate,
        difficulty: 1.0,
        last_share_ms: None,
        best: 0.0,
    };
    let hashrate = rates.iter().map(|(_, rate)| rate).sum();
    Snapshot { time_ms, hashrate, workers: rates.iter().map(worker).collect(), ..Snapshot::default() }
}

#[test]
fn samples_come_in_steps_and_end_after_six_hours() {
    let mut history = History::default();
    history.record(&Snapshot::default()); // the pool has not looked yet
    assert_eq!(history.pool(0), []);
    let start = 1_000_000;
    for second in 0..7 * 3600 {
        history.record(&snapshot(start + second * 1000, &[("a", 1.0), ("a", 2.0)]));
    }
    let last = start + 7 * 3600 * 1000 - 5_000;
    assert_eq!(history.pool.len(), 4320);
    assert_eq!(history.pool.back().map(|sample| sample.time_ms), Some(last));
    assert_eq!(history.times.len(), 720);
    assert_eq!(history.miners["a"].len(), 720);

    let minute = history.pool(last - 60_000);
    assert_eq!(minute.len(), 13);
    assert!(minute.windows(2).all(|two| two[1].time_ms - two[0].time_ms == 5_000));
    assert!(minute.iter().all(|sample| sample.hashrate.to_bits() == 3f64.to_bits()));
    let all = history.pool(0);
    assert_eq!(all.len(), MOST_SAMPLES);
    assert_eq!(all.last().map(|sample| sample.time_ms), Some(last));
    assert!(all.windows(2).all(|two| two[1].time_ms - two[0].time_ms == 30_000));
    assert_eq!(history.miner("a", 0).len(), 720);
    assert_eq!(history.miner("b", 0), []);
}

#[test]
fn who_left_fades_and_who_comes_begins() {
    let mut history = History::default();
    let mut time = 1_000_000;
    let mut step = |history: &mut History, rates: &[(&str, f64)]| {
        time += MINER_STEP_MS;
        history.record(&snapshot(time, rates));
        time
    };
    let came = step(&mut history, &[("a", 5.0)]);
    let met = step(&mut history, &[("b", 7.0), ("idle", 0.0)]);
    let rates = |history: &History, address: &str| -> Vec<(u64, f64)> {
        history.miner(address, 0).iter().map(|sample| (sample.time_ms, sample.hashrate)).collect()
    };
    assert_eq!(rates(&history, "a"), [(came, 5.0), (met, 0.0)]);
    assert_eq!(rates(&history, "b"), [(met, 7.0)]);
    assert_eq!(rates(&history, "idle"), []);
    assert_eq!(history.miner("a", met).len(), 1);
    for _ in 0..SPAN_MS / MINER_STEP_MS {
        step(&mut history, &[("b", 7.0)]);
    }
    assert!(!history.miners.contains_key("a"), "forgotten after six hours");
    assert_eq!(history.miner("b", 0).len(), 720);
}

#[test]
fn a_full_house_keeps_whom_it_has() {
    let mut history = History::default();
    let names: Vec<String> = (0..MOST_MINERS + 10).map(|i| format!("miner{i}")).collect();
    let rates: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    history.record(&snapshot(MINER_STEP_MS, &rates[..MOST_MINERS]));
    history.record(&snapshot(2 * MINER_STEP_MS, &rates));
    assert_eq!(history.miners.len(), MOST_MINERS);
    assert_eq!(history.miner(&names[0], 0).len(), 2);
    assert_eq!(history.miner(&names[MOST_MINERS], 0), []);
}

#[test]
fn a_clock_that_jumps_back_does_not_stop_the_chart() {
    let mut history = History::default();
    history.record(&snapshot(10_000_000, &[("a", 1.0)]));
    history.record(&snapshot(9_000_000, &[("a", 2.0)]));
    assert_eq!(history.pool.len(), 2);
    assert_eq!(history.miner("a", 0).len(), 2);
}
