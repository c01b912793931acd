//! The embedded queue keeps the contract; and what only a file can suffer.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panic, and tell what is not run"
)]

mod contract;
mod trouble;
