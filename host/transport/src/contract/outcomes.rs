//! What becomes of claimed tasks, and of what they ask to be submitted.

use super::{Store, all_done, dead, finished, in_flight, numbers, owner, queue, task};
use crate::{DeadQuery, NewTask, Outcome, Want};

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
