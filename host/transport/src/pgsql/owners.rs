//! Who lives. An owner is a row that beats (server clock) and a session advisory lock, which is free
//! when its connection broke; a host takes it again with the next one. `ownership.rs` says when
//! others take its claims back.
//!
//! Taking back deletes the owner's row, which is the fence: see `pgsql.rs`.

use std::time::{Duration, Instant};

use postgres::Row;

use super::Pgsql;
use super::failure::Trouble;
use super::locks::owner_key;
use super::session::Session;
use super::tasks;
use crate::ownership::{Patience, Sighting, Verdict, judge};
use crate::process::Process;
use crate::{Kind, TransportError};

/// How long to wait for the end of this owner's former session: a busy server gets round to it.
const FORMER: Duration = Duration::from_secs(10);

/// `$1` owner.
const BEAT: &str = "
UPDATE asynctask.rex_owners
SET beats = beats + 1, beaten = clock_timestamp(), free_since = NULL
WHERE no = $1";

/// Another owner as one look found it.
struct Other {
    no: i64,
    id: String,
    beats: i64,
    /// The server process that holds its lock.
    holder: Option<i32>,
    seen: Sighting,
}

impl Pgsql {
    /// Takes the owner's lock and enters or renews its row.
    pub(super) fn register(&mut self, session: &mut Session) -> Result<(), Trouble> {
        /// `$1` key.
        const TRY: &str = "SELECT pg_try_advisory_lock($1)";
        /// `$1` id: who registered under it.
        const WHO: &str = "SELECT machine, pid, started FROM asynctask.rex_owners WHERE id = $1";
        /// `$1` key. Our own connection from before, whose end the server has not noticed.
        const END_FORMER: &str = "
SELECT pg_terminate_backend(pid)
FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32 | objid::bigint) = $1";
        /// `$1` key; waits up to the lock timeout.
        const WAIT: &str = "SELECT pg_advisory_lock($1)";
        let Some(id) = self.owner_id.clone() else { return Ok(()) };
        let key = owner_key(&id);
        // A sign of life first: who has been away for long is not to be seen with its lock and
        // without it.
        if self.owner.is_some() {
            session.change(BEAT, &[&self.owner])?;
        }
        if !session.one(TRY, &[&key])?.get::<_, bool>(0) {
            let row = session.rows(WHO, &[&id])?;
            let is_ours = row.first().is_none_or(|row| process(row, 0) == Process::current());
            if !is_ours {
                let text = format!("An owner named \"{id}\" already works on these queues");
                return Err(TransportError::new(Kind::Config, text).into());
            }
            let deadline = Instant::now() + FORMER;
            loop {
                session.rows(END_FORMER, &[&key])?;
                match session.one(WAIT, &[&key]) {
                    Err(trouble) if trouble.is_lock_timeout() && Instant::now() < deadline => {}
                    Err(trouble) => return Err(trouble),
                    Ok(_) => break,
                }
            }
        }
        self.enter(session)
    }

    /// Enters or renews the owner's row; its lock is held.
    fn enter(&mut self, session: &mut Session) -> Result<(), Trouble> {
        /// `$1` id, `$2` key, `$3` machine, `$4` process, `$5` its start: the owner's number, the
        /// same as before unless it was taken over.
        const ENTER: &str = "
INSERT INTO asynctask.rex_owners AS owners (id, lock_key, machine, pid, started)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (id) DO UPDATE
SET beats = owners.beats + 1, beaten = clock_timestamp(), free_since = NULL,
    machine = excluded.machine, pid = excluded.pid, started = excluded.started
RETURNING no";
        let Some(id) = &self.owner_id else { return Ok(()) };
        let me = Process::current();
        let values = session.one(ENTER, &[id, &owner_key(id), &me.machine, &me.pid, &me.start])?;
        let no: i64 = values.get(0);
        if self.owner.is_some_and(|before| before != no) {
            // Taken over meanwhile: what was held is others' now.
            self.forget_claims();
        }
        self.owner = Some(no);
        Ok(())
    }

    /// After this owner was taken for dead on a connection that still works.
    pub(super) fn register_again(&mut self, session: &mut Session) -> Result<(), Trouble> {
        tracing::warn!("This host was taken for dead; its tasks in flight went to others");
        self.enter(session)
    }

    pub(super) fn take_back(&mut self, session: &mut Session) -> Result<u64, Trouble> {
        /// `$1` this owner: whether there are others at all.
        const ANY: &str = "SELECT EXISTS (SELECT FROM asynctask.rex_owners WHERE no <> $1)";
        /// `$1` no. Told by the first who sees it; measured by the server's clock. What was told
        /// before the server's start does not count.
        const MISSING: &str = "
UPDATE asynctask.rex_owners
SET free_since = clock_timestamp()
WHERE no = $1 AND beats = $2
    AND (free_since IS NULL OR free_since < pg_postmaster_start_time())";
        /// `$1` server process, `$2` no, `$3` beats.
        const END: &str = "
SELECT pg_terminate_backend($1)
FROM asynctask.rex_owners
WHERE no = $2 AND beats = $3";
        if self.owner.is_some() && session.change(BEAT, &[&self.owner])? == 0 {
            self.register_again(session)?;
        }
        let me = self.owner.unwrap_or(-1);
        if !session.one(ANY, &[&me])?.get::<_, bool>(0) {
            return Ok(0);
        }
        let mut count = 0;
        let patience = Patience {
            grace: self.options.rescue_grace,
            owner_timeout: self.options.owner_timeout,
        };
        for other in self.others(session, me)? {
            match judge(&other.seen, &patience) {
                Verdict::Lives => {}
                Verdict::Missing => {
                    session.change(MISSING, &[&other.no, &other.beats])?;
                }
                Verdict::Dead => {
                    // It may have been stopped in the middle of a transaction, and hold what is to
                    // be taken back.
                    if let Some(holder) = other.holder
                        && let Err(trouble) = session.rows(END, &[&holder, &other.no, &other.beats])
                    {
                        if trouble.ends_session() {
                            return Err(trouble);
                        }
                        tracing::debug!("its session {holder} could not be ended: {trouble:?}");
                    }
                    let back = session
                        .transaction(|session| give_back(session, other.no, Some(other.beats)));
                    let back = match back {
                        // Another look will find it free, or its session ended.
                        Err(trouble) if trouble.is_lock_timeout() => {
                            session.roll_back()?;
                            tracing::warn!("{} is gone, but its tasks are still locked", other.id);
                            continue;
                        }
                        back => back?,
                    };
                    let Some(back) = back else { continue };
                    self.marks.forget_all();
                    count += back;
                    if back == 0 {
                        tracing::info!("{} is gone; it had no task", other.id);
                    } else {
                        tracing::info!(
                            "Took back the tasks of {}, which is gone: {back}",
                            other.id
                        );
                    }
                }
            }
        }
        Ok(count)
    }

    fn others(&self, session: &mut Session, me: i64) -> Result<Vec<Other>, Trouble> {
        /// `$1` this owner. Times in microseconds.
        const OTHERS: &str = "
SELECT no, id, machine, owners.pid, started, beats, locks.pid,
    (extract(epoch FROM clock_timestamp() - beaten) * 1e6)::bigint,
    (extract(epoch FROM clock_timestamp() - free_since) * 1e6)::bigint,
    (extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) * 1e6)::bigint
FROM asynctask.rex_owners AS owners
LEFT JOIN (
    SELECT pid, classid::bigint << 32 | objid::bigint AS key
    FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS locks ON locks.key = owners.lock_key
WHERE no <> $1
ORDER BY no";
        // A clock that was set back says nothing.
        let time = |micros: i64| Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        let rows = session.rows(OTHERS, &[&me])?;
        let others = rows.iter().map(|row| {
            let holder: Option<i32> = row.get(6);
            Other {
                no: row.get(0),
                id: row.get(1),
                beats: row.get(5),
                holder,
                seen: Sighting {
                    provably_dead: process(row, 2).is_provably_dead(),
                    holds_lock: holder.is_some(),
                    silent_for: time(row.get(7)),
                    missing_for: row.get::<_, Option<i64>>(8).map(time),
                    store_up_for: time(row.get(9)),
                },
            }
        });
        Ok(others.collect())
    }

    pub(super) fn unregister(&mut self, session: &mut Session) -> Result<(), Trouble> {
        if let Some(no) = self.owner {
            session.transaction(|session| give_back(session, no, None))?;
        }
        self.owner = None;
        self.forget_claims();
        Ok(())
    }
}

/// A process from three columns.
fn process(row: &Row, at: usize) -> Process {
    Process { machine: row.get(at), pid: row.get(at + 1), start: row.get(at + 2) }
}

/// Ends an owner, in a transaction: its tasks wait again in their old places. `None` when it has
/// shown a sign of life since `beats` was read, or is gone already.
fn give_back(
    session: &mut Session,
    owner: i64,
    beats: Option<i64>,
) -> Result<Option<u64>, Trouble> {
    /// `$1` owner, `$2` beats or NULL. Waits for a claim that is just being made.
    const HOLD: &str = "
SELECT FROM asynctask.rex_owners
WHERE no = $1 AND ($2::bigint IS NULL OR beats = $2)
FOR UPDATE";
    /// `$1` owner.
    const CLAIMS: &str = "
SELECT id FROM asynctask.rex_claims WHERE owner = $1 ORDER BY id FOR UPDATE";
    /// `$1` owner.
    const END_CLAIMS: &str = "DELETE FROM asynctask.rex_claims WHERE owner = $1";
    /// `$1` owner.
    const END_OWNER: &str = "DELETE FROM asynctask.rex_owners WHERE no = $1";
    if session.rows(HOLD, &[&owner, &beats])?.is_empty() {
        return Ok(None);
    }
    let claims = session.rows(CLAIMS, &[&owner])?;
    let claims: Vec<i64> = claims.iter().map(|row| row.get(0)).collect();
    let count = if claims.is_empty() { 0 } else { put_back(session, &claims, None)? };
    session.change(END_CLAIMS, &[&owner])?;
    session.change(END_OWNER, &[&owner])?;
    Ok(Some(count))
}

/// Copies tasks of claims back to the queues, with their ids and dates; all that are not finished,
/// or only the given ones (`tasks`, one beside each of `claims`).
pub(super) fn put_back(
    session: &mut Session,
    claims: &[i64],
    tasks: Option<&[i64]>,
) -> Result<u64, Trouble> {
    /// `$1` claims, `$2` tasks or NULL; `$3` claims, `$4` places and `$5` new ids of those that are
    /// left of an earlier round, if any. One row a task: queue, whether it went where attributes are
    /// kept, claim, place, whether it is put back. What is not has an id that another task has there
    /// (one given out again, as a sequence was set back by hand), which must cost neither. A key goes
    /// with its task.
    const PUT_BACK: &str = "
WITH held AS (
    SELECT claims.id AS claim, claims.queue_name, task.*,
        coalesce(task.id = ANY (claims.keys), false) AS has_key
    FROM asynctask.rex_claims AS claims,
        unnest(claims.ids, claims.payloads, claims.dates, claims.attempts, claims.priorities,
            claims.histories) WITH ORDINALITY
            AS task (id, payload, date, attempt, priority, history, place)
    WHERE claims.id = ANY ($1) AND task.id <> ALL (claims.done)
        AND ($2::bigint[] IS NULL
            OR (claims.id, task.id) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[])))
), sorted AS (
    SELECT held.*, coalesce(given.goal, held.id) AS goal,
        attempt > 1 OR coalesce(priority, 0) <> 0 OR history IS NOT NULL OR has_key AS ours
    FROM held
    LEFT JOIN unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS given (claim, place, goal)
        USING (claim, place)
    WHERE cardinality($3::bigint[]) = 0 OR given.goal IS NOT NULL
), back AS MATERIALIZED (
    SELECT *, row_number() OVER (PARTITION BY ours, goal ORDER BY claim, place) AS turn
    FROM sorted
), plain AS (
    INSERT INTO asynctask.asynctask_queue (id, queue_name, payload, date_submitted)
    SELECT goal, queue_name, payload, date FROM back
    WHERE NOT ours AND turn = 1
    ORDER BY goal
    ON CONFLICT (id) DO NOTHING
    RETURNING id
), attributed AS (
    INSERT INTO asynctask.rex_tasks
        (id, queue_name, payload, date_submitted, priority, attempt, history)
    SELECT goal, queue_name, payload, date, coalesce(priority, 0), attempt, history FROM back
    WHERE ours AND turn = 1
    ORDER BY goal
    ON CONFLICT (id) DO NOTHING
    RETURNING id
), keys AS (
    UPDATE asynctask.rex_keys AS keys
    SET task = back.goal
    FROM back JOIN attributed ON attributed.id = back.goal
    WHERE keys.task = back.id AND back.has_key AND back.turn = 1 AND back.goal <> back.id
)
SELECT queue_name, ours, claim, place,
    turn = 1 AND CASE
        WHEN ours THEN goal IN (SELECT id FROM attributed)
        ELSE goal IN (SELECT id FROM plain)
    END
FROM back";
    let none: &[i64] = &[];
    let rows = session.rows(PUT_BACK, &[&claims, &tasks, &none, &none, &none])?;
    let has_trigger = session.has_trigger;
    let untold = rows.iter().filter(|row| !has_trigger || row.get(1));
    tasks::notify(session, untold.map(|row| row.get(0)))?;
    let count = rows.len() as u64;
    let mut left = not_put(&rows);
    while !left.is_empty() {
        let ids = tasks::draw_ids(session, left.len())?;
        let (of, places): (Vec<i64>, Vec<i64>) = left.into_iter().unzip();
        left = not_put(&session.rows(PUT_BACK, &[&claims, &tasks, &of, &places, &ids])?);
    }
    Ok(count)
}

/// Claims and places of what `PUT_BACK` has left.
fn not_put(rows: &[Row]) -> Vec<(i64, i64)> {
    let left = rows.iter().filter(|row| !row.get::<_, bool>(4));
    left.map(|row| (row.get(2), row.get(3))).collect()
}
