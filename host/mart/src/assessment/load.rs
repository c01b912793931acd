//! Assessments into their tables: portions of what the selector names are fetched from the
//! application, turned into rows, and copied in, a transaction each.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};

use rex_db::Session;
use rex_deploy::{Deployer, FieldKind, TableShape, sql};
use rex_htsql::Value as Cell;
use rex_yaml::Error;
use serde_json::Value;

use super::field::{Field, Raw};
use super::select::{Selected, Selection};
use super::table::{ASSESSMENT, Child, SEQUENCE, Tables, VERSION};
use crate::failure::guarded;

/// Records of a selector that are fetched and written together.
const PORTION: usize = 500;
/// Portions that wait while one is written.
const WAITING: usize = 2;

/// Loads what the selector names; how many assessments there were.
///
/// # Errors
/// A value does not fit its column, a parent is missing, or a server refuses.
pub(super) fn load(
    tables: &Tables,
    selection: &Selection,
    open: &(dyn Fn() -> Result<Session, Error> + Sync),
    app: &mut Session,
) -> Result<u64, Error> {
    let mut mart = open()?;
    let shapes = Deployer::new(&mut mart).shape()?;
    let loader = Loader::new(tables, &shapes)?;
    let (sender, receiver) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        // The selector is read on a connection of its own, in step with the writing.
        let selecting = scope.spawn(move || {
            let mut mart = open()?;
            selection.each(&mut mart, PORTION, &mut |portion| sender.send(portion).is_ok())
        });
        let loaded = loader.all(receiver, &mut mart, app);
        let selected =
            selecting.join().unwrap_or_else(|_| Err(Error::new("The selector cannot be read")));
        // Whoever ends first tells why; the other one then only ends.
        selected.and(loaded)
    })
}

/// What rows need to know of the tables.
struct Loader<'a> {
    primary: Target<'a>,
    children: Vec<(&'a Child, Target<'a>)>,
    overflow: Vec<(&'a [Field], Target<'a>)>,
    parents: Vec<Parent>,
}

/// A table that rows are copied into.
struct Target<'a> {
    fields: Vec<&'a Field>,
    /// The statement, up to where the rows come.
    copy: String,
    name: String,
}

impl<'a> Loader<'a> {
    fn new(tables: &'a Tables, shapes: &[TableShape]) -> Result<Loader<'a>, Error> {
        let shape = |label: &str| {
            let found = shapes.iter().find(|shape| shape.label == label);
            found.ok_or_else(|| Error::with("Discovered missing table:", label))
        };
        let target = |label: &str, own: &[&str], fields: Vec<&'a Field>| {
            let shape = shape(label)?;
            let columns: Vec<String> =
                fields.iter().flat_map(|field| field.columns()).map(|(_, name)| name).collect();
            let labels = own.iter().copied().chain(columns.iter().map(String::as_str));
            let mut names = vec!["\"id\"".to_owned()];
            for label in labels {
                let field = shape.field(label);
                let field = field.ok_or_else(|| Error::with("Discovered missing field:", label))?;
                names.push(sql::name(&field.name));
            }
            let name = sql::name(&shape.name);
            let copy = format!("COPY {name} ({}) FROM STDIN", names.join(", "));
            Ok::<_, Error>(Target { fields, copy, name })
        };
        let mut own: Vec<&str> = tables.parents.iter().map(String::as_str).collect();
        own.extend([ASSESSMENT, VERSION]);
        let children = tables.children.iter().map(|child| {
            let link = tables.name.as_str();
            let own = if child.is_list { vec![link, SEQUENCE] } else { vec![link] };
            let fields = child.fields.iter().map(|(_, field)| field).collect();
            Ok((child, target(&child.name, &own, fields)?))
        });
        let overflow = tables.overflow.iter().map(|overflow| {
            let fields = overflow.fields.iter().collect();
            let target = target(&overflow.name, &[tables.name.as_str()], fields)?;
            Ok((overflow.fields.as_slice(), target))
        });
        Ok(Loader {
            primary: target(&tables.name, &own, tables.fields.iter().collect())?,
            children: children.collect::<Result<_, Error>>()?,
            overflow: overflow.collect::<Result<_, Error>>()?,
            parents: tables
                .parents
                .iter()
                .map(|parent| {
                    let link = shape(&tables.name)?.field(parent).map(|field| &field.kind);
                    let Some(FieldKind::Link(target)) = link else {
                        return Err(Error::with("Discovered missing field:", parent));
                    };
                    Parent::of(parent, shape(target)?, shapes)
                })
                .collect::<Result<_, Error>>()?,
        })
    }

    fn all(
        &self,
        portions: Receiver<Vec<Selected>>,
        mart: &mut Session,
        app: &mut Session,
    ) -> Result<u64, Error> {
        let mut count = 0;
        for portion in portions {
            count += self.portion(&portion, mart, app)?;
        }
        Ok(count)
    }

    fn portion(
        &self,
        portion: &[Selected],
        mart: &mut Session,
        app: &mut Session,
    ) -> Result<u64, Error> {
        let by_uid: BTreeMap<String, &Selected> = portion
            .iter()
            .filter_map(|record| match record.get(ASSESSMENT).map(|picked| &picked.raw) {
                Some(Raw::Text(uid)) => Some((uid.clone(), record)),
                _ => None,
            })
            .collect();
        let documents = documents(app, by_uid.keys().map(String::as_str))?;
        let mut parents = Vec::new();
        for parent in &self.parents {
            parents.push(parent.ids(mart, portion)?);
        }
        let mut rows = Rows::new(self);
        rows.primary.ids = ids(mart, &self.primary.name, documents.len())?.into_iter();
        for (uid, version, document) in &documents {
            let Some(selected) = by_uid.get(uid) else { continue };
            let source = Source { document, selected, version };
            self.assessment(&mut rows, &source, uid, &parents)
                .map_err(|error| error.guard("While loading Assessment:", uid))?;
        }
        let count = documents.len() as u64;
        mart.begin();
        let written = self.write(rows, mart);
        let ended = guarded(mart.end(written.is_ok()));
        written.and(ended).map(|()| count)
    }

    fn assessment(
        &self,
        rows: &mut Rows,
        source: &Source<'_>,
        uid: &str,
        parents: &[BTreeMap<Vec<String>, i64>],
    ) -> Result<(), Error> {
        let id = rows.primary.begin();
        for (parent, ids) in self.parents.iter().zip(parents) {
            let labels = parent.labels(source.selected);
            let row = labels.as_ref().and_then(|labels| ids.get(labels));
            let row = row.ok_or_else(|| {
                let shown = labels.clone().unwrap_or_default().join(".");
                Error::with("Discovered missing record:", format!("{}[{shown}]", parent.table))
            })?;
            rows.primary.cell(Some(&row.to_string()));
        }
        rows.primary.cell(Some(uid));
        rows.primary.cell(Some(source.version));
        for field in &self.primary.fields {
            source.write(field, &mut rows.primary)?;
        }
        rows.primary.end();
        let link = id.to_string();
        for ((child, target), out) in self.children.iter().zip(&mut rows.children) {
            let value = &source.document["values"][&child.id]["value"];
            if child.is_list {
                for (n, record) in value.as_array().into_iter().flatten().enumerate() {
                    out.begin_pending();
                    out.cell(Some(&link));
                    out.cell(Some(&(n + 1).to_string()));
                    for ((place, _), field) in child.fields.iter().zip(&target.fields) {
                        let value = place.iter().fold(record, |value, step| &value[step]);
                        write(field, &value["value"], source.version, out)?;
                    }
                    out.end();
                }
            } else if value.as_object().is_some_and(|rows| !rows.is_empty()) {
                out.begin_pending();
                out.cell(Some(&link));
                for ((place, _), field) in child.fields.iter().zip(&target.fields) {
                    let value = place.iter().fold(value, |value, step| &value[step]);
                    write(field, &value["value"], source.version, out)?;
                }
                out.end();
            }
        }
        for ((fields, _), out) in self.overflow.iter().zip(&mut rows.overflow) {
            out.begin_pending();
            out.cell(Some(&link));
            for field in *fields {
                source.write(field, out)?;
            }
            out.end();
        }
        Ok(())
    }

    fn write(&self, rows: Rows, mart: &mut Session) -> Result<(), Error> {
        let targets = std::iter::once(&self.primary)
            .chain(self.children.iter().map(|(_, target)| target))
            .chain(self.overflow.iter().map(|(_, target)| target));
        let rows = std::iter::once(rows.primary).chain(rows.children).chain(rows.overflow);
        for (target, rows) in targets.zip(rows) {
            if rows.count == 0 {
                continue;
            }
            let text = match rows.pending {
                false => rows.text,
                true => rows.numbered(&ids(mart, &target.name, rows.count)?),
            };
            guarded(mart.copy_in(&target.copy, [text]))?;
        }
        Ok(())
    }
}

fn write(field: &Field, value: &Value, version: &str, out: &mut Lines) -> Result<(), Error> {
    let cells = field.cells(&Raw::of_json(value), version);
    for cell in cells.map_err(|error| error.guard("While loading field:", &field.id))? {
        out.cell(cell.as_deref());
    }
    Ok(())
}

/// The next values of a table's surrogate key.
fn ids(mart: &mut Session, table: &str, count: usize) -> Result<Vec<i64>, Error> {
    let query = format!(
        "SELECT nextval(pg_get_serial_sequence({}, 'id')) FROM generate_series(1, {count})",
        sql::text(table)
    );
    let rows = guarded(mart.sql_rows(&query))?;
    let number = |row: &Vec<Cell>| match row.first() {
        Some(Cell::Integer(number)) => Some(*number),
        _ => None,
    };
    Ok(rows.iter().filter_map(number).collect())
}

/// Completed assessments that hold something, by UID: UID, version, document.
fn documents<'a>(
    app: &mut Session,
    uids: impl Iterator<Item = &'a str>,
) -> Result<Vec<(String, String, Value)>, Error> {
    let uids: Vec<String> = uids.map(sql::text).collect();
    if uids.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT a.uid::text, v.uid::text, a.data::text
         FROM assessment AS a JOIN instrumentversion AS v ON v.id = a.instrumentversion_id
         WHERE a.status = 'completed' AND a.uid IN ({}) ORDER BY a.uid",
        uids.join(", ")
    );
    let rows = guarded(app.sql_rows(&query))?;
    let mut found = Vec::new();
    for row in rows {
        let [Cell::Text(uid), Cell::Text(version), Cell::Text(data)] = row.as_slice() else {
            continue;
        };
        if data.trim().is_empty() {
            continue;
        }
        let document: Value = serde_json::from_str(data).map_err(|error| {
            Error::new(error.to_string()).guard("While loading Assessment:", uid)
        })?;
        if document.as_object().is_some_and(|document| !document.is_empty()) {
            found.push((uid.clone(), version.clone(), document));
        }
    }
    Ok(found)
}

/// Where the values of an assessment are.
struct Source<'a> {
    document: &'a Value,
    selected: &'a Selected,
    version: &'a str,
}

impl Source<'_> {
    fn write(&self, field: &Field, out: &mut Lines) -> Result<(), Error> {
        let Some((value, version)) = self.value(&field.id) else {
            // A column that is computed later, or a field of another version.
            for (label, _) in field.columns() {
                out.cell(label.map(|_| "f"));
            }
            return Ok(());
        };
        let cells = field.cells(&value, version);
        for cell in cells.map_err(|error| error.guard("While loading field:", &field.id))? {
            out.cell(cell.as_deref());
        }
        Ok(())
    }

    /// The value under this name, and the version by which to read it.
    fn value(&self, id: &str) -> Option<(Raw, &str)> {
        let document = self.document;
        if let Some(value) = document["values"].get(id) {
            return Some((Raw::of_json(&value["value"]), self.version));
        }
        let meta = id.strip_prefix("meta_").and_then(|name| document["meta"].get(name));
        if let Some(value) = meta {
            return Some((Raw::of_json(value), ""));
        }
        if let Some(value) = document["meta"]["calculations"].get(id) {
            return Some((Raw::of_json(value), self.version));
        }
        self.selected.get(id).map(|picked| (picked.raw.clone(), ""))
    }
}

/// The rows of all tables for a portion.
struct Rows {
    primary: Lines,
    children: Vec<Lines>,
    overflow: Vec<Lines>,
}

impl Rows {
    fn new(loader: &Loader<'_>) -> Rows {
        let pending = || Lines { pending: true, ..Lines::default() };
        Rows {
            primary: Lines::default(),
            children: loader.children.iter().map(|_| pending()).collect(),
            overflow: loader.overflow.iter().map(|_| pending()).collect(),
        }
    }
}

/// Rows in the text format of COPY.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    count: usize,
    ids: std::vec::IntoIter<i64>,
    /// Whether the rows have no ids yet; where each begins.
    pending: bool,
    begins: Vec<usize>,
}

impl Lines {
    /// Begins a row with the next id.
    fn begin(&mut self) -> i64 {
        let id = self.ids.next().unwrap_or_default();
        self.text.extend_from_slice(id.to_string().as_bytes());
        id
    }

    /// Begins a row whose id comes later.
    fn begin_pending(&mut self) {
        self.begins.push(self.text.len());
    }

    fn cell(&mut self, cell: Option<&str>) {
        self.text.push(b'\t');
        let Some(cell) = cell else { return self.text.extend_from_slice(b"\\N") };
        for byte in cell.bytes() {
            match byte {
                b'\t' => self.text.extend_from_slice(b"\\t"),
                b'\n' => self.text.extend_from_slice(b"\\n"),
                b'\r' => self.text.extend_from_slice(b"\\r"),
                b'\\' => self.text.extend_from_slice(b"\\\\"),
                byte => self.text.push(byte),
            }
        }
    }

    fn end(&mut self) {
        self.text.push(b'\n');
        self.count += 1;
    }

    /// The rows with their ids.
    fn numbered(&self, ids: &[i64]) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.text.len() + 12 * ids.len());
        let ends = self.begins.iter().skip(1).copied().chain([self.text.len()]);
        for ((begin, end), id) in self.begins.iter().zip(ends).zip(ids) {
            text.extend_from_slice(id.to_string().as_bytes());
            text.extend_from_slice(&self.text[*begin..end]);
        }
        text
    }
}

/// A table that assessments are linked to.
struct Parent {
    /// Of the link, and of the column of the selector.
    link: String,
    table: String,
    /// `SELECT id, label, …`: a row for each record, with the texts of its identity.
    query: String,
    /// How many labels an identity has.
    width: usize,
}

impl Parent {
    fn of(link: &str, shape: &TableShape, shapes: &[TableShape]) -> Result<Parent, Error> {
        let mut joins = String::new();
        let mut labels = Vec::new();
        identity("t", shape, shapes, &mut joins, &mut labels, 0)?;
        let query = format!(
            "SELECT t.\"id\", {} FROM {} AS t{joins}",
            labels.join(", "),
            sql::name(&shape.name)
        );
        Ok(Parent { link: link.to_owned(), table: shape.label.clone(), query, width: labels.len() })
    }

    /// The identity that a record of the selector names; `None` for none.
    fn labels(&self, selected: &Selected) -> Option<Vec<String>> {
        let picked = selected.get(&self.link)?;
        match (&picked.identity, &picked.raw) {
            (Some(labels), _) => Some(labels.clone()),
            (None, Raw::Null) => None,
            (None, Raw::Text(text)) if self.width == 1 => Some(vec![text.clone()]),
            (None, Raw::Text(text)) => Some(text.split('.').map(str::to_owned).collect()),
            (None, Raw::Integer(number)) => Some(vec![number.to_string()]),
            _ => None,
        }
    }

    /// The ids of the records that a portion names.
    fn ids(
        &self,
        mart: &mut Session,
        portion: &[Selected],
    ) -> Result<BTreeMap<Vec<String>, i64>, Error> {
        let row = |labels: Vec<String>| {
            let texts: Vec<String> = labels.iter().map(|label| sql::text(label)).collect();
            format!("({})", texts.join(", "))
        };
        let mut wanted: Vec<String> = portion
            .iter()
            .filter_map(|selected| self.labels(selected))
            .filter(|labels| labels.len() == self.width)
            .map(row)
            .collect();
        wanted.sort();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let columns: Vec<String> = (1..=self.width).map(|n| format!("c{n}")).collect();
        let query = format!(
            "SELECT * FROM ({}) AS p (id, {columns}) WHERE ({columns}) IN ({})",
            self.query,
            wanted.join(", "),
            columns = columns.join(", "),
        );
        let rows = guarded(mart.sql_rows(&query))?;
        let read = |row: Vec<Cell>| {
            let mut cells = row.into_iter();
            let Some(Cell::Integer(id)) = cells.next() else { return None };
            let labels = cells.map(|cell| match cell {
                Cell::Text(text) => text,
                _ => String::new(),
            });
            Some((labels.collect(), id))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }
}

/// Links within identities beyond this are taken for a loop.
const MAX_DEPTH: usize = 16;

/// The texts of an identity, and the joins that they need.
fn identity(
    alias: &str,
    shape: &TableShape,
    shapes: &[TableShape],
    joins: &mut String,
    labels: &mut Vec<String>,
    depth: usize,
) -> Result<(), Error> {
    if shape.identity.is_empty() || depth > MAX_DEPTH {
        return Err(Error::with("Discovered table without identity:", &shape.label));
    }
    for label in &shape.identity {
        let Some(field) = shape.field(label) else { continue };
        let column = format!("{alias}.{}", sql::name(&field.name));
        match &field.kind {
            FieldKind::Link(target) => {
                let target = shapes.iter().find(|shape| shape.label == *target);
                let target =
                    target.ok_or_else(|| Error::with("Discovered missing table:", label))?;
                let inner = format!("{alias}_{}", joins.matches(" JOIN ").count());
                joins.push_str(&format!(
                    " JOIN {} AS {inner} ON {inner}.\"id\" = {column}",
                    sql::name(&target.name)
                ));
                identity(&inner, target, shapes, joins, labels, depth + 1)?;
            }
            FieldKind::Column(_) | FieldKind::Enum(_) => labels.push(format!("{column}::text")),
        }
    }
    Ok(())
}
