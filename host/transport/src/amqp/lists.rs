//! Looks at what is there. The protocol shows a message only by giving it: it is got over a channel
//! of its own and put back into its old place, and for that moment nobody else sees it. What must be
//! seen whole, names and dead letters, is read by one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use amqprs::BasicProperties;
use amqprs::channel::{QueueBindArguments, QueuePurgeArguments};
use amqprs::error::Error;

use super::link::{Fate, Link, Seen};
use super::message::{self, Aside, Message, QUEUES};
use super::{Amqp, alone};
use crate::letters::Letters;
use crate::{DeadLetter, DeadQuery, Kind, QueueName, QueueStatus, Timestamp, WaitingTask};

/// The queues that were ever used, each with the steps of its delays.
pub(super) type Entries = BTreeMap<QueueName, BTreeSet<u32>>;

impl Amqp {
    /// Makes a queue, enters its name the first time, and tells how many messages wait in it.
    pub(super) fn declare(&mut self, link: &Link, queue: &QueueName) -> Result<u64, Error> {
        self.try_declare(link, queue)?.map_err(|reason| {
            self.refused = Some(Kind::Invalid);
            link.refused(&reason)
        })
    }

    /// As [`Amqp::declare`]; or what is said against the queue.
    pub(super) fn try_declare(
        &mut self,
        link: &Link,
        queue: &QueueName,
    ) -> Result<Result<u64, String>, Error> {
        if self.declared.contains(queue) {
            let (messages, _) = link.count(queue.as_str())?;
            let name = queue.as_str();
            link.wait(link.plain()?.queue_bind(QueueBindArguments::new(name, name, name)))?;
            return Ok(Ok(messages));
        }
        if let Some(reason) = message::too_long(queue) {
            return Ok(Err(reason));
        }
        let messages = match link.declare(queue, self.refusing.contains(queue))? {
            Ok(messages) => messages,
            Err(reason) => {
                self.refusing.insert(queue.clone());
                // Who lists queues is told of it.
                let _entered = self.enter(link, queue)?;
                return Ok(Err(reason));
            }
        };
        if let Err(reason) = self.enter(link, queue)? {
            return Ok(Err(reason));
        }
        self.refusing.remove(queue);
        self.declared.insert(queue.clone());
        Ok(Ok(messages))
    }

    /// Enters a queue's name where it is not yet; or what is said against that.
    fn enter(&mut self, link: &Link, queue: &QueueName) -> Result<Result<(), String>, Error> {
        if !self.entries(link, false)?.contains_key(queue) {
            let entry = self.ours(QUEUES.to_owned(), message::entry(queue, None));
            if let Err(reason) = self.send_one(link, entry)? {
                return Ok(Err(format!("{QUEUES}: {reason}")));
            }
            link.tell(queue)?;
        }
        Ok(Ok(()))
    }

    /// What is due: of ours, and of the queue itself.
    pub(super) fn count_due(
        &mut self,
        link: &Link,
        queue: &QueueName,
    ) -> Result<(u64, u64), Error> {
        let plain = match self.declared.contains(queue) {
            true => link.count(queue.as_str())?.0,
            false => self.declare(link, queue)?,
        };
        self.bring_due(link, queue)?;
        Ok((link.count(&message::due(queue))?.0, plain))
    }

    pub(super) fn count_waiting(&mut self, link: &Link, queue: &QueueName) -> Result<u64, Error> {
        self.count_due(link, queue).map(|(ours, plain)| ours + plain)
    }

    /// The queues that a host or a producer of ours has used, and the steps of their delays.
    /// Who needs them `all` waits for those who read them.
    pub(super) fn entries(&mut self, link: &Link, all: bool) -> Result<&Entries, Error> {
        let (count, _) = link.count(QUEUES)?;
        if self.entries_count != Some(count) {
            let look = || link.look(QUEUES, u64::MAX);
            let seen = match (self.may_own, all) {
                // A host goes on with what it knows, which is looked at again soon.
                (true, _) => match link.alone_within(QUEUES, Duration::ZERO, look)? {
                    Some(seen) => seen,
                    None => return Ok(&self.entries),
                },
                (false, true) => link.alone(QUEUES, look)?,
                // A reader that is stopped hides what it has got; the rest is seen.
                (false, false) => match link.alone_within(QUEUES, alone::A_MOMENT, look)? {
                    Some(seen) => seen,
                    None => look()?,
                },
            };
            for (queue, step) in seen.iter().filter_map(|(_, body)| message::read_entry(body)) {
                self.entries.entry(queue).or_default().extend(step);
            }
            // While another one looks some are out of sight, and then the count differs.
            self.entries_count = Some(seen.len() as u64);
        }
        Ok(&self.entries)
    }

    fn read(&mut self, properties: &BasicProperties, body: &[u8]) -> Aside {
        Aside::read(&mut self.ids, properties, body)
    }

    fn names(&mut self, link: &Link) -> Result<BTreeSet<QueueName>, Error> {
        Ok(self.entries(link, true)?.keys().cloned().collect())
    }

    pub(super) fn list_queues(&mut self, link: &Link) -> Result<Vec<QueueStatus>, Error> {
        let mut statuses = Vec::new();
        let mut names = self.names(link)?;
        names.extend(self.declared.iter().cloned());
        for queue in names {
            if let Err(reason) = self.try_declare(link, &queue)? {
                self.left_out.insert(queue, reason);
                continue;
            }
            let (ours, plain) = self.count_due(link, &queue)?;
            let mut delayed = 0;
            for step in self.learn_steps(link, &queue)? {
                delayed += link.count(&message::delay(&queue, step))?.0;
            }
            let dead = message::dead(&queue);
            let (dead, _) = link.alone(&dead, || link.count(&dead))?;
            let (_, hosts) = link.count(&message::busy(&queue))?;
            let held = self.held.values().filter(|held| held.queue == queue);
            let held: u64 = held.map(|held| held.tasks.len() as u64).sum();
            let kept = self.kept.iter().filter(|kept| kept.queue == queue).count() as u64;
            // Of other hosts it is only known that they hold something.
            let others = hosts.saturating_sub(u64::from(self.busy.contains_key(&queue)));
            let oldest = [(ours, message::due(&queue)), (plain, queue.as_str().to_owned())];
            let mut dates = Vec::new();
            for (_, name) in oldest.iter().filter(|(count, _)| *count > 0) {
                let first = link.look(name, 1)?;
                let read = |(properties, body): &Seen| self.read(properties, body);
                dates.extend(first.iter().map(read).map(|aside| aside.message.submitted()));
            }
            let status = QueueStatus {
                waiting: ours + plain,
                delayed,
                in_flight: held + kept + others,
                dead,
                oldest: dates.into_iter().min(),
                paused: false,
                queue,
            };
            if status.waiting + status.delayed + status.in_flight + status.dead > 0 {
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
        let now = Timestamp::now();
        let (ours, plain) = self.count_due(link, queue)?;
        let mut first = Vec::new();
        for (count, name) in [(ours, message::due(queue)), (plain, queue.as_str().to_owned())] {
            let rest = limit.saturating_sub(first.len() as u64).min(count);
            if rest > 0 {
                first.extend(link.look(&name, rest)?);
            }
        }
        let mut tasks: Vec<Aside> = first.iter().map(|(p, b)| self.read(p, b)).collect();
        if (tasks.len() as u64) < limit {
            let mut later = Vec::new();
            for step in self.learn_steps(link, queue)? {
                let name = message::delay(queue, step);
                if link.count(&name)?.0 > 0 {
                    let seen = link.look(&name, u64::MAX)?;
                    later.extend(seen.iter().map(|(p, b)| self.read(p, b)));
                }
            }
            later.sort_by_key(|aside| aside.due);
            tasks.extend(later);
            tasks.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let tasks = tasks.into_iter().map(|Aside { message, due, .. }| WaitingTask {
            id: message.id,
            submitted: message.submitted(),
            attempt: message.attempt,
            priority: 0,
            due: Some(due).filter(|due| *due > now),
            payload: message.payload,
        });
        Ok(tasks.collect())
    }

    pub(super) fn delete_waiting(&mut self, link: &Link, queue: &QueueName) -> Result<u64, Error> {
        self.declare(link, queue)?;
        let steps = self.learn_steps(link, queue)?;
        let mut names: Vec<String> =
            steps.iter().map(|step| message::delay(queue, *step)).collect();
        names.extend([message::due(queue), queue.as_str().to_owned()]);
        let mut count = 0;
        for name in names {
            link.count(&name)?;
            let purged = link.wait(link.plain()?.queue_purge(QueuePurgeArguments::new(&name)))?;
            count += u64::from(purged.unwrap_or_default());
        }
        Ok(count)
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
        let begins = query.after.is_none() && query.tasks.is_empty();
        let most = query.limit.filter(|_| begins).unwrap_or(u64::MAX);
        let mut letters = Vec::new();
        for queue in names.into_iter().filter(|queue| message::too_long(queue).is_none()) {
            let name = message::dead(&queue);
            let seen = link.alone(&name, || {
                // Made if it is missing.
                link.count(&name)?;
                link.look(&name, most)
            })?;
            letters.extend(seen.iter().filter_map(|(_, body)| message::read_letter(&queue, body)));
        }
        letters.sort_by_key(|letter: &DeadLetter| letter.letter);
        let mut wanted = Letters::of(query);
        letters.into_iter().for_each(|letter| wanted.offer(letter));
        Ok(wanted.found())
    }

    /// Removes dead letters that died before a moment, but for those that somebody reads just now.
    pub(super) fn delete_old_dead(&mut self, link: &Link, than: Timestamp) -> Result<u64, Error> {
        let mut count = 0;
        for queue in self.names(link)? {
            let name = message::dead(&queue);
            let is_old = |letter: &DeadLetter| letter.died < than;
            let removed = link.alone_within(&name, Duration::ZERO, || {
                link.count(&name)?;
                // The first is the oldest.
                let oldest = link.look(&name, 1)?;
                let oldest =
                    oldest.first().and_then(|(_, body)| message::read_letter(&queue, body));
                match oldest.is_some_and(|letter| is_old(&letter)) {
                    true => self.settle_dead(link, &queue, false, is_old),
                    false => Ok(Settled::default()),
                }
            })?;
            count += removed.unwrap_or_default().count;
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
        let mut all = Settled::default();
        for queue in self.names(link)? {
            let name = message::dead(&queue);
            let settled = link.alone(&name, || match link.count(&name)?.0 {
                0 => Ok(Settled::default()),
                _ => self.settle_dead(link, &queue, revive, &chosen),
            })?;
            all.count += settled.count;
            all.refused += settled.refused;
            all.refusal = settled.refusal.or(all.refusal);
        }
        let Settled { count, refused, refusal } = all;
        match refusal {
            None => Ok(count),
            Some(reason) => {
                self.refused = Some(Kind::Refused);
                let all = count + refused;
                Err(link.refused(&format!(
                    "{reason}: {count} of {all} tasks wait again, the others are dead letters still"
                )))
            }
        }
    }

    /// For who reads the dead letters alone. What is not chosen, or not taken where it should go, goes
    /// back to its place.
    fn settle_dead(
        &mut self,
        link: &Link,
        queue: &QueueName,
        revive: bool,
        chosen: impl Fn(&DeadLetter) -> bool,
    ) -> Result<Settled, Error> {
        let (mut settled, mut gone, mut kept) = (Settled::default(), Vec::new(), Vec::new());
        let mut revived = Vec::new();
        for got in link.fetch(&message::dead(queue), u64::MAX, usize::MAX)? {
            let letter = message::read_letter(queue, &got.body).filter(&chosen);
            let Some(DeadLetter { id, payload, death, .. }) = letter else {
                kept.push(got.tag);
                continue;
            };
            if !revive {
                gone.push(got.tag);
                continue;
            }
            let history = death.details["attempts"].clone();
            let message = Message { id, attempt: 1, payload, history };
            let due = Aside { message, due: Timestamp(0), until: Timestamp(0) };
            revived.push((got.tag, self.ours(message::due(queue), due.write())));
        }
        settled.count = gone.len() as u64;
        link.acknowledge(&gone)?;
        link.commit()?;
        let mut revived = revived.into_iter();
        loop {
            let (tags, messages): (Vec<u64>, Vec<_>) = revived.by_ref().take(REVIVED).unzip();
            if tags.is_empty() {
                break;
            }
            let (mut gone, mut fates) = (Vec::new(), Vec::new());
            self.send(link, messages, &mut fates)?;
            for (tag, fate) in tags.into_iter().zip(fates) {
                match fate {
                    Fate::Refused(reason) => {
                        settled.refused += 1;
                        settled.refusal = Some(reason);
                        kept.push(tag);
                    }
                    _ => gone.push(tag),
                }
            }
            settled.count += gone.len() as u64;
            link.acknowledge(&gone)?;
            link.commit()?;
        }
        link.put_back(&kept)?;
        link.commit()?;
        if revive && settled.count > 0 {
            link.tell(queue)?;
        }
        Ok(settled)
    }
}

/// How many letters are revived at once: as many are tasks and letters still where that is cut off.
const REVIVED: usize = 50;

/// What became of dead letters that were chosen.
#[derive(Default)]
struct Settled {
    count: u64,
    /// Those that no queue took.
    refused: u64,
    refusal: Option<String>,
}
