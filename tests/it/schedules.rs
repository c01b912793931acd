//! Tasks that the clock submits: the original's lines and names, one host of many, what was missed.

use std::fs::File;

use rex_test_support::env::Env;
use rex_test_support::pg::Database;
use rex_test_support::process::wait_for;
use serde_json::{Value, json};

const EVERY_SECOND: &str =
    r#"asynctask_scheduled_workers=[{"worker": "demo_foo_worker", "second": "*/1"}]"#;
/// Due at the beginning of every year.
const YEARLY: &str = r#"asynctask_scheduled_workers=[{"worker": "demo_foo_worker", "year": "*"}]"#;

#[test]
fn a_schedule_is_fired_in_the_originals_words() {
    let env = Env::new();
    let host = env.start_rex(&[
        "asynctask-workers",
        "rex.asynctask_demo",
        "--scheduler",
        "--set",
        EVERY_SECOND,
    ]);
    host.wait_output("FOO processed: {}");
    host.signal(libc::SIGTERM);
    let output = host.wait_ok();
    let mut lines = output.lines();
    for line in [
        "INFO:AsyncTaskWorkerTask:Launching demo_foo_worker to work on queue scheduled_0_demo_foo_worker",
        "INFO:AsyncTaskWorkerTask:Scheduling \"demo_foo_worker\" for {'second': '*/1'}",
        "DEBUG:AsyncTaskWorkerTask:Triggering scheduled execution of demo_foo_worker",
        "DEBUG:AsyncTaskWorkerTask:Termination received; shutting down scheduler",
        "DEBUG:AsyncTaskWorkerTask:Scheduler dead",
        "DEBUG:AsyncTaskWorkerTask:Termination received; shutting down children",
        "DEBUG:AsyncTaskWorkerTask:Children dead",
        "INFO:AsyncTaskWorkerTask:Complete",
    ] {
        assert!(lines.any(|found| found == line), "{line} is not there, or too early:\n{output}");
    }
    assert!(output.contains("INFO:FooWorker:Starting; queue=scheduled_0_demo_foo_worker\n"));
}

/// As the original: mappings are sorted, and schedules come after the queues that are configured.
#[test]
fn queues_of_schedules_are_launched_last() {
    let env = Env::new();
    let workers = r#"asynctask_workers={"zz": "demo_foo_worker", "aa": "demo_bar_worker"}"#;
    let host = env.start(&["run", "rex.asynctask", "--set", workers, "--set", EVERY_SECOND]);
    host.wait_output("Starting; queue=scheduled_0_demo_foo_worker");
    host.signal(libc::SIGTERM);
    let output = host.wait_ok();
    let launched: Vec<&str> = output
        .lines()
        .filter_map(|line| line.split_once(" to work on queue "))
        .map(|l| l.1)
        .collect();
    assert_eq!(launched, ["aa", "zz", "scheduled_0_demo_foo_worker"]);
}

#[test]
fn a_store_that_keeps_no_schedules_has_one_host_fire_them() {
    let env = Env::new();
    std::fs::create_dir(env.path("queues")).unwrap();
    let set = format!("asynctask_transport={}", env.directory());
    let sets = ["--set", &set, "--set", EVERY_SECOND];
    let host = env.start(&[&["run", "rex.asynctask_demo", "--scheduler"], &sets[..]].concat());
    host.wait_output("keeps no schedules: --scheduler is for one host only");
    host.wait_output("FOO processed: {}");
    host.signal(libc::SIGTERM);
    host.wait_ok();
}

/// A queue's directory that cannot be used, and then can.
#[test]
fn a_schedule_whose_queue_is_refused_costs_no_other() {
    let env = Env::new();
    let refused = env.obstruct("scheduled_0_demo_foo_worker");
    let set = format!("asynctask_transport={}", env.directory());
    let both = r#"asynctask_scheduled_workers=[{"worker": "demo_foo_worker", "second": "*/1"},
        {"worker": "demo_bar_worker", "second": "*/1"}]"#;
    let sets = ["--set", &set, "--set", both];
    let host = env.start(&[&["run", "rex.asynctask_demo", "--scheduler"], &sets[..]].concat());
    let said = "ERROR:rex-host:the schedule of demo_foo_worker cannot be fired, for its queue \
                scheduled_0_demo_foo_worker takes no task: ";
    host.wait_output_times("BAR processed: {}", 4);
    host.wait_output(said);
    refused.remove();
    host.wait_output("INFO:rex-host:the schedule of demo_foo_worker is fired again");
    host.wait_output_times("FOO processed: {}", 2);
    host.signal(libc::SIGTERM);
    let output = host.wait_ok();
    assert_eq!(output.matches(said).count(), 1, "{output}");
    assert!(!output.contains("schedules cannot be fired"), "{output}");
}

/// Somebody else keeps the lock of one queue, for which is to be waited for ever.
#[test]
fn a_schedule_whose_queue_is_locked_costs_no_other() {
    let env = Env::new();
    let lock = File::create(env.write("queues/scheduled_0_demo_foo_worker/.lock", ""));
    let lock = lock.expect("it is ours");
    lock.lock().expect("nobody has it");
    let set = format!("asynctask_transport={}?lock_timeout=-1", env.directory());
    let both = r#"asynctask_scheduled_workers=[{"worker": "demo_foo_worker", "second": "*/1"},
        {"worker": "demo_bar_worker", "second": "*/1"}]"#;
    let sets = ["--set", &set, "--set", both];
    let host = env.start(&[&["run", "rex.asynctask_demo", "--scheduler"], &sets[..]].concat());
    let said = "ERROR:rex-host:the schedule of demo_foo_worker cannot be fired, for its queue \
                scheduled_0_demo_foo_worker takes no task: The file lock '";
    host.wait_output(said);
    host.wait_output_times("BAR processed: {}", 4);
    drop(lock);
    host.wait_output("INFO:rex-host:the schedule of demo_foo_worker is fired again");
    host.wait_output("FOO processed: {}");
    host.signal(libc::SIGTERM);
    let output = host.wait_ok();
    assert_eq!(output.matches(said).count(), 1, "{output}");
}

#[test]
fn a_reload_brings_schedules_into_force() {
    let env = Env::new();
    let project = env.write("shop.yaml", "requires: [rex.asynctask_demo]\n");
    let project = project.display().to_string();
    let host = env.start(&["run", &project, "--scheduler"]);
    host.wait_output("Starting; queue=foo");
    let schedules = "requires: [rex.asynctask_demo]\nasynctask_scheduled_workers:\n\
                     - {worker: demo_bar_worker, second: '*'}\n";
    env.write("shop.yaml", schedules);
    let lines = env.rex_host(&["reload"]).ok();
    assert!(lines.contains("schedules: 1 are in force"), "{lines}");
    host.wait_output("BAR processed: {}");
    env.write("shop.yaml", &schedules.replace("'*'", "'*/99'"));
    env.rex_host(&["reload"]).fails(1);
    let fired = host.output().matches("BAR processed: {}").count();
    host.wait_output_times("BAR processed: {}", fired + 1);
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

#[test]
fn without_schedules_there_is_no_scheduler() {
    let env = Env::new();
    let output = env
        .rex(&["asynctask-workers", "rex.asynctask_demo", "--scheduler", "--halt-when-empty"])
        .ok();
    let line = "INFO:AsyncTaskWorkerTask:No schedules configured -- not starting scheduler\n";
    assert!(output.contains(line), "{output}");
}

#[test]
fn a_bad_expression_is_refused_at_start_with_its_place() {
    let env = Env::new();
    let bad = r#"asynctask_scheduled_workers=[{"worker": "demo_foo_worker", "hour": 1},
        {"worker": "demo_foo_worker", "minute": "1,*/99"}]"#;
    let error = env.rex_host(&["run", "rex.asynctask_demo", "--set", bad]).fails(78);
    assert!(
        error.contains(
            "Error validating expression '*/99': the step value (99) is higher than the total range \
             of the expression (59)\nWhile validating field:\n    minute\nWhile validating sequence \
             item\n    #2\nWhile validating setting:\n    asynctask_scheduled_workers\n"
        ),
        "{error}"
    );
    let nowhere = ["cron", "list", "--set", "asynctask_timezone=Mars/Olympus"];
    let error = env.rex_host(&nowhere).fails(1);
    assert!(error.contains("Expected a time zone"), "{error}");
}

#[test]
fn every_host_works_on_what_is_scheduled_and_a_person_can_trigger_it() {
    let env = Env::new();
    let host = env.start(&["run", "rex.asynctask_demo", "--set", YEARLY]);
    host.wait_output("Starting; queue=scheduled_0_demo_foo_worker");
    env.rex_host(&["cron", "trigger", "demo_foo_worker", "--set", YEARLY]).ok();
    let output = host.wait_output("FOO processed: {}");
    assert!(!output.contains("Triggering"), "{output}");
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
    let error = env.rex_host(&["cron", "trigger", "nothing", "--set", YEARLY]).fails(1);
    assert!(error.contains("no schedule is for `nothing`"), "{error}");
}

#[test]
fn coming_occasions_are_shown() {
    let env = Env::new();
    let schedules = r#"asynctask_scheduled_workers=[
        {"worker": "job_queuer", "year": 2030, "month": "mar-apr", "hour": 12},
        {"ctl": "demo-noisy-task", "hour": "*/3"}]"#;
    let ask = |words: &[&str]| {
        let more = ["--set", schedules, "--set", "asynctask_timezone=Europe/Berlin", "--json"];
        env.rex_host(&[words, &more].concat()).json_lines()
    };
    let list = ask(&["cron", "list"]);
    assert_eq!(list[0]["next"], "2030-03-01T11:00:00Z");
    assert_eq!(list[0]["times"], json!({"year": 2030, "month": "mar-apr", "hour": 12}));
    assert_eq!(list[1]["queue"], "scheduled_0_ctl_12bcbf45");
    let next = ask(&["cron", "next", "job_queuer", "--count", "32"]);
    let at: Vec<&str> = next.iter().filter_map(|occasion| occasion["at"].as_str()).collect();
    assert_eq!(at.len(), 32);
    // Clocks are put forward on the 31st.
    assert_eq!(at[29..], ["2030-03-30T11:00:00Z", "2030-03-31T10:00:00Z", "2030-04-01T10:00:00Z"]);
    assert_eq!(ask(&["cron", "next", "2", "--count", "1"])[0]["schedule"], "demo-noisy-task");
}

/// A database whose tables are there, and the arguments that point a host at it.
fn database(env: &Env) -> (Database, String, postgres::Client) {
    let database = Database::new();
    let set = format!("asynctask_transport={}", database.uri());
    let demo = ["submit", "other", "{}", "--set", &set];
    env.rex_host(&demo).ok();
    let host = ["run", "rex.asynctask_demo", "--halt-when-empty", "--set", &set];
    env.rex_host(&host).ok();
    let client = database.connect();
    (database, set, client)
}

#[test]
fn one_of_two_hosts_fires_each_occasion_and_the_other_takes_over() {
    let env = Env::new();
    let (_database, set, mut client) = database(&env);
    // What the store is told, and every task that was ever submitted.
    client
        .batch_execute(
            "CREATE TABLE told (occasion timestamptz);
             CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO told VALUES (NEW.occasion); RETURN NEW; END';
             CREATE TRIGGER tell AFTER INSERT OR UPDATE ON asynctask.rex_schedules
                 FOR EACH ROW EXECUTE FUNCTION tell();
             CREATE TABLE tasks (id bigint);
             CREATE FUNCTION count_task() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO tasks VALUES (NEW.id); RETURN NEW; END';
             CREATE TRIGGER count_task AFTER INSERT ON asynctask.asynctask_queue
                 FOR EACH ROW EXECUTE FUNCTION count_task();",
        )
        .unwrap();
    let start = |state: &str| {
        let all = "asynctask_misfire=all";
        let sets = ["--set", &set, "--set", EVERY_SECOND, "--set", all, "--state", state];
        env.start(&[&["run", "rex.asynctask_demo", "--scheduler"], &sets[..]].concat())
    };
    let (first, second) = (start("one"), start("two"));
    let triggering = "Triggering scheduled execution of demo_foo_worker";
    wait_for("four occasions", || {
        let fired = |output: String| output.matches(triggering).count();
        fired(first.output()) + fired(second.output()) >= 4
    });
    // The one that is firing dies.
    let firing = |output: String| output.contains(triggering);
    let (dies, lives) = if firing(first.output()) { (first, second) } else { (second, first) };
    let before = lives.output().matches(triggering).count();
    dies.signal(libc::SIGKILL);
    dies.wait();
    lives.wait_output_times(triggering, before + 3);
    lives.signal(libc::SIGTERM);
    lives.wait_ok();

    let seconds = "SELECT extract(epoch FROM occasion)::float8 FROM told ORDER BY occasion";
    let told: Vec<f64> = client.query(seconds, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    // The first row is where the schedule began.
    let expected: Vec<f64> = (1..told.len()).map(|n| told[0].floor() + n as f64).collect();
    assert_eq!(told[1..], expected, "each second once, none left out");
    let tasks: i64 = client.query_one("SELECT count(DISTINCT id) FROM tasks", &[]).unwrap().get(0);
    assert_eq!(tasks as usize, expected.len());
}

#[test]
fn what_was_missed_is_made_up_for_by_one() {
    let env = Env::new();
    let (_database, set, mut client) = database(&env);
    let arguments = |more: &[&'static str]| -> Vec<String> {
        let words = ["run", "rex.asynctask_demo", "--scheduler", "--set", &set, "--set", YEARLY];
        words.iter().copied().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let start = |more: &[&'static str]| {
        let words = arguments(more);
        env.start(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let known = "SELECT 1 FROM asynctask.rex_schedules";
    let host = start(&[]);
    host.wait_output("Starting; queue=scheduled_0_demo_foo_worker");
    wait_for("the schedule to be known", || !client.query(known, &[]).unwrap().is_empty());
    host.signal(libc::SIGTERM);
    host.wait_ok();

    let absence = "UPDATE asynctask.rex_schedules SET occasion = occasion - interval '3 years'";
    client.execute(absence, &[]).unwrap();
    let host = start(&["--set", "asynctask_misfire=skip"]);
    host.wait_output("the schedule of demo_foo_worker was missed from ");
    host.signal(libc::SIGTERM);
    assert!(!host.wait_ok().contains("Triggering"));

    client.execute(absence, &[]).unwrap();
    let host = start(&["--set", "asynctask_misfire_grace=126230400"]);
    host.wait_output("FOO processed: {}");
    host.signal(libc::SIGTERM);
    let output = host.wait_ok();
    assert_eq!(output.matches("Triggering").count(), 1, "{output}");
    let none: Vec<Value> = env.rex_host(&["dlq", "list", "--json", "--set", &set]).json_lines();
    assert!(none.is_empty());
}
