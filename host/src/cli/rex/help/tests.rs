//! Help in the original's shape.

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
    let command = ("of-plugin".to_owned(), "does something".to_owned());
    let overview = overview(&[command]);
    for line in [
        "Available tasks:",
        "  asynctask-workers        : Launches processes for the rex.asynctask workers that \
         are configured.",
        "  of-plugin                : does something",
        "Settings:",
        "  --state=STATE            : directory for the queue, plugin copies and control \
         socket",
        "  --quiet                  : print errors only",
    ] {
        assert!(overview.lines().any(|found| found == line), "{line}\n{overview}");
    }
}
