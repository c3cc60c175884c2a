use ledger::Scheme;
use share::Difficulty;

use super::*;

/// The sample that is shipped: it must stay right.
const SAMPLE: &str = include_str!("../../../../sluice.example.toml");

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let overrides = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    file::File::parse(text, &overrides).and_then(Config::check)
}

#[test]
fn the_sample_is_good() {
    let config = load(SAMPLE, &[]).unwrap();
    assert_eq!(config.network, Network::Signet);
    assert_eq!(config.terms.fee_ppm, 10_000);
    assert_eq!(config.nodes.len(), 1);
    let days = |age: Duration| age.as_secs() / 86_400;
    assert_eq!((days(config.ledger.worker_age), days(config.ledger.slot_age)), (7, 90));
}

#[test]
fn there_must_be_something_to_listen_on() {
    let v2_only = SAMPLE.replace("v1 = [\"0.0.0.0:3333\"]", "v1 = []");
    assert!(load(&v2_only, &[]).is_ok_and(|config| config.v1.is_empty() && config.v2.len() == 1));
    let none = v2_only.replace("v2 = [\"0.0.0.0:3336\"]", "v2 = []");
    let error = load(&none, &[]).unwrap_err();
    assert!(error.contains("stratum.v1 and stratum.v2 are empty"), "{error}");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let check = |from: &str, to: &str, expect: &str| {
        assert!(SAMPLE.contains(from), "the sample has no {from}");
        let error = load(&SAMPLE.replacen(from, to, 1), &[]).unwrap_err();
        assert!(error.contains(expect), "{to}: {error}");
        assert!(!error.contains('\n'), "{error}");
    };
    check("network = \"signet\"", "network = \"litecoin\"", "main, testnet4, signet, regtest");
    check("network = \"signet\"", "network = \"main\"", "not of the network");
    check("network = \"signet\"", "colour = \"red\"\nnetwork = \"signet\"", "line 3: unknown field `colour`");
    check("tag = \"/sluice/\"", "tagg = \"/sluice/\"", "unknown field `tagg`");
    check("fee_percent = 1.0", "fee_percent = 101.0", "pool.fee_percent");
    check("fee_percent = 1.0", "fee_percent = 1.00001", "pool.fee_percent");
    check("fee_percent = 1.0", "fee_percent = \"much\"", "line ");
    check("scheme = \"pplns\"", "scheme = \"ponzi\"", "choose pplns or solo");
    check("pplns_factor = 2", "pplns_factor = 0", "at least one block");
    check("pplns_factor = 2", "pplns_factor = 1001", "at most 1000 blocks");
    check("payout = \"balance\"", "payout = \"cash\"", "choose balance or coinbase");
    check("output_min_sats = 10000", "output_min_sats = 545", "dust; give at least that");
    check("coinbase_outputs = 400", "coinbase_outputs = 0", "give 1 to 4000");
    let bought = SAMPLE.replacen("scheme = \"pplns\"", "scheme = \"fpps\"", 1);
    let error = load(&bought.replacen("payout = \"balance\"", "payout = \"coinbase\"", 1), &[]).unwrap_err();
    assert!(error.contains("the pool buys work and keeps blocks"), "{error}");
    check("slot_days = 90", "slot_days = 6", "ledger.slot_days = 6 is less than ledger.worker_days = 7");
    check("worker_days = 7", "worker_days = -1", "invalid value: integer `-1`");
    check("min = 0.001", "min = 1e13", "vardiff.min");
    check("min = 0.001", "min = -1.0", "vardiff.min");
    check("min = 0.001", "min = 2000.0", "vardiff.start = 1024");
    check("shares_per_minute = 10.0", "shares_per_minute = 0.0", "vardiff.shares_per_minute");
    check("rpc_user = \"sluice\"", "cookie = \"/tmp/.cookie\"\nrpc_user = \"sluice\"", "not both");
    check("rpc_user = \"sluice\"", "", "rpc_user and rpc_password");
    check("rpc = \"http://127.0.0.1:38332\"", "rpc = \"127.0.0.1:38332\"", "node 1");
    check("v1 = [\"0.0.0.0:3333\"]", "v1 = [\"3333\"]", "stratum.v1");
    check("v2 = [\"0.0.0.0:3336\"]", "v2 = [\"pool\"]", "stratum.v2");
    check("v2 = [\"0.0.0.0:3336\"]", "v2 = [\"0.0.0.0:3333\"]", "stratum.v1 and stratum.v2");
    check("v2 = [\"0.0.0.0:3336\"]", "v2 = [\"127.0.0.1:8080\"]", "api.listen and stratum.v2");
    check("# ack_shares = 10", "ack_shares = 0", "stratum.ack_shares");
    check("# ack_seconds = 1.0", "ack_seconds = -1.0", "stratum.ack_seconds");
    check("# certificate_validity = 86400", "certificate_validity = 60", "stratum.certificate_validity");
    for key in ["channels", "channels_per_address", "channels_per_network", "channels_in_all"] {
        check("\n[ledger]", &format!("\n[limits]\n{key} = 0\n[ledger]"), "at least 1");
    }
    check("v1 = [\"0.0.0.0:3333\"]", "v1 = [\"127.0.0.1:8080\"]", "api.listen and stratum.v1");
    let tls = "v1 = [\"0.0.0.0:3333\"]\nv1_tls = [\"0.0.0.0:3334\"]";
    check("v1 = [\"0.0.0.0:3333\"]", tls, "tls_certificate and stratum.tls_key");
    let half = "v1 = [\"0.0.0.0:3333\"]\ntls_key = \"key.pem\"";
    check("v1 = [\"0.0.0.0:3333\"]", half, "both tls_certificate and tls_key");
    let missing = format!("{half}\ntls_certificate = \"/nowhere/cert.pem\"");
    check("v1 = [\"0.0.0.0:3333\"]", &missing, "cannot read /nowhere/cert.pem");
    check("v1 = [\"0.0.0.0:3333\"]", "v1 = []\nproxies = [\"me\"]", "stratum.proxies");
    check("v1 = [\"0.0.0.0:3333\"]", "v1 = [\"0.0.0.0:3333\"]\nproxies = [\"me\"]", "stratum.proxies");
    check("url = \"sqlite://sluice.db\"", "url = \"mysql://x\"", "sqlite:// with a file, or postgres://");
    check("\n[ledger]", "\n[limits]\nline = 100\n[ledger]", "limits.line");
    check("\n[ledger]", "\n[limits]\ntrusted = [\"here\"]\n[ledger]", "limits.trusted");
    check("\n[ledger]", "\n[limits]\nper_address = 0\n[ledger]", "at least 1");
    check("url = \"sqlite://sluice.db\"", "url = \"sqlite::memory:\"", "sqlite:// with a file");
    check("http://127.0.0.1:38332", "http://127.0.0.1:99999", "node 1: rpc = ");
    check("kxpjzsx", "kxpjzsy", "no Bitcoin address");
    check("[api]", "[api", "line ");
}

#[test]
fn every_scheme_is_one_and_says_what_it_comes_to() {
    let check = |scheme: &str, payout: &str, expect: (Scheme, bool), says: &str| {
        let set = [("POOL__SCHEME", scheme), ("POOL__PAYOUT", payout)];
        let config = load(SAMPLE, &set).unwrap();
        assert_eq!((config.terms.scheme, config.direct.is_some()), expect, "{scheme} {payout}");
        assert!(config.to_string().contains(says), "{config}");
    };
    check("solo", "balance", (Scheme::Solo, false), "to its finder");
    check("solo", "coinbase", (Scheme::Solo, false), "to its finder");
    check(
        "pplns",
        "balance",
        (Scheme::Pplns { factor: 2 }, false),
        "last 2 blocks' worth of shares; paid from balances",
    );
    check(
        "pplns",
        "coinbase",
        (Scheme::Pplns { factor: 2 }, true),
        "paid by the coinbase from 10000 satoshi",
    );
    check("tides", "coinbase", (Scheme::Tides, true), "last 8 blocks' worth");
    check("tides", "balance", (Scheme::Tides, false), "paid from balances");
    check("pps", "balance", (Scheme::Pps { factor: 2 }, false), "its part of the subsidy at once");
    check("fpps", "balance", (Scheme::Fpps { factor: 2 }, false), "the mean fees at once");
    check("pps_plus", "balance", (Scheme::PpsPlus { factor: 2 }, false), "the fees of a block are divided");
    let free = load(SAMPLE, &[("POOL__SCHEME", "pps"), ("POOL__FEE_PERCENT", "0.0")]).unwrap();
    assert!(free.to_string().contains("the reserve is used up"), "{free}");
}

#[test]
fn who_allows_a_connection_more_channels_allows_them_to_all() {
    let channels = |set: &[(&str, &str)]| {
        let Limits { channels, channels_per_address, channels_per_network, channels_in_all, .. } =
            load(SAMPLE, set).unwrap().limits;
        [channels, channels_per_address, channels_per_network, channels_in_all]
    };
    assert_eq!(channels(&[]), [10_000, 20_000, 40_000, 100_000]);
    assert_eq!(channels(&[("LIMITS__CHANNELS", "30000")]), [30_000, 30_000, 40_000, 100_000]);
    let both = [("LIMITS__CHANNELS", "30000"), ("LIMITS__CHANNELS_PER_ADDRESS", "5")];
    assert_eq!(channels(&both), [30_000, 5, 40_000, 100_000], "what is said holds");
}

#[test]
fn who_lets_miners_go_between_two_templates_is_told() {
    let check = |seconds: &str, is_told: bool| {
        let config = load(SAMPLE, &[("LIMITS__NO_WORK", seconds)]).unwrap().to_string();
        assert_eq!(config.contains("note: limits.no_work = "), is_told, "{config}");
    };
    check("5", true);
    check("44", true);
    check("45", false);
    check("120", false);
}

#[test]
fn every_key_of_the_sample_is_one() {
    // What is commented out is at its default: with the marks taken off it must say the same.
    let uncommented: Vec<String> = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with('[') => rest.to_owned(),
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => {
                rest.to_owned()
            }
            _ => line.to_owned(),
        })
        .collect();
    let dir = tempfile::TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["pool.example".to_owned()]).unwrap();
    std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let here = dir.path().to_str().unwrap();
    let full = load(&uncommented.join("\n").replace("/etc/sluice", here), &[]).unwrap();
    let short = load(SAMPLE, &[]).unwrap();
    assert!(full.tls.is_some() && full.v1_tls.len() == 1 && full.proxies.len() == 1);
    let trusted = full.trusted.strip_suffix(&full.proxies[..]).unwrap().to_vec();
    assert_eq!(format!("{:?}", full.limits), format!("{:?}", short.limits));
    assert_eq!((full.acks, full.certificate_validity), (short.acks, short.certificate_validity));
    assert_eq!(full.spool_config.mapped, short.spool_config.mapped);
    assert_eq!((full.v2, full.authority_key), (short.v2, short.authority_key));
    assert_eq!((trusted, full.terms, full.instance), (short.trusted, short.terms, short.instance));
}

#[test]
fn the_environment_overrides() {
    let config = load(
        SAMPLE,
        &[
            ("LEDGER__URL", "postgres://sluice@db/sluice"),
            ("VARDIFF__START", "0.5"),
            ("STRATUM__V1", "[\"127.0.0.1:1\", \"127.0.0.1:2\"]"),
            ("NODE__0__RPC_PASSWORD", "new"),
            ("POOL__TAG", "hello world"),
            ("LEDGER__MAPPED", "false"),
        ],
    )
    .unwrap();
    assert_eq!(config.ledger_url, "postgres://sluice@db/sluice");
    assert_eq!(config.vardiff.start, Difficulty::new(0.5).unwrap());
    assert_eq!(config.v1.len(), 2);
    assert_eq!(config.tag, "hello world");
    assert!(!config.spool_config.mapped && load(SAMPLE, &[]).unwrap().spool_config.mapped);
    assert!(matches!(&config.nodes[0].rpc.auth, Auth::Password { password, .. } if password == "new"));

    let error = load(SAMPLE, &[("POOL__COLOUR", "red")]).unwrap_err();
    assert!(error.contains("unknown field `colour`") && error.contains("SLUICE__POOL__COLOUR"), "{error}");
    let error = load(SAMPLE, &[("NODE__7__RPC", "http://x")]).unwrap_err();
    assert!(error.contains("SLUICE__NODE__7__RPC"), "{error}");
}
