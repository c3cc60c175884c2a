//! Hashes a second of one core, by the compression function that this machine has.

use divan::counter::ItemsCount;
use sandbox::grind::Header;
use share::Difficulty;

fn main() {
    divan::main();
}

const NONCES: u32 = 100_000;

#[divan::bench]
fn grind(bencher: divan::Bencher) {
    let header = Header::new([7; 80]);
    let target = Difficulty::new(1e9).expect("above zero").target();
    bencher
        .counter(ItemsCount::new(NONCES))
        .bench(|| divan::black_box(&header).grind(0..=NONCES - 1, &target));
}
