//! What waits: its order, what is seen and counted of it, and what reaches those who wait.

use super::{
    DEADLINE, Store, all_done, dead, finished, in_flight, numbers, owner, queue, submit, task,
    task_ids,
};
use crate::{DeadQuery, NewTask, Options, Outcome, Payload, QueueName, Wake, Want, open};

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

pub fn it_knows_itself(store: &Store<'_>) {
    let (Some((uri, _store)), Some((other_uri, _other))) = ((store.fresh)(), (store.fresh)())
    else {
        return;
    };
    let mut host = owner(&uri);
    let identity = host.identity().unwrap();
    let (mut same, mut other) =
        (open(&uri, &Options::default()).unwrap(), open(&other_uri, &Options::default()).unwrap());
    assert!(same.is(&identity).unwrap(), "{identity}");
    assert!(!other.is(&identity).unwrap(), "{identity}");
    let elsewhere = other.identity().unwrap();
    assert!(!same.is(&elsewhere).unwrap(), "{elsewhere}");
    assert!(!same.is("another kind's").unwrap());
    // And works on.
    same.submit(&[task("foo", 1)]).unwrap();
    other.submit(&[task("foo", 2)]).unwrap();
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [1]);
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
