//! Proxies that give each transaction another server process (pgbouncer: `pool_mode=transaction`), so
//! that a session's locks are anybody's: how they are found out, and the words to refuse them in.

/// What helps.
pub const POOLED: &str = "connect to PostgreSQL directly, or through a pooler in session mode \
     (pgbouncer: pool_mode=session)";

/// Whether there is such a proxy. These are numbers of server processes: of the one that answered an
/// idle session, `before`, of the one that answered in a second one's open transaction, `meanwhile`, and, asked
/// for during that transaction and only if need be, of the one that answers the first again.
///
/// # Errors
/// Those of `again`.
pub fn is_pooled<E>(
    before: i64,
    meanwhile: i64,
    again: impl FnOnce() -> Result<i64, E>,
) -> Result<bool, E> {
    Ok(meanwhile == before || again()? != before)
}

/// Refuses the proxy at `label` to those whose `lock` would be taken from them; a sentence's beginning.
pub fn pooled(label: &str, lock: &str) -> String {
    format!(
        "A proxy between this host and PostgreSQL pools transactions:\n    {label}\n{lock} is a \
         session's lock, which such a proxy gives to strangers"
    )
}
