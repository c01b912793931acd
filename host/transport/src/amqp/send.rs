//! What goes into queues: made as messages, published, confirmed.

use amqprs::error::Error;
use serde_json::Value;

use super::Amqp;
use super::delays::moment;
use super::link::{Fate, Link, Outgoing, Place};
use super::message::{self, Message};
use crate::{Kind, NewTask, QueueName, Submitted, TaskId};

impl Amqp {
    /// Submits tasks. What is taken of them is told also where others are refused, or where the
    /// connection breaks.
    pub(super) fn add(&mut self, link: &Link, tasks: &[NewTask]) -> Result<Vec<Submitted>, Error> {
        // Before anything is changed: where a queue cannot be made, nothing is submitted.
        for task in tasks {
            if !self.declared.contains(&task.queue) {
                self.declare(link, &task.queue)?;
            }
        }
        let (mut all, mut planned, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        let mut refusal = None;
        for (at, task) in tasks.iter().enumerate() {
            let id = self.ids.next();
            all.push(Submitted { id, existed: false });
            match self.new_task(link, id, task)? {
                Ok(message) => {
                    planned.push(at);
                    messages.push(message);
                }
                Err(reason) => refusal = Some(reason),
            }
        }
        let mut fates = Vec::new();
        let sent = self.send(link, messages, &mut fates);
        let mut taken = Vec::new();
        for (at, fate) in planned.into_iter().zip(fates) {
            match fate {
                Fate::Taken => taken.push((at, all[at])),
                Fate::Refused(reason) => refusal = Some(reason),
                Fate::Unknown | Fate::Unrouted => {}
            }
        }
        let delayed = taken.iter().map(|(at, _)| &tasks[*at]);
        let delayed: Vec<&NewTask> =
            delayed.filter(|task| moment(task.attributes.due).is_some()).collect();
        let count = taken.len();
        self.taken = taken;
        sent?;
        self.tell(link, delayed)?;
        if let Some(reason) = refusal {
            self.refused = Some(Kind::Refused);
            return Err(match tasks.len() {
                1 => link.refused(&reason),
                all => link.refused(&format!("{reason}: {count} of {all} tasks are submitted")),
            });
        }
        self.taken.clear();
        Ok(all)
    }

    /// Spreads the word of delayed tasks.
    pub(super) fn tell(&self, link: &Link, tasks: Vec<&NewTask>) -> Result<(), Error> {
        let mut queues: Vec<&QueueName> = tasks.into_iter().map(|task| &task.queue).collect();
        queues.sort_unstable();
        queues.dedup();
        queues.into_iter().try_for_each(|queue| link.tell(queue))
    }

    /// A new task as a message, its queue made; or what is said against its queue.
    pub(super) fn new_task(
        &mut self,
        link: &Link,
        id: TaskId,
        task: &NewTask,
    ) -> Result<Result<Outgoing, String>, Error> {
        let NewTask { queue, payload, attributes } = task;
        if !self.declared.contains(queue)
            && let Err(reason) = self.try_declare(link, queue)?
        {
            return Ok(Err(reason));
        }
        if let Some(due) = moment(attributes.due) {
            let message =
                Message { id, attempt: 1, payload: payload.clone(), history: Value::Null };
            return self.aside(link, queue, message, due);
        }
        Ok(Ok(Outgoing {
            place: Place::Tasks(queue.clone()),
            properties: message::properties(id),
            body: payload.as_str().as_bytes().to_vec(),
        }))
    }

    /// A message for a queue of ours.
    pub(super) fn ours(&mut self, queue: String, body: Vec<u8>) -> Outgoing {
        let properties = message::persistent(self.ids.next());
        Outgoing { place: Place::Queue(queue), properties, body }
    }

    /// Publishes messages, once more where somebody has removed the queue or it never was; what became
    /// of each, as far as it is known after an error. Then none is `Unrouted`.
    pub(super) fn send(
        &mut self,
        link: &Link,
        messages: Vec<Outgoing>,
        fates: &mut Vec<Fate>,
    ) -> Result<(), Error> {
        link.publish(&messages, fates)?;
        let (mut again, mut places, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for (at, message) in messages.into_iter().enumerate() {
            if fates[at] != Fate::Unrouted {
                continue;
            }
            if !made.contains(&message.place) {
                let refusal = match &message.place {
                    Place::Tasks(queue) => {
                        self.declared.remove(queue);
                        self.try_declare(link, queue)?.err()
                    }
                    Place::Queue(name) => link.count(name).map(|_| None)?,
                };
                if let Some(reason) = refusal {
                    fates[at] = Fate::Refused(reason);
                    continue;
                }
                made.push(message.place.clone());
            }
            places.push(at);
            again.push(message);
        }
        if again.is_empty() {
            return Ok(());
        }
        let mut second = Vec::new();
        let sent = link.publish(&again, &mut second);
        for (at, fate) in places.into_iter().zip(second) {
            fates[at] = match fate {
                Fate::Unrouted => Fate::Refused("it has no queue for the message".to_owned()),
                fate => fate,
            };
        }
        sent
    }

    /// Publishes one message; or what is said against it.
    pub(super) fn send_one(
        &mut self,
        link: &Link,
        message: Outgoing,
    ) -> Result<Result<(), String>, Error> {
        let mut fates = Vec::new();
        self.send(link, vec![message], &mut fates)?;
        Ok(match fates.pop() {
            Some(Fate::Refused(reason)) => Err(reason),
            _ => Ok(()),
        })
    }
}
