//! Word of new tasks: a connection of its own that subscribes, made again whenever it breaks. Our
//! producers publish the queue's name with every submit; of old producers Redis itself tells where
//! the server's `notify-keyspace-events` has `Kl`, else the host's poll finds their tasks.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use redis::Connection;

use super::address::Address;
use super::connect;
use crate::{Kind, QueueName, TransportError, Wake, Watch};

/// How soon a request to stop is seen.
const LOOK_UP: Duration = Duration::from_millis(200);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

pub(super) fn start(address: &Address, wake: Sender<Wake>) -> Result<Watch, TransportError> {
    let (stop, stopped) = bounded::<()>(0);
    let (ready, is_ready) = bounded::<Result<(), TransportError>>(1);
    let address = address.clone();
    let thread = std::thread::Builder::new()
        .name("queue-watch".to_owned())
        .spawn(move || watch(&address, &stopped, &wake, &ready))
        .map_err(|error| TransportError::new(Kind::Refused, error.to_string()))?;
    // The first subscription is awaited, so that whoever watches misses nothing from now on.
    match is_ready.recv() {
        Ok(Err(error)) => {
            let _joined = thread.join();
            Err(error)
        }
        _ => Ok(Watch::new(move || {
            drop(stop);
            let _joined = thread.join();
        })),
    }
}

/// Until told to stop, or until nobody takes the names.
fn watch(
    address: &Address,
    stopped: &Receiver<()>,
    wake: &Sender<Wake>,
    ready: &Sender<Result<(), TransportError>>,
) {
    let mut wait = FIRST_WAIT;
    let mut first = true;
    loop {
        match connect::connect(address) {
            Ok(mut connection) => {
                if listen(address, &mut connection, stopped, wake, ready) {
                    return;
                }
                wait = FIRST_WAIT;
            }
            Err(error) if first => {
                let _told = ready.try_send(Err(error));
                return;
            }
            Err(_) => {}
        }
        first = false;
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Passes names on; `false` when the connection broke, `true` when it is time to end.
fn listen(
    address: &Address,
    connection: &mut Connection,
    stopped: &Receiver<()>,
    wake: &Sender<Wake>,
    ready: &Sender<Result<(), TransportError>>,
) -> bool {
    let lists = format!("__keyspace@{}__:{}_", address.db, address.prefix);
    let mut subscribed = connection.as_pubsub();
    let listening = subscribed
        .subscribe(address.channel())
        .and_then(|()| subscribed.psubscribe(format!("{lists}*")))
        .and_then(|()| subscribed.set_read_timeout(Some(LOOK_UP)));
    let refused = listening.map_err(|error| connect::say(address, error));
    let is_refused = refused.is_err();
    let is_first = ready.try_send(refused).is_ok();
    if is_refused {
        return false;
    }
    // Whatever was told meanwhile is gone.
    if !is_first && wake.send(Wake::All).is_err() {
        return true;
    }
    loop {
        if stopped.try_recv() != Err(TryRecvError::Empty) {
            return true;
        }
        match subscribed.get_message() {
            Ok(message) => {
                let channel = message.get_channel_name();
                let payload = String::from_utf8_lossy(message.get_payload_bytes()).into_owned();
                let name = match channel.strip_prefix(&lists) {
                    Some(name) if payload.ends_with("push") => name.to_owned(),
                    Some(_) => continue,
                    None => payload,
                };
                if let Ok(queue) = QueueName::parse(&name)
                    && wake.send(Wake::Queue(queue)).is_err()
                {
                    return true;
                }
            }
            Err(error) if error.is_timeout() => {}
            Err(_) => return false,
        }
    }
}
