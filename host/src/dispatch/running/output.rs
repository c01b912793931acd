//! What a worker process prints and logs: how much is passed on, and the last lines for a crash report.

use rex_plugin_api::Level;

use super::Running;
use crate::dispatch::excerpt::{beyond, excerpt};
use crate::log;

/// Lines of output that are kept for a crash report.
const LAST_LINES: usize = 20;
/// Bytes of one such line.
const LAST_LINE_LENGTH: usize = 500;

/// Bytes of one record of the log: everything that is said later waits until it is written.
const LONGEST_RECORD: usize = 1 << 20;

/// Bytes that may be read long after they were printed: what both pipes hold, and the reader of them.
const ON_THE_WAY: usize = 256 * 1024;

/// How much of the tasks' output is passed on. Nothing in a pipe says where a task's output ends, so each
/// task that was started adds what it may print to what is left over by those before it.
#[derive(Default)]
pub(super) struct Printed {
    /// `seq` of the task that had been started last when something was read; none before that.
    task: Option<u64>,
    /// How many bytes are still passed on.
    left: usize,
    bytes: usize,
    dropped: usize,
}

impl Printed {
    /// Tasks were started, up to `task`.
    fn started(&mut self, task: u64, limit: usize) {
        // A plugin may have scribbled over the number.
        let tasks = task.saturating_sub(self.task.unwrap_or(task)).max(1);
        let added = limit.saturating_mul(usize::try_from(tasks).unwrap_or(usize::MAX));
        self.left = self.left.min(ON_THE_WAY).saturating_add(added).min(limit.max(ON_THE_WAY));
        (self.task, self.bytes, self.dropped) = (Some(task), 0, 0);
    }

    /// How many bytes of `text` are passed on: whole lines, so that what is cut off does not tear one.
    fn take(&mut self, text: &[u8]) -> usize {
        let allowed = if self.left < text.len() {
            text[..self.left].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1)
        } else {
            text.len()
        };
        self.left = self.left.saturating_sub(text.len());
        self.bytes += text.len();
        self.dropped += text.len() - allowed;
        allowed
    }
}

/// How much of what a task logs is passed on: as much as it may print. Records say whose they are.
#[derive(Default)]
pub(super) struct Logged {
    /// 0: none is in hand.
    task: u64,
    bytes: usize,
    dropped: usize,
}

impl Logged {
    /// What of a record is passed on: of one that is too long the beginning.
    fn take(&mut self, text: &str, limit: usize) -> Option<String> {
        let left = limit.saturating_sub(self.bytes).min(LONGEST_RECORD);
        self.bytes += text.len();
        self.dropped += beyond(text, left);
        (left > 0 || text.is_empty()).then(|| excerpt(text, left))
    }
}

impl Running {
    /// What is passed on of a record; what is beyond the limit of the task is counted as dropped.
    pub(in crate::dispatch) fn account_for_record(
        &mut self,
        seq: u64,
        plugin: bool,
        text: &str,
        limit: usize,
    ) -> Option<String> {
        if self.logged.task != seq {
            self.report_dropped_records();
            self.logged = Logged { task: seq, ..Logged::default() };
        }
        match plugin {
            true => self.logged.take(text, limit),
            false => Some(excerpt(text, LONGEST_RECORD)),
        }
    }

    /// The text, where there was anything to report.
    fn report_dropped_records(&mut self) -> Option<String> {
        let dropped = std::mem::take(&mut self.logged.dropped);
        (dropped > 0).then(|| {
            self.warn(format!(
                "{dropped} of {} bytes that the task logged were dropped; see asynctask_output_limit",
                self.logged.bytes
            ))
        })
    }

    fn warn(&self, text: String) -> String {
        log::emit(Level::Warning, &self.plan.logger, &text);
        text
    }

    /// How many of the printed bytes are passed on; the rest is counted as dropped. `started`: the task
    /// that had been started last when they were read.
    pub(in crate::dispatch) fn account_for_output(
        &mut self,
        text: &[u8],
        started: u64,
        limit: usize,
    ) -> usize {
        if self.printed.task != Some(started) {
            self.report_dropped_prints();
            self.printed.started(started, limit);
        }
        self.remember(text);
        self.printed.take(text)
    }

    /// Tells what was dropped of tasks up to this one: the next may be logging already. Returns the
    /// texts.
    pub(in crate::dispatch) fn report_dropped_output(&mut self, up_to: u64) -> Vec<String> {
        let is_due = self.logged.task <= up_to;
        let records = if is_due { self.report_dropped_records() } else { None };
        records.into_iter().chain(self.report_dropped_prints()).collect()
    }

    fn report_dropped_prints(&mut self) -> Option<String> {
        let dropped = std::mem::take(&mut self.printed.dropped);
        (dropped > 0).then(|| {
            self.warn(format!(
                "{dropped} of {} bytes of the task's output were dropped; see asynctask_output_limit",
                self.printed.bytes
            ))
        })
    }

    /// What is printed from now on is said by task `seq`; 0: by none that is known.
    pub(in crate::dispatch) fn printing(&mut self, seq: u64) {
        if seq != 0 && seq != self.printer {
            let lines = self.last_lines.drain(..);
            if let Some(asked) = self.held.asked(self.printer) {
                asked.last_output = Some(lines.collect());
            }
            self.printer = seq;
        }
    }

    /// The last lines of the task that has just come to its end.
    pub(in crate::dispatch) fn take_last_lines(&mut self) -> Vec<String> {
        self.last_lines.drain(..).collect()
    }

    /// The last lines of a task that it has answered for, as far as it is known whose they are.
    pub(in crate::dispatch) fn last_lines_of(&self, seq: u64) -> Vec<String> {
        let theirs = self.last_lines.iter().filter(|_| self.printer <= seq);
        theirs.cloned().collect()
    }

    /// Forgets the last lines, unless a task after `seq` has printed them.
    pub(in crate::dispatch) fn forget_last_lines(&mut self, seq: u64) {
        if self.printer <= seq {
            self.last_lines.clear();
        }
    }

    /// Keeps the last lines for a crash report.
    pub(in crate::dispatch) fn remember(&mut self, text: &[u8]) {
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
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_RECORD, Logged, ON_THE_WAY, Printed};

    const LINE: &[u8] = b"123456789\n";

    #[test]
    fn one_task_prints_up_to_the_limit_in_whole_lines() {
        let mut printed = Printed::default();
        printed.started(1, 35);
        assert_eq!(printed.take(&LINE.repeat(3)), 30);
        assert_eq!(printed.take(&LINE.repeat(2)), 0, "half a line is none");
        assert_eq!(printed.take(b"a\n"), 0, "nothing after what was dropped");
        assert_eq!((printed.bytes, printed.dropped), (52, 22));
        printed.started(2, 35);
        assert_eq!(printed.take(&LINE.repeat(4)), 30, "the next one begins anew");
    }

    #[test]
    fn one_task_logs_up_to_the_limit() {
        let mut logged = Logged::default();
        let mut take = |text: &str| logged.take(text, 9);
        assert_eq!(take("12345").as_deref(), Some("12345"));
        assert_eq!(take("123\u{e9}5").as_deref(), Some("123... (3 more bytes)"));
        assert_eq!(take("1"), None);
        assert_eq!((logged.bytes, logged.dropped), (12, 4));
        assert_eq!(Logged::default().take("1", 0), None);
    }

    #[test]
    fn one_record_is_cut_whatever_the_limit() {
        let (mut logged, text) = (Logged::default(), "x".repeat(LONGEST_RECORD));
        assert_eq!(logged.take(&format!("{text}12"), 1 << 30), Some(text + "... (2 more bytes)"));
        assert_eq!(logged.take("next", 1 << 30).as_deref(), Some("next"));
    }

    #[test]
    fn what_is_read_of_many_tasks_is_measured_by_what_all_may_print() {
        let mut printed = Printed::default();
        printed.started(1, 10);
        printed.started(30, 10);
        assert_eq!(printed.take(&LINE.repeat(16)), 160);
        assert_eq!(printed.take(&LINE.repeat(14)), 140);
        assert_eq!(printed.take(LINE), 0);
    }

    #[test]
    fn what_is_left_over_does_not_grow() {
        let mut printed = Printed::default();
        printed.started(1, 1000);
        printed.started(u64::MAX, 1000);
        assert_eq!(printed.left, ON_THE_WAY);
        printed.started(1, 3 * ON_THE_WAY);
        printed.started(2, 3 * ON_THE_WAY);
        assert_eq!(printed.left, 3 * ON_THE_WAY);
    }
}
