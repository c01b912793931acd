//! Indexes beside those that tables have from their facts. Their names are the server's choice.

use rex_db::Session;
use rex_deploy::sql;
use rex_yaml::Error;
use rex_yaml::validate::{Field, Val};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Opt;
use crate::failure::guarded;

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Index {
    table: String,
    /// Names, or expressions in parentheses.
    columns: Vec<String>,
    unique: bool,
    /// Which rows are indexed.
    partial: Option<String>,
}

pub(super) fn options() -> Vec<Opt> {
    let columns = Val::checked(Val::OneOrSeq(Box::new(Val::Str)), |value| {
        Ok(if value.is_array() { value.clone() } else { json!([value]) })
    });
    let index = Val::record(vec![
        Field::required("table", Val::Str),
        Field::required("columns", columns),
        Field::optional("unique", Val::Bool, json!(false)),
        Field::optional("partial", Val::maybe(Val::Str), Value::Null),
    ]);
    vec![Opt { name: "indexes", val: Val::seq(index), default: None }]
}

pub(super) fn run(
    indexes: &[Index],
    mart: &mut Session,
    log: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    for (n, index) in indexes.iter().enumerate() {
        guarded(mart.execute_sql(&index.statement()))
            .map_err(|error| error.guard("While creating index:", format!("#{}", n + 1)))?;
    }
    log(&format!("Created {} indexes", indexes.len()));
    Ok(())
}

impl Index {
    fn statement(&self) -> String {
        let unique = if self.unique { "UNIQUE " } else { "" };
        let columns: Vec<String> = self.columns.iter().map(|column| quoted(column)).collect();
        let partial = self.partial.as_ref().map_or(String::new(), |rows| format!(" WHERE {rows}"));
        format!(
            "CREATE {unique}INDEX ON {}\n({}){partial};",
            quoted(&self.table),
            columns.join(", ")
        )
    }
}

/// A name, unless it is quoted already or an expression.
fn quoted(text: &str) -> String {
    let is_within = |open, close| text.starts_with(open) && text.ends_with(close);
    match is_within('"', '"') || is_within('(', ')') {
        true => text.to_owned(),
        false => sql::name(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_the_original() {
        for (columns, unique, partial, statement) in [
            (&["bar"] as &[&str], false, None, "CREATE INDEX ON \"foo\"\n(\"bar\");"),
            (&["bar", "\"baz\""], false, None, "CREATE INDEX ON \"foo\"\n(\"bar\", \"baz\");"),
            (&["bar"], true, None, "CREATE UNIQUE INDEX ON \"foo\"\n(\"bar\");"),
            (
                &["(upper(bar))"],
                true,
                Some("baz > 10"),
                "CREATE UNIQUE INDEX ON \"foo\"\n((upper(bar))) WHERE baz > 10;",
            ),
        ] {
            let index = Index {
                table: "foo".to_owned(),
                columns: columns.iter().map(|&column| column.to_owned()).collect(),
                unique,
                partial: partial.map(str::to_owned),
            };
            assert_eq!(index.statement(), statement);
        }
    }
}
