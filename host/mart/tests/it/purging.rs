//! Marts that are purged, or go for a quota, while others make, replace, pin or purge them.

use std::thread;

use postgres::Client;
use rex_db::Address;
use rex_mart::{Inventory, Mart, purge};
use rex_test_support::process::wait_for;
use rex_test_support::server::Server;
use serde_json::json;

use crate::support::{APPLICATION, App, deploy};

/// The lock of whoever gives a mart this name.
const FIXED: &str = "SELECT pg_advisory_lock(hashtextextended('rex mart fixed_mart', 7))";

/// Nobody else purges any mart.
const HELD: &str = "BEGIN; SELECT FROM rexmart_inventory FOR UPDATE";

fn app() -> Option<App> {
    let definitions = json!({"definitions": [
        {"id": "plain"},
        {"id": "fixed", "base": {"type": "fresh", "fixed_name": "fixed_mart"}},
        {"id": "one", "quota": {"per_owner": 1}},
        {"id": "there", "base": {"type": "existing", "target": "fixed_mart"}},
        {"id": "own", "base": {"type": "existing", "target": APPLICATION}},
    ]});
    App::with(&definitions, json!({}))
}

impl App {
    fn purge(&self, mart: &Mart) -> bool {
        purge(&self.settings, &self.definitions, mart).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until so many wait for a lock, and nobody for long.
    fn wait_waiting(&self, count: i64) {
        let mut client = self.client("postgres");
        let query = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        wait_for("others to wait", || {
            client.query_one(query, &[]).unwrap().get::<_, i64>(0) >= count
        });
    }

    /// Whether each mart has its database, and there are no others.
    fn is_sound(&self) -> bool {
        let mut names: Vec<String> = self.inventory().into_iter().map(|mart| mart.name).collect();
        names.sort();
        names == self.databases()
    }
}

impl App {
    /// Gives a mart the fixed name, but dies when the databases have theirs and the inventory not.
    fn take_name_and_die(&self, made: &Mart) {
        let name = &made.name;
        let renames = format!(
            "ALTER DATABASE fixed_mart RENAME TO {name}_old; ALTER DATABASE {name} RENAME TO fixed_mart"
        );
        renames.split(';').for_each(|sql| run(&mut self.client("postgres"), sql));
        let building = format!(
            "UPDATE rexmart_building SET claim = '{name}', final_name = 'fixed_mart'
             WHERE rexmart_inventory__id = (SELECT id FROM rexmart_inventory WHERE name = '{name}');
             UPDATE rexmart_inventory SET status = 'processing' WHERE name = '{name}'"
        );
        run(&mut self.client(APPLICATION), &building);
    }
}

fn run(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap();
}

#[test]
fn a_mart_is_purged_under_the_name_that_it_has_by_now() {
    let Some(app) = app() else { return };
    thread::scope(|scope| {
        let mut lock = app.client("postgres");
        run(&mut lock, FIXED);
        let maker = scope.spawn(|| app.made("fixed"));
        app.wait_waiting(1);
        let listed = app.inventory();
        drop(lock);
        assert_eq!(maker.join().unwrap().name, "fixed_mart");
        assert!(listed[0].name.starts_with("mart_fixed_1_"), "{listed:?}");
        assert!(app.purge(&listed[0]));
    });
    assert!(app.inventory().is_empty() && app.databases().is_empty());
}

#[test]
fn another_mart_of_the_same_name_or_code_stays() {
    let Some(app) = app() else { return };
    let replaced = app.made("fixed");
    let made = app.made("fixed");
    assert!(!app.purge(&replaced));
    assert_eq!((app.inventory(), app.databases()), (vec![made.clone()], vec![made.name.clone()]));
    assert!(app.purge(&made));
    assert!(!app.purge(&made));

    let purged = app.made("plain");
    assert!(app.purge(&purged));
    let (_, other) = app.create(json!({"owner": "other", "definition": "one"}));
    assert_eq!((other.unwrap().code, purged.code), (1, 1));
    let pin = |mart: &Mart| Inventory::open(&app.settings.database).unwrap().pin(mart, true);
    assert_eq!(pin(&purged).unwrap_err().to_string(), "Mart #1 was purged meanwhile");
    assert!(!app.inventory()[0].pinned);
    assert!(!app.purge(&purged));
    assert!(app.inventory().len() == 1 && app.is_sound());
}

#[test]
fn a_maker_whose_mart_was_purged_leaves_nothing() {
    let Some(app) = app() else { return };
    let fails = |definition: &str, locked: &str, unlock: &str| {
        thread::scope(|scope| {
            let mut lock = app.client("postgres");
            run(&mut lock, locked);
            let entry = json!({"owner": "test", "definition": definition});
            let maker = scope.spawn(|| app.create(entry));
            app.wait_waiting(1);
            let purger = scope.spawn(|| app.purge(&app.inventory()[0]));
            if definition == "plain" {
                // The server would make that database whatever becomes of the mart.
                app.wait_waiting(2);
            } else {
                wait_for("the purge", || purger.is_finished());
            }
            run(&mut lock, unlock);
            assert!(purger.join().unwrap());
            let (log, made) = maker.join().unwrap();
            let error = made.expect_err(&log.join("\n"));
            let text = "The Mart was purged while it was made\nWhile ";
            assert!(error.starts_with(text), "{error}");
        });
        assert!(app.inventory().is_empty() && app.databases().is_empty(), "{definition}");
    };
    // Before its database takes its name for good, and while that is made.
    fails("fixed", FIXED, "SELECT pg_advisory_unlock_all()");
    fails("plain", "BEGIN; LOCK TABLE pg_database IN SHARE MODE", "COMMIT");
}

impl App {
    /// Purges a mart, but dies when all that is left is to commit.
    fn purge_and_die(&self, mart: &Mart) {
        let mut client = self.client(APPLICATION);
        run(
            &mut client,
            "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN old; END';
             CREATE TRIGGER waits AFTER DELETE ON rexmart_inventory
                FOR EACH ROW EXECUTE FUNCTION waits();
             SELECT pg_advisory_lock(4711)",
        );
        thread::scope(|scope| {
            let purger = scope.spawn(|| purge(&self.settings, &self.definitions, mart));
            self.wait_waiting(1);
            run(
                &mut client,
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE NOT granted",
            );
            purger.join().unwrap().unwrap_err();
        });
        run(&mut client, "SELECT pg_advisory_unlock_all(); DROP FUNCTION waits CASCADE");
    }
}

#[test]
fn a_reference_is_taken_back_once_whoever_dies() {
    let Some(app) = app() else { return };
    let mart = app.made("plain");
    let refer = "CREATE SCHEMA rc; CREATE TABLE rc.rc (value int8); INSERT INTO rc.rc VALUES (3)";
    run(&mut app.client(&mart.name), refer);
    let left = || {
        app.client(&mart.name).query_one("SELECT value FROM rc.rc", &[]).unwrap().get::<_, i64>(0)
    };
    app.purge_and_die(&mart);
    app.purge_and_die(&mart);
    assert_eq!((app.inventory().len(), left()), (1, 2));
    assert!(app.purge(&mart));
    assert_eq!((app.inventory().len(), left()), (0, 2));
}

/// Of a mart of the original nothing is noted before.
#[test]
fn a_reference_that_was_not_taken_back_yet_is_so_by_the_next() {
    let Some(app) = app() else { return };
    let mart = app.made("plain");
    run(&mut app.client(APPLICATION), "DELETE FROM rexmart_building");
    let refer = "CREATE SCHEMA rc; CREATE TABLE rc.rc (value int8); INSERT INTO rc.rc VALUES (2)";
    let mut client = app.client(&mart.name);
    run(&mut client, refer);
    // As if the one that was noted had come to nothing.
    let aborted = "SELECT pg_current_xact_id()::text";
    run(&mut client, "BEGIN");
    let transaction: String = client.query_one(aborted, &[]).unwrap().get(0);
    run(&mut client, "ROLLBACK");
    let note = format!(
        "INSERT INTO rexmart_building (rexmart_inventory__id, existing, released)
         SELECT id, FALSE, '{transaction}' FROM rexmart_inventory"
    );
    run(&mut app.client(APPLICATION), &note);
    assert!(app.purge(&mart));
    let left: i64 = client.query_one("SELECT value FROM rc.rc", &[]).unwrap().get(0);
    assert_eq!((app.inventory().len(), left), (0, 1));
}

/// A server that crashes in the middle of `DROP DATABASE` leaves one that nobody can enter.
#[test]
fn what_a_crash_has_half_dropped_is_dropped() {
    let Some(app) = app() else { return };
    let purged = app.made("plain");
    app.made("plain");
    let building = "UPDATE rexmart_building AS b SET claim = i.name FROM rexmart_inventory AS i
        WHERE i.id = b.rexmart_inventory__id AND i.code = 2;
        UPDATE rexmart_inventory SET status = 'deployment' WHERE code = 2";
    run(&mut app.client(APPLICATION), building);
    let half = "UPDATE pg_database SET datconnlimit = -2 WHERE datname LIKE 'mart\\_%\\_20%'";
    run(&mut app.client("postgres"), half);
    assert!(app.purge(&purged));
    assert!(rex_mart::tidy(&app.settings).unwrap());
    assert!(app.inventory().is_empty() && app.databases().is_empty());
}

/// Its maker was killed when the databases had their names, and the inventory not.
#[test]
fn the_previous_mart_of_a_name_is_purged_and_not_the_one_that_has_it() {
    let Some(app) = app() else { return };
    let previous = app.made("fixed");
    let made = app.made("plain");
    app.take_name_and_die(&made);
    assert!(app.purge(&previous));
    assert_eq!(app.databases(), ["fixed_mart"]);
    assert!(rex_mart::tidy(&app.settings).unwrap());
    let left = app.inventory();
    assert_eq!((left.len(), &*left[0].name, left[0].is_complete()), (1, "fixed_mart", true));
}

/// Whoever purged a mart that was about to take a name died when its database was dropped.
#[test]
fn a_mart_without_its_database_takes_none_of_its_final_name() {
    let Some(app) = app() else { return };
    let previous = app.made("fixed");
    let made = app.made("plain");
    let building = format!(
        "UPDATE rexmart_building SET claim = '{name}', final_name = 'fixed_mart'
         WHERE rexmart_inventory__id = (SELECT id FROM rexmart_inventory WHERE name = '{name}');
         UPDATE rexmart_inventory SET status = 'processing' WHERE name = '{name}'",
        name = made.name
    );
    run(&mut app.client(APPLICATION), &building);
    app.purge_and_die(&made);
    assert_eq!(app.databases(), ["fixed_mart"]);
    assert!(rex_mart::tidy(&app.settings).unwrap());
    assert_eq!((app.inventory(), app.databases()), (vec![previous], vec!["fixed_mart".to_owned()]));
}

#[test]
fn who_purges_a_mart_that_another_purges_finds_none() {
    let Some(app) = app() else { return };
    let mart = app.made("plain");
    let mut purged = thread::scope(|scope| {
        let mut lock = app.client(APPLICATION);
        run(&mut lock, HELD);
        let both = [scope.spawn(|| app.purge(&mart)), scope.spawn(|| app.purge(&mart))];
        app.wait_waiting(2);
        run(&mut lock, "COMMIT");
        both.map(|one| one.join().unwrap())
    });
    purged.sort();
    assert_eq!(purged, [false, true]);
    assert!(app.inventory().is_empty() && app.databases().is_empty());
}

#[test]
fn a_mart_that_is_pinned_meanwhile_is_not_purged_for_a_quota() {
    let Some(app) = app() else { return };
    let first = app.made("one");
    thread::scope(|scope| {
        let mut pin = app.client(APPLICATION);
        run(&mut pin, "BEGIN; UPDATE rexmart_inventory SET pinned = TRUE");
        let maker = scope.spawn(|| app.made("one"));
        app.wait_waiting(1);
        run(&mut pin, "COMMIT");
        maker.join().unwrap();
    });
    assert_eq!((app.inventory().len(), app.inventory()[0].code), (2, first.code));
    assert!(app.is_sound());
}

#[test]
fn makers_beyond_a_quota_say_nothing_of_what_another_has_removed() {
    let Some(app) = app() else { return };
    app.made("one");
    let make = || app.create(json!({"owner": "test", "definition": "one"}));
    thread::scope(|scope| {
        let mut lock = app.client(APPLICATION);
        run(&mut lock, HELD);
        let makers: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        app.wait_waiting(4);
        run(&mut lock, "COMMIT");
        for maker in makers {
            let (log, made) = maker.join().unwrap();
            let log = log.join("\n");
            assert!(made.is_ok() && !log.contains("stays for now"), "{made:?}\n{log}");
        }
    });
    assert!(app.inventory().len() == 1 && app.is_sound());
}

/// As the original leaves it: nothing is noted beside it.
fn register(app: &App, definition: &str, name: &str) {
    let insert = format!(
        "INSERT INTO rexmart_inventory (definition, owner, name, status, date_creation_started,
            date_creation_completed, size)
         VALUES ('{definition}', 'test', '{name}', 'complete', '2020-01-01', '2020-01-01', 1)"
    );
    run(&mut app.client(APPLICATION), &insert);
}

#[test]
fn a_database_that_was_there_before_is_not_dropped_for_a_quota() {
    let Some(mut app) = app() else { return };
    run(&mut app.client("postgres"), "CREATE DATABASE fixed_mart");
    run(&mut app.client("postgres"), "CREATE DATABASE mart_one_7_20200101000000");
    app.settings.max_marts_per_owner = 1;
    register(&app, "there", "fixed_mart");
    register(&app, "own", APPLICATION);
    // Of a definition that is gone, too.
    register(&app, "unknown", "fixed_mart");
    register(&app, "unknown", APPLICATION);
    register(&app, "one", "mart_one_7_20200101000000");
    run(
        &mut app.client(APPLICATION),
        "UPDATE rexmart_inventory SET code = 7 WHERE definition = 'one'",
    );
    let made = app.made("one");
    assert_eq!(app.inventory(), std::slice::from_ref(&made));
    // That of the original's that was made for its mart goes.
    assert_eq!(app.databases(), ["fixed_mart", made.name.as_str()]);

    // Whatever is noted, the application's own database stays.
    let own = app.made("own");
    run(&mut app.client(APPLICATION), "UPDATE rexmart_building SET existing = FALSE");
    assert!(app.purge(&own));
    assert!(app.inventory().is_empty());
}

#[test]
fn a_fixed_name_is_not_taken_from_a_database_that_was_there_before() {
    let Some(app) = app() else { return };
    let text = "Cannot set name of Mart to \"fixed_mart\" because the database of that name was \
                there before the Mart that uses it\nWhile purging previous fixed-name database\n\
                While creating Mart database:\n    fixed";
    let refused = || {
        let (_, made) = app.create(json!({"owner": "test", "definition": "fixed"}));
        assert_eq!(made.unwrap_err(), text);
        assert_eq!((app.inventory().len(), app.databases()), (1, vec!["fixed_mart".to_owned()]));
        app.client("fixed_mart").query_one("SELECT * FROM precious", &[]).unwrap();
    };
    run(&mut app.client("postgres"), "CREATE DATABASE fixed_mart");
    run(&mut app.client("fixed_mart"), "CREATE TABLE precious AS SELECT 42");
    let there = app.made("there");
    refused();
    assert!(app.purge(&there));
    register(&app, "there", "fixed_mart");
    refused();
}

#[test]
fn a_fixed_name_is_taken_from_a_mart_whose_database_is_gone() {
    let Some(app) = app() else { return };
    let fixed = app.made("fixed");
    app.made("there");
    assert!(app.purge(&fixed));
    assert_eq!((app.inventory().len(), app.databases().len()), (1, 0));
    let made = app.made("fixed");
    assert_eq!((app.inventory(), app.is_sound()), (vec![made], true));
}

/// Whoever took its name died before the inventory said so.
#[test]
fn a_database_that_was_there_before_is_not_dropped_for_one_that_took_its_name() {
    let Some(app) = app() else { return };
    run(&mut app.client("postgres"), "CREATE DATABASE fixed_mart");
    app.made("there");
    let made = app.made("plain");
    app.take_name_and_die(&made);
    assert!(rex_mart::tidy(&app.settings).unwrap());
    let names: Vec<String> = app.inventory().into_iter().map(|mart| mart.name).collect();
    assert_eq!(names, [format!("{}_old", made.name), "fixed_mart".to_owned()]);
    assert!(app.is_sound());
}

/// What counts them is copied with the rest.
#[test]
fn a_copy_has_one_reference_however_many_its_source_has() {
    let definitions = json!({"definitions": [
        {"id": "copy", "base": {"type": "copy", "target": "source"}},
        {"id": "fails", "base": {"type": "copy", "target": "source"},
            "post_deploy_scripts": [{"type": "sql", "script": "SELECT 1 / 0"}]},
        {"id": "fixed", "base": {"type": "copy", "target": "source", "fixed_name": "fixed_mart"}},
    ]});
    let Some(app) = App::with(&definitions, json!({})) else { return };
    run(&mut app.client("postgres"), "CREATE DATABASE source");
    let counted = "CREATE SCHEMA rc; CREATE TABLE rc.rc AS SELECT 3 AS value";
    run(&mut app.client("source"), counted);
    let (_, made) = app.create(json!({"owner": "test", "definition": "fails"}));
    assert!(made.is_err());
    assert_eq!(app.databases(), ["source"]);
    let made = app.made("copy");
    assert!(app.purge(&made));
    app.made("fixed");
    let made = app.made("fixed");
    assert!(app.purge(&made));
    assert_eq!(app.databases(), ["source"]);
    let row = app.client("source").query_one("SELECT value FROM rc.rc", &[]).unwrap();
    assert_eq!(row.get::<_, i32>(0), 3);
}

/// The text of an error about a mart's place, up to what helps.
fn first_line(error: &str) -> &str {
    error.lines().next().unwrap_or_default()
}

/// What helps, by the line that tells it.
fn helps(error: &str, line: &str) -> String {
    let mut lines = error.lines().skip_while(|said| !said.starts_with(line));
    lines.nth(1).unwrap_or_else(|| panic!("{error}")).trim().to_owned()
}

const MADE_ELSEWHERE: &str =
    "The Mart was made on another database server than Marts are made on now";

const TAKEN: &str = "Cannot set name of Mart to \"fixed_mart\" because a database of that name is \
                     there that is not known to be a Mart's";

impl App {
    fn refusal(&self, mart: &Mart) -> String {
        purge(&self.settings, &self.definitions, mart).unwrap_err().to_string()
    }
}

/// The databases of the marts' names on another server, which marts are made on now, are not theirs.
#[test]
fn marts_of_another_server_stay_and_cost_no_database_here() {
    let Some(mut app) = app() else { return };
    let Some(other) = Server::start() else { return };
    let fixed = app.made("fixed");
    let one = app.made("one");
    let there = app.settings.hosting.clone();
    app.settings.hosting = Address::parse(&other.uri("postgres")).unwrap();
    let names = || {
        let query = "SELECT datname::text FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'";
        let rows = other.client("postgres").query(query, &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    };

    // What is of another server is told, and what helps; the record stays, too.
    assert_eq!(first_line(&app.refusal(&one)), MADE_ELSEWHERE);
    run(&mut other.client("postgres"), "CREATE DATABASE fixed_mart");
    run(&mut other.client("fixed_mart"), "CREATE TABLE precious AS SELECT 42");
    assert_eq!(first_line(&app.refusal(&fixed)), MADE_ELSEWHERE);
    let (_, made) = app.create(json!({"owner": "test", "definition": "fixed"}));
    let error = made.unwrap_err();
    assert_eq!(first_line(&error), TAKEN);
    assert!(helps(&error, "If it is the same server").starts_with("UPDATE"), "{error}");
    other.client("fixed_mart").query_one("SELECT * FROM precious", &[]).unwrap();
    // Nor does a quota, or what cleans up.
    let (log, made) = app.create(json!({"owner": "test", "definition": "one"}));
    assert!(made.is_ok() && log.join("\n").contains(MADE_ELSEWHERE), "{log:?}");
    run(
        &mut app.client(APPLICATION),
        "UPDATE rexmart_inventory SET status = 'processing' WHERE code = 2;
         UPDATE rexmart_building SET claim = i.name, final_name = 'fixed_mart'
         FROM rexmart_inventory AS i WHERE i.id = rexmart_inventory__id AND i.code = 2",
    );
    assert!(rex_mart::tidy(&app.settings).unwrap());
    assert_eq!((names().len(), app.inventory().len(), app.databases().len()), (2, 3, 2));

    // Where there is none of its name, another one is made, and each is purged on its own server.
    run(&mut other.client("postgres"), "DROP DATABASE fixed_mart");
    app.made("fixed");
    let second = app.made("fixed");
    assert_eq!(app.inventory().iter().filter(|mart| mart.name == "fixed_mart").count(), 2);
    assert_eq!(first_line(&app.refusal(&fixed)), MADE_ELSEWHERE);
    let here = std::mem::replace(&mut app.settings.hosting, there);
    assert!(app.purge(&fixed));
    assert_eq!(first_line(&app.refusal(&second)), MADE_ELSEWHERE);
    assert!(rex_mart::tidy(&app.settings).unwrap());
    assert!(app.databases().is_empty());
    // A server that was upgraded is another one, until it is told.
    app.settings.hosting = here;
    let strange = "UPDATE rexmart_building SET server = '1', database_oid = 1";
    run(&mut app.client(APPLICATION), strange);
    let told = helps(&app.refusal(&second), "If it is the same server");
    run(&mut app.client(APPLICATION), &told);
    for mart in app.inventory() {
        assert!(app.purge(&mart));
    }
    assert!(names().is_empty());
}

/// That is told before anything is done.
#[test]
fn a_fixed_name_that_somebody_elses_database_has_is_told_at_once() {
    let Some(app) = app() else { return };
    run(&mut app.client("postgres"), "CREATE DATABASE fixed_mart");
    let (log, made) = app.create(json!({"owner": "test", "definition": "fixed"}));
    let text = format!("{TAKEN}\nWhile creating Mart database:\n    fixed");
    assert_eq!(made.unwrap_err(), text);
    assert_eq!(log.len(), 1, "{log:?}");
    let left = (app.inventory(), app.databases());
    assert_eq!(left, (vec![], vec!["fixed_mart".to_owned()]));

    // Whoever gives the name to a mart looks whether it goes.
    run(&mut app.client("postgres"), "DROP DATABASE fixed_mart");
    app.made("fixed");
    app.made("fixed");
}

/// Somebody dropped the mart's database, and made one of its name.
#[test]
fn a_database_that_took_the_name_of_a_marts_is_not_its_own() {
    let Some(app) = app() else { return };
    let fixed = app.made("fixed");
    run(&mut app.client("postgres"), "DROP DATABASE fixed_mart");
    run(&mut app.client("postgres"), "CREATE DATABASE fixed_mart");
    let text = "The database of this name is not the one that was made for the Mart:";
    assert_eq!(first_line(&app.refusal(&fixed)), text);
    let (_, made) = app.create(json!({"owner": "test", "definition": "fixed"}));
    assert_eq!(first_line(&made.unwrap_err()), text);
    assert_eq!(
        (app.inventory(), app.databases()),
        (vec![fixed.clone()], vec!["fixed_mart".into()])
    );
    // Nor when whoever gave the mart its name is gone.
    run(
        &mut app.client(APPLICATION),
        "UPDATE rexmart_inventory SET status = 'processing', name = 'mart_1';
         UPDATE rexmart_building SET claim = 'mart_1', final_name = 'fixed_mart'",
    );
    assert!(rex_mart::tidy(&app.settings).unwrap());
    assert_eq!((app.inventory(), app.databases()), (vec![], vec!["fixed_mart".to_owned()]));
    run(&mut app.client("postgres"), "DROP DATABASE fixed_mart");

    // It is, if somebody says so; without a database only the record goes.
    let fixed = app.made("fixed");
    let told = "ALTER DATABASE fixed_mart RENAME TO lost; CREATE DATABASE fixed_mart TEMPLATE lost";
    told.split(';').for_each(|sql| run(&mut app.client("postgres"), sql));
    let error = app.refusal(&fixed);
    let forgets = "DELETE FROM rexmart_inventory WHERE code = 1;";
    assert_eq!(helps(&error, "If the Mart's own is gone"), forgets);
    run(&mut app.client(APPLICATION), &helps(&error, "If it is the Mart's own"));
    assert!(app.purge(&fixed));
    assert_eq!(app.databases(), ["lost"]);
    let fixed = app.made("fixed");
    run(&mut app.client("postgres"), "DROP DATABASE fixed_mart");
    assert!(app.purge(&fixed));
    assert!(app.inventory().is_empty());
}

/// What earlier builds and the original have left says nothing of the place.
#[test]
fn a_mart_of_an_unknown_place_goes_by_its_name() {
    let Some(app) = app() else { return };
    let fixed = app.made("fixed");
    let forgotten = "UPDATE rexmart_building SET server = NULL, database_oid = NULL";
    run(&mut app.client(APPLICATION), forgotten);
    let again = app.made("fixed");
    assert_eq!((app.inventory().len(), app.purge(&fixed)), (1, false));
    run(&mut app.client(APPLICATION), forgotten);
    assert!(app.purge(&again));
    assert!(app.inventory().is_empty() && app.databases().is_empty());

    // The tables of an earlier build want to be deployed again.
    let earlier = "ALTER TABLE rexmart_building DROP COLUMN server, DROP COLUMN database_oid";
    run(&mut app.client(APPLICATION), earlier);
    let (_, made) = app.create(json!({"owner": "test", "definition": "plain"}));
    let helps = "The tables of marts are made by:\n    rex-host deploy --project NAME";
    let error = made.unwrap_err();
    assert!(error.contains(helps), "{error}");
    deploy(&app.settings.database, &["rex.job", "rex.mart"]);
    assert_eq!(app.made("plain").code, 1);
}

/// A role that may not ask which server it is makes marts, too.
#[test]
fn a_mart_is_made_where_the_server_is_not_told() {
    let Some(mut app) = app() else { return };
    run(
        &mut app.client("postgres"),
        "CREATE ROLE plain LOGIN CREATEDB; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
    );
    app.settings.hosting =
        Address::parse(&app.server.uri("postgres").replace("rex@", "plain@")).unwrap();
    let fixed = app.made("fixed");
    run(&mut app.client("postgres"), "ALTER DATABASE fixed_mart RENAME TO lost");
    run(&mut app.client("postgres"), "CREATE DATABASE fixed_mart");
    assert!(app.refusal(&fixed).starts_with("The database of this name"));
}
