//! Files that are missing, foreign, damaged, full, read-only; processes that are killed: one clear
//! error, nothing lost.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rex_transport::contract::{all_done, numbers, owner, queue, task, wait_for};
use rex_transport::{Kind, NewTask, Options, Owner, Payload, TransportError, Uri, Want, open};

fn uri(path: &Path) -> Uri {
    Uri::parse(&format!("sqlite:{}", path.display())).unwrap()
}

#[track_caller]
fn refused(path: &Path, reason: &str) -> TransportError {
    let error = open(&uri(path), &Options::default()).err().unwrap();
    assert_eq!(error.kind, Kind::Refused);
    let text =
        format!("Failed to use the queue file:\n    {}\nReason:\n    {reason}", path.display());
    assert_eq!(error.to_string(), text);
    error
}

#[test]
fn what_is_no_queue_file() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let error = refused(&at("none/queue.db"), "its directory does not exist");
    assert_eq!(error.hint.unwrap(), format!("mkdir -p {}", at("none").display()));
    refused(scratch.path(), "it cannot be opened");
    let looking = Options { create: false, ..Options::default() };
    let error = open(&uri(&at("none.db")), &looking).err().unwrap();
    assert!(error.to_string().ends_with("it does not exist"), "{error}");
    assert!(!at("none.db").exists(), "looking makes none");

    fs::write(at("text.db"), "no database at all, but long enough to be looked at".repeat(99))
        .unwrap();
    refused(&at("text.db"), "it is not a SQLite database");
    assert!(fs::read_to_string(at("text.db")).unwrap().starts_with("no database"), "left alone");

    let foreign = rusqlite::Connection::open(at("foreign.db")).unwrap();
    foreign.execute_batch("CREATE TABLE people (name TEXT); PRAGMA user_version = 1").unwrap();
    drop(foreign);
    refused(&at("foreign.db"), "it is a SQLite database of something else");

    open(&uri(&at("newer.db")), &Options::default()).unwrap();
    let newer = rusqlite::Connection::open(at("newer.db")).unwrap();
    newer.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(newer);
    refused(&at("newer.db"), "its version is 99, this program knows up to 2");

    // An empty file is what `touch` or a crash at the first moment leaves: it becomes a queue.
    fs::write(at("empty.db"), "").unwrap();
    open(&uri(&at("empty.db")), &Options::default()).unwrap();

    for text in ["sqlite:", "sqlite::memory:", "sqlite:file:x", "sqlite:/tmp/x.db?mode=ro"] {
        let error = open(&Uri::parse(text).unwrap(), &Options::default()).err().unwrap();
        assert_eq!(error.kind, Kind::Config, "{text}");
    }
}

#[test]
fn a_damaged_file_is_an_error_and_no_crash() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("queue.db");
    let mut host = open(&uri(&path), &Options::default()).unwrap();
    let tasks: Vec<NewTask> = (0..5000).map(|n| task("foo", n)).collect();
    host.submit(&tasks).unwrap();
    drop(host);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let damaged = open(&uri(&path), &Options::default()).and_then(|mut host| host.queues());
    let error = damaged.unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.text.ends_with("it is damaged"), "{error}");
}

/// A small file system of its own; only root can make one.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Small> {
        let small = Small(tempfile::tempdir().unwrap());
        let options = ["-t", "tmpfs", "-o", "size=512k", "tmpfs"];
        let mounted = Command::new("mount").args(options).arg(small.0.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(small);
        }
        eprintln!("NOT RUN: what needs a file system that can be filled (mount as root)");
        None
    }

    fn remount(&self, mode: &str) {
        let options = format!("remount,{mode}");
        let done = Command::new("mount").args(["-o", &options]).arg(self.0.path()).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let Some(small) = Small::mount() else { return };
    let mut host = owner(&uri(&small.0.path().join("queue.db")));
    let payload = |n: u64| {
        let text = format!("{{\"n\": {n}, \"text\": \"{}\"}}", "x".repeat(2000));
        Payload::parse(&text, 1 << 20).unwrap()
    };
    let mut stored = Vec::new();
    let error = loop {
        let number = stored.len() as u64;
        let one = NewTask::plain(queue("foo"), payload(number));
        match host.submit(&[one]) {
            Ok(_) => stored.push(number),
            Err(error) => break error,
        }
    };
    assert!(stored.len() > 10);
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.text.ends_with("the disk is full"), "{error}");
    assert!(error.is_retryable() && error.hint.is_some());
    assert_eq!(host.poll(&queue("foo")).unwrap(), stored.len() as u64);
    // A claim may fail for want of space, but takes nothing then.
    let claim = match host.claim(&queue("foo"), &Want::tasks(5)) {
        Ok(claim) => claim.unwrap(),
        Err(error) => {
            assert!(error.text.ends_with("the disk is full"), "{error}");
            assert_eq!(host.poll(&queue("foo")).unwrap(), stored.len() as u64);
            small.remount("size=4m");
            host.claim(&queue("foo"), &Want::tasks(5)).unwrap().unwrap()
        }
    };
    assert_eq!(numbers(&claim), stored[..5]);
    small.remount("size=4m");
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    assert_eq!(
        numbers(&host.claim(&queue("foo"), &Want::tasks(9999)).unwrap().unwrap()),
        stored[5..]
    );
}

#[test]
fn a_read_only_disk_is_said() {
    let Some(small) = Small::mount() else { return };
    let path = small.0.path().join("queue.db");
    let mut host = open(&uri(&path), &Options::default()).unwrap();
    host.submit(&[task("foo", 1)]).unwrap();
    drop(host);
    small.remount("ro");
    let error = open(&uri(&path), &Options::default()).err().unwrap();
    assert_eq!(error.kind, Kind::Refused);
    assert!(
        error.text.contains("it is not writable") || error.text.contains("cannot be opened"),
        "{error}"
    );
    small.remount("rw");
    let mut host = open(&uri(&path), &Options::default()).unwrap();
    assert_eq!(host.poll(&queue("foo")).unwrap(), 1);
}

#[test]
fn a_file_that_is_kept_locked() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("queue.db");
    let lock_timeout = std::time::Duration::from_millis(20);
    let options = Options { lock_timeout, ..Options::default() };
    let mut host = open(&uri(&path), &options).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = host.submit(&[task("foo", 1)]).unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.is_retryable() && error.text.ends_with("another process keeps it locked"));
    assert_eq!(host.poll(&queue("foo")).unwrap(), 0, "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    host.submit(&[task("foo", 1)]).unwrap();
    assert_eq!(host.poll(&queue("foo")).unwrap(), 1);
}

const SUBMITTER: &str = "REX_TEST_SUBMITTER";

/// Not a check: the process that `what_was_submitted_survives_kill` kills.
#[test]
fn submitter() {
    let Ok(address) = std::env::var(SUBMITTER) else { return };
    let mut host = open(&Uri::parse(&address).unwrap(), &Options::default()).unwrap();
    for number in 0.. {
        host.submit(&[task("foo", number)]).unwrap();
        // One write a line, past libtest's capture.
        let line = format!("\nsubmitted {number}\n");
        rustix::io::write(rustix::stdio::stdout(), line.as_bytes()).unwrap();
    }
}

#[test]
fn what_was_submitted_survives_kill() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("queue.db");
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["trouble::submitter", "--exact", "--nocapture"])
            .env(SUBMITTER, format!("sqlite:{}", path.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = None;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(number) = line.strip_prefix("submitted ") else { continue };
            told = number.parse::<u64>().ok();
            if told >= Some(30 * round) {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let mut host = owner(&uri(&path));
        let claim = host.claim(&queue("foo"), &Want::tasks(99_999)).unwrap().unwrap();
        let there = numbers(&claim);
        assert!(there.len() as u64 > told.unwrap(), "{} of {told:?}", there.len());
        assert!(there.iter().copied().eq(0..there.len() as u64), "each once, in order");
        host.finish(&all_done(&claim)).unwrap();
        host.close().unwrap();
    }
}

#[test]
fn files_of_the_dead_are_swept() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("queue.db");
    owner(&uri(&path)).close().unwrap();
    let owners = scratch.path().join("queue.db.owners");
    // Died between making its file and entering its name.
    fs::File::create(owners.join("oghost")).unwrap().write_all(b"x").unwrap();
    fs::write(owners.join("README"), "not ours").unwrap();
    let mut host = owner(&uri(&path));
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&owners).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names().len(), 2, "{:?}", names());
    assert!(names().iter().any(|name| name == "README"));
    host.close().unwrap();
    assert_eq!(names(), ["README"]);
}

#[test]
fn a_relative_path() {
    let here = std::env::current_dir().unwrap();
    let scratch = tempfile::tempdir_in(&here).unwrap();
    let name = scratch.path().file_name().unwrap().to_str().unwrap();
    let address = Uri::parse(&format!("sqlite:{name}/a%20queue.db")).unwrap();
    let host = open(&address, &Options::default()).unwrap();
    assert_eq!(host.label(), format!("sqlite:{}", scratch.path().join("a queue.db").display()));
}

/// Who holds the file's lock while it is stopped keeps a rescuer waiting that has found it silent; when
/// it goes on it lives.
#[test]
fn who_has_woken_meanwhile_is_not_robbed() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("queue.db");
    let named = |id: &str, owner_timeout: u64| {
        let owner = Some(Owner { id: id.to_owned() });
        let owner_timeout = Duration::from_secs(owner_timeout);
        let lock_timeout = Duration::from_secs(30);
        let options = Options { owner, owner_timeout, lock_timeout, ..Options::default() };
        open(&uri(&path), &options).unwrap()
    };
    let (mut silent, mut other) = (named("silent", 60), named("other", 1));
    silent.submit(&[task("foo", 1)]).unwrap();
    let claim = silent.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let lock = rusqlite::Connection::open(&path).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (rounds, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let rescuer = std::thread::spawn({
        let (rounds, is_over) = (Arc::clone(&rounds), Arc::clone(&is_over));
        move || {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                count += other.rescue().unwrap();
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            count
        }
    });
    let mut last = (0, Instant::now());
    wait_for("the rescuer to wait for the lock", || {
        let now = rounds.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(700)
    });
    silent.rescue().unwrap();
    is_over.store(true, Ordering::Relaxed);
    lock.execute_batch("COMMIT").unwrap();
    assert_eq!(rescuer.join().unwrap(), 0);
    assert_eq!(silent.finish(&all_done(&claim)).unwrap(), []);
}

/// SQLite follows it to one database, and so must the signs of who lives.
#[test]
fn a_link_to_the_file_is_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("queue.db"), folder.path().join("far/link.db"));
    fs::create_dir(folder.path().join("far")).unwrap();
    // Before the file is there, too.
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let mut one = owner(&uri(&link));
    one.submit(&[task("foo", 1)]).unwrap();
    let claim = one.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let mut two = owner(&uri(&file));
    assert_eq!(two.rescue().unwrap(), 0, "its owner lives");
    assert_eq!(one.rescue().unwrap(), 0);
    assert!(two.claim(&queue("foo"), &Want::tasks(1)).unwrap().is_none());
    assert_eq!(one.finish(&all_done(&claim)).unwrap(), []);
}
