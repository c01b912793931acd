//! What is left of marts whose makers are gone, or whose server was: removed as soon as it can be.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rex_mart::{Failure, Mart, Settings, tidy};
use rex_plugin_api::{Application, Result};

use crate::application::{has_marts, rex};

/// Between two attempts.
const SOON: Duration = Duration::from_millis(250);
const LATE: Duration = Duration::from_secs(10);

/// A server that does not answer holds nobody up for longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Removes what earlier processes have left, if the application has marts: before the first task, which
/// there may not be, where it can be done at once.
pub(crate) fn begin(application: &Application) -> Result<()> {
    if has_marts(application) {
        let database = application.database.as_deref();
        let settings = Settings::of(&application.settings, database);
        let looks = in_background(settings.map_err(|error| rex(error))?);
        // The session of one that was killed just now may end only after the first look.
        for _ in 0..2 {
            if looks.recv_timeout(PATIENCE) != Ok(Some(false)) {
                break;
            }
        }
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
                drop(in_background(settings));
            }
            Err(rex(failure))
        }
    }
}

/// Tries, less and less often, until it is done or the process ends: what is in the way now is told by
/// whoever makes the next mart. What each look found: whether there is nothing left, if that could be
/// found out.
fn in_background(settings: Settings) -> Receiver<Option<bool>> {
    let (tell, looks) = mpsc::channel();
    thread::spawn(move || {
        let begun = Instant::now();
        loop {
            let found = tidy(&settings).ok();
            // Who has started it may not listen any more.
            let _ = tell.send(found);
            if found == Some(true) {
                break;
            }
            thread::sleep((begun.elapsed() / 4).clamp(SOON, LATE));
        }
    });
    looks
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
