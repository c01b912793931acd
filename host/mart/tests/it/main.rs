//! Marts made of the corpus's application on a real server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod assessments;
mod corpus;
mod creation;
mod definitions;
mod purging;
mod support;
