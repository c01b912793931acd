//! Directories of other users in which root works: what they have put there gives them nothing of
//! root's, and what root puts there is theirs.

use std::fmt::Debug;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rex_transport::contract::{all_done, numbers, owner, queue, task};
use rex_transport::{Kind, Options, Owner, TransportError, Uri, Want, open};
use tracing::field::Field;
use tracing::{Event, Metadata, Subscriber, span};

/// Whom the directories belong to.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn uri(store: &Path) -> Uri {
    Uri::parse(&format!("filesys:{}", store.display())).unwrap()
}

/// A file and a directory of root's, and a store of somebody else's.
struct Ground {
    directory: tempfile::TempDir,
}

impl Ground {
    fn new() -> Ground {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let ground = Ground { directory };
        fs::write(ground.victim(), "secret").unwrap();
        fs::set_permissions(ground.victim(), PermissionsExt::from_mode(0o600)).unwrap();
        fs::create_dir(ground.at("elsewhere")).unwrap();
        ground.make("store");
        ground
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn victim(&self) -> PathBuf {
        self.at("victim")
    }

    /// A directory of theirs.
    fn make(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        fs::create_dir(&path).unwrap();
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        path
    }

    fn is_unharmed(&self) {
        let found = fs::metadata(self.victim()).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o600));
        assert_eq!(fs::read_to_string(self.victim()).unwrap(), "secret");
        let elsewhere = self.at("elsewhere");
        assert_eq!(fs::metadata(&elsewhere).unwrap().uid(), 0);
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}

fn refused<T>(result: Result<T, TransportError>) {
    let error = result.err().expect("it is refused");
    assert!(error.text.contains("[Errno 40] Too many levels of symbolic links: "), "{error}");
    assert!(matches!(error.kind, Kind::Invalid | Kind::Refused), "{error:?}");
}

#[test]
fn a_lock_that_is_a_link_is_refused() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let foo = ground.make("store/foo");
    symlink(ground.victim(), foo.join(".lock")).unwrap();
    let mut root = owner(&uri(&ground.at("store")));
    refused(root.submit(&[task("foo", 1)]));
    root.submit(&[task("bar", 1)]).unwrap();
    ground.is_unharmed();
}

#[test]
fn a_file_that_is_a_link_is_not_written_through() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let mut root = owner(&uri(&ground.at("store")));
    root.submit(&[task("foo", 1)]).unwrap();
    let ours = ground.at("store/.rex/queues/foo");
    for name in ["paused", "index", "changing", "part.task"] {
        symlink(ground.victim(), ours.join(name)).unwrap();
    }
    root.pause(&queue("foo"), true).unwrap();
    let paused = fs::symlink_metadata(ours.join("paused")).unwrap();
    assert!(paused.is_file() && paused.uid() == NOBODY, "a file of its own");
    root.pause(&queue("foo"), false).unwrap();
    root.submit(&[task("foo", 2)]).unwrap();
    ground.is_unharmed();
    symlink(ground.victim(), ours.join("given")).unwrap();
    refused(root.claim(&queue("foo"), &Want::tasks(1)));
    ground.is_unharmed();
}

/// As a dead letter its owner could read it.
#[test]
fn a_task_that_is_a_link_is_not_read() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let foo = ground.make("store/foo");
    symlink(ground.victim(), foo.join("1")).unwrap();
    fs::write(foo.join(".index"), "1,1").unwrap();
    let mut root = owner(&uri(&ground.at("store")));
    refused(root.claim(&queue("foo"), &Want::tasks(1)));
    refused(root.peek(&queue("foo"), 1));
    ground.is_unharmed();
}

#[test]
fn a_directory_that_is_a_link_is_not_entered() {
    if !is_root() {
        return;
    }
    for link in ["foo", ".rex/queues", ".rex/queues/foo", ".rex/new"] {
        let ground = Ground::new();
        let at = ground.at("store").join(link);
        let mut root = owner(&uri(&ground.at("store")));
        let _made_already = fs::create_dir_all(at.parent().unwrap());
        let _made_already = fs::remove_dir(&at);
        symlink(ground.at("elsewhere"), &at).unwrap();
        refused(root.submit(&[task("foo", 1)]));
        ground.is_unharmed();
    }
    let ground = Ground::new();
    symlink(ground.at("elsewhere"), ground.at("store/.rex")).unwrap();
    let options = Options { owner: Some(Owner { id: "root".to_owned() }), ..Options::default() };
    refused(open(&uri(&ground.at("store")), &options));
    ground.is_unharmed();
}

/// The store's own address is an administrator's.
#[test]
fn an_address_may_be_a_link() {
    let ground = tempfile::tempdir().unwrap();
    fs::create_dir(ground.path().join("store")).unwrap();
    symlink("store", ground.path().join("link")).unwrap();
    let mut host = owner(&uri(&ground.path().join("link")));
    host.submit(&[task("foo", 1)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [1]);
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
}

/// What was there before root came may have been brought from anywhere.
#[test]
fn only_what_root_has_made_is_given_away() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let foo = ground.make("store/foo");
    fs::rename(ground.victim(), foo.join(".lock")).unwrap();
    let mut root = owner(&uri(&ground.at("store")));
    root.submit(&[task("foo", 1)]).unwrap();
    assert_eq!(fs::metadata(foo.join(".lock")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(foo.join("1")).unwrap().uid(), NOBODY);
}

/// As systems are hardened: nobody else may read what root makes. What it held comes back all the same.
#[test]
fn tasks_of_roots_killed_host_come_back() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let store = ground.at("store");
    let address = format!("filesys:{}", store.display());
    owner(&uri(&store)).submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let child = |name: &str, umask: &str, uid: u32| {
        let mut child = Command::new("sh");
        child.args(["-c", "umask $0; exec \"$@\"", umask]).arg(std::env::current_exe().unwrap());
        child.args([name, "--exact", "--nocapture"]).uid(uid).gid(uid).stdout(Stdio::piped());
        child
    };
    let mut doomed = child("contract::doomed_owner", "077", 0)
        .env("REX_CONTRACT_DOOMED", &address)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(doomed.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("claimed 2")), "it claims");
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    for file in fs::read_dir(store.join(".rex/owners")).unwrap().flatten() {
        assert_eq!(file.metadata().unwrap().mode() & 0o444, 0o444, "{file:?}");
    }
    let rescue = child("root::rescuer", "022", NOBODY).env(RESCUED, &address).output();
    let rescue = String::from_utf8(rescue.unwrap().stdout).unwrap();
    assert!(rescue.contains("rescued 2"), "{rescue}");
}

const RESCUED: &str = "REX_TEST_RESCUED";

/// Not a test of its own: the other user's host.
#[test]
fn rescuer() {
    let Ok(uri) = std::env::var(RESCUED) else { return };
    let mut host = owner(&Uri::parse(&uri).unwrap());
    println!("rescued {}", host.rescue().unwrap());
}

/// Lines that were logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let mut add = |_: &Field, value: &dyn Debug| {
            self.0.lock().unwrap().push(format!("{value:?}"));
        };
        event.record(&mut add);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A link here; it might be a file of somebody else, which only its owner may read.
#[test]
fn a_host_of_which_nothing_can_be_told_is_said_once() {
    let store = tempfile::tempdir().unwrap();
    let mut silent = owner(&uri(store.path()));
    silent.submit(&[task("foo", 1)]).unwrap();
    silent.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let mut files = fs::read_dir(store.path().join(".rex/owners")).unwrap();
    let its = files.next().unwrap().unwrap().path();
    drop(silent);
    fs::remove_file(&its).unwrap();
    symlink("elsewhere", &its).unwrap();
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let mut host = owner(&uri(store.path()));
        assert_eq!((host.rescue().unwrap(), host.rescue().unwrap()), (0, 0));
        let lines = log.0.lock().unwrap().join("\n");
        let said = format!("the host of {} lives, so its tasks are not given back", its.display());
        assert_eq!(lines.matches(&said).count(), 1, "{lines}");
        fs::remove_file(&its).unwrap();
        assert_eq!(host.rescue().unwrap(), 1);
    });
}

/// Where everybody may make queues, hosts of all work beside each other, whoever comes first.
#[test]
fn what_root_makes_in_a_directory_for_all_is_for_all() {
    if !is_root() {
        return;
    }
    for (mode, gid) in [(0o1777, 0), (0o2770, NOBODY)] {
        let ground = Ground::new();
        let store = ground.at("open");
        fs::create_dir(&store).unwrap();
        chown(&store, Some(0), Some(gid)).unwrap();
        fs::set_permissions(&store, PermissionsExt::from_mode(mode)).unwrap();
        ground.make("open/foo");
        let mut root = owner(&uri(&store));
        root.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
        root.pause(&queue("foo"), true).unwrap();
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["root::worker", "--exact", "--nocapture"])
            .env(WORKED, format!("filesys:{}", store.display()))
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap();
        let worked = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            worked.contains("worked 2"),
            "{mode:o}: {worked}{}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert_eq!(root.poll(&queue("foo")).unwrap(), 0);
    }
    // Elsewhere nobody else may look into it.
    let ground = Ground::new();
    owner(&uri(&ground.at("store"))).submit(&[task("foo", 1)]).unwrap();
    let mode = |name: &str| fs::metadata(ground.at(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("store/.rex"), mode("store/.rex/queues")), (0o700, 0o700));
}

const WORKED: &str = "REX_TEST_WORKED";

/// Not a test of its own: the other user's host.
#[test]
fn worker() {
    let Ok(uri) = std::env::var(WORKED) else { return };
    let mut host = owner(&Uri::parse(&uri).unwrap());
    host.pause(&queue("foo"), false).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    println!("worked {}", claim.tasks.len());
    host.close().unwrap();
}
