//! Assessments into their tables, in one transaction: portions of what the selector names are fetched
//! from the application, turned into rows, and copied in, each by a thread of its own, in step.

use std::borrow::Cow;
use std::cell::Cell as Place;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::ScopedJoinHandle;

use rex_db::Session;
use rex_deploy::{Deployer, FieldKind, TableShape, sql};
use rex_htsql::Value;
use rex_yaml::Error;

use super::document::Json;
use super::field::{Cell, Field, Kind, Raw};
use super::lines::Lines;
use super::parent::Parent;
use super::select::{Selected, Selection};
use super::table::{ASSESSMENT, Child, SEQUENCE, Tables, VERSION};
use crate::failure::guarded;

/// Records of a selector that are fetched and written together.
const PORTION: usize = 500;
/// Portions that wait between one thread and the next.
const WAITING: usize = 2;

type Opener<'a> = &'a (dyn Fn() -> Result<Session, Error> + Sync);

/// Loads what the selector names; how many assessments there were.
///
/// # Errors
/// A value does not fit its column, a parent is missing, or a server refuses.
pub(super) fn load(
    tables: &Tables,
    selection: &Selection,
    open: Opener<'_>,
    app: &mut Session,
) -> Result<u64, Error> {
    let mut lookup = open()?;
    let shapes = Deployer::new(&mut lookup).shape()?;
    let loader = &Loader::new(tables, selection, &shapes)?;
    let (select, selected) = sync_channel(WAITING);
    let (fetch, fetched) = sync_channel(WAITING);
    let (fill, filled) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let selecting = scope.spawn(move || {
            let mut mart = open()?;
            selection.each(&mut mart, PORTION, &mut |portion| select.send(portion).is_ok())
        });
        let fetching = scope.spawn(move || loader.fetch(&selected, &fetch, app));
        let writing = scope.spawn(move || loader.write(&filled, open));
        let built = loader.build(fetched, &fill, &mut lookup);
        drop(fill);
        // Where one fails the others only end, so that the one that fails tells why.
        let read = ended(selecting).and(ended(fetching));
        let (mut mart, written) = ended(writing)?;
        let loaded = read.and(written).and(built);
        let committed = guarded(mart.end(loaded.is_ok()));
        loaded.and_then(|count| committed.map(|()| count))
    })
}

fn ended<T>(thread: ScopedJoinHandle<'_, Result<T, Error>>) -> Result<T, Error> {
    thread.join().unwrap_or_else(|_| Err(Error::new("A thread that loads assessments has failed")))
}

/// A completed assessment as the application has it.
struct Stored {
    uid: String,
    /// The UID of the version of the instrument.
    version: String,
    /// The document.
    data: String,
}

/// A portion with what the application has of it.
type Fetched = (Vec<Selected>, Vec<Stored>);

/// Rows of all tables, in the order of [`Loader::targets`].
type Rows = Vec<Lines>;

/// What rows need to know of the tables.
struct Loader<'a> {
    selection: &'a Selection,
    primary: Target<'a>,
    /// Rows of other tables refer to those of the primary one.
    is_referred: bool,
    children: Vec<(&'a Child, Target<'a>)>,
    overflow: Vec<(&'a [Field], Target<'a>)>,
    parents: Vec<Parent>,
    versions: &'a BTreeSet<String>,
}

/// A table that rows are copied into.
struct Target<'a> {
    fields: Vec<&'a Field>,
    copy: String,
    name: String,
}

impl<'a> Loader<'a> {
    fn new(
        tables: &'a Tables,
        selection: &'a Selection,
        shapes: &[TableShape],
    ) -> Result<Loader<'a>, Error> {
        let shape = |label: &str| {
            let found = shapes.iter().find(|shape| shape.label == label);
            found.ok_or_else(|| Error::with("Discovered missing table:", label))
        };
        let is_referred = !tables.children.is_empty() || !tables.overflow.is_empty();
        let target = |label: &str, own: &[&str], fields: Vec<&'a Field>| {
            let shape = shape(label)?;
            let columns: Vec<String> =
                fields.iter().flat_map(|field| field.columns()).map(|(_, name)| name).collect();
            let labels = own.iter().copied().chain(columns.iter().map(String::as_str));
            // Rows that others refer to are numbered here, others by their table.
            let mut names = Vec::new();
            if label == tables.name && is_referred {
                names.push(sql::name("id"));
            }
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
            selection,
            is_referred,
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
            versions: &tables.versions,
        })
    }

    /// Fetches what the application has of each portion.
    fn fetch(
        &self,
        selected: &Receiver<Vec<Selected>>,
        fetched: &SyncSender<Fetched>,
        app: &mut Session,
    ) -> Result<(), Error> {
        for portion in selected {
            let uids = portion.iter().filter_map(|selected| self.uid(selected));
            let found = stored(app, uids)?;
            if fetched.send((portion, found)).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The UID that a record names. The label of an identity is it as it is, which its text would quote;
    /// of several labels only the text is one.
    fn uid<'s>(&self, selected: &'s Selected) -> Option<Cow<'s, str>> {
        let picked = self.selection.pick(selected, ASSESSMENT)?;
        match picked.identity.as_deref() {
            Some([label]) => Some(Cow::Borrowed(label)),
            _ => picked.raw.as_text(),
        }
    }

    /// Makes rows of what was fetched; how many assessments there were.
    fn build(
        &self,
        fetched: Receiver<Fetched>,
        filled: &SyncSender<Rows>,
        lookup: &mut Session,
    ) -> Result<u64, Error> {
        let mut count = 0;
        for (portion, found) in fetched {
            let by_uid: HashMap<Cow<'_, str>, &Selected> = portion
                .iter()
                .filter_map(|selected| Some((self.uid(selected)?, selected)))
                .collect();
            let mut parents = Vec::new();
            for parent in &self.parents {
                parents.push(parent.ids(lookup, self.selection, &portion)?);
            }
            let mut ids = match self.is_referred {
                true => ids(lookup, &self.primary.name, found.len())?,
                false => Vec::new(),
            }
            .into_iter();
            let mut rows: Rows = self.targets().map(|_| Lines::default()).collect();
            for stored in &found {
                let Some(selected) = by_uid.get(stored.uid.as_str()) else { continue };
                let built = self.assessment(&mut rows, stored, selected, &parents, &mut ids);
                let is_loaded =
                    built.map_err(|error| error.guard("While loading Assessment:", &stored.uid))?;
                count += u64::from(is_loaded);
            }
            if filled.send(rows).is_err() {
                break;
            }
        }
        Ok(count)
    }

    /// Adds the rows of an assessment; whether it holds something.
    fn assessment(
        &self,
        rows: &mut [Lines],
        stored: &Stored,
        selected: &Selected,
        parents: &[HashMap<Vec<String>, i64>],
        ids: &mut impl Iterator<Item = i64>,
    ) -> Result<bool, Error> {
        let document = &Json::read(&stored.data)?;
        if !document.holds_something() {
            return Ok(false);
        }
        let version = &stored.version;
        let is_known = self.versions.contains(version);
        let source = Source::new(document, self.selection, selected, (version, is_known));
        let mut rows = rows.iter_mut();
        let Some(out) = rows.next() else { return Ok(false) };
        let id = ids.next().map(Cell::Integer);
        id.iter().for_each(|id| out.cell(id));
        for (parent, ids) in self.parents.iter().zip(parents) {
            let labels = parent.labels(self.selection, selected);
            let key = labels.as_ref().and_then(|labels| parent.key(labels));
            let row = key.and_then(|key| ids.get(&key));
            let row = row.ok_or_else(|| {
                let shown = labels.clone().unwrap_or_default().join(".");
                Error::with("Discovered missing record:", format!("{}[{shown}]", parent.table))
            })?;
            out.cell(&Cell::Integer(*row));
        }
        out.cell(&Cell::Text(stored.uid.as_str().into()));
        out.cell(&Cell::Text(stored.version.as_str().into()));
        for field in &self.primary.fields {
            source.write(field, out)?;
        }
        out.end();
        let link = id.unwrap_or(Cell::Null);
        for ((child, target), out) in self.children.iter().zip(&mut rows) {
            let value = document.at("values").at(&child.id).at("value");
            let fields = || child.fields.iter().map(|(place, _)| place).zip(&target.fields);
            if child.is_list {
                for (record, n) in value.items().iter().zip(1..) {
                    out.cell(&link);
                    out.cell(&Cell::Integer(n));
                    source.write_parts(record, fields(), out)?;
                }
            } else if value.holds_something() {
                out.cell(&link);
                source.write_parts(value, fields(), out)?;
            }
        }
        for ((fields, _), out) in self.overflow.iter().zip(&mut rows) {
            out.cell(&link);
            for field in *fields {
                source.write(field, out)?;
            }
            out.end();
        }
        Ok(true)
    }

    fn targets(&self) -> impl Iterator<Item = &Target<'a>> {
        std::iter::once(&self.primary)
            .chain(self.children.iter().map(|(_, target)| target))
            .chain(self.overflow.iter().map(|(_, target)| target))
    }

    /// Copies rows into a mart; what became of it, and the transaction, which is not ended.
    fn write(
        &self,
        filled: &Receiver<Rows>,
        open: Opener<'_>,
    ) -> Result<(Session, Result<(), Error>), Error> {
        let mut mart = open()?;
        mart.begin();
        let mut write = || {
            for rows in filled {
                let full = self.targets().zip(rows).filter(|(_, lines)| !lines.text.is_empty());
                for (target, lines) in full {
                    guarded(mart.copy_in(&target.copy, [lines.text]))?;
                }
            }
            Ok(())
        };
        let written = write();
        Ok((mart, written))
    }
}

/// The next values of a table's surrogate key.
fn ids(mart: &mut Session, table: &str, count: usize) -> Result<Vec<i64>, Error> {
    let query = format!(
        "SELECT nextval(pg_get_serial_sequence({}, 'id')) FROM generate_series(1, {count})",
        sql::text(table)
    );
    let rows = guarded(mart.sql_rows(&query))?;
    let number = |row: &Vec<Value>| match row.first() {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    };
    Ok(rows.iter().filter_map(number).collect())
}

/// Completed assessments of these UIDs, by UID.
fn stored<'a>(
    app: &mut Session,
    uids: impl Iterator<Item = Cow<'a, str>>,
) -> Result<Vec<Stored>, Error> {
    let uids: Vec<String> = uids.map(|uid| sql::text(&uid)).collect();
    if uids.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT a.uid::text, v.uid::text, a.data::text
         FROM assessment AS a JOIN instrumentversion AS v ON v.id = a.instrumentversion_id
         WHERE a.status = 'completed' AND a.uid IN ({})
         ORDER BY a.uid",
        uids.join(", ")
    );
    let rows = guarded(app.sql_rows(&query))?.into_iter();
    let read = |row: Vec<Value>| match <[Value; 3]>::try_from(row) {
        Ok([Value::Text(uid), Value::Text(version), Value::Text(data)]) => {
            Some(Stored { uid, version, data }).filter(|stored| !stored.data.trim().is_empty())
        }
        _ => None,
    };
    Ok(rows.filter_map(read).collect())
}

/// Where the values of an assessment are.
struct Source<'a> {
    values: &'a Json<'a>,
    meta: &'a Json<'a>,
    calculations: &'a Json<'a>,
    selection: &'a Selection,
    selected: &'a Selected,
    version: &'a str,
    /// Whether the version is one of the instruments that the table is made of.
    is_known: bool,
    /// Where the next value and the next calculation are likely to be.
    next_value: Place<usize>,
    next_calculation: Place<usize>,
}

impl<'a> Source<'a> {
    fn new(
        document: &'a Json<'a>,
        selection: &'a Selection,
        selected: &'a Selected,
        (version, is_known): (&'a str, bool),
    ) -> Source<'a> {
        let meta = document.at("meta");
        Source {
            values: document.at("values"),
            meta,
            calculations: meta.at("calculations"),
            selection,
            selected,
            version,
            is_known,
            next_value: Place::new(0),
            next_calculation: Place::new(0),
        }
    }

    fn write(&self, field: &Field, out: &mut Lines) -> Result<(), Error> {
        let mut put = |cell: Cell<'_>| out.cell(&cell);
        let written = match self.value(field) {
            Ok(Some((value, was))) => field.put(value, was, &mut put),
            // A column that is computed later, or a field of another version.
            Ok(None) => {
                field.put_nothing(&mut put);
                Ok(())
            }
            Err(error) => Err(error),
        };
        written.map_err(|error| error.guard("While loading field:", &field.id))
    }

    /// Writes a row of fields of a field, each from its place in the record.
    fn write_parts<'f>(
        &self,
        record: &Json<'_>,
        fields: impl Iterator<Item = (&'f Vec<String>, &'f &'f Field)>,
        out: &mut Lines,
    ) -> Result<(), Error> {
        for (place, field) in fields {
            let value = place.iter().fold(record, |value, step| value.at(step)).at("value");
            let mut put = |cell: Cell<'_>| out.cell(&cell);
            let written = match (value, field.origins.asked.get(self.version)) {
                (value, Some(was)) => field.put(Raw::of_json(value), was, &mut put),
                // Of another version.
                (value, None) if self.is_known || *value == Json::Null => {
                    field.put_nothing(&mut put);
                    Ok(())
                }
                _ => Err(unknown()),
            };
            written.map_err(|error| error.guard("While loading field:", &field.id))?;
        }
        out.end();
        Ok(())
    }

    /// The value of a field, and what it was meant to be. What an assessment has beside that under its
    /// name is not the field's: a definition may have left it out.
    fn value<'s>(&'s self, field: &'s Field) -> Result<Option<(Raw<'s>, &'s Kind)>, Error> {
        let (id, origins) = (field.id.as_str(), &field.origins);
        if let Some(was) = origins.asked.get(self.version)
            && let Some(value) = self.values.find(id, &self.next_value)
        {
            return Ok(Some((Raw::of_json(value.at("value")), was)));
        }
        if let Some(was) = &origins.meta
            && let Some(name) = id.strip_prefix("meta_")
            && let Some(value) = self.meta.find(name, &Place::new(0))
        {
            return Ok(Some((Raw::of_json(value), was)));
        }
        if let Some(was) = origins.calculated.get(self.version)
            && let Some(value) = self.calculations.find(id, &self.next_calculation)
        {
            return Ok(Some((Raw::of_json(value), was)));
        }
        if let Some(was) = &origins.selected {
            let value = self.selection.value(self.selected, id);
            return Ok(value.map(|raw| (raw.clone(), was)));
        }
        let has = |values: &Json<'_>, versions: &BTreeMap<String, Kind>| {
            !versions.is_empty() && values.find(id, &Place::new(0)).is_some()
        };
        let is_there =
            || has(self.values, &origins.asked) || has(self.calculations, &origins.calculated);
        match !self.is_known && is_there() {
            true => Err(unknown()),
            false => Ok(None),
        }
    }
}

/// An assessment is of an instrument that the table is not made of.
fn unknown() -> Error {
    Error::new("Unknown InstrumentVersion encountered")
}
