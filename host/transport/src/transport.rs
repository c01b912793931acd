//! The promises of a transport. `contract.rs` holds each kind to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::{
    Attributes, Claim, ClaimId, DeadLetter, DeadQuery, Due, Finished, Kind, LetterId, NewTask,
    Outcome, QueueName, QueueStatus, Submitted, TaskId, Timestamp, TransportError, WaitingTask,
    Want,
};

/// A connection to a store of tasks, used from one thread at a time.
///
/// # Delivery
/// At least once, never lost. A task is in exactly one place: waiting, claimed or dead; it leaves
/// the store only by [`Outcome::Done`] or `purge`. A claim is durable when
/// `claim` returns.
///
/// # Errors
/// Every method fails with a [`TransportError`]; when that `is_retryable()` (the server is away)
/// nothing is known about the last call, the next call connects again, and all calls but `submit`
/// are safe to repeat: `finish` of a task that this claim no longer holds changes nothing (its submits
/// included), and tasks that a lost reply of `claim` took are returned by a later `claim`.
pub trait Transport: Send {
    /// What this kind of store can do beyond the rest of this trait. What it cannot is refused with
    /// [`Kind::Invalid`] when asked for, never ignored.
    fn features(&self) -> Features {
        Features::default()
    }

    /// Puts tasks at the end of their queues, all or none, but for those whose unique key is there
    /// already; what became of each, in the order given. Where a store can take a part of them, the
    /// error tells which it took ([`TransportError::taken`]). The one call that is not safe to repeat:
    /// after a lost reply the tasks may be there already, and come twice.
    fn submit(&mut self, tasks: &[NewTask]) -> Result<Vec<Submitted>, TransportError>;

    /// How many tasks are due in `queue`; 0 for a queue that never had one.
    fn poll(&mut self, queue: &QueueName) -> Result<u64, TransportError>;

    /// The queues that have tasks waiting, in flight or dead, by name.
    fn queues(&mut self) -> Result<Vec<QueueStatus>, TransportError>;

    /// The waiting tasks that would be claimed first, at most `limit`, without taking them; those that
    /// are not due yet come last.
    fn peek(&mut self, queue: &QueueName, limit: u64) -> Result<Vec<WaitingTask>, TransportError>;

    /// Deletes all waiting tasks of `queue` (claimed and dead ones stay) and counts them.
    fn purge(&mut self, queue: &QueueName) -> Result<u64, TransportError>;

    /// Stops or resumes claims from `queue`, for all owners and until told otherwise. Once it has
    /// returned, no claim takes anything.
    fn pause(&mut self, queue: &QueueName, paused: bool) -> Result<(), TransportError> {
        let _ = (queue, paused);
        Err(cannot(&self.label(), "pause a queue"))
    }

    /// The texts that the details of dead letters have under `key`, each once.
    fn dead_details(&mut self, key: &str) -> Result<BTreeSet<String>, TransportError> {
        let letters = self.dead_letters(&DeadQuery::default())?;
        let texts = letters.iter().filter_map(|letter| letter.death.details[key].as_str());
        Ok(texts.map(str::to_owned).collect())
    }

    /// Dead letters, oldest death first.
    fn dead_letters(&mut self, query: &DeadQuery) -> Result<Vec<DeadLetter>, TransportError>;

    /// Puts dead tasks back into their queues, due now, with their ids and dates, and a first attempt
    /// before them; counts them. Letters that are gone are passed over.
    fn revive(&mut self, letters: &[LetterId]) -> Result<u64, TransportError>;

    /// Deletes dead letters and counts them.
    fn discard(&mut self, letters: &[LetterId]) -> Result<u64, TransportError>;

    /// Deletes dead letters that are older than `age` and counts them.
    fn forget_dead(&mut self, age: Duration) -> Result<u64, TransportError>;

    /// Takes waiting tasks for this owner, lowest priority number first, then oldest; `None` when
    /// none is due, the queue is paused, or all that may be in flight is.
    /// Does not wait. No two owners get the same task while both are healthy. A claim whose reply
    /// was lost is returned first, and whole: it may have more tasks than wanted.
    ///
    /// A payload may be no JSON object, and no text, where others write into the store, too: see
    /// [`Payload::check`](crate::Payload::check).
    ///
    /// Only on a transport opened with an [`Owner`](crate::Owner).
    fn claim(&mut self, queue: &QueueName, want: &Want) -> Result<Option<Claim>, TransportError>;

    /// The attributes of a claim's tasks, of those that have a priority or a key; none once the claim
    /// is ended.
    fn attributes(
        &mut self,
        claim: ClaimId,
    ) -> Result<BTreeMap<TaskId, Attributes>, TransportError> {
        let _ = claim;
        Ok(BTreeMap::new())
    }

    /// How long until the next task of `queue` is due that was not due yet when [`claim`](Self::claim)
    /// last gave none; `None` when none waits.
    fn next_due(&mut self, queue: &QueueName) -> Result<Option<Duration>, TransportError> {
        let _ = queue;
        Ok(None)
    }

    /// Records outcomes and the submits that go with them in one transaction, or, where the store has
    /// none that holds, the submits first. The tasks of one call may be of several claims, and of a claim
    /// any part. After an error of [`Kind::Invalid`] some may be recorded; the others are still claimed.
    ///
    /// Returns the tasks that were no longer ours: taken over while this owner was thought dead, or
    /// finished by an earlier call that succeeded. For those nothing was written. A call that is
    /// repeated because its reply was lost returns what the lost reply would have said.
    fn finish(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError>;

    /// Whether [`finish`](Self::finish) may have written submits although the outcome that goes with them
    /// is not recorded, because its process died meanwhile.
    fn submits_first(&self) -> bool {
        false
    }

    /// Gives back the claims of owners that are dead: at once if that is provable on this machine,
    /// else after the grace. Tasks return to their old place, uncharged. Returns how many.
    /// To be called about once a second; it also is this owner's sign of life.
    fn rescue(&mut self) -> Result<u64, TransportError>;

    /// How long after the begin of a [`rescue`](Self::rescue) that succeeded nobody takes this owner's
    /// claims over, whatever becomes of its connection. Who has not succeeded for longer must not start
    /// tasks of them.
    fn lease(&self) -> Duration {
        Duration::MAX
    }

    /// The queues that are paused; none where none can be.
    fn paused(&mut self) -> Result<BTreeSet<QueueName>, TransportError> {
        Ok(BTreeSet::new())
    }

    /// The tasks of the last [`finish`](Self::finish) whose outcomes wait for something of their own, and
    /// keep no others waiting: they are in flight still, and to be finished again later.
    fn held_back(&mut self) -> Vec<TaskId> {
        Vec::new()
    }

    /// The claims that this owner has found taken over since it was last asked.
    fn taken_over(&mut self) -> Vec<ClaimId> {
        Vec::new()
    }

    /// The queues that [`queues`](Self::queues) and [`dead_letters`](Self::dead_letters) could not look at
    /// since this was last asked, so that what they said leaves them out; and why.
    fn left_out(&mut self) -> BTreeMap<QueueName, String> {
        BTreeMap::new()
    }

    /// Whether `queue` has nothing to claim (nothing due, or it is paused) and nothing in flight by
    /// any owner.
    fn is_idle(&mut self, queue: &QueueName) -> Result<bool, TransportError>;

    /// Starts a thread that tells in which queues tasks may have arrived, until the [`Watch`] is
    /// dropped; `None` where the store cannot tell. A hint only: sent late, twice or
    /// never, a fallback poll must do without it.
    fn watch(&self, wake: Sender<Wake>) -> Result<Option<Watch>, TransportError>;

    /// The last occasion of `schedule` that any host recorded; one that none has seen begins with
    /// `since`. Only of a store with [`Features::schedules`].
    fn last_occasion(
        &mut self,
        schedule: &str,
        since: Timestamp,
    ) -> Result<Timestamp, TransportError> {
        let _ = (schedule, since);
        Err(cannot(&self.label(), "keep schedules"))
    }

    /// Records that `schedule` was due at `at` and submits `tasks`, all in one transaction, unless a
    /// host did so already for this occasion or a later one: `false` then, and nothing is written.
    fn record_occasion(
        &mut self,
        schedule: &str,
        at: Timestamp,
        tasks: &[NewTask],
    ) -> Result<bool, TransportError> {
        let _ = (schedule, at, tasks);
        Err(cannot(&self.label(), "keep schedules"))
    }

    /// Gives up ownership: what is still claimed goes back at once. The last call of an owner.
    fn close(&mut self) -> Result<(), TransportError>;

    /// A text by which [`is`](Self::is) knows this store, over whatever address, for as long as this
    /// connection is open.
    fn identity(&mut self) -> Result<String, TransportError>;

    /// Whether this is the store of that identity.
    fn is(&mut self, identity: &str) -> Result<bool, TransportError> {
        Ok(self.identity()? == identity)
    }

    /// How the store is named in messages, passwords masked; the original's repr where it has one.
    fn label(&self) -> String;
}

/// What a kind of store can do beyond what every one can. The README's table of transports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// [`Attributes::priority`](crate::Attributes::priority).
    pub priorities: bool,
    /// [`Attributes::due`](crate::Attributes::due), and with it [`Outcome::Retry`].
    pub delays: bool,
    /// [`Attributes::unique`](crate::Attributes::unique).
    pub unique: bool,
    /// [`Transport::pause`].
    pub pause: bool,
    /// [`Want::in_flight`].
    pub in_flight: bool,
    /// [`Transport::record_occasion`].
    pub schedules: bool,
}

impl Features {
    /// All there is.
    pub const ALL: Features = Features {
        priorities: true,
        delays: true,
        unique: true,
        pause: true,
        in_flight: true,
        schedules: true,
    };
}

impl Features {
    /// Refuses tasks with attributes that a store named `label` does not have.
    ///
    /// # Errors
    /// `Invalid`, for the first of them.
    pub(crate) fn allow<'a>(
        self,
        label: &str,
        tasks: impl IntoIterator<Item = &'a NewTask>,
    ) -> Result<(), TransportError> {
        for NewTask { attributes, .. } in tasks {
            if attributes.priority != 0 && !self.priorities {
                return Err(cannot(label, "give tasks a priority"));
            }
            if attributes.due != Due::Now && !self.delays {
                return Err(cannot(label, "delay a task"));
            }
            if attributes.unique.is_some() && !self.unique {
                return Err(cannot(label, "keep a task unique"));
            }
        }
        Ok(())
    }

    /// Refuses outcomes that a store named `label` cannot record.
    ///
    /// # Errors
    /// `Invalid`, for the first of them.
    pub(crate) fn allow_outcomes(
        self,
        label: &str,
        finished: &[Finished],
    ) -> Result<(), TransportError> {
        let mut outcomes = finished.iter().map(|one| &one.outcome);
        if !self.delays && outcomes.any(|outcome| matches!(outcome, Outcome::Retry { .. })) {
            return Err(cannot(label, "try a task again"));
        }
        self.allow(label, finished.iter().flat_map(|one| &one.submits))
    }
}

/// The refusal of what a kind of store cannot do: `{label} cannot {what}`.
pub fn cannot(label: &str, what: &str) -> TransportError {
    TransportError::new(Kind::Invalid, format!("{label} cannot {what}"))
        .with_hint("the README's table of transports says which can")
}

/// The refusal to claim or finish without an [`Owner`](crate::Owner).
pub(crate) fn not_an_owner() -> TransportError {
    TransportError::new(
        Kind::Invalid,
        "This transport was opened without an owner: it cannot claim",
    )
}

/// Word of tasks that may have arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    Queue(QueueName),
    /// In any queue: for a while nothing was heard.
    All,
}

/// Keeps a watching thread alive; dropping it stops and joins the thread.
pub struct Watch {
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl Watch {
    /// `stop` must make the thread end and join it.
    pub fn new(stop: impl FnOnce() + Send + 'static) -> Watch {
        Watch { stop: Some(Box::new(stop)) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}
