//! A worker process that has tasks and takes up none, or is to stop and does not: stopped by a signal,
//! held by a debugger, frozen. No limit of its queue is about that, and nobody else gets those tasks
//! before it is gone, nor does its host end.
//!
//! One that is long at a task is let be, whatever the reason.

use std::time::{Duration, Instant};

use super::Running;

/// For so long a process may stand between two tasks, or before its goodbye, which takes it some
/// microseconds.
pub(in crate::dispatch) const SILENT: Duration = Duration::from_secs(10);

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// This late for a look, the host was stopped itself.
const STOPPED: Duration = Duration::from_secs(1);

/// What there is to do about a process.
pub(in crate::dispatch) enum Look {
    /// It has been between two tasks, or told to stop without one, for too long.
    Silent,
    /// It has tasks, some of which may wait for long.
    Busy,
}

/// A process that was asked for something, at the last look.
#[derive(Clone, Copy)]
pub(super) struct Silence {
    /// The last tasks that it began and finished, and how long it has been held up by output that
    /// this host did not read.
    seen: (u64, u64, Duration),
    since: Instant,
    pub(super) look_at: Instant,
}

impl Running {
    /// Looks at it now and then.
    pub(in crate::dispatch) fn look(&mut self, now: Instant) -> Option<Look> {
        let is_asked = self.held.count() > 0 || self.told_to_stop && self.gone_by.is_none();
        if !is_asked || self.verdict.is_some() {
            self.silence = None;
            return None;
        }
        if self.silence.is_some_and(|silence| now < silence.look_at) {
            return None;
        }
        let progress = self.process.page.read();
        let seen = (progress.started, progress.finished, self.process.held_up.read());
        let known = self.silence.filter(|silence| {
            progress.started <= progress.finished
                && silence.seen == seen
                && now - silence.look_at < STOPPED
        });
        let since = known.map_or(now, |silence| silence.since);
        self.silence = Some(Silence { seen, since, look_at: now + LOOK });
        match now - since >= SILENT {
            true => Some(Look::Silent),
            false => Some(Look::Busy),
        }
    }
}
