//! What becomes of tasks that fail, wait, or may not run now: retries, limits of a task, worn
//! processes, dead letters and their commands, priorities, delays, unique keys, pauses. On both
//! kinds of store.

use rex_test_support::env::Env;
use rex_test_support::plugins;
use rex_test_support::process::{run, wait_for};
use rex_test_support::server::load_sql;
use serde_json::{Value, json};

use crate::crashing::{self, recorded, wait_started};
use crate::store::Store;

/// Runs a test on the embedded queue and on PostgreSQL.
fn on_both(test: impl Fn(&Env, &Store)) {
    for store in [Store::Embedded, Store::pgsql()] {
        test(&crashing::env(), &store);
    }
}

/// A command on the store.
fn command(env: &Env, store: &Store, args: &[&str]) -> rex_test_support::process::Done {
    let more = store.args();
    let plugins = env.path("plugins").display().to_string();
    let mut args = args.to_vec();
    args.extend(["--plugins", &plugins]);
    args.extend(more.iter().map(String::as_str));
    env.rex_host(&args)
}

fn letters(env: &Env, store: &Store) -> Vec<Value> {
    command(env, store, &["dlq", "list", "--json"]).json_lines()
}

/// Works until nothing is left that is due.
fn work(env: &Env, store: &Store, limits: &Value) -> String {
    let more = store.args();
    let mut args: Vec<&str> = more.iter().map(String::as_str).collect();
    args.push("--halt-when-empty");
    crashing::start(env, &json!({ "crash": limits }), &args).wait_ok()
}

/// Works until stopped.
fn host(env: &Env, store: &Store, limits: &Value) -> rex_test_support::process::Running {
    let more = store.args();
    let args: Vec<&str> = more.iter().map(String::as_str).collect();
    crashing::start(env, &json!({ "crash": limits }), &args)
}

fn task(env: &Env, n: i64, how: &str, more: &Value) -> String {
    let mut task = json!({"how": how, "n": n, "record": env.path("record")});
    let more = more.as_object().expect("an object").clone();
    task.as_object_mut().expect("an object").extend(more);
    task.to_string()
}

#[test]
fn a_failed_task_is_tried_again_until_it_succeeds_or_its_attempts_are_used_up() {
    on_both(|env, store| {
        let tasks = [
            task(env, 1, "again", &json!({"until": 3})),
            task(env, 2, "again", &json!({"until": 9})),
            task(env, 3, "crash_until", &json!({"until": 2})),
            task(env, 4, "never", &json!({})),
            task(env, 5, "again", &json!({"until": 3, "after_ms": 1})),
        ];
        store.submit(env, "crash", &tasks.each_ref().map(String::as_str));
        let host = host(env, store, &json!({"max_attempts": 3, "backoff": 0.01}));
        wait_for("all tasks to end", || {
            let done = recorded(&env.path("record"));
            [1, 3, 5].iter().all(|n| done.get(n).is_some_and(|(_, done)| *done == 1))
                && letters(env, store).len() == 2
        });
        host.signal(libc::SIGTERM);
        let output = host.wait_ok();
        let counts = recorded(&env.path("record"));
        let started = |n| counts[&n].0;
        assert_eq!([1, 2, 3, 4, 5].map(started), [3, 3, 2, 1, 3], "{output}");
        assert!(output.contains("(attempt 1), which is tried again in 0.0 s\n"), "{output}");
        assert!(output.contains("(attempt 2) failed and is tried again in"), "{output}");
        let letters = letters(env, store);
        let of = |n: i64| letters.iter().find(|letter| letter["payload"]["n"] == n).expect("dead");
        assert_eq!((&of(2)["attempts"], &of(4)["attempts"]), (&json!(3), &json!(1)));
        let attempts = of(2)["details"]["attempts"].as_array().expect("a history").clone();
        let reasons: Vec<_> = attempts.iter().map(|attempt| &attempt["reason"]).collect();
        let said = |n: u32| format!("Exception: attempt {n} failed");
        assert_eq!(reasons, [&json!(said(1)), &json!(said(2)), &json!(said(3))]);
        assert!(attempts.iter().all(|attempt| attempt["failed"].is_string()), "{attempts:?}");
    });
}

#[test]
fn a_retry_does_not_hold_a_host_that_halts_when_empty() {
    on_both(|env, store| {
        store.submit(env, "crash", &[&task(env, 1, "again", &json!({"until": 2}))]);
        let output = work(env, store, &json!({"max_attempts": 2, "backoff": 3600}));
        let waiting = command(env, store, &["queue", "list", "--json"]).json_lines();
        assert_eq!(
            (&waiting[0]["waiting"], &waiting[0]["delayed"]),
            (&json!(0), &json!(1)),
            "{output}"
        );
        let tasks = command(env, store, &["queue", "peek", "crash", "--json"]).json_lines();
        assert_eq!(tasks[0]["attempt"], 2);
        assert!(tasks[0]["due"].is_string());
    });
}

#[test]
fn a_task_is_told_before_its_time_is_up() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "crash", &[&task(&env, 1, "until_told", &json!({}))]);
    let output = work(&env, &Store::Embedded, &json!({"timeout": 60, "notice": 59.9}));
    assert!(output.contains("WARNING:CrashWorker:The task in hand has 59."), "{output}");
    assert_eq!(recorded(&env.path("record"))[&1], (1, 1), "it came to an end: {output}");
}

#[test]
fn a_task_is_told_that_its_host_stops() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "crash", &[&task(&env, 1, "until_told", &json!({}))]);
    let host = host(&env, &Store::Embedded, &json!({}));
    wait_started(&env.path("record"), 1);
    host.signal(libc::SIGTERM);
    host.wait_ok();
    assert_eq!(recorded(&env.path("record"))[&1], (1, 1));
}

#[test]
fn cpu_time_is_limited_and_sleep_is_not() {
    let env = crashing::env();
    let tasks = [
        task(&env, 1, "loop", &json!({})),
        task(&env, 2, "work", &json!({"ms": 1})),
        task(&env, 4, "loop_in_child", &json!({})),
        task(&env, 3, "until", &json!({"file": env.path("go")})),
    ];
    Store::Embedded.submit(&env, "crash", &tasks.each_ref().map(String::as_str));
    let host = host(&env, &Store::Embedded, &json!({"cpu_limit": 0.2}));
    wait_started(&env.path("record"), 3);
    let begun = std::time::Instant::now();
    wait_for("the sleeper to have slept for longer", || begun.elapsed().as_millis() > 400);
    env.write("go", "");
    wait_for("the sleeper", || recorded(&env.path("record"))[&3].1 == 1);
    host.signal(libc::SIGTERM);
    let output = host.wait_ok();
    let letters = letters(&env, &Store::Embedded);
    assert_eq!(letters.len(), 2, "{output}");
    for letter in letters {
        assert_eq!(letter["details"]["kind"], "cpu");
        let reason = letter["reason"].as_str().expect("a text");
        let expected = "passed the limit of 0.2 s of CPU time and was killed";
        assert!(reason.contains(expected), "{reason}");
        // Much more would be that of a child that was looked at when it had ended.
        let spent = letter["details"]["cpu_ms"].as_u64().expect("it is counted");
        assert!(spent < 10_000, "{letter}");
    }
}

/// What a task has left behind computes on nobody's account.
#[test]
fn cpu_time_of_what_a_neighbour_left_is_not_counted() {
    let env = crashing::env();
    let tasks = [
        task(&env, 1, "leave_loop", &json!({})),
        task(&env, 2, "until", &json!({"file": env.path("go")})),
        task(&env, 3, "loop_in_child", &json!({})),
    ];
    Store::Embedded.submit(&env, "crash", &tasks.each_ref().map(String::as_str));
    let host = host(&env, &Store::Embedded, &json!({"cpu_limit": 0.2}));
    wait_started(&env.path("record"), 2);
    let begun = std::time::Instant::now();
    wait_for("the loop to have computed for longer", || begun.elapsed().as_millis() > 2000);
    env.write("go", "");
    wait_for("the sleeper", || recorded(&env.path("record"))[&2].1 == 1);
    wait_for("the limit", || letters(&env, &Store::Embedded).len() == 1);
    host.signal(libc::SIGTERM);
    host.wait_ok();
    let letter = &letters(&env, &Store::Embedded)[0];
    assert_eq!(letter["details"]["kind"], "cpu");
    assert_eq!(letter["payload"]["n"], 3);
    let spent = letter["details"]["cpu_ms"].as_u64().expect("it is counted");
    assert!(spent >= 200, "the child's counts: {letter}");
}

#[test]
fn a_worn_process_is_exchanged_between_tasks() {
    let env = crashing::env();
    let tasks: Vec<String> = (0..10).map(|n| task(&env, n, "ok", &json!({}))).collect();
    let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
    for (limits, starts) in [
        (json!({"max_tasks": 4}), 3),
        (json!({"max_rss": "1M"}), 2),
        (json!({"max_age": 0.001}), 2),
    ] {
        Store::Embedded.submit(&env, "crash", &tasks);
        let output = work(&env, &Store::Embedded, &limits);
        let launched = output.matches("Launching crash_worker").count();
        assert!(launched >= starts, "{limits}: {launched} starts\n{output}");
        if limits["max_tasks"] == 4 {
            assert_eq!(launched, 3, "{output}");
        }
        assert!(!output.contains("died; restarting"), "{output}");
        assert_eq!(output.matches("Processing complete").count(), 10, "{output}");
    }
    assert_eq!(letters(&env, &Store::Embedded), Vec::<Value>::new());
}

#[test]
fn dead_letters_are_shown_filtered_retried_and_discarded() {
    on_both(|env, store| {
        let tasks = [
            task(env, 1, "error", &json!({"message": "no such file"})),
            task(env, 2, "error", &json!({"message": "no such row"})),
            task(env, 3, "panic", &json!({})),
        ];
        store.submit(env, "crash", &tasks.each_ref().map(String::as_str));
        work(env, store, &json!({}));
        let all = letters(env, store);
        let id = |n: i64| {
            let letter = all.iter().find(|letter| letter["payload"]["n"] == n).expect("dead");
            letter["id"].to_string()
        };
        let listed = |args: &[&str]| {
            let args = [&["dlq", "list", "--json"], args].concat();
            let lines = command(env, store, &args).json_lines();
            lines.iter().map(|letter| letter["payload"]["n"].as_i64()).collect::<Vec<_>>()
        };
        assert_eq!(listed(&["--error", "no such"]), [Some(1), Some(2)]);
        assert_eq!(listed(&["--error", "no such row"]), [Some(2)]);
        assert_eq!(listed(&["--worker", "crash_worker", "--limit", "1"]), [Some(1)]);
        assert_eq!(listed(&["--worker", "other"]), []);
        assert_eq!(listed(&["--queue", "other"]), []);
        assert_eq!(listed(&["--since", "1h"]).len(), 3);
        assert_eq!(listed(&["--since", "2100-01-01T00:00:00Z"]), []);
        let hash = all[0]["details"]["plugin_hash"].as_str().expect("a hash");
        assert_eq!(listed(&["--plugin-hash", &hash[..8]]).len(), 3);
        assert_eq!(listed(&["--plugin-hash", "nothing"]), []);

        let shown = command(env, store, &["dlq", "show", &id(3)]).ok();
        for part in ["of queue crash", "panicked on purpose", "attempt      1 ", "Traceback (most"]
        {
            assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
        }
        let missing = command(env, store, &["dlq", "show", "987654"]).fails(1);
        assert!(missing.contains("no dead letter of task 987654"), "{missing}");

        // What a variable that is not set makes of an option.
        for option in ["--error", "--plugin-hash", "--worker"] {
            command(env, store, &["dlq", "discard", option, ""]).fails(2);
        }
        let dry = command(env, store, &["dlq", "retry", "--error", "no such", "--dry-run"]).ok();
        assert!(dry.contains("2 tasks would be retried"), "{dry}");
        assert_eq!(letters(env, store).len(), 3);
        let retried = command(env, store, &["dlq", "retry", &id(1), &id(2)]).ok();
        assert_eq!(retried, "2 tasks retried\n");
        let tasks = command(env, store, &["queue", "peek", "crash", "--json"]).json_lines();
        assert_eq!(
            tasks.iter().map(|task| task["id"].to_string()).collect::<Vec<_>>(),
            [id(1), id(2)]
        );
        work(env, store, &json!({}));
        let again = letters(env, store);
        let first = again.iter().find(|letter| letter["payload"]["n"] == 1).expect("dead again");
        assert_eq!(first["attempts"], 1);
        assert_eq!(first["details"]["attempts"].as_array().map(Vec::len), Some(2), "both are told");

        let wrong = command(env, store, &["dlq", "discard", &id(1), "987654"]).fails(1);
        assert!(wrong.contains("no dead letter of task 987654"), "{wrong}");
        assert_eq!(command(env, store, &["dlq", "discard", "--all"]).ok(), "2 tasks discarded\n");
        assert_eq!(letters(env, store), Vec::<Value>::new());
        command(env, store, &["dlq", "discard"]).fails(2);
    });
}

#[test]
fn a_task_that_kills_its_worker_is_quarantined_until_there_is_a_new_build() {
    on_both(|env, store| {
        let tasks = [
            task(env, 1, "segfault", &json!({})),
            task(env, 2, "error", &json!({})),
            task(env, 3, "crash_until", &json!({"until": 9})),
        ];
        store.submit(env, "crash", &tasks.each_ref().map(String::as_str));
        let host = host(env, store, &json!({"max_attempts": 2, "backoff": 0.01}));
        wait_for("three dead letters", || letters(env, store).len() == 3);
        host.signal(libc::SIGTERM);
        host.wait_ok();
        let quarantined = |n: i64| {
            let letters = letters(env, store);
            let letter = letters.iter().find(|letter| letter["payload"]["n"] == n).expect("dead");
            letter["details"]["quarantined"] == true
        };
        assert_eq!([1, 2, 3].map(quarantined), [true, false, true]);
        let refused = command(env, store, &["dlq", "retry", "--error", "SIG"]).fails(1);
        assert!(refused.contains("2 tasks are quarantined"), "{refused}");
        // Where there is no plugin at all there is no other build.
        let elsewhere = ["dlq", "retry", "--error", "SIG", "--plugins", "."];
        let args: Vec<String> =
            elsewhere.map(str::to_owned).into_iter().chain(store.args()).collect();
        env.rex_host(&args.iter().map(String::as_str).collect::<Vec<_>>()).fails(1);
        let mixed = command(env, store, &["dlq", "retry", "--all"]).ok();
        assert!(mixed.contains("1 task retried"), "{mixed}");
        assert_eq!(letters(env, store).len(), 2);
        // Another build, though it may be no better.
        let other = plugins::chameleon().workers("crash", &["crash_worker"]);
        env.add_plugin(&other.install(&env.path("libcrash.so")));
        let released = command(env, store, &["dlq", "retry", "--all"]).ok();
        assert!(released.contains("2 tasks retried"), "{released}");
    });
}

/// A build that killed a task is not made good by another one that killed it too; and what counts is
/// what the host serves.
#[test]
fn a_quarantined_task_meets_no_build_that_it_has_killed() {
    on_both(|env, store| {
        let first = plugins::built("crash");
        let second = env.path("libcrash.so");
        let mut bytes = std::fs::read(&first).expect("it is built");
        bytes.push(0);
        std::fs::write(&second, bytes).expect("there is room");
        store.submit(env, "crash", &[&task(env, 1, "segfault", &json!({}))]);
        let retry = || command(env, store, &["dlq", "retry", "--all"]);
        work(env, store, &json!({}));
        env.add_plugin(&second);
        retry().ok();
        work(env, store, &json!({}));
        env.add_plugin(&first);
        let refused = retry().fails(1);
        assert!(refused.contains("no other build of the plugin is in"), "{refused}");

        let third = env.path("libcrash.so");
        std::fs::OpenOptions::new()
            .append(true)
            .open(&third)
            .and_then(|mut file| std::io::Write::write_all(&mut file, &[0]))
            .expect("there is room");
        let host = host(env, store, &json!({}));
        host.wait_output("Starting; queue=crash");
        env.add_plugin(&third);
        let refused = retry().fails(1);
        assert!(refused.contains("the host that runs here serves no other"), "{refused}");
        env.rex_host(&["reload"]).ok();
        retry().ok();
        wait_for("its death", || letters(env, store).len() == 1);
        host.signal(libc::SIGTERM);
        host.wait_ok();
        assert_eq!(recorded(&env.path("record"))[&1].0, 3);
    });
}

/// Deep, and with what a number of this program's would not hold.
#[test]
fn payloads_are_listed_as_they_are_stored() {
    on_both(|env, store| {
        let deep = format!("{}1{}", "[".repeat(900), "]".repeat(900));
        let odd = format!(
            r#"{{"how": "error", "i": 12345678901234567890123, "f": 1.10, "z": -0, "h": "\ud800", "d": {deep}}}"#
        );
        let stored = format!(
            r#"{{"d": {deep}, "f": 1.10, "h": "\ud800", "how": "error", "i": 12345678901234567890123, "z": -0}}"#
        );
        store.submit(env, "crash", &[&odd]);
        let listed = command(env, store, &["queue", "peek", "crash", "--json"]).ok();
        assert!(listed.ends_with(&format!(",\"payload\":{stored}}}\n")), "{listed}");
        work(env, store, &json!({}));
        for list in [&["dlq", "list", "--json"] as &[&str], &["dlq", "show", "1", "--json"]] {
            let listed = command(env, store, list).ok();
            assert!(listed.ends_with(&format!(",\"payload\":{stored}}}\n")), "{listed}");
        }
    });
}

#[test]
fn submitted_with_attributes() {
    on_both(|env, store| {
        let submit = |n: i64, args: &[&str]| {
            let payload = task(env, n, "ok", &json!({}));
            let args = [&["submit", "crash", &payload, "--json"], args].concat();
            command(env, store, &args).json_lines().remove(0)
        };
        submit(1, &["--priority", "5"]);
        submit(2, &[]);
        submit(3, &["--priority", "-1"]);
        submit(4, &["--delay", "1h"]);
        submit(5, &["--at", "2001-01-01T00:00:00Z"]);
        let first = submit(6, &["--unique", "key"]);
        let second = submit(7, &["--unique", "key"]);
        assert_eq!((&second["id"], &second["existed"]), (&first["id"], &json!(true)));
        assert_eq!(first.get("existed"), None);
        let wrong = command(env, store, &["submit", "crash", "{}", "--delay", "soon"]).fails(2);
        assert!(wrong.contains("expected seconds"), "{wrong}");
        let lines = format!(
            "{}\n",
            json!({"queue": "crash", "payload": {"how": "ok"}, "priority": 9, "delay": 7200})
        );
        let more = store.args();
        let mut args = vec!["submit", "--stdin"];
        args.extend(more.iter().map(String::as_str));
        env.rex_host_with(&args, &lines).ok();

        work(env, store, &json!({}));
        let order: Vec<String> = std::fs::read_to_string(env.path("record"))
            .expect("they ran")
            .lines()
            .filter_map(|line| line.strip_prefix("start ").map(str::to_owned))
            .collect();
        assert_eq!(order, ["3", "2", "5", "6", "1"]);
        let left = command(env, store, &["queue", "peek", "crash", "--json"]).json_lines();
        assert_eq!(left.len(), 2);
        assert_eq!(left[0]["payload"]["n"], 4);
        assert_eq!(submit(8, &["--unique", "key"]).get("existed"), None, "the first is done");
    });
}

#[test]
fn a_delayed_task_comes_at_its_time() {
    on_both(|env, store| {
        let payload = task(env, 1, "ok", &json!({}));
        let host = host(env, store, &json!({}));
        host.wait_output("Starting; queue=crash");
        command(env, store, &["submit", "crash", &payload, "--delay", "0.3"]).ok();
        assert_eq!(recorded(&env.path("record")).len(), 0);
        wait_for("the delayed task", || recorded(&env.path("record")).get(&1) == Some(&(1, 1)));
        host.signal(libc::SIGTERM);
        host.wait_ok();
    });
}

#[test]
fn a_paused_queue_waits_for_resume() {
    on_both(|env, store| {
        let host = host(env, store, &json!({}));
        host.wait_output("Starting; queue=crash");
        command(env, store, &["queue", "pause", "crash"]).ok();
        let payload = task(env, 1, "ok", &json!({}));
        store.submit(env, "crash", &[&payload]);
        let status = command(env, store, &["queue", "list", "--json"]).json_lines();
        assert_eq!((&status[0]["paused"], &status[0]["waiting"]), (&json!(true), &json!(1)));
        let table = command(env, store, &["queue", "list"]).ok();
        assert!(table.contains("paused"), "{table}");
        assert_eq!(recorded(&env.path("record")).len(), 0);
        command(env, store, &["queue", "resume", "crash"]).ok();
        wait_for("the task", || recorded(&env.path("record")).get(&1) == Some(&(1, 1)));
        host.signal(libc::SIGTERM);
        host.wait_ok();
    });
}

/// What a host has claimed ahead is not started: what waits for a rate, and what a process holds
/// behind the task in hand.
#[test]
fn a_paused_queue_takes_back_what_has_not_started() {
    on_both(|env, store| {
        let limits = json!({"processes": 3, "rate_max_calls": 1, "rate_period": 3600});
        let limited = host(env, store, &limits);
        let tasks: Vec<String> = (0..9).map(|n| task(env, n, "ok", &json!({}))).collect();
        store.submit(env, "crash", &tasks.iter().map(String::as_str).collect::<Vec<_>>());
        let count = |what: &str| {
            let queues = command(env, store, &["queue", "list", "--json"]).json_lines();
            queues.first().and_then(|queue| queue[what].as_u64()).unwrap_or(0)
        };
        // What may not start is not kept.
        wait_for("the first", || (count("in_flight"), count("waiting")) == (0, 8));
        limited.signal(libc::SIGTERM);
        limited.wait_ok();

        // Quick ones first, so that much is given ahead.
        let held = task(env, 100, "until", &json!({"file": env.path("go")}));
        let more: Vec<String> = (101..400).map(|n| task(env, n, "ok", &json!({}))).collect();
        let after = more.iter().map(String::as_str);
        let quick: Vec<String> = (10..100).map(|n| task(env, n, "ok", &json!({}))).collect();
        let before = quick.iter().map(String::as_str);
        store.submit(env, "crash", &before.chain([held.as_str()]).chain(after).collect::<Vec<_>>());
        let host = host(env, store, &json!({}));
        wait_started(&env.path("record"), 100);
        command(env, store, &["queue", "pause", "crash"]).ok();
        wait_for("all to be back", || (count("in_flight"), count("waiting")) == (1, 299));
        env.write("go", "");
        wait_for("the one that ran", || count("in_flight") == 0);
        assert_eq!(count("waiting"), 299);
        command(env, store, &["queue", "resume", "crash"]).ok();
        wait_for("the rest", || {
            let counts = recorded(&env.path("record"));
            counts.len() == 399 && counts.values().all(|count| *count == (1, 1))
        });
        host.signal(libc::SIGTERM);
        host.wait_ok();
    });
}

#[test]
fn no_more_in_flight_than_all_hosts_may_have() {
    on_both(|env, store| {
        let file = env.path("go");
        let held: Vec<String> =
            (0..4).map(|n| task(env, n, "until", &json!({ "file": file }))).collect();
        store.submit(env, "crash", &held.iter().map(String::as_str).collect::<Vec<_>>());
        let limits = json!({"processes": 2, "max_in_flight": 3});
        let first = host(env, store, &limits);
        let more = store.args();
        let mut args: Vec<&str> = more.iter().map(String::as_str).collect();
        let queue = env.work().join(".rex-host/queue.db").display().to_string();
        let embedded = format!("asynctask_transport=sqlite:{queue}");
        args.extend(["--name", "second"]);
        if more.is_empty() {
            args.extend(["--set", &embedded]);
        }
        let second = crashing::start(env, &json!({ "crash": limits }), &args);
        let running = || recorded(&env.path("record")).len();
        wait_for("three tasks", || running() == 3);
        first.wait_output("Starting; queue=crash");
        second.wait_output("Starting; queue=crash");
        let status = command(env, store, &["queue", "list", "--json"]).json_lines();
        assert_eq!((&status[0]["in_flight"], &status[0]["waiting"]), (&json!(3), &json!(1)));
        assert_eq!(running(), 3);
        env.write("go", "");
        wait_for("the fourth", || {
            recorded(&env.path("record")).values().all(|c| c.1 == 1) && running() == 4
        });
        for host in [first, second] {
            host.signal(libc::SIGTERM);
            host.wait_ok();
        }
    });
}

/// A host that waits for room hears of its own outcomes, whatever the store: a poll comes too late.
#[test]
fn an_outcome_makes_room_for_the_next_task() {
    on_both(|env, store| {
        let tasks: Vec<String> = (0..50).map(|n| task(env, n, "ok", &json!({}))).collect();
        store.submit(env, "crash", &tasks.iter().map(String::as_str).collect::<Vec<_>>());
        let mut args = store.args();
        args.extend(["--set".to_owned(), "asynctask_workers_poll_interval=3600000".to_owned()]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let host = crashing::start(env, &json!({"crash": {"max_in_flight": 1}}), &args);
        wait_for("all tasks", || recorded(&env.path("record")).len() == 50);
        host.signal(libc::SIGTERM);
        host.wait_ok();
    });
}

#[test]
fn an_administrator_makes_the_tables() {
    let (env, store) = (Env::new(), Store::pgsql());
    let Store::Pgsql(database) = &store else { return };
    let script = command(&env, &store, &["migrate", "--print"]).ok();
    env.write("migrate.sql", &script);
    let (uri, file) = (database.uri(), env.path("migrate.sql"));
    let run = || load_sql(&uri, &file).expect("the script runs through");
    let mut admin = database.connect();
    // So many that the index takes a while.
    admin
        .batch_execute(
            "CREATE SCHEMA asynctask;
             COMMENT ON SCHEMA asynctask IS 'version: 1';
             CREATE TABLE asynctask.asynctask_queue (
                 id bigserial PRIMARY KEY,
                 queue_name text NOT NULL,
                 payload json NOT NULL,
                 date_submitted timestamp DEFAULT current_timestamp
             );
             INSERT INTO asynctask.asynctask_queue (queue_name, payload)
             SELECT 'bar', '{}' FROM generate_series(1, 20000)",
        )
        .expect("the original's table");
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(run))));
    const INDEX: &str = "'asynctask.rex_queue_order'::regclass";
    let mut is_valid = || {
        let look = format!("SELECT indisvalid FROM pg_index WHERE indexrelid = {INDEX}");
        admin.query_one(&look, &[]).expect("the index").get::<_, bool>(0)
    };
    assert!(is_valid());
    // As it is when its making was cut off.
    let spoil = format!("UPDATE pg_index SET indisvalid = false WHERE indexrelid = {INDEX}");
    database.connect().batch_execute(&spoil).expect("a superuser may");
    run();
    assert!(is_valid(), "made anew");
    let made = command(&env, &store, &["migrate"]).ok();
    assert!(made.contains("is ready") && !made.contains("Adding"), "{made}");
    store.submit(&env, "foo", &["{}"]);
    assert_eq!(command(&env, &store, &["queue", "list", "--json"]).json_lines().len(), 2);
    for spelling in ["postgresql", "postgres"] {
        let db = format!("db={spelling}://localhost/somewhere");
        assert_eq!(env.rex_host(&["migrate", "--print", "--set", &db]).ok(), script);
    }
    let refused = env.rex_host(&["migrate", "--print"]).fails(1);
    assert!(refused.contains("needs no preparation"), "{refused}");
}

#[test]
fn what_waits_in_the_table_of_the_first_release_is_moved_whole() {
    for by_script in [false, true] {
        let (env, store) = (Env::new(), Store::pgsql());
        let Store::Pgsql(database) = &store else { return };
        let mut producer = database.connect();
        producer
            .batch_execute(
                "CREATE TABLE public.asynctask_queue (
                     id bigserial PRIMARY KEY, queue_name text, payload json, date_submitted timestamp
                 );
                 INSERT INTO public.asynctask_queue (queue_name, payload)
                 SELECT 'bar', '{}' FROM generate_series(1, 20);
                 ALTER DATABASE CURRENT SET default_transaction_isolation = 'repeatable read'"
                    .replace("CURRENT", database.name())
                    .as_str(),
            )
            .expect("the old table");
        // A producer is at it.
        producer
            .batch_execute(
                "BEGIN; INSERT INTO public.asynctask_queue (queue_name, payload) VALUES ('bar', '{}')",
            )
            .expect("a row");
        let (script, uri) = (env.path("migrate.sql"), database.uri());
        env.write("migrate.sql", &command(&env, &store, &["migrate", "--print"]).ok());
        let more = store.args();
        let migrate = env.command("rex-host", &["migrate", &more[0], &more[1]]);
        let mover = std::thread::spawn(move || match by_script {
            true => load_sql(&uri, &script).expect("it runs through"),
            false => drop(run(migrate, "").ok()),
        });
        let mut admin = database.connect();
        let waits = "SELECT count(*) FROM pg_locks
            WHERE relation = 'public.asynctask_queue'::regclass AND NOT granted";
        wait_for("the producer to be waited for", || {
            let waiting: i64 = admin.query_one(waits, &[]).expect("a look").get(0);
            waiting == 1 || mover.is_finished()
        });
        producer.batch_execute("COMMIT").expect("it may go on");
        mover.join().expect("it is moved");
        let there = "SELECT count(*) FROM asynctask.asynctask_queue";
        let count: i64 = producer.query_one(there, &[]).expect("a look").get(0);
        assert_eq!(count, 21, "by script: {by_script}");
        let listed = command(&env, &store, &["queue", "list", "--json"]).json_lines();
        assert_eq!(listed[0]["waiting"], 21);
    }
}

/// As a database does that is far away, or whose disk is slow.
#[test]
fn a_store_that_takes_its_time_for_each_claim_gives_batches() {
    let (env, store) = (crashing::env(), Store::pgsql());
    let Store::Pgsql(database) = &store else { return };
    command(&env, &store, &["migrate"]).ok();
    let slow = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(0.03); RETURN NULL; END $$;
        CREATE TRIGGER slow AFTER INSERT ON asynctask.rex_claims
            FOR EACH STATEMENT EXECUTE FUNCTION wait();
        INSERT INTO asynctask.asynctask_queue (queue_name, payload)
        SELECT 'crash', '{\"how\": \"ok\"}' FROM generate_series(1, 20000)";
    let mut admin = database.connect();
    admin.batch_execute(slow).expect("ours");
    work(&env, &store, &json!({}));
    let count = "SELECT pg_sequence_last_value(
        pg_get_serial_sequence('asynctask.rex_claims', 'id')::regclass)";
    let claims: i64 = admin.query_one(count, &[]).expect("a look").get(0);
    assert!(claims < 500, "{claims} claims");
}

/// A page of dead letters is bounded by what is in them: all of these at once would need more than
/// the commands may have.
#[test]
fn dead_letters_of_large_payloads_fit_into_memory() {
    let (env, store) = (Env::new(), Store::pgsql());
    let Store::Pgsql(database) = &store else { return };
    command(&env, &store, &["migrate"]).ok();
    let fill = "INSERT INTO asynctask.rex_dead
            (id, queue_name, payload, date_submitted, attempts, reason, details)
        SELECT n, 'bar', json_build_object('n', n, 'text', repeat('abcdefé ', 500000)), now(), 1,
            'Exception: no', '{}'
        FROM generate_series(1, 50) AS n";
    database.connect().batch_execute(fill).expect("letters");
    let more = store.args();
    let within = |args: &[&str]| {
        let rex_host = env.command("rex-host", &[args, &[&more[0], &more[1]]].concat());
        let mut limited = env.command("/bin/sh", &["-c", "ulimit -v 300000; exec \"$@\"", "sh"]);
        limited.arg(rex_host.get_program()).args(rex_host.get_args());
        run(limited, "").ok()
    };
    assert_eq!(within(&["dlq", "list", "--limit", "2"]).lines().count(), 3);
    assert!(within(&["dlq", "show", "31"]).contains("Exception: no"));
    assert_eq!(within(&["dlq", "retry", "31", "32", "--dry-run"]).lines().count(), 3);
    assert_eq!(within(&["dlq", "retry", "31", "32"]), "2 tasks retried\n");
    assert_eq!(within(&["dlq", "discard", "--queue", "bar"]), "48 tasks discarded\n");
    assert_eq!(command(&env, &store, &["queue", "list", "--json"]).json_lines()[0]["waiting"], 2);
}

/// What the README promises to applications: `rex_submit` in their own transaction.
#[test]
fn an_application_submits_in_its_own_transaction() {
    let (env, store) = (crashing::env(), Store::pgsql());
    let Store::Pgsql(database) = &store else { return };
    let host = host(&env, &store, &json!({}));
    host.wait_output("Starting; queue=crash");
    let mut application = database.connect();
    let payload = |n| task(&env, n, "ok", &json!({}));
    let submit =
        "SELECT id, existed FROM asynctask.rex_submit('crash', $1::text::json, unique_key => $2)";
    let mut change = application.transaction().expect("a transaction");
    change.query(submit, &[&payload(1), &None::<&str>]).expect("it is put in");
    change.rollback().expect("and taken back");
    let mut change = application.transaction().expect("a transaction");
    change.query(submit, &[&payload(2), &None::<&str>]).expect("it is put in");
    let first = change.query_one(submit, &[&payload(3), &Some("key")]).expect("it is put in");
    let second = change.query_one(submit, &[&payload(4), &Some("key")]).expect("it is there");
    assert_eq!(first.get::<_, i64>(0), second.get::<_, i64>(0));
    assert!(second.get::<_, bool>(1));
    assert_eq!(recorded(&env.path("record")).len(), 0, "not before the commit");
    change.commit().expect("committed");
    wait_for("both tasks", || recorded(&env.path("record")).keys().copied().eq([2, 3]));
    let refused = application.query(submit, &[&"[1]", &None::<&str>]).expect_err("no object");
    assert!(format!("{refused:?}").contains("Expected a JSON object"), "{refused:?}");
    // As the other ways in, so that no task waits where nobody can see it.
    for name in ["Q Q", "q", "a__b", "a_", "_a", "1a", "a\n", ""] {
        let submit = "SELECT id FROM asynctask.rex_submit($1, '{}')";
        let refused = application.query(submit, &[&name]).expect_err(name);
        let text = format!("\"{name}\" is not a properly-formatted queue name");
        assert_eq!(refused.as_db_error().expect("the server's").message(), text);
    }
    host.signal(libc::SIGTERM);
    host.wait_ok();
}
