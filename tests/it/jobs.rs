//! Jobs: the original's document, what becomes of a job whatever dies, where its task is kept.

use rex_test_support::amqp;
use rex_test_support::env::Env;
use rex_test_support::pg::Database;
use rex_test_support::process::{Running, wait_for};
use rex_test_support::redis::Redis;
use rex_test_support::server::Server;
use serde_json::{Value, json};

use crate::shop::{Shop, stop};

#[test]
fn the_original_s_document() {
    let limits = "job_limits: {demo_fast: {max_concurrency: 1}, demo_slow: {}}\n";
    let shop = Shop::new(&format!("job_max_age: 0\n{limits}"));
    let slow = json!({"foo": 123, "seconds": 0});
    for (r#type, payload) in [
        ("demo_fast", &json!({})),
        ("demo_slow", &slow),
        ("demo_fragile", &json!({})),
        ("doesntexist", &json!({})),
        ("demo_fast", &json!({})),
    ] {
        shop.insert(r#type, payload);
    }
    let all = |status: &str| (1..=5).map(|n| format!("{n} {status} Submitted")).collect::<Vec<_>>();
    assert_eq!(shop.statuses(), all("new"));

    // Nothing of this is said: it is how the original is quiet.
    let output = shop.work("scheduled_0_job_queuer", Some("{}"));
    assert!(output.contains("DEBUG:JobQueuerWorker:Processing complete\n"), "{output}");
    let mut expected = all("queued");
    expected[4] = "5 new Submitted".to_owned();
    assert_eq!(shop.statuses(), expected);

    let output = shop.work("rex_job_0", None);
    let lines = "\
DEBUG:JobExecutorWorker:Got payload: {'code': 1}
INFO:JobExecutorWorker:Processing Job #1
DEBUG:JobExecutorWorker:Executing job #1 for owner \"somebody\" with payload: {}
INFO:FastExecutor:FastExecutor executed!
INFO:JobExecutorWorker:Job #1 complete
DEBUG:JobExecutorWorker:Processing complete
DEBUG:JobExecutorWorker:Got payload: {'code': 2}
INFO:JobExecutorWorker:Processing Job #2
DEBUG:JobExecutorWorker:Executing job #2 for owner \"somebody\" with payload: {'foo': 123, 'seconds': 0}
INFO:SlowExecutor:SlowExecutor executed!
INFO:JobExecutorWorker:Job #2 complete
DEBUG:JobExecutorWorker:Processing complete
DEBUG:JobExecutorWorker:Got payload: {'code': 3}
INFO:JobExecutorWorker:Processing Job #3
DEBUG:JobExecutorWorker:Executing job #3 for owner \"somebody\" with payload: {}
ERROR:JobExecutorWorker:Job #3 failed
Traceback (most recent call last):
";
    assert!(output.contains(lines), "{output}");
    let lines = "
rex.core.Error: I crashed :(
INFO:JobExecutorWorker:Job #3 complete
DEBUG:JobExecutorWorker:Processing complete
DEBUG:JobExecutorWorker:Got payload: {'code': 4}
INFO:JobExecutorWorker:Processing Job #4
ERROR:JobExecutorWorker:Job type \"doesntexist\" not found; bailing
DEBUG:JobExecutorWorker:Processing complete
";
    assert!(output.contains(lines), "{output}");
    let dates = "Submitted,Started,Completed";
    let ended = |n: i64, status: &str| format!("{n} {status} {dates}");
    let mut expected =
        vec![ended(1, "completed"), ended(2, "completed"), ended(3, "failed"), ended(4, "failed")];
    expected.push("5 new Submitted".to_owned());
    assert_eq!(shop.statuses(), expected);
    assert_eq!(shop.status(3).1.as_deref(), Some("I crashed :("));
    assert_eq!(shop.status(4).1.as_deref(), Some("Unknown Job Type"));
    let query = "/slow{job, my_value}";
    let facets =
        shop.env.rex_host(&["query", "--rexdb", &shop.database.uri(), "--csv", query]).ok();
    assert_eq!(facets, "Job,My Value\r\n2,123\r\n");
    // A job that failed is a task that is done.
    assert_eq!(shop.rex_host(&["dlq", "list", "--json"]).ok(), "");

    let output = shop.work("rex_job_0", Some(r#"{"code": 6}"#));
    let lines = "\
INFO:JobExecutorWorker:Processing Job #6
WARNING:JobExecutorWorker:Job #6 not found; bailing
";
    assert!(output.contains(lines), "{output}");

    shop.work("scheduled_0_job_queuer", Some("{}"));
    expected[4] = "5 queued Submitted".to_owned();
    assert_eq!(shop.statuses(), expected);
    shop.work("scheduled_0_job_cleanup", Some("{}"));
    assert_eq!(shop.statuses(), expected);
    assert_eq!(shop.insert("demo_fast", &json!({})), 6);
    shop.configure(&format!("job_max_age: 3600\n{limits}"));
    shop.work("scheduled_0_job_cleanup", Some("{}"));
    assert_eq!(shop.statuses().len(), 6, "none is old enough");
    let older = "UPDATE job SET date_completed = date_completed - interval '2 hours'";
    shop.client().batch_execute(older).expect("it can be changed");
    shop.work("scheduled_0_job_cleanup", Some("{}"));
    assert_eq!(shop.statuses(), ["5 queued Submitted", "6 new Submitted"]);
}

#[test]
fn a_host_of_the_project_works_jobs_as_they_come() {
    let shop = Shop::new("");
    let before = shop.insert("demo_fast", &json!({}));
    let host = shop.env.start_rex(&["asynctask-workers", &shop.project, "--scheduler"]);
    shop.wait_status(before, "completed");
    let output = stop(host);
    for line in [
        "INFO:AsyncTaskWorkerTask:Launching job_executor to work on queue rex_job_0\n",
        "INFO:AsyncTaskWorkerTask:Launching job_queuer to work on queue scheduled_0_job_queuer\n",
        "INFO:AsyncTaskWorkerTask:Launching job_cleanup to work on queue scheduled_0_job_cleanup\n",
        "INFO:AsyncTaskWorkerTask:Scheduling \"job_queuer\" for {'second': '*/5'}\n",
        "INFO:JobExecutorWorker:Starting; queue=rex_job_0\n",
    ] {
        assert!(output.contains(line), "{line} is not in {output}");
    }
}

#[test]
fn a_job_whose_process_dies_has_failed_with_the_crash_in_its_detail() {
    let shop = Shop::new("");
    let host = shop.run(&[]);
    for (how, detail) in [
        ("segfault", "the worker's process was killed by signal 11 (SIGSEGV)"),
        ("kill", "the worker's process was killed by signal 9 (SIGKILL)"),
        ("exit0", "the worker's process exited with code 0 unasked"),
        ("panic", "panicked on purpose"),
        ("panic_drop", "panicked on purpose"),
        ("error", "failed on purpose"),
    ] {
        let code = shop.insert("crash", &json!({"how": how}));
        let found = shop.wait_status(code, "failed").expect("it says why");
        assert!(found.starts_with(detail), "{how}: {found}");
    }
    // The process goes on with the next one.
    let code = shop.insert("demo_fast", &json!({}));
    shop.wait_status(code, "completed");
    stop(host);
    assert_eq!(shop.rex_host(&["dlq", "list", "--json"]).ok(), "");
}

#[test]
fn an_executor_that_fails_to_start_keeps_no_job_waiting() {
    let entry = "{worker: job_executor, settings: {fails: true}}";
    let shop = Shop::new(&format!("asynctask_workers: {{rex_job_0: {entry}}}\n"));
    let host = shop.run(&[]);
    host.wait_output("ERROR:JobExecutorWorker:The executor of crash failed to start");
    for (r#type, payload) in [("crash", json!({"how": "ok"})), ("demo_fast", json!({}))] {
        let code = shop.insert(r#type, &payload);
        shop.wait_status(code, "completed");
    }
    stop(host);
}

/// The job of a host that is killed is run again by the next one, and ends there.
fn kill_at_work(shop: &Shop, first: Running) {
    let gate = shop.env.path("gate").display().to_string();
    let record = shop.env.path("record").display().to_string();
    let payload = json!({"how": "until", "file": gate, "n": 1, "record": record});
    let code = shop.insert("crash", &payload);
    let starts = || std::fs::read_to_string(&record).unwrap_or_default().matches("start").count();
    wait_for("the job runs", || starts() == 1);
    assert_eq!(shop.status(code).0, "started");
    first.signal(libc::SIGKILL);
    first.wait();
    let second = shop.run(&["--name", "second"]);
    wait_for("the job runs again", || starts() == 2);
    shop.env.write("gate", "");
    shop.wait_status(code, "completed");
    stop(second);
    assert_eq!(starts(), 2);
}

#[test]
fn jobs_of_a_host_that_is_killed_are_run_again() {
    let shop = Shop::new("");
    kill_at_work(&shop, shop.run(&[]));
}

#[test]
fn a_facet_is_kept_at_once_and_a_bad_one_is_refused() {
    let shop = Shop::new("");
    let host = shop.run(&[]);
    let value = || -> Option<i64> {
        let rows = shop.client().query("SELECT my_value FROM slow", &[]).expect("it is there");
        rows.first().map(|row| row.get(0))
    };
    let gate = shop.env.path("gate");
    let (how, file) = ("until", gate.display().to_string());
    let facets = json!({"slow": {"my_value": 5}});
    let code = shop.insert("crash", &json!({"how": how, "file": file, "facets": facets}));
    wait_for("the facet", || value() == Some(5));
    assert_eq!(shop.status(code).0, "started");
    shop.env.write("gate", "");
    shop.wait_status(code, "completed");
    // It stays although the job fails, and is the same row.
    let again = json!({"how": "error", "facets": {"slow": {"my_value": 6}}});
    let code = shop.insert("crash", &again);
    shop.wait_status(code, "failed");
    let sql = "SELECT code, my_value FROM slow JOIN job ON job.id = job_id ORDER BY code";
    let rows = shop.client().query(sql, &[]).expect("it can be asked");
    let rows: Vec<(i64, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [(1, 5), (2, 6)]);
    for facets in
        [json!({"nowhere": {"x": 1}}), json!({"slow": {"nothing": 1}}), json!({"slow": {}})]
    {
        let code = shop.insert("crash", &json!({"how": "ok", "facets": facets}));
        let detail = shop.wait_status(code, "failed").expect("it says why");
        assert!(!detail.is_empty() && !detail.contains("worker's process"), "{detail}");
    }
    stop(host);
}

/// The table gives the code of a job that is deleted to the next one.
#[test]
fn a_job_that_is_deleted_is_not_taken_for_the_one_that_has_its_code() {
    let shop = Shop::new("");
    let host = shop.run(&[]);
    let gate = shop.env.path("gate").display().to_string();
    let facets = json!({"slow": {"my_value": 1}});
    let payload = json!({"how": "until", "file": gate, "facets_after": facets}).to_string();
    let project = ["--project", shop.project.as_str()];
    let submit = ["job", "submit", "crash", &payload, "--wait"];
    let waits = shop.env.start(&[&submit[..], &project].concat());
    wait_for("the job", || shop.statuses().iter().any(|job| job.starts_with("1 started")));
    let follows = shop.env.start(&[&["job", "logs", "1", "--follow"][..], &project].concat());
    follows.wait_output("job 1 begins");
    let other = json!({"how": "until", "file": format!("{gate}2")});
    let exchange = format!(
        "BEGIN; DELETE FROM job;
         INSERT INTO job (owner, type, payload) VALUES ('another', 'crash', '{other}'); COMMIT"
    );
    shop.client().batch_execute(&exchange).expect("it can be done");
    for command in [waits, follows] {
        let (status, output) = command.wait();
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(output.contains("job 1 is there no more: its row was deleted"), "{output}");
    }
    shop.env.write("gate", "");
    host.wait_output("the job's row is gone");
    shop.env.write("gate2", "");
    shop.wait_status(1, "completed");
    assert!(shop.client().query("SELECT FROM slow", &[]).expect("it is there").is_empty());
    stop(host);
}

#[test]
fn a_job_that_gives_way_to_a_stop_or_a_reload_is_run_again() {
    let shop = Shop::new("");
    let host = shop.run(&[]);
    let record = shop.env.path("record").display().to_string();
    let code = shop.insert("crash", &json!({"how": "gives_way", "n": 1, "record": record}));
    let starts = || std::fs::read_to_string(&record).unwrap_or_default().matches("start").count();
    wait_for("the job runs", || starts() == 1);
    // Another set of executors is another process.
    std::fs::remove_file(shop.env.path("plugins/demo_job.so")).expect("it is there");
    shop.rex_host(&["reload"]).ok();
    wait_for("the job runs again", || starts() == 2);
    assert_eq!(shop.status(code), ("started".to_owned(), None));
    let output = stop(host);
    assert!(
        output.contains("ended early since its process is to end, and waits again"),
        "{output}"
    );
    assert_eq!(shop.statuses(), ["1 queued Submitted"]);
    let host = shop.run(&[]);
    wait_for("another host runs it", || starts() == 3);
    shop.rex_host(&["job", "cancel", "1"]).ok();
    assert_eq!(shop.wait_status(code, "failed").as_deref(), Some("Cancelled"));
    stop(host);
}

#[test]
fn a_job_with_two_tasks_is_run_once() {
    let shop = Shop::new("");
    let record = shop.env.path("record").display().to_string();
    shop.insert("crash", &json!({"how": "ok", "n": 1, "record": record}));
    shop.work("scheduled_0_job_queuer", Some("{}"));
    let output = shop.work("rex_job_0", Some(r#"{"code": 1}"#));
    // It has ended, or is just about to.
    let bails =
        |why| output.contains(&format!("WARNING:JobExecutorWorker:Job #1 is {why}; bailing"));
    assert!(bails("completed already") || bails("being run already"), "{output}");
    assert_eq!(std::fs::read_to_string(&record).unwrap(), "start 1\ndone 1\n");
    // What is no job's payload is a task that failed.
    shop.rex_host(&["submit", "rex_job_0", r#"{"code": 1, "job": 2}"#]).ok();
    shop.client()
        .batch_execute(
            "INSERT INTO asynctask.asynctask_queue (queue_name, payload)
             VALUES ('rex_job_0', '[1]')",
        )
        .expect("an old application could do so");
    let output = shop.rex_host(&["work", "rex_job_0"]);
    for text in ["Got unexpected field:\n    job\n", "Expected a mapping\nGot:\n    [1]\n"] {
        assert!(output.stdout.contains(&format!("rex.core.Error: {text}")), "{text}: {output}");
    }
    assert!(output.fails(1).contains("error: 2 tasks failed"));
    assert_eq!(shop.rex_host(&["dlq", "list", "--json"]).json_lines().len(), 2);
}

/// Applications of the original do so.
#[test]
fn a_job_may_have_its_task_before_it_is_queued() {
    let shop = Shop::new("");
    shop.insert("demo_fast", &json!({}));
    shop.insert("demo_fast", &json!([1]));
    shop.work("rex_job_0", Some(r#"{"code": 1}"#));
    let output = shop.work("rex_job_0", Some(r#"{"code": 2}"#));
    let dates = "Submitted,Started,Completed";
    assert_eq!(shop.statuses(), [format!("1 completed {dates}"), format!("2 failed {dates}")]);
    assert!(output.contains("ERROR:JobExecutorWorker:Job #2 failed\n"), "{output}");
    let detail = shop.status(2).1;
    assert_eq!(detail.as_deref(), Some("expected a JSON object, got [1]"), "{output}");
}

/// As in the original, `payload or {}`.
#[test]
fn what_python_takes_for_false_is_an_empty_payload() {
    let shop = Shop::new("");
    let payloads = [json!([]), json!(""), json!(0), json!(0.0), json!(false), Value::Null];
    let codes = payloads.each_ref().map(|payload| shop.insert("demo_fast", payload));
    let output = shop.work("scheduled_0_job_queuer", Some("{}")) + &shop.work("rex_job_0", None);
    for (code, shown) in codes.into_iter().zip(["[]", "''", "0", "0.0", "False", "None"]) {
        assert_eq!(shop.status(code), ("completed".to_owned(), None), "{output}");
        let line = format!("Executing job #{code} for owner \"somebody\" with payload: {shown}\n");
        assert!(output.contains(&line), "{line}{output}");
    }
}

/// Jobs whose tasks are in that store, with a crash of a worker's process and one of a host.
fn with_tasks_in(transport: &str) {
    let settings = format!("asynctask_transport: '{transport}'\nasynctask_owner_timeout: 5\n");
    let shop = Shop::new(&settings);
    let first = shop.run(&[]);
    let fast = [(); 5].map(|()| shop.insert("demo_fast", &json!({})));
    let crashes = shop.insert("crash", &json!({"how": "abort"}));
    for code in fast {
        shop.wait_status(code, "completed");
    }
    let detail = shop.wait_status(crashes, "failed").expect("it says why");
    assert!(detail.contains("SIGABRT"), "{detail}");
    kill_at_work(&shop, first);
}

#[test]
fn tasks_of_jobs_may_be_in_sqlite() {
    with_tasks_in("sqlite:queue.db");
}

#[test]
fn tasks_of_jobs_may_be_in_files() {
    let env = Env::new();
    std::fs::create_dir(env.path("queues")).expect("there is room");
    with_tasks_in(&env.directory());
}

#[test]
fn tasks_of_jobs_may_be_in_redis() {
    let Some(server) = Redis::start() else { return };
    with_tasks_in(&server.uri());
}

#[test]
fn tasks_of_jobs_may_be_in_rabbitmq() {
    let Some(uri) = amqp::fresh(75) else { return };
    with_tasks_in(&uri);
}

#[test]
fn a_database_that_is_restarted_costs_no_job() {
    let Some(server) = Server::start() else { return };
    let shop = Shop::on(Database::on(&server), "");
    let host = shop.run(&[]);
    let gate = shop.env.path("gate").display().to_string();
    let payload = json!({"how": "until_print", "file": gate, "lines": 3});
    let before = shop.insert("crash", &payload);
    shop.wait_status(before, "started");
    server.stop(true);
    shop.env.write("gate", "");
    host.wait_output(&"x".repeat(99));
    host.wait_output("the queue store is away");
    server.restart();
    shop.wait_status(before, "completed");
    // Nor what it said meanwhile.
    wait_for("its log", || {
        let log = shop.rex_host(&["job", "logs", "1"]).ok();
        log.matches(&"x".repeat(99)).count() == 3
    });
    let after = shop.insert("demo_fast", &json!({}));
    shop.wait_status(after, "completed");
    stop(host);
}

#[test]
fn a_facet_waits_for_a_database_that_is_restarted() {
    let Some(server) = Server::start() else { return };
    let shop = Shop::on(Database::on(&server), "");
    let host = shop.run(&[]);
    // It sleeps for a second, and updates its facet then.
    let slow = shop.insert("demo_slow", &json!({"foo": 5, "seconds": 2}));
    shop.wait_status(slow, "started");
    server.stop(true);
    host.wait_output("what a job asks for waits for the database");
    server.restart();
    shop.wait_status(slow, "completed");
    stop(host);
}

#[test]
fn a_database_that_the_original_deployed_gets_what_is_missing() {
    let shop = Shop::new("");
    let original = "DROP TABLE rex_job_log, rex_job_run; DROP TRIGGER job_ahead ON job;
        DROP TRIGGER job_noticed ON job; DROP INDEX rex_job_new, rex_job_active;
        DROP FUNCTION rex_one_at_a_time, rex_new_job;";
    shop.client().batch_execute(original).expect("they are there");
    let host = shop.run(&[]);
    host.wait_output("Starting; queue=rex_job_0");
    let code = shop.insert("demo_fast", &json!({}));
    shop.wait_status(code, "completed");
    stop(host);
    let done = shop.rex_host(&["deploy"]);
    assert_eq!(done.ok(), "nothing to change\n");
}

#[test]
fn a_reload_begins_to_work_jobs() {
    let foo = "asynctask_transport: sqlite:queue.db\nasynctask_workers: {foo: crash_worker}\n";
    let shop = Shop::new(foo);
    let without = |db: &str| {
        shop.env.write("shop.yaml", &format!("requires: [rex.asynctask]\ndb: {db}\n{foo}"));
    };
    let code = shop.insert("demo_fast", &json!({}));
    without(&shop.database.uri());
    let host = shop.run(&[]);
    host.wait_output("Starting; queue=foo");
    shop.configure(foo);

    // As with anything else that is wrong nothing is reloaded.
    shop.client().batch_execute("ALTER TABLE job RENAME TO hidden").expect("it is there");
    for args in [&["reload", "--check"][..], &["reload"]] {
        let text = shop.rex_host(args).fails(1);
        assert!(text.contains("there is no table of jobs in "), "{text}");
        assert!(text.contains("(`rex-host deploy --project NAME` makes it)"), "{text}");
    }
    assert!(!host.output().contains("Starting; queue=rex_job_0"), "{}", host.output());
    shop.client().batch_execute("ALTER TABLE hidden RENAME TO job").expect("it is there");

    // A check changes nothing, here neither.
    shop.client().batch_execute("DROP TABLE rex_job_log").expect("it is there");
    let starts = "queue rex_job_0: starts with job_executor";
    let told = shop.rex_host(&["reload", "--check"]).ok();
    assert!(told.contains(starts), "{told}");
    assert_eq!(shop.status(code).0, "new");
    let row = shop.client().query_one("SELECT to_regclass('rex_job_log') IS NULL", &[]);
    assert!(row.expect("it can be asked").get::<_, bool>(0), "it was made");
    let told = shop.rex_host(&["reload"]).ok();
    assert!(told.contains(starts), "{told}");
    shop.wait_status(code, "completed");
    // The desk's words are heard.
    let code = shop.insert("crash", &json!({"how": "until_told"}));
    shop.wait_status(code, "started");
    shop.rex_host(&["job", "cancel", "2", "--grace", "1h"]).ok();
    assert_eq!(shop.wait_status(code, "failed").as_deref(), Some("Cancelled"));

    // Away, and there again, where it was.
    without(&shop.database.uri());
    let told = shop.rex_host(&["reload"]).ok();
    assert!(told.contains("queue rex_job_0: is left"), "{told}");
    let other = Database::new().uri();
    shop.env.write("shop.yaml", &format!("requires: [rex.job]\ndb: {other}\n{foo}"));
    let text = shop.rex_host(&["reload"]).fails(1);
    assert!(text.contains("db has changed: stop the host and start it again"), "{text}");
    shop.configure(foo);
    shop.rex_host(&["reload"]).ok();
    let code = shop.insert("demo_fast", &json!({}));
    shop.wait_status(code, "completed");
    stop(host);
}

#[test]
fn executors_are_exchanged_by_a_reload() {
    let shop = Shop::new("");
    std::fs::remove_file(shop.env.path("plugins/demo_job.so")).expect("it is there");
    let host = shop.run(&[]);
    let code = shop.insert("demo_fast", &json!({}));
    assert_eq!(shop.wait_status(code, "failed").as_deref(), Some("Unknown Job Type"));
    shop.env.plugins(&["demo_job"]);
    let lines = shop.rex_host(&["reload"]).ok();
    assert!(lines.contains("queue rex_job_0: other executors of jobs"), "{lines}");
    let code = shop.insert("demo_fast", &json!({}));
    shop.wait_status(code, "completed");
    stop(host);
}
