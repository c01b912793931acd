//! What the workers `job_queuer` and `job_cleanup` do: queue what is new, delete what is old.

use std::time::Duration;

use super::{Table, TableError};
use crate::jobs::Rules;

/// What became of a look for new jobs.
#[derive(Debug, PartialEq, Eq)]
pub struct Queued {
    /// How many were to be put into the queue.
    pub count: usize,
    /// Where there was none to queue: the codes of those that could have been, were their rows not
    /// locked by somebody.
    pub locked: Vec<i64>,
}

impl Table {
    /// Queues new jobs of one queue, oldest first, as far as limits allow, and of those queues that are not
    /// in `except` that of the oldest. `submit` puts one task for each into the queue of that number, and
    /// tells which are there: these are queued. One host at a time: `None` while another one is at it.
    /// Those whose rows are locked stay.
    ///
    /// The tasks are there before the rows are queued: after a crash between, a job may have two
    /// tasks, and [`Table::start`] lets one of them run. Nothing else is waited for in between: what takes
    /// long or fails at another queue would have these submitted again.
    pub fn queue_new(
        &mut self,
        rules: &Rules,
        except: &[i64],
        submit: impl FnOnce(i64, &[i64]) -> Vec<i64>,
    ) -> Result<Option<Queued>, TableError> {
        let (types, limits): (Vec<&str>, Vec<i64>) =
            rules.limits.iter().map(|(name, limit)| (name.as_str(), i64::from(*limit))).unzip();
        let queues = i64::from(rules.queues.max(1));
        self.with(|client| {
            let transaction = client.transaction()?;
            let lock = "SELECT pg_try_advisory_xact_lock(hashtextextended('rex job queuer', 0))";
            if !transaction.query_one(lock, &[])?.get::<_, bool>(0) {
                return Ok(None);
            }
            let next = |locking| -> Result<Vec<i64>, postgres::Error> {
                let sql = QUEUE_NEXT.replace("{locking}", locking).replace("{open}", OPEN);
                let rows = transaction.query(&sql, &[&types, &limits, &BATCH, &queues, &except])?;
                Ok(rows.iter().map(|row| row.get(0)).collect())
            };
            let mut codes = next("FOR NO KEY UPDATE SKIP LOCKED")?;
            let Some(number) = codes.first().map(|code| rules.queue_of(*code)) else {
                return Ok(Some(Queued { count: 0, locked: next("")? }));
            };
            codes.retain(|code| rules.queue_of(*code) == number);
            let taken = submit(number, &codes);
            if !taken.is_empty() {
                let queued = "UPDATE job SET status = 'queued' WHERE code = ANY ($1)";
                transaction.execute(queued, &[&taken])?;
                transaction.commit()?;
            }
            Ok(Some(Queued { count: codes.len(), locked: Vec::new() }))
        })
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

/// `$1` types with limits, `$2` the limits, `$3` how many of other types at most, `$4` how many queues there
/// are, `$5` the numbers of those that are left out.
const QUEUE_NEXT: &str = "
SELECT code FROM (
    SELECT * FROM (
        SELECT code, date_submitted FROM job
        WHERE status = 'new' AND type <> ALL ($1) AND {open}
        ORDER BY date_submitted, code LIMIT $3 {locking}
    ) AS others
    UNION ALL
    SELECT next.* FROM unnest($1::text[], $2::int8[]) AS limits (type, most)
    CROSS JOIN LATERAL (
        SELECT code, date_submitted FROM job
        WHERE status = 'new' AND type = limits.type AND {open}
        ORDER BY date_submitted, code
        LIMIT greatest(0, limits.most - (
            SELECT count(*) FROM job
            WHERE status IN ('queued', 'started') AND type = limits.type
        ))
        {locking}
    ) AS next
) AS chosen ORDER BY date_submitted, code";

/// Whether a job's queue is not left out; as [`Rules::queue_of`], for any code.
const OPEN: &str = "mod(mod(code, $4::int8) + 2 * $4 - 1, $4) <> ALL ($5::int8[])";

/// Jobs that are queued in one transaction.
const BATCH: i64 = 1000;
