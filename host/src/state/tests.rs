//! A host that is dying is waited for.

use std::fs;
use std::process::Command;

use super::{State, StateError};

#[test]
fn a_host_that_is_dying_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::new(folder.path(), "one").unwrap();
    let held = state.lock().unwrap();
    assert!(matches!(state.lock(), Err(StateError::Running { .. })), "this process runs");

    let mut ended = Command::new("true").spawn().unwrap();
    let is_zombie =
        || fs::read_to_string(format!("/proc/{}/stat", ended.id())).unwrap().contains(") Z ");
    while !is_zombie() {
        std::thread::yield_now();
    }
    fs::write(state.lock_file(), ended.id().to_string()).unwrap();
    let next = std::thread::spawn({
        let state = state.clone();
        move || state.lock().map(drop)
    });
    let file = fs::canonicalize(state.lock_file()).unwrap();
    let open = || {
        let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.filter(|fd| fs::read_link(fd.path()).is_ok_and(|path| path == file)).count()
    };
    while open() < 2 && !next.is_finished() {
        std::thread::yield_now();
    }
    drop(held);
    next.join().unwrap().unwrap();
    ended.wait().unwrap();
}
