//! Parameters of definitions, right and wrong.

use super::*;
use crate::definition::testing::{accepted, refused};
use crate::parameter::Parameter;
use serde_json::json;

#[test]
fn what_a_parameter_may_be() {
    for (given, whole, default) in [
        (json!({"name": "foo", "type": "text"}), json!({"name": "foo", "type": "text"}), None),
        (
            json!({"name": "foo", "type": "text", "default": "bar"}),
            json!({"name": "foo", "type": "text", "default": "bar"}),
            Some(json!("bar")),
        ),
        (
            json!({"name": "foo", "type": "integer", "default": "7"}),
            json!({"name": "foo", "type": "integer", "default": 7}),
            Some(json!(7)),
        ),
        (
            json!({"name": "foo", "type": "text", "default": null}),
            json!({"name": "foo", "type": "text", "default": null}),
            Some(json!(null)),
        ),
    ] {
        accepted(&val(), &given, &whole);
        let parameter: Parameter = serde_json::from_value(whole).unwrap();
        assert_eq!(parameter.default, default);
    }
}

#[test]
fn what_a_parameter_may_not_be() {
    for (given, text) in [
        (
            json!({"name": "123", "type": "text"}),
            "Expected a string matching:\n    /[a-zA-Z][a-zA-Z0-9_]*/\nGot:\n    '123'\n\
             While validating field:\n    name",
        ),
        (
            json!({"name": "foo", "type": "enumeration"}),
            "Expected one of:\n    text, integer, float, boolean, date, time, dateTime\n\
             Got:\n    'enumeration'\nWhile validating field:\n    type",
        ),
        (
            json!({"name": "foo", "type": "integer", "default": "bar"}),
            "Expected an integer\nGot:\n    'bar'\nWhile validating field:\n    default",
        ),
    ] {
        refused(&val(), &given, text);
    }
}
