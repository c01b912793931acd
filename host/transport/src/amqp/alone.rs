//! Reading a queue of ours as a whole. What somebody has got for a look others do not see, and would
//! take the queue for shorter than it is; so one reads at a time. Who reads has a queue that the
//! broker lets one connection have and removes with the connection.

use std::time::{Duration, Instant};

use amqprs::channel::{QueueDeclareArguments, QueueDeleteArguments};
use amqprs::connection::Connection;
use amqprs::error::Error;

use super::link::{Address, ask};

/// Who does not answer is cut off by the broker before that.
const TIMEOUT: Duration = Duration::from_secs(90);
const BETWEEN: Duration = Duration::from_millis(200);

fn reading(queue: &str) -> String {
    format!("rex.reading.{queue}")
}

/// Begins to read `queue`, if nobody else does.
pub(super) async fn try_begin(connection: &Connection, queue: &str) -> Result<bool, Error> {
    let mut reading = QueueDeclareArguments::new(&reading(queue));
    reading.exclusive(true);
    match ask(connection, async |channel| channel.queue_declare(reading).await).await? {
        Ok(_) => Ok(true),
        // In use by another.
        Err(reason) if reason.starts_with("(405)") => Ok(false),
        Err(reason) => Err(Error::ChannelUseError(reason)),
    }
}

/// Waits until nobody else reads `queue`. A try that is refused costs its connection a channel for
/// ever, so who waits does so on one of its own, which then is the one that reads.
pub(super) async fn begin(
    connection: &Connection,
    address: &Address,
    queue: &str,
) -> Result<Option<Connection>, Error> {
    if try_begin(connection, queue).await? {
        return Ok(None);
    }
    let begun = Instant::now();
    let own = address.open("rex-host reader").await?;
    while !try_begin(&own, queue).await? {
        if begun.elapsed() > TIMEOUT {
            return Err(Error::NetworkError(format!("somebody else does not end reading {queue}")));
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(Some(own))
}

/// Lets others read; `own` is what [`begin`] has given.
pub(super) async fn end(
    connection: &Connection,
    own: Option<Connection>,
    queue: &str,
) -> Result<(), Error> {
    if let Some(own) = own {
        return own.close().await;
    }
    let reading = QueueDeleteArguments::new(&reading(queue));
    let gone = ask(connection, async |channel| channel.queue_delete(reading).await).await?;
    gone.map(|_| ()).map_err(Error::ChannelUseError)
}
