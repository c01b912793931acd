//! The thread that does what jobs ask for and what is due for all of them: queues new ones, deletes old
//! ones, updates facets, keeps logs and progress, hears of cancellations. It has a connection of its own
//! to the table and to the queue, so that a slow database holds up neither the host's loop nor its claims.
//! What another program has locked waits by itself, and is tried again every second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rex_db::{Address, Config, Session};
use rex_htsql::error::Kind;
use rex_htsql::{Naming, Param, Params};
use rex_transport::{
    Kind as Trouble, NewTask, Payload, QueueName, TaskId, Transport, TransportError,
};

use super::patience::Patience;
use super::refusals::Refusals;
use super::strays::Strays;
use super::table::{BRIEFLY, NOT_AT_ALL, Queued, Table, TableError, waiting};
use super::{Book, QUEUE, Rules};
use crate::supervisor::ProcessId;
use crate::wire::Request;

/// The handle of the thread; each of its clones.
#[derive(Clone)]
pub struct Desk {
    orders: Sender<Order>,
}

/// What the host's loop is told.
#[derive(Debug)]
pub enum Event {
    /// What a process asked for is done, or is refused.
    Answer { process: ProcessId, ask: u64, result: Result<(), String> },
    /// The job of this task is to come to an end, and is killed after the grace.
    Cancel { task: TaskId, grace: Duration },
}

enum Order {
    Rules(Arc<Rules>),
    Ask {
        process: ProcessId,
        ask: u64,
        task: Option<TaskId>,
        request: Request,
    },
    Log {
        task: TaskId,
        text: String,
    },
    Progress {
        task: TaskId,
        fraction: f64,
        text: String,
    },
    /// Write what was said so far.
    Flush(Sender<()>),
    /// There may be new jobs.
    Queue,
    /// Queue those now, and say whether none is left.
    QueueNow(Sender<bool>),
    /// There may be jobs to cancel.
    Cancel,
}

/// What jobs say is written after so long, together.
const WRITE_AFTER: Duration = Duration::from_millis(100);
/// How often it is looked for cancellations that nobody told of, and how soon what failed is repeated.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked for new jobs of which nobody told: an application may have made room for one by
/// changing or deleting another.
const UPKEEP: Duration = Duration::from_secs(5);
/// Bytes of a job's log that wait for its row at most.
const MOST_SAID: usize = 1 << 20;
/// How soon it is looked again for new jobs that another host was queueing.
const QUEUE_AGAIN: Duration = Duration::from_millis(20);
/// How long the end of a job waits for its log, and its beginning for the host that is queueing.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the thread works with.
pub struct Means {
    pub address: Address,
    pub table: Table,
    /// Where tasks of jobs are put.
    pub transport: Box<dyn Transport>,
    pub book: Book,
    /// The number under which runs of this host are known.
    pub host: i64,
    /// Queue new jobs whenever there may be some.
    pub queues_at_once: bool,
}

impl Desk {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(means: Means, rules: Rules) -> std::io::Result<(Desk, Receiver<Event>)> {
        let (orders, inbox) = crossbeam_channel::unbounded();
        let (events, outbox) = crossbeam_channel::unbounded();
        let (address, host) = (means.address.clone(), means.host);
        let mut thread = Thread {
            means,
            rules: Arc::new(rules),
            session: None,
            events,
            said: HashMap::new(),
            write_at: None,
            queue_failed: false,
            locked: HashMap::new(),
            refusals: Refusals::default(),
            queue_again: None,
            strays: Strays::default(),
            waiting: Vec::new(),
        };
        std::thread::Builder::new().name("jobs".to_owned()).spawn(move || thread.run(&inbox))?;
        let desk = Desk { orders };
        super::watch::start(address, host, desk.clone())?;
        Ok((desk, outbox))
    }

    pub fn set_rules(&self, rules: Rules) {
        self.order(Order::Rules(Arc::new(rules)));
    }

    /// Answered by [`Event::Answer`].
    pub fn ask(&self, process: ProcessId, ask: u64, task: Option<TaskId>, request: Request) {
        self.order(Order::Ask { process, ask, task, request });
    }

    pub fn log(&self, task: TaskId, text: String) {
        self.order(Order::Log { task, text });
    }

    pub fn progress(&self, task: TaskId, fraction: f64, text: String) {
        self.order(Order::Progress { task, fraction, text });
    }

    pub fn queue(&self) {
        self.order(Order::Queue);
    }

    /// Waits until new jobs are queued, but not for ever: whether all are, which those are not whose queue
    /// is refused or whose row is locked.
    pub fn queue_now(&self) -> bool {
        let (done, queued) = crossbeam_channel::bounded(1);
        self.order(Order::QueueNow(done));
        queued.recv_timeout(PATIENCE).unwrap_or(false)
    }

    pub fn cancel(&self) {
        self.order(Order::Cancel);
    }

    /// Waits until what was said so far is written, but not for ever.
    pub fn flush(&self) {
        let (done, written) = crossbeam_channel::bounded(1);
        self.order(Order::Flush(done));
        let _ = written.recv_timeout(PATIENCE);
    }

    fn order(&self, order: Order) {
        // Fails only when the thread has ended by a panic that was reported.
        let _ = self.orders.send(order);
    }
}

/// A task and the id of its job's row.
type Run = (TaskId, i32);

/// What a job said and is not written yet.
#[derive(Default)]
struct Said {
    log: String,
    progress: Option<(f64, String)>,
    /// The row was locked when it was last tried.
    waits: bool,
}

impl Said {
    /// What was written is not left to be written again.
    fn write(&mut self, (task, job): Run, host: i64, table: &mut Table) -> Result<(), TableError> {
        if !self.log.is_empty() {
            table.log(job, &self.log)?;
            self.log.clear();
        }
        if let Some((fraction, text)) = &self.progress {
            table.report(job, (host, task), *fraction, text)?;
        }
        Ok(())
    }
}

struct Thread {
    means: Means,
    rules: Arc<Rules>,
    /// For facets, once there was one.
    session: Option<Session>,
    events: Sender<Event>,
    /// By row.
    said: HashMap<Run, Said>,
    write_at: Option<Instant>,
    /// New jobs could not be queued.
    queue_failed: bool,
    /// New jobs whose rows are locked, by code.
    locked: HashMap<i64, Patience>,
    /// Queues that take no new jobs.
    refusals: Refusals,
    queue_again: Option<Instant>,
    strays: Strays,
    /// What was asked while the server was away, or something was locked.
    waiting: Vec<Asked>,
}

/// What a job has asked for.
struct Asked {
    process: ProcessId,
    ask: u64,
    task: Option<TaskId>,
    request: Request,
    /// It was in vain so far.
    waits: Option<Waits>,
}

/// Why what was asked for waits.
#[derive(Clone, Copy)]
enum Waits {
    Away,
    Locked(Patience),
}

/// A row that a job asks for.
struct Facet<'a> {
    /// The id of the job's row.
    job: i32,
    /// Whose identity is a link to the job.
    table: &'a str,
    /// A JSON object.
    fields: &'a str,
}

/// Why new jobs could not be queued.
#[derive(Debug, thiserror::Error)]
enum NotQueued {
    #[error(transparent)]
    Table(#[from] TableError),
    /// Where their tasks were to go.
    #[error(transparent)]
    Store(#[from] TransportError),
}

/// Why what was asked for cannot be done.
struct Refusal {
    text: String,
    /// Another program has something locked.
    locked: bool,
}

impl From<String> for Refusal {
    fn from(text: String) -> Refusal {
        Refusal { text, locked: false }
    }
}

impl From<NotQueued> for Refusal {
    fn from(error: NotQueued) -> Refusal {
        let locked = matches!(&error, NotQueued::Table(error) if error.locked);
        Refusal { locked, text: error.to_string() }
    }
}

impl From<TableError> for Refusal {
    fn from(error: TableError) -> Refusal {
        Refusal { locked: error.locked, text: error.to_string() }
    }
}

impl Thread {
    fn run(&mut self, inbox: &Receiver<Order>) {
        let mut look_at = Instant::now();
        self.queue_new();
        loop {
            let soon = self.write_at.into_iter().chain(self.queue_again);
            let deadline = soon.fold(look_at, Instant::min);
            match inbox.recv_deadline(deadline) {
                Ok(order) => self.obey(order, inbox),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if self.write_at.is_some_and(|at| at <= now) {
                self.write();
            }
            if self.queue_again.is_some_and(|at| at <= now) {
                self.queue_new();
            }
            if look_at <= now {
                look_at = now + LOOK;
                for asked in std::mem::take(&mut self.waiting) {
                    self.ask(asked);
                }
                if !self.means.book.is_empty() {
                    self.tell_cancellations();
                }
                let Means { transport, book, .. } = &mut self.means;
                self.strays.look(&mut **transport, book, self.rules.queues);
            }
        }
    }

    fn obey(&mut self, first: Order, inbox: &Receiver<Order>) {
        // Many that wait are worth one look.
        let (mut queue, mut cancel) = (false, false);
        for order in std::iter::once(first).chain(inbox.try_iter()) {
            match order {
                Order::Rules(rules) => {
                    self.rules = rules;
                    queue = true;
                }
                Order::Ask { process, ask, task, request } => {
                    self.ask(Asked { process, ask, task, request, waits: None });
                }
                Order::Log { task, text } => {
                    if let Some(said) = self.said(task) {
                        said.log.push_str(&text);
                    }
                }
                Order::Progress { task, fraction, text } => {
                    if let Some(said) = self.said(task) {
                        said.progress = Some((fraction, text));
                    }
                }
                Order::Flush(done) => {
                    self.write();
                    let _ = done.send(());
                }
                Order::Queue => queue = true,
                Order::QueueNow(done) => {
                    let _ = done.send(!self.means.queues_at_once || self.queue_all());
                }
                Order::Cancel => cancel = true,
            }
        }
        if queue {
            self.queue_new();
        }
        if cancel {
            self.tell_cancellations();
        }
    }

    /// Answers, now or when the server is there again and nothing is locked: a job is not to fail because
    /// of that.
    fn ask(&mut self, asked: Asked) {
        let Asked { process, ask, task, ref request, waits } = asked;
        let wait = if waits.is_some() { NOT_AT_ALL } else { BRIEFLY };
        self.means.table.set_patience(wait);
        let result = match self.answer(task, request, wait) {
            Err(Refusal { text, locked: true }) => {
                let mut patience = match waits {
                    Some(Waits::Locked(patience)) => patience,
                    _ => Patience::new(),
                };
                let job = task.and_then(|task| self.means.book.end_of(task));
                patience.wait(|| match job {
                    Some((_, code, _)) => format!("what job {code} asks for waits: {text}"),
                    None => format!("what a worker asks for waits: {text}"),
                });
                return self.waiting.push(Asked { waits: Some(Waits::Locked(patience)), ..asked });
            }
            Err(Refusal { text, .. }) if self.is_away() => {
                if !matches!(waits, Some(Waits::Away)) {
                    tracing::info!("what a job asks for waits for the database: {text}");
                }
                return self.waiting.push(Asked { waits: Some(Waits::Away), ..asked });
            }
            // It may have come back meanwhile.
            Err(_) => self.answer(task, request, wait),
            Ok(()) => Ok(()),
        };
        let result = result.map_err(|refusal| refusal.text);
        let _ = self.events.send(Event::Answer { process, ask, result });
    }

    fn is_away(&mut self) -> bool {
        self.means.table.prepare().is_err_and(|error| error.away)
    }

    fn answer(
        &mut self,
        task: Option<TaskId>,
        request: &Request,
        wait: Duration,
    ) -> Result<(), Refusal> {
        match request {
            Request::Facet { table, fields } => {
                let job = task.and_then(|task| self.means.book.end_of(task));
                let (job, ..) = job.ok_or_else(|| "only a job has facets".to_owned())?;
                self.update_facet(&Facet { job, table, fields }, wait)
            }
            Request::QueueNew => self.queue_and_wait(wait, &self.refusals.due()).map(drop),
            Request::CleanUp => {
                if let Some(age) = self.rules.max_age {
                    self.means.table.clean_up(age)?;
                }
                Ok(())
            }
        }
    }

    // ---- new jobs -------------------------------------------------------------------------------

    /// Says a failure once, and that it is over.
    fn queue_new(&mut self) {
        self.queue_again = None;
        if !self.means.queues_at_once {
            return;
        }
        match self.try_queue_new(BRIEFLY, &self.refusals.due()) {
            Ok(done) => {
                if std::mem::take(&mut self.queue_failed) {
                    tracing::info!("new jobs are queued again");
                }
                let now = Instant::now();
                self.queue_again = match done {
                    // The other host may have looked before the last ones came.
                    None => Some(now + QUEUE_AGAIN),
                    Some(locked) => {
                        self.keep_locked(&locked);
                        let look = (!locked.is_empty()).then_some(now + LOOK);
                        look.into_iter().chain(self.refusals.next()).chain([now + UPKEEP]).min()
                    }
                };
            }
            Err(error) => {
                self.queue_again = Some(Instant::now() + LOOK);
                if !std::mem::replace(&mut self.queue_failed, true) {
                    tracing::error!("new jobs cannot be queued: {error}");
                }
            }
        }
    }

    fn keep_locked(&mut self, codes: &[i64]) {
        self.locked.retain(|code, _| codes.contains(code));
        for code in codes {
            self.locked.entry(*code).or_insert_with(Patience::new).wait(|| {
                format!("job {code} cannot be queued yet: another program has its row locked")
            });
        }
    }

    /// Whether no job is left new.
    fn queue_all(&mut self) -> bool {
        match self.queue_and_wait(BRIEFLY, &self.refusals.all()) {
            Ok(locked) => {
                let is_done = locked.is_empty() && self.refusals.all().is_empty();
                self.keep_locked(&locked);
                is_done
            }
            Err(Refusal { text, .. }) => {
                tracing::debug!("new jobs cannot be queued now: {text}");
                false
            }
        }
    }

    /// For who must know that it is done, as far as it can be: jobs whose queue is refused stay new, and
    /// those whose rows are locked, whose codes it returns.
    fn queue_and_wait(&mut self, wait: Duration, again: &[i64]) -> Result<Vec<i64>, Refusal> {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            match self.try_queue_new(wait, again) {
                Ok(Some(locked)) => {
                    let soon = self.queue_again.into_iter().chain(self.refusals.next());
                    self.queue_again = soon.min();
                    return Ok(locked);
                }
                Ok(None) if Instant::now() < give_up_at => std::thread::sleep(QUEUE_AGAIN),
                Ok(None) => {
                    return Err("another host is queueing jobs and does not end".to_owned().into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The codes of new jobs whose rows are locked; `None` while another host queues. A queue that is
    /// refused is said, and costs no other: of those that were refused before, the ones in `again` are
    /// tried after all others, each by itself.
    fn try_queue_new(
        &mut self,
        wait: Duration,
        again: &[i64],
    ) -> Result<Option<Vec<i64>>, NotQueued> {
        self.means.table.set_patience(wait);
        let mut locked = Vec::new();
        if !self.queue_but(self.refusals.all(), &mut locked)? {
            return Ok(None);
        }
        for number in again {
            let others = (0..self.rules.count()).filter(|other| other != number).collect();
            if !self.queue_but(others, &mut locked)? {
                return Ok(None);
            }
            self.refusals.tried(*number);
        }
        Ok(Some(locked))
    }

    /// Queues what it can but for the queues `except`; `false` while another host does it.
    fn queue_but(
        &mut self,
        mut except: Vec<i64>,
        locked: &mut Vec<i64>,
    ) -> Result<bool, NotQueued> {
        let Thread { means: Means { table, transport, .. }, rules, refusals, .. } = self;
        loop {
            let mut failure = None;
            let queued = table.queue_new(rules, &except, |number, codes| {
                let begun = Instant::now();
                put(&mut **transport, number, codes).map(|()| refusals.end(number)).map_err(
                    |error| {
                        let there =
                            error.taken.iter().filter_map(|(at, _)| codes.get(*at).copied());
                        let there = there.collect();
                        failure = Some((number, error, begun.elapsed()));
                        there
                    },
                )
            });
            if let Some((number, error, took)) = failure {
                if !matches!(error.kind, Trouble::Refused | Trouble::Invalid) {
                    return Err(error.into());
                }
                refusals.add(number, &error, took);
                except.push(number);
            }
            match queued? {
                Some(Queued { count: 1.., .. }) => {}
                Some(Queued { locked: more, .. }) => {
                    locked.extend(more);
                    return Ok(true);
                }
                None => return Ok(false),
            }
        }
    }

    // ---- what jobs say --------------------------------------------------------------------------

    fn said(&mut self, task: TaskId) -> Option<&mut Said> {
        let job = self.means.book.job(task)?;
        let at = Instant::now() + WRITE_AFTER;
        self.write_at = Some(self.write_at.map_or(at, |sooner| sooner.min(at)));
        Some(self.said.entry((task, job)).or_default())
    }

    /// What cannot be written yet is kept for a while, and dropped when it is much: it is in the host's
    /// own log, too.
    fn write(&mut self) {
        self.write_at = None;
        let mut wait = BRIEFLY;
        for (run, mut said) in std::mem::take(&mut self.said) {
            self.means.table.set_patience(if said.waits { NOT_AT_ALL } else { wait });
            let Means { table, host, .. } = &mut self.means;
            let Err(error) = said.write(run, *host, table) else { continue };
            if (error.locked || error.away) && said.log.len() < MOST_SAID {
                wait = NOT_AT_ALL;
                said.waits = error.locked;
                self.said.insert(run, said);
                self.write_at = Some(Instant::now() + LOOK);
            } else {
                tracing::warn!("what a job said is not kept: {error}");
            }
        }
    }

    // ---- cancellation ---------------------------------------------------------------------------

    fn tell_cancellations(&mut self) {
        let runs = self.means.book.runs();
        match self.means.table.cancellations(self.means.host, &runs) {
            Ok(tasks) => {
                for (task, grace) in tasks {
                    let _ = self.events.send(Event::Cancel { task, grace });
                }
            }
            Err(error) => tracing::debug!("cannot look for cancelled jobs: {error}"),
        }
    }

    // ---- facets ---------------------------------------------------------------------------------

    fn update_facet(&mut self, facet: &Facet<'_>, wait: Duration) -> Result<(), Refusal> {
        // The tables may have changed since they were last read.
        for fresh in [false, true] {
            if fresh {
                self.session = None;
            }
            match self.try_update_facet(facet, wait) {
                Err(Refusal { locked: false, .. }) if !fresh => {}
                result => return result,
            }
        }
        Ok(())
    }

    fn try_update_facet(&mut self, facet: &Facet<'_>, wait: Duration) -> Result<(), Refusal> {
        let Facet { job, table, fields } = *facet;
        let fields: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_str(fields).map_err(|error| error.to_string())?;
        for name in fields.keys().map(String::as_str).chain([table]) {
            if !is_name(name) {
                return Err(format!("`{name}` is no name").into());
            }
        }
        let mut params = Params::new();
        let mut selectors = vec!["id($rex_job) :as job".to_owned()];
        for (n, (name, value)) in fields.iter().enumerate() {
            let param = format!("rex_field_{n}");
            params.set(&param, rex_db::from_json(value.get())?);
            selectors.push(format!("${param} :as {name}"));
        }
        let query = format!("merge({table} := {{{}}})", selectors.join(", "));
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(session(&self.means.address)?),
        };
        session.sql_rows(&waiting(wait)).map_err(refusal)?;
        session.begin();
        let written = session.sql_rows(&code_of(job)).map_err(refusal).and_then(|rows| {
            let code = rows.first().and_then(|row| row.first());
            let Some(rex_htsql::Value::Integer(code)) = code else {
                return Err("the job's row is gone".to_owned().into());
            };
            params.set("rex_job", Param::text(code.to_string()));
            session.produce(&query, &params).map(|_| ()).map_err(refusal)
        });
        let ended = session.end(written.is_ok()).map_err(refusal);
        written.and(ended)
    }
}

/// Puts a task for each job into the queue of that number.
fn put(transport: &mut dyn Transport, number: i64, codes: &[i64]) -> Result<(), TransportError> {
    let queue = QueueName::parse(&format!("{QUEUE}{number}"))
        .map_err(|error| TransportError::new(Trouble::Invalid, error.to_string()))?;
    let task = |code: &i64| {
        NewTask::plain(queue.clone(), Payload::from_stored(format!("{{\"code\": {code}}}")))
    };
    let tasks: Vec<NewTask> = codes.iter().map(task).collect();
    transport.submit(&tasks).map(drop)
}

/// Also keeps the row while its facet is written: its code would be given to another job.
fn code_of(job: i32) -> String {
    format!("SELECT code FROM job WHERE id = {job} FOR KEY SHARE")
}

fn refusal(error: rex_htsql::Error) -> Refusal {
    Refusal { locked: error.kind() == Kind::Locked, text: error.to_string() }
}

fn session(address: &Address) -> Result<Session, String> {
    let (address, gateways) = (address.clone(), Vec::new());
    let config = Config { address, naming: Naming::Rex, gateways, statement_timeout: None };
    let mut session = Session::new(config).map_err(|error| error.to_string())?;
    rex_deploy::prepare(&mut session).map_err(|error| error.to_string())?;
    Ok(session)
}

/// Of a table or a field, as HTSQL writes it.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}
