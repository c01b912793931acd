//! Tasks that the clock submits. [`entry`] is one schedule of the settings, [`due`] decides what is
//! to be fired and what was missed, [`scheduler`] is the thread that does it.
//!
//! Any number of hosts may fire the same schedules: the store keeps the last occasion of each, and who
//! records the next one submits its task in the same transaction. So there is no leader to be chosen
//! and none to be missed when a host dies.

mod due;
mod entry;
mod scheduler;

use std::sync::Arc;

use jiff::tz::TimeZone;

pub use self::entry::{CTL_EXECUTOR, Entry};
pub use self::scheduler::Scheduler;
use crate::settings::Misfire;

/// What is to be fired, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedules {
    pub entries: Vec<Arc<Entry>>,
    pub zone: TimeZone,
    pub misfire: Misfire,
}
