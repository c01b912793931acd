//! The stores that old applications may use, through the real program: hosts that are killed at any
//! moment, a server that crashes under a host, and moving a queue from one store to another.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use rex_test_support::amqp::{self, RabbitMq};
use rex_test_support::env::{Env, not_run};
use rex_test_support::pg::Database;
use rex_test_support::process::{self, Running, wait_for};
use rex_test_support::proxy::Proxy;
use rex_test_support::redis::Redis;
use serde_json::{Value, json};

use crate::crashing::{self, recorded};

fn on(uri: &str) -> Vec<String> {
    vec!["--set".to_owned(), format!("asynctask_transport={uri}")]
}

fn submit(env: &Env, uri: &str, tasks: impl Iterator<Item = Value>) {
    let lines: String = tasks.map(|task| format!("{task}\n")).collect();
    let store = on(uri);
    let args = ["submit", "crash", "-"].into_iter().chain(store.iter().map(String::as_str));
    env.rex_host_with(&args.collect::<Vec<_>>(), &lines).ok();
}

fn start(env: &Env, uri: &str, more: &[&str]) -> Running {
    start_with(env, uri, &json!({"processes": 2}), more)
}

fn start_with(env: &Env, uri: &str, limits: &Value, more: &[&str]) -> Running {
    let store = on(uri);
    let args = store.iter().map(String::as_str).chain(more.iter().copied());
    crashing::start(env, &json!({ "crash": limits }), &args.collect::<Vec<_>>())
}

fn list(env: &Env, uri: &str, command: &[&str]) -> Vec<Value> {
    let store = on(uri);
    let args = command.iter().copied().chain(["--json"]).chain(store.iter().map(String::as_str));
    env.rex_host(&args.collect::<Vec<_>>()).json_lines()
}

fn done(env: &Env) -> usize {
    recorded(&env.path("record")).values().filter(|(_, done)| *done > 0).count()
}

/// Kills one host after the other in the middle of its work; the last one finds the rest.
fn loses_nothing(env: &Env, uri: &str) {
    const TASKS: usize = 120;
    let record = env.path("record");
    let task = |n| json!({"how": "work", "ms": 2, "n": n, "record": record});
    submit(env, uri, (0..TASKS).map(task));
    for round in 1..4 {
        let host = start(env, uri, &[]);
        wait_for("some tasks", || done(env) >= round * 20);
        host.signal(libc::SIGKILL);
        host.wait();
    }
    let output = start(env, uri, &["--halt-when-empty"]).wait_ok();
    assert_eq!(done(env), TASKS, "{output}");
    assert_eq!(list(env, uri, &["queue", "list"]), Vec::<Value>::new(), "{output}");
    // Who was killed with its host is not to blame.
    assert_eq!(list(env, uri, &["dlq", "list"]), Vec::<Value>::new());
}

/// A task that fails is tried again until it succeeds, another until its attempts are used up.
fn tries_again(env: &Env, uri: &str) {
    let record = env.path("record");
    let task = |n, until| json!({"how": "again", "until": until, "n": n, "record": record});
    submit(env, uri, [task(1001, 3), task(1002, 9)].into_iter());
    let host = start_with(env, uri, &json!({"max_attempts": 3, "backoff": 0.3}), &[]);
    let ended = || {
        let done = recorded(&record).get(&1001).is_some_and(|(_, done)| *done == 1);
        done && !list(env, uri, &["dlq", "list"]).is_empty()
    };
    wait_for("both tasks to end", ended);
    host.signal(libc::SIGTERM);
    let output = host.wait_ok();
    let counts = recorded(&record);
    assert_eq!([1001, 1002].map(|n| counts[&n].0), [3, 3], "{output}");
    let letters = list(env, uri, &["dlq", "list"]);
    let attempts = letters[0]["details"]["attempts"].as_array().expect("a history");
    assert_eq!((&letters[0]["attempts"], attempts.len()), (&json!(3), 3), "{output}");
    let store = on(uri);
    env.rex_host(&["dlq", "discard", "--queue", "crash", &store[0], &store[1]]).ok();
}

/// A failure's way to the dead letters.
fn buries(env: &Env, uri: &str) {
    submit(env, uri, std::iter::once(json!({"how": "exit3", "n": 7})));
    start(env, uri, &["--halt-when-empty"]).wait_ok();
    let letters = list(env, uri, &["dlq", "list"]);
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((&letters[0]["queue"], &letters[0]["payload"]["n"]), (&json!("crash"), &json!(7)));
}

/// Each task has one letter, whoever was killed while it wrote some.
fn buries_once(env: &Env, uri: &str, letters: impl Fn() -> usize) {
    const TASKS: usize = 300;
    submit(env, uri, (0..TASKS).map(|n| json!({"how": "never", "n": n})));
    for round in 1..6 {
        let host = start(env, uri, &[]);
        wait_for("some letters", || letters() >= round * 30);
        host.signal(libc::SIGKILL);
        host.wait();
    }
    let output = start(env, uri, &["--halt-when-empty"]).wait_ok();
    let letters = list(env, uri, &["dlq", "list"]);
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for letter in letters {
        *counts.entry(letter["payload"]["n"].as_i64().expect("a number")).or_default() += 1;
    }
    assert_eq!(counts.len(), TASKS, "{output}");
    counts.retain(|_, count| *count > 1);
    assert!(counts.is_empty(), "more than one letter: {counts:?}");
}

#[test]
fn killed_hosts_on_redis() {
    let Some(server) = Redis::start() else { return };
    let env = crashing::env();
    loses_nothing(&env, &server.uri());
    tries_again(&env, &server.uri());
    buries(&env, &server.uri());
}

#[test]
fn killed_hosts_on_amqp() {
    let Some(uri) = amqp::fresh(75) else { return };
    let env = crashing::env();
    loses_nothing(&env, &uri);
    tries_again(&env, &uri);
    buries(&env, &uri);
}

#[test]
fn killed_hosts_on_filesys() {
    let env = crashing::env();
    let uri = env.directory();
    loses_nothing(&env, &uri);
    tries_again(&env, &uri);
    buries(&env, &uri);
    let letters = env.path("queues/.rex/queues/crash/dead");
    env.rex_host(&["dlq", "discard", "--queue", "crash", &on(&uri)[0], &on(&uri)[1]]).ok();
    buries_once(&env, &uri, || std::fs::read_dir(&letters).expect("it is there").count());
}

/// A file that may not grow (`ulimit -f`) stands for a disk that is full.
#[test]
fn a_submit_that_does_not_fit_leaves_no_file() {
    let env = crashing::env();
    let store = on(&env.directory());
    let args = ["submit", "crash", "-", &store[0], &store[1]];
    let host = env.command("rex-host", &args);
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -f 8 && exec \"$0\" \"$@\""]).arg(host.get_program()).args(args);
    command.current_dir(env.work()).env_clear();
    command.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let large = format!("{{\"small\": 1}}\n{{\"large\": \"{}\"}}\n", "x".repeat(60_000));
    let said = process::run(command, &large).fails(1);
    assert!(said.contains("File too large: "), "{said}");
    let staged = std::fs::read_dir(env.path("queues/.rex/new")).expect("it is there");
    assert_eq!(staged.count(), 0, "{said}");
}

/// As when its disk is unmounted: nothing is written to where it was, and what the host had is its
/// own when the directory is back.
#[test]
fn a_directory_that_is_gone_is_said_and_not_made_again() {
    let env = crashing::env();
    let (queues, away) = (env.path("queues"), env.path("away"));
    std::fs::create_dir(&queues).expect("the folder is ours");
    let uri = format!("filesys:{}", queues.display());
    let (record, go) = (env.path("record"), env.path("go"));
    let held = |n: usize| json!({"how": "until", "file": go, "n": n, "record": record});
    submit(&env, &uri, std::iter::once(held(1)));
    let host = start(&env, &uri, &[]);
    wait_for("the task to start", || recorded(&record).contains_key(&1));
    std::fs::rename(&queues, &away).expect("both are ours");
    host.wait_output(&format!("No such file or directory: '{}'", queues.display()));
    std::fs::write(&go, "").expect("the folder is ours");
    wait_for("the task to end", || recorded(&record)[&1].1 == 1);
    assert!(!queues.exists());
    std::fs::rename(&away, &queues).expect("both are ours");
    submit(&env, &uri, std::iter::once(held(2)));
    wait_for("the other task", || recorded(&record).get(&2).is_some_and(|(_, done)| *done == 1));
    host.signal(libc::SIGTERM);
    let output = host.wait_ok();
    assert_eq!(recorded(&record)[&1], (1, 1), "{output}");
    assert_eq!(list(&env, &uri, &["queue", "list"]), Vec::<Value>::new(), "{output}");
}

#[test]
fn a_redis_server_crashes_under_a_host() {
    let Some(server) = Redis::start() else { return };
    let (env, uri) = (crashing::env(), server.uri());
    let record = env.path("record");
    let task = |n: usize| json!({"how": "work", "ms": 2, "n": n, "record": record});
    submit(&env, &uri, (0..100).map(task));
    let host = start(&env, &uri, &["--halt-when-empty"]);
    wait_for("some tasks", || done(&env) >= 20);
    server.crash();
    server.restart();
    let output = host.wait_ok();
    assert_eq!(done(&env), 100, "{output}");
    assert_eq!(list(&env, &uri, &["queue", "list"]), Vec::<Value>::new(), "{output}");
}

#[test]
fn an_unreachable_server_in_the_originals_words() {
    let env = Env::new();
    let fails = |uri: &str| {
        let store = on(uri);
        env.rex_host(&["submit", "foo", "{}", &store[0], &store[1]]).fails(1)
    };
    let text = fails("redis://127.0.0.1:1");
    assert!(text.contains("Failed to connect to the Redis server:"), "{text}");
    assert!(text.contains("Error 111 connecting to 127.0.0.1:1. Connection refused."), "{text}");
    let text = fails("amqp://me:secret@127.0.0.1:1");
    assert!(text.contains("Failed to connect to the AMQP server:"), "{text}");
    assert!(text.contains("[Errno 111] Connection refused"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let text = fails("nothing:x");
    assert!(text.contains("\"nothing:x\" does not resolve to a known AsyncTransport"), "{text}");
    // What would be gone with the command is refused.
    let text = fails("localmem://");
    assert!(text.contains("lives in one process"), "{text}");
}

#[test]
fn two_hosts_on_redis_share_and_one_takes_over() {
    const TASKS: usize = 150;
    let Some(server) = Redis::start() else { return };
    let (env, uri) = (crashing::env(), server.uri());
    let record = env.path("record");
    let task = |n| json!({"how": "work", "ms": 2, "n": n, "record": record});
    let hosts = ["a", "b"].map(|state| start(&env, &uri, &["--state", state]));
    for host in &hosts {
        host.wait_output("Starting; queue=crash");
    }
    submit(&env, &uri, (0..TASKS).map(task));
    wait_for("all tasks", || done(&env) == TASKS);
    assert!(recorded(&record).values().all(|counts| *counts == (1, 1)), "none ran twice");
    submit(&env, &uri, (TASKS..2 * TASKS).map(task));
    wait_for("some more tasks", || done(&env) >= TASKS + 20);
    let [first, second] = hosts;
    first.signal(libc::SIGKILL);
    first.wait();
    wait_for("all tasks", || done(&env) == 2 * TASKS);
    wait_for("an empty store", || list(&env, &uri, &["queue", "list"]).is_empty());
    second.signal(libc::SIGTERM);
    second.wait_ok();
}

#[test]
fn a_broker_restarts_under_a_host() {
    let Some(mut broker) = RabbitMq::start() else { return };
    let (env, uri) = (crashing::env(), broker.uri.clone());
    let record = env.path("record");
    let task = |n: usize| json!({"how": "work", "ms": 2, "n": n, "record": record});
    submit(&env, &uri, (0..100).map(task));
    let host = start(&env, &uri, &["--halt-when-empty"]);
    wait_for("some tasks", || done(&env) >= 20);
    broker.crash();
    broker.restart();
    let output = host.wait_ok();
    assert_eq!(done(&env), 100, "{output}");
    assert_eq!(list(&env, &uri, &["queue", "list"]), Vec::<Value>::new(), "{output}");
    assert_eq!(list(&env, &uri, &["dlq", "list"]), Vec::<Value>::new(), "{output}");
}

fn moving(from: &str, to: &str) -> Vec<String> {
    ["queue", "move", "crash", "--from", from, "--to", to].map(str::to_owned).to_vec()
}

/// How often each task waits at `uri`.
fn waiting(env: &Env, uri: &str) -> BTreeMap<i64, usize> {
    let mut counts = BTreeMap::new();
    for task in list(env, uri, &["queue", "peek", "crash"]) {
        *counts.entry(task["payload"]["n"].as_i64().expect("a number")).or_default() += 1;
    }
    counts
}

/// Moves a queue, killed midway, and again to its end.
fn moves(env: &Env, from: &str, to: &str) {
    const TASKS: i64 = 3000;
    submit(env, from, (0..TASKS).map(|n| json!({"n": n})));
    let args = moving(from, to);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let first = env.start(&args);
    wait_for("the first tasks at the target", || !waiting(env, to).is_empty());
    first.signal(libc::SIGKILL);
    first.wait();
    // Whatever state it was in: each task is somewhere.
    let said = env.rex_host(&args).ok();
    assert!(said.contains("tasks moved from queue crash"), "{said}");
    let arrived = waiting(env, to);
    assert_eq!(arrived.len() as i64, TASKS, "none is lost");
    let doubled = arrived.values().filter(|count| **count > 1).count();
    assert!(doubled <= 200 && arrived.values().all(|count| *count <= 2), "{doubled} doubled");
    assert_eq!(list(env, from, &["queue", "list"]), Vec::<Value>::new());
}

#[test]
fn a_killed_move_from_the_embedded_kind_to_redis_loses_nothing() {
    let Some(server) = Redis::start() else { return };
    let env = crashing::env();
    moves(&env, &format!("sqlite:{}", env.path("old.db").display()), &server.uri());
}

#[test]
fn a_killed_move_from_redis_to_files_loses_nothing() {
    let Some(server) = Redis::start() else { return };
    let env = crashing::env();
    moves(&env, &server.uri(), &env.directory());
}

/// An old consumer has the queue's lock.
fn lock(env: &Env) -> std::fs::File {
    let lock = std::fs::File::open(env.path("queues/crash/.lock")).expect("the queue is there");
    lock.lock().expect("nobody has it");
    lock
}

#[test]
fn a_move_out_of_a_locked_directory_waits() {
    let env = crashing::env();
    let (files, new) = (env.directory(), format!("sqlite:{}", env.path("new.db").display()));
    submit(&env, &files, (0..300).map(|n| json!({"n": n})));
    let kept = lock(&env);
    let impatient = moving(&format!("{files}?lock_timeout=1"), &new);
    let said = env.rex_host(&impatient.iter().map(String::as_str).collect::<Vec<_>>()).fails(1);
    assert!(said.contains("crash/.lock' could not be acquired."), "{said}");
    let args = moving(&format!("{files}?lock_timeout=-1"), &new);
    let patient = env.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let begun = Instant::now();
    wait_for("what it would wait for else", || begun.elapsed() > Duration::from_secs(2));
    drop(kept);
    let said = patient.wait_ok();
    assert_eq!(said, "300 tasks moved from queue crash\n");
    assert_eq!(waiting(&env, &new).len(), 300);
}

/// What is asked after the last batch.
#[test]
fn a_move_that_loses_its_source_at_its_end_says_what_was_moved() {
    let Some(server) = Redis::start() else { return };
    let env = crashing::env();
    let uri = server.uri();
    submit(&env, &uri, (0..150).map(|n| json!({"n": n})));
    let (_, address) = uri.split_once("//").expect("an address");
    let address = address.split(['?', '/']).next().expect("a part");
    let proxy = Proxy::to(address);
    let files = env.directory();
    let args = moving(&uri.replacen(address, proxy.address(), 1), &files);
    proxy.cut_before_nth(2, b"HKEYS");
    let said = env.rex_host(&args.iter().map(String::as_str).collect::<Vec<_>>()).fails(1);
    assert!(said.contains("150 tasks were moved"), "{said}");
    assert_eq!(waiting(&env, &files).len(), 150);
}

/// Containers that share a directory: the processes of each have the same numbers.
#[test]
fn programs_of_the_same_process_id_submit_beside_each_other() {
    let env = crashing::env();
    let files = format!("{}?lock_timeout=-1", env.directory());
    submit(&env, &files, [json!({"n": 0})].into_iter());
    let kept = lock(&env);
    let store = on(&files);
    let submits = [1, 2].map(|n| {
        let task = json!({ "n": n }).to_string();
        let host = env.command("rex-host", &["submit", "crash", &task, &store[0], &store[1]]);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"]);
        command.arg(host.get_program()).args(host.get_args()).current_dir(env.work()).env_clear();
        command.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Running::start(command)
    });
    let staged = || std::fs::read_dir(env.path("queues/.rex/new")).expect("it is there").count();
    let refused = || submits.iter().any(|submit| submit.output().contains("unshare"));
    wait_for("both, or why there is none", || staged() == 2 || refused());
    if refused() {
        return not_run("submits in other namespaces", "this machine grants none");
    }
    drop(kept);
    for submit in submits {
        submit.wait_ok();
    }
    assert_eq!(waiting(&env, &files), BTreeMap::from([(0, 1), (1, 1), (2, 1)]));
}

/// The target takes so long that a host at the source takes the tasks from the move.
#[test]
fn a_move_says_what_is_at_both_stores() {
    let env = crashing::env();
    let old = format!("sqlite:{}", env.path("old.db").display());
    let files = format!("{}?lock_timeout=-1", env.directory());
    submit(&env, &old, (0..300).map(|n| json!({"n": n})));
    // So that there is a lock.
    submit(&env, &files, [json!({"n": 300})].into_iter());
    let kept = lock(&env);
    let set = ["--set", "asynctask_owner_timeout=2"].map(str::to_owned);
    let args: Vec<String> = moving(&old, &files).into_iter().chain(set.clone()).collect();
    let moving = env.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for("the claim", || list(&env, &old, &["queue", "list"])[0]["in_flight"] == 200);
    let more: Vec<String> = on(&old).into_iter().chain(set).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let host = crashing::start(&env, &json!({"other": {}}), &more);
    host.wait_output("tasks of a dead host are waiting again: 200");
    drop(kept);
    let (status, said) = moving.wait();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.starts_with("0 tasks moved from queue crash\n"), "{said}");
    assert!(said.contains("error: 200 tasks are at both stores\nhint: "), "{said}");
    let arrived = waiting(&env, &files);
    assert_eq!(arrived.len(), 201);
    assert!(arrived.values().all(|count| *count == 1), "{arrived:?}");
    assert_eq!(waiting(&env, &old).len(), 300);
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

/// A connection that breaks before an answer leaves open what the store has done.
#[test]
fn what_a_lost_answer_would_have_said_is_not_known() {
    let (env, database) = (crashing::env(), Database::new());
    let proxy = Proxy::to(&database.address());
    let uri = database.uri().replacen(&database.address(), proxy.address(), 1);
    let files = env.directory();
    submit(&env, &database.uri(), (0..300).map(|n| json!({"n": n})));
    let args = moving(&uri, &files);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    proxy.cut_before(b"WITH ended AS");
    let said = env.rex_host(&args).fails(1);
    let hint = "hint: 0 tasks were moved, and 200 more are at the target; whether they will wait at the \
                source again is not known";
    assert!(said.contains(hint), "{said}");
    assert_eq!(waiting(&env, &files).len(), 200);
    proxy.restore();
    env.rex_host(&args).ok();
    assert_eq!(waiting(&env, &files).len(), 300);

    let store = on(&uri);
    proxy.cut_before(b"INSERT INTO asynctask.asynctask_queue");
    let said = env.rex_host_with(&["submit", "crash", "-", &store[0], &store[1]], "{}\n").fails(1);
    let hint = "begin again with line 1, unless the lost connection has taken an answer with it";
    assert!(said.contains(hint), "{said}");
}

#[test]
fn a_broker_that_waits_no_longer_for_a_task_says_why() {
    let Some(mut broker) = RabbitMq::start() else { return };
    broker.ctl("eval application:set_env(rabbit,consumer_timeout,1000).");
    broker.ctl("eval application:set_env(rabbit,channel_tick_interval,500).");
    let (env, uri) = (crashing::env(), broker.uri.clone());
    let go = env.path("go");
    submit(&env, &uri, [json!({"how": "until", "file": go})].into_iter());
    let host = start(&env, &uri, &[]);
    let said = host.wait_output("The AMQP server closed the channel: ");
    env.write("go", "");
    assert!(said.contains("raise consumer_timeout in the broker's settings"), "{said}");
    wait_for("its end", || list(&env, &uri, &["queue", "list"]).is_empty());
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

#[test]
fn a_move_to_amqp_and_refusals() {
    let Some(uri) = amqp::fresh(75) else { return };
    let env = crashing::env();
    let old = format!("sqlite:{}", env.path("old.db").display());
    submit(&env, &old, (0..300).map(|n| json!({"n": n})));
    let args = moving(&old, &uri);
    env.rex_host(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    assert_eq!(waiting(&env, &uri).len(), 300);
    let bad = ["localmem://", "redis://127.0.0.1:99999"].map(str::to_owned);
    for (from, to) in [(&old, &old), (&old, &bad[0]), (&old, &bad[1])] {
        let args = moving(from, to);
        env.rex_host(&args.iter().map(String::as_str).collect::<Vec<_>>()).fails(1);
    }
}

#[test]
fn a_move_onto_itself_is_refused_however_it_is_spelled() {
    let env = crashing::env();
    std::fs::create_dir(env.path("queues")).expect("the folder is ours");
    std::os::unix::fs::symlink(env.path("queues"), env.path("link")).expect("the folder is ours");
    let path = |name: &str| env.path(name).display().to_string();
    let mut stores = vec![
        (format!("sqlite:{}", path("old.db")), format!("sqlite:{}", path("queues/../old.db"))),
        (format!("filesys:{}", path("queues")), format!("filesys:{}", path("link"))),
    ];
    let redis = Redis::start();
    let servers = [redis.as_ref().map(Redis::uri), amqp::fresh(75)];
    let elsewhere = |uri: String| (uri.clone(), uri.replace("127.0.0.1", "localhost"));
    stores.extend(servers.into_iter().flatten().map(elsewhere));
    for (from, to) in stores {
        assert_ne!(from, to);
        submit(&env, &from, (0..3).map(|n| json!({"n": n})));
        let before = list(&env, &from, &["queue", "peek", "crash"]);
        let args = moving(&from, &to);
        let said = env.rex_host(&args.iter().map(String::as_str).collect::<Vec<_>>()).fails(1);
        assert!(said.contains("both transports are "), "{said}");
        assert_eq!(list(&env, &from, &["queue", "peek", "crash"]), before);
    }
}

/// Puts one task in by a command of its own.
fn submit_as(env: &Env, uri: &str, payload: &str, attributes: &[&str]) {
    let store = on(uri);
    let args = [&["submit", "crash", payload, &store[0], &store[1]], attributes].concat();
    env.rex_host(&args).ok();
}

#[test]
fn a_move_keeps_what_tasks_have_or_refuses() {
    let Some(server) = Redis::start() else { return };
    let env = crashing::env();
    let [old, new] =
        ["old.db", "new.db"].map(|file| format!("sqlite:{}", env.path(file).display()));
    submit_as(&env, &old, r#"{"n": 1}"#, &[]);
    submit_as(&env, &old, r#"{"n": 2}"#, &["--priority", "5"]);
    submit_as(&env, &old, r#"{"n": 3}"#, &["--priority", "-5", "--unique", "three"]);
    submit_as(&env, &old, r#"{"n": 4}"#, &["--delay", "1h"]);
    let go = |from: &str, to: &str| {
        env.rex_host(&moving(from, to).iter().map(String::as_str).collect::<Vec<_>>())
    };

    // A name that was mistyped is no empty queue.
    let missing = go(&format!("{old}x"), &new).fails(1);
    assert!(missing.contains("it does not exist"), "{missing}");

    // Redis has neither priorities nor keys: the batch stays where it is.
    let refused = go(&old, &server.uri()).fails(1);
    assert!(refused.contains("cannot give tasks a priority"), "{refused}");
    assert!(refused.contains("0 tasks were moved; the rest waits at sqlite:"), "{refused}");
    assert!(waiting(&env, &server.uri()).is_empty());

    let said = go(&old, &new).ok();
    assert_eq!(
        said,
        "3 tasks moved from queue crash\n1 delayed task stays until its time has come\n"
    );
    let tasks = list(&env, &new, &["queue", "peek", "crash"]);
    let order: Vec<_> = tasks.iter().map(|task| &task["payload"]["n"]).collect();
    assert_eq!(order, [3, 1, 2]);
    submit_as(&env, &new, r#"{"n": 5}"#, &["--unique", "three"]);
    assert_eq!(waiting(&env, &new).len(), 3, "its key came along");
    assert_eq!(waiting(&env, &old).keys().collect::<Vec<_>>(), [&4]);

    // One of the same key that waits there already is not run instead of it.
    submit_as(&env, &old, r#"{"n": 6}"#, &["--unique", "three"]);
    submit_as(&env, &old, r#"{"n": 7}"#, &[]);
    let said = go(&old, &new).ok();
    assert!(said.starts_with("1 task moved from queue crash\n1 task stays: a task of"), "{said}");
    assert!(!said.contains("came meanwhile"), "{said}");
    assert_eq!(waiting(&env, &old).keys().collect::<Vec<_>>(), [&4, &6]);
    assert_eq!(waiting(&env, &new).len(), 4);

    let store = on(&new);
    env.rex_host(&["queue", "pause", "crash", &store[0], &store[1]]).ok();
    let refused = go(&new, &old).fails(1);
    assert!(refused.contains("queue crash is paused at sqlite:"), "{refused}");
    assert!(refused.contains("resume it first"), "{refused}");
    assert_eq!(waiting(&env, &new).len(), 4);
}

#[test]
fn a_limit_over_all_hosts_is_refused_where_nobody_counts_them() {
    let Some(uri) = amqp::fresh(75) else { return };
    let env = crashing::env();
    let store = on(&uri);
    let plugins = env.path("plugins").display().to_string();
    let workers = r#"asynctask_workers={"crash": {"worker": "crash_worker", "max_in_flight": 2}}"#;
    let run = ["run", "rex.asynctask", "--plugins", &plugins, "--set", workers];
    let refused = env.rex_host(&[&run[..], &[&store[0], &store[1]]].concat()).fails(78);
    assert!(refused.contains("queue crash asks for max_in_flight, which Amqp"), "{refused}");
}

#[test]
fn queues_that_cannot_be_looked_at_are_told() {
    let env = crashing::env();
    let directory = env.path("queues");
    std::fs::create_dir(&directory).unwrap();
    let uri = format!("filesys:{}", directory.display());
    let store = on(&uri);
    let look = |command: [&str; 2]| {
        env.rex_host(&[&command[..], &["--json", &store[0], &store[1]]].concat())
    };
    submit_as(&env, &uri, "{}", &[]);
    let odd = directory.join(".rex/queues/odd");
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("claims"), "").unwrap();
    std::fs::write(odd.join("dead"), "").unwrap();
    let warning = "warning: queue odd cannot be looked at: ";
    for command in [["queue", "list"], ["dlq", "list"]] {
        let said = look(command);
        assert!(said.stderr.starts_with(warning), "{said}");
        assert!(said.stderr.contains("[Errno 20] Not a directory: '"), "{said}");
        assert_eq!(said.stderr.lines().count(), 1, "{said}");
        assert_eq!(said.ok().lines().count(), usize::from(command[0] == "queue"));
    }
    let retry = env.rex_host(&["dlq", "retry", "--all", &store[0], &store[1]]);
    assert!(retry.stderr.starts_with(warning), "{retry}");
    retry.ok();
    env.rex_host(&["queue", "purge", "crash", "--yes", &store[0], &store[1]]).ok();
    assert!(look(["queue", "list"]).fails(1).starts_with(warning), "nothing else is there");
}

/// Queues that a policy of the broker's limits refuse what comes while they are full.
#[test]
fn full_queues_on_amqp_cost_no_task() {
    let Some(mut broker) = RabbitMq::with_hosts(1) else { return };
    let (env, uri) = (crashing::env(), format!("{}/t0", broker.uri));
    let record = env.path("record");
    let limit = |broker: &mut RabbitMq, pattern: &str, most: u32| {
        let rule = format!("{{\"max-length\":{most},\"overflow\":\"reject-publish\"}}");
        broker.ctl(&format!("set_policy -p t0 --apply-to queues lim {pattern} {rule}"));
    };
    let store = on(&uri);
    let host = |command: &[&str]| {
        let all: Vec<&str> =
            command.iter().copied().chain(store.iter().map(String::as_str)).collect();
        env.rex_host(&all)
    };
    let task = |how: &str, n| json!({"how": how, "n": n, "record": record});

    // A task whose submit is refused; its neighbours are done once.
    host(&["submit", "foo", "{}"]).ok();
    limit(&mut broker, "^foo$", 1);
    let asks = json!({"how": "submit", "queue": "foo", "payload": {}, "n": 0, "record": record});
    submit(&env, &uri, [asks, task("ok", 1), task("ok", 2)].into_iter());
    let output = start(&env, &uri, &["--halt-when-empty"]).wait_ok();
    assert!(output.contains("what task"), "{output}");
    let counts = recorded(&record);
    assert_eq!([0, 1, 2].map(|n| counts[&n]), [(1, 1); 3], "{output}");
    let letters = list(&env, &uri, &["dlq", "list"]);
    let reason = letters[0]["reason"].as_str().expect("a text");
    assert!(letters.len() == 1 && reason.contains("basic.nack"), "{letters:?}");

    // Dead letters: a task without one waits again when its host ends.
    limit(&mut broker, "^rex[.]dead", 2);
    submit(&env, &uri, (3..6).map(|n| task("error", n)));
    let running = start(&env, &uri, &[]);
    wait_for("a word", || running.output().contains("stays in flight until"));
    wait_for("all three", || recorded(&record).len() == 6);
    running.signal(libc::SIGTERM);
    let output = running.wait_ok();
    assert_eq!(output.matches("stays in flight until").count(), 1, "{output}");
    let letters = list(&env, &uri, &["dlq", "list"]);
    assert_eq!((letters.len(), waiting(&env, &uri).len()), (2, 2), "{output}");

    // Dead letters that are retried.
    limit(&mut broker, "^rex[.]due", 1);
    let said = host(&["dlq", "retry", "--queue", "crash"]).fails(1);
    assert!(said.contains("1 of 2 tasks wait again"), "{said}");
    let letters = list(&env, &uri, &["dlq", "list"]);
    assert_eq!((letters.len(), waiting(&env, &uri).len()), (1, 3), "{said}");

    // What is submitted.
    limit(&mut broker, "^foo$", 3);
    let said =
        env.rex_host_with(&["submit", "foo", "-", &store[0], &store[1]], "{}\n{}\n\n{}\n{}\n");
    let said = said.fails(1);
    let hint =
        "2 tasks, those of the first 2 lines, were submitted before; begin again with line 3";
    assert!(said.contains(hint) && said.contains("basic.nack"), "{said}");
    assert!(!said.contains("other properties"), "{said}");

    // What is moved.
    let old = format!("sqlite:{}", env.path("old.db").display());
    submit(&env, &old, (10..14).map(|n| task("ok", n)));
    limit(&mut broker, "^crash$", 4);
    let args = moving(&old, &uri);
    let said = env.rex_host(&args.iter().map(String::as_str).collect::<Vec<_>>()).fails(1);
    assert!(said.contains("2 tasks were moved; the rest waits at sqlite:"), "{said}");
    assert_eq!((waiting(&env, &old).len(), waiting(&env, &uri).len()), (2, 5), "{said}");

    // A broker that takes nothing, for want of disk: the dead letters of two that wait are late.
    limit(&mut broker, "^none$", 1);
    broker.ctl("set_disk_free_limit 900000GB");
    let running = start(&env, &uri, &[]);
    running.wait_output("The AMQP server has confirmed nothing for 5 s");
    broker.ctl("set_disk_free_limit 1MB");
    running.wait_output("The AMQP server confirms again");
    wait_for("the dead letters", || list(&env, &uri, &["dlq", "list"]).len() == 3);
    running.signal(libc::SIGTERM);
    let output = running.wait_ok();
    assert_eq!(output.matches("has confirmed nothing").count(), 1, "{output}");
}

/// Bytes that are no UTF-8 are worked by nobody, and moved nowhere.
#[test]
fn what_is_no_text_is_a_dead_letter() {
    let Some(server) = Redis::start() else { return };
    let (env, uri) = (crashing::env(), server.uri());
    let record = env.path("record");
    let text =
        format!(r#"{{"how": "ok", "n": 1, "odd": "\255", "record": "{}"}}"#, record.display());
    let push = format!("redis.call('rpush', KEYS[1], '{text}')");
    server.command(&["eval", &push, "1", "asynctask_crash"]);
    let new = format!("sqlite:{}", env.path("new.db").display());
    let args = moving(&uri, &new);
    let said = env.rex_host(&args.iter().map(String::as_str).collect::<Vec<_>>()).fails(1);
    assert!(said.contains("Expected a text in UTF-8"), "{said}");
    assert!(said.contains("a payload that is no JSON object may be the reason"), "{said}");
    let output = start(&env, &uri, &["--halt-when-empty"]).wait_ok();
    assert!(output.contains("is now a dead letter: Expected a text in UTF-8"), "{output}");
    assert!(!record.exists(), "{output}");
    let letters = list(&env, &uri, &["dlq", "list"]);
    assert_eq!(letters[0]["payload"]["odd"], "\u{fffd}", "{letters:?}");
}

/// Old producers write what Python's `json` takes for JSON.
#[test]
fn what_python_wrote_is_worked() {
    let Some(server) = Redis::start() else { return };
    let (env, uri) = (crashing::env(), server.uri());
    let record = env.path("record");
    let deep = format!("{}1{}", "[".repeat(999), "]".repeat(999));
    let odd = [r#"[NaN, -Infinity, 1e400]"#, r#""half \ud83d""#, &deep, "123456789012345678901"];
    for (n, odd) in odd.iter().enumerate() {
        let text =
            format!(r#"{{"how": "ok", "n": {n}, "odd": {odd}, "record": "{}"}}"#, record.display());
        server.command(&["rpush", "asynctask_crash", &text]);
    }
    let too_deep = format!(r#"{{"how": "ok", "n": 9, "odd": [{deep}]}}"#);
    server.command(&["rpush", "asynctask_crash", &too_deep]);
    let output = start(&env, &uri, &["--halt-when-empty"]).wait_ok();
    assert_eq!(recorded(&record).len(), odd.len(), "{output}");
    for shown in
        ["'odd': [nan, -inf, inf]", r"'odd': 'half \ud83d'", "'odd': 123456789012345678901"]
    {
        assert!(output.contains(shown), "{shown} is not in {output}");
    }
    let [option, store] = &on(&uri)[..] else { unreachable!("an option and its value") };
    let dead = env.rex_host(&["dlq", "list", option, store]).ok();
    assert_eq!(dead.lines().count(), 2, "{dead}");
    assert!(dead.contains(" Payload is nested too deeply"), "{dead}");
}
