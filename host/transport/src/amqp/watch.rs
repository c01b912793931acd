//! Word of new tasks: a connection of its own, made again whenever it breaks, with a queue that our
//! producers' exchange fills with names. Old producers do not use it; the host's poll finds their
//! tasks.

use std::time::Duration;

use amqprs::channel::{
    BasicConsumeArguments, ExchangeDeclareArguments, QueueBindArguments, QueueDeclareArguments,
};
use amqprs::error::Error;
use crossbeam_channel::Sender;
use tokio::sync::oneshot;

use super::failure;
use super::link::{Address, runtime};
use super::message::WAKE;
use crate::{Kind, QueueName, TransportError, Watch};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

pub(super) fn start(address: &Address, wake: Sender<QueueName>) -> Result<Watch, TransportError> {
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
    wake: &Sender<QueueName>,
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
    wake: &Sender<QueueName>,
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
    let _first_only = ready.try_send(Ok(()));
    while let Some(message) = names.recv().await {
        let name = String::from_utf8(message.content.unwrap_or_default()).ok();
        if let Some(queue) = name.and_then(|name| QueueName::parse(&name).ok())
            && wake.send(queue).is_err()
        {
            return Ok(());
        }
    }
    Err(Error::NetworkError("the connection is closed".to_owned()))
}
