//! Word of new tasks: a connection of its own that listens, made again whenever it breaks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::address::Address;
use super::connect;
use super::line::{Line, Quit};
use crate::{Kind, QueueName, TransportError, Wake, Watch};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A connection that lasts so long was worth making.
const LASTING: Duration = Duration::from_millis(200);

pub(super) fn start(address: &Address, wake: Sender<Wake>) -> Result<Watch, TransportError> {
    // The first connection here, so that whoever watches misses nothing from now on.
    let runtime = Line::runtime()?;
    let (stop, stopped) = Quit::new();
    let line = listen(address, &runtime, &stopped, &wake)?;
    let address = address.clone();
    let thread = std::thread::Builder::new()
        .name("queue-watch".to_owned())
        .spawn(move || watch(&address, &runtime, line, &stopped, &wake))
        .map_err(|error| TransportError::new(Kind::Refused, error.to_string()))?;
    Ok(Watch::new(move || {
        drop(stop);
        let _joined = thread.join();
    }))
}

fn listen(
    address: &Address,
    runtime: &Arc<Runtime>,
    stopped: &Quit,
    wake: &Sender<Wake>,
) -> Result<Line, TransportError> {
    let wake = wake.clone();
    let mut line = connect::listening(address, runtime, stopped, move |notification| {
        if let Ok(queue) = QueueName::parse(notification.payload()) {
            // Where nobody takes the names, the watch is about to be stopped.
            let _ = wake.send(Wake::Queue(queue));
        }
    })?;
    for sql in [rex_pg::STAY, "LISTEN rex_asynctask"] {
        line.wait(|client| client.batch_execute(sql))
            .map_err(|error| super::Trouble::from(error).say(&address.label))?;
    }
    line.settle();
    Ok(line)
}

/// Until told to stop, or until nobody takes the names.
fn watch(
    address: &Address,
    runtime: &Arc<Runtime>,
    mut line: Line,
    stopped: &Quit,
    wake: &Sender<Wake>,
) {
    let mut wait = FIRST_WAIT;
    loop {
        let begun = Instant::now();
        if line.listen_until(stopped.clone().wait()) {
            return;
        }
        if begun.elapsed() >= LASTING {
            wait = FIRST_WAIT;
        }
        line = loop {
            if runtime.block_on(async { timeout(wait, stopped.clone().wait()).await }).is_ok() {
                return;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
            if let Ok(line) = listen(address, runtime, stopped, wake) {
                break line;
            }
        };
        // Whatever was told meanwhile is gone.
        if wake.send(Wake::All).is_err() {
            return;
        }
    }
}
