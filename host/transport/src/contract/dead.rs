//! Dead letters: kept, put back, deleted.

use std::time::Duration;

use serde_json::json;

use super::{
    Granted, Store, dead, finished, numbers, owner, queue, submit, task, task_ids, wait_for,
};
use crate::{DeadQuery, Death, Outcome, TaskId, Want};

pub fn dead_letters_are_kept(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let ids = submit(&mut *host, &[task("foo", 1), task("foo", 2), task("bar", 3)]);
    let first = host.take(&queue("foo"), &Want::tasks(2));
    let second = host.take(&queue("bar"), &Want::tasks(1));
    let death = Death {
        reason: "exited by SIGSEGV — 'é' \"\u{0}\"".to_owned(),
        details: json!({"signal": 11, "output": ["é\u{0}", "😀"], "hash": null, "build": "2é"}),
    };
    host.record(&[finished(&first, 1, Outcome::Dead(death))]);
    host.record(&[finished(&second, 0, dead("second")), finished(&first, 0, dead("third"))]);
    let letters = host.letters(&DeadQuery::default());
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
    let of_foo = host.letters(&of_foo);
    assert_eq!(of_foo.iter().map(|letter| letter.id).collect::<Vec<_>>(), [ids[1], ids[0]]);
    let page = DeadQuery { after: Some(letters[0].letter), limit: Some(1), ..DeadQuery::default() };
    let page = host.letters(&page);
    assert_eq!(page.iter().map(|letter| letter.id).collect::<Vec<_>>(), [ids[2]]);
    let mut ids_of = |query: DeadQuery| {
        let letters = host.letters(&query);
        letters.iter().map(|letter| letter.id).collect::<Vec<_>>()
    };
    let (some, plain) = (vec![ids[0], ids[2], TaskId(77)], DeadQuery::default);
    assert_eq!(ids_of(DeadQuery { tasks: some.clone(), ..plain() }), [ids[2], ids[0]]);
    let limit = Some(1);
    assert_eq!(ids_of(DeadQuery { tasks: some.clone(), limit, ..plain() }), [ids[2]]);
    assert_eq!(ids_of(DeadQuery { tasks: vec![ids[0]], limit, ..plain() }), [ids[0]]);
    for (bytes, expected) in [(1, 1), (letters[0].bytes() * 2 / 3, 1), (1 << 20, 3)] {
        assert_eq!(ids_of(DeadQuery { bytes: Some(bytes), ..plain() }).len(), expected, "{bytes}");
    }
    let after = Some(letters[0].letter);
    assert_eq!(ids_of(DeadQuery { tasks: some, after, bytes: Some(1), ..plain() }), [ids[2]]);
    assert_eq!(
        Vec::from_iter(host.dead_details("build").expect("dead letters can be looked into")),
        ["1ab", "2é"]
    );
    assert_eq!(host.due(&queue("foo")), 0);
    assert!(host.idle(&queue("foo")), "a dead letter holds nobody");
    assert!(host.claim(&queue("foo"), &Want::tasks(9)).expect("tasks can be claimed").is_none());
}

pub fn dead_letters_come_back(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    let name = queue("foo");
    let ids = submit(&mut *host, &[task("foo", 1), task("foo", 2), task("foo", 3)]);
    let claim = host.take(&name, &Want::tasks(9));
    let death = Death { reason: "broke".to_owned(), details: json!({"attempts": [{"n": 1}]}) };
    host.record(&[
        finished(&claim, 0, Outcome::Dead(death)),
        finished(&claim, 1, dead("broke")),
        finished(&claim, 2, dead("broke")),
    ]);
    let letters = host.letters(&DeadQuery::default());
    let (first, third) = (letters[0].letter, letters[2].letter);
    assert_eq!(host.revive(&[first, third]).expect("dead letters can be put back"), 2);
    assert_eq!(host.revive(&[first]).expect("dead letters can be put back"), 0, "it is gone");
    assert_eq!(host.letters(&DeadQuery::default()).len(), 1);
    assert_eq!(host.look(&name, 9)[0].submitted, letters[0].submitted);
    let back = host.take(&name, &Want::tasks(9));
    assert_eq!(task_ids(&back), [ids[0], ids[2]]);
    assert_eq!(numbers(&back), [1, 3]);
    assert!(back.tasks.iter().all(|task| task.attempt == 1));
    assert_eq!(
        (&back.tasks[0].history, &back.tasks[1].history),
        (&json!([{"n": 1}]), &json!(null))
    );
}

pub fn dead_letters_are_deleted(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    host.put(&[task("foo", 1), task("foo", 2)]);
    let claim = host.take(&queue("foo"), &Want::tasks(9));
    host.record(&[finished(&claim, 0, dead("a")), finished(&claim, 1, dead("b"))]);
    let letters = host.letters(&DeadQuery::default());
    assert_eq!(host.discard(&[letters[0].letter]).expect("dead letters can be deleted"), 1);
    assert_eq!(host.discard(&[letters[0].letter]).expect("dead letters can be deleted"), 0);
    assert_eq!(
        host.forget_dead(Duration::from_secs(3600)).expect("dead letters can be deleted"),
        0,
        "it is young"
    );
    let mut forgotten = 0;
    wait_for("the other to be older than nothing", || {
        forgotten += host.forget_dead(Duration::ZERO).expect("dead letters can be deleted");
        forgotten > 0
    });
    assert_eq!(forgotten, 1);
    assert!(host.list().is_empty());
}
