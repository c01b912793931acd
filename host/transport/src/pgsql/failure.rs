//! What PostgreSQL's errors mean to a host: is the server away, or does it refuse; and in which
//! words to say so.

use std::error::Error as _;

use postgres::Error;
use postgres::error::SqlState;

use rex_pg::POOLED;

use crate::{Kind, TransportError};

/// What a piece of work on a session ends with when it fails.
#[derive(Debug)]
pub(super) enum Trouble {
    Database(Error),
    Said(TransportError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Database(error)
    }
}

impl From<TransportError> for Trouble {
    fn from(error: TransportError) -> Trouble {
        Trouble::Said(error)
    }
}

impl Trouble {
    pub(super) fn has_code(&self, code: &SqlState) -> bool {
        matches!(self, Trouble::Database(error) if error.code() == Some(code))
    }

    /// Whether the session is of no more use: the connection broke, the server is going down, or
    /// what was prepared on it does not fit the tables any more.
    pub(super) fn ends_session(&self) -> bool {
        match self {
            Trouble::Database(error) => {
                let code = error.code().map(SqlState::code);
                is_away(error) || matches!(code, Some("0A000" | "26000"))
            }
            Trouble::Said(error) => error.kind == Kind::Unreachable,
        }
    }

    /// Another session kept a lock for longer than the lock timeout.
    pub(super) fn is_lock_timeout(&self) -> bool {
        matches!(self, Trouble::Database(error)
            if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }

    pub(super) fn say(self, label: &str) -> TransportError {
        match self {
            Trouble::Said(error) => error,
            Trouble::Database(error) => say(error, label),
        }
    }
}

fn is_away(error: &Error) -> bool {
    match error.code() {
        // 08: connection; 57P01 to 57P03: shut down, crashed, starting up.
        Some(code) => code.code().starts_with("08") || code.code().starts_with("57P0"),
        // No answer, or one that cannot be understood.
        None => true,
    }
}

/// Whether what was sent is at fault, so that sending it again cannot help: 22 is data, such as a
/// character that the database's encoding lacks; 23 a constraint; 54 a size; P0 an error that a
/// trigger raised.
fn is_about_the_data(error: &Error) -> bool {
    let class = error.code().and_then(|code| code.code().get(..2));
    matches!(class, Some("22" | "23" | "54" | "P0"))
}

fn say(error: Error, label: &str) -> TransportError {
    // Another program has prepared it in the server process that is ours now.
    if error.code().is_some_and(|code| *code == SqlState::DUPLICATE_PSTATEMENT) {
        return pooled(label).with_source(error);
    }
    let away = is_away(&error);
    let (head, kind) = if away {
        ("Lost the connection to the Postgres server:", Kind::Unreachable)
    } else if is_about_the_data(&error) {
        ("The Postgres server refused:", Kind::Invalid)
    } else {
        ("The Postgres server refused:", Kind::Refused)
    };
    let reason = match error.as_db_error() {
        Some(error) => {
            let detail = error.detail().map(|detail| format!("\n    DETAIL:  {detail}"));
            format!(
                "{}:  {}{}",
                error.severity(),
                error.message().replace('\n', "\n    "),
                detail.unwrap_or_default()
            )
        }
        None => rex_pg::cause(error.source().unwrap_or(&error)),
    };
    let hint = hint(error.code());
    let said = TransportError::new(kind, format!("{head}\n    {reason}\nOn:\n    {label}"))
        .with_source(error);
    match hint {
        Some(hint) => said.with_hint(hint),
        None => said,
    }
}

fn hint(code: Option<&SqlState>) -> Option<&'static str> {
    match code?.code() {
        "55P03" => Some(
            "another session keeps a lock: an old consumer that hangs, or a long change of the \
             table; see pg_locks",
        ),
        "42501" => Some(
            "the role lacks rights on the schema asynctask; have its owner grant them, or connect \
             once as the owner",
        ),
        "53100" => Some("free some space on the server's disk"),
        "25006" => Some("this server is a standby or read-only; connect to the primary"),
        // A prepared statement that is not there.
        "26000" => Some(POOLED),
        _ => None,
    }
}

/// The error for a proxy that gives each transaction another backend.
pub(super) fn pooled(label: &str) -> TransportError {
    let text = rex_pg::pooled(label, "Ownership of tasks");
    TransportError::new(Kind::Config, text).with_hint(POOLED)
}

/// The error for a table with ids of another type than the original's has.
pub(super) fn other_ids(label: &str, given: &str) -> TransportError {
    let text = format!(
        "The column id of asynctask.asynctask_queue is {given}, where ids are bigint\nOn:\n    {label}"
    );
    TransportError::new(Kind::Config, text).with_hint(
        "ALTER TABLE asynctask.asynctask_queue ALTER id TYPE bigint; \
         ALTER SEQUENCE asynctask.asynctask_queue_id_seq AS bigint",
    )
}
