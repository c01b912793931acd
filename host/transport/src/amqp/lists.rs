//! Looks at what is there. The protocol shows a message only by giving it: it is got over a channel
//! of its own and put back into its old place, and for that moment nobody else sees it.

use std::collections::BTreeSet;

use amqprs::BasicProperties;
use amqprs::channel::{
    BasicAckArguments, BasicNackArguments, QueueBindArguments, QueuePurgeArguments,
};
use amqprs::error::Error;

use super::link::Link;
use super::message::{self, Message, QUEUES};
use super::{Amqp, claims};
use crate::{DeadLetter, DeadQuery, QueueName, QueueStatus, Timestamp, WaitingTask};

impl Amqp {
    /// Makes a queue, and enters its name the first time.
    pub(super) fn declare(&mut self, link: &Link, queue: &QueueName) -> Result<u64, Error> {
        if self.declared.contains(queue) {
            let (messages, _) = link.count(queue.as_str())?;
            let name = queue.as_str();
            link.wait(link.plain()?.queue_bind(QueueBindArguments::new(name, name, name)))?;
            return Ok(messages);
        }
        let messages = link.declare(queue)?;
        if !self.names(link)?.contains(queue) {
            let persistent = BasicProperties::default().with_delivery_mode(2).finish();
            link.publish("", QUEUES, persistent, queue.as_str().as_bytes().to_vec())?;
            link.commit()?;
        }
        self.declared.insert(queue.clone());
        Ok(messages)
    }

    pub(super) fn count_waiting(&mut self, link: &Link, queue: &QueueName) -> Result<u64, Error> {
        if self.declared.contains(queue) {
            return Ok(link.count(queue.as_str())?.0);
        }
        self.declare(link, queue)
    }

    /// The queues that a host or a producer of ours has used.
    fn names(&self, link: &Link) -> Result<BTreeSet<QueueName>, Error> {
        let names = link.look(QUEUES, u64::MAX)?;
        let names = names.iter().filter_map(|(_, body)| std::str::from_utf8(body).ok());
        Ok(names.filter_map(|name| QueueName::parse(name).ok()).collect())
    }

    pub(super) fn list_queues(&mut self, link: &Link) -> Result<Vec<QueueStatus>, Error> {
        let mut statuses = Vec::new();
        let mut names = self.names(link)?;
        names.extend(self.declared.iter().cloned());
        for queue in names {
            let (waiting, _) = link.count(queue.as_str())?;
            let (dead, _) = link.count(&message::dead(&queue))?;
            let (_, hosts) = link.count(&message::busy(&queue))?;
            let ours = self.held.values().filter(|held| held.queue == queue);
            let ours: u64 = ours.map(|held| held.tasks.len() as u64).sum();
            // Of other hosts it is only known that they hold something.
            let others = hosts.saturating_sub(u64::from(self.busy.contains_key(&queue)));
            let oldest = self.list_waiting(link, &queue, 1)?;
            let status = QueueStatus {
                waiting,
                delayed: 0,
                in_flight: ours + others,
                dead,
                oldest: oldest.first().map(|task| task.submitted),
                paused: false,
                queue,
            };
            if status.waiting + status.in_flight + status.dead > 0 {
                statuses.push(status);
            }
        }
        Ok(statuses)
    }

    pub(super) fn list_waiting(
        &mut self,
        link: &Link,
        queue: &QueueName,
        limit: u64,
    ) -> Result<Vec<WaitingTask>, Error> {
        if self.count_waiting(link, queue)? == 0 {
            return Ok(Vec::new());
        }
        let seen = link.look(queue.as_str(), limit)?;
        let tasks = seen.iter().map(|(properties, body)| {
            let message = Message::read(&mut self.ids, properties, body);
            WaitingTask {
                id: message.id,
                submitted: message.submitted(),
                attempt: 1,
                priority: 0,
                due: None,
                payload: message.payload,
            }
        });
        Ok(tasks.collect())
    }

    pub(super) fn delete_waiting(&mut self, link: &Link, queue: &QueueName) -> Result<u64, Error> {
        self.count_waiting(link, queue)?;
        let purged =
            link.wait(link.plain()?.queue_purge(QueuePurgeArguments::new(queue.as_str())))?;
        Ok(u64::from(purged.unwrap_or_default()))
    }

    pub(super) fn list_dead(
        &mut self,
        link: &Link,
        query: &DeadQuery,
    ) -> Result<Vec<DeadLetter>, Error> {
        let names = match &query.queue {
            Some(queue) => BTreeSet::from([queue.clone()]),
            None => self.names(link)?,
        };
        // Where a page begins is known when all before it was seen.
        let most = query.limit.filter(|_| query.after.is_none()).unwrap_or(u64::MAX);
        let mut letters = Vec::new();
        for queue in names {
            let name = message::dead(&queue);
            if link.count(&name)?.0 > 0 {
                let seen = link.look(&name, most)?;
                letters
                    .extend(seen.iter().filter_map(|(_, body)| message::read_letter(&queue, body)));
            }
        }
        letters.retain(|letter| query.after.is_none_or(|after| letter.letter > after));
        letters.sort_by_key(|letter: &DeadLetter| letter.letter);
        letters
            .truncate(query.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX)));
        Ok(letters)
    }

    /// Whether any dead letter of `queue` is older than a moment: the first is the oldest.
    fn has_older(&self, link: &Link, queue: &QueueName, than: Timestamp) -> Result<bool, Error> {
        let oldest = link.look(&message::dead(queue), 1)?;
        let oldest = oldest.first().and_then(|(_, body)| message::read_letter(queue, body));
        Ok(oldest.is_some_and(|letter| letter.died < than))
    }

    /// Removes dead letters that died before a moment.
    pub(super) fn delete_old_dead(&mut self, link: &Link, than: Timestamp) -> Result<u64, Error> {
        let mut count = 0;
        for queue in self.names(link)? {
            if link.count(&message::dead(&queue))?.0 > 0 && self.has_older(link, &queue, than)? {
                count += self.settle_dead(link, &queue, false, |letter| letter.died < than)?;
            }
        }
        Ok(count)
    }

    /// Removes the dead letters that are chosen, and puts their tasks back into their queues if they
    /// are to be revived.
    pub(super) fn settle_all_dead(
        &mut self,
        link: &Link,
        revive: bool,
        chosen: impl Fn(&DeadLetter) -> bool,
    ) -> Result<u64, Error> {
        let mut count = 0;
        for queue in self.names(link)? {
            if link.count(&message::dead(&queue))?.0 > 0 {
                count += self.settle_dead(link, &queue, revive, &chosen)?;
            }
        }
        Ok(count)
    }

    /// One transaction. What is not chosen goes back to its place.
    fn settle_dead(
        &mut self,
        link: &Link,
        queue: &QueueName,
        revive: bool,
        chosen: impl Fn(&DeadLetter) -> bool,
    ) -> Result<u64, Error> {
        if revive {
            self.declare(link, queue)?;
        }
        let work = link.work()?;
        let mut count = 0;
        for (got, _, body) in link.get(work, &message::dead(queue), u64::MAX, usize::MAX)? {
            let tag = got.delivery_tag();
            match message::read_letter(queue, &body).filter(&chosen) {
                Some(letter) => {
                    if revive {
                        let history = &letter.death.details["attempts"];
                        let properties = message::properties_with(letter.id, history);
                        let body = letter.payload.as_str().as_bytes().to_vec();
                        link.publish(queue.as_str(), queue.as_str(), properties, body)?;
                    }
                    link.wait(work.basic_ack(BasicAckArguments::new(tag, false)))?;
                    count += 1;
                }
                None => link.wait(work.basic_nack(BasicNackArguments::new(tag, false, true)))?,
            }
        }
        if revive && count > 0 {
            claims::tell(link, queue)?;
        }
        link.commit()?;
        Ok(count)
    }
}
