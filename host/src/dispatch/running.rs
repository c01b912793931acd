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
use super::held::{Held, HeldTask};
use super::plan::{QueuePlan, Recycling};
use crate::log;
use crate::page::monotonic_ns;
use crate::supervisor::{Poller, Process, usage};
use crate::wire::{self, ToWorker};

/// Lines of output that are kept for a crash report.
const LAST_LINES: usize = 20;
/// Bytes of one such line.
const LAST_LINE_LENGTH: usize = 500;

/// How finely the kernel counts CPU time.
const CPU_TICK: Duration = Duration::from_millis(10);

pub(super) struct Running {
    pub(super) process: Process,
    /// The slot that it serves; `None` for a standby.
    pub(super) seat: Option<SlotId>,
    pub(super) plan: Arc<QueuePlan>,
    pub(super) held: Held,
    /// Tasks that it has finished.
    pub(super) done: u64,
    born: Instant,
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
    /// Whether the process has said that it gets no memory; a backtrace may have followed.
    lacks_memory: bool,
    /// The task that printed them, as far as it has said so.
    printer: u64,
    printed: Printed,
    clock: Option<TaskClock>,
    /// The task that was cancelled, and when it is killed.
    cancelled: Option<(u64, Instant)>,
    limited_until: Option<Instant>,
}

/// Output of the task in hand.
#[derive(Default)]
struct Printed {
    task: u64,
    bytes: usize,
    dropped: usize,
}

/// What a task in hand has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// It is told that its time is nearly up.
    Notice {
        seq: u64,
        left: Duration,
    },
    Limit(Verdict),
}

/// The limits' view of the task in hand.
#[derive(Clone, Copy)]
struct TaskClock {
    seq: u64,
    since: Instant,
    looked: Instant,
    noticed: bool,
    /// CPU time of the process when the task was first seen, and at the last look.
    cpu_from: Duration,
    cpu: Duration,
    check_at: Instant,
}

impl TaskClock {
    fn new(seq: u64, since: Instant, cpu: Duration) -> TaskClock {
        let (looked, check_at) = (since, since);
        TaskClock { seq, since, looked, noticed: false, cpu_from: cpu, cpu, check_at }
    }

    /// When something could have been passed at the earliest.
    fn next_check(&self, plan: &QueuePlan, now: Instant) -> Instant {
        let after = |time: Duration| self.since.checked_add(time);
        let kill = plan.timeout.and_then(after);
        let notice = match (plan.timeout, plan.notice) {
            (Some(timeout), Some(notice)) if !self.noticed => after(timeout.saturating_sub(notice)),
            _ => None,
        };
        let cpu = plan.cpu_limit.and_then(|limit| {
            let left = limit.saturating_sub(self.cpu.saturating_sub(self.cpu_from));
            let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
            now.checked_add((left / cores).max(CPU_TICK))
        });
        let next = [kill, notice, cpu].into_iter().flatten().min();
        next.unwrap_or(now + Duration::from_secs(3600)).max(now + Duration::from_millis(1))
    }
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
            recalling: false,
            gone_by: None,
            unfit: None,
            verdict: None,
            socket,
            queued: 0,
            last_lines: VecDeque::new(),
            lacks_memory: false,
            printer: 0,
            printed: Printed::default(),
            clock: None,
            cancelled: None,
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

    /// Asks for the tasks that it has not started.
    pub(super) fn recall(&mut self, poller: &Poller) {
        if self.held.count() > 1 && !self.recalling {
            self.recalling = true;
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

    /// What is printed from now on is said by task `seq`; 0: by none that is known.
    pub(super) fn printing(&mut self, seq: u64) {
        if seq != 0 && seq != self.printer {
            self.printer = seq;
            self.last_lines.clear();
        }
    }

    /// The last lines of the task that has just come to its end.
    pub(super) fn take_last_lines(&mut self) -> Vec<String> {
        self.last_lines.drain(..).collect()
    }

    /// Keeps the last lines for a crash report.
    pub(super) fn remember(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        // In the words of Rust's allocator and of C++'s.
        self.lacks_memory |= text.contains("memory allocation of") || text.contains("bad_alloc");
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
            lacks_memory: self.lacks_memory,
            ran,
        }
    }

    // ---- limits of a task -----------------------------------------------------------------------

    pub(super) fn handed_out(&mut self, now: Instant) {
        self.limited_until = None;
        if self.clock.is_none() && (self.plan.timeout.is_some() || self.plan.cpu_limit.is_some()) {
            let clock = TaskClock::new(0, now, self.cpu());
            self.clock = Some(TaskClock { check_at: clock.next_check(&self.plan, now), ..clock });
        }
    }

    pub(super) fn next_check(&self) -> Option<Instant> {
        let clock = self.clock.map(|clock| clock.check_at);
        let cancelled = self.cancelled.map(|(_, at)| at);
        clock.into_iter().chain(cancelled).min().filter(|_| self.verdict.is_none())
    }

    /// The task in hand.
    pub(super) fn in_hand(&self) -> Option<&HeldTask> {
        self.held.in_hand(self.process.page.read())
    }

    /// Has the task in hand end by `at`; `false` when it was told so already.
    pub(super) fn cancel(&mut self, seq: u64, at: Instant) -> bool {
        let known = self.cancelled.is_some_and(|(other, _)| other == seq);
        if !known {
            self.cancelled = Some((seq, at));
        }
        !known
    }

    /// Whether a task may have failed because it was told that its process is to end: a job, which
    /// nobody has cancelled.
    pub(super) fn gave_way(&self, held: &HeldTask) -> bool {
        let cancelled = self.cancelled.is_some_and(|(seq, _)| seq == held.seq);
        self.plan.runs_jobs() && held.fault.is_some() && !cancelled
    }

    /// Whether the task that was cancelled is still in hand after its time.
    pub(super) fn outlived_cancellation(&mut self, now: Instant) -> bool {
        let Some((seq, at)) = self.cancelled.filter(|(_, at)| *at <= now) else { return false };
        let outlived = self.in_hand().is_some_and(|held| held.seq == seq);
        if !outlived && at <= now {
            self.cancelled = None;
        }
        outlived && self.verdict.is_none()
    }

    /// What the task in hand has passed by now. The page says when it started, believed only
    /// between the last look and now, and only of tasks that were sent: what it says later about
    /// the same task is ignored.
    pub(super) fn check_limits(&mut self, now: Instant) -> Option<Passed> {
        let mut clock =
            self.clock.filter(|clock| clock.check_at <= now && self.verdict.is_none())?;
        if self.held.count() == 0 {
            self.clock = None;
            return None;
        }
        let progress = self.process.page.read();
        let started = progress.started.min(self.held.last_sent());
        let runs = started > progress.finished;
        if !runs || started != clock.seq {
            let ran = since_monotonic(progress.started_at);
            let since = now.checked_sub(ran).unwrap_or(now).clamp(clock.looked.min(now), now);
            clock = TaskClock::new(started, if runs { since } else { now }, self.cpu());
        }
        clock.looked = now;
        let ran = now.duration_since(clock.since);
        let mut passed = None;
        if let Some(timeout) = self.plan.timeout.filter(|_| runs) {
            let notice_after = self.plan.notice.map(|notice| timeout.saturating_sub(notice));
            if ran >= timeout {
                passed = Some(Passed::Limit(Verdict::TimedOut(timeout)));
            } else if !clock.noticed && notice_after.is_some_and(|after| ran >= after) {
                clock.noticed = true;
                passed = Some(Passed::Notice { seq: clock.seq, left: timeout - ran });
            }
        }
        if let Some(limit) = self.plan.cpu_limit.filter(|_| runs) {
            clock.cpu = self.cpu();
            if clock.cpu.saturating_sub(clock.cpu_from) >= limit {
                passed = Some(Passed::Limit(Verdict::CpuSpent(limit)));
            }
        }
        clock.check_at = clock.next_check(&self.plan, now);
        self.clock = Some(clock);
        passed
    }

    /// CPU time so far, where a limit needs it.
    fn cpu(&self) -> Duration {
        let wanted = self.plan.cpu_limit.is_some();
        wanted.then(|| usage::cpu_time(self.process.pid)).flatten().unwrap_or_default()
    }

    // ---- wear -----------------------------------------------------------------------------------

    /// Tasks that it may still be given.
    pub(super) fn allowance(&self) -> usize {
        let left = |tasks: u64| tasks.saturating_sub(self.done + self.held.count() as u64);
        let tasks = self.plan.recycling.tasks;
        tasks.map_or(usize::MAX, |tasks| usize::try_from(left(tasks)).unwrap_or(usize::MAX))
    }

    /// Why it should be exchanged for a new process; asked between tasks.
    pub(super) fn wear(&self, now: Instant) -> Option<String> {
        let Recycling { tasks, age, rss } = self.plan.recycling;
        if tasks.is_some_and(|tasks| self.done >= tasks) {
            return Some(format!("{} tasks", self.done));
        }
        let lived = now.saturating_duration_since(self.born);
        if age.is_some_and(|age| lived >= age) {
            return Some(format!("{} s", lived.as_secs()));
        }
        let resident = rss.and_then(|limit| {
            usage::resident(self.process.pid).filter(|resident| *resident >= limit)
        });
        resident.map(|bytes| format!("{bytes} resident bytes"))
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
