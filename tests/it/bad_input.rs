//! What bad input gets: one clear error, the right exit code, and nothing taken from any queue.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use rex_test_support::env::{Env, dist, not_run, set_mode};
use rex_test_support::pg::Database;
use rex_test_support::process::{self, wait_for};
use rex_test_support::proxy::Proxy;
use serde_json::{Value, json};

use crate::crashing::{self, recorded, wait_started};
use crate::store::Store;

const PASSWORD: &str = "open-sesame";

/// Runs a host that must refuse to start, in both spellings; what the native one said.
#[track_caller]
fn refused(env: &Env, args: &[&str], code: i32, parts: &[&str]) -> String {
    Store::Embedded.submit(env, "foo", &["{}"]);
    let native = env.rex_host(&[&["run"], args].concat()).fails(code);
    assert!(native.starts_with("error: "), "{native}");
    assert_eq!(native.matches("error: ").count(), 1, "one error: {native}");
    let original = env.rex(&[&["asynctask-workers"], args].concat()).fails(1);
    assert!(original.starts_with("FATAL ERROR: "), "{original}");
    for text in [&native, &original] {
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in:\n{text}");
        }
        assert!(!text.contains(PASSWORD), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    let waiting = env.rex_host(&["queue", "peek", "foo", "--json"]).json_lines();
    assert!(!waiting.is_empty(), "the task was consumed");
    native
}

#[test]
fn unknown_worker() {
    let set = r#"asynctask_workers={"foo": "no_such_worker"}"#;
    let parts = [
        "Failed to match the value against any of the following:",
        // As the original lists them: in the order of their definition, the base's first.
        "Expected one of:\n        ctl_executor, demo_foo_worker, demo_bar_worker, demo_baz_worker,",
        "no_such_worker",
        "While validating mapping value for key:\n    'foo'",
        "While validating setting:\n    asynctask_workers",
        "While initializing RexDB application:\n    rex.asynctask_demo",
    ];
    refused(&Env::new(), &["rex.asynctask_demo", "--set", set], 78, &parts);
}

#[test]
fn unknown_setting() {
    let parts = ["Got unknown setting:\n    no_such_setting"];
    refused(&Env::new(), &["rex.asynctask_demo", "--set", "no_such_setting=1"], 78, &parts);
}

#[test]
fn unknown_project() {
    refused(&Env::new(), &["no_such_project"], 78, &["no_such_project"]);
}

#[test]
fn wrong_type() {
    let set = "asynctask_workers_poll_interval=0";
    let text = "Expected an integer in range:\n    [1..]\nGot:\n    '0'\n\
                While validating setting:\n    asynctask_workers_poll_interval\n\
                While initializing RexDB application:\n    rex.asynctask_demo\n\
                With parameters:\n    asynctask_workers_poll_interval: '0'\n";
    refused(&Env::new(), &["rex.asynctask_demo", "--set", set], 78, &[text]);
}

#[test]
fn malformed_yaml() {
    let env = Env::new();
    env.write("work/broken/settings.yaml", "asynctask_workers: {foo: [\n");
    let parts = ["Failed to parse a YAML document:", "settings.yaml"];
    refused(&env, &["./broken/"], 78, &parts);
}

#[test]
fn bad_queue_name_in_settings() {
    let set = r#"asynctask_workers={"BAD": "demo_foo_worker"}"#;
    let parts = ["\"BAD\" is not a properly-formatted queue name"];
    refused(&Env::new(), &["rex.asynctask_demo", "--set", set], 78, &parts);
}

#[test]
fn unknown_transport() {
    let set = format!("asynctask_transport=mysql://joe:{PASSWORD}@db/x");
    let parts = ["does not resolve to a known AsyncTransport"];
    refused(&Env::new(), &["rex.asynctask_demo", "--set", &set], 78, &parts);
}

#[test]
fn unreachable_database() {
    // Nothing listens on the port of a listener that is gone.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let env = Env::new();
    let set = format!("asynctask_transport=pgsql://joe:{PASSWORD}@{address}/x");
    let parts = ["Failed to connect to the Postgres server:"];
    refused(&env, &["rex.asynctask_demo", "--set", &set], 1, &parts);
    for command in [&["submit", "foo", "{}"] as &[&str], &["queue", "list"], &["dlq", "list"]] {
        let text = env.rex_host(&[command, &["--set", &set]].concat()).fails(1);
        assert!(text.contains(parts[0]), "{text}");
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn missing_database() {
    let database = Database::new();
    let set = format!("asynctask_transport={}_gone", database.uri());
    let gone = format!("database \"{}_gone\" does not exist", database.name());
    let parts = ["Failed to connect to the Postgres server:", &gone];
    refused(&Env::new(), &["rex.asynctask_demo", "--set", &set], 1, &parts);
}

#[test]
fn bad_queue_name() {
    let env = Env::new();
    for name in ["BAD", "a", "a_", "_a", "1a", "a__b", "a-b", "a.b", "foo\n", ""] {
        let expected = format!("\"{name}\" is not a properly-formatted queue name");
        let text = env.rex_host(&["submit", name, "{}"]).fails(1);
        assert!(text.contains(&expected), "{text}");
        let text = env.rex_host(&["queue", "peek", name]).fails(1);
        assert!(text.contains(&expected), "{text}");
    }
    assert!(!env.work().join(".rex-host").exists(), "nothing was made for it");
}

#[test]
fn bad_payload() {
    let env = Env::new();
    let cases = [
        ("[1]", "Expected a mapping\nGot:\n    [1]"),
        ("x", "Expected a JSON object\nGot:\n    'x'"),
        ("{\"a\":", "Expected a JSON object\nGot:\n    '{\"a\":'"),
        ("{\"a\": NaN}", "Expected a JSON object\nGot:\n    '{\"a\": NaN}'"),
    ];
    for (payload, expected) in cases {
        let text = env.rex_host(&["submit", "foo", payload]).fails(1);
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(env.rex_host(&["queue", "list", "--json"]).ok(), "");
}

#[test]
fn bad_line_on_standard_input() {
    let env = Env::new();
    let input = "{\"queue\": \"foo\", \"payload\": {\"n\": 1}}\nnonsense\n{\"queue\": \"foo\"}\n";
    let text = env.rex_host_with(&["submit", "--stdin"], input).fails(1);
    assert!(text.contains("line 2"), "{text}");
    assert!(text.contains("1 task "), "says what was done: {text}");
    assert_eq!(env.rex_host(&["queue", "peek", "foo", "--json"]).json_lines().len(), 1);
}

#[test]
fn payload_over_the_limit() {
    let env = Env::new();
    let payload = json!({"x": "y".repeat(200)}).to_string();
    let set = ["--set", "asynctask_payload_limit=100"];
    let text = env.rex_host(&[&["submit", "foo", &payload] as &[&str], &set].concat()).fails(1);
    assert!(text.contains("too large") && text.contains("100"), "{text}");
    env.rex_host(&["submit", "foo", &payload]).ok();

    // 16 MB, the default, through standard input.
    let big = json!({"x": "y".repeat(16 << 20)}).to_string();
    let text = env.rex_host_with(&["submit", "foo", "-"], &big).fails(1);
    assert!(text.contains("too large") && text.contains("16777216"), "{text}");
    assert_eq!(env.rex_host(&["queue", "peek", "foo", "--json"]).json_lines().len(), 1);
}

#[test]
fn unwritable_state_directory() {
    let env = Env::new();
    let file = env.write("a_file", "");
    let state = file.join("state").display().to_string();
    for command in [&["submit", "foo", "{}"] as &[&str], &["run", "rex.asynctask_demo"]] {
        let text = env.rex_host(&[command, &["--state", &state]].concat()).fails(1);
        assert!(text.contains(&state) && text.contains("--state"), "{text}");
        assert_eq!(text.matches("error: ").count(), 1, "{text}");
    }
}

/// Whoever made the directory, payloads are for the host's user only.
#[test]
fn the_embedded_queue_is_private() {
    let env = Env::new();
    let state = env.path("work/open");
    std::fs::create_dir(&state).expect("ours");
    set_mode(&state, 0o755);
    let state = state.display().to_string();
    env.rex_host(&["submit", "foo", "{}", "--state", &state]).ok();
    let files = std::fs::read_dir(&state).expect("ours").flatten();
    for file in files.filter(|file| file.path().is_file()) {
        let mode = file.metadata().expect("ours").mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", file.path().display());
    }
}

/// Plugins are loaded from copies there: who can change it chooses the host's code.
#[test]
fn state_directory_that_others_can_write() {
    let env = Env::new();
    let state = env.path("work/open");
    std::fs::create_dir(&state).expect("ours");
    set_mode(&state, 0o777);
    let state = state.display().to_string();
    let text = env.rex_host(&["run", "rex.asynctask_demo", "--state", &state]).fails(78);
    assert!(text.contains("the state directory") && text.contains("cannot be trusted"), "{text}");
    assert!(text.contains(&format!("chmod go-w {state}")), "{text}");
}

#[test]
fn missing_plugin_directory() {
    let env = Env::new();
    let missing = env.path("nowhere").display().to_string();
    refused(&env, &["rex.asynctask_demo", "--plugins", &missing], 78, &[&missing]);
}

#[test]
fn nothing_is_running() {
    let env = Env::new();
    for command in ["status", "reload", "stop"] {
        let text = env.rex_host(&[command]).fails(1);
        assert!(text.contains("no host `rex` is running"), "{text}");
    }
}

#[test]
fn usage() {
    let env = Env::new();
    for args in [&["no-such-command"] as &[&str], &["run", "--no-such-option"], &["queue"]] {
        env.rex_host(args).fails(2);
    }
    let text = env.rex_host(&["sttus"]).fails(2);
    assert!(
        text.contains("unrecognized subcommand 'sttus'") && text.contains("'status'"),
        "{text}"
    );
    let text = env.rex(&["no-such-task"]).fails(1);
    assert_eq!(text, "FATAL ERROR: unknown task no-such-task\n\n");
    let text = env.rex(&["asynctask-workers"]).fails(1);
    assert_eq!(text, "FATAL ERROR: application is not specified\n\n");
}

/// Runs a script of bash with `$BIN` and, as `$SMALL`, a file system of one megabyte, in a mount
/// namespace of its own; `None` where the machine grants none.
fn on_a_small_disk(env: &Env, script: &str) -> Option<process::Done> {
    let script = format!(
        "mkdir \"$SMALL\"
        mount -t tmpfs -o size=1m small \"$SMALL\" 2>/dev/null || exit 77
        {script}"
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "bash", "-c", &script]);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("SMALL", env.path("small")).env("BIN", dist().join("bin"));
    let done = process::run(command, "");
    if done.status.code() == Some(77) || done.stderr.contains("unshare") {
        not_run("full disk", "this machine grants no mount namespace");
        return None;
    }
    Some(done)
}

#[test]
fn full_disk() {
    let script = r#"
        "$BIN/rex-host" submit foo '{"n": 1}' --state "$SMALL/state" >/dev/null || exit 78
        head -c 2000000 /dev/zero > "$SMALL/filler" 2>/dev/null
        big=$(head -c 100000 /dev/zero | tr '\0' x)
        "$BIN/rex-host" submit foo "{\"x\": \"$big\"}" --state "$SMALL/state"
        echo "code $?"
        rm "$SMALL/filler"
        "$BIN/rex-host" submit foo '{"n": 2}' --state "$SMALL/state" >/dev/null || exit 79
        "$BIN/rex-host" queue peek foo --json --state "$SMALL/state"
    "#;
    let Some(done) = on_a_small_disk(&Env::new(), script) else { return };
    let (stdout, stderr) = (&done.stdout, &done.stderr);
    assert_eq!(stderr.matches("error: ").count(), 1, "{done}");
    assert!(stderr.contains("full"), "{done}");
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("code 1"), "{done}");
    let left: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let payloads: Vec<&Value> = left.iter().map(|task| &task["payload"]).collect();
    assert_eq!(payloads, [&json!({"n": 1}), &json!({"n": 2})], "{done}");
}

/// That is no fault of the plugins or the settings, and may pass.
#[test]
fn no_room_for_copies_of_plugins() {
    let env = Env::new();
    let plugins = env.plugins(&["demo_foo"]);
    // Larger than the disk, whatever the plugin was built with.
    let file = OpenOptions::new().append(true).open(plugins.join("demo_foo.so"));
    file.expect("a plugin").write_all(&vec![b'x'; 2_000_000]).expect("room for the plugin");
    let plugins = plugins.display().to_string();
    let script = format!(
        r#""$BIN/rex-host" run rex.asynctask_demo --plugins '{plugins}' --state "$SMALL/state"
        echo "code $?""#
    );
    let Some(done) = on_a_small_disk(&env, &script) else { return };
    assert_eq!(done.stdout, "code 1\n", "{done}");
    let directory = env.path("small/state/rex/plugins").display().to_string();
    let expected = format!(
        "error: the state directory {directory} cannot hold copies of plugins: No space left on \
         device (os error 28)\nhint: free some space on its disk\n"
    );
    assert_eq!(done.stderr, expected, "{done}");
}

#[test]
fn an_output_that_cannot_be_written_is_said_once() {
    let env = Env::new();
    let plugins = env.plugins(&["demo_foo"]).display().to_string();
    env.rex_host_with(&["submit", "foo", "-"], &"{\"foo\": 1}\n".repeat(300)).ok();
    let args = ["run", "rex.asynctask_demo", "--plugins", &plugins, "--halt-when-empty"];
    let host = env.command("rex-host", &args);
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" >/dev/full"]).arg(host.get_program()).args(args);
    command.current_dir(env.work()).env_clear();
    command.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = process::run(command, "");
    assert!(done.status.success(), "{done}");
    let said = "ERROR:rex-host:standard output cannot be written, what is printed is lost: No space \
                left on device (os error 28)\n";
    assert_eq!(done.stderr.matches("cannot be written").count(), 1, "{done}");
    assert!(done.stderr.contains(said), "{done}");
    assert_eq!(env.rex_host(&["queue", "list", "--json"]).ok(), "");
}

#[test]
fn a_bulk_submit_that_fails_says_how_far_it_came() {
    let script = r#"
        pad=$(head -c 300 /dev/zero | tr '\0' x)
        for ((n = 0; n < 4000; n++)); do echo "{\"n\": $n, \"pad\": \"$pad\"}"; done |
            "$BIN/rex-host" submit foo - --state "$SMALL/state" 2>&1
        echo "code ${PIPESTATUS[1]}"
        "$BIN/rex-host" queue list --json --state "$SMALL/state"
    "#;
    let Some(done) = on_a_small_disk(&Env::new(), script) else { return };
    let mut lines = done.stdout.lines().skip_while(|line| !line.contains("the disk is full"));
    let hint = lines.nth(1).expect("there is a hint");
    assert_eq!(lines.next(), Some("code 1"), "{done}");
    let queue: Value = serde_json::from_str(lines.next().unwrap_or_default()).expect("JSON");
    let count = queue["waiting"].as_u64().expect("a count");
    assert!(count > 0, "{done}");
    let so_far = format!(
        "hint: free some space on its disk; {count} tasks, those of the first {count} lines, were \
         submitted before; begin again with line {}",
        count + 1
    );
    assert_eq!(hint, so_far, "{done}");
}

#[test]
fn passwords_of_slips_are_not_shown() {
    let env = Env::new();
    let uri = format!("pgsql://rex:{PASSWORD}@127.0.0.1/x");
    let libpq = format!("asynctask_transport=host=127.0.0.1 password={PASSWORD}");
    // What ought to be %-encoded, and works.
    let raw = format!("asynctask_transport=pgsql://rex:{PASSWORD}# {PASSWORD}@127.0.0.1/x");
    env.write(
        "work/app.yaml",
        "requires: [rex.asynctask]\ndb: {engine: pgsql, password: 12345678}\n",
    );
    let texts = [
        env.rex_host(&["submit", "foo", "{}", "--set", &libpq]).fails(1),
        env.rex_host(&["submit", "foo", "{}", &uri]).fails(2),
        env.rex_host(&["submit", "foo", &uri]).fails(1),
        env.rex_host(&["run", "./app.yaml"]).fails(78),
        env.rex_host(&["run", "--set", &raw, "--set", "asynctask_workers_poll_interval=0"])
            .fails(78),
    ];
    for text in texts {
        assert!(!text.contains(PASSWORD) && !text.contains("12345678"), "{text}");
        assert!(text.contains("***"), "{text}");
    }
}

#[test]
fn passwords_are_never_shown() {
    let env = Env::new();
    let database = Database::new();
    let uri = database.uri().replacen("rex@", &format!("rex:{PASSWORD}@"), 1);
    let set = format!("asynctask_transport={uri}");
    let submitted = env.rex_host(&["submit", "foo", "{}", "--set", &set]).ok();
    let host = env.start(&["run", "rex.asynctask_demo", "--set", &set]);
    host.wait_output("Processing complete");
    let status = env.rex_host(&["status"]).ok() + &env.rex_host(&["status", "--json"]).ok();
    env.rex_host(&["stop"]).ok();
    let output = host.wait_ok();
    for text in [submitted, status, output] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    // What the host left behind on disk is read by others, too.
    let grep = Command::new("grep").args(["-r", PASSWORD]).arg(env.work()).output();
    let found = String::from_utf8(grep.expect("grep runs").stdout).expect("text");
    assert_eq!(found, "");
}

/// A server that hangs, or a proxy before its server is back: it takes connections and says nothing.
#[test]
fn a_database_that_does_not_answer_is_tried_again() {
    let env = crashing::env();
    let store = Store::Pgsql(Database::new());
    let Store::Pgsql(database) = &store else { unreachable!("it was just made") };
    let proxy = Proxy::to(&database.address());
    let uri = database.uri().replacen(&database.address(), proxy.address(), 1);
    let record = env.path("record");
    let set = format!("asynctask_transport={uri}?connect_timeout=1");
    let host = crashing::start(&env, &json!({"crash": {}}), &["--set", &set]);
    host.wait_output("Starting; queue=crash");

    proxy.hush();
    wait_for("the host to try again and again", || proxy.unheard() > 4);
    let shown = env.rex_host(&["status"]).ok();
    assert!(shown.contains(" is waiting for its store on "), "{shown}");
    let listed = env.rex_host(&["queue", "list", "--set", &set]).fails(1);
    assert!(listed.ends_with(" failed: timeout expired\n"), "{listed}");
    assert_eq!(listed.lines().count(), 2, "{listed}");

    proxy.restore();
    store.submit(&env, "crash", &[&json!({"how": "ok", "n": 1, "record": record}).to_string()]);
    wait_for("the task", || recorded(&record).get(&1) == Some(&(1, 1)));
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

/// As is one that does not answer a host which it has let in.
#[test]
fn a_host_whose_database_hangs_waits_for_it() {
    let env = crashing::env();
    let store = Store::Pgsql(Database::new());
    let Store::Pgsql(database) = &store else { unreachable!("it was just made") };
    let set = format!("asynctask_transport={}", database.uri());
    let host = crashing::start(&env, &json!({"crash": {}}), &["--set", &set]);
    host.wait_output("Starting; queue=crash");
    let status = || env.rex_host(&["status", "--json"]).json_lines().remove(0)["phase"].clone();
    wait_for("the host to work", || status() == "working");

    let mut admin = database.connect();
    let pids = "SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let backends: Vec<i32> =
        admin.query(pids, &[]).expect("it may").iter().map(|row| row.get(0)).collect();
    let signal = |name: &str| {
        let pids = backends.iter().map(ToString::to_string);
        let sent = Command::new("kill").arg(name).args(pids).status().expect("kill runs");
        assert!(sent.success());
    };
    signal("-STOP");
    host.wait_output("no tasks are started until it does");
    let (phase, shown) = (status(), env.rex_host(&["status"]).ok());
    signal("-CONT");
    assert_eq!(phase, "store away");
    assert!(shown.contains(" is waiting for its store on "), "{shown}");
    wait_for("the host to work again", || status() == "working");
    host.signal(libc::SIGTERM);
    host.wait_ok();
}

#[test]
fn database_goes_away_and_returns() {
    let env = crashing::env();
    let database = Database::new();
    let store = Store::Pgsql(database);
    let Store::Pgsql(database) = &store else { unreachable!("it was just made") };
    let proxy = Proxy::to(&database.address());
    let uri = database.uri().replacen(&database.address(), proxy.address(), 1);
    let record = env.path("record");
    let held = json!({"how": "until", "file": env.path("go"), "n": 1, "record": record});
    let quick = |n: i64| json!({"how": "ok", "n": n, "record": record}).to_string();
    store.submit(&env, "crash", &[&held.to_string(), &quick(2), &quick(3)]);

    let set = format!("asynctask_transport={uri}");
    let host = crashing::start(&env, &json!({"crash": {}}), &["--set", &set]);
    wait_started(&record, 1);
    let before = host.output();
    let status = || env.rex_host(&["status", "--json"]).json_lines().remove(0);
    let worker = |status: &Value| status["queues"][0]["processes"][0]["pid"].clone();
    let pid = worker(&status());

    proxy.cut();
    env.write("go", "");
    wait_for("the host to say that the store is away", || status()["phase"] == "store away");
    assert_eq!(worker(&status()), pid, "the host keeps its workers");
    let shown = env.rex_host(&["status"]).ok();
    assert!(shown.contains(" is waiting for its store on "), "{shown}");
    // Meanwhile it tries again, and says no more.
    store.submit(&env, "crash", &[&quick(4)]);
    let away = host.output();
    let complaints = |text: &str| {
        text.lines().filter(|l| l.starts_with("WARNING:") || l.starts_with("ERROR:")).count()
    };
    assert_eq!(complaints(&away[before.len()..]), 1, "{away}");

    proxy.restore();
    wait_for("all tasks", || {
        let counts = recorded(&record);
        (1..=4).all(|n| counts.get(&n).is_some_and(|(_, done)| *done >= 1))
    });
    assert_eq!(worker(&status()), pid);
    env.rex_host(&["stop"]).ok();
    let output = host.wait_ok();
    let counts = recorded(&record);
    assert!((1..=4).all(|n| counts[&n] == (1, 1)), "each once: {counts:?}\n{output}");
    let rows = |table: &str| {
        let sql = format!("select count(*) from asynctask.{table}");
        database.connect().query_one(&sql, &[]).expect("it is there").get::<_, i64>(0)
    };
    assert_eq!(rows("asynctask_queue"), 0);
    let mut args = vec!["dlq".to_owned(), "list".to_owned(), "--json".to_owned()];
    args.extend(store.args());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert_eq!(env.rex_host(&args).ok(), "");
}
