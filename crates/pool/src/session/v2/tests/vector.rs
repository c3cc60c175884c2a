//! A block of Stratum V2 with all that it is made of, which other software has come to the same hash for.

use share::{Coinbase, Rules};
use stratum::v2::wire::{B32, B64K, Seq255};

use super::*;

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

#[test]
fn the_end_to_end_share_gives_its_block_hash() {
    let coinbase_tx_prefix = bytes(
        "02000000010000000000000000000000000000000000000000000000000000000000000000ffffffff2a5200065376322f2f2f20",
    );
    let coinbase_tx_suffix = bytes(
        "ffffffff0200f2052a01000000160014ebe1b7dcc293ccaa0ee743a86f89df8258c208fc\
         0000000000000000266a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf900000000",
    );
    let extranonce_prefix = [&[0; 23][..], &[1]].concat();
    let (mut job, mut share) = (Vec::new(), Vec::new());
    encode(
        &NewExtendedMiningJob {
            channel_id: 1,
            job_id: 1,
            min_ntime: None,
            version: 0x2000_0000,
            version_rolling_allowed: true,
            merkle_path: Seq255::new(&[]).unwrap(),
            coinbase_tx_prefix: B64K::cut(&coinbase_tx_prefix),
            coinbase_tx_suffix: B64K::cut(&coinbase_tx_suffix),
        },
        &mut job,
    );
    encode(
        &SubmitSharesExtended {
            channel_id: 1,
            sequence_number: 0,
            job_id: 1,
            nonce: 0,
            ntime: 1_745_596_971,
            version: 536_870_912,
            extranonce: B32::cut(&[1, 0, 0, 0, 0, 0, 0, 0]),
        },
        &mut share,
    );
    // There and back over the wire.
    let decode = |bytes: &'static [u8]| {
        Mining::decode(Frame::next(&mut &bytes[..], 1 << 16).unwrap().unwrap()).unwrap().0
    };
    let (Mining::NewExtendedMiningJob(job), Mining::SubmitSharesExtended(share)) =
        (decode(job.leak()), decode(share.leak()))
    else {
        panic!("other messages")
    };
    let bits = 545_259_519;
    let job = share::Job {
        version: job.version,
        prev_hash: bytes("fbaf6a2823577a5a3a334e20caece4249aaece9093c315e0c367d6bd33be1862")
            .try_into()
            .unwrap(),
        coinbase: Coinbase::new(job.coinbase_tx_prefix.get().into(), job.coinbase_tx_suffix.get().into(), 32),
        branch: job.merkle_path.iter().collect(),
        min_time: 1_745_596_910,
        time: 1_745_596_910,
        bits,
        network_target: Target::from_compact(bits).unwrap(),
        height: 2,
    };
    let extranonce = Extranonce::new(&[&extranonce_prefix, share.extranonce.get()]).unwrap();
    let submission = Submission { extranonce, time: share.ntime, nonce: share.nonce, version: share.version };
    let root = sha256::fold(job.coinbase.txid(&extranonce), &job.branch);
    assert_eq!(hex::encode(root), "cae378f9a9dc0d816aa282f36506f209ece36dd90eb50781a25798a509763a05");
    // The target of one hash a second, at one share a minute.
    let target = "04325c53ef368eb04325c53ef368eb04325c53ef368eb04325c53ef368eb0431";
    let target: Vec<u8> = bytes(target).into_iter().rev().collect();
    let target = Target::from_le_bytes(target.try_into().unwrap());
    let rules = Rules { target, version_mask: 0x1fff_ffe0, now: share.ntime, stale: false };
    let verdict = share::check(&job, &submission, &rules);
    let hash: Vec<u8> = verdict.hash.into_iter().rev().collect();
    assert_eq!(hex::encode(hash), "6b356f9f445f4cdfab140f69ff66803f8f98a0d8bcd089dc7d2bdeeee74a5f83");
    assert!(verdict.is_block, "the network asks for less than the channel");
    assert_eq!(verdict.share, Err(Reason::LowDifficulty));
}
