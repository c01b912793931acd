//! The tasks that were sent and not started, and the thread that reads them from the socket. They stay
//! here, where the host can recall them, until the page says that they may be started.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::link::Link;
use super::{Incoming, leash};
use crate::page::{Page, monotonic_ns};
use crate::wire::{Answer, Task, ToWorker};

/// How long a finished task may wait for others, to be reported with them.
const REPORT_WITHIN: Duration = Duration::from_millis(10);

/// How often it is looked whether tasks may be started again: a host that was stopped goes on, or has
/// reached its store.
const LOOK: Duration = Duration::from_millis(20);

pub(super) struct Inbox {
    link: &'static Link,
    page: Page,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// Set once; `true` because the queue is empty.
    stop: Option<bool>,
    finished: u64,
    /// Of those that are not reported: how long each ran that has asked for others.
    asked: Vec<(u64, Duration)>,
    reported: u64,
}

/// What the thread that runs the plugin does next.
pub(super) enum Next {
    /// At this time of the page's clock.
    Task(Task, u64),
    Stop {
        empty: bool,
    },
}

impl Inbox {
    pub(super) fn new(link: &'static Link, page: Page) -> Inbox {
        Inbox { link, page, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits for the next task, and until it may be started, reporting what is finished before it
    /// waits.
    pub(super) fn next(&self) -> io::Result<Next> {
        let mut state = self.lock();
        loop {
            let now = monotonic_ns();
            if self.page.allows(now)
                && let Some(task) = state.tasks.pop_front()
            {
                return Ok(Next::Task(task, now));
            }
            if state.finished > state.reported {
                drop(state);
                self.report()?;
                state = self.lock();
                continue;
            }
            if let Some(empty) = state.stop {
                return Ok(Next::Stop { empty });
            }
            state = if state.tasks.is_empty() {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                let woken = self.changed.wait_timeout(state, LOOK);
                woken.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    pub(super) fn started(&self, seq: u64, now: u64) {
        self.page.start(seq, now);
    }

    /// A task that was started at `begun` of the page's clock.
    pub(super) fn finished(&self, seq: u64, begun: u64) {
        self.page.finish(seq);
        let mut state = self.lock();
        if self.link.has_asked(seq) {
            state.asked.push((seq, Duration::from_nanos(monotonic_ns().saturating_sub(begun))));
        }
        state.finished = seq;
    }

    /// Reads frames until the host is gone; then so is this process and all that it started.
    pub(super) fn read(&self, mut incoming: Incoming) {
        if let Err(error) = self.read_all(&mut incoming)
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            super::complain(&error);
        }
        leash::end_group();
    }

    fn read_all(&self, incoming: &mut Incoming) -> io::Result<()> {
        loop {
            while let Some(message) = incoming.buffered()? {
                self.take(message)?;
            }
            let timeout = self
                .must_report_soon()
                .then(|| Timespec { tv_sec: 0, tv_nsec: i64::from(REPORT_WITHIN.subsec_nanos()) });
            let mut fds = [PollFd::from_borrowed_fd(incoming.as_fd(), PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => self.report()?,
                Ok(_) => {
                    let Incoming { socket, frames } = incoming;
                    if frames.fill(socket)? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether a task may finish, or has, while nobody else is about to report it.
    fn must_report_soon(&self) -> bool {
        let state = self.lock();
        !state.tasks.is_empty() || state.finished > state.reported
    }

    fn take(&self, message: ToWorker) -> io::Result<()> {
        match message {
            ToWorker::Tasks(tasks) => {
                self.lock().tasks.extend(tasks);
                self.changed.notify_one();
                Ok(())
            }
            ToWorker::Notice { seq } => {
                self.link.give_notice(seq);
                Ok(())
            }
            ToWorker::Reply { ask, result } => {
                self.link.take_reply(ask, result);
                Ok(())
            }
            ToWorker::Recall => {
                let recalled = self.empty();
                self.link.send(0, Answer::Recalled(recalled))
            }
            ToWorker::Stop { empty } => {
                let recalled = self.empty();
                if !recalled.is_empty() {
                    self.link.send(0, Answer::Recalled(recalled))?;
                }
                self.lock().stop = Some(empty);
                self.link.give_notice(u64::MAX);
                self.changed.notify_one();
                Ok(())
            }
            ToWorker::Load { .. } | ToWorker::Start(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "a second start"))
            }
        }
    }

    /// Takes out the tasks that were not started.
    fn empty(&self) -> Vec<u64> {
        self.lock().tasks.drain(..).map(|task| task.seq).collect()
    }

    fn report(&self) -> io::Result<()> {
        let (seq, asked) = {
            let mut state = self.lock();
            if state.finished == state.reported {
                return Ok(());
            }
            state.reported = state.finished;
            (state.finished, std::mem::take(&mut state.asked))
        };
        self.link.send_in_order(Answer::Finished { seq, asked })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
