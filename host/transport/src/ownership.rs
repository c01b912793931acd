//! The rules of ownership, as pure functions: when another owner's claims may be taken back, and until
//! when an owner may act on its own. `tests/ownership` runs them in interleavings of all that may
//! happen to hosts and the store.
//!
//! An owner shows that it lives by a beat and by a lock that is free when its connection, or its
//! process, has ended.

use std::time::Duration;

/// Another owner as one look at the store found it; times by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Its process is gone, seen from the same machine.
    pub provably_dead: bool,
    pub holds_lock: bool,
    /// Since its last beat.
    pub silent_for: Duration,
    /// Since its lock was first found free; `None` when it was not, or it has beaten since.
    pub missing_for: Option<Duration>,
    /// Since the store was started.
    pub store_up_for: Duration,
}

/// How long others wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// With an owner whose lock is free.
    pub grace: Duration,
    /// With one that holds its lock and does not beat.
    pub owner_timeout: Duration,
}

/// What is to be done about an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Lives,
    /// Its lock is free, and was not seen so before: to be remembered with the time.
    Missing,
    /// Its claims may be taken back.
    Dead,
}

/// Judges another owner. Its claims are taken back
///
/// - at once when its process is provably dead;
/// - when it holds its lock and is silent: stopped, or cut off;
/// - after the grace when its lock is free: a host whose connection broke takes its lock again.
///
/// While the store was away nobody could do so, and afterwards all owners have been silent: only time
/// since its start counts against who has no lock.
#[must_use]
pub fn judge(seen: &Sighting, patience: &Patience) -> Verdict {
    if seen.provably_dead || seen.holds_lock && seen.silent_for > patience.owner_timeout {
        return Verdict::Dead;
    }
    match seen.missing_for.filter(|missing| *missing <= seen.store_up_for) {
        _ if seen.holds_lock => Verdict::Lives,
        None => Verdict::Missing,
        Some(missing) if missing > patience.grace => Verdict::Dead,
        Some(_) => Verdict::Lives,
    }
}

/// The shortest lease that a host can keep, since it beats once a second.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(2);

/// Whether an owner may start tasks of its claims: nobody takes them back within `lease` of its last
/// beat. `since` is the time since that beat, one that succeeded, was begun.
#[must_use]
pub fn may_start(since: Duration, lease: Duration) -> bool {
    since <= lease
}
