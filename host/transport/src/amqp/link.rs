//! The connection: where it goes, its channels, and calls that wait for their answer.
//!
//! `plain` declares and counts; `work` is in transaction mode and does all that must not be lost;
//! what `sure` publishes the broker confirms message by message.
//! The driver is asynchronous; its runtime lives inside and nobody outside sees it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
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

use super::message::{QUEUES, WAKE};
use super::{alone, failure};
use crate::{Kind, QueueName, TransportError, Uri};

/// A broker that says nothing for so long is gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A look at a long queue takes a while.
const LOOK_TIMEOUT: Duration = Duration::from_secs(600);
/// Messages that one consumption takes at most; the broker sends 200 before it waits for the reader.
const PREFETCH: u64 = 200;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

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
    ear: Ear,
    address: Address,
}

struct Open {
    connection: Connection,
    plain: Channel,
    work: Channel,
    sure: Channel,
    verdicts: Mutex<UnboundedReceiver<Verdict>>,
}

/// What the broker says of a message that was published over `sure`.
#[derive(Debug, PartialEq)]
enum Verdict {
    Taken,
    Refused,
    /// There was no queue for it. It is taken, or refused, all the same.
    Returned,
    Closed,
}

/// Where a message goes.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// The exchange of that name, as the original's client does.
    Tasks(&'a QueueName),
    /// Through the exchange that leads to every queue by its name.
    Queue(&'a str),
    Wake,
}

impl Place<'_> {
    fn arguments(self) -> BasicPublishArguments {
        match self {
            Place::Tasks(queue) => BasicPublishArguments::new(queue.as_str(), queue.as_str()),
            Place::Queue(name) => BasicPublishArguments::new("", name),
            Place::Wake => BasicPublishArguments::new(WAKE, ""),
        }
    }
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
    fn say(&self, verdict: Verdict) {
        // Nobody waits for one on another channel than `sure`.
        let _heard = self.verdicts.send(verdict);
    }
}

impl Link {
    pub(super) fn connect(address: &Address) -> Result<Link, TransportError> {
        let runtime = runtime()?;
        let (verdicts, given) = mpsc::unbounded_channel();
        let ear = Ear { reason: Reason::default(), verdicts };
        let opened = runtime.block_on(async {
            let connection = address.open("rex-host").await?;
            let plain = connection.open_channel(None).await?;
            plain.register_callback(ear.clone()).await?;
            let work = connection.open_channel(None).await?;
            work.register_callback(ear.clone()).await?;
            let sure = connection.open_channel(None).await?;
            sure.register_callback(ear.clone()).await?;
            within(ANSWER_TIMEOUT, async {
                work.tx_select().await?;
                sure.confirm_select(ConfirmSelectArguments::default()).await?;
                let mut wake = ExchangeDeclareArguments::new(WAKE, "fanout");
                plain.exchange_declare(wake.durable(true).finish()).await?;
                plain.queue_declare(QueueDeclareArguments::durable_client_named(QUEUES)).await
            })
            .await?;
            let verdicts = Mutex::new(given);
            Ok(Open { connection, plain, work, sure, verdicts })
        });
        match opened {
            Ok(open) => {
                let (runtime, open) = (Some(runtime), Some(open));
                Ok(Link { runtime, open, ear, address: address.clone() })
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(match ear.reason.take() {
                    Some(reason) => failure::say(address, &error, Some(reason)),
                    None => failure::failed(address, &error),
                })
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let channels = [&open.plain, &open.work, &open.sure];
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
        self.ear.reason.take()
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
        let declared =
            self.plain()?.queue_declare(QueueDeclareArguments::durable_client_named(name));
        let (_, messages, consumers) = self.wait(declared)?.unwrap_or_default();
        Ok((u64::from(messages), u64::from(consumers)))
    }

    /// Makes a queue as the original's client does, and tells how many messages wait in it; or what
    /// the broker says against it.
    pub(super) fn declare(&self, queue: &QueueName) -> Result<Result<u64, String>, Error> {
        let name = queue.as_str();
        self.wait(ask(&self.open()?.connection, async |channel| {
            let mut exchange = ExchangeDeclareArguments::new(name, "direct");
            channel.exchange_declare(exchange.durable(true).finish()).await?;
            let arguments = QueueDeclareArguments::durable_client_named(name);
            let (_, messages, _) = channel.queue_declare(arguments).await?.unwrap_or_default();
            channel.queue_bind(QueueBindArguments::new(name, name, name)).await?;
            Ok(u64::from(messages))
        }))
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

    /// Adds a message to the running transaction.
    pub(super) fn publish(
        &self,
        place: Place<'_>,
        properties: BasicProperties,
        body: Vec<u8>,
    ) -> Result<(), Error> {
        self.wait(self.work()?.basic_publish(properties, body, place.arguments()))
    }

    /// Publishes one task and waits until the broker has it on disk; `false`: there is no queue for it.
    pub(super) fn publish_surely(
        &self,
        queue: &QueueName,
        properties: BasicProperties,
        body: Vec<u8>,
    ) -> Result<bool, Error> {
        let Open { sure, verdicts, .. } = self.open()?;
        let mut to = Place::Tasks(queue).arguments();
        to.mandatory(true);
        let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        self.wait(async {
            sure.basic_publish(properties, body, to).await?;
            let mut routed = true;
            loop {
                match verdicts.recv().await {
                    Some(Verdict::Taken) => return Ok(routed),
                    Some(Verdict::Returned) => routed = false,
                    Some(Verdict::Refused) => {
                        return Err(self.refused("it does not take the task (basic.nack)"));
                    }
                    Some(Verdict::Closed) | None => return Err(closed()),
                }
            }
        })
    }

    /// An error that is not the driver's.
    pub(super) fn refused(&self, text: &str) -> Error {
        self.ear.reason.set(text.to_owned());
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

    /// Shows the first messages of a queue that is there: gets them over a channel of its own and
    /// puts them back.
    pub(super) fn look(&self, queue: &str, limit: u64) -> Result<Vec<Seen>, Error> {
        let (Some(runtime), open) = (&self.runtime, self.open()?) else { return Err(closed()) };
        let channel = runtime.block_on(open.connection.open_channel(None))?;
        runtime.block_on(channel.register_callback(self.ear.clone()))?;
        runtime.block_on(within(LOOK_TIMEOUT, async {
            let seen = look(&channel, queue, limit).await?;
            channel.close().await?;
            Ok(seen)
        }))
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
    let ear = Ear { reason: Reason::default(), verdicts: mpsc::unbounded_channel().0 };
    let channel = connection.open_channel(None).await?;
    channel.register_callback(ear.clone()).await?;
    match (call(&channel).await, ear.reason.take()) {
        (Err(_), Some(reason)) => Ok(Err(reason)),
        (answer, _) => {
            let answer = answer?;
            channel.close().await?;
            Ok(Ok(answer))
        }
    }
}

/// Gets the first messages of a queue that is there and puts them back.
pub(super) async fn look(channel: &Channel, queue: &str, limit: u64) -> Result<Vec<Seen>, Error> {
    let (mut seen, mut last) = (Vec::new(), None);
    while (seen.len() as u64) < limit {
        let got = channel.basic_get(BasicGetArguments::new(queue)).await?;
        let Some((got, properties, body)) = got else { break };
        last = Some(got.delivery_tag());
        seen.push((properties, body));
    }
    if let Some(last) = last {
        channel.basic_nack(BasicNackArguments::new(last, true, true)).await?;
    }
    // An answer from the queue itself: by now all is back in its place.
    channel.queue_declare(QueueDeclareArguments::durable_client_named(queue)).await?;
    Ok(seen)
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
        Err(_) => Err(Error::NetworkError(format!("no answer within {} s", limit.as_secs()))),
    }
}

#[async_trait::async_trait]
impl ChannelCallback for Ear {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), Error> {
        self.reason.set(format!("({}) {}", close.reply_code(), close.reply_text()));
        self.say(Verdict::Closed);
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), Error> {
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, _: Ack) {
        self.say(Verdict::Taken);
    }

    async fn publish_nack(&mut self, _: &Channel, _: Nack) {
        self.say(Verdict::Refused);
    }

    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {
        self.say(Verdict::Returned);
    }
}
