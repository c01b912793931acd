//! What one process was given, and what became of it: exact to the task, whatever dies when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rex_plugin_api::ops::Failure;
use rex_transport::{NewTask, TaskId};

use super::feed::Claimed;
use crate::page::Progress;
use crate::wire;

/// The tasks that a process has and has not answered for, oldest first.
#[derive(Debug, Default)]
pub struct Held {
    tasks: VecDeque<HeldTask>,
    last_seq: u64,
    /// When the process last became busy or answered; what it takes from there is its pace.
    since: Option<Instant>,
}

#[derive(Debug)]
pub struct HeldTask {
    pub seq: u64,
    pub claimed: Claimed,
    /// Apart, as `fault` is, since nearly all tasks have none and each is moved about.
    pub asked: Option<Box<Asked>>,
    pub fault: Option<Box<Fault>>,
}

/// A task that asks for others.
#[derive(Debug, Default)]
pub struct Asked {
    pub submits: Vec<NewTask>,
    /// How long it ran, where it has said so.
    pub ran: Option<Duration>,
    /// The last lines that were printed while it ran, once another task has printed some.
    pub last_output: Option<Vec<String>>,
}

/// How a task failed in a process that lived on.
#[derive(Debug)]
pub struct Fault {
    pub failure: Failure,
    pub ran: Duration,
    /// CPU time of the process until now.
    pub cpu: Option<Duration>,
    /// Most resident bytes of the process until now.
    pub peak_rss: Option<u64>,
    /// The last lines that were printed while it ran.
    pub last_output: Vec<String>,
}

/// What is left to settle after a death.
#[derive(Debug)]
pub struct Aftermath {
    /// Finished, though not all were reported.
    pub finished: Vec<HeldTask>,
    /// What the process was at when it died.
    pub culprit: Option<HeldTask>,
    /// Not started: to be given to another process.
    pub unstarted: Vec<Claimed>,
    /// One of these made a process lie, which one nobody can tell: to be handed out each by itself.
    pub suspects: Vec<Claimed>,
}

impl Held {
    pub fn count(&self) -> usize {
        self.tasks.len()
    }

    /// The last task that was handed out; 0 before the first.
    pub fn last_sent(&self) -> u64 {
        self.last_seq
    }

    /// Takes tasks over and puts them as the wire says them.
    pub fn hand_out(&mut self, tasks: Vec<Claimed>, now: Instant) -> Vec<wire::Task> {
        if self.tasks.is_empty() {
            self.since = Some(now);
        }
        let mut out = Vec::with_capacity(tasks.len());
        for claimed in tasks {
            self.last_seq += 1;
            out.push(wire::Task {
                seq: self.last_seq,
                id: claimed.task.id.0,
                attempt: claimed.task.attempt,
                payload: claimed.task.payload.as_str().to_owned(),
            });
            let seq = self.last_seq;
            self.tasks.push_back(HeldTask { seq, claimed, asked: None, fault: None });
        }
        out
    }

    /// Remembers what a task asked for; `false` when the process does not have that task.
    pub fn submit(&mut self, seq: u64, task: NewTask) -> bool {
        self.find(seq).map(|held| held.asked.get_or_insert_default().submits.push(task)).is_some()
    }

    /// The task of that number, if it asks for others.
    pub fn asked(&mut self, seq: u64) -> Option<&mut Asked> {
        self.find(seq)?.asked.as_deref_mut()
    }

    /// Remembers that a task failed; `false` when the process does not have that task.
    pub fn fail(&mut self, seq: u64, fault: Fault) -> bool {
        self.find(seq).map(|held| held.fault = Some(Box::new(fault))).is_some()
    }

    /// All tasks up to `seq` are finished. Also says how long they took together.
    pub fn finish(&mut self, seq: u64, now: Instant) -> (Vec<HeldTask>, Duration) {
        let count = self.tasks.iter().take_while(|held| held.seq <= seq).count();
        let elapsed = self.since.map_or(Duration::ZERO, |since| now.duration_since(since));
        self.since = Some(now);
        (self.tasks.drain(..count).collect(), elapsed)
    }

    /// Takes back what the process says it did not start.
    pub fn recall(&mut self, seqs: &[u64]) -> Vec<Claimed> {
        let (mut back, mut kept) = (Vec::new(), VecDeque::new());
        for held in self.tasks.drain(..) {
            if seqs.contains(&held.seq) {
                back.push(held.claimed);
            } else {
                kept.push_back(held);
            }
        }
        self.tasks = kept;
        back
    }

    /// When the first that was sent after one was claimed.
    pub fn claimed_after(&self, seq: u64) -> Option<Instant> {
        let next = self.tasks.iter().find(|held| held.seq > seq);
        next.map(|held| held.claimed.claimed_at)
    }

    /// Takes back all that were sent after one.
    pub fn recall_after(&mut self, seq: u64) -> Vec<Claimed> {
        let kept = self.tasks.partition_point(|held| held.seq <= seq);
        self.tasks.drain(kept..).map(|held| held.claimed).collect()
    }

    /// The task of that number, if the process has it.
    pub fn task(&self, seq: u64) -> Option<TaskId> {
        self.tasks.iter().find(|held| held.seq == seq).map(|held| held.claimed.task.id)
    }

    /// The task that it answers for next.
    pub fn next(&self) -> Option<TaskId> {
        self.tasks.front().map(|held| held.claimed.task.id)
    }

    /// The task that the progress page says is in hand, if it is one that was sent.
    pub fn in_hand(&self, progress: Progress) -> Option<&HeldTask> {
        self.tasks.iter().find(|held| held.seq == progress.started && held.seq > progress.finished)
    }

    /// Whether it has one that is handed out by itself.
    pub fn has_suspect(&self) -> bool {
        self.tasks.iter().any(|held| held.claimed.is_suspect)
    }

    /// Settles a death by the page's last word, which is believed only about tasks that were sent
    /// and not answered for. A process that was caught lying has finished no task that it did not
    /// answer for; the lie may be of each that it has started, so only one alone is to blame.
    pub fn after_death(mut self, progress: Progress, is_honest: bool) -> Aftermath {
        // Nothing is finished that was not started.
        let finished = Some(progress.finished).filter(|seq| is_honest && *seq <= progress.started);
        let is_finished =
            |held: &HeldTask| finished.is_some_and(|seq| held.seq <= seq) || held.fault.is_some();
        let (mut done, mut started, mut unstarted) = (Vec::new(), Vec::new(), Vec::new());
        for held in self.tasks.drain(..) {
            if is_finished(&held) {
                done.push(held);
            } else if held.seq <= progress.started {
                started.push(held);
            } else {
                unstarted.push(held.claimed);
            }
        }
        if is_honest {
            // It has one in hand at a time, whatever else its page says.
            let others = started.drain(started.len().min(1)..);
            unstarted.extend(others.map(|held| held.claimed));
        }
        let culprit = if started.len() == 1 { started.pop() } else { None };
        let suspects = started.into_iter().map(|held| Claimed { is_suspect: true, ..held.claimed });
        Aftermath { finished: done, culprit, unstarted, suspects: suspects.collect() }
    }

    fn find(&mut self, seq: u64) -> Option<&mut HeldTask> {
        self.tasks.iter_mut().find(|held| held.seq == seq)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rex_plugin_api::ops::{Again, Failure};
    use rex_transport::{ClaimId, ClaimedTask, Payload, TaskId};

    use super::{Claimed, Fault, Held};
    use crate::page::Progress;

    fn held(ids: std::ops::RangeInclusive<i64>) -> Held {
        let mut held = Held::default();
        let tasks = ids.map(|id| Claimed {
            claim: ClaimId(1),
            claimed_at: Instant::now(),
            place: id.unsigned_abs(),
            is_suspect: false,
            task: ClaimedTask {
                id: TaskId(id),
                attempt: 1,
                history: serde_json::Value::Null,
                payload: Payload::empty(),
            },
        });
        held.hand_out(tasks.collect(), Instant::now());
        held
    }

    fn fault() -> Fault {
        let text = String::new();
        let again = Again::default();
        let failure = Failure {
            panicked: false,
            class: String::new(),
            text,
            place: None,
            frames: vec![],
            again,
        };
        Fault { failure, ran: Duration::ZERO, cpu: None, peak_rss: None, last_output: Vec::new() }
    }

    /// `finished | culprit | unstarted` after a death at that progress.
    #[track_caller]
    fn check(held: Held, started: u64, finished: u64, expected: &str) {
        let progress = Progress { started, finished, started_at: 0 };
        let aftermath = held.after_death(progress, true);
        let ids = |ids: Vec<i64>| ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
        let seen = format!(
            "{} | {} | {}",
            ids(aftermath.finished.iter().map(|held| held.claimed.task.id.0).collect()),
            ids(aftermath.culprit.iter().map(|held| held.claimed.task.id.0).collect()),
            ids(aftermath.unstarted.iter().map(|claimed| claimed.task.id.0).collect()),
        );
        assert_eq!(seen, expected);
    }

    #[test]
    fn only_the_task_in_hand_is_to_blame() {
        check(held(11..=14), 0, 0, " |  | 11 12 13 14");
        check(held(11..=14), 1, 0, " | 11 | 12 13 14");
        check(held(11..=14), 3, 2, "11 12 | 13 | 14");
        check(held(11..=14), 2, 2, "11 12 |  | 13 14");
        check(held(11..=14), 4, 4, "11 12 13 14 |  | ");
    }

    #[test]
    fn a_reported_failure_is_an_answer() {
        let mut held = held(11..=13);
        assert!(held.fail(1, fault()));
        assert!(!held.fail(9, fault()));
        check(held, 1, 0, "11 |  | 12 13");
    }

    #[test]
    fn a_page_full_of_lies_loses_nothing() {
        check(held(11..=12), u64::MAX, 0, " | 11 | 12");
        check(held(11..=12), 0, u64::MAX, " |  | 11 12");
        check(held(11..=12), 1, 2, " | 11 | 12");
    }

    #[test]
    fn a_liar_has_finished_nothing_and_none_of_many_is_charged() {
        let progress = Progress { started: 3, finished: 3, started_at: 0 };
        let aftermath = held(11..=14).after_death(progress, false);
        assert!(aftermath.finished.is_empty() && aftermath.culprit.is_none());
        let ids = |back: &[Claimed]| back.iter().map(|c| c.task.id.0).collect::<Vec<_>>();
        assert_eq!(ids(&aftermath.suspects), [11, 12, 13]);
        assert!(aftermath.suspects.iter().all(|claimed| claimed.is_suspect));
        assert_eq!(ids(&aftermath.unstarted), [14]);
    }

    #[test]
    fn a_liar_that_had_started_one_alone_is_known() {
        let progress = Progress { started: 1, finished: 1, started_at: 0 };
        let aftermath = held(11..=12).after_death(progress, false);
        assert_eq!(aftermath.culprit.map(|held| held.claimed.task.id.0), Some(11));
        assert!(aftermath.suspects.is_empty() && aftermath.finished.is_empty());
    }

    #[test]
    fn recall_takes_back_only_what_was_sent() {
        let mut held = held(11..=13);
        let back = held.recall(&[2, 3, 99]);
        assert_eq!(back.iter().map(|c| c.task.id.0).collect::<Vec<_>>(), [12, 13]);
        assert_eq!(held.count(), 1);
    }
}
