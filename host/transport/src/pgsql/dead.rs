//! Dead letters: listed page by page, put back, discarded.

use std::collections::BTreeSet;
use std::time::Duration;

use super::failure::Trouble;
use super::session::Session;
use super::tasks::{limited, notify, renumber, submitted};
use super::types::{Micros, Stored, Text, micros};
use crate::{DeadLetter, DeadQuery, Death, LetterId, QueueName, TaskId};

pub(super) fn list(session: &mut Session, query: &DeadQuery) -> Result<Vec<DeadLetter>, Trouble> {
    /// `$1` queue or NULL for all, `$2` letter before the first, `$3` at most or NULL, `$4` tasks or
    /// NULL for all, `$5` bytes or NULL; the oldest death first: letter, id, queue, payload,
    /// submitted, died, attempts, reason, details. Sizes are asked one by one: to know one is to read
    /// the whole.
    const DEAD: &str = "
WITH RECURSIVE page (letter, place, bytes) AS (
    SELECT $2::bigint, 0::bigint, 0::bigint
    UNION ALL
    SELECT next.letter, page.place + 1, page.bytes + next.bytes
    FROM page, LATERAL (
        SELECT letter, octet_length(payload::text) + octet_length(details::text) AS bytes
        FROM asynctask.rex_dead
        WHERE ($1::text IS NULL OR queue_name = $1) AND ($4::bigint[] IS NULL OR id = ANY ($4))
            AND letter > page.letter
        ORDER BY letter
        LIMIT 1
    ) AS next
    WHERE ($3::bigint IS NULL OR page.place < $3) AND ($5::bigint IS NULL OR page.bytes < $5)
)
SELECT letter, id, queue_name, payload, date_submitted::timestamptz, died, attempts, reason,
    details::text
FROM page
JOIN asynctask.rex_dead USING (letter)
WHERE place > 0
ORDER BY letter";
    let queue = query.queue.as_ref().map(QueueName::as_str);
    let after = query.after.map_or(0, |letter| letter.0);
    let tasks: Vec<i64> = query.tasks.iter().map(|task| task.0).collect();
    let tasks = Some(tasks).filter(|tasks| !tasks.is_empty());
    let bytes = query.bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let limit = query.limit.map(limited);
    let rows = session.rows(DEAD, &[&queue, &after, &limit, &tasks, &bytes])?;
    let letters = rows.iter().filter_map(|row| {
        let details: Text = row.get(8);
        Some(DeadLetter {
            letter: LetterId(row.get(0)),
            id: TaskId(row.get(1)),
            queue: QueueName::parse(&row.get::<_, Text>(2).0).ok()?,
            payload: row.get::<_, Stored>(3).0,
            submitted: submitted(row, 4),
            died: row.get::<_, Micros>(5).0,
            attempts: u32::try_from(row.get::<_, i32>(6)).unwrap_or_default(),
            death: Death {
                reason: row.get::<_, Text>(7).0,
                details: serde_json::from_str(&details.0).unwrap_or_default(),
            },
        })
    });
    Ok(letters.collect())
}

pub(super) fn details(session: &mut Session, key: &str) -> Result<BTreeSet<String>, Trouble> {
    /// `$1` key.
    const TEXTS: &str = "
SELECT DISTINCT details ->> $1
FROM asynctask.rex_dead
WHERE jsonb_typeof(details -> $1) = 'string'";
    Ok(session.rows(TEXTS, &[&key])?.iter().map(|row| row.get::<_, Text>(0).0).collect())
}

/// Puts letters back into their queues, as tasks with attributes.
pub(super) fn revive(session: &mut Session, letters: &[LetterId]) -> Result<u64, Trouble> {
    /// `$1` letters, oldest first, with the ids of their tasks; nobody else puts them back meanwhile.
    const HOLD: &str = "
SELECT letter, id
FROM asynctask.rex_dead
WHERE letter = ANY ($1)
ORDER BY letter
FOR UPDATE";
    /// `$1` letters, `$2` ids to wait under: the places (from 1) of those whose id is another's.
    /// Attempts are counted anew; what was known of the earlier ones goes along.
    const REVIVE: &str = "
WITH back AS MATERIALIZED (
    SELECT given.goal, given.place, dead.queue_name, dead.payload, dead.date_submitted,
        dead.priority, (dead.details -> 'attempts')::json AS history,
        row_number() OVER (PARTITION BY given.goal ORDER BY given.place) AS turn
    FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS given (letter, goal, place)
    JOIN asynctask.rex_dead AS dead USING (letter)
), put AS (
    INSERT INTO asynctask.rex_tasks (id, queue_name, payload, date_submitted, priority, history)
    SELECT goal, queue_name, payload, date_submitted, priority, history FROM back
    WHERE turn = 1
    ORDER BY place
    ON CONFLICT (id) DO NOTHING
    RETURNING id
)
SELECT place FROM back WHERE turn > 1 OR goal NOT IN (SELECT id FROM put)";
    /// `$1` letters: the queues of what went back, one row a task.
    const END: &str = "
DELETE FROM asynctask.rex_dead
WHERE letter = ANY ($1)
RETURNING queue_name";
    session.transaction(|session| {
        let rows = session.rows(HOLD, &[&numbers(letters)])?;
        let mut left: Vec<(i64, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let held: Vec<i64> = left.iter().map(|(letter, _)| *letter).collect();
        while !left.is_empty() {
            let (letters, ids): (Vec<i64>, Vec<i64>) = left.iter().copied().unzip();
            let rows = session.rows(REVIVE, &[&letters, &ids])?;
            left = renumber(session, &left, &rows)?;
        }
        let rows = session.rows(END, &[&held])?;
        notify(session, rows.iter().map(|row| row.get(0)))?;
        Ok(rows.len() as u64)
    })
}

pub(super) fn discard(session: &mut Session, letters: &[LetterId]) -> Result<u64, Trouble> {
    /// `$1` letters.
    const DISCARD: &str = "DELETE FROM asynctask.rex_dead WHERE letter = ANY ($1)";
    session.change(DISCARD, &[&numbers(letters)])
}

pub(super) fn forget(session: &mut Session, age: Duration) -> Result<u64, Trouble> {
    /// `$1` microseconds.
    const FORGET: &str = "
DELETE FROM asynctask.rex_dead
WHERE died < clock_timestamp() - $1::bigint * interval '1 microsecond'";
    session.change(FORGET, &[&micros(age)])
}

fn numbers(letters: &[LetterId]) -> Vec<i64> {
    letters.iter().map(|letter| letter.0).collect()
}
