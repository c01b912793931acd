//! Every command's answer: help texts as snapshots, tables, and `--json` with one object a line.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rex_test_support::env::{Env, dist, repository};
use rex_test_support::pg::Database;
use rex_test_support::{plugins, process};
use serde_json::{Value, json};

use crate::crashing;
use crate::store::Store;

/// Compares with `snapshots/NAME.txt`; with `UPDATE_EXPECT=1` in the environment writes it instead.
#[track_caller]
fn snapshot(name: &str, text: &str) {
    let path = repository().join("tests/it/snapshots").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, text).expect("the repository can be written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == text,
        "{} differs; UPDATE_EXPECT=1 accepts\n--- expected\n{expected}--- got\n{text}---",
        path.display()
    );
}

#[test]
fn help_of_rex_host() {
    let mut all = String::new();
    let env = Env::new();
    collect_help(&env, &[], &mut all);
    // Plugins' commands are not listed there.
    for name in MARTS {
        collect_help(&env, &[name], &mut all);
    }
    snapshot("rex-host-help", &all);
}

/// Commands of the plugin `mart`.
const MARTS: [&str; 5] = ["mart-create", "mart-list", "mart-pin", "mart-purge", "mart-shell"];

/// The help of a command and, in the order in which it lists them, of its own commands.
fn collect_help(env: &Env, command: &[&str], all: &mut String) {
    let args = [command, &["--help"]].concat();
    let help = env.rex_host(&args).ok();
    *all += &format!("$ rex-host {}\n{help}\n", args.join(" "));
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in listed.take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().expect("a command has a name");
        // Further lines of a description are indented deeper.
        if name != "help" && line.starts_with("  ") && !line.starts_with("   ") {
            collect_help(env, &[command, &[name]].concat(), all);
        }
    }
}

#[test]
fn help_of_rex() {
    let env = Env::new();
    let mut all = String::new();
    let ours = [&[] as &[&str], &["help"], &["help", "asynctask-workers"], &["help", "quiet"]];
    let marts = MARTS.map(|name| ["help", name]);
    for args in ours.into_iter().chain(marts.iter().map(|args| &args[..])) {
        all += &format!("$ rex {}\n{}\n", args.join(" "), env.rex(args).ok());
    }
    snapshot("rex-help", &all);
}

#[test]
fn submit_one() {
    let env = Env::new();
    let done = env.rex_host(&["submit", "foo", r#"{"b": [1, 2.5, null, true, "é"], "a": 1}"#]).ok();
    assert!(done.contains("foo"), "{done}");
    let tasks = env.rex_host(&["queue", "peek", "foo", "--json"]).json_lines();
    assert_eq!(tasks.len(), 1);
    // Stored as the original stores it: keys sorted, the rest as it came.
    assert_eq!(tasks[0]["payload"].to_string(), r#"{"a":1,"b":[1,2.5,null,true,"é"]}"#);
    assert_eq!(tasks[0]["attempt"], 1);
    let submitted = env.rex_host(&["submit", "foo", "{}", "--json"]).json_lines();
    assert_eq!(submitted[0]["queue"], "foo");
    assert!(submitted[0]["id"].as_i64() > tasks[0]["id"].as_i64(), "{submitted:?}");
}

#[test]
fn submit_from_standard_input() {
    let env = Env::new();
    let input = concat!(
        "{\"queue\": \"foo\", \"payload\": {\"n\": 1}}\n",
        "\n",
        "{\"queue\": \"bar\", \"payload\": {\"n\": 2}}\n",
        "{\"queue\": \"foo\"}\n",
    );
    let ids = env.rex_host_with(&["submit", "--stdin", "--json"], input).json_lines();
    assert_eq!(ids.len(), 3);
    env.rex_host_with(&["submit", "foo", "-"], "{\"n\": 3}\n{\"n\": 4}").ok();
    let payloads = |queue: &str| -> Vec<Value> {
        let tasks = env.rex_host(&["queue", "peek", queue, "--json"]).json_lines();
        tasks.iter().map(|task| task["payload"].clone()).collect()
    };
    assert_eq!(payloads("foo"), [json!({"n": 1}), json!({}), json!({"n": 3}), json!({"n": 4})]);
    assert_eq!(payloads("bar"), [json!({"n": 2})]);
}

#[test]
fn submit_many() {
    let env = Env::new();
    let input: String = (0..5000).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    env.rex_host_with(&["submit", "foo", "-"], &input).ok();
    let tasks = env.rex_host(&["queue", "peek", "foo", "--json"]).json_lines();
    let numbers: Vec<i64> = tasks.iter().filter_map(|task| task["payload"]["n"].as_i64()).collect();
    assert!(numbers.into_iter().eq(0..5000), "all, in order, without a limit");
    let some = env.rex_host(&["queue", "peek", "foo", "--json", "--limit", "7"]).json_lines();
    assert_eq!(some.len(), 7);
}

#[test]
fn heavy_tasks_are_submitted_a_few_at_a_time() {
    let (env, database) = (Env::new(), Database::new());
    let set = format!("asynctask_transport={}", database.uri());
    let line = format!("{{\"pad\": \"{}\"}}\n", "x".repeat(1 << 20));
    // A file never runs dry, as a pipe may.
    let lines = File::open(env.write("lines", &line.repeat(40))).expect("it was just written");
    let mut command = env.command("rex-host", &["submit", "foo", "-", "--set", &set]);
    assert!(command.stdin(lines).status().expect("it starts").success());
    let counts = "SELECT count(*), count(DISTINCT xmin::text) FROM asynctask.asynctask_queue";
    let counts = database.connect().query_one(counts, &[]).expect("it can be asked");
    assert_eq!((counts.get::<_, i64>(0), counts.get::<_, i64>(1)), (40, 3), "tasks, transactions");
}

#[test]
fn what_is_piped_slowly_is_submitted_as_it_comes() {
    let env = Env::new();
    env.rex_host(&["submit", "foo", "{}"]).ok();
    let mut command = env.command("rex-host", &["submit", "foo", "-"]);
    let mut submit = command.stdin(Stdio::piped()).spawn().expect("it starts");
    let mut input = submit.stdin.take().expect("it was asked for");
    // Writers that buffer end in the midst of a line, which may be longer than what is read at once.
    let long = format!("{{\"n\": 3}}\n{{\"pad\": \"{}", "x".repeat(30_000));
    for (text, count) in
        [("{\"n\": 1}\n{\"n\"", 2), (": 2}\n", 3), (&long, 4), ("\"}\n{\"n\": 5}\n", 6)]
    {
        input.write_all(text.as_bytes()).expect("it reads");
        process::wait_for("the task", || {
            let queues = env.rex_host(&["queue", "list", "--json"]).json_lines();
            queues.first().is_some_and(|queue| queue["waiting"] == count)
        });
    }
    drop(input);
    assert!(submit.wait().expect("it ends").success());
}

#[test]
fn queues() {
    for store in [Store::Embedded, Store::pgsql()] {
        let env = Env::new();
        let more = store.args();
        let run = |args: &[&str]| {
            let args = args.iter().copied().chain(more.iter().map(String::as_str));
            env.rex_host(&args.collect::<Vec<_>>())
        };
        if let Store::Pgsql(_) = store {
            assert_eq!(run(&["queue", "list", "--json"]).ok(), "");
        }
        store.submit(&env, "foo", &["{}", "{}"]);
        store.submit(&env, "bar", &["{}"]);
        let queues = run(&["queue", "list", "--json"]).json_lines();
        let counts: Vec<(&str, &Value, &Value, &Value)> = queues
            .iter()
            .map(|q| (q["queue"].as_str().unwrap(), &q["waiting"], &q["in_flight"], &q["dead"]))
            .collect();
        let (zero, one, two) = (&json!(0), &json!(1), &json!(2));
        assert_eq!(counts, [("bar", one, zero, zero), ("foo", two, zero, zero)]);
        assert!(queues[0]["oldest"].as_str().is_some_and(|time| time.ends_with('Z')), "{queues:?}");

        let table = run(&["queue", "list"]).ok();
        assert!(table.starts_with("QUEUE"), "{table}");
        assert_eq!(table.lines().count(), 3, "{table}");

        let text = run(&["queue", "purge", "foo"]).fails(1);
        assert!(text.contains("2 tasks") && text.contains("--yes"), "{text}");
        run(&["queue", "purge", "foo", "--yes"]).ok();
        let queues = run(&["queue", "list", "--json"]).json_lines();
        assert_eq!(queues.len(), 1, "{queues:?}");
        assert_eq!(queues[0]["queue"], "bar");
    }
}

/// Who looks in the wrong directory is told so, and leaves nothing behind.
#[test]
fn looking_makes_nothing() {
    let env = Env::new();
    let looks: [&[&str]; 5] = [
        &["queue", "list"],
        &["queue", "list", "--json"],
        &["queue", "peek", "foo"],
        &["queue", "purge", "foo", "--yes"],
        &["dlq", "list"],
    ];
    for look in looks {
        let text = env.rex_host(look).fails(1);
        assert!(text.starts_with("error: there is no queue in the state directory `"), "{text}");
        assert!(text.contains("hint: ") && text.contains("--state"), "{text}");
        let file = format!("asynctask_transport=sqlite:{}", env.path("q.db").display());
        let text = env.rex_host(&[look, &["--set", &file]].concat()).fails(1);
        assert!(text.contains("it does not exist"), "{text}");
    }
    for command in ["status", "reload", "stop"] {
        let text = env.rex_host(&[command]).fails(1);
        assert!(text.contains("no host `rex` is running on"), "{text}");
    }
    env.rex_host(&["plugin", "list"]).ok();
    let made = |folder| std::fs::read_dir(folder).expect("ours").count();
    assert_eq!((made(env.work()), env.path("q.db").exists()), (0, false));
}

#[test]
fn dead_letters() {
    for store in [Store::Embedded, Store::pgsql()] {
        let env = crashing::env();
        let tasks = [r#"{"how": "panic"}"#, r#"{"how": "exit3"}"#, r#"{"how": "error"}"#];
        store.submit(&env, "crash", &tasks);
        store.submit(&env, "other", &[r#"{"how": "error"}"#]);
        let more = store.args();
        let args = ["--halt-when-empty"].into_iter().chain(more.iter().map(String::as_str));
        let queues = json!({"crash": {}, "other": {}});
        crashing::start(&env, &queues, &args.collect::<Vec<_>>()).wait_ok();
        let run = |args: &[&str]| {
            let args = args.iter().copied().chain(more.iter().map(String::as_str));
            env.rex_host(&args.collect::<Vec<_>>())
        };
        let letters = run(&["dlq", "list", "--queue", "crash", "--json"]).json_lines();
        assert_eq!(letters.len(), 3);
        let details: Vec<&Value> = letters.iter().map(|letter| &letter["details"]).collect();
        assert_eq!(details[0]["kind"], "panic");
        let place = details[0]["place"].as_str().expect("a place");
        assert!(place.contains("crash/src/lib.rs:"), "{place}");
        assert!(
            details[0]["traceback"].as_str().is_some_and(|t| t.contains("panicked on purpose"))
        );
        assert_eq!(details[1]["exit_code"], 3);
        for detail in &details {
            assert!(detail["peak_rss"].as_u64() > Some(0), "{detail}");
            assert!(detail["cpu_ms"].is_u64(), "{detail}");
        }
        for detail in details {
            let hash = detail["plugin_hash"].as_str().expect("a hash");
            assert_eq!(hash.len(), 64, "{hash}");
        }
        assert_eq!(run(&["dlq", "list", "--json"]).json_lines().len(), 4);
        assert_eq!(run(&["dlq", "list", "--json", "--limit", "2"]).json_lines().len(), 2);
        let table = run(&["dlq", "list"]).ok();
        assert!(table.contains("exited with code 3"), "{table}");
    }
}

/// However it panics, the traceback shows the plugin's own lines.
#[test]
fn tracebacks_of_panics() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "crash", &[r#"{"how": "panic"}"#, r#"{"how": "panic_any"}"#]);
    crashing::start(&env, &json!({"crash": {}}), &["--halt-when-empty"]).wait_ok();
    let letters = env.rex_host(&["dlq", "list", "--json"]).json_lines();
    assert_eq!(letters.len(), 2);
    for letter in letters {
        let traceback = letter["details"]["traceback"].as_str().expect("a text");
        assert!(traceback.contains("CrashWorker"), "{traceback}");
        assert!(!traceback.contains("std::panic"), "{traceback}");
    }
}

/// The command line before the environment, the environment before the file.
#[test]
fn one_project_wins() {
    let env = Env::new();
    for worker in ["foo", "bar", "baz"] {
        let schedule = format!(
            "asynctask_scheduled_workers:\n- {{worker: demo_{worker}_worker, minute: 0}}\n"
        );
        env.write(&format!("work/{worker}.yaml"), &schedule);
    }
    let scheduled = |args: &[&str]| -> Vec<String> {
        let args = [&["cron", "list", "--json"], args].concat();
        let lines = env.rex_host(&args).json_lines();
        lines.iter().map(|line| line["schedule"].as_str().expect("a name").to_owned()).collect()
    };
    env.write("work/rex.yaml", "project: ./foo.yaml\n");
    assert_eq!(scheduled(&[]), ["demo_foo_worker"]);
    env.set("REX_PROJECT", "./bar.yaml");
    assert_eq!(scheduled(&[]), ["demo_bar_worker"]);
    assert_eq!(scheduled(&["--project", "./baz.yaml"]), ["demo_baz_worker"]);
}

#[test]
fn plugins_that_are_there() {
    let env = Env::new();
    let found = env.rex_host(&["plugin", "list", "--json"]).json_lines();
    let mut workers: Vec<&str> = found
        .iter()
        .flat_map(|plugin| plugin["workers"].as_array().expect("a list"))
        .filter_map(|worker| worker["name"].as_str().or(worker.as_str()))
        .collect();
    workers.sort_unstable();
    let expected = [
        "ctl_executor",
        "demo_bar_worker",
        "demo_baz_worker",
        "demo_error_worker",
        "demo_foo_worker",
        "demo_fragile_worker",
        "demo_logging_worker",
        "demo_quiet_worker",
        "requeue_worker",
        "rexmart_create",
    ];
    assert_eq!(workers, expected, "{found:?}");
    let table = env.rex_host(&["plugin", "list"]).ok();
    assert!(table.contains("demo_foo.so") && table.contains("requeue_worker"), "{table}");
}

#[test]
fn plugin_check() {
    let env = Env::new();
    let good = dist().join("plugins/demo_foo.so").display().to_string();
    let bad = env.write("bad.so", "no library").display().to_string();
    env.rex_host(&["plugin", "check", &good]).ok();
    let done = env.rex_host(&["plugin", "check", &good, &bad]);
    assert_eq!(done.status.code(), Some(1), "{done}");
    let text = format!("{}{}", done.stdout, done.stderr);
    assert!(text.contains("bad.so") && !text.contains("panicked"), "{text}");
    let fixture = plugins::built("crash").display().to_string();
    env.rex_host(&["plugin", "check", &fixture, "--json"]).json_lines();
}

#[test]
fn plugin_new_leaves_what_is_there() {
    let env = Env::new();
    env.rex_host(&["plugin", "new", "mine"]).ok();
    for file in ["Cargo.toml", "src/lib.rs"] {
        assert!(env.work().join("mine").join(file).is_file(), "{file}");
    }
    let text = env.rex_host(&["plugin", "new", "mine"]).fails(1);
    assert!(text.contains("mine"), "{text}");
    for name in ["", "9lives", "../up", "with space", "fn"] {
        env.rex_host(&["plugin", "new", name]).fails(1);
    }
}

#[test]
fn status_and_stop() {
    let env = crashing::env();
    let host = crashing::start(&env, &json!({"crash": {"processes": 2}}), &[]);
    host.wait_output_times("Starting; queue=crash", 2);
    let status = env.rex_host(&["status", "--json"]).json_lines();
    assert_eq!(status.len(), 1);
    assert_eq!(status[0]["pid"], host.pid());
    assert_eq!(status[0]["phase"], "working");
    assert_eq!(status[0]["queues"][0]["processes"].as_array().map(Vec::len), Some(2));
    let text = env.rex_host(&["status"]).ok();
    assert!(text.contains("crash_worker") && text.contains(&host.pid().to_string()), "{text}");
    env.rex_host(&["stop"]).ok();
    let output = host.wait_ok();
    assert!(output.ends_with("INFO:AsyncTaskWorkerTask:Complete\n"), "{output}");
    env.rex_host(&["status"]).fails(1);
}

#[test]
fn log_lines_as_json() {
    let env = Env::new();
    Store::Embedded.submit(&env, "foo", &[r#"{"foo": 1}"#]);
    let args = ["run", "rex.asynctask_demo", "--halt-when-empty", "--log-format", "json"];
    let lines = env.rex_host(&args).json_lines();
    let find = |message: &str| lines.iter().find(|line| line["message"] == message);
    let got = find("Got payload: {'foo': 1}").expect("it is logged");
    assert_eq!((&got["level"], &got["logger"]), (&json!("DEBUG"), &json!("FooWorker")));
    assert!(find("FOO processed: {'foo': 1}").is_some(), "prints too: {lines:?}");
}

#[test]
fn levels_by_logger() {
    let env = Env::new();
    Store::Embedded.submit(&env, "foo", &[r#"{"foo": 1}"#]);
    let set = r#"logging_loggers={"FooWorker": {"level": "WARNING"}}"#;
    let args = ["run", "rex.asynctask_demo", "--halt-when-empty", "--set", set];
    let output = env.rex_host(&args).ok();
    assert!(!output.contains(":FooWorker:"), "{output}");
    assert!(output.contains("INFO:AsyncTaskWorkerTask:Complete"), "{output}");
    assert!(output.contains("FOO processed: {'foo': 1}"), "{output}");
}

#[test]
fn quiet_keeps_errors_and_prints() {
    let env = Env::new();
    Store::Embedded.submit(&env, "foo", &[r#"{"error": true}"#, r#"{"error": false}"#]);
    let set = r#"asynctask_workers={"foo": "demo_error_worker"}"#;
    let args = ["run", "rex.asynctask_demo", "--halt-when-empty", "--quiet", "--set", set];
    let output = env.rex_host(&args).ok();
    let lines: Vec<&str> = output.lines().collect();
    let head = "ERROR:ErrorWorker:An unhandled exception occurred while processing the payload";
    assert_eq!(lines.first(), Some(&head), "{output}");
    assert_eq!(lines.last(), Some(&"ERROR processed: {'error': False}"), "{output}");
    assert!(lines.contains(&"Exception: Oops!"), "{output}");
    assert!(!output.contains("INFO:") && !output.contains("DEBUG:"), "{output}");
}

/// The tree may be moved, and its files have sane modes whatever the umask was.
#[test]
fn the_tree_is_relocatable() {
    let env = Env::new();
    let moved = env.path("moved");
    let copied = Command::new("cp").arg("-a").arg(dist()).arg(&moved).status();
    assert!(copied.expect("cp runs").success());
    Store::Embedded.submit(&env, "foo", &["{}"]);
    let mut elsewhere = Command::new(moved.join("bin/rex-host"));
    elsewhere.args(["run", "rex.asynctask_demo", "--halt-when-empty"]);
    elsewhere.current_dir(env.work()).env_clear();
    let output = process::run(elsewhere, "").ok();
    assert!(output.contains("FOO processed: {}"), "{output}");

    let mut folders = vec![dist().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("it is there") {
            let path = entry.expect("it is there").path();
            let meta = path.symlink_metadata().expect("it is there");
            let mode = meta.permissions().mode() & 0o7777;
            let in_bin = folder.ends_with("bin") || folder.ends_with("plugins");
            let expected = if meta.is_dir() || in_bin { 0o755 } else { 0o644 };
            assert!(meta.is_symlink() || mode == expected, "{}: {mode:o}", path.display());
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(dist().join("bin/rex").exists());
}

/// That nobody reads the answers any more is no reason to leave tasks out.
#[test]
fn submit_goes_on_without_a_reader() {
    let env = Env::new();
    let tasks = "{}\n".repeat(5000);
    let script = "rex-host submit foo - --json | head -n 1; exit ${PIPESTATUS[0]}";
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(env.work());
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", dist().join("bin").display()));
    process::run(command, &tasks).ok();
    let queues = env.rex_host(&["queue", "list", "--json"]).json_lines();
    assert_eq!(queues[0]["waiting"], 5000);
}

#[test]
fn a_state_directory_of_somebody_else_is_not_taken_for_an_empty_one() {
    let env = Env::new();
    Store::Embedded.submit(&env, "foo", &["{}"]);
    // A place that not even root may look into.
    let state = env.write("work/plain", "");
    let state = state.join("state").display().to_string();
    let text = env.rex_host(&["queue", "list", "--state", &state]).fails(1);
    assert!(text.contains("cannot look into the state directory"), "{text}");
}
