//! Taking tasks: a batch of the oldest rows becomes one row of `rex_claims`, in one transaction
//! under the original's lock of the queue. Tasks with attributes are merged in, where there are any.

use std::collections::BTreeMap;
use std::time::Instant;

use postgres::Row;
use postgres::error::SqlState;
use postgres::types::ToSql;
use serde_json::Value;

use super::Pgsql;
use super::failure::Trouble;
use super::marks::{Look, Took};
use super::session::Session;
use super::types::{JsonText, Micros};
use crate::{Attributes, Claim, ClaimId, ClaimedTask, Payload, QueueName, TaskId, Timestamp, Want};

/// A batch that was just moved out of the queue.
struct Moved {
    claim: Claim,
    /// Whether one of its tasks is unique.
    keyed: bool,
    took: Took,
}

impl Pgsql {
    pub(super) fn take(
        &mut self,
        session: &mut Session,
        queue: &QueueName,
        want: &Want,
    ) -> Result<Option<Claim>, Trouble> {
        let unreturned = self.unreturned.iter().position(|(_, name)| name == queue);
        if let Some(at) = unreturned {
            let (id, _) = self.unreturned.remove(at);
            if let Some(claim) = read_claim(session, id, queue)? {
                return Ok(Some(claim));
            }
        }
        if want.tasks == 0 {
            return Ok(None);
        }
        let look = self.marks.look(queue, Instant::now());
        // After a full batch there is more, most likely.
        if !self.plenty.remove(queue) && !has_some(session, queue, look)? {
            self.marks.found_nothing(queue, look, Instant::now());
            return Ok(None);
        }
        let moved = match self.move_out(session, queue, want, look) {
            // The owner's row is gone: this host was taken for dead. It lives, so it starts anew.
            Err(trouble) if trouble.has_code(&SqlState::FOREIGN_KEY_VIOLATION) => {
                session.roll_back()?;
                self.register_again(session)?;
                self.move_out(session, queue, want, look)?
            }
            moved => moved?,
        };
        let Some(Moved { claim, keyed, took }) = moved else { return Ok(None) };
        self.marks.took(queue, look, took, Instant::now());
        if claim.tasks.len() == want.tasks {
            self.plenty.insert(queue.clone());
        }
        if keyed {
            self.keyed.insert(claim.id);
        }
        if want.in_flight.is_some() {
            self.limited.insert(claim.id, queue.clone());
        }
        self.held.insert(claim.id, claim.tasks.iter().map(|task| task.id).collect());
        Ok(Some(claim))
    }

    fn move_out(
        &self,
        session: &mut Session,
        queue: &QueueName,
        want: &Want,
        look: Look,
    ) -> Result<Option<Moved>, Trouble> {
        /// `$1` queue, `$2` at most, `$3` owner, `$4` ids above, `$5` bytes. One row or none: claim,
        /// ids, submitted, attempts, payloads, oldest first; priorities, histories, whether a task
        /// has a key; the last id of the original's table and the snapshot. The ids are found by a
        /// sub-select of its own so that the plan is always the one by index. No row locks: the
        /// queue's lock is held, and who deletes a row without it is waited for by the DELETE
        /// itself. A payload's length is known without reading what is kept out of line.
        const MOVE: &str = "
WITH page AS (
    SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before
    FROM (
        SELECT id, octet_length(payload::text) AS bytes
        FROM asynctask.asynctask_queue
        WHERE queue_name = $1 AND id > $4
            AND NOT EXISTS (SELECT FROM asynctask.rex_queues WHERE queue_name = $1 AND paused)
        ORDER BY id
        LIMIT $2
    ) AS oldest
), taken AS (
    DELETE FROM asynctask.asynctask_queue
    WHERE id = ANY (ARRAY(SELECT id FROM page WHERE before < $5))
    RETURNING id, payload, date_submitted
)
INSERT INTO asynctask.rex_claims (owner, queue_name, size, ids, payloads, dates, attempts)
SELECT $3, $1, count(*), array_agg(id), array_agg(payload), array_agg(date_submitted),
    array_fill(1, ARRAY[count(*)::integer])
FROM (SELECT * FROM taken ORDER BY id) AS sorted
HAVING count(*) > 0
RETURNING id, ids, dates::timestamptz[], attempts, payloads, priorities, histories, keyed,
    ids[size], txid_snapshot_xmin(txid_current_snapshot()),
    txid_snapshot_xmax(txid_current_snapshot())";
        /// As `MOVE`, from both tables.
        const MERGE: &str = "
WITH page AS (
    SELECT id, ours, sum(bytes) OVER (ORDER BY priority, id) - bytes AS before
    FROM (
        (
            SELECT id, 0::smallint AS priority, false AS ours, octet_length(payload::text) AS bytes
            FROM asynctask.asynctask_queue
            WHERE queue_name = $1 AND id > $4
                AND NOT EXISTS (SELECT FROM asynctask.rex_queues WHERE queue_name = $1 AND paused)
            ORDER BY id
            LIMIT $2
        )
        UNION ALL
        (
            SELECT id, priority, true, octet_length(payload::text)
            FROM asynctask.rex_tasks
            WHERE queue_name = $1 AND due IS NULL
                AND NOT EXISTS (SELECT FROM asynctask.rex_queues WHERE queue_name = $1 AND paused)
            ORDER BY priority, id
            LIMIT $2
        )
        ORDER BY priority, id
        LIMIT $2
    ) AS first
), theirs AS (
    DELETE FROM asynctask.asynctask_queue
    WHERE id = ANY (ARRAY(SELECT id FROM page WHERE before < $5 AND NOT ours))
    RETURNING id, payload, date_submitted
), ours AS (
    DELETE FROM asynctask.rex_tasks
    WHERE id = ANY (ARRAY(SELECT id FROM page WHERE before < $5 AND ours))
    RETURNING id, payload, date_submitted, attempt, priority, history
)
INSERT INTO asynctask.rex_claims
    (owner, queue_name, size, ids, payloads, dates, attempts, priorities, histories, keyed)
SELECT $3, $1, count(*), array_agg(id), array_agg(payload), array_agg(date_submitted),
    array_agg(attempt), array_agg(priority), array_agg(history),
    EXISTS (SELECT FROM asynctask.rex_keys WHERE task IN (SELECT id FROM ours))
FROM (
    SELECT id, payload, date_submitted, 1 AS attempt, 0::smallint AS priority, NULL::json AS history
    FROM theirs
    UNION ALL
    SELECT id, payload, date_submitted, attempt, priority, history FROM ours
    ORDER BY priority, id
) AS sorted
HAVING count(*) > 0
RETURNING id, ids, dates::timestamptz[], attempts, payloads, priorities, histories, keyed,
    (SELECT max(id) FROM theirs), txid_snapshot_xmin(txid_current_snapshot()),
    txid_snapshot_xmax(txid_current_snapshot())";
        session.transaction(|session| {
            let ready = session.lock_to_claim(&self.address, queue)?;
            let merge = ready && wake_due(session, queue)?;
            let room = match want.in_flight {
                Some(limit) => limit.saturating_sub(count_in_flight(session, queue)?),
                None => want.tasks,
            };
            if room == 0 {
                return Ok(None);
            }
            let sql = if merge { MERGE } else { MOVE };
            let (max, bytes) = (integer(want.tasks.min(room)), integer(want.bytes));
            let values: [&(dyn ToSql + Sync); 5] =
                [&queue.as_str(), &max, &self.owner, &look.above, &bytes];
            let rows = session.rows(sql, &values)?;
            Ok(rows.first().map(|row| Moved {
                claim: claim(row, queue),
                keyed: row.get(7),
                took: Took { last: row.get(8), oldest: row.get(9), next: row.get(10) },
            }))
        })
    }

    /// Reads what this owner holds: after a reconnection nobody knows how the last call ended.
    pub(super) fn read_held(&mut self, session: &mut Session) -> Result<(), Trouble> {
        /// `$1` owner: claim, queue, the tasks not yet finished, whether one has a key.
        const HELD: &str = "
SELECT id, queue_name, ARRAY(SELECT unnest(ids) EXCEPT SELECT unnest(done)), keyed
FROM asynctask.rex_claims
WHERE owner = $1
ORDER BY id";
        let rows = session.rows(HELD, &[&self.owner])?;
        // What is not there any more was finished by a call whose reply was lost.
        for tasks in self.held.values_mut() {
            tasks.clear();
        }
        self.unreturned.clear();
        for row in rows {
            let id = ClaimId(row.get(0));
            if row.get(3) {
                self.keyed.insert(id);
            }
            let tasks = row.get::<_, Vec<i64>>(2).into_iter().map(TaskId).collect();
            if self.held.insert(id, tasks).is_none()
                && let Ok(queue) = QueueName::parse(row.get(1))
            {
                self.unreturned.push((id, queue));
            }
        }
        Ok(())
    }
}

/// Whether any task waits: asked without the lock, so that polling an empty queue holds nobody up.
fn has_some(session: &mut Session, queue: &QueueName, look: Look) -> Result<bool, Trouble> {
    /// `$1` queue, `$2` ids above.
    const SOME: &str = "
SELECT EXISTS (SELECT FROM asynctask.asynctask_queue WHERE queue_name = $1 AND id > $2)
    OR EXISTS (SELECT FROM asynctask.rex_tasks WHERE queue_name = $1 AND due IS NULL)
    OR EXISTS (
        SELECT FROM asynctask.rex_tasks WHERE queue_name = $1 AND due <= clock_timestamp()
    )";
    Ok(session.one(SOME, &[&queue.as_str(), &look.above])?.get(0))
}

/// Makes tasks claimable whose time has come; whether any of `rex_tasks` is. A bounded number at a
/// time: the queue's lock is held.
fn wake_due(session: &mut Session, queue: &QueueName) -> Result<bool, Trouble> {
    /// `$1` queue.
    const WAKE: &str = "
WITH woken AS (
    UPDATE asynctask.rex_tasks
    SET due = NULL
    WHERE id = ANY (ARRAY(
        SELECT id
        FROM asynctask.rex_tasks
        WHERE queue_name = $1 AND due <= clock_timestamp()
        ORDER BY due
        LIMIT 1000
    ))
    RETURNING id
)
SELECT EXISTS (SELECT FROM woken)
    OR EXISTS (SELECT FROM asynctask.rex_tasks WHERE queue_name = $1 AND due IS NULL)";
    Ok(session.one(WAKE, &[&queue.as_str()])?.get(0))
}

/// Tasks of a queue that any owner has.
fn count_in_flight(session: &mut Session, queue: &QueueName) -> Result<usize, Trouble> {
    /// `$1` queue.
    const COUNT: &str = "
SELECT coalesce(sum(size - cardinality(done)), 0)
FROM asynctask.rex_claims
WHERE queue_name = $1";
    let count: i64 = session.one(COUNT, &[&queue.as_str()])?.get(0);
    Ok(usize::try_from(count).unwrap_or_default())
}

fn integer(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A claim as it was made: nothing of it can be finished yet.
fn read_claim(
    session: &mut Session,
    id: ClaimId,
    queue: &QueueName,
) -> Result<Option<Claim>, Trouble> {
    /// `$1` claim: as from the claiming statement.
    const CLAIM: &str = "
SELECT id, ids, dates::timestamptz[], attempts, payloads, priorities, histories
FROM asynctask.rex_claims
WHERE id = $1";
    let rows = session.rows(CLAIM, &[&id.0])?;
    Ok(rows.first().map(|row| claim(row, queue)))
}

/// The attributes of the claim's tasks that have any.
pub(super) fn attributes(
    session: &mut Session,
    claim: ClaimId,
) -> Result<BTreeMap<TaskId, Attributes>, Trouble> {
    /// `$1` claim: task, priority, key. Where no task has a priority there is no array of them.
    const ATTRIBUTES: &str = "
SELECT task, coalesce(priority, 0::smallint), key
FROM asynctask.rex_claims
    CROSS JOIN unnest(ids, priorities) AS held (task, priority)
    LEFT JOIN asynctask.rex_keys USING (task)
WHERE id = $1 AND (priority <> 0 OR key IS NOT NULL)";
    let rows = session.rows(ATTRIBUTES, &[&claim.0])?;
    let attributes = rows.iter().map(|row| {
        let (priority, unique) = (row.get(1), row.get(2));
        (TaskId(row.get(0)), Attributes { priority, unique, ..Attributes::default() })
    });
    Ok(attributes.collect())
}

fn claim(row: &Row, queue: &QueueName) -> Claim {
    let ids: Vec<i64> = row.get(1);
    let dates: Vec<Option<Micros>> = row.get(2);
    let attempts: Vec<i32> = row.get(3);
    let payloads: Vec<JsonText> = row.get(4);
    let histories: Option<Vec<Option<JsonText>>> = row.get(6);
    // Most claims have none.
    let histories =
        histories.unwrap_or_default().into_iter().chain(std::iter::repeat_with(|| None));
    let tasks = ids.into_iter().zip(dates).zip(attempts).zip(payloads).zip(histories).map(
        |((((id, submitted), attempt), payload), history)| ClaimedTask {
            id: TaskId(id),
            attempt: u32::try_from(attempt).unwrap_or(1),
            submitted: submitted.map_or(Timestamp(0), |micros| micros.0),
            payload: Payload::from_stored(payload.0),
            history: history.map_or(Value::Null, |text| text.value()),
        },
    );
    Claim { id: ClaimId(row.get(0)), queue: queue.clone(), tasks: tasks.collect() }
}
