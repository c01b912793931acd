//! The thread that talks to the transport, so that a slow or absent database never stops the
//! host's loop.
//!
//! Orders are worked one after the other; one that fails because the store is away is repeated with
//! growing delay until it succeeds, which the trait promises to be safe. Nothing is dropped while
//! it waits.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rex_transport::{
    Claim, ClaimId, Death, Finished, Kind, Outcome, QueueName, TaskId, Transport, TransportError,
    Want,
};
use serde_json::{Map, Value};

use super::Around;
use super::asker::Asker;
use super::excerpt::excerpt;

/// What the host's loop asks of the store.
pub enum Order {
    Claim {
        queue: QueueName,
        want: Want,
    },
    Finish {
        finished: Vec<Finished>,
        /// By whom of them tasks are submitted.
        askers: Vec<(TaskId, Box<Asker>)>,
    },
    IsIdle(QueueName),
    /// Delete dead letters that are older.
    Forget(Duration),
    /// Put something around the transport.
    Surround(Around),
    /// Give up ownership; the last order.
    Close,
}

/// What comes back, in the order of the orders, with rescues and outages between.
#[derive(Debug)]
pub enum Reply {
    Claimed {
        queue: QueueName,
        claim: Option<Claim>,
        /// How long the store was at it.
        took: Duration,
        /// Where there is none: how long until a task is due.
        due: Option<Duration>,
    },
    /// The store would not give tasks of this queue now; it is not to be asked again for a while.
    Refused {
        queue: QueueName,
        reason: String,
        pause: Duration,
    },
    Finished(Recorded),
    /// Some that waited are recorded.
    Late(Recorded),
    Idle {
        queue: QueueName,
        idle: Idle,
        /// Whether it is idle for this.
        paused: bool,
    },
    /// Dead letters were deleted.
    Forgotten(u64),
    /// This host has shown that it lives: when it began to, how long that keeps others from its
    /// claims, and which of them others had taken before; and the queues that are paused.
    Beat {
        begun: Instant,
        lease: Duration,
        taken: Vec<ClaimId>,
        paused: BTreeSet<QueueName>,
    },
    /// Tasks of dead hosts are waiting again.
    Rescued(u64),
    /// The store is away, or refuses what cannot be left; said once an outage.
    Down {
        reason: String,
        refuses: bool,
    },
    /// It is back.
    Up(Duration),
    Closed,
}

/// What became of outcomes.
#[derive(Debug)]
pub struct Recorded {
    /// Tasks that another host had taken over.
    pub lost: Vec<TaskId>,
    /// How many outcomes wait, of this order and of those before.
    pub held: usize,
    /// How many tasks were done and have failed now, since their submits were refused.
    pub refused: u64,
}

/// Whether a queue has nothing to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Idle {
    Yes,
    No,
    /// The store would not tell, as was said; it is not to be asked again for so long.
    Untold(Duration),
}

/// How often dead hosts are looked for and this one shows that it lives.
const BEAT: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// Shorter than the grace within which a host must be back after the store was away.
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// For what a person must mend.
const SLOW_RETRY: Duration = Duration::from_secs(5);
/// A queue that is refused is left alone for so much longer than the store was at it: waiting for a lock
/// takes the time of the one thread, most of which is for other queues.
const SPARING: u32 = 5;

/// The handle of the thread.
pub struct Store {
    orders: Sender<Order>,
    /// Dropped with the handle: the thread then stops waiting for a store that is away.
    _patience: Sender<()>,
}

impl Store {
    /// Starts the thread on a transport that was opened with an owner.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(transport: Box<dyn Transport>) -> std::io::Result<(Store, Receiver<Reply>)> {
        let (orders, inbox) = crossbeam_channel::unbounded();
        let (replies, outbox) = crossbeam_channel::unbounded();
        let (patience, given_up) = crossbeam_channel::bounded(0);
        let worker = Worker {
            transport,
            inbox,
            replies,
            given_up,
            down: None,
            held: Vec::new(),
            askers: HashMap::new(),
            refused: 0,
            untold: BTreeSet::new(),
        };
        // Never joined: a call to a server that does not answer ends when the process does.
        std::thread::Builder::new().name("store".to_owned()).spawn(move || worker.run())?;
        Ok((Store { orders, _patience: patience }, outbox))
    }

    pub fn order(&self, order: Order) {
        // Fails only when the thread has ended, after `Close` or a panic that was reported.
        let _ = self.orders.send(order);
    }
}

struct Worker {
    transport: Box<dyn Transport>,
    inbox: Receiver<Order>,
    replies: Sender<Reply>,
    given_up: Receiver<()>,
    /// Since when the store is away.
    down: Option<Instant>,
    /// Outcomes that wait for something of their own: tried again at each beat.
    held: Vec<Finished>,
    /// By whom of those that are not recorded tasks are submitted.
    askers: HashMap<TaskId, Box<Asker>>,
    /// As [`Recorded::refused`], since that was last said.
    refused: u64,
    /// Queues of which the store would not tell whether they are idle.
    untold: BTreeSet<QueueName>,
}

impl Worker {
    fn run(mut self) {
        let mut beat = Instant::now();
        loop {
            if beat <= Instant::now() {
                let mut begun = Instant::now();
                let rescued = self.persist(|transport| {
                    begun = Instant::now();
                    Ok((transport.rescue()?, transport.paused()?))
                });
                if let Some((count, paused)) = rescued {
                    let (lease, taken) = (self.transport.lease(), self.transport.taken_over());
                    self.reply(Reply::Beat { begun, lease, taken, paused });
                    if count > 0 {
                        self.reply(Reply::Rescued(count));
                    }
                }
                self.finish_held();
                beat = Instant::now() + BEAT;
            }
            let reply = match self.inbox.recv_deadline(beat) {
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(Order::Claim { queue, want }) => self.claim(queue, &want),
                Ok(Order::Finish { finished, askers }) => {
                    self.askers.extend(askers);
                    self.finish(finished).map(|lost| Reply::Finished(self.recorded(lost)))
                }
                Ok(Order::IsIdle(queue)) => self.is_idle(queue),
                Ok(Order::Forget(age)) => {
                    match self.persist(|transport| transport.forget_dead(age)) {
                        Some(0) => continue,
                        count => count.map(Reply::Forgotten),
                    }
                }
                Ok(Order::Surround(around)) => {
                    self = Worker { transport: around(self.transport), ..self };
                    continue;
                }
                Ok(Order::Close) => {
                    self.persist(|transport| transport.close());
                    self.reply(Reply::Closed);
                    return;
                }
            };
            match reply {
                Some(reply) => self.reply(reply),
                None => {
                    self.reply(Reply::Closed);
                    return;
                }
            }
        }
    }

    fn claim(&mut self, queue: QueueName, want: &Want) -> Option<Reply> {
        let (claim, took) = self.ask(|transport| transport.claim(&queue, want))?;
        let (result, took_both) = match claim {
            // Delayed tasks and retries come at their time, not at the next poll after it.
            Ok(None) => {
                let (due, more) = self.ask(|transport| transport.next_due(&queue))?;
                (due.map(|due| (None, due)), took + more)
            }
            claim => (claim.map(|claim| (claim, None)), took),
        };
        Some(match result {
            Ok((claim, due)) => Reply::Claimed { queue, claim, took, due },
            Err(error) => {
                let mut reason = error.to_string();
                if let Some(hint) = &error.hint {
                    reason.push_str(&format!("\nHint:\n    {hint}"));
                }
                Reply::Refused { queue, reason, pause: took_both * SPARING }
            }
        })
    }

    /// Of a queue that is refused it is said once that its workers do not end.
    fn is_idle(&mut self, queue: QueueName) -> Option<Reply> {
        let (told, took) = self.ask(|transport| {
            let idle = transport.is_idle(&queue)?;
            Ok((idle, idle && transport.paused()?.contains(&queue)))
        })?;
        let (idle, paused) = match told {
            Ok((idle, paused)) => {
                if self.untold.remove(&queue) {
                    tracing::info!("the queue store tells again whether queue {queue} is empty");
                }
                (if idle { Idle::Yes } else { Idle::No }, paused)
            }
            Err(error) => {
                if self.untold.insert(queue.clone()) {
                    tracing::error!(
                        "it cannot be told whether queue {queue} is empty, so its workers do not \
                         end: {}",
                        error.line()
                    );
                }
                (Idle::Untold(took * SPARING), false)
            }
        };
        Some(Reply::Idle { queue, idle, paused })
    }

    /// As [`persist`](Self::persist), but a refusal is not repeated here: what is the matter with one queue
    /// must not hold up the others, nor the outcomes. With how long the store was at it.
    fn ask<T>(
        &mut self,
        mut call: impl FnMut(&mut dyn Transport) -> Result<T, TransportError>,
    ) -> Option<(Result<T, TransportError>, Duration)> {
        let mut begun = Instant::now();
        let result = self.persist(|transport| {
            // Of the time that the store was away nothing counts.
            begun = Instant::now();
            match call(transport) {
                Err(error) if matches!(error.kind, Kind::Refused | Kind::Invalid) => Ok(Err(error)),
                result => result.map(Ok),
            }
        })?;
        Some((result, begun.elapsed()))
    }

    /// Those that wait still do so in the order in which they came.
    fn finish_held(&mut self) {
        let waiting = std::mem::take(&mut self.held);
        let before = waiting.len();
        if before > 0
            && let Some(lost) = self.finish(waiting)
            && self.held.len() < before
        {
            let recorded = self.recorded(lost);
            self.reply(Reply::Late(recorded));
        }
    }

    /// Gives outcomes to the transport, and keeps those that it holds back.
    fn record(&mut self, finished: Vec<Finished>) -> Option<Vec<TaskId>> {
        let lost = self.persist(|transport| transport.finish(&finished))?;
        self.keep_held(finished);
        Some(lost)
    }

    fn keep_held(&mut self, finished: Vec<Finished>) {
        let held = self.transport.held_back();
        for one in finished {
            if held.contains(&one.task) {
                self.held.push(one);
            } else if !one.submits.is_empty() {
                self.askers.remove(&one.task);
            }
        }
    }

    fn recorded(&mut self, lost: Vec<TaskId>) -> Recorded {
        Recorded { lost, held: self.held.len(), refused: std::mem::take(&mut self.refused) }
    }

    /// Records outcomes. One that the store cannot take keeps no other from being recorded: it is
    /// found by halving, and told more plainly.
    fn finish(&mut self, mut finished: Vec<Finished>) -> Option<Vec<TaskId>> {
        let refusal = match self.offer(&finished)? {
            Ok(lost) => {
                self.keep_held(finished);
                return Some(lost);
            }
            Err(refusal) => refusal,
        };
        if finished.len() > 1 {
            let second = finished.split_off(finished.len() / 2);
            let mut lost = self.finish(finished)?;
            lost.extend(self.finish(second)?);
            return Some(lost);
        }
        let Some(only) = finished.first() else { return Some(Vec::new()) };
        if let Some(asker) = self.askers.remove(&only.task) {
            tracing::error!(
                "what task {} asks to be submitted is refused, so it has failed: {refusal}",
                only.task.0
            );
            let outcome = Outcome::Dead(asker.refused(&refusal));
            let lost = self.finish(vec![Finished { outcome, submits: Vec::new(), ..*only }])?;
            self.refused += u64::from(lost.is_empty());
            return Some(lost);
        }
        for plainer in plainer(only) {
            let plainer = vec![plainer];
            if let Ok(lost) = self.offer(&plainer)? {
                tell_shortened(&plainer, &refusal);
                self.keep_held(plainer);
                return Some(lost);
            }
        }
        // Then it is not what is told that the store cannot take.
        self.record(finished)
    }

    /// Gives outcomes to the transport; the error is what it says against them, where that is about
    /// what they are.
    fn offer(&mut self, finished: &[Finished]) -> Option<Result<Vec<TaskId>, String>> {
        self.persist(|transport| match transport.finish(finished) {
            Err(error) if error.kind == Kind::Invalid => Ok(Err(error.to_string())),
            result => result.map(Ok),
        })
    }

    /// Repeats `call` until it succeeds; `None` when the host gave up.
    fn persist<T>(
        &mut self,
        mut call: impl FnMut(&mut dyn Transport) -> Result<T, TransportError>,
    ) -> Option<T> {
        let mut delay = FIRST_RETRY;
        loop {
            match call(&mut *self.transport) {
                Ok(value) => {
                    if let Some(since) = self.down.take() {
                        self.reply(Reply::Up(since.elapsed()));
                    }
                    return Some(value);
                }
                Err(error) => {
                    if self.down.is_none() {
                        self.down = Some(Instant::now());
                        let refuses = error.kind != Kind::Unreachable;
                        self.reply(Reply::Down { reason: error.to_string(), refuses });
                    }
                    // An error that is not worth a retry needs a person, and tasks must not be lost
                    // meanwhile: it is repeated all the same, only more slowly.
                    let wait = if error.is_retryable() { delay } else { SLOW_RETRY };
                    if self.given_up.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                        return None;
                    }
                    delay = (delay * 2).min(LONGEST_RETRY);
                    // A store that refuses one thing can still see that this host lives.
                    if error.kind == Kind::Refused
                        && let Ok(count @ 1..) = self.transport.rescue()
                    {
                        self.reply(Reply::Rescued(count));
                    }
                }
            }
        }
    }

    fn reply(&self, reply: Reply) {
        // The host's loop is gone: its process is about to end.
        let _ = self.replies.send(reply);
    }
}

/// What can be told in place of an outcome that the store refuses, best first: a failure in ASCII, then
/// in short.
fn plainer(only: &Finished) -> Vec<Finished> {
    let outcomes: Vec<Outcome> = match &only.outcome {
        Outcome::Dead(death) => {
            let bare = Value::Object(Map::new());
            let (ascii, short) = (in_ascii(death), in_short(death, short_facts(&death.details)));
            [ascii, short, in_short(death, bare)].map(Outcome::Dead).into()
        }
        Outcome::Retry { after, history } => [value_in_ascii(history), Value::Null]
            .map(|history| Outcome::Retry { after: *after, history })
            .into(),
        Outcome::Done | Outcome::Released => Vec::new(),
    };
    let told = |outcome| Finished { outcome, submits: Vec::new(), ..*only };
    outcomes.into_iter().map(told).collect()
}

fn tell_shortened(told: &[Finished], refusal: &str) {
    for Finished { task, outcome, .. } in told {
        if matches!(outcome, Outcome::Dead(death) if death.details["shortened"] == true) {
            tracing::error!(
                "the dead letter of task {} is kept in short, as the store refuses more: {refusal}",
                task.0
            );
        }
    }
}

/// Its kind and these facts.
fn in_short(death: &Death, mut facts: Value) -> Death {
    const LONGEST: usize = 1000;
    facts["kind"] = death.details["kind"].clone();
    facts["shortened"] = true.into();
    Death { reason: excerpt(&ascii(&death.reason), LONGEST), details: facts }
}

/// What names worker and build, and all else that is as short.
fn short_facts(details: &Value) -> Value {
    const LONGEST: usize = 200;
    let is_short = |fact: &Value| match fact {
        Value::String(text) => text.is_ascii() && text.len() <= LONGEST && !text.contains('\0'),
        Value::Array(_) | Value::Object(_) => false,
        _ => true,
    };
    let facts = details.as_object().into_iter().flatten().filter(|(_, fact)| is_short(fact));
    Value::Object(facts.map(|(name, fact)| (name.clone(), fact.clone())).collect())
}

/// A death in letters that every database can keep, whatever its encoding.
fn in_ascii(death: &Death) -> Death {
    Death { reason: ascii(&death.reason), details: value_in_ascii(&death.details) }
}

fn value_in_ascii(given: &Value) -> Value {
    match given {
        Value::String(text) => Value::String(ascii(text)),
        Value::Array(items) => items.iter().map(value_in_ascii).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (ascii(k), value_in_ascii(v))).collect(),
        other => other.clone(),
    }
}

/// Other letters as `\u{20ac}`.
fn ascii(text: &str) -> String {
    let plain = |c: char| (c.is_ascii() && c != '\0').then_some(c);
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match plain(c) {
            Some(c) => out.push(c),
            None => out.extend(c.escape_unicode()),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use rex_transport::Death;
    use serde_json::json;

    use super::in_ascii;

    #[test]
    fn a_death_in_ascii_still_tells_everything() {
        let death = Death {
            reason: "Exception: 5 €".to_owned(),
            details: json!({"last_output": ["a\0b", "ok\n"], "ran_ms": 3}),
        };
        let plain = in_ascii(&death);
        assert_eq!(plain.reason, "Exception: 5 \\u{20ac}");
        assert_eq!(plain.details, json!({"last_output": ["a\\u{0}b", "ok\n"], "ran_ms": 3}));
    }
}
