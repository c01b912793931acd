//! The README is true: each of its commands is run, in order, as a newcomer would, and the rights
//! that it grants are enough.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rex_test_support::env::{Env, dist, repository, target_dir};
use rex_test_support::pg::Database;
use rex_test_support::process;

fn readme() -> String {
    std::fs::read_to_string(repository().join("README.md")).expect("there is a README")
}

/// The contents of the fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let (text, fence) = (readme(), format!("\n```{language}\n"));
    let parts = text.split(&fence).skip(1);
    parts.map(|part| part.split("\n```").next().unwrap_or_default().to_owned() + "\n").collect()
}

#[test]
fn make_targets_are_there() {
    let commands = blocks("sh").concat();
    for target in ["demo", "dist", "test"] {
        assert!(commands.lines().any(|line| line == format!("make {target}")), "make {target}");
    }
    for target in ["demo", "dist", "test", "lint", "bench"] {
        assert!(readme().contains(&format!("`make {target}`")) || commands.contains(target));
        let dry = Command::new("make").args(["-n", target]).current_dir(repository()).output();
        let dry = dry.expect("make runs");
        assert!(dry.status.success(), "{}", String::from_utf8_lossy(&dry.stderr));
    }
}

#[test]
fn every_command_works() {
    let (env, database) = (Env::new(), Database::new());
    // `make` is tried above. A plugin's dependencies are built once for all tests; and a command
    // that talks to the host comes, at a person's pace, when the host is there.
    let prelude = r#"
        make() { :; }
        cargo() { ln -sfn "$KEPT" target; command cargo "$@"; }
        rex-host() {
            case $1 in status|reload|stop)
                for n in {1..200}; do
                    if command rex-host status >/dev/null 2>&1; then break; fi
                    read -rt 0.1 <> <(:) || true
                done
            esac
            # A person sees what became of a task before that.
            if [ "$1" = stop ]; then
                for n in {1..50}; do
                    if ! command rex-host queue list --json | grep -qE '"(waiting|in_flight)":[1-9]'
                    then break; fi
                    read -rt 0.1 <> <(:) || true
                done
            fi
            command rex-host "$@"
        }
        set -x
    "#;
    // A host that is not told to end has a terminal of its own.
    let lines = blocks("sh").concat();
    let lines = lines.lines().map(|line| {
        let stays = line.starts_with("rex-host run ") && !line.contains("--halt-when-empty");
        format!("{line}{}\n", if stays { " &" } else { "" })
    });
    let script = format!("set -euo pipefail\n{prelude}\n{}", lines.collect::<String>());
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(env.work());
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", dist().join("bin").display()));
    command.env("KEPT", target_dir().join("new")).env("CARGO_TARGET_DIR", target_dir().join("new"));
    command.env("DATABASE", database.uri());
    for variable in ["REX_DIST", "REX_TEST_PG", "REX_TEST_AMQP"] {
        command.env_remove(variable);
    }
    let done = process::run_within(std::time::Duration::from_secs(900), command, "");
    assert!(done.status.success(), "{done}");
    for part in [
        "FOO processed: {'foo': 1}",
        "Hello, Ada!",
        "Servus, Grace!",
        "ASYNCTASK-WORKERS - Launches processes",
        " | Engineering |                 2 |",
    ] {
        assert!(done.stdout.contains(part), "`{part}` is not in {done}");
    }
}

/// Roles belong to the whole server, so each test has names of its own.
struct Role {
    name: String,
    database: Database,
}

impl Role {
    /// A role with the rights of the README's block that grants to `who`, on a database whose
    /// tables its owner has made.
    fn granted(who: &str) -> Role {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rex_{who}_{}_{number}", std::process::id());
        let database = Database::new();
        let set = format!("asynctask_transport={}", database.uri());
        Env::new().rex_host(&["queue", "list", "--set", &set]).ok();
        let granted = format!(" TO {who};");
        let block = blocks("sql").into_iter().find(|block| block.contains(&granted));
        let block = block.expect("the README grants it").replace(&granted, &format!(" TO {name};"));
        let mut owner = database.connect();
        owner.batch_execute(&format!("CREATE ROLE {name} LOGIN")).expect("the server is ours");
        owner.batch_execute(&block).unwrap_or_else(|error| panic!("{block}: {error}"));
        Role { name, database }
    }

    fn set(&self) -> String {
        let uri = self.database.uri().replacen("rex@", &format!("{}@", self.name), 1);
        format!("asynctask_transport={uri}")
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let sql = format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name);
        let _ = self.database.connect().batch_execute(&sql);
    }
}

#[test]
fn rights_of_a_producer_are_enough_to_submit() {
    let (env, role) = (Env::new(), Role::granted("producer"));
    env.rex_host(&["submit", "foo", "{}", "--set", &role.set()]).ok();
    let text = env.rex_host(&["dlq", "list", "--set", &role.set()]).fails(1);
    assert!(text.contains("permission denied"), "{text}");
}

#[test]
fn rights_of_a_viewer_are_enough_to_look() {
    let (env, role) = (Env::new(), Role::granted("viewer"));
    let set = format!("asynctask_transport={}", role.database.uri());
    env.rex_host(&["submit", "foo", "{}", "--set", &set]).ok();
    for command in [&["queue", "list"] as &[&str], &["queue", "peek", "foo"], &["dlq", "list"]] {
        env.rex_host(&[command, &["--set", &role.set()]].concat()).ok();
    }
    let text = env.rex_host(&["submit", "foo", "{}", "--set", &role.set()]).fails(1);
    assert!(text.contains("permission denied"), "{text}");
}

#[test]
fn rights_of_a_host_are_enough_to_run() {
    let (env, role) = (Env::new(), Role::granted("host"));
    let workers = r#"asynctask_workers={"foo": "requeue_worker", "bar": "demo_error_worker"}"#;
    let set = role.set();
    env.rex_host(&["submit", "foo", r#"{"foo": 1}"#, "--set", &set]).ok();
    env.rex_host(&["submit", "bar", r#"{"error": true}"#, "--set", &set]).ok();
    let args = ["run", "rex.asynctask_demo", "--halt-when-empty", "--set", workers, "--set", &set];
    let output = env.start(&args).wait_ok();
    assert!(output.contains("REQUEUE processed: {'foo': 2}"), "{output}");
    assert_eq!(env.rex_host(&["dlq", "list", "--json", "--set", &set]).json_lines().len(), 1);
    env.rex_host(&["queue", "purge", "foo", "--yes", "--set", &set]).ok();
}
