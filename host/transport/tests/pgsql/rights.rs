//! What works with which rights, and what is said where they are missing.

use std::collections::BTreeSet;

use postgres::Client;
use rex_transport::contract::{all_done, dead, finished, numbers, queue, task, wait_for};
use rex_transport::{DeadQuery, Kind, Options, Owner, Wake, Want, open};

use super::{database, host, uri};

/// The same database under another login.
fn login(address: &str, login: &str) -> String {
    let (_, rest) = address.split_once('@').unwrap();
    format!("pgsql://{login}@{rest}")
}

#[test]
fn a_producer_needs_the_originals_table_alone() {
    let Some(database) = database() else { return };
    host(&uri(&database.uri()), "a").close().unwrap();
    let role = format!("{}_producer", database.name());
    let mut admin = database.connect();
    admin
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN;
             GRANT USAGE ON SCHEMA asynctask TO {role};
             GRANT INSERT, SELECT ON asynctask.asynctask_queue TO {role};
             GRANT USAGE ON SEQUENCE asynctask.asynctask_queue_id_seq TO {role};
             GRANT SELECT ON asynctask.rex_migrations TO {role}"
        ))
        .unwrap();
    let theirs = uri(&login(&database.uri(), &role));
    let mut producer = open(&theirs, &Options::default()).unwrap();
    producer.submit(&[task("foo", 1)]).unwrap();
    assert_eq!(producer.poll(&queue("foo")).unwrap(), 1);
    let error = producer.dead_letters(&DeadQuery::default()).unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.text.contains("permission denied for table rex_dead"), "{error}");
    assert!(error.hint.unwrap().contains("rights"));
    admin.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

#[test]
fn without_rights_to_change_the_table_we_go_on() {
    let Some(database) = database() else { return };
    let mut admin = database.connect();
    let role = format!("{}_host", database.name());
    // The original's table belongs to somebody else; our own tables may be made.
    open(&uri(&database.uri()), &Options::default()).unwrap();
    admin
        .batch_execute(&format!(
            "DROP TABLE asynctask.rex_claims, asynctask.rex_owners, asynctask.rex_tasks,
                 asynctask.rex_keys, asynctask.rex_queues, asynctask.rex_dead,
                 asynctask.rex_schedules, asynctask.rex_migrations;
             DROP FUNCTION asynctask.rex_submit;
             CREATE ROLE {role} LOGIN;
             GRANT USAGE, CREATE ON SCHEMA asynctask TO {role};
             GRANT INSERT, SELECT, DELETE, UPDATE ON asynctask.asynctask_queue TO {role};
             GRANT USAGE ON SEQUENCE asynctask.asynctask_queue_id_seq TO {role}"
        ))
        .unwrap();
    let theirs = uri(&login(&database.uri(), &role));
    let mut host = host(&theirs, "a");
    let trigger = "SELECT count(*) FROM pg_trigger WHERE tgname = 'rex_notify'";
    assert_eq!(admin.query_one(trigger, &[]).unwrap().get::<_, i64>(0), 0);
    // What we submit is announced all the same.
    let (wake, woken) = crossbeam_channel::unbounded();
    let watch = host.watch(wake).unwrap();
    host.submit(&[task("foo", 1)]).unwrap();
    assert_eq!(
        woken.recv_timeout(std::time::Duration::from_secs(20)).unwrap(),
        Wake::Queue(queue("foo"))
    );
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [1]);
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    drop((watch, host));
    admin.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

#[test]
fn without_rights_to_make_tables_a_host_says_so() {
    let Some(database) = database() else { return };
    let mut admin = database.connect();
    let role = format!("{}_nobody", database.name());
    admin.batch_execute(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    let theirs = uri(&login(&database.uri(), &role));
    let options = Options { owner: Some(Owner { id: "a".to_owned() }), ..Options::default() };
    let error = open(&theirs, &options).err().unwrap();
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.text.contains("permission denied for database"), "{error}");
    admin.batch_execute(&format!("DROP ROLE {role}")).unwrap();
}

#[test]
fn who_owns_the_schema_makes_the_tables() {
    let Some(database) = database() else { return };
    let mut admin = database.connect();
    let role = format!("{}_owner", database.name());
    let make = format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA asynctask AUTHORIZATION {role}");
    admin.batch_execute(&make).unwrap();
    let theirs = login(&database.uri(), &role);
    host(&uri(&theirs), "a").submit(&[task("foo", 1)]).unwrap();
    admin.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

#[test]
fn additions_can_be_switched_off() {
    let Some(database) = database() else { return };
    let owner = Some(Owner { id: "a".to_owned() });
    let options = Options { owner, additions: false, ..Options::default() };
    let mut host = open(&uri(&database.uri()), &options).unwrap();
    host.submit(&[task("foo", 1)]).unwrap();
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap()), [1]);
    let added = "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname = 'rex_notify')
        + (SELECT count(*) FROM pg_class WHERE relname = 'rex_queue_order')";
    assert_eq!(database.connect().query_one(added, &[]).unwrap().get::<_, i64>(0), 0);
}

#[test]
fn sessions_that_wait_are_not_ended() {
    let Some(database) = database() else { return };
    let mut admin = database.connect();
    admin
        .batch_execute(&format!(
            "ALTER DATABASE {} SET idle_session_timeout = '1s'",
            database.name()
        ))
        .unwrap();
    let mut host = host(&uri(&database.uri()), "a");
    let (wake, _woken) = crossbeam_channel::unbounded();
    let _watch = host.watch(wake).unwrap();
    host.submit(&[task("foo", 1)]).unwrap();
    let ours = "SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend'";
    let pids = |admin: &mut Client| -> BTreeSet<i32> {
        admin.query(ours, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    let before = pids(&mut admin);
    assert!(before.len() >= 2, "{before:?}");
    // One that waits no longer than they do, and is ended.
    let witness = database.connect();
    wait_for("the end of another", || pids(&mut admin).is_subset(&before));
    drop(witness);
    assert_eq!(pids(&mut admin), before);
}

#[test]
fn a_changed_default_of_the_role_changes_nothing() {
    let Some(database) = database() else { return };
    let mut admin = database.connect();
    admin
        .batch_execute(&format!(
            "ALTER DATABASE {name} SET default_transaction_isolation = 'serializable';
             ALTER DATABASE {name} SET search_path = 'nowhere';
             ALTER DATABASE {name} SET TimeZone = 'Pacific/Chatham'",
            name = database.name()
        ))
        .unwrap();
    let mut host = host(&uri(&database.uri()), "a");
    host.submit(&[task("foo", 1)]).unwrap();
    let submitted = host.peek(&queue("foo"), 1).unwrap()[0].submitted;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let age = now.as_micros().abs_diff(submitted.0.unsigned_abs().into());
    assert!(age < 60_000_000, "{age} µs");
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    host.finish(&[finished(&claim, 0, dead("broke"))]).unwrap();
    assert_eq!(host.dead_letters(&DeadQuery::default()).unwrap()[0].submitted, submitted);
}
