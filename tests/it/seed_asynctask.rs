//! The original's own transcripts of `rex asynctask-workers`, performed against our binary.
//!
//! The document is read in place when it is there; a transcription stands here for when it is not,
//! and is held equal to it. Each command runs on the embedded queue and on PostgreSQL; all that it
//! prints, stdout and stderr together, must match line by line, where `...` stands for one line or
//! more.

use rex_test_support::env::{Env, not_run, shared};

use crate::store::Store;

/// What the document does, in order.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// `rex <command>` prints exactly this.
    Command { command: String, expected: String },
    /// A task with this JSON text is put into a queue.
    Submit { queue: String, payload: String },
    /// Nothing is left in a queue.
    Empty { queue: String },
}

#[test]
fn on_the_embedded_queue() {
    perform(&Store::Embedded);
}

#[test]
fn on_postgresql() {
    perform(&Store::pgsql());
}

#[test]
fn transcription_is_the_document() {
    match document() {
        Some(text) => {
            let read = parse(&text);
            let commands = read.iter().filter(|step| matches!(step, Step::Command { .. }));
            assert_eq!(
                commands.count(),
                text.matches("tl('").count() + text.matches("tl(\"").count()
            );
            assert_eq!(read, transcription());
        }
        None => not_run("seeds/asynctask-ctl.rst", "not found beside the repository"),
    }
}

#[test]
fn an_ellipsis_is_at_least_one_line() {
    assert!(matches("a\n...\nb", "a\nx\ny\nb").is_ok());
    assert!(matches("a\n...\nb", "a\n\nb").is_ok());
    assert!(matches("a\n...\nb", "a\nb").is_err());
    assert!(matches("a\nb", "a\nb\nc").is_err());
    assert!(matches("a\nb", "a").is_err());
}

fn document() -> Option<String> {
    std::fs::read_to_string(shared().join("seeds/asynctask-ctl.rst")).ok()
}

fn perform(store: &Store) {
    let steps = match document() {
        Some(text) => parse(&text),
        None => {
            not_run("seeds/asynctask-ctl.rst", "not found; its transcription is performed");
            transcription()
        }
    };
    let env = Env::new();
    for step in steps {
        match step {
            Step::Command { command, expected } => {
                let mut words = shell_words(&command);
                if words[0] != "help" {
                    words.extend(store.args());
                }
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let output = env.start_rex(&words).wait_ok();
                if let Err(why) = matches(&expected, &output) {
                    panic!("rex {command}: {why}\n--- expected\n{expected}\n--- got\n{output}---");
                }
            }
            Step::Submit { queue, payload } => {
                let mut args = vec!["submit".to_owned(), queue, payload];
                args.extend(store.args());
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                env.rex_host(&args).ok();
            }
            Step::Empty { queue } => assert_empty(&env, store, &queue),
        }
    }
}

fn assert_empty(env: &Env, store: &Store, queue: &str) {
    let mut args = vec!["queue", "peek", queue, "--json"];
    let store_args = store.args();
    args.extend(store_args.iter().map(String::as_str));
    assert_eq!(env.rex_host(&args).ok(), "", "left in {queue}");
    if let Store::Pgsql(database) = store {
        // As an old consumer would look.
        let rows = database
            .connect()
            .query("select id from asynctask.asynctask_queue where queue_name = $1", &[&queue])
            .expect("the original's table is there");
        assert!(rows.is_empty(), "{} rows left in {queue}", rows.len());
    }
}

/// Compares line by line; `...` alone on a line matches one line or more.
fn matches(expected: &str, got: &str) -> Result<(), String> {
    let expected: Vec<&str> = expected.lines().collect();
    let got: Vec<&str> = got.lines().collect();
    // reach[n]: whether the lines of `expected` so far can match the first n lines of `got`.
    let mut reach = vec![false; got.len() + 1];
    reach[0] = true;
    for line in &expected {
        let mut next = vec![false; got.len() + 1];
        for n in 0..got.len() {
            next[n + 1] =
                if *line == "..." { reach[n] || next[n] } else { reach[n] && got[n] == *line };
        }
        if !next.contains(&true) {
            return Err(format!("nothing printed matches `{line}` at its place"));
        }
        reach = next;
    }
    if reach[got.len()] { Ok(()) } else { Err("more was printed than expected".to_owned()) }
}

/// Reads the document's steps.
fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut command = None;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(code) = line.trim_start().strip_prefix(">>> ") else { continue };
        let mut expected = Vec::new();
        while let Some(next) = lines.peek() {
            let is_output = next.starts_with("    ") && !next.trim_start().starts_with(">>> ");
            if !is_output || next.trim_start().starts_with("... ") {
                break;
            }
            let shown = next.strip_prefix("    ").unwrap_or(next);
            expected.push(if shown == "<BLANKLINE>" { "" } else { shown });
            lines.next();
        }
        let expected = expected.iter().map(|line| format!("{line}\n")).collect::<String>();
        if let Some(arguments) = between(code, "ctl(", ")") {
            steps.push(Step::Command { command: unquote(arguments), expected });
        } else if let Some(arguments) = between(code, "worker_ctl = Ctl(", ")") {
            command = Some(unquote(arguments));
        } else if code.contains("worker_ctl.wait()") {
            let expected = if code.contains("== ''") { String::new() } else { expected };
            let command = command.take().expect("a command was started");
            steps.push(Step::Command { command, expected });
        } else if let Some(arguments) = between(code, "transport.submit_task(", ")") {
            let (queue, payload) = arguments.split_once(", ").expect("two arguments");
            steps.push(Step::Submit { queue: unquote(queue), payload: json(payload) });
        } else if let Some(queue) = between(code, "transport.get_task(", ") is None") {
            assert_eq!(expected, "True\n");
            steps.push(Step::Empty { queue: unquote(queue) });
        }
    }
    steps
}

fn between<'a>(text: &'a str, head: &str, tail: &str) -> Option<&'a str> {
    let rest = text.split("  # doctest").next()?.strip_prefix(head)?;
    rest.strip_suffix(tail)
}

/// The value of a Python string literal of the kinds that the document uses.
fn unquote(literal: &str) -> String {
    literal[1..literal.len() - 1].replace("\\\"", "\"")
}

/// The JSON text of a Python dict of the kinds that the document uses.
fn json(dict: &str) -> String {
    dict.replace('\'', "\"").replace("True", "true").replace("False", "false")
}

/// Splits as a shell does, as far as the document needs it: blanks, and single quotes.
fn shell_words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("there is always one").push(c),
        }
    }
    words
}

fn transcription() -> Vec<Step> {
    fn command(command: &str, expected: &[&str]) -> Step {
        let expected = expected.iter().map(|line| format!("{line}\n")).collect();
        Step::Command { command: command.to_owned(), expected }
    }
    fn submit(payload: &str) -> Step {
        Step::Submit { queue: "foo".to_owned(), payload: payload.to_owned() }
    }
    let empty = Step::Empty { queue: "foo".to_owned() };
    vec![
        command(
            "help asynctask-workers",
            &[
                "ASYNCTASK-WORKERS - Launches processes for the rex.asynctask workers that are configured.",
                "Usage: rex asynctask-workers [<project>]",
                "",
                "Starts worker processes according to the asynctask_workers setting that",
                "will continually watch the queues and process tasks as they come across.",
                "",
                "Options:",
                "  --require=PACKAGE        : include an additional package",
                "  --set=PARAM=VALUE        : set a configuration parameter",
                "  --scheduler              : if specified, this process will act as the initiator for any ScheduledAsyncTaskWorkers that are configured. This should only be enabled for one process in cluster of workers.",
                "  -q/--quiet               : if specified, no logging output will be produced",
                "  --halt-when-empty        : if specified, workers will automatically stop running when they detect no more tasks are found in their queue.",
                "",
            ],
        ),
        command(
            "asynctask-workers rex.asynctask --set=asynctask_workers={}",
            &["INFO:AsyncTaskWorkerTask:No workers configured; terminating."],
        ),
        command(
            r#"asynctask-workers rex.asynctask_demo --set=asynctask_workers='{"foo": null}'"#,
            &["INFO:AsyncTaskWorkerTask:No workers configured; terminating."],
        ),
        submit(r#"{"foo": 1}"#),
        command(
            "asynctask-workers rex.asynctask_demo --halt_when_empty",
            &[
                "INFO:AsyncTaskWorkerTask:Launching demo_foo_worker to work on queue foo",
                "INFO:FooWorker:Starting; queue=foo",
                "DEBUG:FooWorker:Got payload: {'foo': 1}",
                "FOO processed: {'foo': 1}",
                "DEBUG:FooWorker:Processing complete",
                "INFO:FooWorker:No tasks found in queue",
                "INFO:FooWorker:Terminating",
                "INFO:AsyncTaskWorkerTask:All workers halted; closing down...",
                "INFO:AsyncTaskWorkerTask:Complete",
            ],
        ),
        empty.clone(),
        submit(r#"{"error": false}"#),
        command(
            r#"asynctask-workers rex.asynctask_demo --halt-when-empty --quiet --set=asynctask_workers='{"foo": "demo_quiet_worker"}'"#,
            &[],
        ),
        empty.clone(),
        submit(r#"{"foo": 1}"#),
        command(
            r#"asynctask-workers rex.asynctask_demo --halt-when-empty --set=asynctask_workers='{"foo": "requeue_worker"}'"#,
            &[
                "INFO:AsyncTaskWorkerTask:Launching requeue_worker to work on queue foo",
                "INFO:RequeueWorker:Starting; queue=foo",
                "DEBUG:RequeueWorker:Got payload: {'foo': 1}",
                "REQUEUE processed: {'foo': 1}",
                "DEBUG:RequeueWorker:Requeued payload: {'foo': 2}",
                "REQUEUE requeued",
                "DEBUG:RequeueWorker:Processing complete",
                "DEBUG:RequeueWorker:Got payload: {'foo': 2}",
                "REQUEUE processed: {'foo': 2}",
                "DEBUG:RequeueWorker:Processing complete",
                "INFO:RequeueWorker:No tasks found in queue",
                "INFO:RequeueWorker:Terminating",
                "INFO:AsyncTaskWorkerTask:All workers halted; closing down...",
                "INFO:AsyncTaskWorkerTask:Complete",
            ],
        ),
        empty.clone(),
        submit(r#"{"error": true}"#),
        submit(r#"{"error": false}"#),
        command(
            r#"asynctask-workers rex.asynctask_demo --halt-when-empty --set=asynctask_workers='{"foo": "demo_error_worker"}'"#,
            &[
                "INFO:AsyncTaskWorkerTask:Launching demo_error_worker to work on queue foo",
                "INFO:ErrorWorker:Starting; queue=foo",
                "DEBUG:ErrorWorker:Got payload: {'error': True}",
                "ERROR:ErrorWorker:An unhandled exception occurred while processing the payload",
                "Traceback (most recent call last):",
                "...",
                "Exception: Oops!",
                "DEBUG:ErrorWorker:Got payload: {'error': False}",
                "ERROR processed: {'error': False}",
                "DEBUG:ErrorWorker:Processing complete",
                "INFO:ErrorWorker:No tasks found in queue",
                "INFO:ErrorWorker:Terminating",
                "INFO:AsyncTaskWorkerTask:All workers halted; closing down...",
                "INFO:AsyncTaskWorkerTask:Complete",
            ],
        ),
        empty.clone(),
        submit(r#"{"die": true}"#),
        submit(r#"{"die": false}"#),
        command(
            r#"asynctask-workers rex.asynctask_demo --halt-when-empty --set=asynctask_workers='{"foo": "demo_fragile_worker"}'"#,
            &[
                "INFO:AsyncTaskWorkerTask:Launching demo_fragile_worker to work on queue foo",
                "INFO:FragileWorker:Starting; queue=foo",
                "DEBUG:FragileWorker:Got payload: {'die': True}",
                "FRAGILE DYING!",
                "ERROR:AsyncTaskWorkerTask:Worker for queue foo died; restarting...",
                "INFO:AsyncTaskWorkerTask:Launching demo_fragile_worker to work on queue foo",
                "INFO:FragileWorker:Starting; queue=foo",
                "DEBUG:FragileWorker:Got payload: {'die': False}",
                "FRAGILE processed: {'die': False}",
                "DEBUG:FragileWorker:Processing complete",
                "INFO:FragileWorker:No tasks found in queue",
                "INFO:FragileWorker:Terminating",
                "INFO:AsyncTaskWorkerTask:All workers halted; closing down...",
                "INFO:AsyncTaskWorkerTask:Complete",
            ],
        ),
        empty,
    ]
}
