//! Putting tasks in and looking at what is there: submit, count, list, purge.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redis::{Connection, RedisError, ScriptInvocation};

use super::scripts::call;
use super::{Redis, connect};
use crate::letters::Letters;
use crate::{
    ClaimedTask, DeadLetter, DeadQuery, Death, Due, LetterId, NewTask, Payload, QueueName,
    QueueStatus, Submitted, TaskId, Timestamp, TransportError, WaitingTask,
};

/// How many dead letters are read at once.
/// Dead letters that are read at once, however large they are.
const LETTERS: usize = 16;

impl Redis {
    pub(super) fn add(&mut self, tasks: &[NewTask]) -> Result<Vec<Submitted>, TransportError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        self.with_connection(|redis, connection| {
            let mut submit = call(&redis.scripts.submit, &redis.address);
            for task in tasks {
                add_to(&mut submit, task);
            }
            let ids: Vec<i64> = submit.invoke(connection)?;
            Ok(ids.into_iter().map(|id| Submitted { id: TaskId(id), existed: false }).collect())
        })
    }

    pub(super) fn count_waiting(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        self.with_connection(|redis, connection| Ok(redis.count(connection, queue)?.waiting))
    }

    /// Whether nothing waits, due or not.
    pub(super) fn is_surely_empty(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        let (list, due) = (self.list(queue), self.ours(&format!("due:{queue}")));
        // An empty list is no key.
        let there: u64 = self.with_connection(|_, connection| {
            redis::cmd("EXISTS").arg(list).arg(due).query(connection)
        })?;
        Ok(there == 0)
    }

    pub(super) fn has_nothing(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        let counts = self.with_connection(|redis, connection| redis.count(connection, queue))?;
        Ok((counts.waiting == 0 || counts.paused) && counts.in_flight == 0)
    }

    pub(super) fn time_to_next(
        &mut self,
        queue: &QueueName,
    ) -> Result<Option<Duration>, TransportError> {
        let counts = self.with_connection(|redis, connection| redis.count(connection, queue))?;
        Ok(counts.next)
    }

    fn count(&self, connection: &mut Connection, queue: &QueueName) -> Result<Counts, RedisError> {
        let mut count = call(&self.scripts.count, &self.address);
        let [waiting, delayed, in_flight, paused, next]: [i64; 5] =
            count.arg(queue.as_str()).invoke(connection)?;
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok(Counts {
            waiting: number(waiting),
            delayed: number(delayed),
            in_flight: number(in_flight),
            paused: paused != 0,
            next: u64::try_from(next).ok().map(Duration::from_micros),
        })
    }

    pub(super) fn set_paused(
        &mut self,
        queue: &QueueName,
        paused: bool,
    ) -> Result<(), TransportError> {
        self.with_connection(|redis, connection| {
            let mut pause = call(&redis.scripts.pause, &redis.address);
            pause.arg(queue.as_str()).arg(i32::from(paused)).invoke(connection)
        })
    }

    pub(super) fn paused_queues(&mut self) -> Result<BTreeSet<QueueName>, TransportError> {
        let key = self.ours("paused");
        let names: Vec<String> = self
            .with_connection(|_, connection| redis::cmd("SMEMBERS").arg(key).query(connection))?;
        Ok(names.iter().filter_map(|name| QueueName::parse(name).ok()).collect())
    }

    pub(super) fn list_queues(&mut self) -> Result<Vec<QueueStatus>, TransportError> {
        let (deaths, paused) = (self.ours("deaths"), self.ours("paused"));
        let in_flight = self.ours("inflight");
        self.with_connection(|redis, connection| {
            let dead: BTreeMap<String, i64> =
                redis::cmd("HGETALL").arg(deaths).query(connection)?;
            let prefix = format!("{}_", redis.address.prefix);
            // Of any type: what is no list is refused below.
            let mut names = redis.names(connection, &prefix, None)?;
            names.extend(redis.names(connection, &redis.ours("due:"), Some("zset"))?);
            names.extend(redis::cmd("SMEMBERS").arg(paused).query::<Vec<String>>(connection)?);
            names.extend(redis::cmd("HKEYS").arg(in_flight).query::<Vec<String>>(connection)?);
            names.extend(dead.keys().cloned());
            let mut statuses = Vec::new();
            for queue in names.iter().filter_map(|name| QueueName::parse(name).ok()) {
                let seen = redis
                    .count(connection, &queue)
                    .and_then(|counts| Ok((counts, redis.read_waiting(connection, &queue, 1)?)));
                let (counts, oldest) = match seen {
                    Err(error) if connect::is_of_a_key(&error) => {
                        redis.left_out.insert(queue, connect::worded(&error));
                        continue;
                    }
                    seen => seen?,
                };
                let status = QueueStatus {
                    waiting: counts.waiting,
                    delayed: counts.delayed,
                    in_flight: counts.in_flight,
                    dead: dead.get(queue.as_str()).map_or(0, |n| u64::try_from(*n).unwrap_or(0)),
                    // Delayed ones follow those that wait.
                    oldest: oldest
                        .first()
                        .filter(|_| counts.waiting > 0)
                        .map(|task| task.submitted),
                    paused: counts.paused,
                    queue,
                };
                let tasks = status.waiting + status.delayed + status.in_flight + status.dead;
                if tasks > 0 || status.paused {
                    statuses.push(status);
                }
            }
            Ok(statuses)
        })
    }

    /// What follows `head` in the names of keys, of a type or of any.
    fn names(
        &self,
        connection: &mut Connection,
        head: &str,
        kind: Option<&str>,
    ) -> Result<BTreeSet<String>, RedisError> {
        let mut names = BTreeSet::new();
        let mut cursor = 0u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{head}*")).arg("COUNT").arg(1000);
            if let Some(kind) = kind {
                scan.arg("TYPE").arg(kind);
            }
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query(connection)?;
            let keys = keys.into_iter().filter_map(|key| String::from_utf8(key).ok());
            names.extend(keys.filter_map(|key| key.strip_prefix(head).map(str::to_owned)));
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
        Ok(waiting(&rows))
    }

    pub(super) fn delete_waiting(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        self.with_connection(|redis, connection| {
            let mut purge = call(&redis.scripts.purge, &redis.address);
            purge.arg(queue.as_str()).invoke(connection)
        })
    }

    pub(super) fn list_dead(
        &mut self,
        query: &DeadQuery,
    ) -> Result<Vec<DeadLetter>, TransportError> {
        let mut letters = Letters::of(query);
        self.read_dead(query.after, |letter| {
            letters.offer(letter);
            !letters.is_full()
        })?;
        Ok(letters.found())
    }

    /// Reads dead letters in the order of death for as long as it is told to go on.
    fn read_dead(
        &mut self,
        after: Option<LetterId>,
        mut more: impl FnMut(DeadLetter) -> bool,
    ) -> Result<(), TransportError> {
        let key = self.ours("dead");
        self.with_connection(|_, connection| {
            let mut numbers: Vec<i64> = redis::cmd("HKEYS").arg(&key).query(connection)?;
            numbers.retain(|number| after.is_none_or(|after| *number > after.0));
            numbers.sort_unstable();
            for page in numbers.chunks(LETTERS) {
                let rows: Vec<Option<Vec<u8>>> =
                    redis::cmd("HMGET").arg(&key).arg(page).query(connection)?;
                for (number, row) in page.iter().zip(rows) {
                    if let Some(letter) = row.and_then(|row| letter(LetterId(*number), &row))
                        && !more(letter)
                    {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    pub(super) fn put_back_dead(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        let key = self.ours("dead");
        let numbers: Vec<i64> = letters.iter().map(|letter| letter.0).collect();
        if numbers.is_empty() {
            return Ok(0);
        }
        self.with_connection(|redis, connection| {
            let rows: Vec<Option<Vec<u8>>> =
                redis::cmd("HMGET").arg(&key).arg(&numbers).query(connection)?;
            let mut revive = call(&redis.scripts.revive, &redis.address);
            for (number, row) in numbers.iter().zip(rows) {
                let letter = row.and_then(|row| letter(LetterId(*number), &row));
                let history = letter.map(|letter| letter.death.details["attempts"].clone());
                let history = history.filter(|history| !history.is_null());
                revive.arg(*number);
                revive.arg(history.map(|history| history.to_string()).unwrap_or_default());
            }
            revive.invoke(connection)
        })
    }

    pub(super) fn delete_dead(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        if letters.is_empty() {
            return Ok(0);
        }
        self.with_connection(|redis, connection| {
            let mut discard = call(&redis.scripts.discard, &redis.address);
            for letter in letters {
                discard.arg(letter.0);
            }
            discard.invoke(connection)
        })
    }

    pub(super) fn delete_old_dead(&mut self, age: Duration) -> Result<u64, TransportError> {
        let time: Vec<i64> =
            self.with_connection(|_, connection| redis::cmd("TIME").query(connection))?;
        let now = time.first().unwrap_or(&0) * 1_000_000 + time.get(1).unwrap_or(&0);
        let before = now.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        let mut old = Vec::new();
        self.read_dead(None, |letter| {
            let is_old = letter.died.0 < before;
            old.extend(is_old.then_some(letter.letter));
            is_old
        })?;
        self.delete_dead(&old)
    }

    pub(super) fn list(&self, queue: &QueueName) -> String {
        format!("{}_{queue}", self.address.prefix)
    }

    pub(super) fn ours(&self, name: &str) -> String {
        format!("{}:rex:{name}", self.address.prefix)
    }
}

/// Wakes who watches a queue.
pub(super) fn tell(
    connection: &mut Connection,
    channel: &str,
    queue: &QueueName,
) -> Result<(), RedisError> {
    redis::cmd("PUBLISH").arg(channel).arg(queue.as_str()).query(connection)
}

/// What is known of a queue at one moment.
struct Counts {
    waiting: u64,
    delayed: u64,
    in_flight: u64,
    paused: bool,
    next: Option<Duration>,
}

/// A task as the scripts take it: queue, payload, when.
pub(super) fn add_to(script: &mut ScriptInvocation<'_>, task: &NewTask) {
    let when = match task.attributes.due {
        Due::Now => String::new(),
        Due::In(wait) => format!("+{}", wait.as_micros()),
        Due::At(time) => time.0.to_string(),
    };
    script.arg(task.queue.as_str()).arg(task.payload.as_str()).arg(when);
}

/// Triples of "ID SUBMITTED ATTEMPT ...", payload and history.
pub(super) fn claimed(rows: &[Vec<u8>]) -> Vec<ClaimedTask> {
    let read = |row: &[Vec<u8>]| {
        let (id, _, attempt) = head(row.first()?)?;
        let history = serde_json::from_slice(row.get(2)?).unwrap_or_default();
        Some(ClaimedTask { id, attempt, payload: payload(row.get(1)?), history })
    };
    rows.chunks(3).filter_map(read).collect()
}

/// Triples of "ID SUBMITTED ATTEMPT ...", payload and time.
fn waiting(rows: &[Vec<u8>]) -> Vec<WaitingTask> {
    let read = |row: &[Vec<u8>]| {
        let (id, submitted, attempt) = head(row.first()?)?;
        let due = std::str::from_utf8(row.get(2)?).ok().and_then(|due| due.parse().ok());
        let (payload, due) = (payload(row.get(1)?), due.map(Timestamp));
        Some(WaitingTask { id, submitted, attempt, priority: 0, due, payload })
    };
    rows.chunks(3).filter_map(read).collect()
}

fn head(text: &[u8]) -> Option<(TaskId, Timestamp, u32)> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let id = TaskId(words.next()?.parse().ok()?);
    Some((id, Timestamp(words.next()?.parse().ok()?), words.next()?.parse().ok()?))
}

/// Whatever somebody pushed: what is no UTF-8 becomes a dead letter that shows it.
pub(super) fn payload(bytes: &[u8]) -> Payload {
    Payload::from_stored_bytes(bytes)
}

/// "ID QUEUE SUBMITTED ATTEMPTS DIED LENGTH DEATH" and the payload behind the death.
fn letter(number: LetterId, row: &[u8]) -> Option<DeadLetter> {
    let mut words = row.splitn(7, |byte| *byte == b' ');
    let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let (id, queue, submitted) = (word()?, word()?, word()?);
    let (attempts, died, length) = (word()?, word()?, word()?);
    let rest = words.next()?;
    let (death, text) = rest.split_at_checked(length.parse().ok()?)?;
    let death: Death = serde_json::from_slice(death).ok()?;
    Some(DeadLetter {
        letter: number,
        id: TaskId(id.parse().ok()?),
        queue: QueueName::parse(queue).ok()?,
        payload: payload(text),
        submitted: Timestamp(submitted.parse().ok()?),
        died: Timestamp(died.parse().ok()?),
        attempts: attempts.parse().ok()?,
        death,
    })
}
