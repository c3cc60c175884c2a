use super::*;

const KEY: &str = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";

#[test]
fn the_key_of_the_specification() {
    let key: AuthorityPublicKey = KEY.parse().unwrap();
    let bytes = hex::encode(key.to_bytes());
    assert!(bytes.starts_with("76637000") && bytes.ends_with("8a7455"), "{bytes}");
    assert_eq!(key.to_string(), KEY);
    assert_eq!(AuthorityPublicKey::from_bytes(key.to_bytes()), Ok(key));
}

#[test]
fn secrets_as_text_and_their_public_keys() {
    let check = |secret: &str, public: &str| {
        let key: AuthorityKey = secret.parse().unwrap();
        assert_eq!(key.public().to_string(), public);
        assert_eq!(key.to_secret_text(), secret);
        assert_eq!(format!("{key:?}"), format!("AuthorityKey({public})"));
    };
    check(
        "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n",
        "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72",
    );
    check(
        "zmBEmPhqo3A92FkiLVvyCz6htc3e53ph3ZbD4ASqGaLjwnFLi",
        "9bDuixKmZqAJnrmP746n8zU1wyAQRrus7th9dxnkPg6RzQvCnan",
    );
}

#[test]
fn what_is_no_key() {
    let check = |text: &str, why| assert_eq!(text.parse::<AuthorityPublicKey>(), Err(why), "{text}");
    check("", InvalidText::Base58);
    check("9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXi", InvalidText::Base58);
    check("0bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh", InvalidText::Base58);
    check(&"9".repeat(65), InvalidText::Form);
    let text = |version: u16, key: &[u8]| base58ck::encode_check(&[&version.to_le_bytes()[..], key].concat());
    check(&text(0, &[2; 32]), InvalidText::Form);
    check(&text(0x100, &[2; 32]), InvalidText::Form);
    check(&text(1, &[2; 31]), InvalidText::Form);
    check(&text(1, &[2; 33]), InvalidText::Form);
    // No point of the curve has the first x coordinate; the field is smaller than the second.
    check(&text(1, &[0; 32]), InvalidText::Key(InvalidKey));
    check(&text(1, &[0xff; 32]), InvalidText::Key(InvalidKey));

    let secret = |bytes: &[u8]| base58ck::encode_check(bytes).parse::<AuthorityKey>().map(|_| ());
    assert_eq!(secret(&[1; 32]), Ok(()));
    assert_eq!(secret(&[1; 31]), Err(InvalidText::Form));
    assert_eq!(secret(&[0; 32]), Err(InvalidText::Key(InvalidKey)));
    assert_eq!(secret(&[0xff; 32]), Err(InvalidText::Key(InvalidKey)));
}

#[test]
fn urls() {
    let check = |host: &str, place: &str| {
        let text = format!("stratum2+tcp://{place}/{KEY}");
        let url: PoolUrl = text.parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.key), (host, 3336, KEY.parse().unwrap()));
        assert_eq!(url.to_string(), text);
    };
    check("pool.example", "pool.example:3336");
    check("127.0.0.1", "127.0.0.1:3336");
    check("::1", "[::1]:3336");

    let wrong = |text: &str| assert_eq!(text.parse::<PoolUrl>(), Err(InvalidText::Url), "{text}");
    wrong("");
    wrong(KEY);
    wrong(&format!("stratum+tcp://pool:1/{KEY}"));
    wrong(&format!("stratum2+tcp://pool/{KEY}"));
    wrong(&format!("stratum2+tcp://:1/{KEY}"));
    wrong(&format!("stratum2+tcp://pool:65536/{KEY}"));
    wrong(&format!("stratum2+tcp://::1:1/{KEY}"));
    wrong("stratum2+tcp://pool:1");
    assert_eq!("stratum2+tcp://pool:1/".parse::<PoolUrl>(), Err(InvalidText::Base58));
}
