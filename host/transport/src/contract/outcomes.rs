//! What becomes of claimed tasks, and of what they ask to be submitted.

use super::{Granted, Store, all_done, dead, finished, in_flight, numbers, owner, queue, task};
use crate::{DeadQuery, NewTask, Outcome, Want};

pub fn partial_finish(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let name = queue("foo");
    host.put(&[task("foo", 1), task("foo", 2), task("foo", 3)]);
    let claim = host.take(&name, &Want::tasks(3));
    assert_eq!(host.record(&[finished(&claim, 1, Outcome::Done)]), []);
    assert_eq!(in_flight(&mut *host, "foo"), 2);
    assert_eq!(host.record(&[finished(&claim, 0, Outcome::Done)]), []);
    assert_eq!(in_flight(&mut *host, "foo"), 1);
    host.record(&all_done(&claim));
    assert!(host.idle(&name));
    assert!(host.list().is_empty());
}

pub fn released_tasks_go_to_their_old_place(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let name = queue("foo");
    host.put(&[task("foo", 1), task("foo", 2), task("foo", 3)]);
    let before = host.look(&name, 9);
    let claim = host.take(&name, &Want::tasks(2));
    let back = [finished(&claim, 1, Outcome::Released), finished(&claim, 0, Outcome::Released)];
    assert_eq!(host.record(&back), []);
    let after = host.look(&name, 9);
    assert_eq!(after.len(), 3);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.id, before.submitted, before.attempt), (after.id, after.submitted, 1));
        assert_eq!(before.payload, after.payload);
    }
    assert_eq!(in_flight(&mut *host, "foo"), 0);
    assert_eq!(numbers(&host.take(&name, &Want::tasks(9))), [1, 2, 3]);
}

pub fn one_batch_of_all_outcomes(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let tasks: Vec<NewTask> = (0..6).map(|n| task("foo", n)).collect();
    host.put(&tasks);
    let first = host.take(&queue("foo"), &Want::tasks(3));
    let second = host.take(&queue("foo"), &Want::tasks(3));
    let batch = [
        finished(&second, 2, Outcome::Released),
        finished(&first, 0, Outcome::Done),
        finished(&second, 0, dead("broke")),
        finished(&first, 1, dead("broke")),
        finished(&first, 2, Outcome::Released),
    ];
    assert_eq!(host.record(&batch), []);
    let status = host.list().remove(0);
    assert_eq!((status.waiting, status.in_flight, status.dead), (2, 1, 2));
    assert_eq!(numbers(&host.take(&queue("foo"), &Want::tasks(9))), [2, 5]);
}

pub fn submits_go_with_the_outcome(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    host.put(&[task("foo", 1), task("foo", 2), task("foo", 3)]);
    let claim = host.take(&queue("foo"), &Want::tasks(3));
    let mut batch = all_done(&claim);
    batch[0].submits = vec![task("foo", 10), task("bar", 11)];
    batch[1].outcome = dead("broke");
    batch[1].submits = vec![task("bar", 12)];
    batch[2].submits = vec![task("foo", 13)];
    assert_eq!(host.record(&batch), []);
    assert_eq!(numbers(&host.take(&queue("foo"), &Want::tasks(9))), [10, 13]);
    assert_eq!(numbers(&host.take(&queue("bar"), &Want::tasks(9))), [11, 12]);
}

pub fn submits_are_not_doubled(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    host.put(&[task("foo", 1), task("foo", 2)]);
    let claim = host.take(&queue("foo"), &Want::tasks(2));
    let mut batch = vec![finished(&claim, 0, Outcome::Done)];
    batch[0].submits = vec![task("bar", 1)];
    assert_eq!(host.record(&batch), []);
    // The same call again, as after a lost reply, and other outcomes of the same task.
    host.record(&batch);
    batch[0].outcome = dead("again");
    host.record(&batch);
    batch[0].outcome = Outcome::Released;
    host.record(&batch);
    assert_eq!(host.due(&queue("bar")), 1);
    assert_eq!(host.due(&queue("foo")), 0);
    assert_eq!(in_flight(&mut *host, "foo"), 1);
    assert!(host.letters(&DeadQuery::default()).is_empty());
    // Twice in one batch counts once.
    let mut twice = vec![finished(&claim, 1, Outcome::Done), finished(&claim, 1, Outcome::Done)];
    twice[0].submits = vec![task("bar", 2)];
    twice[1].submits = vec![task("bar", 3)];
    host.record(&twice);
    assert_eq!(host.due(&queue("bar")), 2);
    assert!(host.idle(&queue("foo")));
}
