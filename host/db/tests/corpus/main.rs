//! The whole corpus of queries with known answers, run where it lies.
//!
//! Prints one line, `corpus: N of M equal`, and a table by suite. The ids in `corpus-failing.txt`
//! may fail; any other failure, and any listed id that passes, fails the test.
//!
//! `CORPUS_SHOW=ID[,ID…]` (a part of an id, or `failing`) prints query, SQL, expected and actual
//! answer; `CORPUS_BLESS=1` takes the ids that pass off the list (or writes the first list).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod case;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use case::{Case, Outcome, Runner};
use rex_test_support::server::{Server, load_sql};
use rex_test_support::shared::shared_file;

#[test]
fn corpus() {
    let Some(cases) = shared_file("htsql-corpus/cases.jsonl") else { return };
    let (Some(demo), Some(etl)) =
        (shared_file("htsql-corpus/demo.sql"), shared_file("htsql-corpus/etl.sql"))
    else {
        return;
    };
    let text = std::fs::read_to_string(cases).unwrap();
    let cases: Vec<Case> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let server = Server::start().unwrap();
    let mut runner = Runner::default();
    for (name, dump) in [("demo", &demo), ("etl", &etl)] {
        let uri = server.create_database(name).unwrap();
        load_sql(&uri, dump).unwrap();
        runner.add(name, &uri);
    }

    let show = std::env::var("CORPUS_SHOW").unwrap_or_default();
    let mut failing = BTreeSet::new();
    let mut suites: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for case in &cases {
        let outcome = runner.run(case);
        let suite = suites.entry(case.suite()).or_default();
        suite.1 += 1;
        if outcome.equal() {
            suite.0 += 1;
        } else {
            failing.insert(case.id.as_str());
        }
        if is_shown(&show, case, &outcome) {
            println!("{}", runner.describe(case, &outcome));
        }
    }

    for (suite, (equal, all)) in &suites {
        println!("{:>4} of {:>3}  {:>3} %  {suite}", equal, all, equal * 100 / all);
    }
    println!("corpus: {} of {} equal", cases.len() - failing.len(), cases.len());
    compare(&failing);
}

fn is_shown(show: &str, case: &Case, outcome: &Outcome) -> bool {
    show.split(',').filter(|part| !part.is_empty()).any(|part| {
        case.id == part
            || part == "failing" && !outcome.equal()
            || part.strip_suffix('*').is_some_and(|head| case.id.starts_with(head))
                && !outcome.equal()
    })
}

/// Holds the failures against the checked-in list.
fn compare(failing: &BTreeSet<&str>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus-failing.txt");
    let list = std::fs::read_to_string(&path).ok();
    let listed: BTreeSet<&str> =
        list.as_deref().unwrap_or_default().lines().filter(|line| !line.is_empty()).collect();
    let new: Vec<&&str> = failing.difference(&listed).collect();
    let passing: Vec<&&str> = listed.difference(failing).collect();
    if std::env::var_os("CORPUS_BLESS").is_some() {
        let kept = |id: &&str| list.is_none() || listed.contains(*id);
        let lines: String =
            failing.iter().copied().filter(kept).map(|id| format!("{id}\n")).collect();
        std::fs::write(&path, lines).unwrap();
        return;
    }
    assert!(new.is_empty(), "fail and are not in corpus-failing.txt:\n{new:#?}");
    assert!(
        passing.is_empty(),
        "pass now; take them off corpus-failing.txt (CORPUS_BLESS=1 does):\n{passing:#?}"
    );
}
