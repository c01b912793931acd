//! A worker process that has tasks and takes up none, or is to stop and does not: stopped by a signal,
//! held by a debugger, frozen. No limit of its queue is about that, and nobody else gets those tasks
//! before it is gone, nor does its host end.

use std::time::{Duration, Instant};

use super::Running;
use super::limits::STOPPED;

/// For so long a process may stand between two tasks, or before its goodbye, which takes it some
/// microseconds.
pub(in crate::dispatch) const SILENT: Duration = Duration::from_secs(10);

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(1);

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
    /// Whether it has been between two tasks, or told to stop without one, for too long.
    pub(in crate::dispatch) fn is_silent(&mut self, now: Instant) -> bool {
        let is_asked = self.held.count() > 0 || self.told_to_stop && self.gone_by.is_none();
        if !is_asked || self.verdict.is_some() {
            self.silence = None;
            return false;
        }
        if self.silence.is_some_and(|silence| now < silence.look_at) {
            return false;
        }
        let progress = self.process.page.read();
        let seen = (progress.started, progress.finished, self.process.held_up.read());
        let stands = progress.started <= progress.finished;
        let known = self.silence.filter(|silence| {
            // This late for a look, the host was stopped itself.
            stands && silence.seen == seen && now - silence.look_at < STOPPED
        });
        let since = known.map_or(now, |silence| silence.since);
        let look_at = now + if stands { LOOK } else { SILENT };
        self.silence = Some(Silence { seen, since, look_at });
        now - since >= SILENT
    }
}
