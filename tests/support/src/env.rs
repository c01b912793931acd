//! A scratch environment for one test: a folder of its own, an emptied environment, a state
//! directory, and the built tree's programs.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{self, Done, Running};

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The built tree: `REX_DIST`, or one that is built now with the test's own cargo profile.
pub fn dist() -> &'static Path {
    static DIST: OnceLock<PathBuf> = OnceLock::new();
    DIST.get_or_init(|| match std::env::var_os("REX_DIST") {
        Some(dist) => PathBuf::from(dist),
        None => {
            let dist = target_dir().join("dist-for-tests");
            let mut command = Command::new(repository().join("tests/dist"));
            command.env("DIST", &dist).env("PROFILE", "dev").env("CARGO_TARGET_DIR", target_dir());
            let status = command.status().expect("tests/dist can be run");
            assert!(status.success(), "tests/dist: {status}");
            dist
        }
    })
}

/// Where this test was built: `target` or what stands for it.
pub fn target_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    // target/debug/deps/it-0123456789abcdef
    test.ancestors().nth(3).expect("cargo builds below target").to_owned()
}

/// Data outside the repository: `REX_SHARED`, or `shared` beside it.
pub fn shared() -> PathBuf {
    std::env::var_os("REX_SHARED").map_or_else(|| repository().join("../shared"), PathBuf::from)
}

/// Announces what cannot run here; a test's output is captured, this is not.
pub fn not_run(what: &str, why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "NOT RUN: {what}: {why}");
}

/// The folder and the variables of one test.
pub struct Env {
    folder: TempDir,
    variables: RefCell<Vec<(String, String)>>,
}

impl Default for Env {
    fn default() -> Env {
        Env::new()
    }
}

/// A file where a folder belongs.
pub struct Obstacle(PathBuf);

impl Obstacle {
    /// # Panics
    /// When it is gone already.
    pub fn remove(&self) {
        std::fs::remove_file(&self.0).expect("it is there");
    }
}

impl Env {
    /// # Panics
    /// When no folder can be made.
    pub fn new() -> Env {
        let folder =
            tempfile::Builder::new().prefix("rex-it-").tempdir().expect("a scratch folder");
        for name in ["work", "home", "plugins"] {
            std::fs::create_dir(folder.path().join(name)).expect("the folder is ours");
        }
        Env { folder, variables: RefCell::default() }
    }

    /// A path inside the scratch folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The current directory of the programs.
    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// Sets a variable for all later programs.
    pub fn set(&self, name: &str, value: impl Into<String>) {
        self.variables.borrow_mut().push((name.to_owned(), value.into()));
    }

    /// Writes a file in the scratch folder and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("ours");
        std::fs::write(&path, text).expect("ours");
        path
    }

    /// The address of a folder that holds queues.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn directory(&self) -> String {
        let queues = self.path("queues");
        std::fs::create_dir_all(&queues).expect("ours");
        format!("filesys:{}", queues.display())
    }

    /// A file in that folder where a folder belongs, such as a queue's.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn obstruct(&self, name: &str) -> Obstacle {
        Obstacle(self.write(&format!("queues/{name}"), ""))
    }

    /// A folder with copies of the named plugins of the built tree, to be changed by the test.
    ///
    /// # Panics
    /// When there is no such plugin.
    pub fn plugins(&self, names: &[&str]) -> PathBuf {
        for name in names {
            self.add_plugin(&dist().join("plugins").join(format!("{name}.so")));
        }
        self.path("plugins")
    }

    /// Puts one more plugin into the folder, as an installer would: complete, then renamed.
    ///
    /// # Panics
    /// When `file` cannot be copied.
    pub fn add_plugin(&self, file: &Path) {
        let name = file.file_name().expect("a plugin has a name");
        let part = self.path("incoming.part");
        std::fs::copy(file, &part).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        set_mode(&part, 0o644);
        std::fs::rename(&part, self.path("plugins").join(name)).expect("both are ours");
    }

    /// A program of the built tree, not yet started.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(dist().join("bin").join(program));
        command.args(args).current_dir(self.work()).env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        command.env("HOME", self.path("home")).env("TMPDIR", self.folder.path());
        command.envs(self.variables.borrow().iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `rex-host` to its end.
    #[track_caller]
    pub fn rex_host(&self, args: &[&str]) -> Done {
        process::run(self.command("rex-host", args), "")
    }

    /// Runs `rex-host` to its end, with `input` on its standard input.
    #[track_caller]
    pub fn rex_host_with(&self, args: &[&str], input: &str) -> Done {
        process::run(self.command("rex-host", args), input)
    }

    /// Runs `rex` to its end.
    #[track_caller]
    pub fn rex(&self, args: &[&str]) -> Done {
        process::run(self.command("rex", args), "")
    }

    /// Starts `rex-host` in the background.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command("rex-host", args))
    }

    /// Starts `rex` in the background.
    #[track_caller]
    pub fn start_rex(&self, args: &[&str]) -> Running {
        Running::start(self.command("rex", args))
    }

    /// Runs cargo in `folder` with the real environment, the test's own target directory aside.
    #[track_caller]
    pub fn cargo(&self, folder: &Path, args: &[&str]) -> Done {
        let mut command = Command::new("cargo");
        command.args(args).current_dir(folder).env("CARGO_TARGET_DIR", target_dir().join("new"));
        process::run_within(Duration::from_secs(900), command, "")
    }
}

/// # Panics
/// When `path` is not ours.
pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
}
