//! Whose a claimed task is, while its owner lives and when it dies.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{
    DEADLINE, Store, all_done, dead, finished, in_flight, insist, numbers, open_as, owner, queue,
    submit, task, task_ids, wait_for,
};
use crate::{DeadQuery, Kind, Options, Outcome, Uri, Want, open};

pub fn claims_need_an_owner(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut submitter = open(&uri, &Options::default()).unwrap();
    submitter.submit(&[task("foo", 1)]).unwrap();
    assert_eq!(submitter.claim(&queue("foo"), &Want::tasks(1)).unwrap_err().kind, Kind::Invalid);
    let mut host = owner(&uri);
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    assert_eq!(submitter.finish(&all_done(&claim)).unwrap_err().kind, Kind::Invalid);
    submitter.close().unwrap();
    assert_eq!(in_flight(&mut *host, "foo"), 1);
    // Nor does another owner's finish count.
    let mut other = owner(&uri);
    assert_eq!(other.finish(&all_done(&claim)).unwrap(), task_ids(&claim));
    assert_eq!(in_flight(&mut *host, "foo"), 1);
}

pub fn close_gives_back(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let (mut host, mut other) = (owner(&uri), owner(&uri));
    host.submit(&[task("foo", 1), task("foo", 2), task("foo", 3)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(3)).unwrap().unwrap();
    host.finish(&[finished(&claim, 1, Outcome::Done)]).unwrap();
    host.close().unwrap();
    host.close().unwrap();
    let taken = other.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&taken), [1, 3]);
    assert_eq!(task_ids(&taken), [claim.tasks[0].id, claim.tasks[2].id]);
}

pub fn a_healthy_owner_keeps_its_tasks(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    host.submit(&[task("foo", 1)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let mut other = open_as(&uri, Options { rescue_grace: Duration::ZERO, ..Options::default() });
    for _ in 0..5 {
        assert_eq!(host.rescue().unwrap(), 0);
        assert_eq!(other.rescue().unwrap(), 0);
    }
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
}

pub fn a_dropped_owner_is_rescued(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let ids = submit(&mut *host, &[task("foo", 1), task("foo", 2), task("foo", 3)]);
    let claim = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    host.finish(&[finished(&claim, 0, Outcome::Done)]).unwrap();
    drop(host);
    let grace = Duration::from_millis(50);
    let mut other = open_as(&uri, Options { rescue_grace: grace, ..Options::default() });
    let mut rescued = 0;
    wait_for("the rescue", || {
        rescued += other.rescue().unwrap();
        rescued > 0
    });
    assert_eq!(rescued, 1);
    let taken = other.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(task_ids(&taken), ids[1..], "uncharged, in the old place");
    assert!(taken.tasks.iter().all(|task| task.attempt == 1));
}

pub fn a_killed_owner_is_rescued_at_once(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let grace = Duration::from_secs(3600);
    let mut other = open_as(&uri, Options { rescue_grace: grace, ..Options::default() });
    other.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let (_, name) = store.doomed.split_once("::").unwrap();
    let mut doomed = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(DOOMED, uri.raw())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(doomed.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("claimed 2")), "the doomed owner claims");
    assert_eq!(other.rescue().unwrap(), 0, "it lives");
    assert_eq!(other.poll(&queue("foo")).unwrap(), 0);
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    let mut rescued = 0;
    wait_for("the rescue", || {
        rescued += other.rescue().unwrap();
        rescued == 2
    });
    assert_eq!(numbers(&other.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [1, 2]);
}

const DOOMED: &str = "REX_CONTRACT_DOOMED";

/// Claims all of queue `foo` and waits to be killed, if the environment says so.
pub fn doomed_owner() {
    let Ok(uri) = std::env::var(DOOMED) else { return };
    let mut host = owner(&Uri::parse(&uri).unwrap());
    let claim = host.claim(&queue("foo"), &Want::tasks(99)).unwrap().unwrap();
    // Written at once and past libtest's capture.
    let line = format!("\nclaimed {}\n", claim.tasks.len());
    rustix::io::write(rustix::stdio::stdout(), line.as_bytes()).unwrap();
    loop {
        std::thread::park();
    }
}

pub fn a_silent_owner_is_fenced_off(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut silent = owner(&uri);
    silent.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let lost = silent.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
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
        rescued += other.rescue().unwrap();
        rescued == 2
    });
    let taken = other.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(task_ids(&taken), task_ids(&lost));
    // It wakes and completes what is no longer its own: refused, submits and all.
    let mut late = all_done(&lost);
    late[0].submits = vec![task("bar", 1)];
    late[1].outcome = dead("late");
    let refused = insist("the late finish", || silent.finish(&late));
    assert_eq!(refused, task_ids(&lost));
    assert_eq!(other.poll(&queue("bar")).unwrap(), 0);
    assert!(other.dead_letters(&DeadQuery::default()).unwrap().is_empty());
    assert_eq!(in_flight(&mut *other, "foo"), 2);
    // And it works on as before.
    other.submit(&[task("foo", 3)]).unwrap();
    insist("a sign of life", || silent.rescue());
    let next = insist("the next claim", || silent.claim(&queue("foo"), &Want::tasks(9))).unwrap();
    assert_eq!(numbers(&next), [3]);
    assert_eq!(insist("its finish", || silent.finish(&all_done(&next))), []);
    assert_eq!(other.finish(&all_done(&taken)).unwrap(), []);
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
                    let Some(claim) = host.claim(&queue("foo"), &Want::tasks(step)).unwrap() else {
                        host.rescue().unwrap();
                        continue;
                    };
                    for number in numbers(&claim) {
                        *seen.lock().unwrap().entry(number).or_default() += 1;
                    }
                    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
                    finished.fetch_add(claim.tasks.len() as u64, Ordering::SeqCst);
                }
            });
        }
        for start in [0, TASKS / 2] {
            let uri = &uri;
            scope.spawn(move || {
                let mut submitter = open(uri, &Options::default()).unwrap();
                for n in start..start + TASKS / 2 {
                    submitter.submit(&[task("foo", n)]).unwrap();
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
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
            owner.claim(&queue("foo"), &Want::tasks(700)).unwrap().unwrap();
        }
    }
    for mut owner in owners {
        owner.close().unwrap();
    }
    let mut host = owner(&uri);
    let mut got = Vec::new();
    wait_for("the tasks", || {
        got.extend(host.claim(&queue("foo"), &Want::tasks(6000)).unwrap().iter().flat_map(numbers));
        got.len() == 6000
    });
    assert!(got.is_sorted(), "{got:?}");
}
