//! Dead letters: listed page by page, put back, discarded.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::{OptionalExtension, params};
use serde_json::Value;

use super::Sqlite;
use crate::letters::Letters;
use crate::task::micros;
use crate::{
    DeadLetter, DeadQuery, Death, LetterId, Payload, QueueName, TaskId, Timestamp, TransportError,
};

impl Sqlite {
    pub(super) fn list_dead(
        &mut self,
        query: &DeadQuery,
    ) -> Result<Vec<DeadLetter>, TransportError> {
        /// `?1` queue or NULL for all, `?2` letter before the first, `?3` at most (-1: no limit), `?4`
        /// tasks as JSON; the oldest death first: letter, id, queue, payload, submitted, died,
        /// attempts, reason, details.
        const DEAD: &str = "
SELECT letter, id, queue, payload, submitted, died, attempts, reason, details
FROM dead
WHERE (?1 IS NULL OR queue = ?1) AND letter > ?2
    AND (?4 = '[]' OR id IN (SELECT value FROM json_each(?4)))
ORDER BY letter
LIMIT ?3";
        let say = self.say();
        let queue = query.queue.as_ref().map(QueueName::as_str);
        let after = query.after.map_or(0, |letter| letter.0);
        let limit = query.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let tasks: Vec<i64> = query.tasks.iter().map(|task| task.0).collect();
        let tasks = Value::from(tasks).to_string();
        let mut statement = self.db.prepare_cached(DEAD).map_err(&say)?;
        let rows = statement
            .query_map(params![queue, after, limit, tasks], |row| {
                let queue: String = row.get(2)?;
                let Ok(queue) = QueueName::parse(&queue) else { return Ok(None) };
                let details: String = row.get(8)?;
                Ok(Some(DeadLetter {
                    letter: LetterId(row.get(0)?),
                    id: TaskId(row.get(1)?),
                    queue,
                    payload: Payload::from_stored(row.get::<_, String>(3)?),
                    submitted: Timestamp(row.get(4)?),
                    died: Timestamp(row.get(5)?),
                    attempts: row.get(6)?,
                    death: Death {
                        reason: row.get(7)?,
                        details: serde_json::from_str(&details).unwrap_or_default(),
                    },
                }))
            })
            .map_err(&say)?;
        let mut letters = Letters::of(query);
        for row in rows {
            if let Some(letter) = row.map_err(&say)? {
                letters.offer(letter);
            }
            if letters.is_full() {
                break;
            }
        }
        Ok(letters.found())
    }

    pub(super) fn list_dead_details(
        &mut self,
        key: &str,
    ) -> Result<BTreeSet<String>, TransportError> {
        /// `?1` key.
        const TEXTS: &str = "
SELECT DISTINCT value
FROM dead, json_each(details)
WHERE key = ?1 AND type = 'text'";
        let say = self.say();
        let mut statement = self.db.prepare_cached(TEXTS).map_err(&say)?;
        let rows = statement.query_map([key], |row| row.get(0)).map_err(&say)?;
        rows.collect::<Result<_, _>>().map_err(&say)
    }

    pub(super) fn put_back_dead(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        /// `?1` letter: its queue. Under a new id where the old one is taken again.
        const REVIVE: &str = "
INSERT INTO tasks (id, queue, payload, submitted, priority, history)
SELECT iif(id IN (SELECT id FROM tasks), NULL, id), queue, payload, submitted, priority,
    details -> 'attempts'
FROM dead
WHERE letter = ?1
RETURNING queue";
        let say = self.say();
        let change = self.write()?;
        let mut queues = BTreeSet::new();
        let mut count = 0;
        for letter in letters {
            let queue: Option<String> = change
                .prepare_cached(REVIVE)
                .and_then(|mut statement| {
                    statement.query_row([letter.0], |row| row.get(0)).optional()
                })
                .map_err(&say)?;
            let Some(queue) = queue else { continue };
            change
                .prepare_cached(DISCARD)
                .and_then(|mut statement| statement.execute([letter.0]))
                .map_err(&say)?;
            count += 1;
            queues.extend(QueueName::parse(&queue).ok());
        }
        change.commit().map_err(&say)?;
        self.wake.touch(&queues);
        Ok(count)
    }

    pub(super) fn delete_dead(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        let say = self.say();
        let change = self.write()?;
        let mut count = 0;
        for letter in letters {
            count += change
                .prepare_cached(DISCARD)
                .and_then(|mut statement| statement.execute([letter.0]))
                .map_err(&say)? as u64;
        }
        change.commit().map_err(&say)?;
        Ok(count)
    }

    pub(super) fn delete_old_dead(&mut self, age: Duration) -> Result<u64, TransportError> {
        /// `?1` the last moment to forget.
        const OLD: &str = "SELECT EXISTS (SELECT 1 FROM dead WHERE died < ?1)";
        /// `?1` the last moment to forget.
        const FORGET: &str = "DELETE FROM dead WHERE died < ?1";
        let say = self.say();
        let before = Timestamp::now().0.saturating_sub(micros(age));
        // Asked without blocking anybody: it is asked often.
        let some: bool = self.db.query_row(OLD, [before], |row| row.get(0)).map_err(&say)?;
        if !some {
            return Ok(0);
        }
        let change = self.write()?;
        let count = change.execute(FORGET, [before]).map_err(&say)?;
        change.commit().map_err(&say)?;
        Ok(count as u64)
    }
}

/// `?1` letter.
const DISCARD: &str = "DELETE FROM dead WHERE letter = ?1";
