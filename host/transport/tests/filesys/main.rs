//! Queues as directories keep the contract; and what only files can suffer.

mod contract;
mod trouble;
