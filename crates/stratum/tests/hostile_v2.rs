//! Whatever a peer of V2 sends: no panic, no more memory than the limit, and nothing taken for what it is not.

use std::sync::LazyLock;

use proptest::prelude::*;
use stratum::v2::Header;

#[path = "../../../fuzz/src/v2_decode.rs"]
mod v2_decode;
#[path = "../../../fuzz/src/v2_frame.rs"]
mod v2_frame;
#[path = "../../../fuzz/src/v2_handshake.rs"]
mod v2_handshake;

/// A message of every type, and some that are none.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| corpus("v2_decode", 56));

/// The inputs that fuzzing of `target` came upon, and what it began with.
fn corpus(target: &str, at_least: usize) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(format!("../../fuzz/corpus/{target}")).expect("a corpus");
    let inputs: Vec<_> =
        files.map(|file| std::fs::read(file.expect("a file").path()).expect("bytes")).collect();
    assert!(inputs.len() >= at_least, "{} inputs", inputs.len());
    inputs
}

#[test]
fn corpora() {
    let understood = SEEDS.iter().filter(|input| v2_decode::understood(input)).count();
    assert!(understood >= 44, "{understood} messages");
    corpus("v2_frame", 10).iter().for_each(|input| v2_frame::run(input));
    corpus("v2_handshake", 13).iter().for_each(|input| v2_handshake::run(input));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn noise_behind_the_number_of_a_message(
        number in prop::sample::select(
            (0..6).chain(0x10..0x26).chain(0x50..0x61).chain(0x70..0x77).collect::<Vec<u8>>()
        ),
        extension in 0u8..3, channel in prop::sample::select(vec![0, 0x80u8]),
        payload in prop::collection::vec(prop_oneof![0u8..5, any::<u8>()], 0..300),
    ) {
        v2_decode::run(&[&[extension, channel, number], &payload[..]].concat());
    }

    #[test]
    fn damaged_messages(which: prop::sample::Index, at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
        let mut input = which.get(&SEEDS).clone();
        let length = input.len();
        input[at.index(length)] = to;
        v2_decode::run(&input);
        input.truncate(cut.index(length + 1));
        v2_decode::run(&input);
    }
}

proptest! {
    #[test]
    fn noise_instead_of_a_stream(input in prop::collection::vec(any::<u8>(), 0..200)) {
        v2_frame::run(&input);
    }

    #[test]
    fn frames_of_noise(
        frames in prop::collection::vec((any::<u16>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..410)), 0..5),
        piece: u8, cut in 0usize..9,
    ) {
        let mut input = vec![piece];
        for (extension_type, msg_type, payload) in frames {
            input.extend(Header { extension_type, msg_type, length: payload.len() as u32 }.to_bytes());
            input.extend(payload);
        }
        input.truncate(input.len().saturating_sub(cut).max(1));
        v2_frame::run(&input);
    }

    #[test]
    fn a_handshake_with_one_bit_changed(at in 0usize..64 + 234 + 22, bit in 0u32..8) {
        let mut input = vec![0; at + 1];
        v2_handshake::run(&input);
        input[at] = 1 << bit;
        v2_handshake::run(&input);
    }

    #[test]
    fn a_handshake_laid_over_with_noise(input in prop::collection::vec(any::<u8>(), 0..330)) {
        v2_handshake::run(&input);
    }
}
