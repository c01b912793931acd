//! Assessments whose UIDs, parents, labels and values are not as plain as those of the corpus.

use serde_json::{Value, json};

use crate::support::{APPLICATION, App};

/// Which assessments of the instrument of [`instrument`] there are.
const ALL: &str = "/assessment{id() :as assessment_uid}
    .filter(instrumentversion.instrument='odd')/:rexdb";

fn app(definition: Value) -> Option<App> {
    let mut definition = definition;
    definition["id"] = json!("odd");
    App::with(&json!({"definitions": [definition]}), json!({}))
}

fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An instrument `odd` with these records, one for each version.
fn instrument(app: &App, records: &[Value]) {
    let versions: Vec<(Value, Value)> =
        records.iter().map(|record| (record.clone(), json!([]))).collect();
    instrument_with(app, &versions);
}

/// An instrument `odd` with a record and calculations for each version.
fn instrument_with(app: &App, versions: &[(Value, Value)]) {
    let mut sql = "INSERT INTO instrument (uid, code, title, status)
        VALUES ('odd', 'odd', 'Odd', 'active');"
        .to_owned();
    for (n, (record, calculations)) in (1..).zip(versions) {
        let definition =
            json!({"id": "urn:odd", "version": "1.0", "title": "Odd", "record": record});
        sql.push_str(&format!(
            "INSERT INTO instrumentversion
                (uid, instrument_id, version, published_by, date_published, definition,
                    calculation_json)
             SELECT 'odd{n}', id, {n}, 'test', '2020-01-01', {}, {} FROM instrument
             WHERE uid = 'odd';",
            text(&definition.to_string()),
            text(&json!({"calculations": calculations}).to_string())
        ));
    }
    app.client(APPLICATION).batch_execute(&sql).unwrap();
}

/// An assessment of a version; `values` is the text of what its document has there.
fn assess(app: &App, uid: &str, version: u32, values: &str) {
    assess_with(app, uid, version, values, "{}");
}

/// An assessment of a version, with texts of its values and metadata.
fn assess_with(app: &App, uid: &str, version: u32, values: &str, meta: &str) {
    let data = format!(
        r#"{{"instrument": {{"id": "urn:odd", "version": "1.0"}}, "values": {values}, "meta": {meta}}}"#
    );
    let sql = format!(
        "INSERT INTO assessment (uid, subject_id, instrumentversion_id, data, status)
         SELECT {}, (SELECT min(id) FROM subject), id, {}, 'completed'
         FROM instrumentversion WHERE uid = 'odd{version}'",
        text(uid),
        text(&data)
    );
    app.client(APPLICATION).batch_execute(&sql).unwrap();
}

/// What a query says of a mart, as texts.
fn told(app: &App, mart: &str, query: &str) -> Vec<String> {
    let query = format!("SELECT q.q::text FROM ({query}) AS q (q)");
    app.client(mart).query(&query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

const PLAIN: &str = r#"{"f": {"value": "x"}}"#;

#[test]
fn assessments_of_any_uid_are_loaded() {
    let uids = ["OU/2", "ou plain", "ou'q", "ou-h", "ou.dot", "ou1", "ou:3", "ou_1", "oü"];
    // What several labels or a number identify, too.
    let numbered = "/q{id() :as assessment_uid}";
    let several = "/p{id() :as assessment_uid}";
    let definition = json!({
        "deploy": [
            {"table": "p", "with": [
                {"column": "a", "type": "text"}, {"column": "b", "type": "integer"},
                {"identity": ["a", "b"]}]},
            {"table": "q", "with": [{"column": "n", "type": "integer"}, {"identity": ["n"]}]},
            {"data": [{"a": "x", "b": 1}], "of": "p"}, {"data": [{"n": 17}, {"n": 18}], "of": "q"},
        ],
        "assessments": [
            {"name": "every", "instrument": "odd", "selector": ALL},
            {"name": "numbered", "instrument": "odd", "selector": numbered},
            {"name": "whole", "instrument": "odd", "selector": "/q{n :as assessment_uid}"},
            {"name": "several", "instrument": "odd", "selector": several},
        ],
    });
    let Some(app) = app(definition) else { return };
    instrument(&app, &[json!([{"id": "f", "type": "text"}])]);
    for uid in uids.into_iter().chain(["17", "18", "x.1"]) {
        assess(&app, uid, 1, PLAIN);
    }
    let made = app.made("odd");
    let uids_of = |table: &str| -> Vec<String> {
        let query =
            format!("SELECT assessment_uid FROM {table} ORDER BY assessment_uid COLLATE \"C\"");
        app.client(&made.name).query(&query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    let mut all = [&["17", "18"], &uids[..], &["x.1"]].concat();
    all.sort_unstable();
    assert_eq!(uids_of("every"), all);
    assert_eq!(uids_of("numbered"), ["17", "18"]);
    assert_eq!(uids_of("whole"), ["17", "18"]);
    assert_eq!(uids_of("several"), ["x.1"]);
}

/// Tables that a script fills, and assessments of one text whose parents are there.
fn with_parents(deploy: &[Value], assessments: &[Value], script: &str) -> Option<App> {
    let app = app(json!({
        "deploy": deploy, "assessments": assessments,
        "post_deploy_scripts": [{"type": "sql", "script": script}],
    }))?;
    instrument(&app, &[json!([{"id": "f", "type": "text"}])]);
    assess(&app, "odd", 1, PLAIN);
    Some(app)
}

/// HTSQL and PostgreSQL write many of them differently.
#[test]
fn parents_of_any_identity_are_found() {
    let parent = |name: &str, ty: Value, values: Value| {
        let rows: Vec<Value> =
            values.as_array().unwrap().iter().map(|value| json!({"a": value})).collect();
        json!([
            {"table": name, "with": [{"column": "a", "type": ty}, {"identity": ["a"]}]},
            {"data": rows, "of": name},
        ])
    };
    let types = [
        ("pboolean", json!("boolean"), json!([true, false])),
        ("pinteger", json!("integer"), json!([1, -2])),
        ("pdecimal", json!("decimal"), json!(["1.50", "2"])),
        ("pfloat", json!("float"), json!([1, 1e20])),
        ("ptext", json!("text"), json!(["a.b", "o'b", "1.0", ""])),
        ("penum", json!(["x", "y-z"]), json!(["y-z"])),
        ("pdate", json!("date"), json!(["2020-01-31"])),
        ("ptime", json!("time"), json!(["10:00:00.25", "10:00:00"])),
        ("pmoment", json!("datetime"), json!(["2020-01-01T10:00:00.5", "2020-01-01T10:00:00"])),
    ];
    let mut deploy = Vec::new();
    let mut assessments = Vec::new();
    for (name, ty, values) in &types {
        deploy.extend(parent(name, ty.clone(), values.clone()).as_array().unwrap().clone());
        assessments.push(json!({
            "name": format!("of_{name}"), "instrument": "odd",
            "selector": format!("/{name}{{'odd' :as assessment_uid, id() :as {name}}}.sort(a).limit(1)"),
            "parental_relationship": {"type": "branch", "parent": name},
        }));
    }
    // Each of them again, as a part of a longer one.
    let links: Vec<Value> = types.iter().map(|(name, ..)| json!({"link": name})).collect();
    let names: Vec<&str> = types.iter().map(|(name, ..)| *name).collect();
    deploy.push(json!({"table": "every", "with": links}));
    deploy.push(json!({"identity": names, "of": "every"}));
    assessments.push(json!({
        "name": "of_every", "instrument": "odd",
        "selector": "/every{'odd' :as assessment_uid, id() :as every}",
        "parental_relationship": {"type": "branch", "parent": "every"},
    }));
    // Its text, where labels are quoted.
    assessments.push(json!({
        "name": "of_string", "instrument": "odd",
        "selector": "/every{'odd' :as assessment_uid, string(id()) :as every}",
        "parental_relationship": {"type": "branch", "parent": "every"},
    }));
    // A text that is another one's value.
    assessments.push(json!({
        "name": "of_written", "instrument": "odd",
        "selector": "/{'odd' :as assessment_uid, '2.00' :as pdecimal}",
        "parental_relationship": {"type": "branch", "parent": "pdecimal"},
    }));
    let columns: Vec<String> = names.iter().map(|name| format!("{name}_id")).collect();
    let script = format!(
        "INSERT INTO every ({}) SELECT {}",
        columns.join(", "),
        names
            .iter()
            .map(|name| format!("(SELECT id FROM {name} ORDER BY a DESC LIMIT 1)"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let Some(app) = with_parents(&deploy, &assessments, &script) else { return };
    let made = app.made("odd");
    let mut mart = app.client(&made.name);
    for name in names.iter().chain(&["every"]) {
        let query = format!("SELECT count(*) FROM of_{name} JOIN {name} ON {name}.id = {name}_id");
        assert_eq!(mart.query_one(&query, &[]).unwrap().get::<_, i64>(0), 1, "{name}");
    }
    let same = "SELECT s.every_id = e.every_id FROM of_string AS s, of_every AS e";
    assert_eq!(told(&app, &made.name, same), ["true"]);
}

/// HTSQL reads no literal of these values.
#[test]
fn parents_of_odd_values_are_found() {
    let values = [
        ("float", "Infinity"),
        ("float", "-Infinity"),
        ("float", "NaN"),
        ("decimal", "NaN"),
        ("date", "infinity"),
        ("datetime", "-infinity"),
        ("json", r#"{"b": [1, 2.50], "a": null}"#),
        ("json", "[1, 2]"),
    ];
    let (mut deploy, mut assessments, mut script) = (Vec::new(), Vec::new(), String::new());
    for (n, (ty, value)) in values.iter().enumerate() {
        let name = format!("p{n}");
        deploy.push(json!({"table": name, "with": [
            {"column": "a", "type": ty}, {"identity": ["a"]}]}));
        script.push_str(&format!("INSERT INTO {name} (a) VALUES ('{value}');"));
        assessments.push(json!({
            "name": format!("of_{name}"), "instrument": "odd",
            "selector": format!("/{name}{{'odd' :as assessment_uid, id() :as {name}}}"),
            "parental_relationship": {"type": "facet", "parent": name},
        }));
    }
    let Some(app) = with_parents(&deploy, &assessments, &script) else { return };
    let mart = app.made("odd").name;
    for (n, value) in values.iter().enumerate() {
        let found = format!("SELECT f FROM of_p{n} JOIN p{n} ON p{n}.id = p{n}_id");
        assert_eq!(told(&app, &mart, &found), ["x"], "{value:?}");
    }
}

#[test]
fn calculations_fill_the_columns_that_were_made_for_them() {
    let calculation = |name: &str, ty: &str, expression: &str| json!({"name": name, "type": ty, "expression": expression});
    let definition = json!({
        "deploy": [
            {"table": "p", "with": [{"column": "a", "type": "text"}, {"identity": ["a"]}]},
            {"data": [{"a": "one"}], "of": "p"},
        ],
        "assessments": [{
            "name": "t", "instrument": "odd",
            "selector": "/p{'odd' :as assessment_uid, id() :as p}",
            "parental_relationship": {"type": "branch", "parent": "p"},
            "post_load_calculations": [
                calculation("assessment_uid", "integer", "length(foo)"),
                calculation("instrument_version_uid", "text", "foo + '!'"),
                calculation("p", "text", "$instrument_version_uid + p.a"),
                calculation("foo_bar", "text", "upper(foo)"),
            ],
        }],
    });
    let Some(app) = app(definition) else { return };
    instrument(&app, &[json!([{"id": "foo", "type": "text"}, {"id": "foo-bar", "type": "text"}])]);
    assess(&app, "odd", 1, r#"{"foo": {"value": "pear"}, "foo-bar": {"value": "plum"}}"#);
    let made = app.made("odd");
    let query = "SELECT to_jsonb(t) - 'id' - 'p_id' FROM t";
    let row: Value = serde_json::from_str(&told(&app, &made.name, query)[0]).unwrap();
    assert_eq!(
        row,
        json!({
            "assessment_uid": "odd", "assessment_uid_src": 4, "instrument_version_uid": "odd1",
            "instrument_version_uid_src": "pear!", "p_src": "pear!one", "foo": "pear",
            "foo_bar_1": "PEAR", "foo_bar_2": "plum",
        })
    );
}

#[test]
fn columns_of_sets_that_meet_others_are_told_apart() {
    let set = |id: &str, labels: &[&str]| {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|label| ((*label).to_owned(), json!({}))).collect();
        json!({"id": id, "type": {"base": "enumerationSet", "enumerations": labels}})
    };
    let definition = json!({"assessments": [
        {"name": "t", "instrument": "odd", "selector": ALL},
    ]});
    let Some(app) = app(definition) else { return };
    let list = json!({"id": "list", "type": {"base": "recordList", "record": [
        set("record", &["seq", "x"]), {"id": "record_x", "type": "integer"},
    ]}});
    instrument(
        &app,
        &[
            json!([
                set("symptoms", &["cough", "other"]),
                {"id": "symptoms_other", "type": "text"},
                set("agreed", &["yes", "no"]),
                set("assessment", &["uid"]),
                list,
            ]),
            json!([set("agreed", &["Yes", "No", "a-b", "a_b"])]),
        ],
    );
    assess(
        &app,
        "one",
        1,
        r#"{"symptoms": {"value": ["other"]}, "symptoms_other": {"value": "itch"},
            "agreed": {"value": ["yes"]}, "assessment": {"value": ["uid"]},
            "list": {"value": [{"record": {"value": ["seq"]}, "record_x": {"value": 7}}]}}"#,
    );
    assess(&app, "two", 2, r#"{"agreed": {"value": ["Yes", "a_b"]}}"#);
    let made = app.made("odd");
    let of = |table: &str| -> Vec<Value> {
        let query = format!(
            "SELECT to_jsonb(t) - '{{id,t_id,instrument_version_uid}}'::text[] FROM {table} AS t ORDER BY t.id"
        );
        let texts = told(&app, &made.name, &query);
        texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    };
    assert_eq!(
        of("t"),
        [
            json!({
                "assessment_uid": "one", "symptoms_cough": false, "symptoms_other_1": true,
                "symptoms_other_2": "itch", "agreed_yes": true, "agreed_no": false,
                "agreed_a_b_1": false, "agreed_a_b_2": false, "assessment_uid_src": true,
            }),
            json!({
                "assessment_uid": "two", "symptoms_cough": false, "symptoms_other_1": false,
                "symptoms_other_2": null, "agreed_yes": true, "agreed_no": false,
                "agreed_a_b_1": false, "agreed_a_b_2": true, "assessment_uid_src": false,
            }),
        ]
    );
    let sequence = "record_seq__f4fbea";
    let mut rows = of("t_list");
    assert_eq!(rows[0].as_object_mut().unwrap().remove(sequence), Some(json!(1)));
    assert_eq!(rows, [json!({"record_seq_src": true, "record_x_1": false, "record_x_2": 7})]);
}

#[test]
fn integers_of_any_size_keep_their_digits() {
    let long = "12345678901234567890";
    let longer = "-1180591620717411303424";
    let column = |name: &str, ty: &str| json!({"column": name, "type": ty});
    let definition = json!({
        "deploy": [{"table": "driver", "with": [
            column("assessment_uid", "text"), column("document", "json"),
            {"identity": ["assessment_uid"]},
        ]}],
        "post_deploy_scripts": [{"type": "sql", "script": format!(
            r#"INSERT INTO driver VALUES (1, 'odd', '{{"n": [{long}, {longer}, 1.5], "long": "{long}"}}')"#
        )}],
        "assessments": [{"name": "t", "instrument": "odd", "selector": "/driver"}],
    });
    let Some(app) = app(definition) else { return };
    let field = |id: &str, ty: &str| json!({"id": id, "type": ty});
    instrument(
        &app,
        &[json!([
            field("a", "text"),
            field("b", "text"),
            field("c", "text"),
            field("d", "float"),
            field("e", "integer"),
            field("f", "boolean"),
            field("g", "json"),
        ])],
    );
    let values = format!(
        r#"{{"a": {{"value": {long}}}, "b": {{"value": {longer}}},
            "c": {{"value": [{long}, {{"x": "it's", "y": null}}, 0.5]}}, "d": {{"value": {long}}},
            "e": {{"value": 9223372036854775807}}, "f": {{"value": {longer}}},
            "g": {{"value": {{"x": {long}, "y": "{long}"}}}}}}"#
    );
    assess(&app, "odd", 1, &values);
    let made = app.made("odd");
    let row = told(
        &app,
        &made.name,
        "SELECT concat_ws('|', a, b, c, d, e, f, document->'n', document->'long', g->'x', g->'y') FROM t",
    );
    let expected = format!(
        r#"{long}|{longer}|[{long}, {{'x': "it's", 'y': None}}, 0.5]|1.2345678901234567e+19|9223372036854775807|t|[{long}, {longer}, 1.5]|"{long}"|{long}|"{long}""#
    );
    assert_eq!(row, [expected]);
}

#[test]
fn integers_that_no_column_can_hold_are_told() {
    let definition = json!({"assessments": [{"name": "t", "instrument": "odd", "selector": ALL}]});
    let Some(app) = app(definition) else { return };
    instrument(&app, &[json!([{"id": "n", "type": "integer"}])]);
    assess(&app, "odd", 1, r#"{"n": {"value": 12345678901234567890}}"#);
    let (_, made) = app.create(json!({"owner": "test", "definition": "odd"}));
    let text =
        "Cannot cast value to type \"integer\": 12345678901234567890\nWhile loading field:\n    n";
    let error = made.unwrap_err();
    assert!(error.starts_with(text), "{error}");
}

/// Lists and matrices that grew from one version to the next.
#[test]
fn parts_that_only_one_version_has_are_null_in_the_other() {
    let list = |fields: Value| json!({"base": "recordList", "record": fields});
    let matrix =
        |columns: Value| json!({"base": "matrix", "rows": [{"id": "r"}], "columns": columns});
    let text = |id: &str| json!({"id": id, "type": "text"});
    let set = json!({"id": "e", "type": {
        "base": "enumerationSet", "enumerations": {"one": {}, "two": {}}}});
    let Some(app) = app(json!({"assessments": [{"instrument": "odd", "selector": ALL}]})) else {
        return;
    };
    let record = |fields: Value, columns: Value| json!([{"id": "l", "type": list(fields)}, {"id": "m", "type": matrix(columns)}]);
    instrument(
        &app,
        &[
            record(json!([text("s")]), json!([text("c")])),
            record(json!([text("s"), text("n"), set]), json!([text("c"), text("d")])),
        ],
    );
    let first = r#"{"l": {"value": [{"s": {"value": "old"}}]},
        "m": {"value": {"r": {"c": {"value": "x"}}}}}"#;
    let second = r#"{"l": {"value": [{"s": {"value": "new"}, "n": {"value": "y"},
        "e": {"value": ["two"]}}]},
        "m": {"value": {"r": {"c": {"value": "x"}, "d": {"value": "z"}}}}}"#;
    assess(&app, "a", 1, first);
    assess(&app, "b", 2, second);
    let mart = app.made("odd").name;
    let list = "SELECT concat_ws(' ', s, coalesce(n, '-'), e_one, e_two) FROM odd_l ORDER BY id";
    assert_eq!(told(&app, &mart, list), ["old - f f", "new y f t"]);
    let matrix = "SELECT concat_ws(' ', r_c, coalesce(r_d, '-')) FROM odd_m ORDER BY id";
    assert_eq!(told(&app, &mart, matrix), ["x -", "x z"]);
}

/// Rows and columns of a matrix make names that others make, too.
#[test]
fn cells_of_one_name_are_told_apart() {
    let Some(app) = app(json!({"assessments": [{"instrument": "odd", "selector": ALL}]})) else {
        return;
    };
    let record = |row: &str, column: &str| {
        json!([{"id": "m", "type": {"base": "matrix", "rows": [{"id": row}],
            "columns": [{"id": column, "type": "text"}]}}])
    };
    instrument(&app, &[record("left", "eye_colour"), record("left_eye", "colour")]);
    assess(&app, "a", 1, r#"{"m": {"value": {"left": {"eye_colour": {"value": "green"}}}}}"#);
    assess(&app, "b", 2, r#"{"m": {"value": {"left_eye": {"colour": {"value": "blue"}}}}}"#);
    let mart = app.made("odd").name;
    let cells =
        "SELECT concat_ws(' ', left_eye_colour_1, left_eye_colour_2) FROM odd_m ORDER BY id";
    assert_eq!(told(&app, &mart, cells), ["green", "blue"]);
}

#[test]
fn a_field_that_is_called_as_its_assessment_may_overflow() {
    let definition = json!({"id": "odd", "assessments": [{"instrument": "odd", "selector": ALL}]});
    let settings = json!({"mart_max_columns": 4});
    let Some(app) = App::with(&json!({"definitions": [definition]}), settings) else { return };
    let text = |id: &str| json!({"id": id, "type": "text"});
    instrument(&app, &[json!([text("a"), text("b"), text("c"), text("odd")])]);
    assess(&app, "a", 1, r#"{"c": {"value": "x"}, "odd": {"value": "y"}}"#);
    let mart = app.made("odd").name;
    let rest = "SELECT concat_ws(' ', c, odd_src) FROM odd_2";
    assert_eq!(told(&app, &mart, rest), ["x y"]);
}

/// The definition's own tables keep their names, too.
#[test]
fn tables_of_assessments_keep_clear_of_deployed_ones() {
    let table = |name: &str| json!({"table": name, "with": [{"column": "own", "type": "text"}, {"identity": ["own"]}]});
    let assessment = json!({"name": "cl", "instrument": "odd", "selector": ALL});
    let definition = json!({"id": "odd", "assessments": [assessment],
        "deploy": [table("cl_x"), table("cl_2"), {"data": [{"own": "mine"}], "of": "cl_x"}]});
    let settings = json!({"mart_max_columns": 3});
    let Some(app) = App::with(&json!({"definitions": [definition]}), settings) else { return };
    let text = |id: &str| json!({"id": id, "type": "text"});
    let list = json!({"id": "x", "type": {"base": "recordList", "record": [text("s")]}});
    instrument(&app, &[json!([list, text("a"), text("b")])]);
    let values = r#"{"x": {"value": [{"s": {"value": "x"}}]}, "b": {"value": "b"}}"#;
    assess(&app, "a", 1, values);
    let mart = app.made("odd").name;
    let cells = "SELECT concat_ws(' ', s, b, own) FROM cl_x_1, cl_3, cl_x";
    assert_eq!(told(&app, &mart, cells), ["x b mine"]);
}

#[test]
fn tables_of_one_name_are_told_apart() {
    let assessment = |name: &str| json!({"name": name, "instrument": "odd", "selector": ALL});
    let assessments = ["cl", "cl_x", "cl_2"].map(assessment);
    let definition = json!({"id": "odd", "assessments": assessments});
    let settings = json!({"mart_max_columns": 3});
    let Some(app) = App::with(&json!({"definitions": [definition]}), settings) else { return };
    let text = |id: &str| json!({"id": id, "type": "text"});
    let list = |id: &str| json!({"id": id, "type": {"base": "recordList", "record": [text("s")]}});
    instrument(&app, &[json!([list("x"), list("X"), text("a"), text("b")])]);
    let values = r#"{"x": {"value": [{"s": {"value": "x"}}]}, "X": {"value": [{"s": {"value": "X"}}]},
        "b": {"value": "b"}}"#;
    assess(&app, "a", 1, values);
    let mart = app.made("odd").name;
    let tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1";
    assert_eq!(
        told(&app, &mart, tables),
        [
            "cl", "cl_2", "cl_2_2", "cl_2_x", "cl_2_x_1", "cl_3", "cl_x", "cl_x_1", "cl_x_2",
            "cl_x_3", "cl_x_x", "cl_x_x_1"
        ]
    );
    let parts = "SELECT concat(s.s, t.s) FROM cl_x_1 AS s, cl_x_2 AS t";
    assert_eq!(told(&app, &mart, parts), ["xX"]);
}

/// Python's JSON has them.
#[test]
fn numbers_may_be_without_limit() {
    let definition = json!({"assessments": [{"name": "t", "instrument": "odd", "selector": ALL}]});
    let Some(app) = app(definition) else { return };
    let field = |id: &str, ty: &str| json!({"id": id, "type": ty});
    let fields = [("a", "float"), ("b", "float"), ("c", "text"), ("d", "boolean"), ("e", "json")];
    instrument(&app, &[json!(fields.map(|(id, ty)| field(id, ty)))]);
    assess(
        &app,
        "odd",
        1,
        r#"{"a": {"value": NaN}, "b": {"value": -1e400}, "c": {"value": [Infinity, 1e400, "NaN"]},
            "d": {"value": NaN}, "e": {"value": {"x": 1e400}}}"#,
    );
    let mart = app.made("odd").name;
    let row = "SELECT concat_ws('|', a, b, c, d, e = '{\"x\": 1e400}') FROM t";
    assert_eq!(told(&app, &mart, row), ["NaN|-Infinity|[inf, inf, 'NaN']|t|t"]);

    assess(&app, "worse", 1, r#"{"e": {"value": [NaN]}}"#);
    let (_, made) = app.create(json!({"owner": "test", "definition": "odd"}));
    let text = "Cannot cast value to type \"json\": [nan]\nWhile loading field:\n    e\n\
                While loading Assessment:\n    worse\n";
    let error = made.unwrap_err();
    assert!(error.starts_with(text), "{error}");
}

/// Whether marts of these definitions have these rows in their table `t`, in the order of UIDs and
/// without what every assessment has.
#[track_caller]
fn has_rows(app: &App, definitions: &[(&str, Value)]) {
    let mut wrong = Vec::new();
    for (name, expected) in definitions {
        let rows = match app.create(json!({"owner": "test", "definition": name})) {
            (_, Err(error)) => json!(error),
            (_, Ok(mart)) => {
                let rows =
                    "SELECT to_jsonb(t) - '{id,assessment_uid,instrument_version_uid}'::text[]
                    FROM t ORDER BY assessment_uid";
                let rows = told(app, &mart.name, rows);
                rows.iter().map(|row| serde_json::from_str::<Value>(row).unwrap()).collect()
            }
        };
        if rows != *expected {
            wrong.push(format!("{name}: {rows:#} instead of {expected:#}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An application of definitions that have an assessment `t` of the instrument `odd` each, by id with
/// what they say of it.
fn app_of(assessments: &[(&str, Value)]) -> Option<App> {
    let definition = |(id, more): &(&str, Value)| {
        let mut assessment = json!({"name": "t", "instrument": "odd", "selector": ALL});
        assessment.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"id": id, "assessments": [assessment]})
    };
    let definitions: Vec<Value> = assessments.iter().map(definition).collect();
    App::with(&json!({"definitions": definitions}), json!({"mart_max_marts_per_owner": 100}))
}

/// What identifies a person is in no table that leaves it out, whatever else is called so there.
#[test]
fn what_a_definition_leaves_out_is_not_loaded_under_its_name() {
    let selector = "/assessment{id() :as assessment_uid, 'anonymous' :as name, 'none' :as c,
        'no' :as l, 'de' :as meta_language}
        .filter(instrumentversion.instrument='odd')/:rexdb";
    let later = json!([{"name": "name", "type": "text", "expression": "if_null(name, 'unknown')"}]);
    let Some(app) = app_of(&[
        (
            "chosen",
            json!({"selector": selector, "identifiable": "none", "fields": ["w"],
                "calculations": null}),
        ),
        ("calculated", json!({"selector": selector, "fields": ["w"]})),
        (
            "meta",
            json!({"selector": selector, "fields": null, "calculations": null,
                "meta": "application"}),
        ),
        ("later", json!({"identifiable": "none", "post_load_calculations": later})),
        ("all", json!({"selector": ALL, "fields": ["name"], "meta": "language"})),
    ]) else {
        return;
    };
    let record = json!([
        {"id": "name", "type": "text", "identifiable": true}, {"id": "w", "type": "integer"},
        {"id": "l", "type": {"base": "recordList", "record": [
            {"id": "s", "type": "text", "identifiable": true}]}},
    ]);
    let calculations = json!([{"id": "c", "type": "text", "identifiable": true}]);
    instrument_with(&app, &[(record, calculations)]);
    assess_with(
        &app,
        "a",
        1,
        r#"{"name": {"value": "Real Name"}, "w": {"value": 7},
            "l": {"value": [{"s": {"value": "Real"}}]}}"#,
        r#"{"language": "en", "application": "app", "calculations": {"c": "Real calculation"}}"#,
    );
    let given = json!({"name": "anonymous", "c": "none", "l": "no", "meta_language": "de"});
    let with = |more: Value| {
        let mut row = given.clone();
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([row])
    };
    has_rows(
        &app,
        &[
            ("chosen", with(json!({"w": 7}))),
            ("calculated", with(json!({"w": 7, "c": "Real calculation"}))),
            ("meta", with(json!({"meta_application": "app"}))),
            ("later", json!([{"name": "unknown", "w": 7}])),
            ("all", json!([{"name": "Real Name", "c": "Real calculation", "meta_language": "en"}])),
        ],
    );
}

/// A version asks what another one calculates.
#[test]
fn what_is_left_out_of_a_version_is_null() {
    let Some(app) = app_of(&[
        ("all", json!({"meta": "note"})),
        ("asked", json!({"calculations": null})),
        ("calculated", json!({"fields": null})),
        ("some", json!({"fields": ["w"]})),
        ("one", json!({"fields": ["bmi"], "calculations": null})),
    ]) else {
        return;
    };
    let field = |id: &str, ty: &str| json!({"id": id, "type": ty});
    instrument_with(
        &app,
        &[
            (json!([field("w", "integer"), field("bmi", "float")]), json!([])),
            (
                json!([field("w", "integer"), field("meta_note", "text")]),
                json!([field("bmi", "float")]),
            ),
        ],
    );
    let meta = r#"{"note": "of the program", "calculations": {"bmi": 22.5}}"#;
    assess_with(&app, "a", 1, r#"{"w": {"value": 1}, "bmi": {"value": 21.5}}"#, meta);
    assess_with(&app, "b", 2, r#"{"w": {"value": 2}}"#, meta);
    // What a version does not ask is none of its answers.
    assess_with(&app, "c", 2, r#"{"bmi": {"value": 3}, "meta_note": {"value": "own"}}"#, "{}");
    let row = |w: Value, bmi: Value, note: Value| json!({"w": w, "bmi": bmi, "meta_note": note});
    let null = Value::Null;
    has_rows(
        &app,
        &[
            (
                "all",
                json!([
                    row(json!(1), json!(21.5), json!("of the program")),
                    row(json!(2), json!(22.5), json!("of the program")),
                    row(null.clone(), null.clone(), json!("own")),
                ]),
            ),
            (
                "asked",
                json!([
                    row(json!(1), json!(21.5), null.clone()),
                    row(json!(2), null.clone(), null.clone()),
                    row(null.clone(), null.clone(), json!("own")),
                ]),
            ),
            ("calculated", json!([{"bmi": null}, {"bmi": 22.5}, {"bmi": null}])),
            (
                "some",
                json!([{"w": 1, "bmi": null}, {"w": 2, "bmi": 22.5}, {"w": null, "bmi": null}]),
            ),
            ("one", json!([{"bmi": 21.5}, {"bmi": null}, {"bmi": null}])),
        ],
    );
}

/// An assessment of another instrument than the definition names.
#[test]
fn versions_that_no_definition_names_are_told() {
    let every = "/assessment{id() :as assessment_uid}/:rexdb";
    let Some(app) = app_of(&[("odd", json!({"selector": every, "fields": ["text_field"]}))]) else {
        return;
    };
    instrument(&app, &[json!([{"id": "text_field", "type": "text"}])]);
    let (_, made) = app.create(json!({"owner": "test", "definition": "odd"}));
    let error = made.unwrap_err();
    let text = "Unknown InstrumentVersion encountered\nWhile loading field:\n    text_field\n";
    assert!(error.starts_with(text), "{error}");
}
