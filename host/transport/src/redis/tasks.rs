//! Putting tasks in and looking at what is there: submit, count, list, purge.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Connection, RedisError};

use super::Redis;
use super::scripts::call;
use crate::{
    DeadLetter, Death, NewTask, Payload, QueueName, QueueStatus, TaskId, Timestamp, TransportError,
    WaitingTask,
};

/// How many payloads a list command asks for at once.
const PAGE: i64 = 10_000;

impl Redis {
    pub(super) fn add(&mut self, tasks: &[NewTask]) -> Result<Vec<TaskId>, TransportError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        self.with_connection(|redis, connection| {
            let mut submit = call(&redis.scripts.submit, &redis.address);
            for task in tasks {
                submit.arg(task.queue.as_str()).arg(task.payload.as_str());
            }
            let ids: Vec<i64> = submit.invoke(connection)?;
            Ok(ids.into_iter().map(TaskId).collect())
        })
    }

    pub(super) fn count_waiting(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        let list = self.list(queue);
        self.with_connection(|_, connection| redis::cmd("LLEN").arg(list).query(connection))
    }

    pub(super) fn has_nothing(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        let (list, inflight) = (self.list(queue), self.ours("inflight"));
        self.with_connection(|_, connection| {
            // In this order, in one step: a task goes from the list into flight.
            let (waiting, flying): (u64, Option<i64>) = redis::pipe()
                .atomic()
                .cmd("LLEN")
                .arg(list)
                .cmd("HGET")
                .arg(inflight)
                .arg(queue.as_str())
                .query(connection)?;
            Ok(waiting == 0 && flying.is_none_or(|count| count <= 0))
        })
    }

    pub(super) fn list_queues(&mut self) -> Result<Vec<QueueStatus>, TransportError> {
        let (inflight, deaths) = (self.ours("inflight"), self.ours("deaths"));
        self.with_connection(|redis, connection| {
            let hash = |name: &str, connection: &mut Connection| {
                redis::cmd("HGETALL").arg(name).query::<BTreeMap<String, i64>>(connection)
            };
            let in_flight = hash(&inflight, connection)?;
            let dead = hash(&deaths, connection)?;
            let mut names = redis.names_of_lists(connection)?;
            names.extend(in_flight.keys().chain(dead.keys()).cloned());
            let mut statuses = Vec::new();
            for queue in names.iter().filter_map(|name| QueueName::parse(name).ok()) {
                let waiting: u64 = redis::cmd("LLEN").arg(redis.list(&queue)).query(connection)?;
                let oldest = redis.read_waiting(connection, &queue, 1)?;
                let count = |counts: &BTreeMap<String, i64>| {
                    counts.get(queue.as_str()).map_or(0, |n| u64::try_from(*n).unwrap_or(0))
                };
                let status = QueueStatus {
                    waiting,
                    in_flight: count(&in_flight),
                    dead: count(&dead),
                    oldest: oldest.first().map(|task| task.submitted),
                    queue,
                };
                if status.waiting + status.in_flight + status.dead > 0 {
                    statuses.push(status);
                }
            }
            Ok(statuses)
        })
    }

    /// The queues whose list exists, found by its key.
    fn names_of_lists(&self, connection: &mut Connection) -> Result<BTreeSet<String>, RedisError> {
        let head = format!("{}_", self.address.prefix);
        let mut names = BTreeSet::new();
        let mut cursor = 0u64;
        loop {
            let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("{head}*"))
                .arg("COUNT")
                .arg(1000)
                .arg("TYPE")
                .arg("list")
                .query(connection)?;
            let keys = keys.into_iter().filter_map(|key| String::from_utf8(key).ok());
            names.extend(keys.filter_map(|key| key.strip_prefix(&head).map(str::to_owned)));
            if next == 0 {
                return Ok(names);
            }
            cursor = next;
        }
    }

    pub(super) fn list_waiting(
        &mut self,
        queue: &QueueName,
        limit: u64,
    ) -> Result<Vec<WaitingTask>, TransportError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).min(1 << 40);
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.with_connection(|redis, connection| redis.read_waiting(connection, queue, limit))
    }

    fn read_waiting(
        &self,
        connection: &mut Connection,
        queue: &QueueName,
        limit: i64,
    ) -> Result<Vec<WaitingTask>, RedisError> {
        let mut peek = call(&self.scripts.peek, &self.address);
        let rows: Vec<Vec<u8>> = peek.arg(queue.as_str()).arg(limit).invoke(connection)?;
        Ok(tasks(&rows))
    }

    pub(super) fn delete_waiting(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        self.with_connection(|redis, connection| {
            let mut purge = call(&redis.scripts.purge, &redis.address);
            purge.arg(queue.as_str()).invoke(connection)
        })
    }

    pub(super) fn list_dead(
        &mut self,
        queue: Option<&QueueName>,
        limit: Option<u64>,
    ) -> Result<Vec<DeadLetter>, TransportError> {
        let key = self.ours("dead");
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        self.with_connection(|_, connection| {
            let mut numbers: Vec<i64> = redis::cmd("HKEYS").arg(&key).query(connection)?;
            numbers.sort_unstable();
            let mut letters = Vec::new();
            for page in numbers.chunks(usize::try_from(PAGE).unwrap_or(1)) {
                let rows: Vec<Option<Vec<u8>>> =
                    redis::cmd("HMGET").arg(&key).arg(page).query(connection)?;
                let page = rows.into_iter().flatten().filter_map(|row| letter(&row));
                letters.extend(page.filter(|letter| queue.is_none_or(|q| letter.queue == *q)));
                if letters.len() >= limit {
                    break;
                }
            }
            letters.truncate(limit);
            Ok(letters)
        })
    }

    pub(super) fn list(&self, queue: &QueueName) -> String {
        format!("{}_{queue}", self.address.prefix)
    }

    fn ours(&self, name: &str) -> String {
        format!("{}:rex:{name}", self.address.prefix)
    }
}

/// Pairs of "ID SUBMITTED ATTEMPT DIGEST" and payload.
pub(super) fn tasks(rows: &[Vec<u8>]) -> Vec<WaitingTask> {
    let read = |pair: &[Vec<u8>]| {
        let meta = std::str::from_utf8(pair.first()?).ok()?;
        let mut words = meta.split(' ');
        Some(WaitingTask {
            id: TaskId(words.next()?.parse().ok()?),
            submitted: Timestamp(words.next()?.parse().ok()?),
            attempt: words.next()?.parse().ok()?,
            payload: payload(pair.get(1)?),
        })
    };
    rows.chunks(2).filter_map(read).collect()
}

/// Whatever somebody pushed: what is no UTF-8 becomes a dead letter that shows it.
pub(super) fn payload(bytes: &[u8]) -> Payload {
    Payload::from_stored(String::from_utf8_lossy(bytes).into_owned())
}

/// "ID QUEUE SUBMITTED ATTEMPTS DIED LENGTH DEATH" and the payload behind the death.
fn letter(row: &[u8]) -> Option<DeadLetter> {
    let mut words = row.splitn(7, |byte| *byte == b' ');
    let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let (id, queue, submitted) = (word()?, word()?, word()?);
    let (attempts, died, length) = (word()?, word()?, word()?);
    let rest = words.next()?;
    let (death, text) = rest.split_at_checked(length.parse().ok()?)?;
    let death: Death = serde_json::from_slice(death).ok()?;
    Some(DeadLetter {
        id: TaskId(id.parse().ok()?),
        queue: QueueName::parse(queue).ok()?,
        payload: payload(text),
        submitted: Timestamp(submitted.parse().ok()?),
        died: Timestamp(died.parse().ok()?),
        attempts: attempts.parse().ok()?,
        death,
    })
}
