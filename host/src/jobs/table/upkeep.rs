//! What the workers `job_queuer` and `job_cleanup` do: queue what is new, delete what is old.

use std::time::Duration;

use rex_transport::TransportError;

use super::{Table, TableError};
use crate::jobs::Rules;

impl Table {
    /// Queues new jobs, oldest first, as far as limits allow; `submit` puts one task for each into a
    /// queue. One host at a time: `None` while another one is at it. Counts them.
    ///
    /// The tasks are there before the rows are queued: after a crash between, a job may have two
    /// tasks, and [`Table::start`] lets one of them run.
    pub fn queue_new(
        &mut self,
        rules: &Rules,
        mut submit: impl FnMut(&[i64]) -> Result<(), TransportError>,
    ) -> Result<Option<u64>, TransportError> {
        let (types, limits): (Vec<&str>, Vec<i64>) =
            rules.limits.iter().map(|(name, limit)| (name.as_str(), i64::from(*limit))).unzip();
        let mut refused = Ok(());
        let count = self.with(|client| {
            let mut transaction = client.transaction()?;
            let lock = "SELECT pg_try_advisory_xact_lock(hashtextextended('rex job queuer', 0))";
            if !transaction.query_one(lock, &[])?.get::<_, bool>(0) {
                return Ok(None);
            }
            let rows = transaction.query(QUEUE_NEXT, &[&types, &limits, &BATCH])?;
            let codes: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            if codes.is_empty() {
                return Ok(Some(0));
            }
            refused = submit(&codes);
            if refused.is_err() {
                return Ok(Some(0));
            }
            let queued =
                "UPDATE job SET status = 'queued' WHERE code = ANY ($1) AND status = 'new'";
            transaction.execute(queued, &[&codes])?;
            transaction.commit()?;
            Ok(Some(codes.len() as u64))
        })?;
        refused.map(|()| count)
    }

    /// Deletes jobs that ended longer ago.
    pub fn clean_up(&mut self, age: Duration) -> Result<u64, TableError> {
        self.with(|client| {
            client.execute(
                "DELETE FROM job WHERE status IN ('completed', 'failed')
                    AND date_completed + make_interval(secs => $1) < LOCALTIMESTAMP",
                &[&age.as_secs_f64()],
            )
        })
    }
}

/// `$1` types with limits, `$2` the limits, `$3` how many of other types at most.
const QUEUE_NEXT: &str = "
SELECT code FROM (
    (
        SELECT code, date_submitted FROM job
        WHERE status = 'new' AND type <> ALL ($1)
        ORDER BY date_submitted, code LIMIT $3
    )
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
    ) AS next
) AS chosen ORDER BY date_submitted, code";

/// Jobs that are queued in one transaction.
const BATCH: i64 = 1000;
