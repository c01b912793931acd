//! What the workers `job_queuer` and `job_cleanup` do: queue what is new, delete what is old.

use std::time::Duration;

use rex_transport::TransportError;

use super::{Table, TableError};
use crate::jobs::Rules;

/// What became of a look for new jobs.
#[derive(Debug, PartialEq, Eq)]
pub struct Queued {
    pub count: usize,
    /// Where there was none to queue: the codes of those that could have been, were their rows not
    /// locked by somebody.
    pub locked: Vec<i64>,
}

/// Why new jobs could not be queued.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum NotQueued {
    Table(#[from] TableError),
    /// Where their tasks were to go.
    Store(#[from] TransportError),
}

impl Table {
    /// Queues new jobs, oldest first, as far as limits allow; `submit` puts one task for each into a
    /// queue. One host at a time: `None` while another one is at it. Those whose rows are locked stay.
    ///
    /// The tasks are there before the rows are queued: after a crash between, a job may have two
    /// tasks, and [`Table::start`] lets one of them run.
    pub fn queue_new(
        &mut self,
        rules: &Rules,
        mut submit: impl FnMut(&[i64]) -> Result<(), TransportError>,
    ) -> Result<Option<Queued>, NotQueued> {
        let (types, limits): (Vec<&str>, Vec<i64>) =
            rules.limits.iter().map(|(name, limit)| (name.as_str(), i64::from(*limit))).unzip();
        let mut refused = Ok(());
        let count = self.with(|client| {
            let transaction = client.transaction()?;
            let lock = "SELECT pg_try_advisory_xact_lock(hashtextextended('rex job queuer', 0))";
            if !transaction.query_one(lock, &[])?.get::<_, bool>(0) {
                return Ok(None);
            }
            let next = |locking| -> Result<Vec<i64>, postgres::Error> {
                let sql = QUEUE_NEXT.replace("{locking}", locking);
                let rows = transaction.query(&sql, &[&types, &limits, &BATCH])?;
                Ok(rows.iter().map(|row| row.get(0)).collect())
            };
            let codes = next("FOR NO KEY UPDATE SKIP LOCKED")?;
            if codes.is_empty() {
                return Ok(Some(Queued { count: 0, locked: next("")? }));
            }
            refused = submit(&codes);
            if refused.is_ok() {
                let queued = "UPDATE job SET status = 'queued' WHERE code = ANY ($1)";
                transaction.execute(queued, &[&codes])?;
                transaction.commit()?;
            }
            Ok(Some(Queued { count: codes.len(), locked: Vec::new() }))
        })?;
        refused?;
        Ok(count)
    }

    /// Deletes jobs that ended longer ago, but for those whose rows are locked.
    pub fn clean_up(&mut self, age: Duration) -> Result<u64, TableError> {
        self.with(|client| {
            client.execute(
                "DELETE FROM job WHERE id IN (
                    SELECT id FROM job WHERE status IN ('completed', 'failed')
                        AND date_completed + make_interval(secs => $1) < LOCALTIMESTAMP
                    FOR UPDATE SKIP LOCKED
                )",
                &[&age.as_secs_f64()],
            )
        })
    }
}

/// `$1` types with limits, `$2` the limits, `$3` how many of other types at most.
const QUEUE_NEXT: &str = "
SELECT code FROM (
    SELECT * FROM (
        SELECT code, date_submitted FROM job
        WHERE status = 'new' AND type <> ALL ($1)
        ORDER BY date_submitted, code LIMIT $3 {locking}
    ) AS others
    UNION ALL
    SELECT next.* FROM unnest($1::text[], $2::int8[]) AS limits (type, most)
    CROSS JOIN LATERAL (
        SELECT code, date_submitted FROM job
        WHERE status = 'new' AND type = limits.type
        ORDER BY date_submitted, code
        LIMIT greatest(0, limits.most - (
            SELECT count(*) FROM job
            WHERE status IN ('queued', 'started') AND type = limits.type
        ))
        {locking}
    ) AS next
) AS chosen ORDER BY date_submitted, code";

/// Jobs that are queued in one transaction.
const BATCH: i64 = 1000;
