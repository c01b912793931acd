//! The host of background tasks: `rex-host` and, in the original's spelling, `rex`.
//!
//! Modules in reading order: `settings` and `plugins` say what is to run, `cli::run` puts both
//! together into a `dispatch::plan`, `dispatch` is the loop that feeds tasks to worker processes,
//! `supervisor` keeps those alive, `worker` is what they do, `wire` and `page` are what both sides
//! share; `cron` submits tasks by the clock, `jobs` works the rows of the table of jobs; `control` and `cli` are how people reach a running host;
//! `log`, `state`, `clock`, `tick`, `shell` and `inherited` serve all of them.

pub mod cli;
mod clock;
mod control;
mod cron;
mod dispatch;
mod inherited;
mod jobs;
mod log;
mod page;
pub mod plugins;
pub mod settings;
mod shell;
mod state;
mod supervisor;
mod tick;
mod wire;
mod worker;
