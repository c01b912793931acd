//! What a worker process may use: time and CPU of a task, and how worn it may be between tasks.

use std::time::{Duration, Instant};

use rex_plugin_api::Level;

use super::{Running, since_monotonic};
use crate::dispatch::death::Verdict;
use crate::dispatch::held::HeldTask;
use crate::dispatch::plan::{QueuePlan, Recycling};
use crate::log;
use crate::supervisor::usage::{self, GroupUse};
use crate::tick::Tick;

/// This late for a look, the host was stopped: what the task did meanwhile, or whether it was stopped
/// as well, is not known.
const LATE: Duration = Duration::from_millis(100);

/// How often a task whose time is limited is looked at, for that.
const LOOK: Duration = Duration::from_millis(100);

/// How finely the kernel counts CPU time.
const CPU_TICK: Duration = Duration::from_millis(10);

/// What a task in hand has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dispatch) enum Passed {
    /// It is told that its time is nearly up.
    Notice {
        seq: u64,
        left: Duration,
    },
    Limit(Verdict),
}

/// The limits' view of the task in hand.
#[derive(Clone, Copy)]
pub(super) struct TaskClock {
    seq: u64,
    since: Instant,
    /// Processes that were started then or later are the task's.
    children_from: Tick,
    /// How long the process had been held up when it was first seen.
    held_up: Duration,
    looked: Instant,
    noticed: bool,
    /// CPU time of the process and of what it has started when the task was first seen, and at the last look.
    cpu_from: Duration,
    cpu: GroupUse,
    check_at: Instant,
}

impl TaskClock {
    fn new(seq: u64, since: Instant, held_up: Duration) -> TaskClock {
        TaskClock {
            seq,
            since,
            children_from: Tick::before_now(since.elapsed()),
            held_up,
            looked: since,
            noticed: false,
            cpu_from: Duration::ZERO,
            cpu: GroupUse::default(),
            check_at: since,
        }
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
            let left = limit.saturating_sub(self.cpu.cpu.saturating_sub(self.cpu_from));
            let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
            now.checked_add((left / cores).max(CPU_TICK))
        });
        let look = kill.map(|_| now + LOOK);
        let next = [kill, notice, cpu, look].into_iter().flatten().min();
        next.unwrap_or(now + Duration::from_secs(3600)).max(now + Duration::from_millis(1))
    }
}

impl Running {
    pub(in crate::dispatch) fn handed_out(&mut self, now: Instant) {
        self.limited_until = None;
        if self.clock.is_none() && (self.plan.timeout.is_some() || self.plan.cpu_limit.is_some()) {
            let clock = self.clock_of(0, now, self.process.held_up.read(), false);
            self.clock = Some(TaskClock { check_at: clock.next_check(&self.plan, now), ..clock });
        }
    }

    pub(in crate::dispatch) fn next_check(&self) -> Option<Instant> {
        let clock = self.clock.map(|clock| clock.check_at);
        let cancelled = self.cancelled.map(|(_, at)| at);
        let silence = self.silence.map(|silence| silence.look_at);
        clock.into_iter().chain(cancelled).chain(silence).min().filter(|_| self.verdict.is_none())
    }

    /// The task in hand.
    pub(in crate::dispatch) fn in_hand(&self) -> Option<&HeldTask> {
        self.held.in_hand(self.process.page.read())
    }

    /// Has the task in hand end by `at`; `false` when it was told so already.
    pub(in crate::dispatch) fn cancel(&mut self, seq: u64, at: Instant) -> bool {
        let known = self.cancelled.is_some_and(|(other, _)| other == seq);
        if !known {
            self.cancelled = Some((seq, at));
        }
        !known
    }

    /// Whether a task may have failed because it was told that its process is to end: a job, which
    /// nobody has cancelled.
    pub(in crate::dispatch) fn gave_way(&self, held: &HeldTask) -> bool {
        let cancelled = self.cancelled.is_some_and(|(seq, _)| seq == held.seq);
        self.plan.runs_jobs() && held.fault.is_some() && !cancelled
    }

    /// Whether the task that was cancelled is still in hand after its time.
    pub(in crate::dispatch) fn outlived_cancellation(&mut self, now: Instant) -> bool {
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
    pub(in crate::dispatch) fn check_limits(&mut self, now: Instant) -> Option<Passed> {
        let mut clock =
            self.clock.filter(|clock| clock.check_at <= now && self.verdict.is_none())?;
        if self.held.count() == 0 {
            self.clock = None;
            return None;
        }
        let (progress, held_up) = (self.process.page.read(), self.process.held_up.read());
        let started = progress.started.min(self.held.last_sent());
        let runs = started > progress.finished;
        if !runs || started != clock.seq {
            let ran = since_monotonic(progress.started_at);
            let since = now.checked_sub(ran).unwrap_or(now).clamp(clock.looked.min(now), now);
            let since = if runs { since } else { now };
            let fresh = self.clock_of(started, since, clock.held_up, clock.cpu.older);
            clock = TaskClock { check_at: clock.check_at, ..fresh };
        }
        let late = now.duration_since(clock.check_at);
        if late >= LATE {
            clock.since += late;
        }
        // Time in which it may have stood in a print that this host did not read is not its own.
        clock.since = (clock.since + held_up.saturating_sub(clock.held_up)).min(now);
        clock.held_up = held_up;
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
            clock.cpu = self.cpu(clock.children_from, clock.cpu.older);
            if clock.cpu.cpu.saturating_sub(clock.cpu_from) >= limit {
                passed = Some(Passed::Limit(Verdict::CpuSpent(limit)));
            }
        }
        clock.check_at = clock.next_check(&self.plan, now);
        self.clock = Some(clock);
        passed
    }

    /// What was counted of the task in hand at the last look.
    pub(super) fn cpu_spent(&self) -> Duration {
        self.clock.map_or(Duration::ZERO, |clock| clock.cpu.cpu.saturating_sub(clock.cpu_from))
    }

    fn clock_of(&self, seq: u64, since: Instant, held_up: Duration, older: bool) -> TaskClock {
        let clock = TaskClock::new(seq, since, held_up);
        let cpu = self.cpu(clock.children_from, older);
        TaskClock { cpu_from: cpu.cpu, cpu, ..clock }
    }

    /// CPU time so far, where a limit needs it: of the process, and of those started at `since` or later.
    fn cpu(&self, since: Tick, older: bool) -> GroupUse {
        let wanted = self.plan.cpu_limit.is_some();
        let cpu = || usage::cpu_time_of_group(self.process.pid, since, older);
        wanted.then(cpu).flatten().unwrap_or_default()
    }

    /// Tasks that it may still be given.
    pub(in crate::dispatch) fn allowance(&self) -> usize {
        let left = |tasks: u64| tasks.saturating_sub(self.done + self.held.count() as u64);
        let tasks = self.plan.recycling.tasks;
        tasks.map_or(usize::MAX, |tasks| usize::try_from(left(tasks)).unwrap_or(usize::MAX))
    }

    /// Why it should be exchanged for a new process; asked between tasks.
    pub(in crate::dispatch) fn wear(&self, now: Instant) -> Option<String> {
        let Recycling { tasks, age, rss } = self.plan.recycling;
        if tasks.is_some_and(|tasks| self.done >= tasks) {
            let s = if self.done == 1 { "" } else { "s" };
            return Some(format!("{} task{s}", self.done));
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

    /// Logs once that a task waits for the queue's rate limit.
    pub(in crate::dispatch) fn say_limited(&mut self, until: Instant, now: Instant) {
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
