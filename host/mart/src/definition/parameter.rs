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
mod tests;
