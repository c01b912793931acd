//! Taking tasks, and giving them back.

use std::collections::BTreeMap;

use amqprs::error::Error;

use super::link::{Got, Link};
use super::message::{self, Aside, Mark, Message};
use super::{Amqp, Held, HeldTask};
use crate::{Claim, ClaimId, ClaimedTask, Kind, QueueName, TaskId, Want};

impl Amqp {
    pub(super) fn take(
        &mut self,
        link: &Link,
        queue: &QueueName,
        want: &Want,
    ) -> Result<Option<Claim>, Error> {
        if want.tasks == 0 || self.count_waiting(link, queue)? == 0 {
            return Ok(None);
        }
        if let Some(reason) = self.keeps_too_many(queue) {
            self.refused = Some(Kind::Invalid);
            return Err(link.refused(&reason));
        }
        let mut size = 0;
        // Before the first task is taken, so that nobody takes the queue for idle in between.
        if !self.busy.contains_key(queue) {
            let consumer = link.show_busy(&message::busy(queue))?;
            self.busy.insert(queue.clone(), consumer);
        }
        let id = ClaimId(self.ids.next().0);
        let (mut held, mut again) = (BTreeMap::new(), Vec::new());
        for got in link.fetch(&message::due(queue), want.tasks as u64, want.bytes)? {
            size += got.body.len();
            let aside = Aside::read(&mut self.ids, &got.properties, &got.body);
            self.hold(&mut held, &mut again, &got, aside.message);
        }
        let (tasks, bytes) = ((want.tasks - held.len()) as u64, want.bytes.saturating_sub(size));
        for got in link.fetch(queue.as_str(), tasks, bytes)? {
            let message = Message::read(&mut self.ids, &got.properties, &got.body);
            self.hold(&mut held, &mut again, &got, message);
        }
        if !again.is_empty() {
            let tags: Vec<u64> = again.iter().map(|(tag, _)| *tag).collect();
            link.acknowledge(&tags)?;
            link.commit()?;
            for (_, mark) in again {
                self.settled.remove(&mark);
            }
        }
        if held.is_empty() {
            self.free(link, queue)?;
            return Ok(None);
        }
        let tasks = held.iter().map(|(id, task)| ClaimedTask {
            id: *id,
            attempt: task.message.attempt,
            payload: task.message.payload.clone(),
            history: task.message.history.clone(),
        });
        let mut tasks: Vec<ClaimedTask> = tasks.collect();
        tasks.sort_by_key(|task| held.get(&task.id).map(|held| held.tag));
        self.held.insert(id, Held { queue: queue.clone(), tasks: held });
        Ok(Some(Claim { id, queue: queue.clone(), tasks }))
    }

    /// Adds a message to a claim; or to those that have come `again` although this host has settled
    /// them, because the connection broke before the broker heard of it.
    fn hold(
        &mut self,
        held: &mut BTreeMap<TaskId, HeldTask>,
        again: &mut Vec<(u64, Mark)>,
        got: &Got,
        mut message: Message,
    ) {
        let (tag, mark) = (got.tag, Mark::of(&got.properties, message.id));
        // Once only: others may give many messages the same id.
        if self.settled.contains_key(&mark) && !again.iter().any(|(_, other)| *other == mark) {
            again.push((tag, mark));
            return;
        }
        // Twice the same id, as after a copy by hand: each task needs its own.
        if held.contains_key(&message.id) {
            message.id = self.ids.next();
        }
        held.insert(message.id, HeldTask { tag, mark, message, refused: None });
    }

    /// Shows that this host holds nothing of `queue`, if that is so.
    pub(super) fn free(&mut self, link: &Link, queue: &QueueName) -> Result<(), Error> {
        let is_kept = self.kept.iter().any(|kept| kept.queue == *queue);
        if is_kept || self.held.values().any(|held| held.queue == *queue) {
            return Ok(());
        }
        match self.busy.remove(queue) {
            Some(consumer) => link.show_free(&consumer),
            None => Ok(()),
        }
    }

    pub(super) fn release_all(&mut self, link: &Link) -> Result<(), Error> {
        let tasks = self.held.values().flat_map(|held| held.tasks.values());
        let tasks = tasks.chain(self.kept.iter().map(|kept| &kept.task));
        link.put_back(&tasks.map(|task| task.tag).collect::<Vec<u64>>())?;
        link.commit()?;
        self.held.clear();
        self.kept.clear();
        Ok(())
    }
}
