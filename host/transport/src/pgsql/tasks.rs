//! Putting tasks in and looking at what is there: submit, count, list, purge.

use std::collections::BTreeSet;

use postgres::Row;

use super::address::Address;
use super::failure::Trouble;
use super::session::Session;
use super::types::{JsonText, Micros};
use crate::{
    DeadLetter, Death, NewTask, Payload, QueueName, QueueStatus, TaskId, Timestamp, WaitingTask,
};

pub(super) fn submit(session: &mut Session, tasks: &[NewTask]) -> Result<Vec<TaskId>, Trouble> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    // One statement is a transaction of its own; the trigger, where there is one, belongs to it.
    if session.has_trigger {
        return insert(session, tasks);
    }
    session.transaction(|session| {
        let ids = insert(session, tasks)?;
        notify(session, tasks.iter().map(|task| task.queue.as_str()))?;
        Ok(ids)
    })
}

/// Adds tasks in the order given; inside a transaction or as one of its own.
pub(super) fn insert(session: &mut Session, tasks: &[NewTask]) -> Result<Vec<TaskId>, Trouble> {
    /// `$1` queues, `$2` payloads: the ids, in that order.
    const INSERT: &str = "
INSERT INTO asynctask.asynctask_queue (queue_name, payload)
SELECT queue_name, payload::json
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS given (queue_name, payload, place)
ORDER BY place
RETURNING id";
    let queues: Vec<&str> = tasks.iter().map(|task| task.queue.as_str()).collect();
    let payloads: Vec<&str> = tasks.iter().map(|task| task.payload.as_str()).collect();
    let rows = session.rows(INSERT, &[&queues, &payloads])?;
    Ok(rows.iter().map(|row| TaskId(row.get(0))).collect())
}

/// Tells listeners where the table does not do so itself.
pub(super) fn notify<'a>(
    session: &mut Session,
    queues: impl Iterator<Item = &'a str>,
) -> Result<(), Trouble> {
    /// `$1` queues.
    const NOTIFY: &str =
        "SELECT pg_notify('rex_asynctask', queue) FROM unnest($1::text[]) AS queue";
    let queues: Vec<&str> = std::collections::BTreeSet::from_iter(queues).into_iter().collect();
    session.rows(NOTIFY, &[&queues]).map(|_| ())
}

pub(super) fn count(session: &mut Session, queue: &QueueName) -> Result<u64, Trouble> {
    /// `$1` queue.
    const COUNT: &str = "SELECT count(*) FROM asynctask.asynctask_queue WHERE queue_name = $1";
    Ok(natural(session.one(COUNT, &[&queue.as_str()])?.get(0)))
}

pub(super) fn queues(session: &mut Session) -> Result<Vec<QueueStatus>, Trouble> {
    /// One row a queue: name, waiting, in flight, dead, oldest waiting.
    const QUEUES: &str = "
SELECT queue_name COLLATE \"C\", sum(waiting)::bigint, sum(in_flight)::bigint, sum(dead)::bigint,
    min(oldest)::timestamptz
FROM (
    SELECT queue_name, count(*) AS waiting, 0 AS in_flight, 0 AS dead, min(date_submitted) AS oldest
    FROM asynctask.asynctask_queue GROUP BY queue_name
    UNION ALL
    SELECT queue_name, 0, sum(size - cardinality(done)), 0, NULL
    FROM asynctask.rex_claims GROUP BY queue_name
    UNION ALL
    SELECT queue_name, 0, 0, count(*), NULL
    FROM asynctask.rex_dead GROUP BY queue_name
) AS counts
GROUP BY 1
ORDER BY 1";
    let rows = session.rows(QUEUES, &[])?;
    let statuses = rows.iter().filter_map(|row| {
        // Somebody else's row under a name that no command could use is not listed.
        let queue = QueueName::parse(row.get(0)).ok()?;
        Some(QueueStatus {
            queue,
            waiting: natural(row.get(1)),
            in_flight: natural(row.get(2)),
            dead: natural(row.get(3)),
            oldest: row.get::<_, Option<Micros>>(4).map(|micros| micros.0),
        })
    });
    Ok(statuses.collect())
}

pub(super) fn peek(
    session: &mut Session,
    queue: &QueueName,
    limit: u64,
) -> Result<Vec<WaitingTask>, Trouble> {
    /// `$1` queue, `$2` at most; oldest first: id, submitted, payload.
    const WAITING: &str = "
SELECT id, date_submitted::timestamptz, payload
FROM asynctask.asynctask_queue
WHERE queue_name = $1
ORDER BY id
LIMIT $2";
    let rows = session.rows(WAITING, &[&queue.as_str(), &limited(limit)])?;
    let tasks = rows.iter().map(|row| WaitingTask {
        id: TaskId(row.get(0)),
        submitted: submitted(row, 1),
        attempt: 1,
        payload: Payload::from_stored(row.get::<_, JsonText>(2).0),
    });
    Ok(tasks.collect())
}

pub(super) fn purge(
    session: &mut Session,
    address: &Address,
    queue: &QueueName,
) -> Result<u64, Trouble> {
    /// `$1` queue.
    const PURGE: &str = "DELETE FROM asynctask.asynctask_queue WHERE queue_name = $1";
    session.transaction(|session| {
        session.lock_queue(address, queue)?;
        session.change(PURGE, &[&queue.as_str()])
    })
}

pub(super) fn dead_letters(
    session: &mut Session,
    queue: Option<&QueueName>,
    limit: Option<u64>,
) -> Result<Vec<DeadLetter>, Trouble> {
    /// `$1` queue or NULL for all, `$2` at most or NULL; the oldest death first: id, queue, payload,
    /// submitted, died, attempts, reason, details.
    const DEAD: &str = "
SELECT id, queue_name, payload, date_submitted::timestamptz, died, attempts, reason, details::text
FROM asynctask.rex_dead
WHERE $1::text IS NULL OR queue_name = $1
ORDER BY letter
LIMIT $2";
    let queue = queue.map(QueueName::as_str);
    let rows = session.rows(DEAD, &[&queue, &limit.map(limited)])?;
    let letters = rows.iter().filter_map(|row| {
        let details: &str = row.get(7);
        Some(DeadLetter {
            id: TaskId(row.get(0)),
            queue: QueueName::parse(row.get(1)).ok()?,
            payload: Payload::from_stored(row.get::<_, JsonText>(2).0),
            submitted: submitted(row, 3),
            died: row.get::<_, Micros>(4).0,
            attempts: u32::try_from(row.get::<_, i32>(5)).unwrap_or_default(),
            death: Death {
                reason: row.get(6),
                details: serde_json::from_str(details).unwrap_or_default(),
            },
        })
    });
    Ok(letters.collect())
}

pub(super) fn dead_details(session: &mut Session, key: &str) -> Result<BTreeSet<String>, Trouble> {
    /// `$1` key.
    const TEXTS: &str = "
SELECT DISTINCT details ->> $1
FROM asynctask.rex_dead
WHERE jsonb_typeof(details -> $1) = 'string'";
    Ok(session.rows(TEXTS, &[&key])?.iter().map(|row| row.get(0)).collect())
}

pub(super) fn is_idle(session: &mut Session, queue: &QueueName) -> Result<bool, Trouble> {
    /// `$1` queue. A claim's row goes with its last task; one statement sees one moment.
    const IDLE: &str = "
SELECT NOT EXISTS (SELECT FROM asynctask.asynctask_queue WHERE queue_name = $1)
    AND NOT EXISTS (SELECT FROM asynctask.rex_claims WHERE queue_name = $1)";
    Ok(session.one(IDLE, &[&queue.as_str()])?.get(0))
}

/// A row's submission date; somebody else's row may have none.
fn submitted(row: &Row, column: usize) -> Timestamp {
    row.get::<_, Option<Micros>>(column).map_or(Timestamp(0), |micros| micros.0)
}

fn natural(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

fn limited(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
