//! `plugin list`, `plugin check` and `plugin new`, as people run them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rex_test_support::env::{repository, target_dir};
use rex_test_support::plugins::chameleon;
use rex_test_support::process::{Done, run, run_within};
use serde_json::json;
use tempfile::TempDir;

fn rex_host(folder: &Path, args: &[&str]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rex-host"));
    run(
        {
            command.current_dir(folder).args(args);
            command
        },
        "",
    )
}

/// A folder with a directory `plugins` that holds a good plugin and two bad ones.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("plugins");
    fs::create_dir(&dir).unwrap();
    chameleon().workers("good", &["one", "two"]).install(&dir.join("good.so"));
    chameleon().act("segfault").install(&dir.join("bad.so"));
    fs::write(dir.join("text.so"), "text").unwrap();
    folder
}

#[test]
fn list_shows_plugins_and_refusals() {
    let folder = folder();
    let text = rex_host(folder.path(), &["plugin", "list", "--plugins", "plugins"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "FILE     NAME  VERSION  API  HASH          EXPORTS");
    assert!(lines[1].starts_with("good.so  good  0.1.0    1.0  "), "{text}");
    assert!(lines[1].ends_with("  workers one two"), "{text}");
    assert_eq!(lines[2], "bad.so: refused: crashed while loading: signal 11 (SIGSEGV)");
    assert_eq!(lines[3], "text.so: refused: is no shared library (not an ELF file)");
    assert_eq!(lines.len(), 4);
    // Looking leaves nothing behind.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_name_that_is_no_line_is_shown_as_one() {
    let folder = folder();
    let dir = folder.path().join("plugins");
    fs::write(dir.join("bad\n\u{1b}[31m.so"), "text").unwrap();
    chameleon().workers("odd", &["odd"]).install(&dir.join("odd\nname.so"));
    let text = rex_host(folder.path(), &["plugin", "list", "--plugins", "plugins"]).ok();
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(text.contains(r"bad\n\u{1b}[31m.so: refused: is no shared library"), "{text}");
    assert!(text.contains(r"odd\nname.so  odd "), "{text}");
}

#[test]
fn list_as_json() {
    let folder = folder();
    let lines =
        rex_host(folder.path(), &["plugin", "list", "--json", "--plugins", "plugins"]).json_lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["workers"], json!(["one", "two"]));
    assert_eq!(lines[0]["api"], "1.0");
    assert_eq!(lines[0]["hash"].as_str().unwrap().len(), 64);
    assert_eq!(lines[1]["refused"], "crashed while loading: signal 11 (SIGSEGV)");
}

#[test]
fn list_of_a_missing_directory() {
    let folder = tempfile::tempdir().unwrap();
    let text = rex_host(folder.path(), &["plugin", "list", "--plugins", "nowhere"]).fails(1);
    let path = folder.path().join("nowhere");
    assert!(text.starts_with(&format!("error: the plugin directory {}", path.display())), "{text}");
    assert!(text.contains("\nhint: "), "{text}");
}

#[test]
fn check_says_what_is_wrong() {
    let folder = folder();
    let dir = folder.path().join("plugins");
    // A bare name is the file in the current directory, not one that the linker knows.
    let text = rex_host(&dir, &["plugin", "check", "good.so"]).ok();
    assert_eq!(text, "good.so: good: good 0.1.0, plugin API 1.0, workers one two\n");

    let done = rex_host(&dir, &["plugin", "check", "good.so", "bad.so", "missing.so"]);
    assert_eq!(done.status.code(), Some(1), "{done}");
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines[0], "good.so: good: good 0.1.0, plugin API 1.0, workers one two");
    assert_eq!(lines[1], "bad.so: refused: crashed while loading: signal 11 (SIGSEGV)");
    assert_eq!(lines[2], "missing.so: refused: does not exist");
}

#[test]
fn new_refuses_bad_names_and_existing_directories() {
    let folder = tempfile::tempdir().unwrap();
    let sdk = repository().join("plugin-api");
    let sdk = sdk.to_str().unwrap();
    for name in ["1st", "two words", "../up", "match", ""] {
        let text = rex_host(folder.path(), &["plugin", "new", name, "--sdk", sdk]).fails(1);
        assert!(
            text.starts_with(&format!("error: `{name}` is no name for a plugin\nhint: ")),
            "{text}"
        );
    }
    fs::create_dir(folder.path().join("taken")).unwrap();
    let text = rex_host(folder.path(), &["plugin", "new", "taken", "--sdk", sdk]).fails(1);
    assert!(text.contains("taken exists already"), "{text}");
    let text = rex_host(folder.path(), &["plugin", "new", "fresh", "--sdk", "."]).fails(1);
    assert!(text.contains("is no plugin SDK"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_new_plugin_builds_is_tested_and_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    // As `dist/sdk` is: outside of any workspace.
    let sdk = folder.path().join("sdk here");
    copy(&repository().join("plugin-api"), &sdk);
    let text = rex_host(folder.path(), &["plugin", "new", "hello", "--sdk", "sdk here"]).ok();
    assert!(text.contains("a plugin with the worker hello_worker"), "{text}");

    let crate_dir = folder.path().join("hello");
    // The versions of the repository are there; others would have to be fetched.
    fs::copy(repository().join("Cargo.lock"), crate_dir.join("Cargo.lock")).unwrap();
    let built = target_dir().join("new");
    let cargo = |what: &str| {
        let mut command = Command::new("cargo");
        command.arg(what).current_dir(&crate_dir).env("CARGO_TARGET_DIR", &built);
        run_within(Duration::from_secs(900), command, "").ok()
    };
    assert!(cargo("test").contains("2 passed"));
    cargo("build");
    let library = built.join("debug/libhello.so");
    let text = rex_host(folder.path(), &["plugin", "check", library.to_str().unwrap()]).ok();
    assert!(
        text.ends_with(": good: hello 0.1.0, plugin API 1.5, workers hello_worker\n"),
        "{text}"
    );
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
