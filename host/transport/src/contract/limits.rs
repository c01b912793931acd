//! What keeps tasks from being claimed, and what a store refuses.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{
    DEADLINE, Granted, Store, all_done, dead, finished, numbers, owner, queue, task, wait_for, with,
};
use crate::{Attributes, DeadQuery, Due, Features, Kind, NewTask, Options, Wake, Want, open};

pub fn a_paused_queue_gives_nothing(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let (mut host, mut operator) =
        (owner(&uri), open(&uri, &Options::default()).expect("the store can be opened"));
    if !host.features().pause {
        return;
    }
    let name = queue("foo");
    host.put(&[task("foo", 1), task("foo", 2), task("foo", 3), task("bar", 4)]);
    let claim = host.take(&name, &Want::tasks(1));
    operator.pause(&name, true).expect("a queue can be paused");
    operator.pause(&name, true).expect("a queue can be paused");
    assert!(host.claim(&name, &Want::tasks(9)).expect("tasks can be claimed").is_none());
    assert_eq!(numbers(&host.take(&queue("bar"), &Want::tasks(9))), [4]);
    let status = operator.list().pop().expect("the queue is listed");
    assert!(status.paused && (status.waiting, status.in_flight) == (2, 1), "{status:?}");
    assert!(!host.idle(&name));
    host.record(&all_done(&claim));
    assert!(host.idle(&name), "nothing can be claimed");
    assert!(
        owner(&uri).claim(&name, &Want::tasks(9)).expect("tasks can be claimed").is_none(),
        "for all, and kept"
    );
    operator.pause(&name, false).expect("a queue can be paused");
    assert_eq!(numbers(&host.take(&name, &Want::tasks(9))), [2, 3]);
    // An empty one is listed, so that nobody wonders where its tasks stay.
    operator.pause(&queue("zoo"), true).expect("a queue can be paused");
    assert!(operator.list().iter().any(|one| one.queue == queue("zoo") && one.paused));
}

/// A task may ask for any queue.
pub fn a_long_name_is_kept_or_refused(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    for length in [200, 235, 250, 255, 256, 3000, 100_000] {
        let long = queue(&"a".repeat(length));
        host.put(&[task("foo", 1), task("foo", 2)]);
        let claim = host.take(&queue("foo"), &Want::tasks(2));
        let mut asking = all_done(&claim);
        asking[1].submits = vec![NewTask { queue: long.clone(), ..task("foo", 3) }];
        match host.finish(&asking) {
            Ok(lost) => assert_eq!(lost, []),
            Err(error) => {
                assert_eq!(error.kind, Kind::Invalid, "{length}: {error}");
                host.record(&all_done(&claim));
            }
        }
        let kept = match host.submit(&[NewTask { queue: long.clone(), ..task("foo", 4) }]) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind, Kind::Invalid, "{length}: {error}");
                false
            }
        };
        let given = match host.claim(&long, &Want::tasks(9)) {
            Ok(Some(claim)) => claim.tasks.len(),
            Ok(None) => {
                assert_eq!(host.next_due(&long).expect("it can be told when a task is due"), None);
                assert!(host.idle(&long));
                0
            }
            Err(error) => {
                assert!([Kind::Invalid, Kind::Refused].contains(&error.kind), "{length}: {error}");
                0
            }
        };
        assert_eq!(given, if kept { 2 } else { 0 }, "{length}");
        let query = DeadQuery { queue: Some(long), ..DeadQuery::default() };
        assert_eq!(host.letters(&query).len(), 0);
        assert!(host.idle(&queue("foo")));
        host.list();
    }
    owner(&uri).rescue().expect("dead owners can be looked for");
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
    host.put(&tasks);
    let want = Want { in_flight: Some(LIMIT), ..Want::tasks(2) };
    let (flying, done) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut host = owner(&uri);
                let deadline = Instant::now() + DEADLINE;
                while done.load(Ordering::SeqCst) < TASKS && Instant::now() < deadline {
                    let Some(claim) =
                        host.claim(&queue("foo"), &want).expect("tasks can be claimed")
                    else {
                        continue;
                    };
                    let count = claim.tasks.len() as u64;
                    let now = flying.fetch_add(count, Ordering::SeqCst) + count;
                    assert!(now <= LIMIT as u64, "{now} in flight");
                    flying.fetch_sub(count, Ordering::SeqCst);
                    host.record(&all_done(&claim));
                    done.fetch_add(count, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(done.into_inner(), TASKS);
}

/// A host that found as many in flight as may be hears when there are fewer.
pub fn room_in_flight_is_told(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let (mut host, mut other) = (owner(&uri), owner(&uri));
    if !host.features().in_flight {
        return;
    }
    let (name, want) = (queue("foo"), Want { in_flight: Some(1), ..Want::tasks(9) });
    host.put(&[task("foo", 1), task("foo", 2), task("foo", 3)]);
    let mut claim = host.take(&name, &want);
    assert!(other.claim(&name, &want).expect("tasks can be claimed").is_none());
    let (wake, woken) = crossbeam_channel::unbounded();
    let Some(_watch) = other.watch(wake).expect("the store can be watched") else { return };
    let word = || woken.recv_timeout(DEADLINE).expect("word of room");
    host.record(&all_done(&claim));
    while word() != Wake::Queue(name.clone()) {}
    claim = other.take(&name, &want);
    assert_eq!(numbers(&claim), [2]);
    other.record(&[finished(&claim, 0, dead("it is bad"))]);
    while word() != Wake::Queue(name.clone()) {}
    assert_eq!(numbers(&host.take(&name, &want)), [3]);
}

/// A host that waits for the next task must not find one that it cannot have.
pub fn what_may_not_be_claimed_is_not_awaited(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let (mut host, mut operator) =
        (owner(&uri), open(&uri, &Options::default()).expect("the store can be opened"));
    let Features { delays, pause, in_flight, .. } = host.features();
    if !delays {
        return;
    }
    let due =
        |number, wait| with(number, Attributes { due: Due::In(wait), ..Attributes::default() });
    let (name, want) = (queue("foo"), Want { in_flight: Some(1), ..Want::tasks(1) });
    let soon = Duration::from_millis(50);
    if in_flight {
        operator.put(&[task("foo", 1)]);
        let claim = host.take(&name, &want);
        operator.put(&[due(2, soon)]);
        wait_for("the delayed task", || host.due(&name) == 1);
        assert!(host.claim(&name, &want).expect("tasks can be claimed").is_none());
        assert_eq!(
            host.next_due(&name).expect("it can be told when a task is due"),
            None,
            "as many are in flight as may be"
        );
        host.record(&all_done(&claim));
        let claim = host.take(&name, &want);
        host.record(&all_done(&claim));
    }
    if pause {
        operator.put(&[due(3, soon), due(4, Duration::from_secs(3600))]);
        operator.pause(&name, true).expect("a queue can be paused");
        wait_for("the delayed task", || host.due(&name) == 1);
        assert!(host.claim(&name, &Want::tasks(1)).expect("tasks can be claimed").is_none());
        let next = host.next_due(&name).expect("it can be told when a task is due");
        assert!(next.is_none_or(|next| next > Duration::from_secs(60)), "{next:?}");
        assert!(host.idle(&name), "it is paused");
        operator.pause(&name, false).expect("a queue can be paused");
        assert_eq!(numbers(&host.take(&name, &Want::tasks(9))), [3]);
    }
}

pub fn what_it_cannot_do_is_refused(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let features = store.features;
    assert_eq!(host.features(), features);
    let plain = Attributes::default;
    let attempts = [
        (features.priorities, Attributes { priority: 1, ..plain() }),
        (features.delays, Attributes { due: Due::In(Duration::from_secs(1)), ..plain() }),
        (features.unique, Attributes { unique: Some("a".to_owned()), ..plain() }),
    ];
    for (can, attributes) in attempts {
        let before = host.due(&queue("foo"));
        let result = host.submit(&[task("foo", 1), with(2, attributes.clone())]);
        let refused = result.err().map(|error| error.kind);
        assert_eq!(refused, (!can).then_some(Kind::Invalid), "{attributes:?}");
        let added = host.due(&queue("foo")) - before;
        assert_eq!(added > 0, can, "all or none: {attributes:?}");
    }
    assert_eq!(host.paused().expect("paused queues can be listed").len(), 0);
    if features.pause {
        host.pause(&queue("foo"), true).expect("a queue can be paused");
        assert_eq!(
            host.paused().expect("paused queues can be listed").into_iter().collect::<Vec<_>>(),
            [queue("foo")]
        );
    }
    let refused = host.pause(&queue("foo"), false).err().map(|error| error.kind);
    assert_eq!(refused, (!features.pause).then_some(Kind::Invalid));
    let want = Want { in_flight: Some(1), ..Want::tasks(1) };
    let refused = host.claim(&queue("foo"), &want).err().map(|error| error.kind);
    assert_eq!(refused, (!features.in_flight).then_some(Kind::Invalid));
}
