//! What a worker process prints: how much is passed on, and the last lines for a crash report.

use rex_plugin_api::Level;

use super::Running;
use crate::log;

/// Lines of output that are kept for a crash report.
const LAST_LINES: usize = 20;
/// Bytes of one such line.
const LAST_LINE_LENGTH: usize = 500;

/// Output of the task in hand.
#[derive(Default)]
pub(super) struct Printed {
    task: u64,
    bytes: usize,
    dropped: usize,
}

impl Running {
    /// How many of the printed bytes are passed on; the rest is counted as dropped.
    pub(in crate::dispatch) fn account_for_output(&mut self, text: &[u8], limit: usize) -> usize {
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

    pub(in crate::dispatch) fn report_dropped_output(&mut self) {
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
    pub(in crate::dispatch) fn printing(&mut self, seq: u64) {
        if seq != 0 && seq != self.printer {
            self.printer = seq;
            self.last_lines.clear();
        }
    }

    /// The last lines of the task that has just come to its end.
    pub(in crate::dispatch) fn take_last_lines(&mut self) -> Vec<String> {
        self.last_lines.drain(..).collect()
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
