//! Facts deployed on a live database. The cases are those of the original, with its statements and
//! its texts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aliases;
mod columns;
mod corpus;
mod data;
mod facts;
mod histories;
mod identities;
mod links;
mod raw;
mod support;
mod tables;
