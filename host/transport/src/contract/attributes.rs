//! Priorities, delays, retries and unique keys.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use serde_json::json;

use super::{
    Granted, Store, all_done, dead, finished, in_flight, number, numbers, owner, queue, submit,
    task, task_ids, wait_for, with,
};
use crate::{Attributes, Claim, Due, Features, Outcome, Timestamp, Transport, Want};

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
    let peeked = host.look(&queue("foo"), 9);
    assert_eq!(peeked.iter().map(|task| number(&task.payload)).collect::<Vec<_>>(), order);
    assert_eq!(peeked.iter().map(|task| task.priority).collect::<Vec<_>>(), [-1, -1, 0, 0, 0, 5]);
    let first = host.take(&queue("foo"), &Want::tasks(3));
    assert_eq!(numbers(&first), order[..3]);
    // What goes back goes to its old place.
    let back = [finished(&first, 1, Outcome::Released), finished(&first, 2, Outcome::Released)];
    host.record(&back);
    let rest = host.take(&queue("foo"), &Want::tasks(9));
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
    host.put(&[due(1, Due::In(late)), due(2, Due::In(soon)), due(3, past)]);
    let status = host.list().remove(0);
    assert!(status.delayed >= 1 && status.waiting + status.delayed == 3, "{status:?}");
    let first = host.take(&name, &Want::tasks(9));
    assert!(numbers(&first).contains(&3));
    let mut got = numbers(&first);
    let wait = host
        .next_due(&name)
        .expect("it can be told when a task is due")
        .expect("a task is to come due");
    // The sooner one may be due by now.
    let is_late = got.len() == 2 || host.due(&name) == 1;
    assert!(wait <= if is_late { late } else { soon }, "{wait:?}");
    wait_for("the delayed task", || {
        got.extend(
            host.claim(&name, &Want::tasks(9))
                .expect("tasks can be claimed")
                .iter()
                .flat_map(numbers),
        );
        got.len() == 2
    });
    assert_eq!(
        {
            got.sort_unstable();
            got
        },
        [2, 3]
    );
    let left = host.look(&name, 9);
    assert!(left.len() == 1 && left[0].due > Some(left[0].submitted), "{left:?}");
    assert_eq!(host.due(&name), 0, "it is not due");
    let status = host.list().remove(0);
    assert_eq!((status.waiting, status.delayed, status.oldest), (0, 1, None), "{status:?}");
    assert_eq!(host.purge(&name).expect("what waits can be deleted"), 1);
}

/// Puts tasks 0 to 1509 into `foo`, of which 1500 is delayed, and waits until it is due.
pub fn fill_around_a_delayed_task(host: &mut dyn Transport) {
    let plain = |numbers: Range<u64>| numbers.map(|number| task("foo", number)).collect::<Vec<_>>();
    submit(host, &plain(0..1500));
    let due = Due::In(Duration::from_secs(1));
    host.put(&[with(1500, Attributes { due, ..Attributes::default() })]);
    submit(host, &plain(1501..1510));
    wait_for("the delayed task", || host.due(&queue("foo")) == 1510);
}

pub fn a_delayed_task_comes_due_among_many(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    if !host.features().delays {
        return;
    }
    let name = queue("foo");
    fill_around_a_delayed_task(&mut *host);
    let mut got = Vec::new();
    while let Some(claim) = host.claim(&name, &Want::tasks(2000)).expect("tasks can be claimed") {
        got.extend(numbers(&claim));
    }
    let place = got.iter().position(|number| *number == 1500).expect("each was claimed");
    got.remove(place);
    assert!(got.into_iter().eq((0..1510).filter(|number| *number != 1500)), "the others in order");
}

pub fn many_come_due_at_once(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    if !host.features().delays {
        return;
    }
    let due = Due::In(Duration::from_millis(500));
    let delayed = |number| with(number, Attributes { due, ..Attributes::default() });
    host.put(&(0..2100).map(delayed).collect::<Vec<_>>());
    let mut got = Vec::new();
    wait_for("the delayed tasks", || {
        got.extend(
            host.claim(&queue("foo"), &Want::tasks(5000))
                .expect("tasks can be claimed")
                .iter()
                .flat_map(numbers),
        );
        got.len() == 2100
    });
    got.sort_unstable();
    assert!(got.iter().copied().eq(0..2100), "{got:?}");
}

pub fn many_retries_keep_their_ids(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    if !host.features().delays {
        return;
    }
    let name = queue("foo");
    let tasks: Vec<_> = (0..4500).map(|number| task("foo", number)).collect();
    submit(&mut *host, &tasks);
    let claimed = |host: &mut dyn Transport, count| {
        let mut claims = Vec::new();
        wait_for("tasks", || {
            claims.extend(host.claim(&name, &Want::tasks(count)).expect("tasks can be claimed"));
            claims.iter().map(|claim| claim.tasks.len()).sum::<usize>() >= count
        });
        claims
    };
    let ids = |claims: &[Claim]| {
        let tasks = claims.iter().flat_map(|claim| &claim.tasks);
        tasks.map(|task| task.id).collect::<BTreeSet<_>>()
    };
    let first = claimed(&mut *host, 3000);
    let retry = |claim, at| {
        finished(claim, at, Outcome::Retry { after: Duration::ZERO, history: json!(null) })
    };
    let retries =
        first.iter().flat_map(|claim| (0..claim.tasks.len()).map(move |at| retry(claim, at)));
    let retries: Vec<_> = retries.collect();
    // The younger ones come back behind many that wait again.
    host.record(&retries[..2000]);
    for _ in 0..2 {
        let claim = claimed(&mut *host, 1).remove(0);
        host.record(&[finished(&claim, 0, Outcome::Released)]);
    }
    host.record(&retries[2000..]);
    let again = claimed(&mut *host, 4500);
    assert!(ids(&first).is_subset(&ids(&again)));
}

pub fn retries_keep_their_place(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    if !host.features().delays {
        return;
    }
    let name = queue("foo");
    let ids = submit(&mut *host, &[task("foo", 1), task("foo", 2), task("foo", 3)]);
    let submitted = host.look(&name, 1)[0].submitted;
    let claim = host.take(&name, &Want::tasks(1));
    assert_eq!(claim.tasks[0].history, json!(null));
    let retry = |history| Outcome::Retry { after: Duration::ZERO, history };
    host.record(&[finished(&claim, 0, retry(json!([{"reason": "é\u{0}"}])))]);
    assert_eq!(in_flight(&mut *host, "foo"), 0);
    let waiting = host.look(&name, 9);
    let back = waiting.iter().find(|task| task.id == ids[0]).expect("it waits again");
    assert_eq!(back.submitted, submitted);
    let again = host.take(&name, &Want::tasks(2));
    assert_eq!(task_ids(&again), ids[..2], "before the younger ones");
    assert_eq!((again.tasks[0].attempt, again.tasks[1].attempt), (2, 1));
    let reason = again.tasks[0].history[0]["reason"].as_str().expect("why it came back");
    assert_eq!(reason.replace('\u{fffd}', "\0"), "é\0");
    // Released, it is still at its second attempt.
    host.record(&[finished(&again, 0, Outcome::Released)]);
    let again = host.take(&name, &Want::tasks(1));
    assert_eq!((again.tasks[0].id, again.tasks[0].attempt), (ids[0], 2));
    assert_eq!(again.tasks[0].history.as_array().map(Vec::len), Some(1));
    let late = Outcome::Retry { after: Duration::from_secs(3600), history: json!([1, 2]) };
    host.record(&[finished(&again, 0, late)]);
    assert_eq!(numbers(&host.take(&name, &Want::tasks(9))), [3]);
}

pub fn claims_tell_attributes(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    host.put(&[task("foo", 1)]);
    let plain = host.take(&queue("foo"), &Want::tasks(9));
    assert_eq!(
        host.attributes(plain.id).expect("attributes of a claim can be read"),
        BTreeMap::new()
    );
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
    let claim = host.take(&queue("foo"), &Want::tasks(9));
    assert_eq!(numbers(&claim), [3, 2, 5, 4]);
    let last = Attributes { priority: 7, ..Attributes::default() };
    let held = BTreeMap::from([(ids[1], first), (ids[2], last), (ids[3], keyed("b"))]);
    assert_eq!(host.attributes(claim.id).expect("attributes of a claim can be read"), held);
    host.record(&all_done(&claim));
    assert_eq!(
        host.attributes(claim.id).expect("attributes of a claim can be read"),
        BTreeMap::new()
    );
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
    let done = host.put(&[unique(1, "a"), unique(2, "b"), unique(3, "a")]);
    assert_eq!(done.iter().map(|done| done.existed).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(done[2].id, done[0].id);
    let mut elsewhere = unique(4, "a");
    elsewhere.queue = queue("bar");
    assert!(!host.put(&[elsewhere])[0].existed, "a key is a queue's");
    let claim = host.take(&name, &Want::tasks(9));
    assert_eq!(numbers(&claim), [1, 2]);
    assert!(host.put(&[unique(5, "a")])[0].existed, "in flight");
    host.record(&[finished(&claim, 0, Outcome::Released)]);
    assert!(host.put(&[unique(6, "a")])[0].existed, "waiting again");
    let again = host.take(&name, &Want::tasks(9));
    let retry = Outcome::Retry { after: Duration::ZERO, history: json!([]) };
    if host.features().delays {
        host.record(&[finished(&again, 0, retry)]);
        assert!(host.put(&[unique(7, "a")])[0].existed, "to be tried again");
        let again = host.take(&name, &Want::tasks(9));
        host.record(&all_done(&again));
    } else {
        host.record(&all_done(&again));
    }
    host.record(&[finished(&claim, 1, dead("broke"))]);
    let done = host.put(&[unique(8, "a"), unique(9, "b")]);
    assert!(done.iter().all(|done| !done.existed), "done and dead: {done:?}");
    assert_eq!(host.purge(&name).expect("what waits can be deleted"), 2);
    assert!(!host.put(&[unique(10, "a")])[0].existed, "purged");
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
    host.put(&[task("foo", 1), with(2, attributes(-1, "a")), with(3, attributes(1, "b"))]);
    let claim = host.take(&name, &Want::tasks(9));
    assert_eq!(numbers(&claim), [2, 1, 3]);
    let retry = Outcome::Retry { after: Duration::ZERO, history: json!([1]) };
    host.record(&[finished(&claim, 1, retry)]);
    let again = host.take(&name, &Want::tasks(9));
    assert_eq!(numbers(&again), [1]);
    host.close().expect("an owner can leave");
    assert!(other.put(&[with(4, attributes(0, "a"))])[0].existed);
    let taken = other.take(&name, &Want::tasks(9));
    assert_eq!(numbers(&taken), [2, 1, 3]);
    assert_eq!(taken.tasks.iter().map(|task| task.attempt).collect::<Vec<_>>(), [1, 2, 1]);
    assert_eq!(taken.tasks[1].history, json!([1]));
    other.record(&all_done(&taken));
    assert!(!other.put(&[with(5, attributes(0, "a"))])[0].existed);
}
