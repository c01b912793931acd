//! How many tasks to claim and how many to hand out: pure arithmetic over one queue.
//!
//! A window is what one process is given ahead: about [`WINDOW`] of expected work, one task until a
//! pace is known. Fairness comes before batch size: processes share what is there evenly, and slow
//! work is claimed only as processes are free to start it, so that another host can take the rest.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rex_transport::{Claim, ClaimId, ClaimedTask};

use super::claim_cost::ClaimCost;

/// Expected work that one process is given ahead.
pub const WINDOW: Duration = Duration::from_millis(50);
/// What was claimed and nobody has begun for so long is not waited for: others may begin it.
pub const WAITED: Duration = Duration::from_secs(1);
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
    pub claimed_at: Instant,
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

    pub fn add(&mut self, claim: Claim, claimed_at: Instant) {
        let id = claim.id;
        self.bytes += claim.tasks.iter().map(|task| task.payload.len()).sum::<usize>();
        for task in claim.tasks {
            let place = self.next;
            self.ready.push_back(Claimed { claim: id, task, claimed_at, place, is_suspect: false });
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
        let wanted = self.ahead(serving).saturating_sub(held + self.ready.len());
        // Dribbles cost as much as batches.
        let worth_it = self.ready.is_empty() || wanted >= serving * self.window() / 2;
        if worth_it { wanted.min(self.cost.most().unwrap_or(usize::MAX)) } else { 0 }
    }

    /// How many tasks are to be here for `serving` processes, in hand or not.
    pub fn ahead(&self, serving: usize) -> usize {
        let window = self.window();
        // Slow work: what is running is enough, a claim ahead would only keep it from others.
        serving * window * if window == 1 { 1 } else { 2 }
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

    /// When what waits here has waited for too long.
    pub fn overdue_at(&self) -> Option<Instant> {
        self.ready.front().map(|first| first.claimed_at + WAITED)
    }

    /// Takes what is more than is to be `kept`, if some of it has waited for too long: the work has become
    /// slower than it was when that was claimed, or there is nobody to do it.
    pub fn take_overdue(&mut self, kept: usize, now: Instant) -> Vec<Claimed> {
        if self.overdue_at().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let rest = self.ready.split_off(kept.min(self.ready.len()));
        let (suspects, taken): (Vec<Claimed>, _) =
            rest.into_iter().partition(|claimed| claimed.is_suspect);
        self.ready.extend(suspects);
        self.bytes = self.ready.iter().map(|claimed| claimed.task.payload.len()).sum();
        taken
    }

    /// Takes everything: the queue is left.
    pub fn take_all(&mut self) -> Vec<Claimed> {
        self.bytes = 0;
        self.ready.drain(..).collect()
    }
}

#[cfg(test)]
mod tests;
