//! The connection: where it goes, its channels, and calls that wait for their answer.
//!
//! `plain` declares and counts. What `sure` publishes the broker confirms message by message. `work`
//! gets and acknowledges, in transaction mode, so that the broker answers when it has done so. Nothing
//! is published there: of a transaction the broker carries out what it can, acknowledgements too,
//! although a queue refuses a message of it.
//! The driver is asynchronous; its runtime lives inside and nobody outside sees it.

mod look;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{
    BasicAckArguments, BasicCancelArguments, BasicConsumeArguments, BasicGetArguments,
    BasicNackArguments, BasicPublishArguments, BasicQosArguments, Channel, ConfirmSelectArguments,
    ExchangeDeclareArguments, QueueBindArguments, QueueDeclareArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::error::Error;
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, Nack, Return};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

pub(super) use self::look::look;
use super::message::{QUEUES, WAKE, declaration};
use super::{alone, failure};
use crate::{Kind, QueueName, TransportError, Uri};

/// A broker that says nothing for so long is gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Messages that one consumption takes at most; the broker sends 200 before it waits for the reader.
const PREFETCH: u64 = 200;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// A confirm that takes so long is said.
const LONG: Duration = Duration::from_secs(5);
/// A message of so many bytes is published alone: a broker that does not take its size closes the
/// channel and does not say which one it was.
const LARGE: usize = 1 << 16;

/// Where the broker is; holds the password, so it has no `Debug`.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    user: String,
    password: String,
    vhost: String,
    /// The URI without password.
    pub(super) shown: String,
    /// Whether it was said that the broker takes nothing.
    stalled: Arc<AtomicBool>,
}

impl Address {
    pub(super) fn resolve(uri: &Uri) -> Result<Address, TransportError> {
        let parts = uri.network()?;
        if let Some((name, _)) = parts.query.first() {
            return Err(uri.bad(format!("unknown option {name}")));
        }
        let address = Address {
            host: parts.host.unwrap_or_else(|| "localhost".to_owned()),
            port: parts.port.unwrap_or(5672),
            user: parts.user.unwrap_or_else(|| "guest".to_owned()),
            password: parts.password.unwrap_or_else(|| "guest".to_owned()),
            vhost: parts.database.unwrap_or_else(|| "/".to_owned()),
            shown: uri.to_string(),
            stalled: Arc::default(),
        };
        // The protocol's short strings.
        if [&address.user, &address.vhost].iter().any(|text| text.len() > 255) {
            return Err(uri.bad("user or virtual host is longer than 255 bytes"));
        }
        Ok(address)
    }

    pub(super) async fn open(&self, name: &str) -> Result<Connection, Error> {
        let mut arguments =
            OpenConnectionArguments::new(&self.host, self.port, &self.user, &self.password);
        arguments.virtual_host(&self.vhost).connection_name(name).heartbeat(30);
        within(CONNECT_TIMEOUT, Connection::open(&arguments)).await
    }
}

/// An open connection.
pub(super) struct Link {
    /// This and the next are `None` only while it is closed.
    runtime: Option<Runtime>,
    open: Option<Open>,
    reason: Reason,
    address: Address,
}

struct Open {
    connection: Connection,
    plain: Channel,
    work: Channel,
    sure: Mutex<Sure>,
}

/// The channel of which each message is confirmed.
struct Sure {
    channel: Channel,
    verdicts: UnboundedReceiver<Verdict>,
    /// How many messages went over it.
    count: u64,
}

impl Sure {
    async fn open(connection: &Connection, reason: &Reason) -> Result<Sure, Error> {
        let (sender, verdicts) = mpsc::unbounded_channel();
        let channel = connection.open_channel(None).await?;
        channel.register_callback(Ear { reason: reason.clone(), verdicts: sender }).await?;
        channel.confirm_select(ConfirmSelectArguments::default()).await?;
        Ok(Sure { channel, verdicts, count: 0 })
    }
}

/// What the broker says of messages that were published over [`Sure`], by their number.
#[derive(Debug)]
enum Verdict {
    Taken {
        last: u64,
        all: bool,
    },
    Refused {
        last: u64,
        all: bool,
    },
    /// There was no queue for the message of that id. It is taken all the same.
    Returned(String),
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The exchange of that name, as the original's client does.
    Tasks(QueueName),
    /// Through the exchange that leads to every queue by its name.
    Queue(String),
}

impl Open {
    fn sure(&self) -> MutexGuard<'_, Sure> {
        self.sure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn arguments(&self) -> BasicPublishArguments {
        let mut to = match self {
            Place::Tasks(queue) => BasicPublishArguments::new(queue.as_str(), queue.as_str()),
            Place::Queue(name) => BasicPublishArguments::new("", name),
        };
        to.mandatory(true);
        to
    }
}

/// A message to be published. Its id is known by no other of the same call.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) place: Place,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Unknown,
    /// The broker has it on disk.
    Taken,
    /// No queue was there for it.
    Unrouted,
    /// What the broker, or a queue, says against it.
    Refused(String),
}

/// A message that is still in its queue: properties and body.
pub(super) type Seen = (BasicProperties, Vec<u8>);

/// A message that was got and not acknowledged.
pub(super) struct Got {
    pub(super) tag: u64,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// What the broker said when it closed a channel.
#[derive(Clone, Default)]
struct Reason(Arc<Mutex<Option<String>>>);

impl Reason {
    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

/// Hears what the broker says on its own account.
#[derive(Clone)]
struct Ear {
    reason: Reason,
    verdicts: UnboundedSender<Verdict>,
}

impl Ear {
    /// For a channel that publishes nothing that is confirmed.
    fn plain(reason: &Reason) -> Ear {
        Ear { reason: reason.clone(), verdicts: mpsc::unbounded_channel().0 }
    }

    fn say(&self, verdict: Verdict) {
        // Nobody waits for it where nothing is confirmed.
        let _heard = self.verdicts.send(verdict);
    }
}

impl Link {
    pub(super) fn connect(address: &Address) -> Result<Link, TransportError> {
        let runtime = runtime()?;
        let reason = Reason::default();
        let opened = runtime.block_on(async {
            let connection = address.open("rex-host").await?;
            let plain = connection.open_channel(None).await?;
            plain.register_callback(Ear::plain(&reason)).await?;
            let work = connection.open_channel(None).await?;
            work.register_callback(Ear::plain(&reason)).await?;
            let sure = within(ANSWER_TIMEOUT, async {
                work.tx_select().await?;
                let sure = Sure::open(&connection, &reason).await?;
                let mut wake = ExchangeDeclareArguments::new(WAKE, "fanout");
                plain.exchange_declare(wake.durable(true).finish()).await?;
                plain.queue_declare(declaration(QUEUES)).await?;
                Ok(Mutex::new(sure))
            })
            .await?;
            Ok(Open { connection, plain, work, sure })
        });
        match opened {
            Ok(open) => {
                let (runtime, open) = (Some(runtime), Some(open));
                Ok(Link { runtime, open, reason, address: address.clone() })
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(match reason.take() {
                    Some(reason) => failure::say(address, &error, Some(reason)),
                    None => failure::failed(address, &error),
                })
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let channels = [&open.plain, &open.work, &open.sure().channel];
            open.connection.is_open() && channels.iter().all(|channel| channel.is_open())
        })
    }

    fn open(&self) -> Result<&Open, Error> {
        self.open.as_ref().ok_or_else(closed)
    }

    pub(super) fn plain(&self) -> Result<&Channel, Error> {
        Ok(&self.open()?.plain)
    }

    pub(super) fn work(&self) -> Result<&Channel, Error> {
        Ok(&self.open()?.work)
    }

    pub(super) fn reason(&self) -> Option<String> {
        self.reason.take()
    }

    /// Waits for an answer of the broker.
    pub(super) fn wait<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(within(ANSWER_TIMEOUT, call)),
            None => Err(closed()),
        }
    }

    /// Makes a queue of ours if it is missing, and tells how many messages and consumers it has.
    pub(super) fn count(&self, name: &str) -> Result<(u64, u64), Error> {
        let declared = self.plain()?.queue_declare(declaration(name));
        let (_, messages, consumers) = self.wait(declared)?.unwrap_or_default();
        Ok((u64::from(messages), u64::from(consumers)))
    }

    /// Makes a queue as the original's client does, and tells how many messages wait in it; or what
    /// the broker says against it. A refusal costs its connection a channel for ever, so what was
    /// `refused_before` is asked over one of its own.
    pub(super) fn declare(
        &self,
        queue: &QueueName,
        refused_before: bool,
    ) -> Result<Result<u64, String>, Error> {
        let name = queue.as_str();
        let declare = async |channel: &Channel| {
            let mut exchange = ExchangeDeclareArguments::new(name, "direct");
            channel.exchange_declare(exchange.durable(true).finish()).await?;
            let (_, messages, _) =
                channel.queue_declare(declaration(name)).await?.unwrap_or_default();
            channel.queue_bind(QueueBindArguments::new(name, name, name)).await?;
            Ok(u64::from(messages))
        };
        if !refused_before {
            return self.wait(ask(&self.open()?.connection, declare));
        }
        self.wait(async {
            let own = self.address.open("rex-host question").await?;
            let answer = ask(&own, declare).await;
            own.close().await?;
            answer
        })
    }

    /// Makes a queue that nobody else can use and that ends with this connection.
    pub(super) fn mark(&self, name: &str) -> Result<(), Error> {
        let mut queue = QueueDeclareArguments::new(name);
        self.wait(self.plain()?.queue_declare(queue.exclusive(true).finish())).map(|_| ())
    }

    /// Whether any connection has made that queue.
    pub(super) fn is_marked(&self, name: &str) -> Result<bool, Error> {
        let mut queue = QueueDeclareArguments::new(name);
        queue.passive(true);
        let looked = self.wait(ask(&self.open()?.connection, async |channel| {
            channel.queue_declare(queue).await
        }))?;
        // Not found, or in use by another.
        Ok(looked.map_or_else(|reason| !reason.starts_with("(404)"), |_| true))
    }

    /// Has a queue of ours to itself among those who read it as a whole, see `alone.rs`.
    pub(super) fn alone<T>(
        &self,
        queue: &str,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.alone_within(queue, alone::TO_THE_END, work)?.ok_or_else(|| {
            Error::NetworkError(format!("somebody else does not end reading {queue}"))
        })
    }

    /// As [`Link::alone`], but does nothing if somebody else reads for longer than `patience`.
    pub(super) fn alone_within<T>(
        &self,
        queue: &str,
        patience: Duration,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let Some(runtime) = &self.runtime else { return Err(closed()) };
        let connection = &self.open()?.connection;
        let begin = alone::begin(connection, &self.address, queue, patience);
        let begun = match patience.is_zero() {
            true => self.wait(begin)?,
            false => runtime.block_on(begin)?,
        };
        let Some(turn) = begun else { return Ok(None) };
        let done = work();
        let ended = self.wait(alone::end(connection, turn, queue));
        let done = done?;
        ended?;
        Ok(Some(done))
    }

    /// Gets the first message of a queue, not acknowledged.
    pub(super) fn get(&self, queue: &str) -> Result<Option<Got>, Error> {
        let got = self.wait(self.work()?.basic_get(BasicGetArguments::new(queue)))?;
        Ok(got.map(|(got, properties, body)| Got { tag: got.delivery_tag(), properties, body }))
    }

    /// Gets the first messages of a queue, not acknowledged: up to `max`, and until they have `bytes`.
    /// The running transaction must be empty.
    pub(super) fn fetch(&self, queue: &str, max: u64, bytes: usize) -> Result<Vec<Got>, Error> {
        let (mut all, mut size, mut largest): (Vec<Got>, usize, usize) = (Vec::new(), 0, 0);
        let mut one_by_one = true;
        while (all.len() as u64) < max && size < bytes {
            let room = (bytes - size) / largest.max(1);
            let most = PREFETCH.min(max - all.len() as u64).min(room as u64);
            let got = if one_by_one || most < 2 {
                Vec::from_iter(self.get(queue)?)
            } else {
                self.prefetch(queue, u16::try_from(most).unwrap_or(u16::MAX))?
            };
            if got.is_empty() && (one_by_one || most < 2) {
                break;
            }
            one_by_one = got.is_empty();
            for got in got {
                // Some may be larger than all before them.
                if size >= bytes {
                    self.put_back(&[got.tag])?;
                    self.commit()?;
                    continue;
                }
                size += got.body.len();
                largest = largest.max(got.body.len());
                all.push(got);
            }
        }
        Ok(all)
    }

    /// Consumes for a moment: takes what the broker gives at once, at most `most`.
    fn prefetch(&self, queue: &str, most: u16) -> Result<Vec<Got>, Error> {
        let work = self.work()?;
        self.wait(async {
            work.basic_qos(BasicQosArguments::new(0, most, false)).await?;
            let consume = BasicConsumeArguments::new(queue, "");
            let (consumer, mut given) = work.basic_consume_rx(consume).await?;
            // Before it answers, the broker gives what it can.
            work.basic_cancel(BasicCancelArguments::new(&consumer)).await?;
            let mut all = Vec::new();
            while let Some(message) = given.recv().await {
                let Some(deliver) = message.deliver else { continue };
                all.push(Got {
                    tag: deliver.delivery_tag(),
                    properties: message.basic_properties.unwrap_or_default(),
                    body: message.content.unwrap_or_default(),
                });
            }
            Ok(all)
        })
    }

    /// Adds acknowledgements to the running transaction.
    pub(super) fn acknowledge(&self, tags: &[u64]) -> Result<(), Error> {
        let work = self.work()?;
        self.wait(async {
            for tag in tags {
                work.basic_ack(BasicAckArguments::new(*tag, false)).await?;
            }
            Ok(())
        })
    }

    /// Adds to the running transaction that messages go back to their old places.
    pub(super) fn put_back(&self, tags: &[u64]) -> Result<(), Error> {
        let work = self.work()?;
        self.wait(async {
            for tag in tags {
                work.basic_nack(BasicNackArguments::new(*tag, false, true)).await?;
            }
            Ok(())
        })
    }

    /// Publishes messages and waits until the broker has each on disk or refuses it; `fates` says what
    /// became of them, as far as it is known after an error.
    pub(super) fn publish(
        &self,
        messages: &[Outgoing],
        fates: &mut Vec<Fate>,
    ) -> Result<(), Error> {
        fates.clear();
        fates.resize(messages.len(), Fate::Unknown);
        let (Some(runtime), open) = (&self.runtime, self.open()?) else { return Err(closed()) };
        let mut sure = open.sure();
        let mut begin = 0;
        while begin < messages.len() {
            let rest = &messages[begin..];
            let small = rest.iter().take_while(|message| message.body.len() < LARGE).count();
            let some = &rest[..small.max(1)];
            let fates = &mut fates[begin..begin + some.len()];
            match runtime.block_on(self.publish_some(&mut sure, some, fates)) {
                Ok(()) => {}
                Err(error) => match (fates, self.reason.take()) {
                    ([only], Some(reason))
                        if open.connection.is_open() && !sure.channel.is_open() =>
                    {
                        *only = match reason.starts_with("(404)") {
                            true => Fate::Unrouted,
                            false => Fate::Refused(reason),
                        };
                        *sure = self.wait(Sure::open(&open.connection, &self.reason))?;
                    }
                    (_, reason) => {
                        if let Some(reason) = reason {
                            self.reason.set(reason);
                        }
                        return Err(error);
                    }
                },
            }
            begin += some.len();
        }
        Ok(())
    }

    async fn publish_some(
        &self,
        sure: &mut Sure,
        messages: &[Outgoing],
        fates: &mut [Fate],
    ) -> Result<(), Error> {
        let first = sure.count + 1;
        sure.count += messages.len() as u64;
        for Outgoing { place, properties, body } in messages {
            let published =
                sure.channel.basic_publish(properties.clone(), body.clone(), place.arguments());
            within(ANSWER_TIMEOUT, published).await?;
        }
        let mut open = messages.len();
        while open > 0 {
            let (from, to, fate) = match self.verdict(&mut sure.verdicts).await? {
                Verdict::Taken { last, all } => (if all { first } else { last }, last, Fate::Taken),
                Verdict::Refused { last, all } => {
                    let text = "a queue does not take the message (basic.nack)";
                    (if all { first } else { last }, last, Fate::Refused(text.to_owned()))
                }
                Verdict::Returned(id) => {
                    let is_it = |message: &Outgoing| message.properties.message_id() == Some(&id);
                    let Some(at) = messages.iter().position(is_it) else { continue };
                    let number = first + at as u64;
                    (number, number, Fate::Unrouted)
                }
            };
            // A message that came back is confirmed as well, perhaps after all others.
            for number in from.max(first)..=to {
                let at = usize::try_from(number - first).unwrap_or(usize::MAX);
                if let Some(unknown) = fates.get_mut(at).filter(|fate| **fate == Fate::Unknown) {
                    *unknown = fate.clone();
                    open -= 1;
                }
            }
        }
        Ok(())
    }

    /// The broker's next word; that it is silent for long is said.
    async fn verdict(&self, from: &mut UnboundedReceiver<Verdict>) -> Result<Verdict, Error> {
        let stalled = &self.address.stalled;
        let heard = match tokio::time::timeout(LONG, from.recv()).await {
            Ok(heard) => heard,
            Err(_) => {
                if !stalled.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "The AMQP server has confirmed nothing for {} s: it may be short of disk or \
                         memory, and take nothing until it has enough",
                        LONG.as_secs()
                    );
                }
                let rest = tokio::time::timeout(ANSWER_TIMEOUT - LONG, from.recv()).await;
                rest.map_err(|_| silent(ANSWER_TIMEOUT))?
            }
        };
        let verdict = heard.ok_or_else(closed)?;
        if stalled.swap(false, Ordering::Relaxed) {
            tracing::info!("The AMQP server confirms again");
        }
        Ok(verdict)
    }

    /// Spreads the word of a new queue, or of tasks beside their queue: a hint, which nobody confirms.
    pub(super) fn tell(&self, queue: &QueueName) -> Result<(), Error> {
        let body = queue.as_str().as_bytes().to_vec();
        let everywhere = BasicPublishArguments::new(WAKE, "");
        self.wait(self.plain()?.basic_publish(BasicProperties::default(), body, everywhere))
    }

    /// An error that is not the driver's.
    pub(super) fn refused(&self, text: &str) -> Error {
        self.reason.set(text.to_owned());
        Error::ChannelUseError(text.to_owned())
    }

    pub(super) fn commit(&self) -> Result<(), Error> {
        self.wait(self.work()?.tx_commit())
    }

    /// Starts to consume a queue in which nothing ever is.
    pub(super) fn show_busy(&self, queue: &str) -> Result<String, Error> {
        self.count(queue)?;
        let consume = self.plain()?.basic_consume_rx(BasicConsumeArguments::new(queue, ""));
        Ok(self.wait(consume)?.0)
    }

    pub(super) fn show_free(&self, consumer: &str) -> Result<(), Error> {
        self.wait(self.plain()?.basic_cancel(BasicCancelArguments::new(consumer))).map(|_| ())
    }

    /// Ends the connection in good order if the broker answers soon.
    pub(super) fn close(self) {
        if let (Some(runtime), Some(open)) = (&self.runtime, &self.open) {
            let closing = within(Duration::from_secs(2), open.connection.clone().close());
            // That it is gone already is no trouble.
            let _closed = runtime.block_on(closing);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The driver's values say goodbye by tasks of the runtime.
            let inside = runtime.enter();
            self.open = None;
            drop(inside);
            runtime.shutdown_background();
        }
    }
}

/// Asks over a channel of its own, which a refusal ends: the answer, or what the broker says against
/// it.
pub(super) async fn ask<T>(
    connection: &Connection,
    call: impl AsyncFnOnce(&Channel) -> Result<T, Error>,
) -> Result<Result<T, String>, Error> {
    let reason = Reason::default();
    let channel = connection.open_channel(None).await?;
    channel.register_callback(Ear::plain(&reason)).await?;
    match (call(&channel).await, reason.take()) {
        (Err(_), Some(reason)) => Ok(Err(reason)),
        (answer, _) => {
            let answer = answer?;
            channel.close().await?;
            Ok(Ok(answer))
        }
    }
}

fn closed() -> Error {
    Error::ConnectionUseError("the link is closed".to_owned())
}

pub(super) fn runtime() -> Result<Runtime, TransportError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("amqp")
        .enable_all()
        .build()
        .map_err(|error| TransportError::new(Kind::Refused, error.to_string()))
}

pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(silent(limit)),
    }
}

fn silent(limit: Duration) -> Error {
    Error::NetworkError(format!("no answer within {} s", limit.as_secs()))
}

#[async_trait::async_trait]
impl ChannelCallback for Ear {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), Error> {
        self.reason.set(format!("({}) {}", close.reply_code(), close.reply_text()));
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), Error> {
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.say(Verdict::Taken { last: ack.delivery_tag(), all: ack.mutiple() });
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        self.say(Verdict::Refused { last: nack.delivery_tag(), all: nack.multiple() });
    }

    async fn publish_return(
        &mut self,
        _: &Channel,
        _: Return,
        properties: BasicProperties,
        _: Vec<u8>,
    ) {
        if let Some(id) = properties.message_id() {
            self.say(Verdict::Returned(id.clone()));
        }
    }
}
