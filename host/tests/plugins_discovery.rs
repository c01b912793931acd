//! What a directory of plugins may hold, and what becomes of it: each good file is served, each bad
//! one is refused in one clear line.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rex_host::plugins::{Catalog, DirError, Finder, Refusal, new_refusals};
use rex_test_support::env::set_mode;
use rex_test_support::plugins::{Chameleon, chameleon, manifest};
use rex_test_support::process::wait_for;
use tempfile::TempDir;

/// A plugin directory and a state directory.
struct Fixture {
    folder: TempDir,
    finder: Finder,
}

impl Fixture {
    fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("plugins")).unwrap();
        let finder = Finder::new(&rex_host()).with_copies(&folder.path().join("state")).unwrap();
        Fixture { folder, finder }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    fn put(&self, name: &str, plugin: &Chameleon) -> PathBuf {
        plugin.install(&self.dir().join(name))
    }

    fn discover(&self) -> Catalog {
        self.finder.discover(&self.dir(), None).unwrap()
    }

    fn again(&self, previous: &Catalog) -> Catalog {
        self.finder.discover(&self.dir(), Some(previous)).unwrap()
    }

    /// How the only file of the directory is refused.
    #[track_caller]
    fn refusal(&self) -> Refusal {
        let mut catalog = self.discover();
        assert_eq!((catalog.plugins.len(), catalog.refusals.len()), (0, 1), "{catalog:?}");
        catalog.refusals.remove(0)
    }
}

fn rex_host() -> PathBuf {
    env!("CARGO_BIN_EXE_rex-host").into()
}

/// How this plugin is refused, when it is the only one.
#[track_caller]
fn refusal_of(plugin: &Chameleon) -> String {
    let fixture = Fixture::new();
    fixture.put("p.so", plugin);
    let refusal = fixture.refusal();
    let text = refusal.reason.to_string();
    assert!(!text.contains('\n') && !text.is_empty(), "{text:?}");
    assert_eq!(refusal.path, fixture.dir().join("p.so"));
    text
}

fn names(catalog: &Catalog) -> Vec<String> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    catalog.plugins.iter().map(|plugin| name(&plugin.path)).collect()
}

#[test]
fn good_plugins_are_copied_and_described() {
    let fixture = Fixture::new();
    fixture.put("one.so", &chameleon().workers("one", &["b", "a"]));
    fixture.put("two.so", &chameleon().workers("two", &["c"]));
    fixture.put(".three.so", &chameleon().workers("three", &["d"]));
    fs::write(fixture.dir().join("README"), "no plugin, and no harm").unwrap();

    let catalog = fixture.discover();
    assert_eq!(names(&catalog), ["one.so", "two.so"]);
    assert!(catalog.refusals.is_empty(), "{:?}", catalog.refusals);
    assert_eq!(catalog.worker_names(), ["b", "a", "c"]);
    let (plugin, worker) = catalog.worker("a").unwrap();
    assert_eq!((plugin.manifest.name.as_str(), worker.name.as_str()), ("one", "a"));
    assert!(catalog.worker("d").is_none());

    assert_eq!(
        plugin.copy,
        fixture.folder.path().join(format!("state/plugins/{}.so", plugin.hash))
    );
    assert_eq!(fs::read(&plugin.copy).unwrap(), fs::read(&plugin.path).unwrap());
    assert_eq!(fs::metadata(&plugin.copy).unwrap().permissions().mode() & 0o7777, 0o444);
}

#[test]
fn a_refused_file_disturbs_no_other() {
    let fixture = Fixture::new();
    fixture.put("good.so", &chameleon());
    fixture.put("crash.so", &chameleon().act("segfault"));
    fs::write(fixture.dir().join("text.so"), "hello").unwrap();
    let catalog = fixture.discover();
    assert_eq!(names(&catalog), ["good.so"]);
    assert_eq!(catalog.refusals.len(), 2);
}

#[test]
fn files_that_are_no_plugin() {
    let write = |bytes: &[u8]| {
        let fixture = Fixture::new();
        fs::write(fixture.dir().join("p.so"), bytes).unwrap();
        set_mode(&fixture.dir().join("p.so"), 0o644);
        fixture.refusal().reason.to_string()
    };
    assert_eq!(write(b""), "is an empty file");
    assert_eq!(write(b"#!/bin/sh\n"), "is no shared library (not an ELF file)");
    let program = fs::read("/proc/self/exe").unwrap();
    let refused = write(&program);
    assert!(
        refused.starts_with("is no rex-host plugin") || refused.contains("loaded"),
        "{refused}"
    );

    let other_symbol = chameleon().replace("rex_plugin_v1", "rex_plugin_v9");
    assert_eq!(
        refusal_of(&other_symbol),
        "is no rex-host plugin: it does not export `rex_plugin_v1`"
    );

    let fixture = Fixture::new();
    fs::create_dir(fixture.dir().join("p.so")).unwrap();
    assert_eq!(fixture.refusal().reason.text, "is no regular file");

    let fixture = Fixture::new();
    let elsewhere = chameleon().install(&fixture.folder.path().join("p.so"));
    symlink(elsewhere, fixture.dir().join("p.so")).unwrap();
    assert_eq!(fixture.refusal().reason.text, "is a symbolic link");
}

#[test]
fn plugins_for_another_abi() {
    let cases = [
        (
            chameleon().replace("abi stable library", "abi-stable library"),
            "is built for another ABI: `rex_plugin_v1` is not what abi_stable exports",
        ),
        (
            chameleon().replace("attach;", "detach;"),
            "is built for another plugin ABI: unexpected field (expected field_name:attach, \
             found field_name:detach)",
        ),
        (
            chameleon().replace("rex-plugin-api;1.0.0", "rex-plugin-api;2.0.0"),
            "is built for another plugin ABI: incompatible package versions (expected 1.0.0, \
             found 2.0.0)",
        ),
    ];
    for (plugin, expected) in cases {
        assert_eq!(refusal_of(&plugin), expected);
    }
}

#[test]
fn half_copied_files() {
    let whole = chameleon().len();
    for length in [40, 64, 4096, whole / 2, whole - 1] {
        let text = refusal_of(&chameleon().cut(length));
        assert_eq!(text, format!("is incomplete: it ends after {length} bytes"));
    }
}

/// As README says to install one: `mv` touches the file that was there, which may be read just now.
#[test]
fn a_file_that_another_takes_the_place_of_is_no_refusal() {
    let fixture = Fixture::new();
    let path = fixture.put("p.so", &chameleon().workers("p", &["old"]));
    let beside = fixture.put("p.part", &chameleon().workers("p", &["new"]));
    let is_open = || {
        let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
        files.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|to| to == path))
    };
    let catalog = std::thread::scope(|scope| {
        let discovery = scope.spawn(|| fixture.discover());
        wait_for("the file to be read", is_open);
        fs::rename(&beside, &path).unwrap();
        discovery.join().unwrap()
    });
    assert!(catalog.refusals.is_empty(), "{catalog:?}");
    assert_eq!(catalog.worker_names(), ["new"]);
}

#[test]
fn deaths_while_loading() {
    let cases = [
        ("segfault", "crashed while loading: signal 11 (SIGSEGV)"),
        ("abort", "crashed while loading: signal 6 (SIGABRT)"),
        ("exit 0", "ended its process while loading: exit code 0"),
        (
            "exit 3",
            "ended its process while loading: exit code 3; the last line it printed: cannot find \
             my licence",
        ),
    ];
    for (act, expected) in cases {
        assert_eq!(refusal_of(&chameleon().act(act)), expected);
    }
}

#[test]
fn a_panic_while_loading_is_quoted() {
    let text = refusal_of(&chameleon().claim(&serde_json::json!("no manifest")));
    assert!(text.starts_with("crashed while loading: signal 6 (SIGABRT); thread "), "{text}");
    assert!(text.contains("chameleon/src/lib.rs:"), "{text}");
    assert!(text.contains("the claim is a manifest: "), "{text}");
}

#[test]
fn a_plugin_that_hangs_is_stopped_with_all_that_it_started() {
    let mut fixture = Fixture::new();
    fixture.finder.prober = fixture.finder.prober.limit(Duration::from_secs(2));
    fixture.put("p.so", &chameleon().act("spawn"));
    let start = Instant::now();
    let refusal = fixture.refusal();
    assert!(start.elapsed() >= Duration::from_secs(2));
    let text = refusal.reason.text;
    assert!(text.starts_with("was stopped: it was still loading after 2s"), "{text}");
    // It printed the number of the `sleep` that it started.
    let pid = text.rsplit(' ').next().unwrap();
    let stat = PathBuf::from(format!("/proc/{pid}/stat"));
    wait_for("the end of the plugin's child", || {
        fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn a_host_that_is_killed_while_it_probes_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let path = fixture.put("p.so", &chameleon().act("spawn"));
    let mut host = Command::new(rex_host())
        .args(["plugin", "check"])
        .arg(&path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The probe and its child, by the plugin that they were told of and by their parent.
    let children = |pid: u32| -> Vec<u32> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_child = |child: &u32| {
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            let after_name = stat.rsplit(") ").next().unwrap_or_default();
            after_name.split(' ').nth(1) == Some(&pid.to_string())
        };
        pids.filter(is_child).collect()
    };
    let mut found = Vec::new();
    wait_for("the probe's child", || {
        let probes = children(host.id());
        found = probes.iter().flat_map(|probe| children(*probe)).chain(probes.clone()).collect();
        found.len() == 2
    });
    host.kill().unwrap();
    host.wait().unwrap();
    for pid in found {
        let stat = PathBuf::from(format!("/proc/{pid}/stat"));
        wait_for("its end", || {
            fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
        });
    }
}

#[test]
fn what_a_plugin_prints_is_not_taken_for_its_answer() {
    let fixture = Fixture::new();
    fixture.put("p.so", &chameleon().act("print"));
    let catalog = fixture.discover();
    assert_eq!(catalog.worker_names(), ["chameleon_worker"], "{catalog:?}");

    let mut fixture = Fixture::new();
    fixture.finder.prober = fixture.finder.prober.limit(Duration::from_secs(1));
    fixture.put("p.so", &chameleon().act("flood"));
    let text = fixture.refusal().reason.text;
    assert!(text.starts_with("was stopped: it was still loading after 1s"), "{text}");
}

#[test]
fn plugins_that_lie() {
    let twice = manifest("liar", &["w", "w"]);
    let cases = [
        (twice, "it exports the worker `w` twice"),
        (manifest("liar", &[]), "it exports no worker, no command and no executor"),
        (manifest("liar", &["two words"]), "`two words` is no worker name"),
        (manifest("liar", &["../../etc"]), "`../../etc` is no worker name"),
        (manifest("", &["w"]), "its name is empty"),
        (manifest("a\nERROR:Host:forged", &["w"]), "its name holds control characters"),
    ];
    for (claim, expected) in cases {
        let text = refusal_of(&chameleon().claim(&claim));
        assert!(text.starts_with("describes itself wrongly: "), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn two_plugins_with_the_same_worker() {
    let fixture = Fixture::new();
    let b = fixture.put("b.so", &chameleon().workers("b", &["shared", "only_b"]));
    let first = fixture.discover();
    assert_eq!(names(&first), ["b.so"]);

    // The one in service stays, though the other comes first by name.
    let a = fixture.put("a.so", &chameleon().workers("a", &["only_a", "shared"]));
    let second = fixture.again(&first);
    assert_eq!(names(&second), ["b.so"]);
    let refusal = &second.refusals[0];
    assert_eq!(refusal.path, a);
    assert_eq!(
        refusal.reason.text,
        format!("exports the worker `shared`, which {} exports too and keeps", b.display())
    );
    assert_eq!(new_refusals(&first, &second).len(), 1);
    assert_eq!(new_refusals(&second, &fixture.again(&second)).len(), 0);

    // It also stays when it is replaced, or renamed.
    fixture.put("b.so", &chameleon().workers("b2", &["shared"]));
    assert_eq!(names(&fixture.again(&second)), ["b.so"]);
    fs::rename(&b, fixture.dir().join("z.so")).unwrap();
    let third = fixture.again(&fixture.again(&second));
    assert_eq!(names(&third).len(), 1);

    // Nothing is in service: the first by name.
    assert_eq!(names(&fixture.discover()), ["a.so"]);
    // The one that kept the worker is gone: the other's turn.
    fs::remove_file(fixture.dir().join("z.so")).unwrap();
    assert_eq!(names(&fixture.again(&third)), ["a.so"]);
}

#[test]
fn a_restart_does_not_change_who_keeps_a_worker() {
    let fixture = Fixture::new();
    fixture.put("b.so", &chameleon().workers("b", &["shared"]));
    let first = fixture.discover();
    fixture.finder.note_in_service(&first).unwrap();
    fixture.put("a.so", &chameleon().workers("a", &["shared"]));
    // What a host that starts anew finds.
    let finder = Finder::new(&rex_host()).with_copies(&fixture.folder.path().join("state"));
    let second = finder.unwrap().discover(&fixture.dir(), None).unwrap();
    assert_eq!(names(&second), ["b.so"]);
    fixture.finder.note_in_service(&Catalog::default()).unwrap();
    assert_eq!(names(&fixture.discover()), ["a.so"]);
}

#[test]
fn the_same_file_twice() {
    let fixture = Fixture::new();
    let a = fixture.put("a.so", &chameleon());
    fixture.put("b.so", &chameleon());
    let catalog = fixture.discover();
    assert_eq!(names(&catalog), ["a.so"]);
    assert_eq!(catalog.refusals[0].reason.text, format!("has the same content as {}", a.display()));
}

#[test]
fn an_unchanged_file_is_not_loaded_again() {
    let fixture = Fixture::new();
    fixture.put("good.so", &chameleon());
    fixture.put("bad.so", &chameleon().act("segfault"));
    let first = fixture.discover();

    // This finder cannot load anything: what it tells it did not find out itself.
    let mut blind = fixture.finder.clone();
    blind.prober = rex_host::plugins::probe::Prober::new("/nonexistent");
    let second = blind.discover(&fixture.dir(), Some(&first)).unwrap();
    assert_eq!(names(&second), ["good.so"]);
    assert!(new_refusals(&first, &second).is_empty(), "{:?}", second.refusals);

    fixture.put("new.so", &chameleon().workers("new", &["new"]));
    let third = blind.discover(&fixture.dir(), Some(&second)).unwrap();
    let new = new_refusals(&second, &third);
    assert_eq!(new.len(), 1);
    assert!(new[0].reason.text.starts_with("cannot be checked: "), "{}", new[0].reason);
    // A refusal is not kept.
    assert_eq!(names(&fixture.again(&third)), ["good.so", "new.so"]);
}

#[test]
fn a_refused_file_that_changes_is_a_new_refusal() {
    let fixture = Fixture::new();
    fixture.put("p.so", &chameleon().act("segfault"));
    let first = fixture.discover();
    assert_eq!(new_refusals(&Catalog::default(), &first).len(), 1);
    fixture.put("p.so", &chameleon().act("abort"));
    let second = fixture.again(&first);
    assert_eq!(new_refusals(&first, &second).len(), 1);
    fixture.put("p.so", &chameleon());
    let third = fixture.again(&second);
    assert_eq!(names(&third), ["p.so"]);
}

#[test]
fn rights_of_files_and_directories() {
    let fixture = Fixture::new();
    let path = fixture.put("p.so", &chameleon());
    set_mode(&path, 0o646);
    let reason = fixture.refusal().reason;
    assert_eq!(reason.text, "can be written to by everybody");
    assert_eq!(reason.hint.unwrap(), format!("chmod o-w {}", path.display()));
    set_mode(&path, 0o644);
    assert_eq!(names(&fixture.discover()), ["p.so"]);

    set_mode(&fixture.dir(), 0o777);
    let error = fixture.finder.discover(&fixture.dir(), None).unwrap_err();
    assert!(matches!(error, DirError::Untrusted(..)), "{error}");
    assert!(error.to_string().contains("can be written to by everybody"), "{error}");
    assert!(error.hint().unwrap().starts_with("chmod go-w /"), "{:?}", error.hint());
    set_mode(&fixture.dir(), 0o1777);
    assert_eq!(names(&fixture.discover()), ["p.so"]);

    // A parent of the directory counts too.
    set_mode(fixture.folder.path(), 0o757);
    let error = fixture.finder.discover(&fixture.dir(), None).unwrap_err();
    assert!(matches!(error, DirError::Untrusted(..)), "{error}");
}

#[test]
fn a_stranger_s_file_is_refused() {
    let fixture = Fixture::new();
    let path = fixture.put("p.so", &chameleon());
    if std::os::unix::fs::chown(&path, Some(54321), None).is_err() {
        rex_test_support::env::not_run("a_stranger_s_file_is_refused", "needs root");
        return;
    }
    let reason = fixture.refusal().reason;
    assert!(reason.text.starts_with("belongs to user 54321, whom the host does not"), "{reason}");
    assert_eq!(reason.hint.unwrap(), format!("chown root {}", path.display()));
}

#[test]
fn a_link_to_the_directory_counts_too() {
    let fixture = Fixture::new();
    fixture.put("p.so", &chameleon());
    let shared = fixture.folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let link = shared.join("link");
    symlink(fixture.dir(), &link).unwrap();
    assert_eq!(fixture.finder.discover(&link, None).unwrap().plugins.len(), 1);
    set_mode(&shared, 0o777);
    let error = fixture.finder.discover(&link, None).unwrap_err();
    assert!(matches!(error, DirError::Untrusted(..)), "{error}");
}

#[test]
fn what_the_host_s_user_cannot_read_is_refused() {
    const NOBODY: u32 = 65534;
    let fixture = Fixture::new();
    set_mode(fixture.folder.path(), 0o755);
    let path = fixture.put("p.so", &chameleon());
    set_mode(&path, 0o600);
    // A binary where that user can reach it.
    let binary = fixture.folder.path().join("rex-host");
    fs::copy(rex_host(), &binary).unwrap();
    let list = || {
        let mut command = Command::new(&binary);
        command.args(["plugin", "list", "--plugins"]).arg(fixture.dir()).current_dir("/");
        command.uid(NOBODY).output()
    };
    let Ok(output) = list() else {
        rex_test_support::env::not_run("what_the_host_s_user_cannot_read_is_refused", "needs root");
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = format!(
        "p.so: refused: cannot be read: permission denied\n  hint: chmod a+r {}\n",
        path.display()
    );
    assert!(text.ends_with(&expected), "{text}");

    set_mode(&path, 0o644);
    assert!(String::from_utf8(list().unwrap().stdout).unwrap().contains("chameleon_worker"));
    set_mode(&fixture.dir(), 0o700);
    let text = String::from_utf8(list().unwrap().stderr).unwrap();
    assert!(text.contains("cannot be read: Permission denied"), "{text}");
    assert!(text.contains(&format!("hint: chmod a+rx {}", fixture.dir().display())), "{text}");
}

#[test]
fn directories_that_are_of_no_use() {
    let fixture = Fixture::new();
    let missing = fixture.folder.path().join("missing");
    let error = fixture.finder.discover(&missing, None).unwrap_err();
    let text = format!("the plugin directory {} does not exist", missing.display());
    assert_eq!(error.to_string(), text);
    assert!(error.hint().unwrap().contains("--plugins"));

    fs::write(&missing, "").unwrap();
    let error = fixture.finder.discover(&missing, None).unwrap_err();
    assert!(matches!(error, DirError::NoDirectory(_)), "{error}");

    let error = Finder::new(&rex_host()).with_copies(&missing).unwrap_err();
    assert!(matches!(error, DirError::State(..)), "{error}");
}

#[test]
fn a_damaged_copy_is_made_anew_and_an_unused_one_goes() {
    let fixture = Fixture::new();
    fixture.put("a.so", &chameleon());
    fixture.put("b.so", &chameleon().workers("b", &["b"]));
    let first = fixture.discover();
    let copy = &first.plugins[0].copy;
    fs::remove_file(copy).unwrap();
    fs::write(copy, "damaged").unwrap();
    let second = fixture.again(&first);
    assert_eq!(fs::read(copy).unwrap(), fs::read(&second.plugins[0].path).unwrap());

    let copies = fixture.finder.copies().unwrap();
    let keep = std::iter::once(second.plugins[1].hash.clone()).collect();
    assert_eq!(copies.remove_unused(&keep).unwrap(), 0, "both were asked for just now");
    for plugin in &second.plugins {
        let old = SystemTime::now() - Duration::from_secs(3600);
        File::open(&plugin.copy).unwrap().set_modified(old).unwrap();
    }
    assert_eq!(copies.remove_unused(&keep).unwrap(), 1);
    assert!(!copy.exists() && second.plugins[1].copy.exists());
}

#[test]
fn a_running_plugin_is_not_disturbed_by_what_happens_to_the_dropped_file() {
    let fixture = Fixture::new();
    let path = fixture.put("p.so", &chameleon());
    let catalog = fixture.discover();
    fs::write(&path, "overwritten in place").unwrap();
    fs::remove_file(&path).unwrap();
    let prober = &fixture.finder.prober;
    let found = prober.probe(&catalog.plugins[0].copy).unwrap();
    assert_eq!(found, catalog.plugins[0].manifest);
}
