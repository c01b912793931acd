//! What is to be done about one worker slot: one pure function over its state.
//!
//! ```text
//!            Tick (due)          Ready            Stop
//! Waiting ─────────────▶ Starting ─────▶ Serving ─────▶ Stopping ──▶ (Exited) Halted
//!    ▲                      │ Exited / late  │ Exited without being asked
//!    └──────────────────────┴────────────────┘  after a delay (`backoff`)
//! ```
//!
//! `Overdue` (a limit was passed) kills from any state with a process; the death that follows is
//! treated like any other. `Recycle` exchanges a serving process that is worn out: `Recycling`, then
//! `Waiting` without delay.

use std::time::{Duration, Instant};

use super::backoff::Backoff;

/// How long a process that is told to stop may go on with its start: it has no task to finish.
const START_TO_STOP: Duration = Duration::from_secs(2);

/// One worker slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// No process; one is to be started at `until`.
    Waiting { until: Instant, backoff: Backoff },
    /// A process loads its plugin; killed if that is not done by `deadline`.
    Starting { since: Instant, deadline: Instant, backoff: Backoff },
    /// The process takes tasks.
    Serving { since: Instant, backoff: Backoff },
    /// The process was told to stop after the task in hand, to be replaced by a new one.
    Recycling { backoff: Backoff },
    /// The process was told to stop after the task in hand; killed at `kill_at`.
    Stopping { kill_at: Option<Instant> },
    /// No process, and none to come.
    Halted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Tick,
    /// The process says that it can take tasks.
    Ready,
    /// The process ended; `worked`: it had finished a task.
    Exited {
        worked: bool,
    },
    /// The process could not even be made.
    SpawnFailed,
    /// The task in hand passed a limit.
    Overdue,
    /// The process has served long enough.
    Recycle,
    /// Finish the task in hand and end, by `deadline` if there is one.
    Stop {
        deadline: Option<Instant>,
        empty: bool,
    },
    /// End now.
    Kill,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Spawn,
    /// Tell the process to stop; `empty`: because its queue is.
    Stop {
        empty: bool,
    },
    /// Kill the process group.
    Kill,
    /// Say that the worker died and is restarted (at a later `Spawn`).
    ReportDeath,
}

#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// How long a plugin may take to load and its worker to start.
    pub start_timeout: Duration,
    /// From 0 to 1, drawn anew for each step.
    pub jitter: f64,
}

/// Decides; does nothing. The caller performs the actions and feeds back what happened.
pub fn step(slot: Slot, event: Event, now: Instant, policy: Policy) -> (Slot, Vec<Action>) {
    use Slot::{Halted, Recycling, Serving, Starting, Stopping, Waiting};
    match (slot, event) {
        (Waiting { until, backoff }, Event::Tick) if until <= now => {
            let deadline = now + policy.start_timeout;
            (Starting { since: now, deadline, backoff }, vec![Action::Spawn])
        }
        (Starting { since, backoff, .. }, Event::Ready) => (Serving { since, backoff }, vec![]),
        (Starting { deadline, .. }, Event::Tick) if deadline <= now => (slot, vec![Action::Kill]),

        (
            Starting { since, mut backoff, .. } | Serving { since, mut backoff },
            Event::Exited { worked },
        ) => {
            let until = backoff.after_death(since, worked, now, policy.jitter);
            (Waiting { until, backoff }, vec![Action::ReportDeath])
        }
        (Starting { since, mut backoff, .. }, Event::SpawnFailed) => {
            // What keeps a process from being made (limits, memory) passes more slowly than a crash:
            // the first retry waits too.
            let first = backoff.after_death(since, false, now, policy.jitter);
            (Waiting { until: first.max(now + Backoff::FIRST), backoff }, vec![])
        }

        (Serving { backoff, .. }, Event::Recycle) => {
            (Recycling { backoff }, vec![Action::Stop { empty: false }])
        }
        (Recycling { backoff }, Event::Exited { .. }) => (Waiting { until: now, backoff }, vec![]),
        // It was told to stop already.
        (Recycling { .. }, Event::Stop { deadline, .. }) => {
            (Stopping { kill_at: deadline }, vec![])
        }

        (Waiting { .. }, Event::Stop { .. } | Event::Kill) => (Halted, vec![]),
        (Starting { .. }, Event::Stop { deadline, empty }) => {
            let latest = now + START_TO_STOP;
            let kill_at = Some(deadline.map_or(latest, |deadline| deadline.min(latest)));
            (Stopping { kill_at }, vec![Action::Stop { empty }])
        }
        (Serving { .. }, Event::Stop { deadline, empty }) => {
            (Stopping { kill_at: deadline }, vec![Action::Stop { empty }])
        }
        (Starting { .. } | Serving { .. } | Recycling { .. } | Stopping { .. }, Event::Kill) => {
            (Stopping { kill_at: None }, vec![Action::Kill])
        }
        // A nearer deadline replaces a farther one: a drain may follow a reload.
        (Stopping { kill_at }, Event::Stop { deadline: Some(deadline), .. }) => {
            let kill_at = Some(kill_at.map_or(deadline, |kill_at| kill_at.min(deadline)));
            (Stopping { kill_at }, vec![])
        }
        (Stopping { kill_at: Some(kill_at) }, Event::Tick) if kill_at <= now => {
            (Stopping { kill_at: None }, vec![Action::Kill])
        }
        (Stopping { .. }, Event::Exited { .. } | Event::SpawnFailed) => (Halted, vec![]),

        (Starting { .. } | Serving { .. } | Recycling { .. } | Stopping { .. }, Event::Overdue) => {
            (slot, vec![Action::Kill])
        }
        (
            Halted
            | Waiting { .. }
            | Serving { .. }
            | Starting { .. }
            | Recycling { .. }
            | Stopping { .. },
            _,
        ) => (slot, vec![]),
    }
}

impl Slot {
    pub fn new(now: Instant) -> Slot {
        Slot::Waiting { until: now, backoff: Backoff::default() }
    }

    /// When a `Tick` is due; `None` when time alone changes nothing.
    pub fn next_tick(self) -> Option<Instant> {
        match self {
            Slot::Waiting { until, .. } => Some(until),
            Slot::Starting { deadline, .. } => Some(deadline),
            Slot::Stopping { kill_at } => kill_at,
            Slot::Serving { .. } | Slot::Recycling { .. } | Slot::Halted => None,
        }
    }

    /// When the next process is started, where there is none.
    pub fn restarts_at(self) -> Option<Instant> {
        match self {
            Slot::Waiting { until, .. } => Some(until),
            _ => None,
        }
    }

    /// One word for `status`.
    pub fn word(self) -> &'static str {
        match self {
            Slot::Waiting { .. } => "restarting",
            Slot::Starting { .. } => "starting",
            Slot::Serving { .. } => "serving",
            Slot::Recycling { .. } => "recycling",
            Slot::Stopping { .. } => "stopping",
            Slot::Halted => "halted",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Event, Policy, Slot, step};

    /// Runs events at times in seconds; expects `time action` lines and the last state's word.
    #[track_caller]
    fn check(events: &[(u64, Event)], expected: &[&str], last: &str) {
        let start = Instant::now();
        let policy = Policy { start_timeout: Duration::from_secs(10), jitter: 0.0 };
        let mut slot = Slot::new(start);
        let mut seen = Vec::new();
        for (at, event) in events {
            let event = match event {
                Event::Stop { deadline: Some(_), empty } => Event::Stop {
                    deadline: Some(start + Duration::from_secs(at + 3)),
                    empty: *empty,
                },
                other => *other,
            };
            let (next, actions) = step(slot, event, start + Duration::from_secs(*at), policy);
            slot = next;
            seen.extend(actions.iter().map(|action| format!("{at} {action:?}")));
        }
        assert_eq!(seen, expected);
        assert_eq!(slot.word(), last);
    }

    fn stop() -> Event {
        Event::Stop { deadline: Some(Instant::now()), empty: false }
    }

    const DIED: Event = Event::Exited { worked: false };

    #[test]
    fn a_death_is_reported_and_restarted_at_once_then_with_delay() {
        check(
            &[
                (0, Event::Tick),
                (0, Event::Ready),
                (1, DIED),
                (1, Event::Tick),
                (1, DIED),
                (1, Event::Tick),
                (2, Event::Tick),
            ],
            &["0 Spawn", "1 ReportDeath", "1 Spawn", "1 ReportDeath", "2 Spawn"],
            "starting",
        );
    }

    #[test]
    fn a_deaf_process_is_killed_after_the_deadline() {
        check(
            &[
                (0, Event::Tick),
                (0, Event::Ready),
                (5, stop()),
                (7, Event::Tick),
                (8, Event::Tick),
                (8, Event::Tick),
                (9, DIED),
                (9, Event::Tick),
            ],
            &["0 Spawn", "5 Stop { empty: false }", "8 Kill"],
            "halted",
        );
    }

    #[test]
    fn a_plugin_that_hangs_while_it_loads_is_killed_and_tried_again() {
        check(
            &[(0, Event::Tick), (10, Event::Tick), (10, DIED), (10, Event::Tick)],
            &["0 Spawn", "10 Kill", "10 ReportDeath", "10 Spawn"],
            "starting",
        );
    }

    #[test]
    fn who_only_starts_is_not_waited_for() {
        check(
            &[(0, Event::Tick), (1, stop()), (2, Event::Tick), (3, Event::Tick), (3, DIED)],
            &["0 Spawn", "1 Stop { empty: false }", "3 Kill"],
            "halted",
        );
        // Also where those that serve may take their time.
        let empty = Event::Stop { deadline: None, empty: true };
        check(
            &[(0, Event::Tick), (1, empty), (2, Event::Tick), (3, Event::Tick), (3, DIED)],
            &["0 Spawn", "1 Stop { empty: true }", "3 Kill"],
            "halted",
        );
    }

    #[test]
    fn now_means_now() {
        check(
            &[(0, Event::Tick), (0, Event::Ready), (1, stop()), (1, Event::Kill), (1, DIED)],
            &["0 Spawn", "1 Stop { empty: false }", "1 Kill"],
            "halted",
        );
        check(&[(0, stop())], &[], "halted");
    }

    #[test]
    fn a_limit_kills_and_the_slot_goes_on() {
        check(
            &[
                (0, Event::Tick),
                (0, Event::Ready),
                (4, Event::Overdue),
                (4, DIED),
                (4, Event::Tick),
            ],
            &["0 Spawn", "4 Kill", "4 ReportDeath", "4 Spawn"],
            "starting",
        );
    }

    #[test]
    fn a_worn_process_is_exchanged_without_a_report() {
        check(
            &[
                (0, Event::Tick),
                (0, Event::Ready),
                (4, Event::Recycle),
                (5, Event::Recycle),
                (6, Event::Exited { worked: true }),
                (6, Event::Tick),
            ],
            &["0 Spawn", "4 Stop { empty: false }", "6 Spawn"],
            "starting",
        );
        check(
            &[
                (0, Event::Tick),
                (0, Event::Ready),
                (4, Event::Recycle),
                (5, stop()),
                (8, Event::Tick),
            ],
            &["0 Spawn", "4 Stop { empty: false }", "8 Kill"],
            "stopping",
        );
    }

    #[test]
    fn no_process_can_be_made() {
        check(
            &[(0, Event::Tick), (0, Event::SpawnFailed), (0, Event::Tick), (1, Event::Tick)],
            &["0 Spawn", "1 Spawn"],
            "starting",
        );
    }
}
