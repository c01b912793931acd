//! Files that the original has left, that a crash has left, and locks that nobody gives back.

use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rex_transport::contract::{
    all_done, fill_around_a_delayed_task, finished, numbers, owner, queue, task, wait_for,
};
use rex_transport::{
    Attributes, DeadQuery, Death, Due, Kind, NewTask, Options, Outcome, Owner, Transport, Uri,
    Want, open,
};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat};
use serde_json::json;

fn uri(directory: &Path, options: &str) -> Uri {
    Uri::parse(&format!("filesys:{}{options}", directory.display())).unwrap()
}

fn index(directory: &Path) -> String {
    fs::read_to_string(directory.join("foo/.index")).unwrap()
}

#[test]
fn the_originals_layout() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner(&uri(store.path(), ""));
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let foo = store.path().join("foo");
    assert_eq!(index(store.path()), "1,2");
    assert_eq!(fs::read_to_string(foo.join("1")).unwrap(), r#"{"payload": {"n": 1}}"#);
    assert_eq!(fs::read(foo.join(".lock")).unwrap(), b"");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&foo), mode(&foo.join("1"))), (0o700, 0o600));
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    assert_eq!(index(store.path()), "2,2");
    host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    assert_eq!(index(store.path()), "0,0");
    host.finish(&all_done(&claim)).unwrap();
    let mut names: Vec<_> = fs::read_dir(&foo).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".index", ".lock"], "nothing of ours is in the original's directory");

    let mut wide = owner(&uri(store.path(), "?file_mode=0640"));
    wide.submit(&[task("bar", 1)]).unwrap();
    assert_eq!(mode(&store.path().join("bar")), 0o740);
    assert_eq!(mode(&store.path().join("bar/1")), 0o640);
}

/// An application that only submits must be able to go on.
#[test]
fn the_originals_files_stay_whose_they_are() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner(&uri(store.path(), ""));
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let path = store.path().join("foo/.index");
    let file = File::open(&path).unwrap();
    file.set_permissions(PermissionsExt::from_mode(0o664)).unwrap();
    // Who is not root has nobody to give it to.
    let nobody = rustix::process::geteuid().is_root().then_some(65534);
    std::os::unix::fs::fchown(&file, nobody, nobody).unwrap();
    let before = file.metadata().unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    host.finish(&all_done(&claim)).unwrap();
    host.submit(&[task("foo", 3)]).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(index(store.path()), "1,1");
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    assert_eq!(after.mode() & 0o777, 0o664);
}

/// An administrator's commands take nothing away from whose it is.
#[test]
fn what_root_makes_is_whose_the_directory_is() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let store = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(store.path(), Some(65534), Some(65534)).unwrap();
    let mut root = owner(&uri(store.path(), ""));
    root.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let claim = root.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let death = Death { reason: "it failed".to_owned(), details: json!({}) };
    root.finish(&[finished(&claim, 0, Outcome::Dead(death))]).unwrap();
    let letters = root.dead_letters(&DeadQuery::default()).unwrap();
    assert_eq!(root.revive(&[letters[0].letter]).unwrap(), 1);
    root.pause(&queue("foo"), true).unwrap();
    let mut directories = vec![store.path().to_owned()];
    let mut found = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (65534, 65534), "{entry:?}");
            found += 1;
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    assert!(found > 8, "{found}");
}

#[test]
fn what_the_original_has_left() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner(&uri(store.path(), ""));
    let foo = store.path().join("foo");
    fs::create_dir(&foo).unwrap();
    let write = |name: &str, text: &str| fs::write(foo.join(name), text).unwrap();
    // `0,0` written over `10,10`.
    write(".index", "0,010");
    assert_eq!(host.poll(&queue("foo")).unwrap(), 0);
    assert!(host.claim(&queue("foo"), &Want::tasks(9)).unwrap().is_none());
    assert_eq!(index(store.path()), "0,0", "whoever looks mends it");
    // What its producer makes of that, once and twice.
    write("11", r#"{"payload": {"n": 11}}"#);
    write(".index", "1,110");
    assert_eq!(host.poll(&queue("foo")).unwrap(), 1);
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [11]);
    write("18", r#"{"payload": {"n": 18}}"#);
    write("188", r#"{"payload": {"n": 188}}"#);
    write(".index", "1,188");
    assert_eq!(host.poll(&queue("foo")).unwrap(), 2);
    assert_eq!(host.peek(&queue("foo"), 9).unwrap().len(), 2);
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap()), [18]);
    assert_eq!(index(store.path()), "19,19");
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [188]);
    // No index, or none that can be read, and files.
    for torn in ["", "7", "\0\0\0", "9,3"] {
        write("7", r#"{"payload": {"n": 7}}"#);
        write(".index", torn);
        assert_eq!(
            numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()),
            [7],
            "{torn:?}"
        );
    }
    // A consumer that died behind its back, a payload of nothing, a torn one.
    write("4", r#"{"payload": null}"#);
    write("5", r#"{"paylo"#);
    write(".index", "3,5");
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(claim.tasks[0].payload.as_str(), "{}");
    assert!(claim.tasks[1].payload.check().is_err());
    assert_eq!(index(store.path()), "0,0");
}

#[test]
fn a_crash_in_the_middle_of_a_change_loses_nothing() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner(&uri(store.path(), ""));
    let tasks: Vec<NewTask> = (1..=5).map(|n| task("foo", n)).collect();
    host.submit(&tasks).unwrap();
    let foo = store.path().join("foo");
    // As when a claim was cut off behind its first step, or a shift between two of its own.
    fs::write(store.path().join(".rex/queues/foo/changing"), "").unwrap();
    fs::write(foo.join(".index"), "4,5").unwrap();
    fs::rename(foo.join("5"), foo.join("1005")).unwrap();
    assert_eq!(
        numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()),
        [1, 2, 3, 4, 5]
    );
    assert!(!store.path().join(".rex/queues/foo/changing").exists());
}

#[test]
fn a_crash_while_a_letter_comes_back_leaves_the_letter_or_the_task() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner(&uri(store.path(), ""));
    let ours = store.path().join(".rex/queues/foo");
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    let death = Death { reason: "why".to_owned(), details: json!({}) };
    let die = |at| finished(&claim, at, Outcome::Dead(death.clone()));
    host.finish(&[die(0), die(1)]).unwrap();
    // As when it was cut off: both tasks are written, one letter is gone.
    let letters = host.dead_letters(&DeadQuery::default()).unwrap();
    fs::create_dir(ours.join("reviving")).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(ours.join("dead")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    for (name, letter) in names.iter().zip(&letters) {
        let text = format!(r#"{{"payload": {}}}"#, letter.payload);
        fs::write(ours.join("reviving").join(name), text).unwrap();
    }
    fs::remove_file(ours.join("dead").join(&names[0])).unwrap();
    fs::write(ours.join("changing"), "").unwrap();
    // Nobody changes the queue, but a host looks around.
    assert_eq!(host.rescue().unwrap(), 1);
    assert_eq!(host.poll(&queue("foo")).unwrap(), 1);
    host.submit(&[task("foo", 3)]).unwrap();
    assert_eq!(host.dead_letters(&DeadQuery::default()).unwrap().len(), 1);
    assert_eq!(host.revive(&[letters[0].letter, letters[1].letter]).unwrap(), 1);
    assert!(host.dead_letters(&DeadQuery::default()).unwrap().is_empty());
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [1, 2, 3]);
    assert_eq!((claim.tasks[0].id, claim.tasks[1].id), (letters[0].id, letters[1].id));
    let left: Vec<_> = fs::read_dir(ours.join("reviving")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The one claim of queue `foo`.
fn claim_of(store: &Path) -> PathBuf {
    let claims = fs::read_dir(store.join(".rex/queues/foo/claims")).unwrap();
    claims.map(|claim| claim.unwrap().path()).next().unwrap()
}

fn dead() -> Outcome {
    Outcome::Dead(Death { reason: "why".to_owned(), details: json!({}) })
}

#[test]
fn a_burial_that_is_cut_off_leaves_one_letter_or_the_task() {
    for by_error in [false, true] {
        let store = tempfile::tempdir().unwrap();
        let mut host = owner(&uri(store.path(), ""));
        host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
        let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
        let both = [finished(&claim, 0, dead()), finished(&claim, 1, dead())];
        // The second one cannot be buried for now.
        let file = claim_of(store.path()).join(claim.tasks[1].id.0.to_string());
        let text = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        host.finish(&both).unwrap_err();
        fs::remove_dir(&file).unwrap();
        fs::write(&file, text).unwrap();
        let expected = if by_error {
            assert_eq!(host.finish(&both).unwrap(), []);
            (2, vec![])
        } else {
            // As when it was killed then.
            drop(host);
            (1, vec![2])
        };
        let mut next = owner(&uri(store.path(), ""));
        next.rescue().unwrap();
        let left = next.claim(&queue("foo"), &Want::tasks(9)).unwrap();
        let letters = next.dead_letters(&DeadQuery::default()).unwrap();
        let seen = (letters.len(), left.iter().flat_map(numbers).collect::<Vec<_>>());
        assert_eq!(seen, expected, "{letters:?}");
    }
}

#[test]
fn a_task_whose_letter_is_beside_it_is_dead() {
    let store = tempfile::tempdir().unwrap();
    let ours = store.path().join(".rex/queues/foo");
    let mut host = owner(&uri(store.path(), ""));
    host.submit(&[task("foo", 1), task("foo", 2), task("foo", 3)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    let directory = claim_of(store.path());
    let file = directory.join(claim.tasks[0].id.0.to_string());
    let text = fs::read(&file).unwrap();
    host.finish(&[finished(&claim, 0, dead()), finished(&claim, 1, dead())]).unwrap();
    // As when it was cut off: both letters are written, one task is gone.
    for letter in fs::read_dir(ours.join("dead")).unwrap().map(Result::unwrap) {
        fs::rename(letter.path(), directory.join(letter.file_name())).unwrap();
    }
    fs::write(&file, text).unwrap();
    let status = &host.queues().unwrap()[0];
    assert_eq!((status.in_flight, status.dead), (3, 0));
    drop(host);
    let mut next = owner(&uri(store.path(), ""));
    next.rescue().unwrap();
    let left = next.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&left), [3]);
    let letters = next.dead_letters(&DeadQuery::default()).unwrap();
    let ids: Vec<_> = letters.iter().map(|letter| letter.id).collect();
    assert_eq!(ids, [claim.tasks[0].id, claim.tasks[1].id]);
    assert!(!directory.exists());
    // Whoever is tried again may die again.
    assert_eq!(next.revive(&[letters[0].letter]).unwrap(), 1);
    let again = next.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    next.finish(&[finished(&again, 0, dead())]).unwrap();
    assert_eq!(next.dead_letters(&DeadQuery::default()).unwrap().len(), 2);
}

#[test]
fn a_submit_that_fails_leaves_no_file() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner(&uri(store.path(), ""));
    host.submit(&[task("foo", 1)]).unwrap();
    let part = store.path().join(".rex/queues/foo/index");
    fs::create_dir(&part).unwrap();
    let later = Due::In(Duration::from_secs(60));
    let attributes = Attributes { due: later, ..Attributes::default() };
    let delayed = NewTask { attributes, ..task("foo", 3) };
    host.submit(&[task("foo", 2), delayed]).unwrap_err();
    assert!(!store.path().join("foo/2").exists());
    for empty in [".rex/new", ".rex/queues/foo/delayed"] {
        let left: Vec<_> = fs::read_dir(store.path().join(empty)).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    fs::remove_dir(&part).unwrap();
    host.submit(&[task("foo", 4)]).unwrap();
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [1, 4]);
}

#[test]
fn old_places_that_are_taken() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner(&uri(store.path(), ""));
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    // The queue ran empty: its numbers begin at 1 again.
    host.submit(&[task("foo", 3)]).unwrap();
    assert_eq!(index(store.path()), "1,1");
    host.close().unwrap();
    let mut other = owner(&uri(store.path(), ""));
    assert_eq!(numbers(&other.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [1, 2, 3]);
}

#[test]
fn a_lock_that_nobody_gives_back() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner(&uri(store.path(), "?lock_timeout=0"));
    host.submit(&[task("foo", 1)]).unwrap();
    let lock = File::open(store.path().join("foo/.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let error = host.claim(&queue("foo"), &Want::tasks(1)).unwrap_err();
    assert_eq!(error.kind, Kind::Refused, "{error}");
    assert!(error.text.contains("/foo/.lock' could not be acquired."), "{error}");
    assert_eq!(host.poll(&queue("foo")).unwrap(), 1, "counting takes no lock");
    drop(lock);
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap()), [1]);
}

/// An old consumer that hangs with the lock of one queue.
#[test]
fn a_locked_queue_holds_back_its_own_outcomes_only() {
    for timeout in ["", "?lock_timeout=-1"] {
        let store = tempfile::tempdir().unwrap();
        let mut host = owner(&uri(store.path(), timeout));
        let mut other = owner(&uri(store.path(), timeout));
        host.submit(&[task("foo", 1), task("bar", 2), task("bar", 3), task("bar", 4)]).unwrap();
        other.submit(&[task("foo", 5)]).unwrap();
        let foo = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
        let bar = host.claim(&queue("bar"), &Want::tasks(9)).unwrap().unwrap();
        let lock = locked(store.path(), "foo");
        let mut done = all_done(&bar);
        done.extend(all_done(&foo));
        done[1].submits = vec![task("foo", 6)];
        for _ in 0..2 {
            assert_eq!(host.finish(&done).unwrap(), []);
            assert_eq!(host.held_back(), [bar.tasks[1].id, foo.tasks[0].id]);
            assert_eq!(host.held_back(), []);
            let queues = host.queues().unwrap();
            assert_eq!(queues.iter().map(|one| one.in_flight).collect::<Vec<_>>(), [1, 1]);
        }
        // Nor does a dead host's claim there hold up anybody.
        host.close().unwrap();
        assert_eq!(other.rescue().unwrap(), 0);
        assert!(other.claim(&queue("foo"), &Want::tasks(9)).unwrap().is_none());
        drop(lock);
        assert_eq!(other.rescue().unwrap(), 1);
        let claims =
            ["foo", "bar"].map(|name| other.claim(&queue(name), &Want::tasks(9)).unwrap().unwrap());
        assert_eq!(claims.each_ref().map(numbers), [vec![1, 5], vec![3]]);
        for claim in claims {
            assert_eq!(other.finish(&all_done(&claim)).unwrap(), []);
        }
        assert_eq!(other.held_back(), []);
        assert!(other.queues().unwrap().is_empty());
    }
}

/// An owner of its own name whose silence counts after this time.
fn owner_named(store: &Path, id: &str, owner_timeout: Duration) -> Box<dyn Transport> {
    let owner = Some(Owner { id: id.to_owned() });
    open(&uri(store, "?lock_timeout=3"), &Options { owner, owner_timeout, ..Options::default() })
        .unwrap()
}

fn locked(store: &Path, queue: &str) -> File {
    let lock = File::open(store.join(queue).join(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    lock
}

/// The one file of the owner of that name.
fn sign_of(store: &Path, id: &str) -> PathBuf {
    let files = fs::read_dir(store.join(".rex/owners")).unwrap().map(|file| file.unwrap().path());
    let mut its = files.filter(|path| path.file_name().unwrap().to_str().unwrap().contains(id));
    its.next().unwrap()
}

#[test]
fn who_waits_for_a_lock_of_a_stopped_host_is_alive() {
    let store = tempfile::tempdir().unwrap();
    let timeout = Duration::from_secs(1);
    let mut waiting = owner_named(store.path(), "waiting", timeout);
    let mut other = owner_named(store.path(), "other", timeout);
    waiting.submit(&[task("bar", 1), task("foo", 2)]).unwrap();
    let claim = waiting.claim(&queue("bar"), &Want::tasks(1)).unwrap().unwrap();
    let lock = locked(store.path(), "foo");
    let waits = std::thread::spawn(move || {
        // It may come back in between, without a word.
        let error = loop {
            match waiting.claim(&queue("foo"), &Want::tasks(1)) {
                Ok(claim) => assert!(claim.is_none()),
                Err(error) => break error,
            }
        };
        (waiting, error)
    });
    while !waits.is_finished() {
        assert_eq!(other.rescue().unwrap(), 0, "a living host is robbed");
    }
    let (mut waiting, error) = waits.join().unwrap();
    assert!(error.text.contains("could not be acquired"), "{error}");
    drop(lock);
    assert_eq!(waiting.finish(&all_done(&claim)).unwrap(), []);
}

#[test]
fn who_is_taken_for_dead_claims_no_more_under_that_name() {
    let store = tempfile::tempdir().unwrap();
    let mut silent = owner_named(store.path(), "silent", Duration::from_secs(60));
    let mut other = owner_named(store.path(), "other", Duration::ZERO);
    silent.submit(&[task("aaa", 1), task("bbb", 2)]).unwrap();
    let first = silent.claim(&queue("aaa"), &Want::tasks(1)).unwrap().unwrap();
    let sign = sign_of(store.path(), "silent");
    let lock = locked(store.path(), "aaa");
    let rescue = std::thread::spawn(move || {
        let count = other.rescue().unwrap();
        (other, count)
    });
    wait_for("the fence", || !sign.exists());
    // It wakes while its tasks are given back.
    let second = silent.claim(&queue("bbb"), &Want::tasks(1)).unwrap().unwrap();
    drop(lock);
    let (mut other, count) = rescue.join().unwrap();
    assert_eq!(silent.finish(&all_done(&second)).unwrap(), [], "a claim of the new name stands");
    assert_eq!(silent.taken_over(), [first.id]);
    assert_eq!(silent.taken_over(), []);
    assert_eq!(silent.finish(&all_done(&first)).unwrap(), [first.tasks[0].id]);
    // Where the lock came too late for the first one.
    assert_eq!(count + other.rescue().unwrap(), 1);
}

#[test]
fn who_is_taken_for_dead_in_the_middle_of_a_claim_starts_anew() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner_named(store.path(), "host", Duration::from_secs(60));
    host.submit(&[task("foo", 1)]).unwrap();
    let sign = sign_of(store.path(), "host");
    let before = fs::read(&sign).unwrap();
    let lock = locked(store.path(), "foo");
    let claims = std::thread::spawn(move || {
        let mut claim = || host.claim(&queue("foo"), &Want::tasks(1)).unwrap();
        let claim = std::iter::repeat_with(&mut claim).flatten().next().unwrap();
        (host, claim)
    });
    wait_for("it to wait for the lock", || fs::read(&sign).unwrap() != before);
    fs::remove_file(&sign).unwrap();
    drop(lock);
    let (mut host, claim) = claims.join().unwrap();
    let mut other = owner_named(store.path(), "other", Duration::from_secs(60));
    assert_eq!(other.rescue().unwrap(), 0, "a claim under the name of a dead owner");
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
}

#[test]
fn who_comes_back_under_a_dead_owners_name_has_none_of_its_claims() {
    let store = tempfile::tempdir().unwrap();
    let mut first = owner_named(store.path(), "mover", Duration::from_secs(60));
    first.submit(&[task("foo", 1)]).unwrap();
    first.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    drop(first);
    let mut second = owner_named(store.path(), "mover", Duration::from_secs(60));
    assert_eq!(numbers(&second.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap()), [1]);
}

/// An old producer's tasks of one tick of the clock.
#[test]
fn tasks_of_one_moment_have_ids_of_their_own() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner(&uri(store.path(), ""));
    let foo = store.path().join("foo");
    fs::create_dir(&foo).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    // No moment that our own tasks of this queue have.
    let moment = SystemTime::UNIX_EPOCH + Duration::from_nanos((now as u64) & !1023);
    let put = |numbers: RangeInclusive<u32>, moment: SystemTime| {
        for n in numbers.clone() {
            fs::write(foo.join(n.to_string()), format!("{{\"payload\": {{\"n\": {n}}}}}")).unwrap();
            File::options()
                .write(true)
                .open(foo.join(n.to_string()))
                .unwrap()
                .set_modified(moment)
                .unwrap();
        }
        fs::write(foo.join(".index"), format!("{},{}", numbers.start(), numbers.end())).unwrap();
    };
    put(1..=5, moment);
    let mut ids = Vec::new();
    let mut take = |most: usize| {
        let claim = host.claim(&queue("foo"), &Want::tasks(most)).unwrap().unwrap();
        ids.extend(claim.tasks.iter().map(|task| task.id));
        claim
    };
    take(1);
    let second = take(3);
    take(1);
    put(1..=2, moment);
    take(2);
    // The year 2400 is beyond what nanoseconds can tell.
    put(1..=3, SystemTime::UNIX_EPOCH + Duration::from_secs(430 * 365 * 86400));
    take(2);
    take(1);
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    host.finish(&[finished(&second, 0, Outcome::Released)]).unwrap();
    let again = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    assert_eq!(again.tasks[0].payload, second.tasks[0].payload);
}

#[test]
fn refusals() {
    let store = tempfile::tempdir().unwrap();
    let fails = |uri: Uri| match open(&uri, &Options::default()) {
        Ok(_) => panic!("{uri} opens"),
        Err(error) => error,
    };
    for bad in ["?lock_timeout=x", "?file_mode=9", "?file_mode=7777", "?other=1"] {
        assert_eq!(fails(uri(store.path(), bad)).kind, Kind::Config, "{bad}");
    }
    let missing = store.path().join("missing");
    let error = fails(uri(&missing, ""));
    assert_eq!(error.kind, Kind::Refused);
    let reason = format!("[Errno 2] No such file or directory: '{}'", missing.display());
    assert!(error.text.contains(&reason), "{error}");
}

#[test]
fn a_file_where_a_queue_would_be_is_no_queue_and_costs_no_other() {
    let store = tempfile::tempdir().unwrap();
    fs::write(store.path().join("bad"), "text").unwrap();
    let mut host = owner(&uri(store.path(), ""));
    assert_eq!(host.submit(&[task("foo", 1), task("bad", 2)]).unwrap_err().kind, Kind::Invalid);
    assert_eq!(host.poll(&queue("foo")).unwrap(), 0, "all or none");
    host.submit(&[task("foo", 1)]).unwrap();
    let names = |host: &mut dyn Transport| -> Vec<String> {
        host.queues().unwrap().iter().map(|status| status.queue.to_string()).collect()
    };
    assert_eq!(names(&mut *host), ["foo"]);
    assert!(host.claim(&queue("bad"), &Want::tasks(1)).unwrap().is_none());
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let mut batch = all_done(&claim);
    batch[0].submits = vec![task("bar", 3), task("bad", 4)];
    let error = host.finish(&batch).unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.text.contains("[Errno 17] File exists:"), "{error}");
    assert_eq!(host.poll(&queue("bar")).unwrap(), 0);
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    assert_eq!(names(&mut *host), Vec::<String>::new());
}

#[test]
fn a_queue_that_cannot_be_used_costs_no_other() {
    let store = tempfile::tempdir().unwrap();
    let at = |name: &str| store.path().join(name);
    std::os::unix::fs::symlink("/no/such/place", at("dangling")).unwrap();
    std::os::unix::fs::symlink("loop", at("loop")).unwrap();
    fs::create_dir_all(at("locked/.lock")).unwrap();
    fs::create_dir_all(at("indexed/.index")).unwrap();
    let mut host = owner(&uri(store.path(), ""));
    for bad in ["dangling", "loop", "locked", "indexed"] {
        host.submit(&[task("foo", 1)]).unwrap();
        let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
        let mut asking = all_done(&claim);
        asking[0].submits = vec![task(bad, 2)];
        let error = host.finish(&asking).unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{bad}: {error}");
        host.finish(&all_done(&claim)).unwrap();
    }
    host.submit(&[task("foo", 1)]).unwrap();
    let seen = host.queues().unwrap();
    assert_eq!(seen.iter().map(|one| one.queue.as_str()).collect::<Vec<_>>(), ["foo"]);
}

#[test]
fn what_is_no_task_is_a_dead_letter_for_ever() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner(&uri(store.path(), ""));
    let foo = store.path().join("foo");
    fs::create_dir(&foo).unwrap();
    let files: [&[u8]; 4] =
        [b"{\"payload\": {\"a\": \"\xff\"}}", b"{\"pay\": {\"n\": 1}}", b"{\"n\": 1}", b"{}"];
    for (number, file) in (1..).zip(files) {
        fs::write(foo.join(number.to_string()), file).unwrap();
    }
    fs::write(foo.join(".index"), "1,4").unwrap();
    assert_eq!(host.peek(&queue("foo"), 9).unwrap()[1].payload.as_str(), r#"{"pay": {"n": 1}}"#);
    for _ in 0..2 {
        let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
        assert_eq!(claim.tasks.len(), 4);
        for task in &claim.tasks {
            task.payload.check().unwrap_err();
        }
        let all: Vec<_> = (0..4).map(|at| finished(&claim, at, dead())).collect();
        assert_eq!(host.finish(&all).unwrap(), []);
        let letters = host.dead_letters(&DeadQuery::default()).unwrap();
        for (letter, file) in letters.iter().zip(files) {
            assert_eq!(letter.payload.as_str(), String::from_utf8_lossy(file));
        }
        let ids: Vec<_> = letters.iter().map(|letter| letter.letter).collect();
        assert_eq!(host.revive(&ids).unwrap(), 4);
    }
}

/// Places that are no directories here; they might be somebody else's, which only its owner may enter.
#[test]
fn a_queue_that_cannot_be_looked_at_costs_no_other() {
    let store = tempfile::tempdir().unwrap();
    let timeout = Duration::from_secs(60);
    let mut dying = owner_named(store.path(), "dying", timeout);
    dying.submit(&[task("foo", 1), task("foo", 2), task("bad", 3), task("worse", 4)]).unwrap();
    let claim = dying.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    dying.finish(&[finished(&claim, 0, dead())]).unwrap();
    let ours = store.path().join(".rex/queues");
    for gone in ["bad/claims", "bad/dead"] {
        fs::remove_dir(ours.join(gone)).unwrap();
        fs::write(ours.join(gone), "").unwrap();
    }
    fs::rename(ours.join("worse"), ours.join("Aside")).unwrap();
    std::os::unix::fs::symlink("worse", ours.join("worse")).unwrap();
    assert_eq!(dying.rescue().unwrap(), 0);
    drop(dying);
    // Where producers write, which a host that only works does not need.
    fs::remove_dir(store.path().join(".rex/new")).unwrap();
    fs::write(store.path().join(".rex/new"), "").unwrap();
    let mut next = owner_named(store.path(), "next", timeout);
    assert_eq!(next.rescue().unwrap(), 1);
    assert_eq!(numbers(&next.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [2]);
    for bad in ["bad", "worse"] {
        next.claim(&queue(bad), &Want::tasks(1)).unwrap_err();
    }
    let mut names = |is: &[&str]| {
        let left_out = next.left_out();
        assert_eq!(left_out.keys().map(|name| name.as_str()).collect::<Vec<_>>(), is);
        assert!(left_out.values().all(|reason| reason.contains("[Errno ")), "{left_out:?}");
        let letters = next.dead_letters(&DeadQuery::default()).unwrap();
        let queues = next.queues().unwrap();
        (letters.len(), queues.iter().map(|one| one.queue.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(names(&[]), (1, vec!["foo".to_owned()]));
    names(&["bad", "worse"]);
    let one = DeadQuery { queue: Some(queue("bad")), ..DeadQuery::default() };
    next.dead_letters(&one).unwrap_err();
    assert_eq!(next.forget_dead(Duration::ZERO).unwrap(), 1);
    next.close().unwrap();
    let mut last = owner_named(store.path(), "last", timeout);
    assert_eq!(numbers(&last.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [2]);
}

/// A directory here; it might be a file of somebody else, which only its owner may read.
#[test]
fn what_cannot_be_read_stays_in_its_queue_and_costs_no_other() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner(&uri(store.path(), ""));
    host.submit(&[task("foo", 1), task("foo", 2), task("foo", 3), task("bar", 4)]).unwrap();
    let file = store.path().join("foo/2");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [1]);
    for _ in 0..2 {
        let error = host.claim(&queue("foo"), &Want::tasks(9)).unwrap_err();
        assert!(error.text.contains("[Errno 21] Is a directory:"), "{error}");
    }
    fs::remove_dir(&file).unwrap();
    mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for error in [
        host.claim(&queue("foo"), &Want::tasks(9)).unwrap_err(),
        host.peek(&queue("foo"), 9).unwrap_err(),
    ] {
        assert!(error.text.contains("it is no file"), "{error}");
    }
    assert_eq!(index(store.path()), "2,3");
    drop(host);
    let mut next = owner(&uri(store.path(), ""));
    next.rescue().unwrap();
    let claim = next.claim(&queue("bar"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [4]);
    next.finish(&all_done(&claim)).unwrap();
    // Whoever has put things right finds everything in its place.
    fs::remove_file(&file).unwrap();
    assert_eq!(numbers(&next.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap()), [1, 3]);
}

/// Else a backlog of files would be read and renamed for each of them, under the queue's lock.
#[test]
fn what_comes_due_in_a_long_queue_goes_to_its_end() {
    let store = tempfile::tempdir().unwrap();
    let mut host = owner(&uri(store.path(), ""));
    fill_around_a_delayed_task(&mut *host);
    host.claim(&queue("foo"), &Want::tasks(1)).unwrap();
    let tasks = host.peek(&queue("foo"), 2000).unwrap();
    assert_eq!(tasks.last().unwrap().payload.to_string(), r#"{"n": 1500}"#);
}
