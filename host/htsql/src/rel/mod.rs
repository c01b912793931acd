//! Relations: SELECTs as trees, before they are spelled as SQL.
//!
//! `build` makes frames (SELECTs under construction) for the segments of a query, `place` finds or
//! adds the FROM item that has the rows of a space, `axis` makes the sub-selects, `value` turns
//! codes into expressions, `output` lays out the columns, `finish` turns frames into `Select`s,
//! `simplify` makes them easier on the database.

mod axis;
mod build;
mod finish;
mod output;
mod place;
mod print;
mod simplify;
mod value;

use std::rc::Rc;

pub(crate) use output::plan;
pub(crate) use print::outline;

use crate::catalog::TableId;
use crate::domain::Domain;
use crate::func::{Aggregate, Op};
use crate::value::Value;

/// A FROM item's number, unique in a statement.
pub(crate) type Alias = u32;

/// A finished SELECT.
#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub(crate) columns: Vec<Expr>,
    /// Each refers only to items before it.
    pub(crate) from: Vec<Item>,
    /// All must hold.
    pub(crate) filters: Vec<Expr>,
    /// Columns by which rows are grouped.
    pub(crate) group: Vec<usize>,
    pub(crate) order: Vec<Key>,
    pub(crate) limit: Option<u64>,
    pub(crate) offset: Option<u64>,
}

/// A sort key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) expr: Expr,
    pub(crate) is_descending: bool,
}

/// A FROM item.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) join: Join,
    pub(crate) alias: Alias,
    pub(crate) source: Source,
    /// All must hold; none means TRUE.
    pub(crate) on: Vec<Expr>,
    /// Whether the source refers to items before it.
    pub(crate) is_lateral: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    Inner,
    Left,
}

#[derive(Debug, Clone)]
pub(crate) enum Source {
    Table(TableId),
    Select(Box<Select>),
}

/// A scalar expression; cheap to clone.
pub(crate) type Expr = Rc<Node>;

#[derive(Debug)]
pub(crate) enum Node {
    /// A column of a table.
    Column {
        alias: Alias,
        table: TableId,
        column: usize,
        is_nullable: bool,
    },
    /// A column of a sub-select, by index.
    Output {
        alias: Alias,
        index: usize,
        is_nullable: bool,
    },
    Literal {
        value: Value,
        domain: Domain,
        is_param: bool,
    },
    Cast {
        from: Domain,
        to: Domain,
        arg: Expr,
    },
    Formula {
        op: Op,
        args: Vec<Expr>,
    },
    /// The value where the condition is TRUE, else NULL.
    Mask {
        condition: Expr,
        value: Expr,
    },
    IsNotNull(Expr),
    /// A number, 0 for NULL.
    OrZero(Expr),
    /// Equality of keys; null-safe when asked for.
    Same {
        left: Expr,
        right: Expr,
        is_null_safe: bool,
    },
    Aggregate {
        op: Aggregate,
        arg: Expr,
        delimiter: Option<Expr>,
        order: Vec<Key>,
    },
    /// Whether a frame has rows; resolved to a SELECT when finished.
    Exists {
        frame: usize,
        is_negated: bool,
    },
    ExistsSelect {
        select: Box<Select>,
        is_negated: bool,
    },
}

impl Node {
    /// Whether the expression can be NULL; true when in doubt.
    pub(crate) fn is_nullable(&self) -> bool {
        match self {
            Node::Column { is_nullable, .. } | Node::Output { is_nullable, .. } => *is_nullable,
            Node::Literal { value, .. } => *value == Value::Null,
            Node::Cast { to: Domain::Boolean, .. }
            | Node::IsNotNull(_)
            | Node::OrZero(_)
            | Node::Exists { .. }
            | Node::ExistsSelect { .. } => false,
            Node::Cast { arg, .. } => arg.is_nullable(),
            Node::Formula { op, args } => match op {
                Op::Is | Op::IsNot | Op::IsNull | Op::Concat | Op::Never => false,
                Op::If | Op::Switch | Op::JsonObject => true,
                Op::Template(template) if !template.starts_with('(') => true,
                _ => args.iter().any(|arg| arg.is_nullable()),
            },
            Node::Mask { .. } => true,
            Node::Same { left, right, is_null_safe } => {
                !is_null_safe && (left.is_nullable() || right.is_nullable())
            }
            Node::Aggregate { op, .. } => !matches!(
                op,
                Aggregate::Count
                    | Aggregate::SumInteger
                    | Aggregate::SumDecimal
                    | Aggregate::SumFloat
            ),
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        matches!(self, Node::Literal { value: Value::Boolean(true), .. })
    }
}
