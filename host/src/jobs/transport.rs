//! The transport around the transport: what is claimed from a queue of jobs is looked up in the table
//! and marked as started, and what is finished is marked before its task leaves the queue. A crash
//! between the two repeats the task, which then finds its job ended.
//!
//! A job's failure is the row's: its task is done, and no dead letter.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crossbeam_channel::Sender;
use rex_plugin_api::pyrepr;
use rex_transport::{
    Attributes, Claim, ClaimId, ClaimedTask, DeadLetter, DeadQuery, Death, Features, Finished,
    LetterId, NewTask, Outcome, Payload, QueueName, QueueStatus, Submitted, TaskId, Timestamp,
    Transport, TransportError, WaitingTask, Wake, Want, Watch,
};
use serde_json::{Map, Value};

use super::table::{Ending, Start};
use super::{Assignment, Book, Desk, Table, What};

pub struct JobTransport {
    inner: Box<dyn Transport>,
    table: Table,
    book: Book,
    desk: Desk,
    /// Claims that are looked up only so far, because the table went away.
    waiting: VecDeque<(Claim, usize)>,
}

impl JobTransport {
    pub fn new(inner: Box<dyn Transport>, table: Table, book: Book, desk: Desk) -> JobTransport {
        JobTransport { inner, table, book, desk, waiting: VecDeque::new() }
    }

    fn assign(&mut self, claim: ClaimId, task: &ClaimedTask) -> Result<Assignment, TransportError> {
        let what = match code_of(task.payload.as_str()) {
            Err(text) => What::Bad { text },
            Ok(code) => {
                let (id, book) = (task.id, &self.book);
                match self.table.start(code, id, |job| book.runs_elsewhere(id, job))? {
                    Start::Missing => What::Missing { code },
                    Start::Skip(why) => What::Skip { code, why: why.to_owned() },
                    Start::Run { id: job, job: fields } => {
                        book.enter(id, claim, job);
                        What::Run { code, job: fields }
                    }
                }
            }
        };
        Ok(Assignment { payload: task.payload.as_str().to_owned(), what })
    }
}

/// The job that a task is for; the error is the original's.
fn code_of(payload: &str) -> Result<i64, String> {
    let fields: Map<String, Value> =
        serde_json::from_str(payload).map_err(|error| error.to_string())?;
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
        let (mut claim, begun) = match self.waiting.iter().position(|(c, _)| c.queue == *queue) {
            Some(at) => match self.waiting.remove(at) {
                Some(waiting) => waiting,
                None => return Ok(None),
            },
            None => match self.inner.claim(queue, want)? {
                Some(claim) => (claim, 0),
                None => return Ok(None),
            },
        };
        for at in begun..claim.tasks.len() {
            match self.assign(claim.id, &claim.tasks[at]) {
                Ok(assignment) => {
                    let text = serde_json::to_string(&assignment).unwrap_or_default();
                    claim.tasks[at].payload = Payload::from_stored(text);
                }
                Err(error) => {
                    self.waiting.push_back((claim, at));
                    return Err(error);
                }
            }
        }
        Ok(Some(claim))
    }

    fn finish(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        let of_jobs: Vec<(&Finished, i32)> =
            finished.iter().filter_map(|one| Some((one, self.book.job(one.task)?))).collect();
        if of_jobs.is_empty() {
            return self.inner.finish(finished);
        }
        // Who sees that a job has ended finds all that it said.
        self.desk.flush();
        let mut of_table = finished.to_vec();
        for (one, job) in &of_jobs {
            let ending = match &one.outcome {
                Outcome::Done => Ending::Completed,
                Outcome::Dead(death) => Ending::Failed(detail(death)),
                Outcome::Retry { .. } | Outcome::Released => Ending::Queued,
            };
            self.table.end(*job, one.task, &ending)?;
            if let Ending::Failed(_) = ending {
                let same = |other: &&mut Finished| other.task == one.task;
                if let Some(one) = of_table.iter_mut().find(same) {
                    one.outcome = Outcome::Done;
                    one.submits.clear();
                }
            }
        }
        let lost = self.inner.finish(&of_table)?;
        of_jobs.iter().for_each(|(one, _)| self.book.strike(one.task));
        // One that a limit held back may go now.
        self.desk.queue();
        Ok(lost)
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
        self.inner.next_due(queue)
    }

    fn rescue(&mut self) -> Result<u64, TransportError> {
        self.inner.rescue()
    }

    fn lease(&self) -> Duration {
        self.inner.lease()
    }

    fn paused(&mut self) -> Result<BTreeSet<QueueName>, TransportError> {
        self.inner.paused()
    }

    fn taken_over(&mut self) -> Vec<ClaimId> {
        let taken = self.inner.taken_over();
        self.book.strike_claims(&taken);
        taken
    }

    fn is_idle(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        self.inner.is_idle(queue)
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
