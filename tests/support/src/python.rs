//! A Python that has the client libraries of old applications, made once below the target directory.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::env::{not_run, target_dir};

const CLIENTS: [&str; 3] = ["redis", "kombu", "filelock"];

/// The interpreter; `None`, which is announced, when it cannot be had.
pub fn with_clients() -> Option<PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let python = PYTHON.get_or_init(find).clone();
    if python.is_none() {
        not_run("interop", "Python's redis, kombu and filelock are not there and not installable");
    }
    python
}

fn find() -> Option<PathBuf> {
    let folder = target_dir().join("python-clients");
    let ours = folder.join("bin/python");
    if let Some(ready) = [PathBuf::from("python3"), ours.clone()].into_iter().find(has_clients) {
        return Some(ready);
    }
    let run = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|done| done.status.success())
    };
    let pip = folder.join("bin/pip").display().to_string();
    let mut install = vec!["install", "--quiet", "--disable-pip-version-check"];
    install.extend(CLIENTS);
    let made = run("python3", &["-m", "venv", &folder.display().to_string()])
        && run(&pip, &install)
        && has_clients(&ours);
    made.then_some(ours)
}

fn has_clients(python: &PathBuf) -> bool {
    let import = format!("import {}", CLIENTS.join(", "));
    Command::new(python).args(["-c", &import]).output().is_ok_and(|done| done.status.success())
}
