//! The loop's dealings with worker processes: it starts them, does what their slots decide, holds
//! them to their limits and settles their deaths.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use rex_plugin_api::Level;
use rex_transport::TaskId;

use super::asker::Used;
use super::death::{Scene, Verdict};
use super::outcome::End;
use super::plan::{ExecutorPlan, QueuePlan, START_TIMEOUT};
use super::running::{self, Look, Passed, Running};
use super::{Fate, Host, SlotId};
use crate::log::{self, Filter, MASTER};
use crate::supervisor::slot::Event as SlotEvent;
use crate::supervisor::spawn::reap;
use crate::supervisor::{Action, Exit, Policy, ProcessId, Slot, exit::How, step};
use crate::wire::{self, Limits, Start, ToWorker};

impl Host {
    pub(super) fn on_exit(&mut self, process: ProcessId, goodbye: bool, now: Instant) {
        let Some(mut running) = self.processes.remove(&process) else { return };
        let exit = reap(&running.process, goodbye);
        let dropped = running.report_dropped_output(u64::MAX);
        if let Some(jobs) = self.setup.jobs_of(&running.plan)
            && let Some(task) = running.held.next()
        {
            jobs.log_warnings(task, &running.plan.logger, dropped);
        }
        let Some(seat) = running.seat else { return self.standby_died(&running, now) };
        let progress = running.process.page.read();
        let worked = running.done > 0 || progress.finished > 0;
        let held = std::mem::take(&mut running.held);
        let aftermath = held.after_death(progress, running.verdict != Some(Verdict::Nonsense));
        let plan = Arc::clone(&running.plan);
        let queue = plan.queue.clone();

        let expected = exit.goodbye || running.verdict == Some(Verdict::Ordered);
        let scene = running.scene();
        for held in aftermath.finished {
            let used = || Used { cpu: Some(exit.cpu), peak_rss: Some(exit.peak_rss) };
            let end = running.end_of(&held, used);
            self.record(held, end, &plan);
        }
        let culprit = match aftermath.culprit {
            // Stopped by order while it was at the task: nobody is to blame.
            Some(held) if expected => {
                let id = held.claimed.task.id.0;
                tracing::info!("task {id} was stopped before its end, and waits again");
                self.put_back(&queue, vec![held.claimed]);
                None
            }
            Some(held) => {
                let task = (held.claimed.task.id, held.claimed.task.attempt);
                let death = scene.ended(&exit, running.verdict);
                Some((task, self.record(held, End::Failed(death), &plan)))
            }
            None => None,
        };
        let last_death = (!expected).then(|| match &running.unfit {
            Some(reason) => format!("cannot start: {reason}"),
            None => scene.cause(&exit, running.verdict),
        });
        if !expected {
            self.report_crash(&running, &scene, &exit, culprit, aftermath.suspects.len());
        }
        self.put_back_unstarted(&queue, aftermath.unstarted);
        self.put_back(&queue, aftermath.suspects);
        if let Some(seat) = self.slots.get_mut(&seat) {
            seat.process = None;
            seat.last_death = last_death;
        }
        self.step(seat, SlotEvent::Exited { worked }, now);
        self.dirty.insert(queue);
    }

    /// One line that names what died, how, and at what.
    pub(super) fn report_crash(
        &self,
        running: &Running,
        scene: &Scene<'_>,
        exit: &Exit,
        culprit: Option<((TaskId, u32), Fate)>,
        suspects: usize,
    ) {
        // The original says nothing of a process that just exits.
        let plain = matches!(exit.how, How::Code(_)) && running.verdict.is_none();
        if self.setup.original && plain && running.unfit.is_none() {
            return;
        }
        let plan = &running.plan;
        let who = format!(
            "Worker for queue {} (process {}, plugin {} {})",
            plan.queue,
            scene.pid,
            plan.plugin.name,
            plan.plugin.short_hash()
        );
        let cause = scene.cause(exit, running.verdict);
        match (&running.unfit, culprit) {
            (Some(reason), _) => tracing::error!(logger = MASTER, "{who} cannot start: {reason}"),
            (None, Some(((id, attempt), fate))) => {
                tracing::error!(
                    logger = MASTER,
                    "{who} {cause} while it processed task {} (attempt {attempt}), which {fate}",
                    id.0
                );
            }
            (None, None) if suspects > 0 => tracing::error!(
                logger = MASTER,
                "{who} {cause} while it processed one of {suspects} tasks, which run again one by \
                 one"
            ),
            (None, None) => tracing::error!(logger = MASTER, "{who} {cause} between tasks"),
        }
    }

    pub(super) fn all_slots(&mut self, event: SlotEvent, now: Instant) {
        let ids: Vec<SlotId> = self.slots.keys().copied().collect();
        ids.into_iter().for_each(|id| self.step(id, event, now));
    }

    /// Lets the slot decide, and does what it decided.
    pub(super) fn step(&mut self, id: SlotId, event: SlotEvent, now: Instant) {
        let Some(seat) = self.slots.get_mut(&id) else { return };
        let policy = Policy { jitter: running::jitter(), ..self.policy };
        let (slot, actions) = step(seat.slot, event, now, policy);
        seat.slot = slot;
        let (process, plan) = (seat.process, Arc::clone(&seat.plan));
        for action in actions {
            let running = process.and_then(|process| self.processes.get_mut(&process));
            match action {
                Action::Spawn => {
                    log::emit(
                        Level::Info,
                        MASTER,
                        &format!("Launching {} to work on queue {}", plan.worker, plan.queue),
                    );
                    if let Err(error) = self.occupy(id, &plan) {
                        tracing::error!("cannot start a worker for queue {}: {error}", plan.queue);
                        if let Some(seat) = self.slots.get_mut(&id) {
                            seat.last_death = Some(format!("cannot start: {error}"));
                        }
                        self.step(id, SlotEvent::SpawnFailed, now);
                    }
                }
                Action::Stop { empty } => {
                    if let Some(running) = running {
                        running.told_to_stop = true;
                        running.send(&self.poller, &ToWorker::Stop { empty });
                    }
                }
                Action::Kill => {
                    if let Some(running) = running {
                        match slot {
                            Slot::Stopping { .. } => running.excuse(),
                            Slot::Starting { .. } => {
                                let limit = START_TIMEOUT.as_secs();
                                running.unfit = Some(format!("it was not ready within {limit} s"));
                            }
                            Slot::Waiting { .. }
                            | Slot::Serving { .. }
                            | Slot::Recycling { .. }
                            | Slot::Halted => {}
                        }
                        running.process.kill();
                    }
                }
                Action::ReportDeath => {
                    let text = format!("Worker for queue {} died; restarting...", plan.queue);
                    log::emit(Level::Error, MASTER, &text);
                }
            }
        }
        self.dirty.insert(plan.queue.clone());
        // A restart without delay is due now.
        if self.slots.get(&id).is_some_and(|seat| {
            matches!(seat.slot, Slot::Waiting { until, .. } if until <= now)
                && event != SlotEvent::Tick
        }) {
            self.step(id, SlotEvent::Tick, now);
        }
    }

    /// Gives the slot a process: the standby, or a new one.
    fn occupy(&mut self, seat: SlotId, plan: &Arc<QueuePlan>) -> io::Result<()> {
        let process = match self.take_standby(plan) {
            Some(standby) => standby,
            None => self.start_process(Some(seat), plan)?,
        };
        let filter = &self.plan.filter;
        if let Some(running) = self.processes.get_mut(&process) {
            running.seat = Some(seat);
            running.plan = Arc::clone(plan);
            let start = Start {
                worker: plan.worker.clone(),
                logger: plan.logger.clone(),
                queue: plan.queue.as_str().to_owned(),
                level: filter.threshold(&plan.logger),
                payload_limit: plan.payload_limit,
                cpu_limited: plan.cpu_limit.is_some(),
                settings: plan.settings.clone(),
                duty: plan.duty,
                executors: plan.executors.iter().map(|of| executor(of, filter)).collect(),
                application: plan.application.clone(),
            };
            running.send(&self.poller, &ToWorker::Start(start));
        }
        if let Some(seat) = self.slots.get_mut(&seat) {
            seat.process = Some(process);
        }
        Ok(())
    }

    /// Starts a process that loads the plan's plugin.
    pub(super) fn start_process(
        &mut self,
        seat: Option<SlotId>,
        plan: &Arc<QueuePlan>,
    ) -> io::Result<ProcessId> {
        let title = seat.map_or("standby", |_| plan.queue.as_str());
        let (process, ends) = self.spawner.spawn(title, &plan.environment)?;
        let socket = ends.socket.try_clone()?;
        let (id, nonce) = (process.id, process.nonce);
        process.page.allow(self.lease.start_until());
        self.poller.watch(id, process.pid, nonce, ends);
        let mut running = Running::new(process, socket, seat, Arc::clone(plan));
        let load = ToWorker::Load {
            plugin: match plan.duty {
                None => Some(plan.plugin.path.to_string_lossy().into_owned()),
                Some(_) => None,
            },
            nonce,
            limits: Limits { memory: plan.memory_limit },
        };
        running.send(&self.poller, &load);
        self.processes.insert(id, running);
        Ok(id)
    }

    /// Exchanges a process that has served long enough.
    pub(super) fn recycle(&mut self, process: ProcessId, now: Instant) {
        let Some(running) = self.processes.get(&process) else { return };
        let (Some(seat), Some(why)) = (running.seat, running.wear(now)) else { return };
        let serves = |seat: &super::Seat| matches!(seat.slot, Slot::Serving { .. });
        if self.slots.get(&seat).is_some_and(serves) {
            let text =
                format!("Exchanging the worker for queue {} after {why}", running.plan.queue);
            log::emit(Level::Debug, MASTER, &text);
            self.step(seat, SlotEvent::Recycle, now);
        }
    }

    pub(super) fn enforce_limits(&mut self, now: Instant) {
        let (mut overdue, mut back) = (Vec::new(), Vec::new());
        for running in self.processes.values_mut() {
            if running.gone_by.is_some_and(|at| at <= now) {
                running.gone_by = None;
                running.process.kill();
            }
            if running.outlived_cancellation(now) {
                running.verdict.get_or_insert(Verdict::Cancelled);
                overdue.extend(running.seat);
            }
            match running.look(now) {
                None => {}
                Some(Look::Silent) => {
                    running.verdict.get_or_insert(Verdict::Silent);
                    overdue.extend(running.seat);
                }
                Some(Look::Busy) => {
                    back.push((running.plan.queue.clone(), running.take_back(&self.poller, now)));
                }
            }
            match running.check_limits(now) {
                None => {}
                Some(Passed::Notice { seq, left }) => {
                    let text = format!("The task in hand has {:.1} s left", left.as_secs_f64());
                    log::emit(Level::Warning, &running.plan.logger, &text);
                    running.send(&self.poller, &ToWorker::Notice { seq });
                }
                Some(Passed::Limit(verdict)) => {
                    running.verdict.get_or_insert(verdict);
                    overdue.extend(running.seat);
                }
            }
        }
        for seat in overdue {
            self.step(seat, SlotEvent::Overdue, now);
        }
        for (queue, tasks) in back {
            self.put_back_unstarted(&queue, tasks);
            self.dirty.insert(queue);
        }
    }
}

fn executor(plan: &ExecutorPlan, filter: &Filter) -> wire::Executor {
    wire::Executor {
        name: plan.name.clone(),
        logger: plan.logger.clone(),
        level: filter.threshold(&plan.logger),
        plugin: plan.plugin.path.to_string_lossy().into_owned(),
        application: plan.application,
        starts: plan.starts,
    }
}
