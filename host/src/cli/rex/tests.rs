//! Whole command lines: what is printed where, the exit code, and what reaches the host.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;

struct Ran {
    code: u8,
    out: String,
    err: String,
    call: Option<Call>,
}

fn rex(line: &[&str], environment: &[(&str, &str)]) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("alone.yaml"), "debug: true").unwrap();
    let surroundings = Sources {
        environment: environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        cwd: dir.path().to_path_buf(),
        settings_dirs: vec![
            PathBuf::from("."),
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../settings"),
        ],
        ..Sources::default()
    };
    let words: Vec<String> = [&["/bin/rex"], line].concat().iter().map(|s| (*s).into()).collect();
    let (mut out, mut err, mut call) = (Vec::new(), Vec::new(), None);
    let code = main(
        &words,
        surroundings,
        &mut out,
        &mut err,
        |given| {
            let settings = given.application.settings(Some(&["demo_foo_worker".into()]))?;
            if settings.transport.as_deref() == Some("broken") {
                return Err("no way to pgsql://me:s3cret@host".into());
            }
            call = Some(given);
            Ok(7)
        },
        |_, name, arguments| Ok((name == "of-plugin").then_some(arguments.len() as u8)),
        |_| vec![("of-plugin".to_owned(), "does something".to_owned())],
    );
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code, out: text(out), err: text(err), call }
}

#[track_caller]
fn fails(line: &[&str], expect: &str) {
    let ran = rex(line, &[]);
    let expect = format!("FATAL ERROR: {expect}\n\n");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, "", expect.as_str()));
}

#[test]
fn help_goes_to_standard_output() {
    let ran = rex(&[], &[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with("Rex - Command-line") && ran.out.ends_with("task or setting.\n"));
    let ran = rex(&["help", "asynctask-workers"], &[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with("ASYNCTASK-WORKERS - ") && ran.out.ends_with("queue.\n\n"));
    assert!(rex(&["help"], &[]).out.contains("\nAvailable tasks:\n"));
    for word in ["nothing", "No_thing", "@"] {
        fails(&[word], &format!("unknown task {word}"));
    }
    fails(&["@a", "@b"], "unknown task @b");
    assert_eq!(rex(&["Of_Plugin", "a", "--quiet", "b"], &[]).code, 2);
    fails(&["help", "nope"], "unknown help topic nope");
    fails(&["help", "a", "b"], "too many arguments for task help");
}

#[test]
fn a_call_brings_what_was_asked_for() {
    let line = [
        "asynctask_workers",
        "rex.asynctask_demo",
        "--halt_when_empty",
        "--set=asynctask_workers={\"foo\": null}",
        "--state=/s",
        "--plugins",
        "/p",
        "-q",
    ];
    let ran = rex(&line, &[("REX_NAME", "two"), ("REX_BOGUS", "1")]);
    assert_eq!(ran.err, "WARNING: unknown setting REX_BOGUS in the environment\n");
    assert_eq!((ran.code, ran.out.as_str()), (7, ""));
    let call = ran.call.unwrap();
    assert!(call.quiet && call.halt_when_empty && !call.scheduler);
    assert_eq!(call.globals.state.as_deref(), Some(Path::new("/s")));
    assert_eq!(call.globals.plugins.as_deref(), Some(Path::new("/p")));
    assert_eq!(call.name.as_deref(), Some("two"));
    assert_eq!(call.application.parameters["asynctask_workers"], json!("{\"foo\": null}"));

    let ran = rex(
        &["@three", "asynctask-workers", "--scheduler", "--quiet"],
        &[("THREE_PROJECT", "rex.asynctask"), ("REX_PROJECT", "nothing")],
    );
    let call = ran.call.unwrap();
    assert!(call.quiet && call.scheduler);
    assert_eq!(call.name.as_deref(), Some("three"));
    assert_eq!(call.application.requirements, ["rex.asynctask"]);
}

#[test]
fn failures_are_fatal_errors_with_an_empty_line() {
    fails(&["undefined"], "unknown task undefined");
    fails(&["asynctask-workers"], "application is not specified");
    fails(&["asynctask-workers", "-"], "application is not specified");
    fails(
        &["asynctask-workers", "alone"],
        "package rex.asynctask must be included with the application",
    );
    fails(
        &["asynctask-workers", "rex.asynctask", "--parameters", "{[]}"],
        "invalid value for setting --parameters: \nExpected a JSON object\nGot:\n    '{[]}'",
    );
    fails(
        &["asynctask-workers", "--config", "nofile.yaml"],
        "specified configuration file nofile.yaml does not exist",
    );
    fails(
        &["asynctask-workers", "rex.asynctask", "--set", "asynctask_workers_poll_interval=0"],
        "Expected an integer in range:\n    [1..]\nGot:\n    '0'\nWhile validating setting:\n    \
         asynctask_workers_poll_interval\nWhile initializing RexDB application:\n    \
         rex.asynctask\nWith parameters:\n    asynctask_workers_poll_interval: '0'",
    );
    fails(
        &["asynctask-workers", "rex.asynctask", "--set", "asynctask_transport=broken"],
        "no way to pgsql://me:***@host",
    );
    let alone = rex(&["asynctask-workers", "alone", "--require=rex.asynctask"], &[]);
    assert_eq!(alone.code, 7);
}
