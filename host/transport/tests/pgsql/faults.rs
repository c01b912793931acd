//! Broken connections, killed sessions, a server that goes away: nothing is lost, nothing is done
//! twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use rex_test_support::pg::Database;
use rex_test_support::proxy::Proxy;
use rex_test_support::server::Server;
use rex_transport::contract::{all_done, numbers, queue, task, wait_for};
use rex_transport::{Kind, Options, Owner, Transport, TransportError, Wake, Want, open};
use rustix::process::{Pid, Signal, kill_process};

use super::{database, host, uri};

/// Ends every other session of the database, as a broken network would. Those that are made meanwhile
/// are others.
fn break_sessions(admin: &mut Client) {
    let others = "SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let ended: Vec<i32> = admin.query(others, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    let end = "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS ends (pid)";
    admin.execute(end, &[&ended]).unwrap();
    let rest = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)";
    wait_for("the sessions' end", || {
        admin.query_one(rest, &[&ended]).unwrap().get::<_, i64>(0) == 0
    });
}

/// Fails once, since the connection is gone, and works the next time.
#[track_caller]
fn again<T>(
    transport: &mut dyn Transport,
    call: impl Fn(&mut dyn Transport) -> Result<T, TransportError>,
) -> T {
    if let Err(error) = call(transport) {
        assert_eq!(error.kind, Kind::Unreachable, "{error}");
    }
    call(transport).unwrap()
}

fn claims(database: &Database) -> i64 {
    let mut admin = database.connect();
    admin.query_one("SELECT count(*) FROM asynctask.rex_claims", &[]).unwrap().get(0)
}

#[test]
fn a_host_whose_connection_breaks_keeps_its_tasks() {
    let Some(database) = database() else { return };
    let uri = uri(&database.uri());
    let (mut first, mut second) = (host(&uri, "a"), host(&uri, "b"));
    first.submit(&[task("foo", 1), task("foo", 2), task("foo", 3)]).unwrap();
    let claim = first.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    break_sessions(&mut database.connect());
    // The other host sees the lock free: within the grace it takes nothing.
    assert_eq!(again(&mut *second, |second| second.rescue()), 0);
    assert_eq!(again(&mut *first, |first| first.rescue()), 0);
    assert_eq!(second.rescue().unwrap(), 0);
    assert_eq!(first.finish(&all_done(&claim)).unwrap(), []);
    assert_eq!(numbers(&first.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [3]);
}

/// A server process that is stopped until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn stop(pid: i32) -> Stopped {
        let stopped = Stopped(Pid::from_raw(pid).unwrap());
        kill_process(stopped.0, Signal::STOP).unwrap();
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).unwrap();
    }
}

/// It is told to end, and a busy server takes longer for that than one waits for other locks.
#[test]
fn a_host_waits_for_the_end_of_its_former_session() {
    let Some(database) = database() else { return };
    let uri = uri(&database.uri());
    let _former = host(&uri, "a");
    let mut admin = database.connect();
    let mut locks = |granted: bool| {
        let locks = "SELECT pid, query_start::text FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE locktype = 'advisory' AND granted = $1 AND datname = current_database()";
        admin.query(locks, &[&granted]).unwrap()
    };
    let stopped = Stopped::stop(locks(true)[0].get(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut waits = BTreeSet::new();
            wait_for("the host to wait twice", || {
                waits.extend(locks(false).iter().map(|row| row.get::<_, String>(1)));
                waits.len() > 1
            });
            drop(stopped);
        });
        let options = Options {
            owner: Some(Owner { id: "a".to_owned() }),
            lock_timeout: Duration::from_millis(100),
            ..Options::default()
        };
        open(&uri, &options).unwrap();
    });
}

#[test]
fn a_claim_whose_reply_was_lost_is_returned_later() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    host.submit(&[task("foo", 1), task("foo", 2), task("bar", 3)]).unwrap();
    let known = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let mut admin = database.connect();
    break_sessions(&mut admin);
    // What a claim leaves that was committed while its reply was on the way.
    admin
        .batch_execute(
            "WITH taken AS (DELETE FROM asynctask.asynctask_queue WHERE queue_name = 'foo' RETURNING *)
             INSERT INTO asynctask.rex_claims (owner, queue_name, size, ids, payloads, dates, attempts)
             SELECT no, queue_name, 1, ARRAY[taken.id], ARRAY[payload], ARRAY[date_submitted], '{1}'
             FROM taken, asynctask.rex_owners",
        )
        .unwrap();
    assert_eq!(again(&mut *host, |host| host.poll(&queue("bar"))), 1);
    let lost = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&lost), [2]);
    assert!(host.claim(&queue("foo"), &Want::tasks(9)).unwrap().is_none());
    let both = [all_done(&known), all_done(&lost)].concat();
    assert_eq!(host.finish(&both).unwrap(), []);
    assert_eq!(claims(&database), 0);
}

#[test]
fn a_finish_whose_reply_was_lost_counts_once() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    let mut batch = all_done(&claim);
    batch[0].submits = vec![task("bar", 1)];
    let mut admin = database.connect();
    break_sessions(&mut admin);
    // What the finish leaves that was committed while its reply was on the way.
    admin
        .batch_execute(
            "DELETE FROM asynctask.rex_claims;
             INSERT INTO asynctask.asynctask_queue (queue_name, payload) VALUES ('bar', '{\"n\": 1}')",
        )
        .unwrap();
    assert_eq!(again(&mut *host, |host| host.finish(&batch)), [], "recorded, not taken over");
    assert_eq!(host.poll(&queue("bar")).unwrap(), 1);
    // Half of a claim.
    host.submit(&[task("foo", 3), task("foo", 4)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    break_sessions(&mut admin);
    admin.batch_execute("UPDATE asynctask.rex_claims SET done = ids[1:1]").unwrap();
    assert_eq!(again(&mut *host, |host| host.finish(&all_done(&claim)[..1])), []);
    assert_eq!(claims(&database), 1);
    assert_eq!(host.finish(&all_done(&claim)[1..]).unwrap(), []);
    assert_eq!(claims(&database), 0);
}

#[test]
fn a_takeover_while_the_connection_was_broken() {
    let Some(database) = database() else { return };
    let uri = uri(&database.uri());
    let mut first = host(&uri, "a");
    first.submit(&[task("foo", 1)]).unwrap();
    let claim = first.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    break_sessions(&mut database.connect());
    let owner = Some(Owner { id: "b".to_owned() });
    let grace = Duration::from_millis(20);
    let options = Options { owner, rescue_grace: grace, ..Options::default() };
    let mut second = open(&uri, &options).unwrap();
    wait_for("the rescue", || second.rescue().unwrap() == 1);
    let taken = second.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let refused = again(&mut *first, |first| first.finish(&all_done(&claim)));
    assert_eq!(refused, [claim.tasks[0].id]);
    assert_eq!(second.finish(&all_done(&taken)).unwrap(), []);
}

/// A host that is stopped, or cut off, in the middle of a transaction holds locks.
#[test]
fn a_silent_host_is_taken_over_in_the_middle_of_a_transaction() {
    let Some(database) = database() else { return };
    let uri = uri(&database.uri());
    let (mut first, mut second) = (host(&uri, "a"), host(&uri, "b"));
    first.submit(&[task("foo", 1)]).unwrap();
    first.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    // Its session, in the test's hands.
    drop(first);
    let mut session = database.connect();
    session
        .batch_execute(
            "UPDATE asynctask.rex_owners SET beaten = beaten - interval '1 hour' WHERE id = 'a';
             SELECT pg_advisory_lock(lock_key) FROM asynctask.rex_owners WHERE id = 'a'",
        )
        .unwrap();
    session.batch_execute("BEGIN; SELECT FROM asynctask.rex_claims FOR UPDATE").unwrap();
    wait_for("the rescue", || second.rescue().unwrap() == 1);
    assert!(session.is_closed() || session.batch_execute("COMMIT").is_err());
    assert_eq!(numbers(&second.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap()), [1]);
}

/// A database that was set back to some time ago gives out its ids again.
#[test]
fn what_was_known_of_a_queue_counts_for_one_connection() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let name = queue("foo");
    let want = Want { in_flight: Some(2), ..Want::tasks(1) };
    let tasks: Vec<_> = (0..9).map(|n| task("foo", n)).collect();
    host.submit(&tasks).unwrap();
    for n in 0..3 {
        let claim = host.claim(&name, &want).unwrap().unwrap();
        assert_eq!(numbers(&claim), [n]);
        assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    }
    let mut admin = database.connect();
    admin.batch_execute("ALTER TABLE asynctask.rex_claims ALTER COLUMN id RESTART").unwrap();
    break_sessions(&mut admin);
    let mut other = super::host(&uri(&database.uri()), "b");
    let flying = other.claim(&name, &Want::tasks(2)).unwrap().unwrap();
    assert_eq!(numbers(&flying), [3, 4]);
    assert!(again(&mut *host, |host| host.claim(&name, &want)).is_none(), "two are in flight");
}

#[test]
fn the_watch_listens_again() {
    let Some(database) = database() else { return };
    let uri = uri(&database.uri());
    let mut host = host(&uri, "a");
    let (wake, woken) = crossbeam_channel::unbounded();
    let _watch = host.watch(wake).unwrap();
    break_sessions(&mut database.connect());
    // Nobody has told it what came meanwhile.
    assert_eq!(woken.recv_timeout(Duration::from_secs(20)), Ok(Wake::All));
    wait_for("word of a task", || {
        let _ended = host.submit(&[task("foo", 1)]);
        woken.recv_timeout(Duration::from_millis(100)) == Ok(Wake::Queue(queue("foo")))
    });
}

#[test]
fn a_server_that_goes_away_and_comes_back() {
    let Some(server) = Server::start() else { return };
    let database = Database::on(&server);
    let mut host = host(&uri(&database.uri()), "a");
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let (wake, woken) = crossbeam_channel::unbounded();
    let _watch = host.watch(wake).unwrap();
    for immediate in [false, true] {
        server.stop(immediate);
        assert_eq!(host.poll(&queue("foo")).unwrap_err().kind, Kind::Unreachable);
        let error = host.claim(&queue("foo"), &Want::tasks(1)).unwrap_err();
        assert_eq!(error.kind, Kind::Unreachable);
        assert!(error.text.starts_with("Failed to connect to the Postgres server:\n"), "{error}");
        server.restart();
        wait_for("the server", || host.poll(&queue("foo")).is_ok_and(|count| count == 1));
    }
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    wait_for("word of a task", || {
        host.submit(&[task("bar", 1)]).unwrap();
        woken.recv_timeout(Duration::from_millis(100)) == Ok(Wake::Queue(queue("bar")))
    });
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [2]);
}

/// Repeats a call until it succeeds, as a host does.
fn insist<T>(mut call: impl FnMut() -> Result<T, TransportError>) -> T {
    let started = Instant::now();
    loop {
        match call() {
            Ok(value) => return value,
            Err(error) => {
                let may_go_on = error.is_retryable() && started.elapsed() < Duration::from_secs(30);
                assert!(may_go_on, "{error}");
            }
        }
    }
}

#[test]
fn sessions_that_break_all_the_time_cost_and_double_nothing() {
    const TASKS: u64 = 1500;
    let Some(database) = database() else { return };
    let address = uri(&database.uri());
    let tasks: Vec<_> = (0..TASKS).map(|number| task("foo", number)).collect();
    host(&address, "submitter").submit(&tasks).unwrap();
    let finished = AtomicU64::new(0);
    let broken = AtomicU64::new(0);
    let seen = std::thread::scope(|scope| {
        let hosts: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|name| {
                let (address, finished) = (&address, &finished);
                scope.spawn(move || {
                    let options = Options {
                        owner: Some(Owner { id: name.to_owned() }),
                        // Reconnecting takes its time on a busy machine.
                        rescue_grace: Duration::from_secs(60),
                        ..Options::default()
                    };
                    let mut host = insist(|| open(address, &options));
                    let mut seen = Vec::new();
                    while finished.load(Ordering::SeqCst) < TASKS {
                        insist(|| host.rescue());
                        let Some(claim) = insist(|| host.claim(&queue("foo"), &Want::tasks(7)))
                        else {
                            continue;
                        };
                        let mut batch = all_done(&claim);
                        for (one, number) in batch.iter_mut().zip(numbers(&claim)) {
                            one.submits = vec![task("bar", number)];
                        }
                        // A part first, the rest in another call.
                        let rest = batch.split_off(batch.len() / 2);
                        assert_eq!(insist(|| host.finish(&batch)), []);
                        assert_eq!(insist(|| host.finish(&rest)), []);
                        finished.fetch_add(claim.tasks.len() as u64, Ordering::SeqCst);
                        seen.extend(numbers(&claim));
                    }
                    seen
                })
            })
            .collect();
        scope.spawn(|| {
            // One session at a time, whatever it is doing.
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                ORDER BY random() LIMIT 1";
            let mut admin = database.connect();
            let deadline = Instant::now() + Duration::from_secs(60);
            // As often as they allow: there is some progress between two breaks.
            let mut next = 0;
            while next + 20 < TASKS && Instant::now() < deadline {
                wait_for("some progress", || {
                    finished.load(Ordering::SeqCst) >= next || Instant::now() > deadline
                });
                broken.fetch_add(admin.execute(end, &[]).unwrap(), Ordering::SeqCst);
                next = finished.load(Ordering::SeqCst) + 20;
            }
        });
        hosts.into_iter().flat_map(|host| host.join().unwrap()).collect::<Vec<u64>>()
    });
    assert!(broken.into_inner() > 10, "sessions were broken");
    let in_order = |mut numbers: Vec<u64>| {
        numbers.sort_unstable();
        numbers.into_iter().eq(0..TASKS)
    };
    assert!(in_order(seen), "every task was claimed once");
    let mut last = host(&address, "last");
    let asked_for = last.claim(&queue("bar"), &Want::tasks(9999)).unwrap().unwrap();
    assert!(in_order(numbers(&asked_for)), "every submit was made once");
    assert_eq!(claims(&database), 1);
}

/// The time to connect is long here: it is not what ends the wait.
#[test]
fn a_watch_is_stopped_while_its_connection_is_not_answered() {
    let Some(database) = database() else { return };
    let proxy = Proxy::to(&database.address());
    let address = database.uri().replace(&database.address(), proxy.address());
    let transport = host(&uri(&format!("{address}?connect_timeout=600")), "a");
    for word in [None, Some("LISTEN")] {
        let (wake, _woken) = crossbeam_channel::unbounded::<Wake>();
        let watch = transport.watch(wake).unwrap();
        match word {
            None => {
                proxy.hush();
                wait_for("the watch to connect again", || proxy.unheard() > 0);
            }
            Some(word) => {
                proxy.hush_before(word.as_bytes());
                break_sessions(&mut database.connect());
                wait_for("the watch to listen again", || proxy.is_hushed());
            }
        }
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            drop(watch);
            // Who waits may have given up.
            let _ = tell.send(());
        });
        told.recv_timeout(Duration::from_secs(8)).expect("the watch's end");
        proxy.restore();
    }
}
