//! One worker process from the loop's side: what it holds, what it printed, what it is allowed.

mod ahead;
mod limits;
mod output;
mod silence;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

pub(super) use self::limits::Passed;
use self::limits::TaskClock;
use self::output::{Logged, Printed};
use self::silence::Silence;
pub(super) use self::silence::{Look, SILENT};
use super::SlotId;
use super::asker::{Asker, Used};
use super::death::{Scene, Verdict};
use super::held::{Held, HeldTask};
use super::outcome::End;
use super::plan::QueuePlan;
use crate::page::monotonic_ns;
use crate::supervisor::{Poller, Process};
use crate::wire::{self, ToWorker};

pub(super) struct Running {
    pub(super) process: Process,
    /// The slot that it serves; `None` for a standby.
    pub(super) seat: Option<SlotId>,
    pub(super) plan: Arc<QueuePlan>,
    pub(super) held: Held,
    /// Tasks that it has finished.
    pub(super) done: u64,
    born: Instant,
    /// So many times it was asked to give back what it has not started, and has not answered.
    pub(super) recalls: usize,
    /// It is to end after the task in hand.
    pub(super) told_to_stop: bool,
    /// It has said goodbye, and is killed if it is still there then.
    pub(super) gone_by: Option<Instant>,
    /// Why it cannot be a worker.
    pub(super) unfit: Option<String>,
    /// Why this host killed it.
    pub(super) verdict: Option<Verdict>,
    socket: UnixStream,
    /// Bytes that the poller was given to write because the socket was full; until they have left,
    /// everything goes through it, to stay in order.
    queued: usize,
    last_lines: VecDeque<String>,
    /// Whether the process has said that it gets no memory; a backtrace may have followed.
    lacks_memory: bool,
    /// The task that printed them, as far as it has said so.
    printer: u64,
    printed: Printed,
    logged: Logged,
    clock: Option<TaskClock>,
    /// The task that was cancelled, and when it is killed.
    cancelled: Option<(u64, Instant)>,
    /// The last that it said of how far a task is.
    pub(super) said: Option<Said>,
    limited_until: Option<Instant>,
    silence: Option<Silence>,
}

/// How far a task is by its own account.
pub(super) struct Said {
    pub(super) seq: u64,
    pub(super) fraction: f64,
    pub(super) text: String,
}

impl Running {
    pub(super) fn new(
        process: Process,
        socket: UnixStream,
        seat: Option<SlotId>,
        plan: Arc<QueuePlan>,
    ) -> Running {
        Running {
            process,
            seat,
            plan,
            held: Held::default(),
            done: 0,
            born: Instant::now(),
            recalls: 0,
            told_to_stop: false,
            gone_by: None,
            unfit: None,
            verdict: None,
            socket,
            queued: 0,
            last_lines: VecDeque::new(),
            lacks_memory: false,
            said: None,
            printer: 0,
            printed: Printed::default(),
            logged: Logged::default(),
            clock: None,
            cancelled: None,
            limited_until: None,
            silence: None,
        }
    }

    /// Sends a frame without ever waiting for the process.
    pub(super) fn send(&mut self, poller: &Poller, message: &impl Serialize) {
        let frame = wire::encode(message);
        let mut rest = &frame[..];
        while self.queued == 0 && !rest.is_empty() {
            match self.socket.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A dead reader: its pidfd tells the rest.
                Err(_) => return,
            }
        }
        if !rest.is_empty() {
            self.queued += rest.len();
            poller.send(self.process.id, rest.to_vec());
        }
    }

    /// Asks for the tasks that it has not started, if it has more than the one that it is at or about
    /// to start.
    pub(super) fn recall(&mut self, poller: &Poller) {
        if self.held.count() > 1 && self.recalls == 0 {
            self.recall_all(poller);
        }
    }

    /// Asks for all tasks that it has not started, also those that were sent after an earlier recall.
    pub(super) fn recall_all(&mut self, poller: &Poller) {
        if self.held.count() > 0 {
            self.recalls += 1;
            self.send(poller, &ToWorker::Recall);
        }
    }

    /// The poller has written so many bytes.
    pub(super) fn written(&mut self, bytes: usize) {
        self.queued = self.queued.saturating_sub(bytes);
    }

    /// Kills the process for a reason of its own making.
    pub(super) fn condemn(&mut self, verdict: Verdict) {
        self.verdict.get_or_insert(verdict);
        self.process.kill();
    }

    /// Whatever ends it from now on is not its fault.
    pub(super) fn excuse(&mut self) {
        self.verdict.get_or_insert(Verdict::Ordered);
    }

    /// How a task ended that it has answered for. `used`: by the process until then, which is asked for of
    /// those alone that ask for others.
    pub(super) fn end_of(&self, held: &HeldTask, used: impl FnOnce() -> Used) -> End {
        match (&held.fault, &held.asked) {
            (Some(fault), _) => End::Failed(self.scene().failed(fault)),
            (None, None) => End::Done(None),
            (None, Some(asked)) => End::Done(Some(Box::new(Asker {
                plan: Arc::clone(&self.plan),
                pid: self.process.pid,
                attempt: held.claimed.task.attempt,
                history: held.claimed.task.history.clone(),
                ran: asked.ran,
                used: used(),
                last_output: match &asked.last_output {
                    Some(lines) => lines.clone(),
                    None => self.last_lines_of(held.seq),
                },
            }))),
        }
    }

    /// Where a task of this process failed, for its dead letter.
    pub(super) fn scene(&self) -> Scene<'_> {
        let progress = self.process.page.read();
        let ran = (progress.started_at > 0).then(|| since_monotonic(progress.started_at));
        Scene {
            plan: &self.plan,
            pid: self.process.pid.as_raw_nonzero().get(),
            last_output: self.last_lines.iter().cloned().collect(),
            lacks_memory: self.lacks_memory,
            ran,
            cpu: self.cpu_spent(),
        }
    }
}

pub(super) fn since_monotonic(ns: u64) -> Duration {
    Duration::from_nanos(monotonic_ns().saturating_sub(ns))
}

/// A number from 0 to 1 that differs between slots and hosts.
pub(super) fn jitter() -> f64 {
    (monotonic_ns() % 1000) as f64 / 1000.0
}
