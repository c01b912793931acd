//! What is left of marts whose makers are gone, or whose server was: removed as soon as it can be.

use std::thread;
use std::time::{Duration, Instant};

use rex_mart::{Failure, Mart, Settings, tidy};
use rex_plugin_api::{Application, Result};

use crate::application::{has_marts, rex};

/// Between two attempts.
const SOON: Duration = Duration::from_millis(250);
const LATE: Duration = Duration::from_secs(10);

/// Removes what earlier processes have left, if the application has marts.
pub(crate) fn begin(application: &Application) -> Result<()> {
    if has_marts(application) {
        let database = application.database.as_deref();
        in_background(Settings::of(&application.settings, database).map_err(rex)?);
    }
    Ok(())
}

/// The end of the making of a mart in a process that goes on.
#[track_caller]
pub(crate) fn settled(settings: Settings, made: Result<Mart, Failure>) -> Result<()> {
    match made {
        Ok(_) => Ok(()),
        Err(failure) => {
            if failure.is_left {
                in_background(settings);
            }
            Err(rex(failure))
        }
    }
}

/// Tries, less and less often, until it is done or the process ends: what is in the way now is told by
/// whoever makes the next mart.
fn in_background(settings: Settings) {
    thread::spawn(move || {
        let begun = Instant::now();
        while !tidy(&settings).unwrap_or(false) {
            thread::sleep((begun.elapsed() / 4).clamp(SOON, LATE));
        }
    });
}

/// Tries for so long, or until told to end; whether it is done.
pub(crate) fn within(time: Duration, settings: &Settings, is_ended: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while tidy(settings).is_err() {
        if begun.elapsed() > time || is_ended() {
            return false;
        }
        thread::sleep(SOON);
    }
    true
}
