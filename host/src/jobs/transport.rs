//! The transport around the transport: what is claimed from a queue of jobs is looked up in the table
//! and marked as started, and what is finished is marked before its task leaves the queue. A crash
//! between the two repeats the task, which then finds its job ended. Where a job submits something it is
//! the other way round: see [`orphans`].
//!
//! A job's failure is the row's: its task is done, and no dead letter.
//!
//! An application may have a row locked for as long as it likes. Only the job of that row waits then: it
//! is set aside before it is started, or held back when it has ended, and tried again now and then.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rex_plugin_api::pyrepr;
use rex_transport::{
    Attributes, Claim, ClaimId, ClaimedTask, DeadLetter, DeadQuery, Death, Features, Finished,
    Kind, LetterId, NewTask, Outcome, Payload, QueueName, QueueStatus, Submitted, TaskId,
    Timestamp, Transport, TransportError, WaitingTask, Wake, Want, Watch,
};
use serde_json::{Map, Value};

use super::orphans::{self, Orphans};
use super::patience::Patience;
use super::table::{BRIEFLY, Ending, NOT_AT_ALL, Orphan, Start, TableError};
use super::{Assignment, Book, Desk, Table, What};

pub struct JobTransport {
    inner: Box<dyn Transport>,
    table: Table,
    book: Book,
    desk: Desk,
    /// Claims that are looked up only so far, because the table went away.
    waiting: VecDeque<(Claim, usize)>,
    /// Tasks whose rows were locked, oldest first.
    aside: Vec<Aside>,
    /// Queues in which the last call had not looked at all there is.
    unseen: BTreeSet<QueueName>,
    /// Ends that were not recorded because rows were locked, by task.
    late: HashMap<TaskId, Patience>,
    /// Those of the last call.
    held_back: Vec<TaskId>,
    submitters: Submitters,
    orphans: Orphans,
}

/// Tasks of jobs that submit something, as far as their ends were recorded.
#[derive(Default)]
struct Submitters {
    /// The store was given the outcome, and a task that tells of the run, though perhaps in vain.
    told: HashSet<TaskId>,
    /// The store has the outcome, and the row has not ended.
    given: HashSet<TaskId>,
    /// All is recorded, though not of all that the call was about; whether they were lost.
    recorded: HashMap<TaskId, bool>,
}

/// What became of an outcome with submits.
#[derive(PartialEq, Eq)]
enum Given {
    Recorded,
    /// Its submits are not wanted.
    Unwanted,
    /// The task is another host's.
    Lost,
    /// The store holds it back.
    HeldBack,
}

/// Why it could not be given.
enum NotGiven {
    Table(TableError),
    Store(TransportError),
}

/// A task that was claimed, and whose job cannot be started yet.
struct Aside {
    claim: ClaimId,
    queue: QueueName,
    task: ClaimedTask,
    patience: Patience,
}

impl Aside {
    /// Its job.
    fn code(&self) -> Option<i64> {
        code_of(self.task.payload.as_str()).ok()
    }
}

/// Tasks of one queue that are set aside at most: more are not claimed before one of them is started.
const MOST_ASIDE: usize = 1000;
/// How long one call looks for a job that is not locked: outcomes and other queues wait meanwhile.
const LONGEST_LOOK: Duration = Duration::from_millis(20);

impl JobTransport {
    pub fn new(inner: Box<dyn Transport>, table: Table, book: Book, desk: Desk) -> JobTransport {
        JobTransport {
            inner,
            table,
            book,
            desk,
            waiting: VecDeque::new(),
            aside: Vec::new(),
            unseen: BTreeSet::new(),
            late: HashMap::new(),
            held_back: Vec::new(),
            submitters: Submitters::default(),
            orphans: Orphans::default(),
        }
    }

    /// Tasks that were set aside, as far as they are to be tried again now: one statement tells whose
    /// rows are locked still.
    fn due(
        &mut self,
        queue: &QueueName,
        most: usize,
    ) -> Result<Option<(Claim, Vec<Patience>)>, TransportError> {
        let now = Instant::now();
        let is_due = |aside: &Aside| aside.queue == *queue && aside.patience.again <= now;
        let codes: Vec<i64> =
            self.aside.iter().filter(|aside| is_due(aside)).filter_map(Aside::code).collect();
        if codes.is_empty() {
            return Ok(None);
        }
        self.table.set_patience(NOT_AT_ALL);
        let (free, reason) = match self.table.unlocked(&codes) {
            Ok(free) => (free, "another program has locked what is needed: its row".to_owned()),
            Err(error) if error.locked => (HashSet::new(), error.to_string()),
            Err(error) => return Err(error.into()),
        };
        let is_free = |aside: &Aside| aside.code().is_none_or(|code| free.contains(&code));
        for aside in self.aside.iter_mut().filter(|aside| is_due(aside) && !is_free(aside)) {
            let job = job_of(&aside.task);
            aside.patience.wait(|| format!("{job} cannot be started yet: {reason}"));
        }
        let Some(id) = self.aside.iter().find(|aside| is_due(aside)).map(|aside| aside.claim)
        else {
            return Ok(None);
        };
        let mut left = most;
        let due = self.aside.extract_if(.., |aside| {
            let takes = left > 0 && is_due(aside) && aside.claim == id;
            left -= usize::from(takes);
            takes
        });
        let (tasks, patience) = due.map(|aside| (aside.task, aside.patience)).unzip();
        Ok(Some((Claim { id, queue: queue.clone(), tasks }, patience)))
    }

    /// Looks up the tasks of a claim from `begun` on; those whose rows are locked are set aside.
    /// `patience` are those of tasks that were set aside before.
    fn look_up(
        &mut self,
        mut claim: Claim,
        begun: usize,
        patience: Vec<Patience>,
    ) -> Result<Claim, TransportError> {
        let mut patience = patience.into_iter();
        let mut at = begun;
        while at < claim.tasks.len() {
            let before = patience.next();
            // One wait is enough to know locks that are kept.
            let knows = before.is_some() || self.aside.iter().any(|a| a.queue == claim.queue);
            self.table.set_patience(if knows { NOT_AT_ALL } else { BRIEFLY });
            match self.assign(claim.id, &claim.tasks[at]) {
                Ok(assignment) => {
                    if let Some(before) = before {
                        before.end(|| format!("{} is started", job_of(&claim.tasks[at])));
                    }
                    claim.tasks[at].payload = written(assignment);
                    at += 1;
                }
                Err(error) if error.locked => {
                    let task = claim.tasks.remove(at);
                    let mut patience = before.unwrap_or_else(Patience::new);
                    patience.wait(|| format!("{} cannot be started yet: {error}", job_of(&task)));
                    let (claim, queue) = (claim.id, claim.queue.clone());
                    self.aside.push(Aside { claim, queue, task, patience });
                }
                Err(error) => {
                    self.waiting.push_back((claim, at));
                    return Err(error.into());
                }
            }
        }
        Ok(claim)
    }

    /// Gives tasks that were set aside back to their queues.
    fn give_back(&mut self, which: impl Fn(&QueueName) -> bool) -> Result<(), TransportError> {
        let back: Vec<Finished> = self
            .aside
            .iter()
            .filter(|aside| which(&aside.queue))
            .map(|aside| Finished {
                claim: aside.claim,
                task: aside.task.id,
                outcome: Outcome::Released,
                submits: Vec::new(),
            })
            .collect();
        if !back.is_empty() {
            self.inner.finish(&back)?;
            let held_back = self.inner.held_back();
            self.aside.retain(|aside| !which(&aside.queue) || held_back.contains(&aside.task.id));
        }
        Ok(())
    }

    /// Records the outcome of a job that has succeeded and submits something, before its row ends.
    fn give(&mut self, one: &Finished, row: i32) -> Result<Given, NotGiven> {
        if self.submitters.given.contains(&one.task) {
            return Ok(Given::Recorded);
        }
        // Nobody knows what became of the first try.
        let is_told = self.submitters.told.contains(&one.task);
        if !self.table.may_submit(row, one.task, is_told).map_err(NotGiven::Table)? {
            return Ok(Given::Unwanted);
        }
        let host = self.table.host().unwrap_or_default();
        let tells = orphans::task(Orphan { job: row, host, task: one.task });
        let mut one = one.clone();
        if !self.inner.submits_first() {
            one.submits.extend(tells);
        } else if !is_told {
            // By itself: what is refused is counted, and what is there may be there without the others.
            self.inner.submit(tells.as_slice()).map_err(NotGiven::Store)?;
        }
        self.submitters.told.insert(one.task);
        let lost = self.inner.finish(&[one.clone()]).map_err(NotGiven::Store)?;
        if !self.inner.held_back().is_empty() {
            return Ok(Given::HeldBack);
        }
        if !lost.is_empty() {
            return Ok(Given::Lost);
        }
        self.submitters.given.insert(one.task);
        Ok(Given::Recorded)
    }

    /// Ends the row of a job. Unless its submits are wanted, its task's outcome is to be recorded then.
    fn end(&mut self, one: &Finished, row: i32, ago: Duration) -> Result<Given, NotGiven> {
        let mut ending = match &one.outcome {
            Outcome::Done => Ending::Completed,
            Outcome::Dead(death) => Ending::Failed(detail(death)),
            Outcome::Retry { .. } | Outcome::Released => Ending::Queued,
        };
        let mut given = Given::Unwanted;
        if ending == Ending::Completed && !one.submits.is_empty() {
            given = self.give(one, row)?;
            match given {
                Given::Recorded => ending = Ending::Submitted,
                Given::Unwanted => {}
                // The row is that of whoever has the task.
                Given::Lost | Given::HeldBack => return Ok(given),
            }
        }
        self.table.end(row, one.task, &ending, ago).map_err(NotGiven::Table)?;
        Ok(given)
    }

    fn strike(&mut self, task: TaskId) {
        self.submitters.told.remove(&task);
        self.book.strike(task);
    }

    fn assign(&mut self, claim: ClaimId, task: &ClaimedTask) -> Result<Assignment, TableError> {
        let code = code_of(task.payload.as_str());
        let what = match code.and_then(|code| match task.payload.check() {
            Ok(()) => Ok(code),
            Err(error) => Err(error.to_string()),
        }) {
            Err(text) => What::Bad { text },
            Ok(code) => {
                let (id, book) = (task.id, &self.book);
                let limits = book.limits();
                match self
                    .table
                    .start(code, (id, task.attempt), &limits, |job| book.runs_elsewhere(id, job))?
                {
                    Start::Full(limit) => return Err(TableError::full(limit)),
                    Start::Unsure => return Err(TableError::unsure()),
                    Start::Missing => What::Missing { code },
                    Start::Skip(why) => What::Skip { code, why: why.to_owned() },
                    Start::Run { id: job, job: fields } => {
                        book.enter(id, claim, code, job);
                        What::Run { code, job: fields }
                    }
                }
            }
        };
        Ok(Assignment { payload: task.payload.as_str().to_owned(), what })
    }
}

/// As the worker is given it.
fn written(assignment: Assignment) -> Payload {
    let write = |assignment: &Assignment| {
        Payload::from_stored(serde_json::to_string(assignment).unwrap_or_default())
    };
    let whole = write(&assignment);
    match (assignment.what, whole.check()) {
        (What::Run { code, .. }, Err(error)) => {
            let what = What::Unfit { code, text: error.to_string() };
            write(&Assignment { what, payload: assignment.payload })
        }
        _ => whole,
    }
}

/// For the log.
fn job_of(task: &ClaimedTask) -> String {
    code_of(task.payload.as_str()).map_or_else(|_| "a job".to_owned(), |code| format!("job {code}"))
}

/// The job that a task is for; the error is the original's.
fn code_of(payload: &str) -> Result<i64, String> {
    let fields: Map<String, Value> = match serde_json::from_str(payload) {
        Ok(Value::Object(fields)) => fields,
        Ok(other) => {
            return Err(format!("Expected a mapping\nGot:\n    {}", pyrepr::repr(&other)));
        }
        Err(error) => return Err(error.to_string()),
    };
    if let Some(field) = fields.keys().find(|field| *field != "code") {
        return Err(format!("Got unexpected field:\n    {field}"));
    }
    let code = fields.get("code").ok_or("Missing mandatory field:\n    code")?;
    let text = code.as_str().and_then(|text| text.parse().ok());
    code.as_i64().or(text).ok_or_else(|| {
        let got = pyrepr::repr(code);
        format!("Expected an integer\nGot:\n    {got}\nWhile validating field:\n    code")
    })
}

/// What is kept of a failure in the row: the text of an error; of a process that died, what ended it and
/// what it said last.
fn detail(death: &Death) -> String {
    let text = |name: &str| death.details[name].as_str();
    if let ("error" | "panic", Some(text)) = (text("kind").unwrap_or_default(), text("text")) {
        return text.to_owned();
    }
    let mut detail = death.reason.clone();
    let lines = death.details["last_output"].as_array().into_iter().flatten();
    let lines: Vec<&str> = lines.filter_map(Value::as_str).collect();
    if !lines.is_empty() {
        detail.push_str("\nWith output:");
        lines.iter().for_each(|line| detail.push_str(&format!("\n    {line}")));
    }
    detail
}

impl Transport for JobTransport {
    fn claim(&mut self, queue: &QueueName, want: &Want) -> Result<Option<Claim>, TransportError> {
        if !self.book.has_queue(queue) {
            return self.inner.claim(queue, want);
        }
        if let Some(at) = self.waiting.iter().position(|(claim, _)| claim.queue == *queue)
            && let Some((claim, begun)) = self.waiting.remove(at)
        {
            let claim = self.look_up(claim, begun, Vec::new())?;
            if !claim.tasks.is_empty() {
                return Ok(Some(claim));
            }
        }
        let begun = Instant::now();
        self.unseen.remove(queue);
        loop {
            if begun.elapsed() > LONGEST_LOOK {
                self.unseen.insert(queue.clone());
                return Ok(None);
            }
            let (claim, patience) = match self.due(queue, want.tasks)? {
                Some(due) => due,
                None if self.aside.iter().filter(|aside| aside.queue == *queue).count()
                    >= MOST_ASIDE =>
                {
                    return Ok(None);
                }
                None => match self.inner.claim(queue, want)? {
                    Some(claim) => (claim, Vec::new()),
                    None => return Ok(None),
                },
            };
            let claim = self.look_up(claim, 0, patience)?;
            if !claim.tasks.is_empty() {
                return Ok(Some(claim));
            }
        }
    }

    fn finish(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        self.held_back.clear();
        let repeats = !self.submitters.recorded.is_empty();
        if !repeats && !finished.iter().any(|one| self.book.has(one.task)) {
            return self.inner.finish(finished);
        }
        // Who sees that a job has ended finds all that it said.
        self.desk.flush();
        let mut of_table = Vec::with_capacity(finished.len());
        let mut wait = BRIEFLY;
        for one in finished {
            if self.submitters.recorded.contains_key(&one.task) {
                continue;
            }
            let Some((row, code, ago)) = self.book.end_of(one.task) else {
                of_table.push(one.clone());
                continue;
            };
            let late = self.late.get_mut(&one.task);
            self.table.set_patience(if late.is_some() { NOT_AT_ALL } else { wait });
            match self.end(one, row, ago) {
                Ok(Given::HeldBack) => self.held_back.push(one.task),
                Ok(given) => {
                    if let Some(late) = self.late.remove(&one.task) {
                        late.end(|| format!("the end of job {code} is recorded"));
                    }
                    if given != Given::Unwanted {
                        self.submitters.given.remove(&one.task);
                        self.submitters.recorded.insert(one.task, given == Given::Lost);
                        self.strike(one.task);
                        continue;
                    }
                    let mut one = one.clone();
                    one.submits.clear();
                    if let Outcome::Dead(_) = one.outcome {
                        one.outcome = Outcome::Done;
                    }
                    of_table.push(one);
                }
                // What is the matter with one row is not to hold up the others.
                Err(NotGiven::Table(error)) if !error.away => {
                    wait = NOT_AT_ALL;
                    let late = self.late.entry(one.task).or_insert_with(Patience::new);
                    late.wait(|| format!("the end of job {code} cannot be recorded yet: {error}"));
                    self.held_back.push(one.task);
                }
                Err(NotGiven::Table(error)) => return Err(error.into()),
                Err(NotGiven::Store(error)) => return Err(error),
            }
        }
        if self.held_back.len() == finished.len() {
            return Ok(Vec::new());
        }
        let mut lost = Vec::new();
        if !of_table.is_empty() {
            lost = self.inner.finish(&of_table)?;
            let held_back = self.inner.held_back();
            of_table
                .iter()
                .filter(|one| !held_back.contains(&one.task))
                .for_each(|one| self.strike(one.task));
            self.held_back.extend(held_back);
        }
        let recorded = &mut self.submitters.recorded;
        let before = recorded.len();
        for one in finished {
            let was_lost = recorded.remove(&one.task).unwrap_or_default();
            lost.extend(was_lost.then_some(one.task));
        }
        if recorded.len() < before {
            // What was told of them is needed no more.
            self.orphans.look(&mut *self.inner, &mut self.table, &self.book);
        }
        // One that a limit held back may go now.
        self.desk.queue();
        Ok(lost)
    }

    fn held_back(&mut self) -> Vec<TaskId> {
        let mut held_back = std::mem::take(&mut self.held_back);
        held_back.extend(self.inner.held_back());
        held_back
    }

    fn features(&self) -> Features {
        self.inner.features()
    }

    fn submit(&mut self, tasks: &[NewTask]) -> Result<Vec<Submitted>, TransportError> {
        self.inner.submit(tasks)
    }

    fn poll(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        self.inner.poll(queue)
    }

    fn queues(&mut self) -> Result<Vec<QueueStatus>, TransportError> {
        self.inner.queues()
    }

    fn left_out(&mut self) -> BTreeMap<QueueName, String> {
        self.inner.left_out()
    }

    fn peek(&mut self, queue: &QueueName, limit: u64) -> Result<Vec<WaitingTask>, TransportError> {
        self.inner.peek(queue, limit)
    }

    fn purge(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        self.inner.purge(queue)
    }

    fn pause(&mut self, queue: &QueueName, paused: bool) -> Result<(), TransportError> {
        self.inner.pause(queue, paused)
    }

    fn dead_details(&mut self, key: &str) -> Result<BTreeSet<String>, TransportError> {
        self.inner.dead_details(key)
    }

    fn dead_letters(&mut self, query: &DeadQuery) -> Result<Vec<DeadLetter>, TransportError> {
        self.inner.dead_letters(query)
    }

    fn revive(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        self.inner.revive(letters)
    }

    fn discard(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        self.inner.discard(letters)
    }

    fn forget_dead(&mut self, age: Duration) -> Result<u64, TransportError> {
        self.inner.forget_dead(age)
    }

    fn attributes(
        &mut self,
        claim: ClaimId,
    ) -> Result<BTreeMap<TaskId, Attributes>, TransportError> {
        self.inner.attributes(claim)
    }

    fn next_due(&mut self, queue: &QueueName) -> Result<Option<Duration>, TransportError> {
        if self.unseen.contains(queue) {
            return Ok(Some(Duration::ZERO));
        }
        let due = self.inner.next_due(queue)?;
        let own = self.aside.iter().filter(|aside| aside.queue == *queue);
        let own = own.map(|aside| aside.patience.again.saturating_duration_since(Instant::now()));
        Ok(own.chain(due).min())
    }

    fn submits_first(&self) -> bool {
        self.inner.submits_first()
    }

    fn rescue(&mut self) -> Result<u64, TransportError> {
        let count = self.inner.rescue()?;
        if self.book.has_queues() {
            self.orphans.look(&mut *self.inner, &mut self.table, &self.book);
        }
        Ok(count)
    }

    fn lease(&self) -> Duration {
        self.inner.lease()
    }

    fn paused(&mut self) -> Result<BTreeSet<QueueName>, TransportError> {
        let paused = self.inner.paused()?;
        let book = self.book.clone();
        self.give_back(|queue| paused.contains(queue) || !book.has_queue(queue))?;
        Ok(paused)
    }

    fn taken_over(&mut self) -> Vec<ClaimId> {
        let taken = self.inner.taken_over();
        self.book.strike_claims(&taken);
        self.aside.retain(|aside| !taken.contains(&aside.claim));
        self.orphans.forget(&taken);
        self.late.retain(|task, _| self.book.has(*task));
        self.submitters.given.retain(|task| self.book.has(*task));
        self.submitters.told.retain(|task| self.book.has(*task));
        taken
    }

    fn is_idle(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        let is_idle = self.inner.is_idle(queue)?;
        if !is_idle || !self.book.has_queue(queue) {
            return Ok(is_idle);
        }
        // Its host is not to halt before it, or another one, has ended the rows of those who died; some
        // are new again then, or may be queued because another one has ended, whatever queue that was in.
        if !orphans::are_none(&mut *self.inner)? || !self.desk.queue_now() {
            return Ok(false);
        }
        for queue in self.book.queues() {
            match self.inner.is_idle(&queue) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                // Its jobs may still be at limits, or have to be ended: what that leads to may be for any
                // queue. Whose queue it is says so.
                Err(error) if matches!(error.kind, Kind::Refused | Kind::Invalid) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn watch(&self, wake: Sender<Wake>) -> Result<Option<Watch>, TransportError> {
        self.inner.watch(wake)
    }

    fn last_occasion(
        &mut self,
        schedule: &str,
        since: Timestamp,
    ) -> Result<Timestamp, TransportError> {
        self.inner.last_occasion(schedule, since)
    }

    fn record_occasion(
        &mut self,
        schedule: &str,
        at: Timestamp,
        tasks: &[NewTask],
    ) -> Result<bool, TransportError> {
        self.inner.record_occasion(schedule, at, tasks)
    }

    fn close(&mut self) -> Result<(), TransportError> {
        self.give_back(|_| true)?;
        self.inner.close()
    }

    fn identity(&mut self) -> Result<String, TransportError> {
        self.inner.identity()
    }

    fn is(&mut self, identity: &str) -> Result<bool, TransportError> {
        self.inner.is(identity)
    }

    fn label(&self) -> String {
        self.inner.label()
    }
}
