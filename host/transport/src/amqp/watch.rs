//! Word of new tasks: a connection of its own, made again whenever it breaks. For each queue that is
//! known it has a queue for itself at the same exchange, so that it gets a copy of what any producer
//! publishes there. That one holds a single message, and the next copy is taken a while after the
//! last. Names of new queues, and of queues with tasks beside them, come through an exchange of ours.

use std::collections::HashSet;
use std::time::Duration;

use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicQosArguments, Channel, ExchangeDeclareArguments,
    QueueBindArguments, QueueDeclareArguments,
};
use amqprs::connection::Connection;
use amqprs::error::Error;
use amqprs::{FieldTable, FieldValue};
use crossbeam_channel::Sender;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::link::{Address, ask, look, runtime};
use super::message::{self, QUEUES, WAKE, declaration};
use super::{alone, failure};
use crate::{Kind, QueueName, TransportError, Wake, Watch};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Between two words of one queue.
const BETWEEN: Duration = Duration::from_millis(100);

pub(super) fn start(address: &Address, wake: Sender<Wake>) -> Result<Watch, TransportError> {
    let runtime = runtime()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, is_ready) = crossbeam_channel::bounded(1);
    let address = address.clone();
    let failed = address.clone();
    let thread = std::thread::Builder::new()
        .name("queue-watch".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = watch(&address, &wake, &ready) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        })
        .map_err(|error| TransportError::new(Kind::Refused, error.to_string()))?;
    // The first subscription is awaited, so that whoever watches misses nothing from now on.
    match is_ready.recv() {
        Ok(Err(error)) => Err(failure::failed(&failed, &error)),
        _ => Ok(Watch::new(move || {
            let _told = stop.send(());
            let _joined = thread.join();
        })),
    }
}

/// Until nobody takes the names, or until dropped.
async fn watch(
    address: &Address,
    wake: &Sender<Wake>,
    ready: &crossbeam_channel::Sender<Result<(), Error>>,
) {
    let mut wait = FIRST_WAIT;
    let mut first = true;
    loop {
        match listen(address, wake, ready).await {
            Ok(()) => return,
            Err(error) if first => {
                if ready.try_send(Err(error)).is_ok() {
                    return;
                }
            }
            Err(_) => {}
        }
        first = false;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Passes names on until the connection breaks; `Ok` when nobody takes them.
async fn listen(
    address: &Address,
    wake: &Sender<Wake>,
    ready: &crossbeam_channel::Sender<Result<(), Error>>,
) -> Result<(), Error> {
    let connection = address.open("rex-host watch").await?;
    let channel = connection.open_channel(None).await?;
    let mut exchange = ExchangeDeclareArguments::new(WAKE, "fanout");
    channel.exchange_declare(exchange.durable(true).finish()).await?;
    let declared = channel.queue_declare(QueueDeclareArguments::exclusive_server_named()).await?;
    let (queue, ..) = declared.unwrap_or_default();
    channel.queue_bind(QueueBindArguments::new(&queue, WAKE, "")).await?;
    let mut consume = BasicConsumeArguments::new(&queue, "");
    let (_, mut names) = channel.basic_consume_rx(consume.auto_ack(true).finish()).await?;
    let mut followers = Followers::new(&connection, wake).await?;
    let looked = connection.open_channel(None).await?;
    looked.queue_declare(declaration(QUEUES)).await?;
    let turn = alone::begin(&connection, address, QUEUES, alone::A_MOMENT).await?;
    // Without a turn some names may be out of sight: their tasks are found by the polls.
    let entries = look(looked, QUEUES, u64::MAX).await?;
    if let Some(turn) = turn {
        alone::end(&connection, turn, QUEUES).await?;
    }
    for (_, body) in entries {
        if let Some((queue, _)) = message::read_entry(&body) {
            followers.follow(queue).await?;
        }
    }
    // What came before is told now.
    if ready.try_send(Ok(())).is_err() && wake.send(Wake::All).is_err() {
        return Ok(());
    }
    while let Some(message) = names.recv().await {
        let body = message.content.unwrap_or_default();
        let Some((queue, _)) = message::read_entry(&body) else { continue };
        followers.follow(queue.clone()).await?;
        if wake.send(Wake::Queue(queue)).is_err() {
            return Ok(());
        }
    }
    Err(Error::NetworkError("the connection is closed".to_owned()))
}

/// Who wait at the exchanges of queues; dropped with the connection's listener, and all they do with them.
struct Followers<'a> {
    connection: &'a Connection,
    wake: &'a Sender<Wake>,
    /// Over which all are given their copies: a broker allows so many channels (2047 unless set).
    channel: Channel,
    tasks: JoinSet<()>,
    followed: HashSet<QueueName>,
}

impl<'a> Followers<'a> {
    async fn new(
        connection: &'a Connection,
        wake: &'a Sender<Wake>,
    ) -> Result<Followers<'a>, Error> {
        let channel = connection.open_channel(None).await?;
        // For each of them.
        channel.basic_qos(BasicQosArguments::new(0, 1, false)).await?;
        let (tasks, followed) = (JoinSet::new(), HashSet::new());
        Ok(Followers { connection, wake, channel, tasks, followed })
    }

    /// Starts to send a queue's name whenever something is published to it, once. Where that is refused the
    /// poll finds the tasks.
    async fn follow(&mut self, queue: QueueName) -> Result<(), Error> {
        if self.followed.contains(&queue) {
            return Ok(());
        }
        let made = ask(self.connection, async |channel| copies_of(channel, &queue).await).await;
        self.followed.insert(queue.clone());
        let copies = match made {
            Ok(Ok(copies)) => copies,
            Err(error) if !self.connection.is_open() => return Err(error),
            _ => return Ok(()),
        };
        let mut consume = BasicConsumeArguments::new(&copies, &copies);
        let (_, mut given) = self.channel.basic_consume_rx(consume.finish()).await?;
        let (channel, wake) = (self.channel.clone(), self.wake.clone());
        self.tasks.spawn(async move {
            while let Some(message) = given.recv().await {
                let Some(deliver) = message.deliver else { continue };
                if wake.send(Wake::Queue(queue.clone())).is_err() {
                    return;
                }
                tokio::time::sleep(BETWEEN).await;
                let tag = BasicAckArguments::new(deliver.delivery_tag(), false);
                if channel.basic_ack(tag).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }
}

/// Makes a queue of this connection's that gets a copy of the last that was published to another one.
async fn copies_of(channel: &Channel, queue: &QueueName) -> Result<String, Error> {
    let name = queue.as_str();
    let mut exchange = ExchangeDeclareArguments::new(name, "direct");
    channel.exchange_declare(exchange.durable(true).finish()).await?;
    let mut single = FieldTable::new();
    if let (Ok(limit), Ok(overflow), Ok(drop_head)) =
        ("x-max-length".try_into(), "x-overflow".try_into(), "drop-head".try_into())
    {
        single.insert(limit, FieldValue::I(1));
        // A policy of the broker's might have it refuse what its producer's queue takes.
        single.insert(overflow, FieldValue::S(drop_head));
    }
    let mut copies = QueueDeclareArguments::exclusive_server_named();
    let declared = channel.queue_declare(copies.arguments(single).finish()).await?;
    let (copies, ..) = declared.unwrap_or_default();
    channel.queue_bind(QueueBindArguments::new(&copies, name, name)).await?;
    Ok(copies)
}
