//! The page that a worker shares with its host.

use std::os::fd::AsFd;

use super::Page;

#[test]
fn two_mappings_see_the_same() {
    let (host, file) = Page::create().unwrap();
    let worker = Page::map(file.as_fd()).unwrap();
    worker.start(3);
    worker.finish(2);
    let progress = host.read();
    assert_eq!((progress.started, progress.finished), (3, 2));
    assert!(progress.started_at > 0);
    assert!(rustix::fs::ftruncate(&file, 0).is_err(), "sealed");
}
