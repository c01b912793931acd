//! What a host does for a job that it runs: begin, report, end.

use std::collections::HashSet;
use std::time::Duration;

use rex_transport::TaskId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::hosts::Life;
use super::{CANCELLED, Table, TableError};
use crate::jobs::JobFields;

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Completed,
    /// Completed, and what it submitted is in the store: too late for whoever cancels it.
    Submitted,
    /// The detail.
    Failed(String),
    /// It waits for another attempt.
    Queued,
}

/// What the table says of a job that is about to be run.
#[derive(Debug)]
pub enum Start {
    Missing,
    /// It is new yet, and so many of its type are queued or run as may be.
    Full(u32),
    /// The host of another task of it may live.
    Unsure,
    /// It follows "is ".
    Skip(&'static str),
    Run {
        id: i32,
        job: JobFields,
    },
}

/// A run that has submitted something, by the row of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    pub job: i32,
    pub host: i64,
    pub task: TaskId,
}

/// What is known of a run whose host may have died at its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// What it submits is in the store.
    pub certain: bool,
    /// This host has it still.
    pub here: bool,
    /// Its host could have ended it for long.
    pub late: bool,
}

impl Table {
    /// Begins to run a job, unless it is not to be run. A task that comes again, because its host
    /// died or it is tried again, takes the job over from the run before. One that is new has a task that
    /// nobody has counted against the `limits` of types, because its queuer died or there was none.
    ///
    /// A task that is tried again, by its `attempt`, must have begun the job's last run: else the job was
    /// retried by hand meanwhile, or another one has the code of a deleted one, and has a task of its own.
    pub fn start(
        &mut self,
        code: i64,
        (task, attempt): (TaskId, u32),
        limits: &[(String, u32)],
        here: impl Fn(i32) -> bool,
    ) -> Result<Start, TableError> {
        let host = self.host.unwrap_or_default();
        self.with_hosts(|client, hosts| {
            let transaction = client.transaction()?;
            let found = transaction.query_opt(
                "SELECT job.id, type, owner, title, payload::text, status::text, run.task, run.host,
                    status = 'started' AND cancel_grace IS NOT NULL
                FROM job LEFT JOIN rex_job_run AS run ON run.job_id = job.id
                WHERE code = $1 FOR NO KEY UPDATE OF job",
                &[&code],
            )?;
            let Some(row) = found else { return Ok(Start::Missing) };
            let id: i32 = row.get(0);
            let status: String = row.get(5);
            let run: Option<(i64, i64)> = row.get::<_, Option<i64>>(6).zip(row.get(7));
            match (status.as_str(), run) {
                ("completed", _) => return Ok(Start::Skip("completed already")),
                ("failed", _) => return Ok(Start::Skip("failed already")),
                (_, run) if attempt > 1 && run.is_none_or(|(begun, _)| begun != task.0) => {
                    return Ok(Start::Skip("queued anew since"));
                }
                ("started", Some((other, by))) if other != task.0 => {
                    let life = match by == host {
                        true if here(id) => Life::Lives,
                        true => Life::Dead,
                        false => hosts.look(&transaction, by)?,
                    };
                    match life {
                        Life::Lives => return Ok(Start::Skip("being run already")),
                        Life::Unsure => return Ok(Start::Unsure),
                        Life::Dead => {}
                    }
                }
                _ => {}
            }
            let kind: &str = row.get(1);
            let limit = limits.iter().find(|(name, _)| status == "new" && name == kind);
            if let Some((_, limit)) = limit {
                let lock = "SELECT pg_advisory_xact_lock(hashtextextended('rex job queuer', 0))";
                transaction.execute(lock, &[])?;
                let active = "SELECT count(*) FROM job
                    WHERE status IN ('queued', 'started') AND type = $1";
                if transaction.query_one(active, &[&kind])?.get::<_, i64>(0) >= i64::from(*limit) {
                    return Ok(Start::Full(*limit));
                }
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
                    fraction = NULL, progress = NULL, cancel_grace = NULL",
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

    /// Of jobs, those that could be started now as far as locks go; those that are gone among them.
    pub fn unlocked(&mut self, codes: &[i64]) -> Result<HashSet<i64>, TableError> {
        let rows = self.with(|client| {
            client.query(
                "WITH free AS (
                    SELECT code::int8 FROM job WHERE code = ANY ($1) FOR NO KEY UPDATE SKIP LOCKED)
                SELECT code FROM free
                UNION ALL
                SELECT code FROM unnest($1::int8[]) AS asked (code)
                WHERE NOT EXISTS (SELECT FROM job WHERE job.code = asked.code)",
                &[&codes],
            )
        })?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Ends a run that was over so long `ago`; nothing changes when another one has begun.
    pub fn end(
        &mut self,
        id: i32,
        task: TaskId,
        ending: &Ending,
        ago: Duration,
    ) -> Result<(), TableError> {
        let host = self.host.unwrap_or_default();
        let (status, detail) = match ending {
            Ending::Completed | Ending::Submitted => ("completed", None),
            Ending::Failed(detail) => ("failed", Some(detail)),
            Ending::Queued => ("queued", None),
        };
        let is_submitted = *ending == Ending::Submitted;
        // A text of PostgreSQL has no NUL.
        let detail = detail.map(|text| text.replace('\0', "\u{fffd}"));
        self.with(|client| {
            client.execute(
                "UPDATE job SET
                    status = (CASE WHEN counts THEN $2 ELSE 'failed' END)::job_status_enum,
                    status_detail = CASE WHEN counts THEN $3 ELSE 'Cancelled' END,
                    date_started = CASE WHEN counts AND $2 = 'queued'
                        THEN NULL ELSE date_started END,
                    date_completed = CASE WHEN counts AND $2 = 'queued'
                        THEN NULL ELSE clock_timestamp() - make_interval(secs => $6) END
                FROM rex_job_run AS run, LATERAL (SELECT cancel_grace IS NULL OR $7 AS counts) AS now
                WHERE job.id = $1 AND run.job_id = $1 AND run.host = $4 AND run.task = $5
                    AND status = 'started'",
                &[&id, &status, &detail, &host, &task.0, &ago.as_secs_f64(), &is_submitted],
            )
        })?;
        Ok(())
    }

    /// Whether what a run wants to submit is to be submitted: nobody has cancelled it, and no other has
    /// begun or is about to. One whose row is gone has nobody to repeat it; it is too late to cancel one
    /// that `may_have` submitted it.
    pub fn may_submit(
        &mut self,
        id: i32,
        task: TaskId,
        may_have: bool,
    ) -> Result<bool, TableError> {
        let host = self.host.unwrap_or_default();
        let found = self.with(|client| {
            client.query_opt(
                "SELECT coalesce(run.host = $2 AND run.task = $3 AND (
                        status = 'completed'
                        OR status = 'started' AND (cancel_grace IS NULL OR $4)), FALSE)
                FROM job LEFT JOIN rex_job_run AS run ON run.job_id = job.id
                WHERE job.id = $1",
                &[&id, &host, &task.0, &may_have],
            )
        })?;
        Ok(found.is_none_or(|row| row.get(0)))
    }

    /// Ends a run whose host has died before it could do so, although what it submitted may be in the
    /// store: it is completed if that is certain, else to be made again. `false` while the host may live,
    /// unless it is late with what is certain.
    pub fn end_orphan(&mut self, orphan: Orphan, known: Known) -> Result<bool, TableError> {
        let Orphan { job, host, task } = orphan;
        let Known { certain, here, late } = known;
        let own = self.host;
        self.with_hosts(|client, hosts| {
            let transaction = client.transaction()?;
            let found = transaction.query_opt(
                "SELECT cancel_grace IS NOT NULL
                FROM job JOIN rex_job_run AS run ON run.job_id = job.id
                WHERE job.id = $1 AND status = 'started' AND run.host = $2 AND run.task = $3
                FOR NO KEY UPDATE OF job",
                &[&job, &host, &task.0],
            )?;
            let Some(found) = found else { return Ok(true) };
            let is_dead = match own == Some(host) {
                true => !here,
                false => certain && late || hosts.look(&transaction, host)? == Life::Dead,
            };
            if !is_dead {
                return Ok(false);
            }
            let ended = match (certain, found.get(0)) {
                (true, _) => COMPLETED,
                (false, true) => CANCELLED,
                (false, false) => AGAIN,
            };
            transaction.execute(ended, &[&job])?;
            transaction.execute("SELECT pg_notify('rex_job', 'new')", &[])?;
            transaction.commit()?;
            Ok(true)
        })
    }

    /// How far a run is, of a host and a task, unless another has begun.
    pub fn report(
        &mut self,
        id: i32,
        (host, task): (i64, TaskId),
        fraction: f64,
        text: &str,
    ) -> Result<(), TableError> {
        let text = text.replace('\0', "\u{fffd}");
        self.with(|client| {
            client.execute(
                "UPDATE rex_job_run SET fraction = $2, progress = $3
                WHERE job_id = $1 AND host = $4 AND task = $5",
                &[&id, &fraction, &text, &host, &task.0],
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

    /// Which of the runs that a host is at, each a task and the id of the job's row, are to be cancelled,
    /// with the time that each is given; or are its no longer, since others took it for dead.
    pub fn cancellations(
        &mut self,
        host: i64,
        runs: &[(TaskId, i32)],
    ) -> Result<Vec<(TaskId, Duration)>, TableError> {
        /// Seconds that a job is given which is another's by now.
        const LOST: f64 = 10.0;
        let (tasks, jobs): (Vec<i64>, Vec<i32>) =
            runs.iter().map(|(task, job)| (task.0, *job)).unzip();
        let rows = self.with(|client| {
            client.query(
                "SELECT mine.task, CASE WHEN run.job_id IS NULL THEN $4 ELSE run.cancel_grace END
                FROM unnest($2::int8[], $3::int4[]) AS mine (task, job)
                JOIN job ON job.id = mine.job
                LEFT JOIN rex_job_run AS run
                    ON run.job_id = mine.job AND run.task = mine.task AND run.host = $1
                WHERE run.job_id IS NULL
                    OR run.cancel_grace IS NOT NULL AND status IN ('started', 'failed')",
                &[&host, &tasks, &jobs, &LOST],
            )
        })?;
        let grace = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Ok(rows.iter().map(|row| (TaskId(row.get(0)), grace(row.get(1)))).collect())
    }
}

const COMPLETED: &str = "
UPDATE job SET status = 'completed', date_completed = clock_timestamp() WHERE id = $1";
const AGAIN: &str = "UPDATE job SET status = 'new', date_started = NULL WHERE id = $1";

fn empty() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_default()
}
