//! What a deployment says when the database refuses a record: which field is blank, which identity
//! or field value is there already, by the titles that people know.

use rex_htsql::catalog::Catalog;
use rex_htsql::catalog::model::{Table, UniqueKey};
use rex_htsql::error::Kind;
use rex_htsql::{Error, Naming};
use tokio_postgres::error::{DbError, SqlState};

/// A constraint that a record broke.
#[derive(Debug)]
pub(super) struct Refusal {
    code: SqlState,
    schema: String,
    table: String,
    column: Option<String>,
    constraint: Option<String>,
    /// The driver's text.
    text: String,
}

impl Refusal {
    pub(super) fn new(error: &DbError, text: String) -> Option<Refusal> {
        Some(Refusal {
            code: error.code().clone(),
            schema: error.schema()?.to_string(),
            table: error.table()?.to_string(),
            column: error.column().map(str::to_string),
            constraint: error.constraint().map(str::to_string),
            text,
        })
    }

    /// Whether it is a duplicate of something else than the primary key.
    pub(super) fn is_beside_identity(&self, primary: &UniqueKey) -> bool {
        self.code == SqlState::UNIQUE_VIOLATION && self.constraint.as_ref() != Some(&primary.name)
    }

    /// The same record as a duplicate of the primary key, which it is too.
    pub(super) fn of_identity(&self, primary: &UniqueKey, columns: &str, values: &str) -> Refusal {
        let name = &primary.name;
        let text = format!(
            "duplicate key value violates unique constraint \"{name}\"\n\
             DETAIL:  Key ({columns})=({values}) already exists."
        );
        Refusal {
            code: self.code.clone(),
            schema: self.schema.clone(),
            table: self.table.clone(),
            column: None,
            constraint: Some(name.clone()),
            text,
        }
    }

    /// The driver's text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The error by titles; `None` where the naming has none, or the driver's text says it best.
    pub(super) fn titled(&self, catalog: &Catalog) -> Option<Error> {
        if catalog.naming() != Naming::Rex {
            return None;
        }
        let schemas = &catalog.database().schemas;
        let schema = schemas.iter().find(|schema| schema.name == self.schema)?;
        let table = schema.tables.iter().find(|table| table.name == self.table)?;
        let title = table_title(table);
        let error = if self.code == SqlState::NOT_NULL_VIOLATION {
            let name = self.column.as_ref()?;
            let column = table.columns.iter().position(|column| column.name == *name)?;
            let place = format!("{title} . {}", column_title(table, column));
            Error::quoting("Got a blank field value", place)
        } else if self.code == SqlState::UNIQUE_VIOLATION {
            let name = self.constraint.as_ref()?;
            let key = table.unique_keys.iter().find(|key| key.name == *name)?;
            let message = match key.primary {
                true => "Got a duplicate identity",
                false => "Got a duplicate field value",
            };
            Error::quoting(message, format!("{title} . {}", key_title(table, key)))
        } else {
            return None;
        };
        let error = error.with_kind(Kind::Database);
        Some(error.wrap("Which triggered an error from the database driver", self.text.clone()))
    }
}

/// `Field`, or `(Field 1, Field 2)`.
fn key_title(table: &Table, key: &UniqueKey) -> String {
    let titles: Vec<String> = key.columns.iter().map(|at| column_title(table, *at)).collect();
    match titles.as_slice() {
        [one] => one.clone(),
        many => format!("({})", many.join(", ")),
    }
}

fn table_title(table: &Table) -> String {
    let entry = |name| metadata(table.comment.as_deref(), name);
    let label = || entry("label").unwrap_or_else(|| table.name.clone());
    entry("title").unwrap_or_else(|| title_case(&label()))
}

fn column_title(table: &Table, at: usize) -> String {
    let Some(column) = table.columns.get(at) else { return String::new() };
    let entry = |name| metadata(column.comment.as_deref(), name);
    let label = || {
        let is_link = table.foreign_keys.iter().any(|key| key.columns == [at]);
        let link = column.name.strip_suffix("id").filter(|name| is_link && name.ends_with('_'));
        entry("label").unwrap_or_else(|| {
            link.map_or(column.name.as_str(), |l| l.trim_end_matches('_')).into()
        })
    };
    entry("title").unwrap_or_else(|| title_case(&label()))
}

/// A plain entry of the metadata in a comment.
fn metadata(comment: Option<&str>, name: &str) -> Option<String> {
    let mut lines = comment?.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim();
    let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    let plain = match (quoted('\''), quoted('"')) {
        (Some(text), _) => text.replace("''", "'"),
        (_, Some(text)) => text.replace("\\\"", "\""),
        _ => value.to_string(),
    };
    (!plain.is_empty()).then_some(plain)
}

/// `first_name` as `First Name`.
fn title_case(label: &str) -> String {
    let mut title = String::with_capacity(label.len());
    let mut starts = true;
    for c in label.chars().map(|c| if c == '_' { ' ' } else { c }) {
        match starts {
            true => title.extend(c.to_uppercase()),
            false => title.extend(c.to_lowercase()),
        }
        starts = !c.is_alphabetic();
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles() {
        assert_eq!(title_case("first_name"), "First Name");
        assert_eq!(metadata(Some("---\ntitle: 'It''s'\n"), "title").as_deref(), Some("It's"));
        assert_eq!(metadata(Some("plain"), "title"), None);
    }
}
