//! How marts are made, told and counted; what is left when one cannot be.

use serde_json::json;

use crate::support::{APPLICATION, App};

/// Without what differs from one time to the next.
fn steady(log: &[String]) -> Vec<String> {
    let head = |line: &String| match line.split_once(": ") {
        Some((head, _)) if line.starts_with("Mart ") || line.starts_with("Creating database") => {
            format!("{head}: …")
        }
        _ => line.clone(),
    };
    log.iter().map(head).collect()
}

#[test]
fn a_creation_tells_how_it_goes() {
    let Some(app) = App::of_corpus() else { return };
    let (log, made) = app.create(json!({"owner": "test", "definition": "empty"}));
    let made = made.unwrap();
    assert_eq!(
        steady(&log),
        [
            "Mart creation began: …",
            "Creating database: …",
            "Executing Post-Deployment ETL...",
            "...ETL complete",
            "Executing Post-Assessment ETL...",
            "...ETL complete",
            "Mart creation complete: …",
            "Mart creation duration: …",
            "Mart database size: …",
        ]
    );
    assert_eq!((made.code, made.status.as_str(), made.owner.as_str()), (1, "complete", "test"));
    assert!(made.name.starts_with("mart_empty_1_2") && made.name.len() == 27, "{}", made.name);
    assert!(made.size.unwrap() > 1_000_000 && made.date_creation_completed.is_some());
    assert!(!made.pinned);
    assert_eq!(made_repr(&app), "Mart(code=1, definition='empty', owner='test')");
}

fn made_repr(app: &App) -> String {
    app.inventory()[0].to_string()
}

#[test]
fn a_failure_leaves_nothing_unless_asked_to() {
    let Some(app) = App::of_corpus() else { return };
    let indented = "
        first_name :as col1
        ^^^^^^^^^^";
    let text = format!(
        "Found unknown attribute:\n    people.first_name\nPerhaps you had in mind:\n    firstname\n\
         While translating:{}\nWhile executing statement:\n    /people{{\n            first_name \
         :as col1\n        }} :as foo\n        /:rexdb\n        /:insert\nWhile executing HTSQL \
         script:\n    #1\nWhile executing Post-Deployment Scripts\nWhile creating Mart database:\n    \
         broken_htsql",
        indented.replace("\n", "\n    ")
    );
    let (log, made) = app.create(json!({"owner": "test", "definition": "broken_htsql"}));
    assert_eq!(made.unwrap_err(), text);
    assert_eq!(log.last().unwrap(), "HTSQL script #1...");
    assert!(app.inventory().is_empty() && app.databases().is_empty());

    let keep = json!({"owner": "test", "definition": "broken_sql", "purge_on_failure": false});
    let (_, made) = app.create(keep);
    assert_eq!(
        made.unwrap_err(),
        "Got an error from the database driver:\n    relation \"blah\" does not exist\n    LINE 1: \
         insert into blah (col1) values('stuff');\n                        ^\nWhile executing SQL \
         script:\n    #1\nWhile executing Post-Deployment Scripts\nWhile creating Mart database:\n    \
         broken_sql"
    );
    let kept = app.inventory();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].status, "post_deployment");
    assert_eq!((kept[0].size, kept[0].date_creation_completed), (None, None));
    assert_eq!(app.databases(), [kept[0].name.as_str()]);
    // What was kept on purpose is not taken for what somebody left.
    app.made("empty");
    assert_eq!(app.inventory().len(), 2);
}

#[test]
fn bases_that_are_not_there() {
    let Some(app) = App::of_corpus() else { return };
    for (definition, target) in
        [("just_copy_missing", "does_not_exist"), ("existing_missing", "a_db_that_doesnt_exist")]
    {
        let (_, made) = app.create(json!({"owner": "test", "definition": definition}));
        assert_eq!(
            made.unwrap_err(),
            format!(
                "Database \"{target}\" does not exist\nWhile creating Mart database:\n    \
                 {definition}"
            )
        );
    }
    let (log, made) = app.create(json!({"owner": "test", "definition": "doesntexist"}));
    assert_eq!((log.len(), made.unwrap_err().as_str()), (0, "Unknown definition \"doesntexist\""));
    let (_, made) = app.create(json!({"owner": "", "definition": "doesntexist"}));
    assert_eq!(made.unwrap_err(), "No owner specified");
    assert!(app.inventory().is_empty() && app.databases().is_empty());
}

#[test]
fn copies_and_databases_that_are_there() {
    let Some(app) = App::of_corpus() else { return };
    let people = |database: &str| -> i64 {
        app.client(database).query_one("SELECT count(*) FROM people", &[]).unwrap().get(0)
    };
    for definition in ["just_copy", "just_copy_application"] {
        let made = app.made(definition);
        assert_eq!(people(&made.name), 5);
    }
    let existing = app.made("existing");
    assert_eq!((existing.name.as_str(), existing.existing), (APPLICATION, Some(true)));
    let count = "SELECT count(*) FROM foo";
    let rows: i64 = app.client(APPLICATION).query_one(count, &[]).unwrap().get(0);
    assert_eq!(rows, 5);
    // It fails now, since its rows are there, and nothing of the application is lost.
    let (_, made) = app.create(json!({"owner": "test", "definition": "existing"}));
    assert!(made.is_err());
    assert_eq!(people(APPLICATION), 5);
    rex_mart::purge(&app.settings, &app.definitions, &existing).unwrap();
    assert_eq!(people(APPLICATION), 5);
    assert_eq!(app.inventory().len(), 2);
}

#[test]
fn a_fixed_name_goes_from_one_mart_to_the_next() {
    let Some(app) = App::of_corpus() else { return };
    let first = app.made("fixed_name");
    // Somebody reads while the next one is made.
    let mut reader = app.client("a_fixed_name_mart");
    reader.query_one("SELECT count(*) FROM foo", &[]).unwrap();
    let (log, second) = app.create(json!({"owner": "test", "definition": "fixed_name"}));
    let second = second.unwrap();
    let last: Vec<&str> = log.iter().rev().take(5).rev().map(String::as_str).collect();
    assert_eq!(last[0], "Purging previous database named \"a_fixed_name_mart\"...");
    assert_eq!(last[1], "Renaming database to: a_fixed_name_mart");
    assert_eq!(
        (first.name.as_str(), second.name.as_str()),
        ("a_fixed_name_mart", "a_fixed_name_mart")
    );
    assert_ne!(first.code, second.code);
    assert_eq!(
        (app.inventory(), app.databases()),
        (vec![second], vec!["a_fixed_name_mart".into()])
    );
    let (_, other) = app.create(json!({"owner": "someoneelse", "definition": "fixed_name"}));
    assert_eq!(
        other.unwrap_err(),
        "Cannot set name of Mart to \"a_fixed_name_mart\" because a Mart with that name already \
         exists owned by \"test\"\nWhile purging previous fixed-name database\nWhile creating Mart \
         database:\n    fixed_name"
    );
    assert_eq!((app.inventory().len(), app.databases().len()), (1, 1));
}

#[test]
fn parameters_are_told_and_refused() {
    let Some(app) = App::of_corpus() else { return };
    let entry = |parameters: serde_json::Value| json!({"owner": "foo", "definition": "some_parameters", "parameters": parameters});
    let (log, made) = app.create(entry(json!({"bar": "42", "foo": "hello"})));
    made.unwrap();
    assert_eq!(
        steady(&log),
        [
            "Mart creation began: …",
            "Parameters: foo='hello', bar=42",
            "Creating database: …",
            "Deploying structures...",
            "Executing Post-Deployment ETL...",
            "HTSQL script #1...",
            "SQL script #2...",
            "...ETL complete",
            "Processing Assessment #1 (mart1)",
            "...deploying structures",
            "...loading Assessments",
            "...8 Assessments loaded",
            "...performing calculations",
            "...complete",
            "Executing Post-Assessment ETL...",
            "HTSQL script #1...",
            "SQL script #2...",
            "...ETL complete",
            "Mart creation complete: …",
            "Mart creation duration: …",
            "Mart database size: …",
        ]
    );
    for (parameters, text) in [
        (json!({}), "Missing required parameter \"bar\""),
        (
            json!({"bar": "x"}),
            "Expected an integer\nGot:\n    'x'\nWhile validating parameter:\n    bar",
        ),
        (json!({"bar": 1, "qux": 2, "baz": 3}), "Unknown parameters: baz, qux"),
    ] {
        let (log, made) = app.create(entry(parameters));
        assert_eq!((log.len(), made.unwrap_err().as_str()), (0, text));
    }
}

#[test]
fn marts_that_are_left_incomplete() {
    let Some(app) = App::of_corpus() else { return };
    let entry = json!({"owner": "test", "definition": "some_data", "leave_incomplete": true});
    let made = app.create(entry).1.unwrap();
    assert_eq!(made.status, "processing");
    assert!(made.size.is_some() && made.date_creation_completed.is_some());
    app.made("empty");
    assert_eq!(app.inventory().len(), 2);
}

#[test]
fn quotas_purge_the_oldest_and_spare_what_is_pinned() {
    let Some(app) = App::of_corpus() else { return };
    let pin = "UPDATE rexmart_inventory SET pinned = TRUE WHERE code = $1";
    let codes = || app.inventory().iter().map(|mart| mart.code).collect::<Vec<_>>();
    for _ in 0..4 {
        app.made("empty");
    }
    assert_eq!(codes(), [2, 3, 4]);
    app.client(APPLICATION).execute(pin, &[&2_i64]).unwrap();
    app.made("empty");
    assert_eq!(codes(), [2, 4, 5]);
    assert_eq!(app.databases().len(), 3);
    for code in [4_i64, 5] {
        app.client(APPLICATION).execute(pin, &[&code]).unwrap();
    }
    let (log, made) = app.create(json!({"owner": "test", "definition": "empty"}));
    assert_eq!(
        (log.len(), made.unwrap_err().as_str()),
        (0, "Creating a \"empty\" Mart for \"test\" would exceed their quota")
    );
    let (_, other) = app.create(json!({"owner": "other", "definition": "empty"}));
    assert_eq!(other.unwrap().owner, "other");
}
