//! How long a session may wait for its next statement: as long as it has to, whatever the role or the
//! database has set for those of people.

/// Takes the limit from the session that runs this; servers before 14 know none. It stays with the
/// server's process, so that a proxy must have been refused before.
pub const STAY: &str = "SELECT pg_catalog.set_config('idle_session_timeout', '0', FALSE)
    WHERE pg_catalog.current_setting('idle_session_timeout', TRUE) IS NOT NULL";
