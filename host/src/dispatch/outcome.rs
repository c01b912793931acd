//! What becomes of tasks that were answered for: their outcomes, on the way to the outbox.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rex_plugin_api::Level;
use rex_plugin_api::ops::Again;
use rex_transport::{ClaimedTask, Death, Finished, Outcome};

use super::Host;
use super::asker::{Asker, Used};
use super::held::HeldTask;
use super::plan::QueuePlan;
use super::retry::Failed;
use super::running::{self, Running};
use crate::supervisor::{ProcessId, Slot};
use crate::{clock, log};

/// How a task ended.
pub(super) enum End {
    /// With what is to be known of it where the store may refuse its submits.
    Done(Option<Box<Asker>>),
    Failed(Death),
}

/// What becomes of a task, to follow "which".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    Dead,
    /// It is done, and its job has failed.
    JobFailed,
    Again(Duration),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Done => f.write_str("is done"),
            Fate::Dead => f.write_str("is now a dead letter"),
            Fate::JobFailed => f.write_str("was for a job that has failed now"),
            Fate::Again(after) => write!(f, "is tried again in {:.1} s", after.as_secs_f64()),
        }
    }
}

impl Host {
    /// Records tasks that a process answered for.
    pub(super) fn settle(&mut self, process: ProcessId, finished: Vec<HeldTask>) {
        let used = OnceCell::new();
        for held in finished {
            let Some(running) = self.processes.get(&process) else { return };
            let plan = Arc::clone(&running.plan);
            if running.gave_way(&held) && self.is_leaving(running) {
                let id = held.claimed.task.id.0;
                tracing::info!(
                    "the job of task {id} ended early since its process is to end, and waits again"
                );
                self.put_back(&plan.queue, vec![held.claimed]);
                continue;
            }
            let end = running.end_of(&held, || *used.get_or_init(|| Used::by(running.process.pid)));
            let (id, attempt) = (held.claimed.task.id, held.claimed.task.attempt);
            if let fate @ Fate::Again(_) = self.record(held, end, &plan) {
                let text = format!("Task {} (attempt {attempt}) failed and {fate}", id.0);
                log::emit(Level::Info, &plan.logger, &text);
            }
        }
    }

    /// Whether a process was told to end after the task in hand.
    fn is_leaving(&self, running: &Running) -> bool {
        let seat = running.seat.and_then(|seat| self.slots.get(&seat));
        seat.is_some_and(|seat| matches!(seat.slot, Slot::Stopping { .. } | Slot::Recycling { .. }))
    }

    pub(super) fn record(&mut self, held: HeldTask, end: End, plan: &QueuePlan) -> Fate {
        let HeldTask { claimed, asked, fault, .. } = held;
        let ClaimedTask { id, attempt, history, .. } = claimed.task;
        if let Some(jobs) = &self.setup.jobs {
            jobs.book.ended(id);
        }
        let mut asker = None;
        let (outcome, submits) = match end {
            End::Done(asks) => {
                asker = asks;
                (Outcome::Done, asked.map_or_else(Vec::new, |asked| asked.submits))
            }
            // What a failed task asked for is dropped with it: it may ask again when it is retried.
            End::Failed(death) => {
                let again = fault.map_or(Again::AsConfigured, |fault| fault.failure.again);
                let failed = Failed { attempt, history, again };
                let outcome = failed.outcome(death, &plan.retries, clock::now(), running::jitter());
                (outcome, Vec::new())
            }
        };
        let fate = match &outcome {
            Outcome::Done | Outcome::Released => Fate::Done,
            Outcome::Dead(_) if self.setup.jobs.as_ref().is_some_and(|jobs| jobs.book.has(id)) => {
                Fate::JobFailed
            }
            Outcome::Dead(_) => Fate::Dead,
            Outcome::Retry { after, .. } => Fate::Again(*after),
        };
        match fate {
            Fate::Done | Fate::JobFailed => self.counts.done += 1,
            Fate::Dead => self.counts.failed += 1,
            Fate::Again(_) => {}
        }
        let finished = Finished { claim: claimed.claim, task: id, outcome, submits };
        self.outbox.push(finished, asker, plan.in_flight.map(|_| plan.queue.clone()));
        fate
    }
}
