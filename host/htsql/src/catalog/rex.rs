//! RexDB naming: what deployed tables show of themselves.
//!
//! A deployed table has a serial `id` that foreign keys refer to, and its identity as the primary
//! key. Neither `id` nor foreign key columns have names in queries; links do, and are public.
//! Labels, titles and aliases that differ from the default are kept in comments, as YAML.

use super::label::{Arc, Bidder, Label};
use super::{Catalog, Join, TableId};

/// The only schema a deployment uses.
pub(super) const SCHEMA: &str = "public";

/// What a comment says: only entries that differ from the default.
#[derive(Debug, Default)]
struct Metadata {
    label: Option<String>,
    title: Option<String>,
    aliases: Vec<String>,
}

/// Reads the subset of YAML that deployments write: `key: value` lines and lists of scalars.
fn metadata(comment: Option<&str>) -> Metadata {
    let mut metadata = Metadata::default();
    let Some(body) = comment.and_then(|text| text.strip_prefix("---")) else {
        return metadata;
    };
    // A long scalar goes on in lines that are set in.
    let mut lines: Vec<String> = Vec::new();
    for line in body.lines() {
        let goes_on = line.starts_with(' ') && !line.trim_start().starts_with("- ");
        match lines.last_mut().filter(|_| goes_on) {
            Some(last) => *last = format!("{last} {}", line.trim()),
            None => lines.push(line.to_string()),
        }
    }
    let mut key = "";
    for line in &lines {
        if let Some(item) = line.trim_start().strip_prefix("- ") {
            if key == "aliases" {
                metadata.aliases.push(scalar(item));
            }
        } else if let Some((name, value)) = line.split_once(':') {
            key = name.trim();
            let value = scalar(value);
            match key {
                "label" if !value.is_empty() => metadata.label = Some(value),
                "title" if !value.is_empty() => metadata.title = Some(value),
                _ => {}
            }
        }
    }
    metadata
}

fn scalar(text: &str) -> String {
    let text = text.trim();
    let inner = |quote: char| text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote));
    if let Some(inner) = inner('\'') {
        inner.replace("''", "'")
    } else if let Some(inner) = inner('"') {
        unescaped(inner)
    } else {
        text.to_string()
    }
}

/// The text within double quotes, where what is not ASCII is written as `\xE9` or `\u20AC`.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let digits = match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('x')) => 2,
            ('\\', Some('u')) => 4,
            ('\\', Some('U')) => 8,
            ('\\', Some('n')) => {
                out.push('\n');
                continue;
            }
            ('\\', Some('t')) => {
                out.push('\t');
                continue;
            }
            (_, Some(escaped)) => {
                out.push(escaped);
                continue;
            }
            (c, None) => {
                out.push(c);
                continue;
            }
        };
        let code: String = chars.by_ref().take(digits).collect();
        let code = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
        out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    out
}

/// The title of what has none: `first_name` as `First Name`.
pub fn titled(label: &str) -> String {
    let mut title = String::with_capacity(label.len());
    let mut starts = true;
    for c in label.replace('_', " ").chars() {
        if starts {
            title.extend(c.to_uppercase());
        } else {
            title.extend(c.to_lowercase());
        }
        starts = !c.is_alphabetic();
    }
    title
}

fn link_label(catalog: &Catalog, join: Join) -> (String, Metadata) {
    let fk = catalog.key(join);
    let Some(column) = fk.columns.first().map(|c| catalog.column(join.owner, *c)) else {
        return (fk.name.clone(), Metadata::default());
    };
    let metadata = metadata(column.comment.as_deref());
    let label = metadata.label.clone().unwrap_or_else(|| {
        let name = column.name.strip_suffix("_id").unwrap_or(&column.name);
        let name = name.trim_end_matches('_');
        if name.is_empty() { column.name.clone() } else { name.to_string() }
    });
    (label, metadata)
}

fn table_name(catalog: &Catalog, id: TableId) -> (String, Metadata) {
    let table = catalog.table(id);
    let metadata = metadata(table.comment.as_deref());
    (metadata.label.clone().unwrap_or_else(|| table.name.clone()), metadata)
}

/// Whether a column has no name: `id`, and the columns of links.
pub(super) fn is_hidden(catalog: &Catalog, id: TableId, column: usize) -> bool {
    catalog.column(id, column).name == "id"
        || catalog.direct_joins(id).iter().any(|j| catalog.key(*j).columns.contains(&column))
}

pub(super) fn table_bidder(catalog: &Catalog, id: TableId) -> Bidder {
    let (label, metadata) = table_name(catalog, id);
    Bidder {
        arc: Arc::Table(id),
        arity: None,
        title: Some(metadata.title.unwrap_or_else(|| titled(&label))),
        bids: vec![(label, 1)],
        is_public: false,
    }
}

pub(super) fn bidders(catalog: &Catalog, id: TableId) -> Vec<Bidder> {
    let table = catalog.table(id);
    let mut bidders = Vec::new();
    for (index, column) in table.columns.iter().enumerate() {
        if is_hidden(catalog, id, index) {
            continue;
        }
        let metadata = metadata(column.comment.as_deref());
        let label = metadata.label.unwrap_or_else(|| column.name.clone());
        bidders.push(Bidder {
            arc: Arc::Column(index, None),
            arity: None,
            title: Some(metadata.title.unwrap_or_else(|| titled(&label))),
            bids: vec![(label, 1)],
            is_public: true,
        });
    }
    for join in catalog.direct_joins(id) {
        let (label, metadata) = link_label(catalog, join);
        bidders.push(Bidder {
            arc: Arc::Link(join),
            arity: None,
            title: Some(metadata.title.unwrap_or_else(|| titled(&label))),
            bids: vec![(label, 4), target_bid(catalog, join)],
            is_public: true,
        });
    }
    for join in catalog.reverse_joins(id) {
        let (label, _) = link_label(catalog, *join);
        let (target, metadata) = table_name(catalog, catalog.target(*join));
        bidders.push(Bidder {
            arc: Arc::Link(*join),
            arity: None,
            title: Some(metadata.title.unwrap_or_else(|| titled(&target))),
            bids: vec![target_bid(catalog, *join), (format!("{target} via {label}"), 1)],
            is_public: false,
        });
    }
    for alias in metadata(table.comment.as_deref()).aliases {
        bidders.extend(alias_bidder(&alias));
    }
    bidders
}

/// Links of both directions would be called as the table they lead to.
fn target_bid(catalog: &Catalog, join: Join) -> (String, i32) {
    let weight = if catalog.is_of_primary_key(join) { 3 } else { 2 };
    (table_name(catalog, catalog.target(join)).0, weight)
}

/// `name := body` or `name($p, …) := body`.
fn alias_bidder(alias: &str) -> Option<Bidder> {
    let (lhs, body) = alias.split_once(":=")?;
    let (name, params) = match lhs.split_once('(') {
        Some((name, params)) => {
            let params = params.trim().trim_end_matches(')');
            let params = params.split(',').map(str::trim).filter(|param| !param.is_empty());
            let param = |p: &str| match p.strip_prefix('$') {
                Some(name) => (name.to_string(), true),
                None => (p.to_string(), false),
            };
            (name, Some(params.map(param).collect::<Vec<_>>()))
        }
        None => (lhs, None),
    };
    Some(Bidder {
        arity: params.as_ref().map(Vec::len),
        arc: Arc::Alias { body: body.trim().to_string(), params: params.unwrap_or_default() },
        title: None,
        bids: vec![(name.trim().to_string(), 5)],
        is_public: false,
    })
}

/// Columns and direct links by the position of their column, everything else after them.
pub(super) fn order(catalog: &Catalog, mut labels: Vec<Label>) -> Vec<Label> {
    labels.sort_by_key(|label| match &label.arc {
        Arc::Column(column, _) => *column,
        Arc::Link(join) if join.is_direct => {
            catalog.key(*join).columns.first().copied().unwrap_or(usize::MAX)
        }
        _ => usize::MAX,
    });
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_comments() {
        let comment = "---\ntitle: 'It''s'\naliases:\n- __title__ := if_null(title,string(code))\n";
        let metadata = metadata(Some(comment));
        assert_eq!(metadata.title.as_deref(), Some("It's"));
        assert_eq!(metadata.aliases, ["__title__ := if_null(title,string(code))"]);
        let comment = "---\naliases:\n- a :=\n  b\ntitle: \"caf\\xE9 \\\"x\\\"\"\n";
        let found = super::metadata(Some(comment));
        assert_eq!(
            (found.title.as_deref(), &found.aliases[..]),
            (Some("caf\u{e9} \"x\""), &["a := b".to_string()][..])
        );
        let folded = super::metadata(Some("---\ntitle: a long\n  title\n"));
        assert_eq!(folded.title.as_deref(), Some("a long title"));
    }

    #[test]
    fn titles() {
        assert_eq!(titled("first_name"), "First Name");
        assert_eq!(titled("b2b_id"), "B2B Id");
    }
}
