//! Advisory lock keys: the original's (two 32-bit keys) and ours (one 64-bit key, which PostgreSQL
//! keeps in a space of its own, so that the two can never meet).

use sha1::{Digest, Sha1};

use super::failure::Trouble;
use super::session::Session;

/// The original's name of the lock under which the table is made.
pub(super) const ENSURE: &str = "ENSURE QUEUE TABLE";

/// The original's second key for a queue: the first 8 hex digits of the name's SHA-1, signed.
pub(super) fn queue_key(name: &str) -> i32 {
    let [a, b, c, d, ..] = digest(name);
    i32::from_be_bytes([a, b, c, d])
}

/// The key of the session lock that proves an owner's life.
pub(super) fn owner_key(id: &str) -> i64 {
    our_key(&format!("owner {id}"))
}

/// The key of one of our other locks.
pub(super) fn our_key(name: &str) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = digest(&format!("rex-host {name}"));
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Takes a lock of that number until the session ends.
pub(super) fn mark(session: &mut Session, number: i64) -> Result<(), Trouble> {
    /// `$1` number.
    const MARK: &str = "SELECT pg_advisory_lock($1)";
    session.rows(MARK, &[&number]).map(|_| ())
}

/// Whether anybody else has that lock, in this database.
pub(super) fn is_marked(session: &mut Session, number: i64) -> Result<bool, Trouble> {
    /// `$1` number.
    const TRY: &str = "SELECT NOT pg_try_advisory_xact_lock($1)";
    Ok(session.one(TRY, &[&number])?.get(0))
}

fn digest(text: &str) -> [u8; 20] {
    Sha1::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_originals_keys() {
        assert_eq!(super::queue_key("foo"), 200_198_069);
        assert_eq!(super::queue_key(super::ENSURE), 652_933_467);
        assert_eq!(super::queue_key("scheduled_0_job_queuer"), 1_543_485_958);
        assert_eq!(super::queue_key("rexmart_create"), 1_037_993_399);
    }
}
