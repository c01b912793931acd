//! How far into a queue's indexes all is known to be taken, so that a claim does not step over the
//! dead rows of those before it: they stay as long as any session holds an old snapshot.
//!
//! The original's table has one mark, an id. Tasks with attributes have one for each priority, since
//! an urgent one may come at any time: a claim looks above each mark and into what is between them.
//! Those that wait for their time have one too, a moment; whoever makes some of them claimable
//! remembers which, for their ids may be below a mark.
//!
//! Below a mark something may still turn up: a row whose transaction took its id early and commits
//! late, a task that was put back or that another host made claimable, a sequence that was set back
//! by hand. Late commits are known from the transactions in progress: a mark is believed once all
//! that ran when it was made have ended. Everything else is found by a pass from the start now and
//! then, as often as it is cheap.
//!
//! A host that has taken nothing yet has marks, too, where it has found nothing: the last id that was
//! given out before.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::types::Moment;
use crate::QueueName;

/// Full passes may take this part of the time.
const SHARE: u32 = 20;
/// And are made no oftener than this,
const OFTENEST: Duration = Duration::from_millis(500);
/// and at least as often as this.
const SELDOMEST: Duration = Duration::from_secs(20);
/// How long a transaction in progress may keep marks from being believed.
const PATIENCE: Duration = Duration::from_secs(1);
/// Priorities of a queue that have marks; a look costs a little for each.
const PRIORITIES: usize = 100;
/// Tasks that were made claimable and are remembered; with more, it is looked from the start.
const WOKEN: usize = 4096;

/// The marks of all queues.
#[derive(Debug, Default)]
pub(super) struct Marks {
    queues: HashMap<QueueName, Queue>,
    /// Transactions in progress, each with when it was first seen.
    running: HashMap<i64, Instant>,
}

#[derive(Debug, Default)]
struct Queue {
    theirs: Mark<i64>,
    /// By priority.
    ours: BTreeMap<i16, Mark<i64>>,
    /// Where nothing waits for its time any more; a moment may have several tasks.
    due: Mark<(Moment, i64)>,
    /// Made claimable by this host, and not yet claimed by it: priority and id.
    woken: BTreeSet<(i16, i64)>,
    /// The last id that was given out by an earlier look: what has one of those before it is taken, or
    /// seen by later looks, as soon as all that ran have ended.
    given: Option<i64>,
    /// How long the last look took that had to begin at the start anywhere: one that a stall of the
    /// server made slow says nothing of the next.
    full: Option<Duration>,
    /// The oldest claim that was alive at the last claim under a limit of tasks in flight.
    oldest_claim: i64,
}

/// All up to here are taken.
#[derive(Debug)]
struct Mark<V> {
    low: Option<V>,
    /// To be believed, ascending, each with the first transaction id after it.
    coming: VecDeque<(V, i64)>,
    /// When the next look from the start is due; at once, at first.
    full_at: Option<Instant>,
}

impl<V> Default for Mark<V> {
    fn default() -> Mark<V> {
        Mark { low: None, coming: VecDeque::new(), full_at: None }
    }
}

/// How a look ended: what it could see, and when to look from the start again.
struct Ending {
    /// The first transaction in progress that counts.
    oldest: i64,
    /// The first after all.
    next: i64,
    again: Instant,
}

impl<V: Copy + Ord> Mark<V> {
    /// Above what to look now; `None`: from the start.
    fn above(&self, now: Instant) -> Option<V> {
        self.low.filter(|_| self.full_at.is_some_and(|at| now < at))
    }

    /// What was given out by an earlier look, where that says more than is known already.
    fn news(&self, given: Option<i64>) -> Option<V>
    where
        V: From<i64>,
    {
        let known = self.low.max(self.coming.back().map(|(value, _)| *value));
        given.map(V::from).filter(|given| known.is_none_or(|known| known < *given))
    }

    /// A look that began `above` has seen everything up to `end` (`None`: all there is), and all
    /// up to `last` is taken.
    fn looked(&mut self, above: Option<V>, end: Option<V>, last: Option<V>, ending: &Ending) {
        let passed = |value: V| end.is_none_or(|end| value <= end);
        if let Some(last) = last {
            if self.low.is_some_and(|low| last < low) {
                // There may be more below than a single look takes: go up from here again.
                self.low = None;
            }
            self.coming.retain(|(value, _)| *value <= last);
            self.coming.push_back((last, ending.next));
        }
        while let Some((value, next)) = self.coming.front().copied()
            && next <= ending.oldest
            && passed(value)
        {
            self.low = self.low.max(Some(value));
            self.coming.pop_front();
        }
        if above.is_none() && self.low.is_none_or(passed) {
            self.full_at = Some(ending.again);
        }
    }
}

impl Mark<i64> {
    /// One of those that were taken is there again.
    fn set_back(&mut self, id: i64) {
        self.low = self.low.map(|low| low.min(id.saturating_sub(1)));
        self.coming.retain(|(coming, _)| *coming < id);
    }
}

/// A look into a queue that is under way: above what; `None`: from the start.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Ids of the original's table.
    theirs: Option<i64>,
    /// Ids of the priorities that have marks.
    ours: BTreeMap<i16, Option<i64>>,
    /// Of those that wait for their time.
    due: Option<(Moment, i64)>,
    /// Ids of tasks that were made claimable and are in no span.
    pub(super) woken: Vec<i64>,
    /// Claims before this one are ended.
    pub(super) oldest_claim: i64,
    pub(super) begun: Instant,
}

/// Ranges of priorities and ids, ascending: after a priority and id, and before a priority.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Spans {
    pub(super) priorities: Vec<i16>,
    pub(super) ids: Vec<i64>,
    pub(super) before: Vec<i32>,
}

impl Look {
    pub(super) fn theirs(&self) -> i64 {
        self.theirs.unwrap_or(i64::MIN)
    }

    /// The ranges above the marks, and those between.
    pub(super) fn spans(&self) -> Spans {
        let marks = self.ours.iter().map(|(priority, above)| (*priority, *above));
        let starts = [(i16::MIN, None)].into_iter().chain(marks);
        let (priorities, ids): (Vec<i16>, Vec<i64>) =
            starts.map(|(priority, above)| (priority, above.unwrap_or(i64::MIN))).unzip();
        let ends = priorities.iter().skip(1).map(|priority| i32::from(*priority));
        let before = ends.chain([i32::from(i16::MAX) + 1]).collect();
        Spans { priorities, ids, before }
    }

    /// Whether it begins at the start anywhere.
    fn is_full(&self) -> bool {
        self.theirs.is_none() || self.due.is_none() || self.ours.values().any(Option::is_none)
    }

    pub(super) fn due(&self) -> (Moment, i64) {
        self.due.unwrap_or((Moment::FIRST, i64::MIN))
    }
}

/// Which transactions a statement could see.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) running: Vec<i64>,
    /// The first after all.
    pub(super) next: i64,
}

/// What a look has seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// In the original's table.
    pub(super) theirs: bool,
    /// With attributes, claimable.
    pub(super) ours: bool,
    /// The first of those that wait for their time.
    pub(super) due: Option<(Moment, i64)>,
    /// When the look began, by the server's clock.
    pub(super) now: Moment,
    /// The last id that was given out by then, to whatever queue, if that may be known.
    pub(super) given: Option<i64>,
    pub(super) snapshot: Snapshot,
}

impl Seen {
    /// Whether tasks are to be made claimable.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_some_and(|(due, _)| due <= self.now)
    }
}

/// What a claim took.
#[derive(Debug)]
pub(super) struct Took {
    /// The last id of the original's table, if any.
    pub(super) theirs: Option<i64>,
    /// Priorities and ids of tasks with attributes, if such were looked at.
    pub(super) ours: Option<Vec<(i16, i64)>>,
    /// Priority and id of the last task, unless there were no more.
    pub(super) end: Option<(i16, i64)>,
    pub(super) snapshot: Snapshot,
    /// The oldest claim that is alive, if that was looked at.
    pub(super) oldest_claim: Option<i64>,
}

impl Took {
    /// Up to which id everything of a priority was seen.
    fn end(&self, priority: i16) -> Option<i64> {
        let (last, id) = self.end?;
        match priority.cmp(&last) {
            Ordering::Less => None,
            Ordering::Equal => Some(id),
            Ordering::Greater => Some(i64::MIN),
        }
    }
}

impl Marks {
    /// From where to look now, for at most so many tasks.
    pub(super) fn look(&self, queue: &QueueName, tasks: usize, now: Instant) -> Look {
        let unknown = Queue::default();
        let queue = self.queues.get(queue).unwrap_or(&unknown);
        let ours: BTreeMap<i16, Option<i64>> =
            queue.ours.iter().map(|(priority, mark)| (*priority, mark.above(now))).collect();
        let is_below = |(priority, id): &&(i16, i64)| {
            ours.get(priority).copied().flatten().is_some_and(|above| *id <= above)
        };
        Look {
            theirs: queue.theirs.above(now),
            woken: queue.woken.iter().filter(is_below).map(|(_, id)| *id).take(tasks).collect(),
            ours,
            due: queue.due.above(now),
            oldest_claim: queue.oldest_claim,
            begun: now,
        }
    }

    /// A look has seen whether there is anything.
    pub(super) fn saw(&mut self, queue: &QueueName, look: &Look, seen: &Seen, now: Instant) {
        let ending = self.ending(queue, look, &seen.snapshot, now);
        let queue = self.queues.entry(queue.clone()).or_default();
        let given = std::mem::replace(&mut queue.given, seen.given);
        if !seen.theirs {
            queue.theirs.looked(look.theirs, None, queue.theirs.news(given), &ending);
        }
        if !seen.ours {
            if given.is_some() {
                // Most have this priority.
                queue.ours.entry(0).or_default();
            }
            for (priority, mark) in &mut queue.ours {
                let above = look.ours.get(priority).copied().flatten();
                let last = mark.news(given).filter(|_| *priority == 0);
                mark.looked(above, None, last, &ending);
            }
            // Others have taken them.
            queue.woken.retain(|(_, id)| !look.woken.contains(id));
        }
        // Before the first, or before now, none is left.
        let end = seen.due.filter(|_| seen.is_due()).map(|(due, id)| (due, id.saturating_sub(1)));
        let end = Some(end.unwrap_or((seen.now, i64::MIN)));
        queue.due.looked(look.due, end, end, &ending);
    }

    /// Tasks were made claimable: priorities and ids.
    pub(super) fn woke(&mut self, queue: &QueueName, tasks: impl IntoIterator<Item = (i16, i64)>) {
        let queue = self.queues.entry(queue.clone()).or_default();
        queue.woken.extend(tasks);
        if queue.woken.len() > WOKEN {
            queue.woken.clear();
            queue.ours.clear();
        }
    }

    /// A look has taken what it found.
    pub(super) fn took(&mut self, queue: &QueueName, look: &Look, took: &Took, now: Instant) {
        let ending = self.ending(queue, look, &took.snapshot, now);
        let queue = self.queues.entry(queue.clone()).or_default();
        queue.theirs.looked(look.theirs, took.end(0), took.theirs, &ending);
        queue.oldest_claim = took.oldest_claim.unwrap_or(queue.oldest_claim);
        let Some(ours) = &took.ours else { return };
        let mut last = BTreeMap::new();
        for (priority, id) in ours {
            let low = queue.ours.get(priority).and_then(|mark| mark.low);
            // One that was made claimable says nothing of those above it.
            if !queue.woken.remove(&(*priority, *id)) || low.is_none_or(|low| low < *id) {
                let last = last.entry(*priority).or_insert(*id);
                *last = (*last).max(*id);
            }
            queue.ours.entry(*priority).or_default();
        }
        for (priority, mark) in &mut queue.ours {
            let above = look.ours.get(priority).copied().flatten();
            mark.looked(above, took.end(*priority), last.get(priority).copied(), &ending);
        }
        // What was looked for and not found is gone.
        queue.woken.retain(|(priority, id)| {
            !look.woken.contains(id) || took.end.is_some_and(|end| end < (*priority, *id))
        });
        if queue.ours.len() > PRIORITIES {
            queue.ours.retain(|priority, _| last.contains_key(priority));
        }
        while queue.ours.len() > PRIORITIES {
            queue.ours.pop_last();
        }
    }

    /// A task of the original's table is there again.
    pub(super) fn put_back(&mut self, queue: &QueueName, id: i64) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.theirs.set_back(id);
        }
    }

    /// Something was passed over or put back: look from the start.
    pub(super) fn forget(&mut self, queue: &QueueName) {
        self.queues.remove(queue);
    }

    /// Others have put tasks back: look from the start.
    pub(super) fn forget_all(&mut self) {
        self.queues.clear();
    }

    fn ending(
        &mut self,
        queue: &QueueName,
        look: &Look,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Ending {
        self.running.retain(|id, _| snapshot.running.contains(id));
        let running = snapshot.running.iter().copied();
        let counts = running
            .filter(|id| now.duration_since(*self.running.entry(*id).or_insert(now)) < PATIENCE);
        let oldest = counts.min().unwrap_or(i64::MAX);
        let took = now.duration_since(look.begun);
        let queue = self.queues.entry(queue.clone()).or_default();
        let usual = queue.full.map_or(took, |before| before.min(took));
        if look.is_full() {
            queue.full = Some(took);
        }
        let pause = (usual * SHARE).clamp(OFTENEST, SELDOMEST);
        Ending { oldest, next: snapshot.next, again: now + pause }
    }
}

#[cfg(test)]
mod tests;
