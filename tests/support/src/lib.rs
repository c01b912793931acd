//! What the tests of several crates share. Used as a dev-dependency only.

pub mod amqp;
pub mod env;
pub mod net;
pub mod pg;
pub mod plugins;
pub mod pooler;
pub mod process;
pub mod proxy;
pub mod python;
pub mod redis;
pub mod server;
pub mod shared;
