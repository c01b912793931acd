//! Putting tasks in and looking at what is there: submit, count, list, purge.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::{OptionalExtension, Transaction, params};

use super::Sqlite;
use crate::task::micros;
use crate::{
    Attributes, Due, NewTask, Payload, QueueName, QueueStatus, Submitted, TaskId, Timestamp,
    TransportError, WaitingTask,
};

/// Adds tasks inside a transaction; what became of each, in the order given.
pub(super) fn insert(
    change: &Transaction<'_>,
    tasks: &[NewTask],
) -> Result<Vec<Submitted>, rusqlite::Error> {
    /// `?1` queue, `?2` payload, `?3` submitted, `?4` priority, `?5` due, `?6` key.
    const INSERT: &str = "
INSERT INTO tasks (queue, payload, submitted, priority, due, key) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (queue, key) WHERE key IS NOT NULL DO NOTHING
RETURNING id";
    /// `?1` queue, `?2` key.
    const THERE: &str = "SELECT id FROM tasks WHERE queue = ?1 AND key = ?2";
    let submitted = Timestamp::now();
    let mut statement = change.prepare_cached(INSERT)?;
    tasks
        .iter()
        .map(|task| {
            let Attributes { priority, due, unique } = &task.attributes;
            let due = match due {
                Due::Now => None,
                Due::In(time) => Some(submitted.0.saturating_add(micros(*time))),
                Due::At(time) => Some(time.0),
            };
            let queue = task.queue.as_str();
            let row = params![queue, task.payload.as_str(), submitted.0, priority, due, unique];
            if let Some(id) = statement.query_row(row, |row| row.get(0)).optional()? {
                return Ok(Submitted { id: TaskId(id), existed: false });
            }
            let there = change
                .prepare_cached(THERE)?
                .query_row(params![queue, unique], |row| row.get(0))?;
            Ok(Submitted { id: TaskId(there), existed: true })
        })
        .collect()
}

impl Sqlite {
    pub(super) fn submit_all(
        &mut self,
        tasks: &[NewTask],
    ) -> Result<Vec<Submitted>, TransportError> {
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
        /// `?1` queue, `?2` now.
        const COUNT: &str = "
SELECT (SELECT count(*) FROM tasks WHERE queue = ?1 AND claim IS NULL AND due IS NULL)
    + (SELECT count(*) FROM tasks WHERE queue = ?1 AND claim IS NULL AND due <= ?2)";
        let values = params![queue.as_str(), Timestamp::now().0];
        self.db
            .prepare_cached(COUNT)
            .and_then(|mut statement| statement.query_row(values, |row| row.get(0)))
            .map_err(self.say())
    }

    pub(super) fn list_queues(&mut self) -> Result<Vec<QueueStatus>, TransportError> {
        /// `?1` now. One row a queue: name, waiting, delayed, in flight, dead, oldest waiting,
        /// paused.
        const QUEUES: &str = "
SELECT queue, sum(waiting), sum(delayed), sum(in_flight), sum(dead), min(oldest), max(paused)
FROM (
    SELECT queue, count(*) AS waiting, 0 AS delayed, 0 AS in_flight, 0 AS dead,
        min(submitted) AS oldest, 0 AS paused
    FROM tasks WHERE claim IS NULL AND (due IS NULL OR due <= ?1) GROUP BY queue
    UNION ALL
    SELECT queue, 0, count(*), 0, 0, NULL, 0 FROM tasks WHERE claim IS NULL AND due > ?1
    GROUP BY queue
    UNION ALL
    SELECT queue, 0, 0, count(*), 0, NULL, 0 FROM tasks WHERE claim IS NOT NULL GROUP BY queue
    UNION ALL
    SELECT queue, 0, 0, 0, count(*), NULL, 0 FROM dead GROUP BY queue
    UNION ALL
    SELECT queue, 0, 0, 0, 0, NULL, 1 FROM queues WHERE paused
)
GROUP BY queue
ORDER BY queue";
        let say = self.say();
        let mut statement = self.db.prepare_cached(QUEUES).map_err(&say)?;
        let rows = statement
            .query_map([Timestamp::now().0], |row| {
                let name: String = row.get(0)?;
                // Somebody else's row under a name that no command could use is not listed.
                let Ok(queue) = QueueName::parse(&name) else { return Ok(None) };
                Ok(Some(QueueStatus {
                    queue,
                    waiting: row.get(1)?,
                    delayed: row.get(2)?,
                    in_flight: row.get(3)?,
                    dead: row.get(4)?,
                    oldest: row.get::<_, Option<i64>>(5)?.map(Timestamp),
                    paused: row.get(6)?,
                }))
            })
            .map_err(&say)?;
        rows.filter_map(Result::transpose).collect::<Result<_, _>>().map_err(&say)
    }

    pub(super) fn list_waiting(
        &mut self,
        queue: &QueueName,
        limit: u64,
    ) -> Result<Vec<WaitingTask>, TransportError> {
        /// `?1` queue, `?2` at most, `?3` now; in the order of claims: id, submitted, attempt,
        /// priority, due, payload.
        const WAITING: &str = "
SELECT id, submitted, attempt, priority, iif(due > ?3, due, NULL), payload
FROM tasks
WHERE queue = ?1 AND claim IS NULL
ORDER BY 5 NULLS FIRST, priority, id
LIMIT ?2";
        let say = self.say();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = self.db.prepare_cached(WAITING).map_err(&say)?;
        let rows = statement
            .query_map(params![queue.as_str(), limit, Timestamp::now().0], |row| {
                Ok(WaitingTask {
                    id: TaskId(row.get(0)?),
                    submitted: Timestamp(row.get(1)?),
                    attempt: row.get(2)?,
                    priority: row.get(3)?,
                    due: row.get::<_, Option<i64>>(4)?.map(Timestamp),
                    payload: Payload::from_stored(row.get::<_, String>(5)?),
                })
            })
            .map_err(&say)?;
        rows.collect::<Result<_, _>>().map_err(&say)
    }

    pub(super) fn set_paused(
        &mut self,
        queue: &QueueName,
        paused: bool,
    ) -> Result<(), TransportError> {
        /// `?1` queue, `?2` whether.
        const PAUSE: &str = "
INSERT INTO queues (queue, paused) VALUES (?1, ?2)
ON CONFLICT (queue) DO UPDATE SET paused = excluded.paused";
        let say = self.say();
        let change = self.write()?;
        change.execute(PAUSE, params![queue.as_str(), paused]).map_err(&say)?;
        change.commit().map_err(&say)?;
        self.wake.touch([queue]);
        Ok(())
    }

    pub(super) fn paused_queues(&mut self) -> Result<BTreeSet<QueueName>, TransportError> {
        const PAUSED: &str = "SELECT queue FROM queues WHERE paused";
        let names: Vec<String> = self
            .db
            .prepare_cached(PAUSED)
            .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
            .map_err(self.say())?;
        Ok(names.iter().filter_map(|name| QueueName::parse(name).ok()).collect())
    }

    pub(super) fn time_to_due(
        &mut self,
        queue: &QueueName,
    ) -> Result<Option<Duration>, TransportError> {
        /// `?1` queue.
        const NEXT: &str = "
SELECT min(due) FROM tasks WHERE queue = ?1 AND claim IS NULL AND due IS NOT NULL";
        let due: Option<i64> = self
            .db
            .prepare_cached(NEXT)
            .and_then(|mut statement| statement.query_row([queue.as_str()], |row| row.get(0)))
            .map_err(self.say())?;
        let wait =
            |due: i64| u64::try_from(due.saturating_sub(Timestamp::now().0)).unwrap_or_default();
        Ok(due.map(|due| Duration::from_micros(wait(due))))
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
}
