//! Keeps worker processes alive: starts them, hears them, notices their death, decides what next.
//!
//! `slot` decides and does nothing: one pure `step` over the states of one worker slot, with its
//! restart delays in `backoff`. `spawn` is the only file that makes worker processes; `poller` is
//! one thread that turns sockets, pipes, pidfds and [`Signals`] into [`Event`]s; `exit` puts a death
//! into words, `usage` reads what a process has used. The loop that feeds events to `step` and
//! performs its actions is `dispatch`, because it also knows the tasks.
//!
//! Who knows what: the supervisor never sees a payload, and knows no queue but by its name.

pub mod backoff;
pub mod exit;
pub mod poller;
pub mod signals;
pub mod slot;
pub mod spawn;
pub mod usage;

pub use exit::Exit;
pub use poller::{Event, Poller, Stream};
pub use signals::Signals;
pub use slot::{Action, Policy, Slot, step};
pub use spawn::{Process, ProcessId, Spawner};
