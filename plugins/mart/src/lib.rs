//! Marts as tasks, jobs and commands. What a mart is and how it is made is `rex-mart`'s.
//!
//! | name | is |
//! |---|---|
//! | `rexmart_create` | the worker: a task makes a mart; the executor: a job does |
//! | `mart-create` | the command: marts for owners and definitions, or those of a run list |
//! | `mart-shell` | the command: HTSQL about a mart |
//! | `mart-purge` | the command: marts that are chosen go |
//! | `mart-list` | the command: which marts there are, or could be made |
//! | `mart-pin` | the command: which of them stay |

mod application;
mod arguments;
mod create;
mod executor;
mod list;
mod pin;
mod purge;
mod shell;
mod tidy;
mod worker;

use rex_plugin_api::export_plugin;

use create::Create;
use executor::MartCreateExecutor;
use list::List;
use pin::Pin;
use purge::Purge;
use shell::AskMart;
use worker::MartCreateWorker;

export_plugin! {
    workers: { "rexmart_create" => MartCreateWorker },
    commands: {
        "mart-create" => Create, "mart-list" => List, "mart-pin" => Pin, "mart-purge" => Purge,
        "mart-shell" => AskMart,
    },
    executors: { "rexmart_create" => MartCreateExecutor },
}
