//! How many to claim from stores that are far away, slow at each task, or slow for once.

use std::time::Duration;

use super::ClaimCost;

/// Claims as many as may be, up to `wanted`, of a store that takes `each` and `task`; the last.
fn settled(wanted: usize, each: Duration, task: Duration) -> usize {
    let (mut cost, mut window) = (ClaimCost::default(), 1);
    for _ in 0..100 {
        let tasks = cost.most().unwrap_or(usize::MAX).min(window);
        let took = each + task * u32::try_from(tasks).unwrap();
        cost.learn(tasks, took);
        window = wanted.min(window * 4);
    }
    cost.most().unwrap_or(usize::MAX).min(window)
}

#[test]
fn a_store_that_is_far_away_gives_batches() {
    for away in [0, 5, 25, 60, 500, 3000] {
        let (away, task) = (Duration::from_millis(away), Duration::from_micros(5));
        assert_eq!(settled(4096, away, task), 4096, "{away:?}");
    }
}

#[test]
fn a_store_that_is_slow_at_each_task_is_asked_for_less() {
    for away in [0, 1, 25] {
        let slow = settled(4096, Duration::from_millis(away), Duration::from_millis(1));
        assert!((20..=90).contains(&slow), "{slow} at {away} ms");
    }
    let slower = settled(4096, Duration::ZERO, Duration::from_millis(100));
    assert_eq!(slower, 1);
}

#[test]
fn one_that_is_as_it_was_before_is_asked_for_as_much() {
    let mut cost = ClaimCost::default();
    let task = Duration::from_micros(5);
    for tasks in [1, 4, 16, 64, 256, 1024, 4096] {
        cost.learn(tasks, task * u32::try_from(tasks).unwrap());
    }
    assert_eq!(cost.most(), Some(8000));
    cost.learn(4096, Duration::from_secs(2));
    assert!(cost.most().is_some_and(|most| most < 1000), "{:?}", cost.most());
    let mut last = 0;
    for _ in 0..50 {
        last = cost.most().unwrap_or(4096).min(4096);
        cost.learn(last, task * u32::try_from(last).unwrap());
    }
    assert_eq!(last, 4096);
}
