//! Jobs: the original's document, what becomes of a job whatever dies, cancellation, limits.

use std::process::Command;

use postgres::Client;
use rex_test_support::amqp;
use rex_test_support::env::{Env, dist};
use rex_test_support::pg::Database;
use rex_test_support::plugins;
use rex_test_support::process::{Running, descendants, wait_for};
use rex_test_support::redis::Redis;
use rex_test_support::server::Server;
use serde_json::{Value, json};

/// A project with the table of jobs in a database of its own.
pub(crate) struct Shop {
    pub(crate) env: Env,
    database: Database,
    project: String,
}

impl Shop {
    /// `settings` are lines of YAML.
    pub(crate) fn new(settings: &str) -> Shop {
        Shop::on(Database::new(), settings)
    }

    fn on(database: Database, settings: &str) -> Shop {
        let env = Env::new();
        for plugin in ["demo_job", "ctl"] {
            env.plugins(&[plugin]);
        }
        env.add_plugin(&plugins::built("crash"));
        env.set("REX_PLUGINS", env.path("plugins").display().to_string());
        let shop = Shop { project: env.path("shop.yaml").display().to_string(), env, database };
        shop.configure(settings);
        let done = shop.env.rex_host(&["deploy", "--project", &shop.project]);
        assert!(done.status.success(), "{done}");
        shop
    }

    fn configure(&self, settings: &str) {
        let uri = self.database.uri();
        self.env.write("shop.yaml", &format!("requires: [rex.job_demo]\ndb: {uri}\n{settings}"));
    }

    pub(crate) fn client(&self) -> Client {
        self.database.connect()
    }

    pub(crate) fn insert(&self, r#type: &str, payload: &Value) -> i64 {
        let sql = "INSERT INTO job (owner, type, payload) VALUES ('somebody', $1, $2::text::jsonb)
            RETURNING code";
        let row = self.client().query_one(sql, &[&r#type, &payload.to_string()]);
        row.expect("it can be inserted").get(0)
    }

    /// `rex-host` with the project.
    pub(crate) fn rex_host(&self, args: &[&str]) -> rex_test_support::process::Done {
        self.env.rex_host(&[args, &["--project", &self.project]].concat())
    }

    /// A host that goes on until it is told to stop.
    pub(crate) fn run(&self, args: &[&str]) -> Running {
        self.env.start(&[&["run", &self.project], args].concat())
    }

    /// Has one task of a queue worked, and what waits there already; returns what was logged.
    pub(crate) fn work(&self, queue: &str, payload: Option<&str>) -> String {
        if let Some(payload) = payload {
            self.rex_host(&["submit", queue, payload]).ok();
        }
        let done = self.rex_host(&["work", queue]);
        assert!(done.status.success(), "{done}");
        done.stdout
    }

    /// `code status` of all jobs, and the dates that each has.
    fn statuses(&self) -> Vec<String> {
        let sql = "SELECT code, status::text, concat_ws(',',
                CASE WHEN date_submitted IS NOT NULL THEN 'Submitted' END,
                CASE WHEN date_started IS NOT NULL THEN 'Started' END,
                CASE WHEN date_completed IS NOT NULL THEN 'Completed' END)
            FROM job ORDER BY code";
        let rows = self.client().query(sql, &[]).expect("it can be asked");
        let line = |row: &postgres::Row| {
            format!("{} {} {}", row.get::<_, i64>(0), row.get::<_, &str>(1), row.get::<_, &str>(2))
        };
        rows.iter().map(line).collect()
    }

    pub(crate) fn status(&self, code: i64) -> (String, Option<String>) {
        let sql = "SELECT status::text, status_detail FROM job WHERE code = $1";
        let row = self.client().query_one(sql, &[&code]).expect("it is there");
        (row.get(0), row.get(1))
    }

    /// By the dates of the rows, no more jobs ran at once.
    #[track_caller]
    fn holds_limit(&self, limit: i64) {
        let most = "SELECT max(running) FROM (
                SELECT sum(change) OVER (ORDER BY at, change) AS running FROM (
                    SELECT date_started AS at, 1 AS change FROM job
                    UNION ALL SELECT date_completed, -1 FROM job
                ) AS changes
            ) AS counts";
        let most: i64 = self.client().query_one(most, &[]).expect("it can be asked").get(0);
        assert!((1..=limit).contains(&most), "{most} at once");
    }

    #[track_caller]
    pub(crate) fn wait_status(&self, code: i64, status: &str) -> Option<String> {
        wait_for(format_args!("job {code} {status}"), || self.status(code).0 == status);
        self.status(code).1
    }
}

pub(crate) fn stop(host: Running) -> String {
    host.signal(libc::SIGTERM);
    host.wait_ok()
}

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

#[test]
fn a_job_is_submitted_waited_for_and_looked_at() {
    let shop = Shop::new("");
    let host = shop.run(&[]);
    let output =
        shop.rex_host(&["job", "submit", "demo_slow", r#"{"foo": 7, "seconds": 0.1}"#, "--wait"]);
    assert_eq!(output.ok(), "job 1\njob 1 completed\n");
    let failed = shop.rex_host(&["job", "submit", "demo_fragile", "--wait"]);
    assert_eq!(failed.stdout, "job 2\njob 2 failed\n");
    assert_eq!(
        failed.fails(1),
        "error: job 2 failed: I crashed :(\nhint: `rex-host job logs 2` shows what it said\n"
    );
    let submit =
        ["job", "submit", "crash", "-", "--owner", "me", "--title", "a b", "--wait", "--json"];
    let project = ["--project", &shop.project];
    let payload = r#"{"how": "ok", "progress": "half", "x": 1.50}"#;
    let row = &shop.env.rex_host_with(&[&submit[..], &project].concat(), payload).json_lines()[0];
    for (name, value) in [
        ("code", json!(3)),
        ("type", json!("crash")),
        ("owner", json!("me")),
        ("title", json!("a b")),
        ("status", json!("completed")),
        ("status_detail", json!(null)),
        ("payload", json!({"how": "ok", "progress": "half", "x": 1.5})),
        ("fraction", json!(0.25)),
        ("progress", json!("half")),
        ("cancelled", json!(false)),
    ] {
        assert_eq!(row[name], value, "{row}");
    }
    let logs = shop.rex_host(&["job", "logs", "3"]).ok();
    assert!(logs.contains("INFO:JobExecutorWorker:Processing Job #3\n"), "{logs}");
    assert!(logs.contains("\njob 3 begins\n"), "{logs}");
    assert!(logs.contains("INFO:JobExecutorWorker:Job #3 complete\n"), "{logs}");
    stop(host);

    let codes = |args: &[&str]| -> Vec<Value> {
        let rows = shop.rex_host(&[&["job", "list", "--json"], args].concat()).json_lines();
        rows.iter().map(|row| row["code"].clone()).collect()
    };
    assert_eq!(codes(&[]), [1, 2, 3]);
    assert_eq!(codes(&["--status", "failed"]), [2]);
    assert_eq!(codes(&["--type", "demo_slow"]), [1]);
    assert_eq!(codes(&["--owner", "me"]), [3]);
    assert_eq!(codes(&["--limit", "2"]), [2, 3]);
    // Dates are shown as everywhere, whatever the role prefers.
    let name = shop.database.uri();
    let name = name.rsplit('/').next().expect("it has one");
    let german = format!("ALTER DATABASE {name} SET datestyle = 'German'");
    shop.client().batch_execute(&german).expect("it is ours");
    let date =
        shop.rex_host(&["job", "show", "1", "--json"]).json_lines()[0]["date_completed"].clone();
    let date = date.as_str().expect("it has ended").to_owned();
    assert!(date.starts_with("20") && date.as_bytes()[4] == b'-', "{date}");
    let list = shop.rex_host(&["job", "list"]).ok();
    assert!(list.starts_with("CODE  TYPE          OWNER  STATUS "), "{list}");
    assert!(list.contains("I crashed :("), "{list}");
    let show = shop.rex_host(&["job", "show", "2"]).ok();
    assert!(show.contains("status     failed\n") && show.ends_with("I crashed :(\n"), "{show}");

    let text = shop.rex_host(&["job", "show", "99"]).fails(1);
    assert_eq!(text, "error: there is no job 99\nhint: `rex-host job list` shows all\n");
    let text = shop.rex_host(&["job", "submit", "demo_fast", "[1]"]).fails(1);
    assert_eq!(text, "error: Expected a mapping\nGot:\n    [1]\n");
    let text = shop.env.rex_host(&["job", "list"]).fails(1);
    assert!(text.starts_with("error: jobs need a PostgreSQL database\nhint: "), "{text}");
    let empty = Database::new();
    let set = format!("db={}", empty.uri());
    let text = shop.env.rex_host(&["job", "list", "--set", &set]).fails(1);
    assert!(text.contains("error: there is no table of jobs in "), "{text}");
    let text = shop.env.rex_host(&["run", "rex.job_demo", "--set", &set]).fails(78);
    assert!(text.contains("there is no table of jobs in "), "{text}");
}

#[test]
fn logs_are_followed_to_the_end() {
    let shop = Shop::new("");
    let host = shop.run(&[]);
    let gate = shop.env.path("gate").display().to_string();
    let code = shop.insert("crash", &json!({"how": "until", "file": gate})).to_string();
    let follow = ["job", "logs", &code, "--follow", "--project", &shop.project];
    let logs = shop.env.start(&follow);
    logs.wait_output("job 1 begins\n");
    shop.env.write("gate", "");
    let logs = logs.wait_ok();
    assert!(logs.contains("\nINFO:JobExecutorWorker:Job #1 complete\n"), "{logs}");
    stop(host);
}

#[test]
fn jobs_are_cancelled() {
    let shop = Shop::new("");
    // Before it begins.
    let waits = shop.insert("demo_fast", &json!({})).to_string();
    assert_eq!(shop.rex_host(&["job", "cancel", &waits]).ok(), "job 1 is cancelled\n");
    assert_eq!(shop.statuses(), ["1 failed Submitted,Completed"]);
    assert_eq!(shop.status(1).1.as_deref(), Some("Cancelled"));
    let text = shop.rex_host(&["job", "cancel", "1"]).fails(1);
    assert_eq!(text, "error: job 1 is failed already\n");
    shop.rex_host(&["job", "cancel", "99"]).fails(1);

    let host = shop.run(&[]);
    // It does as it is told; no process dies.
    let polite = shop.insert("crash", &json!({"how": "until_told"}));
    shop.wait_status(polite, "started");
    let text = shop.rex_host(&["job", "cancel", "2", "--grace", "1h"]).ok();
    assert_eq!(text, "job 2 is told to stop, and killed after 3600 s\n");
    assert_eq!(shop.wait_status(polite, "failed").as_deref(), Some("Cancelled"));
    assert!(!host.output().contains("restarting"), "{}", host.output());
    // It does not listen.
    let endless = shop.insert("crash", &json!({"how": "loop"}));
    shop.wait_status(endless, "started");
    shop.rex_host(&["job", "cancel", "3", "--grace", "0"]).ok();
    assert_eq!(shop.wait_status(endless, "failed").as_deref(), Some("Cancelled"));
    host.wait_output("was killed since its job was cancelled");
    let next = shop.insert("demo_fast", &json!({}));
    shop.wait_status(next, "completed");
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
    let output = shop.rex_host(&["work", "rex_job_0"]);
    assert!(output.stdout.contains("rex.core.Error: Got unexpected field:\n    job\n"), "{output}");
    assert!(output.fails(1).contains("error: 1 task failed"));
    assert_eq!(shop.rex_host(&["dlq", "list", "--json"]).json_lines().len(), 1);
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
    with_tasks_in(&format!("filesys:{}", env.path("queues").display()));
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
    let before = shop.insert("crash", &json!({"how": "until", "file": gate}));
    shop.wait_status(before, "started");
    server.stop(true);
    shop.env.write("gate", "");
    host.wait_output("the queue store is away");
    server.restart();
    shop.wait_status(before, "completed");
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
fn jobs_are_retried() {
    let shop = Shop::new("");
    let host = shop.run(&[]);
    let gate = shop.env.path("gate").display().to_string();
    let code = shop.insert("crash", &json!({"how": "error"}));
    shop.wait_status(code, "failed");
    let change = format!("UPDATE job SET payload = '{{\"how\": \"until\", \"file\": \"{gate}\"}}'");
    shop.client().batch_execute(&change).expect("it can be changed");
    assert_eq!(shop.rex_host(&["job", "retry", "1"]).ok(), "job 1 is new again\n");
    shop.wait_status(code, "started");
    let text = shop.rex_host(&["job", "retry", "1", "--force"]).fails(1);
    assert_eq!(text, "error: job 1 is started\n");
    shop.env.write("gate", "");
    assert_eq!(shop.wait_status(code, "completed"), None);
    stop(host);
    // Its task was lost.
    shop.rex_host(&["job", "retry", "1"]).ok();
    shop.work("scheduled_0_job_queuer", Some("{}"));
    shop.rex_host(&["queue", "purge", "rex_job_0", "--yes"]).ok();
    let text = shop.rex_host(&["job", "retry", "1"]).fails(1);
    assert_eq!(text, "error: job 1 is queued\nhint: --force gives it another task\n");
    shop.rex_host(&["job", "retry", "1", "--force"]).ok();
    let host = shop.run(&[]);
    shop.wait_status(code, "completed");
    stop(host);
}

/// Eight clients insert while two hosts queue and work: the limit holds by the dates of the rows, and each
/// job is run once. With REX_TEST_JOBS each client inserts as many.
#[test]
fn a_limit_holds_over_all_hosts() {
    const CLIENTS: usize = 8;
    let each: usize = std::env::var("REX_TEST_JOBS").map_or(50, |text| text.parse().unwrap());
    let shop = Shop::new("job_queues: 4\njob_limits: {crash: {max_concurrency: 3}}\n");
    let hosts = [shop.run(&["--name", "one"]), shop.run(&["--name", "two"])];
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let mut connection = shop.client();
            scope.spawn(move || {
                let sql = "INSERT INTO job (owner, type, payload) VALUES ($1, 'crash', '{\"how\": \"ok\"}')";
                for _ in 0..each {
                    let owner = format!("client {client}");
                    connection.execute(sql, &[&owner]).expect("it can be inserted");
                }
            });
        }
    });
    let count = i64::try_from(CLIENTS * each).unwrap();
    let mut client = shop.client();
    let mut done = move || -> i64 {
        let sql = "SELECT count(*) FROM job WHERE status = 'completed'";
        client.query_one(sql, &[]).expect("it can be asked").get(0)
    };
    let mut last = 0;
    while last < count {
        // As long as it goes on.
        wait_for(format_args!("more than {last} jobs"), || done() > last);
        last = done();
    }
    shop.holds_limit(3);
    let [one, two] = hosts.map(stop);
    let mut run: Vec<i64> = [&one, &two]
        .into_iter()
        .flat_map(|output| output.lines())
        .filter_map(|line| line.strip_prefix("INFO:JobExecutorWorker:Processing Job #"))
        .map(|code| code.parse().unwrap())
        .collect();
    run.sort_unstable();
    assert!(run.iter().copied().eq(1..=count), "{} runs of {count} jobs", run.len());
    assert!(one.contains("Processing Job #") && two.contains("Processing Job #"), "one did it all");
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

#[test]
fn a_terminal_shows_how_far_a_job_is() {
    let shop = Shop::new("");
    let host = shop.run(&[]);
    let rex_host = dist().join("bin/rex-host").display().to_string();
    let (gate, seen) = (shop.env.path("gate"), shop.env.path("seen"));
    let how = json!({"how": "until", "file": gate.display().to_string(), "progress": "on the way"});
    let submit = format!("{rex_host} job submit crash '{how}' --wait --project {}", shop.project);
    // `script` is what gives it a terminal, and writes down what is shown there.
    let mut command = Command::new("script");
    command.args(["-qefc", &submit]).arg(&seen).current_dir(shop.env.work());
    let waits = Running::start(command);
    let shows = |part: &str| std::fs::read_to_string(&seen).unwrap_or_default().contains(part);
    let bar = "started [#######-----------------------]  25 % on the way";
    wait_for(bar, || shows(bar));
    shop.env.write("gate", "");
    waits.wait_ok();
    assert!(shows("completed [##############################] 100 % on the way"));
    assert!(shows("\njob 1 completed\r\n"));
    stop(host);
}

#[test]
fn a_queue_of_jobs_may_be_configured() {
    let shop = Shop::new(
        "asynctask_workers: {rex_job_0: {worker: job_executor, max_attempts: 2, backoff: 0.01, \
         timeout: 0.5, processes: 2}}\n",
    );
    let host = shop.run(&[]);
    let again = shop.insert("crash", &json!({"how": "again", "until": 2}));
    shop.wait_status(again, "completed");
    let twice = shop.insert("crash", &json!({"how": "again", "until": 3}));
    assert_eq!(shop.wait_status(twice, "failed").as_deref(), Some("attempt 2 failed"));
    let endless = shop.insert("crash", &json!({"how": "loop"}));
    let detail = shop.wait_status(endless, "failed").expect("it says why");
    assert!(detail.contains("passed the time limit of 0.5 s and was killed"), "{detail}");
    stop(host);
}

/// Every job ends, and the limit holds by the dates of the rows.
#[test]
fn a_limit_holds_whatever_is_killed() {
    const COUNT: i64 = 120;
    let shop = Shop::new("job_queues: 4\njob_limits: {crash: {max_concurrency: 3}}\n");
    let mut hosts = ["one", "two"].map(|name| shop.run(&["--name", name]));
    let insert = "INSERT INTO job (owner, type, payload) VALUES ('me', 'crash', $1::text::jsonb)";
    let payload = json!({"how": "work", "ms": 10}).to_string();
    let mut client = shop.client();
    for _ in 0..COUNT {
        client.execute(insert, &[&payload]).expect("it can be inserted");
    }
    let mut ended = move || -> i64 {
        let sql = "SELECT count(*) FROM job WHERE status IN ('completed', 'failed')";
        client.query_one(sql, &[]).expect("it can be asked").get(0)
    };
    for (round, enough) in [COUNT / 6, COUNT / 3, COUNT / 2].into_iter().enumerate() {
        wait_for(format_args!("{enough} jobs"), || ended() >= enough);
        // A worker of each, and one host.
        for host in &hosts {
            if let Some(worker) = descendants(host.pid()).last() {
                worker.kill();
            }
        }
        hosts[round % 2].signal(libc::SIGKILL);
        hosts[round % 2] = shop.run(&["--name", ["three", "four", "five"][round]]);
    }
    wait_for("all jobs", || ended() == COUNT);
    shop.holds_limit(3);
    hosts.into_iter().for_each(|host| drop(stop(host)));
    let failed = "SELECT status_detail FROM job WHERE status = 'failed'";
    for row in shop.client().query(failed, &[]).expect("it can be asked") {
        let detail: &str = row.get(0);
        assert!(detail.starts_with("the worker's process was killed by signal 9"), "{detail}");
    }
}

/// A host that had more queues is gone: what waits there is said, and worked off.
#[test]
fn jobs_in_queues_that_no_host_has_are_told() {
    let shop = Shop::new("job_queues: 1\n");
    for _ in 0..2 {
        shop.insert("demo_fast", &json!({}));
    }
    let more = ["--set", "job_queues=2"];
    shop.rex_host(&["submit", "scheduled_0_job_queuer", "{}"]).ok();
    shop.rex_host(&["work", "scheduled_0_job_queuer", more[0], more[1]]).ok();
    let host = shop.run(&[]);
    shop.wait_status(1, "completed");
    host.wait_output(
        "WARNING:rex-host:jobs wait in queue rex_job_1, which this host does not work",
    );
    shop.rex_host(&["work", "rex_job_1", more[0], more[1]]).ok();
    shop.wait_status(2, "completed");
    assert_eq!(stop(host).matches("jobs wait in queue").count(), 1);
}

#[test]
fn jobs_in_a_queue_that_is_disabled_are_told() {
    let shop = Shop::new("job_queues: 2\nasynctask_workers: {rex_job_1: null}\n");
    for _ in 0..2 {
        shop.insert("demo_fast", &json!({}));
    }
    let host = shop.run(&[]);
    shop.wait_status(1, "completed");
    host.wait_output("unless another one does, give it a worker in `asynctask_workers`");
    assert_eq!(shop.status(2).0, "queued");
    stop(host);
}

/// A task for a job that nobody has queued: somebody has put it in, or the host that was queueing it was
/// killed between.
#[test]
fn a_limit_holds_for_a_task_without_a_queued_job() {
    let shop = Shop::new(
        "asynctask_workers: {rex_job_0: {worker: job_executor, processes: 2}}
job_limits: {crash: {max_concurrency: 1}}
",
    );
    let host = shop.run(&[]);
    let gate = shop.env.path("gate").display().to_string();
    let first = shop.insert("crash", &json!({"how": "until", "file": gate}));
    shop.wait_status(first, "started");
    let second = shop.insert("crash", &json!({"how": "ok"}));
    shop.rex_host(&["submit", "rex_job_0", &json!({ "code": second }).to_string()]).ok();
    host.wait_output("job 2 cannot be started yet: 1 of its type are queued or run, and no more");
    assert_eq!(shop.status(second).0, "new");
    shop.env.write("gate", "");
    shop.wait_status(first, "completed");
    shop.wait_status(second, "completed");
    shop.holds_limit(1);
    stop(host);
}
