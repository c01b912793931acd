//! The data dictionary: tables that tell what the tables, columns and labels of a mart are. What the
//! database does not know comes from the instruments, and over it goes what the definition says.

use std::collections::BTreeMap;

use rex_db::Session;
use rex_deploy::{Deployer, Facts, FieldKind, TableShape, csv};
use rex_yaml::Error;
use rex_yaml::validate::Val;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Opt;
use crate::failure::guarded;

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Dictionary {
    table_name_tables: String,
    table_name_columns: String,
    table_name_enumerations: String,
    /// CSV texts.
    table_descriptions: Option<String>,
    column_descriptions: Option<String>,
    enumeration_descriptions: Option<String>,
}

/// What is known of the tables of a mart beside what the database tells, by labels.
#[derive(Debug, Default)]
pub(crate) struct Described {
    pub(crate) tables: BTreeMap<String, Description>,
    pub(crate) columns: BTreeMap<(String, String), Description>,
    /// Of labels of enumerations.
    pub(crate) labels: BTreeMap<(String, String, String), String>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Description {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) source: Option<String>,
}

pub(super) fn options() -> Vec<Opt> {
    let name = |name, default: &str| Opt { name, val: Val::Str, default: Some(default.into()) };
    let table = |name, check| Opt {
        name,
        val: Val::maybe(Val::checked(Val::Str, check)),
        default: Some(Value::Null),
    };
    vec![
        name("table_name_tables", "datadictionary_table"),
        name("table_name_columns", "datadictionary_column"),
        name("table_name_enumerations", "datadictionary_enumeration"),
        table("table_descriptions", |text| checked(text, &["name"])),
        table("column_descriptions", |text| checked(text, &["table", "name"])),
        table("enumeration_descriptions", |text| {
            checked(text, &["table", "column", "name", "description"])
        }),
    ]
}

/// A text of CSV whose first line names at least these fields.
fn checked(text: &Value, fields: &[&str]) -> Result<Value, Error> {
    let text = text.as_str().unwrap_or_default().trim();
    if has_bare_return(text) {
        return Err(Error::new(
            "Invalid CSV input: new-line character seen in unquoted field - do you need to open \
             the file in universal-newline mode?",
        ));
    }
    let lines = csv::lines(text);
    let names = lines.first().map(|line| line.fields.as_slice()).unwrap_or_default();
    match fields.iter().find(|field| !names.iter().any(|name| name == *field)) {
        Some(field) => Err(Error::new(format!("Missing required field \"{field}\""))),
        None => Ok(text.into()),
    }
}

/// Whether a carriage return stands alone outside of quotes.
fn has_bare_return(text: &str) -> bool {
    let mut is_quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        is_quoted ^= c == '"';
        if c == '\r' && !is_quoted && chars.peek().is_some_and(|next| *next != '\n') {
            return true;
        }
    }
    false
}

/// The lines of a checked text, by the names of the fields; blank cells are left out.
fn records(text: Option<&str>) -> Vec<BTreeMap<String, String>> {
    let mut lines = csv::lines(text.unwrap_or_default()).into_iter();
    let Some(head) = lines.next() else { return Vec::new() };
    let record = |line: csv::Line| {
        let cells = head.fields.iter().cloned().zip(line.fields);
        cells.filter(|(_, cell)| !cell.trim().is_empty()).collect()
    };
    lines.map(record).collect()
}

/// A row of the dictionary of columns.
#[derive(Debug)]
struct Entry {
    name: String,
    title: Option<String>,
    description: Option<String>,
    source: Option<String>,
    datatype: String,
    link: Option<String>,
    labels: Vec<String>,
}

impl Dictionary {
    /// Makes the tables and fills them.
    pub(super) fn run(&self, mart: &mut Session, described: &Described) -> Result<(), Error> {
        mart.begin();
        let written = self.write(&mut Deployer::new(mart), described);
        let ended = guarded(mart.end(written.is_ok()));
        written.and(ended)
    }

    fn write(&self, deployer: &mut Deployer<'_>, described: &Described) -> Result<(), Error> {
        let mut shapes = deployer.shape()?;
        let made = shapes.clone();
        shapes.sort_by(|a, b| a.label.cmp(&b.label));
        let mut tables = Vec::new();
        let mut columns = Vec::new();
        let mut enumerations = Vec::new();
        let overrides = self.overrides();
        for shape in &shapes {
            tables.push(self.table(shape, described, &overrides));
            for mut entry in entries(shape, &made, described) {
                overrides.apply(shape, &mut entry);
                // Tables that scripts made may be none that could have been deployed.
                let link = entry.link.filter(|link| made.iter().any(|shape| shape.label == *link));
                columns.push(json!({
                    "table": label_text(&shape.label), "name": entry.name, "title": entry.title,
                    "description": entry.description, "source": entry.source,
                    "datatype": entry.datatype, "link": link.as_deref().map(label_text),
                }));
                for label in &entry.labels {
                    let key = (shape.label.clone(), entry.name.clone(), label.clone());
                    let description =
                        overrides.labels.get(&key).or_else(|| described.labels.get(&key));
                    enumerations.push(json!({
                        "column": format!("{}.{}", label_text(&shape.label), label_text(&entry.name)),
                        "name": label, "description": description,
                    }));
                }
            }
        }
        let data = |of: &str, rows: Vec<Value>| json!({"data": rows, "of": of});
        let mut facts = self.facts();
        facts.push(data(&self.table_name_tables, tables));
        facts.push(data(&self.table_name_columns, columns));
        facts.push(data(&self.table_name_enumerations, enumerations));
        facts.retain(|fact| fact["data"].as_array().is_none_or(|rows| !rows.is_empty()));
        deployer.deploy(&Facts::value(&Value::Array(facts), std::path::Path::new(""))?)
    }

    fn table(&self, shape: &TableShape, described: &Described, overrides: &Overrides) -> Value {
        let known = described.tables.get(&shape.label).cloned().unwrap_or_default();
        let over = overrides.tables.get(&shape.label);
        let get = |name: &str| over.and_then(|record| record.get(name).cloned());
        json!({
            "name": shape.label,
            "title": get("title").or(known.title).or_else(|| shape.title.clone()),
            "description": get("description").or(known.description),
        })
    }

    fn facts(&self) -> Vec<Value> {
        let text = |name: &str, required: bool| json!({"column": name, "type": "text", "required": required});
        let (tables, columns) = (&self.table_name_tables, &self.table_name_columns);
        vec![
            json!({"table": tables, "with": [
                text("name", true), {"identity": ["name"]},
                text("title", false), text("description", false),
            ]}),
            json!({"table": columns, "with": [
                {"link": "table", "to": tables}, text("name", true),
                {"identity": ["table", "name"]},
                text("title", false), text("description", false), text("source", false),
                text("datatype", false), {"link": "link", "to": tables, "required": false},
            ]}),
            json!({"table": self.table_name_enumerations, "with": [
                {"link": "column", "to": columns}, text("name", true),
                {"identity": ["column", "name"]}, text("description", false),
            ]}),
        ]
    }

    fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::default();
        let get = |record: &BTreeMap<String, String>, name: &str| {
            record.get(name).cloned().unwrap_or_default()
        };
        for record in records(self.table_descriptions.as_deref()) {
            overrides.tables.insert(get(&record, "name"), record);
        }
        for record in records(self.column_descriptions.as_deref()) {
            overrides.columns.insert((get(&record, "table"), get(&record, "name")), record);
        }
        for record in records(self.enumeration_descriptions.as_deref()) {
            let key = (get(&record, "table"), get(&record, "column"), get(&record, "name"));
            overrides.labels.insert(key, get(&record, "description"));
        }
        overrides
    }
}

/// A label within the text of an identity.
fn label_text(label: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match !label.is_empty() && label.chars().all(is_plain) {
        true => label.to_owned(),
        false => format!("'{}'", label.replace('\'', "''")),
    }
}

/// What the definition says.
#[derive(Default)]
struct Overrides {
    tables: BTreeMap<String, BTreeMap<String, String>>,
    columns: BTreeMap<(String, String), BTreeMap<String, String>>,
    labels: BTreeMap<(String, String, String), String>,
}

impl Overrides {
    fn apply(&self, shape: &TableShape, entry: &mut Entry) {
        let key = (shape.label.clone(), entry.name.clone());
        let Some(record) = self.columns.get(&key) else { return };
        let get = |name: &str| record.get(name).cloned();
        entry.title = get("title").or(entry.title.take());
        entry.description = get("description").or(entry.description.take());
        entry.source = get("source").or(entry.source.take());
        if let Some(datatype) = get("datatype") {
            if datatype != ENUMERATION {
                entry.labels.clear();
            }
            entry.datatype = datatype;
        }
    }
}

const ENUMERATION: &str = "enumeration";

/// The columns of a table, and the links of other tables to it.
fn entries(shape: &TableShape, made: &[TableShape], described: &Described) -> Vec<Entry> {
    let mut entries: Vec<Entry> = shape
        .fields
        .iter()
        .map(|field| {
            let key = (shape.label.clone(), field.label.clone());
            let known = described.columns.get(&key).cloned().unwrap_or_default();
            let (datatype, link, labels) = match &field.kind {
                FieldKind::Link(target) => ("link", Some(target.clone()), Vec::new()),
                FieldKind::Enum(labels) => (ENUMERATION, None, labels.clone()),
                // How long an integer is does not matter here.
                FieldKind::Column(name) if name == "integer-int4" => ("integer", None, Vec::new()),
                FieldKind::Column(name) => (name.as_str(), None, Vec::new()),
            };
            // Scripts make tables whose columns `a` and `a_id` have one label.
            let is_link = link.is_some();
            let mut others = shape.fields.iter().filter(|other| other.name != field.name);
            let is_met = others.any(|other| [&other.label, &other.name].contains(&&field.label));
            Entry {
                name: if is_link && is_met { field.name.clone() } else { field.label.clone() },
                title: known.title.or_else(|| field.title.clone()),
                description: known.description,
                source: known.source,
                datatype: datatype.to_owned(),
                link,
                labels,
            }
        })
        .collect();
    for origin in made.iter().filter(|origin| origin.label != shape.label) {
        for field in &origin.fields {
            if field.kind != FieldKind::Link(shape.label.clone()) {
                continue;
            }
            let is_taken = entries.iter().any(|entry| entry.name == origin.label);
            entries.push(Entry {
                name: match is_taken {
                    true => format!("{}_via_{}", origin.label, field.label),
                    false => origin.label.clone(),
                },
                title: None,
                description: None,
                source: None,
                datatype: relation(origin, &field.label).to_owned(),
                link: Some(origin.label.clone()),
                labels: Vec::new(),
            });
        }
    }
    entries
}

/// What the records of `origin` are to one that they are linked to by `link`.
fn relation(origin: &TableShape, link: &str) -> &'static str {
    let is_link = |label: &String| {
        origin.field(label).is_some_and(|field| matches!(field.kind, FieldKind::Link(_)))
    };
    let links = origin.identity.iter().filter(|label| is_link(label)).count();
    match origin.identity.as_slice() {
        [one] if one == link => "facet",
        [one] if !is_link(one) => "link",
        all if links == 1 && all.len() > 1 => "branch",
        all if links == all.len() => "cross",
        _ => "ternary",
    }
}
