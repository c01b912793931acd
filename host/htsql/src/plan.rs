//! Plans: what the compiler hands to the executor.
//!
//! A plan is closed data: SQL statements with their parameters, how the columns of each become
//! values, how nested segments stitch together, and what an ETL command does with its feed.
//! Commands that run other commands (`do`, `for`, `if`, `with`) hold their parts as recognised but
//! uncompiled `Command`s, since a part may refer to values that an earlier part returns: the
//! executor compiles each when its turn comes, with the parameters known by then.
//!
//! Errors at run time are finished with `Error::at(Stage::Processing, &mark)`, where `mark` is the
//! one of the innermost plan node being run.

use std::fmt;
use std::sync::Arc;

use crate::clarify::Conversion;
use crate::command::Command;
use crate::domain::Domain;
use crate::error::Mark;
use crate::profile::Profile;
use crate::show;
use crate::value::Value;

/// A compiled query.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a query has one plan or a few, each moved once")]
pub enum Plan {
    /// A lone `/`: the product is void, no data.
    Skip,
    Fetch(Arc<FetchPlan>),
    /// Runs `feed` and prints its product in a format.
    Format {
        format: Format,
        feed: Box<Plan>,
        mark: Mark,
    },
    /// `sql(q)`: the product is the SQL text of the query, a text value; nothing is run.
    Sql {
        feed: Box<Plan>,
        mark: Mark,
    },
    /// `describe(q)`: the product is the profile of `feed`; nothing is run.
    Describe {
        feed: Box<Plan>,
        mark: Mark,
    },
    /// `pivot(q[, on[, by]])`; indexes as written (negative counts from the end; `on` defaults to
    /// -2, `by` to -1).
    Pivot {
        feed: Box<Plan>,
        on: i64,
        by: i64,
        mark: Mark,
    },
    /// Runs `plan` (compiled against the gateway's catalog) on the connection of gateway `name`.
    Gateway {
        name: String,
        plan: Box<Plan>,
        mark: Mark,
    },
    /// Runs `plan` (compiled against `Catalog::meta`), parts that are compiled later included.
    Meta {
        plan: Box<Plan>,
        mark: Mark,
    },
    Etl(EtlPlan),
    /// `TRUNCATE … RESTART IDENTITY CASCADE`; the product is void.
    Truncate {
        schema: String,
        table: String,
        mark: Mark,
    },
    /// Runs the steps in order; a step's product becomes the parameter `reference` of the
    /// following ones. The product is the last step's.
    Do {
        steps: Vec<Step>,
        mark: Mark,
    },
    /// Runs the first `then` whose `test` gives TRUE. A test that is not boolean is an error
    /// `Expected boolean value; got <domain>`, marked at the test. No arm and no `otherwise`: an
    /// untyped NULL without tag and header.
    If {
        arms: Vec<(Command, Command)>,
        otherwise: Option<Command>,
        mark: Mark,
    },
    /// Runs `body` for each item of the list, or each field of the record, that `items` gives, with
    /// it as parameter `reference`. The product is the list of the non-null results, which are to
    /// be of one domain.
    For {
        reference: String,
        items: Command,
        body: Command,
        mark: Mark,
    },
    /// Runs `body` with every tagged field of the record (or key of the JSON object) as a
    /// parameter; where it is NULL the product is an untyped NULL. `Expected a record value`,
    /// marked at `record`, for anything else.
    With {
        record: Command,
        body: Command,
        mark: Mark,
    },
}

/// One command of `do`.
#[derive(Debug, Clone)]
pub struct Step {
    pub reference: Option<String>,
    pub command: Command,
}

/// Output formats of the format commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Html,
    Raw,
    Json,
    Csv,
    Tsv,
    Xml,
}

/// A query to run: the root row and any number of nested segments.
#[derive(Debug, Clone)]
pub struct FetchPlan {
    /// Of the whole product: a list for a query that starts with `/`.
    pub profile: Profile,
    /// The statement that gives the one root row; `None` when `shape` needs no columns of it.
    pub root: Option<Statement>,
    /// How the product is built from the root row.
    pub shape: Shape,
    /// Nested segments, each after the segment that holds it.
    pub segments: Vec<Segment>,
    /// Zero-width, at the start of the query.
    pub mark: Mark,
}

/// The rows of one `/…`, of all parent rows at once.
///
/// Rows come grouped by parent and in the parents' order, so one pass over both merges them: the
/// rows of a parent row are the next ones whose `key` columns equal the parent row's `parent_key`
/// columns. NULLs in keys equal each other. Both are empty for the root row's segments: all rows
/// belong to it.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Index of the enclosing segment in `FetchPlan::segments`; `None` for the root row.
    pub parent: Option<usize>,
    pub statement: Statement,
    /// Columns of this statement.
    pub key: Vec<usize>,
    /// Columns of the parent's statement, parallel to `key`.
    pub parent_key: Vec<usize>,
    /// How an item of the list is built from a row.
    pub item: Shape,
}

/// How a value is built from a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Always NULL (void).
    Null,
    /// A column of the row. Text, untyped, enum and opaque come as text types, integer as int2,
    /// int4 or int8, float as float4 or float8, decimal as numeric, json as json or jsonb, and
    /// datetime as timestamp or timestamptz.
    Column { index: usize, domain: Domain },
    /// A record; NULL when the (boolean) indicator column is NULL or false.
    Record { indicator: Option<usize>, fields: Vec<Shape> },
    /// An identity; NULL when any leaf is.
    Identity { labels: Vec<Shape> },
    /// The rows of a nested segment, by index into `FetchPlan::segments`; NULL, not an empty list,
    /// when the (boolean) indicator column is NULL or false.
    List { segment: usize, indicator: Option<usize> },
}

/// One SQL statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// On one line, with `$1`… for the parameters.
    pub sql: String,
    /// In `$n` order.
    pub params: Vec<SqlParam>,
    /// Number of columns of the result.
    pub width: usize,
}

/// The SQL, then its parameters, each on a line.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.sql)?;
        for (index, param) in self.params.iter().enumerate() {
            writeln!(f, "{}", show::param(index, param))?;
        }
        Ok(())
    }
}

/// A bound parameter: to be sent with exactly this type.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlParam {
    pub ty: SqlType,
    pub value: Value,
}

/// Parameter types, as PostgreSQL names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlType {
    Boolean,
    /// int8.
    BigInt,
    Numeric,
    /// float8.
    Double,
    Text,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Jsonb,
}

impl SqlType {
    /// The name to write after `::`.
    pub fn name(self) -> &'static str {
        match self {
            SqlType::Boolean => "BOOLEAN",
            SqlType::BigInt => "BIGINT",
            SqlType::Numeric => "NUMERIC",
            SqlType::Double => "FLOAT8",
            SqlType::Text => "TEXT",
            SqlType::Date => "DATE",
            SqlType::Time => "TIME",
            SqlType::Timestamp => "TIMESTAMP",
            SqlType::TimestampTz => "TIMESTAMPTZ",
            SqlType::Jsonb => "JSONB",
        }
    }
}

/// The ETL verbs that take a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtlKind {
    Insert,
    Copy,
    Update,
    Merge,
    Clone,
    Delete,
}

impl EtlKind {
    /// For `While inserting a record`.
    pub fn gerund(self) -> &'static str {
        match self {
            EtlKind::Insert => "inserting",
            EtlKind::Copy => "copying",
            EtlKind::Update => "updating",
            EtlKind::Merge => "merging",
            EtlKind::Clone => "cloning",
            EtlKind::Delete => "deleting",
        }
    }
}

/// An ETL command with its feed.
#[derive(Debug, Clone)]
pub struct EtlPlan {
    pub kind: EtlKind,
    pub feed: Box<Plan>,
    /// `None` when the feed's profile is only known once it runs (`do`, `for`, `if`, `with`):
    /// `etl::resolve` then gives the target from the profile of the feed's product.
    pub target: Option<Target>,
    /// The command's name.
    pub mark: Mark,
}

/// The table that an ETL command works on, and where each field of the feed goes.
#[derive(Debug, Clone)]
pub struct Target {
    pub schema: String,
    pub table: String,
    /// The tag and header of the product: the table's label.
    pub tag: String,
    pub header: String,
    /// Whether the feed is a list (the product is then a list of IDs) or a single record.
    pub is_list: bool,
    /// The feed's own domain (a record), for the record literal in errors.
    pub record: Domain,
    /// One for each field of the feed's record, in order.
    pub fields: Vec<FieldTarget>,
    /// How identities of the table resolve to rows, for what is returned and for the identity
    /// fields; `None` where a `copy` does without.
    pub identity: Option<Identify>,
    /// Whether the product is the identities: not for `copy` and `delete`, whose product is void.
    pub returns: bool,
    /// Columns that locate a row of the table, for RETURNING and WHERE: the primary key, else the
    /// first total unique key.
    pub key: Vec<String>,
    /// For `merge`: the indexes of `fields` that make up the identity, one a label in label order.
    pub identity_fields: Vec<usize>,
    /// For `clone`: all columns that are copied from the located row when no field sets them.
    pub cloned: Vec<String>,
}

/// Where a field of the feed goes.
#[derive(Debug, Clone)]
pub enum FieldTarget {
    /// No tag: the value is not used.
    Ignored,
    /// The identity of the row itself (first field of `update`, `clone` and `delete`).
    Identity { convert: Conversion },
    /// A column. `sql_type` is for a cast of the parameter.
    Column { name: String, column: String, sql_type: String, convert: Conversion },
    /// A link: the identity of a row of another table, to be resolved to the values of
    /// `identify.key`, which go to `columns` (parallel).
    Link { name: String, columns: Vec<String>, identify: Identify, convert: Conversion },
}

/// How the identities of a table relate to its rows.
///
/// `SELECT <leaves>, <key> FROM <schema>.<table> AS "t0" <joins>`: `leaves` are SQL expressions.
#[derive(Debug, Clone)]
pub struct Identify {
    pub schema: String,
    pub table: String,
    /// `INNER JOIN "s"."t" AS "t1" ON (…)` for each link in the identity, in order; possibly empty.
    pub joins: Vec<String>,
    /// One for each leaf label, left to right.
    pub leaves: Vec<Leaf>,
    /// The identity domain.
    pub domain: Domain,
    /// Columns of the table (alias `"t0"`) that the identity resolves to.
    pub key: Vec<String>,
    /// The label of the table, for `table[id]` in errors.
    pub label: String,
}

/// A leaf label of an identity.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// An SQL expression such as `"t1"."code"`.
    pub sql: String,
    pub domain: Domain,
    /// The type of the column, for a cast of the parameter it is compared with.
    pub sql_type: String,
}

impl Plan {
    /// The profile of the product, when it is known before the plan runs.
    pub fn profile(&self) -> Option<Profile> {
        match self {
            Plan::Skip | Plan::Truncate { .. } => Some(Profile::bare(Domain::Void)),
            Plan::Fetch(fetch) => Some(fetch.profile.clone()),
            Plan::Gateway { plan, .. } | Plan::Meta { plan, .. } => plan.profile(),
            Plan::Etl(etl) => etl.target.as_ref().map(Target::profile),
            Plan::Sql { .. } => Some(Profile::bare(Domain::Text)),
            _ => None,
        }
    }

    /// The mark for errors at run time; `None` for a lone `/`.
    pub fn mark(&self) -> Option<&Mark> {
        match self {
            Plan::Skip => None,
            Plan::Fetch(fetch) => Some(&fetch.mark),
            Plan::Etl(etl) => Some(&etl.mark),
            Plan::Format { mark, .. }
            | Plan::Sql { mark, .. }
            | Plan::Describe { mark, .. }
            | Plan::Pivot { mark, .. }
            | Plan::Gateway { mark, .. }
            | Plan::Meta { mark, .. }
            | Plan::Truncate { mark, .. }
            | Plan::Do { mark, .. }
            | Plan::If { mark, .. }
            | Plan::For { mark, .. }
            | Plan::With { mark, .. } => Some(mark),
        }
    }
}

impl Target {
    /// The profile of the command's product: an ID, a list of IDs, or void.
    pub fn profile(&self) -> Profile {
        let Some(identify) = self.identity.as_ref().filter(|_| self.returns) else {
            return Profile::bare(Domain::Void);
        };
        let id = identify.domain.clone();
        Profile {
            tag: Some(self.tag.clone()),
            header: Some(self.header.clone()),
            domain: if self.is_list { Domain::List(Box::new(id)) } else { id },
        }
    }
}
