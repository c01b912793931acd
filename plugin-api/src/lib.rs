//! All that an author of rex-host plugins sees.
//!
//! A plugin is a `cdylib` with one or more workers, commands, or job executors. The host starts a process of its own for each
//! worker slot, loads the plugin there and hands it one task after the other:
//!
//! ```
//! use rex_plugin_api::{Context, Payload, Result, Worker, export_plugin};
//!
//! #[derive(Default)]
//! struct Greeter;
//!
//! impl Worker for Greeter {
//!     fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
//!         let name = payload.text("name")?;
//!         ctx.info(format!("greeting {name}"));
//!         println!("Hello, {name}!");
//!         Ok(())
//!     }
//! }
//!
//! export_plugin! { workers: { "greeter" => Greeter } }
//!
//! // A worker can be tried without a host:
//! use rex_plugin_api::testing;
//! let run = testing::run(&mut Greeter, serde_json::json!({"name": "Ada"}));
//! assert!(run.result.is_ok());
//! assert_eq!(run.logs, ["INFO greeting Ada"]);
//! ```
//!
//! What a worker prints goes to the host's output, in step with its log lines. An `Err`, a panic or
//! a crash costs the task in hand one attempt and nothing else.
//!
//! Modules in reading order: [`worker`], [`command`], [`job`], [`context`] and [`application`] are what an author implements and is given,
//! [`payload`] and [`error`] the values they exchange, [`testing`] a host for tests; [`ops`] names
//! what crosses the boundary, [`abi`] is the boundary itself.

pub mod abi;
pub mod application;
pub mod command;
pub mod context;
pub mod error;
mod export;
pub mod job;
mod json;
pub mod ops;
pub mod payload;
pub mod pyrepr;
mod registry;
pub mod testing;
pub mod worker;

pub use application::Application;
pub use command::{Command, CommandOption};
pub use context::{Context, Level};
pub use error::{Error, Result, ResultExt};
pub use job::{Job, JobContext, JobExecutor};
pub use payload::{Payload, PayloadError};
pub use registry::Registry;
pub use serde_json;
pub use worker::Worker;
