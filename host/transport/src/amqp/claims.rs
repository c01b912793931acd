//! Submitting, taking and recording, each one transaction.

use std::collections::{BTreeMap, BTreeSet};

use amqprs::BasicProperties;
use amqprs::channel::{BasicAckArguments, BasicNackArguments};
use amqprs::error::Error;

use super::link::Link;
use super::message::{self, Message, WAKE};
use super::{Amqp, Held, HeldTask};
use crate::{
    Claim, ClaimId, ClaimedTask, Finished, LetterId, NewTask, Outcome, QueueName, Submitted,
    TaskId, Want,
};

impl Amqp {
    pub(super) fn add(&mut self, link: &Link, tasks: &[NewTask]) -> Result<Vec<Submitted>, Error> {
        let tasks: Vec<&NewTask> = tasks.iter().collect();
        let ids = self.publish(link, &tasks)?;
        link.commit()?;
        Ok(ids.into_iter().map(|id| Submitted { id, existed: false }).collect())
    }

    /// Adds tasks to the running transaction. Their queues are made first, every time: what is
    /// published to a queue that somebody has removed would be gone without a word.
    fn publish(&mut self, link: &Link, tasks: &[&NewTask]) -> Result<Vec<TaskId>, Error> {
        let queues: BTreeSet<&QueueName> = tasks.iter().map(|task| &task.queue).collect();
        for queue in &queues {
            self.declare(link, queue)?;
        }
        let mut ids = Vec::with_capacity(tasks.len());
        for task in tasks {
            let (id, name) = (self.ids.next(), task.queue.as_str());
            let body = task.payload.as_str().as_bytes().to_vec();
            link.publish(name, name, message::properties(id), body)?;
            ids.push(id);
        }
        for queue in queues {
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
        // Before the first task is taken, so that nobody takes the queue for idle in between.
        if !self.busy.contains_key(queue) {
            let consumer = link.show_busy(&message::busy(queue))?;
            self.busy.insert(queue.clone(), consumer);
        }
        let got = link.get(link.work()?, queue.as_str(), want.tasks as u64, want.bytes)?;
        let id = ClaimId(self.ids.next().0);
        let mut held = BTreeMap::new();
        for (got, properties, body) in got {
            let mut message = Message::read(&mut self.ids, &properties, &body);
            // Twice the same id, as after a copy by hand: each task needs its own.
            if held.contains_key(&message.id) {
                message.id = self.ids.next();
            }
            held.insert(message.id, HeldTask { tag: got.delivery_tag(), message });
        }
        if held.is_empty() {
            self.free(link, queue)?;
            return Ok(None);
        }
        let tasks = held.iter().map(|(id, task)| ClaimedTask {
            id: *id,
            attempt: 1,
            submitted: task.message.submitted(),
            payload: task.message.payload.clone(),
            history: task.message.history.clone(),
        });
        let mut tasks: Vec<ClaimedTask> = tasks.collect();
        tasks.sort_by_key(|task| held.get(&task.id).map(|held| held.tag));
        self.held.insert(id, Held { queue: queue.clone(), tasks: held });
        Ok(Some(Claim { id, queue: queue.clone(), tasks }))
    }

    pub(super) fn record(
        &mut self,
        link: &Link,
        finished: &[Finished],
    ) -> Result<Vec<TaskId>, Error> {
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
                // A retry is refused before.
                Outcome::Released | Outcome::Retry { .. } => back.push(task.tag),
                Outcome::Dead(death) => {
                    acks.push(task.tag);
                    let name = message::dead(&held.queue);
                    link.count(&name)?;
                    let letter = LetterId(self.ids.next().0);
                    let body = message::letter(letter, &task.message, death);
                    let persistent = BasicProperties::default().with_delivery_mode(2).finish();
                    // Through the exchange that leads to every queue by its name.
                    link.publish("", &name, persistent, body)?;
                }
            }
            submits.extend(&one.submits);
        }
        self.publish(link, &submits)?;
        for tag in acks {
            link.wait(link.work()?.basic_ack(BasicAckArguments::new(tag, false)))?;
        }
        for tag in back {
            link.wait(link.work()?.basic_nack(BasicNackArguments::new(tag, false, true)))?;
        }
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
        for task in self.held.values().flat_map(|held| held.tasks.values()) {
            link.wait(link.work()?.basic_nack(BasicNackArguments::new(task.tag, false, true)))?;
        }
        link.commit()?;
        self.held.clear();
        Ok(())
    }
}

/// Adds the word of new tasks to the running transaction.
pub(super) fn tell(link: &Link, queue: &QueueName) -> Result<(), Error> {
    link.publish(WAKE, "", BasicProperties::default(), queue.as_str().as_bytes().to_vec())
}
