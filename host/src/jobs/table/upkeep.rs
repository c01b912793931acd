//! What the workers `job_queuer` and `job_cleanup` do: queue what is new, delete what is old.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Table, TableError};
use crate::jobs::Rules;

/// What became of a look for new jobs.
#[derive(Debug, PartialEq, Eq)]
pub struct Queued {
    /// How many were to be queued.
    pub count: usize,
    /// Where there was none to queue: the codes of those that could have been, were their rows not
    /// locked by somebody.
    pub locked: Vec<i64>,
}

impl Table {
    /// Queues new jobs, oldest first, as far as limits allow, but for those of the queues with the numbers
    /// `except`. `submit` puts one task for each into the queue of that number, or tells which it has put
    /// there all the same when it fails; the queues after that one are left to the next look. One host at a
    /// time: `None` while another one is at it. Those whose rows are locked stay.
    ///
    /// The tasks are there before the rows are queued: after a crash between, a job may have two
    /// tasks, and [`Table::start`] lets one of them run.
    pub fn queue_new(
        &mut self,
        rules: &Rules,
        except: &[i64],
        mut submit: impl FnMut(i64, &[i64]) -> Result<(), Vec<i64>>,
    ) -> Result<Option<Queued>, TableError> {
        let (types, limits): (Vec<&str>, Vec<i64>) =
            rules.limits.iter().map(|(name, limit)| (name.as_str(), i64::from(*limit))).unzip();
        let queues = rules.count();
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
            let codes = next("FOR NO KEY UPDATE SKIP LOCKED")?;
            if codes.is_empty() {
                return Ok(Some(Queued { count: 0, locked: next("")? }));
            }
            let count = codes.len();
            let mut of_queue: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
            for code in codes {
                of_queue.entry(rules.queue_of(code)).or_default().push(code);
            }
            let mut any = false;
            for (number, codes) in of_queue {
                let submitted = submit(number, &codes);
                let failed = submitted.is_err();
                let there = submitted.map_or_else(|there| there, |()| codes);
                if !there.is_empty() {
                    let queued = "UPDATE job SET status = 'queued' WHERE code = ANY ($1)";
                    transaction.execute(queued, &[&there])?;
                    any = true;
                }
                if failed {
                    break;
                }
            }
            // A connection that broke while a queue was waited for in vain is no error of the table.
            if any {
                transaction.commit()?;
            }
            Ok(Some(Queued { count, locked: Vec::new() }))
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
