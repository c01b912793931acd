//! Tasks and dead letters as messages: bodies and properties as the original's client library
//! writes them, ids and dates where it does not look.

use amqprs::channel::QueueDeclareArguments;
use amqprs::{BasicProperties, FieldTable, FieldValue};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::random::random;
use crate::{DeadLetter, Death, LetterId, Payload, QueueName, TaskId, Timestamp};

/// The queue of queue names.
pub(super) const QUEUES: &str = "rex.queues";
/// How a queue is declared, ours or one of the original's. Ours are classic whatever the virtual host's
/// default is: each look at a quorum queue counts against its limit of deliveries.
pub(super) fn declaration(queue: &str) -> QueueDeclareArguments {
    let mut declaration = QueueDeclareArguments::durable_client_named(queue);
    if queue.starts_with("rex.")
        && let (Ok(kind), Ok(classic)) = ("x-queue-type".try_into(), "classic".try_into())
    {
        let mut arguments = FieldTable::new();
        arguments.insert(kind, FieldValue::S(classic));
        declaration.arguments(arguments);
    }
    declaration
}

/// The properties of a message that was given before, by a queue that counts that, as of one that was
/// not.
pub(super) fn uncounted(properties: &BasicProperties) -> Option<BasicProperties> {
    let mut headers = properties.headers()?.clone();
    headers.remove(&"x-delivery-count".try_into().ok()?)?;
    let mut properties = properties.clone();
    properties.with_headers(headers);
    Some(properties)
}

/// The exchange that spreads the word of new tasks.
pub(super) const WAKE: &str = "rex.wake";

/// A message of [`QUEUES`]: a queue, or one of the steps of its delays.
pub(super) fn entry(queue: &QueueName, step: Option<u32>) -> Vec<u8> {
    let text = match step {
        Some(step) => format!("{queue} {step}"),
        None => queue.to_string(),
    };
    text.into_bytes()
}

pub(super) fn read_entry(body: &[u8]) -> Option<(QueueName, Option<u32>)> {
    let text = std::str::from_utf8(body).ok()?;
    let (name, step) = match text.split_once(' ') {
        Some((name, step)) => (name, Some(step.parse().ok()?)),
        None => (text, None),
    };
    let queue = QueueName::parse(name).ok().filter(|queue| too_long(queue).is_none())?;
    Some((queue, step))
}

/// The queue that hosts consume while they hold tasks of `queue`.
pub(super) fn busy(queue: &QueueName) -> String {
    format!("rex.busy.{queue}")
}

/// The queue of dead letters of `queue`.
pub(super) fn dead(queue: &QueueName) -> String {
    format!("rex.dead.{queue}")
}

/// The queue of tasks of `queue` that are due and go before the others.
pub(super) fn due(queue: &QueueName) -> String {
    format!("rex.due.{queue}")
}

/// The queue in which tasks of `queue` stay for 2 to the power of `step` seconds.
pub(super) fn delay(queue: &QueueName, step: u32) -> String {
    format!("rex.delay.{queue}.{step}")
}

/// What tells a message from all others: each is published with an id of its own, one for the next
/// attempt or from the dead letters as well, so that a task has a new one whenever it is put anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark(TaskId);

impl Mark {
    /// Of a message without an id, as of old producers, it is that which the task was given now.
    pub(super) fn of(properties: &BasicProperties, task: TaskId) -> Mark {
        Mark(id_of(properties).unwrap_or(task))
    }
}

fn id_of(properties: &BasicProperties) -> Option<TaskId> {
    properties.message_id().and_then(|id| id.parse().ok()).map(TaskId)
}

/// A task as it came.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) id: TaskId,
    /// The next attempt's number, from 1.
    pub(super) attempt: u32,
    pub(super) payload: Payload,
    pub(super) history: Value,
}

impl Message {
    /// What is no UTF-8 becomes a dead letter that shows it.
    pub(super) fn read(ids: &mut Ids, properties: &BasicProperties, body: &[u8]) -> Message {
        Message {
            id: id_of(properties).unwrap_or_else(|| ids.next()),
            attempt: 1,
            payload: Payload::from_stored_bytes(body),
            history: Value::Null,
        }
    }

    pub(super) fn submitted(&self) -> Timestamp {
        Timestamp(self.id.0 >> BITS)
    }
}

/// The longest name that is made of a queue's is a short string of the protocol.
const LONGEST_QUEUE: usize = 255 - "rex.reading.rex.dead.".len();

/// Why a queue cannot be in a broker.
pub(super) fn too_long(queue: &QueueName) -> Option<String> {
    let length = queue.as_str().len();
    (length > LONGEST_QUEUE).then(|| {
        format!("a queue's name may have {LONGEST_QUEUE} bytes, and one has {length}: {queue}")
    })
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

/// The properties of what is ours alone; the id is that of the message, and of no task.
pub(super) fn persistent(id: TaskId) -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2).with_message_id(&id.0.to_string()).finish()
}

/// A task that waits beside its queue.
pub(super) struct Aside {
    pub(super) message: Message,
    pub(super) due: Timestamp,
    /// When it leaves the queue in which it is.
    pub(super) until: Timestamp,
}

/// Before a payload that waits beside its queue: one line of JSON.
#[derive(Serialize, Deserialize)]
struct Label {
    id: i64,
    attempt: u32,
    due: i64,
    until: i64,
    #[serde(default)]
    history: Value,
}

impl Aside {
    pub(super) fn write(&self) -> Vec<u8> {
        let label = Label {
            id: self.message.id.0,
            attempt: self.message.attempt,
            due: self.due.0,
            until: self.until.0,
            history: self.message.history.clone(),
        };
        before(&label, &self.message.payload)
    }

    /// What no host has written is a task that is due.
    pub(super) fn read(ids: &mut Ids, properties: &BasicProperties, body: &[u8]) -> Aside {
        let read = || {
            let (label, payload): (Label, Payload) = behind(body)?;
            let message = Message {
                id: TaskId(label.id),
                attempt: label.attempt,
                payload,
                history: label.history,
            };
            Some(Aside { message, due: Timestamp(label.due), until: Timestamp(label.until) })
        };
        read().unwrap_or_else(|| Aside {
            message: Message::read(ids, properties, body),
            due: Timestamp(0),
            until: Timestamp(0),
        })
    }
}

/// One line of JSON and, behind it, a payload as it is.
fn before(line: &impl Serialize, payload: &Payload) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend_from_slice(payload.as_bytes());
    bytes
}

/// What [`before`] has written.
fn behind<T: DeserializeOwned>(body: &[u8]) -> Option<(T, Payload)> {
    let end = body.iter().position(|byte| *byte == b'\n')?;
    let line = serde_json::from_slice(&body[..end]).ok()?;
    Some((line, Payload::from_stored_bytes(&body[end + 1..])))
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
        attempts: message.attempt,
        death: death.clone(),
    };
    before(&head, &message.payload)
}

pub(super) fn read_letter(queue: &QueueName, body: &[u8]) -> Option<DeadLetter> {
    let (head, payload) = behind(body)?;
    let Head { letter, id, died, attempts, death } = head;
    Some(DeadLetter {
        letter: LetterId(letter),
        id: TaskId(id),
        queue: queue.clone(),
        payload,
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
        Ids { producer: random() & ((1 << BITS) - 1), last: 0 }
    }

    pub(super) fn next(&mut self) -> TaskId {
        self.last = Timestamp::now().0.max(self.last + 1);
        TaskId(self.last << BITS | self.producer)
    }
}
