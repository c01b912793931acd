//! The original's programs on the same table: what they write is worked, what we write they read,
//! what we have claimed they do not see.

use std::time::Duration;

use rex_test_support::pg::Database;
use rex_test_support::server::Server;
use rex_transport::contract::{all_done, fails, finished, numbers, queue, task};
use rex_transport::{DeadQuery, Death, Kind, Options, Outcome, Owner, Wake, Want, open};

use super::{database, host, uri};

/// As the original makes it.
const ORIGINAL: &str = "
CREATE SCHEMA asynctask;
COMMENT ON SCHEMA asynctask IS 'version: 1';
CREATE TABLE asynctask.asynctask_queue (
    id bigserial PRIMARY KEY,
    queue_name text NOT NULL,
    payload json NOT NULL,
    date_submitted timestamp DEFAULT current_timestamp
);
CREATE INDEX idx_asynctask_queue_name ON asynctask.asynctask_queue (queue_name);";

#[test]
fn an_untouched_table_with_rows_is_taken_on() {
    let Some(database) = database() else { return };
    let mut old = database.connect();
    old.batch_execute(ORIGINAL).unwrap();
    old.batch_execute(
        "INSERT INTO asynctask.asynctask_queue (queue_name, payload) VALUES
            ('foo', '{\"n\":1}'), ('foo', '{\"n\": 2, \"text\": \"é\"}'), ('Bad Name', '{}');
         INSERT INTO asynctask.asynctask_queue (queue_name, payload, date_submitted)
         VALUES ('foo', '{\"n\": 3}', NULL)",
    )
    .unwrap();
    let mut host = host(&uri(&database.uri()), "a");
    assert_eq!(host.poll(&queue("foo")).unwrap(), 3);
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [1, 2, 3]);
    assert_eq!(claim.tasks[0].payload.as_str(), "{\"n\":1}", "the text is the producer's");
    host.finish(&all_done(&claim)).unwrap();
    // While the host runs, a producer's row is announced and worked.
    let (wake, woken) = crossbeam_channel::unbounded();
    let watch = host.watch(wake).unwrap();
    let insert =
        "INSERT INTO asynctask.asynctask_queue (queue_name, payload) VALUES ($1, $2::text::json)";
    old.execute(insert, &[&"foo", &"{\"n\": 4}"]).unwrap();
    assert_eq!(woken.recv_timeout(Duration::from_secs(20)).unwrap(), Wake::Queue(queue("foo")));
    drop(watch);
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [4]);
    let names: Vec<String> =
        host.queues().unwrap().iter().map(|status| status.queue.to_string()).collect();
    assert_eq!(names, ["foo"], "what no command could name is not listed");
}

#[test]
fn the_database_has_its_usual_names_too() {
    let Some(database) = database() else { return };
    for scheme in ["postgresql:", "postgres:"] {
        let address = database.uri().replacen("pgsql:", scheme, 1);
        assert!(address.starts_with(scheme), "{address}");
        assert_eq!(host(&uri(&address), scheme).poll(&queue("foo")).unwrap(), 0);
    }
}

#[test]
fn rows_of_any_id_are_worked() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let insert = "INSERT INTO asynctask.asynctask_queue (id, queue_name, payload)
        VALUES (-5, 'foo', '{\"n\": 1}'), (0, 'foo', '{\"n\": 2}'), (7, 'foo', '{\"n\": 3}')";
    database.connect().batch_execute(insert).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [1, 2, 3]);
    host.finish(&all_done(&claim)).unwrap();
    assert!(host.is_idle(&queue("foo")).unwrap());
}

#[test]
fn what_we_submit_the_original_consumes() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    host.submit(&[task("foo", 1), task("foo", 2), task("foo", 3)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let mut old = database.connect();
    let comment = "SELECT obj_description('asynctask'::regnamespace)";
    assert_eq!(old.query_one(comment, &[]).unwrap().get::<_, String>(0), "version: 1");
    old.execute("SELECT pg_advisory_lock(1234567890, 200198069)", &[]).unwrap();
    let first = "SELECT id, payload::text FROM asynctask.asynctask_queue
        WHERE queue_name = 'foo' ORDER BY id LIMIT 1";
    let row = old.query_one(first, &[]).unwrap();
    let (id, payload): (i64, String) = (row.get(0), row.get(1));
    assert_eq!(payload, "{\"n\": 2}", "the claimed task is out of sight");
    assert_eq!(
        old.execute("DELETE FROM asynctask.asynctask_queue WHERE id = $1", &[&id]).unwrap(),
        1
    );
    old.execute("SELECT pg_advisory_unlock(1234567890, 200198069)", &[]).unwrap();
    assert_eq!(host.poll(&queue("foo")).unwrap(), 1);
    // What comes back is seen again, under its old id.
    host.finish(&[finished(&claim, 0, Outcome::Released)]).unwrap();
    let row = old.query_one(first, &[]).unwrap();
    assert_eq!(row.get::<_, i64>(0), claim.tasks[0].id.0);
}

#[test]
fn a_stuck_old_consumer_cannot_hang_us() {
    let Some(database) = database() else { return };
    let owner = Some(Owner { id: "a".to_owned() });
    let options = Options { owner, lock_timeout: Duration::from_millis(50), ..Options::default() };
    let mut host = open(&uri(&database.uri()), &options).unwrap();
    host.submit(&[task("foo", 1), task("bar", 2)]).unwrap();
    let mut old = database.connect();
    old.execute("SELECT pg_advisory_lock(1234567890, 200198069)", &[]).unwrap();
    let error = host.claim(&queue("foo"), &Want::tasks(1)).unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.text.contains("lock timeout"), "{error}");
    assert!(error.hint.unwrap().contains("lock"));
    // Other queues go on, and so does this one when the lock is free.
    assert_eq!(numbers(&host.claim(&queue("bar"), &Want::tasks(1)).unwrap().unwrap()), [2]);
    drop(old);
    rex_transport::contract::wait_for("the lock", || {
        host.claim(&queue("foo"), &Want::tasks(1)).is_ok_and(|claim| claim.is_some())
    });
}

#[test]
fn another_master_lock_id() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&format!("{}?master_lock_id=999", database.uri())), "a");
    host.submit(&[task("foo", 1)]).unwrap();
    let mut old = database.connect();
    old.execute("SELECT pg_advisory_lock(1234567890, 200198069)", &[]).unwrap();
    assert!(host.claim(&queue("foo"), &Want::tasks(1)).unwrap().is_some());
}

#[test]
fn a_stored_payload_that_is_no_object_can_be_buried() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let mut old = database.connect();
    old.batch_execute(
        "INSERT INTO asynctask.asynctask_queue (queue_name, payload)
         VALUES ('foo', '[1]'), ('foo', 'null'), ('foo', '{\"n\": 1}')",
    )
    .unwrap();
    assert_eq!(host.peek(&queue("foo"), 9).unwrap().len(), 3);
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    let error = claim.tasks[0].payload.check().unwrap_err().to_string();
    assert_eq!(error, "Expected a mapping\nGot:\n    [1]");
    assert!(claim.tasks[1].payload.check().is_err() && claim.tasks[2].payload.check().is_ok());
    let death = Death { reason: error, details: serde_json::json!({}) };
    host.finish(&[finished(&claim, 0, Outcome::Dead(death))]).unwrap();
    assert_eq!(host.dead_letters(&DeadQuery::default()).unwrap()[0].payload.as_str(), "[1]");
}

/// A database of encoding SQL_ASCII takes any bytes.
#[test]
fn a_row_that_is_no_text_hides_no_other() {
    if database().is_none() {
        return;
    }
    let database = Database::sql_ascii();
    let mut host = host(&uri(&database.uri()), "a");
    let rows = r#"INSERT INTO asynctask.asynctask_queue (queue_name, payload)
        VALUES ('foo', E'{"k": "\351"}'), ('foo', '{"n": 2, "text": "é"}')"#;
    database.connect().batch_execute(rows).unwrap();
    // A name that no command could use, and a key.
    let odd = r#"INSERT INTO asynctask.asynctask_queue (queue_name, payload) VALUES (E'\351', '{}');
        SELECT asynctask.rex_submit('bar', '{}', unique_key => E'\351')"#;
    database.connect().batch_execute(odd).unwrap();
    let queues = host.queues().unwrap();
    let queues: Vec<&str> = queues.iter().map(|status| status.queue.as_str()).collect();
    assert_eq!(queues, ["bar", "foo"]);
    let keyed = host.claim(&queue("bar"), &Want::tasks(1)).unwrap().unwrap();
    let attributes = host.attributes(keyed.id).unwrap();
    assert_eq!(attributes[&keyed.tasks[0].id].unique.as_deref(), Some("\u{fffd}"));
    let name = queue("foo");
    assert_eq!(host.peek(&name, 9).unwrap().len(), 2);
    for _ in 0..2 {
        let claim = host.claim(&name, &Want::tasks(1)).unwrap().unwrap();
        assert_eq!(claim.tasks[0].payload.as_str(), "{\"k\": \"\u{fffd}\"}");
        claim.tasks[0].payload.check().unwrap_err();
        let death = Death { reason: "é".to_owned(), details: serde_json::json!({"text": "é"}) };
        host.finish(&[finished(&claim, 0, Outcome::Dead(death.clone()))]).unwrap();
        let letters = host.dead_letters(&DeadQuery::default()).unwrap();
        assert_eq!((&letters[0].payload, &letters[0].death), (&claim.tasks[0].payload, &death));
        assert_eq!(host.revive(&[letters[0].letter]).unwrap(), 1);
    }
    let claim = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    let good = claim.tasks.iter().find(|task| task.payload.is_text()).unwrap();
    assert_eq!(good.payload.as_str(), r#"{"n": 2, "text": "é"}"#);
}

#[test]
fn the_table_of_the_first_release_is_moved() {
    let Some(database) = database() else { return };
    let mut old = database.connect();
    old.batch_execute(
        "CREATE TABLE public.asynctask_queue (
            id bigserial PRIMARY KEY, queue_name text, payload json, date_submitted timestamp
         );
         INSERT INTO public.asynctask_queue (id, queue_name, payload)
         VALUES (7, 'foo', '{\"n\": 2}'), (3, 'foo', '{\"n\": 1}')",
    )
    .unwrap();
    let mut host = host(&uri(&database.uri()), "a");
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [1, 2]);
    let gone = "SELECT to_regclass('public.asynctask_queue') IS NULL";
    assert!(old.query_one(gone, &[]).unwrap().get::<_, bool>(0));
}

/// As somebody may have made or altered them.
#[test]
fn names_may_be_of_another_type_of_text() {
    for text in ["varchar", "varchar(100)", "char(10)", "name"] {
        let Some(database) = database() else { return };
        let mut admin = database.connect();
        admin
            .batch_execute(&ORIGINAL.replace("queue_name text", &format!("queue_name {text}")))
            .unwrap();
        let mut host = host(&uri(&database.uri()), "a");
        let name = queue("a_b_c_d_ef");
        host.submit(&[task(name.as_str(), 1), task(name.as_str(), 2)]).unwrap();
        let status = host.queues().unwrap();
        assert_eq!((&status[0].queue, status[0].waiting), (&name, 2), "{text}");
        assert_eq!(host.peek(&name, 9).unwrap().len(), 2);
        assert_eq!(numbers(&host.claim(&name, &Want::tasks(1)).unwrap().unwrap()), [1], "{text}");
        assert_eq!(host.purge(&name).unwrap(), 1);
    }
}

#[test]
fn ids_of_another_type_are_refused() {
    let Some(database) = database() else { return };
    let mut admin = database.connect();
    admin.batch_execute(&ORIGINAL.replace("bigserial", "serial")).unwrap();
    let error = fails(&database.uri());
    assert_eq!(error.kind, Kind::Config);
    assert!(error.text.contains("asynctask.asynctask_queue is integer,"), "{error}");
    admin.batch_execute(&error.hint.unwrap()).unwrap();
    let mut host = host(&uri(&database.uri()), "a");
    host.submit(&[task("foo", 1)]).unwrap();
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [1]);
}

#[test]
fn an_id_that_was_given_out_again_costs_no_task() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    host.submit(&[task("foo", 1)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let mut admin = database.connect();
    admin.batch_execute("TRUNCATE asynctask.asynctask_queue RESTART IDENTITY").unwrap();
    host.submit(&[task("foo", 2)]).unwrap();
    host.finish(&[finished(&claim, 0, Outcome::Released)]).unwrap();
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [2, 1]);
}

#[test]
fn a_claim_planned_on_an_empty_queue_goes_by_the_index_later() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let mut producer = database.connect();
    let off = "ALTER TABLE asynctask.asynctask_queue SET (autovacuum_enabled = off)";
    producer.batch_execute(off).unwrap();
    producer.batch_execute("VACUUM ANALYZE asynctask.asynctask_queue").unwrap();
    // Often enough for the server to settle on one plan, while there is next to nothing.
    for n in 1..=10 {
        host.submit(&[task("foo", n)]).unwrap();
        let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
        host.finish(&all_done(&claim)).unwrap();
        assert!(host.claim(&queue("foo"), &Want::tasks(1)).unwrap().is_none());
        assert!(host.is_idle(&queue("foo")).unwrap());
    }
    producer
        .batch_execute(
            "INSERT INTO asynctask.asynctask_queue (queue_name, payload)
             SELECT 'bar', '{}' FROM generate_series(1, 100000);
             INSERT INTO asynctask.asynctask_queue (queue_name, payload) VALUES ('foo', '{\"n\": 1}')",
        )
        .unwrap();
    let scans = "SELECT seq_tup_read + (
            SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'asynctask_queue'
        )::bigint
        FROM pg_stat_user_tables
        WHERE relname = 'asynctask_queue'";
    let before: i64 = producer.query_one(scans, &[]).unwrap().get(0);
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap()), [1]);
    assert!(host.is_idle(&queue("none")).unwrap());
    // A session's figures are published when it ends, if not before.
    drop(host);
    let own = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    rex_transport::contract::wait_for("the session's end", || {
        producer.query_one(own, &[]).unwrap().get::<_, i64>(0) == 0
    });
    producer.batch_execute("SELECT pg_stat_clear_snapshot()").unwrap();
    let after: i64 = producer.query_one(scans, &[]).unwrap().get(0);
    assert!(after - before < 1000, "{} rows read", after - before);
}

#[test]
fn no_statement_of_a_host_is_compiled() {
    let explain = [
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_analyze=on",
        "jit_above_cost=0",
    ];
    let Some(server) = Server::start_with(&explain) else { return };
    let address = server.create_database("app").unwrap();
    let mut host = host(&uri(&address), "a");
    host.submit(&[task("foo", 1)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    host.finish(&all_done(&claim)).unwrap();
    assert!(host.is_idle(&queue("foo")).unwrap());
    host.close().unwrap();
    let log = std::fs::read_to_string(server.log()).unwrap();
    let plans = log.split("plan:").filter(|plan| plan.contains("asynctask.rex_claims"));
    let compiled: Vec<&str> = plans.clone().filter(|plan| plan.contains("JIT:")).collect();
    assert!(plans.count() > 3, "{log}");
    assert!(compiled.is_empty(), "{}", compiled[0]);
}

#[test]
fn claims_are_compressed_quickly_where_the_server_can() {
    let Some(database) = database() else { return };
    let _host = host(&uri(&database.uri()), "a");
    let can =
        "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'";
    let quick = "SELECT bool_and(attcompression = 'l') FROM pg_attribute
        WHERE attrelid = 'asynctask.rex_claims'::regclass
            AND attname IN ('ids', 'payloads', 'dates', 'attempts', 'done')";
    let mut client = database.connect();
    let can: bool = client.query_one(can, &[]).unwrap().get(0);
    let quick: bool = client.query_one(quick, &[]).unwrap().get(0);
    assert_eq!(quick, can);
}
