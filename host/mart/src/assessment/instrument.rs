//! Instruments as the application's database has them: versions with their fields and calculations,
//! and what forms and interactions call those.

use std::collections::BTreeMap;

use rex_db::Session;
use rex_deploy::sql;
use rex_htsql::Value as Cell;
use rex_yaml::{Error, Loader};
use serde_json::{Map, Value};

use crate::failure::guarded;
use crate::settings::Settings;

/// An instrument with all that tables are made of.
#[derive(Debug)]
pub(super) struct Instrument {
    /// By UID; at least one.
    pub(super) versions: Vec<Version>,
}

/// A version of an instrument.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) uid: String,
    pub(super) title: Option<String>,
    pub(super) description: Option<String>,
    pub(super) fields: Vec<Question>,
    pub(super) calculations: Vec<Question>,
    pub(super) wording: Wording,
}

/// A field of a record, or a calculation.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) id: String,
    pub(super) description: Option<String>,
    pub(super) identifiable: bool,
    pub(super) ty: Type,
}

/// What a field holds, custom types resolved.
#[derive(Debug, Clone)]
pub(super) enum Type {
    /// By its name, with the labels and their descriptions where it has any.
    Plain(String, Vec<(String, Option<String>)>),
    RecordList(Vec<Question>),
    /// Ids of rows, and the fields that each has.
    Matrix(Vec<String>, Vec<Question>),
}

/// What people see, from the presentation that counts most.
#[derive(Debug, Default)]
pub(super) struct Wording {
    pub(super) title: Option<String>,
    /// By path: `field`, `field.subfield`.
    pub(super) questions: BTreeMap<String, String>,
    /// By path and label.
    pub(super) labels: BTreeMap<(String, String), String>,
}

fn text(cell: &Cell) -> Option<&str> {
    match cell {
        Cell::Text(text) | Cell::Json(text) => Some(text),
        _ => None,
    }
}

/// The UIDs of all instruments that have a version, of disabled ones too: the marts that the original
/// built have them.
pub(super) fn all(app: &mut Session) -> Result<Vec<String>, Error> {
    let query = "SELECT uid FROM instrument AS i WHERE EXISTS (
        SELECT 1 FROM instrumentversion AS v WHERE v.instrument_id = i.id) ORDER BY uid";
    let rows = guarded(app.sql_rows(query))?;
    Ok(rows.iter().filter_map(|row| text(row.first()?).map(str::to_owned)).collect())
}

/// Reads an instrument.
///
/// # Errors
/// There is no such instrument, or it has no versions, or one that is malformed.
pub(super) fn read(app: &mut Session, settings: &Settings, uid: &str) -> Result<Instrument, Error> {
    let quoted = sql::text(uid);
    let rows = guarded(app.sql_rows(&format!("SELECT TRUE FROM instrument WHERE uid = {quoted}")))?;
    if rows.is_empty() {
        return Err(Error::new(format!("An Instrument with UID \"{uid}\" could not be found")));
    }
    let rows = guarded(app.sql_rows(&format!(
        "SELECT v.uid, v.definition::text, v.calculation_json::text, v.id::text
         FROM instrumentversion AS v JOIN instrument AS i ON i.id = v.instrument_id
         WHERE i.uid = {quoted} ORDER BY v.uid"
    )))?;
    let mut versions = Vec::new();
    for row in &rows {
        let [uid, definition, calculations, id] = row.as_slice() else { continue };
        let uid = text(uid).unwrap_or_default();
        let (definition, calculations) = (text(definition), text(calculations));
        let version =
            Version::read(uid, definition.unwrap_or_default(), calculations.unwrap_or("{}"));
        let version =
            version.map_err(|error| error.guard("While reading InstrumentVersion:", uid))?;
        let wording = wording(app, settings, text(id).unwrap_or_default())?;
        versions.push(Version { wording, ..version });
    }
    if versions.is_empty() {
        return Err(Error::new(format!("No InstrumentVersions for UID \"{uid}\" exist")));
    }
    Ok(Instrument { versions })
}

/// A document that is JSON, or what passes for it in YAML.
fn document(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text)
        .or_else(|_| Loader::new(std::path::Path::new("/")).text(text, "definition", None)?.value())
}

impl Version {
    /// Reads the documents of a version, without what forms say.
    pub(super) fn read(uid: &str, definition: &str, calculations: &str) -> Result<Version, Error> {
        let definition = document(definition)?;
        let types = definition["types"].as_object().cloned().unwrap_or_default();
        let calculations = document(calculations)?;
        Ok(Version {
            uid: uid.to_owned(),
            title: owned(&definition["title"]),
            description: owned(&definition["description"]),
            fields: questions(&definition["record"], &types)?,
            calculations: questions(&calculations["calculations"], &Map::new())?,
            wording: Wording::default(),
        })
    }
}

fn owned(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn questions(record: &Value, types: &Map<String, Value>) -> Result<Vec<Question>, Error> {
    let question = |field: &Value| {
        Ok(Question {
            id: owned(&field["id"]).ok_or_else(|| Error::new("Got a field without an id"))?,
            description: owned(&field["description"]),
            identifiable: field["identifiable"].as_bool().unwrap_or(false),
            ty: resolved(&field["type"], types)?,
        })
    };
    record.as_array().into_iter().flatten().map(question).collect()
}

/// Custom types built on custom types beyond this are taken for a loop.
const MAX_TYPES: usize = 16;

/// The type that a field has in the end, with what each type on the way says of it.
fn resolved(ty: &Value, types: &Map<String, Value>) -> Result<Type, Error> {
    let mut properties = Map::new();
    let mut current = ty.clone();
    for _ in 0..MAX_TYPES {
        let base = match &current {
            Value::String(name) => name.clone(),
            Value::Object(object) => {
                for (name, value) in object {
                    properties.entry(name.clone()).or_insert_with(|| value.clone());
                }
                object.get("base").and_then(Value::as_str).unwrap_or_default().to_owned()
            }
            _ => return Err(Error::new("Got a field without a type")),
        };
        match types.get(&base) {
            Some(custom) => current = custom.clone(),
            None => return built_in(&base, &properties, types),
        }
    }
    Err(Error::with("Got types that build on each other:", ty))
}

fn built_in(
    base: &str,
    properties: &Map<String, Value>,
    types: &Map<String, Value>,
) -> Result<Type, Error> {
    let get = |name: &str| properties.get(name).unwrap_or(&Value::Null);
    Ok(match base {
        "recordList" => Type::RecordList(questions(get("record"), types)?),
        "matrix" => {
            let rows = get("rows").as_array().into_iter().flatten();
            let rows = rows.filter_map(|row| owned(&row["id"])).collect();
            Type::Matrix(rows, questions(get("columns"), types)?)
        }
        _ => {
            let labels = match get("enumerations") {
                Value::Object(labels) => labels
                    .iter()
                    .map(|(label, about)| (label.clone(), owned(&about["description"])))
                    .collect(),
                _ => Vec::new(),
            };
            Type::Plain(base.to_owned(), labels)
        }
    })
}

/// What forms and interactions of a version say, the most important one first.
fn wording(app: &mut Session, settings: &Settings, version: &str) -> Result<Wording, Error> {
    let mut found: Vec<(usize, usize, Value)> = Vec::new();
    for table in ["form", "interaction"] {
        let rows = guarded(app.sql_rows(&format!(
            "SELECT c.presentation_type::text, c.uid::text, p.configuration::text
             FROM {table} AS p JOIN channel AS c ON c.id = p.channel_id
             WHERE p.instrumentversion_id = {version} ORDER BY p.uid"
        )))?;
        for row in &rows {
            let [kind, channel, configuration] = row.as_slice() else { continue };
            let place = |order: &[String], cell: &Cell| {
                let name = text(cell).unwrap_or_default();
                order.iter().position(|known| known == name).unwrap_or(order.len())
            };
            found.push((
                place(&settings.presentation_priority, kind),
                place(&settings.channel_priority, channel),
                document(text(configuration).unwrap_or_default())?,
            ));
        }
    }
    found.sort_by_key(|(kind, channel, _)| (*kind, *channel));
    let mut wording = Wording::default();
    for (_, _, configuration) in &found {
        wording.add(configuration);
    }
    Ok(wording)
}

impl Wording {
    /// Takes what a presentation says of what none before it did.
    fn add(&mut self, presentation: &Value) {
        let locale = presentation["defaultLocalization"].as_str().unwrap_or("en");
        if self.title.is_none() {
            self.title = owned(&presentation["title"][locale]);
        }
        let pages = presentation["pages"].as_array().into_iter().flatten();
        let elements = pages.flat_map(|page| page["elements"].as_array().into_iter().flatten());
        let steps = presentation["steps"].as_array().into_iter().flatten();
        for element in elements.chain(steps).filter(|element| element["type"] == "question") {
            self.question("", &element["options"], locale);
        }
    }

    fn question(&mut self, within: &str, question: &Value, locale: &str) {
        let Some(id) = question["fieldId"].as_str() else { return };
        let path = if within.is_empty() { id.to_owned() } else { format!("{within}.{id}") };
        for label in question["enumerations"].as_array().into_iter().flatten() {
            if let (Some(id), Some(text)) = (label["id"].as_str(), owned(&label["text"][locale])) {
                self.labels.entry((path.clone(), id.to_owned())).or_insert(text);
            }
        }
        for sub in question["questions"].as_array().into_iter().flatten() {
            self.question(&path, sub, locale);
        }
        if let Some(text) = owned(&question["text"][locale]) {
            self.questions.entry(path).or_insert(text);
        }
    }
}
