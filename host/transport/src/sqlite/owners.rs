//! Who lives. Each owner keeps a file in `<queue file>.owners/` locked (`flock`) for as long as its
//! process lives; the kernel frees the lock with the process, whatever ended it. A free lock is
//! proof of death, so claims are taken back at once. An owner that holds its lock but has not
//! beaten for `owner_timeout` (stopped) is taken over too; the fence in `claims.rs` refuses what it
//! completes later. Beats go into the locked file, unsynced: an idle host writes nothing to disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension, Transaction, params};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::{Sqlite, failure, not_an_owner};
use crate::process::machine;
use crate::{Kind, QueueName, TransportError};

/// This owner, as long as it is registered.
pub(super) struct Registered {
    /// The row in `owners`; a new one each time the owner has to register again.
    pub(super) no: i64,
    file: OwnerFile,
}

pub(crate) struct OwnerFile {
    path: PathBuf,
    file: File,
}

/// How long to try for an owner's lock: a rescuer holds it for a moment.
const PATIENCE: Duration = Duration::from_secs(2);

impl Sqlite {
    /// This owner's number; registers it if need be.
    pub(super) fn owner(&mut self) -> Result<i64, TransportError> {
        if let Some(me) = &self.owner {
            return Ok(me.no);
        }
        let id = self.owner_id.clone().ok_or_else(not_an_owner)?;
        self.register(&id)
    }

    /// Takes the owner's lock and enters it into the table.
    fn register(&mut self, id: &str) -> Result<i64, TransportError> {
        /// `?1` id.
        const FORGET: &str = "SELECT no FROM owners WHERE id = ?1";
        /// `?1` id.
        const ENTER: &str = "INSERT INTO owners (id) VALUES (?1)";
        let directory = self.owners_directory();
        let complain = |error: io::Error| {
            failure::text(&directory, &error.to_string())
                .with_hint("it holds one lock file for each host; make it writable for this user")
        };
        make_directory(&directory).map_err(complain)?;
        let file = OwnerFile::create(directory.join(file_name(id))).map_err(|error| {
            if error.kind() == ErrorKind::WouldBlock {
                return TransportError::new(
                    Kind::Config,
                    format!("An owner named \"{id}\" already works on this queue file"),
                );
            }
            complain(error)
        })?;
        let say = self.say();
        let change = self.write()?;
        // Its lock is ours, so an owner of that name is dead.
        let earlier: Option<i64> =
            change.query_row(FORGET, [id], |row| row.get(0)).optional().map_err(&say)?;
        if let Some(no) = earlier {
            give_back(&change, no).map_err(&say)?;
        }
        change.execute(ENTER, [id]).map_err(&say)?;
        let no = change.last_insert_rowid();
        change.commit().map_err(&say)?;
        file.beat();
        self.owner = Some(Registered { no, file });
        self.sweep();
        Ok(no)
    }

    /// After this owner was taken for dead: its claims are gone, it starts anew.
    pub(super) fn register_again(&mut self) -> Result<i64, TransportError> {
        if let Some(gone) = self.owner.take() {
            gone.file.remove();
        }
        self.known.clear();
        self.owner()
    }

    /// Gives back what dead owners held.
    pub(super) fn take_back(&mut self) -> Result<u64, TransportError> {
        /// `?1` this owner, or -1: no, id.
        const OTHERS: &str = "SELECT no, id FROM owners WHERE no <> ?1";
        /// `?1` this owner.
        const LISTED: &str = "SELECT EXISTS (SELECT 1 FROM owners WHERE no = ?1)";
        let say = self.say();
        if let Some(me) = &self.owner {
            me.file.beat();
            let listed: bool = self
                .db
                .prepare_cached(LISTED)
                .and_then(|mut statement| statement.query_row([me.no], |row| row.get(0)))
                .map_err(&say)?;
            if !listed {
                self.register_again()?;
            }
        }
        let me = if self.owner_id.is_some() { self.owner()? } else { -1 };
        let others: Vec<(i64, String)> = self
            .db
            .prepare_cached(OTHERS)
            .and_then(|mut statement| {
                statement.query_map([me], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })
            .map_err(&say)?;
        let mut count = 0;
        for (no, id) in others {
            let path = self.owners_directory().join(file_name(&id));
            // Held until its file is gone, so that nobody registers under that name meanwhile.
            let Some(proof) = proof_of_death(&path, self.owner_timeout) else { continue };
            let change = self.write()?;
            let back = give_back(&change, no).map_err(&say)?;
            change.commit().map_err(&say)?;
            proof.bury(&path);
            count += back.tasks;
            self.wake.touch(&back.queues);
        }
        Ok(count)
    }

    pub(super) fn unregister(&mut self) -> Result<(), TransportError> {
        self.owner_id = None;
        let Some(no) = self.owner.as_ref().map(|me| me.no) else { return Ok(()) };
        let say = self.say();
        let change = self.write()?;
        let back = give_back(&change, no).map_err(&say)?;
        change.commit().map_err(&say)?;
        if let Some(me) = self.owner.take() {
            me.file.remove();
        }
        self.known.clear();
        self.wake.touch(&back.queues);
        Ok(())
    }

    /// Removes files of owners that died before they were listed.
    fn sweep(&self) {
        /// `?1` id.
        const LISTED: &str = "SELECT EXISTS (SELECT 1 FROM owners WHERE id = ?1)";
        let Ok(files) = fs::read_dir(self.owners_directory()) else { return };
        for file in files.flatten() {
            let path = file.path();
            let id = file.file_name().to_str().and_then(owner_id);
            let listed = id
                .is_none_or(|id| self.db.query_row(LISTED, [id], |row| row.get(0)).unwrap_or(true));
            if !listed && let Some(proof) = proof_of_death(&path, Duration::MAX) {
                proof.bury(&path);
            }
        }
    }

    fn owners_directory(&self) -> PathBuf {
        beside(&self.path, ".owners")
    }
}

/// `queue.db` and `.owners` → `queue.db.owners`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        done => done,
    }
}

struct GivenBack {
    tasks: u64,
    queues: Vec<QueueName>,
}

/// Ends an owner: its tasks wait again in their old places.
fn give_back(change: &Transaction<'_>, owner: i64) -> Result<GivenBack, rusqlite::Error> {
    /// `?1` owner.
    const QUEUES: &str = "SELECT DISTINCT queue FROM claims WHERE owner = ?1";
    /// `?1` owner.
    const RETURN: &str = "
UPDATE tasks SET claim = NULL
WHERE claim IN (SELECT id FROM claims WHERE owner = ?1)";
    /// `?1` owner.
    const CLAIMS: &str = "DELETE FROM claims WHERE owner = ?1";
    /// `?1` owner.
    const OWNER: &str = "DELETE FROM owners WHERE no = ?1";
    let names: Vec<String> = change
        .prepare_cached(QUEUES)?
        .query_map([owner], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let tasks = change.execute(RETURN, [owner])?;
    change.execute(CLAIMS, [owner])?;
    change.execute(OWNER, params![owner])?;
    Ok(GivenBack {
        tasks: u64::try_from(tasks).unwrap_or(u64::MAX),
        queues: names.iter().filter_map(|name| QueueName::parse(name).ok()).collect(),
    })
}

impl OwnerFile {
    /// Makes and locks the file; `WouldBlock` when a living owner holds it.
    pub(crate) fn create(path: PathBuf) -> io::Result<OwnerFile> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // A rescuer may have removed the file between the two calls.
                Ok(()) if is_at(&file, &path) => return Ok(OwnerFile { path, file }),
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Leaves a sign of life. That it cannot be written must not stop a host that works.
    pub(crate) fn beat(&self) {
        let sign = format!("{} {:020}\n", machine().unwrap_or_default(), uptime().as_micros());
        if let Err(error) = self.file.write_at(sign.as_bytes(), 0) {
            tracing::debug!("no sign of life in {}: {error}", self.path.display());
        }
    }

    /// Whether nobody has taken this owner for dead and its file away.
    pub(crate) fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    pub(crate) fn remove(self) {
        if is_at(&self.file, &self.path) {
            // A file left behind is swept by the next owner.
            let _left = fs::remove_file(&self.path);
        }
    }
}

/// That an owner is dead or stopped for too long.
pub(crate) enum Proof {
    NoFile,
    /// The owner's file, its lock now ours.
    Free(File),
    /// Locked by an owner that shows no sign of life.
    Silent,
}

impl Proof {
    pub(crate) fn bury(self, path: &Path) {
        let ours = match &self {
            Proof::NoFile => false,
            Proof::Free(file) => is_at(file, path),
            // Gone under its name, the owner finds on waking that it has to register again.
            Proof::Silent => true,
        };
        if ours {
            let _left = fs::remove_file(path);
        }
    }
}

pub(crate) fn proof_of_death(path: &Path, timeout: Duration) -> Option<Proof> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(Proof::NoFile),
        Err(_) => return None,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Some(Proof::Free(file)),
        Err(Errno::WOULDBLOCK) => {
            let sign = fs::read_to_string(path).ok()?;
            let (its_machine, beaten) = sign.trim_end().split_once(' ')?;
            let beaten = Duration::from_micros(beaten.parse().ok()?);
            let here = machine()?;
            (here == its_machine && uptime().saturating_sub(beaten) > timeout)
                .then_some(Proof::Silent)
        }
        Err(_) => None,
    }
}

pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(file), Ok(named)) => file.ino() == named.ino() && file.dev() == named.dev(),
        _ => false,
    }
}

/// Time the machine has been awake since boot: one clock for all its processes, which neither jumps
/// nor runs while the machine sleeps.
fn uptime() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// An id as a file's name: what is no letter, digit, `.` or `-` becomes `_` and two hex digits.
pub(crate) fn file_name(id: &str) -> String {
    let mut name = String::from("o");
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => name.push(char::from(byte)),
            _ => name.push_str(&format!("_{byte:02x}")),
        }
    }
    name
}

/// The id in a file's name; `None` for a name of somebody else's making.
fn owner_id(name: &str) -> Option<String> {
    let mut id = Vec::new();
    let mut rest = name.strip_prefix('o')?.bytes();
    while let Some(byte) = rest.next() {
        id.push(match byte {
            b'_' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(id).ok().filter(|id| file_name(id) == name)
}

#[cfg(test)]
mod tests {
    use super::{file_name, owner_id};

    #[test]
    fn ids_are_file_names_and_back() {
        for id in ["host:12:99", "a/../b", "", "é_x", ".."] {
            let name = file_name(id);
            assert!(!name.contains('/') && name != "..", "{name}");
            assert_eq!(owner_id(&name).as_deref(), Some(id));
        }
        assert_eq!(owner_id("README"), None);
    }
}
