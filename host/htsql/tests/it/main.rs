//! Tests of the compiler through its public functions.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod properties;
mod rex;
mod stages;
mod support;
