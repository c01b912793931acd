//! Reading a queue of ours as a whole. What somebody has got for a look others do not see, and would
//! take the queue for shorter than it is; so one reads at a time. Who reads has a queue that the
//! broker lets one connection have and removes with the connection.

use std::time::{Duration, Instant};

use amqprs::channel::{QueueDeclareArguments, QueueDeleteArguments};
use amqprs::connection::Connection;
use amqprs::error::Error;

use super::link::{Address, ask};

/// Who does not answer is cut off by the broker before that.
pub(super) const TO_THE_END: Duration = Duration::from_secs(90);
/// For those who can do without: a reader that is stopped may not hold up producers, nor hosts that start.
pub(super) const A_MOMENT: Duration = Duration::from_secs(2);
const BETWEEN: Duration = Duration::from_millis(200);

fn reading(queue: &str) -> String {
    format!("rex.reading.{queue}")
}

/// The right to read a queue, until [`end`].
pub(super) struct Turn {
    /// What was opened to wait.
    own: Option<Connection>,
}

async fn try_begin(connection: &Connection, queue: &str) -> Result<bool, Error> {
    let mut reading = QueueDeclareArguments::new(&reading(queue));
    reading.exclusive(true);
    match ask(connection, async |channel| channel.queue_declare(reading).await).await? {
        Ok(_) => Ok(true),
        // In use by another.
        Err(reason) if reason.starts_with("(405)") => Ok(false),
        Err(reason) => Err(Error::ChannelUseError(reason)),
    }
}

/// Waits until nobody else reads `queue`, but not longer than `patience`: then `None`. A try that is
/// refused costs its connection a channel for ever, so who waits does so on one of its own, which
/// then is the one that reads.
pub(super) async fn begin(
    connection: &Connection,
    address: &Address,
    queue: &str,
    patience: Duration,
) -> Result<Option<Turn>, Error> {
    if try_begin(connection, queue).await? {
        return Ok(Some(Turn { own: None }));
    }
    if patience.is_zero() {
        return Ok(None);
    }
    let begun = Instant::now();
    let own = address.open("rex-host reader").await?;
    while !try_begin(&own, queue).await? {
        if begun.elapsed() > patience {
            own.close().await?;
            return Ok(None);
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(Some(Turn { own: Some(own) }))
}

/// Lets others read.
pub(super) async fn end(connection: &Connection, turn: Turn, queue: &str) -> Result<(), Error> {
    if let Some(own) = turn.own {
        return own.close().await;
    }
    let reading = QueueDeleteArguments::new(&reading(queue));
    let gone = ask(connection, async |channel| channel.queue_delete(reading).await).await?;
    gone.map(|_| ()).map_err(Error::ChannelUseError)
}
