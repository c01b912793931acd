//! Putting tasks in and looking at what is there: submit, count, list, purge.

use std::collections::BTreeSet;

use rusqlite::{Transaction, params};

use super::{Sqlite, now};
use crate::{
    DeadLetter, Death, NewTask, Payload, QueueName, QueueStatus, TaskId, Timestamp, TransportError,
    WaitingTask,
};

/// `?1` queue, `?2` payload, `?3` submitted.
const INSERT: &str = "INSERT INTO tasks (queue, payload, submitted) VALUES (?1, ?2, ?3)";

/// Adds tasks inside a transaction; ids in the order given.
pub(super) fn insert(
    change: &Transaction<'_>,
    tasks: &[NewTask],
) -> Result<Vec<TaskId>, rusqlite::Error> {
    let submitted = now();
    let mut statement = change.prepare_cached(INSERT)?;
    tasks
        .iter()
        .map(|task| {
            let row = params![task.queue.as_str(), task.payload.as_str(), submitted.0];
            statement.insert(row).map(TaskId)
        })
        .collect()
}

impl Sqlite {
    pub(super) fn submit_all(&mut self, tasks: &[NewTask]) -> Result<Vec<TaskId>, TransportError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let say = self.say();
        let change = self.write()?;
        let ids = insert(&change, tasks).map_err(&say)?;
        change.commit().map_err(&say)?;
        let queues: BTreeSet<&QueueName> = tasks.iter().map(|task| &task.queue).collect();
        self.wake.touch(queues);
        Ok(ids)
    }

    pub(super) fn count_waiting(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        /// `?1` queue.
        const COUNT: &str = "SELECT count(*) FROM tasks WHERE queue = ?1 AND claim IS NULL";
        self.db
            .prepare_cached(COUNT)
            .and_then(|mut statement| statement.query_row([queue.as_str()], |row| row.get(0)))
            .map_err(self.say())
    }

    pub(super) fn list_queues(&mut self) -> Result<Vec<QueueStatus>, TransportError> {
        /// One row a queue: name, waiting, in flight, dead, oldest waiting.
        const QUEUES: &str = "
SELECT queue, sum(waiting), sum(in_flight), sum(dead), min(oldest)
FROM (
    SELECT queue, count(*) AS waiting, 0 AS in_flight, 0 AS dead, min(submitted) AS oldest
    FROM tasks WHERE claim IS NULL GROUP BY queue
    UNION ALL
    SELECT queue, 0, count(*), 0, NULL FROM tasks WHERE claim IS NOT NULL GROUP BY queue
    UNION ALL
    SELECT queue, 0, 0, count(*), NULL FROM dead GROUP BY queue
)
GROUP BY queue
ORDER BY queue";
        let say = self.say();
        let mut statement = self.db.prepare_cached(QUEUES).map_err(&say)?;
        let rows = statement
            .query_map([], |row| {
                let name: String = row.get(0)?;
                // Somebody else's row under a name that no command could use is not listed.
                let queue = QueueName::parse(&name).ok();
                Ok(queue.zip(Some((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))))
            })
            .map_err(&say)?;
        let rows = rows.collect::<Result<Vec<_>, _>>().map_err(&say)?;
        let statuses = rows.into_iter().flatten().map(|(queue, row)| {
            let (waiting, in_flight, dead, oldest): (_, _, _, Option<i64>) = row;
            QueueStatus { queue, waiting, in_flight, dead, oldest: oldest.map(Timestamp) }
        });
        Ok(statuses.collect())
    }

    pub(super) fn list_waiting(
        &mut self,
        queue: &QueueName,
        limit: u64,
    ) -> Result<Vec<WaitingTask>, TransportError> {
        /// `?1` queue, `?2` at most; oldest first: id, submitted, attempt, payload.
        const WAITING: &str = "
SELECT id, submitted, attempt, payload
FROM tasks
WHERE queue = ?1 AND claim IS NULL
ORDER BY id
LIMIT ?2";
        let say = self.say();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = self.db.prepare_cached(WAITING).map_err(&say)?;
        let rows = statement
            .query_map(params![queue.as_str(), limit], |row| {
                Ok(WaitingTask {
                    id: TaskId(row.get(0)?),
                    submitted: Timestamp(row.get(1)?),
                    attempt: row.get(2)?,
                    payload: Payload::from_stored(row.get::<_, String>(3)?),
                })
            })
            .map_err(&say)?;
        rows.collect::<Result<_, _>>().map_err(&say)
    }

    pub(super) fn delete_waiting(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        /// `?1` queue.
        const PURGE: &str = "DELETE FROM tasks WHERE queue = ?1 AND claim IS NULL";
        let say = self.say();
        let change = self.write()?;
        let count = change.execute(PURGE, [queue.as_str()]).map_err(&say)?;
        change.commit().map_err(&say)?;
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    pub(super) fn list_dead(
        &mut self,
        queue: Option<&QueueName>,
        limit: Option<u64>,
    ) -> Result<Vec<DeadLetter>, TransportError> {
        /// `?1` queue or NULL for all, `?2` at most (-1: no limit); the oldest death first: id,
        /// queue, payload, submitted, died, attempts, reason, details.
        const DEAD: &str = "
SELECT id, queue, payload, submitted, died, attempts, reason, details
FROM dead
WHERE ?1 IS NULL OR queue = ?1
ORDER BY letter
LIMIT ?2";
        let say = self.say();
        let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let mut statement = self.db.prepare_cached(DEAD).map_err(&say)?;
        let rows = statement
            .query_map(params![queue.map(QueueName::as_str), limit], |row| {
                let queue: String = row.get(1)?;
                let Ok(queue) = QueueName::parse(&queue) else { return Ok(None) };
                let details: String = row.get(7)?;
                Ok(Some(DeadLetter {
                    id: TaskId(row.get(0)?),
                    queue,
                    payload: Payload::from_stored(row.get::<_, String>(2)?),
                    submitted: Timestamp(row.get(3)?),
                    died: Timestamp(row.get(4)?),
                    attempts: row.get(5)?,
                    death: Death {
                        reason: row.get(6)?,
                        details: serde_json::from_str(&details).unwrap_or_default(),
                    },
                }))
            })
            .map_err(&say)?;
        rows.filter_map(Result::transpose).collect::<Result<_, _>>().map_err(&say)
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
}
