//! Reference data that lies outside the repository: `$REX_SHARED`, or `shared` beside the
//! repository. It may be absent; then a test says `NOT RUN` and stops.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::server::{ServerError, binary};

/// The path of `name` within the shared folder; `None`, with a line that says so, where it is not.
#[expect(clippy::print_stdout, reason = "a test's own announcement")]
pub fn shared_file(name: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("REX_SHARED") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
    };
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    println!("NOT RUN: `{name}` is not in `{}` (see REX_SHARED)", root.display());
    None
}

/// Runs a dump through `psql` on the database at `uri`, stopping at its first error.
///
/// # Errors
/// `psql` is absent, or its messages where it failed.
pub fn load_sql(uri: &str, file: &Path) -> Result<(), ServerError> {
    let output = Command::new(binary("psql"))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", uri, "-f"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|source| ServerError::Start { what: "psql", source })?;
    if output.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(ServerError::Failed { what: "psql", messages })
}
