//! Parameters that a definition asks for.

use rex_yaml::Error;
use rex_yaml::validate::{Field, Test, Union, Val};
use serde::Deserialize as _;
use serde_json::Value;

use crate::parameter::DataType;

pub(crate) fn val() -> Val {
    let fields = || {
        let name = Val::Pattern {
            shown: "[a-zA-Z][a-zA-Z0-9_]*",
            matches: |text| {
                text.starts_with(|c: char| c.is_ascii_alphabetic())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            },
        };
        vec![Field::required("name", name), Field::required("type", DataType::val())]
    };
    let mut with_default = fields();
    with_default.push(Field::required("default", Val::Any));
    // A default that is null is not the same as none.
    Val::Union(Union {
        variants: vec![(
            Test::Field("default"),
            Val::checked(Val::record(with_default), check_default),
        )],
        default: Some(Box::new(Val::record(fields()))),
    })
}

fn check_default(parameter: &Value) -> Result<Value, Error> {
    let ty = DataType::deserialize(&parameter["type"]);
    let ty = ty.map_err(|error| Error::new(error.to_string()))?;
    let default = Val::maybe(ty.value_val())
        .value(&parameter["default"])
        .map_err(|error| error.guard("While validating field:", "default"))?;
    let mut parameter = parameter.clone();
    parameter["default"] = default;
    Ok(parameter)
}

#[cfg(test)]
mod tests {
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
}
