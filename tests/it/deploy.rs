//! `rex-host deploy` as a person meets it: what it prints, what it changes, what it refuses.

use std::path::PathBuf;

use rex_test_support::env::Env;
use rex_test_support::pg::Database;
use rex_test_support::process::wait_for;
use rex_test_support::server::Server;

const FACTS: &str = "
- table: school
  with:
  - { column: code, type: text }
  - { identity: [code] }
  - { column: name, type: text }
- table: department
  with:
  - { link: school }
  - { column: no, type: integer }
  - { identity: [school, no: offset] }
- { data: school.csv }
";

/// A file in the directory that commands run in.
fn write(env: &Env, name: &str, text: &str) -> PathBuf {
    let path = env.work().join(name);
    std::fs::write(&path, text).expect("it can be written");
    path
}

#[test]
fn facts_are_deployed_once() {
    let (env, database) = (Env::new(), Database::new());
    write(&env, "deploy.yaml", FACTS);
    write(&env, "school.csv", "code,name\nart,School of Art\n");
    let uri = database.uri();
    let deploy =
        |more: &[&str]| env.rex_host(&[&["deploy", "deploy.yaml", "-d", &uri], more].concat());
    let tables = || -> i64 {
        let sql = "select count(*) from pg_tables where schemaname = 'public'";
        database.connect().query_one(sql, &[]).expect("it can be asked").get(0)
    };

    let dry = deploy(&["--dry-run"]);
    assert!(dry.status.success(), "{dry}");
    assert!(
        dry.stdout.starts_with("CREATE TABLE \"school\" (\n    \"id\" \"int4\" NOT NULL\n);\n")
    );
    assert!(dry.stdout.contains("'School of Art'") && dry.stderr.contains("dry run"), "{dry}");
    assert_eq!(tables(), 0);
    // What it prints is SQL that does it.
    let by_hand = Database::new();
    by_hand.connect().batch_execute(&dry.stdout).expect("it is SQL");

    let done = deploy(&[]);
    assert!(done.status.success() && done.stdout.ends_with(" changes\n"), "{done}");
    for line in ["Deploying deploy.yaml.", "Validating deploy.yaml.", "Done."] {
        assert!(done.stderr.lines().any(|found| found == line), "{done}");
    }
    assert_eq!(tables(), 2);
    assert_eq!(deploy(&[]).ok(), "nothing to change\n");
    assert_eq!(deploy(&["--dry-run"]).ok(), "nothing to change\n");
    let json: serde_json::Value =
        serde_json::from_str(&deploy(&["--json"]).ok()).expect("it is JSON");
    assert_eq!(json, serde_json::json!({"changes": 0, "dry_run": false, "statements": []}));
    let query =
        env.rex_host(&["query", "--rexdb", &uri, "--csv", "/school{code, count(department)}"]);
    assert!(query.ok().contains("art,0"));
}

#[test]
fn new_tables_are_audited_where_others_are() {
    let (env, database) = (Env::new(), Database::new());
    let audit = "CREATE SCHEMA audit; COMMENT ON SCHEMA audit IS 'version: 2.11.0'; \
                 CREATE FUNCTION audit.audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'";
    database.connect().batch_execute(audit).expect("it is SQL");
    write(&env, "deploy.yaml", FACTS);
    write(&env, "school.csv", "code,name\nart,School of Art\n");
    let uri = database.uri();
    let deploy =
        |more: &[&str]| env.rex_host(&[&["deploy", "deploy.yaml", "-d", &uri], more].concat());
    let audited = || -> i64 {
        let sql = "SELECT count(*) FROM pg_trigger WHERE tgname = 'audit'";
        database.connect().query_one(sql, &[]).expect("it can be asked").get(0)
    };
    let dry = deploy(&["--dry-run"]).ok();
    for table in ["school", "department"] {
        let trigger =
            format!("CREATE TRIGGER \"audit\" AFTER INSERT OR UPDATE OR DELETE ON \"{table}\" ");
        assert!(dry.contains(&trigger), "{dry}");
    }
    assert_eq!(audited(), 0);
    deploy(&[]).ok();
    assert_eq!(audited(), 2);
    assert_eq!(deploy(&[]).ok(), "nothing to change\n");
}

#[test]
fn the_database_may_be_that_of_a_project() {
    let (env, database) = (Env::new(), Database::new());
    write(&env, "one.yaml", "- { table: one }\n");
    write(&env, "two.yaml", "- { table: two }\n- { link: two.one }\n");
    write(&env, "shop.yaml", &format!("db: {}\n", database.uri()));
    let done = env.rex_host(&["deploy", "one.yaml", "two.yaml", "--project", "./shop.yaml"]);
    assert!(done.status.success(), "{done}");
    let none = env.rex_host(&["deploy", "one.yaml"]);
    assert_eq!(none.status.code(), Some(1), "{none}");
    assert!(none.stderr.starts_with("error: no database is named\nhint: "), "{none}");
}

#[test]
fn a_failure_names_its_place_and_leaves_nothing() {
    let (env, database) = (Env::new(), Database::new());
    let file = write(&env, "deploy.yaml", "- { table: one }\n- { column: two.code, type: text }\n");
    let failed = env.rex_host(&["deploy", "deploy.yaml", "-d", &database.uri()]);
    assert_eq!(failed.status.code(), Some(1), "{failed}");
    let place = format!("    \"{}\", line 2\n", file.display());
    assert!(
        failed.stderr.ends_with(&format!(
            "error: Discovered missing table:\n    two\nWhile deploying column fact:\n{place}"
        )),
        "{failed}"
    );
    let sql = "select count(*) from pg_tables where schemaname = 'public'";
    let tables = database.connect().query_one(sql, &[]).expect("it can be asked");
    assert_eq!(tables.get::<_, i64>(0), 0);
    // Facts that undo each other do not hold when all are deployed.
    write(&env, "deploy.yaml", "- { table: one }\n- { table: one, present: false }\n");
    let failed = env.rex_host(&["deploy", "deploy.yaml", "-d", &database.uri()]);
    assert!(failed.stderr.contains("error: Detected inconsistent data model:\n"), "{failed}");
    let absent = env.rex_host(&["deploy", "absent.yaml", "-d", &database.uri()]);
    assert!(absent.stderr.contains("unable to open file: "), "{absent}");
}

#[test]
fn a_database_that_is_not_there_is_created() {
    let (env, database) = (Env::new(), Database::new());
    write(&env, "deploy.yaml", "{ table: one }\n");
    let name = format!("deploy_new_{}", std::process::id());
    let uri = database.uri();
    let new = format!("{}/{name}", uri.rsplit_once('/').expect("it has a path").0);
    let dry = env.rex_host(&["deploy", "deploy.yaml", "-d", &new, "--dry-run"]);
    assert!(dry.stderr.ends_with("hint: without --dry-run it is created\n"), "{dry}");
    let done = env.rex_host(&["deploy", "deploy.yaml", "-d", &new]);
    database.connect().batch_execute(&format!("DROP DATABASE \"{name}\"")).expect("it is there");
    assert!(done.status.success() && done.stderr.starts_with("Creating database "), "{done}");
}

/// Whoever comes second finds it there.
#[test]
fn a_database_is_created_by_several_at_once() {
    let (env, database) = (Env::new(), Database::new());
    write(&env, "deploy.yaml", "{ table: one }\n");
    let name = format!("deploy_twice_{}", std::process::id());
    let uri = database.uri();
    let new = format!("{}/{name}", uri.rsplit_once('/').expect("it has a path").0);
    let mut lock = database.connect();
    lock.batch_execute("BEGIN; LOCK TABLE pg_database IN SHARE MODE").expect("the server is ours");
    let deploys = [(); 3].map(|()| env.start(&["deploy", "deploy.yaml", "-d", &new]));
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted
        AND relation = 'pg_database'::regclass AND mode = 'RowExclusiveLock'";
    wait_for("all to be about to create it", || {
        lock.query_one(waiting, &[]).expect("it can be asked").get::<_, i64>(0) >= 3
    });
    lock.batch_execute("COMMIT").expect("it was begun");
    for deploy in deploys {
        deploy.wait_ok();
    }
    lock.batch_execute(&format!("DROP DATABASE \"{name}\"")).expect("it is there");
}

/// As in a bare container, where no locale is set.
#[test]
fn databases_are_created_where_the_server_s_own_are_not_in_utf_8() {
    let env = Env::new();
    let Some(server) = Server::start() else { return };
    for sql in [
        "ALTER DATABASE template1 IS_TEMPLATE false",
        "DROP DATABASE template1",
        "CREATE DATABASE template1 TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'",
    ] {
        server.sql("postgres", sql).expect("it can be done");
    }
    env.set("REX_PROJECT", "rex.mart_demo");
    env.set("REX_PARAMETERS", format!("{{\"db\": \"{}\"}}", server.uri("app")));
    env.rex_host(&["deploy"]).ok();
    env.rex_host(&["mart-create", "--owner=me", "--definition=some_data"]).ok();
    let others = "SELECT datname::text FROM pg_database
        WHERE pg_encoding_to_char(encoding) <> 'UTF8'";
    let rows = server.client("app").query(others, &[]).expect("it can be asked");
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["template1"]);
}

#[test]
fn jobs_inserted_at_once_have_codes_of_their_own() {
    let (env, database) = (Env::new(), Database::new());
    let uri = database.uri();
    let done = env.rex_host(&["deploy", "--project", "rex.job", "-d", &uri]);
    assert!(done.status.success() && done.stderr.contains("Deploying rex.job.\n"), "{done}");
    assert_eq!(
        env.rex_host(&["deploy", "--project", "rex.job", "-d", &uri]).ok(),
        "nothing to change\n"
    );
    std::thread::scope(|scope| {
        for client in 0..8 {
            let mut connection = database.connect();
            scope.spawn(move || {
                let insert = "INSERT INTO job (owner, type) VALUES ($1, 'demo_fast')";
                for _ in 0..50 {
                    let owner = format!("client {client}");
                    connection.execute(insert, &[&owner]).expect("its code is free");
                }
            });
        }
    });
    let sql = "SELECT count(*), min(code), max(code) FROM job WHERE status = 'new'";
    let row = database.connect().query_one(sql, &[]).expect("it can be asked");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (400, 1, 400));
    let nothing = env.rex_host(&["deploy", "--project", "rex.asynctask", "-d", &uri]);
    assert!(nothing.stderr.starts_with("Nothing to deploy.\n"), "{nothing}");
}

/// A schema of the role's own name comes first in the path; a database may have another isolation.
#[test]
fn what_others_have_set_changes_no_deployment() {
    let (env, database) = (Env::new(), Database::new());
    let mut client = database.connect();
    let name = database.name();
    client
        .batch_execute(&format!(
            "ALTER DATABASE {name} SET default_transaction_isolation = 'serializable';
             CREATE SCHEMA rex; CREATE TABLE rex.foo (id serial UNIQUE, c text PRIMARY KEY);
             INSERT INTO rex.foo (c) VALUES ('mine')"
        ))
        .expect("ours");
    env.write(
        "work/facts.yaml",
        "- {table: foo, with: [{column: c, type: text}, {identity: [c]}]}
- {of: foo, data: \"c\\nnew\"}
- {of: foo, data: \"c\\nmine\", present: false}
- {table: bar, with: [{column: f, type: float}, {identity: [f]}]}
- {of: bar, data: \"f\\n-0.0\"}
",
    );
    let args = ["deploy", "facts.yaml", "-d", &database.uri()];
    let all: Vec<_> = (0..4).map(|_| env.start(&args)).collect();
    let said: Vec<String> = all.into_iter().map(|one| one.wait_ok()).collect();
    let unchanged = said.iter().filter(|said| said.ends_with("nothing to change\n")).count();
    assert_eq!(unchanged, 3, "{said:?}");
    let rows = |table: &str| -> Vec<String> {
        let rows = database.connect().query(&format!("SELECT c FROM {table}"), &[]);
        rows.expect("it is there").iter().map(|row| row.get(0)).collect()
    };
    assert_eq!((rows("public.foo"), rows("rex.foo")), (vec!["new".into()], vec!["mine".into()]));
}
