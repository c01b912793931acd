//! What a store costs: tasks put in by one command and run by one host to the end, beside the store
//! alone, driven by its own benchmark tool or by a loop that does the bare minimum.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rex_test_support::env::{Env, repository};
use rex_test_support::redis::Redis;
use rex_test_support::{amqp, process, python};
use serde_json::json;

use super::{environment, row, start, submit};

const TASKS: usize = 5000;

pub(crate) fn stores(library: &Path) {
    if let Some(server) = Redis::start() {
        let limit = redis_benchmark(&server);
        measure(library, "redis", |_| server.uri(), limit);
    }
    if let Some(uri) = amqp::fresh(55)
        && let Some(limit) = bare_amqp(&uri)
    {
        measure(library, "amqp", |_| uri.clone(), limit);
    }
    let limit = files();
    let place = |env: &Env| {
        std::fs::create_dir(env.path("queues")).expect("the folder is ours");
        format!("filesys:{}", env.path("queues").display())
    };
    measure(library, "filesys", place, limit);
}

fn measure(library: &Path, kind: &str, uri: impl Fn(&Env) -> String, limit: Duration) {
    let env = environment(library);
    // As the settings have it, for every program of this environment.
    env.set("REX_PARAMETERS", json!({"asynctask_transport": uri(&env)}).to_string());
    let begun = Instant::now();
    submit(&env, (0..TASKS).map(|n| json!({"how": "ok", "n": n})));
    let submitted = begun.elapsed();
    start(&env, &["--halt-when-empty", "--quiet"]).wait_ok();
    let figure =
        format!("{kind}: {TASKS} tasks in, {:.0} ms, and run", submitted.as_secs_f64() * 1e3);
    row(&figure, begun.elapsed(), limit);
}

/// As many pushes and pops, by one client that sends as many at once as a host takes.
fn redis_benchmark(server: &Redis) -> Duration {
    let port = server.uri().rsplit(':').next().expect("a port").to_owned();
    let count = TASKS.to_string();
    let done = Command::new("redis-benchmark")
        .args([
            "-p",
            &port,
            "-c",
            "1",
            "-P",
            "200",
            "-n",
            &count,
            "-d",
            "20",
            "-t",
            "rpush,lpop",
            "--csv",
        ])
        .output()
        .expect("redis-benchmark comes with redis-server");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let rates = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split(',').nth(1)?.trim_matches('"').parse::<f64>().ok());
    rates.map(|rate| Duration::from_secs_f64(TASKS as f64 / rate)).sum()
}

/// As many durable messages through a bare client, in streams both ways.
fn bare_amqp(uri: &str) -> Option<Duration> {
    let python = python::with_clients()?;
    let (login, place) = uri.strip_prefix("amqp://")?.split_once('@')?;
    let (user, password) = login.split_once(':')?;
    let (address, vhost) = place.split_once('/')?;
    let begun = Instant::now();
    let mut command = Command::new(&python);
    command.arg(repository().join("tests/bench/bare_amqp.py"));
    command.args([address, user, password, vhost, &TASKS.to_string()]);
    process::run_within(Duration::from_secs(600), command, "").ok();
    Some(begun.elapsed())
}

/// As many files written, synced and renamed one after the other, then removed.
fn files() -> Duration {
    let env = Env::new();
    let begun = Instant::now();
    for n in 0..TASKS {
        let part = env.write("part", "{\"payload\": {}}");
        let file = std::fs::File::open(&part).expect("it was written");
        file.sync_all().expect("it can be synced");
        std::fs::rename(part, env.path(&n.to_string())).expect("both are ours");
    }
    for n in 0..TASKS {
        std::fs::remove_file(env.path(&n.to_string())).expect("it is ours");
    }
    begun.elapsed()
}
