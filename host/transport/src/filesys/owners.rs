//! Who lives: each owner keeps a file in `.rex/owners` locked, see `owner_file.rs`. A claim's directory
//! bears its owner's name; an owner that was taken for dead goes on under a new one, so that what it
//! claimed before is refused.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::lists::LeftOut;
use super::queue::Queue;
use super::{FileSys, claims, disk, lists, queue, safely};
use crate::owner_file::{OwnerFile, file_name};
use crate::transport::not_an_owner;
use crate::{Kind, TransportError};

/// No submit takes so long.
const ABANDONED: Duration = Duration::from_secs(3600);

/// This owner, as long as it is registered.
pub(super) struct Registered {
    name: String,
    generation: u32,
    file: Arc<OwnerFile>,
}

impl FileSys {
    /// This owner's name in the files; registers it if need be.
    pub(super) fn owner(&mut self) -> Result<String, TransportError> {
        let id = self.owner_id.as_ref().ok_or_else(not_an_owner)?;
        // While the whole store is away, nobody else can have taken this owner for dead.
        disk::check(&self.place)?;
        let generation = match &self.owner {
            Some(me) if me.file.is_in_place() => return Ok(me.name.clone()),
            Some(me) => me.generation + 1,
            None => 0,
        };
        let name = file_name(&format!("{id}/{generation}"));
        self.taken.extend(self.held.drain().map(|(claim, _)| claim));
        self.owner = None;
        let directory = self.owners_directory();
        disk::make_directory(&self.place, &directory)?;
        let path = directory.join(&name);
        let file =
            OwnerFile::create(path.clone(), |path| safely::open_or_make(&self.place, path, 0o666));
        let file = file.map_err(|error| {
            if error.kind() == ErrorKind::WouldBlock {
                let text = format!("An owner named \"{id}\" already works on these queues");
                return TransportError::new(Kind::Config, text);
            }
            disk::failed(&path)(error)
        })?;
        file.beat();
        let file = Arc::new(file);
        self.place.owner = Arc::downgrade(&file);
        // Its lock is ours, so an owner of that name is dead.
        let mut left_out = LeftOut::new();
        self.give_back_of(&[&name], &mut left_out, |_| true)?;
        self.owner = Some(Registered { name: name.clone(), generation, file });
        self.sweep(&name, &mut left_out)?;
        self.say(left_out);
        Ok(name)
    }

    /// Gives back what dead owners held.
    pub(super) fn take_back(&mut self) -> Result<u64, TransportError> {
        // The sign before the look whether anybody has taken the file away, see `Proof::fence`.
        if let Some(me) = &self.owner {
            me.file.beat();
        }
        let me = if self.owner_id.is_some() { Some(self.owner()?) } else { None };
        let (mut others, mut left_out) = (BTreeSet::new(), LeftOut::new());
        lists::each(&self.place, &mut left_out, |queue| {
            let claims = lists::claims(&self.place, queue)?;
            others.extend(claims.into_iter().map(|(_, owner, _)| owner));
            Ok(())
        })?;
        // First the fence, for the owner may wake while this goes on. Without its file it is dead for
        // everybody, so that others go on where this one is cut off.
        let mut dead = Vec::new();
        for owner in others.iter().filter(|owner| me.as_ref() != Some(*owner)) {
            let path = self.owners_directory().join(owner);
            let proof = self.judge.proof_of_death(&path, self.owner_timeout);
            if proof.is_some_and(|proof| proof.fence(&path)) {
                dead.push(owner);
            }
        }
        // Unless somebody goes by that name again.
        let directory = self.owners_directory();
        let is_gone = |owner: &str| !directory.join(owner).exists();
        let count = self.give_back_of(&dead, &mut left_out, is_gone)?;
        self.say(left_out);
        Ok(count + queue::mend_all(&self.place)?)
    }

    /// Gives back what these owners hold, if `may` says so once its queue is locked; how many tasks.
    fn give_back_of(
        &mut self,
        owners: &[&String],
        left_out: &mut LeftOut,
        may: impl Fn(&str) -> bool,
    ) -> Result<u64, TransportError> {
        let (mut count, mut kept) = (0, LeftOut::new());
        let (place, locked) = (&self.place, &mut self.locked);
        lists::each(place, left_out, |name| {
            for (_, owner, directory) in lists::claims(place, name)? {
                if owners.contains(&&owner) {
                    let Some(queue) = locked.lock(place, name)? else {
                        kept.insert(name.clone(), Queue::not_locked(place, name));
                        break;
                    };
                    if may(&owner) {
                        count += give_back(&queue, &directory)?;
                    }
                }
            }
            Ok(())
        })?;
        left_out.extend(kept);
        Ok(count)
    }

    /// Says once of each queue that it cannot be used, and when it can be again.
    fn say(&mut self, left_out: LeftOut) {
        self.unusable.retain(|name| {
            let still = left_out.contains_key(name);
            if !still {
                tracing::info!("Queue {name} can be looked at again");
            }
            still
        });
        for (name, error) in left_out {
            if self.unusable.insert(name.clone()) {
                let reason = error.line();
                tracing::warn!(
                    "Queue {name} cannot be looked at, so nothing is given back there: {reason}"
                );
            }
        }
    }

    pub(super) fn unregister(&mut self) -> Result<(), TransportError> {
        if let Some(name) = self.owner.as_ref().map(|me| me.name.clone()) {
            // What is not given back now is so by whoever finds its owner's file gone.
            let mut left_out = LeftOut::new();
            self.give_back_of(&[&name], &mut left_out, |_| true)?;
            self.say(left_out);
        }
        if let Some(me) = self.owner.take() {
            me.file.remove();
        }
        self.owner_id = None;
        self.held.clear();
        Ok(())
    }

    /// Whether nobody has taken this owner for dead.
    pub(super) fn is_registered(&self) -> bool {
        self.owner.as_ref().is_some_and(|me| me.file.is_in_place())
    }

    /// Removes files of dead owners that hold nothing, and what killed producers never finished.
    fn sweep(&mut self, me: &str, left_out: &mut LeftOut) -> Result<(), TransportError> {
        let mut holders = Vec::new();
        lists::each(&self.place, left_out, |queue| {
            holders.extend(lists::claims(&self.place, queue)?.into_iter().map(|(_, o, _)| o));
            Ok(())
        })?;
        let directory = self.owners_directory();
        for name in disk::names(&directory)? {
            if name == me || holders.contains(&name) {
                continue;
            }
            let path = directory.join(&name);
            if let Some(proof) = self.judge.proof_of_death(&path, Duration::MAX) {
                proof.bury(&path);
            }
        }
        match self.sweep_new() {
            // Another user's to sweep.
            Err(error) if disk::is_of_the_place(&error) => Ok(()),
            swept => swept,
        }
    }

    fn sweep_new(&self) -> Result<(), TransportError> {
        let new = self.place.ours().join("new");
        for path in disk::names(&new)?.iter().map(|name| new.join(name)) {
            let age = fs::metadata(&path).and_then(|file| file.modified()).map(|at| at.elapsed());
            if age.is_ok_and(|age| age.is_ok_and(|age| age > ABANDONED)) {
                disk::remove(&self.place, &path)?;
            }
        }
        Ok(())
    }

    fn owners_directory(&self) -> PathBuf {
        self.place.ours().join("owners")
    }
}

/// Puts the tasks of a claim back, but for the dead ones; how many.
fn give_back(queue: &Queue<'_>, directory: &Path) -> Result<u64, TransportError> {
    claims::end_burials(queue, directory)?;
    let files = claims::files(directory)?;
    let count = files.len() as u64;
    queue.put_back(files)?;
    // Gone already, or somebody put something into it: the next look tells.
    let _gone = fs::remove_dir(directory);
    Ok(count)
}
