//! Tasks that wait for their time, and those that go before the others.
//!
//! A queue gives its first message only, so tasks of different waits cannot share one.
//! `rex.delay.QUEUE.N` has tasks that stay in it for 2 to the power of N seconds: there the first to
//! come is the first to leave. A task goes where it stays longest without being late, from there to
//! the next, and when less than a second is left to the one of step 0; then to `rex.due.QUEUE`,
//! whose tasks are taken before those of the queue itself. Hosts move them: what is confirmed where it
//! goes is acknowledged where it was. The broker's own way, a time to live with an exchange for what has outlived it, is
//! not taken because a crash of the broker can lose what is on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use amqprs::error::Error;

use super::Amqp;
use super::link::{Fate, Link, Outgoing};
use super::message::{self, Aside, Message, QUEUES};
use crate::task::micros;
use crate::{Due, QueueName, Timestamp};

/// How long a new task of another host's or producer's making may stay unseen.
const LOOK: Duration = Duration::from_millis(500);
/// 2 to that power of seconds is more than a thousand years.
const LAST_STEP: u32 = 35;
/// Moves at a time.
const MOVES: usize = 500;

/// What is known of the tasks of one queue that wait beside it.
pub(super) struct Delays {
    /// The steps that exist, each with the moment at which its first task leaves, if one is known.
    steps: BTreeMap<u32, Option<Timestamp>>,
    /// When to look at all of them again.
    look: Timestamp,
    /// Whether it was said that one cannot be moved.
    stuck: bool,
}

impl Delays {
    fn expect_at(&mut self, step: u32, until: Timestamp) {
        let first = self.steps.entry(step).or_default();
        *first = Some(first.map_or(until, |first| first.min(until)));
    }
}

impl Amqp {
    /// Moves what is due to where it is claimed from.
    pub(super) fn bring_due(&mut self, link: &Link, queue: &QueueName) -> Result<(), Error> {
        let now = Timestamp::now();
        let all = self.delays.get(queue).is_none_or(|delays| delays.look <= now);
        if all {
            self.learn_steps(link, queue)?;
        }
        let mut more = false;
        for (step, first) in self.delays_of(queue).steps.clone() {
            if all || first.is_some_and(|first| first <= now) {
                more |= self.empty_step(link, queue, step, now)?;
            }
        }
        if all && !more {
            self.delays_of(queue).look = Timestamp(now.0.saturating_add(micros(LOOK)));
        }
        Ok(())
    }

    fn delays_of(&mut self, queue: &QueueName) -> &mut Delays {
        let unseen = Delays { steps: BTreeMap::new(), look: Timestamp(0), stuck: false };
        self.delays.entry(queue.clone()).or_insert(unseen)
    }

    /// Moves what has stayed long enough; whether there may be more.
    fn empty_step(
        &mut self,
        link: &Link,
        queue: &QueueName,
        step: u32,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let name = message::delay(queue, step);
        let (mut tags, mut messages, mut back, mut refusal) =
            (Vec::new(), Vec::new(), Vec::new(), None);
        self.delays_of(queue).steps.insert(step, None);
        // Its name is entered before it is made, and who was to make it may have died between.
        if link.count(&name)?.0 == 0 {
            return Ok(false);
        }
        while messages.len() < MOVES {
            let Some(first) = link.get(&name)? else { break };
            let aside = Aside::read(&mut self.ids, &first.properties, &first.body);
            if aside.until > now {
                back.push(first.tag);
                self.delays_of(queue).expect_at(step, aside.until);
                break;
            }
            match self.aside(link, queue, aside.message, aside.due)? {
                Ok(message) => {
                    tags.push(first.tag);
                    messages.push(message);
                }
                Err(reason) => {
                    back.push(first.tag);
                    refusal = Some(reason);
                    break;
                }
            }
        }
        if tags.is_empty() && back.is_empty() {
            return Ok(false);
        }
        let (mut fates, mut moved) = (Vec::new(), Vec::new());
        self.send(link, messages, &mut fates)?;
        for (tag, fate) in tags.into_iter().zip(fates) {
            match fate {
                Fate::Refused(reason) => {
                    back.push(tag);
                    refusal = Some(reason);
                }
                _ => moved.push(tag),
            }
        }
        link.acknowledge(&moved)?;
        link.put_back(&back)?;
        link.commit()?;
        let delays = self.delays_of(queue);
        if let Some(reason) = &refusal {
            delays.expect_at(step, Timestamp(now.0.saturating_add(micros(LOOK))));
            if !delays.stuck {
                tracing::warn!(
                    "Queue {queue}: delayed tasks wait longer since one is refused: {reason}"
                );
            }
        }
        if refusal.is_some() || !moved.is_empty() {
            delays.stuck = refusal.is_some();
        }
        Ok(moved.len() == MOVES)
    }

    /// A task beside its queue as a message; or what is said against it.
    pub(super) fn aside(
        &mut self,
        link: &Link,
        queue: &QueueName,
        message: Message,
        due: Timestamp,
    ) -> Result<Result<Outgoing, String>, Error> {
        let now = Timestamp::now();
        let left = Duration::from_micros(u64::try_from(due.0.saturating_sub(now.0)).unwrap_or(0));
        let (name, until) = if left.is_zero() {
            (message::due(queue), due)
        } else {
            let step = left.as_secs().max(1).ilog2().min(LAST_STEP);
            let stay = left.min(Duration::from_secs(1 << step));
            let until = Timestamp(now.0.saturating_add(micros(stay)));
            if !self.delays_of(queue).steps.contains_key(&step) {
                // First its name, or nobody would look there.
                let entry = self.ours(QUEUES.to_owned(), message::entry(queue, Some(step)));
                if let Err(reason) = self.send_one(link, entry)? {
                    return Ok(Err(format!("{QUEUES}: {reason}")));
                }
            }
            self.delays_of(queue).expect_at(step, until);
            (message::delay(queue, step), until)
        };
        let body = Aside { message, due, until }.write();
        Ok(Ok(self.ours(name, body)))
    }

    /// Finds the steps that the queue has.
    pub(super) fn learn_steps(
        &mut self,
        link: &Link,
        queue: &QueueName,
    ) -> Result<Vec<u32>, Error> {
        let steps = self.entries(link, true)?.get(queue).cloned().unwrap_or_default();
        let delays = self.delays_of(queue);
        for step in steps {
            delays.steps.entry(step).or_default();
        }
        Ok(delays.steps.keys().copied().collect())
    }

    /// How long until the next task moves; one that others add meanwhile may be sooner.
    pub(super) fn time_to_next(
        &mut self,
        link: &Link,
        queue: &QueueName,
    ) -> Result<Option<Duration>, Error> {
        self.delays_of(queue).look = Timestamp(0);
        self.bring_due(link, queue)?;
        let next = self.delays_of(queue).steps.values().flatten().min();
        let now = Timestamp::now();
        Ok(next.map(|next| {
            Duration::from_micros(u64::try_from(next.0.saturating_sub(now.0)).unwrap_or(0))
        }))
    }
}

/// The moment that is meant; `None`: now.
pub(super) fn moment(due: Due) -> Option<Timestamp> {
    let now = Timestamp::now();
    let at = match due {
        Due::Now => return None,
        Due::In(wait) => Timestamp(now.0.saturating_add(micros(wait))),
        Due::At(at) => at,
    };
    Some(at).filter(|at| *at > now)
}
