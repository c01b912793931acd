//! Changing what runs while it runs: plugins and settings, by command, by signal and by watching the
//! directory, from the first `plugin new` to a reload under load.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread::JoinHandle;

use rex_test_support::env::{Env, dist, target_dir};
use rex_test_support::plugins;
use rex_test_support::process::{Done, Process, Running, descendants, wait_for};
use serde_json::{Value, json};

use crate::crashing::{self, recorded, wait_started};
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
fn whoever_serves_a_plugin_without_unwinding_is_told() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let add = |name: &str, worker: &str| {
        let mut manifest = plugins::manifest(name, &[worker]);
        manifest["unwinds"] = json!(false);
        let file = env.path("plugins").join(format!("{name}.so"));
        plugins::chameleon().claim(&manifest).install(&file);
        format!("plugin {} is built with panic = \"abort\"", file.display())
    };
    let first = add("first", "first_worker");
    let host = start(&env, &[]);
    assert_eq!(host.output().matches(&first).count(), 1, "{}", host.output());
    let second = add("second", "second_worker");
    let said = env.rex_host(&["reload"]).ok();
    assert!(said.contains("nothing has changed"), "{said}");
    host.wait_output(&second);
    let output = stop(&env, host);
    assert_eq!(output.matches(&first).count(), 1, "once: {output}");
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

/// A host that works at a task of this queue, until there is a file `go`.
fn start_at_work(env: &Env, queue: &str) -> Running {
    let record = env.path("record");
    let task =
        json!({"how": "until", "file": env.path("go"), "n": 1, "record": record}).to_string();
    Store::Embedded.submit(env, queue, &[&task]);
    let plugins = env.path("plugins").display().to_string();
    let host = env.start(&["run", "./app/", "--require", "rex.asynctask", "--plugins", &plugins]);
    wait_started(&record, 1);
    host
}

#[test]
fn what_works_for_a_queue_that_was_left_is_shown() {
    let env = crashing::env();
    let queues = |names: &[&str]| {
        let queue = |name: &&str| format!("  {name}: crash_worker\n");
        let queues: String = names.iter().map(queue).collect();
        env.write("work/app/settings.yaml", &format!("asynctask_workers:\n{queues}"));
    };
    queues(&["crash", "left"]);
    let host = start_at_work(&env, "left");
    queues(&["crash"]);
    assert_eq!(env.rex_host(&["reload"]).ok(), "queue left: is left\n");
    let shown = || {
        let status = env.rex_host(&["status", "--json"]).json_lines().remove(0);
        let queues = status["queues"].as_array().expect("a list").clone();
        queues.iter().map(|queue| queue["queue"].as_str().unwrap_or("").to_owned()).collect()
    };
    let both: Vec<String> = shown();
    assert_eq!(both, ["crash", "left"]);
    env.write("go", "");
    wait_for("the last task of the queue", || shown() == ["crash"]);
    stop(&env, host);
}

#[test]
fn who_is_exchanged_is_shown_as_what_it_is() {
    let env = crashing::env();
    env.plugins(&["demo_foo"]);
    let work = |worker: &str| {
        let text = format!("asynctask_workers: {{one: {worker}}}\n");
        env.write("work/app/settings.yaml", &text);
    };
    work("crash_worker");
    let host = start_at_work(&env, "one");
    work("demo_foo_worker");
    env.rex_host(&["reload"]).ok();
    let shown = |name: &str, state: &str| {
        let table = env.rex_host(&["status"]).ok();
        table.lines().any(|line| line.contains(name) && line.contains(state))
    };
    wait_for("the exchange", || shown("demo_foo_worker", "serving"));
    assert!(shown("crash_worker", "stopping"), "{}", env.rex_host(&["status"]).ok());
    env.write("go", "");
    wait_for("the last task of the old one", || !shown("crash_worker", ""));
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

/// The limit is the workers' as well: what a task submits is refused to the task, not lost behind it.
#[test]
fn a_new_payload_limit_reaches_the_workers() {
    let env = crashing::env();
    let limit = |limit: &str| {
        let text = format!("parameters:\n  asynctask_payload_limit: {limit}\n");
        env.write("work/rex.yaml", &text)
    };
    limit("200");
    let running = crashing::start(&env, &json!({"crash": {}}), &[]);
    running.wait_output("Starting; queue=crash");
    assert_eq!(env.rex_host(&["reload"]).ok(), "nothing has changed\n");
    let submits = |length: usize| {
        let payload = json!({"pad": "x".repeat(length)});
        let task = json!({"how": "submit", "queue": "sink", "payload": payload}).to_string();
        // It is larger than what it submits.
        let set = "asynctask_payload_limit=500";
        env.rex_host(&["submit", "crash", &task, "--set", set]).ok();
    };
    let queues = || env.rex_host(&["queue", "list", "--json"]).json_lines();
    let count = |name: &str, what: &str| {
        let all = queues();
        let found = all.iter().find(|queue| queue["queue"] == name);
        found.and_then(|queue| queue[what].as_u64()).unwrap_or(0)
    };
    limit("30");
    assert_eq!(env.rex_host(&["reload"]).ok(), "queue crash: new settings\n");
    running.wait_output_times("Starting; queue=crash", 2);
    submits(50);
    wait_for("the dead letter", || count("crash", "dead") == 1);
    let letters = env.rex_host(&["dlq", "list", "--json"]).json_lines();
    assert!(
        letters[0]["reason"].as_str().is_some_and(|text| text.contains("too large")),
        "{letters:?}"
    );
    limit("200");
    env.rex_host(&["reload"]).ok();
    running.wait_output_times("Starting; queue=crash", 3);
    submits(50);
    wait_for("the task of the task", || count("sink", "waiting") == 1);
    assert_eq!(count("crash", "dead"), 1);
    stop(&env, running);
}

#[test]
fn a_reload_tells_what_it_brings_into_force_and_refuses_what_it_cannot() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let host = start(&env, &[]);
    let path = "work/app/settings.yaml";
    let with = |line: &str| env.write(path, &format!("asynctask_workers:\n  {FOO}\n{line}\n"));
    let errors_only = "asynctask_drain_timeout: 1\nlogging_root: {level: ERROR}";
    for (line, told) in [
        ("asynctask_drain_timeout: 1", "host: new settings\n"),
        (errors_only, "logging: new settings\n"),
    ] {
        with(line);
        assert_eq!(env.rex_host(&["reload", "--check"]).ok(), told);
        assert_eq!(env.rex_host(&["reload"]).ok(), told);
        assert_eq!(env.rex_host(&["reload"]).ok(), "nothing has changed\n");
    }
    for (name, value) in [
        ("asynctask_owner_timeout", "50"),
        ("asynctask_rescue_grace", "50"),
        ("asynctask_lock_timeout", "50"),
        ("asynctask_schema_additions", "false"),
        ("asynctask_transport", "sqlite:other.db"),
    ] {
        with(&format!("{name}: {value}\nasynctask_drain_timeout: 2"));
        let text = env.rex_host(&["reload", "--state", ".rex-host"]).fails(1);
        let expected = format!("{name} has changed: stop the host and start it again");
        assert!(text.contains(&expected), "{text}");
    }
    with(errors_only);
    assert_eq!(env.rex_host(&["reload"]).ok(), "nothing has changed\n", "all or nothing");
    for (globals, told) in
        [("quiet: true", "logging: new settings\n"), ("", "logging: new settings\n")]
    {
        env.write("work/rex.yaml", &format!("{globals}\n"));
        assert_eq!(env.rex_host(&["reload"]).ok(), told);
    }
    env.write("work/rex.yaml", "state: elsewhere\n");
    let text = env.rex_host(&["reload", "--state", ".rex-host"]).fails(1);
    assert!(text.contains("state has changed: stop the host"), "{text}");
    env.rex_host(&["stop", "--state", ".rex-host"]).ok();
    host.wait_ok();
}

/// A host that looks at its plugins until there is the file `go`.
fn starting(env: &Env) -> Running {
    let slow = plugins::chameleon().act(&format!("wait for {}", env.path("go").display()));
    slow.install(&env.path("plugins/slow.so"));
    let host = crashing::start(env, &json!({"crash": {}}), &[]);
    wait_for("the slow plugin to be looked at", || {
        let family = descendants(host.pid());
        family.iter().any(|process| process.command.contains("probe-plugin"))
    });
    host
}

#[test]
fn a_signal_that_comes_while_the_host_starts_waits() {
    let env = crashing::env();
    let host = starting(&env);
    host.signal(libc::SIGHUP);
    env.write("go", "");
    host.wait_output("reload: nothing has changed");
    stop(&env, host);
}

#[test]
fn who_orders_a_host_that_starts_waits_for_it() {
    let env = crashing::env();
    let host = starting(&env);
    let stopping = Running::start(env.command("rex-host", &["stop"]));
    env.write("go", "");
    let told = stopping.wait_ok();
    assert!(told.starts_with("stopped after "), "{told}");
    host.wait_ok();
}

#[test]
fn two_plugins_with_the_same_worker_are_refused() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let host = start(&env, &[]);
    let copy = env.path("plugins/other_foo.so");
    // Another build of the same workers, so that it is not just the same file twice.
    let mut bytes = std::fs::read(dist().join("plugins/demo_foo.so")).expect("it is there");
    let first = env.path("plugins/a_foo.so");
    bytes.extend_from_slice(b"another build");
    std::fs::write(&copy, bytes).expect("ours");
    rex_test_support::env::set_mode(&copy, 0o644);
    let text = env.rex_host(&["reload"]).fails(1);
    for part in ["demo_foo_worker", "other_foo.so", "demo_foo.so"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    Store::Embedded.submit(&env, "foo", &[r#"{"foo": 7}"#]);
    host.wait_output("FOO processed: {'foo': 7}");
    std::fs::rename(&copy, &first).expect("ours");
    // Commands and who works beside the host go by what it has in service, also when it has ended.
    let plugins = env.path("plugins").display().to_string();
    let listed = || env.rex_host(&["plugin", "list", "--json", "--plugins", &plugins]).json_lines();
    let is_served = |file: &str| {
        let path = env.path("plugins").join(file).display().to_string();
        let found = listed().into_iter().find(|line| line["file"] == *path).expect("it is listed");
        found["refused"].is_null()
    };
    let follows = || {
        assert!(is_served("demo_foo.so") && !is_served("a_foo.so"), "{:?}", listed());
        let work = ["work", "beside", "--worker", "demo_foo_worker", "--plugins", &plugins];
        let said = env.rex_host(&work);
        assert!(said.stdout.contains("a_foo.so is refused: exports the worker"), "{said}");
        said.ok();
    };
    follows();
    stop(&env, host);
    follows();
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
fn another_name_of_a_plugin_s_file_is_no_change() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let host = start(&env, &[]);
    let pid = worker_pid(&env, "foo");
    let renamed = env.path("plugins/another.so");
    std::fs::rename(env.path("plugins/demo_foo.so"), renamed).expect("it was there");
    assert_eq!(env.rex_host(&["reload"]).ok(), "nothing has changed\n");
    assert_eq!(worker_pid(&env, "foo"), pid);
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

/// Puts another build of the fixture in place of the one that is there.
fn add_another_crash(env: &Env, build: &str) {
    let mut bytes = std::fs::read(plugins::built("crash")).expect("it was built");
    bytes.extend_from_slice(build.as_bytes());
    let name = plugins::built("crash").file_name().expect("it has a name").to_owned();
    let file = env.path("build").join(name);
    std::fs::create_dir_all(env.path("build")).expect("ours");
    std::fs::write(&file, bytes).expect("ours");
    env.add_plugin(&file);
}

/// Adds a plugin that takes until the file `go` is there to be looked at, and lets `reload` begin.
fn begin_slow_reload(env: &Env, host: &Running, reload: impl FnOnce()) {
    let slow = plugins::chameleon().act(&format!("wait for {}", env.path("go").display()));
    slow.install(&env.path("plugins/slow.so"));
    reload();
    wait_for("the slow plugin to be looked at", || {
        let family = descendants(host.pid());
        family.iter().any(|process| process.command.contains("probe-plugin"))
    });
}

#[test]
fn a_change_that_comes_during_a_reload_is_not_lost() {
    let queue = json!({"crash": {}});
    let taken_over = "of libcrash.so";
    for (more, hup) in [(&["--watch"] as &[&str], false), (&[], true)] {
        let env = crashing::env();
        let host = crashing::start(&env, &queue, more);
        host.wait_output("Starting; queue=crash");
        let hang_up = || {
            if hup {
                host.signal(libc::SIGHUP);
            }
        };
        begin_slow_reload(&env, &host, hang_up);
        // `crash` comes before `slow` and was read already.
        add_another_crash(&env, "another build");
        hang_up();
        let output = host.wait_output("another reload follows the one under way");
        assert!(!output.contains(taken_over), "{output}");
        env.write("go", "");
        host.wait_output(taken_over);
        host.wait_output_times("Starting; queue=crash", 2);
        stop(&env, host);
    }
}

#[test]
fn a_reload_that_is_asked_for_during_another_is_done_after_it() {
    let env = crashing::env();
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    host.wait_output("Starting; queue=crash");
    begin_slow_reload(&env, &host, || host.signal(libc::SIGHUP));
    add_another_crash(&env, "another build");
    let said = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..3)
            .map(|_| {
                let command = env.command("rex-host", &["reload"]);
                scope.spawn(move || rex_test_support::process::run(command, "").ok())
            })
            .collect();
        wait_for("all to have asked", || waiting_calls(&host) == 3);
        env.write("go", "");
        asked.into_iter().map(|thread| thread.join().expect("it ended well")).collect::<String>()
    });
    assert_eq!(said.matches("takes over from").count(), 1, "{said}");
    assert_eq!(said.matches("nothing has changed").count(), 2, "{said}");
    stop(&env, host);
}

/// How many requests of operators the host has taken and not answered.
fn waiting_calls(host: &Running) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{}/task", host.pid())).expect("it runs");
    let names = threads.flatten().filter_map(|thread| {
        // A thread may end meanwhile.
        std::fs::read_to_string(thread.path().join("comm")).ok()
    });
    names.filter(|name| name.trim_end() == "control-call").count()
}

/// Makes all copies of plugins as old as those of a host that has run for a while.
fn age_copies(env: &Env) {
    let copies = env.path("work/.rex-host/rex/plugins");
    for entry in std::fs::read_dir(copies).expect("a host made it").flatten() {
        let file = std::fs::File::open(entry.path()).expect("ours");
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        file.set_modified(old).expect("ours");
    }
}

#[test]
fn the_copy_that_a_process_runs_is_kept() {
    let env = crashing::env();
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    host.wait_output("Starting; queue=crash");
    let old = worker_pid(&env, "crash");
    // Its slot stays empty, and the old one serves.
    plugins::chameleon()
        .workers("crash", &["crash_worker"])
        .act("refuse to start")
        .install(&env.path("plugins/libcrash.so"));
    let unused = env.write(&format!("work/.rex-host/rex/plugins/{}.so", "0".repeat(64)), "");
    age_copies(&env);
    let refused = env.rex_host(&["reload"]).fails(1);
    assert!(refused.starts_with("error: queue crash: crash_worker of libcrash.so "), "{refused}");
    assert!(refused.contains(" cannot start: "), "{refused}");
    host.wait_output("cannot start: ");
    // Said again it is no more than it was, whether or not it is about something else.
    env.rex_host(&["reload"]).fails(1);
    plugins::chameleon()
        .workers("crash", &["crash_worker", "another_worker"])
        .act("refuse to start")
        .install(&env.path("plugins/libcrash.so"));
    age_copies(&env);
    env.rex_host(&["reload"]).fails(1);
    let processes = || {
        let status = env.rex_host(&["status", "--json"]).json_lines().remove(0);
        status["queues"][0]["processes"].as_array().map_or(0, Vec::len)
    };
    wait_for("one that serves and one that tries", || processes() == 2);
    let mut status = String::new();
    wait_for("a process that waits to be started again", || {
        status = env.rex_host(&["status"]).ok();
        status.contains("  restarting in ")
    });
    assert!(status.contains("the last process of queue crash cannot start: "), "{status}");
    wait_for("what nobody uses to be removed", || !unused.exists());

    let old = Process::find(i32::try_from(old.as_i64().expect("a pid")).expect("it fits"));
    old.expect("it serves until its successor does").kill();
    host.wait_output_times("Starting; queue=crash", 2);
    let task = json!({"how": "ok", "n": 1, "record": env.path("record")}).to_string();
    Store::Embedded.submit(&env, "crash", &[&task]);
    wait_for("the task", || recorded(&env.path("record")).get(&1) == Some(&(1, 1)));
    stop(&env, host);
}

#[test]
fn a_reload_forgets_no_task_starts() {
    let env = crashing::env();
    let workers = |crash: &Value| {
        let queues = json!({"other": "crash_worker", "crash": crash});
        env.write(
            "work/app/settings.yaml",
            &format!("asynctask_workers: {queues}\nlogging_root: {{level: DEBUG}}\n"),
        );
    };
    let limit = |period: u32, timeout: u32| {
        json!({
            "worker": "crash_worker", "rate_max_calls": 1, "rate_period": period, "timeout": timeout,
        })
    };
    workers(&limit(3600, 60));
    let plugins = env.path("plugins").display().to_string();
    let args = ["run", "./app/", "--require", "rex.asynctask", "--plugins", &plugins];
    let host = env.start(&args);
    let record = env.path("record");
    let task = |n: i64| json!({"how": "ok", "n": n, "record": record}).to_string();
    Store::Embedded.submit(&env, "crash", &[&task(1), &task(2)]);
    let limited = |process: usize| {
        wait_for("the queue's next process to be limited", || {
            let output = host.output();
            let mut lives = output.split("Starting; queue=crash").skip(process);
            lives.next().is_some_and(|life| life.contains("Rate limited on queue crash"))
        });
    };
    limited(1);
    let reload = |crash: &Value| {
        workers(crash);
        env.rex_host(&["reload"]).ok();
    };
    reload(&limit(3600, 61));
    limited(2);
    // Under another limit.
    reload(&limit(7200, 61));
    limited(3);
    // And of a queue that was away meanwhile.
    let status = env.rex_host(&["status", "--json"]).json_lines().remove(0);
    let queues = status["queues"].as_array().expect("a list");
    let queue = queues.iter().find(|queue| queue["queue"] == "crash").expect("it is worked");
    let last = queue["processes"][0]["pid"].clone();
    reload(&Value::Null);
    wait_for("its process's end", || {
        descendants(host.pid()).iter().all(|process| last != process.pid || !process.is_alive())
    });
    env.rex_host(&["status"]).ok();
    reload(&limit(3600, 60));
    limited(4);
    let output = host.output();
    assert_eq!(output.matches("Starting; queue=crash").count(), 4, "{output}");
    assert_eq!(recorded(&record).get(&2), None, "{output}");
    stop(&env, host);
}

#[test]
fn a_new_queue_that_cannot_start_is_told_each_time() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let host = start(&env, &[]);
    plugins::chameleon()
        .workers("mute", &["mute_worker"])
        .act("refuse to start")
        .install(&env.path("plugins/mute.so"));
    settings(&env, &[FOO, "mute: mute_worker"]);
    for _ in 0..2 {
        let refused = env.rex_host(&["reload"]).fails(1);
        assert!(refused.starts_with("error: queue mute: mute_worker of mute.so "), "{refused}");
    }
    settings(&env, &[FOO]);
    let left = env.rex_host(&["reload"]).ok();
    assert_eq!(left, "queue mute: is left\n");
    stop(&env, host);
}

#[test]
fn processes_that_never_served_did_not_come() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let host = start(&env, &[]);
    plugins::chameleon()
        .workers("slow", &["slow_worker"])
        .act(&format!("start after {}", env.path("go").display()))
        .install(&env.path("plugins/slow.so"));
    let launched = "Launching slow_worker to work on queue slow";
    let never = "error: queue slow: it was to end before it served\n";
    let fails = |asked: JoinHandle<Done>| {
        let said = asked.join().expect("it ended").fails(1);
        assert!(said.starts_with(never), "{said}");
    };
    let reload = |times: usize| {
        settings(&env, &[FOO, "slow: slow_worker"]);
        let command = env.command("rex-host", &["reload"]);
        let asked = std::thread::spawn(move || rex_test_support::process::run(command, ""));
        host.wait_output_times(launched, times);
        asked
    };
    let superseded = reload(1);
    settings(&env, &[FOO]);
    assert_eq!(env.rex_host(&["reload"]).ok(), "queue slow: is left\n");
    fails(superseded);

    let stopped = reload(2);
    env.rex_host(&["stop"]).ok();
    fails(stopped);
    host.wait_ok();
}

#[test]
fn what_keeps_a_worker_from_starting_is_told_in_short() {
    let env = Env::new();
    settings(&env, &[FOO]);
    let host = start(&env, &[]);
    plugins::chameleon()
        .workers("wordy", &["wordy_worker"])
        .act("refuse at length")
        .install(&env.path("plugins/wordy.so"));
    settings(&env, &[FOO, "wordy: wordy_worker"]);
    let refused = env.rex_host(&["reload"]).fails(1);
    assert!(refused.contains("cannot start: Exception: zzz"), "{refused}");
    let status = env.rex_host(&["status"]).ok();
    for said in [refused, status] {
        assert!(said.len() < 10_000, "{} bytes", said.len());
    }
    settings(&env, &[FOO]);
    env.rex_host(&["reload"]).ok();
    stop(&env, host);
}

#[test]
fn another_project_in_the_configuration_file_reaches_the_processes() {
    let env = Env::new();
    settings(&env, &[FOO]);
    env.write("work/other/settings.yaml", &format!("asynctask_workers:\n  {FOO}\n"));
    let plugins = env.plugins(&["demo_foo"]).display().to_string();
    env.write("work/rex.yaml", "project: ./app/\n");
    let host = env.start(&["run", "--require", "rex.asynctask", "--plugins", &plugins]);
    host.wait_output("INFO:FooWorker:Starting; queue=foo");
    // Of the one before nothing can be read once it has ended.
    let project = || {
        let environment =
            std::fs::read(format!("/proc/{}/environ", worker_pid(&env, "foo"))).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let found = variables.find_map(|variable| variable.strip_prefix(b"REX_PROJECT="))?;
        Some(String::from_utf8_lossy(found).into_owned())
    };
    wait_for("its project", || project().as_deref() == Some("./app/"));
    env.write("work/rex.yaml", "project: ./other/\n");
    assert_eq!(env.rex_host(&["reload"]).ok(), "queue foo: new settings\n");
    wait_for("the other project", || project().as_deref() == Some("./other/"));
    stop(&env, host);
}
