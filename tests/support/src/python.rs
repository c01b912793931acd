//! A Python that has the client libraries of old applications.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::env::not_run;

/// The interpreter; `None`, which is announced, when none has them.
pub fn with_clients() -> Option<PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let python = PYTHON.get_or_init(|| {
        // Debian's packages are seen by Debian's interpreter only.
        ["python3", "/usr/bin/python3"].into_iter().map(PathBuf::from).find(has_clients)
    });
    if python.is_none() {
        let why = "no Python with the packages redis, kombu, psycopg2 and filelock is installed";
        not_run("interop", why);
    }
    python.clone()
}

fn has_clients(python: &PathBuf) -> bool {
    let import = "import redis, kombu, psycopg2, filelock";
    Command::new(python).args(["-c", import]).output().is_ok_and(|done| done.status.success())
}
