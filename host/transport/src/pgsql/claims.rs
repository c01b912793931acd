//! Taking tasks: a batch of the oldest rows becomes one row of `rex_claims`, in one transaction
//! under the original's lock of the queue. Tasks with attributes are merged in, where there are any.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use postgres::Row;
use postgres::error::SqlState;
use postgres::types::ToSql;
use serde_json::Value;

use super::failure::Trouble;
use super::locks::queue_key;
use super::marks::{Look, Seen, Snapshot, Took};
use super::session::{LOCK, Session};
use super::types::{JsonText, Moment, Stored, Text};
use super::{Held, Pgsql};
use crate::{Attributes, Claim, ClaimId, ClaimedTask, QueueName, TaskId, Want};

/// How many tasks may be claimed, as parts of a statement: none from a paused queue, nor over a
/// connection that is not ours.
macro_rules! room {
    () => {
        "live AS MATERIALIZED (
    SELECT id, size - cardinality(done) AS tasks
    FROM asynctask.rex_claims
    WHERE $7::bigint IS NOT NULL AND queue_name = $1 AND id >= $8
), room AS MATERIALIZED (
    SELECT CASE
        WHEN pg_backend_pid() <> $6
            OR EXISTS (SELECT FROM asynctask.rex_queues WHERE queue_name = $1 AND paused)
        THEN 0
        ELSE greatest(0, least($2, $7 - coalesce((SELECT sum(tasks) FROM live), 0)))::bigint
    END AS most
)"
    };
}

/// The oldest tasks of the original's table that may be claimed: where each row lies, and the lengths
/// of their payloads.
macro_rules! oldest {
    () => {
        "(
        SELECT id, ctid AS place, octet_length(payload::text) AS bytes
        FROM asynctask.asynctask_queue
        WHERE queue_name = $1 AND id > $4
        ORDER BY id
        LIMIT (SELECT most FROM room)
    ) AS oldest"
    };
}

/// The spans of a look, in order.
macro_rules! spans {
    ($priorities:literal, $ids:literal, $before:literal) => {
        concat!(
            "unnest(",
            $priorities,
            "::smallint[], ",
            $ids,
            "::bigint[], ",
            $before,
            "::integer[]) WITH ORDINALITY AS span (priority, id, before, place)"
        )
    };
}

/// Which tasks of a queue are in one.
macro_rules! in_span {
    () => {
        "tasks.queue_name = $1 AND tasks.due IS NULL
                AND (tasks.priority, tasks.id) > (span.priority, span.id)
                AND tasks.priority < span.before"
    };
}

/// The claimable tasks of a queue that have one of these ids. They are found before it is asked
/// whether they are the queue's, else the planner might go through all that the queue has.
macro_rules! by_id {
    ($ids:literal) => {
        concat!(
            "(SELECT * FROM asynctask.rex_tasks WHERE id = ANY (",
            $ids,
            "::bigint[]) OFFSET 0) AS known
            WHERE queue_name = $1 AND due IS NULL"
        )
    };
}

/// What a statement can see.
macro_rules! snapshot {
    () => {
        "ARRAY(SELECT txid_snapshot_xip(txid_current_snapshot())),
    txid_snapshot_xmax(txid_current_snapshot())"
    };
}

/// A batch that was just moved out of the queue.
struct Moved {
    claim: Claim,
    /// Those of its tasks that are unique.
    keyed: HashSet<TaskId>,
    took: Took,
    /// Whether tasks were passed over, since others of their ids were taken.
    passed: bool,
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
        let begun = Instant::now();
        let look = self.marks.look(queue, want.tasks, begun);
        let seen = see(session, queue, &look)?;
        self.marks.saw(queue, &look, &seen, Instant::now());
        let merge = seen.ours || seen.is_due();
        if !seen.theirs && !merge {
            return Ok(None);
        }
        if seen.is_due() {
            let woken = wake_due(session, queue, look.due())?;
            self.marks.woke(queue, woken);
        }
        let look = self.marks.look(queue, want.tasks, begun);
        let moved = match self.move_out(session, queue, want, &look, merge) {
            // The owner's row is gone: this host was taken for dead. It lives, so it starts anew.
            Err(trouble) if trouble.has_code(&SqlState::FOREIGN_KEY_VIOLATION) => {
                self.register_again(session)?;
                self.move_out(session, queue, want, &look, merge)?
            }
            moved => moved?,
        };
        let Some(Moved { claim, keyed, took, passed }) = moved else { return Ok(None) };
        match passed {
            true => self.marks.forget(queue),
            false => self.marks.took(queue, &look, &took, Instant::now()),
        }
        let held = Held {
            queue: queue.clone(),
            tasks: ascending(claim.tasks.iter().map(|task| task.id).collect()),
            keyed,
            is_limited: want.in_flight.is_some(),
            is_plain: !merge,
        };
        self.held.insert(claim.id, held);
        Ok(Some(claim))
    }

    /// Claims, from both tables or from the original's alone.
    fn move_out(
        &self,
        session: &mut Session,
        queue: &QueueName,
        want: &Want,
        look: &Look,
        merge: bool,
    ) -> Result<Option<Moved>, Trouble> {
        /// `$1` queue, `$2` at most, `$3` owner, `$4` ids above, `$5` bytes, `$6` our server process,
        /// `$7` most in flight or NULL, `$8` claims that may be alive from. One row or none: claim,
        /// ids, payloads, oldest first; attempts unless all are at their first, priorities,
        /// histories, which have a key; the last id of the original's table; ids and priorities of
        /// the other; the snapshot; the oldest claim alive, where that counts. The rows are found by a sub-select of
        /// its own so that the plan is always the one by index, and deleted by where they lie, which
        /// spares looking each up again; they stay there as long as the statement sees them. The name
        /// is compared as no index can, so that none is taken. No row locks: the queue's lock is held,
        /// and who deletes a row without it is waited for by the DELETE itself. A payload's length is
        /// known without reading what is kept out of line; which task is the last that fits is only
        /// asked where not all do.
        const MOVE: &str = concat!(
            "WITH ",
            room!(),
            ", page AS MATERIALIZED (
    SELECT array_agg(place) AS places, sum(bytes) AS bytes FROM ",
            oldest!(),
            "
), taken AS (
    DELETE FROM asynctask.asynctask_queue
    WHERE queue_name IS NOT DISTINCT FROM $1 AND ctid = ANY (
        CASE
            WHEN (SELECT bytes FROM page) <= $5 THEN (SELECT places FROM page)
            ELSE ARRAY(
                SELECT place
                FROM (
                    SELECT place, sum(bytes) OVER (ORDER BY id) - bytes AS before FROM ",
            oldest!(),
            "
                ) AS sized
                WHERE before < $5
            )
        END
    )
    RETURNING id, payload, date_submitted
)
INSERT INTO asynctask.rex_claims (owner, queue_name, size, ids, payloads, dates, attempts)
SELECT $3, $1, count(*), array_agg(id), array_agg(payload), array_agg(date_submitted),
    array_fill(1, ARRAY[count(*)::integer])
FROM (SELECT * FROM taken ORDER BY id) AS sorted
HAVING count(*) > 0
RETURNING id, ids, payloads, NULL::integer[], priorities, histories, keys,
    ids[size], NULL::bigint[], NULL::smallint[], ",
            snapshot!(),
            ",
    CASE WHEN $7 IS NOT NULL THEN coalesce((SELECT min(live.id) FROM live), id) END"
        );
        /// As `MOVE`, from both tables; of ours `$9` priorities and `$10` ids above, `$11` priorities
        /// before, of each span, and `$12` ids that no span has. Last, whether tasks were passed over:
        /// a sequence that was set back by hand gives ids again that ours still have, and within a
        /// claim a task is known by its id.
        const MERGE: &str = concat!(
            "WITH ",
            room!(),
            ", page AS (
    SELECT id, ours, sum(bytes) OVER (ORDER BY priority, id, ours) - bytes AS before,
        row_number() OVER (PARTITION BY id ORDER BY priority, ours) AS turn
    FROM (
        (
            SELECT id, 0::smallint AS priority, false AS ours, octet_length(payload::text) AS bytes
            FROM asynctask.asynctask_queue
            WHERE queue_name = $1 AND id > $4
            ORDER BY id
            LIMIT (SELECT most FROM room)
        )
        UNION ALL
        (
            SELECT task.id, task.priority, true, task.bytes
            FROM ",
            spans!("$9", "$10", "$11"),
            ", LATERAL (
                SELECT id, priority, octet_length(payload::text) AS bytes
                FROM asynctask.rex_tasks AS tasks
                WHERE ",
            in_span!(),
            "
                ORDER BY priority, id
                LIMIT $2
            ) AS task
            ORDER BY span.place, task.priority, task.id
            LIMIT (SELECT most FROM room)
        )
        UNION ALL
        (
            SELECT id, priority, true, octet_length(payload::text)
            FROM ",
            by_id!("$12"),
            "
        )
        ORDER BY priority, id
        LIMIT (SELECT most FROM room)
    ) AS first
), theirs AS (
    DELETE FROM asynctask.asynctask_queue
    WHERE id = ANY (ARRAY(SELECT id FROM page WHERE before < $5 AND turn = 1 AND NOT ours))
    RETURNING id, payload, date_submitted
), ours AS (
    DELETE FROM asynctask.rex_tasks
    WHERE id = ANY (ARRAY(SELECT id FROM page WHERE before < $5 AND turn = 1 AND ours))
    RETURNING id, payload, date_submitted, attempt, priority, history
)
INSERT INTO asynctask.rex_claims
    (owner, queue_name, size, ids, payloads, dates, attempts, priorities, histories, keys)
SELECT $3, $1, count(*), array_agg(id), array_agg(payload), array_agg(date_submitted),
    array_agg(attempt), array_agg(priority), array_agg(history),
    (
        SELECT array_agg(task) FROM asynctask.rex_keys AS keys
        WHERE queue_name = $1 AND task IN (SELECT id FROM ours)
            AND NOT EXISTS (
                SELECT FROM asynctask.rex_claims AS claims
                WHERE claims.queue_name = $1 AND keys.task = ANY (claims.keys)
                    AND keys.task <> ALL (claims.done)
            )
    )
FROM (
    SELECT id, payload, date_submitted, 1 AS attempt, 0::smallint AS priority, NULL::json AS history
    FROM theirs
    UNION ALL
    SELECT id, payload, date_submitted, attempt, priority, history FROM ours
    ORDER BY priority, id
) AS sorted
HAVING count(*) > 0
RETURNING id, ids, payloads, attempts, priorities, histories, keys,
    (SELECT max(id) FROM theirs), (SELECT array_agg(id) FROM ours),
    (SELECT array_agg(priority) FROM ours), ",
            snapshot!(),
            ",
    CASE WHEN $7 IS NOT NULL THEN coalesce((SELECT min(live.id) FROM live), id) END,
    EXISTS (SELECT FROM page WHERE before < $5 AND turn > 1)"
        );
        let name = queue.as_str();
        let lock: [&(dyn ToSql + Sync); 2] = [&self.address.master_lock, &queue_key(name)];
        let (max, bytes) = (integer(want.tasks), integer(want.bytes));
        let in_flight = want.in_flight.map(integer);
        let (theirs, spans) = (look.theirs(), look.spans());
        let values: [&(dyn ToSql + Sync); 12] = [
            &name,
            &max,
            &self.owner,
            &theirs,
            &bytes,
            &session.backend.clone(),
            &in_flight,
            &look.oldest_claim,
            &spans.priorities,
            &spans.ids,
            &spans.before,
            &look.woken,
        ];
        let (sql, values) = if merge { (MERGE, &values[..]) } else { (MOVE, &values[..8]) };
        let replies = session.together(&[(LOCK, &lock), (sql, values)])?;
        let [lock, moved] = &replies[..] else { return Ok(None) };
        lock.iter().try_for_each(|row| session.is_ours(&self.address, row))?;
        Ok(moved.first().map(|row| moved_out(row, queue, want, merge)))
    }

    /// Reads what this owner holds: after a reconnection nobody knows how the last call ended.
    pub(super) fn read_held(&mut self, session: &mut Session) -> Result<(), Trouble> {
        /// `$1` owner: claim, queue, the tasks not yet finished, those that have a key.
        const HELD: &str = "
SELECT id, queue_name, ARRAY(SELECT unnest(ids) EXCEPT SELECT unnest(done)), keys
FROM asynctask.rex_claims
WHERE owner = $1
ORDER BY id";
        let rows = session.rows(HELD, &[&self.owner])?;
        // What is not there any more was finished by a call whose reply was lost.
        for held in self.held.values_mut() {
            held.tasks.clear();
        }
        self.unreturned.clear();
        for row in rows {
            let id = ClaimId(row.get(0));
            let tasks = row.get::<_, Vec<i64>>(2).into_iter().map(TaskId);
            let tasks = ascending(tasks.collect());
            if let Some(held) = self.held.get_mut(&id) {
                held.tasks = tasks;
            } else if let Ok(queue) = QueueName::parse(&row.get::<_, Text>(1).0) {
                self.unreturned.push((id, queue.clone()));
                let keyed = keyed(&row, 3);
                let held = Held { queue, tasks, keyed, is_limited: false, is_plain: false };
                self.held.insert(id, held);
            }
        }
        Ok(())
    }
}

/// A claim as its statement returned it.
fn moved_out(row: &Row, queue: &QueueName, want: &Want, merge: bool) -> Moved {
    let claim = claim(row, queue);
    let priorities: Option<Vec<i16>> = row.get(4);
    let bytes: usize = claim.tasks.iter().map(|task| task.payload.len()).sum();
    let is_all = claim.tasks.len() < want.tasks && bytes < want.bytes && want.in_flight.is_none();
    let end = claim.tasks.last().filter(|_| !is_all).map(|task| {
        (priorities.and_then(|priorities| priorities.last().copied()).unwrap_or(0), task.id.0)
    });
    let ids: Option<Vec<i64>> = row.get(8);
    let theirs: Option<Vec<i16>> = row.get(9);
    let ours = theirs.unwrap_or_default().into_iter().zip(ids.unwrap_or_default());
    let took = Took {
        theirs: row.get(7),
        ours: merge.then(|| ours.collect()),
        end,
        snapshot: snapshot(row, 10),
        oldest_claim: row.get(12),
    };
    Moved { claim, keyed: keyed(row, 6), took, passed: merge && row.get(13) }
}

fn keyed(row: &Row, column: usize) -> HashSet<TaskId> {
    row.get::<_, Option<Vec<i64>>>(column).into_iter().flatten().map(TaskId).collect()
}

fn ascending(mut tasks: Vec<TaskId>) -> Vec<TaskId> {
    tasks.sort_unstable();
    tasks
}

/// Of two columns.
fn snapshot(row: &Row, column: usize) -> Snapshot {
    Snapshot { running: row.get(column), next: row.get(column + 1) }
}

/// What waits: asked without the lock, so that polling an empty queue holds nobody up.
fn see(session: &mut Session, queue: &QueueName, look: &Look) -> Result<Seen, Trouble> {
    /// `$1` queue, `$2` ids above; of ours `$3` priorities and `$4` ids above, `$5` priorities
    /// before, of each span, and `$6` ids that no span has; `$7` and `$8` due after. Whether there is
    /// any of each table, the first that waits for its time, the time, the snapshot, the last id that
    /// was given out. The first of the
    /// original's is asked for in order: any one would be looked for in an index that knows no ids,
    /// over all that was deleted below the mark.
    const SEE: &str = concat!(
        "
SELECT (
        SELECT id
        FROM asynctask.asynctask_queue
        WHERE queue_name = $1 AND id > $2
        ORDER BY id
        LIMIT 1
    ) IS NOT NULL,
    EXISTS (
        SELECT
        FROM ",
        spans!("$3", "$4", "$5"),
        ", LATERAL (
            SELECT FROM asynctask.rex_tasks AS tasks WHERE ",
        in_span!(),
        " LIMIT 1
        ) AS task
    )
    OR EXISTS (SELECT FROM ",
        by_id!("$6"),
        "),
    next.due, next.id, now(), ",
        snapshot!(),
        ",
    CASE WHEN has_sequence_privilege(ids.sequence, 'SELECT, USAGE')
        THEN pg_sequence_last_value(ids.sequence::regclass) END
FROM (SELECT pg_get_serial_sequence('asynctask.asynctask_queue', 'id') AS sequence) AS ids
LEFT JOIN LATERAL (
    SELECT due, id
    FROM asynctask.rex_tasks
    WHERE queue_name = $1 AND due IS NOT NULL AND (due, id) > ($7, $8)
    ORDER BY due, id
    LIMIT 1
) AS next ON true"
    );
    let (spans, (due, id)) = (look.spans(), look.due());
    let values: [&(dyn ToSql + Sync); 8] = [
        &queue.as_str(),
        &look.theirs(),
        &spans.priorities,
        &spans.ids,
        &spans.before,
        &look.woken,
        &due,
        &id,
    ];
    let row = session.one(SEE, &values)?;
    let due: Option<Moment> = row.get(2);
    Ok(Seen {
        theirs: row.get(0),
        ours: row.get(1),
        due: due.zip(row.get(3)),
        now: row.get(4),
        snapshot: snapshot(&row, 5),
        given: row.get(7),
    })
}

/// Makes tasks claimable whose time has come, a bounded number at a time: priorities and ids.
fn wake_due(
    session: &mut Session,
    queue: &QueueName,
    (due, id): (Moment, i64),
) -> Result<Vec<(i16, i64)>, Trouble> {
    /// The change may be lost: it is made again.
    const SOON: &str = "SELECT set_config('synchronous_commit', 'off', true)";
    /// `$1` queue, `$2` and `$3` due after.
    const WAKE: &str = "
UPDATE asynctask.rex_tasks
SET due = NULL
WHERE id = ANY (ARRAY(
    SELECT id
    FROM asynctask.rex_tasks
    WHERE queue_name = $1 AND due IS NOT NULL AND (due, id) > ($2, $3)
        AND due <= (SELECT clock_timestamp())
    ORDER BY due, id
    LIMIT 1000
))
RETURNING priority, id";
    let replies = session.together(&[(SOON, &[]), (WAKE, &[&queue.as_str(), &due, &id])])?;
    Ok(replies.iter().skip(1).flatten().map(|row| (row.get(0), row.get(1))).collect())
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
SELECT id, ids, payloads, attempts, priorities, histories
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
    /// `$1` claim: task, priority, key. Where no task has a priority there is no array of them. A
    /// key may be that of another task whose id was given out again.
    const ATTRIBUTES: &str = "
SELECT held.task, coalesce(priority, 0::smallint), key
FROM asynctask.rex_claims
    CROSS JOIN unnest(ids, priorities) AS held (task, priority)
    LEFT JOIN asynctask.rex_keys
        ON rex_keys.task = ANY (keys) AND rex_keys.task = held.task
WHERE id = $1 AND (priority <> 0 OR key IS NOT NULL)";
    let rows = session.rows(ATTRIBUTES, &[&claim.0])?;
    let attributes = rows.iter().map(|row| {
        let (priority, unique) = (row.get(1), row.get::<_, Option<Text>>(2).map(|key| key.0));
        (TaskId(row.get(0)), Attributes { priority, unique, ..Attributes::default() })
    });
    Ok(attributes.collect())
}

fn claim(row: &Row, queue: &QueueName) -> Claim {
    let ids: Vec<i64> = row.get(1);
    let payloads: Vec<Stored> = row.get(2);
    // Most claims have neither.
    let attempts: Option<Vec<i32>> = row.get(3);
    let histories: Option<Vec<Option<JsonText>>> = row.get(5);
    let attempts = attempts.unwrap_or_default().into_iter().chain(std::iter::repeat(1));
    let histories =
        histories.unwrap_or_default().into_iter().chain(std::iter::repeat_with(|| None));
    let tasks = ids.into_iter().zip(payloads).zip(attempts).zip(histories).map(
        |(((id, payload), attempt), history)| ClaimedTask {
            id: TaskId(id),
            attempt: u32::try_from(attempt).unwrap_or(1),
            payload: payload.0,
            history: history.map_or(Value::Null, |text| text.value()),
        },
    );
    Claim { id: ClaimId(row.get(0)), queue: queue.clone(), tasks: tasks.collect() }
}
