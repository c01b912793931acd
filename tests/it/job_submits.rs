//! What jobs submit is written when they have succeeded, whatever happens at their ends.

use postgres::{Client, Transaction};
use rex_test_support::amqp;
use rex_test_support::env::Env;
use rex_test_support::process::{Running, wait_for};
use rex_test_support::redis::Redis;
use serde_json::{Value, json};

use crate::shop::{Shop, stop};

const WORKERS: &str = "asynctask_workers:
  rex_job_0: { worker: job_executor, processes: 1 }
  foo: crash_worker
asynctask_owner_timeout: 5
";

/// A job that submits a task to the queue; each writes down its starts.
fn submits(shop: &Shop, queue: &str) -> Value {
    let path = |name: &str| shop.env.path(name).display().to_string();
    let task = json!({"how": "ok", "n": 1, "record": path("task")});
    json!({"how": "submit", "queue": queue, "payload": task, "n": 1, "record": path("job")})
}

/// As [`submits`], after a facet that can be locked.
fn submits_later(shop: &Shop, queue: &str) -> Value {
    let mut payload = submits(shop, queue);
    payload["facets"] = json!({"slow": {"my_value": 5}});
    payload
}

fn starts(shop: &Shop, record: &str) -> usize {
    let text = std::fs::read_to_string(shop.env.path(record)).unwrap_or_default();
    text.matches("start 1\n").count()
}

fn locked<'a>(client: &'a mut Client, sql: &str) -> Transaction<'a> {
    let mut transaction = client.transaction().expect("it can begin");
    transaction.batch_execute(sql).expect("nobody else has it locked");
    transaction
}

/// No more than a moment after the last job.
fn nothing_is_left(shop: &Shop) {
    wait_for("empty queues", || shop.rex_host(&["queue", "list", "--json"]).ok().is_empty());
}

fn kill(host: Running) {
    host.signal(libc::SIGKILL);
    host.wait();
}

fn settings(transport: &str) -> String {
    format!("asynctask_transport: '{transport}'\n{WORKERS}")
}

#[test]
fn what_a_job_submits_is_run() {
    let shop = Shop::new(WORKERS);
    let host = shop.run(&[]);
    for n in 1..=3 {
        let code = shop.insert("crash", &submits(&shop, "foo"));
        shop.wait_status(code, "completed");
        wait_for("the task", || starts(&shop, "task") == n);
    }
    nothing_is_left(&shop);
    assert_eq!(starts(&shop, "job"), 3);
    let output = stop(host);
    assert!(!output.contains("WARNING") && !output.contains("ERROR"), "{output}");
}

/// The store cannot take a queue of that name.
fn fails_with_what_is_refused(transport: &str) {
    let shop = Shop::new(&settings(transport));
    let host = shop.run(&[]);
    let good = shop.insert("crash", &submits(&shop, "foo"));
    let bad = shop.insert("crash", &submits(&shop, &"q".repeat(300)));
    shop.wait_status(good, "completed");
    wait_for("an end", || ["completed", "failed"].contains(&shop.status(bad).0.as_str()));
    let (status, detail) = shop.status(bad);
    assert_eq!(status, "failed");
    let detail = detail.expect("it says why");
    assert!(detail.starts_with("its submits were refused: "), "{detail}");
    assert!(!detail.contains("submitted all the same"), "{detail}");
    nothing_is_left(&shop);
    assert_eq!(starts(&shop, "task"), 1);
    let output = stop(host);
    assert!(!output.contains("is now a dead letter"), "{output}");
    assert_eq!(shop.rex_host(&["dlq", "list", "--json"]).ok(), "");
}

#[test]
fn a_job_whose_submits_are_refused_by_files_has_failed() {
    let env = Env::new();
    fails_with_what_is_refused(&env.directory());
}

#[test]
fn a_job_whose_submits_are_refused_by_rabbitmq_has_failed() {
    let Some(uri) = amqp::fresh(75) else { return };
    fails_with_what_is_refused(&uri);
}

/// An old consumer has the queue locked that a job submits to, then that of the job's own task.
#[test]
fn an_end_that_waits_for_a_locked_directory_is_recorded_once() {
    let env = Env::new();
    let shop = Shop::new(&settings(&env.directory()));
    let host = shop.run(&[]);
    let lock = |queue: &str| {
        let path = env.path("queues").join(queue).join(".lock");
        wait_for("the queue", || path.exists());
        let file = std::fs::File::open(path).expect("it is there");
        file.lock().expect("it is free in a moment");
        file
    };
    let first = shop.insert("crash", &submits(&shop, "foo"));
    shop.wait_status(first, "completed");
    let kept = lock("foo");
    let second = shop.insert("crash", &submits(&shop, "foo"));
    host.wait_output("Queue foo: what became of its tasks cannot be recorded yet");
    // Others go on.
    let path = |name: &str| shop.env.path(name).display().to_string();
    let slow = json!({"how": "until", "file": path("go"), "n": 1, "record": path("job")});
    let third = shop.insert("crash", &slow);
    shop.wait_status(third, "started");
    assert_eq!(shop.status(second).0, "started");
    let kept_too = lock("rex_job_0");
    shop.env.write("go", "");
    host.wait_output("Queue rex_job_0: what became of its tasks cannot be recorded yet");
    drop((kept, kept_too));
    shop.wait_status(second, "completed");
    shop.wait_status(third, "completed");
    wait_for("the tasks", || starts(&shop, "task") == 2);
    nothing_is_left(&shop);
    assert_eq!((starts(&shop, "job"), starts(&shop, "task")), (3, 2));
    stop(host);
    assert_eq!(shop.rex_host(&["dlq", "list", "--json"]).ok(), "");
}

/// It has succeeded, and the store does not take what it submits.
#[test]
fn a_host_that_dies_before_the_store_has_the_submits_has_the_job_run_again() {
    let shop = Shop::new(WORKERS);
    let host = shop.run(&[]);
    host.wait_output("Starting; queue=rex_job_0");
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = 'lock_not_available'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON asynctask.asynctask_queue
            FOR EACH ROW WHEN (NEW.queue_name = 'foo') EXECUTE FUNCTION refuse()";
    shop.client().batch_execute(refuse).expect("the table is there");
    let code = shop.insert("crash", &submits(&shop, "foo"));
    host.wait_output("the queue store refuses this host, its tasks are kept: ");
    kill(host);
    let allow = "DROP FUNCTION refuse CASCADE";
    shop.client().batch_execute(allow).expect("it is there");
    let host = shop.run(&["--name", "next"]);
    wait_for("the task", || starts(&shop, "task") == 1);
    shop.wait_status(code, "completed");
    nothing_is_left(&shop);
    assert_eq!((starts(&shop, "job"), starts(&shop, "task")), (2, 1));
    stop(host);
}

/// The store has all of a job of this host, and its row is locked by this transaction.
fn stuck_at_the_end_of_a_row<'a>(
    shop: &Shop,
    client: &'a mut Client,
) -> (Running, i64, Transaction<'a>) {
    let host = shop.run(&[]);
    let mut other = shop.client();
    let facets = locked(&mut other, "LOCK TABLE slow IN ACCESS EXCLUSIVE MODE");
    let code = shop.insert("crash", &submits_later(shop, "foo"));
    wait_for("the job runs", || starts(shop, "job") == 1);
    let row = locked(client, "UPDATE job SET title = 'x' WHERE code = 1");
    facets.commit().expect("it can be committed");
    wait_for("the task", || starts(shop, "task") == 1);
    host.wait_output("the end of job 1 cannot be recorded yet: ");
    assert_eq!(shop.status(code).0, "started");
    (host, code, row)
}

/// As [`stuck_at_the_end_of_a_row`]; the host dies then.
fn die_before_the_row_ends<'a>(shop: &Shop, client: &'a mut Client) -> (i64, Transaction<'a>) {
    let (host, code, row) = stuck_at_the_end_of_a_row(shop, client);
    kill(host);
    (code, row)
}

/// A host that halts ends it; how often the job is run in all.
fn is_ended_by_one_that_halts(transport: Option<&str>) -> usize {
    let shop = Shop::new(&transport.map_or_else(|| WORKERS.to_owned(), settings));
    let mut client = shop.client();
    let (code, row) = die_before_the_row_ends(&shop, &mut client);
    row.commit().expect("it can be committed");
    shop.run(&["--name", "next", "--halt-when-empty"]).wait_ok();
    assert_eq!(shop.status(code).0, "completed");
    starts(&shop, "job")
}

#[test]
fn a_host_that_halts_ends_the_row_of_one_that_died() {
    assert_eq!(is_ended_by_one_that_halts(None), 1);
}

#[test]
fn a_host_that_halts_has_the_job_of_one_that_died_run_again_with_tasks_in_files() {
    let env = Env::new();
    assert_eq!(is_ended_by_one_that_halts(Some(&env.directory())), 2);
}

#[test]
fn a_host_that_halts_has_the_job_of_one_that_died_run_again_with_tasks_in_rabbitmq() {
    let Some(uri) = amqp::fresh(75) else { return };
    assert_eq!(is_ended_by_one_that_halts(Some(&uri)), 2);
}

/// It has taken what tells of its job, and nobody knows that it does nothing.
#[test]
fn a_host_that_halts_ends_the_row_of_one_that_was_stopped() {
    let shop = Shop::new(WORKERS);
    let mut client = shop.client();
    let (host, code, row) = stuck_at_the_end_of_a_row(&shop, &mut client);
    wait_for("it to be taken", || {
        let queues = shop.rex_host(&["queue", "list", "--json"]).json_lines();
        let of = |queue: &Value| queue["queue"] == "rex_job_ended" && queue["in_flight"] == 1;
        queues.iter().any(of)
    });
    wait_for("it to be stopped while it holds no lock of the store", || {
        host.signal(libc::SIGSTOP);
        let is_free = shop.rex_host(&["queue", "resume", "rex_job_ended"]).status.success();
        if !is_free {
            host.signal(libc::SIGCONT);
        }
        is_free
    });
    row.commit().expect("it can be committed");
    shop.run(&["--name", "next", "--halt-when-empty"]).wait_ok();
    assert_eq!(shop.status(code).0, "completed");
    host.signal(libc::SIGCONT);
    stop(host);
    assert_eq!(shop.status(code).0, "completed");
    assert_eq!((starts(&shop, "job"), starts(&shop, "task")), (1, 1));
}

/// How often the job and its task are run in all.
fn dies_before_the_row_ends(transport: Option<&str>) -> (usize, usize) {
    let shop = Shop::new(&transport.map_or_else(|| WORKERS.to_owned(), settings));
    let mut client = shop.client();
    let (code, row) = die_before_the_row_ends(&shop, &mut client);
    let host = shop.run(&["--name", "next"]);
    // The row holds up no other.
    let other = shop.insert("demo_fast", &json!({}));
    shop.wait_status(other, "completed");
    assert_eq!(shop.status(code).0, "started");
    row.commit().expect("it can be committed");
    shop.wait_status(code, "completed");
    nothing_is_left(&shop);
    stop(host);
    (starts(&shop, "job"), starts(&shop, "task"))
}

#[test]
fn a_host_that_dies_before_a_row_ends_has_it_ended_by_the_next() {
    assert_eq!(dies_before_the_row_ends(None), (1, 1));
}

#[test]
fn a_host_that_dies_before_a_row_ends_has_it_ended_with_tasks_in_redis() {
    let Some(server) = Redis::start() else { return };
    assert_eq!(dies_before_the_row_ends(Some(&server.uri())), (1, 1));
}

/// Where submits may be there without the rest, nobody knows that all are.
#[test]
fn a_host_that_dies_before_a_row_ends_has_the_job_run_again_with_tasks_in_files() {
    let env = Env::new();
    assert_eq!(dies_before_the_row_ends(Some(&env.directory())), (2, 2));
}

#[test]
fn a_host_that_dies_before_a_row_ends_has_the_job_run_again_with_tasks_in_rabbitmq() {
    let Some(uri) = amqp::fresh(75) else { return };
    assert_eq!(dies_before_the_row_ends(Some(&uri)), (2, 2));
}

#[test]
fn a_job_that_was_cancelled_submits_nothing() {
    let shop = Shop::new(WORKERS);
    let host = shop.run(&[]);
    let mut client = shop.client();
    let facets = locked(&mut client, "LOCK TABLE slow IN ACCESS EXCLUSIVE MODE");
    let code = shop.insert("crash", &submits_later(&shop, "nobody"));
    wait_for("the job runs", || starts(&shop, "job") == 1);
    let told = shop.rex_host(&["job", "cancel", "1", "--grace", "1h"]).ok();
    assert_eq!(told, "job 1 is told to stop, and killed after 3600 s\n");
    facets.commit().expect("it can be committed");
    assert_eq!(shop.wait_status(code, "failed").as_deref(), Some("Cancelled"));
    // What was written is there before the row ends, or at the latest before the next one's does.
    let next = shop.insert("demo_fast", &json!({}));
    shop.wait_status(next, "completed");
    assert_eq!(shop.rex_host(&["queue", "peek", "nobody", "--json"]).ok(), "");
    stop(host);
}
