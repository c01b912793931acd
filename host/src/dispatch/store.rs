//! The thread that talks to the transport, so that a slow or absent database never stops the
//! host's loop.
//!
//! Orders are worked one after the other; one that fails because the store is away is repeated with
//! growing delay until it succeeds, which the trait promises to be safe. Nothing is dropped while
//! it waits.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rex_transport::{Claim, Finished, Kind, QueueName, TaskId, Transport, TransportError};

/// What the host's loop asks of the store.
#[derive(Debug)]
pub enum Order {
    Claim {
        queue: QueueName,
        max: usize,
    },
    Finish(Vec<Finished>),
    IsIdle(QueueName),
    /// Give up ownership; the last order.
    Close,
}

/// What comes back, in the order of the orders, with rescues and outages between.
#[derive(Debug)]
pub enum Reply {
    Claimed {
        queue: QueueName,
        claim: Option<Claim>,
    },
    /// The store would not give tasks of this queue now; it is not to be asked again for a while.
    Refused {
        queue: QueueName,
        reason: String,
        pause: Duration,
    },
    /// The tasks that another host had taken over.
    Finished {
        lost: Vec<TaskId>,
    },
    Idle {
        queue: QueueName,
        idle: bool,
    },
    /// Tasks of dead hosts are waiting again.
    Rescued(u64),
    /// The store is away; said once an outage.
    Down(String),
    /// It is back.
    Up(Duration),
    Closed,
}

/// How often dead hosts are looked for and this one shows that it lives.
const BEAT: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

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
        let mut worker = Worker { transport, inbox, replies, given_up, down: None };
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
}

impl Worker {
    fn run(&mut self) {
        let mut beat = Instant::now();
        loop {
            if beat <= Instant::now() {
                match self.persist(|transport| transport.rescue()) {
                    Some(0) | None => {}
                    Some(count) => self.reply(Reply::Rescued(count)),
                }
                beat = Instant::now() + BEAT;
            }
            let reply = match self.inbox.recv_deadline(beat) {
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(Order::Claim { queue, max }) => self.claim(queue, max),
                Ok(Order::Finish(finished)) => self
                    .persist(|transport| transport.finish(&finished))
                    .map(|lost| Reply::Finished { lost }),
                Ok(Order::IsIdle(queue)) => self
                    .persist(|transport| transport.is_idle(&queue))
                    .map(|idle| Reply::Idle { queue, idle }),
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

    /// A claim that is refused is not repeated here: what keeps one queue locked must not hold up the
    /// others, nor the outcomes.
    fn claim(&mut self, queue: QueueName, max: usize) -> Option<Reply> {
        let (begun, mut refusal) = (Instant::now(), None);
        let claim = self.persist(|transport| match transport.claim(&queue, max) {
            Err(error) if error.kind == Kind::Refused => {
                refusal = Some(error.to_string());
                Ok(None)
            }
            result => result,
        })?;
        Some(match refusal {
            // Waiting for a lock takes this thread's time: most of it is for other queues.
            Some(reason) => Reply::Refused { queue, reason, pause: begun.elapsed() * 5 },
            None => Reply::Claimed { queue, claim },
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
                        self.reply(Reply::Down(error.to_string()));
                    }
                    // An error that is not worth a retry needs a person, and tasks must not be lost
                    // meanwhile: it is repeated all the same, only more slowly.
                    let wait = if error.is_retryable() { delay } else { LONGEST_RETRY };
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
