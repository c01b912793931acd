//! The watch on the plugin directory: told once, when all is complete, and wherever it went.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::Receiver;
use rex_host::plugins::watch::watch;
use rex_test_support::process::DEADLINE;

#[track_caller]
fn told(news: &Receiver<()>) {
    news.recv_timeout(DEADLINE).unwrap();
}

/// Nothing is told of what happened before: shown by the next news being about `dir/proof.so` alone.
#[track_caller]
fn not_told_until(news: &Receiver<()>, change: impl FnOnce()) {
    assert!(news.recv_timeout(Duration::from_millis(600)).is_err(), "told of what is no news");
    change();
    told(news);
}

fn place(dir: &Path, name: &str) {
    let part = dir.join(format!("{name}.part"));
    fs::write(&part, "content").unwrap();
    fs::rename(part, dir.join(name)).unwrap();
}

#[test]
fn changes_of_plugins_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    place(dir, "a.so");
    let (news, watch) = watch(dir).unwrap();

    not_told_until(&news, || place(dir, "b.so"));
    fs::write(dir.join("b.so"), "written in place").unwrap();
    told(&news);
    rex_test_support::env::set_mode(&dir.join("b.so"), 0o600);
    told(&news);
    fs::remove_file(dir.join("a.so")).unwrap();
    told(&news);
    fs::write(dir.join("notes.txt"), "no plugin").unwrap();
    fs::write(dir.join(".b.so"), "hidden").unwrap();
    not_told_until(&news, || place(dir, "c.so"));

    drop(watch);
    assert!(news.recv_timeout(DEADLINE).is_err(), "the watch is gone");
}

#[test]
fn a_file_that_is_being_written_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (news, _watch) = watch(folder.path()).unwrap();
    let mut file = File::create(folder.path().join("a.so")).unwrap();
    for _ in 0..20 {
        file.write_all(b"a piece").unwrap();
        assert!(news.recv_timeout(Duration::from_millis(50)).is_err(), "told of half a file");
    }
    drop(file);
    told(&news);
}

#[test]
fn many_changes_are_told_together() {
    let folder = tempfile::tempdir().unwrap();
    let (news, _watch) = watch(folder.path()).unwrap();
    for n in 0..50 {
        place(folder.path(), &format!("p{n}.so"));
    }
    told(&news);
    // A busy machine may have paused this test in between; but not that often.
    let more = std::iter::from_fn(|| news.recv_timeout(Duration::from_millis(600)).ok()).count();
    assert!(more < 10, "told {} times", more + 1);
}

#[test]
fn a_directory_that_goes_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("plugins");
    fs::create_dir(&dir).unwrap();
    let (news, _watch) = watch(&dir).unwrap();

    fs::remove_dir(&dir).unwrap();
    not_told_until(&news, || fs::create_dir(&dir).unwrap());
    place(&dir, "a.so");
    told(&news);

    // Replaced by another one in one step.
    let next = folder.path().join("next");
    fs::create_dir(&next).unwrap();
    fs::rename(&dir, folder.path().join("old")).unwrap();
    fs::rename(&next, &dir).unwrap();
    told(&news);
    place(&dir, "b.so");
    told(&news);
}

#[test]
fn a_missing_directory_is_an_error() {
    assert!(watch(Path::new("/nonexistent/plugins")).is_err());
}
