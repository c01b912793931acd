//! An application keeps a row of the table of jobs locked: only what needs this row waits.

use postgres::{Client, Transaction};
use rex_test_support::process::{Running, wait_for};
use serde_json::{Value, json};

use crate::shop::{Shop, stop};

/// Two jobs at a time, and a queue beside them.
const WORKERS: &str = "asynctask_workers:
  rex_job_0: { worker: job_executor, processes: 2 }
  foo: crash_worker
asynctask_drain_timeout: 1
";

fn locked<'a>(client: &'a mut Client, sql: &str) -> Transaction<'a> {
    let mut transaction = client.transaction().expect("it can begin");
    transaction.batch_execute(sql).expect("nobody else has it locked");
    transaction
}

/// The payload of a job that writes down its starts and waits for the file.
fn until(shop: &Shop, file: &str, record: &str) -> Value {
    let path = |name: &str| shop.env.path(name).display().to_string();
    json!({"how": "until", "file": path(file), "n": 1, "record": path(record)})
}

fn recorded(shop: &Shop, record: &str) -> String {
    std::fs::read_to_string(shop.env.path(record)).unwrap_or_default()
}

/// Neither the task of another queue nor another job waits.
fn others_go_on(shop: &Shop, round: &str) {
    let path = shop.env.path(round).display().to_string();
    let task = json!({"how": "ok", "n": 1, "record": path}).to_string();
    shop.rex_host(&["submit", "foo", &task]).ok();
    let other = shop.insert("demo_fast", &json!({}));
    shop.wait_status(other, "completed");
    wait_for("the task's outcome", || {
        let queues = shop.rex_host(&["queue", "list", "--json"]).json_lines();
        !queues.iter().any(|queue| queue["queue"] == "foo")
    });
    assert_eq!(recorded(shop, round), "start 1\ndone 1\n");
}

fn stopped(host: Running) {
    let output = stop(host);
    assert!(!output.contains("store is away"), "{output}");
    assert!(!output.contains("ERROR:"), "{output}");
}

#[test]
fn the_end_of_a_job_waits_for_its_row_alone() {
    let shop = Shop::new(WORKERS);
    let host = shop.run(&[]);
    let first = shop.insert("crash", &until(&shop, "gate", "record"));
    wait_for("the job runs", || !recorded(&shop, "record").is_empty());
    let mut application = shop.client();
    let lock = locked(&mut application, "UPDATE job SET title = 'x' WHERE code = 1");
    shop.env.write("gate", "");
    host.wait_output("INFO:JobExecutorWorker:Job #1 complete");
    others_go_on(&shop, "one");
    host.wait_output("the end of job 1 cannot be recorded yet: another program has locked what is");
    others_go_on(&shop, "two");
    assert_eq!(shop.status(first).0, "started");
    lock.commit().expect("it can be committed");
    shop.wait_status(first, "completed");
    host.wait_output("the end of job 1 is recorded after ");
    // When it ended, not when that could be said.
    let sql = "SELECT ended.date_completed < later.date_submitted FROM job AS ended, job AS later
        WHERE ended.code = 1 AND later.code = 2";
    assert!(shop.client().query_one(sql, &[]).expect("both are there").get::<_, bool>(0));
    assert_eq!(recorded(&shop, "record"), "start 1\ndone 1\n");
    stopped(host);
    assert_eq!(shop.rex_host(&["queue", "list", "--json"]).ok(), "");
}

#[test]
fn a_job_is_not_started_before_its_row_is_free_and_others_are() {
    const LOCKED: i64 = 40;
    let shop = Shop::new(WORKERS);
    for _ in 0..LOCKED {
        shop.insert("demo_fast", &json!({}));
    }
    shop.work("scheduled_0_job_queuer", Some("{}"));
    let mut application = shop.client();
    // More than the host takes when none of them can be started.
    let all = locked(&mut application, "SELECT 1 FROM job FOR UPDATE");
    let host = shop.run(&[]);
    host.wait_output("job 1 cannot be started yet: another program has locked what is needed: ");
    all.commit().expect("it can be committed");
    for code in 1..=LOCKED {
        shop.wait_status(code, "completed");
    }
    stopped(host);

    let code = shop.insert("demo_fast", &json!({}));
    shop.work("scheduled_0_job_queuer", Some("{}"));
    let mut application = shop.client();
    let one = locked(&mut application, "UPDATE job SET title = 'x' WHERE code = 41");
    let host = shop.run(&[]);
    others_go_on(&shop, "one");
    host.wait_output("job 41 cannot be started yet: ");
    others_go_on(&shop, "two");
    assert_eq!(shop.status(code).0, "queued");
    one.commit().expect("it can be committed");
    shop.wait_status(code, "completed");
    host.wait_output("job 41 is started after ");
    stopped(host);
    assert_eq!(shop.rex_host(&["queue", "list", "--json"]).ok(), "");
}

/// An application changes all its jobs in one transaction that lasts.
#[test]
fn many_locked_rows_hold_up_their_jobs_alone() {
    const LOCKED: i64 = 200;
    let shop = Shop::new(WORKERS);
    for _ in 0..LOCKED {
        shop.insert("demo_fast", &json!({}));
    }
    shop.work("scheduled_0_job_queuer", Some("{}"));
    let mut application = shop.client();
    let all = locked(&mut application, "UPDATE job SET title = 'mine'");
    let host = shop.run(&[]);
    others_go_on(&shop, "one");
    host.wait_output("job 200 cannot be started yet: ");
    others_go_on(&shop, "two");
    all.commit().expect("it can be committed");
    for code in 1..=LOCKED {
        shop.wait_status(code, "completed");
    }
    let output = stop(host);
    // Neither that the store is away nor that it does not answer.
    assert!(!output.contains("store"), "{output}");
}

#[test]
fn a_new_job_is_queued_when_its_row_is_free_and_others_are_before() {
    let shop = Shop::new(&format!("{WORKERS}job_limits: {{demo_fast: {{max_concurrency: 1}}}}\n"));
    let code = shop.insert("demo_fast", &json!({}));
    let mut application = shop.client();
    let lock = locked(&mut application, "UPDATE job SET title = 'x' WHERE code = 1");
    let host = shop.run(&[]);
    others_go_on(&shop, "one");
    host.wait_output("job 1 cannot be queued yet: another program has its row locked");
    others_go_on(&shop, "two");
    lock.commit().expect("it can be committed");
    shop.wait_status(code, "completed");
    stopped(host);
}

#[test]
fn a_facet_waits_for_its_row_alone() {
    let shop = Shop::new(WORKERS);
    let facets = |value: i64| json!({"how": "ok", "facets": {"slow": {"my_value": value}}});
    let code = shop.insert("crash", &facets(5));
    let mut application = shop.client();
    let row = "INSERT INTO slow (job_id, my_value) SELECT id, 1 FROM job";
    application.batch_execute(row).expect("it can be inserted");
    let lock = locked(&mut application, "UPDATE slow SET my_value = 2");
    let host = shop.run(&[]);
    shop.wait_status(code, "started");
    let other = shop.insert("crash", &facets(6));
    shop.wait_status(other, "completed");
    host.wait_output("what job 1 asks for waits: ");
    others_go_on(&shop, "one");
    let logs = shop.rex_host(&["job", "logs", "2"]).ok();
    assert!(logs.contains("\njob 2 begins\n"), "{logs}");
    lock.commit().expect("it can be committed");
    shop.wait_status(code, "completed");
    let rows = shop.client().query("SELECT my_value FROM slow ORDER BY job_id", &[]);
    let values: Vec<i64> = rows.expect("it is there").iter().map(|row| row.get(0)).collect();
    assert_eq!(values, [5, 6]);
    stopped(host);
}

#[test]
fn a_host_s_death_repeats_the_job_of_the_locked_row_alone() {
    let shop = Shop::new(WORKERS);
    let host = shop.run(&[]);
    let first = shop.insert("crash", &until(&shop, "gate", "first"));
    let second = shop.insert("crash", &until(&shop, "later", "second"));
    wait_for("both run", || ["first", "second"].iter().all(|job| !recorded(&shop, job).is_empty()));
    let mut application = shop.client();
    let lock = locked(&mut application, "UPDATE job SET title = 'x' WHERE code = 1");
    shop.env.write("gate", "");
    host.wait_output("INFO:JobExecutorWorker:Job #1 complete");
    shop.env.write("later", "");
    shop.wait_status(second, "completed");
    host.signal(libc::SIGKILL);
    host.wait();
    let host = shop.run(&["--name", "next"]);
    others_go_on(&shop, "one");
    lock.commit().expect("it can be committed");
    shop.wait_status(first, "completed");
    assert_eq!(recorded(&shop, "first"), "start 1\ndone 1\n".repeat(2));
    assert_eq!(recorded(&shop, "second"), "start 1\ndone 1\n");
    stopped(host);
}

#[test]
fn a_host_that_is_told_to_end_waits_for_a_row_no_longer_than_for_a_task() {
    let shop = Shop::new(WORKERS);
    let host = shop.run(&[]);
    let code = shop.insert("crash", &until(&shop, "gate", "record"));
    wait_for("the job runs", || !recorded(&shop, "record").is_empty());
    let mut application = shop.client();
    let lock = locked(&mut application, "UPDATE job SET title = 'x' WHERE code = 1");
    shop.env.write("gate", "");
    host.wait_output("INFO:JobExecutorWorker:Job #1 complete");
    let output = stop(host);
    let text =
        "what they need stayed locked: one outcome is not recorded, its task will be run again";
    assert!(output.contains(text), "{output}");
    lock.commit().expect("it can be committed");
    let host = shop.run(&[]);
    shop.wait_status(code, "completed");
    stopped(host);
}

/// As somebody has who changes it.
#[test]
fn the_whole_table_locked_holds_up_jobs_and_nothing_else() {
    let shop = Shop::new(WORKERS);
    let host = shop.run(&[]);
    let first = shop.insert("crash", &until(&shop, "gate", "record"));
    wait_for("the job runs", || !recorded(&shop, "record").is_empty());
    let mut application = shop.client();
    let lock = locked(&mut application, "LOCK TABLE job IN ACCESS EXCLUSIVE MODE");
    shop.env.write("gate", "");
    host.wait_output("the end of job 1 cannot be recorded yet");
    let path = shop.env.path("task").display().to_string();
    let task = json!({"how": "ok", "n": 1, "record": path}).to_string();
    shop.rex_host(&["submit", "foo", &task]).ok();
    wait_for("the task", || recorded(&shop, "task") == "start 1\ndone 1\n");
    // What works for all jobs waits, too, and does not fail.
    for duty in ["job_queuer", "job_cleanup"] {
        shop.rex_host(&["submit", &format!("scheduled_0_{duty}"), "{}"]).ok();
    }
    host.wait_output("what a worker asks for waits: another program has locked what is needed: ");
    lock.commit().expect("it can be committed");
    shop.wait_status(first, "completed");
    wait_for("all tasks", || shop.rex_host(&["queue", "list", "--json"]).ok().is_empty());
    let output = stop(host);
    assert!(!output.contains("store is away"), "{output}");
}
