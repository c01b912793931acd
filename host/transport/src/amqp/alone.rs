//! Reading a queue of ours as a whole. What somebody has got for a look others do not see, and would
//! take the queue for shorter than it is; so one reads at a time. Who reads has a queue that the
//! broker lets one connection have and removes with the connection.

use std::time::{Duration, Instant};

use amqprs::channel::{QueueDeclareArguments, QueueDeleteArguments};
use amqprs::connection::Connection;
use amqprs::error::Error;

use super::link::ask;

/// Who does not answer is cut off by the broker before that.
const TIMEOUT: Duration = Duration::from_secs(90);
const BETWEEN: Duration = Duration::from_millis(10);

fn reading(queue: &str) -> String {
    format!("rex.reading.{queue}")
}

/// Waits until nobody else reads `queue`.
pub(super) async fn begin(connection: &Connection, queue: &str) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        let mut reading = QueueDeclareArguments::new(&reading(queue));
        reading.exclusive(true);
        let made = ask(connection, async |channel| channel.queue_declare(reading).await).await?;
        match made {
            Ok(_) => return Ok(()),
            // In use by another.
            Err(reason) if reason.starts_with("(405)") => {}
            Err(reason) => return Err(Error::ChannelUseError(reason)),
        }
        if begun.elapsed() > TIMEOUT {
            return Err(Error::NetworkError(format!("somebody else does not end reading {queue}")));
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

pub(super) async fn end(connection: &Connection, queue: &str) -> Result<(), Error> {
    let reading = QueueDeleteArguments::new(&reading(queue));
    let gone = ask(connection, async |channel| channel.queue_delete(reading).await).await?;
    gone.map(|_| ()).map_err(Error::ChannelUseError)
}
