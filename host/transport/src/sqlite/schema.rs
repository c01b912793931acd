//! The tables, made by numbered steps; safe when many processes open a new file at once.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::failure;
use crate::TransportError;

/// Marks the file as ours (`rexq`), so that a database of something else is not written to.
const APPLICATION: i32 = 0x7265_7871;

/// One entry a version; never changed once released, only added to.
const STEPS: [&str; 2] = [
    // 1: tasks with their attributes and their claim, claims with their owner, dead letters.
    "
CREATE TABLE owners (
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE claims (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL REFERENCES owners (no),
    queue TEXT NOT NULL
) STRICT;
CREATE INDEX claims_of_queue ON claims (queue);
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    payload TEXT NOT NULL,
    submitted INTEGER NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 1,
    due INTEGER,
    key TEXT,
    history TEXT,
    claim INTEGER REFERENCES claims (id)
) STRICT;
CREATE INDEX tasks_waiting ON tasks (queue, priority, id) WHERE claim IS NULL AND due IS NULL;
CREATE INDEX tasks_delayed ON tasks (queue, due) WHERE claim IS NULL AND due IS NOT NULL;
CREATE INDEX tasks_claimed ON tasks (claim, priority, id) WHERE claim IS NOT NULL;
CREATE UNIQUE INDEX tasks_unique ON tasks (queue, key) WHERE key IS NOT NULL;
CREATE TABLE queues (
    queue TEXT PRIMARY KEY,
    paused INTEGER NOT NULL
) STRICT;
CREATE TABLE dead (
    letter INTEGER PRIMARY KEY AUTOINCREMENT,
    id INTEGER NOT NULL,
    queue TEXT NOT NULL,
    payload TEXT NOT NULL,
    submitted INTEGER NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    died INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    details TEXT NOT NULL
) STRICT;
CREATE INDEX dead_of_queue ON dead (queue, letter);
CREATE INDEX dead_by_age ON dead (died);",
    // 2: the last occasion of each schedule.
    "
CREATE TABLE schedules (
    schedule TEXT PRIMARY KEY,
    occasion INTEGER NOT NULL
) STRICT;",
];

const VERSION: &str = "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)
FROM pragma_user_version, pragma_application_id";

/// Sets the connection's modes and brings the file to the newest version.
pub(super) fn prepare(
    db: &mut Connection,
    path: &Path,
    timeout: Duration,
) -> Result<(), TransportError> {
    let say = |error| failure::say(path, error);
    refuse_strangers(db, path)?;
    let deadline = Instant::now() + timeout;
    // Changing to WAL does not wait for a lock as other statements do.
    while let Err(error) = db.pragma_update(None, "journal_mode", "WAL") {
        let busy = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        if !busy || Instant::now() > deadline {
            return Err(say(error));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    db.pragma_update(None, "synchronous", "FULL").map_err(say)?;
    if refuse_strangers(db, path)? == STEPS.len() {
        return Ok(());
    }
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(say)?;
    // Another process may have been faster.
    let version = refuse_strangers(&change, path)?;
    for step in &STEPS[version..] {
        change.execute_batch(step).map_err(say)?;
    }
    change.pragma_update(None, "user_version", STEPS.len()).map_err(say)?;
    change.pragma_update(None, "application_id", APPLICATION).map_err(say)?;
    change.commit().map_err(say)
}

/// The file's version; an error if it is not ours or from a later release.
fn refuse_strangers(db: &Connection, path: &Path) -> Result<usize, TransportError> {
    let (version, application, tables): (usize, i32, usize) = db
        .query_row(VERSION, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .map_err(|error| failure::say(path, error))?;
    if application != APPLICATION && (version, application, tables) != (0, 0, 0) {
        return Err(failure::text(path, "it is a SQLite database of something else"));
    }
    if version > STEPS.len() {
        let reason = format!("its version is {version}, this program knows up to {}", STEPS.len());
        return Err(failure::text(path, &reason).with_hint("use the newer rex-host that wrote it"));
    }
    Ok(version)
}
