//! Parameters that a definition asks for.

use rex_yaml::validate::{Field, Test, Union, Val};

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
    let with_default = |default: Val| {
        let mut fields = fields();
        fields.push(Field::required("default", default));
        Val::record(fields)
    };
    let typed = DataType::ALL
        .map(|ty| (Test::FieldIs("type", ty.name()), with_default(Val::maybe(ty.value_val()))));
    // What has another type is refused for that.
    let any = Box::new(with_default(Val::Any));
    let typed = Val::Union(Union { variants: typed.into(), default: Some(any) });
    // A default that is null is not the same as none.
    Val::Union(Union {
        variants: vec![(Test::Field("default"), typed)],
        default: Some(Box::new(Val::record(fields()))),
    })
}

#[cfg(test)]
mod tests;
