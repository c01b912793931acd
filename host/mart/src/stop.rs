//! Work on a mart that is to end before it is done: between two stages it ends by itself, within one
//! its connections are.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rex_db::Address;
use rex_deploy::sql;
use rex_yaml::Error;

use crate::cluster;
use crate::failure::guarded;

/// How often it is asked whether the work is to end.
const LOOK: Duration = Duration::from_millis(200);

/// Whether the work is to end.
pub(crate) type Stops<'a> = dyn Fn() -> bool + Sync + 'a;

pub(crate) fn stopped() -> Error {
    Error::new("The creation was stopped")
}

/// Does the work on the database `name`, and ends what it has running there once `stops` says so. A
/// database that others may be in has no name here: then only stages end.
pub(crate) fn watching<T>(
    hosting: &Address,
    name: Option<String>,
    stops: &Stops<'_>,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let Some(name) = name else { return work() };
    let (done, is_done) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while is_done.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if stops() {
                    // If it cannot, the work goes on to the end of its stage.
                    let _ = end_connections(hosting, &name);
                }
            }
        });
        let result = work();
        drop(done);
        result.map_err(|error| if stops() { stopped() } else { error })
    })
}

fn end_connections(hosting: &Address, name: &str) -> Result<(), Error> {
    let mut session = cluster::session(&hosting.with_database("postgres"))?;
    guarded(session.sql_rows(&format!(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
         WHERE datname = {} AND usename = CURRENT_USER",
        sql::text(name)
    )))
    .map(|_| ())
}
