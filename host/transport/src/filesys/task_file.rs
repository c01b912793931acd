//! What a task file says: the payload, in the original's form, what was tried of it before, and by the
//! file's time the task's id.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Place, disk, safely};
use crate::json;
use crate::task::micros;
use crate::{Payload, QueueName, TaskId, Timestamp, TransportError};

/// What a task file has beside the payload when the task was tried before.
#[derive(Serialize, Deserialize)]
pub(super) struct Tried {
    pub(super) attempt: u32,
    pub(super) history: Value,
}

/// What else may be there.
#[derive(Deserialize)]
struct Others {
    rex: Option<Tried>,
}

/// A task file of a task that nobody has tried.
pub(super) fn untried(payload: &Payload) -> Vec<u8> {
    format!("{{\"payload\": {payload}}}").into_bytes()
}

/// A task file of a task that was tried before.
pub(super) fn tried(payload: &Payload, tried: &Tried) -> Vec<u8> {
    let tried = serde_json::to_string(tried).unwrap_or_default();
    match payload.no_text() {
        // No task before, and none when it comes back.
        Some(file) => file.to_vec(),
        None => format!("{{\"payload\": {payload}, \"rex\": {tried}}}").into_bytes(),
    }
}

/// What is in a task file.
pub(super) struct Content {
    pub(super) payload: Payload,
    pub(super) attempt: u32,
    pub(super) history: Value,
}

/// Reads a task file. A payload of `null`, which the original takes for an empty queue, is `{}`; what
/// is no such file becomes a dead letter that shows it.
pub(super) fn content(path: &Path) -> Result<Content, TransportError> {
    let bytes = safely::read(path).map_err(disk::failed(path))?;
    let read = std::str::from_utf8(&bytes).ok().and_then(|text| {
        let (payload, others) = json::first_member(text, "payload")?;
        let Others { rex } = serde_json::from_str(&others).ok()?;
        Some((payload, rex))
    });
    let Some((payload, rex)) = read else {
        let payload = Payload::no_task(&bytes);
        return Ok(Content { payload, attempt: 1, history: Value::Null });
    };
    let payload = match payload {
        "null" => Payload::empty(),
        text => Payload::from_stored(text),
    };
    let (attempt, history) = rex.map_or((1, Value::Null), |tried| (tried.attempt, tried.history));
    Ok(Content { payload, attempt, history })
}

pub(super) fn submitted(id: TaskId) -> Timestamp {
    Timestamp(id.0 / 1000)
}

/// What the time of a file says.
pub(super) struct Dated {
    pub(super) id: TaskId,
    /// The time was set by us: by chance, one in a thousand of others looks so, too.
    pub(super) is_ours: bool,
}

/// What is dated later than nanoseconds can tell, in the year 2262, is dated then; there is room for the
/// ids of a billion such.
const LATEST: i64 = i64::MAX - (1 << 40);

/// Ids are nanoseconds, their last ten bits the queue's, so that queues do not give the same.
pub(super) fn id_of(path: &Path, name: &QueueName) -> Result<Option<Dated>, TransportError> {
    match fs::metadata(path) {
        Ok(found) => {
            let nanos = found.mtime().checked_mul(1_000_000_000);
            let nanos = nanos.and_then(|nanos| nanos.checked_add(found.mtime_nsec()));
            let nanos = nanos.unwrap_or(if found.mtime() < 0 { 0 } else { LATEST });
            let id = TaskId(nanos & !1023 | bits(name));
            Ok(Some(Dated { id, is_ours: id.0 == nanos }))
        }
        Err(error) if safely::is_missing(&error) => Ok(None),
        Err(error) => Err(disk::failed(path)(error)),
    }
}

/// Gives a task its id for the next claim. Of somebody else's file it is what its time says.
pub(super) fn set_id(place: &Place, path: &Path, id: TaskId) -> Result<(), TransportError> {
    match safely::open_to_write(place, path).and_then(|file| file.set_modified(time(id))) {
        Err(error) if error.kind() != ErrorKind::PermissionDenied => Err(disk::failed(path)(error)),
        _ => Ok(()),
    }
}

/// The first id of this queue after a moment.
pub(super) fn next_id(after: i64, name: &QueueName) -> TaskId {
    TaskId((after & !1023).saturating_add(1024) & !1023 | bits(name))
}

fn bits(name: &QueueName) -> i64 {
    name.as_str().bytes().fold(7, |sum: i64, byte| (sum * 31 + i64::from(byte)) & 1023)
}

pub(super) fn time(id: TaskId) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(id.0.unsigned_abs())
}

pub(super) fn now_nanos() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// So long after a moment in nanoseconds, in microseconds.
pub(super) fn after(nanos: i64, wait: Duration) -> i64 {
    (nanos / 1000).saturating_add(micros(wait))
}
