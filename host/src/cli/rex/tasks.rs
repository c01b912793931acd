//! The tasks of the `rex` spelling. One definition gives parser and help; names and texts are the
//! original's.

use crate::settings::Error;
use rex_yaml::validate::Val;

/// A task as the command line names it.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: &'static str,
    /// One line for lists and for the title of its help.
    pub(super) hint: &'static str,
    /// What its help says below the usage.
    pub(super) body: &'static str,
    pub(super) arguments: &'static [Argument],
    /// In the order of the help.
    pub(super) options: &'static [Opt],
}

/// A word after the task's name; always optional, since no task of ours must have one.
#[derive(Debug)]
pub(super) struct Argument {
    pub(super) name: &'static str,
}

/// An option of a task.
#[derive(Debug)]
pub(super) struct Opt {
    pub(super) name: &'static str,
    /// `-k`.
    pub(super) key: Option<char>,
    /// What help calls the value; a toggle has none.
    pub(super) value: Option<&'static str>,
    /// Whether it may be given more than once.
    pub(super) plural: bool,
    pub(super) hint: &'static str,
    pub(super) check: fn(&str) -> Result<(), Error>,
}

const fn toggle(name: &'static str, key: Option<char>, hint: &'static str) -> Opt {
    Opt { name, key, value: None, plural: false, hint, check: |_| Ok(()) }
}

const REQUIRE: Opt = Opt {
    name: "require",
    key: None,
    value: Some("PACKAGE"),
    plural: true,
    hint: "include an additional package",
    check: |_| Ok(()),
};

const SET: Opt = Opt {
    name: "set",
    key: None,
    value: Some("PARAM=VALUE"),
    plural: true,
    hint: "set a configuration parameter",
    check: check_set,
};

/// What each task takes that works for an application.
pub(super) static OF_APPLICATIONS: [Opt; 2] = [REQUIRE, SET];

/// A name, and if there is more an `=` and any text.
fn check_set(text: &str) -> Result<(), Error> {
    let matches = |text: &str| {
        let name = text.split_once('=').map_or(text, |(name, _)| name);
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        !name.is_empty() && name.chars().all(is_part)
    };
    let shown = "[0-9A-Za-z_-]+(=.*)?";
    Val::Pattern { shown, matches }.value(&text.into()).map(|_| ())
}

/// Every task, sorted by name.
pub(super) const TASKS: [Task; 2] = [
    Task {
        name: "asynctask-workers",
        hint: "Launches processes for the rex.asynctask workers that are configured.",
        body: "Starts worker processes according to the asynctask_workers setting that\nwill \
               continually watch the queues and process tasks as they come across.",
        arguments: &[Argument { name: "project" }],
        options: &[
            REQUIRE,
            SET,
            toggle(
                "scheduler",
                None,
                "if specified, this process will act as the initiator for any \
                 ScheduledAsyncTaskWorkers that are configured. This should only be enabled for \
                 one process in cluster of workers.",
            ),
            toggle("quiet", Some('q'), "if specified, no logging output will be produced"),
            toggle(
                "halt-when-empty",
                None,
                "if specified, workers will automatically stop running when they detect no more \
                 tasks are found in their queue.",
            ),
        ],
    },
    Task {
        name: "help",
        hint: "describe tasks and settings",
        body: "Run rex help to list tasks and settings.\nRun rex help <topic> to describe one of \
               them.",
        arguments: &[Argument { name: "topic" }],
        options: &[],
    },
];

pub(super) fn task(name: &str) -> Option<&'static Task> {
    TASKS.iter().find(|task| task.name == name)
}
