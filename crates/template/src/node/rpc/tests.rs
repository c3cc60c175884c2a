//! What a node, or whatever sits on its port, may send back. The server here knows no Bitcoin: it sends bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// What the server does with one connection, once it has read a request.
#[derive(Clone)]
enum Manner {
    /// Sends this and closes.
    Send(Vec<u8>),
    /// Sends this and keeps the connection open, silent.
    Hang(Vec<u8>),
    /// Sends this bit by bit: so many bytes, then 10 ms of nothing.
    Drip(Vec<u8>, usize),
}

fn http(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Serves `manners` one after the other, the last one for ever; counts requests. On loopback.
async fn server(manners: Vec<Manner>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let manner = manners[count.fetch_add(1, Ordering::SeqCst).min(manners.len() - 1)].clone();
            tokio::spawn(async move {
                // The whole request, else a close looks like a reset.
                let mut request = Vec::new();
                while !request.ends_with(b"}") {
                    if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                match manner {
                    Manner::Send(bytes) => _ = socket.write_all(&bytes).await,
                    Manner::Hang(bytes) => {
                        _ = socket.write_all(&bytes).await;
                        _ = socket.read(&mut [0; 1]).await;
                    }
                    Manner::Drip(bytes, at_once) => {
                        for bit in bytes.chunks(at_once) {
                            if socket.write_all(bit).await.is_err() {
                                break;
                            }
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                }
            });
        }
    });
    (url, served)
}

fn rpc(url: &str) -> Rpc {
    let auth = Auth::Password { user: "u".into(), password: "p".into() };
    let rpc = Rpc::new(RpcConfig { url: url.into(), auth, network: bitcoin::Network::Regtest }).unwrap();
    rpc.on_network.store(true, Ordering::Relaxed);
    rpc
}

async fn check(manner: Manner, tip: &str, submit: &str, template: &str) {
    let (url, _) = server(vec![manner]).await;
    let rpc = rpc(&url);
    let begins = |what: &str, found: String, expect: &str| {
        assert!(found.starts_with(expect), "{what}: {found:?}, not {expect:?}");
    };
    begins("tip", rpc.tip().await.map_or_else(|e| e.to_string(), |tip| format!("{tip:?}")), tip);
    let submitted = rpc.submit(&[1, 2, 3]).await;
    begins("submit", submitted.map_or_else(|e| e.to_string(), |said| format!("{said:?}")), submit);
    let asked = rpc.template(None).await;
    begins("template", asked.map_or_else(|e| e.to_string(), |t| t.height.to_string()), template);
}

#[tokio::test]
async fn every_reply_is_an_answer_or_an_error() {
    let all = |manner, expect: &'static str| async move { check(manner, expect, expect, expect).await };
    let ok = |body: &str| Manner::Send(http("200 OK", body.as_bytes()));
    let page = b"<html><head><title>Welcome</title></head></html>";

    all(Manner::Send(http("401 Unauthorized", b"")), "user or password refused (HTTP 401): check rpc_user")
        .await;
    all(Manner::Send(http("403 Forbidden", b"")), "user or password refused (HTTP 403)").await;
    all(
        Manner::Send(http("503 Busy", b"Work queue depth exceeded")),
        "the node takes no more questions (HTTP 503)",
    )
    .await;
    all(Manner::Send(http("404 Not Found", page)), "HTTP 404, not an RPC reply (it begins \"<html>").await;
    all(Manner::Send(http("302 Found", b"")), "HTTP 302, not an RPC reply").await;
    all(Manner::Send(Vec::new()), "no answer (").await;
    all(Manner::Send(b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()), "no answer (").await;
    all(Manner::Send(http("200 OK", page)[..60].to_vec()), "the reply was cut short (").await;
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n";
    all(Manner::Send(length.into()), "the reply is longer than ").await;
    let length = "HTTP/1.1 200 OK\r\nContent-Length: minus one\r\n\r\n";
    all(Manner::Send(length.into()), "no answer (").await;

    let warming = r#"{"result":null,"error":{"code":-28,"message":"Loading block index…"},"id":1}"#;
    let expect =
        |method| format!("{method}: Loading block index… (RPC error -28): the node is starting; wait");
    for status in ["200 OK", "500 Internal Server Error"] {
        let manner = Manner::Send(http(status, warming.as_bytes()));
        check(manner, &expect("getbestblockhash"), &expect("submitblock"), &expect("getblocktemplate")).await;
    }
    let lonely = r#"{"result":null,"error":{"code":-9,"message":"Bitcoin Core is not connected!"}}"#;
    let lonely = ok(lonely);
    let said =
        |method| format!("{method}: Bitcoin Core is not connected! (RPC error -9): the node has no peers");
    check(lonely, &said("getbestblockhash"), &said("submitblock"), &said("getblocktemplate")).await;

    let not = |method: &str, why: &str| format!("the reply is not what {method} returns: {why}");
    let expect = |why| [not("getbestblockhash", why), not("submitblock", why), not("getblocktemplate", why)];
    for (body, why) in [
        ("", "not whole JSON (EOF while parsing"),
        ("<html>", "not whole JSON (expected value at line 1 column 1); it begins \"<html>\""),
        (r#"{"result":"#, "not whole JSON (EOF while parsing"),
        ("{}", "there is no result"),
        ("null", "invalid type: null"),
        ("17", "invalid type: integer `17`"),
        (r#"{"result":[[["#, "invalid type: sequence"),
        ("[null]", "invalid type: sequence"),
        ("[null,null]", "invalid type: sequence"),
        (r#"[{"result":null}]"#, "invalid type: sequence"),
        (r#"{"error":[1,"oh"]}"#, "invalid type: sequence"),
        (r#"{"error":"oh"}"#, "invalid type: string \"oh\""),
        (r#"{"error":{"message":"no code"}}"#, "missing field `code`"),
        (r#"{"result":17}"#, "invalid type: integer `17`"),
        (r#"{"result":null,"result":null}"#, "duplicate field `result`"),
    ] {
        let [tip, submit, template] = expect(why);
        check(ok(body), &tip, &submit, &template).await;
    }
    let cannot = not("getblocktemplate", "invalid type: string");
    check(
        ok(r#"{"result":"no hash"}"#),
        &not("getbestblockhash", "\"no hash\" is not a hash"),
        "Refused(\"no hash\")",
        &cannot,
    )
    .await;
    let [tip, _, template] = expect("the result is null");
    check(ok(r#"{"result":null,"error":null}"#), &tip, "Accepted", &template).await;
    // What is wrong is quoted, but not all of it.
    let (url, _) =
        server(vec![ok(&format!(r#"{{"result":{{"version":"{}"}}}}"#, "x".repeat(100_000)))]).await;
    let error = rpc(&url).template(None).await.unwrap_err().to_string();
    assert!(error.contains("invalid type: string") && error.len() < 400, "{} bytes", error.len());
    let hostile = format!(r#"{{"error":{{"code":-1,"message":"\u001b[2J\n{}"}}}}"#, "x".repeat(100_000));
    let [tip, submit, template] =
        ["getbestblockhash", "submitblock", "getblocktemplate"].map(|m| format!("{m}:  [2J xxxx"));
    check(ok(&hostile), &tip, &submit, &template).await;
}

#[tokio::test]
async fn twenty_megabytes_and_deep_nests() {
    let long = format!("the reply is longer than {MIB} bytes");
    let garbage = Manner::Send(http("200 OK", &vec![b'x'; 20 * MIB]));
    let template = "the reply is not what getblocktemplate returns: not whole JSON (expected value";
    check(garbage, &long, &long, template).await;
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; TEMPLATE_LIMIT + 1]].concat();
    check(Manner::Send(endless), &long, &long, &format!("the reply is longer than {TEMPLATE_LIMIT} bytes"))
        .await;
    let nest = format!(r#"{{"other":{}"#, "[".repeat(MIB / 2));
    let not = |method| format!("the reply is not what {method} returns: not whole JSON (");
    let manner = Manner::Send(http("200 OK", nest.as_bytes()));
    check(manner, &not("getbestblockhash"), &not("submitblock"), &not("getblocktemplate")).await;
}

#[tokio::test]
async fn silence_ends_in_time() {
    for begun in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"result\":"] {
        let (url, _) = server(vec![Manner::Hang(begun.to_vec())]).await;
        let mut rpc = rpc(&url);
        let short = Duration::from_millis(300);
        rpc.budgets.question.0 = short;
        rpc.budgets.block.0 = short;
        rpc.budgets.template.0 = short;
        rpc.budgets.long_poll.0 = short;
        let timed_out = |e: Option<NodeError>| assert!(matches!(e, Some(NodeError::Timeout(_))), "{e:?}");
        timed_out(rpc.tip().await.err());
        timed_out(rpc.submit(&[1]).await.err());
        timed_out(rpc.template(None).await.err());
        timed_out(rpc.template(Some("id")).await.err());
        timed_out(rpc.depth(&[0; 32]).await.err());
    }
}

#[tokio::test]
async fn a_reply_that_drips_is_whole_in_time_or_not_waited_for() {
    let body = format!(r#"{{"result":"{}"}}"#, "ab".repeat(32));
    let (url, _) = server(vec![Manner::Drip(http("200 OK", body.as_bytes()), 10)]).await;
    let mut rpc = rpc(&url);
    *rpc.last_tip.lock().unwrap() = Some(Tip { hash: [0xab; 32], height: 7 });
    assert_eq!(rpc.tip().await.unwrap().height, 7);
    // Every byte is in time, and the whole is not.
    rpc.budgets.question.0 = Duration::from_millis(60);
    assert!(matches!(rpc.tip().await, Err(NodeError::Timeout(_))));
}

#[tokio::test]
async fn replies_in_chunks_and_through_gateways() {
    let all = |manner, expect: &'static str| async move { check(manner, expect, expect, expect).await };
    let chunked = |chunks: &str| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        Manner::Send(format!("{head}{chunks}").into_bytes())
    };
    let hash = "ab".repeat(32);
    let (url, _) =
        server(vec![chunked(&format!("b\r\n{{\"result\":\"\r\n42\r\n{hash}\"}}\r\n0\r\n\r\n"))]).await;
    let rpc = rpc(&url);
    *rpc.last_tip.lock().unwrap() = Some(Tip { hash: [0xab; 32], height: 7 });
    assert_eq!(rpc.tip().await.unwrap().height, 7);
    all(chunked("b\r\n{\"result\":\""), "the reply was cut short (").await;
    all(chunked("b\r\n{\"res"), "the reply was cut short (").await;
    all(chunked("zz\r\n"), "the reply was cut short (").await;
    all(chunked("ffffffffffffffffff\r\n{"), "the reply was cut short (").await;

    let page = b"<html><head><title>502 Bad Gateway</title></head></html>";
    all(Manner::Send(http("502 Bad Gateway", page)), "HTTP 502, not an RPC reply (it begins \"<html>").await;
    all(Manner::Send(http("500 Oh", page)), "HTTP 500, not an RPC reply (it begins \"<html>").await;
    all(Manner::Send(http("500 Oh", br#"{"result":"0","error":null}"#)), "HTTP 500, not an RPC reply").await;
    all(Manner::Send(http("400 Bad Request", &[0xff; 64])), "HTTP 400, not an RPC reply").await;
    all(Manner::Send(b"HTTP/1.1 200 O".to_vec()), "no answer (").await;
    // Twenty megabytes before there is anything to read.
    let endless = [&b"HTTP/1.1 200 OK\r\n"[..], &b"X-Nothing: at all\r\n".repeat(MIB + MIB / 20)].concat();
    all(Manner::Send(endless), "no answer (").await;
}

/// Questions that no table above asks fail in the same way as those that are asked there.
#[tokio::test]
async fn every_question_fails_alike() {
    let ok = |body: &str| Manner::Send(http("200 OK", body.as_bytes()));
    for manner in [
        Manner::Send(http("401 Unauthorized", b"")),
        Manner::Send(http("503 Busy", b"Work queue depth exceeded")),
        Manner::Send(http("404 Not Found", b"<html>")),
        Manner::Send(Vec::new()),
        Manner::Send(http("200 OK", b"{\"result\":null}")[..50].to_vec()),
        Manner::Send(http("200 OK", &vec![b'x'; 20 * MIB])),
        ok("<html>"),
        ok(""),
        ok("{}"),
        ok(r#"{"result":null}"#),
        ok(r#"{"result":17}"#),
        ok(r#"{"result":[]}"#),
        ok(r#"{"error":{"code":-28,"message":"Loading"}}"#),
    ] {
        let (url, _) = server(vec![manner]).await;
        let rpc = rpc(&url);
        let tip = std::mem::discriminant(&rpc.tip().await.unwrap_err());
        let depth = rpc.depth(&[1; 32]).await.unwrap_err();
        assert_eq!(std::mem::discriminant(&depth), tip, "{depth}");
        let check = rpc.check().await.unwrap_err();
        assert_eq!(std::mem::discriminant(&check), tip, "{check}");
        // Before a first template, the chain is asked for.
        rpc.on_network.store(false, Ordering::Relaxed);
        let template = rpc.template(Some("id")).await.unwrap_err();
        assert_eq!(std::mem::discriminant(&template), tip, "{template}");
    }
    let (url, _) = server(vec![ok(r#"{"result":{"chain":"main"}}"#)]).await;
    let rpc = rpc(&url);
    rpc.on_network.store(false, Ordering::Relaxed);
    let error = rpc.template(None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the node is on chain \"main\", the configuration says \"regtest\": one of them is wrong"
    );
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = rpc(&url).tip().await.unwrap_err().to_string();
    assert!(error.starts_with("no answer (Connection refused"), "{error}");
}

#[tokio::test]
async fn a_cookie_is_read_again_when_the_node_has_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".cookie");
    let hash = "ab".repeat(32);
    let good = |body: String| Manner::Send(http("200 OK", body.as_bytes()));
    let refused = Manner::Send(http("401 Unauthorized", b""));
    let manners = vec![
        good(format!(r#"{{"result":"{hash}"}}"#)),
        good(r#"{"result":{"height":5,"confirmations":1}}"#.into()),
        refused.clone(),
        good(format!(r#"{{"result":"{hash}"}}"#)),
        refused,
    ];
    let (url, served) = server(manners).await;
    let auth = Auth::Cookie(path.clone());
    let rpc = Rpc::new(RpcConfig { url, auth, network: bitcoin::Network::Regtest }).unwrap();

    let error = rpc.tip().await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot read the cookie file {} (No such file", path.display())),
        "{error}"
    );
    std::fs::write(&path, "nonsense").unwrap();
    let error = rpc.tip().await.unwrap_err().to_string();
    assert!(error.contains("it does not hold user:password"), "{error}");

    std::fs::write(&path, "__cookie__:one\n").unwrap();
    assert_eq!(rpc.tip().await.unwrap(), Tip { hash: [0xab; 32], height: 5 });
    // 401, read again, asked again; the height is known for this hash.
    assert_eq!(rpc.tip().await.unwrap(), Tip { hash: [0xab; 32], height: 5 });
    assert_eq!(served.load(Ordering::SeqCst), 4);
    // Still 401 with what the file holds now: no endless loop.
    assert!(matches!(rpc.tip().await, Err(NodeError::Credentials { status: 401 })));
    assert_eq!(served.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn depths() {
    let check = |body: &'static str, expect: Result<Depth, &'static str>| async move {
        let (url, _) = server(vec![Manner::Send(http("200 OK", body.as_bytes()))]).await;
        match (rpc(&url).depth(&[1; 32]).await, expect) {
            (Ok(depth), Ok(expect)) => assert_eq!(depth, expect),
            (Err(e), Err(expect)) => assert!(e.to_string().contains(expect), "{e}"),
            (found, expect) => panic!("{found:?}, not {expect:?}"),
        }
    };
    check(r#"{"result":{"height":5,"confirmations":1}}"#, Ok(Depth::OnChain(1))).await;
    check(r#"{"result":{"height":5,"confirmations":101}}"#, Ok(Depth::OnChain(101))).await;
    check(r#"{"result":{"height":5,"confirmations":-1}}"#, Ok(Depth::OffChain)).await;
    check(r#"{"result":{"height":5,"confirmations":0}}"#, Ok(Depth::OffChain)).await;
    check(r#"{"result":null,"error":{"code":-5,"message":"Block not found"}}"#, Ok(Depth::Unknown)).await;
    check(r#"{"result":[5,1]}"#, Err("invalid type: sequence")).await;
    check(r#"{"result":{"height":5}}"#, Err("missing field `confirmations`")).await;
    check(r#"{"result":{"height":-5,"confirmations":1}}"#, Err("invalid value")).await;
}

#[test]
fn what_a_node_says_to_a_block() {
    let check = |word: &str, expect: fn(String) -> Submitted| {
        assert_eq!(submitted(word.into()), expect(word.into()));
    };
    check("duplicate", |_| Submitted::Known);
    for word in ["inconclusive", "duplicate-inconclusive", "prev-blk-not-found", "valid?"] {
        check(word, Submitted::Unclear);
    }
    for word in
        ["duplicate-invalid", "rejected", "high-hash", "bad-cb-amount", "time-too-new", "", "anything"]
    {
        check(word, Submitted::Refused);
    }
}

#[test]
fn addresses() {
    let check = |url: &str, expect: Result<&str, &str>| {
        let auth = Auth::Password { user: "u".into(), password: "secret".into() };
        let made = Rpc::new(RpcConfig { url: url.into(), auth, network: bitcoin::Network::Bitcoin });
        match (made, expect) {
            (Ok(rpc), Ok(name)) => assert_eq!(rpc.name(), name),
            (Err(e), Err(expect)) => {
                assert!(e.to_string().contains(expect), "{e}");
                assert!(!e.to_string().contains("secret"), "{e}");
            }
            (made, _) => panic!("{url}: {:?}", made.map(|rpc| rpc.name().to_owned())),
        }
    };
    check("http://127.0.0.1:38332", Ok("127.0.0.1:38332"));
    check("http://node.example:8332/wallet/x", Ok("node.example:8332"));
    check("http://[::1]:8332", Ok("[::1]:8332"));
    check("127.0.0.1:38332", Err("node address \"127.0.0.1:38332\" is not usable ("));
    check("https://127.0.0.1", Err("plain http only"));
    check(
        "http://u:secret@127.0.0.1",
        Err("node address \"127.0.0.1\" is not usable (user and password belong"),
    );
    check("", Err("is not usable"));
    let auth = Auth::Password { user: "u".into(), password: "secret".into() };
    assert!(!format!("{auth:?}").contains("secret"));
}
