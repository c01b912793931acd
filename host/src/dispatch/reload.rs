//! Changing what runs while it runs: a new plan is made beside the loop, then slots are exchanged
//! one for one, each when its successor is ready. No task fails, and none waits for the slowest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use rex_transport::QueueName;

use super::limiter::Limiter;
use super::plan::{Plan, QueuePlan};
use super::{BeginJobs, Host, Phase, Seat, SlotId};
use crate::control::Answer;
use crate::supervisor::Slot;
use crate::supervisor::slot::Event as SlotEvent;

/// Reads settings and plugins anew, to bring them into force or only to check them; the error is what is
/// wrong with them, for a person.
pub type Replan = dyn Fn(Purpose) -> Result<Fresh, String> + Send + Sync;

/// What is read anew for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Force,
    Check,
}

/// A plan as it is on disk now.
pub struct Fresh {
    pub plan: Plan,
    /// Where the plan is the first that has jobs, and is to be brought into force.
    pub jobs: Option<BeginJobs>,
    /// Files that are no plugins and were refused before, too: told, not in the way.
    pub warnings: Vec<String>,
    /// Called once the plan is in force, with the hashes of all plugins that processes are, or may
    /// still be, started from.
    pub adopt: Box<dyn FnOnce(Vec<String>) + Send>,
}

/// A reload that waits for the one under way.
pub(super) struct Wanted {
    reply: Option<Sender<Answer>>,
    check_only: bool,
}

/// A reload that is in force; who asked waits until each new process serves or cannot.
pub(super) struct Adopted {
    reply: Sender<Answer>,
    lines: Vec<String>,
    starting: BTreeMap<SlotId, QueueName>,
    /// Why a queue's new processes cannot.
    failed: BTreeMap<QueueName, String>,
}

/// What came of reading, and who asked.
pub struct Replanned {
    fresh: Result<Fresh, String>,
    check_only: bool,
    reply: Option<Sender<Answer>>,
}

impl Host {
    /// Starts to read settings and plugins on a thread of its own: a plugin that hangs in the probe
    /// must not hold up the loop.
    pub(super) fn start_reload(&mut self, reply: Option<Sender<Answer>>, check_only: bool) {
        if self.phase != Phase::Working {
            return answer(reply, Err("the host is stopping".to_owned()));
        }
        if self.replanning {
            // What is being read may be older than what this one is about.
            tracing::debug!("another reload follows the one under way");
            let silent = |wanted: &Wanted| wanted.reply.is_none() && !wanted.check_only;
            if reply.is_some() || check_only || !self.reloads_wanted.iter().any(silent) {
                self.reloads_wanted.push_back(Wanted { reply, check_only });
            }
            return;
        }
        let (replan, replanned) = (Arc::clone(&self.setup.replan), self.replanned.clone());
        let asked = reply.clone();
        let spawned = std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
            let fresh = replan(if check_only { Purpose::Check } else { Purpose::Force });
            // Fails only when the host has ended meanwhile.
            let _ = replanned.send(Replanned { fresh, check_only, reply });
        });
        match spawned {
            Ok(_) => self.replanning = true,
            Err(error) => answer(asked, Err(format!("cannot start a thread: {error}"))),
        }
    }

    pub(super) fn on_replanned(&mut self, replanned: Replanned) {
        self.replanning = false;
        self.conclude_reload(replanned);
        if let Some(Wanted { reply, check_only }) = self.reloads_wanted.pop_front() {
            self.start_reload(reply, check_only);
        }
    }

    fn conclude_reload(&mut self, replanned: Replanned) {
        let Replanned { fresh, check_only, reply } = replanned;
        if self.phase != Phase::Working {
            return answer(reply, Err("the host is stopping".to_owned()));
        }
        let begun = fresh.and_then(|mut fresh| {
            self.begin_jobs(fresh.jobs.take())?;
            Ok(fresh)
        });
        let fresh = match begun {
            Ok(fresh) => fresh,
            Err(reason) => {
                if !check_only {
                    tracing::error!("nothing is reloaded: {reason}");
                }
                return answer(reply, Err(reason));
            }
        };
        let mut lines = self.differences(&fresh.plan);
        if lines.is_empty() {
            lines.push("nothing has changed".to_owned());
        }
        if !check_only {
            lines.iter().for_each(|line| tracing::info!("reload: {line}"));
            self.apply(fresh.plan, Instant::now());
            let seats = self.slots.values().map(|seat| &seat.plan);
            let used = seats.chain(self.processes.values().map(|running| &running.plan));
            (fresh.adopt)(used.flat_map(|plan| plan.plugin_hashes().cloned()).collect());
        }
        lines.extend(fresh.warnings);
        // Those of an earlier reload, too, that have not come so far.
        let live: Vec<SlotId> =
            self.plan.queues.keys().flat_map(|name| self.live_seats(name)).collect();
        let starting = live.into_iter().filter_map(|id| {
            let seat = self.slots.get(&id).filter(|seat| !seat.has_served)?;
            Some((id, seat.plan.queue.clone()))
        });
        let starting: BTreeMap<SlotId, QueueName> = starting.collect();
        match reply {
            Some(reply) if !check_only && !starting.is_empty() => {
                self.adopted.push(Adopted { reply, lines, starting, failed: BTreeMap::new() });
            }
            reply => answer(reply, Ok(lines)),
        }
    }

    /// Works jobs from now on, if a new plan is the first that has any.
    fn begin_jobs(&mut self, begin: Option<BeginJobs>) -> Result<(), String> {
        if let Some(begin) = begin {
            let (jobs, around) =
                begin().map_err(|error| format!("cannot start a thread: {error}"))?;
            self.setup.jobs = Some(jobs);
            self.outbox.surround(around);
        }
        Ok(())
    }

    /// Answers those whose reload has come to its end.
    pub(super) fn answer_reloads(&mut self) {
        let Host { adopted, slots, .. } = self;
        adopted.retain_mut(|Adopted { reply, lines, starting, failed }| {
            starting.retain(|id, queue| {
                let seat = slots.get(id).filter(|seat| {
                    seat.has_served || !matches!(seat.slot, Slot::Stopping { .. } | Slot::Halted)
                });
                let Some(seat) = seat else {
                    let text = format!("queue {queue}: it was to end before it served");
                    failed.entry(queue.clone()).or_insert(text);
                    return false;
                };
                let is_waiting = !seat.has_served;
                if let Some(cause) = seat.last_death.as_ref().filter(|_| is_waiting) {
                    let QueuePlan { queue, worker, plugin, .. } = &*seat.plan;
                    let (file, hash) = (&plugin.name, plugin.short_hash());
                    let text = format!("queue {queue}: {worker} of {file} {hash} {cause}");
                    failed.entry(queue.clone()).or_insert(text);
                    return false;
                }
                is_waiting
            });
            if !starting.is_empty() {
                return true;
            }
            let mut lines = std::mem::take(lines);
            let failed = std::mem::take(failed);
            for queue in failed.keys() {
                lines.retain(|line| !line.starts_with(&format!("queue {queue}: ")));
            }
            let failed: Vec<String> = failed.into_values().collect();
            // The one who asked may have left.
            let _ = reply.send(match failed.is_empty() {
                true => Answer::Done { lines },
                false => Answer::Partly { lines, failed },
            });
            false
        });
    }

    /// One line for each queue that another plan would change.
    fn differences(&self, plan: &Plan) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, new) in &plan.queues {
            let what = format!("{} of {} {}", new.worker, new.plugin.name, new.plugin.short_hash());
            match self.plan.queues.get(name) {
                None => lines.push(format!("queue {name}: starts with {what}")),
                Some(old) if old.plugin.hash != new.plugin.hash => lines.push(format!(
                    "queue {name}: {what} takes over from {}",
                    old.plugin.short_hash()
                )),
                Some(old) if old.executors != new.executors => {
                    lines.push(format!("queue {name}: other executors of jobs"));
                }
                Some(old) if old != new => lines.push(format!("queue {name}: new settings")),
                Some(_) => {}
            }
        }
        let gone = self.plan.queues.keys().filter(|name| !plan.queues.contains_key(*name));
        lines.extend(gone.map(|name| format!("queue {name}: is left")));
        if self.plan.filter != plan.filter {
            lines.push("logging: new settings".to_owned());
        }
        if !self.plan.same_host(plan) {
            lines.push("host: new settings".to_owned());
        }
        if self.plan.schedules != plan.schedules {
            lines.push(format!("schedules: {} are in force", plan.schedules.entries.len()));
        }
        lines
    }

    /// Brings a plan into force.
    pub(super) fn apply(&mut self, plan: Plan, now: Instant) {
        let gone: Vec<QueueName> =
            self.queues.keys().filter(|name| !plan.queues.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(queue) = self.queues.get_mut(&name) {
                queue.retired = true;
            }
            for seat in self.seats(&name) {
                self.step(seat, SlotEvent::Stop { deadline: None, empty: false }, now);
            }
        }
        // How lines are filtered reaches the workers only when they start.
        let same_lines = self.plan.filter == plan.filter;
        for (name, new) in &plan.queues {
            let seats = self.live_seats(name);
            let replaced = seats.iter().filter_map(|id| self.slots.get(id));
            let replaced: BTreeSet<SlotId> =
                replaced.flat_map(|seat| seat.replaces.iter().copied()).collect();
            let mut latest = seats.iter().filter(|id| !replaced.contains(id));
            let unchanged = same_lines
                && latest.clone().count() == new.processes as usize
                && self.queues.get(name).is_some_and(|queue| !queue.retired)
                && latest.all(|id| self.slots.get(id).is_some_and(|s| *s.plan == **new));
            if !unchanged {
                self.replace(name, new, seats, now);
            }
        }
        if let Some(jobs) = &self.setup.jobs {
            let of_jobs = plan.queues.iter().filter(|(_, plan)| plan.runs_jobs());
            let of_jobs = of_jobs.map(|(name, _)| name.clone()).collect();
            jobs.book.set(of_jobs, &plan.rules.limits);
            jobs.desk.set_rules(plan.rules.clone());
        }
        self.setup.console.set_filter(plan.filter.clone());
        self.plan = plan;
        self.reschedule = true;
    }

    /// New slots for a queue; each old one ends when a new one serves, those that have not come so far
    /// at once.
    fn replace(
        &mut self,
        name: &QueueName,
        plan: &Arc<QueuePlan>,
        seats: Vec<SlotId>,
        now: Instant,
    ) {
        let seat = |id: &SlotId| self.slots.get(id);
        let some_serve = seats.iter().filter_map(seat).any(|seat| seat.has_served);
        let has_failed = |id: &SlotId| {
            let unserved = seat(id).filter(|seat| !seat.has_served);
            unserved.is_some_and(|seat| some_serve || seat.last_death.is_some())
        };
        let (superseded, old): (Vec<SlotId>, Vec<SlotId>) = seats.into_iter().partition(has_failed);
        for seat in superseded {
            self.step(seat, SlotEvent::Stop { deadline: None, empty: false }, now);
        }
        let queue = self.queues.entry(name.clone()).or_default();
        queue.retired = false;
        // What has started counts under whatever limit comes next.
        let before = queue.limiter.take().or(queue.limited_before.take());
        match (plan.rate, before) {
            (None, before) => queue.limited_before = before,
            (Some(rate), Some(before)) => {
                queue.limiter = Some(before.change(rate.calls, rate.period));
            }
            (Some(rate), None) => queue.limiter = Some(Limiter::new(rate.calls, rate.period)),
        }
        let surplus = old.len().saturating_sub(plan.processes as usize);
        let mut old = old.into_iter();
        for n in 0..plan.processes {
            let id = SlotId(self.next_slot);
            self.next_slot += 1;
            // The first successor also takes over for what there are fewer of now.
            let replaces = match n {
                0 => old.by_ref().take(1 + surplus).collect(),
                _ => old.next().into_iter().collect(),
            };
            let seat = Seat {
                plan: Arc::clone(plan),
                slot: Slot::new(now),
                process: None,
                last_death: None,
                replaces,
                has_served: false,
            };
            self.slots.insert(id, seat);
        }
        self.dirty.insert(name.clone());
    }

    /// The slots of a queue that were not told to end.
    fn live_seats(&self, name: &QueueName) -> Vec<SlotId> {
        let live = |seat: &Seat| !matches!(seat.slot, Slot::Stopping { .. } | Slot::Halted);
        let of_queue = self.slots.iter().filter(|(_, seat)| seat.plan.queue == *name && live(seat));
        of_queue.map(|(id, _)| *id).collect()
    }
}

fn answer(reply: Option<Sender<Answer>>, result: Result<Vec<String>, String>) {
    if let Some(reply) = reply {
        // The one who asked may have left.
        let _ = reply.send(match result {
            Ok(lines) => Answer::Done { lines },
            Err(reason) => Answer::Refused { reason },
        });
    }
}
