//! The page that a worker shares with its host.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::{Page, monotonic_at, monotonic_ns};

#[test]
fn two_mappings_see_the_same() {
    let (host, file) = Page::create().unwrap();
    let worker = Page::map(file.as_fd()).unwrap();
    worker.start(3, monotonic_ns());
    worker.finish(2);
    let progress = host.read();
    assert_eq!((progress.started, progress.finished), (3, 2));
    assert!(progress.started_at > 0);
    assert!(rustix::fs::ftruncate(&file, 0).is_err(), "sealed");
}

#[test]
fn a_worker_starts_what_its_host_allows() {
    let (host, file) = Page::create().unwrap();
    let worker = Page::map(file.as_fd()).unwrap();
    assert!(!worker.allows(monotonic_ns()), "nothing was said yet");
    host.allow(monotonic_at(Instant::now() + Duration::from_secs(3600)));
    let now = monotonic_ns();
    assert!(worker.allows(now) && !worker.allows(now + 3_600_000_000_000));
    host.allow(u64::MAX);
    assert!(worker.allows(u64::MAX));
    host.allow(monotonic_at(Instant::now().checked_sub(Duration::from_millis(1)).unwrap()));
    assert!(!worker.allows(monotonic_ns()));
}
