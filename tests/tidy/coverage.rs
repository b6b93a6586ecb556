//! The maps from the statements that bind a server, and from what brokers get wrong most often, to
//! the tests that show them: they are whole, and what they name exists.
//! What must not live here: whether a test shows what it is named for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::none;
use crate::source::{Source, sources};

const MAP: &str = "tests/e2e/coverage.tsv";

/// How many statements with an identifier bind a server, by version, in the map's order.
const STATEMENTS: [(&str, usize); 2] = [("3.1.1", 125), ("5.0", 225)];

/// What stands for a statement that only the simulator shows.
const SIMULATOR: &str = "sim";

/// One statement.
struct Line<'a> {
    number: usize,
    version: &'a str,
    id: &'a str,
    tests: &'a str,
    remark: &'a str,
}

/// The lines, and the numbers of those that do not have four fields.
fn lines(map: &Source) -> (Vec<Line<'_>>, Vec<usize>) {
    let (mut lines, mut misshapen) = (Vec::new(), Vec::new());
    for (index, line) in map.text.lines().enumerate().skip(1) {
        let number = index + 1;
        match line.split('\t').collect::<Vec<_>>()[..] {
            [version, id, tests, remark] => {
                lines.push(Line { number, version, id, tests, remark });
            }
            _ => misshapen.push(number),
        }
    }
    (lines, misshapen)
}

/// `MQTT-3.1.2-10` as the numbers by which it is sorted.
fn place(id: &str) -> Option<Vec<u32>> {
    let numbers = id.strip_prefix("MQTT-")?.split(['.', '-']).map(|part| part.parse().ok());
    numbers.collect()
}

/// `module::function` of every end-to-end test.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in sources(&["tests/e2e"], &["rs"]) {
        let module = file.path.trim_start_matches("tests/e2e/").trim_end_matches(".rs");
        for behind in file.text.split("#[test]\nfn ").skip(1) {
            let name = behind.split('(').next().unwrap();
            found.insert(format!("{module}::{name}"));
        }
    }
    found
}

#[test]
fn every_statement_that_binds_a_server_is_in_the_map_once_and_in_order() {
    let map = Source::read(Path::new(MAP)).expect(MAP);
    assert!(map.text.starts_with("version\tid\ttests\tremark\n"), "{MAP}: another header");
    let (lines, misshapen) = lines(&map);
    let mut findings: Vec<String> =
        misshapen.iter().map(|number| format!("{MAP}:{number}: not four fields")).collect();
    let mut before = None;
    let mut counts = BTreeMap::new();
    for line in &lines {
        let Line { number, version, id, .. } = *line;
        let Some(place) = place(id) else {
            findings.push(format!("{MAP}:{number}: {id} is no identifier"));
            continue;
        };
        let version_at = STATEMENTS.iter().position(|(known, _)| *known == version);
        let here = Some((version_at, place));
        if before >= here {
            findings.push(format!("{MAP}:{number}: {version} {id} comes twice or out of order"));
        }
        before = here;
        *counts.entry(version).or_insert(0) += 1;
    }
    if counts != BTreeMap::from(STATEMENTS) {
        findings.push(format!("{MAP} has {counts:?} statements, not {STATEMENTS:?}"));
    }
    none("statements that bind a server", findings);
}

#[test]
fn every_statement_has_a_test_that_exists_or_a_reason_why_it_has_none() {
    let map = Source::read(Path::new(MAP)).expect(MAP);
    let tests = tests();
    assert!(tests.len() > 300, "only {} end-to-end tests found", tests.len());
    let mut findings = Vec::new();
    for Line { number, id, tests: named, remark, .. } in lines(&map).0 {
        let named: Vec<&str> = named.split(' ').filter(|name| !name.is_empty()).collect();
        for name in &named {
            if *name != SIMULATOR && !tests.contains(*name) {
                findings.push(format!("{MAP}:{number}: {id}: there is no test {name}"));
            }
        }
        if named.is_empty() && remark.is_empty() {
            findings.push(format!("{MAP}:{number}: {id} has neither a test nor a reason"));
        }
        if remark == "open" {
            findings.push(format!("{MAP}:{number}: {id} is open"));
        }
    }
    none("statements and their tests", findings);
}

#[test]
fn what_brokers_get_wrong_most_often_has_tests_that_exist() {
    const BEHAVIOURS: &str = "tests/e2e/behaviours.tsv";
    let map = Source::read(Path::new(BEHAVIOURS)).expect(BEHAVIOURS);
    let tests = tests();
    let mut findings = Vec::new();
    let mut lines = map.text.lines();
    assert_eq!(lines.next(), Some("number\tbehaviour\ttests"), "{BEHAVIOURS}: another header");
    for number in 1..=60 {
        let fields: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
        let [at, _, named] = fields[..] else {
            findings.push(format!("{BEHAVIOURS}: {number} has not three fields"));
            continue;
        };
        if at != number.to_string() || named.is_empty() {
            findings.push(format!("{BEHAVIOURS}: {number} is missing or has no test"));
        }
        for name in named.split(' ').filter(|name| !tests.contains(*name)) {
            findings.push(format!("{BEHAVIOURS}: {number}: there is no test {name}"));
        }
    }
    assert_eq!(lines.next(), None, "{BEHAVIOURS} has more than 60 behaviours");
    none("behaviours and their tests", findings);
}
