//! What people do with jobs: submit, list, show, cancel, retry.

use std::time::Duration;

use rex_transport::pgsql::Client;

use super::hosts::{Hosts, Life};
use super::{CANCELLED, Table, TableError};

/// How soon it is looked again whether a host is back.
const LOOK: Duration = Duration::from_millis(100);

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
    /// Puts a job in; as it is then. Who does so need not be able to see what hosts note of jobs.
    pub fn insert(&mut self, job: &NewJob) -> Result<Row, TableError> {
        self.with(|client| {
            let inserted = client.query_one(
                "INSERT INTO job (type, payload, owner, title)
                VALUES ($1, $2::text::jsonb, coalesce($3, current_user), $4)
                RETURNING id, code, owner, title, type, status::text, status_detail, payload::text,
                    date_submitted::text, date_started::text, date_completed::text,
                    NULL::float8 AS fraction, NULL::text AS progress, FALSE",
                &[&job.r#type, &job.payload, &job.owner, &job.title],
            )?;
            Ok(row(&inserted))
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

    /// The job of this row: if it is deleted, its code may be that of another one.
    pub fn row_of(&mut self, id: i32) -> Result<Option<Row>, TableError> {
        let sql = format!("{ROW} WHERE id = $1");
        let found = self.with(|client| client.query_opt(&sql, &[&id]))?;
        Ok(found.as_ref().map(row))
    }

    /// Repeats what has no answer while it is not known whether the host of a run lives.
    fn when_sure<T>(
        &mut self,
        mut work: impl FnMut(&mut Client, &mut Hosts) -> Result<Option<T>, postgres::Error>,
    ) -> Result<T, TableError> {
        loop {
            match self.with_hosts(&mut work)? {
                Some(done) => return Ok(done),
                None => std::thread::sleep(LOOK),
            }
        }
    }

    /// Ends a job that has not begun; tells the host of one that has, to kill it after `grace`. One whose
    /// host seems to be dead is ended and its host told: it may be cut off only.
    pub fn cancel(&mut self, code: i64, grace: Duration) -> Result<Cancelled, TableError> {
        self.when_sure(|client, hosts| {
            let transaction = client.transaction()?;
            let found = transaction.query_opt(RUN_OF, &[&code])?;
            let Some(found) = found else { return Ok(Some(Cancelled::Missing)) };
            let (id, status): (i32, String) = (found.get(0), found.get(1));
            let told = match status.as_str() {
                "completed" | "failed" => return Ok(Some(Cancelled::Ended(status))),
                "started" => match found.get(2) {
                    Some(host) => match hosts.look(&transaction, host)? {
                        Life::Lives => true,
                        Life::Unsure => return Ok(None),
                        Life::Dead => false,
                    },
                    None => false,
                },
                _ => false,
            };
            if status == "started" {
                transaction.execute(
                    "UPDATE rex_job_run SET cancel_grace = $2 WHERE job_id = $1",
                    &[&id, &grace.as_secs_f64()],
                )?;
                transaction.execute("SELECT pg_notify('rex_job', 'cancel')", &[])?;
            }
            if !told {
                transaction.execute(CANCELLED, &[&id])?;
                // Another one may be queued in its place.
                transaction.execute("SELECT pg_notify('rex_job', 'new')", &[])?;
            }
            transaction.commit()?;
            Ok(Some(if told { Cancelled::Told } else { Cancelled::Now }))
        })
    }

    /// Makes a job that has ended, or whose host died, new again; with `force` one that is queued, too.
    /// The inner error is the status of one that stays as it is, or says that there is none.
    pub fn retry(
        &mut self,
        code: i64,
        force: bool,
    ) -> Result<Result<(), Option<String>>, TableError> {
        self.when_sure(|client, hosts| {
            let transaction = client.transaction()?;
            let found = transaction.query_opt(RUN_OF, &[&code])?;
            let Some(found) = found else { return Ok(Some(Err(None))) };
            let (id, status): (i32, String) = (found.get(0), found.get(1));
            let may = match status.as_str() {
                "completed" | "failed" => true,
                "queued" => force,
                "started" => match found.get(2) {
                    Some(host) => match hosts.look(&transaction, host)? {
                        Life::Lives => false,
                        Life::Unsure => return Ok(None),
                        Life::Dead => true,
                    },
                    None => force,
                },
                _ => false,
            };
            if !may {
                return Ok(Some(Err(Some(status))));
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
            Ok(Some(Ok(())))
        })
    }

    /// What a job said after that piece, with the numbers of the pieces.
    pub fn log_after(&mut self, id: i32, piece: i64) -> Result<Vec<(i64, String)>, TableError> {
        let sql =
            "SELECT piece, text FROM rex_job_log WHERE job_id = $1 AND piece > $2 ORDER BY piece";
        let rows = self.with(|client| client.query(sql, &[&id, &piece]))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
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
WHERE code = $1 FOR NO KEY UPDATE OF job";
