//! Taking tasks: a batch of the oldest rows becomes one row of `rex_claims`, in one transaction
//! under the original's lock of the queue.

use postgres::Row;
use postgres::error::SqlState;

use super::Pgsql;
use super::failure::Trouble;
use super::session::Session;
use super::types::{JsonText, Micros};
use crate::{Claim, ClaimId, ClaimedTask, Payload, QueueName, TaskId, Timestamp};

impl Pgsql {
    pub(super) fn take(
        &mut self,
        session: &mut Session,
        queue: &QueueName,
        max: usize,
    ) -> Result<Option<Claim>, Trouble> {
        let unreturned = self.unreturned.iter().position(|(_, name)| name == queue);
        if let Some(at) = unreturned {
            let (id, _) = self.unreturned.remove(at);
            if let Some(claim) = read_claim(session, id, queue)? {
                return Ok(Some(claim));
            }
        }
        // After a full batch there is more, most likely.
        if max == 0 || (!self.plenty.remove(queue) && !has_some(session, queue)?) {
            return Ok(None);
        }
        let claimed = match self.move_out(session, queue, max) {
            // The owner's row is gone: this host was taken for dead. It lives, so it starts anew.
            Err(trouble) if trouble.has_code(&SqlState::FOREIGN_KEY_VIOLATION) => {
                session.roll_back()?;
                self.register_again(session)?;
                self.move_out(session, queue, max)?
            }
            claimed => claimed?,
        };
        if let Some(claim) = &claimed {
            if claim.tasks.len() == max {
                self.plenty.insert(queue.clone());
            }
            self.held.insert(claim.id, claim.tasks.iter().map(|task| task.id).collect());
        }
        Ok(claimed)
    }

    fn move_out(
        &self,
        session: &mut Session,
        queue: &QueueName,
        max: usize,
    ) -> Result<Option<Claim>, Trouble> {
        /// `$1` queue, `$2` at most, `$3` owner. One row or none: claim, ids, submitted, attempts,
        /// payloads, oldest first. The ids are found by a sub-select of its own so that the plan is
        /// always the one by index. No row locks: the queue's lock is held, and who deletes a row
        /// without it is waited for by the DELETE itself.
        const MOVE: &str = "
WITH taken AS (
    DELETE FROM asynctask.asynctask_queue
    WHERE id = ANY (ARRAY(
        SELECT id
        FROM asynctask.asynctask_queue
        WHERE queue_name = $1
        ORDER BY id
        LIMIT $2
    ))
    RETURNING id, payload, date_submitted
)
INSERT INTO asynctask.rex_claims (owner, queue_name, size, ids, payloads, dates, attempts)
SELECT $3, $1, count(*), array_agg(id), array_agg(payload), array_agg(date_submitted),
    array_fill(1, ARRAY[count(*)::integer])
FROM (SELECT * FROM taken ORDER BY id) AS sorted
HAVING count(*) > 0
RETURNING id, ids, dates::timestamptz[], attempts, payloads";
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        session.transaction(|session| {
            session.lock_queue(&self.address, queue)?;
            let rows = session.rows(MOVE, &[&queue.as_str(), &max, &self.owner])?;
            Ok(rows.first().map(|row| claim(row, queue)))
        })
    }

    /// Reads what this owner holds: after a reconnection nobody knows how the last call ended.
    pub(super) fn read_held(&mut self, session: &mut Session) -> Result<(), Trouble> {
        /// `$1` owner: claim, queue, the tasks not yet finished.
        const HELD: &str = "
SELECT id, queue_name, ARRAY(SELECT unnest(ids) EXCEPT SELECT unnest(done))
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
fn has_some(session: &mut Session, queue: &QueueName) -> Result<bool, Trouble> {
    /// `$1` queue.
    const SOME: &str =
        "SELECT EXISTS (SELECT FROM asynctask.asynctask_queue WHERE queue_name = $1)";
    Ok(session.one(SOME, &[&queue.as_str()])?.get(0))
}

/// A claim as it was made: nothing of it can be finished yet.
fn read_claim(
    session: &mut Session,
    id: ClaimId,
    queue: &QueueName,
) -> Result<Option<Claim>, Trouble> {
    /// `$1` claim: as from the claiming statement.
    const CLAIM: &str = "
SELECT id, ids, dates::timestamptz[], attempts, payloads
FROM asynctask.rex_claims
WHERE id = $1";
    let rows = session.rows(CLAIM, &[&id.0])?;
    Ok(rows.first().map(|row| claim(row, queue)))
}

fn claim(row: &Row, queue: &QueueName) -> Claim {
    let ids: Vec<i64> = row.get(1);
    let dates: Vec<Option<Micros>> = row.get(2);
    let attempts: Vec<i32> = row.get(3);
    let payloads: Vec<JsonText> = row.get(4);
    let tasks = ids.into_iter().zip(dates).zip(attempts).zip(payloads).map(
        |(((id, submitted), attempt), payload)| ClaimedTask {
            id: TaskId(id),
            attempt: u32::try_from(attempt).unwrap_or(1),
            submitted: submitted.map_or(Timestamp(0), |micros| micros.0),
            payload: Payload::from_stored(payload.0),
        },
    );
    Claim { id: ClaimId(row.get(0)), queue: queue.clone(), tasks: tasks.collect() }
}
