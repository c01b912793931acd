//! What a claim reads does not grow with what waits, nor with dead rows that an old snapshot keeps;
//! and nothing is passed over for it.

use std::time::Duration;

use postgres::Client;
use rex_test_support::pg::Database;
use rex_test_support::server::Server;
use rex_transport::contract::{all_done, finished, numbers, queue, task, wait_for, with};
use rex_transport::{Attributes, Due, NewTask, Outcome, Transport, Want};
use serde_json::json;

use super::{database, host, uri};

fn urgent(number: u64, priority: i16) -> NewTask {
    with(number, Attributes { priority, ..Attributes::default() })
}

fn delayed(number: u64, wait: Duration) -> NewTask {
    with(number, Attributes { due: Due::In(wait), ..Attributes::default() })
}

/// Claims as many, which are recorded as done.
fn work(host: &mut dyn Transport, want: &Want) -> Vec<u64> {
    let Some(claim) = host.claim(&queue("foo"), want).unwrap() else { return Vec::new() };
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    numbers(&claim)
}

/// A database on a server of its own: while any transaction there is open, looks begin at the start.
pub(super) fn alone() -> Option<(Server, Database)> {
    let server = Server::start()?;
    let database = Database::on(&server);
    Some((server, database))
}

/// Index entries read by the database's sessions, which must be ended for their figures to count.
fn read(database: &Database, index: &str, keeper: &mut Client) -> i64 {
    let own = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND pid <> $1";
    let keeper: i32 = keeper.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    let mut admin = database.connect();
    wait_for("the sessions' end", || {
        admin.query_one(own, &[&keeper]).unwrap().get::<_, i64>(0) == 0
    });
    let read = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = $1";
    admin.query_one(read, &[&index]).unwrap().get(0)
}

/// A session that has looked, and does nothing more.
fn keep_snapshot(database: &Database) -> Client {
    let mut keeper = database.connect();
    keeper.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class").unwrap();
    keeper
}

const ROUNDS: u64 = 60;
const BATCH: u64 = 50;
/// All rounds together would read some hundred thousand if each read what is left of those before.
const LITTLE: i64 = 60_000;

#[test]
fn dead_rows_of_tasks_with_attributes_are_not_read_again() {
    let Some((_server, database)) = alone() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let mut keeper = keep_snapshot(&database);
    for round in 0..ROUNDS {
        let tasks: Vec<NewTask> =
            (0..BATCH).map(|n| urgent(round * BATCH + n, (n % 3) as i16)).collect();
        host.submit(&tasks).unwrap();
        assert_eq!(work(&mut *host, &Want::tasks(100)).len(), tasks.len());
    }
    drop(host);
    let read = read(&database, "rex_tasks_ready", &mut keeper);
    assert!(read < LITTLE, "{read} entries read");
}

/// The original's table has an index that knows names alone, which must not be gone through.
#[test]
fn dead_rows_of_the_originals_table_are_not_read_again() {
    let Some((_server, database)) = alone() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    // So many that this index is the least to go down.
    let many = "INSERT INTO asynctask.asynctask_queue (queue_name, payload)
            SELECT 'foo', '{\"n\": 1}' FROM generate_series(1, 200000);
        ANALYZE asynctask.asynctask_queue";
    database.connect().batch_execute(many).unwrap();
    let mut keeper = keep_snapshot(&database);
    for _ in 0..ROUNDS {
        assert_eq!(work(&mut *host, &Want::tasks(BATCH as usize)).len(), BATCH as usize);
    }
    drop(host);
    for index in ["idx_asynctask_queue_name", "rex_queue_order"] {
        let read = read(&database, index, &mut keeper);
        assert!(read < LITTLE, "{read} entries of {index} read");
    }
}

/// What goes back lies below what was taken, and is found all the same.
#[test]
fn dead_rows_are_not_read_again_for_what_goes_back() {
    let Some((_server, database)) = alone() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let mut keeper = keep_snapshot(&database);
    let mut last = None;
    for round in 0..ROUNDS {
        let first = round * BATCH;
        let tasks: Vec<NewTask> = (first..first + BATCH).map(|n| task("foo", n)).collect();
        host.submit(&tasks).unwrap();
        let claim = host.claim(&queue("foo"), &Want::tasks(100)).unwrap().unwrap();
        let expected: Vec<u64> = last.into_iter().chain(first..first + BATCH).collect();
        assert_eq!(numbers(&claim), expected);
        // One from the middle.
        let mut outcomes = all_done(&claim);
        outcomes[20].outcome = Outcome::Released;
        assert_eq!(host.finish(&outcomes).unwrap(), []);
        last = expected.get(20).copied();
    }
    drop(host);
    let read = read(&database, "rex_queue_order", &mut keeper);
    assert!(read < LITTLE, "{read} entries read");
}

/// One that starts has taken nothing by which it could know them.
#[test]
fn a_host_that_starts_beside_dead_rows_does_not_read_them_again() {
    const DEAD: u64 = 5000;
    let Some((_server, database)) = alone() else { return };
    let uri = uri(&database.uri());
    let mut first = host(&uri, "a");
    first.submit(&(0..DEAD).map(|n| task("foo", n)).collect::<Vec<_>>()).unwrap();
    first.submit(&(0..DEAD).map(|n| urgent(n, 0)).collect::<Vec<_>>()).unwrap();
    let mut keeper = keep_snapshot(&database);
    assert_eq!(work(&mut *first, &Want::tasks(3 * DEAD as usize)).len() as u64, 2 * DEAD);
    drop(first);
    let indexes = ["rex_queue_order", "rex_tasks_ready"];
    let before = indexes.map(|index| read(&database, index, &mut keeper));
    let mut second = host(&uri, "b");
    for round in 0..ROUNDS {
        // Of the one kind for a while, then of the other.
        let next = if round < ROUNDS / 2 { urgent(round, 1) } else { task("foo", round) };
        second.submit(&[next]).unwrap();
        assert_eq!(work(&mut *second, &Want::tasks(BATCH as usize)), [round]);
    }
    drop(second);
    for (index, before) in indexes.into_iter().zip(before) {
        let read = read(&database, index, &mut keeper) - before;
        assert!(read < LITTLE, "{read} entries of {index} read");
    }
}

#[test]
fn dead_rows_of_delayed_tasks_are_not_read_again() {
    let Some((_server, database)) = alone() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let mut keeper = keep_snapshot(&database);
    // One that waits for long has the smallest id: what is made claimable is below marks, too.
    for round in 0..ROUNDS {
        let tasks: Vec<NewTask> = (0..BATCH)
            .map(|n| match n % 2 {
                0 => delayed(round * BATCH + n, Duration::ZERO),
                _ => urgent(round * BATCH + n, 0),
            })
            .collect();
        host.submit(&tasks).unwrap();
        let mut done = 0;
        wait_for("the delayed tasks", || {
            done += work(&mut *host, &Want::tasks(100)).len();
            done == tasks.len()
        });
    }
    drop(host);
    for index in ["rex_tasks_ready", "rex_tasks_due"] {
        let read = read(&database, index, &mut keeper);
        assert!(read < LITTLE, "{read} entries of {index} read");
    }
}

#[test]
fn ended_claims_are_not_counted_again() {
    let Some((_server, database)) = alone() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    // Known to be empty: the plan least inclined to look claims up by their ids.
    database.connect().batch_execute("VACUUM ANALYZE asynctask.rex_claims").unwrap();
    let mut keeper = keep_snapshot(&database);
    let tasks: Vec<NewTask> = (0..500).map(|n| task("foo", n)).collect();
    host.submit(&tasks).unwrap();
    let want = Want { in_flight: Some(1), ..Want::tasks(1) };
    for number in 0..500 {
        assert_eq!(work(&mut *host, &want), [number]);
    }
    drop(host);
    for index in ["rex_claims_queue", "rex_claims_pkey"] {
        let read = read(&database, index, &mut keeper);
        assert!(read < 10_000, "{read} entries of {index} read");
    }
}

#[test]
fn tasks_for_tomorrow_are_not_read() {
    let Some((_server, database)) = alone() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let tomorrow: Vec<NewTask> =
        (0..2000).map(|n| delayed(n, Duration::from_secs(86_400))).collect();
    host.submit(&tomorrow).unwrap();
    for n in 0..20 {
        host.submit(&[delayed(n, Duration::ZERO)]).unwrap();
        wait_for("the one for today", || work(&mut *host, &Want::tasks(9)) == [n]);
        assert_eq!(work(&mut *host, &Want::tasks(9)), [0; 0]);
        assert!(host.next_due(&queue("foo")).unwrap().is_some());
        assert!(host.is_idle(&queue("foo")).unwrap());
    }
    drop(host);
    let read = read(&database, "rex_tasks_due", &mut database.connect());
    // All of them now and then, not each time.
    assert!(read < 10_000, "{read} entries read");
}

#[test]
fn an_urgent_task_is_claimed_before_what_marks_are_in() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    host.submit(&(0..9).map(|n| urgent(n, 5)).collect::<Vec<_>>()).unwrap();
    assert_eq!(work(&mut *host, &Want::tasks(3)), [0, 1, 2]);
    assert_eq!(work(&mut *host, &Want::tasks(1)), [3]);
    host.submit(&[urgent(10, 7), urgent(11, -1), urgent(12, 5), urgent(13, 6)]).unwrap();
    assert_eq!(work(&mut *host, &Want::tasks(2)), [11, 4]);
    host.submit(&[urgent(14, -1), urgent(15, i16::MIN), urgent(16, i16::MAX)]).unwrap();
    let rest = [15, 14, 5, 6, 7, 8, 12, 13, 10, 16];
    assert_eq!(work(&mut *host, &Want::tasks(99)), rest);
}

#[test]
fn a_task_that_is_tried_again_keeps_its_place_below_a_mark() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let name = queue("foo");
    host.submit(&(0..6).map(|n| urgent(n, 1)).collect::<Vec<_>>()).unwrap();
    let first = host.claim(&name, &Want::tasks(2)).unwrap().unwrap();
    assert_eq!(work(&mut *host, &Want::tasks(1)), [2]);
    let again = || Outcome::Retry { after: Duration::ZERO, history: json!([]) };
    host.finish(&[finished(&first, 0, again()), finished(&first, 1, again())]).unwrap();
    let second = host.claim(&name, &Want::tasks(1)).unwrap().unwrap();
    assert_eq!((numbers(&second), second.tasks[0].attempt), (vec![0], 2));
    assert_eq!(work(&mut *host, &Want::tasks(1)), [1], "it was made claimable with the other");
    host.finish(&[finished(&second, 0, Outcome::Released)]).unwrap();
    assert_eq!(work(&mut *host, &Want::tasks(9)), [0, 3, 4, 5]);
}

#[test]
fn what_commits_late_is_claimed_at_once() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let mut late = database.connect();
    let submit = "SELECT asynctask.rex_submit('foo', '{\"n\": 1}', priority => 3::smallint),
        asynctask.rex_submit('foo', '{\"n\": 2}', priority => 3::smallint),
        asynctask.rex_submit('foo', '{\"n\": 3}')";
    late.batch_execute("BEGIN").unwrap();
    late.execute(submit, &[]).unwrap();
    for n in 0..3 {
        host.submit(&[urgent(10 + n, 3), task("foo", 20 + n)]).unwrap();
        assert_eq!(work(&mut *host, &Want::tasks(9)), [20 + n, 10 + n]);
        assert_eq!(work(&mut *host, &Want::tasks(9)), [0; 0]);
    }
    late.batch_execute("COMMIT").unwrap();
    let one = |host: &mut dyn Transport| work(host, &Want::tasks(1));
    assert_eq!([one(&mut *host), one(&mut *host), one(&mut *host)], [[3], [1], [2]]);
}

#[test]
fn what_another_host_made_claimable_is_found() {
    let Some(database) = database() else { return };
    let uri = uri(&database.uri());
    let (mut first, mut second) = (host(&uri, "a"), host(&uri, "b"));
    first.submit(&(0..3).map(|n| delayed(n, Duration::ZERO)).collect::<Vec<_>>()).unwrap();
    first.submit(&[urgent(9, 0)]).unwrap();
    // The other's mark is above them.
    let mut done = Vec::new();
    wait_for("the last one", || {
        done.extend(work(&mut *second, &Want::tasks(9)));
        done.contains(&9)
    });
    first.submit(&(10..13).map(|n| delayed(n, Duration::ZERO)).collect::<Vec<_>>()).unwrap();
    first.submit(&[urgent(19, 0)]).unwrap();
    wait_for("the first one", || {
        done.extend(work(&mut *first, &Want::tasks(1)));
        done.len() > 4
    });
    wait_for("the others", || {
        done.extend(work(&mut *second, &Want::tasks(9)));
        done.len() == 8
    });
}

#[test]
fn a_task_that_is_never_due_keeps_nobody_busy() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let submit = "SELECT asynctask.rex_submit('foo', '{\"n\": 1}', due => $1::text::timestamptz)";
    let mut producer = database.connect();
    producer.execute(submit, &[&"infinity"]).unwrap();
    assert_eq!(work(&mut *host, &Want::tasks(9)), [0; 0]);
    assert_eq!(host.next_due(&queue("foo")).unwrap(), None);
    producer.execute(submit, &[&"-infinity"]).unwrap();
    wait_for("the one of the past", || work(&mut *host, &Want::tasks(9)) == [1]);
    assert!(host.is_idle(&queue("foo")).unwrap());
}
