//! What SQLite's result codes mean to a person, and what can be done.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use crate::{Kind, TransportError};

/// An error that names the file and the reason.
pub(super) fn text(path: &Path, reason: &str) -> TransportError {
    TransportError::new(
        Kind::Refused,
        format!("Failed to use the queue file:\n    {}\nReason:\n    {reason}", path.display()),
    )
}

const DISK_FULL: (&str, Option<&str>) = ("the disk is full", Some("free some space on its disk"));

/// Whether the file system takes not even another page or two.
fn has_no_room(path: &Path) -> bool {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rustix::fs::statvfs(dir).is_ok_and(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) < 128 * 1024)
}

pub(super) fn say(path: &Path, error: Error) -> TransportError {
    let (reason, hint) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ("another process keeps it locked", None)
        }
        Some(ErrorCode::DiskFull) => DISK_FULL,
        // Where a file cannot grow under its memory map, SQLite knows only that writing failed.
        Some(ErrorCode::SystemIoFailure) if has_no_room(path) => DISK_FULL,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
            "it is not writable for this user",
            Some("check who owns the file and its directory: both must be writable"),
        ),
        Some(ErrorCode::CannotOpen) => (
            "it cannot be opened",
            Some("check that its directory is writable and that it is not a directory itself"),
        ),
        Some(ErrorCode::NotADatabase) => ("it is not a SQLite database", None),
        Some(ErrorCode::DatabaseCorrupt) => (
            "it is damaged",
            Some("stop all hosts, then recover it: sqlite3 OLD .recover | sqlite3 NEW"),
        ),
        _ => return text(path, &error.to_string()).with_source(error),
    };
    let error = text(path, reason).with_source(error);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}
