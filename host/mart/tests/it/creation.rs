//! How marts are made, told and counted; what is left when one cannot be.

use std::sync::atomic::{AtomicBool, Ordering};

use rex_db::Address;
use rex_mart::{Creation, Entry};
use rex_test_support::pooler::Pooler;
use rex_yaml::validate::Input;
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

#[test]
fn a_transaction_pooler_is_refused() {
    let definitions = json!({"definitions": [{"id": "empty"}]});
    let Some(mut app) = App::with(&definitions, json!({})) else { return };
    let direct = app.settings.clone();
    for (mode, works) in [("transaction", false), ("session", true)] {
        let Some(pooler) = Pooler::start(&app.server, mode) else { return };
        let through = Address::parse(&pooler.uri(APPLICATION)).unwrap();
        (app.settings.database, app.settings.hosting) = (through.clone(), through);
        let (_, made) = app.create(json!({"owner": "test", "definition": "empty"}));
        app.settings = direct.clone();
        assert_eq!(made.is_ok(), works, "{mode}: {made:?}");
        if let Err(text) = made {
            assert!(text.starts_with("A proxy between this host and PostgreSQL pools"), "{text}");
            assert!(text.contains("pool_mode=session"), "{text}");
            assert!(app.inventory().is_empty() && app.databases().is_empty());
        }
    }
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

/// A role that may make databases is not told what kind of session another role's is.
#[test]
fn a_database_that_another_role_uses_is_copied() {
    let Some(mut app) = App::of_corpus() else { return };
    let mut reader = app.client(APPLICATION);
    reader
        .batch_execute(&format!(
            "CREATE ROLE maker LOGIN CREATEDB;
             ALTER DATABASE {APPLICATION} OWNER TO maker;
             GRANT ALL ON ALL TABLES IN SCHEMA public TO maker;
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO maker"
        ))
        .unwrap();
    let address = format!("pgsql://maker@127.0.0.1:{}/{APPLICATION}", app.server.port());
    app.settings.database = Address::parse(&address).unwrap();
    app.settings.hosting = app.settings.database.clone();
    let made = app.made("just_copy_application");
    let count = "SELECT count(*) FROM people";
    let people: i64 = app.client(&made.name).query_one(count, &[]).unwrap().get(0);
    assert_eq!(people, reader.query_one(count, &[]).unwrap().get::<_, i64>(0));
}

/// Which the server copies for its owner alone.
#[test]
fn a_database_of_another_role_is_copied() {
    let definitions =
        json!({"definitions": [{"id": "copy", "base": {"type": "copy", "target": "source"}}]});
    let Some(mut app) = App::with(&definitions, json!({})) else { return };
    let mut client = app.client(APPLICATION);
    client.batch_execute("CREATE DATABASE source").unwrap();
    app.client("source")
        .batch_execute(
            "CREATE ROLE maker LOGIN CREATEDB; CREATE TABLE t AS SELECT 42 AS a;
             GRANT SELECT ON t TO maker",
        )
        .unwrap();
    let rights = "GRANT ALL ON ALL TABLES IN SCHEMA public TO maker;
        GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO maker";
    client.batch_execute(rights).unwrap();
    let address = format!("pgsql://maker@127.0.0.1:{}/{APPLICATION}", app.server.port());
    app.settings.database = Address::parse(&address).unwrap();
    app.settings.hosting = app.settings.database.clone();
    let (log, made) = app.create(json!({"owner": "test", "definition": "copy"}));
    let name = made.unwrap_or_else(|error| panic!("{error}")).name;
    let row = app.client(&name).query_one("SELECT a FROM t", &[]).unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
    assert!(log.iter().any(|line| line == "Owners and rights stay behind"), "{log:?}");
}

/// Whether somebody is in the source at that moment makes no difference.
#[test]
fn a_copy_has_owners_rights_and_collation_in_use_or_not() {
    let definitions = json!({"definitions": [
        {"id": "copy", "base": {"type": "copy", "target": "source"}},
        {"id": "latin", "base": {"type": "copy", "target": "latin"}},
    ]});
    let Some(app) = App::with(&definitions, json!({})) else { return };
    let mut client = app.client("postgres");
    for statement in [
        "CREATE ROLE reader",
        "CREATE DATABASE source TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    ] {
        client.batch_execute(statement).unwrap();
    }
    let fill = "CREATE TABLE t (a text); CREATE TABLE u (a text); INSERT INTO t VALUES ('\u{e9}');
        GRANT SELECT ON t TO reader; ALTER TABLE u OWNER TO reader";
    for source in ["source", "latin"] {
        app.client(source).batch_execute(fill).unwrap();
    }
    let seen = |database: &str| -> (bool, String, String, i32, String) {
        let query = "SELECT has_table_privilege('reader', 't', 'SELECT'),
            (SELECT relowner::regrole::text FROM pg_class WHERE relname = 'u'), datcollate::text,
            encoding, (SELECT a FROM t) FROM pg_database WHERE datname = current_database()";
        let row = app.client(database).query_one(query, &[]).unwrap();
        (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))
    };
    let expected = (true, "reader".to_owned(), "C".to_owned(), 6, "\u{e9}".to_owned());
    assert_eq!(seen(&app.made("copy").name), expected);
    let user = app.client("source");
    assert_eq!(seen(&app.made("copy").name), expected);
    drop(user);
    // It cannot sort as there, in another encoding.
    let default: String = client.query_one("SHOW lc_collate", &[]).unwrap().get(0);
    let expected = (true, "reader".to_owned(), default, 6, "\u{e9}".to_owned());
    assert_eq!(seen(&app.made("latin").name), expected);
    let _user = app.client("latin");
    assert_eq!(seen(&app.made("latin").name), expected);
}

/// Several applications may make marts on one server.
#[test]
fn databases_that_have_the_name_stay() {
    let Some(app) = App::of_corpus() else { return };
    let first = app.made("empty").name;
    assert!(rex_mart::purge(&app.settings, &app.definitions, &app.inventory()[0]).unwrap());
    let mut client = app.client("postgres");
    let query = "SELECT left($1, -14) || to_char(to_timestamp(right($1, 14), 'YYYYMMDDHH24MISS')
        + n * interval '1 s', 'YYYYMMDDHH24MISS') FROM generate_series(0, 25) AS n";
    let mut names: Vec<String> =
        client.query(query, &[&first]).unwrap().iter().map(|row| row.get(0)).collect();
    for name in &names {
        client.batch_execute(&format!("CREATE DATABASE {name} STRATEGY file_copy")).unwrap();
    }
    let made = app.made("empty").name;
    assert!(!names.contains(&made) && made[..made.len() - 14] == first[..first.len() - 14]);
    names.push(made);
    assert_eq!(app.databases(), names);
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

/// They know it by its name.
#[test]
fn a_fixed_name_is_not_taken_from_a_database_that_others_refer_to() {
    let Some(app) = App::of_corpus() else { return };
    let first = app.made("fixed_name");
    let refer = "CREATE SCHEMA rc; CREATE TABLE rc.rc (value int8); INSERT INTO rc.rc VALUES (2)";
    app.client(&first.name).batch_execute(refer).unwrap();
    let (log, made) = app.create(json!({"owner": "test", "definition": "fixed_name"}));
    let error = made.expect_err(&log.join("\n"));
    let text = format!(
        "Others refer to the database \"{}\"\nWhile purging previous fixed-name database",
        first.name
    );
    assert!(error.starts_with(&text), "{error}");
    assert_eq!(app.inventory(), std::slice::from_ref(&first));
    assert_eq!(app.databases(), std::slice::from_ref(&first.name));
    app.client(&first.name).batch_execute("UPDATE rc.rc SET value = 1").unwrap();
    assert_eq!(app.made("fixed_name").name, first.name);
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

#[test]
fn an_owner_keeps_so_many_in_all() {
    let definitions = json!({"definitions": [{"id": "a"}, {"id": "b"}]});
    let Some(app) = App::with(&definitions, json!({"mart_max_marts_per_owner": 3})) else { return };
    for definition in ["a", "a", "b", "b"] {
        app.made(definition);
    }
    let kept: Vec<(i64, String)> =
        app.inventory().into_iter().map(|mart| (mart.code, mart.definition)).collect();
    assert_eq!(kept, [(2, "a".to_owned()), (3, "b".to_owned()), (4, "b".to_owned())]);
}

#[test]
fn databases_that_others_refer_to_stay() {
    let Some(app) = App::of_corpus() else { return };
    let made = app.made("empty");
    app.client(&made.name)
        .batch_execute(
            "CREATE SCHEMA rc; CREATE TABLE rc.rc (value int8); INSERT INTO rc.rc VALUES (2)",
        )
        .unwrap();
    let left = || -> i64 {
        app.client(&made.name).query_one("SELECT value FROM rc.rc", &[]).unwrap().get(0)
    };
    assert!(rex_mart::purge(&app.settings, &app.definitions, &made).unwrap());
    assert_eq!((app.inventory().len(), left()), (0, 1));
    // To purge what is purged does no harm.
    assert!(!rex_mart::purge(&app.settings, &app.definitions, &made).unwrap());
    assert_eq!(left(), 1);
    let refer = format!(
        "INSERT INTO rexmart_inventory (definition, owner, name, date_creation_started)
        VALUES ('empty', 'other', '{}', now())",
        made.name
    );
    app.client(APPLICATION).batch_execute(&refer).unwrap();
    assert!(rex_mart::purge(&app.settings, &app.definitions, &app.inventory()[0]).unwrap());
    assert!(app.databases().is_empty());
}

#[test]
fn marts_of_the_original_s_making() {
    let Some(app) = App::of_corpus() else { return };
    // It notes neither what was there before, nor what it did not finish.
    for (definition, name, status) in
        [("existing", APPLICATION, "complete"), ("empty", "mart_empty_2_x", "post_deployment")]
    {
        let insert = format!(
            "INSERT INTO rexmart_inventory (definition, owner, name, status, date_creation_started)
             VALUES ('{definition}', 'old', '{name}', '{status}', now())"
        );
        app.client(APPLICATION).batch_execute(&insert).unwrap();
    }
    app.made("empty");
    assert_eq!(app.inventory().len(), 3);
    for mart in app.inventory() {
        rex_mart::purge(&app.settings, &app.definitions, &mart).unwrap();
    }
    assert!(app.inventory().is_empty() && app.databases().is_empty());
    app.client(APPLICATION).query_one("SELECT count(*) FROM people", &[]).unwrap();
}

#[test]
fn an_application_without_the_tables_of_marts() {
    let Some(mut app) = App::of_corpus() else { return };
    app.settings.database = app.settings.database.with_database("postgres");
    let (log, made) = app.create(json!({"owner": "test", "definition": "empty"}));
    let text = made.unwrap_err();
    assert!(
        log.is_empty() && text.contains("relation \"rexmart_inventory\" does not exist"),
        "{text}"
    );
    let help = "\nThe tables of marts are made by:\n    rex-host deploy --project NAME";
    assert!(text.ends_with(help), "{text}");
}

#[test]
fn how_far_a_creation_is() {
    let Some(app) = App::of_corpus() else { return };
    let entry = json!({"owner": "test", "definition": "datadictionary_assessment"});
    let entry = Entry::read(Input::Value(&entry)).unwrap();
    let creation = Creation::new(&app.settings, &app.definitions, &entry).unwrap();
    let mut fractions = Vec::new();
    let made = creation.run(&mut |_, fraction| fractions.extend(fraction), &|| false);
    made.unwrap();
    let expected = [0.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0].map(|step| step / 5.0);
    assert_eq!(fractions, expected);
}

#[test]
fn many_at_once() {
    let Some(app) = App::of_corpus() else { return };
    let owners = ["O'Neil", "a\"b\\c", "%(x)s", "名"];
    std::thread::scope(|scope| {
        for owner in owners {
            let app = &app;
            scope.spawn(move || {
                for definition in ["some_data_with_params", "empty"] {
                    let made = app.create(json!({"owner": owner, "definition": definition})).1;
                    made.unwrap_or_else(|error| panic!("{owner}: {error}"));
                }
            });
        }
    });
    let marts = app.inventory();
    let codes: Vec<i64> = marts.iter().map(|mart| mart.code).collect();
    assert_eq!(codes, (1..=8).collect::<Vec<_>>());
    for mart in marts.iter().filter(|mart| mart.definition != "empty") {
        let owner = "SELECT count(*) FROM foo WHERE col1 = $1";
        let row = app.client(&mart.name).query_one(owner, &[&mart.owner]).unwrap();
        assert_eq!(row.get::<_, i64>(0), 1, "{}", mart.owner);
    }
}

#[test]
fn selectors_that_are_wrong() {
    let query = |query: &str| json!({"id": "x", "assessments": [{"instrument": "mart1", "selector": query}]});
    let nowhere = json!({"id": "x", "assessments": [{"instrument": "nothing",
        "selector": "/assessment{uid :as assessment_uid}/:rexdb"}]});
    for (definition, name, text) in [
        (
            query("/assessment{uid}/:rexdb"),
            "mart1",
            "Selector does not include \"assessment_uid\" field specifying Assessment UIDs",
        ),
        (
            query("/assessment{uid :as assessment_uid, status, data :as status}/:rexdb"),
            "mart1",
            "Selector includes multiple fields with the same name: status",
        ),
        (nowhere, "nothing", "An Instrument with UID \"nothing\" could not be found"),
    ] {
        let Some(app) = App::with(&json!({"definitions": [definition]}), json!({})) else { return };
        let made = app.create(json!({"owner": "test", "definition": "x"})).1;
        assert_eq!(
            made.unwrap_err(),
            format!(
                "{text}\nWhile deploying Assessment structures\nWhile processing Assessment:\n    \
                 #1 ({name})\nWhile creating Mart database:\n    x"
            )
        );
        assert!(app.inventory().is_empty() && app.databases().is_empty());
    }
}

#[test]
fn a_creation_that_is_stopped_leaves_nothing() {
    const KEY: i64 = 4711;
    let scripts = json!([{"type": "sql", "script": format!("SELECT pg_advisory_lock({KEY})")}]);
    let definitions = json!({"definitions": [
        {"id": "waits", "post_deploy_scripts": scripts}, {"id": "stages"}]});
    let Some(app) = App::with(&definitions, json!({})) else { return };
    for (definition, last) in
        [("waits", "SQL script #1..."), ("stages", "Executing Post-Deployment ETL...")]
    {
        let entry = json!({"owner": "test", "definition": definition});
        let entry = Entry::read(Input::Value(&entry)).unwrap();
        let creation = Creation::new(&app.settings, &app.definitions, &entry).unwrap();
        let stops = AtomicBool::new(false);
        // The lock is in the database that the script runs in.
        let mut holder = None;
        let mut name = String::new();
        let mut tell = |line: &str, _| {
            if let Some(database) = line.strip_prefix("Creating database: ") {
                name = database.to_owned();
            } else if line == "Executing Post-Deployment ETL..." && definition == "waits" {
                let mut client = app.client(&name);
                client.execute("SELECT pg_advisory_lock($1)", &[&KEY]).unwrap();
                holder = Some(client);
            }
            if line == last {
                stops.store(true, Ordering::Relaxed);
            }
        };
        let made = creation.run(&mut tell, &|| stops.load(Ordering::Relaxed));
        assert_eq!(
            made.unwrap_err().to_string(),
            format!("The creation was stopped\nWhile creating Mart database:\n    {definition}")
        );
        assert!(app.inventory().is_empty() && app.databases().is_empty());
    }
}

#[test]
fn assessments_are_loaded_all_or_none() {
    let definition = json!({"id": "x", "assessments": [{"instrument": "mart1",
        "selector": "/assessment{uid :as assessment_uid}\
            .filter(instrumentversion.instrument='mart1')/:rexdb"}]});
    let Some(app) = App::with(&json!({"definitions": [definition]}), json!({})) else { return };
    let more = "INSERT INTO assessment (uid, subject_id, instrumentversion_id, status, data)
        SELECT 'more' || n, a.subject_id, a.instrumentversion_id, a.status, $1
        FROM generate_series($2::int, $3) AS n,
            (SELECT a.* FROM assessment AS a JOIN instrumentversion AS v
                ON v.id = a.instrumentversion_id
             WHERE a.status = 'completed' AND v.uid LIKE 'mart1%' ORDER BY a.uid LIMIT 1) AS a";
    let mut client = app.client(APPLICATION);
    let good = r#"{"values": {"foo": {"value": "x\ty\\"}}}"#;
    client.execute(more, &[&good, &1000, &2999]).unwrap();
    let (log, made) = app.create(json!({"owner": "test", "definition": "x"}));
    assert!(log.contains(&"...2008 Assessments loaded".to_owned()), "{}", log.join("\n"));
    let count = "SELECT count(*) FROM mart1 WHERE foo = E'x\\ty\\\\'";
    let row = app.client(&made.unwrap().name).query_one(count, &[]).unwrap();
    assert_eq!(row.get::<_, i64>(0), 2000);

    client.execute(more, &[&"{", &9999, &9999]).unwrap();
    let entry = json!({"owner": "test", "definition": "x", "purge_on_failure": false});
    let text = app.create(entry).1.unwrap_err();
    assert!(text.contains("While loading Assessment:\n    more9999\n"), "{text}");
    let kept = app.inventory().pop().unwrap();
    let row = app.client(&kept.name).query_one("SELECT count(*) FROM mart1", &[]).unwrap();
    assert_eq!((kept.status.as_str(), row.get::<_, i64>(0)), ("assessment", 0));
}
