//! A host whose network is cut: it starts nothing more, another one takes its tasks, and what it
//! reports of them afterwards does not count.

use std::io::Write;
use std::path::Path;

use rex_test_support::env::Env;
use rex_test_support::net::Network;
use rex_test_support::process::{Running, wait_for};
use rex_test_support::redis::Redis;
use rex_test_support::server::Server;
use serde_json::{Value, json};

use crate::crashing::{self, recorded, wait_started};

fn start(env: &Env, network: Option<&Network>, state: &str, store: &str) -> Running {
    let workers = r#"asynctask_workers={"crash": {"worker": "crash_worker"}}"#;
    let plugins = env.path("plugins").display().to_string();
    let args = ["run", "rex.asynctask", "--plugins", &plugins, "--state", state, "--set", workers];
    let sets = ["--set", store, "--set", "asynctask_owner_timeout=3"];
    let command = env.command("rex-host", &[&args[..], &sets].concat());
    let host = match network {
        Some(network) => Running::start(network.inside(&command)),
        None => Running::start(command),
    };
    host.wait_output("Starting; queue=crash");
    host
}

#[test]
fn a_host_that_is_cut_off_starts_nothing_and_is_taken_over() {
    const HELD: i64 = 100;
    const TASKS: i64 = 400;
    let Some(network) = Network::new() else { return };
    let addresses = format!("listen_addresses=127.0.0.1,{}", network.here());
    let Some(server) = Server::start_with(&[&addresses]) else { return };
    let trust = format!("host all all {}/30 trust\n", network.here());
    let mut rules = std::fs::OpenOptions::new();
    let mut rules = rules.append(true).open(server.data().join("pg_hba.conf")).expect("it is ours");
    rules.write_all(trust.as_bytes()).expect("it is ours");
    server.sql("postgres", "SELECT pg_reload_conf()").expect("the server answers");
    let near = server.create_database("cut").expect("the server answers");
    let far = near.replace("127.0.0.1", &network.here());
    let [near, far] = [near, far].map(|uri| format!("asynctask_transport={uri}"));

    let env = crashing::env();
    let record = env.path("record");
    let submit = |numbers: std::ops::Range<i64>| {
        let task = |n| match n {
            HELD => json!({"how": "until", "file": env.path("go"), "n": n, "record": record}),
            n => json!({"how": "ok", "n": n, "record": record}),
        };
        let lines: String = numbers.map(|n| format!("{}\n", task(n))).collect();
        env.rex_host_with(&["submit", "crash", "-", "--set", &near], &lines).ok();
    };
    submit(0..TASKS);
    let cut_off = start(&env, Some(&network), "far", &far);
    wait_started(&record, HELD);
    network.cut();
    cut_off.wait_output("no tasks are started until it does");
    let other = start(&env, None, "near", &near);
    other.wait_output("tasks of a dead host are waiting again");
    env.write("go", "");
    // Both were at it, or came to it.
    wait_for("all tasks", || {
        let counts = recorded(&record);
        counts.get(&HELD) == Some(&(2, 2)) && counts.len() == usize::try_from(TASKS).unwrap()
    });
    let counts = recorded(&record);
    let twice: Vec<_> = counts.iter().filter(|(n, count)| **n > HELD && count.0 != 1).collect();
    assert!(twice.is_empty(), "the one that was cut off started more: {twice:?}");

    network.mend();
    cut_off.wait_output("are no longer this host's");
    cut_off.wait_output("tasks are started again");
    submit(TASKS..2 * TASKS);
    wait_for("more tasks", || recorded(&record).len() == usize::try_from(2 * TASKS).unwrap());
    for host in [cut_off, other] {
        host.signal(libc::SIGTERM);
        host.wait_ok();
    }
    let again = recorded(&record).into_iter().filter(|(n, count)| *n > HELD && *count != (1, 1));
    assert_eq!(again.collect::<Vec<_>>(), []);
    let letters = env.rex_host(&["dlq", "list", "--json", "--set", &near]).json_lines();
    assert_eq!(letters, Vec::<Value>::new());
}

/// There is nothing that the database should hear of.
#[test]
fn an_idle_host_ends_without_its_database() {
    let Some(server) = Server::start() else { return };
    let uri = server.create_database("gone").expect("the server answers");
    let env = crashing::env();
    let store = format!("asynctask_transport={uri}");
    let more = ["--set", &store, "--set", "asynctask_drain_timeout=3600"];
    let host = crashing::start(&env, &json!({"crash": {}}), &more);
    host.wait_output("Starting; queue=crash");
    server.stop(true);
    host.wait_output("the queue store is away");
    host.signal(libc::SIGTERM);
    host.wait_ok();
}

/// What it had claimed and nobody had begun is no repetition.
#[test]
fn a_host_that_ends_without_its_store_says_how_many_tasks_are_run_again() {
    let Some(server) = Server::start() else { return };
    let uri = server.create_database("gone").expect("the server answers");
    let env = crashing::env();
    let store = format!("asynctask_transport={uri}");
    let record = env.path("record");
    // Once it is told to stop the process begins no other.
    let how = |n: i64| if n == 1000 { "until_told" } else { "ok" };
    let task = |n: i64| json!({"how": how(n), "n": n, "record": record});
    let lines: String = (0..2000).map(|n| format!("{}\n", task(n))).collect();
    env.rex_host_with(&["submit", "crash", "-", "--set", &store], &lines).ok();
    let more = ["--set", &store, "--set", "asynctask_drain_timeout=2"];
    let host = crashing::start(&env, &json!({"crash": {}}), &more);
    wait_started(&record, 1000);
    wait_for("the outcomes before", || {
        let queues = env.rex_host(&["queue", "list", "--json", "--set", &store]).json_lines();
        let count = |what: &str| queues[0][what].as_i64().expect("a number");
        count("waiting") + count("in_flight") == 1000
    });
    server.stop(true);
    host.wait_output("the queue store is away");
    host.signal(libc::SIGTERM);
    let output = host.wait_ok();
    let said = "the queue store stayed away: one outcome is not recorded, ";
    assert!(output.contains(said), "{output}");
}

#[test]
fn a_queue_file_that_is_taken_away_is_said_to_be() {
    let env = crashing::env();
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    host.wait_output("Starting; queue=crash");
    let (state, aside) = (env.path("work/.rex-host"), env.path("aside"));
    std::fs::create_dir(&aside).expect("ours");
    let bring = |from: &Path, to: &Path| {
        for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
            std::fs::rename(from.join(name), to.join(name)).expect("it is there");
        }
    };
    bring(&state, &aside);
    let record = env.path("record");
    let task = |n: i64| json!({"how": "ok", "n": n, "record": record}).to_string();
    env.rex_host(&["submit", "crash", &task(1)]).ok();
    host.wait_output("it was removed, or another one is in its place");
    // Put back, it is worked again.
    bring(&aside, &state);
    env.rex_host(&["submit", "crash", &task(2)]).ok();
    wait_for("the task", || recorded(&record).get(&2) == Some(&(1, 1)));
    assert_eq!(recorded(&record).get(&1), None);

    // What cannot even be looked at is not said to be gone.
    let (queue, kept, circle) = (state.join("queue.db"), aside.join("kept"), aside.join("circle"));
    std::fs::hard_link(&queue, &kept).expect("ours");
    std::os::unix::fs::symlink(&queue, &circle).expect("ours");
    std::fs::rename(&circle, &queue).expect("ours");
    host.wait_output("Too many levels of symbolic links");
    std::fs::rename(&kept, &queue).expect("ours");
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

/// It answers, so it is not away.
#[test]
fn a_store_that_refuses_is_said_to_do_so() {
    let Some(server) = Redis::start() else { return };
    let env = crashing::env();
    let store = format!("asynctask_transport={}", server.uri());
    let host = crashing::start(&env, &json!({"crash": {}}), &["--set", &store]);
    host.wait_output("Starting; queue=crash");
    server.command(&["config", "set", "min-replicas-to-write", "1"]);
    host.wait_output("the queue store refuses this host, its tasks are kept: ");
    host.wait_output("the queue store has refused this host for ");
    server.command(&["config", "set", "min-replicas-to-write", "0"]);
    let output = host.wait_output("the queue store is back after ");
    assert!(!output.contains("the queue store is away"), "{output}");
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

/// A server at its maxmemory is worked off by hosts that run and by those that come.
#[test]
fn a_full_redis_is_worked_off() {
    let Some(server) = Redis::start() else { return };
    let env = crashing::env();
    let uri = server.uri();
    let store = format!("asynctask_transport={uri}");
    for _ in 0..500 {
        server.command(&["rpush", "asynctask_crash", "{\"how\": \"ok\"}"]);
    }
    server.command(&["config", "set", "maxmemory", "1"]);
    let listed = env.rex_host(&["queue", "list", "--set", &store]).ok();
    assert!(listed.contains("500"), "{listed}");
    let payload = json!({"how": "ok"}).to_string();
    let error = env.rex_host(&["submit", "crash", &payload, "--set", &store]).fails(1);
    assert!(error.contains("OOM"), "{error}");
    let aside = format!("filesys:{}", env.path("work").display());
    env.rex_host(&["queue", "move", "--from", &uri, "--to", &aside, "crash"]).ok();
    server.command(&["config", "set", "maxmemory", "0"]);
    env.rex_host(&["queue", "move", "--from", &aside, "--to", &uri, "crash"]).ok();
    server.command(&["config", "set", "maxmemory", "1"]);
    let host = crashing::start(&env, &json!({"crash": {}}), &["--set", &store]);
    wait_for("the tasks", || server.command(&["llen", "asynctask_crash"]) == "0");
    env.rex_host(&["stop"]).ok();
    let output = host.wait_ok();
    assert!(!output.contains("OOM"), "{output}");
}
