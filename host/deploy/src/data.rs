//! Rows: what a fact gives is found by identity, then updated or inserted, or deleted. What it does
//! not mention stays.

use std::path::Path;

use rex_htsql::domain::{Domain, OpaqueType};
use rex_htsql::{Value, literal};
use rex_yaml::validate::{Input, Val};
use rex_yaml::{Error, Loader};

use crate::column_type::value_sql;
use crate::deployer::{At, Deployer};
use crate::fact::{DataFact, DataSource};
use crate::image::TableId;
use crate::rows::{find, load, same, selection};
use crate::{column, csv, identity, json, link, sql, table};
use rex_yaml::given::{Given, Members, sorted};

/// A field of the table that rows are given for.
struct Field {
    at: At,
    label: String,
    domain: Domain,
    is_identity: bool,
    /// Where a link leads to.
    target: Option<TableId>,
}

/// A row as it is given, by field; `None` where nothing is said.
type Record = Vec<Option<Value>>;

pub(crate) fn deploy(d: &mut Deployer<'_>, fact: &DataFact) -> Result<(), Error> {
    let table = table::need(d, &fact.table)?;
    if identity::fields_of(d, table)?.is_none() {
        return Err(Error::with("Discovered table without identity:", &fact.table));
    }
    let fields = fields(d, table)?;
    let reader = Reader { fields: &fields, is_present: fact.is_present };
    let records = reader.read(&fact.source)?;
    for (index, record) in records.iter().enumerate() {
        put(d, table, &fields, record, fact.is_present).map_err(|error| {
            let given = fields.iter().zip(record);
            let shown = given.filter_map(|(field, value)| {
                let value = value.as_ref()?;
                Some(match literal::plain_text(&field.domain, value) {
                    None => "null".to_owned(),
                    Some(text) => format!("'{}'", text.replace('\'', "''")),
                })
            });
            let shown = shown.collect::<Vec<_>>().join(", ");
            error.guard(format!("While processing row #{}:", index + 1), format!("{{{shown}}}"))
        })?;
    }
    if !fact.is_present && !records.is_empty() {
        // Rows of other tables may have gone with them.
        d.rows.clear();
    }
    Ok(())
}

fn fields(d: &mut Deployer<'_>, table: TableId) -> Result<Vec<Field>, Error> {
    let mut fields = Vec::new();
    for at in table::fields(d, table)? {
        let is_link = table::is_link(d, at)?;
        let found = d.column(at)?;
        let label = if is_link { link::label_of(found) } else { column::label_of(found) };
        let target = if is_link { Some(link::target(d, at)?) } else { None };
        let is_identity = identity::has(d, at)?;
        fields.push(Field { at, label, domain: domain(d, at)?, is_identity, target });
    }
    Ok(fields)
}

/// The domain of a field: of a link, the identity of its target.
fn domain(d: &mut Deployer<'_>, at: At) -> Result<Domain, Error> {
    if table::is_link(d, at)? {
        let target = link::target(d, at)?;
        return identity_domain(d, target);
    }
    let ty = d.column(at)?.ty.clone();
    let image = d.image()?;
    Ok(match column::type_of(image, &ty) {
        Some(found) => found.domain(),
        None => {
            let name = image.type_name(&ty).to_owned();
            Domain::Opaque(std::sync::Arc::new(OpaqueType { schema: String::new(), name }))
        }
    })
}

fn identity_domain(d: &mut Deployer<'_>, table: TableId) -> Result<Domain, Error> {
    let mut labels = Vec::new();
    for field in identity::fields_of(d, table)?.unwrap_or_default() {
        labels.push(domain(d, field)?);
    }
    Ok(Domain::Identity(labels.into()))
}

/// Where an identity leads.
pub(crate) enum Located {
    IllFormed,
    Missing,
    /// The identity as it should be written, and the row's `id`.
    Row {
        text: String,
        id: i64,
    },
}

/// The row of a table that an identity as text stands for.
pub(crate) fn locate(d: &mut Deployer<'_>, table: TableId, text: &str) -> Result<Located, Error> {
    let domain = identity_domain(d, table)?;
    if domain.width() == 0 {
        return Ok(Located::IllFormed);
    }
    let Ok(value) = literal::parse(&domain, text) else { return Ok(Located::IllFormed) };
    let Some(id) = resolve(d, table, &value)? else { return Ok(Located::Missing) };
    let text = literal::plain_text(&domain, &value).unwrap_or_default();
    Ok(Located::Row { text, id })
}

/// The `id` of the row that an identity stands for.
fn resolve(d: &mut Deployer<'_>, table: TableId, value: &Value) -> Result<Option<i64>, Error> {
    let Value::Identity(labels) = value else { return Ok(None) };
    let mut key = Vec::new();
    for (field, label) in identity::fields_of(d, table)?.unwrap_or_default().into_iter().zip(labels)
    {
        key.push(match label {
            Value::Identity(_) => {
                let target = link::target(d, field)?;
                match resolve(d, target, label)? {
                    Some(id) => Value::Integer(id),
                    None => return Ok(None),
                }
            }
            other => other.clone(),
        });
    }
    let id = d.table(table)?.column_named("id").map(|column| column.id);
    let row = find(d, table, &key)?;
    let at = id.and_then(|id| d.rows.table(table)?.position(id));
    Ok(match row.and_then(|row| row.get(at?).cloned()) {
        Some(Value::Integer(id)) => Some(id),
        _ => None,
    })
}

/// Makes the table agree with one record.
fn put(
    d: &mut Deployer<'_>,
    table: TableId,
    fields: &[Field],
    record: &Record,
    is_present: bool,
) -> Result<(), Error> {
    let mut given: Vec<(At, Value)> = Vec::new();
    for (field, value) in fields.iter().zip(record) {
        let Some(value) = value else { continue };
        let value = match (field.target, value) {
            (Some(target), Value::Identity(_)) => match resolve(d, target, value)? {
                Some(id) => Value::Integer(id),
                None => {
                    let text = literal::plain_text(&field.domain, value).unwrap_or_default();
                    let shown = format!("{}[{text}]", table::label(d, target)?);
                    return Err(Error::with("Discovered missing record:", shown));
                }
            },
            (_, Value::DateTime(stamp)) if stamp.offset.is_some() => local(d, value)?,
            (_, other) => other.clone(),
        };
        given.push((field.at, value));
    }
    let mut key = Vec::new();
    for field in identity::fields_of(d, table)?.unwrap_or_default() {
        let value = given.iter().find(|(at, _)| *at == field).map(|(_, value)| value.clone());
        key.push(value.unwrap_or(Value::Null));
    }
    let id = d.table(table)?.column_named("id").map(|column| column.id).unwrap_or_default();
    let old = find(d, table, &key)?;
    let rows = load(d, table)?;
    let old_id = old.as_ref().and_then(|row| row.get(rows.position(id)?)).cloned();
    let changed: Vec<(At, Value)> = given
        .into_iter()
        .filter(|(at, value)| {
            let known = old.as_ref().and_then(|row| row.get(rows.position(at.column)?));
            !known.is_some_and(|known| same(known, value))
        })
        .collect();
    let name = sql::name(&d.table(table)?.name);
    match (old, old_id) {
        (Some(old), Some(id)) if !is_present => {
            let id = value_sql(&id);
            d.change_rows(&format!("DELETE FROM {name}\n    WHERE \"id\" = {id};"))?;
            load(d, table)?.remove(&old);
        }
        (Some(old), Some(id)) if !changed.is_empty() => {
            let mut assignments = Vec::new();
            for (at, value) in &changed {
                let column = sql::name(&d.column(*at)?.name);
                assignments.push(format!("{column} = {}", value_sql(value)));
            }
            let (set, returned) = (assignments.join(", "), selection(d, table)?);
            let id = value_sql(&id);
            let new = d.change_rows(&format!(
                "UPDATE {name}\n    SET {set}\n    WHERE \"id\" = {id}\n    RETURNING {returned};"
            ))?;
            let rows = load(d, table)?;
            rows.remove(&old);
            new.into_iter().for_each(|row| rows.put(row));
        }
        (None, _) if is_present => {
            let (mut columns, mut values) = (Vec::new(), Vec::new());
            for (at, value) in &changed {
                columns.push(sql::name(&d.column(*at)?.name));
                values.push(value_sql(value));
            }
            let (columns, values) = (columns.join(", "), values.join(", "));
            let returned = selection(d, table)?;
            let new = d.change_rows(&format!(
                "INSERT INTO {name} ({columns})\n    VALUES ({values})\n    RETURNING {returned};"
            ))?;
            let rows = load(d, table)?;
            new.into_iter().for_each(|row| rows.put(row));
        }
        _ => {}
    }
    Ok(())
}

/// A moment with a time zone, in the zone of the session and without it.
fn local(d: &mut Deployer<'_>, value: &Value) -> Result<Value, Error> {
    let text = value_sql(value);
    let rows = d.ask(&format!("SELECT {text}::timestamptz::timestamp"))?;
    Ok(rows.into_iter().flatten().next().unwrap_or_else(|| value.clone()))
}

/// Reads records of a table.
struct Reader<'f> {
    fields: &'f [Field],
    is_present: bool,
}

impl Reader<'_> {
    fn read(&self, source: &DataSource) -> Result<Vec<Record>, Error> {
        match source {
            DataSource::Csv(text) => self.csv(text, None),
            DataSource::Records(records) => self.records(records, None),
            DataSource::File(path) => self.file(path),
        }
    }

    fn file(&self, path: &Path) -> Result<Vec<Record>, Error> {
        let shape = || Val::OneOrSeq(Box::new(Val::map(Val::Str, Val::Any)));
        let read = || {
            std::fs::read_to_string(path).map_err(|error| {
                Error::with("Failed to read the file:", path.display()).guard("Because of:", error)
            })
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => self.csv(&read()?, Some(path)),
            Some("json") => {
                let text = read()?;
                let parsed = Given::json(&text)
                    .map_err(|error| Error::with("Discovered ill-formed JSON:", error));
                let given = parsed
                    .and_then(|given| shape().value(&given.outline()).map(|_| given))
                    .map_err(|error| error.guard("While parsing JSON data:", path.display()))?;
                self.records(&given.records(), Some(path))
            }
            Some("yaml") => {
                let base = path.parent().unwrap_or(Path::new(""));
                let given = Loader::new(base)
                    .file(path)
                    .and_then(|node| {
                        shape().node(&node).and_then(|_| Given::of(Input::Node(&node)))
                    })
                    .map_err(|error| error.guard("While parsing YAML data:", path.display()))?;
                self.records(&given.records(), Some(path))
            }
            _ => Err(Error::with("Failed to recognize file format:", path.display())),
        }
    }

    fn csv(&self, text: &str, path: Option<&Path>) -> Result<Vec<Record>, Error> {
        let lines = csv::lines(text);
        let Some((head, rows)) = lines.split_first() else { return Ok(Vec::new()) };
        let row = |(index, line): (usize, &csv::Line)| {
            let cells = line
                .fields
                .iter()
                .map(|cell| Some(Given::Text(cell.clone())).filter(|_| !cell.is_empty()));
            self.record(&head.fields, &cells.collect::<Vec<_>>()).map_err(|error| {
                let place = match path {
                    Some(path) => format!("\"{}\", line #{}", path.display(), line.number),
                    None => line.text.clone(),
                };
                error.guard(format!("While parsing row #{}:", index + 1), place)
            })
        };
        rows.iter().enumerate().map(row).collect()
    }

    fn records(&self, records: &[Members], path: Option<&Path>) -> Result<Vec<Record>, Error> {
        let one = |(index, record): (usize, &Members)| {
            let members = sorted(record).into_iter();
            let (labels, cells): (Vec<String>, Vec<Option<Given>>) =
                members.map(|(name, value)| (name.to_owned(), Some(value.clone()))).unzip();
            self.record(&labels, &cells).map_err(|error| {
                let place = match path {
                    Some(path) => format!("\"{}\"", path.display()),
                    None => Given::Object(record.clone()).repr(),
                };
                error.guard(format!("While parsing row #{}:", index + 1), place)
            })
        };
        records.iter().enumerate().map(one).collect()
    }

    /// One row: cells by label; `None` where nothing is said.
    fn record(&self, labels: &[String], cells: &[Option<Given>]) -> Result<Record, Error> {
        let mut places: Vec<Option<usize>> = vec![None; self.fields.len()];
        for (index, label) in labels.iter().enumerate() {
            let found = self.fields.iter().position(|field| field.label == *label);
            let at = found.ok_or_else(|| Error::with("Discovered missing field:", label))?;
            if places[at].is_some() {
                return Err(Error::with("Discovered duplicate field:", label));
            }
            if !self.is_present && !self.fields[at].is_identity {
                return Err(Error::with("Discovered unexpected field:", label));
            }
            places[at] = Some(index);
        }
        if cells.len() < labels.len() {
            let counts = format!("{} < {}", cells.len(), labels.len());
            return Err(Error::with("Discovered too few entries:", counts));
        }
        if cells.len() > labels.len() {
            let counts = format!("{} > {}", cells.len(), labels.len());
            return Err(Error::with("Discovered too many entries:", counts));
        }
        let mut record = Vec::with_capacity(self.fields.len());
        for (field, place) in self.fields.iter().zip(places) {
            let cell = place.and_then(|at| cells[at].as_ref());
            let value = cell.map(|cell| value(&field.domain, cell)).transpose();
            let value = value.map_err(|text| {
                Error::with("Discovered invalid input:", text)
                    .guard("While converting field:", &field.label)
            })?;
            if field.is_identity && value.as_ref().is_none_or(|value| *value == Value::Null) {
                let message = "Discovered missing value for identity field:";
                return Err(Error::with(message, &field.label));
            }
            record.push(value);
        }
        Ok(record)
    }
}

/// A value as it is given, in the domain of its field.
fn value(domain: &Domain, given: &Given) -> Result<Value, String> {
    let unfit = || Err(given.repr());
    match (domain, given) {
        (_, Given::Null) => Ok(Value::Null),
        // No text of PostgreSQL has that.
        (_, Given::Text(text)) if text.contains('\0') => unfit(),
        (Domain::Json, Given::Text(text)) => Given::json(text)
            .map_err(|error| format!("invalid JSON literal: {error}"))
            .and_then(|read| document(&read)),
        (Domain::Json, given) => document(given),
        (_, Given::Text(text)) => literal::parse(domain, text),
        (Domain::Boolean, Given::Boolean(value)) => Ok(Value::Boolean(*value)),
        (Domain::Integer, Given::Number(number)) => match number.as_i64() {
            Some(number) => Ok(Value::Integer(number)),
            None => unfit(),
        },
        (Domain::Float | Domain::Decimal, Given::Number(number)) => {
            literal::parse(domain, &number.to_string())
        }
        (Domain::Float | Domain::Decimal, Given::Long(digits)) => literal::parse(domain, digits),
        (Domain::Identity(labels), Given::List(items)) if items.len() == labels.len() => {
            let values = labels.iter().zip(items).map(|(label, item)| match value(label, item)? {
                Value::Null => unfit(),
                value => Ok(value),
            });
            values.collect::<Result<_, _>>().map(Value::Identity)
        }
        _ => unfit(),
    }
}

/// A number that no double comes near is refused: other programs could not read it back.
fn document(given: &Given) -> Result<Value, String> {
    match given.is_beyond_doubles() {
        true => Err("invalid JSON literal: number out of range".to_owned()),
        false => Ok(Value::Json(json::indented(given))),
    }
}
