//! The host's loop: gives tasks to worker processes, takes their answers, records outcomes.
//!
//! One `select!` over channels that small threads feed: [`supervisor::Poller`] (processes and
//! signals), [`store`] (the transport), the transport's notifications, the control socket and
//! reloads. Everything that the loop knows is in [`Host`], which no other thread sees.
//!
//! The parts that decide are pure: [`feed`] (how many tasks go where), [`held`] (what a process has
//! and what became of it), [`supervisor::step`](crate::supervisor::step) (what a slot does next),
//! [`limiter`]. What it does not know: how tasks are stored, and what is in a payload.

mod death;
mod feed;
mod held;
mod limiter;
mod outbox;
pub mod plan;
mod reload;
mod running;
mod status;
pub mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};
use rex_plugin_api::Level;
use rex_transport::{Finished, NewTask, Outcome, Payload, QueueName, Transport};

use self::death::{Scene, Verdict};
use self::feed::{Claimed, Feed};
use self::held::HeldTask;
use self::limiter::Limiter;
use self::outbox::Outbox;
use self::plan::{Plan, QueuePlan, START_TIMEOUT};
use self::reload::{Replan, Replanned};
use self::running::Running;
use self::store::{Reply, Store};
use crate::control;
use crate::log::{self, Console, MASTER};
use crate::supervisor::slot::Event as SlotEvent;
use crate::supervisor::{
    Action, Event, Exit, Policy, Poller, ProcessId, Slot, Spawner, Stream, exit::How, step,
};
use crate::wire::{Answer, Limits, Start, ToWorker, VERSION};

/// What stays for the life of the host.
pub struct Setup {
    /// This binary, to start workers with.
    pub program: PathBuf,
    pub console: Console,
    /// End when there is nothing left to do.
    pub halt_when_empty: bool,
    /// The original's spelling of the command line: only its own lines where it has some.
    pub original: bool,
    /// Makes a new plan from what is on disk now; runs on a thread of its own.
    pub replan: Arc<Replan>,
    /// Requests of operators.
    pub control: Receiver<control::Call>,
    /// Says that the plugin directory changed; never, without `--watch`.
    pub changes: Receiver<()>,
    /// For `status`: where tasks come from.
    pub label: String,
    pub instance: String,
}

pub use reload::Fresh;

/// Runs until told to stop or, with `halt_when_empty`, until the queues are empty.
///
/// # Errors
/// When the kernel refuses what no host can do without.
pub fn run(setup: Setup, plan: Plan, transport: Box<dyn Transport>) -> io::Result<()> {
    let (wake, woken) = crossbeam_channel::unbounded();
    let _watch = match transport.watch(wake) {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!("no notifications, polling instead: {error}");
            None
        }
    };
    let (store, replies) = Store::start(transport)?;
    let signals = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGTSTP, libc::SIGCONT];
    let (poller, events) = Poller::start(&signals)?;
    let (replanned, plans) = crossbeam_channel::unbounded();
    let mut host = Host {
        spawner: Spawner::new(setup.program.clone()),
        policy: Policy { start_timeout: START_TIMEOUT, jitter: 0.0 },
        setup,
        plan: plan.clone(),
        queues: BTreeMap::new(),
        slots: BTreeMap::new(),
        processes: BTreeMap::new(),
        next_slot: 1,
        outbox: Outbox::new(store),
        poller,
        replanned,
        replanning: false,
        phase: Phase::Working,
        quiet: false,
        started: Instant::now(),
        dirty: BTreeSet::new(),
        counts: status::Counts::default(),
    };
    host.apply(plan, Instant::now());
    host.main_loop(&events, &replies, &woken, &plans);
    Ok(())
}

/// The state of the loop.
struct Host {
    setup: Setup,
    plan: Plan,
    queues: BTreeMap<QueueName, Queue>,
    slots: BTreeMap<SlotId, Seat>,
    processes: BTreeMap<ProcessId, Running>,
    next_slot: u64,
    outbox: Outbox,
    spawner: Spawner,
    poller: Poller,
    policy: Policy,
    replanned: Sender<Replanned>,
    replanning: bool,
    phase: Phase,
    /// No new claims: an operator said so by signal.
    quiet: bool,
    started: Instant,
    /// Queues in which something changed since they were last served.
    dirty: BTreeSet<QueueName>,
    counts: status::Counts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Working,
    /// Told to stop: no claims, tasks in hand are finished until the deadline.
    Draining {
        deadline: Instant,
    },
    /// Every slot is halted; what is left is to record outcomes.
    Closing {
        drained: bool,
        give_up_at: Instant,
    },
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct SlotId(u64);

/// One worker slot of a queue.
struct Seat {
    plan: Arc<QueuePlan>,
    slot: Slot,
    process: Option<ProcessId>,
    /// Slots of an older generation that end when this one serves.
    replaces: Vec<SlotId>,
}

/// One queue that is worked.
struct Queue {
    feed: Feed,
    limiter: Option<Limiter>,
    /// A claim is under way.
    claiming: bool,
    /// The last claim found nothing: not to be repeated before then, unless notified.
    empty_until: Option<Instant>,
    /// Whether the store was asked if the queue is idle, and its processes told to end if so.
    asked_idle: bool,
    /// Not in the plan any more: its slots only end.
    retired: bool,
}

impl Host {
    fn main_loop(
        &mut self,
        events: &Receiver<Event>,
        replies: &Receiver<Reply>,
        woken: &Receiver<QueueName>,
        plans: &Receiver<Replanned>,
    ) {
        let (control, changes) = (self.setup.control.clone(), self.setup.changes.clone());
        self.tick(Instant::now());
        while self.phase != Phase::Closed {
            let wait = self.next_deadline().map_or(Duration::from_secs(3600), |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            select! {
                recv(events) -> event => event.into_iter().for_each(|event| self.on_event(event)),
                recv(replies) -> reply => reply.into_iter().for_each(|reply| self.on_reply(reply)),
                recv(woken) -> queue => queue.into_iter().for_each(|queue| self.on_wake(&queue)),
                recv(control) -> call => call.into_iter().for_each(|call| self.on_call(call)),
                recv(changes) -> change => {
                    change.into_iter().for_each(|()| self.start_reload(None, false));
                }
                recv(plans) -> plan => plan.into_iter().for_each(|plan| self.on_replanned(plan)),
                default(wait) => {}
            }
            // What is there already is worth one round together: batches grow under load.
            for event in events.try_iter().take(256) {
                self.on_event(event);
            }
            for reply in replies.try_iter() {
                self.on_reply(reply);
            }
            for queue in woken.try_iter() {
                self.on_wake(&queue);
            }
            self.tick(Instant::now());
        }
    }

    /// Everything that is due: slots, limits, feeding, outcomes, the end.
    fn tick(&mut self, now: Instant) {
        let due: Vec<SlotId> = self
            .slots
            .iter()
            .filter(|(_, seat)| seat.slot.next_tick().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.step(id, SlotEvent::Tick, now);
        }
        self.enforce_time_limits(now);
        self.serve_queues(now);
        self.outbox.flush();
        self.advance_phase(now);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let slots = self.slots.values().filter_map(|seat| seat.slot.next_tick());
        let limits = self.processes.values().filter_map(Running::next_check);
        let working = self.phase == Phase::Working && !self.quiet;
        let queues = self.queues.values().filter(|queue| working && !queue.retired);
        let queues = queues.filter_map(|queue| queue.empty_until);
        let rates = self.queues.iter().filter_map(|(name, queue)| self.rate_wake(name, queue));
        let drain = match self.phase {
            // Past it, only a reply of the store can change anything.
            Phase::Closing { give_up_at, .. } if self.outbox.down => {
                Some(give_up_at).filter(|at| *at > Instant::now())
            }
            _ => None,
        };
        slots.chain(limits).chain(queues).chain(rates).chain(drain).min()
    }

    // ---- what happens ---------------------------------------------------------------------------

    fn on_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Output { process, stream, text } => self.on_output(process, stream, &text),
            Event::Answer { process, answer } => self.on_answer(process, answer, now),
            Event::Nonsense { process, reason } => {
                if let Some(running) = self.processes.get_mut(&process) {
                    let queue = &running.plan.queue;
                    tracing::error!("worker for queue {queue} sent what no worker sends: {reason}");
                    running.condemn(Verdict::Nonsense);
                }
            }
            Event::Written { process } => {
                if let Some(running) = self.processes.get_mut(&process) {
                    running.written();
                }
            }
            Event::Exited { process, exit } => self.on_exit(process, exit, now),
            Event::Signal(signal) => self.on_signal(signal, now),
        }
    }

    fn on_signal(&mut self, signal: i32, now: Instant) {
        match signal {
            libc::SIGTERM | libc::SIGINT => self.stop(now),
            libc::SIGHUP => self.start_reload(None, false),
            libc::SIGTSTP => {
                self.quiet = true;
                tracing::info!("quiet: no new tasks are taken until SIGCONT");
            }
            libc::SIGCONT if self.quiet => {
                self.quiet = false;
                tracing::info!("taking tasks again");
                self.dirty.extend(self.queues.keys().cloned());
            }
            _ => {}
        }
    }

    /// The first order to stop drains, the second one is meant.
    fn stop(&mut self, now: Instant) {
        match self.phase {
            Phase::Working => {
                tracing::debug!(logger = MASTER, "Termination received; shutting down children");
                let deadline = now + self.plan.drain_timeout;
                self.phase = Phase::Draining { deadline };
                self.all_slots(SlotEvent::Stop { deadline: Some(deadline), empty: false }, now);
            }
            Phase::Draining { .. } => {
                for running in self.processes.values_mut() {
                    running.excuse();
                }
                self.all_slots(SlotEvent::Kill, now);
                self.outbox.give_up_if_down();
            }
            Phase::Closing { .. } => self.outbox.give_up_if_down(),
            Phase::Closed => {}
        }
    }

    fn on_output(&mut self, process: ProcessId, stream: Stream, text: &[u8]) {
        let Some(running) = self.processes.get_mut(&process) else { return };
        let limit = self.plan.output_limit;
        let allowed = running.account_for_output(text, limit);
        if allowed > 0 {
            let to_stderr = stream == Stream::Err;
            self.setup.console.print(running.plan.queue.as_str(), to_stderr, &text[..allowed]);
        }
    }

    fn on_answer(&mut self, process: ProcessId, answer: Answer, now: Instant) {
        let Some(running) = self.processes.get_mut(&process) else { return };
        let queue = running.plan.queue.clone();
        match answer {
            Answer::Loaded | Answer::Goodbye => {}
            Answer::Ready => {
                let seat = running.seat;
                self.step(seat, SlotEvent::Ready, now);
                let replaced =
                    self.slots.get_mut(&seat).map(|seat| std::mem::take(&mut seat.replaces));
                for old in replaced.into_iter().flatten() {
                    self.step(old, SlotEvent::Stop { deadline: None, empty: false }, now);
                }
            }
            Answer::Unfit(reason) => running.unfit = Some(reason),
            Answer::Log { level, logger, text } => {
                if level >= Level::Error {
                    running.remember(text.as_bytes());
                }
                log::emit(level, &logger, &text);
            }
            Answer::Submit { seq, queue: target, payload } => {
                let target = target.map_or(Ok(queue.clone()), |name| QueueName::parse(&name));
                let payload = Payload::parse(&payload, self.plan.payload_limit);
                // The worker checked both; a process that sends others is not believed.
                let accepted = match (target, payload) {
                    (Ok(queue), Ok(payload)) => {
                        running.held.submit(seq, NewTask { queue, payload })
                    }
                    _ => false,
                };
                if !accepted {
                    running.condemn(Verdict::Nonsense);
                }
            }
            Answer::Failed { seq, failure } => {
                if !running.held.fail(seq, failure) {
                    running.condemn(Verdict::Nonsense);
                }
            }
            Answer::Finished { seq } => {
                running.report_dropped_output();
                let (finished, elapsed) = running.held.finish(seq, now);
                running.worked = true;
                running.recalling = false;
                if let Some(entry) = self.queues.get_mut(&queue) {
                    entry.feed.measured(finished.len() as u64, elapsed);
                }
                self.settle(process, finished);
            }
            Answer::Recalled(seqs) => {
                running.recalling = false;
                let tasks = running.held.recall(&seqs);
                self.put_back(&queue, tasks);
            }
        }
        self.dirty.insert(queue);
    }

    fn on_exit(&mut self, process: ProcessId, exit: Exit, now: Instant) {
        let Some(mut running) = self.processes.remove(&process) else { return };
        running.report_dropped_output();
        let seat = running.seat;
        let progress = running.process.page.read();
        let worked = running.worked || progress.finished > 0;
        let held = std::mem::take(&mut running.held);
        let aftermath = held.after_death(progress);
        let plan = Arc::clone(&running.plan);
        let queue = plan.queue.clone();

        let expected = exit.goodbye || running.verdict == Some(Verdict::Ordered);
        let scene = running.scene();
        if !expected {
            self.report_crash(&running, &scene, &exit, aftermath.culprit.as_ref());
        }
        for held in aftermath.finished {
            let outcome = held.failure.as_ref().map(|failure| scene.failed(failure));
            self.record(held, outcome);
        }
        match aftermath.culprit {
            Some(held) if !expected => {
                let death = scene.ended(&exit, running.verdict);
                self.record(held, Some(death));
            }
            // Stopped by order while it was at the task: nobody is to blame.
            Some(held) => self.put_back(&queue, vec![held.claimed]),
            None => {}
        }
        self.put_back(&queue, aftermath.unstarted);
        if let Some(seat) = self.slots.get_mut(&seat) {
            seat.process = None;
        }
        self.step(seat, SlotEvent::Exited { worked }, now);
        self.dirty.insert(queue);
    }

    /// One line that names what died, how, and at what.
    fn report_crash(
        &self,
        running: &Running,
        scene: &Scene<'_>,
        exit: &Exit,
        culprit: Option<&HeldTask>,
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
            (None, Some(held)) => {
                let (id, attempt) = (held.claimed.task.id.0, held.claimed.task.attempt);
                tracing::error!(
                    logger = MASTER,
                    "{who} {cause} while it processed task {id} (attempt {attempt}), which is now a \
                     dead letter"
                );
            }
            (None, None) => tracing::error!(logger = MASTER, "{who} {cause} between tasks"),
        }
    }

    fn on_reply(&mut self, reply: Reply) {
        let now = Instant::now();
        match reply {
            Reply::Claimed { queue, claim } => self.on_claimed(&queue, claim, now),
            Reply::Finished { lost } => {
                for queue in self.outbox.finished() {
                    self.on_wake(&queue);
                }
                if !lost.is_empty() {
                    let ids: Vec<String> = lost.iter().map(|id| id.0.to_string()).collect();
                    tracing::warn!(
                        "another host took over tasks {} while this one was thought dead; their \
                         outcomes here do not count",
                        ids.join(", ")
                    );
                }
                // An outcome may be what an empty queue's halt waits for.
                for queue in self.queues.values_mut() {
                    queue.asked_idle = false;
                }
                self.dirty.extend(self.queues.keys().cloned());
            }
            Reply::Idle { queue, idle } => self.on_idle(&queue, idle, now),
            Reply::Rescued(count) => {
                tracing::info!("{count} tasks of a dead host are waiting again");
                let names: Vec<QueueName> = self.queues.keys().cloned().collect();
                names.iter().for_each(|queue| self.on_wake(queue));
            }
            Reply::Down(reason) => {
                self.outbox.down = true;
                tracing::error!("the queue store is away, its tasks are kept: {reason}");
            }
            Reply::Up(outage) => {
                self.outbox.down = false;
                tracing::info!("the queue store is back after {:.1} s", outage.as_secs_f64());
            }
            Reply::Closed => self.phase = Phase::Closed,
        }
    }

    fn on_claimed(&mut self, name: &QueueName, claim: Option<rex_transport::Claim>, now: Instant) {
        self.outbox.claimed();
        let Some(queue) = self.queues.get_mut(name) else {
            // The queue left the plan while the claim was under way.
            let tasks = claim.into_iter().flat_map(|claim| {
                let id = claim.id;
                claim.tasks.into_iter().map(move |task| Claimed { claim: id, task })
            });
            tasks.for_each(|claimed| self.outbox.release(claimed));
            return;
        };
        queue.claiming = false;
        match claim {
            Some(mut claim) => {
                queue.empty_until = None;
                // What is no object never reaches a worker.
                let id = claim.id;
                claim.tasks.retain(|task| match task.payload.check() {
                    Ok(()) => true,
                    Err(error) => {
                        let first_line = error.to_string().replace('\n', " ");
                        tracing::error!(
                            "task {} of queue {name} is now a dead letter: {first_line}",
                            task.id.0
                        );
                        self.outbox.push(Finished {
                            claim: id,
                            task: task.id,
                            outcome: Outcome::Dead(rex_transport::Death {
                                reason: first_line,
                                details: serde_json::json!({"kind": "payload"}),
                            }),
                            submits: Vec::new(),
                        });
                        false
                    }
                });
                queue.feed.add(claim);
            }
            None => queue.empty_until = Some(now + self.plan.poll_interval),
        }
        self.dirty.insert(name.clone());
    }

    fn on_idle(&mut self, name: &QueueName, idle: bool, now: Instant) {
        let held = self.held(name);
        let Some(queue) = self.queues.get_mut(name) else { return };
        queue.asked_idle = false;
        if idle && held == 0 && queue.feed.ready() == 0 && !queue.claiming {
            let seats: Vec<SlotId> = self.seats(name);
            for seat in seats {
                self.step(seat, SlotEvent::Stop { deadline: None, empty: true }, now);
            }
        } else {
            queue.empty_until = Some(now + self.plan.poll_interval);
        }
    }

    fn on_wake(&mut self, name: &QueueName) {
        if let Some(queue) = self.queues.get_mut(name) {
            queue.empty_until = None;
            self.dirty.insert(name.clone());
        }
    }

    // ---- slots and processes --------------------------------------------------------------------

    fn all_slots(&mut self, event: SlotEvent, now: Instant) {
        let ids: Vec<SlotId> = self.slots.keys().copied().collect();
        ids.into_iter().for_each(|id| self.step(id, event, now));
    }

    /// Lets the slot decide, and does what it decided.
    fn step(&mut self, id: SlotId, event: SlotEvent, now: Instant) {
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
                    if let Err(error) = self.spawn(id, &plan) {
                        tracing::error!("cannot start a worker for queue {}: {error}", plan.queue);
                        self.step(id, SlotEvent::SpawnFailed, now);
                    }
                }
                Action::Stop { empty } => {
                    if let Some(running) = running {
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
                            Slot::Waiting { .. } | Slot::Serving { .. } | Slot::Halted => {}
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

    fn spawn(&mut self, seat: SlotId, plan: &Arc<QueuePlan>) -> io::Result<()> {
        let (process, ends) = self.spawner.spawn(plan.queue.as_str())?;
        let socket = ends.socket.try_clone()?;
        let id = process.id;
        self.poller.watch(id, process.pid, process.nonce, ends);
        let nonce = process.nonce;
        let mut running = Running::new(process, socket, seat, Arc::clone(plan));
        running.send(
            &self.poller,
            &ToWorker::Load {
                version: VERSION,
                plugin: plan.plugin.path.to_string_lossy().into_owned(),
                nonce,
                limits: Limits { memory: plan.memory_limit },
            },
        );
        running.send(
            &self.poller,
            &ToWorker::Start(Start {
                worker: plan.worker.clone(),
                logger: plan.logger.clone(),
                queue: plan.queue.as_str().to_owned(),
                level: self.plan.filter.threshold(),
                payload_limit: self.plan.payload_limit,
                settings: plan.settings.clone(),
            }),
        );
        self.processes.insert(id, running);
        if let Some(seat) = self.slots.get_mut(&seat) {
            seat.process = Some(id);
        }
        Ok(())
    }

    fn enforce_time_limits(&mut self, now: Instant) {
        let mut overdue = Vec::new();
        for running in self.processes.values_mut() {
            if running.is_overdue(now) {
                let limit = running.plan.timeout.unwrap_or_default();
                running.verdict.get_or_insert(Verdict::TimedOut(limit));
                overdue.push(running.seat);
            }
        }
        for seat in overdue {
            self.step(seat, SlotEvent::Overdue, now);
        }
    }

    // ---- queues ---------------------------------------------------------------------------------

    fn serve_queues(&mut self, now: Instant) {
        if self.phase == Phase::Working && !self.quiet {
            let polls = self.queues.iter().filter(|(_, queue)| {
                queue.empty_until.is_some_and(|until| until <= now) && !queue.retired
            });
            self.dirty.extend(polls.map(|(name, _)| name.clone()).collect::<Vec<_>>());
            let rates = self
                .queues
                .iter()
                .filter(|(name, queue)| self.rate_wake(name, queue).is_some_and(|at| at <= now));
            self.dirty.extend(rates.map(|(name, _)| name.clone()).collect::<Vec<_>>());
        }
        for name in std::mem::take(&mut self.dirty) {
            self.serve(&name, now);
        }
    }

    /// Hands out what is claimed, claims more, evens out, and halts what has nothing to do.
    fn serve(&mut self, name: &QueueName, now: Instant) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        if self.phase != Phase::Working || queue.retired {
            queue.feed.take_all().into_iter().for_each(|claimed| self.outbox.release(claimed));
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

        for id in &serving {
            let Some(running) = self.processes.get_mut(id) else { continue };
            let held = running.held.count();
            let tasks = match &mut queue.limiter {
                None => queue.feed.take(held, serving.len()),
                Some(_) if held > 0 || queue.feed.ready() == 0 => Vec::new(),
                Some(limiter) => {
                    let at = limiter.next_start(now);
                    if at > now {
                        running.say_limited(at, now);
                        Vec::new()
                    } else {
                        limiter.started(now);
                        queue.feed.take(0, usize::MAX)
                    }
                }
            };
            if !tasks.is_empty() {
                let tasks = running.held.hand_out(tasks, now);
                running.handed_out(now);
                running.send(&self.poller, &ToWorker::Tasks(tasks));
            }
        }

        let held: usize = serving
            .iter()
            .filter_map(|id| self.processes.get(id))
            .map(|running| running.held.count())
            .sum();
        if self.quiet || queue.claiming {
            return;
        }
        let wanted = queue.feed.to_claim(serving.len(), held);
        if wanted > 0 && queue.empty_until.is_none() {
            queue.claiming = true;
            self.outbox.claim(name.clone(), wanted);
            return;
        }
        if queue.feed.ready() > 0 || queue.empty_until.is_none() {
            return;
        }
        // The queue has no more: what one process holds ahead may be another's work.
        let idle = serving
            .iter()
            .filter_map(|id| self.processes.get(id))
            .any(|running| running.held.count() == 0);
        if idle && let Some(most) = serving.last().and_then(|id| self.processes.get_mut(id)) {
            if most.held.count() > 1 && !most.recalling {
                most.recalling = true;
                most.send(&self.poller, &ToWorker::Recall);
            }
        }
        let halting = self.setup.halt_when_empty && held == 0 && !serving.is_empty();
        if halting && !queue.asked_idle {
            queue.asked_idle = true;
            self.outbox.ask_idle(name.clone());
        }
    }

    /// When a task that waits for its queue's rate limit may start.
    fn rate_wake(&self, name: &QueueName, queue: &Queue) -> Option<Instant> {
        let limiter = queue.limiter.as_ref()?;
        let idle = self.slots.values().any(|seat| {
            let process = seat.process.and_then(|id| self.processes.get(&id));
            seat.plan.queue == *name
                && matches!(seat.slot, Slot::Serving { .. })
                && process.is_some_and(|running| running.held.count() == 0)
        });
        let waiting = idle && queue.feed.ready() > 0 && self.phase == Phase::Working;
        waiting.then(|| limiter.clone().next_start(Instant::now()))
    }

    fn held(&self, name: &QueueName) -> usize {
        let of_queue = self.processes.values().filter(|running| running.plan.queue == *name);
        of_queue.map(|running| running.held.count()).sum()
    }

    fn seats(&self, name: &QueueName) -> Vec<SlotId> {
        let of_queue = self.slots.iter().filter(|(_, seat)| seat.plan.queue == *name);
        of_queue.map(|(id, _)| *id).collect()
    }

    fn put_back(&mut self, name: &QueueName, tasks: Vec<Claimed>) {
        if tasks.is_empty() {
            return;
        }
        match self.queues.get_mut(name).filter(|queue| !queue.retired) {
            Some(queue) if self.phase == Phase::Working => queue.feed.put_back(tasks),
            _ => tasks.into_iter().for_each(|claimed| self.outbox.release(claimed)),
        }
    }

    // ---- outcomes -------------------------------------------------------------------------------

    /// Records tasks that a process answered for.
    fn settle(&mut self, process: ProcessId, finished: Vec<HeldTask>) {
        for held in finished {
            let death = held.failure.as_ref().and_then(|failure| {
                let running = self.processes.get(&process)?;
                Some(running.scene().failed(failure))
            });
            self.record(held, death);
        }
    }

    fn record(&mut self, held: HeldTask, death: Option<rex_transport::Death>) {
        let HeldTask { claimed, submits, .. } = held;
        let (outcome, submits) = match death {
            None => {
                self.counts.done += 1;
                (Outcome::Done, submits)
            }
            // What a failed task asked for is dropped with it: it may ask again when it is retried.
            Some(death) => {
                self.counts.failed += 1;
                (Outcome::Dead(death), Vec::new())
            }
        };
        self.outbox.push(Finished {
            claim: claimed.claim,
            task: claimed.task.id,
            outcome,
            submits,
        });
    }

    // ---- the end --------------------------------------------------------------------------------

    fn advance_phase(&mut self, now: Instant) {
        self.forget_halted();
        if !self.slots.is_empty() {
            return;
        }
        match self.phase {
            Phase::Working if self.setup.halt_when_empty => {
                tracing::info!(logger = MASTER, "All workers halted; closing down...");
                let give_up_at = now + self.plan.drain_timeout;
                self.phase = Phase::Closing { drained: false, give_up_at };
            }
            Phase::Draining { deadline } => {
                self.phase = Phase::Closing { drained: true, give_up_at: deadline };
            }
            Phase::Working | Phase::Closing { .. } | Phase::Closed => {}
        }
        if let Phase::Closing { drained, give_up_at } = self.phase {
            for queue in self.queues.values_mut() {
                queue.feed.take_all().into_iter().for_each(|claimed| self.outbox.release(claimed));
            }
            self.outbox.flush();
            if self.outbox.is_settled() && self.outbox.close() && drained {
                tracing::debug!(logger = MASTER, "Children dead");
            }
            if give_up_at <= now {
                self.outbox.give_up_if_down();
            }
        }
    }

    /// Slots that are halted leave the table, and queues without slots that were retired.
    fn forget_halted(&mut self) {
        let halted: Vec<SlotId> = self
            .slots
            .iter()
            .filter(|(_, seat)| seat.slot == Slot::Halted)
            .map(|(id, _)| *id)
            .collect();
        for id in halted {
            self.slots.remove(&id);
        }
        let used: BTreeSet<&QueueName> = self.slots.values().map(|seat| &seat.plan.queue).collect();
        self.queues.retain(|name, queue| !queue.retired || queue.claiming || used.contains(name));
    }
}
