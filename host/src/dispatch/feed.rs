//! How many tasks to claim and how many to hand out: pure arithmetic over one queue.
//!
//! A window is what one process is given ahead: about [`WINDOW`] of expected work, one task until a
//! pace is known. Fairness comes before batch size: processes share what is there evenly, and slow
//! work is claimed only as processes are free to start it, so that another host can take the rest.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rex_transport::{Claim, ClaimId, ClaimedTask};

use super::claim_cost::ClaimCost;

/// Expected work that one process is given ahead.
pub const WINDOW: Duration = Duration::from_millis(50);
/// Most tasks in one window: a claim of so many costs the store little more than one of a few.
pub const LARGEST_WINDOW: usize = 2048;
/// Most bytes of payloads that are handed out at once; one task may have more.
const LARGEST_BATCH: usize = 8 << 20;
/// Most bytes of payloads that wait here for a process; one task may have more.
const LARGEST_STOCK: usize = 32 << 20;
/// A pace is believed step by step: one lucky sample must not flood a process.
const GROWTH: usize = 4;

/// A task that was claimed.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub claim: ClaimId,
    pub task: ClaimedTask,
    /// Its place among all that was claimed of its queue, in the store's order.
    pub place: u64,
    /// It was in hand, with others, of a process that lied: to be handed out by itself, so that the
    /// next lie has one author.
    pub is_suspect: bool,
}

/// The claimed tasks of one queue that no process has, and the queue's pace.
#[derive(Debug, Default)]
pub struct Feed {
    ready: VecDeque<Claimed>,
    /// The place of the next one that is claimed.
    next: u64,
    /// Bytes of their payloads.
    bytes: usize,
    /// Seconds a task takes, smoothed; `None` until one was measured.
    pace: Option<f64>,
    window: usize,
    cost: ClaimCost,
}

impl Feed {
    /// Learns that the store took so long to claim `count` tasks.
    pub fn claimed(&mut self, count: usize, took: Duration) {
        // One that found nothing says nothing.
        if count > 0 {
            self.cost.learn(count, took);
        }
    }

    pub fn add(&mut self, claim: Claim) {
        let id = claim.id;
        self.bytes += claim.tasks.iter().map(|task| task.payload.len()).sum::<usize>();
        for task in claim.tasks {
            let place = self.next;
            self.ready.push_back(Claimed { claim: id, task, place, is_suspect: false });
            self.next += 1;
        }
    }

    /// Takes back tasks that were handed out and not started, each to its place.
    pub fn put_back(&mut self, tasks: Vec<Claimed>) {
        self.bytes += tasks.iter().map(|claimed| claimed.task.payload.len()).sum::<usize>();
        self.ready.extend(tasks);
        self.ready.make_contiguous().sort_by_key(|claimed| claimed.place);
    }

    /// Drops the tasks of claims that others have taken over.
    pub fn forget(&mut self, taken: &BTreeSet<ClaimId>) {
        self.ready.retain(|claimed| !taken.contains(&claimed.claim));
        self.bytes = self.ready.iter().map(|claimed| claimed.task.payload.len()).sum();
    }

    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Learns that `count` tasks took `elapsed`.
    pub fn measured(&mut self, count: u64, elapsed: Duration) {
        if count == 0 {
            return;
        }
        let sample = elapsed.as_secs_f64() / count as f64;
        let pace = self.pace.map_or(sample, |pace| pace * 0.75 + sample * 0.25);
        self.pace = Some(pace);
        let fits = (WINDOW.as_secs_f64() / pace.max(1e-9)) as usize;
        self.window = fits.clamp(1, LARGEST_WINDOW).min(self.window.max(1) * GROWTH);
    }

    /// How many tasks one process may hold.
    pub fn window(&self) -> usize {
        self.window.max(1)
    }

    /// How many tasks to claim for `serving` processes that hold `held` together; 0 for none now.
    pub fn to_claim(&self, serving: usize, held: usize) -> usize {
        let window = self.window();
        // Slow work: what is running is enough, a claim ahead would only keep it from others.
        let ahead = if window == 1 { 1 } else { 2 };
        let wanted = (serving * window * ahead).saturating_sub(held + self.ready.len());
        // Dribbles cost as much as batches.
        let worth_it = self.ready.is_empty() || wanted >= serving * window / 2;
        if worth_it { wanted.min(self.cost.most().unwrap_or(usize::MAX)) } else { 0 }
    }

    /// Tasks for a process that holds `held`, of `serving` that share the queue; at most `most`.
    pub fn take(&mut self, held: usize, serving: usize, most: usize) -> Vec<Claimed> {
        let window = self.window();
        // Refilled before it is empty, but not by a task at a time.
        if held > window / 2 {
            return Vec::new();
        }
        let share = self.ready.len().div_ceil(serving.max(1));
        let count = (window - held).min(share.max(usize::from(held == 0))).min(most);
        let mut bytes = 0;
        let fits = |claimed: &&Claimed| {
            let first = bytes == 0;
            bytes += claimed.task.payload.len();
            first || bytes <= LARGEST_BATCH
        };
        let count = match self.ready.iter().take(count).position(|claimed| claimed.is_suspect) {
            Some(0) => usize::from(held == 0).min(count),
            Some(before) => before,
            None => count,
        };
        let count = self.ready.iter().take(count).take_while(fits).count();
        let taken: Vec<Claimed> = self.ready.drain(..count).collect();
        self.bytes -= taken.iter().map(|claimed| claimed.task.payload.len()).sum::<usize>();
        taken
    }

    /// Bytes of payloads that may be claimed now.
    pub fn room(&self) -> usize {
        LARGEST_STOCK.saturating_sub(self.bytes)
    }

    /// Takes everything: the queue is left.
    pub fn take_all(&mut self) -> Vec<Claimed> {
        self.bytes = 0;
        self.ready.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rex_transport::{Claim, ClaimId, ClaimedTask, Payload, QueueName, TaskId, Timestamp};

    use super::{Feed, LARGEST_STOCK, LARGEST_WINDOW};

    fn feed(ids: std::ops::RangeInclusive<i64>) -> Feed {
        let mut feed = Feed::default();
        feed.add(claim(ids, &Payload::empty()));
        feed
    }

    fn claim(ids: std::ops::RangeInclusive<i64>, payload: &Payload) -> Claim {
        let task = |id| ClaimedTask {
            id: TaskId(id),
            attempt: 1,
            submitted: Timestamp(0),
            payload: payload.clone(),
            history: serde_json::Value::Null,
        };
        let queue = QueueName::parse("foo").unwrap();
        Claim { id: ClaimId(1), queue, tasks: ids.map(task).collect() }
    }

    /// A payload of so many megabytes and a few bytes.
    fn large(megabytes: usize) -> Payload {
        Payload::from_stored(format!("{{\"x\": \"{}\"}}", "y".repeat(megabytes << 20)))
    }

    #[test]
    fn the_first_window_is_one_task_and_grows_with_the_pace() {
        let mut feed = feed(1..=100);
        assert_eq!(feed.take(0, 1, usize::MAX).len(), 1);
        feed.measured(1, Duration::from_micros(10));
        assert_eq!(feed.window(), 4, "step by step");
        for _ in 0..10 {
            feed.measured(100, Duration::from_millis(1));
        }
        assert_eq!(feed.window(), LARGEST_WINDOW);
        for _ in 0..40 {
            feed.measured(1, Duration::from_secs(1));
        }
        assert_eq!(feed.window(), 1);
    }

    #[test]
    fn slow_work_is_claimed_only_for_free_processes() {
        let mut feed = Feed::default();
        feed.measured(1, Duration::from_secs(1));
        assert_eq!(feed.to_claim(2, 0), 2);
        assert_eq!(feed.to_claim(2, 1), 1);
        assert_eq!(feed.to_claim(2, 2), 0);
    }

    #[test]
    fn a_store_that_is_slow_to_claim_is_asked_for_less() {
        let mut feed = Feed::default();
        for _ in 0..10 {
            feed.measured(100, Duration::from_millis(1));
        }
        assert_eq!(feed.to_claim(2, 0), 4 * LARGEST_WINDOW);
        feed.claimed(1000, Duration::from_millis(1));
        feed.claimed(4000, Duration::from_millis(61));
        assert_eq!(feed.to_claim(2, 0), 2000);
        feed.claimed(0, Duration::from_secs(9));
        assert_eq!(feed.to_claim(2, 0), 2000, "it found nothing, which says nothing");
    }

    #[test]
    fn what_is_there_is_shared_evenly() {
        let mut feed = feed(1..=10);
        for _ in 0..10 {
            feed.measured(100, Duration::from_millis(1));
        }
        assert_eq!(feed.take(0, 2, usize::MAX).len(), 5);
        assert_eq!(feed.take(0, 2, 1).len(), 1, "that is all it may have");
        assert_eq!(feed.take(0, 2, usize::MAX).len(), 2);
    }

    #[test]
    fn large_payloads_are_handed_out_a_few_at_a_time() {
        let mut feed = Feed::default();
        feed.add(claim(1..=5, &large(3)));
        feed.add(claim(6..=7, &large(9)));
        for _ in 0..10 {
            feed.measured(100, Duration::from_millis(1));
        }
        assert_eq!(feed.take(0, 1, usize::MAX).len(), 2);
        assert_eq!(feed.take(0, 1, usize::MAX).len(), 2);
        assert_eq!(feed.take(0, 1, usize::MAX).len(), 1);
        assert_eq!(feed.take(0, 1, usize::MAX).len(), 1, "one there is always");
    }

    #[test]
    fn large_payloads_are_claimed_a_few_at_a_time() {
        let mut feed = Feed::default();
        assert_eq!(feed.room(), LARGEST_STOCK);
        feed.add(claim(1..=3, &large(15)));
        assert_eq!(feed.room(), 0);
        let taken = feed.take(0, 1, usize::MAX);
        assert!(feed.room() < 3 << 20, "two are left");
        feed.put_back(taken);
        assert_eq!(feed.room(), 0);
        feed.take_all();
        assert_eq!(feed.room(), LARGEST_STOCK);
    }

    /// A better priority is claimed first, whatever its id.
    #[test]
    fn what_comes_back_has_its_old_place() {
        let mut feed = feed(7..=8);
        feed.add(claim(1..=2, &Payload::empty()));
        let mut taken = feed.take(0, 1, usize::MAX);
        taken.extend(feed.take(0, 1, usize::MAX));
        feed.put_back(taken);
        let order: Vec<i64> = feed.take_all().iter().map(|claimed| claimed.task.id.0).collect();
        assert_eq!(order, [7, 8, 1, 2]);
    }

    #[test]
    fn suspects_are_handed_out_one_by_one() {
        let mut feed = feed(1..=5);
        for _ in 0..10 {
            feed.measured(100, Duration::from_millis(1));
        }
        let mut taken = feed.take(0, 1, usize::MAX);
        taken[1].is_suspect = true;
        taken[2].is_suspect = true;
        feed.put_back(taken);
        let mut take = |held| {
            let taken = feed.take(held, 1, usize::MAX);
            taken.iter().map(|claimed| claimed.task.id.0).collect::<Vec<_>>()
        };
        assert_eq!(take(0), [1]);
        assert!(take(1).is_empty(), "the process has another one still");
        assert_eq!(take(0), [2]);
        assert_eq!(take(0), [3]);
        assert_eq!(take(0), [4, 5]);
    }

    #[test]
    fn what_comes_back_goes_before_what_waits() {
        let mut feed = feed(1..=4);
        let first = feed.take(0, 1, usize::MAX);
        assert_eq!(first[0].task.id, TaskId(1));
        feed.put_back(first);
        assert_eq!(feed.take(0, 1, usize::MAX)[0].task.id, TaskId(1));
    }
}
