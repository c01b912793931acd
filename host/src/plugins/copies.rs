//! Immutable copies of plugins, named by their content: the only files that are ever loaded.
//!
//! A dropped file may be overwritten, truncated or deleted at any time, which kills a process that
//! has it mapped. So its content is copied to `STATE/plugins/<sha256>.so` before anything loads it.
//! A copy stays while a generation of workers runs it, and while a dead letter names it.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::reason::Reason;
use super::source::{Source, hash_of};

const TEMPORARY: &str = ".tmp";

/// Of the state directory of an instance.
const DIRECTORY: &str = "plugins";

/// Holds the hashes of the plugins that were in service last, a line each.
const IN_SERVICE: &str = "in-service";

/// A copy of this age that nothing names belongs to nobody. A younger one may be part of a plan
/// that is being made at this moment.
const UNUSED: Duration = Duration::from_secs(60);

/// A temporary file of this age belongs to a process that died.
const STALE: Duration = Duration::from_secs(600);

/// Why a file has no copy.
#[derive(Debug)]
pub enum NotKept {
    /// It is the file's fault.
    File(Reason),
    /// No copy can be written: no fault of any file.
    Store(io::Error),
}

impl From<Reason> for NotKept {
    fn from(reason: Reason) -> NotKept {
        NotKept::File(reason)
    }
}

impl From<io::Error> for NotKept {
    fn from(error: io::Error) -> NotKept {
        NotKept::Store(error)
    }
}

/// The directory `STATE/plugins`.
#[derive(Debug, Clone)]
pub struct Copies {
    dir: PathBuf,
}

impl Copies {
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates the directory when there is none.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn open(state: &Path) -> io::Result<Copies> {
        let dir = state.join(DIRECTORY);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Copies { dir })
    }

    /// Where the copy of the content `hash` is, or would be.
    pub fn path(&self, hash: &str) -> PathBuf {
        self.dir.join(format!("{hash}.so"))
    }

    /// Copies the file unless its content is here already; the copy's name is the hash of what was
    /// copied.
    ///
    /// # Errors
    /// When the file changes meanwhile, or the copy cannot be written.
    pub fn keep(&self, source: &Source, hash: &str) -> Result<PathBuf, NotKept> {
        let copy = self.path(hash);
        if is_intact(&copy, hash) {
            return Ok(copy);
        }
        let mut temporary = Temporary::create(&self.dir)?;
        let mut written = Ok(());
        let copied = source.hash(|piece| {
            written = temporary.file.write_all(piece);
            written.as_ref().map_err(Reason::new).copied()
        });
        written?;
        if copied? != hash {
            return Err(Reason::new("changed while it was being copied").into());
        }
        temporary
            .file
            .set_permissions(Permissions::from_mode(0o444))
            .and_then(|()| temporary.file.sync_all())?;
        temporary.rename(&copy)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all())?;
        Ok(copy)
    }

    /// Notes which plugins are in service, for the next start of the host.
    ///
    /// # Errors
    /// When the note cannot be written; the former one stays then.
    pub fn note_in_service<'a>(&self, hashes: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut note = Temporary::create(&self.dir)?;
        let lines: String = hashes.flat_map(|hash| [hash, "\n"]).collect();
        note.file.write_all(lines.as_bytes())?;
        note.rename(&self.dir.join(IN_SERVICE))
    }

    /// Removes the copies whose hash is not in `keep`: those that no generation runs and no dead
    /// letter names. One that was asked for within the last minute stays. Returns how many went.
    ///
    /// # Errors
    /// When the directory cannot be read. A file that cannot be removed stays for the next time.
    pub fn remove_unused(&self, keep: &HashSet<String>) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let unused = match name.strip_suffix(".so") {
                Some(hash) => is_hash(hash) && !keep.contains(hash) && is_older(&entry, UNUSED),
                None => name.ends_with(TEMPORARY) && is_older(&entry, STALE),
            };
            if unused && fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// The hashes of the plugins that were in service last, by the state directory of an instance; none,
/// before its first start.
pub fn in_service(state: &Path) -> HashSet<String> {
    let note = fs::read_to_string(state.join(DIRECTORY).join(IN_SERVICE)).unwrap_or_default();
    note.lines().filter(|line| is_hash(line)).map(str::to_owned).collect()
}

/// Disks lie and administrators tidy up: a copy is what its name says, or it is made anew.
fn is_intact(copy: &Path, hash: &str) -> bool {
    let open = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(copy);
    let Ok(mut file) = open else { return false };
    let is_file = file.metadata().is_ok_and(|meta| meta.is_file());
    let intact = is_file && hash_of(&mut file).is_ok_and(|found| found == hash);
    // From now on it is young again: see `remove_unused`.
    intact && file.set_modified(SystemTime::now()).is_ok()
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_older(entry: &fs::DirEntry, limit: Duration) -> bool {
    let age = entry
        .metadata()
        .and_then(|meta| meta.modified())
        .map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
    age.is_ok_and(|age| age > limit)
}

/// A file under a name of its own, which goes unless it is renamed.
struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    fn create(dir: &Path) -> io::Result<Temporary> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = dir.join(format!(".{}-{number}{TEMPORARY}", std::process::id()));
            match File::options().write(true).create_new(true).mode(0o600).open(&path) {
                // Another process's that has this number, in another container or before.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                file => return Ok(Temporary { path, file: file?, renamed: false }),
            }
        }
    }

    fn rename(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // What stays is removed when it is stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}
