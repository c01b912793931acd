//! What waits: its order, what is seen and counted of it, and what reaches those who wait.

use super::{
    DEADLINE, Granted, Store, all_done, dead, finished, in_flight, numbers, owner, queue, submit,
    task, task_ids,
};
use crate::{DeadQuery, NewTask, Options, Outcome, Payload, QueueName, Wake, Want, open};

pub fn first_in_first_out(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let ids = submit(&mut *host, &[task("foo", 1), task("foo", 2), task("foo", 3)]);
    assert!(ids.is_sorted() && ids.len() == 3, "{ids:?}");
    assert_eq!(host.due(&queue("foo")), 3);
    let first = host.take(&queue("foo"), &Want::tasks(2));
    assert_eq!(first.queue, queue("foo"));
    assert_eq!(numbers(&first), [1, 2]);
    assert_eq!(task_ids(&first), ids[..2]);
    assert!(first.tasks.iter().all(|task| task.attempt == 1));
    let second = host.take(&queue("foo"), &Want::tasks(2));
    assert_eq!(numbers(&second), [3]);
    assert_ne!(first.id, second.id);
    assert!(host.claim(&queue("foo"), &Want::tasks(2)).expect("tasks can be claimed").is_none());
    host.record(&all_done(&first));
    host.record(&all_done(&second));
    // A drained queue works on, and never gives an id again.
    let later = submit(&mut *host, &[task("foo", 4)]);
    assert!(later[0] > ids[2]);
    assert_eq!(numbers(&host.take(&queue("foo"), &Want::tasks(1))), [4]);
}

pub fn empty_queues(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let never = queue("never");
    assert_eq!(host.due(&never), 0);
    assert!(host.claim(&never, &Want::tasks(10)).expect("tasks can be claimed").is_none());
    assert!(host.look(&never, 10).is_empty());
    assert!(host.list().is_empty());
    assert!(host.idle(&never));
    assert_eq!(host.purge(&never).expect("what waits can be deleted"), 0);
    assert!(host.letters(&DeadQuery::default()).is_empty());
    assert_eq!(host.rescue().expect("dead owners can be looked for"), 0);
    assert_eq!(host.put(&[]), []);
    assert_eq!(host.record(&[]), []);
}

pub fn queues_are_apart(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    host.put(&[task("foo", 1), task("bar", 2), task("foo", 3)]);
    assert_eq!(numbers(&host.take(&queue("bar"), &Want::tasks(9))), [2]);
    assert_eq!(numbers(&host.take(&queue("foo"), &Want::tasks(9))), [1, 3]);
}

pub fn claimed_tasks_are_out_of_sight(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let (mut host, mut other) = (owner(&uri), owner(&uri));
    let name = queue("foo");
    host.put(&[task("foo", 1), task("foo", 2)]);
    let claim = host.take(&name, &Want::tasks(1));
    assert_eq!(other.due(&name), 1);
    assert_eq!(other.look(&name, 9).len(), 1);
    let rest = other.take(&name, &Want::tasks(9));
    assert_eq!(numbers(&rest), [2]);
    assert_eq!(other.due(&name), 0);
    assert!(!other.idle(&name));
    other.record(&all_done(&rest));
    assert!(!other.idle(&name), "the other owner's task is in flight");
    host.record(&all_done(&claim));
    assert!(other.idle(&name));
}

pub fn counts_and_lists(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let ids = submit(&mut *host, &[task("foo", 1), task("foo", 2), task("foo", 3)]);
    host.put(&[task("bar", 1)]);
    let claim = host.take(&queue("foo"), &Want::tasks(2));
    let waiting = host.look(&queue("foo"), 9);
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].id, waiting[0].attempt), (ids[2], 1));
    let status = host.list();
    let names: Vec<_> = status.iter().map(|status| status.queue.as_str()).collect();
    assert_eq!(names, ["bar", "foo"]);
    assert_eq!((status[1].waiting, status[1].in_flight, status[1].dead), (1, 2, 0));
    assert_eq!(status[1].oldest, Some(waiting[0].submitted));
    host.record(&[finished(&claim, 0, dead("broke"))]);
    let status = host.list();
    assert_eq!((status[1].waiting, status[1].in_flight, status[1].dead), (1, 1, 1));
    host.put(&[task("foo", 4)]);
    assert_eq!(host.look(&queue("foo"), 1).len(), 1);
    assert_eq!(host.look(&queue("foo"), 1)[0].id, ids[2], "the oldest");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("the clock is set");
    let age = now.as_micros().abs_diff(waiting[0].submitted.0.unsigned_abs().into());
    assert!(age < 60_000_000, "submitted a moment ago, not {age} µs");
}

pub fn purge_deletes_what_waits(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let name = queue("foo");
    let tasks: Vec<NewTask> = (0..5).map(|n| task("foo", n)).collect();
    host.put(&tasks);
    host.put(&[task("bar", 1)]);
    let claim = host.take(&name, &Want::tasks(2));
    host.record(&[finished(&claim, 0, dead("broke"))]);
    assert_eq!(host.purge(&name).expect("what waits can be deleted"), 3);
    let status = host.list().pop().expect("the queue is listed");
    assert_eq!((status.waiting, status.in_flight, status.dead), (0, 1, 1));
    assert_eq!(host.due(&queue("bar")), 1);
    assert_eq!(host.purge(&name).expect("what waits can be deleted"), 0);
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
        .map(|text| {
            NewTask::plain(queue("foo"), Payload::parse(text, 2 << 20).expect("it is JSON"))
        })
        .collect();
    host.put(&tasks);
    let peeked = host.look(&queue("foo"), 99);
    let claim = host.take(&queue("foo"), &Want::tasks(99));
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
    host.record(&batch);
    let letters = host.letters(&DeadQuery::default());
    for (letter, text) in letters.iter().zip(&texts[1..]) {
        assert!(letter.payload.as_str() == *text, "dead {}", letter.id.0);
    }
    assert_eq!(host.look(&queue("foo"), 9)[0].payload, Payload::empty());
}

pub fn many_at_once(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let tasks: Vec<NewTask> = (0..5000).map(|n| task("foo", n)).collect();
    let ids = submit(&mut *host, &tasks);
    assert!(ids.is_sorted() && ids.len() == 5000);
    let claim = host.take(&queue("foo"), &Want::tasks(5000));
    assert_eq!(task_ids(&claim), ids);
    let mut batch = all_done(&claim);
    let rest = batch.split_off(2500);
    assert_eq!(host.record(&batch), []);
    assert_eq!(in_flight(&mut *host, "foo"), 2500);
    assert_eq!(host.record(&rest), []);
    assert!(host.idle(&queue("foo")));
}

pub fn large_payloads_come_in_small_claims(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let text = format!("{{\"n\": 1, \"text\": \"{}\"}}", "x".repeat(10_000));
    let large = NewTask::plain(queue("foo"), Payload::parse(&text, 20_000).expect("it is JSON"));
    host.put(&[large.clone(), large.clone(), large.clone(), task("foo", 2)]);
    let want = Want { bytes: 15_000, ..Want::tasks(99) };
    let first = host.take(&queue("foo"), &want);
    assert_eq!(numbers(&first), [1, 1], "the one that passes the limit is the last");
    let small = Want { bytes: 1, ..Want::tasks(99) };
    let second = host.take(&queue("foo"), &small);
    assert_eq!(numbers(&second), [1], "one there is always");
    assert_eq!(numbers(&host.take(&queue("foo"), &want)), [2]);
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
                host.put(&[task("foo", n)]);
            });
        }
    });
    assert_eq!(owner(&uri).due(&queue("foo")), 8);
}

pub fn it_knows_itself(store: &Store<'_>) {
    let (Some((uri, _store)), Some((other_uri, _other))) = ((store.fresh)(), (store.fresh)())
    else {
        return;
    };
    let mut host = owner(&uri);
    let identity = host.identity().expect("a store can be marked");
    let (mut same, mut other) = (
        open(&uri, &Options::default()).expect("the store can be opened"),
        open(&other_uri, &Options::default()).expect("the store can be opened"),
    );
    assert!(same.is(&identity).expect("a mark can be looked for"), "{identity}");
    assert!(!other.is(&identity).expect("a mark can be looked for"), "{identity}");
    let elsewhere = other.identity().expect("a store can be marked");
    assert!(!same.is(&elsewhere).expect("a mark can be looked for"), "{elsewhere}");
    assert!(!same.is("another kind's").expect("a mark can be looked for"));
    // And works on.
    same.put(&[task("foo", 1)]);
    other.put(&[task("foo", 2)]);
    assert_eq!(numbers(&host.take(&queue("foo"), &Want::tasks(9))), [1]);
}

pub fn watch_wakes(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let (mut host, mut submitter) =
        (owner(&uri), open(&uri, &Options::default()).expect("the store can be opened"));
    let (wake, woken) = crossbeam_channel::unbounded();
    let Some(watch) = host.watch(wake).expect("the store can be watched") else { return };
    let expect = |name: &str| loop {
        let queue = woken.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no word of {name}"));
        if queue == Wake::Queue(QueueName::parse(name).expect("only queues with names wake")) {
            break;
        }
    };
    submitter.put(&[task("foo", 1), task("bar", 2)]);
    expect("foo");
    let claim = host.take(&queue("foo"), &Want::tasks(9));
    let mut batch = all_done(&claim);
    batch[0].submits = vec![task("baz", 1)];
    host.record(&batch);
    expect("baz");
    drop(watch);
    assert!(woken.iter().count() < 100, "the thread is gone, its sender with it");
}
