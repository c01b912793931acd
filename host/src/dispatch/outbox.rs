//! Outcomes on their way to the store, batched by the time that the last batch takes.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rex_transport::{Finished, Outcome, QueueName, Want};

use super::Around;
use super::asker::Asker;
use super::feed::{Claimed, LARGEST_WINDOW};
use super::store::{Order, Store};
use crate::log::Console;

/// Outcomes in one batch at most: as many as two quick processes' claim has, so that it ends at once.
const BATCH: usize = 4 * LARGEST_WINDOW;

pub(super) struct Outbox {
    store: Store,
    console: Console,
    /// Oldest first.
    waiting: VecDeque<Waiting>,
    /// The batch being written.
    writing: Option<Writing>,
    /// Outcomes that the store could not record yet, each for a reason of its own.
    pub(super) held: usize,
    closing: bool,
    /// Whether the store is away, or refuses what cannot be left.
    pub(super) down: bool,
    /// Whether it is that it refuses.
    pub(super) refused: bool,
    claims: usize,
}

#[derive(Default)]
struct Writing {
    count: usize,
    /// How many of them are of tasks that were begun.
    ended: usize,
    /// The queues that it submits to or makes room in.
    queues: BTreeSet<QueueName>,
}

struct Waiting {
    /// What was printed until then: that is written before the outcome is recorded.
    mark: u64,
    finished: Finished,
    asker: Option<Box<Asker>>,
    /// The queue of which another task may be in flight then.
    frees: Option<QueueName>,
}

impl Outbox {
    pub(super) fn new(store: Store, console: Console) -> Outbox {
        Outbox {
            store,
            console,
            waiting: VecDeque::new(),
            writing: None,
            held: 0,
            closing: false,
            down: false,
            refused: false,
            claims: 0,
        }
    }

    /// `frees`: the task's queue, if only so many may be in flight.
    pub(super) fn push(
        &mut self,
        finished: Finished,
        asker: Option<Box<Asker>>,
        frees: Option<QueueName>,
    ) {
        self.waiting.push_back(Waiting { mark: self.console.mark(), finished, asker, frees });
    }

    /// Gives a task back, uncharged.
    pub(super) fn release(&mut self, claimed: Claimed) {
        let finished = Finished {
            claim: claimed.claim,
            task: claimed.task.id,
            outcome: Outcome::Released,
            submits: Vec::new(),
        };
        self.push(finished, None, None);
    }

    pub(super) fn claim(&mut self, queue: QueueName, want: Want) {
        // What was finished is written first, so that a claim is one batch ahead at most.
        self.flush();
        self.claims += 1;
        self.store.order(Order::Claim { queue, want });
    }

    /// Has the store go through what is put around it from now on.
    pub(super) fn surround(&self, around: Around) {
        self.store.order(Order::Surround(around));
    }

    pub(super) fn forget_dead(&mut self, age: Duration) {
        self.store.order(Order::Forget(age));
    }

    /// Asks the store whether a queue is idle; `false`, and nothing asked, while outcomes wait: what
    /// they submit may be for that queue.
    pub(super) fn ask_idle(&mut self, queue: QueueName) -> bool {
        self.flush();
        if !self.waiting.is_empty() {
            return false;
        }
        self.store.order(Order::IsIdle(queue));
        true
    }

    /// Whether outcomes wait for the reader of the host's output.
    pub(super) fn waits_for_output(&self) -> bool {
        let first = self.waiting.front().filter(|_| self.writing.is_none());
        first.is_some_and(|one| one.mark > self.console.out())
    }

    /// Starts to write what waits, unless a batch is being written, as far as what the tasks printed
    /// is out.
    pub(super) fn flush(&mut self) {
        if self.writing.is_some() || self.waiting.is_empty() {
            return;
        }
        let out = self.console.out();
        let ready = self.waiting.iter().take(BATCH).take_while(|one| one.mark <= out).count();
        if ready == 0 {
            return;
        }
        let mut queues = BTreeSet::new();
        let mut askers = Vec::new();
        let batch =
            self.waiting.drain(..ready).map(|Waiting { finished, asker, frees, .. }| {
                queues.extend(frees);
                askers.extend(asker.map(|asker| (finished.task, asker)));
                queues.extend(finished.submits.iter().map(|task| task.queue.clone()));
                finished
            });
        let batch: Vec<Finished> = batch.collect();
        let ended = batch.iter().filter(|one| was_begun(one)).count();
        self.writing = Some(Writing { count: batch.len(), ended, queues });
        self.store.order(Order::Finish { finished: batch, askers });
    }

    /// A batch is written; returns the queues in which it has put tasks or made room for them.
    pub(super) fn finished(&mut self) -> BTreeSet<QueueName> {
        let Writing { queues, .. } = self.writing.take().unwrap_or_default();
        self.flush();
        queues
    }

    /// A claim was answered.
    pub(super) fn claimed(&mut self) {
        self.claims = self.claims.saturating_sub(1);
    }

    /// Whether nothing is on its way in or out.
    pub(super) fn is_settled(&self) -> bool {
        self.unrecorded() == 0 && self.claims == 0
    }

    /// Outcomes of tasks that were begun, as far as the store does not have them.
    pub(super) fn ended(&self) -> usize {
        let waiting = self.waiting.iter().filter(|one| was_begun(&one.finished)).count();
        waiting + self.writing.as_ref().map_or(0, |writing| writing.ended) + self.held
    }

    /// Outcomes that the store does not have, also of tasks that nobody has begun.
    pub(super) fn unrecorded(&self) -> usize {
        self.waiting.len() + self.writing.as_ref().map_or(0, |writing| writing.count) + self.held
    }

    /// Gives up ownership, once; `true` the first time.
    pub(super) fn close(&mut self) -> bool {
        if self.closing {
            return false;
        }
        self.closing = true;
        self.store.order(Order::Close);
        true
    }
}

/// One that is only given back was not.
fn was_begun(finished: &Finished) -> bool {
    !matches!(finished.outcome, Outcome::Released)
}
