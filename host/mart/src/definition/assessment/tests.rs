//! What an assessment may be and may not be, as the original has it.

use serde_json::{Value, json};

use super::{Assessment, source_val, val};
use crate::definition::testing::{accepted, refused};

const QUERY: &str = "/measure{id() :as assessment_uid}";

/// The least that an assessment says, and more.
fn given(more: Value) -> Value {
    let mut given = json!({"instrument": "foo", "selector": QUERY});
    if let (Value::Object(given), Value::Object(more)) = (&mut given, more) {
        given.extend(more);
    }
    given
}

/// What becomes of the least, and of more.
fn whole(more: Value) -> Value {
    let mut whole = json!({
        "instrument": ["foo"], "name": "foo", "selector": {"query": QUERY, "parameters": {}},
        "parental_relationship": {"type": "trunk", "parent": []}, "identifiable": "any",
        "fields": [], "calculations": [], "meta": null, "post_load_calculations": [],
    });
    if let (Value::Object(whole), Value::Object(more)) = (&mut whole, more) {
        whole.extend(more);
    }
    whole
}

#[test]
fn what_an_assessment_may_be() {
    let postcalc = |name: &str| json!({"name": name, "type": "text", "expression": "upper(a)"});
    for (more, becomes) in [
        (json!({}), json!({})),
        (json!({"name": "bar"}), json!({"name": "bar"})),
        (json!({"instrument": "0FoO"}), json!({"instrument": ["0FoO"]})),
        (json!({"instrument": ["foo", "bar"]}), json!({"instrument": ["foo", "bar"]})),
        (json!({"selector": {"query": QUERY}}), json!({})),
        (
            json!({"selector": {"query": QUERY, "parameters": {"mood": "happy"}}}),
            json!({"selector": {"query": QUERY, "parameters": {"mood": "happy"}}}),
        ),
        (
            json!({"parental_relationship": {"type": "facet", "parent": "footable"}}),
            json!({"parental_relationship": {"type": "facet", "parent": ["footable"]}}),
        ),
        (json!({"identifiable": "none"}), json!({"identifiable": "none"})),
        (json!({"fields": null}), json!({"fields": null})),
        (json!({"fields": "bar"}), json!({"fields": ["bar"]})),
        (json!({"calculations": null}), json!({"calculations": null})),
        (json!({"calculations": ["bar", "baz"]}), json!({"calculations": ["bar", "baz"]})),
        (json!({"meta": "bar"}), json!({"meta": [{"bar": "text"}]})),
        (
            json!({"meta": ["bar", {"baz": "boolean"}]}),
            json!({"meta": [{"bar": "text"}, {"baz": "boolean"}]}),
        ),
        (json!({"meta": {"bar": "boolean"}}), json!({"meta": [{"bar": "boolean"}]})),
        (json!({"meta": "timeTaken"}), json!({"meta": [{"timeTaken": "integer"}]})),
        (
            json!({"post_load_calculations": postcalc("a")}),
            json!({"post_load_calculations": [postcalc("a")]}),
        ),
        (
            json!({"post_load_calculations": [postcalc("a"), postcalc("b")]}),
            json!({"post_load_calculations": [postcalc("a"), postcalc("b")]}),
        ),
    ] {
        let whole = whole(becomes);
        accepted(&val(), &given(more), &whole);
        Assessment::of(whole).unwrap();
    }
}

#[test]
fn how_an_assessment_may_hang_on_others() {
    for (kind, parents, wrong) in [
        ("trunk", json!(["foo"]), "cannot have any parents"),
        ("facet", json!([]), "must have exactly one parent"),
        ("facet", json!(["foo", "bar"]), "must have exactly one parent"),
        ("branch", json!([]), "must have exactly one parent"),
        ("branch", json!(["foo", "bar"]), "must have exactly one parent"),
        ("cross", json!([]), "must have at least two parents"),
        ("cross", json!(["foo"]), "must have at least two parents"),
        ("ternary", json!([]), "must have at least two parents"),
        ("ternary", json!(["foo"]), "must have at least two parents"),
    ] {
        let got = rex_yaml::repr(&parents);
        refused(
            &val(),
            &given(json!({"parental_relationship": {"type": kind, "parent": parents}})),
            &format!(
                "Relationship type \"{kind}\" {wrong}\nGot:\n    {got}\nWhile validating field:\n    \
                 parent\nWhile validating field:\n    parental_relationship"
            ),
        );
    }
}

#[test]
fn what_an_assessment_may_not_be() {
    let postcalc = |ty: &str| json!({"name": "postcalc1", "type": ty, "expression": "upper(a)"});
    let long = "qwertyuiopasdfghjklzxcvbnm".repeat(3);
    for (more, text) in [
        (
            json!({"post_load_calculations": postcalc("something")}),
            "Expected one of:\n    text, integer, float, boolean, date, time, dateTime\nGot:\n    \
             'something'\nWhile validating field:\n    type\nWhile validating field:\n    \
             post_load_calculations",
        ),
        (
            json!({"post_load_calculations": [postcalc("text"), postcalc("text")]}),
            "Calculation Names (postcalc1) cannot be duplicated within an Assessment\n\
             While validating field:\n    post_load_calculations",
        ),
        (
            json!({"meta": ["calculations"]}),
            "CalculationSet results are handled by the calculations property\n\
             While validating sequence item\n    #1\nWhile validating field:\n    meta",
        ),
        (
            json!({"meta": [{"application": "boolean"}]}),
            "Cannot redefine the standard type for \"application\"\n\
             While validating sequence item\n    #1\nWhile validating field:\n    meta",
        ),
        (
            json!({"meta": {"bar": "boolean", "baz": "text"}}),
            "Mapping can only contain one element\nWhile validating field:\n    meta",
        ),
        (
            json!({"instrument": "1234567890"}),
            "Cannot make a safe token out of \"1234567890\"\nWhile validating field:\n    name",
        ),
        (
            json!({"instrument": []}),
            "Assessment does not specify any instruments\nWhile validating field:\n    instrument",
        ),
        (
            json!({"selector": "   "}),
            "Selector querys cannot be empty\nGot:\n    ''\nWhile validating field:\n    query\n\
             While validating field:\n    selector",
        ),
        (
            json!({"selector": 123}),
            "Failed to match the value against any of the following:\n    Expected a string\n    \
             Got:\n        123\n\n    Expected a mapping\n    Got:\n        123\n\
             While validating field:\n    selector",
        ),
        (
            json!({"selector": {"parameters": {"mood": "happy"}}}),
            "Failed to match the value against any of the following:\n    Expected a string\n    \
             Got:\n        {'parameters': {'mood': 'happy'}}\n\n    Missing mandatory field:\n        \
             query\nWhile validating field:\n    selector",
        ),
        (
            json!({"name": long}),
            &format!(
                "Name cannot be longer than 60 characters\nGot:\n    {long}\n\
                 While validating field:\n    name"
            ),
        ),
        (
            json!({"parental_relationship": "trunk"}),
            "Expected a JSON object\nGot:\n    'trunk'\nWhile validating field:\n    \
             parental_relationship",
        ),
        (
            json!({"fields": null, "calculations": null}),
            "Assessment does not include any fields, calculations, or metadata",
        ),
        (
            json!({"instrument": "@ALL", "name": "x"}),
            "The \"name\", \"fields\", \"calculations\", and \"post_load_calculations\" properties \
             are not allowed when @ALL is specified for the instrument.",
        ),
    ] {
        refused(&val(), &given(more), text);
    }
    refused(&val(), &json!({"instrument": "foo"}), "Missing mandatory field:\n    selector");
    refused(&val(), &json!({"selector": QUERY}), "Missing mandatory field:\n    instrument");
}

#[test]
fn definers_are_known_by_name() {
    let given = json!({"dynamic": "rexdb"});
    accepted(&source_val(), &given, &json!({"dynamic": "rexdb", "options": {}}));
    refused(
        &source_val(),
        &json!({"dynamic": "foo"}),
        "Unknown Definer ID\nGot:\n    foo\nWhile validating field:\n    dynamic",
    );
}
