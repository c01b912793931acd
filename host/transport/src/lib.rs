//! Where tasks wait: one trait, one file a kind of store, and a contract suite that all pass.
//!
//! A transport knows queues, tasks, claims and owners. It knows no worker and no plugin, and parses
//! a payload no further than "a JSON object". Read `task.rs` for the nouns, `transport.rs` for the
//! promises, then the kind you care about.

mod error;
mod inotify;
mod json;
mod known;
mod letters;
mod name;
mod network;
mod open;
mod owner_file;
mod payload;
mod process;
mod random;
mod task;
mod transport;
mod uri;

pub mod amqp;
pub mod contract;
pub mod filesys;
pub mod localmem;
pub mod ownership;
pub mod pgsql;
pub mod redis;
pub mod sqlite;

pub use error::{Kind, TransportError};
pub use name::{BadQueueName, QueueName};
pub use open::{Options, Owner, open};
pub use payload::{DEPTH as PAYLOAD_DEPTH, Payload, PayloadError};
pub use task::{
    Attributes, Claim, ClaimId, ClaimedTask, DeadLetter, DeadQuery, Death, Due, Finished, LetterId,
    NewTask, Outcome, QueueStatus, Submitted, TaskId, Timestamp, WaitingTask, Want,
};
pub use transport::{Features, Transport, Wake, Watch, cannot};
pub use uri::Uri;
