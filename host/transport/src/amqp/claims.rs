//! Submitting, taking and recording, each one transaction.

use std::collections::{BTreeMap, BTreeSet};

use amqprs::BasicProperties;
use amqprs::error::Error;
use serde_json::Value;

use super::delays::moment;
use super::link::{Link, Place};
use super::message::{self, Aside, Message};
use super::{Amqp, Held, HeldTask};
use crate::task::micros;
use crate::{
    Claim, ClaimId, ClaimedTask, Finished, LetterId, NewTask, Outcome, QueueName, Submitted,
    TaskId, Timestamp, Want,
};

impl Amqp {
    /// One task is confirmed by itself, several are a transaction.
    pub(super) fn add(&mut self, link: &Link, tasks: &[NewTask]) -> Result<Vec<Submitted>, Error> {
        if let [task] = tasks
            && task.attributes.is_plain()
        {
            let id = self.add_one(link, task)?;
            return Ok(vec![Submitted { id, existed: false }]);
        }
        let tasks: Vec<&NewTask> = tasks.iter().collect();
        let ids = self.publish(link, &tasks)?;
        link.commit()?;
        Ok(ids.into_iter().map(|id| Submitted { id, existed: false }).collect())
    }

    fn add_one(&mut self, link: &Link, task: &NewTask) -> Result<TaskId, Error> {
        if !self.declared.contains(&task.queue) {
            self.declare(link, &task.queue)?;
        }
        let id = self.ids.next();
        for _ in 0..2 {
            let body = task.payload.as_str().as_bytes().to_vec();
            if link.publish_surely(&task.queue, message::properties(id), body)? {
                return Ok(id);
            }
            // Somebody has removed the queue or its binding.
            self.declare(link, &task.queue)?;
        }
        Err(link.refused("it has no queue for the task"))
    }

    /// Adds tasks to the running transaction. Their queues are made first, every time: what is
    /// published to a queue that somebody has removed would be gone without a word.
    fn publish(&mut self, link: &Link, tasks: &[&NewTask]) -> Result<Vec<TaskId>, Error> {
        let queues: BTreeSet<&QueueName> = tasks.iter().map(|task| &task.queue).collect();
        for queue in queues {
            self.declare(link, queue)?;
        }
        let (mut ids, mut told) = (Vec::with_capacity(tasks.len()), BTreeSet::new());
        for task in tasks {
            let id = self.ids.next();
            ids.push(id);
            let payload = task.payload.clone();
            if let Some(due) = moment(task.attributes.due) {
                let message = Message { id, attempt: 1, payload, history: Value::Null };
                self.put_aside(link, &task.queue, message, due)?;
                told.insert(&task.queue);
                continue;
            }
            let body = payload.as_str().as_bytes().to_vec();
            link.publish(Place::Tasks(&task.queue), message::properties(id), body)?;
        }
        for queue in told {
            tell(link, queue)?;
        }
        Ok(ids)
    }

    pub(super) fn take(
        &mut self,
        link: &Link,
        queue: &QueueName,
        want: &Want,
    ) -> Result<Option<Claim>, Error> {
        if want.tasks == 0 || self.count_waiting(link, queue)? == 0 {
            return Ok(None);
        }
        let mut size = 0;
        // Before the first task is taken, so that nobody takes the queue for idle in between.
        if !self.busy.contains_key(queue) {
            let consumer = link.show_busy(&message::busy(queue))?;
            self.busy.insert(queue.clone(), consumer);
        }
        let id = ClaimId(self.ids.next().0);
        let mut held = BTreeMap::new();
        for got in link.fetch(&message::due(queue), want.tasks as u64, want.bytes)? {
            size += got.body.len();
            let aside = Aside::read(&mut self.ids, &got.properties, &got.body);
            self.hold(&mut held, got.tag, aside.message);
        }
        let (tasks, bytes) = ((want.tasks - held.len()) as u64, want.bytes.saturating_sub(size));
        for got in link.fetch(queue.as_str(), tasks, bytes)? {
            let message = Message::read(&mut self.ids, &got.properties, &got.body);
            self.hold(&mut held, got.tag, message);
        }
        if held.is_empty() {
            self.free(link, queue)?;
            return Ok(None);
        }
        let tasks = held.iter().map(|(id, task)| ClaimedTask {
            id: *id,
            attempt: task.message.attempt,
            submitted: task.message.submitted(),
            payload: task.message.payload.clone(),
            history: task.message.history.clone(),
        });
        let mut tasks: Vec<ClaimedTask> = tasks.collect();
        tasks.sort_by_key(|task| held.get(&task.id).map(|held| held.tag));
        self.held.insert(id, Held { queue: queue.clone(), tasks: held });
        Ok(Some(Claim { id, queue: queue.clone(), tasks }))
    }

    fn hold(&mut self, held: &mut BTreeMap<TaskId, HeldTask>, tag: u64, mut message: Message) {
        // Twice the same id, as after a copy by hand: each task needs its own.
        if held.contains_key(&message.id) {
            message.id = self.ids.next();
        }
        held.insert(message.id, HeldTask { tag, message });
    }

    pub(super) fn record(
        &mut self,
        link: &Link,
        finished: &[Finished],
    ) -> Result<Vec<TaskId>, Error> {
        // Before anything is changed: a queue that the broker refuses costs no other.
        for task in finished.iter().flat_map(|one| &one.submits) {
            if !self.declared.contains(&task.queue) {
                self.declare(link, &task.queue)?;
            }
        }
        let mut lost = Vec::new();
        let (mut acks, mut back, mut submits, mut queues) =
            (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
        for one in finished {
            let Some(held) = self.held.get_mut(&one.claim) else {
                lost.push(one.task);
                continue;
            };
            // Recorded before: nothing changes.
            let Some(task) = held.tasks.remove(&one.task) else { continue };
            queues.insert(held.queue.clone());
            match &one.outcome {
                Outcome::Done => acks.push(task.tag),
                Outcome::Released => back.push(task.tag),
                Outcome::Retry { after, history } => {
                    acks.push(task.tag);
                    let HeldTask { mut message, .. } = task;
                    message.attempt += 1;
                    message.history = history.clone();
                    let due = Timestamp(Timestamp::now().0.saturating_add(micros(*after)));
                    let queue = held.queue.clone();
                    self.put_aside(link, &queue, message, due)?;
                }
                Outcome::Dead(death) => {
                    acks.push(task.tag);
                    let name = message::dead(&held.queue);
                    link.count(&name)?;
                    let letter = LetterId(self.ids.next().0);
                    let body = message::letter(letter, &task.message, death);
                    link.publish(Place::Queue(&name), message::persistent(), body)?;
                }
            }
            submits.extend(&one.submits);
        }
        self.publish(link, &submits)?;
        link.acknowledge(&acks)?;
        link.put_back(&back)?;
        link.commit()?;
        self.held.retain(|_, held| !held.tasks.is_empty());
        for queue in queues {
            self.free(link, &queue)?;
        }
        Ok(lost)
    }

    /// Shows that this host holds nothing of `queue`, if that is so.
    fn free(&mut self, link: &Link, queue: &QueueName) -> Result<(), Error> {
        if self.held.values().any(|held| held.queue == *queue) {
            return Ok(());
        }
        match self.busy.remove(queue) {
            Some(consumer) => link.show_free(&consumer),
            None => Ok(()),
        }
    }

    pub(super) fn release_all(&mut self, link: &Link) -> Result<(), Error> {
        let tasks = self.held.values().flat_map(|held| held.tasks.values());
        link.put_back(&tasks.map(|task| task.tag).collect::<Vec<u64>>())?;
        link.commit()?;
        self.held.clear();
        Ok(())
    }
}

/// Adds the word of a new queue, or of tasks beside their queue, to the running transaction.
pub(super) fn tell(link: &Link, queue: &QueueName) -> Result<(), Error> {
    link.publish(Place::Wake, BasicProperties::default(), queue.as_str().as_bytes().to_vec())
}
