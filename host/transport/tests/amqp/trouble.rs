//! A broker that is away, crashes or cuts us off; hosts that die while they hold tasks.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use amqprs::BasicProperties;
use amqprs::channel::{
    BasicPublishArguments, Channel, ExchangeDeleteArguments, QueueDeclareArguments,
    QueueDeleteArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use rex_test_support::amqp::{RabbitMq, fresh};
use rex_test_support::proxy::Proxy;
use rex_transport::contract::{
    all_done, fails, finished, numbers, owner, queue, task, wait_for, with,
};
use rex_transport::{
    Attributes, DeadQuery, Death, Due, Finished, Kind, LetterId, NewTask, Options, Outcome,
    Payload, Uri, Wake, Want, open,
};
use serde_json::{Value, json};

#[test]
fn the_originals_words() {
    let error = fails("amqp://me:secret@127.0.0.1:1");
    assert_eq!(error.kind, Kind::Unreachable);
    assert_eq!(
        error.text,
        "Failed to connect to the AMQP server:\n    [Errno 111] Connection refused"
    );
    assert_eq!(fails("amqp://h?x=1").kind, Kind::Config);
    let Some(uri) = fresh(0) else { return };
    let error = fails(&uri.replace("rex:rex", "rex:wrong"));
    assert!(error.text.starts_with("Failed to connect to the AMQP server:\n    "), "{error}");
    assert!(!error.text.contains("wrong"), "{error}");
    assert!(error.hint.unwrap().contains("password"));
    let nowhere = fails(&format!("{}/nowhere", uri.rsplit_once('/').unwrap().0));
    assert_eq!(nowhere.kind, Kind::Refused);
    assert_eq!(
        nowhere.text,
        "Failed to connect to the AMQP server:\n    (530) NOT_ALLOWED - vhost nowhere not found"
    );
    let label = owner(&Uri::parse(&uri).unwrap()).label();
    assert_eq!(label, format!("AmqpAsyncTransport({})", uri.replace("rex:rex", "rex:***")));
}

#[test]
fn the_broker_gives_back_what_a_killed_host_held() {
    let Some(uri) = fresh(0) else { return };
    let uri_text = uri.clone();
    let mut other = owner(&Uri::parse(&uri).unwrap());
    let ids: Vec<_> = other
        .submit(&[task("foo", 1), task("foo", 2)])
        .unwrap()
        .iter()
        .map(|done| done.id)
        .collect();
    let mut doomed = Command::new(std::env::current_exe().unwrap())
        .args(["contract::doomed_owner", "--exact", "--nocapture"])
        .env("REX_CONTRACT_DOOMED", uri_text)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(doomed.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("claimed 2")), "the doomed owner claims");
    assert_eq!(other.poll(&queue("foo")).unwrap(), 0);
    assert!(!other.is_idle(&queue("foo")).unwrap(), "it holds tasks");
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    wait_for("the tasks", || other.poll(&queue("foo")).unwrap() == 2);
    let claim = other.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(claim.tasks.iter().map(|task| task.id).collect::<Vec<_>>(), ids);
}

#[test]
fn what_one_reads_others_see_as_well() {
    let Some(uri) = fresh(0) else { return };
    let uri = Uri::parse(&uri).unwrap();
    let mut host = owner(&uri);
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    let dead = |at| {
        let death = Death { reason: "x".to_owned(), details: json!({}) };
        finished(&claim, at, Outcome::Dead(death))
    };
    host.finish(&[dead(0), dead(1)]).unwrap();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let uri = uri.clone();
            std::thread::spawn(move || {
                for _ in 0..20 {
                    // Knows no queue yet.
                    let mut reader = open(&uri, &Options::default()).unwrap();
                    assert_eq!(reader.dead_letters(&DeadQuery::default()).unwrap().len(), 2);
                    let queues = reader.queues().unwrap();
                    assert_eq!(queues.iter().map(|queue| queue.dead).collect::<Vec<_>>(), [2]);
                    assert_eq!(reader.forget_dead(Duration::from_secs(3600)).unwrap(), 0);
                }
            })
        })
        .collect();
    for reader in readers {
        reader.join().unwrap();
    }
}

/// Somebody who has begun to read, over a slow line or stopped, does not end.
#[test]
fn a_look_has_ended_when_all_is_back() {
    const TASKS: u64 = 2000;
    let Some(uri) = fresh(0) else { return };
    let mut host = owner(&Uri::parse(&uri).unwrap());
    host.submit(&(0..TASKS).map(|n| task("foo", n)).collect::<Vec<_>>()).unwrap();
    for _ in 0..3 {
        assert_eq!(host.peek(&queue("foo"), TASKS).unwrap().len() as u64, TASKS);
        assert_eq!(host.poll(&queue("foo")).unwrap(), TASKS);
    }
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&claim), (0..9).collect::<Vec<_>>(), "in their old places");
}

#[test]
fn readers_hold_no_host_up() {
    let Some(text) = fresh(0) else { return };
    let uri = Uri::parse(&text).unwrap();
    let mut host = owner(&uri);
    host.submit(&[task("foo", 1)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let death = Death { reason: "x".to_owned(), details: json!({}) };
    host.finish(&[finished(&claim, 0, Outcome::Dead(death))]).unwrap();
    host.close().unwrap();
    let viewer = std::thread::scope(|scope| {
        let mut viewer = None;
        by_another(&text, async |channel| {
            for list in ["rex.queues", "rex.dead.foo"] {
                let mut reading = QueueDeclareArguments::new(&format!("rex.reading.{list}"));
                channel.queue_declare(reading.exclusive(true).finish()).await.unwrap();
            }
            let look = || {
                let mut viewer = open(&uri, &Options::default()).unwrap();
                viewer.dead_letters(&DeadQuery::default()).unwrap().len()
            };
            viewer = Some(scope.spawn(look));
            let work = || {
                let mut host = owner(&uri);
                assert_eq!(host.forget_dead(Duration::ZERO).unwrap(), 0, "not now");
                host.submit(&[task("bar", 1)]).unwrap();
                assert!(host.claim(&queue("bar"), &Want::tasks(1)).unwrap().is_some());
                // Nor a producer, nor a host that starts.
                open(&uri, &Options::default()).unwrap().submit(&[task("baz", 1)]).unwrap();
                let (wake, woken) = crossbeam_channel::unbounded();
                let _watch = host.watch(wake).unwrap();
                host.submit(&[task("new", 1)]).unwrap();
                assert_eq!(woken.recv().unwrap(), Wake::Queue(queue("new")));
            };
            // A thread of its own, since it waits for answers in the driver's way.
            scope.spawn(work).join().unwrap();
        });
        viewer.unwrap().join().unwrap()
    });
    assert_eq!(viewer, 1, "who is to see all waits");
    assert_eq!(owner(&uri).forget_dead(Duration::ZERO).unwrap(), 1);
}

#[test]
fn a_lost_connection_gives_back_and_is_made_again() {
    let Some(uri) = fresh(0) else { return };
    let address = uri.split('@').nth(1).unwrap().split('/').next().unwrap();
    let proxy = Proxy::to(address);
    let through = uri.replace(address, proxy.address());
    let mut host = owner(&Uri::parse(&through).unwrap());
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    proxy.cut();
    wait_for("the loss", || match host.rescue() {
        Ok(_) => false,
        Err(error) => {
            assert!(error.is_retryable(), "{error}");
            true
        }
    });
    let error = host.finish(&all_done(&claim)).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    proxy.restore();
    let mut late = all_done(&claim);
    late[0].submits = vec![task("bar", 1)];
    assert_eq!(host.finish(&late).unwrap(), [claim.tasks[0].id], "it was given back");
    assert_eq!(host.poll(&queue("bar")).unwrap(), 0);
    wait_for("the tasks", || host.poll(&queue("foo")).unwrap() == 2);
    let again = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&again), [1, 2]);
    assert_eq!(host.finish(&all_done(&again)).unwrap(), []);
}

/// The connection breaks when all that a task leaves is confirmed, before the task is acknowledged.
#[test]
fn a_host_knows_what_it_has_settled() {
    let Some(uri) = fresh(0) else { return };
    let address = uri.split('@').nth(1).unwrap().split('/').next().unwrap();
    let proxy = Proxy::to(address);
    let through = uri.replace(address, proxy.address());
    let mut host = owner(&Uri::parse(&through).unwrap());
    host.submit(&[task("foo", 1), task("foo", 2), task("foo", 3)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    let after = Duration::from_secs(3600);
    let retry = Outcome::Retry { after, history: json!([]) };
    let mut batch = vec![finished(&claim, 0, Outcome::Done), finished(&claim, 1, retry)];
    batch[0].submits = vec![task("bar", 1)];
    // tx.commit
    proxy.cut_before(&[0, 90, 0, 20]);
    let error = host.finish(&batch).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    proxy.restore();
    assert_eq!(host.finish(&batch).unwrap(), [], "it has done so");
    let name = queue("foo");
    wait_for("what is given back", || host.poll(&name).unwrap() == 3);
    let again = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&again), [3]);
    assert_eq!(host.finish(&all_done(&again)).unwrap(), []);
    assert!(host.is_idle(&name).unwrap());
    assert_eq!(host.poll(&queue("bar")).unwrap(), 1);
    let status = host.queues().unwrap().pop().unwrap();
    assert_eq!((status.queue, status.delayed), (name, 1), "and once in all");
}

/// The connection breaks when the broker has heard of the acknowledgement, before its answer is read.
#[test]
fn what_was_settled_and_is_retried_is_another_task() {
    let Some(uri) = fresh(0) else { return };
    let address = uri.split('@').nth(1).unwrap().split('/').next().unwrap();
    let proxy = Proxy::to(address);
    let through = uri.replace(address, proxy.address());
    let mut host = owner(&Uri::parse(&through).unwrap());
    let name = queue("foo");
    let dead = || Outcome::Dead(Death { reason: "x".to_owned(), details: json!({}) });
    host.submit(&[task("foo", 1)]).unwrap();
    // The second time as a message of ours.
    for _ in 0..2 {
        let claim = host.claim(&name, &Want::tasks(2)).unwrap().unwrap();
        assert_eq!((numbers(&claim), claim.tasks[0].attempt), (vec![1], 1));
        let batch = [finished(&claim, 0, dead())];
        // tx.commit-ok
        proxy.cut_before(&[0, 90, 0, 21]);
        let error = host.finish(&batch).unwrap_err();
        assert!(error.is_retryable(), "{error}");
        proxy.restore();
        assert_eq!(host.finish(&batch).unwrap(), [], "it has done so");
        assert!(host.claim(&name, &Want::tasks(2)).unwrap().is_none());
        let letters = host.dead_letters(&DeadQuery::default()).unwrap();
        assert_eq!(letters.len(), 1);
        let mut operator = open(&Uri::parse(&uri).unwrap(), &Options::default()).unwrap();
        assert_eq!(operator.revive(&[letters[0].letter]).unwrap(), 1);
    }
    let claim = host.claim(&name, &Want::tasks(2)).unwrap().unwrap();
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    assert!(host.queues().unwrap().is_empty());
}

#[test]
fn a_retry_of_dead_letters_that_is_cut_off_leaves_few_twice() {
    let Some(uri) = fresh(0) else { return };
    let address = uri.split('@').nth(1).unwrap().split('/').next().unwrap();
    let proxy = Proxy::to(address);
    let through = uri.replace(address, proxy.address());
    let mut host = owner(&Uri::parse(&uri).unwrap());
    let (name, all) = (queue("foo"), 1..=120);
    host.submit(&all.clone().map(|n| task("foo", n)).collect::<Vec<_>>()).unwrap();
    let claim = host.claim(&name, &Want::tasks(200)).unwrap().unwrap();
    let dead = || Outcome::Dead(Death { reason: "x".to_owned(), details: json!({}) });
    let batch: Vec<Finished> =
        (0..claim.tasks.len()).map(|at| finished(&claim, at, dead())).collect();
    assert_eq!(host.finish(&batch).unwrap(), []);
    let letters = host.dead_letters(&DeadQuery::default()).unwrap();
    assert_eq!(letters.len(), 120);

    let mut operator = open(&Uri::parse(&through).unwrap(), &Options::default()).unwrap();
    // tx.commit, which comes first when the letters are read, then after each batch.
    proxy.cut_before_nth(3, &[0, 90, 0, 20]);
    let letters: Vec<LetterId> = letters.iter().map(|letter| letter.letter).collect();
    operator.revive(&letters).unwrap_err();
    let mut left = Vec::new();
    wait_for("what is given back", || {
        left = host.dead_letters(&DeadQuery::default()).unwrap();
        left.len() as u64 + host.poll(&name).unwrap() >= 120
    });
    let waiting = host.claim(&name, &Want::tasks(200)).unwrap().unwrap();
    let read = |payload: &Payload| serde_json::from_str::<Value>(payload.as_str()).unwrap();
    let number = |payload: &Payload| read(payload)["n"].as_u64().unwrap();
    let left: BTreeSet<u64> = left.iter().map(|letter| number(&letter.payload)).collect();
    let waiting: BTreeSet<u64> = waiting.tasks.iter().map(|task| number(&task.payload)).collect();
    assert_eq!(left.union(&waiting).copied().collect::<Vec<_>>(), all.collect::<Vec<_>>());
    let twice = left.intersection(&waiting).count();
    assert!((1..=50).contains(&twice), "{twice}");
}

#[test]
fn a_crash_of_the_broker_loses_nothing() {
    let Some(mut broker) = RabbitMq::start() else { return };
    let uri = Uri::parse(&broker.uri).unwrap();
    let mut host = owner(&uri);
    host.submit(&[task("foo", 1), task("foo", 2), task("foo", 3)]).unwrap();
    let done = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    assert_eq!(host.finish(&all_done(&done)).unwrap(), []);
    host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let (wake, woken) = crossbeam_channel::unbounded();
    let _watch = host.watch(wake).unwrap();
    broker.crash();
    wait_for("the loss", || host.poll(&queue("foo")).is_err());
    broker.restart();
    let mut waiting = 0;
    wait_for("the broker", || {
        waiting = host.poll(&queue("foo")).unwrap_or(0);
        waiting > 0
    });
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    // That a task was done the broker may not have written yet; then it comes again.
    assert!(numbers(&claim).ends_with(&[2, 3]), "{claim:?}");
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    wait_for("word of all that came", || woken.try_iter().any(|wake| wake == Wake::All));
    wait_for("word of a task", || {
        host.submit(&[task("bar", 1)]).unwrap();
        woken.recv_timeout(Duration::from_millis(100)) == Ok(Wake::Queue(queue("bar")))
    });
}

#[test]
fn delayed_tasks_come_in_time_whoever_submits_and_crashes() {
    let Some(mut broker) = RabbitMq::start() else { return };
    let uri = Uri::parse(&broker.uri).unwrap();
    let name = queue("foo");
    let (mut host, mut submitter) = (owner(&uri), open(&uri, &Options::default()).unwrap());
    let delayed = |number, seconds| NewTask {
        attributes: Attributes {
            due: Due::In(Duration::from_secs(seconds)),
            ..Attributes::default()
        },
        ..task("foo", number)
    };
    assert_eq!(host.poll(&name).unwrap(), 0);
    // Of waits that differ the longest comes first, and none passes in one step.
    submitter.submit(&[delayed(1, 3600), delayed(2, 6), delayed(3, 3), task("foo", 4)]).unwrap();
    let claim = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [4]);
    let after = Duration::from_secs(5);
    let retry = Outcome::Retry { after, history: serde_json::json!(["x".repeat(1 << 20)]) };
    assert_eq!(host.finish(&[finished(&claim, 0, retry)]).unwrap(), []);
    let (status, next) = (host.queues().unwrap().remove(0), host.next_due(&name).unwrap());
    assert_eq!((status.waiting, status.delayed), (0, 4));
    assert!(next.is_some_and(|next| next <= Duration::from_secs(3)), "{next:?}");
    broker.crash();
    wait_for("the loss", || host.poll(&name).is_err());
    broker.restart();
    let mut came = BTreeSet::new();
    wait_for("the tasks that are due", || {
        // The broker may still be starting.
        if let Ok(Some(claim)) = host.claim(&name, &Want::tasks(9)) {
            let attempts = claim.tasks.iter().map(|task| task.attempt);
            came.extend(numbers(&claim).into_iter().zip(attempts));
            host.finish(&all_done(&claim)).unwrap();
        }
        [(2, 1), (3, 1), (4, 2)].iter().all(|one| came.contains(one))
    });
    // That the first attempt was finished the broker may not have written yet.
    assert!(came.iter().all(|(number, _)| *number != 1), "{came:?}");
    let left = host.peek(&name, 9).unwrap();
    assert!(left.len() == 1 && left[0].due.is_some(), "{left:?}");
    assert_eq!(host.purge(&name).unwrap(), 1);
}

#[test]
fn a_task_for_a_queue_that_somebody_removed_is_not_lost() {
    let Some(text) = fresh(0) else { return };
    let mut host = owner(&Uri::parse(&text).unwrap());
    host.submit(&[task("foo", 1)]).unwrap();
    by_another(&text, async |channel| {
        channel.queue_delete(QueueDeleteArguments::new("foo")).await.unwrap();
    });
    host.submit(&[task("foo", 2)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    by_another(&text, async |channel| {
        channel.exchange_delete(ExchangeDeleteArguments::new("foo")).await.unwrap();
    });
    host.submit(&[task("foo", 3)]).unwrap();
    assert_eq!(host.poll(&queue("foo")).unwrap(), 1);
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), [], "what was claimed is held still");
    // And many at a time.
    by_another(&text, async |channel| {
        channel.queue_delete(QueueDeleteArguments::new("foo")).await.unwrap();
    });
    host.submit(&[task("foo", 4), task("foo", 5)]).unwrap();
    assert_eq!(host.poll(&queue("foo")).unwrap(), 2);
}

/// Of which a connection has few at some brokers.
#[test]
fn a_host_is_woken_whose_queues_are_more_than_channels() {
    let Some(mut broker) = RabbitMq::start() else { return };
    broker.ctl("eval application:set_env(rabbit,channel_max,12).");
    let uri = Uri::parse(&broker.uri).unwrap();
    let names: Vec<String> = (10..40).map(|n| format!("queue{n}")).collect();
    let mut producer = open(&uri, &Options::default()).unwrap();
    for name in &names {
        producer.submit(&[task(name, 1)]).unwrap();
    }
    let (wake, woken) = crossbeam_channel::unbounded();
    let _watch = owner(&uri).watch(wake).unwrap();
    for name in &names {
        producer.submit(&[task(name, 2)]).unwrap();
        // Not by a connection that is made again and again.
        assert_eq!(woken.recv_timeout(Duration::from_secs(60)), Ok(Wake::Queue(queue(name))));
    }
}

/// Its name is there before it is: who was to make it may have been killed between.
#[test]
fn a_queue_of_delays_that_is_not_there_is_made() {
    let Some(text) = fresh(0) else { return };
    let uri = Uri::parse(&text).unwrap();
    let delayed = Attributes { due: Due::In(Duration::from_secs(3600)), ..Attributes::default() };
    owner(&uri).submit(&[with(1, delayed)]).unwrap();
    by_another(&text, async |channel| {
        channel.queue_delete(QueueDeleteArguments::new("rex.delay.foo.11")).await.unwrap();
    });
    let mut host = owner(&uri);
    assert_eq!(host.queues().unwrap(), []);
    assert_eq!(host.poll(&queue("foo")).unwrap(), 0);
    assert_eq!(host.claim(&queue("foo"), &Want::tasks(1)).unwrap().map(|claim| claim.id), None);
}

#[test]
fn what_is_no_text_is_a_dead_letter_for_ever() {
    let Some(text) = fresh(0) else { return };
    let mut host = owner(&Uri::parse(&text).unwrap());
    assert_eq!(host.poll(&queue("foo")).unwrap(), 0);
    by_another(&text, async |channel| {
        let body = b"{\"a\": \"\xff\xfe\"}".to_vec();
        let to = BasicPublishArguments::new("foo", "foo");
        channel.basic_publish(BasicProperties::default(), body, to).await.unwrap();
    });
    wait_for("the task", || host.poll(&queue("foo")).unwrap() == 1);
    for _ in 0..2 {
        let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
        assert_eq!(claim.tasks[0].payload.as_str(), "{\"a\": \"\u{fffd}\u{fffd}\"}");
        claim.tasks[0].payload.check().unwrap_err();
        let death = Death { reason: "x".to_owned(), details: json!({}) };
        host.finish(&[finished(&claim, 0, Outcome::Dead(death))]).unwrap();
        let letters = host.dead_letters(&DeadQuery::default()).unwrap();
        assert_eq!(letters[0].payload, claim.tasks[0].payload);
        assert_eq!(host.revive(&[letters[0].letter]).unwrap(), 1);
    }
}

#[test]
fn a_queue_that_is_refused_costs_no_other() {
    let Some(text) = fresh(0) else { return };
    by_another(&text, async |channel| {
        // Ours are durable.
        channel.queue_declare(QueueDeclareArguments::new("bar")).await.unwrap();
    });
    let mut host = owner(&Uri::parse(&text).unwrap());
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    for _ in 0..2 {
        let error = host.claim(&queue("bar"), &Want::tasks(1)).unwrap_err();
        assert_eq!(error.kind, Kind::Invalid);
        assert!(error.text.contains("PRECONDITION_FAILED"), "{error}");
    }
    let submits = |name| {
        let mut finished = all_done(&claim);
        finished[0].submits = vec![task(name, 3)];
        finished
    };
    assert_eq!(host.finish(&submits("bar")).unwrap_err().kind, Kind::Invalid);
    let mut reader = open(&Uri::parse(&text).unwrap(), &Options::default()).unwrap();
    let queues = reader.queues().unwrap();
    assert_eq!(queues.iter().map(|status| status.queue.as_str()).collect::<Vec<_>>(), ["foo"]);
    let left_out = reader.left_out();
    assert!(left_out[&queue("bar")].contains("PRECONDITION_FAILED"), "named though never made");
    assert_eq!(host.poll(&queue("foo")).unwrap(), 1, "the first is held still");
    assert_eq!(host.finish(&submits("foo")).unwrap(), [], "and finished");
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [2, 3]);
}

#[test]
fn a_queue_that_is_refused_hides_no_other() {
    let Some(text) = fresh(0) else { return };
    let mut host = owner(&Uri::parse(&text).unwrap());
    host.submit(&[task("foo", 1), task("bar", 2)]).unwrap();
    host.close().unwrap();
    by_another(&text, async |channel| {
        channel.queue_delete(QueueDeleteArguments::new("foo")).await.unwrap();
        channel.queue_declare(QueueDeclareArguments::new("foo")).await.unwrap();
    });
    let mut reader = open(&Uri::parse(&text).unwrap(), &Options::default()).unwrap();
    let queues = reader.queues().unwrap();
    let queues: Vec<&str> = queues.iter().map(|status| status.queue.as_str()).collect();
    assert_eq!(queues, ["bar"]);
    let left_out = reader.left_out();
    assert!(left_out[&queue("foo")].contains("PRECONDITION_FAILED"), "{left_out:?}");
    assert!(reader.left_out().is_empty());
}

/// What another program does over a channel of its own.
fn by_another(uri: &str, act: impl AsyncFnOnce(&Channel)) {
    let (address, vhost) = uri.split_once('@').unwrap().1.split_once('/').unwrap();
    let (name, port) = address.split_once(':').unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut arguments = OpenConnectionArguments::new(name, port.parse().unwrap(), "rex", "rex");
        let connection = Connection::open(arguments.virtual_host(vhost)).await.unwrap();
        let channel = connection.open_channel(None).await.unwrap();
        act(&channel).await;
        // What was done shows in the store; the goodbye may meet the broker's own.
        let _closed = connection.close().await;
    });
}
