//! A broker that refuses what comes to a full queue, as a policy can have it do. Such a queue
//! confirms some messages and refuses others, and a transaction of the protocol would carry out a
//! part of itself.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rex_test_support::amqp::RabbitMq;
use rex_transport::contract::{all_done, finished, numbers, owner, queue, task, wait_for};
use rex_transport::{
    Attributes, Claim, DeadQuery, Death, Due, Kind, NewTask, Options, Outcome, Payload, Transport,
    Uri, Want, open,
};
use serde_json::json;

/// A virtual host of a broker that obeys us.
struct Place {
    uri: Uri,
    vhost: u32,
}

static BROKER: OnceLock<Option<Mutex<RabbitMq>>> = OnceLock::new();

fn ctl(words: &str) {
    let broker = BROKER.get().unwrap().as_ref().unwrap();
    broker.lock().unwrap_or_else(PoisonError::into_inner).ctl(words);
}

impl Place {
    /// `None` where there is no RabbitMQ.
    fn number(vhost: u32) -> Option<Place> {
        let broker = BROKER.get_or_init(|| RabbitMq::with_hosts(10).map(Mutex::new)).as_ref()?;
        let uri = broker.lock().unwrap_or_else(PoisonError::into_inner).uri.clone();
        Some(Place { uri: Uri::parse(&format!("{uri}/t{vhost}")).unwrap(), vhost })
    }

    /// From now on no queue whose name fits has more than `most` messages.
    fn limit(&self, pattern: &str, most: u32) {
        let rule = format!("{{\"max-length\":{most},\"overflow\":\"reject-publish\"}}");
        ctl(&format!("set_policy -p t{} --apply-to queues lim {pattern} {rule}", self.vhost));
    }

    fn free(&self) {
        ctl(&format!("clear_policy -p t{} lim", self.vhost));
    }
}

/// Submits as many tasks to `foo` and takes them.
fn claimed(host: &mut dyn Transport, count: u64) -> Claim {
    let tasks: Vec<NewTask> = (0..count).map(|number| task("foo", number)).collect();
    host.submit(&tasks).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(99)).unwrap().unwrap();
    assert_eq!(numbers(&claim), (0..count).collect::<Vec<_>>());
    claim
}

fn retry() -> Outcome {
    Outcome::Retry { after: Duration::from_millis(1500), history: json!([]) }
}

fn dead() -> Outcome {
    Outcome::Dead(Death { reason: "x".to_owned(), details: json!({"build": "1ab"}) })
}

fn letters(host: &mut dyn Transport) -> Vec<u64> {
    let letters = host.dead_letters(&DeadQuery::default()).unwrap();
    let number = |payload: &Payload| {
        let payload: serde_json::Value = serde_json::from_str(payload.as_str()).unwrap();
        payload["n"].as_u64().unwrap()
    };
    letters.iter().map(|letter| number(&letter.payload)).collect()
}

fn end_all(host: &mut dyn Transport, claim: &Claim, outcome: &Outcome) {
    let all: Vec<_> =
        (0..claim.tasks.len()).map(|at| finished(claim, at, outcome.clone())).collect();
    assert_eq!(host.finish(&all).unwrap(), []);
}

/// Takes until all these tasks have come for their second attempt, each once.
fn come_again(host: &mut dyn Transport, count: u64) {
    let mut came = BTreeSet::new();
    wait_for("the second attempts", || {
        host.rescue().unwrap();
        if let Some(claim) = host.claim(&queue("foo"), &Want::tasks(1)).unwrap() {
            assert_eq!(claim.tasks[0].attempt, 2);
            assert!(came.insert(numbers(&claim)), "{claim:?} came before");
            assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
        }
        came.len() as u64 == count
    });
    host.rescue().unwrap();
    assert!(host.is_idle(&queue("foo")).unwrap());
    assert!(host.queues().unwrap().is_empty());
}

#[test]
fn retries_that_are_refused_are_kept() {
    let Some(place) = Place::number(0) else { return };
    let mut host = owner(&place.uri);
    // They are due when they are kept.
    place.limit("^rex[.]delay", 0);
    let claim = claimed(&mut *host, 6);
    end_all(&mut *host, &claim, &retry());
    assert!(!host.is_idle(&queue("foo")).unwrap(), "it keeps what is refused");
    // And again, as after a lost reply: nothing changes.
    end_all(&mut *host, &claim, &retry());
    come_again(&mut *host, 6);
}

#[test]
fn retries_where_every_queue_is_limited() {
    let Some(place) = Place::number(1) else { return };
    let mut host = owner(&place.uri);
    let claim = claimed(&mut *host, 6);
    place.limit(".*", 3);
    end_all(&mut *host, &claim, &retry());
    come_again(&mut *host, 6);
}

#[test]
fn what_is_kept_is_given_back_by_who_ends() {
    let Some(place) = Place::number(2) else { return };
    let mut host = owner(&place.uri);
    let claim = claimed(&mut *host, 6);
    place.limit("^rex[.]delay", 2);
    end_all(&mut *host, &claim, &retry());
    host.close().unwrap();
    let mut other = owner(&place.uri);
    let again = other.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&again).len(), 4, "two are delayed");
    assert_eq!(other.queues().unwrap()[0].delayed, 2);
}

#[test]
fn dead_letters_that_are_refused_are_kept() {
    let Some(place) = Place::number(3) else { return };
    let mut host = owner(&place.uri);
    let claim = claimed(&mut *host, 6);
    assert_eq!(host.finish(&[finished(&claim, 0, dead())]).unwrap(), []);
    place.limit("^rex[.]dead", 2);
    let mut rest: Vec<_> = (1..6).map(|at| finished(&claim, at, dead())).collect();
    rest[4].outcome = Outcome::Done;
    assert_eq!(host.finish(&rest).unwrap(), []);
    assert_eq!(letters(&mut *host).len(), 2);
    let status = host.queues().unwrap().remove(0);
    assert_eq!((status.in_flight, status.dead), (3, 2), "{status:?}");
    assert!(!host.is_idle(&queue("foo")).unwrap());
    place.free();
    host.rescue().unwrap();
    let mut all = letters(&mut *host);
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4]);
    assert!(host.is_idle(&queue("foo")).unwrap());
    assert!(owner(&place.uri).claim(&queue("foo"), &Want::tasks(9)).unwrap().is_none());
}

#[test]
fn a_submit_that_is_refused_costs_its_task_alone() {
    let Some(place) = Place::number(4) else { return };
    let mut host = owner(&place.uri);
    let claim = claimed(&mut *host, 3);
    host.submit(&[task("bar", 0)]).unwrap();
    place.limit("^bar$", 2);
    let mut batch = all_done(&claim);
    batch[1].submits = vec![task("bar", 1), task("bar", 2)];
    for _ in 0..2 {
        let error = host.finish(&batch).unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{error}");
        assert!(error.text.contains("basic.nack"), "{error}");
        assert!(error.hint.as_ref().unwrap().contains("reject-publish"), "{error}");
        assert_eq!(host.poll(&queue("bar")).unwrap(), 2, "what was taken is not doubled");
    }
    assert_eq!(host.finish(&[batch[0].clone()]).unwrap(), [], "its neighbours are done");
    let status = host.queues().unwrap();
    let of_foo = status.iter().find(|status| status.queue == queue("foo")).unwrap();
    assert_eq!((of_foo.in_flight, of_foo.waiting), (1, 0), "and it is held");
    assert_eq!(host.finish(&[finished(&claim, 1, dead())]).unwrap(), []);
    assert_eq!(letters(&mut *host), [1]);
    assert!(host.is_idle(&queue("foo")).unwrap());
}

#[test]
fn letters_that_cannot_be_retried_stay() {
    let Some(place) = Place::number(5) else { return };
    let mut host = owner(&place.uri);
    let claim = claimed(&mut *host, 4);
    end_all(&mut *host, &claim, &dead());
    place.limit("^rex[.]due", 2);
    let mut viewer = open(&place.uri, &Options::default()).unwrap();
    let all = viewer.dead_letters(&DeadQuery::default()).unwrap();
    let ids: Vec<_> = all.iter().map(|letter| letter.letter).collect();
    let error = viewer.revive(&ids).unwrap_err();
    assert!(error.text.contains("2 of 4"), "{error}");
    assert_eq!(letters(&mut *host).len(), 2);
    assert_eq!(host.poll(&queue("foo")).unwrap(), 2);
    assert_eq!(host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap().tasks.len(), 2);
    assert_eq!(viewer.revive(&ids).unwrap(), 2, "the two others");
}

#[test]
fn a_submit_says_what_was_taken() {
    let Some(place) = Place::number(6) else { return };
    let mut host = owner(&place.uri);
    host.submit(&[task("foo", 9)]).unwrap();
    host.purge(&queue("foo")).unwrap();
    place.limit("^foo$", 2);
    let tasks: Vec<NewTask> = (0..4).map(|number| task("foo", number)).collect();
    let error = host.submit(&tasks).unwrap_err();
    assert_eq!(error.kind, Kind::Refused, "{error}");
    let taken: Vec<_> = error.taken.iter().map(|(at, _)| *at).collect();
    assert_eq!(taken, [0, 1]);
    let waiting = host.peek(&queue("foo"), 9).unwrap();
    let ids: Vec<_> = waiting.iter().map(|task| task.id).collect();
    assert_eq!(ids, error.taken.iter().map(|(_, done)| done.id).collect::<Vec<_>>());
    let alone = host.submit(&tasks[..1]).unwrap_err();
    assert!(alone.text.contains("basic.nack") && alone.taken.is_empty(), "{alone}");
}

/// The queue by which a host hears of tasks takes no part in whether they are taken.
#[test]
fn who_watches_refuses_nothing() {
    let Some(place) = Place::number(7) else { return };
    let mut host = owner(&place.uri);
    host.submit(&[task("foo", 0)]).unwrap();
    place.limit(".*", 1_000_000);
    let (wake, woken) = crossbeam_channel::unbounded();
    let _watch = host.watch(wake).unwrap();
    for number in 1..20 {
        host.submit(&[task("foo", number)]).unwrap();
    }
    assert_eq!(host.poll(&queue("foo")).unwrap(), 20);
    woken.recv().unwrap();
}

/// A delayed task whose next queue is full waits where it is.
#[test]
fn a_task_that_cannot_move_on_stays() {
    let Some(place) = Place::number(8) else { return };
    let mut host = owner(&place.uri);
    let claim = claimed(&mut *host, 4);
    end_all(&mut *host, &claim, &retry());
    place.limit("^rex[.]due", 1);
    come_again(&mut *host, 4);
}

/// What the broker refuses by closing the channel.
#[test]
fn a_message_that_is_too_large_costs_its_task_alone() {
    let Some(place) = Place::number(9) else { return };
    // For channels that are opened from now on.
    ctl("eval application:set_env(rabbit,max_message_size,2000000).");
    let mut host = owner(&place.uri);
    let claim = claimed(&mut *host, 3);
    host.submit(&[task("bar", 0)]).unwrap();
    let text = format!("{{\"n\": 7, \"text\": \"{}\"}}", "x".repeat(3 << 20));
    let large = NewTask::plain(queue("bar"), Payload::parse(&text, 4 << 20).unwrap());
    let mut batch = all_done(&claim);
    batch[1].submits = vec![large];
    for _ in 0..2 {
        let error = host.finish(&batch).unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{error}");
        assert!(error.hint.as_ref().unwrap().contains("max_message_size"), "{error:?}");
    }
    assert_eq!(host.finish(&[batch[0].clone()]).unwrap(), []);
    assert_eq!(host.finish(&[finished(&claim, 1, dead())]).unwrap(), []);
    assert_eq!(letters(&mut *host), [1]);
    assert!(host.is_idle(&queue("foo")).unwrap());
    ctl("eval application:set_env(rabbit,max_message_size,134217728).");
}

/// Quorum queues take back what was looked at a while after the channel's end.
#[test]
fn a_look_at_a_quorum_queue_has_ended_when_all_is_back() {
    const TASKS: usize = 300;
    let Some(_broker) = Place::number(0) else { return };
    ctl("add_vhost quorum --default-queue-type quorum");
    ctl("set_permissions -p quorum rex .* .* .*");
    let broker = BROKER.get().unwrap().as_ref().unwrap();
    let uri = broker.lock().unwrap_or_else(PoisonError::into_inner).uri.clone();
    let mut host = owner(&Uri::parse(&format!("{uri}/quorum")).unwrap());
    let name = queue("foo");
    let tasks: Vec<NewTask> = (0..TASKS as u64).map(|number| task("foo", number)).collect();
    host.submit(&tasks).unwrap();
    wait_for("all of them", || host.poll(&name).unwrap() == TASKS as u64);
    for _ in 0..3 {
        assert_eq!(host.peek(&name, TASKS as u64).unwrap().len(), TASKS);
    }
    let claim = host.claim(&name, &Want::tasks(TASKS)).unwrap().unwrap();
    assert_eq!(claim.tasks.len(), TASKS);
}

/// A virtual host whose queues are quorum queues unless told otherwise, which drop what was given out
/// more than once: looks and moves of ours are no deliveries of that kind.
#[test]
fn limits_of_deliveries_cost_nothing_of_ours() {
    let Some(_broker) = Place::number(0) else { return };
    ctl("add_vhost limited --default-queue-type quorum");
    ctl("set_permissions -p limited rex .* .* .*");
    ctl("set_policy -p limited --apply-to queues dl .* {\"delivery-limit\":1}");
    let broker = BROKER.get().unwrap().as_ref().unwrap();
    let uri = broker.lock().unwrap_or_else(PoisonError::into_inner).uri.clone();
    let uri = Uri::parse(&format!("{uri}/limited")).unwrap();
    let mut host = owner(&uri);
    let due = Due::In(Duration::from_secs(3));
    let delayed = |number| {
        let attributes = Attributes { due, ..Attributes::default() };
        NewTask { attributes, ..task("foo", number) }
    };
    host.submit(&[delayed(1), delayed(2), delayed(3)]).unwrap();
    let name = queue("foo");
    for _ in 0..5 {
        host.queues().unwrap();
    }
    wait_for("the delayed tasks", || host.poll(&name).unwrap() == 3);
    let claim = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    end_all(&mut *host, &claim, &dead());
    for _ in 0..5 {
        assert_eq!(letters(&mut *host).len(), 3);
    }
    assert_eq!(host.queues().unwrap().len(), 1);
    // A count of the original's queue looks at its oldest task.
    let tasks: Vec<NewTask> = (0..100).map(|number| task("foo", number)).collect();
    host.submit(&tasks).unwrap();
    for _ in 0..9 {
        assert_eq!(host.queues().unwrap()[0].waiting, 100);
    }
    ctl("clear_policy -p limited dl");
    for _ in 0..3 {
        assert_eq!(host.peek(&name, 60).unwrap().len(), 60);
        // Where a host has the queue, a look does not wait until all is back.
        wait_for("all to be back", || host.queues().unwrap()[0].waiting == 100);
    }
    let claim = host.claim(&name, &Want::tasks(200)).unwrap().unwrap();
    let mut numbers = numbers(&claim);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
}
