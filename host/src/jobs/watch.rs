//! Word of new and of cancelled jobs: a connection that listens, made again whenever it breaks. It also
//! holds the lock by which others see that this host lives, since that of the transport's table is made
//! again only when a job begins or ends.

use std::time::Duration;

use rex_db::Address;
use rex_transport::pgsql::Client;

use super::desk::Desk;
use super::table;

/// How soon a connection that broke is seen.
const LOOK_UP: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Shorter than the grace within which a host must be back after the server was away.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// For what a person must mend.
const SLOW_WAIT: Duration = Duration::from_secs(10);

/// Starts a thread that lasts as long as the process.
///
/// # Errors
/// When no thread can be made.
pub(super) fn start(address: Address, host: i64, desk: Desk) -> std::io::Result<()> {
    std::thread::Builder::new().name("jobs-watch".to_owned()).spawn(move || {
        let mut wait = FIRST_WAIT;
        loop {
            match listen(&address, host) {
                Ok(client) => {
                    wait = FIRST_WAIT;
                    // Whatever was told meanwhile is gone.
                    desk.queue();
                    hear(client, &desk);
                }
                Err(error) => {
                    tracing::debug!("cannot listen for new jobs: {error}");
                    std::thread::sleep(wait);
                    let longest = if error.passes() { LONGEST_WAIT } else { SLOW_WAIT };
                    wait = (wait * 2).min(longest);
                }
            }
        }
    })?;
    Ok(())
}

pub(super) fn listen(address: &Address, host: i64) -> Result<Client, table::TableError> {
    let mut client = table::connect(address)?;
    let listen = format!("{}; LISTEN rex_job", rex_db::STAY);
    table::hold(&client, host)
        .and_then(|()| client.batch_execute(&listen))
        .map_err(|error| table::say(&error, address))?;
    client.settle();
    Ok(client)
}

/// Until the connection breaks.
fn hear(mut client: Client, desk: &Desk) {
    loop {
        match client.hear(LOOK_UP) {
            Some(payload) if payload == "cancel" => desk.cancel(),
            Some(_) => desk.queue(),
            // A server that went away without a word is heard of when it is spoken to.
            None if client.simple_query("").is_ok() => {}
            None => return,
        }
    }
}
