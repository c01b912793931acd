//! Domains: the types of HTSQL values, and how a domain is written in messages.
//!
//! A domain is a *family* (text, integer, …): sizes and precisions of the database types are not
//! kept, since no coercion can see them. How domains combine is decided in `coerce`, what a
//! literal of a domain looks like in `literal`.

use std::fmt;
use std::sync::Arc;

use crate::profile::Profile;

/// The type of a value or of a whole product.
#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    /// No value at all (a deleted record, a lone `/`).
    Void,
    /// A quoted literal or a text parameter whose type is not yet known.
    Untyped,
    Boolean,
    Integer,
    Decimal,
    Float,
    Text,
    /// A PostgreSQL enumeration.
    Enum(Arc<EnumType>),
    Date,
    Time,
    DateTime,
    Json,
    /// Any other database type, by its name; values travel as text.
    Opaque(Arc<OpaqueType>),
    /// A row of a table (never seen in a finished profile).
    Entity,
    /// A tuple of named fields.
    Record(Arc<[Profile]>),
    List(Box<Domain>),
    /// The identity of an entity; a label is a scalar or a nested identity.
    Identity(Arc<[Domain]>),
}

/// A PostgreSQL enumeration type.
#[derive(Debug, Clone)]
pub struct EnumType {
    pub schema: String,
    pub name: String,
    /// In definition order.
    pub labels: Vec<String>,
}

/// Two enumerations are the same domain when their labels are: values may then travel between
/// databases, where type names differ.
impl PartialEq for EnumType {
    fn eq(&self, other: &EnumType) -> bool {
        self.labels == other.labels
    }
}

/// A database type that HTSQL has no family for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpaqueType {
    pub schema: String,
    pub name: String,
}

impl Domain {
    /// The family name, without arguments: `enum`, `identity`, `record`.
    pub fn family(&self) -> &'static str {
        match self {
            Domain::Void => "void",
            Domain::Untyped => "untyped",
            Domain::Boolean => "boolean",
            Domain::Integer => "integer",
            Domain::Decimal => "decimal",
            Domain::Float => "float",
            Domain::Text => "text",
            Domain::Enum(_) => "enum",
            Domain::Date => "date",
            Domain::Time => "time",
            Domain::DateTime => "datetime",
            Domain::Json => "json",
            Domain::Opaque(_) => "opaque",
            Domain::Entity => "entity",
            Domain::Record(_) => "record",
            Domain::List(_) => "list",
            Domain::Identity(_) => "identity",
        }
    }

    /// Whether values of the domain fit one column.
    pub fn is_scalar(&self) -> bool {
        !matches!(
            self,
            Domain::Void
                | Domain::Entity
                | Domain::Record(_)
                | Domain::List(_)
                | Domain::Identity(_)
        )
    }

    /// Number of leaf labels of an identity; 1 for a scalar.
    pub fn width(&self) -> usize {
        match self {
            Domain::Identity(labels) => labels.iter().map(Domain::width).sum(),
            _ => 1,
        }
    }

    /// The leaf domains of an identity, left to right; the domain itself for a scalar.
    pub fn leaves(&self) -> Vec<Domain> {
        match self {
            Domain::Identity(labels) => labels.iter().flat_map(Domain::leaves).collect(),
            other => vec![other.clone()],
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domain::Enum(ty) => {
                let labels: Vec<String> =
                    ty.labels.iter().map(|l| format!("'{}'", l.replace('\'', "''"))).collect();
                write!(f, "enum({})", labels.join(", "))
            }
            Domain::Record(fields) => {
                let fields: Vec<String> = fields.iter().map(|p| p.domain.to_string()).collect();
                write!(f, "record({})", fields.join(", "))
            }
            Domain::List(item) => write!(f, "list({item})"),
            Domain::Identity(labels) => {
                let labels: Vec<String> = labels.iter().map(Domain::to_string).collect();
                write!(f, "identity({})", labels.join(", "))
            }
            other => f.write_str(other.family()),
        }
    }
}
