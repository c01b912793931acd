//! The table of jobs: one connection, and all SQL that reads or changes a row.

use std::error::Error as _;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::{Client, Transaction};
use rex_db::Address;
use rex_transport::{Kind, TaskId, TransportError};
use serde_json::value::RawValue;

use super::{JobFields, Rules};

/// What the host adds to the original's table; deployed by the project `rex.job`, too.
const ADDITIONS: &str = include_str!("../../../settings/rex.job.additions.sql");

/// A connection to the database of the table, made when it is needed.
pub struct Table {
    address: Address,
    client: Option<Client>,
    /// The number under which runs of this host are known; others see by its lock that it lives.
    host: Option<i64>,
    /// How long to wait for a lock that another program holds.
    lock_timeout: Duration,
}

/// For whoever may wait.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// What cannot be done with the table now.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct TableError {
    text: String,
    pub hint: Option<&'static str>,
    /// The server cannot be reached: worth a retry.
    pub away: bool,
}

impl From<TableError> for TransportError {
    fn from(error: TableError) -> TransportError {
        let kind = if error.away { Kind::Unreachable } else { Kind::Refused };
        let said = TransportError::new(kind, error.text);
        match error.hint {
            Some(hint) => said.with_hint(hint),
            None => said,
        }
    }
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Completed,
    /// The detail.
    Failed(String),
    /// It waits for another attempt.
    Queued,
}

/// What the table says of a job that is about to be run.
#[derive(Debug)]
pub enum Start {
    Missing,
    /// It follows "is ".
    Skip(&'static str),
    Run {
        id: i32,
        job: JobFields,
    },
}

/// A job as commands show it.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: i32,
    pub code: i64,
    pub owner: String,
    pub title: Option<String>,
    pub r#type: String,
    pub status: String,
    pub detail: Option<String>,
    /// JSON.
    pub payload: String,
    pub submitted: String,
    pub started: Option<String>,
    pub completed: Option<String>,
    pub fraction: Option<f64>,
    pub progress: Option<String>,
    pub cancelled: bool,
}

impl Row {
    pub fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed")
    }
}

/// A job to be put into the table.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub r#type: String,
    /// JSON.
    pub payload: String,
    /// The database's user where nobody is named.
    pub owner: Option<String>,
    pub title: Option<String>,
}

/// Which jobs to show.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub status: Option<String>,
    pub r#type: Option<String>,
    pub owner: Option<String>,
    /// The last so many.
    pub limit: Option<u32>,
}

/// What became of an order to cancel a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    Missing,
    /// It had ended, with this status.
    Ended(String),
    /// It had not begun, or nobody ran it any more: it is failed now.
    Now,
    /// Its host is told.
    Told,
}

impl Table {
    pub fn new(address: Address) -> Table {
        Table { address, client: None, host: None, lock_timeout: LOCK_TIMEOUT }
    }

    /// Runs of jobs are this connection's, as long as it lasts.
    pub fn for_runs(self, lock_timeout: Duration) -> Table {
        Table { host: Some(random()), lock_timeout, ..self }
    }

    /// The number under which its runs are known.
    pub fn host(&self) -> Option<i64> {
        self.host
    }

    /// Whether it can be worked with; makes what is missing.
    ///
    /// # Errors
    /// When there is no table, or no right to add to it.
    pub fn prepare(&mut self) -> Result<(), TableError> {
        let there = self.with(|client| {
            let there =
                "SELECT to_regclass('job') IS NOT NULL, to_regclass('rex_job_log') IS NOT NULL";
            let row = client.query_one(there, &[])?;
            Ok((row.get::<_, bool>(0), row.get::<_, bool>(1)))
        })?;
        match there {
            (false, _) => Err(TableError {
                text: format!("there is no table of jobs in {}", self.address),
                hint: Some("`rex-host deploy --project NAME` makes it"),
                away: false,
            }),
            (true, true) => Ok(()),
            (true, false) => self.with(|client| client.batch_execute(ADDITIONS)),
        }
    }

    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Client) -> Result<T, postgres::Error>,
    ) -> Result<T, TableError> {
        let mut client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => self.connect()?,
        };
        let result = work(&mut client);
        if !client.is_closed() {
            self.client = Some(client);
        }
        result.map_err(|error| say(&error, &self.address))
    }

    fn connect(&self) -> Result<Client, TableError> {
        let mut client = connect(&self.address)?;
        // A role's own defaults must not change what is meant here. Who hangs in a transaction keeps
        // no other host from its work for ever.
        let settings = format!(
            "SET default_transaction_isolation = 'read committed';
            SET lock_timeout = {};
            SET idle_in_transaction_session_timeout = '10s'",
            self.lock_timeout.as_millis().max(1)
        );
        client.batch_execute(&settings).map_err(|error| say(&error, &self.address))?;
        if let Some(host) = self.host {
            // Shared: what is left of a connection that broke does not hold up the next one.
            let lock = format!("SELECT pg_advisory_lock_shared({})", lock_of_host("$1"));
            client.execute(&lock, &[&host]).map_err(|error| say(&error, &self.address))?;
        }
        Ok(client)
    }

    // ---- runs -----------------------------------------------------------------------------------

    /// Begins to run a job, unless it is not to be run. A task that comes again, because its host
    /// died or it is tried again, takes the job over from the run before.
    pub fn start(
        &mut self,
        code: i64,
        task: TaskId,
        here: impl Fn(i32) -> bool,
    ) -> Result<Start, TableError> {
        let host = self.host.unwrap_or_default();
        self.with(|client| {
            let mut transaction = client.transaction()?;
            let found = transaction.query_opt(
                "SELECT job.id, type, owner, title, payload::text, status::text, run.task, run.host,
                    cancel_grace IS NOT NULL
                FROM job LEFT JOIN rex_job_run AS run ON run.job_id = job.id
                WHERE code = $1 FOR UPDATE OF job",
                &[&code],
            )?;
            let Some(row) = found else { return Ok(Start::Missing) };
            let id: i32 = row.get(0);
            let status: String = row.get(5);
            let run: Option<(i64, i64)> = row.get::<_, Option<i64>>(6).zip(row.get(7));
            match (status.as_str(), run) {
                ("completed", _) => return Ok(Start::Skip("completed already")),
                ("failed", _) => return Ok(Start::Skip("failed already")),
                ("started", Some((other, by))) if other != task.0 => {
                    let alive = match by == host {
                        true => here(id),
                        false => is_alive(&mut transaction, by)?,
                    };
                    if alive {
                        return Ok(Start::Skip("being run already"));
                    }
                }
                _ => {}
            }
            if row.get(8) {
                transaction.execute(CANCELLED, &[&id])?;
                transaction.commit()?;
                return Ok(Start::Skip("cancelled"));
            }
            transaction.execute(
                "UPDATE job SET status = 'started', status_detail = NULL, date_completed = NULL,
                    date_started = clock_timestamp() WHERE id = $1",
                &[&id],
            )?;
            transaction.execute(
                "INSERT INTO rex_job_run (job_id, host, task) VALUES ($1, $2, $3)
                ON CONFLICT (job_id) DO UPDATE SET host = EXCLUDED.host, task = EXCLUDED.task,
                    fraction = NULL, progress = NULL",
                &[&id, &host, &task.0],
            )?;
            transaction.commit()?;
            let payload: Option<String> = row.get(4);
            let payload = payload.and_then(|text| RawValue::from_string(text).ok());
            let job = JobFields {
                r#type: row.get(1),
                owner: row.get(2),
                title: row.get(3),
                payload: payload.unwrap_or_else(empty),
            };
            Ok(Start::Run { id, job })
        })
    }

    /// Ends a run; nothing changes when another one has begun.
    pub fn end(&mut self, id: i32, task: TaskId, ending: &Ending) -> Result<(), TableError> {
        let host = self.host.unwrap_or_default();
        let (status, detail) = match ending {
            Ending::Completed => ("completed", None),
            Ending::Failed(detail) => ("failed", Some(detail)),
            Ending::Queued => ("queued", None),
        };
        // A text of PostgreSQL has no NUL.
        let detail = detail.map(|text| text.replace('\0', "\u{fffd}"));
        self.with(|client| {
            client.execute(
                "UPDATE job SET
                    status = (CASE WHEN cancel_grace IS NULL THEN $2 ELSE 'failed' END)::job_status_enum,
                    status_detail = CASE WHEN cancel_grace IS NULL THEN $3 ELSE 'Cancelled' END,
                    date_started = CASE WHEN cancel_grace IS NULL AND $2 = 'queued'
                        THEN NULL ELSE date_started END,
                    date_completed = CASE WHEN cancel_grace IS NULL AND $2 = 'queued'
                        THEN NULL ELSE clock_timestamp() END
                FROM rex_job_run AS run
                WHERE job.id = $1 AND run.job_id = $1 AND run.host = $4 AND run.task = $5
                    AND status = 'started'",
                &[&id, &status, &detail, &host, &task.0],
            )
        })?;
        Ok(())
    }

    pub fn code(&mut self, id: i32) -> Result<i64, TableError> {
        self.with(|client| {
            Ok(client.query_one("SELECT code FROM job WHERE id = $1", &[&id])?.get(0))
        })
    }

    // ---- the workers ----------------------------------------------------------------------------

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

    // ---- what people do -------------------------------------------------------------------------

    /// Puts a job in; returns its code.
    pub fn insert(&mut self, job: &NewJob) -> Result<i64, TableError> {
        self.with(|client| {
            let row = client.query_one(
                "INSERT INTO job (type, payload, owner, title)
                VALUES ($1, $2::text::jsonb, coalesce($3, current_user), $4) RETURNING code",
                &[&job.r#type, &job.payload, &job.owner, &job.title],
            )?;
            Ok(row.get(0))
        })
    }

    pub fn rows(&mut self, filter: &Filter) -> Result<Vec<Row>, TableError> {
        let Filter { status, r#type, owner, limit } = filter;
        let limit = limit.map(i64::from);
        let sql = format!(
            "SELECT * FROM (
                {ROW} WHERE ($1::text IS NULL OR status::text = $1)
                    AND ($2::text IS NULL OR type = $2) AND ($3::text IS NULL OR owner = $3)
                ORDER BY code DESC LIMIT $4
            ) AS last ORDER BY code"
        );
        let rows = self.with(|client| client.query(&sql, &[status, r#type, owner, &limit]))?;
        Ok(rows.iter().map(row).collect())
    }

    pub fn row(&mut self, code: i64) -> Result<Option<Row>, TableError> {
        let sql = format!("{ROW} WHERE code = $1");
        let found = self.with(|client| client.query_opt(&sql, &[&code]))?;
        Ok(found.as_ref().map(row))
    }

    /// Ends a job that has not begun; tells the host of one that has, to kill it after `grace`.
    pub fn cancel(&mut self, code: i64, grace: Duration) -> Result<Cancelled, TableError> {
        self.with(|client| {
            let mut transaction = client.transaction()?;
            let found = transaction.query_opt(RUN_OF, &[&code])?;
            let Some(found) = found else { return Ok(Cancelled::Missing) };
            let (id, status): (i32, String) = (found.get(0), found.get(1));
            let told = match status.as_str() {
                "completed" | "failed" => return Ok(Cancelled::Ended(status)),
                "started" => match found.get(2) {
                    Some(host) => is_alive(&mut transaction, host)?,
                    None => false,
                },
                _ => false,
            };
            if told {
                transaction.execute(
                    "UPDATE rex_job_run SET cancel_grace = $2 WHERE job_id = $1",
                    &[&id, &grace.as_secs_f64()],
                )?;
                transaction.execute("SELECT pg_notify('rex_job', 'cancel')", &[])?;
            } else {
                transaction.execute(CANCELLED, &[&id])?;
            }
            transaction.commit()?;
            Ok(if told { Cancelled::Told } else { Cancelled::Now })
        })
    }

    /// Makes a job that has ended, or whose host died, new again; with `force` one that is queued, too.
    /// The inner error is the status of one that stays as it is, or says that there is none.
    pub fn retry(
        &mut self,
        code: i64,
        force: bool,
    ) -> Result<Result<(), Option<String>>, TableError> {
        self.with(|client| {
            let mut transaction = client.transaction()?;
            let found = transaction.query_opt(RUN_OF, &[&code])?;
            let Some(found) = found else { return Ok(Err(None)) };
            let (id, status): (i32, String) = (found.get(0), found.get(1));
            let may = match status.as_str() {
                "completed" | "failed" => true,
                "queued" => force,
                "started" => match found.get(2) {
                    Some(host) => !is_alive(&mut transaction, host)?,
                    None => force,
                },
                _ => false,
            };
            if !may {
                return Ok(Err(Some(status)));
            }
            for sql in [
                "DELETE FROM rex_job_run WHERE job_id = $1",
                "DELETE FROM rex_job_log WHERE job_id = $1",
                "UPDATE job SET status = 'new', status_detail = NULL, date_started = NULL,
                    date_completed = NULL WHERE id = $1",
            ] {
                transaction.execute(sql, &[&id])?;
            }
            transaction.execute("SELECT pg_notify('rex_job', 'new')", &[])?;
            transaction.commit()?;
            Ok(Ok(()))
        })
    }

    /// What a job said after that piece, with the numbers of the pieces.
    pub fn log_after(&mut self, id: i32, piece: i64) -> Result<Vec<(i64, String)>, TableError> {
        let sql =
            "SELECT piece, text FROM rex_job_log WHERE job_id = $1 AND piece > $2 ORDER BY piece";
        let rows = self.with(|client| client.query(sql, &[&id, &piece]))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    // ---- what a run reports ---------------------------------------------------------------------

    pub fn report(&mut self, id: i32, fraction: f64, text: &str) -> Result<(), TableError> {
        let text = text.replace('\0', "\u{fffd}");
        self.with(|client| {
            client.execute(
                "UPDATE rex_job_run SET fraction = $2, progress = $3 WHERE job_id = $1",
                &[&id, &fraction, &text],
            )
        })?;
        Ok(())
    }

    pub fn log(&mut self, id: i32, text: &str) -> Result<(), TableError> {
        let text = text.replace('\0', "\u{fffd}");
        self.with(|client| {
            client.execute(
                "INSERT INTO rex_job_log (job_id, text) SELECT id, $2 FROM job WHERE id = $1",
                &[&id, &text],
            )
        })?;
        Ok(())
    }

    /// Tasks of a host whose jobs are to be cancelled, with the seconds that each is given.
    pub fn cancellations(&mut self, host: i64) -> Result<Vec<(TaskId, Duration)>, TableError> {
        let rows = self.with(|client| {
            client.query(
                "SELECT run.task, run.cancel_grace FROM rex_job_run AS run
                JOIN job ON job.id = run.job_id
                WHERE run.host = $1 AND run.cancel_grace IS NOT NULL AND status = 'started'",
                &[&host],
            )
        })?;
        let grace = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Ok(rows.iter().map(|row| (TaskId(row.get(0)), grace(row.get(1)))).collect())
    }
}

/// Columns in the order of [`Row`].
const ROW: &str = "
SELECT id, code, owner, title, type, status::text, status_detail, payload::text,
    date_submitted::text, date_started::text, date_completed::text, fraction, progress,
    cancel_grace IS NOT NULL
FROM job LEFT JOIN rex_job_run ON job_id = id";

fn row(row: &postgres::Row) -> Row {
    Row {
        id: row.get(0),
        code: row.get(1),
        owner: row.get(2),
        title: row.get(3),
        r#type: row.get(4),
        status: row.get(5),
        detail: row.get(6),
        payload: row.get::<_, Option<String>>(7).unwrap_or_else(|| "null".to_owned()),
        submitted: row.get(8),
        started: row.get(9),
        completed: row.get(10),
        fraction: row.get(11),
        progress: row.get(12),
        cancelled: row.get(13),
    }
}

/// A job, locked, and the host of its last run.
const RUN_OF: &str = "
SELECT id, status::text, host FROM job LEFT JOIN rex_job_run ON job_id = id
WHERE code = $1 FOR UPDATE OF job";

/// Whether a host of this number has its connection.
fn is_alive(transaction: &mut Transaction<'_>, host: i64) -> Result<bool, postgres::Error> {
    let free = format!("SELECT pg_try_advisory_xact_lock({})", lock_of_host("$1"));
    Ok(!transaction.query_one(&free, &[&host])?.get::<_, bool>(0))
}

const CANCELLED: &str = "
UPDATE job SET status = 'failed', status_detail = 'Cancelled', date_completed = clock_timestamp()
WHERE id = $1";

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

fn lock_of_host(number: &str) -> String {
    format!("hashtextextended('rex job host', {number})")
}

fn empty() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_default()
}

/// Tells hosts from each other.
fn random() -> i64 {
    let mut bytes = [0; 8];
    // Early in a machine's life there may be no randomness yet: the clock does.
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) != Ok(8) {
        return crate::page::monotonic_ns().cast_signed();
    }
    i64::from_le_bytes(bytes)
}

pub(super) fn say(error: &postgres::Error, address: &Address) -> TableError {
    let hint = match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Some("whoever owns the table adds what is missing: `rex-host deploy --project rex.job`")
        }
        _ => None,
    };
    let (away, text) = match error.as_db_error() {
        Some(error) => (error.code().code().starts_with("57P0"), error.message().to_owned()),
        None => (true, error.source().map_or_else(|| error.to_string(), ToString::to_string)),
    };
    TableError { text: format!("{text} (the table of jobs in {address})"), hint, away }
}

pub(super) fn connect(address: &Address) -> Result<Client, TableError> {
    rex_transport::pgsql::open(address).map_err(|error| {
        let text = format!("cannot connect to {address}: {}", error.text);
        TableError { text, hint: None, away: true }
    })
}
