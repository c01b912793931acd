//! Looks at messages: the protocol shows one only by giving it, so that it has to be put back.

use std::time::{Duration, Instant};

use amqprs::channel::{BasicAckArguments, BasicGetArguments, Channel};
use amqprs::error::Error;

use super::super::message;
use super::{Ear, Fate, Got, Link, Outgoing, Place, Seen, closed, within};
use crate::QueueName;

/// A look at a long queue takes a while.
const LOOK_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a queue may take to put back what was looked at.
const BACK_TIMEOUT: Duration = Duration::from_secs(15);
/// For how long a queue must be counted as empty that was not: a quorum queue that is slow to answer is
/// counted so.
const EMPTY: Duration = Duration::from_secs(1);
const BACK_BETWEEN: Duration = Duration::from_millis(10);

impl Link {
    /// Shows the first messages of a queue that is there: see [`look`].
    pub(in crate::amqp) fn look(&self, queue: &str, limit: u64) -> Result<Vec<Seen>, Error> {
        let (Some(runtime), open) = (&self.runtime, self.open()?) else { return Err(closed()) };
        let (_, consumers) = self.count(queue)?;
        let channel = runtime.block_on(open.connection.open_channel(None))?;
        runtime.block_on(channel.register_callback(Ear::plain(&self.reason)))?;
        let got = runtime.block_on(within(LOOK_TIMEOUT, get(&channel, queue, limit)))?;
        // Of many acknowledgements a quorum queue takes some only after the channel's end, which drops
        // them: their messages would be there twice.
        if let [only] = &got[..] {
            self.renew(&channel, queue, only)?;
        }
        runtime.block_on(within(LOOK_TIMEOUT, channel.close()))?;
        if !got.is_empty() {
            self.wait_for_all(queue, consumers)?;
        }
        Ok(got.into_iter().map(|got| (got.properties, got.body)).collect())
    }

    /// A quorum queue answers before it has put back what was looked at: waits until it has. Until then it
    /// counts each of these messages as a consumer; classic queues do not.
    fn wait_for_all(&self, queue: &str, consumers: u64) -> Result<(), Error> {
        let Ok(name) = QueueName::parse(queue) else { return Ok(()) };
        let begun = Instant::now();
        while begun.elapsed() < BACK_TIMEOUT {
            let (messages, now) = self.count(queue)?;
            if now <= consumers && (messages > 0 || begun.elapsed() > EMPTY) {
                break;
            }
            // What hosts hold counts as well, and they show themselves before they take.
            if self.count(&message::busy(&name))?.1 > 0 {
                break;
            }
            std::thread::sleep(BACK_BETWEEN);
        }
        Ok(())
    }

    /// Where the broker counts how often it has given a message, because it drops what it has given too
    /// often (quorum queues), one that was given before is replaced by its like: who looks at the oldest
    /// again and again costs no task.
    fn renew(&self, channel: &Channel, queue: &str, got: &Got) -> Result<(), Error> {
        let Some(properties) = message::uncounted(&got.properties) else { return Ok(()) };
        let place = Place::Queue(queue.to_owned());
        let mut fates = Vec::new();
        self.publish(&[Outgoing { place, properties, body: got.body.clone() }], &mut fates)?;
        match fates[..] {
            [Fate::Taken] => self.wait(channel.basic_ack(BasicAckArguments::new(got.tag, false))),
            _ => Ok(()),
        }
    }
}

/// Gets the first messages of a queue of ours that is there and puts them back by closing the channel they
/// came over: the broker does that in one step and, with classic queues, answers when it is done. What is put back by
/// `basic.nack` comes back one by one, and counts are answered in between.
pub(in crate::amqp) async fn look(
    channel: Channel,
    queue: &str,
    limit: u64,
) -> Result<Vec<Seen>, Error> {
    let got = get(&channel, queue, limit).await?;
    channel.close().await?;
    Ok(got.into_iter().map(|got| (got.properties, got.body)).collect())
}

/// The first messages of a queue that is there, not acknowledged.
async fn get(channel: &Channel, queue: &str, limit: u64) -> Result<Vec<Got>, Error> {
    let mut all = Vec::new();
    while (all.len() as u64) < limit {
        let got = channel.basic_get(BasicGetArguments::new(queue)).await?;
        let Some((got, properties, body)) = got else { break };
        all.push(Got { tag: got.delivery_tag(), properties, body });
    }
    Ok(all)
}
