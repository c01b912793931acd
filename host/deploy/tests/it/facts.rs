//! What is no fact, or contradicts itself, is refused with its place.

use rex_deploy::Facts;
use serde_json::json;
use std::path::Path;

use crate::support::same;

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = Facts::text(text, "<unicode string>", Path::new("/")).unwrap_err();
    same(&error.to_string(), expected);
}

#[track_caller]
fn contradicts(kind: &str, text: &str, message: &str) {
    let place = "\"<unicode string>\", line 1";
    refused(text, &format!("{message}\nWhile parsing {kind} fact:\n    {place}"));
}

#[test]
fn facts_that_contradict_themselves() {
    contradicts(
        "table",
        "{ table: individual, present: false, title: Test Subjects }",
        "Got unexpected clause:\n    title",
    );
    contradicts(
        "table",
        "{ table: individual, present: false, with: [{ column: code, type: text }] }",
        "Got unexpected clause:\n    with",
    );
    for nested in ["table: sample", "column: code, of: sample"] {
        contradicts(
            "table",
            &format!("{{ table: individual, with: [{{ {nested} }}] }}"),
            "Got unrelated fact:\n    \"<unicode string>\", line 1",
        );
    }
    contradicts("column", "{ column: code, type: text }", "Got missing table name");
    contradicts(
        "column",
        "{ column: individual.code, of: identity, type: text }",
        "Got mismatched table names:\n    individual, identity",
    );
    contradicts("column", "{ column: individual.sex }", "Got missing clause:\n    type");
    contradicts("column", "{ column: individual.sex, type: [] }", "Got missing enum labels");
    contradicts(
        "column",
        "{ column: individual.sex, type: [male, female, male] }",
        "Got duplicate enum labels:\n    male, female, male",
    );
    contradicts(
        "column",
        "{ column: individual.sex, type: [male, female], default: not-known }",
        "Got ill-typed default value:\n    not-known",
    );
    contradicts(
        "column",
        "{ column: individual.code, type: text, present: false }",
        "Got unexpected clause:\n    type",
    );
    contradicts("link", "{ link: individual }", "Got missing table name");
    contradicts(
        "link",
        "{ link: sample.individual, of: measure }",
        "Got mismatched table names:\n    sample, measure",
    );
    contradicts(
        "link",
        "{ link: individual.mother, to: individual, present: false }",
        "Got unexpected clause:\n    to",
    );
    contradicts("identity", "{ identity: [] }", "Got missing identity fields");
    contradicts("identity", "{ identity: [code] }", "Got missing table name");
    contradicts(
        "identity",
        "{ identity: [individual.code], of: study }",
        "Got mismatched table names:\n    individual, study",
    );
    contradicts("data", "{ data: { code: asdl } }", "Got missing table name");
}

#[test]
fn facts_of_no_known_shape() {
    refused(
        "{ tabel: x }",
        r#"
        Expected one of:
            alias record
            column record
            data record
            identity record
            include record
            link record
            sql record
            table record
        Got:
            a mapping
        While parsing:
            "<unicode string>", line 1
        "#,
    );
    refused(
        "- { table: x }\n- { table: x, colour: red }",
        r#"
        Got unexpected field:
            colour
        While parsing:
            "<unicode string>", line 2
        "#,
    );
    refused(
        "table: x\nwith:\n- column: Code\n  type: text\n",
        r#"
        Expected a string matching:
            /[a-z_][0-9a-z_]*([.][a-z_][0-9a-z_]*)?/
        Got:
            Code
        While parsing:
            "<unicode string>", line 3
        While validating field:
            column
        While validating field:
            with
        "#,
    );
    refused(
        "{ column: x.y, type: number }",
        r#"
        Expected one of:
            boolean, date, datetime, decimal, float, integer, integer-int4, json, json-json, text, time
        Got:
            number
        While parsing:
            "<unicode string>", line 1
        While validating field:
            type
        "#,
    );
}

#[test]
fn facts_without_a_place_show_themselves() {
    let facts = json!([{"table": "x"}, {"column": "code", "type": "text"}]);
    same(
        &Facts::value(&facts, Path::new("/")).unwrap_err().to_string(),
        r#"
        Got missing table name
        While parsing column fact:
            {"column":"code","type":"text"}
        "#,
    );
    let facts = json!([{"table": "x", "with": [{"colum": 1}]}]);
    let error = Facts::value(&facts, Path::new("/")).unwrap_err().to_string();
    assert!(error.ends_with("While validating sequence item\n    #1"), "{error}");
}
