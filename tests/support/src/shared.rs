//! Reference data that lies outside the repository: `$REX_SHARED`, or `shared` beside the
//! repository. It may be absent; then a test says `NOT RUN` and stops.

mod app;
mod structure;

use std::path::PathBuf;

pub use app::load_app;
pub use structure::{STRUCTURE, plain};

use crate::env;

/// The path of `name` within the shared folder; `None`, with a line that says so, where it is not.
#[expect(clippy::print_stdout, reason = "a test's own announcement")]
pub fn shared_file(name: &str) -> Option<PathBuf> {
    let root = env::shared();
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    println!("NOT RUN: `{name}` is not in `{}` (see REX_SHARED)", root.display());
    None
}
