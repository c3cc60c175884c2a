use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn sample() -> Value {
    json!({
        "capabilities": ["proposal"],
        "version": 0x2000_0000,
        "rules": ["csv", "!segwit", "taproot", "!signet"],
        "vbavailable": {},
        "vbrequired": 0,
        "previousblockhash": "000000000000000000014321d4b3f7c2b1a7a9cfae0ab8a4d5b7f7fe5a1a2b3c",
        "transactions": [
            { "data": "0102", "txid": format!("{:064x}", 1), "depends": [], "fee": 4, "sigops": 1, "weight": 9 },
            { "data": "03", "txid": format!("{:064x}", 2) },
        ],
        "coinbaseaux": {},
        "coinbasevalue": 312_512_345,
        "longpollid": "00000000abc17",
        "target": "00000000000000000002c4ae0000000000000000000000000000000000000000",
        "mintime": 1_800_000_000u32,
        "curtime": 1_800_000_600u32,
        "bits": "1702c4ae",
        "height": 900_000,
        "default_witness_commitment": format!("6a24aa21a9ed{}", "ab".repeat(32)),
    })
}

fn read(text: &str) -> Result<Template, NodeError> {
    let Object(wire) = serde_json::from_str(text)
        .map_err(|e| NodeError::Reply { method: "getblocktemplate", why: e.to_string() })?;
    template(wire)
}

#[test]
fn a_template_reads() {
    let template = read(&sample().to_string()).unwrap();
    assert_eq!(template.height, 900_000);
    assert_eq!(template.version, 0x2000_0000);
    assert_eq!(template.prev_hash[..4], [0x3c, 0x2b, 0x1a, 0x5a]);
    assert_eq!(template.bits, 0x1702_c4ae);
    assert_eq!(Some(template.network_target), Target::from_compact(0x1702_c4ae));
    assert_eq!((template.time, template.min_time), (1_800_000_600, 1_800_000_000));
    assert_eq!(template.coinbase_value, 312_512_345);
    assert_eq!(template.witness_commitment.unwrap().len(), 38);
    assert_eq!(template.transactions, [1u8, 2, 3][..]);
    assert_eq!(template.transaction_count, 2);
    let txid = |n| {
        let mut txid = [0; 32];
        txid[0] = n;
        txid
    };
    assert_eq!(template.branch, sha256::branch([txid(1), txid(2)]));
    assert_eq!(template.long_poll.as_deref(), Some("00000000abc17"));
}

fn remove(value: &mut Value, key: &str) {
    value.as_object_mut().unwrap().remove(key);
}

#[test]
fn what_a_node_may_leave_out_or_write_otherwise() {
    let check = |change: fn(&mut Value), good: fn(&Template) -> bool| {
        let mut value = sample();
        change(&mut value);
        assert!(good(&read(&value.to_string()).unwrap()), "{value}");
    };
    check(|v| v["transactions"] = json!([]), |t| t.transactions.is_empty() && t.branch.is_empty());
    check(|v| remove(v, "default_witness_commitment"), |t| t.witness_commitment.is_none());
    check(|v| remove(v, "longpollid"), |t| t.long_poll.is_none());
    check(|v| remove(v, "rules"), |_| true);
    check(|v| v["version"] = json!(-2_147_483_648i64), |t| t.version == 0x8000_0000);
    check(|v| v["version"] = json!(0xffff_0000u32), |t| t.version == 0xffff_0000);
    check(|v| v["bits"] = json!("1702C4AE"), |t| t.bits == 0x1702_c4ae);
    check(|v| v["coinbasevalue"] = json!(0), |t| t.coinbase_value == 0);
}

#[test]
fn nonsense_is_refused_by_name() {
    let check = |key: &str, bad: Value, expect: &str| {
        let mut value = sample();
        value[key] = bad;
        let error = read(&value.to_string()).unwrap_err().to_string();
        assert!(error.contains(expect), "{key}: {error}");
    };
    check("version", json!(1u64 << 32), "version 4294967296 is not 32 bits");
    check("version", json!("2"), "invalid type: string");
    check("rules", json!(["csv", "!future"]), "rule \"future\"");
    check("rules", json!("csv"), "invalid type");
    check("previousblockhash", json!("00ff"), "previousblockhash \"00ff\" is not a hash");
    check("previousblockhash", json!("é".repeat(32)), "is not a hash");
    check("previousblockhash", json!("0".repeat(66)), "is not a hash");
    check("bits", json!("1702c4a"), "bits \"1702c4a\" are not 8 hex digits");
    check("bits", json!("00000000"), "bits 00000000 have no target");
    check("bits", json!("ff123456"), "bits ff123456 have no target");
    check("bits", json!("1702c4af"), "is not what bits 1702c4af say");
    check("target", json!("00"), "is not what bits 1702c4ae say");
    check("height", json!(0), "height 0");
    check("height", json!(1u32 << 31), "height 2147483648");
    check("height", json!(-1), "invalid value");
    check("height", json!(1e300), "invalid type");
    check("coinbasevalue", json!(2_100_000_000_000_001u64), "more than there are bitcoins");
    check("coinbasevalue", json!(-1), "invalid value");
    check("coinbasevalue", json!(1.5), "invalid type");
    check("mintime", json!(1_800_000_601u32), "mintime 1800000601 is after curtime");
    check("curtime", json!(5_000_000_000u64), "invalid value");
    check("default_witness_commitment", json!("00"), "default_witness_commitment \"00\" is none");
    check("default_witness_commitment", json!("zz"), "is none");
    check("default_witness_commitment", json!("6a24aa21a9ed00"), "is none");
    check("transactions", json!(null), "a list of transactions");
    check("transactions", json!([["00", "11".repeat(32)]]), "invalid type: sequence, expected an object");
    check("transactions", json!([{ "txid": "00" }]), "missing field `data`");
    check("transactions", json!([{ "data": "00" }]), "missing field `txid`");
    let tx = |data: &str, txid: &str| json!([{ "data": data, "txid": txid }]);
    let txid = "11".repeat(32);
    check("transactions", tx("0", &txid), "data of transaction 0 is not hex");
    check("transactions", tx("", &txid), "data of transaction 0 is not hex");
    check("transactions", tx("xy", &txid), "data of transaction 0 is not hex");
    check("transactions", tx("é", &txid), "data of transaction 0 is not hex");
    check("transactions", tx("00", "11"), "txid of transaction 0 is not a hash");
}

#[test]
fn a_hostile_text_is_cut_in_messages() {
    let mut value = sample();
    value["target"] = json!(format!("\u{1b}[2J\n{}", "x".repeat(1 << 20)));
    let error = read(&value.to_string()).unwrap_err().to_string();
    assert!(error.len() < 400 && !error.contains(['\n', '\u{1b}']), "{error}");
}

proptest! {
    #[test]
    fn no_cut_and_no_changed_byte_panics(cut in 0usize..1400, at in 0usize..1400, byte in 0u8..128) {
        let text = sample().to_string();
        let _ = read(&text[..cut.min(text.len())]);
        let mut bytes = text.into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = read(&String::from_utf8(bytes).unwrap());
    }
}
