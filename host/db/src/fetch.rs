//! Runs a fetch plan: one statement for each nested segment, merged in one pass.
//!
//! The rows of all segments come in the order of their parents, so each segment has one reader
//! that only moves forward; memory holds a portion of each, and the item being built. Of a nested
//! list only the head is built with its item: the rest of a longer one waits in its reader for
//! whoever reads the item, and is passed over where nobody did.

use std::sync::Arc;

use rex_htsql::plan::{FetchPlan, Segment, Shape, Statement};
use rex_htsql::{Error, Value};
use tokio_postgres::Row;

use crate::connection::Connection;
use crate::decode::{self, DecodeError};
use crate::item::{Head, Item};
use crate::rows::Rows;

/// How the statements of a plan may use the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// No transaction is open; nothing else runs until the answer is read.
    Alone,
    /// Within a transaction; nothing else runs until the answer is read.
    InTransaction,
    /// Within a transaction; other statements run while the answer is read.
    Interleaved,
}

/// Begins the transaction of a plan with several statements: all see one state of the database.
pub(crate) const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A running fetch.
pub(crate) struct Fetch {
    plan: Arc<FetchPlan>,
    root: Option<Row>,
    readers: Vec<Reader>,
    /// The one value of what is no list has been.
    given: bool,
    ended: bool,
}

/// A segment's rows with the next one looked at.
struct Reader {
    rows: Rows,
    next: Option<Row>,
    /// The key of the list that has been built in part.
    open: Option<Vec<Option<Vec<u8>>>>,
}

impl Fetch {
    /// Whether the plan needs a transaction of its own when there is none.
    pub(crate) fn needs_transaction(plan: &FetchPlan, access: Access) -> bool {
        let n_statements = plan.segments.len() + usize::from(plan.root.is_some());
        access == Access::Alone && n_statements > 1
    }

    /// Sends the statements. With [`Access::Alone`] and several of them, begins a transaction that
    /// the caller is to end.
    pub(crate) async fn start(
        connection: &Arc<Connection>,
        plan: Arc<FetchPlan>,
        access: Access,
    ) -> Result<Fetch, Error> {
        let statements: Vec<&Statement> = plan
            .root
            .iter()
            .chain(plan.segments.iter().map(|segment| &segment.statement))
            .collect();
        let mut rows = match statements.as_slice() {
            [] => Vec::new(),
            [one] if access != Access::Interleaved => vec![Rows::stream(connection, one).await?],
            many => {
                let begin = (access == Access::Alone).then_some(BEGIN_SNAPSHOT);
                Rows::cursors(connection, begin, many).await?
            }
        }
        .into_iter();
        let mut root = None;
        if plan.root.is_some()
            && let Some(mut rows) = rows.next()
        {
            root = rows.next().await?;
            while rows.next().await?.is_some() {}
        }
        let readers = rows.map(|rows| Reader { rows, next: None, open: None }).collect();
        Ok(Fetch { plan, root, readers, given: false, ended: false })
    }

    /// Whether the answer is a list, whose items come one by one.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.plan.shape, Shape::List { .. })
    }

    /// The next item of a list, or the one value of anything else.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, Error> {
        if self.ended {
            return Ok(None);
        }
        let plan = self.plan.clone();
        if let Shape::List { segment, .. } = plan.shape {
            let Some(described) = plan.segments.get(segment) else { return Err(misplanned()) };
            if let Some(row) = self.take::<&[u8]>(segment, described, &[]).await? {
                return self.build(&described.item, Some(&row)).await.map(Some);
            }
            self.ended = true;
            self.check_ended().await?;
            return Ok(None);
        }
        if !std::mem::replace(&mut self.given, true) {
            let root = self.root.take();
            return self.build(&plan.shape, root.as_ref()).await.map(Some);
        }
        self.ended = true;
        self.check_ended().await?;
        Ok(None)
    }

    /// The next item of the list that a segment has been built in part for.
    pub(crate) async fn rest(&mut self, index: usize) -> Result<Option<Item>, Error> {
        let plan = self.plan.clone();
        let Some(segment) = plan.segments.get(index) else { return Err(misplanned()) };
        let open = self.readers.get_mut(index).and_then(|reader| reader.open.take());
        let Some(key) = open else { return Ok(None) };
        let Some(row) = self.take(index, segment, &key).await? else { return Ok(None) };
        if let Some(reader) = self.readers.get_mut(index) {
            reader.open = Some(key);
        }
        self.build(&segment.item, Some(&row)).await.map(Some)
    }

    /// A row of a nested segment that no parent row took means that the orders of the two differ.
    async fn check_ended(&mut self) -> Result<(), Error> {
        for index in 0..self.readers.len() {
            while self.rest(index).await?.is_some() {}
            let Some(reader) = self.readers.get_mut(index) else { return Err(misplanned()) };
            reader.look().await?;
            if reader.next.is_some() {
                return Err(Error::of(
                    rex_htsql::error::Kind::Internal,
                    "rows of a nested segment are not in the order of their parents",
                ));
            }
        }
        Ok(())
    }

    /// The next row of a segment that belongs to the parent row of a key.
    async fn take<B: AsRef<[u8]>>(
        &mut self,
        index: usize,
        segment: &Segment,
        key: &[Option<B>],
    ) -> Result<Option<Row>, Error> {
        let Some(reader) = self.readers.get_mut(index) else { return Err(misplanned()) };
        reader.look().await?;
        let Some(row) = &reader.next else { return Ok(None) };
        for (own, theirs) in segment.key.iter().zip(key) {
            let own = decode::raw(row, *own).map_err(undecoded)?;
            if own != theirs.as_ref().map(AsRef::as_ref) {
                return Ok(None);
            }
        }
        Ok(reader.next.take())
    }

    /// Builds a value. Without nested segments nothing is awaited.
    async fn build(&mut self, shape: &Shape, row: Option<&Row>) -> Result<Item, Error> {
        if !has_list(shape) {
            return flat(shape, row).map(Item::Whole).map_err(undecoded);
        }
        match shape {
            Shape::Record { indicator, fields } => {
                let mut items = Vec::with_capacity(fields.len());
                for field in fields {
                    // Read even where the record turns out to be NULL, so that the readers go on.
                    items.push(if has_list(field) {
                        Box::pin(self.build(field, row)).await?
                    } else {
                        flat(field, row).map(Item::Whole).map_err(undecoded)?
                    });
                }
                let there = is_there(*indicator, row).map_err(undecoded)?;
                Ok(if there { Item::record(items) } else { Item::Whole(Value::Null) })
            }
            Shape::List { segment, indicator } => {
                let list = Box::pin(self.list(*segment, row)).await?;
                let there = is_there(*indicator, row).map_err(undecoded)?;
                Ok(if there { list } else { Item::Whole(Value::Null) })
            }
            shape => flat(shape, row).map(Item::Whole).map_err(undecoded),
        }
    }

    async fn list(&mut self, index: usize, parent: Option<&Row>) -> Result<Item, Error> {
        let plan = self.plan.clone();
        let Some(segment) = plan.segments.get(index) else { return Err(misplanned()) };
        while self.rest(index).await?.is_some() {}
        let key = match parent {
            Some(parent) => segment.parent_key.iter().map(|at| decode::raw(parent, *at)).collect(),
            None => Ok(Vec::new()),
        };
        let key: Vec<Option<&[u8]>> = key.map_err(undecoded)?;
        let mut head = Head::default();
        while let Some(row) = self.take(index, segment, &key).await? {
            let item = self.build(&segment.item, Some(&row)).await?;
            let Some(long) = head.add(item, index) else { continue };
            if let Some(reader) = self.readers.get_mut(index) {
                reader.open = Some(key.into_iter().map(|part| part.map(<[u8]>::to_vec)).collect());
            }
            return Ok(long);
        }
        Ok(head.end())
    }
}

impl Reader {
    /// Makes `next` the next row, unless there is none.
    async fn look(&mut self) -> Result<(), Error> {
        if self.next.is_none() {
            self.next = self.rows.next().await?;
        }
        Ok(())
    }
}

/// The plan with a segment for each list: those that show the same rows are each read on their
/// own.
pub(crate) fn unshared(plan: Arc<FetchPlan>) -> Arc<FetchPlan> {
    let mut counts = vec![0; plan.segments.len()];
    count_lists(&plan.shape, &mut counts);
    plan.segments.iter().for_each(|segment| count_lists(&segment.item, &mut counts));
    if counts.iter().all(|count| *count <= 1) {
        return plan;
    }
    let mut segments = Vec::new();
    let shape = own(&plan.shape, None, &plan.segments, &mut segments);
    Arc::new(FetchPlan { shape, segments, ..(*plan).clone() })
}

/// The shape with segments of its own, which are added to `to`.
fn own(shape: &Shape, parent: Option<usize>, from: &[Segment], to: &mut Vec<Segment>) -> Shape {
    match shape {
        Shape::List { segment, indicator } => {
            let Some(described) = from.get(*segment) else { return shape.clone() };
            let at = to.len();
            to.push(Segment { parent, ..described.clone() });
            let item = own(&described.item, Some(at), from, to);
            if let Some(added) = to.get_mut(at) {
                added.item = item;
            }
            Shape::List { segment: at, indicator: *indicator }
        }
        Shape::Record { indicator, fields } => Shape::Record {
            indicator: *indicator,
            fields: fields.iter().map(|field| own(field, parent, from, to)).collect(),
        },
        shape => shape.clone(),
    }
}

fn count_lists(shape: &Shape, counts: &mut [usize]) {
    match shape {
        Shape::List { segment, .. } => {
            if let Some(count) = counts.get_mut(*segment) {
                *count += 1;
            }
        }
        Shape::Record { fields, .. } => fields.iter().for_each(|field| count_lists(field, counts)),
        Shape::Identity { labels } => labels.iter().for_each(|label| count_lists(label, counts)),
        Shape::Null | Shape::Column { .. } => {}
    }
}

fn has_list(shape: &Shape) -> bool {
    match shape {
        Shape::List { .. } => true,
        Shape::Record { fields, .. } => fields.iter().any(has_list),
        Shape::Identity { .. } | Shape::Null | Shape::Column { .. } => false,
    }
}

fn is_there(indicator: Option<usize>, row: Option<&Row>) -> Result<bool, DecodeError> {
    match (indicator, row) {
        (None, _) => Ok(true),
        (Some(index), Some(row)) => decode::is_true(row, index),
        (Some(_), None) => Ok(false),
    }
}

/// Builds a value that has no list in it.
fn flat(shape: &Shape, row: Option<&Row>) -> Result<Value, DecodeError> {
    match shape {
        Shape::Null | Shape::List { .. } => Ok(Value::Null),
        Shape::Column { index, domain } => match row {
            Some(row) => decode::value(row, *index, domain),
            None => Ok(Value::Null),
        },
        Shape::Record { indicator, fields } => {
            if !is_there(*indicator, row)? {
                return Ok(Value::Null);
            }
            let mut values = Vec::with_capacity(fields.len());
            for field in fields {
                values.push(flat(field, row)?);
            }
            Ok(Value::Record(values))
        }
        Shape::Identity { labels } => {
            let mut values = Vec::with_capacity(labels.len());
            for label in labels {
                match flat(label, row)? {
                    Value::Null => return Ok(Value::Null),
                    value => values.push(value),
                }
            }
            Ok(Value::Identity(values))
        }
    }
}

fn undecoded(error: DecodeError) -> Error {
    Error::of(rex_htsql::error::Kind::Internal, error.to_string())
}

fn misplanned() -> Error {
    Error::of(rex_htsql::error::Kind::Internal, "the plan names a segment that it does not have")
}
