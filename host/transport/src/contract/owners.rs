//! Whose a claimed task is, while its owner lives and when it dies.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{
    DEADLINE, Granted, Store, all_done, dead, finished, in_flight, insist, numbers, open_as, owner,
    queue, submit, task, task_ids, wait_for,
};
use crate::{DeadQuery, Kind, Options, Outcome, Uri, Want, open};

pub fn claims_need_an_owner(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut submitter = open(&uri, &Options::default()).expect("the store can be opened");
    submitter.put(&[task("foo", 1)]);
    let refused = submitter.claim(&queue("foo"), &Want::tasks(1)).expect_err("it owns nothing");
    assert_eq!(refused.kind, Kind::Invalid);
    let mut host = owner(&uri);
    let claim = host.take(&queue("foo"), &Want::tasks(1));
    let refused = submitter.finish(&all_done(&claim)).expect_err("it owns nothing");
    assert_eq!(refused.kind, Kind::Invalid);
    submitter.close().expect("an owner can leave");
    assert_eq!(in_flight(&mut *host, "foo"), 1);
    // Nor does another owner's finish count.
    let mut other = owner(&uri);
    assert_eq!(other.record(&all_done(&claim)), task_ids(&claim));
    assert_eq!(in_flight(&mut *host, "foo"), 1);
}

pub fn close_gives_back(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let (mut host, mut other) = (owner(&uri), owner(&uri));
    host.put(&[task("foo", 1), task("foo", 2), task("foo", 3)]);
    let claim = host.take(&queue("foo"), &Want::tasks(3));
    host.record(&[finished(&claim, 1, Outcome::Done)]);
    host.close().expect("an owner can leave");
    host.close().expect("an owner can leave");
    let taken = other.take(&queue("foo"), &Want::tasks(9));
    assert_eq!(numbers(&taken), [1, 3]);
    assert_eq!(task_ids(&taken), [claim.tasks[0].id, claim.tasks[2].id]);
}

pub fn a_healthy_owner_keeps_its_tasks(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    host.put(&[task("foo", 1)]);
    let claim = host.take(&queue("foo"), &Want::tasks(1));
    let mut other = open_as(&uri, Options { rescue_grace: Duration::ZERO, ..Options::default() });
    for _ in 0..5 {
        assert_eq!(host.rescue().expect("dead owners can be looked for"), 0);
        assert_eq!(other.rescue().expect("dead owners can be looked for"), 0);
    }
    assert_eq!(host.record(&all_done(&claim)), []);
}

pub fn a_dropped_owner_is_rescued(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let ids = submit(&mut *host, &[task("foo", 1), task("foo", 2), task("foo", 3)]);
    let claim = host.take(&queue("foo"), &Want::tasks(2));
    host.record(&[finished(&claim, 0, Outcome::Done)]);
    drop(host);
    let grace = Duration::from_millis(50);
    let mut other = open_as(&uri, Options { rescue_grace: grace, ..Options::default() });
    let mut rescued = 0;
    wait_for("the rescue", || {
        rescued += other.rescue().expect("dead owners can be looked for");
        rescued > 0
    });
    assert_eq!(rescued, 1);
    let taken = other.take(&queue("foo"), &Want::tasks(9));
    assert_eq!(task_ids(&taken), ids[1..], "uncharged, in the old place");
    assert!(taken.tasks.iter().all(|task| task.attempt == 1));
}

pub fn a_killed_owner_is_rescued_at_once(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let grace = Duration::from_secs(3600);
    let mut other = open_as(&uri, Options { rescue_grace: grace, ..Options::default() });
    other.put(&[task("foo", 1), task("foo", 2)]);
    let (_, name) = store.doomed.split_once("::").expect("a test is in a module");
    let mut doomed = Command::new(std::env::current_exe().expect("this program has a path"))
        .args([name, "--exact", "--nocapture"])
        .env(DOOMED, uri.raw())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be started again");
    let mut lines = BufReader::new(doomed.stdout.take().expect("it is piped")).lines();
    assert!(
        lines.any(|line| line.expect("it prints text").contains("claimed 2")),
        "the doomed owner claims"
    );
    assert_eq!(other.rescue().expect("dead owners can be looked for"), 0, "it lives");
    assert_eq!(other.due(&queue("foo")), 0);
    doomed.kill().expect("it is our child");
    doomed.wait().expect("it is our child");
    let mut rescued = 0;
    wait_for("the rescue", || {
        rescued += other.rescue().expect("dead owners can be looked for");
        rescued == 2
    });
    assert_eq!(numbers(&other.take(&queue("foo"), &Want::tasks(9))), [1, 2]);
}

const DOOMED: &str = "REX_CONTRACT_DOOMED";

/// Claims all of queue `foo` and waits to be killed, if the environment says so.
pub fn doomed_owner() {
    let Ok(uri) = std::env::var(DOOMED) else { return };
    let mut host = owner(&Uri::parse(&uri).expect("the parent passes an address"));
    let claim = host.take(&queue("foo"), &Want::tasks(99));
    // Written at once and past libtest's capture.
    let line = format!("\nclaimed {}\n", claim.tasks.len());
    rustix::io::write(rustix::stdio::stdout(), line.as_bytes()).expect("the parent reads");
    loop {
        std::thread::park();
    }
}

pub fn a_silent_owner_is_fenced_off(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut silent = owner(&uri);
    silent.put(&[task("foo", 1), task("foo", 2)]);
    let lost = silent.take(&queue("foo"), &Want::tasks(2));
    let mut other = open_as(
        &uri,
        Options {
            owner_timeout: Duration::from_millis(1),
            rescue_grace: Duration::ZERO,
            ..Options::default()
        },
    );
    let mut rescued = 0;
    wait_for("the takeover", || {
        rescued += other.rescue().expect("dead owners can be looked for");
        rescued == 2
    });
    let taken = other.take(&queue("foo"), &Want::tasks(9));
    assert_eq!(task_ids(&taken), task_ids(&lost));
    // It wakes and completes what is no longer its own: refused, submits and all.
    let mut late = all_done(&lost);
    late[0].submits = vec![task("bar", 1)];
    late[1].outcome = dead("late");
    let refused = insist("the late finish", || silent.finish(&late));
    assert_eq!(refused, task_ids(&lost));
    assert_eq!(other.due(&queue("bar")), 0);
    assert!(other.letters(&DeadQuery::default()).is_empty());
    assert_eq!(in_flight(&mut *other, "foo"), 2);
    // And it works on as before.
    other.put(&[task("foo", 3)]);
    insist("a sign of life", || silent.rescue());
    let next = insist("the next claim", || silent.claim(&queue("foo"), &Want::tasks(9)))
        .expect("its task has come back");
    assert_eq!(numbers(&next), [3]);
    assert_eq!(insist("its finish", || silent.finish(&all_done(&next))), []);
    assert_eq!(other.record(&all_done(&taken)), []);
}

pub fn no_task_twice(store: &Store<'_>) {
    const TASKS: u64 = 600;
    let Some((uri, _store)) = (store.fresh)() else { return };
    let seen: Mutex<BTreeMap<u64, u32>> = Mutex::default();
    let finished = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for step in [1, 7, 20] {
            let (uri, seen, finished) = (&uri, &seen, &finished);
            scope.spawn(move || {
                let mut host = owner(uri);
                let deadline = Instant::now() + DEADLINE;
                while finished.load(Ordering::SeqCst) < TASKS && Instant::now() < deadline {
                    let Some(claim) = host
                        .claim(&queue("foo"), &Want::tasks(step))
                        .expect("tasks can be claimed")
                    else {
                        host.rescue().expect("dead owners can be looked for");
                        continue;
                    };
                    for number in numbers(&claim) {
                        *seen.lock().expect("no thread has panicked").entry(number).or_default() +=
                            1;
                    }
                    assert_eq!(host.record(&all_done(&claim)), []);
                    finished.fetch_add(claim.tasks.len() as u64, Ordering::SeqCst);
                }
            });
        }
        for start in [0, TASKS / 2] {
            let uri = &uri;
            scope.spawn(move || {
                let mut submitter =
                    open(uri, &Options::default()).expect("the store can be opened");
                for n in start..start + TASKS / 2 {
                    submitter.put(&[task("foo", n)]);
                }
            });
        }
    });
    let seen = seen.into_inner().expect("no thread has panicked");
    assert_eq!(seen.len() as u64, TASKS);
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
}

pub fn claims_of_two_go_back_in_order(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut owners = [owner(&uri), owner(&uri)];
    let tasks: Vec<_> = (0..6000).map(|number| task("foo", number)).collect();
    submit(&mut *owners[0], &tasks);
    for _ in 0..4 {
        for owner in &mut owners {
            owner.take(&queue("foo"), &Want::tasks(700));
        }
    }
    for mut owner in owners {
        owner.close().expect("an owner can leave");
    }
    let mut host = owner(&uri);
    let mut got = Vec::new();
    wait_for("the tasks", || {
        got.extend(
            host.claim(&queue("foo"), &Want::tasks(6000))
                .expect("tasks can be claimed")
                .iter()
                .flat_map(numbers),
        );
        got.len() == 6000
    });
    assert!(got.is_sorted(), "{got:?}");
}
