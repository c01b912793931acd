//! The commands that write: a feed of records into a table, batch by batch.
//!
//! | module | does |
//! |---|---|
//! | `work` | reads batches, runs them, finds the record to blame, gives the identities on |
//! | `verbs` | what each verb does with a batch |
//! | `cells` | records to the texts of columns, with links and identities |
//! | `resolve` | identities to keys and back, a batch at once |
//! | `table` | statements over the target table: insert, update, delete, in bulk |
//! | `refusal` | what a deployment says of broken constraints |
//! | `explain` | the statements of a verb, unsent |
//! | `copy` | insertion by COPY: for the verb `copy`, and where the identities are known beforehand |
//!
//! A batch runs as a few statements under a savepoint. Where it fails it is undone and halved,
//! until the one record to blame is found; its error is then what a record-by-record run gives.
//! The verb `copy` fails as its COPY does: with the line in place of the record.

mod cells;
mod copy;
mod explain;
mod refusal;
mod resolve;
mod table;
#[cfg(test)]
mod tests;
mod verbs;
mod work;

use rex_htsql::plan::{EtlPlan, Target};
use rex_htsql::{Error, Params};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::connection::Connection;
use crate::driver;
use crate::exec::{Run, internal};
use crate::params::TextParam;
use crate::product::Feed;

pub(crate) use explain::statements;
pub(crate) use work::Work;

use refusal::Refusal;

/// A name as an SQL identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// TRUNCATE of a table.
pub(crate) fn truncate_sql(schema: &str, table: &str) -> String {
    format!("TRUNCATE {}.{} RESTART IDENTITY CASCADE", quote(schema), quote(table))
}

/// Runs an ETL command: a list of identities is computed as it is read, all else at once.
pub(crate) async fn run<'a>(
    run: Run<'a>,
    plan: &EtlPlan,
    params: &Params,
) -> Result<Feed<'a>, Error> {
    let feed = Run { busy: Some(run.database), ..run }.plan(&plan.feed, params).await?;
    let catalog = run.space.catalog(run.database).await?;
    let target = match &plan.target {
        Some(target) => target.clone(),
        None => rex_htsql::etl::resolve(plan.kind, &feed.profile, &catalog)?,
    };
    let profile = target.profile();
    let is_list = target.is_list;
    let returns = target.returns;
    let overlap = feed.database().is_some_and(|database| database != run.database);
    let connection = run.space.connection(run.database).await?;
    let mut work = Work::new(connection, catalog, plan, target, feed, overlap);
    if is_list && returns {
        return Ok(Feed::etl(profile, run.database, work, &plan.mark));
    }
    let mut last = None;
    while let Some(id) = work.next().await? {
        last = Some(id);
    }
    let value =
        if returns { last.unwrap_or(rex_htsql::Value::Null) } else { rex_htsql::Value::Null };
    Ok(Feed::ready(profile, value))
}

/// The identity of the target table; every verb but `copy` and some inserts needs it.
fn identity(target: &Target) -> Result<&rex_htsql::plan::Identify, Failed> {
    let missing = || Error::new("Cannot determine identity of the table");
    target.identity.as_ref().ok_or_else(|| missing().into())
}

/// Why a batch failed.
#[derive(Debug)]
struct Failed {
    error: Error,
    /// Not to be tried again in parts: cancelled, timed out, or the connection is gone.
    stop: bool,
    /// The constraint that was broken.
    refusal: Option<Box<Refusal>>,
    /// Whose fault it is, where that is known already.
    culprit: Option<Culprit>,
}

/// What a batch failed for.
#[derive(Debug, Clone, Copy)]
enum Culprit {
    /// The record at this place of the batch.
    Record(usize),
    /// The batch, of which COPY does not say more than its error.
    Batch,
}

impl Failed {
    fn said(error: &tokio_postgres::Error, text: String) -> Failed {
        let stop = match error.code() {
            None => true,
            Some(code) => [
                SqlState::QUERY_CANCELED,
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                SqlState::OUT_OF_MEMORY,
                SqlState::DISK_FULL,
            ]
            .contains(code),
        };
        let refusal = error.as_db_error().and_then(|refused| Refusal::new(refused, text.clone()));
        let (error, refusal) = (driver::said(error, text), refusal.map(Box::new));
        Failed { error, stop, refusal, culprit: None }
    }

    fn of(self, culprit: Culprit) -> Failed {
        Failed { culprit: Some(culprit), ..self }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed { error, stop: false, refusal: None, culprit: None }
    }
}

impl From<crate::decode::DecodeError> for Failed {
    fn from(error: crate::decode::DecodeError) -> Failed {
        Failed { stop: true, ..internal(&error.to_string()).into() }
    }
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Failed {
        Failed::said(&error, own_text(&error))
    }
}

/// What the driver says of this crate's own statements, of which no excerpt would help.
fn own_text(error: &tokio_postgres::Error) -> String {
    driver::text(error, "", usize::MAX)
}

/// Runs one of this crate's statements over array literals; its casts say of which types.
async fn bulk(connection: &Connection, sql: &str, params: Vec<String>) -> Result<Vec<Row>, Failed> {
    let typed = params.into_iter().map(|text| (TextParam(Some(text)), Type::UNKNOWN)).collect();
    Ok(connection.rows(sql, typed).await?)
}
