//! Queues as directories keep the contract; and what only files can suffer.

#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

mod contract;
mod root;
mod trouble;
