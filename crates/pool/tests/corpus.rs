//! What fuzzing of sessions came upon, and what it began with, once more: see `fuzz/`.

#[path = "../../../fuzz/src/cutter.rs"]
mod cutter;
#[path = "../../../fuzz/src/v1_session.rs"]
mod v1_session;

#[test]
fn sessions() {
    let files = std::fs::read_dir("../../fuzz/corpus/v1_session").expect("a corpus");
    let inputs: Vec<_> =
        files.map(|file| std::fs::read(file.expect("a file").path()).expect("bytes")).collect();
    assert!(inputs.len() >= 20, "{} inputs", inputs.len());
    inputs.iter().for_each(|input| v1_session::run(input));
}
