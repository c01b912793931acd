//! Plugins for tests: where cargo put the fixtures' libraries, and variants of the chameleon.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::env::set_mode;

/// The library of a fixture crate that is a dev-dependency of the running test.
///
/// # Panics
/// When cargo did not build it.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let deps = test.parent().expect("it is in a folder");
    let library = deps.join(format!("lib{name}.so"));
    assert!(
        library.exists(),
        "{} is not there: is the fixture a dev-dependency, of type cdylib and rlib?",
        library.display()
    );
    library
}

/// The chameleon (`tests/plugins/chameleon`), made into the plugin that a test needs by overwriting
/// bytes of its library.
pub struct Chameleon {
    library: Vec<u8>,
}

/// An honest plugin with one worker, `chameleon_worker`.
///
/// # Panics
/// When cargo did not build it.
pub fn chameleon() -> Chameleon {
    let library = std::fs::read(built("chameleon")).expect("it was built");
    Chameleon { library }
}

impl Chameleon {
    /// Has it claim this manifest.
    ///
    /// # Panics
    /// When the slot is too small.
    #[must_use]
    pub fn claim(self, manifest: &Value) -> Chameleon {
        self.fill("REX-SLOT-CLAIM:", &manifest.to_string(), 2048)
    }

    /// Has it claim these workers, as an honest plugin of this name.
    ///
    /// # Panics
    /// When the slot is too small.
    #[must_use]
    pub fn workers(self, name: &str, workers: &[&str]) -> Chameleon {
        self.claim(&manifest(name, workers))
    }

    /// Has it do this when it is loaded.
    ///
    /// # Panics
    /// When the slot is too small.
    #[must_use]
    pub fn act(self, what: &str) -> Chameleon {
        self.fill("REX-SLOT-ACT:", what, 64)
    }

    fn fill(mut self, marker: &str, text: &str, size: usize) -> Chameleon {
        let room = size - marker.len();
        assert!(text.len() < room, "{} bytes do not fit the slot {marker}", text.len());
        let at = self.find(marker) + marker.len();
        self.library[at..at + room].fill(0);
        self.library[at..at + text.len()].copy_from_slice(text.as_bytes());
        self
    }

    /// Overwrites each occurrence of some bytes.
    ///
    /// # Panics
    /// When there is none, or the lengths differ.
    #[must_use]
    pub fn replace(mut self, from: &str, to: &str) -> Chameleon {
        assert_eq!(from.len(), to.len(), "a library's bytes keep their places");
        let _ = self.find(from);
        let places: Vec<usize> = self.places(from).collect();
        for at in places {
            self.library[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        self
    }

    /// Keeps only the first part of the library.
    ///
    /// # Panics
    /// When it is not longer than that.
    #[must_use]
    pub fn cut(mut self, length: usize) -> Chameleon {
        assert!(length < self.library.len(), "nothing to cut off");
        self.library.truncate(length);
        self
    }

    pub fn len(&self) -> usize {
        self.library.len()
    }

    pub fn is_empty(&self) -> bool {
        self.library.is_empty()
    }

    fn places(&self, bytes: &str) -> impl Iterator<Item = usize> {
        let windows = self.library.windows(bytes.len()).enumerate();
        windows.filter(|(_, window)| *window == bytes.as_bytes()).map(|(at, _)| at)
    }

    fn find(&self, bytes: &str) -> usize {
        self.places(bytes).next().unwrap_or_else(|| panic!("the library has no `{bytes}`"))
    }

    /// Puts it there as an installer would: complete, then renamed.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn install(&self, path: &Path) -> PathBuf {
        let part = path.with_extension("part");
        std::fs::write(&part, &self.library).expect("the folder is ours");
        set_mode(&part, 0o644);
        std::fs::rename(&part, path).expect("the folder is ours");
        path.to_owned()
    }
}

/// What an honest plugin says of itself.
pub fn manifest(name: &str, workers: &[&str]) -> Value {
    let workers: Vec<Value> = workers
        .iter()
        .map(|worker| serde_json::json!({"name": worker, "logger": "Chameleon"}))
        .collect();
    serde_json::json!({
        "name": name,
        "version": "0.1.0",
        "api": {"major": 1, "minor": 0},
        "needs": [],
        "unwinds": true,
        "workers": workers,
    })
}
