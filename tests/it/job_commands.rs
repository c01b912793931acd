//! `rex-host job`: put in, waited for, looked at, cancelled, retried.

use std::process::Command;

use rex_test_support::env::dist;
use rex_test_support::pg::Database;
use rex_test_support::process::{Running, wait_for};
use rex_test_support::server::Server;
use serde_json::{Value, json};

use crate::shop::{Shop, stop};

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
fn a_log_says_what_was_dropped_of_it() {
    let shop = Shop::new("asynctask_output_limit: 1000");
    let host = shop.run(&[]);
    let payload = json!({"how": "print", "lines": 2000}).to_string();
    shop.rex_host(&["job", "submit", "crash", &payload, "--wait"]).ok();
    let dropped = " bytes of the task's output were dropped; see asynctask_output_limit\n";
    host.wait_output(dropped.trim_end());
    // It is written a moment later.
    wait_for("the log", || {
        let logs = shop.rex_host(&["job", "logs", "1"]).ok();
        logs.lines().any(|line| line.starts_with("WARNING:")) && logs.contains(dropped)
    });
    stop(host);
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
    // What is wrong with one holds up no other.
    shop.rex_host(&["job", "retry", "1"]).ok();
    let done = shop.rex_host(&["job", "cancel", "99", "1", "1"]);
    assert_eq!(done.stdout, "job 1 is cancelled\n");
    let text = done.fails(1);
    assert!(text.starts_with("error: there is no job 99\n"), "{text}");
    assert!(text.ends_with("error: job 1 is failed already\n"), "{text}");
    let done = shop.rex_host(&["job", "retry", "99", "1"]);
    assert_eq!(done.stdout, "job 1 is new again\n");
    done.fails(1);
    shop.rex_host(&["job", "cancel", "1"]).ok();

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
fn what_is_shown_of_a_job_forges_nothing() {
    let shop = Shop::new("");
    let title = "a\nb\u{1b}[31m";
    shop.rex_host(&["job", "submit", "demo_fast", "--title", title, "--owner", "o\r\n"]).ok();
    let listed = shop.rex_host(&["job", "list"]).ok();
    assert_eq!((listed.lines().count(), listed.contains('\u{1b}')), (2, false), "{listed:?}");
    let shown = shop.rex_host(&["job", "show", "1"]).ok();
    assert!(shown.contains("title      a\n           b [31m\n"), "{shown:?}");
    let row = &shop.rex_host(&["job", "list", "--json"]).json_lines()[0];
    assert_eq!(row["title"], title);
}

/// Who only puts jobs in need not see what hosts note of them.
#[test]
fn a_job_that_is_put_in_is_no_failure() {
    let shop = Shop::new("");
    let role = format!("producer_{}", std::process::id());
    let rights = format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT ON job TO {role};
         GRANT USAGE ON job_seq TO {role}"
    );
    shop.client().batch_execute(&rights).expect("the server is ours");
    let uri = shop.database.uri().replace("rex@", &format!("{role}@"));
    let submit = |more: &[&str]| {
        let db = format!("db={uri}");
        shop.rex_host(&[&["job", "submit", "demo_fast", "--set", &db], more].concat())
    };
    let (plain, json, waits) = (submit(&[]), submit(&["--json"]), submit(&["--wait"]));
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    shop.client().batch_execute(&drop).expect("the server is ours");
    assert_eq!(plain.ok(), "job 1\n");
    let row = &json.json_lines()[0];
    assert_eq!(
        (&row["code"], &row["status"], &row["owner"]),
        (&json!(2), &json!("new"), &json!(role))
    );
    let error = waits.fails(1);
    assert!(error.starts_with("error: job 3 is submitted, but: permission denied"), "{error}");
    assert_eq!(shop.statuses().len(), 3);
}

#[test]
fn who_waits_for_a_job_connects_again() {
    let Some(server) = Server::start() else { return };
    let shop = Shop::on(Database::on(&server), "");
    let host = shop.run(&[]);
    let gate = shop.env.path("gate").display().to_string();
    let payload = json!({"how": "until", "file": gate}).to_string();
    let start = |args: &[&str]| shop.env.start(&[args, &["--project", &shop.project]].concat());
    let waiting = start(&["job", "submit", "crash", &payload, "--wait", "--json"]);
    wait_for("the job", || !shop.statuses().is_empty());
    shop.wait_status(1, "started");
    let following = start(&["job", "logs", "1", "--follow"]);
    let looking = |what: &str| -> i64 {
        let query =
            format!("SELECT count(*) FROM pg_stat_activity WHERE query ~ '^\\s*SELECT {what}'");
        shop.client().query_one(&query, &[]).expect("it can be asked").get(0)
    };
    // It waits for a server once it looks for more than the job.
    wait_for("who follows", || looking("piece") == 1);
    wait_for("two who look", || looking("(id, code|piece)") == 2);
    server.stop(true);
    for one in [&waiting, &following] {
        one.wait_output("; trying again");
    }
    shop.env.write("gate", "");
    server.restart();
    let said = waiting.wait_ok();
    assert_eq!(said.matches("warning: ").count(), 1, "{said}");
    assert!(said.contains("\"status\":\"completed\""), "{said}");
    let said = following.wait_ok();
    assert_eq!(said.matches("warning: ").count(), 1, "{said}");
    stop(host);
}

#[test]
fn who_waits_for_a_job_and_is_locked_out_gives_up() {
    let shop = Shop::new("");
    let code = shop.insert("demo_fast", &json!({}));
    let role = format!("reader_{}", shop.database.name());
    let rights =
        format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}");
    shop.client().batch_execute(&rights).expect("they can be given");
    let db = format!("db={}", shop.database.uri().replacen("rex@", &format!("{role}@"), 1));
    let code = code.to_string();
    let following = shop.env.start(&["job", "logs", &code, "--follow", "--set", &db]);
    // It waits once it has asked for pieces of the log.
    let sessions = format!(
        "SELECT pid FROM pg_stat_activity WHERE usename = '{role}' AND query LIKE '%piece > %'"
    );
    let sessions = || shop.client().query(&sessions, &[]).expect("it can be asked").len();
    wait_for("who waits", || sessions() > 0);
    let lock_out = format!(
        "ALTER ROLE {role} NOLOGIN;
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
    );
    shop.client().batch_execute(&lock_out).expect("it can be done");
    let (status, said) = following.wait();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("role \"{role}\" is not permitted to log in")), "{said}");
    let remove = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    shop.client().batch_execute(&remove).expect("it owns nothing");
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
