//! Taking tasks and recording what became of them. Every write checks, in its own transaction, that
//! the claim is still this owner's.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Sqlite, tasks};
use crate::task::micros;
use crate::{
    Attributes, Claim, ClaimId, ClaimedTask, Finished, Outcome, Payload, QueueName, TaskId,
    Timestamp, TransportError, Want,
};

impl Sqlite {
    pub(super) fn take(
        &mut self,
        queue: &QueueName,
        want: &Want,
    ) -> Result<Option<Claim>, TransportError> {
        self.check_place()?;
        let owner = self.owner()?;
        if self.doubt
            && let Some(claim) = self.find_unreturned(owner, queue, want)?
        {
            return Ok(Some(claim));
        }
        if want.tasks == 0 || !self.has_some(queue)? {
            return Ok(None);
        }
        let say = self.say();
        let change = self.write()?;
        if !is_registered(&change, owner).map_err(&say)? {
            drop(change);
            self.register_again()?;
            return self.take(queue, want);
        }
        let claim = claim_first(&change, owner, queue, want).map_err(&say)?;
        let committed = change.commit().map_err(&say);
        if let Err(error) = committed {
            self.doubt = true;
            return Err(error);
        }
        if let Some(claim) = &claim {
            self.known.insert(claim.id, queue, want);
        }
        Ok(claim)
    }

    /// Whether any task is due: a read, so that polling an empty queue blocks nobody.
    fn has_some(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        /// `?1` queue, `?2` now.
        const SOME: &str = "
SELECT EXISTS (SELECT 1 FROM tasks WHERE queue = ?1 AND claim IS NULL AND due IS NULL)
    OR EXISTS (SELECT 1 FROM tasks WHERE queue = ?1 AND claim IS NULL AND due <= ?2)";
        let values = params![queue.as_str(), Timestamp::now().0];
        self.db
            .prepare_cached(SOME)
            .and_then(|mut statement| statement.query_row(values, |row| row.get(0)))
            .map_err(self.say())
    }

    /// A claim of ours that was recorded although the call that made it failed.
    fn find_unreturned(
        &mut self,
        owner: i64,
        queue: &QueueName,
        want: &Want,
    ) -> Result<Option<Claim>, TransportError> {
        /// `?1` owner: id, queue.
        const OURS: &str = "SELECT id, queue FROM claims WHERE owner = ?1 ORDER BY id";
        /// `?1` claim, in the order of claims: id, attempt, payload, history, priority.
        const TASKS: &str = "
SELECT id, attempt, payload, history, priority
FROM tasks
WHERE claim = ?1
ORDER BY priority, id";
        let say = self.say();
        let ours: Vec<(i64, String)> = self
            .db
            .prepare_cached(OURS)
            .and_then(|mut statement| {
                statement.query_map([owner], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })
            .map_err(&say)?;
        let mut unreturned = ours.iter().filter(|(id, _)| !self.known.contains(ClaimId(*id)));
        let Some((id, _)) = unreturned.clone().find(|(_, name)| name == queue.as_str()) else {
            self.doubt = unreturned.next().is_some();
            return Ok(None);
        };
        let tasks = self
            .db
            .prepare_cached(TASKS)
            .and_then(|mut statement| statement.query_map([id], read_task)?.collect())
            .map_err(&say)?;
        self.known.insert(ClaimId(*id), queue, want);
        Ok(Some(Claim { id: ClaimId(*id), queue: queue.clone(), tasks }))
    }

    pub(super) fn record(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        let owner = self.owner()?;
        if finished.is_empty() {
            return Ok(Vec::new());
        }
        let say = self.say();
        let change = self.write()?;
        let recorded = record_all(&change, owner, finished).map_err(&say)?;
        change.commit().map_err(&say)?;
        let freed = self.known.freed(finished);
        self.wake.touch(recorded.arrived.union(&freed));
        self.known.forget(recorded.ended);
        Ok(recorded.lost)
    }

    pub(super) fn read_attributes(
        &mut self,
        claim: ClaimId,
    ) -> Result<BTreeMap<TaskId, Attributes>, TransportError> {
        /// `?1` claim: task, priority, key.
        const ATTRIBUTES: &str = "
SELECT id, priority, key FROM tasks WHERE claim = ?1 AND (priority <> 0 OR key IS NOT NULL)";
        let read = |row: &rusqlite::Row<'_>| {
            let (priority, unique) = (row.get(1)?, row.get(2)?);
            Ok((TaskId(row.get(0)?), Attributes { priority, unique, ..Attributes::default() }))
        };
        self.db
            .prepare_cached(ATTRIBUTES)
            .and_then(|mut statement| statement.query_map([claim.0], read)?.collect())
            .map_err(self.say())
    }

    pub(super) fn has_nothing(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        /// `?1` queue, `?2` now. A claim's row goes with its last task.
        const IDLE: &str = "
SELECT NOT EXISTS (SELECT 1 FROM claims WHERE queue = ?1)
    AND (
        EXISTS (SELECT 1 FROM queues WHERE queue = ?1 AND paused)
        OR NOT EXISTS (
            SELECT 1 FROM tasks WHERE queue = ?1 AND claim IS NULL AND (due IS NULL OR due <= ?2)
        )
    )";
        let values = params![queue.as_str(), Timestamp::now().0];
        self.db
            .prepare_cached(IDLE)
            .and_then(|mut statement| statement.query_row(values, |row| row.get(0)))
            .map_err(self.say())
    }
}

/// Whether nobody has taken this owner for dead.
fn is_registered(change: &Transaction<'_>, owner: i64) -> Result<bool, rusqlite::Error> {
    /// `?1` owner.
    const REGISTERED: &str = "SELECT EXISTS (SELECT 1 FROM owners WHERE no = ?1)";
    change.prepare_cached(REGISTERED)?.query_row([owner], |row| row.get(0))
}

fn claim_first(
    change: &Transaction<'_>,
    owner: i64,
    queue: &QueueName,
    want: &Want,
) -> Result<Option<Claim>, rusqlite::Error> {
    /// `?1` queue.
    const PAUSED: &str = "SELECT EXISTS (SELECT 1 FROM queues WHERE queue = ?1 AND paused)";
    /// `?1` queue.
    const IN_FLIGHT: &str = "
SELECT count(*) FROM tasks WHERE claim IN (SELECT id FROM claims WHERE queue = ?1)";
    /// `?1` queue, `?2` now: makes claimable what is due.
    const WAKE: &str =
        "UPDATE tasks SET due = NULL WHERE queue = ?1 AND claim IS NULL AND due <= ?2";
    /// `?1` queue, `?2` at most; in the order of claims: id, attempt, payload, history, priority.
    const FIRST: &str = "
SELECT id, attempt, payload, history, priority
FROM tasks
WHERE queue = ?1 AND claim IS NULL AND due IS NULL
ORDER BY priority, id
LIMIT ?2";
    /// `?1` owner, `?2` queue.
    const CLAIM: &str = "INSERT INTO claims (owner, queue) VALUES (?1, ?2)";
    /// `?1` claim, `?2` queue, `?3` and `?4` the last one's priority and id: all that wait up to it
    /// are the ones read.
    const TAKE: &str = "
UPDATE tasks SET claim = ?1
WHERE queue = ?2 AND claim IS NULL AND due IS NULL AND (priority, id) <= (?3, ?4)";
    let name = queue.as_str();
    change.prepare_cached(WAKE)?.execute(params![name, Timestamp::now().0])?;
    if change.prepare_cached(PAUSED)?.query_row([name], |row| row.get(0))? {
        return Ok(None);
    }
    let room = match want.in_flight {
        Some(limit) => {
            let count: i64 =
                change.prepare_cached(IN_FLIGHT)?.query_row([name], |row| row.get(0))?;
            limit.saturating_sub(usize::try_from(count).unwrap_or_default())
        }
        None => want.tasks,
    };
    let max = i64::try_from(want.tasks.min(room)).unwrap_or(i64::MAX);
    let mut tasks: Vec<ClaimedTask> = Vec::new();
    let (mut last, mut bytes) = ((0i64, 0i64), 0);
    let mut statement = change.prepare_cached(FIRST)?;
    let mut rows = statement.query(params![name, max])?;
    while let Some(row) = rows.next()?
        && bytes < want.bytes
    {
        let task = read_task(row)?;
        bytes += task.payload.len();
        last = (row.get(4)?, task.id.0);
        tasks.push(task);
    }
    if tasks.is_empty() {
        return Ok(None);
    }
    let id = change.prepare_cached(CLAIM)?.insert(params![owner, name])?;
    change.prepare_cached(TAKE)?.execute(params![id, name, last.0, last.1])?;
    Ok(Some(Claim { id: ClaimId(id), queue: queue.clone(), tasks }))
}

fn read_task(row: &rusqlite::Row<'_>) -> Result<ClaimedTask, rusqlite::Error> {
    Ok(ClaimedTask {
        id: TaskId(row.get(0)?),
        attempt: row.get(1)?,
        payload: Payload::from_stored(row.get::<_, String>(2)?),
        history: row
            .get_ref(3)?
            .as_str_or_null()
            .ok()
            .flatten()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default(),
    })
}

#[derive(Default)]
struct Recorded {
    lost: Vec<TaskId>,
    /// Claims without a task left.
    ended: Vec<ClaimId>,
    /// Queues in which tasks wait anew.
    arrived: BTreeSet<QueueName>,
}

/// SQLite runs in this process: a prepared statement a task costs no more than an array would.
fn record_all(
    change: &Transaction<'_>,
    owner: i64,
    finished: &[Finished],
) -> Result<Recorded, rusqlite::Error> {
    /// `?1` claim, `?2` owner: the claim's queue.
    const HELD: &str = "SELECT queue FROM claims WHERE id = ?1 AND owner = ?2";
    /// `?1` task, `?2` claim.
    const DONE: &str = "DELETE FROM tasks WHERE id = ?1 AND claim = ?2";
    /// `?1` task, `?2` claim.
    const RELEASE: &str = "UPDATE tasks SET claim = NULL WHERE id = ?1 AND claim = ?2";
    /// `?1` task, `?2` claim, `?3` due, `?4` history.
    const RETRY: &str = "
UPDATE tasks SET claim = NULL, attempt = attempt + 1, due = ?3, history = ?4
WHERE id = ?1 AND claim = ?2";
    /// `?1` task, `?2` claim, `?3` now, `?4` reason, `?5` details.
    const BURY: &str = "
INSERT INTO dead (id, queue, payload, submitted, priority, died, attempts, reason, details)
SELECT id, queue, payload, submitted, priority, ?3, attempt, ?4, ?5
FROM tasks
WHERE id = ?1 AND claim = ?2";
    /// `?1` claim.
    const END: &str = "
DELETE FROM claims
WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM tasks WHERE claim = ?1)";
    let died = Timestamp::now();
    let mut recorded = Recorded::default();
    let mut claims: Vec<(ClaimId, Option<QueueName>)> = Vec::new();
    for one in finished {
        if claims.iter().any(|(id, _)| *id == one.claim) {
            continue;
        }
        let queue: Option<String> = change
            .prepare_cached(HELD)?
            .query_row(params![one.claim.0, owner], |row| row.get(0))
            .optional()?;
        claims.push((one.claim, queue.and_then(|queue| QueueName::parse(&queue).ok())));
    }
    for one in finished {
        let queue =
            claims.iter().find(|(id, _)| *id == one.claim).and_then(|(_, queue)| queue.as_ref());
        let key = params![one.task.0, one.claim.0];
        let held = match (queue, &one.outcome) {
            (None, _) => false,
            (Some(_), Outcome::Done) => change.prepare_cached(DONE)?.execute(key)? == 1,
            (Some(queue), Outcome::Released) => {
                recorded.arrived.insert(queue.clone());
                change.prepare_cached(RELEASE)?.execute(key)? == 1
            }
            (Some(queue), Outcome::Retry { after, history }) => {
                recorded.arrived.insert(queue.clone());
                let due = died.0.saturating_add(micros(*after));
                let row = params![one.task.0, one.claim.0, due, history.to_string()];
                change.prepare_cached(RETRY)?.execute(row)? == 1
            }
            (Some(_), Outcome::Dead(death)) => {
                let details = death.details.to_string();
                let row = params![one.task.0, one.claim.0, died.0, death.reason, details];
                change.prepare_cached(BURY)?.execute(row)? == 1
                    && change.prepare_cached(DONE)?.execute(key)? == 1
            }
        };
        if held {
            tasks::insert(change, &one.submits)?;
            recorded.arrived.extend(one.submits.iter().map(|task| task.queue.clone()));
        } else {
            recorded.lost.push(one.task);
        }
    }
    for (claim, _) in claims.iter().filter(|(_, queue)| queue.is_some()) {
        if change.prepare_cached(END)?.execute([claim.0])? == 1 {
            recorded.ended.push(*claim);
        }
    }
    Ok(recorded)
}
