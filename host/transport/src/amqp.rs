//! AMQP 0-9-1 as RabbitMQ speaks it: the original's queues, so that old producers and consumers work
//! beside us.
//!
//! A queue is a durable direct exchange, a durable queue and a binding, all of one name; a message's
//! body is the payload's text. A claimed task is a message that was got and not acknowledged: when
//! its host dies or loses its connection, the broker itself puts it back into its old place, at
//! once, which is why `rescue` has nothing to give back and why what was running then runs again.
//! What is published waits for the publisher's confirm, many messages at a time, and only when all that
//! belongs to a task's outcome is confirmed is its message acknowledged: at least once whatever
//! happens, all or none as long as broker, connection and host live and no queue refuses. A transaction
//! of the protocol would promise less: where a queue refuses one of its messages (`overflow:
//! reject-publish`, as a policy of the broker's can say), RabbitMQ carries out the rest, acknowledgements
//! included. What is refused costs its own task only: it is told to who asked for it, or kept and tried
//! again. A host that lost its connection between confirm and acknowledgement knows the task when it
//! comes again.
//!
//! The protocol tells neither which queues there are nor what others hold, so there are queues of
//! ours that old consumers do not know: `rex.queues` has the names, a host consumes from the always
//! empty `rex.busy.QUEUE` while it holds tasks, `rex.dead.QUEUE` has the dead letters, `rex.due.QUEUE`
//! and `rex.delay.QUEUE.N` have delayed tasks and those that come again. Ids and dates are in each
//! message's properties; a message without them gets an id when it is claimed.
//!
//! `link.rs`: the connection. `failure.rs`: what went wrong. `message.rs`: tasks and letters as
//! messages. `send.rs`: into queues. `claims.rs`: out of them. `outcomes.rs`: what became of tasks.
//! `delays.rs`: what waits for its time. `lists.rs`: looks. `alone.rs`: one at a time. `watch.rs`: word of
//! new tasks.

mod alone;
mod claims;
mod delays;
mod failure;
mod link;
mod lists;
mod message;
mod outcomes;
mod send;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::random::random;
use crate::task::micros;
use crate::transport::not_an_owner;
use crate::{
    Claim, ClaimId, DeadLetter, DeadQuery, Features, Finished, Kind, LetterId, NewTask, Options,
    QueueName, QueueStatus, Submitted, TaskId, Timestamp, Transport, TransportError, Uri,
    WaitingTask, Wake, Want, Watch, cannot,
};
use delays::Delays;
use link::{Address, Link};
use lists::Entries;
use message::{Ids, Mark, Message};
use outcomes::Ending;

/// A store in an AMQP broker.
pub struct Amqp {
    address: Address,
    link: Option<Link>,
    /// Whether this may claim: not from the start or not after `close`.
    may_own: bool,
    ids: Ids,
    /// What was got over this link and not acknowledged.
    held: BTreeMap<ClaimId, Held>,
    /// Claims from here on were made over this link.
    since: ClaimId,
    /// Tasks whose outcome is known and refused for now; held like the others.
    kept: Vec<Ending>,
    /// Messages whose task's outcome is recorded but for the acknowledgement, of which nothing is known.
    settled: HashMap<Mark, Settled>,
    /// Queues in which this host holds tasks, with the consumer that says so.
    busy: HashMap<QueueName, String>,
    /// What is in `rex.queues`.
    entries: Entries,
    /// How many entries were there when they were read.
    entries_count: Option<u64>,
    delays: HashMap<QueueName, Delays>,
    /// Queues that were declared over this link and whose name is in `rex.queues`.
    declared: HashSet<QueueName>,
    /// Queues that were refused over this link.
    refusing: HashSet<QueueName>,
    /// Something was just refused, of which the connection knows nothing: the error's kind.
    refused: Option<Kind>,
    /// Queues that a list has left out, until `left_out` tells.
    left_out: BTreeMap<QueueName, String>,
    /// What was just submitted although not all was.
    taken: Vec<(usize, Submitted)>,
}

struct Held {
    queue: QueueName,
    tasks: BTreeMap<TaskId, HeldTask>,
}

struct HeldTask {
    tag: u64,
    mark: Mark,
    message: Message,
    /// Submits that were refused, and why: to ask for them again doubles none.
    refused: Option<(Vec<NewTask>, String)>,
}

struct Settled {
    claim: ClaimId,
    task: TaskId,
    at: Instant,
}

/// How long a message may take to come again after its connection was lost. Of one that never does, since
/// the broker had heard of its acknowledgement or another host got it, nothing is known for longer.
const COMES_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

impl Amqp {
    /// Connects to `amqp://USER:PASSWORD@HOST[:PORT][/VHOST]`.
    ///
    /// # Errors
    /// `Config` for an ill-formed address, `Unreachable` with the original's `Failed to connect to
    /// the AMQP server:`, `Refused` where the login or the virtual host is refused.
    pub fn open(uri: &Uri, options: &Options) -> Result<Amqp, TransportError> {
        let mut amqp = Amqp {
            address: Address::resolve(uri)?,
            link: None,
            may_own: options.owner.is_some(),
            ids: Ids::new(),
            held: BTreeMap::new(),
            since: ClaimId(0),
            kept: Vec::new(),
            settled: HashMap::new(),
            busy: HashMap::new(),
            entries: Entries::new(),
            entries_count: None,
            delays: HashMap::new(),
            declared: HashSet::new(),
            refusing: HashSet::new(),
            refused: None,
            left_out: BTreeMap::new(),
            taken: Vec::new(),
        };
        amqp.with_link(|_, _| Ok(()))?;
        Ok(amqp)
    }

    /// Runs a piece of work on the connection, a new one if the last broke. With a connection goes
    /// all that was held over it: the broker has put it back.
    fn with_link<T>(
        &mut self,
        work: impl FnOnce(&mut Amqp, &Link) -> Result<T, amqprs::error::Error>,
    ) -> Result<T, TransportError> {
        let link = match self.link.take() {
            Some(link) if link.is_open() => link,
            closed => {
                if let Some(reason) = closed.and_then(|link| link.reason()) {
                    failure::warn(&reason);
                }
                self.held.clear();
                self.settled.retain(|_, settled| settled.at.elapsed() < COMES_AGAIN);
                self.since = ClaimId(self.ids.next().0);
                self.kept.clear();
                self.busy.clear();
                self.entries.clear();
                self.entries_count = None;
                self.delays.clear();
                self.declared.clear();
                self.refusing.clear();
                Link::connect(&self.address)?
            }
        };
        match work(self, &link) {
            Ok(value) => {
                self.link = Some(link);
                Ok(value)
            }
            // Unless it is a queue or a message that is refused, nobody knows what the broker made of it: the link
            // goes, and what it held goes back.
            Err(error) => {
                let mut said = failure::say(&self.address, &error, link.reason());
                said.taken = std::mem::take(&mut self.taken);
                match self.refused.take() {
                    Some(kind) => {
                        said.kind = kind;
                        self.link = Some(link);
                    }
                    None => link.close(),
                }
                Err(said)
            }
        }
    }

    fn owner_or_refuse(&self) -> Result<(), TransportError> {
        if self.may_own {
            return Ok(());
        }
        Err(not_an_owner())
    }
}

impl Transport for Amqp {
    fn features(&self) -> Features {
        Features { delays: true, ..Features::default() }
    }

    fn submit(&mut self, tasks: &[NewTask]) -> Result<Vec<Submitted>, TransportError> {
        self.features().allow(&self.label(), tasks)?;
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        self.with_link(|amqp, link| amqp.add(link, tasks))
    }

    fn poll(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        self.with_link(|amqp, link| amqp.count_waiting(link, queue))
    }

    fn queues(&mut self) -> Result<Vec<QueueStatus>, TransportError> {
        self.with_link(|amqp, link| amqp.list_queues(link))
    }

    fn left_out(&mut self) -> BTreeMap<QueueName, String> {
        std::mem::take(&mut self.left_out)
    }

    fn peek(&mut self, queue: &QueueName, limit: u64) -> Result<Vec<WaitingTask>, TransportError> {
        self.with_link(|amqp, link| amqp.list_waiting(link, queue, limit))
    }

    fn purge(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        self.with_link(|amqp, link| amqp.delete_waiting(link, queue))
    }

    fn dead_letters(&mut self, query: &DeadQuery) -> Result<Vec<DeadLetter>, TransportError> {
        self.with_link(|amqp, link| amqp.list_dead(link, query))
    }

    fn revive(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        let letters: HashSet<&LetterId> = letters.iter().collect();
        self.with_link(|amqp, link| {
            amqp.settle_all_dead(link, true, |letter| letters.contains(&letter.letter))
        })
    }

    fn discard(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        let letters: HashSet<&LetterId> = letters.iter().collect();
        self.with_link(|amqp, link| {
            amqp.settle_all_dead(link, false, |letter| letters.contains(&letter.letter))
        })
    }

    fn forget_dead(&mut self, age: Duration) -> Result<u64, TransportError> {
        let than = Timestamp(Timestamp::now().0.saturating_sub(micros(age)));
        self.with_link(|amqp, link| amqp.delete_old_dead(link, than))
    }

    fn claim(&mut self, queue: &QueueName, want: &Want) -> Result<Option<Claim>, TransportError> {
        self.owner_or_refuse()?;
        if want.in_flight.is_some() {
            return Err(cannot(&self.label(), "limit how many tasks of a queue are in flight"));
        }
        self.with_link(|amqp, link| amqp.take(link, queue, want))
    }

    fn submits_first(&self) -> bool {
        true
    }

    fn finish(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        self.owner_or_refuse()?;
        self.features().allow_outcomes(&self.label(), finished)?;
        if finished.is_empty() {
            return Ok(Vec::new());
        }
        self.with_link(|amqp, link| amqp.record(link, finished))
    }

    /// The broker gives back by itself; this finds out whether it still is there, and whether it takes
    /// what it refused.
    fn rescue(&mut self) -> Result<u64, TransportError> {
        self.with_link(|amqp, link| {
            link.count(message::QUEUES)?;
            amqp.settle_kept(link)?;
            Ok(0)
        })
    }

    fn is_idle(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        self.with_link(|amqp, link| {
            // In this order: a host shows itself before it takes the first task.
            let waiting = amqp.count_waiting(link, queue)?;
            let (_, hosts) = link.count(&message::busy(queue))?;
            Ok(waiting == 0 && hosts == 0)
        })
    }

    fn next_due(&mut self, queue: &QueueName) -> Result<Option<Duration>, TransportError> {
        self.with_link(|amqp, link| amqp.time_to_next(link, queue))
    }

    fn watch(&self, wake: Sender<Wake>) -> Result<Option<Watch>, TransportError> {
        watch::start(&self.address, wake).map(Some)
    }

    fn close(&mut self) -> Result<(), TransportError> {
        if !self.held.is_empty() || !self.kept.is_empty() {
            self.with_link(|amqp, link| amqp.release_all(link))?;
        }
        self.may_own = false;
        if let Some(link) = self.link.take() {
            link.close();
        }
        Ok(())
    }

    /// The name of a queue that ends with the connection.
    fn identity(&mut self) -> Result<String, TransportError> {
        let name = format!("rex.mark.{}", random());
        self.with_link(|_, link| link.mark(&name))?;
        Ok(name)
    }

    fn is(&mut self, identity: &str) -> Result<bool, TransportError> {
        if !identity.starts_with("rex.mark.") {
            return Ok(false);
        }
        self.with_link(|_, link| link.is_marked(identity))
    }

    fn label(&self) -> String {
        format!("AmqpAsyncTransport({})", self.address.shown)
    }
}
