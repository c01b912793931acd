//! How far into a queue's index all is known to be taken, so that a claim does not step over the
//! dead rows of those before it: they stay as long as any session holds an old snapshot.
//!
//! Below a mark something may still turn up: a row whose transaction took its id early and commits
//! late, a task that was put back, a sequence that was set back by hand. Late commits are known
//! from the transactions in progress: a mark is believed once all that ran when it was made have
//! ended. Everything else is found by a pass from the start now and then, as often as it is cheap.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::QueueName;

/// Full passes may take this part of the time.
const SHARE: u32 = 20;
/// And are made no oftener than this.
const OFTENEST: Duration = Duration::from_millis(500);
/// How long a transaction in progress may keep a mark from being believed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The marks of all queues.
#[derive(Debug, Default)]
pub(super) struct Marks(HashMap<QueueName, Mark>);

#[derive(Debug, Default)]
struct Mark {
    /// All ids up to here are taken.
    low: i64,
    /// Ids to be believed, each with the first transaction id after it and when it was made.
    coming: VecDeque<(i64, i64, Instant)>,
    /// When the next look from the start is due; at once, at first.
    full_at: Option<Instant>,
}

/// A look into a queue that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Ids above this are looked at.
    pub(super) above: i64,
    begun: Instant,
}

/// What a claim took of the original's table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// The last id, if any.
    pub(super) last: Option<i64>,
    /// The snapshot's oldest transaction in progress, and the first after all.
    pub(super) oldest: i64,
    pub(super) next: i64,
}

impl Marks {
    /// From where to look now.
    pub(super) fn look(&self, queue: &QueueName, now: Instant) -> Look {
        let mark = self.0.get(queue).filter(|mark| mark.full_at.is_some_and(|at| now < at));
        Look { above: mark.map_or(0, |mark| mark.low), begun: now }
    }

    /// A look has found nothing.
    pub(super) fn found_nothing(&mut self, queue: &QueueName, look: Look, now: Instant) {
        self.looked(queue, look, now);
    }

    /// A look has taken what it found.
    pub(super) fn took(&mut self, queue: &QueueName, look: Look, took: Took, now: Instant) {
        let mark = self.looked(queue, look, now);
        if let Some(last) = took.last {
            if last <= mark.low {
                // There is more below than a single look takes: go on from the start.
                *mark = Mark::default();
                return;
            }
            mark.coming.push_back((last, took.next, now));
        }
        while let Some((last, next, made)) = mark.coming.front().copied() {
            if next > took.oldest && now.duration_since(made) < PATIENCE {
                break;
            }
            mark.low = mark.low.max(last);
            mark.coming.pop_front();
        }
    }

    fn looked(&mut self, queue: &QueueName, look: Look, now: Instant) -> &mut Mark {
        let mark = self.0.entry(queue.clone()).or_default();
        if look.above == 0 {
            let pause = (now.duration_since(look.begun) * SHARE).max(OFTENEST);
            mark.full_at = Some(now + pause);
        }
        mark
    }

    /// Something was put back: look from the start.
    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Marks, Took};
    use crate::QueueName;

    #[test]
    fn a_mark_is_believed_when_all_that_ran_have_ended() {
        let queue = QueueName::parse("foo").unwrap();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut marks = Marks::default();
        let took = |last, oldest, next| Took { last: Some(last), oldest, next };

        let look = marks.look(&queue, at(0));
        assert_eq!(look.above, 0, "the first look is from the start");
        // Transaction 7 is in progress: it may hold an id below 100.
        marks.took(&queue, look, took(100, 7, 9), at(1));
        assert_eq!(marks.look(&queue, at(2)).above, 0);
        let look = marks.look(&queue, at(2));
        marks.took(&queue, look, took(200, 9, 12), at(3));
        let look = marks.look(&queue, at(4));
        assert_eq!(look.above, 100);
        marks.found_nothing(&queue, look, at(5));
        assert_eq!(marks.look(&queue, at(6)).above, 100, "an empty look is no full one");
        assert_eq!(marks.look(&queue, at(600)).above, 0, "now and then from the start");
        let look = marks.look(&queue, at(600));
        // The full look took 100 ms: the next one has time.
        marks.took(&queue, look, took(300, 12, 12), at(700));
        assert_eq!(marks.look(&queue, at(2600)).above, 300);
        assert_eq!(marks.look(&queue, at(2701)).above, 0);
        // A sequence that was set back.
        let look = marks.look(&queue, at(2701));
        marks.took(&queue, look, took(20, 13, 13), at(2702));
        assert_eq!(marks.look(&queue, at(2703)).above, 0);
        marks.forget_all();
        assert_eq!(marks.look(&queue, at(2703)).above, 0);
    }

    #[test]
    fn a_transaction_that_never_ends_is_not_waited_for() {
        let queue = QueueName::parse("foo").unwrap();
        let start = Instant::now();
        let mut marks = Marks::default();
        let look = marks.look(&queue, start);
        marks.took(&queue, look, Took { last: Some(100), oldest: 1, next: 9 }, start);
        let later = start + Duration::from_secs(6);
        let look = marks.look(&queue, later);
        marks.took(&queue, look, Took { last: Some(200), oldest: 1, next: 10 }, later);
        assert_eq!(marks.look(&queue, later).above, 100);
    }
}
