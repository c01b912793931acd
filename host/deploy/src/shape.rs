//! A database in the terms of facts: tables with their columns, links and identities, read from
//! what the server tells. For who describes or fills a database that facts have made.

use rex_htsql::domain::Domain;
use rex_yaml::Error;

use crate::comment::Comment;
use crate::deployer::Deployer;
use crate::image::{Image, Table, Type};
use crate::{column, column_type::ColumnType, link};

/// A table that could have been deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    pub label: String,
    /// In the database.
    pub name: String,
    pub title: Option<String>,
    /// In the order of the columns, without the surrogate key.
    pub fields: Vec<FieldShape>,
    /// Labels of the fields that tell records apart.
    pub identity: Vec<String>,
}

/// A column or a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldShape {
    pub label: String,
    /// The column in the database.
    pub name: String,
    pub title: Option<String>,
    pub kind: FieldKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldKind {
    /// The type by the name that facts have for it; that of the server where they have none.
    Column(String),
    Enum(Vec<String>),
    /// To the table of this label.
    Link(String),
}

impl FieldKind {
    /// What its values are; of links, and where facts have no name for the type, texts.
    pub fn domain(&self) -> Domain {
        let ty = match self {
            FieldKind::Column(name) => ColumnType::named(name).ok(),
            FieldKind::Enum(labels) => Some(ColumnType::Enum(labels.clone())),
            FieldKind::Link(_) => None,
        };
        ty.map_or(Domain::Text, |ty| ty.domain())
    }
}

impl TableShape {
    pub fn field(&self, label: &str) -> Option<&FieldShape> {
        self.fields.iter().find(|field| field.label == label)
    }
}

/// The column that rows are linked by.
const SURROGATE: &str = "id";

impl Deployer<'_> {
    /// The tables of the database, in the order in which they were made.
    ///
    /// # Errors
    /// The structure of the database cannot be read.
    pub fn shape(&mut self) -> Result<Vec<TableShape>, Error> {
        let image = self.image()?;
        let tables = image.tables.values();
        Ok(tables
            .filter(|table| table.column_named(SURROGATE).is_some())
            .map(|table| shape(image, table))
            .collect())
    }
}

fn shape(image: &Image, table: &Table) -> TableShape {
    let fields: Vec<FieldShape> = table
        .columns
        .iter()
        .filter(|column| column.name != SURROGATE)
        .map(|column| {
            let target = table.link(column.id).and_then(|link| image.tables.get(&link.target));
            let (label, kind) = match target {
                Some(target) => (link::label_of(column), FieldKind::Link(label(target))),
                None => (column::label_of(column), kind(image, &column.ty)),
            };
            let title = Comment::read(column.comment.as_deref()).title;
            FieldShape { label, name: column.name.clone(), title, kind }
        })
        .collect();
    let names = table.primary_key().map(|key| table.column_names(&key.columns)).unwrap_or_default();
    let of_column = |name: &String| fields.iter().find(|field| field.name == *name);
    let identity = names.iter().filter_map(of_column).map(|field| field.label.clone()).collect();
    TableShape {
        label: label(table),
        name: table.name.clone(),
        title: Comment::read(table.comment.as_deref()).title,
        fields,
        identity,
    }
}

fn label(table: &Table) -> String {
    Comment::read(table.comment.as_deref()).label.unwrap_or_else(|| table.name.clone())
}

fn kind(image: &Image, ty: &Type) -> FieldKind {
    match column::type_of(image, ty) {
        Some(ColumnType::Enum(labels)) => FieldKind::Enum(labels),
        Some(ColumnType::Plain(plain)) => FieldKind::Column(plain.name.to_owned()),
        None => FieldKind::Column(image.type_name(ty).to_owned()),
    }
}
