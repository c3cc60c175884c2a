//! What fuzzing of sessions came upon, and what it began with, once more: see `fuzz/`.

#[path = "../../../fuzz/src/cutter.rs"]
mod cutter;
#[path = "../../../fuzz/src/v1_session.rs"]
mod v1_session;
#[path = "../../../fuzz/src/v2_session.rs"]
mod v2_session;

fn all(corpus: &str, run: fn(&[u8])) {
    let files = std::fs::read_dir(format!("../../fuzz/corpus/{corpus}")).expect("a corpus");
    let inputs: Vec<_> =
        files.map(|file| std::fs::read(file.expect("a file").path()).expect("bytes")).collect();
    assert!(inputs.len() >= 20, "{} inputs", inputs.len());
    inputs.iter().for_each(|input| run(input));
}

#[test]
fn sessions() {
    all("v1_session", v1_session::run);
}

#[test]
fn sessions_of_v2() {
    all("v2_session", v2_session::run);
}
