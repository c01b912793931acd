//! Tasks and dead letters as messages: bodies and properties as the original's client library
//! writes them, ids and dates where it does not look.

use amqprs::{BasicProperties, FieldTable, FieldValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{DeadLetter, Death, LetterId, Payload, QueueName, TaskId, Timestamp};

/// The queue of queue names.
pub(super) const QUEUES: &str = "rex.queues";
/// The exchange that spreads the word of new tasks.
pub(super) const WAKE: &str = "rex.wake";

/// The queue that hosts consume while they hold tasks of `queue`.
pub(super) fn busy(queue: &QueueName) -> String {
    format!("rex.busy.{queue}")
}

/// The queue of dead letters of `queue`.
pub(super) fn dead(queue: &QueueName) -> String {
    format!("rex.dead.{queue}")
}

/// A task as it came.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) id: TaskId,
    pub(super) payload: Payload,
    pub(super) history: Value,
}

impl Message {
    /// What is no UTF-8 becomes a dead letter that shows it.
    pub(super) fn read(ids: &mut Ids, properties: &BasicProperties, body: &[u8]) -> Message {
        let id = properties.message_id().and_then(|id| id.parse().ok()).map(TaskId);
        Message {
            id: id.unwrap_or_else(|| ids.next()),
            payload: Payload::from_stored(String::from_utf8_lossy(body).into_owned()),
            history: history(properties).unwrap_or_default(),
        }
    }

    pub(super) fn submitted(&self) -> Timestamp {
        Timestamp(self.id.0 >> BITS)
    }
}

/// The properties of a task: kombu's own for a text, and our id.
pub(super) fn properties(id: TaskId) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("text/plain")
        .with_content_encoding("utf-8")
        .with_delivery_mode(2)
        .with_priority(0)
        .with_message_id(&id.0.to_string())
        .finish()
}

/// The header that says what became of earlier attempts, as JSON.
const HISTORY: &str = "rex-history";

fn history(properties: &BasicProperties) -> Option<Value> {
    match properties.headers()?.get(&HISTORY.try_into().ok()?)? {
        FieldValue::S(text) => serde_json::from_str(text.as_ref()).ok(),
        _ => None,
    }
}

/// The properties of a task that was tried before.
pub(super) fn properties_with(id: TaskId, history: &Value) -> BasicProperties {
    let mut properties = properties(id);
    let (name, text) = (HISTORY.try_into(), history.to_string().try_into());
    if let (false, Ok(name), Ok(text)) = (history.is_null(), name, text) {
        let mut headers = FieldTable::new();
        headers.insert(name, FieldValue::S(text));
        properties.with_headers(headers);
    }
    properties
}

/// A letter is one line of JSON and, behind it, the payload as it was.
#[derive(Serialize, Deserialize)]
struct Head {
    letter: i64,
    id: i64,
    died: i64,
    attempts: u32,
    death: Death,
}

pub(super) fn letter(letter: LetterId, message: &Message, death: &Death) -> Vec<u8> {
    let head = Head {
        letter: letter.0,
        id: message.id.0,
        died: Timestamp::now().0,
        attempts: 1,
        death: death.clone(),
    };
    let head = serde_json::to_string(&head).unwrap_or_default();
    format!("{head}\n{}", message.payload).into_bytes()
}

pub(super) fn read_letter(queue: &QueueName, body: &[u8]) -> Option<DeadLetter> {
    let (head, payload) = std::str::from_utf8(body).ok()?.split_once('\n')?;
    let Head { letter, id, died, attempts, death } = serde_json::from_str(head).ok()?;
    Some(DeadLetter {
        letter: LetterId(letter),
        id: TaskId(id),
        queue: queue.clone(),
        payload: Payload::from_stored(payload),
        submitted: Timestamp(id >> BITS),
        died: Timestamp(died),
        attempts,
        death,
    })
}

/// Ids that ascend: microseconds, and bits by which producers differ.
pub(super) struct Ids {
    producer: i64,
    last: i64,
}

const BITS: u32 = 11;

impl Ids {
    pub(super) fn new() -> Ids {
        let mut bytes = [0; 2];
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        let random = filled.map_or(std::process::id(), |_| u32::from(u16::from_ne_bytes(bytes)));
        Ids { producer: i64::from(random) & ((1 << BITS) - 1), last: 0 }
    }

    pub(super) fn next(&mut self) -> TaskId {
        self.last = Timestamp::now().0.max(self.last + 1);
        TaskId(self.last << BITS | self.producer)
    }
}
