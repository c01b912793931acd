//! Who lives: an owner is a row in `owners` and a locked file in `<queue file>.owners/`, see
//! `owner_file.rs`. One that was taken over although it lives is refused by the fence in `claims.rs`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Sqlite, failure};
use crate::known::Known;
use crate::owner_file::{OwnerFile, file_name, open_or_make, owner_id, proof_of_death};
use crate::transport::not_an_owner;
use crate::{Kind, QueueName, TransportError};

/// This owner, as long as it is registered.
pub(super) struct Registered {
    /// The row in `owners`; a new one each time the owner has to register again.
    pub(super) no: i64,
    file: OwnerFile,
    beaten: Instant,
}

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
        let path = directory.join(file_name(id));
        let file = OwnerFile::create(path, open_or_make).map_err(|error| {
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
        self.owner = Some(Registered { no, file, beaten: Instant::now() });
        self.sweep();
        Ok(no)
    }

    /// After this owner was taken for dead: its claims are gone, it starts anew.
    pub(super) fn register_again(&mut self) -> Result<i64, TransportError> {
        if let Some(gone) = self.owner.take() {
            gone.file.remove();
        }
        self.taken.extend(self.known.drain());
        self.owner()
    }

    /// Gives back what dead owners held.
    pub(super) fn take_back(&mut self) -> Result<u64, TransportError> {
        /// `?1` this owner, or -1: no, id.
        const OTHERS: &str = "SELECT no, id FROM owners WHERE no <> ?1";
        /// `?1` this owner.
        const LISTED: &str = "SELECT EXISTS (SELECT 1 FROM owners WHERE no = ?1)";
        self.check_place()?;
        let say = self.say();
        if let Some(me) = &mut self.owner {
            me.file.beat();
            let (no, was_silent) = (me.no, me.beaten.elapsed() > self.owner_timeout / 2);
            me.beaten = Instant::now();
            let listed = |db: &Connection| {
                let mut statement = db.prepare_cached(LISTED)?;
                statement.query_row([no], |row| row.get::<_, bool>(0))
            };
            // Who judged before this beat may be giving back still, under the lock.
            let listed = match was_silent {
                true => listed(&*self.write()?),
                false => listed(&self.db),
            };
            if !listed.map_err(&say)? {
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
            if self.judge.proof_of_death(&path, self.owner_timeout).is_none() {
                continue;
            }
            let owner_timeout = self.owner_timeout;
            let change = self.write()?;
            // Judged again: it may have been this owner that had the file locked, and it may live.
            // Held until its file is gone, so that nobody registers under that name meanwhile.
            let Ok(Some(proof)) = proof_of_death(&path, owner_timeout) else { continue };
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
        self.known = Known::default();
        self.wake.touch(&back.queues);
        Ok(())
    }

    /// Removes files of owners that died before they were listed.
    fn sweep(&mut self) {
        /// `?1` id.
        const LISTED: &str = "SELECT EXISTS (SELECT 1 FROM owners WHERE id = ?1)";
        let Ok(files) = fs::read_dir(self.owners_directory()) else { return };
        for file in files.flatten() {
            let path = file.path();
            let id = file.file_name().to_str().and_then(owner_id);
            let listed = id
                .is_none_or(|id| self.db.query_row(LISTED, [id], |row| row.get(0)).unwrap_or(true));
            if !listed && let Some(proof) = self.judge.proof_of_death(&path, Duration::MAX) {
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

pub(super) fn make_directory(path: &Path) -> io::Result<()> {
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
