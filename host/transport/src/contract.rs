//! What every kind of store must do, as tests: each check opens a fresh store through its address
//! and holds it to the promises of `transport.rs`. A kind passes by one line in its test file:
//! `rex_transport::keeps_the_contract!(fresh)`.
//!
//! Nothing here sleeps for a guessed time: what needs a moment is waited for, up to a deadline.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test suite fails by panic")]

mod schedules;

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    Attributes, Claim, DeadQuery, Death, Due, Features, Finished, Kind, NewTask, Options, Outcome,
    Owner, Payload, QueueName, TaskId, Timestamp, Transport, Uri, Wake, Want, open,
};

pub use schedules::{an_occasion_is_recorded_once, one_of_many_hosts_records_an_occasion};

/// Makes a test of every check; `$fresh` is what [`contract::Store`](crate::contract::Store) has
/// under that name.
#[macro_export]
macro_rules! keeps_the_contract {
    ($fresh:expr) => {
        $crate::keeps_the_contract!(
            $fresh;
            first_in_first_out empty_queues queues_are_apart claimed_tasks_are_out_of_sight
            counts_and_lists partial_finish released_tasks_go_to_their_old_place
            dead_letters_are_kept one_batch_of_all_outcomes submits_go_with_the_outcome
            submits_are_not_doubled purge_deletes_what_waits payloads_survive many_at_once
            claims_need_an_owner close_gives_back a_healthy_owner_keeps_its_tasks
            a_dropped_owner_is_rescued a_killed_owner_is_rescued_at_once
            a_silent_owner_is_fenced_off no_task_twice watch_wakes opened_by_many_at_once
            large_payloads_come_in_small_claims priorities_go_first delayed_tasks_wait
            retries_keep_their_place claims_tell_attributes a_unique_task_is_there_once a_paused_queue_gives_nothing
            no_more_in_flight_than_allowed attributes_survive_their_owner dead_letters_come_back
            dead_letters_are_deleted what_it_cannot_do_is_refused
            an_occasion_is_recorded_once one_of_many_hosts_records_an_occasion
        );

        /// Not a check: the process that `a_killed_owner_is_rescued_at_once` kills.
        #[test]
        fn doomed_owner() {
            $crate::contract::doomed_owner();
        }
    };
    ($fresh:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                let doomed = concat!(module_path!(), "::doomed_owner");
                $crate::contract::$check(&$crate::contract::Store { fresh: &$fresh, doomed });
            }
        )*
    };
}

/// The kind of store under test.
pub struct Store<'a> {
    /// Makes an empty store: its address and what keeps it; `None` when its server is not there,
    /// which has been said.
    pub fresh: &'a (dyn Fn() -> Option<(Uri, Box<dyn Any>)> + Sync),
    /// The full name of the test that calls [`doomed_owner`].
    pub doomed: &'a str,
}

const DEADLINE: Duration = Duration::from_secs(20);

pub fn first_in_first_out(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let ids = submit(&mut *host, &[task("foo", 1), task("foo", 2), task("foo", 3)]);
    assert!(ids.is_sorted() && ids.len() == 3, "{ids:?}");
    assert_eq!(host.poll(&queue("foo")).unwrap(), 3);
    let first = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    assert_eq!(first.queue, queue("foo"));
    assert_eq!(numbers(&first), [1, 2]);
    assert_eq!(task_ids(&first), ids[..2]);
    assert!(first.tasks.iter().all(|task| task.attempt == 1));
    let second = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    assert_eq!(numbers(&second), [3]);
    assert_ne!(first.id, second.id);
    assert!(host.claim(&queue("foo"), &Want::tasks(2)).unwrap().is_none());
    host.finish(&all_done(&first)).unwrap();
    host.finish(&all_done(&second)).unwrap();
    // A drained queue works on, and never gives an id again.
    let later = submit(&mut *host, &[task("foo", 4)]);
    assert!(later[0] > ids[2]);
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap()), [4]);
}

pub fn empty_queues(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let never = queue("never");
    assert_eq!(host.poll(&never).unwrap(), 0);
    assert!(host.claim(&never, &Want::tasks(10)).unwrap().is_none());
    assert!(host.peek(&never, 10).unwrap().is_empty());
    assert!(host.queues().unwrap().is_empty());
    assert!(host.is_idle(&never).unwrap());
    assert_eq!(host.purge(&never).unwrap(), 0);
    assert!(host.dead_letters(&DeadQuery::default()).unwrap().is_empty());
    assert_eq!(host.rescue().unwrap(), 0);
    assert_eq!(host.submit(&[]).unwrap(), []);
    assert_eq!(host.finish(&[]).unwrap(), []);
}

pub fn queues_are_apart(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    host.submit(&[task("foo", 1), task("bar", 2), task("foo", 3)]).unwrap();
    assert_eq!(numbers(&host.claim(&queue("bar"), &Want::tasks(9)).unwrap().unwrap()), [2]);
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [1, 3]);
}

pub fn claimed_tasks_are_out_of_sight(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let (mut host, mut other) = (owner(&uri), owner(&uri));
    let name = queue("foo");
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let claim = host.claim(&name, &Want::tasks(1)).unwrap().unwrap();
    assert_eq!(other.poll(&name).unwrap(), 1);
    assert_eq!(other.peek(&name, 9).unwrap().len(), 1);
    let rest = other.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&rest), [2]);
    assert_eq!(other.poll(&name).unwrap(), 0);
    assert!(!other.is_idle(&name).unwrap());
    other.finish(&all_done(&rest)).unwrap();
    assert!(!other.is_idle(&name).unwrap(), "the other owner's task is in flight");
    host.finish(&all_done(&claim)).unwrap();
    assert!(other.is_idle(&name).unwrap());
}

pub fn counts_and_lists(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let ids = submit(&mut *host, &[task("foo", 1), task("foo", 2), task("foo", 3)]);
    host.submit(&[task("bar", 1)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    let waiting = host.peek(&queue("foo"), 9).unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].id, waiting[0].attempt), (ids[2], 1));
    let status = host.queues().unwrap();
    let names: Vec<_> = status.iter().map(|status| status.queue.as_str()).collect();
    assert_eq!(names, ["bar", "foo"]);
    assert_eq!((status[1].waiting, status[1].in_flight, status[1].dead), (1, 2, 0));
    assert_eq!(status[1].oldest, Some(waiting[0].submitted));
    host.finish(&[finished(&claim, 0, dead("broke"))]).unwrap();
    let status = host.queues().unwrap();
    assert_eq!((status[1].waiting, status[1].in_flight, status[1].dead), (1, 1, 1));
    host.submit(&[task("foo", 4)]).unwrap();
    assert_eq!(host.peek(&queue("foo"), 1).unwrap().len(), 1);
    assert_eq!(host.peek(&queue("foo"), 1).unwrap()[0].id, ids[2], "the oldest");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let age = now.as_micros().abs_diff(waiting[0].submitted.0.unsigned_abs().into());
    assert!(age < 60_000_000, "submitted a moment ago, not {age} µs");
}

pub fn partial_finish(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let name = queue("foo");
    host.submit(&[task("foo", 1), task("foo", 2), task("foo", 3)]).unwrap();
    let claim = host.claim(&name, &Want::tasks(3)).unwrap().unwrap();
    assert_eq!(host.finish(&[finished(&claim, 1, Outcome::Done)]).unwrap(), []);
    assert_eq!(in_flight(&mut *host, "foo"), 2);
    assert_eq!(host.finish(&[finished(&claim, 0, Outcome::Done)]).unwrap(), []);
    assert_eq!(in_flight(&mut *host, "foo"), 1);
    host.finish(&all_done(&claim)).unwrap();
    assert!(host.is_idle(&name).unwrap());
    assert!(host.queues().unwrap().is_empty());
}

pub fn released_tasks_go_to_their_old_place(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let name = queue("foo");
    host.submit(&[task("foo", 1), task("foo", 2), task("foo", 3)]).unwrap();
    let before = host.peek(&name, 9).unwrap();
    let claim = host.claim(&name, &Want::tasks(2)).unwrap().unwrap();
    let back = [finished(&claim, 1, Outcome::Released), finished(&claim, 0, Outcome::Released)];
    assert_eq!(host.finish(&back).unwrap(), []);
    let after = host.peek(&name, 9).unwrap();
    assert_eq!(after.len(), 3);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.id, before.submitted, before.attempt), (after.id, after.submitted, 1));
        assert_eq!(before.payload, after.payload);
    }
    assert_eq!(in_flight(&mut *host, "foo"), 0);
    assert_eq!(numbers(&host.claim(&name, &Want::tasks(9)).unwrap().unwrap()), [1, 2, 3]);
}

pub fn dead_letters_are_kept(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let ids = submit(&mut *host, &[task("foo", 1), task("foo", 2), task("bar", 3)]);
    let first = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    let second = host.claim(&queue("bar"), &Want::tasks(1)).unwrap().unwrap();
    let death = Death {
        reason: "exited by SIGSEGV — 'é' \"\u{0}\"".to_owned(),
        details: json!({"signal": 11, "output": ["é\u{0}", "😀"], "hash": null, "build": "2é"}),
    };
    host.finish(&[finished(&first, 1, Outcome::Dead(death))]).unwrap();
    host.finish(&[finished(&second, 0, dead("second")), finished(&first, 0, dead("third"))])
        .unwrap();
    let letters = host.dead_letters(&DeadQuery::default()).unwrap();
    assert_eq!(letters.len(), 3);
    let letter = &letters[0];
    assert_eq!((letter.id, letter.queue.as_str(), letter.attempts), (ids[1], "foo", 1));
    assert_eq!(letter.payload.as_str(), r#"{"n": 2}"#);
    assert!(letter.submitted <= letter.died);
    // A store may be unable to hold NUL.
    let reason = letter.death.reason.replace('\u{fffd}', "\0");
    assert_eq!(reason, "exited by SIGSEGV — 'é' \"\u{0}\"");
    assert_eq!(letter.death.details["signal"], 11);
    assert_eq!(letter.death.details["output"][1], "😀");
    let of_foo = DeadQuery { queue: Some(queue("foo")), ..DeadQuery::default() };
    let of_foo = host.dead_letters(&of_foo).unwrap();
    assert_eq!(of_foo.iter().map(|letter| letter.id).collect::<Vec<_>>(), [ids[1], ids[0]]);
    let page = DeadQuery { after: Some(letters[0].letter), limit: Some(1), ..DeadQuery::default() };
    let page = host.dead_letters(&page).unwrap();
    assert_eq!(page.iter().map(|letter| letter.id).collect::<Vec<_>>(), [ids[2]]);
    assert_eq!(Vec::from_iter(host.dead_details("build").unwrap()), ["1ab", "2é"]);
    assert_eq!(host.poll(&queue("foo")).unwrap(), 0);
    assert!(host.is_idle(&queue("foo")).unwrap(), "a dead letter holds nobody");
    assert!(host.claim(&queue("foo"), &Want::tasks(9)).unwrap().is_none());
}

pub fn one_batch_of_all_outcomes(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let tasks: Vec<NewTask> = (0..6).map(|n| task("foo", n)).collect();
    host.submit(&tasks).unwrap();
    let first = host.claim(&queue("foo"), &Want::tasks(3)).unwrap().unwrap();
    let second = host.claim(&queue("foo"), &Want::tasks(3)).unwrap().unwrap();
    let batch = [
        finished(&second, 2, Outcome::Released),
        finished(&first, 0, Outcome::Done),
        finished(&second, 0, dead("broke")),
        finished(&first, 1, dead("broke")),
        finished(&first, 2, Outcome::Released),
    ];
    assert_eq!(host.finish(&batch).unwrap(), []);
    let status = host.queues().unwrap().remove(0);
    assert_eq!((status.waiting, status.in_flight, status.dead), (2, 1, 2));
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [2, 5]);
}

pub fn submits_go_with_the_outcome(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    host.submit(&[task("foo", 1), task("foo", 2), task("foo", 3)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(3)).unwrap().unwrap();
    let mut batch = all_done(&claim);
    batch[0].submits = vec![task("foo", 10), task("bar", 11)];
    batch[1].outcome = dead("broke");
    batch[1].submits = vec![task("bar", 12)];
    batch[2].submits = vec![task("foo", 13)];
    assert_eq!(host.finish(&batch).unwrap(), []);
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [10, 13]);
    assert_eq!(numbers(&host.claim(&queue("bar"), &Want::tasks(9)).unwrap().unwrap()), [11, 12]);
}

pub fn submits_are_not_doubled(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    let mut batch = vec![finished(&claim, 0, Outcome::Done)];
    batch[0].submits = vec![task("bar", 1)];
    assert_eq!(host.finish(&batch).unwrap(), []);
    // The same call again, as after a lost reply, and other outcomes of the same task.
    host.finish(&batch).unwrap();
    batch[0].outcome = dead("again");
    host.finish(&batch).unwrap();
    batch[0].outcome = Outcome::Released;
    host.finish(&batch).unwrap();
    assert_eq!(host.poll(&queue("bar")).unwrap(), 1);
    assert_eq!(host.poll(&queue("foo")).unwrap(), 0);
    assert_eq!(in_flight(&mut *host, "foo"), 1);
    assert!(host.dead_letters(&DeadQuery::default()).unwrap().is_empty());
    // Twice in one batch counts once.
    let mut twice = vec![finished(&claim, 1, Outcome::Done), finished(&claim, 1, Outcome::Done)];
    twice[0].submits = vec![task("bar", 2)];
    twice[1].submits = vec![task("bar", 3)];
    host.finish(&twice).unwrap();
    assert_eq!(host.poll(&queue("bar")).unwrap(), 2);
    assert!(host.is_idle(&queue("foo")).unwrap());
}

pub fn purge_deletes_what_waits(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let name = queue("foo");
    let tasks: Vec<NewTask> = (0..5).map(|n| task("foo", n)).collect();
    host.submit(&tasks).unwrap();
    host.submit(&[task("bar", 1)]).unwrap();
    let claim = host.claim(&name, &Want::tasks(2)).unwrap().unwrap();
    host.finish(&[finished(&claim, 0, dead("broke"))]).unwrap();
    assert_eq!(host.purge(&name).unwrap(), 3);
    let status = host.queues().unwrap().pop().unwrap();
    assert_eq!((status.waiting, status.in_flight, status.dead), (0, 1, 1));
    assert_eq!(host.poll(&queue("bar")).unwrap(), 1);
    assert_eq!(host.purge(&name).unwrap(), 0);
}

pub fn payloads_survive(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let megabyte = format!("{{\"text\": \"{}\"}}", "x".repeat(1 << 20));
    let texts = [
        "{}",
        r#"{"a": {"z": 1, "a": 2}, "b": [1, 2.5, null, true, "it's \u00e9"]}"#,
        r#"{"half": "\ud83d", "nul": "\u0000", "\ud83d\ude00": "\ud83d\ude00"}"#,
        r#"{"n": 123456789012345678901234567890.10e-7}"#,
        r#"{"quotes": "' \" \\ , {x,y} NULL", "tab": "\t"}"#,
        &megabyte,
    ];
    let tasks: Vec<NewTask> = texts
        .iter()
        .map(|text| NewTask::plain(queue("foo"), Payload::parse(text, 2 << 20).unwrap()))
        .collect();
    host.submit(&tasks).unwrap();
    let peeked = host.peek(&queue("foo"), 99).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(99)).unwrap().unwrap();
    for (at, text) in texts.iter().enumerate() {
        assert!(peeked[at].payload.as_str() == *text, "peeked {at}");
        assert!(claim.tasks[at].payload.as_str() == *text, "claimed {at}");
        assert_eq!(claim.tasks[at].payload.check(), Ok(()));
    }
    let mut batch = all_done(&claim);
    for one in &mut batch {
        one.outcome = dead("broke");
    }
    batch[0].outcome = Outcome::Released;
    host.finish(&batch).unwrap();
    let letters = host.dead_letters(&DeadQuery::default()).unwrap();
    for (letter, text) in letters.iter().zip(&texts[1..]) {
        assert!(letter.payload.as_str() == *text, "dead {}", letter.id.0);
    }
    assert_eq!(host.peek(&queue("foo"), 9).unwrap()[0].payload, Payload::empty());
}

pub fn many_at_once(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let tasks: Vec<NewTask> = (0..5000).map(|n| task("foo", n)).collect();
    let ids = submit(&mut *host, &tasks);
    assert!(ids.is_sorted() && ids.len() == 5000);
    let claim = host.claim(&queue("foo"), &Want::tasks(5000)).unwrap().unwrap();
    assert_eq!(task_ids(&claim), ids);
    let mut batch = all_done(&claim);
    let rest = batch.split_off(2500);
    assert_eq!(host.finish(&batch).unwrap(), []);
    assert_eq!(in_flight(&mut *host, "foo"), 2500);
    assert_eq!(host.finish(&rest).unwrap(), []);
    assert!(host.is_idle(&queue("foo")).unwrap());
}

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

pub fn watch_wakes(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let (mut host, mut submitter) = (owner(&uri), open(&uri, &Options::default()).unwrap());
    let (wake, woken) = crossbeam_channel::unbounded();
    let Some(watch) = host.watch(wake).unwrap() else { return };
    let expect = |name: &str| loop {
        let queue = woken.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no word of {name}"));
        if queue == Wake::Queue(QueueName::parse(name).unwrap()) {
            break;
        }
    };
    submitter.submit(&[task("foo", 1), task("bar", 2)]).unwrap();
    expect("foo");
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    let mut batch = all_done(&claim);
    batch[0].submits = vec![task("baz", 1)];
    host.finish(&batch).unwrap();
    expect("baz");
    drop(watch);
    assert!(woken.iter().count() < 100, "the thread is gone, its sender with it");
}

pub fn opened_by_many_at_once(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let start = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (uri, start) = (&uri, &start);
            scope.spawn(move || {
                start.wait();
                let mut host = owner(uri);
                host.submit(&[task("foo", n)]).unwrap();
            });
        }
    });
    assert_eq!(owner(&uri).poll(&queue("foo")).unwrap(), 8);
}

pub fn large_payloads_come_in_small_claims(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let text = format!("{{\"n\": 1, \"text\": \"{}\"}}", "x".repeat(10_000));
    let large = NewTask::plain(queue("foo"), Payload::parse(&text, 20_000).unwrap());
    host.submit(&[large.clone(), large.clone(), large.clone(), task("foo", 2)]).unwrap();
    let want = Want { bytes: 15_000, ..Want::tasks(99) };
    let first = host.claim(&queue("foo"), &want).unwrap().unwrap();
    assert_eq!(numbers(&first), [1, 1], "the one that passes the limit is the last");
    let small = Want { bytes: 1, ..Want::tasks(99) };
    let second = host.claim(&queue("foo"), &small).unwrap().unwrap();
    assert_eq!(numbers(&second), [1], "one there is always");
    assert_eq!(numbers(&host.claim(&queue("foo"), &want).unwrap().unwrap()), [2]);
}

pub fn priorities_go_first(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    if !host.features().priorities {
        return;
    }
    let with = |number, priority| with(number, Attributes { priority, ..Attributes::default() });
    let tasks = [with(1, 0), with(2, 5), with(3, -1), with(4, 0), with(5, -1), task("foo", 6)];
    let ids = submit(&mut *host, &tasks);
    assert!(ids.is_sorted(), "{ids:?}");
    let order = [3, 5, 1, 4, 6, 2];
    let peeked = host.peek(&queue("foo"), 9).unwrap();
    assert_eq!(peeked.iter().map(|task| number(&task.payload)).collect::<Vec<_>>(), order);
    assert_eq!(peeked.iter().map(|task| task.priority).collect::<Vec<_>>(), [-1, -1, 0, 0, 0, 5]);
    let first = host.claim(&queue("foo"), &Want::tasks(3)).unwrap().unwrap();
    assert_eq!(numbers(&first), order[..3]);
    // What goes back goes to its old place.
    let back = [finished(&first, 1, Outcome::Released), finished(&first, 2, Outcome::Released)];
    host.finish(&back).unwrap();
    let rest = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&rest), order[1..]);
}

pub fn delayed_tasks_wait(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    if !host.features().delays {
        return;
    }
    let name = queue("foo");
    let due = |number, due| with(number, Attributes { due, ..Attributes::default() });
    let (soon, late) = (Duration::from_millis(100), Duration::from_secs(3600));
    let past = Due::At(Timestamp(1_000_000));
    host.submit(&[due(1, Due::In(late)), due(2, Due::In(soon)), due(3, past)]).unwrap();
    let status = host.queues().unwrap().remove(0);
    assert!(status.delayed >= 1 && status.waiting + status.delayed == 3, "{status:?}");
    let first = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    assert!(numbers(&first).contains(&3));
    let mut got = numbers(&first);
    let wait = host.next_due(&name).unwrap().unwrap();
    assert!(wait <= if got.len() == 1 { soon } else { late }, "{wait:?}");
    wait_for("the delayed task", || {
        got.extend(host.claim(&name, &Want::tasks(9)).unwrap().iter().flat_map(numbers));
        got.len() == 2
    });
    assert_eq!(
        {
            got.sort_unstable();
            got
        },
        [2, 3]
    );
    let left = host.peek(&name, 9).unwrap();
    assert!(left.len() == 1 && left[0].due > Some(left[0].submitted), "{left:?}");
    assert_eq!(host.poll(&name).unwrap(), 0, "it is not due");
    assert_eq!(host.purge(&name).unwrap(), 1);
}

pub fn retries_keep_their_place(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    if !host.features().delays {
        return;
    }
    let name = queue("foo");
    let ids = submit(&mut *host, &[task("foo", 1), task("foo", 2), task("foo", 3)]);
    let claim = host.claim(&name, &Want::tasks(1)).unwrap().unwrap();
    assert_eq!(claim.tasks[0].history, json!(null));
    let retry = |history| Outcome::Retry { after: Duration::ZERO, history };
    host.finish(&[finished(&claim, 0, retry(json!([{"reason": "é\u{0}"}])))]).unwrap();
    assert_eq!(in_flight(&mut *host, "foo"), 0);
    let again = host.claim(&name, &Want::tasks(2)).unwrap().unwrap();
    assert_eq!(task_ids(&again), ids[..2], "before the younger ones");
    assert_eq!((again.tasks[0].attempt, again.tasks[1].attempt), (2, 1));
    assert_eq!(again.tasks[0].submitted, claim.tasks[0].submitted);
    let reason = again.tasks[0].history[0]["reason"].as_str().unwrap();
    assert_eq!(reason.replace('\u{fffd}', "\0"), "é\0");
    // Released, it is still at its second attempt.
    host.finish(&[finished(&again, 0, Outcome::Released)]).unwrap();
    let again = host.claim(&name, &Want::tasks(1)).unwrap().unwrap();
    assert_eq!((again.tasks[0].id, again.tasks[0].attempt), (ids[0], 2));
    assert_eq!(again.tasks[0].history.as_array().map(Vec::len), Some(1));
    let late = Outcome::Retry { after: Duration::from_secs(3600), history: json!([1, 2]) };
    host.finish(&[finished(&again, 0, late)]).unwrap();
    assert_eq!(numbers(&host.claim(&name, &Want::tasks(9)).unwrap().unwrap()), [3]);
}

pub fn claims_tell_attributes(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    host.submit(&[task("foo", 1)]).unwrap();
    let plain = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(host.attributes(plain.id).unwrap(), BTreeMap::new());
    let Features { priorities, unique, .. } = host.features();
    if !priorities || !unique {
        return;
    }
    let keyed = |key: &str| Attributes { unique: Some(key.to_owned()), ..Attributes::default() };
    let first = Attributes { priority: -3, ..keyed("a") };
    let ids = submit(
        &mut *host,
        &[
            task("foo", 2),
            with(3, first.clone()),
            with(4, Attributes { priority: 7, ..Attributes::default() }),
            with(5, keyed("b")),
        ],
    );
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [3, 2, 5, 4]);
    let last = Attributes { priority: 7, ..Attributes::default() };
    let held = BTreeMap::from([(ids[1], first), (ids[2], last), (ids[3], keyed("b"))]);
    assert_eq!(host.attributes(claim.id).unwrap(), held);
    host.finish(&all_done(&claim)).unwrap();
    assert_eq!(host.attributes(claim.id).unwrap(), BTreeMap::new());
}

pub fn a_unique_task_is_there_once(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    if !host.features().unique {
        return;
    }
    let name = queue("foo");
    let unique = |number, key: &str| {
        with(number, Attributes { unique: Some(key.to_owned()), ..Attributes::default() })
    };
    let done = host.submit(&[unique(1, "a"), unique(2, "b"), unique(3, "a")]).unwrap();
    assert_eq!(done.iter().map(|done| done.existed).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(done[2].id, done[0].id);
    let mut elsewhere = unique(4, "a");
    elsewhere.queue = queue("bar");
    assert!(!host.submit(&[elsewhere]).unwrap()[0].existed, "a key is a queue's");
    let claim = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [1, 2]);
    assert!(host.submit(&[unique(5, "a")]).unwrap()[0].existed, "in flight");
    host.finish(&[finished(&claim, 0, Outcome::Released)]).unwrap();
    assert!(host.submit(&[unique(6, "a")]).unwrap()[0].existed, "waiting again");
    let again = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    let retry = Outcome::Retry { after: Duration::ZERO, history: json!([]) };
    if host.features().delays {
        host.finish(&[finished(&again, 0, retry)]).unwrap();
        assert!(host.submit(&[unique(7, "a")]).unwrap()[0].existed, "to be tried again");
        let again = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
        host.finish(&all_done(&again)).unwrap();
    } else {
        host.finish(&all_done(&again)).unwrap();
    }
    host.finish(&[finished(&claim, 1, dead("broke"))]).unwrap();
    let done = host.submit(&[unique(8, "a"), unique(9, "b")]).unwrap();
    assert!(done.iter().all(|done| !done.existed), "done and dead: {done:?}");
    assert_eq!(host.purge(&name).unwrap(), 2);
    assert!(!host.submit(&[unique(10, "a")]).unwrap()[0].existed, "purged");
}

pub fn a_paused_queue_gives_nothing(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let (mut host, mut operator) = (owner(&uri), open(&uri, &Options::default()).unwrap());
    if !host.features().pause {
        return;
    }
    let name = queue("foo");
    host.submit(&[task("foo", 1), task("foo", 2), task("foo", 3), task("bar", 4)]).unwrap();
    let claim = host.claim(&name, &Want::tasks(1)).unwrap().unwrap();
    operator.pause(&name, true).unwrap();
    operator.pause(&name, true).unwrap();
    assert!(host.claim(&name, &Want::tasks(9)).unwrap().is_none());
    assert_eq!(numbers(&host.claim(&queue("bar"), &Want::tasks(9)).unwrap().unwrap()), [4]);
    let status = operator.queues().unwrap().pop().unwrap();
    assert!(status.paused && (status.waiting, status.in_flight) == (2, 1), "{status:?}");
    assert!(!host.is_idle(&name).unwrap());
    host.finish(&all_done(&claim)).unwrap();
    assert!(host.is_idle(&name).unwrap(), "nothing can be claimed");
    assert!(owner(&uri).claim(&name, &Want::tasks(9)).unwrap().is_none(), "for all, and kept");
    operator.pause(&name, false).unwrap();
    assert_eq!(numbers(&host.claim(&name, &Want::tasks(9)).unwrap().unwrap()), [2, 3]);
    // An empty one is listed, so that nobody wonders where its tasks stay.
    operator.pause(&queue("zoo"), true).unwrap();
    assert!(operator.queues().unwrap().iter().any(|one| one.queue == queue("zoo") && one.paused));
}

pub fn no_more_in_flight_than_allowed(store: &Store<'_>) {
    const LIMIT: usize = 3;
    const TASKS: u64 = 120;
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    if !host.features().in_flight {
        return;
    }
    let tasks: Vec<NewTask> = (0..TASKS).map(|n| task("foo", n)).collect();
    host.submit(&tasks).unwrap();
    let want = Want { in_flight: Some(LIMIT), ..Want::tasks(2) };
    let (flying, done) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut host = owner(&uri);
                let deadline = Instant::now() + DEADLINE;
                while done.load(Ordering::SeqCst) < TASKS && Instant::now() < deadline {
                    let Some(claim) = host.claim(&queue("foo"), &want).unwrap() else { continue };
                    let count = claim.tasks.len() as u64;
                    let now = flying.fetch_add(count, Ordering::SeqCst) + count;
                    assert!(now <= LIMIT as u64, "{now} in flight");
                    flying.fetch_sub(count, Ordering::SeqCst);
                    host.finish(&all_done(&claim)).unwrap();
                    done.fetch_add(count, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(done.into_inner(), TASKS);
}

pub fn attributes_survive_their_owner(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let (mut host, mut other) = (owner(&uri), owner(&uri));
    let features = host.features();
    if !features.priorities || !features.delays || !features.unique {
        return;
    }
    let name = queue("foo");
    let attributes = |priority, key: &str| {
        let (due, unique) = (Due::Now, Some(key.to_owned()));
        Attributes { priority, due, unique }
    };
    host.submit(&[task("foo", 1), with(2, attributes(-1, "a")), with(3, attributes(1, "b"))])
        .unwrap();
    let claim = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [2, 1, 3]);
    let retry = Outcome::Retry { after: Duration::ZERO, history: json!([1]) };
    host.finish(&[finished(&claim, 1, retry)]).unwrap();
    let again = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&again), [1]);
    host.close().unwrap();
    assert!(other.submit(&[with(4, attributes(0, "a"))]).unwrap()[0].existed);
    let taken = other.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&taken), [2, 1, 3]);
    assert_eq!(taken.tasks.iter().map(|task| task.attempt).collect::<Vec<_>>(), [1, 2, 1]);
    assert_eq!(taken.tasks[1].history, json!([1]));
    other.finish(&all_done(&taken)).unwrap();
    assert!(!other.submit(&[with(5, attributes(0, "a"))]).unwrap()[0].existed);
}

pub fn dead_letters_come_back(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let name = queue("foo");
    let ids = submit(&mut *host, &[task("foo", 1), task("foo", 2), task("foo", 3)]);
    let claim = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    let death = Death { reason: "broke".to_owned(), details: json!({"attempts": [{"n": 1}]}) };
    host.finish(&[
        finished(&claim, 0, Outcome::Dead(death)),
        finished(&claim, 1, dead("broke")),
        finished(&claim, 2, dead("broke")),
    ])
    .unwrap();
    let letters = host.dead_letters(&DeadQuery::default()).unwrap();
    let (first, third) = (letters[0].letter, letters[2].letter);
    assert_eq!(host.revive(&[first, third]).unwrap(), 2);
    assert_eq!(host.revive(&[first]).unwrap(), 0, "it is gone");
    assert_eq!(host.dead_letters(&DeadQuery::default()).unwrap().len(), 1);
    let back = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(task_ids(&back), [ids[0], ids[2]]);
    assert_eq!(numbers(&back), [1, 3]);
    assert!(back.tasks.iter().all(|task| task.attempt == 1));
    assert_eq!(back.tasks[0].submitted, letters[0].submitted);
    assert_eq!(
        (&back.tasks[0].history, &back.tasks[1].history),
        (&json!([{"n": 1}]), &json!(null))
    );
}

pub fn dead_letters_are_deleted(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    host.finish(&[finished(&claim, 0, dead("a")), finished(&claim, 1, dead("b"))]).unwrap();
    let letters = host.dead_letters(&DeadQuery::default()).unwrap();
    assert_eq!(host.discard(&[letters[0].letter]).unwrap(), 1);
    assert_eq!(host.discard(&[letters[0].letter]).unwrap(), 0);
    assert_eq!(host.forget_dead(Duration::from_secs(3600)).unwrap(), 0, "it is young");
    let mut forgotten = 0;
    wait_for("the other to be older than nothing", || {
        forgotten += host.forget_dead(Duration::ZERO).unwrap();
        forgotten > 0
    });
    assert_eq!(forgotten, 1);
    assert!(host.queues().unwrap().is_empty());
}

pub fn what_it_cannot_do_is_refused(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let features = host.features();
    let plain = Attributes::default;
    let attempts = [
        (features.priorities, Attributes { priority: 1, ..plain() }),
        (features.delays, Attributes { due: Due::In(Duration::from_secs(1)), ..plain() }),
        (features.unique, Attributes { unique: Some("a".to_owned()), ..plain() }),
    ];
    for (can, attributes) in attempts {
        let result = host.submit(&[task("foo", 1), with(2, attributes.clone())]);
        let refused = result.err().map(|error| error.kind);
        assert_eq!(refused, (!can).then_some(Kind::Invalid), "{attributes:?}");
    }
    let refused = host.pause(&queue("foo"), false).err().map(|error| error.kind);
    assert_eq!(refused, (!features.pause).then_some(Kind::Invalid));
    let want = Want { in_flight: Some(1), ..Want::tasks(1) };
    let refused = host.claim(&queue("foo"), &want).err().map(|error| error.kind);
    assert_eq!(refused, (!features.in_flight).then_some(Kind::Invalid));
    if features == Features::default() {
        assert_eq!(host.poll(&queue("foo")).unwrap(), 0, "all or none");
    }
}

/// Opens `uri` as an owner of its own.
pub fn owner(uri: &Uri) -> Box<dyn Transport> {
    open_as(uri, Options::default())
}

fn open_as(uri: &Uri, options: Options) -> Box<dyn Transport> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let owner = Owner { id: format!("contract:{}:{number}", std::process::id()) };
    match open(uri, &Options { owner: Some(owner), ..options }) {
        Ok(transport) => transport,
        Err(error) => panic!("{error}"),
    }
}

pub fn queue(name: &str) -> QueueName {
    QueueName::parse(name).unwrap()
}

/// A task of payload `{"n": N}`.
pub fn task(name: &str, number: u64) -> NewTask {
    let payload = Payload::parse(&json!({"n": number}).to_string(), 100).unwrap();
    NewTask::plain(queue(name), payload)
}

/// A task of queue `foo` and payload `{"n": N}`.
fn with(number: u64, attributes: Attributes) -> NewTask {
    NewTask { attributes, ..task("foo", number) }
}

pub fn numbers(claim: &Claim) -> Vec<u64> {
    claim.tasks.iter().map(|task| number(&task.payload)).collect()
}

fn number(payload: &Payload) -> u64 {
    let payload: serde_json::Value = serde_json::from_str(payload.as_str()).unwrap();
    payload["n"].as_u64().unwrap()
}

pub fn all_done(claim: &Claim) -> Vec<Finished> {
    (0..claim.tasks.len()).map(|at| finished(claim, at, Outcome::Done)).collect()
}

pub fn finished(claim: &Claim, at: usize, outcome: Outcome) -> Finished {
    Finished { claim: claim.id, task: claim.tasks[at].id, outcome, submits: Vec::new() }
}

fn submit(transport: &mut dyn Transport, tasks: &[NewTask]) -> Vec<TaskId> {
    transport.submit(tasks).unwrap().iter().map(|done| done.id).collect()
}

fn task_ids(claim: &Claim) -> Vec<TaskId> {
    claim.tasks.iter().map(|task| task.id).collect()
}

fn dead(reason: &str) -> Outcome {
    Outcome::Dead(Death { reason: reason.to_owned(), details: json!({"build": "1ab"}) })
}

fn in_flight(transport: &mut dyn Transport, name: &str) -> u64 {
    let all = transport.queues().unwrap();
    all.iter().find(|status| status.queue.as_str() == name).map_or(0, |status| status.in_flight)
}

/// Asks until it holds, up to the deadline.
#[track_caller]
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Repeats a call while it fails in a way that is worth a retry.
fn insist<T>(what: &str, mut call: impl FnMut() -> Result<T, crate::TransportError>) -> T {
    let mut answer = None;
    wait_for(what, || match call() {
        Ok(value) => {
            answer = Some(value);
            true
        }
        Err(error) if error.is_retryable() => false,
        Err(error) => panic!("{what}: {error}"),
    });
    answer.unwrap()
}
