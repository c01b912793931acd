//! Every way in which a plugin can end its process: noticed, named, charged to the task that did
//! it, in the middle of a window, and to no other.

use serde_json::{Value, json};

use crate::crashing;
use crate::store::Store;

/// Tasks before and after the one that fails; together with it they fit one window.
const BEFORE: i64 = 20;
const AFTER: i64 = 20;

/// What is known of a task that failed.
struct Expected {
    /// The dead letter's kind.
    kind: &'static str,
    /// What the log and the dead letter's reason say.
    words: &'static str,
    /// Whether the process went down with the task.
    died: bool,
}

fn crashed(words: &'static str) -> Expected {
    Expected { kind: "crash", words, died: true }
}

fn survived(kind: &'static str, words: &'static str) -> Expected {
    Expected { kind, words, died: false }
}

#[test]
fn segmentation_fault() {
    check("segfault", &crashed("killed by signal 11 (SIGSEGV)"));
}

#[test]
fn abort() {
    check("abort", &crashed("killed by signal 6 (SIGABRT)"));
}

#[test]
fn killed_from_outside() {
    check("kill", &crashed("killed by signal 9 (SIGKILL)"));
}

#[test]
fn panic() {
    check("panic", &survived("panic", "panicked on purpose"));
}

/// The worker is dropped after a panic, which its `Drop` does not bear.
#[test]
fn panic_and_another_at_the_workers_end() {
    check("panic_drop", &survived("panic", "Panic: panicked on purpose"));
    let (_, output) = run_case("panic_drop", json!({}));
    assert!(output.contains("\nPanic: panicked at the end\nat "), "{output}");
}

#[test]
fn panic_on_a_thread() {
    check("panic_thread", &survived("error", "the thread panicked"));
}

#[test]
fn error() {
    check("error", &survived("error", "failed on purpose"));
}

#[test]
fn escaped_panic() {
    let letter = check("escaped_panic", &crashed("killed by signal 6 (SIGABRT)"));
    let said = letter["details"]["last_output"].to_string();
    assert!(said.contains("Panic: panicked where nothing may unwind"), "{said}");
    assert!(said.contains("src/lib.rs:"), "the place: {said}");
}

#[test]
fn exit_0() {
    check("exit0", &crashed("exited with code 0"));
}

#[test]
fn exit_3() {
    check("exit3", &crashed("exited with code 3"));
}

#[test]
fn exit_5_from_a_thread() {
    check("exit5_thread", &crashed("exited with code 5"));
}

#[test]
fn stack_overflow_on_the_main_thread() {
    check("stack_overflow_main", &crashed("killed by signal 6 (SIGABRT)"));
}

#[test]
fn stack_overflow_on_a_plugins_thread() {
    check("stack_overflow_thread", &crashed("killed by signal 11 (SIGSEGV)"));
}

#[test]
fn illegal_instruction() {
    check("illegal_instruction", &crashed("killed by signal 4 (SIGILL)"));
}

#[test]
fn files_closed_under_the_worker() {
    check("close_files", &crashed("killed by signal 9 (SIGKILL)"));
}

#[test]
fn endless_loop() {
    let expected = Expected { kind: "timeout", words: "time limit of 0.5 s", died: true };
    check_with("loop", json!({"timeout": 0.5}), &expected);
}

#[test]
fn endless_sleep() {
    let expected = Expected { kind: "timeout", words: "time limit of 0.5 s", died: true };
    check_with("sleep", json!({"timeout": 0.5}), &expected);
}

#[test]
fn memory_limit() {
    let expected = Expected { kind: "memory", words: "memory limit", died: true };
    check_with("memory", json!({"memory_limit": "512M"}), &expected);
}

/// What follows the allocator's words in the output.
#[test]
fn memory_limit_named_before_a_long_backtrace() {
    let env = crashing::env();
    env.set("RUST_BACKTRACE", "full");
    let task = |how: &str| json!({"how": how, "n": 1}).to_string();
    Store::Embedded.submit(&env, "crash", &[&task("panic"), &task("memory")]);
    let queues = json!({"crash": {"memory_limit": "512M"}});
    crashing::start(&env, &queues, &["--halt-when-empty"]).wait_ok();
    let letters = env.rex_host(&["dlq", "list", "--json"]).json_lines();
    let kinds: Vec<&Value> = letters.iter().map(|letter| &letter["details"]["kind"]).collect();
    assert_eq!(kinds, ["panic", "memory"], "{letters:?}");
}

#[test]
fn last_output_is_kept() {
    let (letter, _) = run_case("stderr", json!({}));
    let last: Vec<&str> = letter["details"]["last_output"]
        .as_array()
        .expect("a list of lines")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(last.contains(&"said before the end"), "{last:?}");
}

#[test]
fn last_output_is_that_of_the_task_alone() {
    let env = crashing::env();
    let fails = |text: &str| json!({"how": "error", "message": text}).to_string();
    let (first, second) = (fails("of the first"), fails("of the second"));
    Store::Embedded.submit(&env, "crash", &[first.as_str(), second.as_str()]);
    crashing::start(&env, &json!({"crash": {}}), &["--halt-when-empty"]).wait_ok();
    let letters = env.rex_host(&["dlq", "list", "--json"]).json_lines();
    let said: Vec<String> =
        letters.iter().map(|letter| letter["details"]["last_output"].to_string()).collect();
    for (n, own, other) in [(0, "first", "second"), (1, "second", "first")] {
        assert!(said[n].contains(&format!("of the {own}")), "{}", said[n]);
        assert!(!said[n].contains(&format!("of the {other}")), "{}", said[n]);
    }
}

fn check(how: &str, expected: &Expected) -> Value {
    check_with(how, json!({}), expected)
}

/// Returns the dead letter.
fn check_with(how: &str, limits: Value, expected: &Expected) -> Value {
    let (letter, output) = run_case(how, limits);
    let reason = letter["reason"].as_str().expect("a text");
    assert!(reason.contains(expected.words), "reason: {reason}");
    assert_eq!(letter["details"]["kind"], expected.kind, "{letter}");
    assert_eq!(letter["attempts"], 1);
    assert_eq!(letter["details"]["worker"], "crash_worker");
    let deaths = output.matches("Worker for queue crash died; restarting...").count();
    assert_eq!(deaths, usize::from(expected.died), "{output}");
    assert!(output.contains(expected.words), "the log does not name the cause:\n{output}");
    let launches = output.matches("Launching crash_worker to work on queue crash").count();
    assert_eq!(launches, 1 + deaths, "{output}");
    letter
}

/// Runs a task that fails in the middle of others; its dead letter, and what the host printed.
fn run_case(how: &str, limits: Value) -> (Value, String) {
    let env = crashing::env();
    let record = env.path("record");
    let payload = |n: i64| {
        let how = if n == BEFORE { how } else { "ok" };
        let text = "said before the end";
        json!({"how": how, "n": n, "record": record, "text": text}).to_string()
    };
    let payloads: Vec<String> = (0..=BEFORE + AFTER).map(payload).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    Store::Embedded.submit(&env, "crash", &payloads);

    let queues = json!({"crash": limits});
    let output = crashing::start(&env, &queues, &["--halt-when-empty"]).wait_ok();

    let letters = env.rex_host(&["dlq", "list", "--json"]).json_lines();
    assert_eq!(letters.len(), 1, "one task is to blame: {letters:?}\n{output}");
    assert_eq!(letters[0]["payload"]["n"], BEFORE, "{letters:?}");
    assert_eq!(letters[0]["queue"], "crash");
    assert_eq!(env.rex_host(&["queue", "peek", "crash", "--json"]).ok(), "");

    let counts = crashing::recorded(&record);
    for n in 0..=BEFORE + AFTER {
        let done = usize::from(n != BEFORE);
        assert_eq!(counts.get(&n), Some(&(1, done)), "task {n}\n{output}");
    }
    let lines = std::fs::read_to_string(&record).expect("tasks were recorded");
    let order: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("start ")).collect();
    assert!(order.is_sorted_by_key(|n| n.parse::<i64>().expect("a number")), "{order:?}");
    (letters.into_iter().next().expect("there is one"), output)
}
