//! Records to texts: the values of a record, converted to the domains of the columns and written
//! as PostgreSQL reads them.

use rex_htsql::clarify::Conversion;
use rex_htsql::domain::Domain;
use rex_htsql::literal::identity_text;
use rex_htsql::plan::FieldTarget;
use rex_htsql::{Error, Value};

use crate::params::scalar_text;

/// The text of a column's value; `None` is NULL.
pub(super) type Cell = Option<String>;

/// The fields of a record.
pub(super) fn fields(record: &Value) -> &[Value] {
    match record {
        Value::Record(values) => values,
        _ => &[],
    }
}

/// A value converted to a column's or a link's domain.
///
/// Fails with `Failed to adapt value of <name> to <domain>` above the value.
pub(super) fn convert(name: &str, conversion: &Conversion, value: &Value) -> Result<Value, Error> {
    let message = || format!("Failed to adapt value of {name} to {}", conversion.to());
    conversion.apply(value.clone()).map_err(|quote| Error::quoting(message(), quote))
}

/// The text of a field that goes to a column.
pub(super) fn column_cell(
    name: &str,
    conversion: &Conversion,
    value: &Value,
) -> Result<Cell, Error> {
    if conversion.is_identity() {
        return Ok(scalar_text(value));
    }
    Ok(scalar_text(&convert(name, conversion, value)?))
}

/// The texts of the leaves of an identity, left to right; `None` where a leaf is NULL.
pub(super) fn leaf_texts(identity: &Value) -> Option<Vec<String>> {
    fn collect(value: &Value, leaves: &mut Vec<String>) -> Option<()> {
        match value {
            Value::Identity(labels) => labels.iter().try_for_each(|label| collect(label, leaves)),
            leaf => {
                leaves.push(scalar_text(leaf)?);
                Some(())
            }
        }
    }
    let mut leaves = Vec::new();
    collect(identity, &mut leaves)?;
    Some(leaves)
}

/// `table[id]`, as errors name a row.
pub(super) fn row_name(label: &str, domain: &Domain, identity: &Value) -> String {
    let id = match (domain, identity) {
        (Domain::Identity(domains), Value::Identity(labels)) => identity_text(domains, labels),
        _ => None,
    };
    format!("{label}[{}]", id.as_deref().unwrap_or("null"))
}

/// The name of a field as errors print it.
pub(super) fn field_name(field: &FieldTarget) -> &str {
    match field {
        FieldTarget::Ignored => "",
        FieldTarget::Identity { .. } => "id()",
        FieldTarget::Column { name, .. } | FieldTarget::Link { name, .. } => name,
    }
}

/// An array literal of the server: elements in quotes, NULL without.
pub(super) fn array_literal<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> String {
    let mut text = String::from("{");
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            text.push(',');
        }
        match cell {
            None => text.push_str("NULL"),
            Some(cell) => {
                text.push('"');
                for c in cell.chars() {
                    if matches!(c, '"' | '\\') {
                        text.push('\\');
                    }
                    text.push(c);
                }
                text.push('"');
            }
        }
    }
    text.push('}');
    text
}

/// The array literals of the columns of rows.
pub(super) fn column_arrays(rows: &[Vec<Cell>], n_columns: usize) -> Vec<String> {
    (0..n_columns)
        .map(|column| {
            array_literal(rows.iter().map(|row| row.get(column).and_then(Option::as_deref)))
        })
        .collect()
}

/// A type without its length or precision, so that a cast to it cuts nothing off: `character(8)`
/// and a bare `character` would cut.
pub(super) fn bare_type(sql_type: &str) -> String {
    if sql_type.contains('"') {
        return sql_type.to_string();
    }
    if sql_type.ends_with("[]") {
        return "text".to_string();
    }
    let (head, tail) = match (sql_type.find('('), sql_type.rfind(')')) {
        (Some(open), Some(close)) if open < close => (&sql_type[..open], &sql_type[close + 1..]),
        _ => (sql_type, ""),
    };
    match head {
        "character varying" => "varchar".to_string(),
        "character" => "bpchar".to_string(),
        "bit" | "bit varying" => "varbit".to_string(),
        _ => format!("{head}{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_lose_what_would_cut() {
        for (from, to) in [
            ("character(8)", "bpchar"),
            ("character varying(16)", "varchar"),
            ("numeric(8,2)", "numeric"),
            ("timestamp(3) without time zone", "timestamp without time zone"),
            ("integer", "integer"),
            ("integer[]", "text"),
            ("\"odd(type)\"", "\"odd(type)\""),
        ] {
            assert_eq!(bare_type(from), to);
        }
    }

    #[test]
    fn arrays_quote_everything() {
        let cells = [Some("a"), None, Some("NULL"), Some("q\"\\,{}"), Some("")];
        assert_eq!(array_literal(cells.into_iter()), r#"{"a",NULL,"NULL","q\"\\,{}",""}"#);
    }
}
