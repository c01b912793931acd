//! A store that is there and yet refuses one thing: the tasks of one queue, the outcome of one task.
//! Whatever it is, everything else goes on.

use std::collections::BTreeSet;
use std::fs::File;

use rex_test_support::env::Env;
use rex_test_support::pg::Database;
use rex_test_support::process::{Running, descendants, wait_for};
use serde_json::{Value, json};

use crate::crashing::{self, recorded};

/// The original's lock of queue foo.
const LOCK: &str = "select pg_advisory_xact_lock(1234567890, 200198069)";

fn start(env: &Env, database: &Database, queues: &[&str], more: &[&str]) -> Running {
    let queues: Value = queues.iter().map(|queue| ((*queue).to_owned(), json!({}))).collect();
    let transport = format!("asynctask_transport={}", database.uri());
    crashing::start(env, &queues, &[&["--set", &transport], more].concat())
}

fn submit(env: &Env, database: &Database, queue: &str, payloads: &[Value]) {
    let input: String = payloads.iter().map(|payload| format!("{payload}\n")).collect();
    let transport = format!("asynctask_transport={}", database.uri());
    env.rex_host_with(&["submit", queue, "-", "--set", &transport], &input).ok();
}

fn dead_letters(env: &Env, database: &Database) -> Vec<Value> {
    let transport = format!("asynctask_transport={}", database.uri());
    env.rex_host(&["dlq", "list", "--json", "--set", &transport]).json_lines()
}

fn quick(env: &Env, n: i64) -> Value {
    json!({"how": "ok", "n": n, "record": env.path("record")})
}

#[test]
fn a_stuck_lock_holds_up_one_queue_only() {
    let (env, database) = (crashing::env(), Database::new());
    submit(&env, &database, "foo", &[quick(&env, 0)]);
    let mut stuck = database.connect();
    let mut lock = stuck.transaction().expect("a transaction can be begun");
    lock.batch_execute(LOCK).expect("nobody has it");

    let more = ["--set", "asynctask_lock_timeout=0.1"];
    let host = start(&env, &database, &["foo", "bar"], &more);
    host.wait_output("another session keeps a lock");
    let mut looking = database.connect();
    let mut tries = BTreeSet::new();
    for n in 1..=3 {
        wait_for(format_args!("the host to ask for the lock, time {n}"), || {
            let asks = looking.query(
                "select a.xact_start::text from pg_locks l join pg_stat_activity a using (pid)
                 where l.locktype = 'advisory' and not l.granted and a.datname = current_database()",
                &[],
            );
            tries.extend(asks.expect("anyone may look").iter().map(|row| row.get::<_, String>(0)));
            tries.len() >= n
        });
        let n = i64::try_from(n).expect("a few");
        submit(&env, &database, "bar", &[quick(&env, n)]);
        wait_for(format_args!("task {n} of the other queue"), || {
            recorded(&env.path("record")).get(&n) == Some(&(1, 1))
        });
    }
    assert_eq!(recorded(&env.path("record")).get(&0), None);
    drop(lock);
    let output = host.wait_output("gives tasks of queue foo again");
    assert_eq!(output.matches("no tasks can be taken from queue foo").count(), 1, "{output}");
    wait_for("the task", || recorded(&env.path("record")).get(&0) == Some(&(1, 1)));
    env.rex_host(&["stop"]).ok();
    let output = host.wait_ok();
    assert!(!output.contains("the queue store is away"), "{output}");
}

/// An old consumer that hangs with the lock of one queue, while one of its tasks ends.
#[test]
fn a_locked_queue_of_a_directory_holds_up_no_other() {
    let env = crashing::env();
    let transport = format!("asynctask_transport={}", env.directory());
    let set = ["--set", &transport];
    let (record, go) = (env.path("record"), env.path("go"));
    let host = crashing::start(&env, &json!({"foo": {}, "bar": {}}), &set);
    let submit = |queue: &str, payload: &Value| {
        let payload = payload.to_string();
        env.rex_host(&[&["submit", queue, &payload], &set[..]].concat()).ok();
    };
    submit("foo", &json!({"how": "until", "file": go, "n": 1, "record": record}));
    wait_for("the task", || recorded(&record).get(&1) == Some(&(1, 0)));
    let lock = File::open(env.path("queues/foo/.lock")).expect("it was locked before");
    lock.lock().expect("it is free");
    std::fs::write(&go, "").expect("ours");
    wait_for("its end", || recorded(&record).get(&1) == Some(&(1, 1)));
    for n in 2..=4 {
        submit("bar", &quick(&env, n));
        wait_for(format_args!("task {n} of the other queue"), || {
            recorded(&record).get(&n) == Some(&(1, 1))
        });
    }
    host.wait_output("what became of its tasks cannot be recorded yet");
    let in_flight = |queue: &str| {
        let queues = env.rex_host(&[&["queue", "list", "--json"], &set[..]].concat()).json_lines();
        queues.iter().find(|one| one["queue"] == queue).map(|one| one["in_flight"].clone())
    };
    assert_eq!(in_flight("foo"), Some(json!(1)));
    wait_for("the others' outcomes", || in_flight("bar").is_none());
    drop(lock);
    wait_for("the outcome", || in_flight("foo").is_none());
    env.rex_host(&["stop"]).ok();
    let output = host.wait_ok();
    assert!(!output.contains("refuses this host"), "{output}");
    assert_eq!(recorded(&record).len(), 4);
}

/// A file where the directory of one queue belongs.
#[test]
fn a_refused_queue_holds_up_no_other_of_a_host_that_halts() {
    let env = crashing::env();
    let refused = env.obstruct("foo");
    let transport = format!("asynctask_transport={}", env.directory());
    let set = ["--set", &transport];
    for n in 1..=3 {
        let payload = quick(&env, n).to_string();
        env.rex_host(&["submit", "bar", &payload, set[0], set[1]]).ok();
    }
    let queues = json!({"foo": {}, "bar": {}});
    let host = crashing::start(&env, &queues, &["--halt-when-empty", set[0], set[1]]);
    for n in 1..=3 {
        wait_for(format_args!("task {n}"), || {
            recorded(&env.path("record")).get(&n) == Some(&(1, 1))
        });
    }
    let said = "ERROR:rex-host:it cannot be told whether queue foo is empty, so its workers do not \
                end: Failed to use the queue directory: ";
    host.wait_output(said);
    wait_for("the end of the other's workers", || descendants(host.pid()).len() == 1);
    let listed = env.rex_host(&["queue", "list", "--json", set[0], set[1]]).json_lines();
    assert!(listed.is_empty(), "{listed:?}");
    refused.remove();
    let output = host.wait_ok();
    assert_eq!(output.matches(said).count(), 1, "{output}");
    assert!(!output.contains("refuses this host"), "{output}");
}

/// A file where the directory of its delayed tasks belongs.
#[test]
fn a_queue_whose_delayed_tasks_are_refused_holds_up_no_other() {
    let env = crashing::env();
    let refused = env.obstruct(".rex/queues/foo/delayed");
    let transport = format!("asynctask_transport={}", env.directory());
    let set = ["--set", &transport];
    let host = crashing::start(&env, &json!({"foo": {}, "bar": {}}), &set);
    let said = "ERROR:rex-host:no tasks can be taken from queue foo: ";
    host.wait_output(said);
    let is_done = |n| recorded(&env.path("record")).get(&n) == Some(&(1, 1));
    for (n, queue) in [(1, "bar"), (2, "bar"), (3, "foo")] {
        if n == 3 {
            refused.remove();
        }
        let payload = quick(&env, n).to_string();
        env.rex_host(&["submit", queue, &payload, set[0], set[1]]).ok();
        wait_for(format_args!("task {n}"), || is_done(n));
    }
    env.rex_host(&["stop"]).ok();
    let output = host.wait_ok();
    assert_eq!(output.matches(said).count(), 1, "{output}");
    assert!(!output.contains("refuses this host"), "{output}");
}

#[test]
fn a_death_that_cannot_be_told_is_told_in_ascii() {
    let (env, database) = (crashing::env(), Database::latin1());
    let record = env.path("record");
    let text = "price 5 € ž";
    submit(
        &env,
        &database,
        "crash",
        &[
            quick(&env, 1),
            json!({"how": "stderr", "text": text, "n": 2, "record": record}),
            quick(&env, 3),
            json!({"how": "error", "text": text, "message": text, "n": 4, "record": record}),
            quick(&env, 5),
        ],
    );
    submit(&env, &database, "bar", &[quick(&env, 6)]);
    let output = start(&env, &database, &["crash", "bar"], &["--halt-when-empty"]).wait_ok();
    assert!(output.contains(text), "what it printed is passed on as it is:\n{output}");
    for n in 1..=6 {
        let done = usize::from(n % 2 == 1 || n == 6);
        assert_eq!(recorded(&record).get(&n), Some(&(1, done)), "task {n}\n{output}");
    }
    let letters = dead_letters(&env, &database);
    assert_eq!(letters.len(), 2, "{letters:?}");
    for letter in &letters {
        let (shown, details) = (letter["payload"]["text"].as_str(), letter["details"].to_string());
        assert_eq!(shown, Some(text), "the payload is what it was: {letter}");
        assert!(details.contains(r"price 5 \\u{20ac} \\u{17e}"), "{details}");
    }
    assert_eq!(letters[0]["details"]["signal"], libc::SIGABRT, "{}", letters[0]);
    assert!(letters[1]["reason"].as_str().is_some_and(|reason| reason.is_ascii()), "{letters:?}");
}

#[test]
fn a_death_that_cannot_be_told_at_all_is_told_in_short() {
    let (env, database) = (crashing::env(), Database::new());
    let record = env.path("record");
    let fails = json!({"how": "error", "message": "x".repeat(100_000), "n": 1, "record": record});
    submit(&env, &database, "crash", &[fails.clone(), quick(&env, 2)]);
    submit(&env, &database, "bar", &[quick(&env, 3)]);
    database
        .connect()
        .batch_execute(
            "create function refuse() returns trigger language plpgsql as $$
                 begin raise exception 'too much'; end $$;
             create trigger refuse before insert on asynctask.rex_dead
                 for each row when (new.details ? 'attempts') execute function refuse()",
        )
        .expect("the table was made by the submit");
    let output = start(&env, &database, &["crash", "bar"], &["--halt-when-empty"]).wait_ok();
    for n in [2, 3] {
        assert_eq!(recorded(&record).get(&n), Some(&(1, 1)), "task {n}\n{output}");
    }
    let letters = dead_letters(&env, &database);
    assert_eq!(letters.len(), 1, "{letters:?}");
    let reason = letters[0]["reason"].as_str().expect("a text");
    assert!(reason.starts_with("Exception: xxx") && reason.len() < 1100, "{reason}");
    let details = &letters[0]["details"];
    let transport = format!("asynctask_transport={}", database.uri());
    let short = (&details["kind"], &details["worker"], &details["shortened"]);
    assert_eq!(short, (&json!("error"), &json!("crash_worker"), &json!(true)));
    assert!(details["plugin_hash"].is_string() && details["text"].is_null(), "{details}");
    assert_eq!(details["quarantined"], false, "{details}");
    assert!(output.contains("is kept in short, as the store refuses more: "), "{output}");
    env.rex_host(&["dlq", "show", &letters[0]["id"].to_string(), "--set", &transport]).ok();

    // Where it can be told, not all of a text of any length is kept.
    database.connect().batch_execute("drop trigger refuse on asynctask.rex_dead").expect("ours");
    submit(&env, &database, "crash", &[fails]);
    start(&env, &database, &["crash"], &["--halt-when-empty"]).wait_ok();
    let text = dead_letters(&env, &database)[1]["details"]["text"].to_string();
    assert!(text.contains("x... (34464 more bytes)"), "{}", text.len());
}

/// `when`: a condition on the row `new`.
fn refuse_submits(database: &Database, when: &str) {
    let sql = format!(
        "create function refuse() returns trigger language plpgsql as $$
             begin raise exception 'nothing for %', new.queue_name; end $$;
         create trigger refuse before insert on asynctask.asynctask_queue
             for each row when ({when}) execute function refuse()"
    );
    database.connect().batch_execute(&sql).expect("the table was made by a submit");
}

#[test]
fn a_submit_that_is_refused_makes_its_task_a_dead_letter() {
    let (env, database) = (crashing::env(), Database::new());
    let record = env.path("record");
    submit(&env, &database, "bar", &[quick(&env, 1)]);
    refuse_submits(&database, "new.queue_name = 'closed'");
    let asks = |n: i64, queue: &str| {
        let payload = quick(&env, n + 10);
        json!({"how": "submit", "queue": queue, "payload": payload, "n": n, "record": record})
    };
    let tasks = [asks(2, "bar"), asks(3, "closed"), asks(4, "bar")];
    submit(&env, &database, "crash", &tasks);
    let output = start(&env, &database, &["crash", "bar"], &["--halt-when-empty"]).wait_ok();
    // What came to a queue that had been found empty.
    start(&env, &database, &["bar"], &["--halt-when-empty"]).wait_ok();
    for n in [1, 2, 3, 4, 12, 14] {
        assert_eq!(recorded(&record).get(&n), Some(&(1, 1)), "task {n}\n{output}");
    }
    assert_eq!(recorded(&record).get(&13), None, "it was not to be submitted");
    let letters = dead_letters(&env, &database);
    assert_eq!(letters.len(), 1, "{letters:?}\n{output}");
    assert_eq!(letters[0]["payload"]["n"], 3);
    let reason = letters[0]["reason"].as_str().expect("a text");
    assert!(reason.starts_with("its submits were refused: "), "{reason}");
    assert!(reason.contains("nothing for closed"), "{reason}");
    assert!(output.contains("is refused, so it has failed"), "{output}");
    let details = &letters[0]["details"];
    assert_eq!([&details["kind"], &details["worker"]], ["refused", "crash_worker"], "{details}");
    assert!(details["plugin_hash"].is_string(), "{details}");
    assert!(details["peak_rss"].as_u64() > Some(0), "{details}");
    assert_eq!(details["attempts"][0]["kind"], "refused", "{details}");
    assert_eq!(details["quarantined"], false, "{details}");

    submit(&env, &database, "crash", &[asks(5, "closed"), asks(6, "bar")]);
    let transport = format!("asynctask_transport={}", database.uri());
    env.set("REX_PLUGINS", env.path("plugins").display().to_string());
    let work = ["work", "crash", "--worker", "crash_worker", "--set", &transport];
    let done = env.rex_host(&work);
    assert!(done.stdout.ends_with("1 task done in queue crash\n"), "{done}");
    let said = done.fails(1);
    assert!(said.contains("error: 1 task failed"), "{said}");
}

/// Many of them are one batch, whose processes end with it.
#[test]
fn a_task_whose_submit_is_refused_has_its_own_output_and_usage() {
    const COUNT: usize = 20;
    let (env, database) = (crashing::env(), Database::new());
    let asks = |lines: usize| json!({"how": "print", "lines": lines, "then": {"refused": true}});
    let tasks: Vec<Value> = (1..=COUNT).map(asks).collect();
    submit(&env, &database, "crash", &tasks);
    submit(&env, &database, "short", &tasks);
    refuse_submits(&database, "new.payload ->> 'refused' is not null");
    let transport = format!("asynctask_transport={}", database.uri());
    let queues = json!({"crash": {}, "short": {"max_tasks": 1}});
    let more = ["--halt-when-empty", "--set", &transport];
    let output = crashing::start(&env, &queues, &more).wait_ok();
    let letters = dead_letters(&env, &database);
    assert_eq!(letters.len(), 2 * COUNT, "{output}");
    for letter in letters {
        let details = &letter["details"];
        let lines = details["last_output"].as_array().expect("a list of lines");
        assert_eq!(Some(lines.len() as u64), letter["payload"]["lines"].as_u64(), "{details}");
        for name in ["cpu_ms", "peak_rss", "ran_ms"] {
            assert!(details[name].is_u64(), "{name}: {details}");
        }
        assert!(details["attempts"][0]["ran_ms"].is_u64(), "{details}");
    }
}

/// What is to be mended then is that.
#[test]
fn a_dead_letter_that_is_refused_where_a_submit_was_is_kept_until_it_is_taken() {
    let (env, database) = (crashing::env(), Database::new());
    submit(&env, &database, "crash", &[json!({"how": "ok", "then": {"refused": true}})]);
    refuse_submits(&database, "new.payload ->> 'refused' is not null");
    let refuse = "create function bury() returns trigger language plpgsql as $$
             begin raise exception 'no dead here'; end $$;
         create trigger bury before insert on asynctask.rex_dead
             for each row execute function bury()";
    database.connect().batch_execute(refuse).expect("the table was made by the submit");
    let host = start(&env, &database, &["crash"], &["--halt-when-empty"]);
    host.wait_output("no dead here");
    let mend = "drop trigger bury on asynctask.rex_dead";
    database.connect().batch_execute(mend).expect("it is ours");
    let output = host.wait_ok();
    let letters = dead_letters(&env, &database);
    assert_eq!(letters.len(), 1, "{output}");
    assert_eq!(letters[0]["details"]["kind"], "refused", "{output}");
}
