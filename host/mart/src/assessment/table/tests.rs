//! Which tables fields become and how those are called, as the original has it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Builder, Tables};
use crate::assessment::field::{Field, Kind, Origin};
use crate::assessment::instrument::{Instrument, Version};
use crate::definition::{Assessment, assessment_val};
use crate::parameter::DataType;

fn assessment(more: Value) -> Assessment {
    let mut given = json!({"instrument": "demo", "selector": "/x"});
    given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Assessment::of(assessment_val().value(&given).unwrap()).unwrap()
}

/// An instrument with these records, one for each version, and calculations of the last.
fn instrument(records: &[Value], calculations: &Value) -> Instrument {
    let version = |(n, record): (usize, &Value)| {
        let definition = json!({"title": "Demo", "record": record}).to_string();
        let calculations = json!({"calculations": calculations}).to_string();
        Version::read(&format!("demo{}", n + 1), &definition, &calculations).unwrap()
    };
    Instrument { versions: records.iter().enumerate().map(version).collect() }
}

fn tables(more: Value, records: &[Value], limit: usize) -> Result<Tables, String> {
    let assessment = assessment(more);
    let calculations = json!([{"id": "calc1", "type": "integer"}, {"id": "calc2", "type": "text"}]);
    let build = || {
        let selected = Field::new("age", Kind::Simple(DataType::Integer), Origin::Selected)?;
        let mut builder = Builder::new(&assessment, vec![selected]);
        builder.calculations()?;
        builder.instrument(&instrument(records, &calculations))?;
        builder.build(limit, &mut BTreeSet::new())
    };
    build().map_err(|error: rex_yaml::Error| error.to_string())
}

fn text(id: &str) -> Value {
    json!({"id": id, "type": "text"})
}

/// Tables with their columns: `table(column, …)`.
fn shown(tables: &Tables) -> Vec<String> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for fact in tables.facts().as_array().unwrap() {
        let text = |name: &str| fact[name].as_str().map(str::to_owned);
        if let Some(table) = text("table") {
            all.push((table, Vec::new()));
        } else if let Some(field) = text("link").map(|link| format!("→{link}")).or(text("column"))
        {
            let of = text("of").unwrap();
            all.iter_mut().find(|(table, _)| *table == of).unwrap().1.push(field);
        }
    }
    all.into_iter().map(|(table, fields)| format!("{table}({})", fields.join(" "))).collect()
}

fn complex() -> Value {
    json!([
        text("q"),
        {"id": "list", "type": {"base": "recordList", "record": [text("a"), text("record_seq")]}},
        {"id": "grid", "type": {"base": "matrix", "rows": [{"id": "r1"}, {"id": "r2"}],
            "columns": [text("c1"), {"id": "c2", "type": "integer", "identifiable": true}]}},
    ])
}

#[test]
fn complex_fields_become_tables() {
    let built = tables(json!({}), &[complex()], 1000).unwrap();
    assert_eq!(
        shown(&built),
        [
            "demo(assessment_uid instrument_version_uid age q calc1 calc2)",
            "demo_list(→demo record_seq a record_seq_src)",
            "demo_grid(→demo r1_c1 r1_c2 r2_c1 r2_c2)",
        ]
    );
}

#[test]
fn definitions_choose_fields() {
    let chosen = |more: Value| shown(&tables(more, &[complex()], 1000).unwrap());
    assert_eq!(
        chosen(json!({"fields": ["grid.r2.c1", "list.a"], "calculations": ["calc2"]})),
        [
            "demo(assessment_uid instrument_version_uid age calc2)",
            "demo_list(→demo record_seq a)",
            "demo_grid(→demo r2_c1)",
        ]
    );
    assert_eq!(
        chosen(json!({"fields": null, "calculations": null, "meta": ["dateCompleted", "other"]})),
        ["demo(assessment_uid instrument_version_uid age meta_datecompleted meta_other)"]
    );
    // Not even what the selector gives, but what is computed later.
    let computed = json!([{"name": "p", "type": "text", "expression": "1"}]);
    assert_eq!(
        chosen(json!({"identifiable": "only", "post_load_calculations": computed})),
        ["demo(assessment_uid instrument_version_uid p)", "demo_grid(→demo r1_c2 r2_c2)"]
    );
    assert_eq!(chosen(json!({"identifiable": "none"}))[2], "demo_grid(→demo r1_c1 r2_c1)",);
}

#[test]
fn what_one_version_marks_is_marked() {
    let field = |id: &str, marked: bool| json!({"id": id, "type": "text", "identifiable": marked});
    let list = |marked: bool, record: Value| {
        json!({"id": "list", "identifiable": marked,
            "type": {"base": "recordList", "record": record}})
    };
    let first =
        json!([field("a", false), field("b", true), list(false, json!([field("x", true)]))]);
    let second =
        json!([field("a", true), field("c", false), list(false, json!([field("x", false)]))]);
    let chosen = |identifiable: &str| {
        let more = json!({"identifiable": identifiable, "calculations": null});
        shown(&tables(more, &[first.clone(), second.clone()], 1000).unwrap())
    };
    assert_eq!(
        chosen("only"),
        ["demo(assessment_uid instrument_version_uid a b)", "demo_list(→demo record_seq x)"]
    );
    assert_eq!(chosen("none"), ["demo(assessment_uid instrument_version_uid age c)"]);
}

/// Also in rows that only another version has, or that alone are listed.
#[test]
fn columns_of_matrices_are_marked_as_a_whole() {
    let matrix = |marked: bool, rows: &[&str]| {
        let rows: Vec<Value> = rows.iter().map(|row| json!({"id": row})).collect();
        let column = json!({"id": "c", "type": "text", "identifiable": marked});
        json!([{"id": "m", "type": {"base": "matrix", "rows": rows,
            "columns": [column, text("d")]}}])
    };
    let versions = [matrix(true, &["r1"]), matrix(false, &["r1", "r2"])];
    let chosen = |identifiable: &str, fields: Value| {
        let more = json!({"identifiable": identifiable, "calculations": null, "fields": fields});
        shown(&tables(more, &versions, 1000).unwrap()).split_off(1)
    };
    assert_eq!(chosen("none", json!([])), ["demo_m(→demo r1_d r2_d)"]);
    assert_eq!(chosen("only", json!([])), ["demo_m(→demo r1_c r2_c)"]);
    assert_eq!(chosen("none", json!(["m.r2.c", "m.r2.d"])), ["demo_m(→demo r2_d)"]);
}

#[test]
fn parents_are_links() {
    for (kind, parents, identity) in [
        ("facet", json!(["p"]), json!(["p"])),
        ("branch", json!(["p"]), json!(["p", "assessment_uid"])),
        ("cross", json!(["p", "q"]), json!(["p", "q"])),
        ("ternary", json!(["p", "q"]), json!(["p", "q", "assessment_uid"])),
    ] {
        let more = json!({"parental_relationship": {"type": kind, "parent": parents}});
        let facts = tables(more, &[json!([text("x")])], 1000).unwrap().facts();
        let found = facts.as_array().unwrap().iter().find(|fact| fact.get("identity").is_some());
        assert_eq!(found.unwrap()["identity"], identity, "{kind}");
    }
}

#[test]
fn what_does_not_fit_goes_to_more_tables() {
    let record: Vec<Value> = (1..=7).map(|n| text(&format!("f{n}"))).collect();
    let built = tables(json!({}), &[json!(record)], 5).unwrap();
    assert_eq!(
        shown(&built),
        [
            "demo(assessment_uid instrument_version_uid age f1 f2)",
            "demo_2(→demo f3 f4 f5 f6)",
            "demo_3(→demo f7 calc1 calc2)",
        ]
    );
    let calculation = |n: u32| json!({"name": format!("p{n}"), "type": "text", "expression": "1"});
    let more = json!({"post_load_calculations": [calculation(1), calculation(2), calculation(3)]});
    let built = tables(more, &[json!(record)], 5).unwrap();
    assert_eq!(shown(&built)[0], "demo(assessment_uid instrument_version_uid p1 p2 p3)");
    assert_eq!(shown(&built)[1], "demo_2(→demo age f1 f2 f3)");
}

#[test]
fn names_that_are_taken_or_too_long() {
    let built = tables(
        json!({}),
        &[json!([text("assessment_uid"), text("a.b"), text("a!b"), text("ab")])],
        1000,
    );
    assert_eq!(
        shown(&built.unwrap())[0],
        "demo(assessment_uid instrument_version_uid age assessment_uid_src ab_1 ab_2 ab_3 calc1 \
         calc2)"
    );
    let long = "x".repeat(60);
    let list =
        |id: String| json!({"id": id, "type": {"base": "recordList", "record": [text("a")]}});
    let record = json!([list(format!("{long}1")), list(format!("{long}2"))]);
    let built = tables(json!({}), &[record], 1000).unwrap();
    let names: Vec<&str> = built.children.iter().map(|child| child.name.as_str()).collect();
    let stem = format!("demo_{}", "x".repeat(55));
    assert_eq!(names, [format!("{stem}_2"), format!("{stem}_3")]);
}

#[test]
fn versions_are_merged_where_they_can_be() {
    let list =
        |record: Value| json!([{"id": "f", "type": {"base": "recordList", "record": record}}]);
    let matrix = || json!([{"id": "f", "type": {"base": "matrix", "rows": [{"id": "r"}], "columns": [text("c")]}}]);
    let built = tables(
        json!({}),
        &[list(json!([text("a")])), list(json!([text("a"), {"id": "b", "type": "date"}]))],
        1000,
    );
    assert_eq!(shown(&built.unwrap())[1], "demo_f(→demo record_seq a b)");
    let wider = json!([{"id": "f", "type": {"base": "matrix", "rows": [{"id": "r"}, {"id": "s"}],
        "columns": [text("c"), {"id": "d", "type": "integer"}]}}]);
    let built = tables(json!({}), &[matrix(), wider], 1000);
    assert_eq!(shown(&built.unwrap())[1], "demo_f(→demo r_c r_d s_c s_d)");
    let number = |ty: &str| json!([{"id": "f", "type": ty}, text("g")]);
    let built = tables(json!({}), &[number("integer"), number("float")], 1000).unwrap();
    assert_eq!(shown(&built), ["demo(assessment_uid instrument_version_uid age f g calc1 calc2)"]);
    let fact = built.facts().as_array().unwrap().iter().find(|f| f["column"] == "f").cloned();
    assert_eq!(fact.unwrap()["type"], "float");
    for (first, second, error) in [
        (
            json!([text("f")]),
            list(json!([text("a")])),
            "Cannot merge a recordList field with any other type of field (f)",
        ),
        (
            json!([text("f")]),
            matrix(),
            "Cannot merge a matrix field with any other type of field (f)",
        ),
        (
            list(json!([text("a")])),
            json!([{"id": "f", "type": "integer"}]),
            "Cannot merge a \"integer\" field with a complex field (f)",
        ),
    ] {
        assert_eq!(tables(json!({}), &[first, second], 1000).unwrap_err(), error);
    }
}

#[test]
fn custom_types_are_what_they_build_on() {
    let definition = json!({
        "types": {
            "mood": {"base": "enumeration", "enumerations": {"good": {}, "bad": {}}},
            "today": {"base": "mood"},
            "loop": {"base": "loop"},
        },
        "record": [{"id": "a", "type": "today"}, {"id": "b", "type": {"base": "mood",
            "enumerations": {"none": {}}}}],
    });
    let version = Version::read("v", &definition.to_string(), "{}").unwrap();
    let mut builder_of = assessment(json!({"calculations": null}));
    builder_of.name = "demo".to_owned();
    let mut builder = Builder::new(&builder_of, Vec::new());
    builder.instrument(&Instrument { versions: vec![version] }).unwrap();
    let facts = builder.build(1000, &mut BTreeSet::new()).unwrap().facts();
    let types: Vec<&Value> =
        facts.as_array().unwrap().iter().skip(4).map(|fact| &fact["type"]).collect();
    assert_eq!(types, [&json!(["good", "bad"]), &json!(["none"])]);
    let looped =
        json!({"types": {"loop": {"base": "loop"}}, "record": [{"id": "a", "type": "loop"}]});
    assert!(Version::read("v", &looped.to_string(), "{}").is_err());
}
