//! What definitions of the corpus become of which it has no mart of the original's.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{APPLICATION, App};

/// Rows as arrays of texts, without their ids, in the order of those.
fn rows(app: &App, database: &str, table: &str) -> Vec<Vec<Option<String>>> {
    let mut client = app.client(database);
    let query = "SELECT string_agg(quote_ident(attname) || '::text', ', ' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND attname <> 'id'";
    let columns: String = client.query_one(query, &[&table]).unwrap().get(0);
    let query = format!("SELECT {columns} FROM \"{table}\" ORDER BY \"{table}\".id");
    let rows = client.query(&query, &[]).unwrap();
    rows.iter().map(|row| (0..row.len()).map(|n| row.get(n)).collect()).collect()
}

/// How many rows each table has.
fn counts(app: &App, database: &str) -> BTreeMap<String, i64> {
    let mut client = app.client(database);
    let query = "SELECT relname::text FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    let tables: Vec<String> =
        client.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    let mut count = |table: &str| -> i64 {
        client.query_one(&format!("SELECT count(*) FROM \"{table}\""), &[]).unwrap().get(0)
    };
    tables.into_iter().map(|table| (table.clone(), count(&table))).collect()
}

#[test]
fn copies_have_every_row() {
    let Some(app) = App::of_corpus() else { return };
    for definition in ["just_copy", "just_copy_application"] {
        let copy = counts(&app, &app.made(definition).name);
        for (table, count) in [
            ("assessment", 26),
            ("channel", 5),
            ("draftform", 2),
            ("draftinstrumentversion", 2),
            ("entry", 10),
            ("form", 8),
            ("instrument", 24),
            ("instrumentversion", 27),
            ("interaction", 6),
            ("people", 5),
            ("subject", 7),
            ("task", 8),
            ("user", 2),
        ] {
            assert_eq!(copy[table], count, "{definition}: {table}");
        }
        assert_eq!(copy.len(), counts(&app, APPLICATION).len());
    }
}

#[test]
fn assessments_of_all_instruments_linked() {
    let Some(app) = App::of_corpus() else { return };
    let mut made = counts(&app, &app.made("all_assessments_linked").name);
    made.retain(|_, count| *count > 0);
    let expected = json!({
        "alltypes": 5, "alltypes_matrix_field": 4, "alltypes_recordlist_field": 7,
        "calculation_complex": 1, "calculation_complex_q_matrix": 1,
        "calculation_complex_q_recordlist": 2, "datadictionary_column": 244,
        "datadictionary_enumeration": 23, "datadictionary_table": 37, "disabled": 1, "mart1": 8,
        "mart12": 1, "mart12_recordlist_field": 1, "mart13": 1, "mart8": 1, "simple": 2,
        "subject": 7,
    });
    assert_eq!(json!(made), expected);
}

#[test]
fn assessments_that_tables_define() {
    let Some(app) = App::of_corpus() else { return };
    let made = app.made("dynamic_complex");
    assert_eq!(json!(counts(&app, &made.name)), json!({"mart1": 8, "mart2": 0, "subject": 7}));
    let row = |n: usize| {
        vec![format!("martassessment{n}"), "mart11".into(), "42".into(), format!("foo{n}")]
    };
    for (n, got) in rows(&app, &made.name, "mart1").into_iter().enumerate() {
        let got: Vec<String> = got.into_iter().skip(1).flatten().collect();
        assert_eq!(got, row(n + 1));
    }
    // Neither fields nor calculations of the instrument, but what was noted of answers.
    let query = "SELECT string_agg(attname || ' ' || atttypid::regtype, ', ' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = 'mart2'::regclass AND attnum > 0";
    let columns: String = app.client(&made.name).query_one(query, &[]).unwrap().get(0);
    assert_eq!(
        columns,
        "id integer, assessment_uid text, instrument_version_uid text, \
         meta_datecompleted timestamp without time zone"
    );
}

#[test]
fn names_and_choices_that_are_in_the_way() {
    let Some(app) = App::of_corpus() else { return };
    let text = |rows: Vec<Vec<Option<String>>>| json!(rows);
    let made = app.made("overlap_names_assessment");
    assert_eq!(
        text(rows(&app, &made.name, "mart12")),
        json!([[
            "1",
            "martassessment15",
            "mart121",
            "foo1",
            "source assessment_uid",
            "source instrument_version_uid"
        ]])
    );
    assert_eq!(
        text(rows(&app, &made.name, "mart12_recordlist_field")),
        json!([["1", "1", "sub1", "source mart12", "source record_seq"]])
    );
    let made = app.made("enum_values");
    assert_eq!(
        text(rows(&app, &made.name, "mart13")),
        json!([[
            "martassessment16",
            "mart131",
            "baz-baz",
            "true",
            "false",
            "true",
            "0",
            "false",
            "false",
            "true"
        ]])
    );
}

#[test]
fn a_dictionary_in_words_of_the_definition() {
    let Some(app) = App::of_corpus() else { return };
    let made = app.made("datadictionary_assessment");
    let table = |name: &str| json!(rows(&app, &made.name, name));
    assert_eq!(
        table("datadictionary_table"),
        json!([
            ["mart1", "RexMart Testcase #1", "A description for the Instrument"],
            ["subject", null, "CUSTOM SUBJECT DESCRIPTION!"],
        ])
    );
    let instrument = "RIOS Instrument";
    assert_eq!(
        table("datadictionary_column"),
        json!([
            ["1", "subject", null, null, null, "link", "2"],
            [
                "1",
                "assessment_uid",
                "Assessment UID",
                "the UID of the Assessment",
                null,
                "code",
                null
            ],
            ["1", "instrument_version_uid", "InstrumentVersion UID", null, null, "text", null],
            ["1", "mycoolfield", "My Cool Field", null, null, "text", null],
            ["1", "foo", null, "The foo value", instrument, "text", null],
            ["2", "uid", null, null, null, "text", null],
            ["2", "mobile_tn", "Title Number 2", null, "THE SOURCE", "text", null],
            ["2", "mart1", null, null, null, "branch", "1"],
        ])
    );
    assert_eq!(table("datadictionary_enumeration"), json!([]));
}

/// No fact could have made some of them.
#[test]
fn a_dictionary_of_tables_that_scripts_made() {
    let script = "CREATE TABLE um (b text PRIMARY KEY);
        CREATE TABLE many (id int PRIMARY KEY, p text REFERENCES um);
        CREATE TYPE \"k d\" AS ENUM ('v w');
        CREATE TABLE \"a b\" (id int UNIQUE, \"c d\" text PRIMARY KEY, \"o'k\" \"k d\");
        CREATE TABLE \"über\" (id int UNIQUE, l int PRIMARY KEY REFERENCES \"a b\" (id), z text,
            z_id int REFERENCES \"a b\" (id))";
    let definition = json!({
        "id": "scripted", "post_deploy_scripts": [{"type": "sql", "script": script}],
        "processors": [{"id": "datadictionary"}],
    });
    let Some(app) = App::with(&json!({"definitions": [definition]}), json!({})) else { return };
    let made = app.made("scripted");
    let table = |name: &str| json!(rows(&app, &made.name, name));
    assert_eq!(
        table("datadictionary_table"),
        json!([["a b", null, null], ["many", null, null], ["über", null, null]])
    );
    let row = |table: &str, name: &str, datatype: &str, link: Option<&str>| {
        json!([table, name, null, null, null, datatype, link])
    };
    assert_eq!(
        table("datadictionary_column"),
        json!([
            row("1", "c d", "text", None),
            row("1", "o'k", "enumeration", None),
            row("1", "über", "facet", Some("3")),
            row("1", "über_via_z", "cross", Some("3")),
            row("2", "p", "link", None),
            row("3", "l", "link", Some("1")),
            row("3", "z", "text", None),
            row("3", "z_id", "link", Some("1")),
        ])
    );
    assert_eq!(table("datadictionary_enumeration"), json!([["2", "v w", null]]));
}

#[test]
fn whose_words_a_dictionary_has() {
    let Some(mut app) = App::of_corpus() else { return };
    let texts = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
    for (presentations, channels, words) in [
        (&["form", "sms"] as &[&str], &[] as &[&str], "Entry"),
        (&["form"], &["survey", "entry"], "Survey"),
        (&["sms"], &["mobile"], "Mobile"),
        (&["sms", "form"], &["fakesms", "entry"], "FakeSMS"),
    ] {
        app.settings.presentation_priority = texts(presentations);
        app.settings.channel_priority = texts(channels);
        let made = app.made("form_metadata");
        let told = |table: &str| -> Vec<Value> {
            let last = |row: &Vec<Option<String>>| {
                row.iter().flatten().find_map(|cell| cell.contains(words).then(|| json!(cell)))
            };
            rows(&app, &made.name, table).iter().filter_map(last).collect()
        };
        let text = |name: &str| json!(format!("{words} Text for {name}"));
        let mut expected = vec![text("Foo"), text("Bar"), text("Baz")];
        // Only forms ask the other instrument.
        let form = |name: &str| json!(format!("{words} {name}"));
        if ["Entry", "Survey"].contains(&words) {
            expected.extend([form("Column1"), form("Subfield1")]);
        }
        assert_eq!(told("datadictionary_column"), expected);
        assert_eq!(told("datadictionary_enumeration"), [form("Happy"), form("Sad")]);
        // One that has no title leaves it to the next.
        let titles = rows(&app, &made.name, "datadictionary_table");
        assert_eq!(titles[0][1].as_deref(), Some("Survey Title"), "{words}");
    }
}

/// Numbers of parameters that neither 64 bits nor doubles hold, in files.
#[test]
fn parameters_keep_all_digits() {
    let definitions = r#"
definitions:
- id: long
  parameters:
  - { name: whole, type: integer, default: 123456789012345678901234567890 }
  - { name: quoted, type: integer, default: "-123456789012345678901234567890" }
  deploy:
  - table: foo
    with:
    - { column: a, type: text }
    - { column: n, type: decimal }
    - identity: [a]
  - table: driver
    with: [{ column: uid, type: text }, { identity: [uid] }]
  - { data: [{ uid: martassessment9 }], of: driver }
  post-deploy-scripts:
  - type: sql
    parameters:
      k: 12345678901234567890123
      l: [18446744073709551616, 1]
      m: -9223372036854775809
      f: 0.1234567890123456789012345
    script: insert into foo (a, n) values ('sql', %(k)s), ('list', (%(l)s)[1]), ('less', %(m)s),
      ('fraction', %(f)s), ('whole', %(whole)s), ('quoted', %(quoted)s)
  - type: htsql
    parameters:
      k: 12345678901234567890123
      l: [12345678901234567890123, 1]
      m: -9223372036854775809
      f: 0.1234567890123456789012345
    script: |
      /{'htsql' :as a, $k :as n} :as foo/:insert
      /{'htsql less' :as a, $m :as n} :as foo/:insert
      /{'htsql fraction' :as a, $f :as n} :as foo/:insert
      /{'htsql whole' :as a, $whole :as n} :as foo/:insert
      /foo{a + ' in list' :as a, n}?a='sql'&n=$l :as foo/:insert
  assessments:
  - name: t
    instrument: alltypes
    selector:
      query: "/driver{uid :as assessment_uid, string($k) :as kk}"
      parameters: { k: 20261123000000000017 }
"#;
    let Some(app) = App::written(definitions, json!({})) else { return };
    let (log, made) = app.create(json!({"owner": "test", "definition": "long"}));
    let mut mart = app.client(&made.unwrap_or_else(|error| panic!("{error}")).name);
    let shown = "Parameters: whole=123456789012345678901234567890, \
                 quoted=-123456789012345678901234567890";
    assert_eq!(log[1], shown);
    let rows = mart.query("SELECT a || ' ' || n::text FROM foo ORDER BY id", &[]).unwrap();
    let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        rows,
        [
            "sql 12345678901234567890123",
            "list 18446744073709551616",
            "less -9223372036854775809",
            "fraction 0.1234567890123456789012345",
            "whole 123456789012345678901234567890",
            "quoted -123456789012345678901234567890",
            "htsql 12345678901234567890123",
            "htsql less -9223372036854775809",
            "htsql fraction 0.1234567890123456789012345",
            "htsql whole 123456789012345678901234567890",
            "sql in list 12345678901234567890123",
        ]
    );
    let column: String = mart.query_one("SELECT kk FROM t", &[]).unwrap().get(0);
    assert_eq!(column, "20261123000000000017");
}
