//! One queue, drained once.

use rex_test_support::env::Env;

use crate::store::Store;

#[test]
fn a_queue_is_drained_and_counted() {
    let env = Env::new();
    Store::Embedded.submit(&env, "foo", &["{\"n\": 1}", "{\"n\": 2}"]);
    let demo = ["--project", "rex.asynctask_demo"];
    let output = env.rex_host(&[&["work", "foo"], &demo[..]].concat()).ok();
    assert!(output.contains("FOO processed: {'n': 1}\n"), "{output}");
    assert!(output.ends_with("2 tasks done in queue foo\n"), "{output}");

    Store::Embedded.submit(&env, "foo", &["{}"]);
    let bar = ["work", "foo", "--worker", "demo_bar_worker"];
    let output = env.rex_host(&[&bar, &demo[..]].concat()).ok();
    assert!(
        output.contains("BAR processed: {}\n") && output.ends_with("1 task done in queue foo\n")
    );

    // A queue that no project has.
    Store::Embedded.submit(&env, "mine", &["{}", "{}"]);
    let quiet = ["work", "mine", "--worker", "demo_logging_worker", "--quiet"];
    assert_eq!(env.rex_host(&quiet).ok(), "2 tasks done in queue mine\n");
}

#[test]
fn a_queue_is_drained_beside_a_running_host() {
    let env = Env::new();
    let host = env.start(&["run", "rex.asynctask_demo"]);
    host.wait_output("Starting; queue=foo");
    Store::Embedded.submit(&env, "mine", &["{}"]);
    let output = env.rex_host(&["work", "mine", "--worker", "demo_bar_worker"]).ok();
    assert!(output.ends_with("1 task done in queue mine\n"), "{output}");
    env.rex_host(&["stop"]).ok();
    assert!(!host.wait_ok().contains("BAR"));
}

/// Names of queues may be longer than those of files.
#[test]
fn a_queue_of_a_long_name_is_drained() {
    let env = Env::new();
    let queue = "q".repeat(260);
    env.rex_host(&["submit", &queue, "{}"]).ok();
    let args = ["work", &queue, "--worker", "demo_quiet_worker", "--project", "rex.asynctask_demo"];
    let output = env.rex_host(&args).ok();
    assert!(output.ends_with(&format!("1 task done in queue {queue}\n")), "{output}");
}

#[test]
fn what_cannot_be_worked_is_said() {
    let env = Env::new();
    let error = env.rex_host(&["work", "mine"]).fails(1);
    assert!(error.contains("error: Cannot identify worker for queue \"mine\"\nhint: "), "{error}");
    let error = env.rex_host(&["work", "mine", "--worker", "nobody"]).fails(1);
    assert!(error.contains("error: Worker \"nobody\" does not exist\nhint: "), "{error}");
    env.rex_host(&["work", "Bad Name"]).fails(1);

    Store::Embedded.submit(&env, "mine", &["{\"error\": true}", "{}"]);
    let error = env.rex_host(&["work", "mine", "--worker", "demo_error_worker"]).fails(1);
    assert!(error.contains("error: 1 task failed\nhint: "), "{error}");
}

#[test]
fn what_is_left_is_no_failure() {
    let env = Env::new();
    let demo = ["--worker", "demo_error_worker"];
    let record = r#"{"mine": {"worker": "demo_error_worker", "max_attempts": 2, "backoff": 3600}}"#;
    let workers = format!("asynctask_workers={record}");
    let set = ["--project", "rex.asynctask_demo", "--set", &workers];
    Store::Embedded.submit(&env, "mine", &[r#"{"error": true}"#, "{}"]);
    let said = env.rex_host(&[&["work", "mine", "--quiet"], &set[..]].concat()).ok();
    assert!(said.ends_with("1 task done in queue mine\n1 task waits for its time\n"), "{said}");
    let asked = env.rex_host(&["queue", "purge", "mine"]).fails(1);
    assert!(asked.contains("1 task waits in queue mine, 1 of them for their time\n"), "{asked}");
    assert_eq!(
        env.rex_host(&["queue", "purge", "mine", "--yes"]).ok(),
        "1 task deleted from queue mine\n"
    );

    Store::Embedded.submit(&env, "mine", &["{}"]);
    env.rex_host(&["queue", "pause", "mine"]).ok();
    let said = env.rex_host(&[&["work", "mine", "--quiet"], &demo[..]].concat()).ok();
    assert_eq!(said, "0 tasks done in queue mine\nqueue mine is paused, 1 task in it\n");
    let said = env.rex_host(&[&["run", "--halt-when-empty"], &set[2..]].concat());
    let said = said.ok();
    assert!(said.contains("queue mine is paused: no tasks are taken from it"), "{said}");
}
