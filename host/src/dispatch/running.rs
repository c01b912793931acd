//! One worker process from the loop's side: what it holds, what it printed, what it is allowed.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rex_plugin_api::Level;
use serde::Serialize;

use super::SlotId;
use super::death::{Scene, Verdict};
use super::held::Held;
use super::plan::QueuePlan;
use crate::log;
use crate::page::monotonic_ns;
use crate::supervisor::{Poller, Process};
use crate::wire;

/// Lines of output that are kept for a crash report.
const LAST_LINES: usize = 20;
/// Bytes of one such line.
const LAST_LINE_LENGTH: usize = 500;

pub(super) struct Running {
    pub(super) process: Process,
    /// The slot that it serves; `None` for a standby.
    pub(super) seat: Option<SlotId>,
    pub(super) plan: Arc<QueuePlan>,
    pub(super) held: Held,
    /// It has finished a task.
    pub(super) worked: bool,
    /// It was asked to give back what it has not started.
    pub(super) recalling: bool,
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
    printed: Printed,
    clock: Option<TaskClock>,
    limited_until: Option<Instant>,
}

/// Output of the task in hand.
#[derive(Default)]
struct Printed {
    task: u64,
    bytes: usize,
    dropped: usize,
}

/// The time limit's view of the task in hand.
#[derive(Clone, Copy)]
struct TaskClock {
    seq: u64,
    since: Instant,
    check_at: Instant,
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
            worked: false,
            recalling: false,
            gone_by: None,
            unfit: None,
            verdict: None,
            socket,
            queued: 0,
            last_lines: VecDeque::new(),
            printed: Printed::default(),
            clock: None,
            limited_until: None,
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

    // ---- output ---------------------------------------------------------------------------------

    /// How many of the printed bytes are passed on; the rest is counted as dropped.
    pub(super) fn account_for_output(&mut self, text: &[u8], limit: usize) -> usize {
        let task = self.process.page.read().started;
        if self.printed.task != task {
            self.report_dropped_output();
            self.printed.task = task;
        }
        self.remember(text);
        let allowed = text.len().min(limit.saturating_sub(self.printed.bytes));
        // Whole lines only, so that what is cut off does not tear one.
        let allowed = if allowed < text.len() {
            text[..allowed].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1)
        } else {
            allowed
        };
        self.printed.bytes += text.len();
        self.printed.dropped += text.len() - allowed;
        allowed
    }

    pub(super) fn report_dropped_output(&mut self) {
        let printed = std::mem::take(&mut self.printed);
        if printed.dropped > 0 {
            log::emit(
                Level::Warning,
                &self.plan.logger,
                &format!(
                    "{} of {} bytes of the task's output were dropped; see asynctask_output_limit",
                    printed.dropped, printed.bytes
                ),
            );
        }
    }

    /// Keeps the last lines for a crash report.
    pub(super) fn remember(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        for line in text.lines().rev().take(LAST_LINES).collect::<Vec<_>>().into_iter().rev() {
            if self.last_lines.len() == LAST_LINES {
                self.last_lines.pop_front();
            }
            self.last_lines.push_back(line.chars().take(LAST_LINE_LENGTH).collect());
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
            ran,
        }
    }

    // ---- time limit -----------------------------------------------------------------------------

    pub(super) fn handed_out(&mut self, now: Instant) {
        self.limited_until = None;
        if let Some(timeout) = self.plan.timeout
            && self.clock.is_none()
        {
            self.clock = Some(TaskClock { seq: 0, since: now, check_at: now + timeout });
        }
    }

    pub(super) fn next_check(&self) -> Option<Instant> {
        self.clock.filter(|_| self.verdict.is_none()).map(|clock| clock.check_at)
    }

    /// Whether the task in hand has passed the time limit. The page says when it started, believed
    /// only between the last look and now: what it says later about the same task is ignored.
    pub(super) fn is_overdue(&mut self, now: Instant) -> bool {
        let (Some(timeout), Some(clock)) = (self.plan.timeout, self.clock) else { return false };
        if now < clock.check_at || self.verdict.is_some() {
            return false;
        }
        let progress = self.process.page.read();
        if self.held.count() == 0 {
            self.clock = None;
            return false;
        }
        if progress.started == clock.seq && progress.started > progress.finished {
            if now.duration_since(clock.since) >= timeout {
                return true;
            }
            self.clock = Some(TaskClock { check_at: clock.since + timeout, ..clock });
            return false;
        }
        let last_look = clock.check_at.checked_sub(timeout).unwrap_or(clock.since);
        let ran = since_monotonic(progress.started_at);
        let since = now.checked_sub(ran).unwrap_or(now).clamp(last_look.min(now), now);
        if progress.started > progress.finished && now.duration_since(since) >= timeout {
            return true;
        }
        let check_at = (since + timeout).max(now + timeout / 20);
        self.clock = Some(TaskClock { seq: progress.started, since, check_at });
        false
    }

    // ---- rate limit -----------------------------------------------------------------------------

    /// Logs once that a task waits for the queue's rate limit.
    pub(super) fn say_limited(&mut self, until: Instant, now: Instant) {
        if self.limited_until != Some(until) {
            self.limited_until = Some(until);
            log::emit(
                Level::Debug,
                &self.plan.logger,
                &format!(
                    "Rate limited on queue {}, sleeping for {:.6} seconds",
                    self.plan.queue,
                    until.duration_since(now).as_secs_f64()
                ),
            );
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
