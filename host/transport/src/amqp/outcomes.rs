//! Recording what became of tasks. All that goes to other queues, next attempts, dead letters and
//! submits, is published and confirmed first, and only then the task is acknowledged: a failure in
//! between doubles, and loses nothing.

use std::collections::BTreeSet;
use std::time::Instant;

use amqprs::error::Error;

use super::link::{Fate, Link, Outgoing};
use super::message;
use super::{Amqp, HeldTask, Settled};
use crate::task::micros;
use crate::{ClaimId, Finished, Kind, LetterId, NewTask, Outcome, QueueName, TaskId, Timestamp};

/// Tasks of a queue that are kept at most; then none is taken from it.
const MOST_KEPT: usize = 1000;

/// A task whose outcome is to be recorded.
pub(super) struct Ending {
    claim: ClaimId,
    id: TaskId,
    pub(super) queue: QueueName,
    pub(super) task: HeldTask,
    outcome: Outcome,
    submits: Vec<NewTask>,
    /// When its outcome was known.
    at: Timestamp,
}

impl Amqp {
    /// A task whose submits are refused stays claimed, for the caller to think again. One whose next
    /// attempt or dead letter is refused is kept here until that is taken.
    pub(super) fn record(
        &mut self,
        link: &Link,
        finished: &[Finished],
    ) -> Result<Vec<TaskId>, Error> {
        let (mut lost, mut endings) = (Vec::new(), Vec::new());
        for one in finished {
            let Some(held) = self.held.get_mut(&one.claim) else {
                // What was claimed over this link and is gone was recorded before.
                let is_it =
                    |settled: &Settled| (settled.claim, settled.task) == (one.claim, one.task);
                if one.claim < self.since && !self.settled.values().any(is_it) {
                    lost.push(one.task);
                }
                continue;
            };
            // Recorded before: nothing changes.
            let Some(task) = held.tasks.remove(&one.task) else { continue };
            endings.push(Ending {
                claim: one.claim,
                id: one.task,
                queue: held.queue.clone(),
                task,
                outcome: one.outcome.clone(),
                submits: one.submits.clone(),
                at: Timestamp::now(),
            });
        }
        let queues: BTreeSet<QueueName> =
            endings.iter().map(|ending| ending.queue.clone()).collect();
        let mut refusal = None;
        for (mut ending, reason) in self.end(link, endings)? {
            if matches!(ending.outcome, Outcome::Retry { .. } | Outcome::Dead(_)) {
                self.keep(ending, &reason);
            } else if let Some(held) = self.held.get_mut(&ending.claim) {
                ending.task.refused = Some((ending.submits, reason.clone()));
                held.tasks.insert(ending.id, ending.task);
                refusal = Some(reason);
            }
        }
        self.held.retain(|_, held| !held.tasks.is_empty());
        for queue in queues {
            self.free(link, &queue)?;
        }
        match refusal {
            None => Ok(lost),
            Some(reason) => {
                self.refused = Some(Kind::Invalid);
                Err(link.refused(&reason))
            }
        }
    }

    /// Records outcomes; returns those that are refused, and why.
    fn end(&mut self, link: &Link, endings: Vec<Ending>) -> Result<Vec<(Ending, String)>, Error> {
        let (mut messages, mut owners) = (Vec::new(), Vec::new());
        let mut refusals = vec![None; endings.len()];
        for (at, ending) in endings.iter().enumerate() {
            match self.messages(link, ending)? {
                Ok(some) => {
                    owners.extend(some.iter().map(|_| at));
                    messages.extend(some);
                }
                Err(reason) => refusals[at] = Some(reason),
            }
        }
        let (mut fates, mut taken) = (Vec::new(), vec![0; endings.len()]);
        self.send(link, messages, &mut fates)?;
        for (at, fate) in owners.into_iter().zip(fates) {
            match fate {
                Fate::Refused(reason) => refusals[at] = Some(reason),
                _ => taken[at] += 1,
            }
        }
        let (mut acks, mut back, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let (mut settled, mut delayed) = (Vec::new(), Vec::new());
        for (at, (ending, refusal)) in endings.into_iter().zip(refusals).enumerate() {
            match (refusal, &ending.outcome) {
                (Some(reason), _) => {
                    let reason = match taken[at] {
                        0 => reason,
                        taken => format!(
                            "{reason}: {taken} of {} are submitted all the same",
                            ending.submits.len()
                        ),
                    };
                    refused.push((ending, reason));
                    continue;
                }
                (None, Outcome::Released) => back.push(ending.task.tag),
                (None, _) => {
                    acks.push(ending.task.tag);
                    let (claim, task, mark) = (ending.claim, ending.id, ending.task.mark);
                    settled.push(mark);
                    self.settled.insert(mark, Settled { claim, task, at: Instant::now() });
                }
            }
            delayed.extend(ending.submits);
        }
        link.acknowledge(&acks)?;
        link.put_back(&back)?;
        link.commit()?;
        for mark in settled {
            self.settled.remove(&mark);
        }
        delayed.retain(|task| task.attributes.due != crate::Due::Now);
        self.tell(link, delayed.iter().collect())?;
        Ok(refused)
    }

    /// All that must be in other queues before the task is acknowledged; or what is said against it.
    fn messages(
        &mut self,
        link: &Link,
        ending: &Ending,
    ) -> Result<Result<Vec<Outgoing>, String>, Error> {
        let Ending { queue, task, outcome, submits, at, .. } = ending;
        if let Some((refused, reason)) = &task.refused
            && refused == submits
            && !submits.is_empty()
        {
            return Ok(Err(reason.clone()));
        }
        let mut messages = Vec::with_capacity(submits.len() + 1);
        for submit in submits {
            let id = self.ids.next();
            match self.new_task(link, id, submit)? {
                Ok(message) => messages.push(message),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        match outcome {
            Outcome::Done | Outcome::Released => {}
            Outcome::Retry { after, history } => {
                let mut message = task.message.clone();
                message.attempt += 1;
                message.history = history.clone();
                let due = Timestamp(at.0.saturating_add(micros(*after)));
                match self.aside(link, queue, message, due)? {
                    Ok(message) => messages.push(message),
                    Err(reason) => return Ok(Err(reason)),
                }
            }
            Outcome::Dead(death) => {
                let letter = LetterId(self.ids.next().0);
                let body = message::letter(letter, &task.message, death);
                messages.push(self.ours(message::dead(queue), body));
            }
        }
        Ok(Ok(messages))
    }

    fn keep(&mut self, ending: Ending, reason: &str) {
        let Ending { id, queue, outcome, .. } = &ending;
        if !self.kept.iter().any(|kept| kept.queue == *queue) {
            let what = match outcome {
                Outcome::Dead(_) => "the dead letter",
                _ => "the next attempt",
            };
            tracing::warn!(
                "Queue {queue}: {what} of task {} is refused, so the task stays in flight until it is \
                 taken, as will others: {reason}",
                id.0
            );
        }
        self.kept.push(ending);
    }

    /// Tries again what was refused: of each queue one, and the others where that is taken.
    pub(super) fn settle_kept(&mut self, link: &Link) -> Result<(), Error> {
        let (mut first, mut rest, mut queues) = (Vec::new(), Vec::new(), BTreeSet::new());
        for ending in std::mem::take(&mut self.kept) {
            match queues.insert(ending.queue.clone()) {
                true => first.push(ending),
                false => rest.push(ending),
            }
        }
        if first.is_empty() {
            return Ok(());
        }
        let refused = self.end(link, first)?;
        let is_full = |queue: &QueueName| refused.iter().any(|(ending, _)| ending.queue == *queue);
        let (stay, rest) = rest.into_iter().partition(|ending: &Ending| is_full(&ending.queue));
        self.kept = stay;
        self.kept.extend(refused.into_iter().map(|(ending, _)| ending));
        let refused = self.end(link, rest)?;
        self.kept.extend(refused.into_iter().map(|(ending, _)| ending));
        for queue in queues {
            if !self.kept.iter().any(|kept| kept.queue == queue) {
                tracing::info!("Queue {queue}: what was refused is taken now");
                self.free(link, &queue)?;
            }
        }
        Ok(())
    }

    /// Why no more tasks are taken from `queue`.
    pub(super) fn keeps_too_many(&self, queue: &QueueName) -> Option<String> {
        let kept = self.kept.iter().filter(|kept| kept.queue == *queue).count();
        (kept >= MOST_KEPT).then(|| {
            format!("next attempts or dead letters of {kept} tasks of queue {queue} are refused")
        })
    }
}
