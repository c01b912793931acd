//! Whoever makes a mart, or its server, dies at any stage: a complete mart is left or nothing, at the
//! latest when the next mart is made.

use std::process::Command;

use postgres::Client;
use rex_test_support::env::Env;
use rex_test_support::process::{self, Process, Running, descendants, wait_for};
use rex_test_support::server::Server;
use serde_json::json;

/// What a maker stops at, as a condition on the inventory's record that it is about to write.
const STAGES: [&str; 9] = [
    "TG_OP = 'INSERT'",
    "NEW.status = 'deployment'",
    "NEW.status = 'post_deployment'",
    "NEW.status = 'assessment'",
    "NEW.status = 'post_assessment'",
    "NEW.status = 'processing'",
    // The database has its name for good, and the record not yet.
    "NEW.name = 'a_fixed_name_mart'",
    "NEW.size IS NOT NULL AND NEW.status <> 'complete'",
    "NEW.status = 'complete'",
];

/// The key of the lock that a stopped maker waits for.
const KEY: i64 = 4711;

struct App {
    env: Env,
    server: Server,
}

impl App {
    fn new() -> Option<App> {
        let app = App { env: Env::new(), server: Server::start()? };
        app.env.rex_host(&app.args(&["deploy"])).ok();
        Some(app)
    }

    fn args<'a>(&self, args: &[&'a str]) -> Vec<&'a str> {
        self.env.set("REX_PROJECT", "rex.mart_demo");
        let parameters = format!("{{\"db\": \"{}\"}}", self.server.uri("mart_demo"));
        self.env.set("REX_PARAMETERS", parameters);
        args.to_vec()
    }

    fn client(&self) -> Client {
        self.server.client("mart_demo")
    }

    /// Has makers wait for the lock where the condition holds.
    fn stop_where(&self, condition: &str) {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF {condition} THEN PERFORM pg_advisory_xact_lock({KEY}); END IF;
                 RETURN NEW;
             END $$;
             DROP TRIGGER IF EXISTS zz_stop ON rexmart_inventory;
             CREATE TRIGGER zz_stop BEFORE INSERT OR UPDATE ON rexmart_inventory
                 FOR EACH ROW EXECUTE FUNCTION stop_here();"
        );
        self.client().batch_execute(&sql).expect("it is SQL");
    }

    /// Starts to make a mart and waits until it has come to where it stops.
    fn start(&self, definition: &str) -> Running {
        let made = self.env.start(&["mart-create", "--owner=me", "--definition", definition]);
        self.wait_stopped();
        made
    }

    /// Submits a mart that is to be made, and starts a host that makes it.
    fn start_host(&self, definition: &str) -> Running {
        let payload = format!("{{\"owner\": \"me\", \"definition\": \"{definition}\"}}");
        self.env.rex_host(&["submit", "rexmart_create", &payload]).ok();
        let host = self.env.start(&["run"]);
        self.wait_stopped();
        host
    }

    fn wait_stopped(&self) {
        self.wait_waiting(1);
    }

    /// Waits until so many wait for a lock.
    fn wait_waiting(&self, count: i64) {
        let mut client = self.client();
        let query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        wait_for("the maker to stop", || {
            client.query_one(query, &[]).is_ok_and(|row| row.get::<_, i64>(0) >= count)
        });
    }

    /// Takes the lock, without which makers stop there.
    fn lock(&self) -> Client {
        let mut lock = self.client();
        lock.execute("SELECT pg_advisory_lock($1)", &[&KEY]).expect("nobody else has it");
        lock
    }

    fn databases(&self) -> Vec<String> {
        let query = "SELECT datname FROM pg_database WHERE NOT datistemplate
            AND datname NOT IN ('postgres', 'mart_demo') ORDER BY datname";
        let rows = self.server.client("postgres").query(query, &[]).expect("it can be asked");
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn names(&self) -> Vec<String> {
        let query = "SELECT name FROM rexmart_inventory ORDER BY name";
        let rows = self.client().query(query, &[]).expect("it can be asked");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Whether all that there is is complete and has its database, and nothing is being made.
    fn is_tidy(&self) -> bool {
        let query = "SELECT count(*) FROM rexmart_inventory AS i
            LEFT JOIN rexmart_building AS b ON b.rexmart_inventory__id = i.id
            WHERE i.status <> 'complete' OR b.claim IS NOT NULL";
        let row = self.client().query_one(query, &[]).expect("it can be asked");
        row.get::<_, i64>(0) == 0 && self.databases() == self.names()
    }

    /// After another mart was made and purged it is tidy.
    fn is_sound(&self, stage: &str) {
        self.client()
            .batch_execute("DROP TRIGGER zz_stop ON rexmart_inventory")
            .expect("it is there");
        self.env.rex_host(&["mart-create", "--owner=other", "--definition=empty"]).ok();
        self.env.rex_host(&["mart-purge", "--owner=other", "--force-accept"]).ok();
        assert!(self.is_tidy(), "{stage}: {:?} {:?}", self.databases(), self.names());
    }
}

/// Gives the lock to whoever waits for it.
fn go_on(lock: &mut Client) {
    lock.execute("SELECT pg_advisory_unlock($1)", &[&KEY]).expect("it is ours");
}

/// Kills a maker, with the process that its command runs in.
fn kill(maker: &Running) {
    for process in descendants(maker.pid()).iter().chain(Process::find(maker.pid()).iter()) {
        process.kill();
    }
}

#[test]
fn a_maker_is_killed_at_each_stage() {
    let Some(app) = App::new() else { return };
    app.env.rex_host(&["mart-create", "--owner=me", "--definition=fixed_name"]).ok();
    for stage in STAGES {
        let mut lock = app.lock();
        app.stop_where(stage);
        let maker = app.start("fixed_name");
        kill(&maker);
        drop(maker);
        go_on(&mut lock);
        app.is_sound(stage);
        // Readers never lack the mart whose place the dead one was to take.
        let rows =
            app.server.client("a_fixed_name_mart").query_one("SELECT count(*) FROM foo", &[]);
        assert_eq!(rows.expect("it is there").get::<_, i64>(0), 5, "{stage}");
    }
}

/// It has its name, and is as its maker would have left it.
#[test]
fn a_mart_that_is_to_be_left_incomplete_is_so_without_its_maker() {
    let Some(app) = App::new() else { return };
    let mut lock = app.lock();
    app.stop_where("NEW.size IS NOT NULL");
    let args = ["mart-create", "--owner=me", "--definition=fixed_name", "--leave-incomplete"];
    let maker = app.env.start(&args);
    app.wait_stopped();
    kill(&maker);
    drop(maker);
    go_on(&mut lock);
    app.env.rex_host(&["mart-create", "--owner=other", "--definition=empty"]).ok();
    let query = "SELECT name, status::text, size IS NOT NULL FROM rexmart_inventory
        WHERE owner = 'me'";
    let row = app.client().query_one(query, &[]).expect("it is there");
    let mart: (String, String, bool) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(mart, ("a_fixed_name_mart".to_owned(), "processing".to_owned(), true));
}

#[test]
fn the_server_dies_at_each_stage() {
    let Some(app) = App::new() else { return };
    for stage in STAGES {
        let _lock = app.lock();
        app.stop_where(stage);
        let maker = app.start("fixed_name");
        app.server.stop(true);
        maker.wait_output("Mart creation for Record(");
        app.server.restart();
        let (_, output) = maker.wait();
        assert!(app.is_tidy(), "{stage}: {output}{:?} {:?}", app.databases(), app.names());
    }
}

#[test]
fn the_server_dies_while_a_host_makes_marts() {
    let Some(app) = App::new() else { return };
    let _lock = app.lock();
    app.stop_where("NEW.status = 'post_deployment'");
    let host = app.start_host("some_data");
    let payload = r#"{"owner": "me", "definition": "some_data"}"#;
    app.env.rex_host(&["job", "submit", "rexmart_create", payload]).ok();
    app.wait_waiting(2);
    app.server.stop(true);
    host.wait_output("ERROR:MartCreateWorker:");
    host.wait_output("Job #1 failed");
    app.server.restart();
    wait_for("what is left to be gone", || app.is_tidy());
    host.signal(libc::SIGTERM);
    host.wait_ok();
}

#[test]
fn the_host_is_killed_at_each_stage() {
    let Some(app) = App::new() else { return };
    for stage in STAGES {
        let mut lock = app.lock();
        app.stop_where(stage);
        let host = app.start_host("fixed_name");
        host.signal(libc::SIGKILL);
        host.wait();
        go_on(&mut lock);
        // What was in hand is nobody's fault: the next host makes it.
        app.env.rex_host(&["run", "--halt-when-empty"]).ok();
        assert_eq!(app.names(), ["a_fixed_name_mart"], "{stage}");
        app.is_sound(stage);
    }
}

#[test]
fn what_a_killed_worker_leaves_is_removed_by_the_next() {
    let Some(app) = App::new() else { return };
    for stage in ["NEW.status = 'post_deployment'", "NEW.name = 'a_fixed_name_mart'"] {
        let mut lock = app.lock();
        app.stop_where(stage);
        let host = app.start_host("fixed_name");
        descendants(host.pid()).iter().for_each(Process::kill);
        go_on(&mut lock);
        host.wait_output("died; restarting");
        wait_for("what is left to be complete or gone", || app.is_tidy());
        host.signal(libc::SIGTERM);
        host.wait_ok();
    }
    assert_eq!(app.names(), ["a_fixed_name_mart"]);
}

/// Also where that has nothing else to do.
#[test]
fn what_a_killed_worker_leaves_is_removed_where_there_is_no_task() {
    let Some(app) = App::new() else { return };
    let mut lock = app.lock();
    app.stop_where("NEW.status = 'post_deployment'");
    let host = app.start_host("some_data");
    descendants(host.pid()).iter().for_each(Process::kill);
    wait_for("the task to be a dead letter", || {
        !app.env.rex_host(&["dlq", "list", "--json"]).json_lines().is_empty()
    });
    host.signal(libc::SIGKILL);
    host.wait();
    go_on(&mut lock);
    let claims = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    wait_for("the sessions of the dead to end", || {
        lock.query_one(claims, &[]).expect("it can be asked").get::<_, i64>(0) == 0
    });
    let output = app.env.rex_host(&["run", "--halt-when-empty"]).ok();
    assert_eq!((app.names(), app.databases()), (Vec::new(), Vec::new()), "{output}");
}

#[test]
fn what_a_killed_process_of_jobs_leaves_is_removed_by_the_next() {
    let Some(app) = App::new() else { return };
    let mut lock = app.lock();
    app.stop_where("NEW.status = 'post_deployment'");
    let workers = r#"asynctask_workers={"rexmart_create": null}"#;
    let host = app.env.start(&["run", "--set", workers]);
    let payload = r#"{"owner": "me", "definition": "some_data"}"#;
    app.env.rex_host(&["job", "submit", "rexmart_create", payload]).ok();
    app.wait_stopped();
    descendants(host.pid()).iter().for_each(Process::kill);
    go_on(&mut lock);
    wait_for("what is left to be gone", || app.is_tidy());
    host.signal(libc::SIGTERM);
    host.wait_ok();
}

#[test]
fn the_one_who_waits_for_a_name_inherits_from_a_dead_one() {
    let Some(app) = App::new() else { return };
    let mut lock = app.lock();
    app.stop_where("NEW.name = 'a_fixed_name_mart'");
    let first = app.start("fixed_name");
    let second = app.env.start(&["mart-create", "--owner=me", "--definition=fixed_name"]);
    app.wait_waiting(2);
    kill(&first);
    // What the dead one has sent is not carried out.
    let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'advisory'";
    app.client().execute(end, &[]).expect("it can be ended");
    go_on(&mut lock);
    assert!(second.wait_ok().contains("Purging previous database named"));
    app.is_sound("both");
    let query = "SELECT code FROM rexmart_inventory WHERE name = 'a_fixed_name_mart'";
    let row = app.client().query_one(query, &[]).expect("it is the only one");
    assert_eq!(row.get::<_, i64>(0), 2);
}

#[test]
fn how_far_a_mart_is_shows_where_one_looks() {
    let Some(app) = App::new() else { return };
    let mut lock = app.lock();
    app.stop_where("NEW.status = 'processing'");
    let host = app.start_host("some_data");
    let said = "67 % Executing Post-Assessment ETL...";
    wait_for("the status to tell", || app.env.rex_host(&["status"]).ok().contains(said));
    let payload = r#"{"owner": "me", "definition": "some_data"}"#;
    app.env.rex_host(&["job", "submit", "rexmart_create", payload]).ok();
    wait_for("the job to tell", || app.env.rex_host(&["job", "show", "1"]).ok().contains(said));
    wait_for("the status to tell of both", || {
        app.env.rex_host(&["status"]).ok().matches(said).count() == 2
    });
    go_on(&mut lock);
    wait_for("the job to end", || {
        app.env.rex_host(&["job", "show", "1"]).ok().contains("completed")
    });
    assert!(!app.env.rex_host(&["status"]).ok().contains('%'));
    host.signal(libc::SIGTERM);
    host.wait_ok();
}

#[test]
fn a_cancelled_job_leaves_no_mart() {
    let Some(app) = App::new() else { return };
    let mut lock = app.lock();
    app.stop_where("NEW.status = 'assessment'");
    let host = app.env.start(&["run"]);
    let payload = r#"{"owner": "me", "definition": "some_data"}"#;
    app.env.rex_host(&["job", "submit", "rexmart_create", payload]).ok();
    app.wait_stopped();
    app.env.rex_host(&["job", "cancel", "1"]).ok();
    host.wait_output("The job in hand is cancelled");
    go_on(&mut lock);
    wait_for("the job to end", || {
        app.env.rex_host(&["job", "show", "1"]).ok().contains("Cancelled")
    });
    assert!(app.names().is_empty() && app.databases().is_empty());
    host.signal(libc::SIGTERM);
    assert!(!host.wait_ok().contains("died"));
}

#[test]
fn an_interrupt_leaves_no_mart() {
    let Some(app) = App::new() else { return };
    let mut lock = app.lock();
    app.stop_where("NEW.status = 'post_deployment'");
    for (program, signal, code) in [
        ("rex-host", libc::SIGINT, 130),
        ("rex", libc::SIGINT, 1),
        ("rex-host", libc::SIGHUP, 129),
        ("rex", libc::SIGTERM, 143),
    ] {
        let make = ["mart-create", "--owner=me", "--definition=some_data"];
        let maker = Running::start(app.env.command(program, &make));
        app.wait_stopped();
        maker.signal_group(signal);
        if signal != libc::SIGINT {
            // When a terminal is closed, its shell and the system say so, one after the other.
            maker.signal_group(signal);
            maker.signal(signal);
        }
        go_on(&mut lock);
        let (status, output) = maker.wait();
        assert_eq!(status.code(), Some(code), "{output}");
        assert_eq!(output.ends_with("\n\n"), code == 1, "{output}");
        assert!(app.names().is_empty() && app.databases().is_empty(), "{output}");
        lock = app.lock();
    }
}

#[test]
fn a_closed_terminal_ends_no_mart_where_that_is_ignored() {
    let Some(app) = App::new() else { return };
    let mut lock = app.lock();
    app.stop_where("NEW.status = 'post_deployment'");
    let make = ["mart-create", "--owner=me", "--definition=some_data"];
    let maker = app.env.command("rex-host", &make);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(maker.get_program()).args(make);
    command.current_dir(app.env.work()).env_clear();
    command.envs(maker.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let maker = Running::start(command);
    app.wait_stopped();
    maker.signal_group(libc::SIGHUP);
    go_on(&mut lock);
    maker.wait_ok();
    assert_eq!((app.names().len(), app.databases()), (1, app.names()));
}

#[test]
fn a_reader_who_has_seen_enough_ends_no_mart() {
    let Some(app) = App::new() else { return };
    let args = app.args(&["mart-create", "--owner=me", "--definition=some_data"]);
    let maker = app.env.command("rex-host", &args);
    let mut command = Command::new("sh");
    command.args(["-c", "\"$0\" \"$@\" | head -n 1"]).arg(maker.get_program()).args(&args);
    command.current_dir(app.env.work()).env_clear();
    command.envs(maker.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_eq!(process::run(command, "").ok().lines().count(), 1);
    let query = "SELECT count(*) FROM rexmart_inventory WHERE status = 'complete'";
    let row = app.client().query_one(query, &[]).expect("it can be asked");
    assert_eq!(row.get::<_, i64>(0), 1);
}

/// A superuser's session is sent away by nobody else: what it looks at stays until it ends.
#[test]
fn what_cannot_be_dropped_costs_no_other_mart() {
    let Some(app) = App::new() else { return };
    let rights = "CREATE ROLE maker LOGIN CREATEDB; ALTER DATABASE mart_demo OWNER TO maker;
        GRANT ALL ON ALL TABLES IN SCHEMA public TO maker;
        GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO maker";
    app.client().batch_execute(rights).expect("they can be given");
    let uri = app.server.uri("mart_demo").replacen("rex@", "maker@", 1);
    assert!(uri.contains("maker@"), "{uri}");
    app.env.set("REX_PARAMETERS", json!({ "db": uri }).to_string());
    app.env.set("REX_PROJECT", format!("{}/", app.env.path("own").display()));
    app.env.write("own/settings.yaml", "requires: [rex.mart_demo]\n");
    let definitions = "definitions:
      - { id: one, quota: { per_owner: 1 } }
      - { id: fixed, base: { type: fresh, fixed_name: fixed_mart } }
      - id: template
        post_deploy_scripts:
          - type: sql
            script: \"do $$ begin execute format('alter database %%I is_template true', current_database()); end $$\"
          - { type: sql, script: select 1/0 }
    ";
    app.env.write("own/mart.yaml", definitions);
    let make = |owner: &str| {
        app.env.rex_host(&["mart-create", &format!("--owner={owner}"), "--definition=one"]).ok()
    };

    // One beyond the quota.
    make("me");
    let reader = app.server.client(&app.names()[0]);
    let said = make("me");
    assert!(said.contains("A Mart beyond the quota stays for now: "), "{said}");
    assert_eq!((app.names().len(), app.databases()), (2, app.names()));
    drop(reader);
    make("me");
    assert_eq!((app.names().len(), app.databases()), (1, app.names()));

    // One that cannot be made, and that a script has made a template.
    let failed = app.env.rex_host(&["mart-create", "--owner=me", "--definition=template"]);
    assert!(failed.stderr.contains("division by zero"), "{failed}");
    assert_eq!((app.names().len(), app.databases()), (1, app.names()));

    // One that another takes the name of.
    let fixed = || app.env.rex_host(&["mart-create", "--owner=f", "--definition=fixed"]).ok();
    fixed();
    let subscribe = "CREATE SUBSCRIPTION s CONNECTION 'host=localhost dbname=x' PUBLICATION p
        WITH (connect = false, slot_name = NONE)";
    app.server.client("fixed_mart").batch_execute(subscribe).expect("it is allowed");
    let said = fixed();
    assert!(said.contains("The previous database stays for now: "), "{said}");
    let old = app.names().into_iter().find(|name| name.ends_with("_old")).expect("it is listed");
    assert_eq!((app.names().len(), app.databases()), (3, app.names()));
    app.server.client(&old).batch_execute("DROP SUBSCRIPTION s").expect("it is allowed");
    app.env.rex_host(&["mart-purge", "--owner=f", "--name", &old, "--force-accept"]).ok();
    assert_eq!((app.names().len(), app.databases()), (2, app.names()));

    // One whose maker was killed.
    let (before, mut lock) = (app.names(), app.lock());
    app.stop_where("NEW.status = 'post_deployment'");
    let maker = app.env.start(&["mart-create", "--owner=dead", "--definition=one"]);
    app.wait_stopped();
    let left: Vec<String> =
        app.databases().into_iter().filter(|name| !before.contains(name)).collect();
    kill(&maker);
    go_on(&mut lock);
    let reader = app.server.client(&left[0]);
    app.client().batch_execute("DROP TRIGGER zz_stop ON rexmart_inventory").expect("it is there");
    let said = make("other");
    assert!(said.contains("What an earlier Mart has left stays for now: "), "{said}");
    assert!(said.contains(&left[0]), "{said}");
    drop(reader);
    let said = make("another");
    assert!(!said.contains("stays for now"), "{said}");
    assert!(app.is_tidy(), "{:?} {:?}", app.databases(), app.names());
}
