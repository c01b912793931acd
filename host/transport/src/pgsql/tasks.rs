//! Putting tasks in and looking at what is there: submit, count, list, purge.

use std::collections::BTreeSet;
use std::time::Duration;

use postgres::Row;

use super::address::Address;
use super::failure::Trouble;
use super::session::Session;
use super::types::{Micros, Moment, Stored, Text, micros};
use crate::{
    Due, Kind, NewTask, QueueName, QueueStatus, Submitted, TaskId, Timestamp, TransportError,
    WaitingTask,
};

pub(super) fn submit(session: &mut Session, tasks: &[NewTask]) -> Result<Vec<Submitted>, Trouble> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    // One statement is a transaction of its own; the trigger, where there is one, belongs to it.
    if session.has_trigger && is_plain(tasks) {
        return insert(session, tasks);
    }
    session.transaction(|session| put(session, tasks))
}

/// Adds tasks in the order given, inside a transaction, and tells listeners.
pub(super) fn put(session: &mut Session, tasks: &[NewTask]) -> Result<Vec<Submitted>, Trouble> {
    if !is_plain(tasks) {
        return insert_with_attributes(session, tasks);
    }
    let ids = insert(session, tasks)?;
    if !session.has_trigger {
        notify(session, tasks.iter().map(|task| task.queue.as_str()))?;
    }
    Ok(ids)
}

fn is_plain(tasks: &[NewTask]) -> bool {
    tasks.iter().all(|task| task.attributes.is_plain())
}

fn insert(session: &mut Session, tasks: &[NewTask]) -> Result<Vec<Submitted>, Trouble> {
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
    Ok(rows.iter().map(|row| Submitted { id: TaskId(row.get(0)), existed: false }).collect())
}

fn insert_with_attributes(
    session: &mut Session,
    tasks: &[NewTask],
) -> Result<Vec<Submitted>, Trouble> {
    /// `$1` queues, `$2` payloads, `$3` priorities, `$4` due in microseconds since 1970 or NULL,
    /// `$5` in microseconds from now or NULL, `$6` keys: what became of each, in that order.
    const SUBMIT: &str = "
SELECT done.id, done.existed
FROM unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::text[])
        WITH ORDINALITY AS given (queue_name, payload, priority, at, wait, key, place),
    asynctask.rex_submit(given.queue_name, given.payload::json, given.priority,
        coalesce('epoch'::timestamptz + given.at * interval '1 microsecond',
            clock_timestamp() + given.wait * interval '1 microsecond'),
        given.key) AS done
ORDER BY place";
    let queues: Vec<&str> = tasks.iter().map(|task| task.queue.as_str()).collect();
    let payloads: Vec<&str> = tasks.iter().map(|task| task.payload.as_str()).collect();
    let attributes = || tasks.iter().map(|task| &task.attributes);
    let priorities: Vec<i16> = attributes().map(|attributes| attributes.priority).collect();
    let at: Vec<Option<i64>> = attributes()
        .map(|attributes| match attributes.due {
            Due::At(time) => Some(time.0),
            Due::Now | Due::In(_) => None,
        })
        .collect();
    let wait: Vec<Option<i64>> = attributes()
        .map(|attributes| match attributes.due {
            Due::In(time) => Some(micros(time)),
            Due::Now | Due::At(_) => None,
        })
        .collect();
    let keys: Vec<Option<&str>> =
        attributes().map(|attributes| attributes.unique.as_deref()).collect();
    let rows = session.rows(SUBMIT, &[&queues, &payloads, &priorities, &at, &wait, &keys])?;
    let done = rows.iter().map(|row| Submitted { id: TaskId(row.get(0)), existed: row.get(1) });
    Ok(done.collect())
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
    if queues.is_empty() {
        return Ok(());
    }
    session.rows(NOTIFY, &[&queues]).map(|_| ())
}

/// Of tasks that were to wait under ids, those at the places (from 1) in `rows`, each with a new id.
pub(super) fn renumber<T: Copy>(
    session: &mut Session,
    tasks: &[(T, i64)],
    rows: &[Row],
) -> Result<Vec<(T, i64)>, Trouble> {
    let ids = draw_ids(session, rows.len())?;
    let places = rows.iter().filter_map(|row| usize::try_from(row.get::<_, i64>(0) - 1).ok());
    let left = places.filter_map(|place| tasks.get(place)).map(|(task, _)| *task);
    Ok(left.zip(ids).collect())
}

/// So many ids that no waiting task has. Where the sequence was set back by hand, those that it
/// gives next may be others'.
pub(super) fn draw_ids(session: &mut Session, count: usize) -> Result<Vec<i64>, Trouble> {
    /// `$1` how many to draw: each, and whether nobody has it.
    const DRAW: &str = "
SELECT id, NOT EXISTS (SELECT FROM asynctask.asynctask_queue AS there WHERE there.id = drawn.id)
    AND NOT EXISTS (SELECT FROM asynctask.rex_tasks AS there WHERE there.id = drawn.id)
    AND NOT EXISTS (SELECT FROM asynctask.rex_keys AS there WHERE there.task = drawn.id)
FROM (
    SELECT nextval(pg_get_serial_sequence('asynctask.asynctask_queue', 'id')) AS id
    FROM generate_series(1, $1::bigint)
    OFFSET 0
) AS drawn";
    /// At once.
    const MOST: usize = 10_000;
    let (mut ids, mut next) = (Vec::new(), count);
    while ids.len() < count {
        let rows = session.rows(DRAW, &[&limited(next as u64)])?;
        for row in rows.iter().filter(|row| row.get(1)) {
            let Some(id) = row.get::<_, Option<i64>>(0) else {
                let text = "asynctask.asynctask_queue.id has no sequence of its own";
                return Err(TransportError::new(Kind::Refused, text).into());
            };
            ids.push(id);
        }
        // Many in a row may be others': not one round for each.
        next = (next * 2).min(MOST);
    }
    ids.truncate(count);
    Ok(ids)
}

pub(super) fn count(session: &mut Session, queue: &QueueName) -> Result<u64, Trouble> {
    /// `$1` queue.
    const COUNT: &str = "
SELECT (SELECT count(*) FROM asynctask.asynctask_queue WHERE queue_name = $1)
    + (SELECT count(*) FROM asynctask.rex_tasks
        WHERE queue_name = $1 AND (due IS NULL OR due <= clock_timestamp()))";
    /// As `COUNT`, where tasks with attributes are not to be seen.
    const THEIRS: &str = "SELECT count(*) FROM asynctask.asynctask_queue WHERE queue_name = $1";
    let count = if session.sees_attributed { COUNT } else { THEIRS };
    Ok(natural(session.one(count, &[&queue.as_str()])?.get(0)))
}

pub(super) fn queues(session: &mut Session) -> Result<Vec<QueueStatus>, Trouble> {
    /// One row a queue: name, waiting, delayed, in flight, dead, oldest waiting, paused.
    const QUEUES: &str = "
SELECT queue_name COLLATE \"C\", sum(waiting)::bigint, sum(delayed)::bigint,
    sum(in_flight)::bigint, sum(dead)::bigint, min(oldest)::timestamptz, bool_or(paused)
FROM (
    SELECT queue_name, count(*) AS waiting, 0 AS delayed, 0 AS in_flight, 0 AS dead,
        min(date_submitted) AS oldest, false AS paused
    FROM asynctask.asynctask_queue GROUP BY queue_name
    UNION ALL
    SELECT queue_name, count(*) FILTER (WHERE is_due), count(*) FILTER (WHERE NOT is_due), 0, 0,
        min(date_submitted) FILTER (WHERE is_due), false
    FROM (
        SELECT *, due IS NULL OR due <= clock_timestamp() AS is_due FROM asynctask.rex_tasks
    ) AS ours
    GROUP BY queue_name
    UNION ALL
    SELECT queue_name, 0, 0, sum(size - cardinality(done)), 0, NULL, false
    FROM asynctask.rex_claims GROUP BY queue_name
    UNION ALL
    SELECT queue_name, 0, 0, 0, count(*), NULL, false
    FROM asynctask.rex_dead GROUP BY queue_name
    UNION ALL
    SELECT queue_name, 0, 0, 0, 0, NULL, true
    FROM asynctask.rex_queues WHERE paused
) AS counts
GROUP BY 1
ORDER BY 1";
    let rows = session.rows(QUEUES, &[])?;
    let statuses = rows.iter().filter_map(|row| {
        // Somebody else's row under a name that no command could use is not listed.
        let queue = QueueName::parse(&row.get::<_, Text>(0).0).ok()?;
        Some(QueueStatus {
            queue,
            waiting: natural(row.get(1)),
            delayed: natural(row.get(2)),
            in_flight: natural(row.get(3)),
            dead: natural(row.get(4)),
            oldest: row.get::<_, Option<Micros>>(5).map(|micros| micros.0),
            paused: row.get(6),
        })
    });
    Ok(statuses.collect())
}

pub(super) fn peek(
    session: &mut Session,
    queue: &QueueName,
    limit: u64,
) -> Result<Vec<WaitingTask>, Trouble> {
    /// `$1` queue, `$2` at most; in the order of claims: id, submitted, payload, attempt, priority,
    /// due.
    const WAITING: &str = "
SELECT id, date_submitted::timestamptz, payload, attempt, priority, due
FROM (
    (
        SELECT id, date_submitted, payload, 1 AS attempt, 0::smallint AS priority,
            NULL::timestamptz AS due
        FROM asynctask.asynctask_queue
        WHERE queue_name = $1
        ORDER BY id
        LIMIT $2
    )
    UNION ALL
    (
        SELECT id, date_submitted, payload, attempt, priority,
            CASE WHEN due > clock_timestamp() THEN due END
        FROM asynctask.rex_tasks
        WHERE queue_name = $1
        ORDER BY 6 NULLS FIRST, priority, id
        LIMIT $2
    )
) AS waiting
ORDER BY due NULLS FIRST, priority, id
LIMIT $2";
    let rows = session.rows(WAITING, &[&queue.as_str(), &limited(limit)])?;
    let tasks = rows.iter().map(|row| WaitingTask {
        id: TaskId(row.get(0)),
        submitted: submitted(row, 1),
        attempt: u32::try_from(row.get::<_, i32>(3)).unwrap_or(1),
        priority: row.get(4),
        due: row.get::<_, Option<Micros>>(5).map(|micros| micros.0),
        payload: row.get::<_, Stored>(2).0,
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
    /// `$1` queue.
    const PURGE_OURS: &str = "
WITH gone AS (
    DELETE FROM asynctask.rex_tasks WHERE queue_name = $1 RETURNING id
), free AS (
    DELETE FROM asynctask.rex_keys AS keys
    WHERE queue_name = $1 AND task IN (SELECT id FROM gone)
        AND NOT EXISTS (
            SELECT FROM asynctask.rex_claims AS claims
            WHERE claims.queue_name = $1 AND keys.task = ANY (claims.keys)
                AND keys.task <> ALL (claims.done)
        )
)
SELECT count(*) FROM gone";
    session.transaction(|session| {
        session.lock_queue(address, queue)?;
        let count = session.change(PURGE, &[&queue.as_str()])?;
        let ours = session.one(PURGE_OURS, &[&queue.as_str()])?.get(0);
        Ok(count + natural(ours))
    })
}

/// Pauses or resumes a queue under its lock, so that no claim is under way when it returns.
pub(super) fn pause(
    session: &mut Session,
    address: &Address,
    queue: &QueueName,
    paused: bool,
) -> Result<(), Trouble> {
    /// `$1` queue, `$2` whether.
    const PAUSE: &str = "
INSERT INTO asynctask.rex_queues (queue_name, paused) VALUES ($1, $2)
ON CONFLICT (queue_name) DO UPDATE SET paused = excluded.paused";
    session.transaction(|session| {
        session.lock_queue(address, queue)?;
        session.change(PAUSE, &[&queue.as_str(), &paused])?;
        notify(session, std::iter::once(queue.as_str()))
    })
}

pub(super) fn paused(session: &mut Session) -> Result<BTreeSet<QueueName>, Trouble> {
    const PAUSED: &str = "SELECT queue_name FROM asynctask.rex_queues WHERE paused";
    let rows = session.rows(PAUSED, &[])?;
    Ok(rows.iter().filter_map(|row| QueueName::parse(&row.get::<_, Text>(0).0).ok()).collect())
}

pub(super) fn is_idle(session: &mut Session, queue: &QueueName) -> Result<bool, Trouble> {
    /// `$1` queue. A claim's row goes with its last task; one statement sees one moment.
    const IDLE: &str = "
SELECT NOT EXISTS (SELECT FROM asynctask.rex_claims WHERE queue_name = $1)
    AND (
        EXISTS (SELECT FROM asynctask.rex_queues WHERE queue_name = $1 AND paused)
        OR NOT EXISTS (SELECT FROM asynctask.asynctask_queue WHERE queue_name = $1)
            AND NOT EXISTS (
                SELECT FROM asynctask.rex_tasks WHERE queue_name = $1 AND due IS NULL
            )
            AND NOT EXISTS (
                SELECT FROM asynctask.rex_tasks
                WHERE queue_name = $1 AND due <= (SELECT clock_timestamp())
            )
    )";
    Ok(session.one(IDLE, &[&queue.as_str()])?.get(0))
}

/// How long until the first is due of those after a moment and id.
pub(super) fn next_due(
    session: &mut Session,
    queue: &QueueName,
    (due, id): (Moment, i64),
) -> Result<Option<Duration>, Trouble> {
    /// `$1` queue, `$2` and `$3` due after: microseconds; none where none ever will be.
    const NEXT: &str = "
SELECT (extract(epoch FROM due - clock_timestamp()) * 1000000)::bigint
FROM asynctask.rex_tasks
WHERE queue_name = $1 AND due IS NOT NULL AND (due, id) > ($2, $3) AND due < 'infinity'
ORDER BY due, id
LIMIT 1";
    let rows = session.rows(NEXT, &[&queue.as_str(), &due, &id])?;
    Ok(rows.first().map(|row| Duration::from_micros(natural(row.get(0)))))
}

/// A row's submission date; somebody else's row may have none.
pub(super) fn submitted(row: &Row, column: usize) -> Timestamp {
    row.get::<_, Option<Micros>>(column).map_or(Timestamp(0), |micros| micros.0)
}

pub(super) fn natural(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

pub(super) fn limited(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
