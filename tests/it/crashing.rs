//! A host with the fixture plugin `crash`, whose worker does what a payload says, and its records.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use rex_test_support::env::Env;
use rex_test_support::plugins;
use rex_test_support::process::{Running, wait_for};
use serde_json::{Value, json};

/// An environment whose plugin directory holds the fixture.
pub(crate) fn env() -> Env {
    let env = Env::new();
    env.add_plugin(&plugins::built("crash"));
    env
}

/// `rex-host run` over queues that all are worked by the fixture; each with its limits.
pub(crate) fn start(env: &Env, queues: &Value, more: &[&str]) -> Running {
    Running::start(command(env, queues, more))
}

/// As [`start`], with an output that is open but that nobody reads.
pub(crate) fn start_unread(env: &Env, queues: &Value, more: &[&str]) -> Running {
    let host = command(env, queues, more);
    let script =
        "{ [ -p unread ] || mkfifo unread; } && exec 3<>unread && exec \"$0\" \"$@\" >&3 2>&3";
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(host.get_program()).args(host.get_args());
    command.current_dir(env.work()).env_clear();
    command.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Running::start(command)
}

/// As [`start`], by another program that makes itself the host.
pub(crate) fn start_under(program: &[&str], env: &Env, queues: &Value) -> Running {
    let host = command(env, queues, &[]);
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(host.get_program()).args(host.get_args());
    command.current_dir(env.work()).env_clear();
    command.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Running::start(command)
}

fn command(env: &Env, queues: &Value, more: &[&str]) -> Command {
    let mut workers = queues.clone();
    for (_, queue) in workers.as_object_mut().expect("queues are a map") {
        queue["worker"] = json!("crash_worker");
    }
    let workers = format!("asynctask_workers={workers}");
    let plugins = env.path("plugins").display().to_string();
    let mut args = vec!["run", "rex.asynctask", "--plugins", &plugins, "--set", &workers];
    args.extend(["--set", r#"logging_root={"level": "DEBUG"}"#]);
    args.extend(more);
    env.command("rex-host", &args)
}

/// What tasks wrote down: how often each was started and done, by its `n`.
pub(crate) fn recorded(record: &Path) -> BTreeMap<i64, (usize, usize)> {
    let mut counts: BTreeMap<i64, (usize, usize)> = BTreeMap::new();
    let text = std::fs::read_to_string(record).unwrap_or_default();
    // The last one may be half there yet.
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let (event, n) = line.split_once(' ').expect("two words");
        let count = counts.entry(n.parse().expect("a number")).or_default();
        match event {
            "start" => count.0 += 1,
            _ => count.1 += 1,
        }
    }
    counts
}

/// Waits until task `n` has started and not ended.
pub(crate) fn wait_started(record: &Path, n: i64) {
    wait_for(format_args!("task {n} to start"), || recorded(record).get(&n) == Some(&(1, 0)));
}
