//! Changing what runs while it runs: plugins and settings, by command, by signal and by watching the
//! directory, from the first `plugin new` to a reload under load.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rex_test_support::env::{Env, dist, target_dir};
use rex_test_support::process::{Running, wait_for};
use serde_json::{Value, json};

use crate::store::Store;

/// Libraries built from what `plugin new greeter` writes: as it is, and as an author changed it.
struct Greeter {
    hello: PathBuf,
    servus: PathBuf,
}

fn greeter() -> &'static Greeter {
    static BUILT: OnceLock<Greeter> = OnceLock::new();
    BUILT.get_or_init(|| {
        let env = Env::new();
        env.rex_host(&["plugin", "new", "greeter"]).ok();
        let folder = env.work().join("greeter");
        let kept = target_dir().join("greeter");
        let build = |name: &str| {
            env.cargo(&folder, &["build"]).ok();
            let library = kept.join(name).join("greeter.so");
            std::fs::create_dir_all(library.parent().expect("it has one")).expect("ours");
            let built = target_dir().join("new/debug/libgreeter.so");
            // Not written over: a host of an earlier run may have it open.
            let _ = std::fs::remove_file(&library);
            std::fs::copy(built, &library).expect("cargo built it");
            library
        };
        // What was written passes its own tests, unchanged.
        env.cargo(&folder, &["test"]).ok();
        let hello = build("hello");
        let source = folder.join("src/lib.rs");
        let text = std::fs::read_to_string(&source).expect("it was written");
        assert!(text.contains("Hello, "), "{text}");
        std::fs::write(&source, text.replace("Hello, ", "Servus, ")).expect("ours");
        let servus = build("servus");
        Greeter { hello, servus }
    })
}

const FOO: &str = "foo: demo_foo_worker";
const GREET: &str = "greet: greeter_worker";

/// A project of the test's own with these queues.
fn settings(env: &Env, queues: &[&str]) {
    let queues: String = queues.iter().map(|queue| format!("  {queue}\n")).collect();
    let workers = if queues.is_empty() { "{}\n".to_owned() } else { format!("\n{queues}") };
    env.write("work/app/settings.yaml", &format!("asynctask_workers: {workers}"));
}

fn start(env: &Env, more: &[&str]) -> Running {
    let plugins = env.plugins(&["demo_foo"]).display().to_string();
    let args = ["run", "./app/", "--require", "rex.asynctask", "--plugins", &plugins];
    let host = env.start(&[&args, more].concat());
    host.wait_output("INFO:FooWorker:Starting; queue=foo");
    host
}

fn stop(env: &Env, host: Running) -> String {
    env.rex_host(&["stop"]).ok();
    host.wait_ok()
}

fn greet(env: &Env, name: &str) {
    Store::Embedded.submit(env, "greet", &[&json!({"name": name}).to_string()]);
}

fn worker_pid(env: &Env, queue: &str) -> Value {
    let status = env.rex_host(&["status", "--json"]).json_lines().remove(0);
    let queues = status["queues"].as_array().expect("a list").clone();
    let found = queues.into_iter().find(|entry| entry["queue"] == queue);
    found.expect("the queue is worked")["processes"][0]["pid"].clone()
}

#[test]
fn a_new_plugin_goes_into_service_by_command() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let host = start(&env, &[]);
    let foo = worker_pid(&env, "foo");
    greet(&env, "Ada");

    env.add_plugin(&greeter().hello);
    settings(&env, &[FOO, GREET]);
    let checked = env.rex_host(&["reload", "--check"]).ok();
    assert!(checked.contains("greet"), "{checked}");
    assert!(!host.output().contains("greeter_worker to work"), "a check changes nothing");
    let said = env.rex_host(&["reload"]).ok();
    assert!(said.contains("greet"), "{said}");
    host.wait_output("Hello, Ada!");
    assert_eq!(worker_pid(&env, "foo"), foo, "what did not change runs on");

    let again = env.rex_host(&["reload"]).ok();
    assert!(again.contains("nothing has changed"), "{again}");

    settings(&env, &[GREET]);
    env.rex_host(&["reload"]).ok();
    host.wait_output("INFO:FooWorker:Terminating");
    let output = stop(&env, host);
    assert!(!output.contains("died"), "{output}");
}

#[test]
fn hup_reloads() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let host = start(&env, &[]);
    env.add_plugin(&greeter().hello);
    settings(&env, &[FOO, GREET]);
    greet(&env, "Grace");
    host.signal(libc::SIGHUP);
    host.wait_output("Hello, Grace!");
    env.add_plugin(&greeter().servus);
    host.signal(libc::SIGHUP);
    host.wait_output_times("INFO:GreeterWorker:Starting; queue=greet", 2);
    greet(&env, "Grace");
    host.wait_output("Servus, Grace!");
    stop(&env, host);
}

#[test]
fn watching_reloads_when_a_file_is_complete() {
    let env = Env::new();
    settings(&env, &[FOO, GREET]);
    env.add_plugin(&greeter().hello);
    let host = start(&env, &["--watch"]);
    greet(&env, "Ada");
    host.wait_output("Hello, Ada!");

    // As `cp` writes it: in place, piece by piece.
    let target = env.path("plugins/greeter.so");
    std::fs::remove_file(&target).expect("it was there");
    copy_in_pieces(&greeter().servus, &target);
    host.wait_output_times("INFO:GreeterWorker:Starting; queue=greet", 2);
    greet(&env, "Ada");
    let output = host.wait_output("Servus, Ada!");
    assert!(!output.contains("refused"), "a half-written file was looked at:\n{output}");
    stop(&env, host);
}

fn copy_in_pieces(from: &Path, to: &Path) {
    use std::io::Write;
    let bytes = std::fs::read(from).expect("it was built");
    let mut file = std::fs::File::create(to).expect("ours");
    for piece in bytes.chunks(bytes.len() / 7 + 1) {
        file.write_all(piece).expect("ours");
        file.sync_data().expect("ours");
    }
}

#[test]
fn a_bad_plugin_changes_nothing() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let host = start(&env, &[]);
    let foo = worker_pid(&env, "foo");
    let bad = env.write("plugins/bad.so", "this is no library");
    env.add_plugin(&greeter().hello);
    settings(&env, &[FOO, GREET]);
    let text = env.rex_host(&["reload"]).fails(1);
    assert!(text.contains("bad.so"), "{text}");
    let text = env.rex_host(&["reload", "--check"]).fails(1);
    assert!(text.contains("bad.so"), "{text}");
    assert!(!host.output().contains("greeter_worker to work"));
    assert_eq!(worker_pid(&env, "foo"), foo);
    std::fs::remove_file(bad).expect("ours");
    env.rex_host(&["reload"]).ok();
    host.wait_output("INFO:GreeterWorker:Starting; queue=greet");
    stop(&env, host);
}

#[test]
fn a_file_that_was_refused_before_is_not_in_the_way() {
    let env = Env::new();
    settings(&env, &[FOO]);
    env.write("plugins/bad.so", "this is no library");
    let host = start(&env, &[]);
    let output = host.output();
    assert_eq!(output.matches("bad.so").count(), 1, "one clear line:\n{output}");
    env.add_plugin(&greeter().hello);
    settings(&env, &[FOO, GREET]);
    env.rex_host(&["reload"]).ok();
    host.wait_output("INFO:GreeterWorker:Starting; queue=greet");
    stop(&env, host);
}

#[test]
fn bad_settings_change_nothing() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let host = start(&env, &[]);
    let foo = worker_pid(&env, "foo");
    settings(&env, &[FOO, "bar: no_such_worker"]);
    let text = env.rex_host(&["reload"]).fails(1);
    assert!(text.contains("no_such_worker"), "{text}");
    env.write("work/app/settings.yaml", "asynctask_workers: [");
    let text = env.rex_host(&["reload"]).fails(1);
    assert!(text.contains("Failed to parse a YAML document"), "{text}");
    assert_eq!(worker_pid(&env, "foo"), foo);
    stop(&env, host);
}

#[test]
fn two_plugins_with_the_same_worker_are_refused() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let host = start(&env, &[]);
    let copy = env.path("plugins/other_foo.so");
    // Another build of the same workers, so that it is not just the same file twice.
    let mut bytes = std::fs::read(dist().join("plugins/demo_foo.so")).expect("it is there");
    bytes.extend_from_slice(b"another build");
    std::fs::write(&copy, bytes).expect("ours");
    rex_test_support::env::set_mode(&copy, 0o644);
    let text = env.rex_host(&["reload"]).fails(1);
    for part in ["demo_foo_worker", "other_foo.so", "demo_foo.so"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    Store::Embedded.submit(&env, "foo", &[r#"{"foo": 7}"#]);
    host.wait_output("FOO processed: {'foo': 7}");
    stop(&env, host);
}

#[test]
fn deleting_a_plugin_does_not_disturb_its_process() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let host = start(&env, &[]);
    std::fs::remove_file(env.path("plugins/demo_foo.so")).expect("it was there");
    Store::Embedded.submit(&env, "foo", &[r#"{"foo": 1}"#]);
    host.wait_output("FOO processed: {'foo': 1}");
    stop(&env, host);
}

#[test]
fn no_task_fails_under_load() {
    const BATCHES: usize = 40;
    const BATCH: usize = 50;
    let env = Env::new();
    settings(&env, &[GREET, FOO]);
    env.add_plugin(&greeter().hello);
    let host = start(&env, &[]);
    let mut reloads = 0;
    for batch in 0..BATCHES {
        let name = |n: usize| json!({"name": (batch * BATCH + n).to_string()}).to_string();
        let names: Vec<String> = (0..BATCH).map(name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Store::Embedded.submit(&env, "greet", &names);
        if batch % 8 == 4 {
            let greeter = greeter();
            let next = if reloads % 2 == 0 { &greeter.servus } else { &greeter.hello };
            env.add_plugin(next);
            env.rex_host(&["reload"]).ok();
            reloads += 1;
        }
    }
    wait_for("all tasks", || {
        let queues = env.rex_host(&["queue", "list", "--json"]).json_lines();
        queues.iter().all(|queue| queue["waiting"] == 0 && queue["in_flight"] == 0)
    });
    let output = stop(&env, host);
    assert_eq!(env.rex_host(&["dlq", "list", "--json"]).ok(), "");
    let mut greeted: Vec<usize> = output
        .lines()
        .filter_map(|line| line.strip_prefix("Hello, ").or(line.strip_prefix("Servus, ")))
        .map(|name| name.trim_end_matches('!').trim().parse().expect("a number"))
        .collect();
    greeted.sort_unstable();
    assert!(greeted.iter().copied().eq(0..BATCHES * BATCH), "each once: {}", greeted.len());
    assert!(output.contains("Hello, ") && output.contains("Servus, "));
    assert!(!output.contains("died"), "{output}");
}
