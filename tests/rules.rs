//! docs/STRATUM-V1.md and docs/STRATUM-V2.md hold what they promise: each rule has a row, each test that a row names exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A row of the table: its rules, and the tests that hold them.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    rules: Vec<String>,
    tests: Vec<String>,
}

/// The rows of the table whose first column is called `first`.
fn rows(document: &str, first: &str) -> Vec<Row> {
    let cells = |line: &str| -> Option<Vec<String>> {
        let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Some(inner.split('|').map(|cell| cell.trim().to_owned()).collect())
    };
    let lines = document.lines().map(cells).skip_while(|row| row.as_ref().is_none_or(|row| row[0] != first));
    let table = lines.map_while(|row| row).skip(1).filter(|row| !row[0].starts_with("--"));
    table
        .map(|row| {
            let [rules, _, held] = &row[..] else { panic!("a row of other than three columns: {row:?}") };
            // Every other piece between backquotes is inside of them.
            let names = held.split('`').skip(1).step_by(2);
            Row {
                rules: rules.split(',').map(|rule| rule.trim().to_owned()).collect(),
                tests: names.map(str::to_owned).collect(),
            }
        })
        .collect()
}

/// The names of the tests in a source file.
fn tests(source: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut lines = source.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line != "#[test]" && !line.starts_with("#[tokio::test") {
            continue;
        }
        // Other attributes, and comments, may stand between.
        let function = lines.find(|line| !line.starts_with(['#', '/'])).unwrap_or_default();
        let name = function.trim_start_matches("async ").strip_prefix("fn ");
        found.extend(name.and_then(|rest| rest.split(['(', '<']).next()));
    }
    found
}

/// Every module that a file can be named by (its own name, and those that it is in), with the tests in it.
fn all_tests() -> BTreeMap<String, BTreeSet<String>> {
    let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut pending: Vec<PathBuf> = ["crates", "tests"].map(|name| Path::new(ROOT).join(name)).to_vec();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let place = path.strip_prefix(ROOT).unwrap().with_extension("");
            for module in place.components().map(|part| part.as_os_str().to_string_lossy().into_owned()) {
                modules.entry(module).or_default().extend(tests(&source).into_iter().map(str::to_owned));
            }
        }
    }
    modules
}

/// The rows of a table of a document, whose tests must all exist.
fn rows_of(document: &str, first: &str) -> Vec<Row> {
    let document = fs::read_to_string(format!("{ROOT}/docs/{document}")).unwrap();
    let (rows, modules) = (rows(&document, first), all_tests());
    let exists = |name: &str| {
        name.split_once("::")
            .is_some_and(|(module, test)| modules.get(module).is_some_and(|m| m.contains(test)))
    };
    let named = rows.iter().flat_map(|row| &row.tests);
    let missing: Vec<&String> = named.filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "in the table, but nowhere else: {missing:#?}");
    rows
}

#[test]
fn each_rule_of_v2_has_its_row_and_each_test_of_a_row_exists() {
    let rows = rows_of("STRATUM-V2.md", "rule");
    let rules: Vec<&str> = rows.iter().flat_map(|row| &row.rules).map(String::as_str).collect();
    let expect: Vec<String> = (1..=51).map(|number| format!("V-{number:02}")).collect();
    assert_eq!(rules, expect);
    let without: Vec<&Row> = rows.iter().filter(|row| row.tests.is_empty()).collect();
    assert!(without.is_empty(), "held by nothing: {without:?}");
    // Each test of the server in V2 holds some rule.
    let modules = all_tests();
    let named =
        |name: &str| rows.iter().flat_map(|row| &row.tests).any(|one| one.rsplit("::").next() == Some(name));
    let unnamed: Vec<&String> = modules["v2"].iter().filter(|name| !named(name)).collect();
    let others = [
        // Of `stratum`, of clients, of difficulty and of the house: no rule of the specification for a server.
        "a_good_share_earns_the_work_of_its_target",
        "a_share_of_v2_allocates_nothing_from_the_socket_to_its_reply",
        "a_worker_goes_on_where_it_left",
        "channels_are_counted_and_all_are_given_back",
        "channels_that_change_at_once_share_their_jobs",
        "connects_again_and_tells_of_shares_that_do_not_count",
        "difficulty_follows_speed_and_each_change_is_said_with_a_job",
        "frames_are_taken_off_a_stream",
        "jobs_wait_for_their_block_and_take_the_target_of_the_moment_they_begin",
        "lists_are_read_again_from_where_they_arrived",
        "long_frames_are_refused_by_their_header",
        "mines_on_a_standard_channel",
        "mines_on_an_extended_channel",
        "names_of_workers_that_are_refused",
        "protocols",
        "shares_are_answered_many_at_once_or_one_by_one",
        "sizes_of_the_specification_s_tables",
        "tells_plainly_what_is_wrong",
        "what_ends_a_connection",
        "what_is_longer_than_a_frame_is_not_written",
        "what_stands_behind_a_message_is_handed_on",
        "who_a_proxy_speaks_for_has_channels_by_his_own_address",
        "who_is_paid_apart_is_a_group_apart",
        "without_work_miners_are_let_go",
    ];
    assert_eq!(unnamed, others, "named by no rule");
}

#[test]
fn each_scenario_of_the_reference_implementation_is_tried_by_a_test_that_exists() {
    let rows = rows_of("STRATUM-V2.md", "scenario");
    assert!(rows.len() > 10 && rows.iter().all(|row| !row.tests.is_empty()), "{rows:?}");
}

#[test]
fn each_rule_has_its_row_and_each_test_of_a_row_exists() {
    let rows = rows_of("STRATUM-V1.md", "rule");
    let row = |rule: &str| rows.iter().find(|row| row.rules.iter().any(|one| one == rule));
    for number in 1..=55 {
        let rule = format!("C-{number:02}");
        let row = row(&rule).unwrap_or_else(|| panic!("{rule} has no row"));
        assert!(!row.tests.is_empty(), "{rule} has no test");
        // One of them says so by its name.
        let prefix = format!("c{number:02}_");
        let says =
            |name: &String| name.contains(&format!("::{prefix}")) || name.contains(&format!("_{prefix}"));
        assert!(row.tests.iter().any(says), "no test of {rule} is named after it: {:?}", row.tests);
    }
    for number in (30..=46).filter(|number| *number != 39) {
        assert!(row(&format!("F-{number}")).is_some(), "F-{number} has no row");
    }
}

#[test]
fn the_table_and_the_sources_are_read_as_they_are_written() {
    let text = "Text\n| a | b | c |\n|---|---|---|\n\n| rule | says | held by |\n|---|---|---|\n| C-01, C-02 | x | `a::b`, `c::d` (e) |\n| F-1 | y | none |\n\nMore `x`\n";
    let read = rows(text, "rule");
    let row = |rules: &[&str], tests: &[&str]| Row {
        rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        tests: tests.iter().map(|test| (*test).to_owned()).collect(),
    };
    assert_eq!(read, [row(&["C-01", "C-02"], &["a::b", "c::d"]), row(&["F-1"], &[])]);
    assert_eq!(rows(text, "a"), []);
    let source = "#[test]\nfn one() {}\nfn none() {}\n    #[test]\n    #[should_panic]\n    fn two(\n#[tokio::test(start_paused = true)]\nasync fn three() {}\n// #[test]\nfn four() {}\n";
    assert_eq!(tests(source).into_iter().collect::<Vec<_>>(), ["one", "three", "two"]);
}
