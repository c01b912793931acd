//! Word of new and of cancelled jobs: a connection that listens, made again whenever it breaks.

use std::time::Duration;

use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use rex_db::Address;

use super::desk::Desk;
use super::table;

/// How soon a connection that broke is seen.
const LOOK_UP: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Starts a thread that lasts as long as the process.
///
/// # Errors
/// When no thread can be made.
pub(super) fn start(address: Address, desk: Desk) -> std::io::Result<()> {
    std::thread::Builder::new().name("jobs-watch".to_owned()).spawn(move || {
        let mut wait = FIRST_WAIT;
        loop {
            match listen(&address) {
                Ok(client) => {
                    wait = FIRST_WAIT;
                    // Whatever was told meanwhile is gone.
                    desk.queue();
                    hear(client, &desk);
                }
                Err(error) => {
                    tracing::debug!("cannot listen for new jobs: {error}");
                    std::thread::sleep(wait);
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    })?;
    Ok(())
}

pub(super) fn listen(address: &Address) -> Result<Client, table::TableError> {
    let mut client = table::connect(address)?;
    let listen = format!("{}; LISTEN rex_job", rex_db::STAY);
    client.batch_execute(&listen).map_err(|error| table::say(&error, address))?;
    Ok(client)
}

/// Until the connection breaks.
fn hear(mut client: Client, desk: &Desk) {
    loop {
        let told = client.notifications().timeout_iter(LOOK_UP).next();
        match told {
            Ok(Some(notification)) if notification.payload() == "cancel" => desk.cancel(),
            Ok(Some(_)) => desk.queue(),
            Ok(None) if !client.is_closed() => {}
            Ok(None) | Err(_) => return,
        }
    }
}
