//! Which run of a job counts, on a real table: the moves of [`Table`], one after the other.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rex_db::{Address, Config, Session};
use rex_deploy::{Deployer, Facts};
use rex_htsql::Naming;
use rex_test_support::env::repository;
use rex_test_support::pg::Database;
use rex_test_support::pooler::Pooler;
use rex_test_support::process::wait_for;
use rex_test_support::proxy::Proxy;
use rex_test_support::server::Server;
use rex_transport::TaskId;

use super::table::{Cancelled, Ending, Known, NewJob, Orphan, Start};
use super::{Rules, Table};

/// How long a host may be without its connection.
const GRACE: Duration = Duration::from_secs(1);

/// The project's table, in a database of its own.
struct Jobs(Database);

impl Jobs {
    fn new() -> Jobs {
        let jobs = Jobs(Database::new());
        let config = Config {
            address: jobs.address(),
            naming: Naming::Rex,
            gateways: Vec::new(),
            statement_timeout: None,
        };
        let mut session = Session::new(config).unwrap();
        let facts = Facts::file(&repository().join("settings/rex.job.deploy.yaml")).unwrap();
        session.begin();
        Deployer::new(&mut session).deploy(&facts).unwrap();
        session.end(true).unwrap();
        jobs
    }

    fn address(&self) -> Address {
        Address::parse(&self.0.uri()).unwrap()
    }

    fn table(&self) -> Table {
        Table::new(self.address(), GRACE)
    }

    fn host(&self) -> Table {
        self.table().for_runs()
    }

    fn insert(&self, r#type: &str) -> i64 {
        let (owner, title) = (None, None);
        let payload = "{}".to_owned();
        self.table()
            .insert(&NewJob { r#type: r#type.to_owned(), payload, owner, title })
            .unwrap()
            .code
    }

    /// `status detail`.
    fn status(&self, code: i64) -> String {
        let row = self.table().row(code).unwrap().unwrap();
        format!("{} {}", row.status, row.detail.unwrap_or_default()).trim_end().to_owned()
    }

    /// The codes that are queued by one look.
    fn queue(&self, rules: &Rules) -> Vec<i64> {
        let mut queued = Vec::new();
        let done = self.table().queue_new(rules, &[], |_, codes| {
            queued.extend_from_slice(codes);
            Ok(())
        });
        let done = done.unwrap().unwrap();
        assert_eq!((done.count, done.locked), (queued.len(), Vec::new()));
        queued
    }
}

/// Starts a job; its row.
#[track_caller]
fn run(host: &mut Table, code: i64, task: i64) -> i32 {
    match host.start(code, (TaskId(task), 1), &[], |_| false).unwrap() {
        Start::Run { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn skips(host: &mut Table, code: i64, task: i64, expected: &str) {
    match host.start(code, (TaskId(task), 1), &[], |_| true).unwrap() {
        Start::Skip(why) => assert_eq!(why, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_outcome_of_a_host_that_was_thought_dead_does_not_count() {
    let jobs = Jobs::new();
    let (mut one, mut two) = (jobs.host(), jobs.host());
    let code = jobs.insert("a");
    let id = run(&mut one, code, 7);
    // Its task was given to another host.
    run(&mut two, code, 7);
    one.end(id, TaskId(7), &Ending::Completed, Duration::ZERO).unwrap();
    assert_eq!(jobs.status(code), "started");
    two.end(id, TaskId(7), &Ending::Failed("no luck".to_owned()), Duration::ZERO).unwrap();
    one.end(id, TaskId(7), &Ending::Completed, Duration::ZERO).unwrap();
    assert_eq!(jobs.status(code), "failed no luck");
    skips(&mut one, code, 7, "failed already");
    assert!(matches!(one.start(99, (TaskId(7), 1), &[], |_| false).unwrap(), Start::Missing));
}

#[test]
fn who_was_thought_dead_does_not_say_how_far_the_next_run_is() {
    let jobs = Jobs::new();
    let (mut one, mut two) = (jobs.host(), jobs.host());
    let code = jobs.insert("a");
    let id = run(&mut one, code, 7);
    let report = |host: &mut Table, fraction| {
        let is = (host.host().unwrap(), TaskId(7));
        host.report(id, is, fraction, "so far").unwrap();
        jobs.table().row(code).unwrap().unwrap().fraction
    };
    assert_eq!(report(&mut one, 0.5), Some(0.5));
    run(&mut two, code, 7);
    assert_eq!(report(&mut one, 0.75), None);
    assert_eq!(report(&mut two, 0.25), Some(0.25));
}

/// It waits for its next attempt while the job is cancelled and retried, or deleted and its code given
/// to another one.
#[test]
fn a_task_of_an_earlier_run_does_not_work_a_job_that_has_another() {
    for is_deleted in [false, true] {
        let jobs = Jobs::new();
        let mut host = jobs.host();
        let code = jobs.insert("a");
        let id = run(&mut host, code, 7);
        host.end(id, TaskId(7), &Ending::Queued, Duration::ZERO).unwrap();
        if is_deleted {
            jobs.0.connect().execute("DELETE FROM job", &[]).unwrap();
            assert_eq!(jobs.insert("b"), code);
        } else {
            jobs.table().cancel(code, Duration::ZERO).unwrap();
            assert_eq!(jobs.table().retry(code, false).unwrap(), Ok(()));
        }
        let mut is_let_in = |task, attempt| {
            let start = host.start(code, (TaskId(task), attempt), &[], |_| false).unwrap();
            match start {
                Start::Run { id, .. } => {
                    host.end(id, TaskId(task), &Ending::Queued, Duration::ZERO).unwrap();
                    true
                }
                Start::Skip(why) => {
                    assert_eq!(why, "queued anew since");
                    false
                }
                other => panic!("{other:?}"),
            }
        };
        assert!(!is_let_in(7, 2));
        for attempt in 1..=2 {
            assert!(is_let_in(8, attempt));
            assert!(!is_let_in(7, 2));
        }
    }
}

#[test]
fn a_second_task_runs_a_job_only_when_the_host_of_the_first_is_dead() {
    let jobs = Jobs::new();
    let (mut one, mut two) = (jobs.host(), jobs.host());
    let code = jobs.insert("a");
    run(&mut one, code, 7);
    skips(&mut one, code, 8, "being run already");
    skips(&mut two, code, 8, "being run already");
    drop(one);
    // The server notices a moment later.
    rex_test_support::process::wait_for("the job is taken over", || {
        matches!(two.start(code, (TaskId(8), 1), &[], |_| false).unwrap(), Start::Run { .. })
    });
    let id = jobs.table().row(code).unwrap().unwrap().id;
    two.end(id, TaskId(8), &Ending::Completed, Duration::ZERO).unwrap();
    assert_eq!(jobs.status(code), "completed");
}

/// Nobody takes it for dead while it may come back, and whoever waits does so without a lock.
#[test]
fn a_host_whose_connection_broke_is_waited_for() {
    let jobs = Jobs::new();
    let patient = || Table::new(jobs.address(), Duration::from_secs(3600));
    let (mut one, mut two) = (jobs.host(), patient().for_runs());
    let code = jobs.insert("a");
    run(&mut one, code, 7);
    let mut admin = jobs.0.connect();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    admin.batch_execute(cut).unwrap();
    let start = |two: &mut Table| two.start(code, (TaskId(8), 1), &[], |_| false).unwrap();
    wait_for("the lock is free", || matches!(start(&mut two), Start::Unsure));
    let orders: [std::thread::JoinHandle<Result<(), String>>; 2] = [
        std::thread::spawn({
            let mut table = patient();
            move || match table.retry(code, false).unwrap() {
                Err(Some(status)) if status == "started" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        }),
        std::thread::spawn({
            let mut table = patient();
            move || match table.cancel(code, Duration::ZERO).unwrap() {
                Cancelled::Told => Ok(()),
                other => Err(format!("{other:?}")),
            }
        }),
    ];
    // `two` and both orders have looked, and are not at it.
    wait_for("both orders wait", || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND state = 'idle' AND query = 'ROLLBACK'";
        admin.query_one(waiting, &[]).unwrap().get::<_, i64>(0) == 3
    });
    assert_eq!(jobs.status(code), "started");
    assert!(matches!(start(&mut two), Start::Unsure));
    wait_for("the connection is made again", || one.unlocked(&[]).is_ok());
    for order in orders {
        assert_eq!(order.join().unwrap(), Ok(()));
    }
    skips(&mut two, code, 8, "being run already");

    // One that does not come back is taken for dead.
    drop(one);
    assert_eq!(jobs.table().cancel(code, Duration::ZERO).unwrap(), Cancelled::Now);
    assert_eq!(jobs.status(code), "failed Cancelled");
}

#[test]
fn a_job_that_was_cancelled_is_failed_whatever_its_run_says() {
    let jobs = Jobs::new();
    let mut host = jobs.host();
    for ending in [Ending::Completed, Ending::Failed("no luck".to_owned()), Ending::Queued] {
        let code = jobs.insert("a");
        let id = run(&mut host, code, code);
        let grace = Duration::from_secs(3);
        assert_eq!(jobs.table().cancel(code, grace).unwrap(), Cancelled::Told);
        let told = jobs.table().cancellations(host.host().unwrap(), &[(TaskId(code), id)]).unwrap();
        assert_eq!(told, [(TaskId(code), grace)]);
        host.end(id, TaskId(code), &ending, Duration::ZERO).unwrap();
        assert_eq!(jobs.status(code), "failed Cancelled");
    }
    // Its host dies: whoever gets its task does not run it.
    let code = jobs.insert("a");
    run(&mut host, code, 50);
    jobs.table().cancel(code, Duration::ZERO).unwrap();
    drop(host);
    skips(&mut jobs.host(), code, 50, "cancelled");
    assert_eq!(jobs.status(code), "failed Cancelled");
}

/// What it submitted is in the store.
#[test]
fn a_run_whose_host_died_at_its_end_is_ended_by_another() {
    let jobs = Jobs::new();
    let mut other = jobs.host();
    for (certain, cancelled, expected) in [
        (true, false, "completed"),
        (true, true, "completed"),
        (false, false, "new"),
        (false, true, "failed Cancelled"),
    ] {
        let mut host = jobs.host();
        let code = jobs.insert("a");
        let id = run(&mut host, code, code);
        let orphan = Orphan { job: id, host: host.host().unwrap(), task: TaskId(code) };
        if cancelled {
            let told = jobs.table().cancel(code, Duration::ZERO).unwrap();
            assert_eq!(told, Cancelled::Told);
        }
        assert_eq!(host.may_submit(id, TaskId(code), false).unwrap(), !cancelled);
        assert!(host.may_submit(id, TaskId(code), true).unwrap());
        assert!(!other.may_submit(id, TaskId(code), true).unwrap());
        let known = Known { certain, ..Known::default() };
        assert!(!host.end_orphan(orphan, Known { here: true, ..known }).unwrap());
        assert!(!other.end_orphan(orphan, known).unwrap());
        assert_eq!(jobs.status(code), "started");
        drop(host);
        wait_for("it is dead", || other.end_orphan(orphan, known).unwrap());
        assert_eq!(jobs.status(code), expected);
        // Of another run nothing is said.
        jobs.0.connect().batch_execute("UPDATE job SET status = 'new'").unwrap();
        let mut next = jobs.host();
        assert_eq!(run(&mut next, code, 50), id);
        assert!(other.end_orphan(orphan, known).unwrap());
        assert_eq!(jobs.status(code), "started");
        jobs.0.connect().batch_execute("DELETE FROM job").unwrap();
        assert!(next.may_submit(id, TaskId(50), false).unwrap());
        assert!(other.end_orphan(orphan, known).unwrap());
    }
    // Its host lives, and does nothing for long.
    for (certain, expected) in [(true, "completed"), (false, "started")] {
        let mut host = jobs.host();
        let code = jobs.insert("a");
        let id = run(&mut host, code, code);
        let orphan = Orphan { job: id, host: host.host().unwrap(), task: TaskId(code) };
        let known = Known { certain, here: false, late: true };
        assert_eq!(other.end_orphan(orphan, known).unwrap(), certain);
        assert_eq!(jobs.status(code), expected);
    }
    // Too late to be cancelled.
    let code = jobs.insert("a");
    let id = run(&mut other, code, 7);
    jobs.table().cancel(code, Duration::ZERO).unwrap();
    other.end(id, TaskId(7), &Ending::Submitted, Duration::ZERO).unwrap();
    assert_eq!(jobs.status(code), "completed");
}

/// As applications do it, which know nothing of runs.
#[test]
fn a_job_that_was_cancelled_and_is_made_new_runs() {
    let jobs = Jobs::new();
    let mut host = jobs.host();
    let code = jobs.insert("a");
    let id = run(&mut host, code, 7);
    jobs.table().cancel(code, Duration::ZERO).unwrap();
    host.end(id, TaskId(7), &Ending::Completed, Duration::ZERO).unwrap();
    assert_eq!(jobs.status(code), "failed Cancelled");
    let again = "UPDATE job SET status = 'new', status_detail = NULL, date_started = NULL,
        date_completed = NULL";
    jobs.0.connect().batch_execute(again).unwrap();
    let rules = Rules { queues: 1, limits: Vec::new(), max_age: None };
    assert_eq!(jobs.queue(&rules), [code]);
    assert_eq!(run(&mut host, code, 8), id);
    assert!(
        jobs.table().cancellations(host.host().unwrap(), &[(TaskId(8), id)]).unwrap().is_empty()
    );
    host.end(id, TaskId(8), &Ending::Completed, Duration::ZERO).unwrap();
    assert_eq!(jobs.status(code), "completed");
}

#[test]
fn a_transaction_pooler_is_refused() {
    let Some(server) = Server::start() else { return };
    let database = Database::on(&server);
    for (mode, works) in [("transaction", false), ("session", true)] {
        let Some(pooler) = Pooler::start(&server, mode) else { return };
        let address = Address::parse(&pooler.uri(database.name())).unwrap();
        let answer = Table::new(address, Duration::ZERO).refuse_pooling();
        assert_eq!(answer.is_ok(), works, "{mode}");
        if let Err(error) = answer {
            let error = error.to_string();
            assert!(error.contains("pools transactions"), "{error}");
        }
    }
}

#[test]
fn limits_count_what_is_queued_and_started() {
    let jobs = Jobs::new();
    let limits = vec![("a".to_owned(), 2)];
    let rules = Rules { queues: 1, limits, max_age: None };
    let codes: Vec<i64> = ["a", "b", "a", "a", "b"].map(|name| jobs.insert(name)).to_vec();
    assert_eq!(jobs.queue(&rules), [codes[0], codes[1], codes[2], codes[4]]);
    assert!(jobs.queue(&rules).is_empty());
    let mut host = jobs.host();
    let id = run(&mut host, codes[0], 1);
    assert!(jobs.queue(&rules).is_empty());
    host.end(id, TaskId(1), &Ending::Completed, Duration::ZERO).unwrap();
    assert_eq!(jobs.queue(&rules), [codes[3]]);
    // A store that refuses the tasks leaves the rows as they are.
    let code = jobs.insert("b");
    assert_eq!(
        jobs.table().queue_new(&rules, &[], |_, _| Err(Vec::new())).unwrap().unwrap().count,
        1
    );
    assert_eq!(jobs.status(code), "new");
}

#[test]
fn queues_that_are_left_out_keep_their_new_jobs() {
    let jobs = Jobs::new();
    let rules = Rules { queues: 3, limits: vec![("a".to_owned(), 1)], max_age: None };
    let codes = [i64::MIN, i64::MAX, -4, -3, -2, -1, 0, 1, 2, 3];
    let mut client = jobs.0.connect();
    for code in codes {
        let (sql, kind) = ("INSERT INTO job (code, owner, type, payload) VALUES", ["a", "b"]);
        let kind = kind[usize::from(code != 1)];
        let sql = format!("{sql} ({code}, 'somebody', '{kind}', '{{}}')");
        client.batch_execute(&sql).unwrap();
    }
    let mut table = jobs.table();
    // Each queue takes one, and refuses the rest.
    let mut look = |except: &[i64]| {
        let mut found = Vec::new();
        let done = table.queue_new(&rules, except, |number, codes| {
            found.push((number, codes.iter().copied().collect::<BTreeSet<i64>>()));
            Err(vec![codes[0]])
        });
        (done.unwrap().unwrap().count, found)
    };
    let set = |codes: &[i64]| codes.iter().copied().collect::<BTreeSet<i64>>();
    assert_eq!(look(&[0, 2]), (3, vec![(1, set(&[-4, -1, 2]))]));
    let (count, found) = look(&[0, 2]);
    assert_eq!((count, found[0].1.len()), (2, 2), "the rest stays new");
    assert_eq!(look(&[0, 1]), (3, vec![(2, set(&[-3, 0, 3]))]));
    assert_eq!(look(&[2, 1]), (4, vec![(0, set(&[i64::MIN, -2, 1, i64::MAX]))]));
    assert_eq!(look(&[0, 1, 2]), (0, vec![]));
    // A queue after one that has refused waits for the next look.
    let (count, found) = look(&[0]);
    assert_eq!((count, found.len(), found[0].0), (3, 1, 1));
}

#[test]
fn sessions_that_wait_are_not_ended() {
    let jobs = Jobs::new();
    let mut admin = jobs.0.connect();
    let limit = format!("ALTER DATABASE {} SET idle_session_timeout = '1s'", jobs.0.name());
    admin.batch_execute(&limit).unwrap();
    let mut table = jobs.table();
    assert!(table.row(1).unwrap().is_none());
    let _listening = super::watch::listen(&jobs.address(), 1).unwrap();
    let mut others = || -> Vec<i32> {
        let others = "SELECT pid FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND backend_type = 'client backend'
            ORDER BY pid";
        admin.query(others, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    // What has deployed the table is on its way out.
    wait_for("two sessions", || others().len() == 2);
    let before = others();
    // One that waits no longer than they do, and is ended.
    let witness = jobs.0.connect();
    wait_for("the end of another", || others().iter().all(|pid| before.contains(pid)));
    assert_eq!(others(), before);
    drop(witness);
}

#[test]
fn jobs_are_spread_over_their_queues() {
    let rules = Rules { queues: 3, limits: Vec::new(), max_age: None };
    let queues: Vec<i64> = (1..=4).map(|code| rules.queue_of(code)).collect();
    assert_eq!(queues, [0, 1, 2, 0]);
}

/// On a table as the original deploys it.
#[test]
fn hosts_that_start_at_once_make_what_is_missing() {
    for _ in 0..5 {
        let jobs = Jobs::new();
        let bare = "DROP TABLE rex_job_run, rex_job_log CASCADE;
            DROP FUNCTION rex_one_at_a_time() CASCADE;
            DROP FUNCTION rex_new_job() CASCADE;
            DROP INDEX rex_job_new, rex_job_active";
        jobs.0.connect().batch_execute(bare).unwrap();
        let hosts: Vec<_> = (0..8)
            .map(|_| {
                let mut table = jobs.host();
                std::thread::spawn(move || table.prepare().map_err(|error| error.to_string()))
            })
            .collect();
        for host in hosts {
            assert_eq!(host.join().unwrap(), Ok(()));
        }
    }
}

/// What making a table ready ends with, within a time that no default of the system is as short as.
fn unanswered(address: &str) -> String {
    let table = Table::new(Address::parse(address).unwrap(), GRACE);
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        // Who waits may have given up.
        let _ = tell.send(table.for_runs().prepare());
    });
    let error = told.recv_timeout(Duration::from_secs(8)).expect("an end").unwrap_err();
    assert!(error.away && error.passes(), "{error}");
    error.to_string()
}

#[test]
fn a_server_that_does_not_answer_is_away() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let text = unanswered(&format!("pgsql://u@127.0.0.1:{port}/db?connect_timeout=1"));
    assert!(text.ends_with(&format!(", port {port} failed: timeout expired")), "{text}");

    let jobs = Jobs::new();
    let proxy = Proxy::to(&jobs.0.address());
    let address = jobs.0.uri().replace(&jobs.0.address(), proxy.address());
    for word in ["lock_timeout", "pg_advisory_lock_shared"] {
        proxy.hush_before(word.as_bytes());
        let text = unanswered(&format!("{address}?connect_timeout=1"));
        assert!(text.starts_with("timeout expired (the table of jobs in "), "{word}: {text}");
        proxy.restore();
    }
}
