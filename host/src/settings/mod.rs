//! Settings and projects: from what a user wrote (files, environment, command line) to one
//! [`Settings`] value, read once and passed down. Texts and precedence are the original's.
//!
//! Read in this order: [`globals`] says which application is meant, [`project`] finds its files,
//! [`application`] merges them, [`known`] lists what may be set and validates it, [`typed`] is what
//! the host gets. YAML, validators and the layered error are those of [`rex_yaml`]. Nothing here reads the
//! process environment, prints, or knows which plugins there are: that comes in as values.

pub mod application;
mod database;

pub mod globals;
pub mod known;
pub mod project;
mod secret;
pub mod typed;

pub use application::{Application, Effective, JOBS};
pub use globals::{GLOBALS, Global, Globals, Sources, Takes};
pub use rex_yaml::Error;
pub use secret::mask;
pub use typed::{Backoff, Level, Misfire, MisfirePolicy, QueueSettings, Schedule, Settings};

/// Reads and validates every setting. `workers` are the names that settings may refer to, in the
/// order in which errors list them.
///
/// # Errors
/// One layered error in the original's words, passwords masked.
pub fn resolve(
    sources: &Sources,
    globals: &Globals,
    workers: &[String],
) -> Result<Settings, Error> {
    Application::load(sources, globals)?.settings(Some(workers))
}

/// As [`resolve`] for commands that run no workers: what names workers is merged but neither
/// validated nor returned.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_transport(sources: &Sources, globals: &Globals) -> Result<Settings, Error> {
    Application::load(sources, globals)?.settings(None)
}

/// The schedules alone; whatever names a worker is not checked.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_schedules(sources: &Sources, globals: &Globals) -> Result<Settings, Error> {
    Application::load(sources, globals)?.schedules()
}

#[cfg(test)]
mod tests;
