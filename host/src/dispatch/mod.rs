//! The host's loop: gives tasks to worker processes, takes their answers, records outcomes.
//!
//! One `select!` over channels that small threads feed: [`Poller`] (processes and
//! signals), [`store`] (the transport), the transport's notifications, the control socket and
//! reloads. Everything that the loop knows is in [`Host`], which no other thread sees.
//!
//! The parts that decide are pure: [`feed`] (how many tasks go where), [`held`] (what a process has
//! and what became of it), [`supervisor::step`](crate::supervisor::step) (what a slot does next),
//! [`limiter`]. What it does not know: how tasks are stored, and what is in a payload.

mod answers;
mod asker;
mod claim_cost;
mod death;
mod end;
mod excerpt;
mod feed;
mod held;
mod lease;
mod limiter;
mod outbox;
mod outcome;
pub mod plan;
mod processes;
mod queues;
mod reload;
pub mod retry;
mod running;
mod standby;
mod status;
pub mod store;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};
use rex_plugin_api::Level;
use rex_transport::{QueueName, TaskId, Transport, Wake};

use self::death::Verdict;
use self::end::Phase;
use self::feed::Feed;
use self::lease::Lease;
use self::limiter::Limiter;
use self::outbox::Outbox;
use self::outcome::Fate;
use self::plan::{Plan, QueuePlan, START_TIMEOUT};
use self::reload::{Replan, Replanned};
use self::running::Running;
use self::store::{Recorded, Reply, Store};
use crate::control;
use crate::cron::Scheduler;
use crate::jobs::{self, Book, Desk};
use crate::log::Console;
use crate::supervisor::slot::Event as SlotEvent;
use crate::supervisor::{Event, Policy, Poller, ProcessId, Signals, Slot, Spawner};

/// What stays for the life of the host.
pub struct Setup {
    pub console: Console,
    /// End when there is nothing left to do.
    pub halt_when_empty: bool,
    /// What fires schedules, if this host does; gone once it was told to stop.
    pub scheduler: Option<Scheduler>,
    /// The original's spelling of the command line: only its own lines where it has some.
    pub original: bool,
    /// Makes a new plan from what is on disk now; runs on a thread of its own.
    pub replan: Arc<Replan>,
    /// Requests of operators.
    pub control: Receiver<control::Call>,
    /// Where there are queues of jobs, or were any.
    pub jobs: Option<Jobs>,
    /// Says that the plugin directory changed; never, without `--watch`.
    pub changes: Receiver<()>,
    /// For `status`: where tasks come from.
    pub label: String,
    pub instance: String,
}

impl Setup {
    /// Where the tasks of this queue are jobs.
    fn jobs_of(&self, plan: &QueuePlan) -> Option<&Jobs> {
        self.jobs.as_ref().filter(|_| plan.runs_jobs())
    }
}

/// The loop's side of jobs.
pub struct Jobs {
    pub desk: Desk,
    pub book: Book,
    pub events: Receiver<jobs::Event>,
}

/// Puts what works jobs around the transport.
pub type Around = Box<dyn FnOnce(Box<dyn Transport>) -> Box<dyn Transport> + Send>;

/// Begins to work the table of jobs, which is ready for that.
pub type BeginJobs = Box<dyn FnOnce() -> io::Result<(Jobs, Around)> + Send>;

impl Jobs {
    /// Puts what the host has to say of a task into the log of its job, too.
    fn log_warnings(&self, task: TaskId, logger: &str, texts: Vec<String>) {
        for text in texts {
            self.desk.log(task, format!("{}:{logger}:{text}\n", Level::Warning));
        }
    }
}

pub use reload::{Fresh, Purpose};
pub use status::Counts;

/// The signals that mean something to a host, but for those that end it: these may come while it
/// starts, and wait then.
pub const SIGNALS: [i32; 3] = [libc::SIGHUP, libc::SIGTSTP, libc::SIGCONT];

/// Runs until told to stop or, with `halt_when_empty`, until the queues are empty; says what it did.
///
/// # Errors
/// When the kernel refuses what no host can do without.
pub fn run(
    setup: Setup,
    plan: Plan,
    mut signals: Signals,
    transport: Box<dyn Transport>,
) -> io::Result<Counts> {
    let (wake, woken) = crossbeam_channel::unbounded();
    let _watch = match transport.watch(wake) {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!("no notifications, polling instead: {error}");
            None
        }
    };
    let (store, replies) = Store::start(transport)?;
    signals.take(&[libc::SIGTERM, libc::SIGINT])?;
    let console = setup.console.clone();
    let gate = console.clone();
    let (poller, events) = Poller::start(signals, move || gate.is_full())?;
    let (replanned, plans) = crossbeam_channel::unbounded();
    let mut host = Host {
        spawner: Spawner::default(),
        policy: Policy { start_timeout: START_TIMEOUT, jitter: 0.0 },
        setup,
        plan: plan.clone(),
        queues: BTreeMap::new(),
        slots: BTreeMap::new(),
        processes: BTreeMap::new(),
        next_slot: 1,
        outbox: Outbox::new(store, console),
        poller,
        replanned,
        replanning: false,
        reloads_wanted: VecDeque::new(),
        adopted: Vec::new(),
        phase: Phase::Working,
        quiet: false,
        reschedule: false,
        lease: Lease::default(),
        standby_after: Instant::now(),
        forget_at: Instant::now(),
        started: Instant::now(),
        dirty: BTreeSet::new(),
        counts: status::Counts::default(),
    };
    host.apply(plan, Instant::now());
    host.main_loop(&events, &replies, &woken, &plans)?;
    Ok(host.counts)
}

/// How often it is looked whether output that nobody reads still holds outcomes up.
const UNREAD: Duration = Duration::from_secs(1);

/// How often old dead letters are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(600);

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
    reloads_wanted: VecDeque<reload::Wanted>,
    adopted: Vec<reload::Adopted>,
    phase: Phase,
    /// No new claims: an operator said so by signal.
    quiet: bool,
    /// The scheduler has not been given the plan's schedules yet.
    reschedule: bool,
    lease: Lease,
    /// No standby is started before then.
    standby_after: Instant,
    /// When old dead letters are next deleted.
    forget_at: Instant,
    started: Instant,
    /// Queues in which something changed since they were last served.
    dirty: BTreeSet<QueueName>,
    counts: status::Counts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct SlotId(u64);

/// One worker slot of a queue.
struct Seat {
    plan: Arc<QueuePlan>,
    slot: Slot,
    process: Option<ProcessId>,
    /// What ended its last process, until the next one serves.
    last_death: Option<String>,
    /// Slots of an older generation that end when this one serves.
    replaces: Vec<SlotId>,
    /// Whether a process of it was ready once.
    has_served: bool,
}

/// One queue that is worked.
#[derive(Default)]
struct Queue {
    feed: Feed,
    limiter: Option<Limiter>,
    /// The last one, where there is none any more.
    limited_before: Option<Limiter>,
    /// A claim is under way.
    claiming: bool,
    /// The last claim found nothing: not to be repeated before then, unless notified.
    empty_until: Option<Instant>,
    /// Word of tasks has come since the last claim was begun.
    woken: bool,
    /// The last claim was refused: not to be repeated before then, whatever happens.
    refused_until: Option<Instant>,
    /// Whether the store was asked if the queue is idle, and its processes told to end if so.
    asked_idle: bool,
    /// An operator has said so, as far as this host has heard.
    paused: bool,
    /// Not in the plan any more: its slots only end.
    retired: bool,
}

impl Host {
    fn main_loop(
        &mut self,
        events: &Receiver<Event>,
        replies: &Receiver<Reply>,
        woken: &Receiver<Wake>,
        plans: &Receiver<Replanned>,
    ) -> io::Result<()> {
        let mut control = self.setup.control.clone();
        let mut changes = self.setup.changes.clone();
        let mut woken = woken.clone();
        let written = self.setup.console.written().clone();
        let lost = |what| io::Error::other(format!("the host lost its {what}"));
        let mut ticked = Instant::now();
        self.tick(ticked);
        while self.phase != Phase::Closed {
            // What has become due since the last tick is no time away.
            let wait = self.next_deadline(ticked).map_or(Duration::from_secs(3600), |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            // A reload may have begun to work jobs.
            let jobs = self.setup.jobs.as_ref().map(|jobs| jobs.events.clone());
            let jobs = jobs.unwrap_or_else(crossbeam_channel::never);
            select! {
                recv(events) -> event => self.on_event(event.map_err(|_| lost("poller"))?),
                // Outcomes may have waited for it.
                recv(written) -> _ => {}
                recv(replies) -> reply => self.on_reply(reply.map_err(|_| lost("store"))?),
                recv(plans) -> plan => self.on_replanned(plan.map_err(|_| lost("reloads"))?),
                // Without any of these the host is deaf on one ear and goes on.
                recv(woken) -> wake => match wake {
                    Ok(wake) => self.on_wake(&wake),
                    Err(_) => woken = crossbeam_channel::never(),
                },
                recv(jobs) -> event => match event {
                    Ok(event) => self.on_jobs(event, Instant::now()),
                    Err(_) => self.lose_jobs(),
                },
                recv(control) -> call => match call {
                    Ok(call) => self.on_call(call),
                    Err(_) => control = crossbeam_channel::never(),
                },
                recv(changes) -> change => match change {
                    Ok(()) => self.start_reload(None, false),
                    Err(_) => changes = crossbeam_channel::never(),
                },
                default(wait) => {}
            }
            // What is there already is worth one round together: batches grow under load.
            for event in events.try_iter().take(256) {
                self.on_event(event);
            }
            for reply in replies.try_iter() {
                self.on_reply(reply);
            }
            for wake in woken.try_iter() {
                self.on_wake(&wake);
            }
            ticked = Instant::now();
            self.tick(ticked);
        }
        let unrecorded = self.outbox.ended();
        if unrecorded > 0 {
            let why = match unrecorded == self.outbox.held {
                true => "what they need stayed locked",
                false => "the queue store stayed away",
            };
            let are = match unrecorded {
                1 => "one outcome is not recorded, its task",
                _ => &format!("{unrecorded} outcomes are not recorded, their tasks"),
            };
            tracing::error!("{why}: {are} will be run again");
        }
        Ok(())
    }

    /// Hears no more of jobs.
    fn lose_jobs(&mut self) {
        if let Some(jobs) = &mut self.setup.jobs {
            jobs.events = crossbeam_channel::never();
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
        // After the launches, as in the original.
        if std::mem::take(&mut self.reschedule)
            && let Some(scheduler) = &self.setup.scheduler
        {
            scheduler.set(self.plan.schedules.clone());
        }
        self.enforce_limits(now);
        self.answer_reloads();
        self.forget_old_letters(now);
        self.watch_lease(now);
        self.serve_queues(now);
        self.keep_standbys(now);
        self.outbox.flush();
        self.advance_phase(now);
    }

    /// Dead letters that are older than they are kept.
    fn forget_old_letters(&mut self, now: Instant) {
        if let Some(age) = self.plan.retention
            && self.forget_at <= now
        {
            self.forget_at = now + FORGET_EVERY;
            self.outbox.forget_dead(age);
        }
    }

    /// When the next tick is needed, after one at `now`.
    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let slots = self.slots.values().filter_map(|seat| seat.slot.next_tick());
        let limits = self.processes.values().filter_map(Running::next_check);
        let forget = self.plan.retention.map(|_| self.forget_at);
        let leaving = self.processes.values().filter_map(|running| running.gone_by);
        let standby = Some(self.standby_after).filter(|at| *at > now);
        let unread = self.outbox.waits_for_output().then(|| now + UNREAD);
        let lapse = self.lease.ends().filter(|at| *at > now);
        let working = self.phase == Phase::Working && !self.quiet;
        let queues = self.queues.values().filter(|queue| working && !queue.retired);
        let queues = queues.flat_map(|queue| {
            let refused = queue.refused_until.filter(|until| *until > now);
            let overdue = queue.feed.overdue_at().filter(|at| *at > now);
            queue.empty_until.into_iter().chain(refused).chain(overdue)
        });
        let rates = self.queues.iter().filter_map(|(name, queue)| self.rate_wake(name, queue, now));
        // Of one that is over, nothing came.
        let rates = rates.filter(|at| *at > now);
        let drain = match self.phase {
            Phase::Closing { give_up_at, .. } => Some(give_up_at),
            _ => None,
        };
        slots
            .chain(limits)
            .chain(queues)
            .chain(rates)
            .chain(drain)
            .chain(standby)
            .chain(leaving)
            .chain(forget)
            .chain(lapse)
            .chain(unread)
            .min()
    }

    fn on_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Output { process, stream, started, text } => {
                self.on_output(process, stream, started, &text);
            }
            Event::Answer { process, answer } => self.on_answer(process, answer, now),
            Event::Nonsense { process, reason } => {
                if let Some(running) = self.processes.get_mut(&process) {
                    let queue = &running.plan.queue;
                    tracing::error!("worker for queue {queue} sent what no worker sends: {reason}");
                    running.condemn(Verdict::Nonsense);
                }
            }
            Event::Written { process, bytes } => {
                if let Some(running) = self.processes.get_mut(&process) {
                    running.written(bytes);
                }
            }
            Event::Exited { process, goodbye } => self.on_exit(process, goodbye, now),
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
                self.recall_all();
                self.dirty.extend(self.queues.keys().cloned());
            }
            libc::SIGCONT if self.quiet => {
                self.quiet = false;
                tracing::info!("taking tasks again");
                self.dirty.extend(self.queues.keys().cloned());
            }
            _ => {}
        }
    }

    fn on_reply(&mut self, reply: Reply) {
        let now = Instant::now();
        match reply {
            Reply::Claimed { queue, claim, took, due } => {
                self.on_claimed(&queue, claim, took, due, now);
            }
            Reply::Refused { queue, reason, pause } => {
                self.on_refused(&queue, &reason, now + pause);
            }
            Reply::Finished(recorded) => {
                for queue in self.outbox.finished() {
                    self.on_wake(&Wake::Queue(queue));
                }
                self.on_recorded(&recorded);
            }
            Reply::Late(recorded) => {
                // They may have submitted tasks, or made room for some.
                self.on_wake(&Wake::All);
                self.on_recorded(&recorded);
            }
            Reply::Idle { queue, idle, paused } => self.on_idle(&queue, idle, paused, now),
            Reply::Forgotten(count) => {
                tracing::info!("dead letters that were older than they are kept: {count}");
            }
            Reply::Beat { begun, lease, taken, paused } => {
                self.on_beat(begun, lease, taken, now);
                self.on_paused(&paused);
            }
            Reply::Rescued(count) => {
                tracing::info!("tasks of a dead host are waiting again: {count}");
                self.on_wake(&Wake::All);
            }
            Reply::Down { reason, refuses } => {
                self.outbox.down = true;
                self.outbox.refused = refuses;
                let how = if refuses { "refuses this host" } else { "is away" };
                tracing::error!("the queue store {how}, its tasks are kept: {reason}");
            }
            Reply::Up(outage) => {
                self.outbox.down = false;
                self.outbox.refused = false;
                tracing::info!("the queue store is back after {:.1} s", outage.as_secs_f64());
            }
            Reply::Closed => self.phase = Phase::Closed,
        }
    }

    fn on_recorded(&mut self, Recorded { lost, held, refused }: &Recorded) {
        self.outbox.held = *held;
        // They were counted as done.
        self.counts.done = self.counts.done.saturating_sub(*refused);
        self.counts.failed += refused;
        if !lost.is_empty() {
            let ids: Vec<String> = lost.iter().map(|id| id.0.to_string()).collect();
            tracing::warn!(
                "tasks {} are no longer this host's: they were given back while it could not be \
                 reached; their outcomes here do not count",
                ids.join(", ")
            );
        }
        // An outcome may be what an empty queue's halt waits for.
        for queue in self.queues.values_mut() {
            queue.asked_idle = false;
        }
        self.dirty.extend(self.queues.keys().cloned());
    }

    fn on_wake(&mut self, wake: &Wake) {
        for (name, queue) in &mut self.queues {
            if *wake == Wake::All || matches!(wake, Wake::Queue(woken) if woken == name) {
                queue.wake();
                self.dirty.insert(name.clone());
            }
        }
    }
}
