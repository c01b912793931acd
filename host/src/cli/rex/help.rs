//! What `rex` and `rex help` print, made from the same tables that the parser reads.

use super::grammar::normal;
use super::tasks::{TASKS, Task, task};
use crate::settings::{GLOBALS, Global, Takes};

const TITLE: &str = "Rex - Command-line administration utility for the RexDB platform\n\
                     Usage: rex [@instance] [<settings>...] <task> [<arguments>...]\n\n";

/// `rex` without a task.
pub(super) fn usage() -> String {
    TITLE.to_owned()
        + "Run rex help for general usage and a list of tasks and settings.\n\
           Run rex help <topic> for help on a specific task or setting.\n"
}

/// `rex help` without topic.
pub(super) fn overview() -> String {
    let mut out = TITLE.to_owned()
        + "Run rex help for general usage and a list of tasks,\n\
           settings and other help topics.\n\n\
           Run rex help <topic> for help on a specific task or setting.\n\n";
    out += "Available tasks:\n";
    for task in &TASKS {
        out += &listed(task.name, task.hint);
    }
    out += "\nSettings:\n";
    for global in &GLOBALS {
        out += &listed(&option(global), global.hint);
    }
    out + "\n"
}

/// `rex help <topic>`; `None` where there is no such task or setting here.
pub(super) fn topic(topic: &str) -> Option<String> {
    let name = normal(topic);
    if let Some(task) = task(&name) {
        return Some(describe_task(task));
    }
    GLOBALS.iter().find(|global| global.name == name).map(describe_global)
}

fn listed(usage: &str, hint: &str) -> String {
    format!("  {usage:<24} : {hint}\n")
}

fn describe_task(task: &Task) -> String {
    let mut usage = format!("Usage: rex {}", task.name);
    for argument in task.arguments {
        usage += &format!(" [<{}>]", argument.name);
    }
    let Task { name, hint, body, .. } = task;
    let mut out = format!("{} - {hint}\n{usage}\n\n{body}\n\n", name.to_uppercase());
    if task.options.is_empty() {
        return out;
    }
    out += "Options:\n";
    for option in task.options {
        let key = option.key.map(|key| format!("-{key}/")).unwrap_or_default();
        let value = option.value.map(|value| format!("={value}")).unwrap_or_default();
        out += &listed(&format!("{key}--{}{value}", option.name), option.hint);
    }
    out + "\n"
}

fn describe_global(global: &Global) -> String {
    let variable = global.name.to_uppercase().replace('-', "_");
    let (in_file, in_environment) = match global.takes {
        Takes::Toggle => ("true", "1"),
        _ => (variable.as_str(), variable.as_str()),
    };
    format!(
        "{} - {}\nUsage: rex {}\n       {}: {in_file} (rex.yaml)\n       \
         REX_{variable}={in_environment} (environment)\n\n",
        global.name.to_uppercase(),
        global.hint,
        option(global),
        global.name,
    )
}

fn option(global: &Global) -> String {
    match global.takes {
        Takes::Toggle => format!("--{}", global.name),
        _ => format!("--{}={}", global.name, global.name.to_uppercase().replace('-', "_")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Word for word the original's, which the seed holds.
    #[test]
    fn help_of_asynctask_workers() {
        let expect = "\
ASYNCTASK-WORKERS - Launches processes for the rex.asynctask workers that are configured.
Usage: rex asynctask-workers [<project>]

Starts worker processes according to the asynctask_workers setting that
will continually watch the queues and process tasks as they come across.

Options:
  --require=PACKAGE        : include an additional package
  --set=PARAM=VALUE        : set a configuration parameter
  --scheduler              : if specified, this process will act as the initiator for any ScheduledAsyncTaskWorkers that are configured. This should only be enabled for one process in cluster of workers.
  -q/--quiet               : if specified, no logging output will be produced
  --halt-when-empty        : if specified, workers will automatically stop running when they detect no more tasks are found in their queue.

";
        assert_eq!(topic("asynctask-workers").unwrap(), expect);
        assert_eq!(topic("Asynctask_Workers").unwrap(), expect);
    }

    #[test]
    fn help_of_settings() {
        assert_eq!(
            topic("debug").unwrap(),
            "DEBUG - print debug information\nUsage: rex --debug\n       debug: true \
             (rex.yaml)\n       REX_DEBUG=1 (environment)\n\n"
        );
        assert_eq!(
            topic("project").unwrap(),
            "PROJECT - application to run\nUsage: rex --project=PROJECT\n       project: PROJECT \
             (rex.yaml)\n       REX_PROJECT=PROJECT (environment)\n\n"
        );
        assert_eq!(topic("nope"), None);
    }

    #[test]
    fn general_help() {
        assert_eq!(
            usage(),
            "Rex - Command-line administration utility for the RexDB platform\nUsage: rex \
             [@instance] [<settings>...] <task> [<arguments>...]\n\nRun rex help for general \
             usage and a list of tasks and settings.\nRun rex help <topic> for help on a \
             specific task or setting.\n"
        );
        let overview = overview();
        for line in [
            "Available tasks:",
            "  asynctask-workers        : Launches processes for the rex.asynctask workers that \
             are configured.",
            "Settings:",
            "  --state=STATE            : directory for the queue, plugin copies and control \
             socket",
            "  --quiet                  : print errors only",
        ] {
            assert!(overview.lines().any(|found| found == line), "{line}\n{overview}");
        }
    }
}
