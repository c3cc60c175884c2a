//! The house stands as docs/ARCHITECTURE.md says: every crate is in the table of rooms, uses only the rooms that its
//! row names, and no arrow points up.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// One row of the table of rooms.
#[derive(Debug, PartialEq, Eq)]
struct Room {
    level: u32,
    may_use: BTreeSet<String>,
}

/// The table with the columns level, crate, what it is, may use, hides: rows by crate.
fn rooms(document: &str) -> BTreeMap<String, Room> {
    let cells = |line: &str| -> Option<Vec<String>> {
        let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Some(inner.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
    };
    let mut rows = document.lines().map(cells).skip_while(|row| {
        !row.as_ref().is_some_and(|row| row.starts_with(&["level".to_owned(), "crate".to_owned()]))
    });
    rows.next().expect("docs/ARCHITECTURE.md has a table whose first columns are level and crate");
    let mut rooms = BTreeMap::new();
    for row in rows.map_while(|row| row).filter(|row| !row[0].starts_with("--")) {
        let [level, name, _, may_use, ..] = &row[..] else {
            panic!("a row without a fourth column: {row:?}")
        };
        let level = level.parse().unwrap_or_else(|_| panic!("the level of {name} is no number: {level}"));
        let may_use =
            may_use.split(',').map(|room| room.trim().trim_matches('`')).filter(|room| *room != "-");
        let room = Room { level, may_use: may_use.map(str::to_owned).collect() };
        assert!(rooms.insert(name.clone(), room).is_none(), "{name} stands in the table twice");
    }
    rooms
}

/// What in `uses` (crate, then the crates of the workspace that it depends on) breaks the table.
fn faults(rooms: &BTreeMap<String, Room>, uses: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, used) in uses {
        let Some(room) = rooms.get(name) else {
            faults.push(format!("the crate {name} is not in the table"));
            continue;
        };
        for lower in used {
            let is_named = room.may_use.contains(lower);
            if !is_named && !room.may_use.contains("all") {
                faults.push(format!("{name} uses {lower}, which its row does not allow"));
            }
            // Beside each other is for those whose row says so by name.
            let down = |other: &Room| other.level < room.level || (other.level == room.level && is_named);
            if !rooms.get(lower).is_some_and(down) {
                faults.push(format!("{name} (level {}) uses {lower}, which is not below it", room.level));
            }
        }
    }
    faults
}

#[test]
fn the_crates_use_each_other_as_the_table_allows() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let document =
        std::fs::read_to_string(format!("{root}/docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md");
    let metadata = MetadataCommand::new().manifest_path(format!("{root}/Cargo.toml")).no_deps().exec();
    let metadata = metadata.expect("cargo metadata");
    let members = metadata.workspace_packages();
    let names: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();
    let uses: BTreeMap<String, BTreeSet<String>> = members
        .iter()
        .map(|package| {
            // Tests may look further: only what is built into the crate counts.
            let built = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
            let ours = built.map(|d| d.name.clone()).filter(|name| names.contains(name.as_str()));
            (package.name.to_string(), ours.collect())
        })
        .collect();
    assert!(uses.len() > 1, "the workspace has more than one crate: {uses:?}");
    let rooms = rooms(&document);
    assert_eq!(faults(&rooms, &uses), Vec::<String>::new());
    let missing: Vec<&String> = rooms.keys().filter(|name| !uses.contains_key(*name)).collect();
    assert!(missing.is_empty(), "in the table, but not in the workspace: {missing:?}");
}

#[test]
fn the_table_is_read_and_each_fault_is_seen() {
    let rooms = rooms(
        "# Text\n| other | table |\n|---|---|\n| 1 | x |\n\n\
         | level | crate | what it is | may use | hides |\n|---|---|---|---|---|\n\
         | 0 | `low` | a | - | b |\n| 0 | `side` | a | - | b |\n| 1 | `mid` | a | low | b |\n| 1 | `near` | a | mid, top | b |\n| 2 | `top` | a | all | b |\n\nMore.\n",
    );
    assert_eq!(rooms.keys().collect::<Vec<_>>(), ["low", "mid", "near", "side", "top"]);
    let check = |name: &str, used: &str, expect: usize| {
        let uses = BTreeMap::from([(name.to_owned(), BTreeSet::from([used.to_owned()]))]);
        assert_eq!(faults(&rooms, &uses).len(), expect, "{name} uses {used}");
    };
    check("mid", "low", 0);
    check("top", "low", 0);
    check("top", "mid", 0);
    check("near", "mid", 0);
    check("near", "top", 1);
    check("top", "top", 1);
    check("mid", "side", 1);
    check("low", "side", 2);
    check("mid", "top", 2);
    check("mid", "near", 2);
    check("cellar", "low", 1);
    check("top", "cellar", 1);
}
