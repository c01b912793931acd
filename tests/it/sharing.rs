//! Several programs on one store: hosts beside each other, one that takes over from a dead one, and
//! the original's producers and consumers on the same table.

use std::time::{Duration, Instant};

use rex_test_support::env::Env;
use rex_test_support::pg::Database;
use rex_test_support::process::{Process, Running, wait_for};
use serde_json::{Value, json};

use crate::crashing::{self, recorded, wait_started};
use crate::store::Store;

/// A file that hosts with state directories of their own share.
fn shared_file(env: &Env) -> Vec<String> {
    let uri = format!("asynctask_transport=sqlite:{}", env.path("shared.db").display());
    vec!["--set".to_owned(), uri]
}

fn submit(env: &Env, store: &[String], tasks: &[Value]) {
    let lines: String = tasks.iter().map(|task| format!("{task}\n")).collect();
    let args = ["submit", "crash", "-"].into_iter().chain(store.iter().map(String::as_str));
    env.rex_host_with(&args.collect::<Vec<_>>(), &lines).ok();
}

/// A host with a state directory of its own.
fn start(env: &Env, store: &[String], state: &str, more: &[&str]) -> Running {
    let store = store.iter().map(String::as_str);
    let args = ["--state", state].into_iter().chain(store).chain(more.iter().copied());
    crashing::start(env, &json!({"crash": {}}), &args.collect::<Vec<_>>())
}

fn letters(env: &Env, store: &[String]) -> Vec<Value> {
    let args = ["dlq", "list", "--json"].into_iter().chain(store.iter().map(String::as_str));
    env.rex_host(&args.collect::<Vec<_>>()).json_lines()
}

fn two_hosts_share(env: &Env, store: &[String]) {
    const TASKS: i64 = 300;
    let record = env.path("record");
    let task = |n: i64| json!({"how": "work", "ms": 3, "n": n, "record": record});
    submit(env, store, &(0..TASKS).map(task).collect::<Vec<_>>());
    let hosts = ["one", "two"].map(|state| start(env, store, state, &["--halt-when-empty"]));
    let outputs = hosts.map(Running::wait_ok);
    let counts = recorded(&record);
    assert!((0..TASKS).all(|n| counts.get(&n) == Some(&(1, 1))), "each once: {counts:?}");
    let shares = outputs.each_ref().map(|output| output.matches("Processing complete").count());
    assert_eq!(shares.iter().sum::<usize>() as i64, TASKS);
    assert!(shares.iter().all(|share| *share > 0), "both worked: {shares:?}");
}

#[test]
fn two_hosts_share_a_file() {
    let env = crashing::env();
    let store = shared_file(&env);
    two_hosts_share(&env, &store);
}

#[test]
fn two_hosts_share_a_database() {
    let (env, store) = (crashing::env(), Store::pgsql());
    two_hosts_share(&env, &store.args());
}

/// Quick tasks that were sent ahead together with one that takes long; `stops`: whose process is
/// stopped as a whole.
fn others_get_what_waits_behind_a_long_task(env: &Env, store: &[String], stops: bool) {
    const LONG: i64 = 2000;
    let (record, go) = (env.path("record"), env.path("go"));
    let task = |n: i64| match n {
        LONG => json!({"how": "until", "file": go, "n": n, "record": record}),
        _ => json!({"how": "ok", "n": n, "record": record}),
    };
    submit(env, store, &(0..LONG + 200).map(task).collect::<Vec<_>>());
    let one = start(env, store, "one", &[]);
    wait_started(&record, LONG);
    let worker = stops.then(|| {
        let status = env.rex_host(&["status", "--json", "--state", "one"]).json_lines().remove(0);
        let pid = status["queues"][0]["processes"][0]["pid"].as_i64().expect("a process");
        Process::find(i32::try_from(pid).expect("it fits")).expect("it serves")
    });
    if let Some(worker) = &worker {
        worker.signal(libc::SIGSTOP);
    }
    let two = start(env, store, "two", &[]);
    wait_for("all others", || {
        let recorded = recorded(&record);
        (0..LONG + 200).all(|n| n == LONG || recorded.get(&n) == Some(&(1, 1)))
    });
    assert_eq!(recorded(&record).get(&LONG), Some(&(1, 0)));
    env.write("go", "");
    if let Some(worker) = &worker {
        worker.signal(libc::SIGCONT);
    }
    wait_for("the long one", || recorded(&record).get(&LONG) == Some(&(1, 1)));
    submit(env, store, &[task(LONG + 200)]);
    wait_for("one more", || recorded(&record).contains_key(&(LONG + 200)));
    for host in [one, two] {
        host.signal(libc::SIGTERM);
        host.wait_ok();
    }
    assert!(recorded(&record).values().all(|count| *count == (1, 1)), "each once");
}

/// As quick tasks are sent ahead by the thousand, and then become slow: a host that comes then gets its
/// share.
fn others_get_what_has_become_slow(env: &Env, store: &[String]) {
    const QUICK: i64 = 3000;
    let record = env.path("record");
    let task = |n: i64| match n < QUICK {
        true => json!({"how": "ok", "n": n, "record": record}),
        false => json!({"how": "work", "ms": 300, "n": n, "record": record}),
    };
    submit(env, store, &(0..QUICK + 40).map(task).collect::<Vec<_>>());
    let one = start(env, store, "one", &[]);
    wait_started(&record, QUICK + 1);
    let two = start(env, store, "two", &[]);
    wait_for("all", || {
        let recorded = recorded(&record);
        (0..QUICK + 40).all(|n| recorded.get(&n) == Some(&(1, 1)))
    });
    let shares = [one, two].map(|host| {
        host.signal(libc::SIGTERM);
        host.wait_ok().matches("Processing complete").count()
    });
    assert!(shares[1] > 10, "{shares:?}");
}

#[test]
fn what_has_become_slow_is_shared_on_pgsql() {
    let (env, store) = (crashing::env(), Store::pgsql());
    others_get_what_has_become_slow(&env, &store.args());
}

#[test]
fn what_has_become_slow_is_shared_in_a_file() {
    let env = crashing::env();
    let store = shared_file(&env);
    others_get_what_has_become_slow(&env, &store);
}

/// A host that may start one a minute claims no others; one without a limit does them.
#[test]
fn what_a_limit_of_rate_keeps_goes_to_others() {
    let env = crashing::env();
    let store = shared_file(&env);
    let record = env.path("record");
    let task = |n: i64| json!({"how": "ok", "n": n, "record": record});
    let limited = json!({"crash": {"processes": 4, "rate_max_calls": 1, "rate_period": 60}});
    let args: Vec<&str> =
        ["--state", "one"].into_iter().chain(store.iter().map(String::as_str)).collect();
    let one = crashing::start(&env, &limited, &args);
    one.wait_output("Starting; queue=crash");
    submit(&env, &store, &[task(0)]);
    wait_for("the first", || recorded(&record).get(&0) == Some(&(1, 1)));
    submit(&env, &store, &(1..=9).map(task).collect::<Vec<_>>());
    one.wait_output("Rate limited on queue crash");
    let two = start(&env, &store, "two", &[]);
    wait_for("the others", || recorded(&record).len() == 10);
    for host in [one, two] {
        host.signal(libc::SIGTERM);
        host.wait_ok();
    }
    assert!(recorded(&record).values().all(|count| *count == (1, 1)), "each once");
}

/// The process that is stopped was asked before for what it had not begun, by one that is idle.
#[test]
fn nothing_waits_behind_a_stopped_process_that_does_not_answer() {
    const LONG: i64 = 3000;
    let env = crashing::env();
    let (record, go) = (env.path("record"), env.path("go"));
    let task = |n: i64| match n {
        LONG => json!({"how": "until", "file": go, "n": n, "record": record}),
        _ => json!({"how": "ok", "n": n, "record": record}),
    };
    let host = crashing::start(&env, &json!({"crash": {"processes": 2}}), &[]);
    submit(&env, &[], &(0..2 * LONG).map(task).collect::<Vec<_>>());
    wait_started(&record, LONG);
    let status = env.rex_host(&["status", "--json"]).json_lines().remove(0);
    let processes = status["queues"][0]["processes"].as_array().expect("two").clone();
    // Its number is one more.
    let busy = processes.iter().find(|process| process["task"] == LONG + 1).expect("one has it");
    let pid = i32::try_from(busy["pid"].as_i64().expect("a number")).expect("it fits");
    let worker = Process::find(pid).expect("it serves");
    worker.signal(libc::SIGSTOP);
    env.rex_host(&["queue", "pause", "crash"]).ok();
    wait_for("what it had not begun", || {
        let queues = env.rex_host(&["queue", "list", "--json"]).json_lines();
        queues.iter().all(|queue| queue["in_flight"] == 1)
    });
    env.rex_host(&["queue", "resume", "crash"]).ok();
    wait_for("all others", || {
        let recorded = recorded(&record);
        (0..2 * LONG).all(|n| n == LONG || recorded.get(&n) == Some(&(1, 1)))
    });
    env.write("go", "");
    worker.signal(libc::SIGCONT);
    wait_for("the long one", || recorded(&record).get(&LONG) == Some(&(1, 1)));
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
    assert!(recorded(&record).values().all(|count| *count == (1, 1)), "each once");
}

#[test]
fn nothing_waits_behind_a_long_task() {
    let (env, store) = (crashing::env(), Store::pgsql());
    others_get_what_waits_behind_a_long_task(&env, &store.args(), false);
}

#[test]
fn nothing_waits_behind_a_task_whose_process_is_stopped() {
    let env = crashing::env();
    let store = shared_file(&env);
    others_get_what_waits_behind_a_long_task(&env, &store, true);
}

/// Hosts that wait for work get even shares of it, those that come later too, and one that leaves
/// hands back what it has not started.
fn hosts_join_and_leave(env: &Env, store: &[String]) {
    const ROUND: i64 = 150;
    let record = env.path("record");
    let submit = |round: i64| {
        let task = |n| json!({"how": "work", "ms": 30, "n": n, "record": record});
        submit(env, store, &(round * ROUND..(round + 1) * ROUND).map(task).collect::<Vec<_>>());
    };
    let done = || recorded(&record).values().filter(|count| count.1 > 0).count() as i64;
    let worked = |hosts: &[&Running]| -> Vec<usize> {
        hosts.iter().map(|host| host.output().matches("Processing complete").count()).collect()
    };
    let is_even = |before: &[usize], after: &[usize]| {
        let shares: Vec<usize> = before.iter().zip(after).map(|(b, a)| a - b).collect();
        let even = ROUND as usize / shares.len();
        assert!(shares.iter().all(|share| *share > even / 4), "of {ROUND}: {shares:?}");
    };
    let [one, two] = ["one", "two"].map(|state| {
        let host = start(env, store, state, &[]);
        host.wait_output("Starting; queue=crash");
        host
    });
    submit(0);
    wait_for("the first round", || done() == ROUND);
    is_even(&[0, 0], &worked(&[&one, &two]));

    let three = start(env, store, "three", &[]);
    three.wait_output("Starting; queue=crash");
    let before = worked(&[&one, &two, &three]);
    submit(1);
    wait_for("the second round", || done() == 2 * ROUND);
    is_even(&before, &worked(&[&one, &two, &three]));

    submit(2);
    wait_for("some of the third round", || done() > 2 * ROUND + ROUND / 4);
    one.signal(libc::SIGTERM);
    one.wait_ok();
    wait_for("the rest", || done() == 3 * ROUND);
    for host in [two, three] {
        host.signal(libc::SIGTERM);
        host.wait_ok();
    }
    let twice: Vec<_> =
        recorded(&record).into_iter().filter(|(_, count)| *count != (1, 1)).collect();
    assert_eq!(twice, [], "each once");
}

#[test]
fn hosts_join_and_leave_on_a_file() {
    let env = crashing::env();
    let store = shared_file(&env);
    hosts_join_and_leave(&env, &store);
}

#[test]
fn hosts_join_and_leave_on_a_database() {
    let (env, store) = (crashing::env(), Store::pgsql());
    hosts_join_and_leave(&env, &store.args());
}

fn takes_over(env: &Env, store: &[String]) {
    let record = env.path("record");
    let task = json!({"how": "until", "file": env.path("go"), "n": 1, "record": record});
    submit(env, store, &[task]);
    let first = start(env, store, "one", &[]);
    wait_started(&record, 1);
    let second = start(env, store, "two", &[]);
    second.wait_output("Starting; queue=crash");
    first.signal(libc::SIGKILL);
    first.wait();
    wait_for("the other host to start the task", || recorded(&record)[&1].0 == 2);
    env.write("go", "");
    wait_for("the task's end", || recorded(&record)[&1] == (2, 1));
    let args = ["stop", "--state", "two"].into_iter().chain(store.iter().map(String::as_str));
    env.rex_host(&args.collect::<Vec<_>>()).ok();
    second.wait_ok();
    assert_eq!(letters(env, store), Vec::<Value>::new());
}

#[test]
fn a_host_takes_over_from_a_dead_one_on_a_file() {
    let env = crashing::env();
    let store = shared_file(&env);
    takes_over(&env, &store);
}

#[test]
fn a_host_takes_over_from_a_dead_one_on_a_database() {
    let (env, store) = (crashing::env(), Store::pgsql());
    takes_over(&env, &store.args());
}

/// A host that is stopped while its worker is at the first of ten tasks and has been sent the others;
/// before them there were so many quick ones that it is sent much ahead.
fn stopped_at_the_first_of_ten(env: &Env, store: &[String], more: &[&str]) -> Running {
    let record = env.path("record");
    let quick = (0..1000).map(|_| json!({"how": "ok"}));
    let slow = |n: i64| json!({"how": "until", "file": env.path("go"), "n": n, "record": record});
    submit(env, store, &quick.chain((1..=10).map(slow)).collect::<Vec<_>>());
    let host = start(env, store, "one", more);
    wait_started(&record, 1);
    let args = ["queue", "resume", "crash"].into_iter().chain(store.iter().map(String::as_str));
    let args: Vec<&str> = args.collect();
    wait_for("it to be stopped while it holds no lock of the store", || {
        host.signal(libc::SIGSTOP);
        let is_free = env.rex_host(&args).status.success();
        if !is_free {
            host.signal(libc::SIGCONT);
        }
        is_free
    });
    host
}

/// What others have taken over its worker does not start, neither while the host is stopped nor when it
/// goes on.
fn a_stopped_host_starts_no_others_tasks(env: &Env, store: &[String]) {
    let record = env.path("record");
    let more = ["--set", "asynctask_owner_timeout=3"];
    let one = stopped_at_the_first_of_ten(env, store, &more);
    let two = start(env, store, "two", &more);
    // Only what the worker had in hand ends there.
    two.wait_output("tasks of a dead host are waiting again");
    env.write("go", "");
    wait_for("all to be done", || {
        let counts = recorded(&record);
        (1..=10).all(|n| counts.get(&n).is_some_and(|count| count.1 > usize::from(n == 1)))
    });
    one.signal(libc::SIGCONT);
    one.wait_output("are no longer this host's");
    for host in [one, two] {
        host.signal(libc::SIGTERM);
        host.wait_ok();
    }
    let counts = recorded(&record);
    let expected = |n| if n == 1 { (2, 2) } else { (1, 1) };
    assert!((1..=10).all(|n| counts.get(&n) == Some(&expected(n))), "{counts:?}");
    assert_eq!(letters(env, store), [Value::Null; 0]);
}

#[test]
fn a_stopped_host_starts_no_others_tasks_on_a_file() {
    let env = crashing::env();
    let store = shared_file(&env);
    a_stopped_host_starts_no_others_tasks(&env, &store);
}

#[test]
fn a_stopped_host_starts_no_others_tasks_on_a_database() {
    let (env, store) = (crashing::env(), Store::pgsql());
    a_stopped_host_starts_no_others_tasks(&env, &store.args());
}

/// What its worker has waited with while the host was stopped is started when the host goes on, and
/// nobody is charged for the time.
#[test]
fn a_stopped_host_goes_on_where_it_was() {
    let (env, store) = (crashing::env(), Store::pgsql());
    let store = store.args();
    let record = env.path("record");
    let host = stopped_at_the_first_of_ten(&env, &store, &[]);
    let begun = Instant::now();
    wait_for("the lease to be over", || begun.elapsed() > Duration::from_secs(4));
    env.write("go", "");
    wait_for("the end of the first", || recorded(&record).get(&1) == Some(&(1, 1)));
    let ended = Instant::now();
    wait_for("what it might start", || ended.elapsed() > Duration::from_millis(500));
    assert_eq!(recorded(&record).len(), 1, "{:?}", recorded(&record));
    host.signal(libc::SIGCONT);
    wait_for("all to be done", || recorded(&record).len() == 10);
    host.signal(libc::SIGTERM);
    host.wait_ok();
    let counts = recorded(&record);
    assert!(counts.values().all(|count| *count == (1, 1)), "{counts:?}");
    assert_eq!(letters(&env, &store), [Value::Null; 0]);
}

/// Makes the tables, and connects as one of the original's programs.
fn original(env: &Env) -> (Database, postgres::Client, String) {
    let database = Database::new();
    let set = format!("asynctask_transport={}", database.uri());
    env.rex_host(&["queue", "list", "--set", &set]).ok();
    let client = database.connect();
    (database, client, set)
}

#[test]
fn tasks_of_an_old_producer_are_worked_as_they_come() {
    let env = Env::new();
    let (_database, mut client, set) = original(&env);
    let insert = "insert into asynctask.asynctask_queue (queue_name, payload) \
                  values ('foo', ($1::text)::json)";
    client.execute(insert, &[&r#"{"b": [1, 2.5, null, true, "it's \u00e9"], "a": 1}"#]).unwrap();
    // A poll would take a minute: what comes later must be announced.
    let slow = "asynctask_workers_poll_interval=60000";
    let host = env.start(&["run", "rex.asynctask_demo", "--set", &set, "--set", slow]);
    host.wait_output("FOO processed: {'b': [1, 2.5, None, True, \"it's é\"], 'a': 1}");
    // Each comes while the host is finding out that there is no more.
    for n in 0..200 {
        client.execute(insert, &[&format!("{{\"later\": {n}}}")]).unwrap();
        host.wait_output(&format!("FOO processed: {{'later': {n}}}"));
    }
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
    let left = client.query("select 1 from asynctask.asynctask_queue", &[]).unwrap();
    assert_eq!(left.len(), 0);
}

#[test]
fn tasks_that_we_submit_are_as_the_original_writes_them() {
    let env = Env::new();
    let (_database, mut client, set) = original(&env);
    let payload = r#"{"b": [1, 2.5, null, true, "it's é"], "a": {"z": 1, "a": 2}}"#;
    env.rex_host(&["submit", "foo", payload, "--set", &set]).ok();
    let row = client.query_one(
        "select queue_name, payload::text, date_submitted is not null from asynctask.asynctask_queue",
        &[],
    );
    let row = row.unwrap();
    assert_eq!(row.get::<_, &str>(0), "foo");
    let stored = r#"{"a": {"z": 1, "a": 2}, "b": [1, 2.5, null, true, "it's \u00e9"]}"#;
    assert_eq!(row.get::<_, &str>(1), stored);
    assert!(row.get::<_, bool>(2));
}
