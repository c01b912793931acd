//! Word of new tasks: a connection of its own that listens, made again whenever it breaks.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;

use super::address::Address;
use super::connect;
use crate::{Kind, QueueName, TransportError, Wake, Watch};

/// How soon a request to stop is seen.
const LOOK_UP: Duration = Duration::from_millis(200);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

pub(super) fn start(address: &Address, wake: Sender<Wake>) -> Result<Watch, TransportError> {
    // The first connection here, so that whoever watches misses nothing from now on.
    let client = listen(address)?;
    let address = address.clone();
    let (stop, stopped) = bounded::<()>(0);
    let thread = std::thread::Builder::new()
        .name("queue-watch".to_owned())
        .spawn(move || watch(&address, client, &stopped, &wake))
        .map_err(|error| TransportError::new(Kind::Refused, error.to_string()))?;
    Ok(Watch::new(move || {
        drop(stop);
        let _joined = thread.join();
    }))
}

fn listen(address: &Address) -> Result<Client, TransportError> {
    let mut client = connect::connect(address)?;
    client
        .batch_execute("LISTEN rex_asynctask")
        .map_err(|error| super::Trouble::from(error).say(&address.label))?;
    Ok(client)
}

/// Until told to stop, or until nobody takes the names.
fn watch(address: &Address, client: Client, stopped: &Receiver<()>, wake: &Sender<Wake>) {
    let mut connection = Some(client);
    let mut wait = FIRST_WAIT;
    loop {
        let Some(client) = &mut connection else {
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
            connection = listen(address).ok();
            // Whatever was told meanwhile is gone.
            if connection.is_some() && wake.send(Wake::All).is_err() {
                return;
            }
            continue;
        };
        if stopped.try_recv() != Err(crossbeam_channel::TryRecvError::Empty) {
            return;
        }
        let told = client.notifications().timeout_iter(LOOK_UP).next();
        match told {
            Ok(Some(notification)) => {
                wait = FIRST_WAIT;
                if let Ok(queue) = QueueName::parse(notification.payload())
                    && wake.send(Wake::Queue(queue)).is_err()
                {
                    return;
                }
            }
            Ok(None) if !client.is_closed() => wait = FIRST_WAIT,
            Ok(None) | Err(_) => connection = None,
        }
    }
}
