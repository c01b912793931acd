//! What is claimed and handed out, by pace, shares and sizes.

use std::time::{Duration, Instant};

use rex_transport::{Claim, ClaimId, ClaimedTask, Payload, QueueName, TaskId};

use super::{Feed, LARGEST_STOCK, LARGEST_WINDOW};

fn feed(ids: std::ops::RangeInclusive<i64>) -> Feed {
    let mut feed = Feed::default();
    feed.add(claim(ids, &Payload::empty()), Instant::now());
    feed
}

fn claim(ids: std::ops::RangeInclusive<i64>, payload: &Payload) -> Claim {
    let task = |id| ClaimedTask {
        id: TaskId(id),
        attempt: 1,
        payload: payload.clone(),
        history: serde_json::Value::Null,
    };
    let queue = QueueName::parse("foo").unwrap();
    Claim { id: ClaimId(1), queue, tasks: ids.map(task).collect() }
}

/// A payload of so many megabytes and a few bytes.
fn large(megabytes: usize) -> Payload {
    Payload::from_stored(format!("{{\"x\": \"{}\"}}", "y".repeat(megabytes << 20)))
}

#[test]
fn the_first_window_is_one_task_and_grows_with_the_pace() {
    let mut feed = feed(1..=100);
    assert_eq!(feed.take(0, 1, usize::MAX).len(), 1);
    feed.measured(1, Duration::from_micros(10));
    assert_eq!(feed.window(), 4, "step by step");
    for _ in 0..10 {
        feed.measured(100, Duration::from_millis(1));
    }
    assert_eq!(feed.window(), LARGEST_WINDOW);
    for _ in 0..40 {
        feed.measured(1, Duration::from_secs(1));
    }
    assert_eq!(feed.window(), 1);
}

#[test]
fn slow_work_is_claimed_only_for_free_processes() {
    let mut feed = Feed::default();
    feed.measured(1, Duration::from_secs(1));
    assert_eq!(feed.to_claim(2, 0), 2);
    assert_eq!(feed.to_claim(2, 1), 1);
    assert_eq!(feed.to_claim(2, 2), 0);
}

#[test]
fn a_store_that_is_slow_to_claim_is_asked_for_less() {
    let mut feed = Feed::default();
    for _ in 0..10 {
        feed.measured(100, Duration::from_millis(1));
    }
    assert_eq!(feed.to_claim(2, 0), 4 * LARGEST_WINDOW);
    feed.claimed(1000, Duration::from_millis(1));
    feed.claimed(4000, Duration::from_millis(61));
    assert_eq!(feed.to_claim(2, 0), 2000);
    feed.claimed(0, Duration::from_secs(9));
    assert_eq!(feed.to_claim(2, 0), 2000, "it found nothing, which says nothing");
}

#[test]
fn what_is_there_is_shared_evenly() {
    let mut feed = feed(1..=10);
    for _ in 0..10 {
        feed.measured(100, Duration::from_millis(1));
    }
    assert_eq!(feed.take(0, 2, usize::MAX).len(), 5);
    assert_eq!(feed.take(0, 2, 1).len(), 1, "that is all it may have");
    assert_eq!(feed.take(0, 2, usize::MAX).len(), 2);
}

#[test]
fn large_payloads_are_handed_out_a_few_at_a_time() {
    let mut feed = Feed::default();
    feed.add(claim(1..=5, &large(3)), Instant::now());
    feed.add(claim(6..=7, &large(9)), Instant::now());
    for _ in 0..10 {
        feed.measured(100, Duration::from_millis(1));
    }
    assert_eq!(feed.take(0, 1, usize::MAX).len(), 2);
    assert_eq!(feed.take(0, 1, usize::MAX).len(), 2);
    assert_eq!(feed.take(0, 1, usize::MAX).len(), 1);
    assert_eq!(feed.take(0, 1, usize::MAX).len(), 1, "one there is always");
}

#[test]
fn large_payloads_are_claimed_a_few_at_a_time() {
    let mut feed = Feed::default();
    assert_eq!(feed.room(), LARGEST_STOCK);
    feed.add(claim(1..=3, &large(15)), Instant::now());
    assert_eq!(feed.room(), 0);
    let taken = feed.take(0, 1, usize::MAX);
    assert!(feed.room() < 3 << 20, "two are left");
    feed.put_back(taken);
    assert_eq!(feed.room(), 0);
    feed.take_all();
    assert_eq!(feed.room(), LARGEST_STOCK);
}

/// A better priority is claimed first, whatever its id.
#[test]
fn what_comes_back_has_its_old_place() {
    let mut feed = feed(7..=8);
    feed.add(claim(1..=2, &Payload::empty()), Instant::now());
    let mut taken = feed.take(0, 1, usize::MAX);
    taken.extend(feed.take(0, 1, usize::MAX));
    feed.put_back(taken);
    let order: Vec<i64> = feed.take_all().iter().map(|claimed| claimed.task.id.0).collect();
    assert_eq!(order, [7, 8, 1, 2]);
}

#[test]
fn suspects_are_handed_out_one_by_one() {
    let mut feed = feed(1..=5);
    for _ in 0..10 {
        feed.measured(100, Duration::from_millis(1));
    }
    let mut taken = feed.take(0, 1, usize::MAX);
    taken[1].is_suspect = true;
    taken[2].is_suspect = true;
    feed.put_back(taken);
    let mut take = |held| {
        let taken = feed.take(held, 1, usize::MAX);
        taken.iter().map(|claimed| claimed.task.id.0).collect::<Vec<_>>()
    };
    assert_eq!(take(0), [1]);
    assert!(take(1).is_empty(), "the process has another one still");
    assert_eq!(take(0), [2]);
    assert_eq!(take(0), [3]);
    assert_eq!(take(0), [4, 5]);
}

#[test]
fn what_comes_back_goes_before_what_waits() {
    let mut feed = feed(1..=4);
    let first = feed.take(0, 1, usize::MAX);
    assert_eq!(first[0].task.id, TaskId(1));
    feed.put_back(first);
    assert_eq!(feed.take(0, 1, usize::MAX)[0].task.id, TaskId(1));
}
