//! A sequence that was set back (`TRUNCATE … RESTART IDENTITY`, `setval`, a switch to a server that was
//! replicated logically) gives ids again that tasks with attributes still have: each task keeps its own
//! outcome, and none is lost for another of its id.

use std::collections::BTreeSet;
use std::time::Duration;

use rex_test_support::pg::Database;
use rex_transport::contract::{all_done, finished, numbers, queue, task, with};
use rex_transport::{
    Attributes, Claim, DeadQuery, Death, Due, Finished, NewTask, Outcome, TaskId, Transport, Want,
};
use serde_json::{Value, json};

use super::backlogs::alone;
use super::{database, host, uri};

/// With attributes, 1 to 5, and beside them in the original's table, with the same ids, 101 to 105.
fn twice_the_same_ids(database: &Database, host: &mut dyn Transport, attributes: &Attributes) {
    let ours: Vec<NewTask> = (1..=5).map(|number| with(number, attributes.clone())).collect();
    let ids = host.submit(&ours).unwrap();
    set_back(database, "TRUNCATE asynctask.asynctask_queue RESTART IDENTITY");
    let theirs: Vec<NewTask> = (101..=105).map(|number| task("foo", number)).collect();
    assert_eq!(host.submit(&theirs).unwrap(), ids);
}

fn set_back(database: &Database, how: &str) {
    database.connect().batch_execute(how).unwrap();
}

fn at_once() -> Attributes {
    // What waited for its time a moment ago.
    Attributes { due: Due::In(Duration::ZERO), ..Attributes::default() }
}

fn all_numbers() -> BTreeSet<u64> {
    (1..=5).chain(101..=105).collect()
}

/// Claims until there is nothing left; no claim has two tasks of one id.
#[track_caller]
fn claim_all(host: &mut dyn Transport) -> Vec<Claim> {
    let mut claims = Vec::new();
    while let Some(claim) = host.claim(&queue("foo"), &Want::tasks(100)).unwrap() {
        let ids: BTreeSet<TaskId> = claim.tasks.iter().map(|task| task.id).collect();
        assert_eq!(ids.len(), claim.tasks.len(), "{:?}", numbers(&claim));
        claims.push(claim);
    }
    claims
}

/// All that is claimed, which is each once.
#[track_caller]
fn each_once(claims: &[Claim]) {
    let claimed: Vec<u64> = claims.iter().flat_map(numbers).collect();
    assert_eq!(claimed.len(), 10, "{claimed:?}");
    assert_eq!(claimed.into_iter().collect::<BTreeSet<u64>>(), all_numbers());
}

fn each(claims: &[Claim], outcome: impl Fn(u64) -> Outcome) -> Vec<Finished> {
    let of = |claim: &Claim| {
        let numbers = numbers(claim).into_iter().enumerate();
        numbers.map(|(at, number)| finished(claim, at, outcome(number))).collect::<Vec<_>>()
    };
    claims.iter().flat_map(of).collect()
}

fn dead(number: u64) -> Outcome {
    Outcome::Dead(Death { reason: number.to_string(), details: json!({}) })
}

fn again() -> Outcome {
    Outcome::Retry { after: Duration::ZERO, history: Value::Null }
}

/// Payloads and reasons of the dead letters.
fn letters(host: &mut dyn Transport) -> BTreeSet<(u64, String)> {
    let letters = host.dead_letters(&DeadQuery::default()).unwrap();
    let count = letters.len();
    let told: BTreeSet<(u64, String)> = letters
        .into_iter()
        .map(|letter| {
            let payload: Value = serde_json::from_str(letter.payload.as_str()).unwrap();
            (payload["n"].as_u64().unwrap(), letter.death.reason)
        })
        .collect();
    assert_eq!(told.len(), count);
    told
}

#[test]
fn each_task_has_its_own_outcome() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    twice_the_same_ids(&database, &mut *host, &at_once());
    let claims = claim_all(&mut *host);
    each_once(&claims);
    let outcomes = each(&claims, |number| if number > 100 { dead(number) } else { Outcome::Done });
    // One by one, so that a claim's row is not gone before its last task.
    for one in outcomes {
        assert_eq!(host.finish(&[one]).unwrap(), []);
    }
    let expected: BTreeSet<_> = (101..=105).map(|number| (number, number.to_string())).collect();
    assert_eq!(letters(&mut *host), expected);
    assert!(host.is_idle(&queue("foo")).unwrap());
}

/// What a claim has passed over is the next one's, wherever marks say that all is taken.
#[test]
fn what_was_passed_over_comes_next() {
    let Some((_server, database)) = alone() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    twice_the_same_ids(&database, &mut *host, &Attributes { priority: -1, ..at_once() });
    // Above those that are passed over.
    host.submit(&[task("foo", 106)]).unwrap();
    let large = Want { bytes: 1, ..Want::tasks(9) };
    let mut claims = vec![host.claim(&queue("foo"), &large).unwrap().unwrap()];
    claims.extend(claim_all(&mut *host));
    let claimed: Vec<u64> = claims.iter().flat_map(numbers).collect();
    assert_eq!(claimed, [1, 2, 3, 4, 5, 101, 106, 102, 103, 104, 105]);
}

#[test]
fn what_goes_back_is_all_there() {
    let Some(database) = database() else { return };
    let uri = uri(&database.uri());
    let mut first = host(&uri, "a");
    twice_the_same_ids(&database, &mut *first, &Attributes { priority: 1, ..at_once() });
    each_once(&claim_all(&mut *first));
    // Both tables have others of these ids by now.
    set_back(&database, "ALTER SEQUENCE asynctask.asynctask_queue_id_seq RESTART");
    let urgent = Attributes { priority: -1, ..Attributes::default() };
    first
        .submit(&(11..=14).map(|number| with(number, urgent.clone())).collect::<Vec<_>>())
        .unwrap();
    set_back(&database, "ALTER SEQUENCE asynctask.asynctask_queue_id_seq RESTART");
    first.submit(&(111..=114).map(|number| task("foo", number)).collect::<Vec<_>>()).unwrap();
    set_back(&database, "ALTER SEQUENCE asynctask.asynctask_queue_id_seq RESTART");
    first.close().unwrap();
    let mut second = host(&uri, "b");
    let claims = claim_all(&mut *second);
    let claimed: Vec<u64> = claims.iter().flat_map(numbers).collect();
    assert_eq!(claimed.len(), 18, "{claimed:?}");
    let expected = all_numbers().into_iter().chain(11..=14).chain(111..=114).collect();
    assert_eq!(claimed.into_iter().collect::<BTreeSet<u64>>(), expected);
}

/// Of two claims one is to go back, with the other's ids in hand.
#[test]
fn only_what_is_released_goes_back() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    twice_the_same_ids(&database, &mut *host, &at_once());
    let claims = claim_all(&mut *host);
    let released = |claim: &Claim| each(std::slice::from_ref(claim), |_| Outcome::Released);
    let (one, other) = (released(&claims[0]), released(&claims[1]));
    // The halves that have no id in common, so that both claims stay.
    assert_eq!(host.finish(&[&one[..2], &other[2..]].concat()).unwrap(), []);
    assert_eq!(host.poll(&queue("foo")).unwrap(), 5);
    assert_eq!(host.finish(&[&one[2..], &other[..2]].concat()).unwrap(), []);
    each_once(&claim_all(&mut *host));
}

#[test]
fn what_is_tried_again_is_all_there() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    twice_the_same_ids(&database, &mut *host, &at_once());
    let claims = claim_all(&mut *host);
    // What it gives next is taken, too.
    set_back(&database, "ALTER SEQUENCE asynctask.asynctask_queue_id_seq RESTART");
    assert_eq!(host.finish(&each(&claims, |_| again())).unwrap(), []);
    let claims = claim_all(&mut *host);
    each_once(&claims);
    assert!(claims.iter().flat_map(|claim| &claim.tasks).all(|task| task.attempt == 2));
}

#[test]
fn letters_come_back_all() {
    let Some(database) = database() else { return };
    let uri = uri(&database.uri());
    let mut first = host(&uri, "a");
    twice_the_same_ids(&database, &mut *first, &at_once());
    let claims = claim_all(&mut *first);
    assert_eq!(first.finish(&each(&claims, dead)).unwrap(), []);
    set_back(&database, "ALTER SEQUENCE asynctask.asynctask_queue_id_seq RESTART");
    let all = first.dead_letters(&DeadQuery::default()).unwrap();
    let all: Vec<_> = all.iter().map(|letter| letter.letter).collect();
    assert_eq!(first.revive(&all).unwrap(), 10);
    assert_eq!(first.revive(&all).unwrap(), 0);
    // One that has not looked yet.
    each_once(&claim_all(&mut *host(&uri, "b")));
}

/// A task that waits under a new id keeps its key, and gives it up when it is done; another's key is not
/// given up with a task of the same id.
#[test]
fn a_key_is_its_tasks() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let unique = || [with(1, Attributes { unique: Some("k".to_owned()), ..Attributes::default() })];
    let has_key = |host: &mut dyn Transport| host.submit(&unique()).unwrap()[0].existed;
    assert!(!has_key(&mut *host));
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    // Another with its id, which waits where it is to go.
    set_back(&database, "ALTER SEQUENCE asynctask.asynctask_queue_id_seq RESTART");
    host.submit(&[with(2, at_once())]).unwrap();
    assert_eq!(host.finish(&[finished(&claim, 0, again())]).unwrap(), []);
    assert!(has_key(&mut *host));
    let claims = claim_all(&mut *host);
    assert_eq!(claims.iter().flat_map(numbers).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
    assert_eq!(host.finish(&each(&claims, |_| Outcome::Released)).unwrap(), []);
    let claims = claim_all(&mut *host);
    assert!(has_key(&mut *host));
    assert_eq!(host.finish(&each(&claims, |_| Outcome::Done)).unwrap(), []);
    assert!(!has_key(&mut *host));

    // The id of the one that waits, plain, in a claim of its own beside one with a key.
    let other = Attributes { unique: Some("other".to_owned()), ..Attributes::default() };
    let plain = NewTask { queue: queue("bar"), ..task("foo", 3) };
    set_back(
        &database,
        "SELECT setval('asynctask.asynctask_queue_id_seq', (SELECT task FROM asynctask.rex_keys), false)",
    );
    host.submit(&[plain, NewTask { queue: queue("baz"), ..with(4, other) }]).unwrap();
    let plain = host.claim(&queue("bar"), &Want::tasks(1)).unwrap().unwrap();
    let keyed = host.claim(&queue("baz"), &Want::tasks(1)).unwrap().unwrap();
    assert_eq!(host.finish(&[all_done(&plain), all_done(&keyed)].concat()).unwrap(), []);
    assert!(has_key(&mut *host));
}

/// In a claim that has tasks with keys, plain ones end that have the ids of others' that wait.
#[test]
fn keys_stay_with_those_that_wait() {
    let Some(database) = database() else { return };
    let mut host = host(&uri(&database.uri()), "a");
    let late = Due::In(Duration::from_secs(3600));
    let unique = |name: &str, key: &str, due| {
        let attributes = Attributes { unique: Some(key.to_owned()), due, ..Attributes::default() };
        NewTask { queue: queue(name), ..with(1, attributes) }
    };
    let waiting = [("foo", "k1"), ("bar", "k2"), ("foo", "k3"), ("bar", "k4")];
    let waiting = waiting.map(|(name, key)| unique(name, key, late));
    host.submit(&waiting).unwrap();
    set_back(&database, "TRUNCATE asynctask.asynctask_queue RESTART IDENTITY");
    host.submit(&[1, 2, 3, 4].map(|number| task("foo", number))).unwrap();
    host.submit(&[unique("foo", "other", Due::Now)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(claim.tasks.len(), 5);
    let outcomes = [Outcome::Done, Outcome::Done, Outcome::Released, again(), Outcome::Done];
    let ended = outcomes.into_iter().enumerate().map(|(at, outcome)| finished(&claim, at, outcome));
    assert_eq!(host.finish(&ended.collect::<Vec<_>>()).unwrap(), []);
    let again = host.submit(&waiting).unwrap();
    assert_eq!(again.iter().map(|task| task.existed).collect::<Vec<_>>(), [true; 4]);
    let ids: BTreeSet<TaskId> = again.iter().map(|task| task.id).collect();
    assert_eq!(ids, (1..=4).map(TaskId).collect());
    assert!(!host.submit(&[unique("foo", "other", Due::Now)]).unwrap()[0].existed);
}
