//! The tables that assessments go into: which fields they have, how tables and columns are called,
//! and the facts that make them.

use std::collections::BTreeSet;

use rex_yaml::Error;
use serde_json::{Value, json};

use super::field::{Field, Kind, Origin};
use super::instrument::{Instrument, Question, Type, Version};
use crate::definition::{Assessment, Identifiable, RelationshipKind};
use crate::name::{self, MAX_LENGTH};
use crate::processor::{Described, Description};

pub(super) const ASSESSMENT: &str = "assessment_uid";
pub(super) const VERSION: &str = "instrument_version_uid";
pub(super) const SEQUENCE: &str = "record_seq";

/// All tables of an assessment.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) name: String,
    kind: RelationshipKind,
    /// Labels of the links to parents.
    pub(super) parents: Vec<String>,
    /// Those of the primary table.
    pub(super) fields: Vec<Field>,
    pub(super) children: Vec<Child>,
    /// Facets that hold what does not fit into the primary table.
    pub(super) overflow: Vec<Overflow>,
    /// All versions of the instruments whose assessments go into the tables.
    pub(super) versions: BTreeSet<String>,
    title: Option<String>,
    description: Option<String>,
}

/// The table of a field that has fields.
#[derive(Debug)]
pub(super) struct Child {
    /// Of the field.
    pub(super) id: String,
    pub(super) name: String,
    /// Whether a record of the primary table has a list of records in it, or one.
    pub(super) is_list: bool,
    /// Each with where its value is: a subfield, or a row and a column.
    pub(super) fields: Vec<(Vec<String>, Field)>,
    identifiable: bool,
    /// Columns of a matrix of which a version says that they are identifiable, in whichever rows.
    marked: BTreeSet<String>,
    description: Option<String>,
}

#[derive(Debug)]
pub(super) struct Overflow {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
}

/// What tables are made of while fields are gathered.
pub(super) struct Builder<'a> {
    assessment: &'a Assessment,
    fields: Vec<Field>,
    children: Vec<Child>,
    versions: BTreeSet<String>,
    title: Option<String>,
    description: Option<String>,
}

impl<'a> Builder<'a> {
    /// Begins with the fields of the selector.
    pub(super) fn new(assessment: &'a Assessment, selected: Vec<Field>) -> Builder<'a> {
        Builder {
            assessment,
            fields: selected,
            children: Vec::new(),
            versions: BTreeSet::new(),
            title: None,
            description: None,
        }
    }

    /// Columns that are computed later.
    pub(super) fn calculations(&mut self) -> Result<(), Error> {
        for calculation in &self.assessment.post_load_calculations {
            let kind = Kind::Simple(calculation.ty);
            let mut field = Field::new(&calculation.name, kind, Origin::Later)?;
            field.source = Some("RexMart Calculation");
            self.add(field)?;
        }
        Ok(())
    }

    pub(super) fn instrument(&mut self, instrument: &Instrument) -> Result<(), Error> {
        for version in &instrument.versions {
            self.versions.insert(version.uid.clone());
            if self.title.is_none() {
                self.title = version.wording.title.clone().or_else(|| version.title.clone());
            }
            if self.description.is_none() {
                self.description.clone_from(&version.description);
            }
            for question in &version.fields {
                if is_wanted(self.assessment.fields.as_deref(), &question.id) {
                    self.question(version, question)?;
                }
            }
            for question in &version.calculations {
                if is_wanted(self.assessment.calculations.as_deref(), &question.id) {
                    let (origin, id) = (Origin::Calculated(&version.uid), &question.id);
                    let mut field = field(version, origin, question, id, id)?;
                    field.source = Some("RIOS Calculation Set");
                    self.add(field)?;
                }
            }
        }
        Ok(())
    }

    fn question(&mut self, version: &Version, question: &Question) -> Result<(), Error> {
        let path = |parts: &[&str]| parts.join(".");
        let asked = |question: &Question, id: &str, wording: &str| {
            field(version, Origin::Asked(&version.uid), question, id, wording)
        };
        let mut fields = Vec::new();
        let is_list = match &question.ty {
            Type::Plain(..) => {
                return self.add(asked(question, &question.id, &question.id)?);
            }
            Type::RecordList(record) => {
                for sub in record {
                    let place = path(&[&question.id, &sub.id]);
                    if self.is_part_wanted(&question.id, &place) {
                        fields.push((vec![sub.id.clone()], asked(sub, &sub.id, &place)?));
                    }
                }
                true
            }
            Type::Matrix(rows, columns) => {
                for row in rows {
                    for column in columns {
                        let place = path(&[&question.id, row, &column.id]);
                        if !self.is_part_wanted(&question.id, &place) {
                            continue;
                        }
                        let id = format!("{row}_{}", column.id);
                        let wording = path(&[&question.id, &column.id]);
                        let field = asked(column, &id, &wording)?;
                        fields.push((vec![row.clone(), column.id.clone()], field));
                    }
                }
                false
            }
        };
        let worded = version.wording.questions.get(&question.id).cloned();
        let description = worded.or_else(|| question.description.clone());
        let marked: &[Question] = match &question.ty {
            Type::Matrix(_, columns) => columns,
            Type::RecordList(_) | Type::Plain(..) => &[],
        };
        let marked = marked.iter().filter(|column| column.identifiable);
        self.child(Child {
            id: question.id.clone(),
            name: String::new(),
            is_list,
            fields,
            identifiable: question.identifiable,
            marked: marked.map(|column| column.id.clone()).collect(),
            description,
        })
    }

    /// Whether a definition that lists fields lists this part of one, or all of it.
    fn is_part_wanted(&self, field: &str, path: &str) -> bool {
        match self.assessment.fields.as_deref() {
            Some([]) | None => true,
            Some(listed) => listed.iter().any(|entry| entry == field || entry == path),
        }
    }

    fn child(&mut self, child: Child) -> Result<(), Error> {
        let id = &child.id;
        let what = if child.is_list { "recordList" } else { "matrix" };
        let alone = || {
            Error::new(format!("Cannot merge a {what} field with any other type of field ({id})"))
        };
        if self.fields.iter().any(|field| field.id == *id) {
            return Err(alone());
        }
        let Some(known) = self.children.iter_mut().find(|known| known.id == *id) else {
            self.children.push(child);
            return Ok(());
        };
        if known.is_list != child.is_list {
            return Err(alone());
        }
        known.identifiable |= child.identifiable;
        known.marked.extend(child.marked);
        known.description = known.description.take().or(child.description);
        for (place, field) in child.fields {
            // Cells of a matrix may be called alike: left, eye_colour and left_eye, colour.
            let mut all = known.fields.iter_mut();
            match all.find(|(at, other)| *at == place && other.id == field.id) {
                Some((_, other)) => other.merge(field)?,
                None => known.fields.push((place, field)),
            }
        }
        Ok(())
    }

    fn add(&mut self, field: Field) -> Result<(), Error> {
        if self.children.iter().any(|child| child.id == field.id) {
            let (kind, id) = (field.kind.name(), &field.id);
            return Err(Error::new(format!(
                "Cannot merge a \"{kind}\" field with a complex field ({id})"
            )));
        }
        match self.fields.iter_mut().find(|known| known.id == field.id) {
            Some(known) => known.merge(field),
            None => {
                self.fields.push(field);
                Ok(())
            }
        }
    }

    /// Leaves out what is not wanted, adds metadata, and gives names; those of tables differ from the
    /// ones that are `taken`, and are from now on.
    pub(super) fn build(
        mut self,
        max_columns: usize,
        taken: &mut BTreeSet<String>,
    ) -> Result<Tables, Error> {
        let is_kept = |identifiable: bool| match self.assessment.identifiable {
            Identifiable::Any => true,
            Identifiable::Only => identifiable,
            Identifiable::None => !identifiable,
        };
        let calculated = &self.assessment.post_load_calculations;
        let is_calculated = |field: &Field| calculated.iter().any(|c| c.name == field.id);
        // What is computed later has to have its column, but no answers that are called so.
        for field in self.fields.iter_mut().filter(|field| !is_kept(field.identifiable)) {
            field.origins.asked.clear();
            field.origins.calculated.clear();
        }
        self.fields.retain(|field| is_calculated(field) || is_kept(field.identifiable));
        for child in &mut self.children {
            let (whole, marked) = (child.identifiable, &child.marked);
            let is_marked = |place: &[String]| place.last().is_some_and(|id| marked.contains(id));
            child
                .fields
                .retain(|(place, field)| is_kept(whole || field.identifiable || is_marked(place)));
        }
        self.children.retain(|child| !child.fields.is_empty());
        for (name, ty) in self.assessment.meta.iter().flatten().flatten() {
            self.add(Field::new(&format!("meta_{name}"), Kind::Simple(*ty), Origin::Meta)?)?;
        }

        let relationship = &self.assessment.parental_relationship;
        let reserved = [ASSESSMENT, VERSION].into_iter().map(str::to_owned);
        let reserved: Vec<String> = reserved.chain(relationship.parent.iter().cloned()).collect();
        name_columns(self.fields.iter_mut().collect(), &reserved);
        for child in &mut self.children {
            let reserved = [self.assessment.name.clone(), SEQUENCE.to_owned()];
            let reserved = if child.is_list { &reserved[..] } else { &reserved[..1] };
            name_columns(child.fields.iter_mut().map(|(_, field)| field).collect(), reserved);
        }
        // Columns that are computed from others stay where those can be reached.
        let early = self.fields.iter().filter(|field| is_calculated(field)).count();
        let room = max_columns.saturating_sub(2 + relationship.parent.len() + early);
        let mut fields = Vec::new();
        let mut rest = Vec::new();
        let mut placed = 0;
        for field in self.fields {
            if is_calculated(&field) {
                fields.push(field);
            } else if placed < room {
                placed += 1;
                fields.push(field);
            } else {
                rest.push(field);
            }
        }
        // These tables have a link to the first one, which is called so.
        let link = [self.assessment.name.clone()];
        name_columns(rest.iter_mut().collect(), &link);
        let mut tables = Tables {
            name: self.assessment.name.clone(),
            kind: relationship.kind,
            parents: relationship.parent.clone(),
            fields,
            children: self.children,
            overflow: Vec::new(),
            versions: self.versions,
            title: self.title,
            description: self.description,
        };
        tables.name_children(rest, max_columns.saturating_sub(1).max(1), taken);
        Ok(tables)
    }
}

/// Whether a definition lists a field or a part of it.
fn is_wanted(listed: Option<&[String]>, id: &str) -> bool {
    match listed {
        None => false,
        Some([]) => true,
        Some(listed) => listed.iter().any(|entry| entry.split('.').next() == Some(id)),
    }
}

/// A field of a version; `wording` is where presentations have it.
fn field(
    version: &Version,
    origin: Origin<'_>,
    question: &Question,
    id: &str,
    wording: &str,
) -> Result<Field, Error> {
    let Type::Plain(name, labels) = &question.ty else {
        let name = if matches!(question.ty, Type::Matrix(..)) { "matrix" } else { "recordList" };
        return Err(Error::new(format!("Cannot map fields of type \"{name}\"")));
    };
    let kind = Kind::named(name, labels.iter().map(|(label, _)| label.clone()).collect())?;
    let mut field = Field::new(id, kind, origin)?;
    field.identifiable = question.identifiable;
    let asked = version.wording.questions.get(wording).cloned();
    field.description = asked.or_else(|| question.description.clone());
    field.source = Some("RIOS Instrument");
    for (label, description) in labels {
        let key = (wording.to_owned(), label.clone());
        let text = version.wording.labels.get(&key).cloned().or_else(|| description.clone());
        field.labels.extend(text.map(|text| (label.clone(), text)));
    }
    Ok(field)
}

/// A name without what a cut left at its end.
fn stem(name: &str, length: usize) -> &str {
    let stem = name::cut(name, length);
    stem.strip_suffix('_').unwrap_or(stem)
}

/// A name for a table that no other one has, which is taken from now on.
fn free(name: String, taken: &mut BTreeSet<String>) -> String {
    let base = stem(&name, MAX_LENGTH - 3).to_owned();
    let mut numbered = (1..).map(|n| format!("{base}_{n}"));
    let mut name = name;
    while !taken.insert(name.clone()) {
        name = numbered.next().unwrap_or(name);
    }
    name
}

/// Gives the columns of a table names that differ from each other and from those that it has anyway.
fn name_columns(mut fields: Vec<&mut Field>, reserved: &[String]) {
    for field in &mut fields {
        if reserved.contains(&field.name) {
            field.name = format!("{}_src", name::cut(&field.name, MAX_LENGTH - "_src".len()));
        }
    }
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<String> = fields
        .iter()
        .filter(|field| !seen.insert(field.name.clone()))
        .map(|field| field.name.clone())
        .collect();
    for base in twice {
        let base = stem(&base, MAX_LENGTH - 3).to_owned();
        for (n, field) in
            fields.iter_mut().filter(|field| field.name.starts_with(&base)).enumerate()
        {
            field.name = format!("{base}_{}", n + 1);
        }
    }
    name_choices(&mut fields, reserved);
}

/// As [`name_columns`], of columns of sets too: their names are made of those of fields and labels.
fn name_choices(fields: &mut [&mut Field], reserved: &[String]) {
    let mut names: Vec<(usize, usize, String)> = Vec::new();
    for (n, field) in fields.iter_mut().enumerate() {
        let columns: Vec<String> = field.columns().into_iter().map(|(_, name)| name).collect();
        for (column, mut name) in columns.into_iter().enumerate() {
            if reserved.contains(&name) {
                name = format!("{}_src", name::cut(&name, MAX_LENGTH - "_src".len()));
                field.rename(column, name.clone());
            }
            names.push((n, column, name));
        }
    }
    let mut taken: BTreeSet<String> = reserved.iter().cloned().collect();
    let twice: BTreeSet<String> = names
        .iter()
        .filter(|(_, _, name)| !taken.insert(name.clone()))
        .map(|(_, _, name)| name.clone())
        .collect();
    for name in twice {
        let base = stem(&name, MAX_LENGTH - 3).to_owned();
        let mut free = (1..).map(|n| format!("{base}_{n}")).filter(|name| !taken.contains(name));
        for (n, column, _) in names.iter().filter(|(_, _, known)| *known == name) {
            if let (Some(field), Some(name)) = (fields.get_mut(*n), free.next()) {
                field.rename(*column, name);
            }
        }
        let given = fields.iter().flat_map(|field| field.columns()).map(|(_, name)| name);
        taken.extend(given);
    }
}

impl Tables {
    /// Gives the other tables names, and those that do not fit into the primary one tables.
    fn name_children(&mut self, mut rest: Vec<Field>, room: usize, taken: &mut BTreeSet<String>) {
        let mut next = 2;
        let mut short = |name: String| {
            if name.len() <= MAX_LENGTH {
                return name;
            }
            let numbered = format!("{}_{next}", stem(&name, MAX_LENGTH - 3));
            next += 1;
            numbered
        };
        for child in &mut self.children {
            let token = name::safe(&child.id).unwrap_or_else(|_| child.id.clone());
            child.name = free(short(format!("{}_{token}", self.name)), taken);
        }
        while !rest.is_empty() {
            let after = rest.split_off(room.min(rest.len()));
            let mut name = format!("{}_{next}", self.name);
            next += 1;
            while !taken.insert(name.clone()) {
                name = format!("{}_{next}", self.name);
                next += 1;
            }
            self.overflow.push(Overflow { name, fields: std::mem::replace(&mut rest, after) });
        }
    }

    /// The facts that make the tables.
    pub(super) fn facts(&self) -> Value {
        let of = &self.name;
        let mut facts = vec![json!({"table": of})];
        for parent in &self.parents {
            facts.push(json!({"link": parent, "of": of, "required": true}));
        }
        let required = |column: &str, title: &str| json!({"column": column, "of": of, "type": "text", "required": true, "title": title});
        facts.push(required(ASSESSMENT, "Assessment UID"));
        let mut identity = self.parents.clone();
        if !matches!(self.kind, RelationshipKind::Facet | RelationshipKind::Cross) {
            identity.push(ASSESSMENT.to_owned());
        }
        facts.push(json!({"identity": identity, "of": of}));
        facts.push(required(VERSION, "InstrumentVersion UID"));
        facts.extend(self.fields.iter().flat_map(|field| field.facts(of)));
        for Child { name, is_list, fields, .. } in &self.children {
            facts.push(json!({"table": name}));
            facts.push(json!({"link": of, "of": name, "required": true}));
            if *is_list {
                facts.push(json!({
                    "column": SEQUENCE, "of": name, "type": "integer", "required": true}));
                facts.push(json!({"identity": [of, {SEQUENCE: "offset"}], "of": name}));
            } else {
                facts.push(json!({"identity": [of], "of": name}));
            }
            facts.extend(fields.iter().flat_map(|(_, field)| field.facts(name)));
        }
        for Overflow { name, fields } in &self.overflow {
            facts.push(json!({"table": name}));
            facts.push(json!({"link": of, "of": name, "required": true}));
            facts.push(json!({"identity": [of], "of": name}));
            facts.extend(fields.iter().flat_map(|field| field.facts(name)));
        }
        Value::Array(facts)
    }

    /// What a data dictionary tells of the tables.
    pub(super) fn describe(&self, described: &mut Described) {
        let title = self.title.clone().unwrap_or_default();
        let table = |title: String, description: Option<String>| Description {
            title: Some(title).filter(|title| !title.is_empty()),
            description,
            source: None,
        };
        let mut tell = |of: &str, fields: &mut dyn Iterator<Item = &Field>| {
            for field in fields {
                describe(of, field, described);
            }
        };
        tell(&self.name, &mut self.fields.iter());
        for child in &self.children {
            tell(&child.name, &mut child.fields.iter().map(|(_, field)| field));
        }
        for overflow in &self.overflow {
            tell(&overflow.name, &mut overflow.fields.iter());
        }
        described.tables.insert(self.name.clone(), table(title.clone(), self.description.clone()));
        for child in &self.children {
            let title = format!("{title} ({} fields)", child.id);
            described.tables.insert(child.name.clone(), table(title, child.description.clone()));
        }
        for overflow in &self.overflow {
            let text = "Additional fields that didn't fit in in the base table.".to_owned();
            let title = format!("{title} (Additional Fields)");
            described.tables.insert(overflow.name.clone(), table(title, Some(text)));
        }
    }
}

fn describe(table: &str, field: &Field, described: &mut Described) {
    for (labels, column) in field.columns() {
        let label = labels.first().copied();
        let description = match (&field.description, label) {
            (Some(text), Some(label)) => {
                let label = field.labels.get(label).map_or(label, String::as_str);
                Some(format!("{text} ({label})"))
            }
            (None, Some(label)) => field.labels.get(label).cloned(),
            (text, None) => text.clone(),
        };
        let source = field.source.map(str::to_owned);
        let description = Description { title: None, description, source };
        described.columns.insert((table.to_owned(), column.clone()), description);
        if label.is_none() {
            for (label, text) in &field.labels {
                let key = (table.to_owned(), column.clone(), label.clone());
                described.labels.insert(key, text.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
