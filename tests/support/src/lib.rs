//! What tests of several packages need: a PostgreSQL server of their own.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panic, and say on stderr what they cannot run"
)]

mod postgres;

pub use crate::postgres::{Database, Postgres};
