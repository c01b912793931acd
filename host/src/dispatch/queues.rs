//! The loop's dealings with queues: it claims tasks, hands them out, evens them out between
//! processes, and sees when nothing is left to do.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rex_transport::{Claim, Finished, Outcome, QueueName, Want};

use super::feed::{Claimed, Feed, WAITED};
use super::running::Running;
use super::store::Idle;
use super::{Host, Phase, Queue, SlotId};
use crate::supervisor::slot::Event as SlotEvent;
use crate::supervisor::{ProcessId, Slot};
use crate::wire::ToWorker;

impl Queue {
    /// Tasks may have come.
    pub(super) fn wake(&mut self) {
        self.empty_until = None;
        self.woken = true;
    }

    fn begin_claim(&mut self) {
        self.claiming = true;
        self.woken = false;
    }

    /// The store has nothing; to be asked again then. Word that came while it was looking may be of
    /// tasks that it had not seen.
    fn found_nothing(&mut self, again: Instant) {
        self.empty_until = (!self.woken).then_some(again);
    }
}

impl Host {
    pub(super) fn on_claimed(
        &mut self,
        name: &QueueName,
        claim: Option<Claim>,
        took: Duration,
        due: Option<Duration>,
        now: Instant,
    ) {
        self.outbox.claimed();
        let Some(queue) = self.queues.get_mut(name) else {
            // The queue left the plan while the claim was under way.
            let mut left = Feed::default();
            claim.into_iter().for_each(|claim| left.add(claim, now));
            return left.take_all().into_iter().for_each(|claimed| self.outbox.release(claimed));
        };
        queue.claiming = false;
        if queue.refused_until.take().is_some() {
            tracing::info!("the queue store gives tasks of queue {name} again");
        }
        match claim {
            Some(mut claim) => {
                queue.empty_until = None;
                queue.feed.claimed(claim.tasks.len(), took);
                // A paused queue gives none.
                queue.paused = false;
                // What is no object never reaches a worker.
                let id = claim.id;
                let plan = self.plan.queues.get(name);
                let limit = plan.and_then(|plan| plan.in_flight);
                let worker = plan.map(|plan| plan.worker.as_str());
                claim.tasks.retain(|task| match task.payload.check() {
                    Ok(()) => true,
                    Err(error) => {
                        let first_line = error.to_string().replace('\n', " ");
                        tracing::error!(
                            "task {} of queue {name} is now a dead letter: {first_line}",
                            task.id.0
                        );
                        let finished = Finished {
                            claim: id,
                            task: task.id,
                            outcome: Outcome::Dead(rex_transport::Death {
                                reason: first_line,
                                details: serde_json::json!({"kind": "payload", "worker": worker}),
                            }),
                            submits: Vec::new(),
                        };
                        self.outbox.push(finished, None, limit.map(|_| name.clone()));
                        self.counts.failed += 1;
                        false
                    }
                });
                queue.feed.add(claim, now);
            }
            None => {
                let wait = due.unwrap_or(Duration::MAX).min(self.plan.poll_interval);
                queue.found_nothing(now + wait);
            }
        }
        self.dirty.insert(name.clone());
    }

    /// Said once, until a claim succeeds.
    pub(super) fn on_refused(&mut self, name: &QueueName, reason: &str, until: Instant) {
        self.outbox.claimed();
        let Some(queue) = self.queues.get_mut(name) else { return };
        queue.claiming = false;
        if queue.refused_until.replace(until).is_none() {
            tracing::error!("no tasks can be taken from queue {name}: {reason}");
        }
    }

    /// What a paused queue's processes have not started goes back to the store.
    pub(super) fn on_paused(&mut self, paused: &BTreeSet<QueueName>) {
        for (name, queue) in &mut self.queues {
            let is_paused = paused.contains(name);
            if is_paused || queue.paused {
                self.dirty.insert(name.clone());
            }
            queue.paused = is_paused;
        }
        let of_paused = self.processes.values_mut();
        of_paused
            .filter(|running| paused.contains(&running.plan.queue))
            .for_each(|running| running.recall(&self.poller));
    }

    pub(super) fn on_idle(&mut self, name: &QueueName, idle: Idle, paused: bool, now: Instant) {
        let ahead = self.ahead_of_limit(name);
        // Those of jobs end together, as they are found idle together: what is new goes to any of them.
        let together: Vec<QueueName> = match self.runs_jobs(name) {
            true => self.queues.keys().filter(|other| self.runs_jobs(other)).cloned().collect(),
            false => vec![name.clone()],
        };
        let are_free = together.iter().all(|name| {
            let queue = self.queues.get(name);
            let is_free = queue.is_some_and(|queue| queue.feed.ready() == 0 && !queue.claiming);
            is_free && self.held(name) == 0
        });
        let Some(queue) = self.queues.get_mut(name) else { return };
        queue.asked_idle = false;
        if idle == Idle::Yes && are_free {
            if paused {
                tracing::info!("queue {name} is paused: no tasks are taken from it");
            }
            let seats: Vec<SlotId> = together.iter().flat_map(|name| self.seats(name)).collect();
            for seat in seats {
                self.step(seat, SlotEvent::Stop { deadline: None, empty: true }, now);
            }
        } else {
            // What a limit of rate has left in the store may be claimed before the next look.
            let limited = queue.limiter.as_ref().and_then(|limiter| limiter.left_until(ahead, now));
            let look = now + self.plan.poll_interval;
            let look = limited.map_or(look, |until| until.min(look));
            queue.found_nothing(match idle {
                Idle::Untold(pause) => look.max(now + pause),
                Idle::Yes | Idle::No => look,
            });
        }
    }

    pub(super) fn serve_queues(&mut self, now: Instant) {
        if self.phase == Phase::Working && !self.quiet {
            let polls = self.queues.iter().filter(|(_, queue)| {
                let mut waits = queue.empty_until.iter().chain(&queue.refused_until);
                let overdue = queue.feed.overdue_at().is_some_and(|at| at <= now);
                (waits.any(|until| *until <= now) || overdue) && !queue.retired
            });
            self.dirty.extend(polls.map(|(name, _)| name.clone()).collect::<Vec<_>>());
            let rates = self.queues.iter().filter(|(name, queue)| {
                self.rate_wake(name, queue, now).is_some_and(|at| at <= now)
            });
            self.dirty.extend(rates.map(|(name, _)| name.clone()).collect::<Vec<_>>());
        }
        for name in std::mem::take(&mut self.dirty) {
            self.serve(&name, now);
        }
    }

    /// Hands out what is claimed, claims more, evens out, and halts what has nothing to do.
    pub(super) fn serve(&mut self, name: &QueueName, now: Instant) {
        let ahead = self.ahead_of_limit(name);
        let Some(queue) = self.queues.get_mut(name) else { return };
        let is_left = self.phase != Phase::Working || queue.retired || self.quiet;
        if is_left || queue.paused {
            queue.feed.take_all().into_iter().for_each(|claimed| self.outbox.release(claimed));
        }
        if is_left {
            return;
        }
        if queue.empty_until.is_some_and(|until| until <= now) {
            queue.empty_until = None;
        }
        let mut serving: Vec<ProcessId> = self
            .slots
            .values()
            .filter(|seat| seat.plan.queue == *name && matches!(seat.slot, Slot::Serving { .. }))
            .filter_map(|seat| seat.process)
            .collect();
        // The ones with the least to do first.
        serving.sort_by_key(|id| self.processes.get(id).map_or(0, |running| running.held.count()));

        // Who is long at a task is given no others.
        let is_long = |id: &ProcessId| self.processes.get(id).is_some_and(Running::is_long);
        let free: Vec<ProcessId> = serving.iter().copied().filter(|id| !is_long(id)).collect();

        let may_start = self.lease.holds(now);
        for id in &free {
            let Some(running) = self.processes.get_mut(id) else { continue };
            let held = running.held.count();
            let tasks = match &mut queue.limiter {
                _ if !may_start || running.allowance() == 0 => Vec::new(),
                _ if running.held.has_suspect() => Vec::new(),
                None => queue.feed.take(held, free.len(), running.allowance()),
                Some(_) if held > 0 => Vec::new(),
                Some(limiter) => {
                    let at = limiter.next_start(now);
                    if at > now {
                        // There may be some.
                        if queue.empty_until.is_none() {
                            running.say_limited(at, now);
                        }
                        Vec::new()
                    } else if queue.feed.ready() == 0 {
                        Vec::new()
                    } else {
                        let tasks = queue.feed.take(0, usize::MAX, 1);
                        tasks.iter().for_each(|one| limiter.started(one.task.id, now));
                        tasks
                    }
                }
            };
            if !tasks.is_empty() {
                let tasks = running.held.hand_out(tasks, now);
                running.handed_out(now);
                running.send(&self.poller, &ToWorker::Tasks(tasks));
            }
        }

        let held_by = |ids: &[ProcessId]| -> usize {
            let running = ids.iter().filter_map(|id| self.processes.get(id));
            running.map(|running| running.held.count()).sum()
        };
        let (held, held_by_all) = (held_by(&free), held_by(&serving));
        // What may not start soon is not kept from other hosts.
        let limiter = queue.limiter.as_ref();
        let startable = limiter.map_or(usize::MAX, |limiter| limiter.starts_within(ahead, now));
        let kept = queue.feed.ahead(free.len()).saturating_sub(held).min(startable);
        let overdue = queue.feed.take_overdue(kept, now);
        overdue.into_iter().for_each(|claimed| self.outbox.release(claimed));
        if queue.claiming {
            return;
        }
        let runs_jobs = self.plan.queues.get(name).is_some_and(|plan| plan.runs_jobs());
        let wanted = match runs_jobs {
            true => free.len().saturating_sub(held + queue.feed.ready()),
            false => queue.feed.to_claim(free.len(), held),
        };
        let room = startable.saturating_sub(queue.feed.ready());
        // Dribbles cost as much as batches.
        let worth_it = queue.feed.ready() == 0 || room >= startable.div_ceil(2);
        let wanted = if worth_it { wanted.min(room) } else { 0 };
        let refused = queue.refused_until.is_some_and(|until| now < until);
        let bytes = queue.feed.room();
        if wanted > 0 && bytes > 0 && queue.empty_until.is_none() && !refused {
            queue.begin_claim();
            let in_flight = self.plan.queues.get(name).and_then(|plan| plan.in_flight);
            let want = Want { tasks: wanted, bytes, in_flight };
            self.outbox.claim(name.clone(), want);
            return;
        }
        let is_limited = startable == 0;
        if queue.feed.ready() > 0 || queue.empty_until.is_none() && !is_limited {
            return;
        }
        // The queue has no more: what one process holds ahead may be another's work.
        let idle = serving
            .iter()
            .filter_map(|id| self.processes.get(id))
            .any(|running| running.held.count() == 0);
        if idle && let Some(most) = serving.last().and_then(|id| self.processes.get_mut(id)) {
            most.recall(&self.poller);
        }
        let halting = self.setup.halt_when_empty && held_by_all == 0 && !serving.is_empty();
        if halting && !queue.asked_idle {
            // Where it is too early, the record of the outcomes asks again.
            queue.asked_idle = self.outbox.ask_idle(name.clone());
        }
    }

    fn runs_jobs(&self, name: &QueueName) -> bool {
        self.plan.queues.get(name).is_some_and(|plan| plan.runs_jobs())
    }

    /// How long before a limit of rate allows a task to start it may be claimed. Who claims a job has
    /// started it.
    fn ahead_of_limit(&self, name: &QueueName) -> Duration {
        match self.runs_jobs(name) {
            true => Duration::ZERO,
            false => WAITED,
        }
    }

    /// When a task that waits for its queue's rate limit may start, or is to be claimed for that.
    pub(super) fn rate_wake(
        &self,
        name: &QueueName,
        queue: &Queue,
        now: Instant,
    ) -> Option<Instant> {
        let limiter = queue.limiter.as_ref()?;
        let idle = self.slots.values().any(|seat| {
            let process = seat.process.and_then(|id| self.processes.get(&id));
            seat.plan.queue == *name
                && matches!(seat.slot, Slot::Serving { .. })
                && process.is_some_and(|running| running.held.count() == 0)
        });
        if !idle || self.phase != Phase::Working {
            return None;
        }
        let next_start = limiter.next_start(now);
        let may_claim = !queue.claiming
            && !queue.retired
            && queue.empty_until.is_none()
            && queue.refused_until.is_none();
        match queue.feed.ready() {
            0 => next_start.checked_sub(self.ahead_of_limit(name)).filter(|_| may_claim),
            _ => Some(next_start),
        }
    }

    pub(super) fn held(&self, name: &QueueName) -> usize {
        let of_queue = self.processes.values().filter(|running| running.plan.queue == *name);
        of_queue.map(|running| running.held.count()).sum()
    }

    pub(super) fn seats(&self, name: &QueueName) -> Vec<SlotId> {
        let of_queue = self.slots.iter().filter(|(_, seat)| seat.plan.queue == *name);
        of_queue.map(|(id, _)| *id).collect()
    }

    /// What was handed out and no process has begun.
    pub(super) fn put_back_unstarted(&mut self, name: &QueueName, tasks: Vec<Claimed>) {
        if let Some(limiter) = self.queues.get_mut(name).and_then(|queue| queue.limiter.as_mut()) {
            tasks.iter().for_each(|claimed| limiter.not_started(claimed.task.id));
        }
        self.put_back(name, tasks);
    }

    pub(super) fn put_back(&mut self, name: &QueueName, mut tasks: Vec<Claimed>) {
        tasks.retain(|claimed| !self.lease.is_taken(claimed.claim));
        if tasks.is_empty() {
            return;
        }
        match self.queues.get_mut(name).filter(|queue| !queue.retired) {
            Some(queue) if self.phase == Phase::Working && !queue.paused && !self.quiet => {
                queue.feed.put_back(tasks);
            }
            _ => tasks.into_iter().for_each(|claimed| self.outbox.release(claimed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::Queue;

    #[test]
    fn word_that_comes_during_a_claim_counts() {
        let again = Instant::now();
        let mut queue = Queue::default();
        queue.begin_claim();
        queue.found_nothing(again);
        assert_eq!(queue.empty_until, Some(again));
        queue.wake();
        assert_eq!(queue.empty_until, None);
        queue.begin_claim();
        queue.wake();
        queue.found_nothing(again);
        assert_eq!(queue.empty_until, None, "what came may be what the claim has not seen");
        queue.begin_claim();
        queue.found_nothing(again);
        assert_eq!(queue.empty_until, Some(again));
    }
}
