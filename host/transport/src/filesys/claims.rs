//! Taking tasks and recording what became of them. A claim is the directory
//! `.rex/queues/QUEUE/claims/CLAIM.OWNER`; what is no longer in it is no longer its owner's. A task is
//! dead when its letter is beside it there: whoever finds both ends its burial.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::queue::Queue;
use super::submit::Staged;
use super::{FileSys, disk, index, lists, submit, task_file};
use crate::{
    Claim, ClaimId, ClaimedTask, Death, Finished, NewTask, Outcome, QueueName, TaskId,
    TransportError, Want,
};

/// A dead letter as its file has it.
#[derive(Serialize, Deserialize)]
pub(super) struct Letter {
    pub(super) id: i64,
    pub(super) submitted: i64,
    pub(super) died: i64,
    pub(super) attempts: u32,
    pub(super) death: Death,
    pub(super) payload: String,
    /// The whole file, where it is no task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<Vec<u8>>,
}

impl FileSys {
    pub(super) fn take(
        &mut self,
        name: &QueueName,
        want: &Want,
    ) -> Result<Option<Claim>, TransportError> {
        let owner = self.owner()?;
        if self.doubt
            && let Some(claim) = self.find_unreturned(&owner, name)?
        {
            return Ok(Some(claim));
        }
        // Asked without the lock, so that polling an empty queue holds nobody up.
        let directory = self.place.queue(name);
        let is_empty = || -> Result<bool, TransportError> {
            Ok(index::read(&directory)? == Some(index::EMPTY)
                && lists::next_due(&self.place, name)?.is_none_or(|wait| !wait.is_zero()))
        };
        if want.tasks == 0 || !directory.is_dir() || is_empty()? {
            return Ok(None);
        }
        let place = self.place.clone();
        let Some(queue) = self.locked.lock(&place, name)? else {
            return self.locked.overdue(&place, name).map_or(Ok(None), Err);
        };
        queue.ripen()?;
        if queue.is_paused() {
            return Ok(None);
        }
        let room = match want.in_flight {
            Some(limit) => {
                self.limited.insert(name.clone());
                let flying = lists::in_flight(&place, name)?.unwrap_or(0);
                limit.saturating_sub(usize::try_from(flying).unwrap_or(usize::MAX))
            }
            None => {
                self.limited.remove(name);
                want.tasks
            }
        };
        let mut found = queue.waiting(want.tasks.min(room))?;
        queue.keep_first_bytes(&mut found, want.bytes)?;
        queue.keep_readable(&mut found)?;
        if found.is_empty() {
            return Ok(None);
        }
        let id = ClaimId(task_file::next_id(task_file::now_nanos(), name).0);
        let directory = queue.ours.join("claims").join(format!("{}.{owner}", id.0));
        self.doubt = true;
        queue.take(&found, &directory)?;
        // Asked only now: whoever takes this owner for dead removes its file before looking for claims.
        if !self.is_registered() {
            queue.put_back(files(&directory)?)?;
            fs::remove_dir(&directory).map_err(disk::failed(&directory))?;
            self.doubt = false;
            drop(queue);
            // It lives, so it starts anew.
            return self.take(name, want);
        }
        drop(queue);
        let claim = read(id, name, &directory)?;
        self.doubt = false;
        self.held.insert(id, (name.clone(), directory));
        Ok(claim)
    }

    /// A claim of ours that was made although the call that made it failed.
    fn find_unreturned(
        &mut self,
        owner: &str,
        name: &QueueName,
    ) -> Result<Option<Claim>, TransportError> {
        let mut left_out = false;
        for queue in lists::names(&self.place)? {
            let claims = match lists::claims(&self.place, &queue) {
                Err(error) if disk::is_of_the_place(&error) => {
                    left_out = true;
                    continue;
                }
                claims => claims?,
            };
            for (id, holder, directory) in claims {
                if holder != owner || self.held.contains_key(&id) {
                    continue;
                }
                if queue != *name {
                    return Ok(None);
                }
                // Its lock first: a change that failed in the middle is mended by that.
                if self.locked.lock(&self.place, &queue)?.is_none() {
                    return Ok(None);
                }
                let claim = read(id, name, &directory)?;
                if claim.is_some() {
                    self.held.insert(id, (queue, directory));
                    return Ok(claim);
                }
                let _empty = fs::remove_dir(&directory);
            }
        }
        self.doubt = left_out;
        Ok(None)
    }

    /// New tasks are written first, then the dead letters beside their tasks, then the tasks are gone:
    /// a crash between runs a task again rather than losing one. Outcomes that need a queue which
    /// somebody else keeps locked are held back.
    pub(super) fn record(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        self.owner()?;
        let place = self.place.clone();
        let own: BTreeSet<QueueName> = finished
            .iter()
            .filter_map(|one| self.held.get(&one.claim))
            .map(|(name, _)| name.clone())
            .collect();
        let (mut now, mut later): (Vec<&Finished>, Vec<&Finished>) =
            (finished.iter().collect(), Vec::new());
        let mut closed = BTreeSet::new();
        // Looked at before anything is written in vain.
        for name in self.needed(&now) {
            if self.locked.is_known(&name)
                && self.locked.open(&place, &name, own.contains(&name))?.is_none()
            {
                closed.insert(name);
            }
        }
        later.extend(now.extract_if(.., |one| self.needs_one_of(one, &closed)));

        let submits: Vec<&NewTask> = now.iter().flat_map(|one| &one.submits).collect();
        let staged = submit::stage(&place, &submits)?;
        let mut queues = Vec::new();
        for name in self.needed(&now) {
            match self.locked.open(&place, &name, own.contains(&name))? {
                Some(queue) => queues.push(queue),
                None => {
                    closed.insert(name);
                }
            }
        }
        let mut staged = staged.iter();
        let mut now: Vec<(&Finished, Vec<&Staged>)> = now
            .into_iter()
            .map(|one| (one, staged.by_ref().take(one.submits.len()).collect()))
            .collect();
        later.extend(
            now.extract_if(.., |(one, _)| self.needs_one_of(one, &closed)).map(|(one, _)| one),
        );
        self.held_back = later.iter().map(|one| one.task).collect();
        self.record_in(&queues, &now)
    }

    /// The queues that have to be changed for these.
    fn needed(&self, finished: &[&Finished]) -> BTreeSet<QueueName> {
        finished.iter().flat_map(|one| self.needs(one)).cloned().collect()
    }

    fn needs<'a>(&'a self, one: &'a Finished) -> impl Iterator<Item = &'a QueueName> {
        // Of what another host has, none.
        let own = self.held.get(&one.claim).map(|(name, _)| name);
        let submits = one.submits.iter().map(|task| &task.queue).filter(move |_| own.is_some());
        own.into_iter().chain(submits)
    }

    fn needs_one_of(&self, one: &Finished, closed: &BTreeSet<QueueName>) -> bool {
        self.needs(one).any(|name| closed.contains(name))
    }

    /// Records outcomes, each with what it submits, in queues that are all locked.
    fn record_in(
        &mut self,
        queues: &[Queue<'_>],
        finished: &[(&Finished, Vec<&Staged>)],
    ) -> Result<Vec<TaskId>, TransportError> {
        let (mut lost, mut held, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        // Burials that an error has cut off, before it is asked what is left.
        let claims: BTreeSet<ClaimId> = finished.iter().map(|(one, _)| one.claim).collect();
        for (name, directory) in claims.iter().filter_map(|claim| self.held.get(claim)) {
            for queue in queues.iter().filter(|queue| queue.name == *name) {
                end_burials(queue, directory)?;
            }
        }
        for (one, staged) in finished {
            match self.held.get(&one.claim) {
                Some((name, directory)) if directory.is_dir() => {
                    let file = directory.join(one.task.0.to_string());
                    // Without a file it was recorded before, and nothing changes.
                    if seen.insert(file.clone()) && file.exists() {
                        held.push((one, name, file));
                        asked.extend(one.submits.iter().zip(staged.iter().copied()));
                    }
                }
                _ => lost.push(one.task),
            }
        }
        submit::add(queues, &asked)?;
        for queue in queues {
            let mine = held.iter().filter(|(_, name, _)| **name == queue.name);
            let (mut back, mut gone, mut graves) = (Vec::new(), Vec::new(), BTreeSet::new());
            for (one, _, file) in mine {
                match &one.outcome {
                    Outcome::Done => gone.push(file),
                    Outcome::Released => back.push((one.task, file.clone())),
                    Outcome::Retry { after, history } => {
                        queue.retry(one.task, file, *after, history)?;
                    }
                    Outcome::Dead(death) => {
                        self.bury(queue, one.task, file, death)?;
                        graves.extend(file.parent());
                    }
                }
            }
            queue.put_back(back)?;
            for directory in graves {
                end_burials(queue, directory)?;
            }
            queue.ripen()?;
            let mut directories = BTreeSet::new();
            for file in gone {
                disk::remove(&self.place, file)?;
                directories.extend(file.parent());
            }
            for directory in directories {
                disk::sync_directory(directory)?;
            }
            // Whoever found the queue's limit reached may claim now.
            if self.limited.contains(&queue.name) {
                queue.tell();
            }
        }
        for (one, _) in finished {
            if let Some((_, directory)) = self.held.get(&one.claim) {
                // Fails as long as a task is in it.
                let _some_left = fs::remove_dir(directory);
                if !directory.exists() {
                    self.held.remove(&one.claim);
                }
            }
        }
        Ok(lost)
    }

    /// Puts a task's letter beside it; [`end_burials`] does the rest.
    fn bury(
        &self,
        queue: &Queue<'_>,
        task: TaskId,
        file: &Path,
        death: &Death,
    ) -> Result<(), TransportError> {
        let now = task_file::now_nanos();
        let content = task_file::content(file)?;
        let letter = Letter {
            id: task.0,
            submitted: task_file::submitted(task).0,
            died: now / 1000,
            attempts: content.attempt,
            death: death.clone(),
            payload: content.payload.as_str().to_owned(),
            file: content.payload.no_text().map(<[u8]>::to_vec),
        };
        let text = serde_json::to_string(&letter).unwrap_or_default();
        // Named by the letter's id, which is the time, so that names sort as deaths do.
        let number = task_file::next_id(now, &queue.name).0;
        let letter = file.with_file_name(format!("{number:020}.{}.json", task.0));
        let part = queue.ours.join("part.letter");
        disk::write_new(&self.place, &part, text.as_bytes(), true)?;
        disk::rename(&self.place, &part, &letter)
    }
}

/// Moves the letters in a claim's directory to the others and removes their tasks. Wherever this is cut
/// off, doing it again ends it.
pub(super) fn end_burials(queue: &Queue<'_>, directory: &Path) -> Result<(), TransportError> {
    let mut letters = Vec::new();
    for name in disk::names(directory)? {
        letters.extend(buried(&name).map(|task| (task, name)));
    }
    if letters.is_empty() {
        return Ok(());
    }
    disk::sync_directory(directory)?;
    let dead = queue.ours.join("dead");
    for (task, name) in letters {
        disk::remove(queue.place, &directory.join(task.0.to_string()))?;
        disk::rename(queue.place, &directory.join(&name), &dead.join(&name))?;
    }
    disk::sync_directory(&dead)?;
    disk::sync_directory(directory)
}

/// How many tasks a claim still holds; one whose letter is there is one.
pub(super) fn count(directory: &Path) -> Result<u64, TransportError> {
    let names = disk::names(directory)?;
    let task = |name: &String| name.parse().ok().map(TaskId).or_else(|| buried(name));
    Ok(names.iter().filter_map(task).collect::<BTreeSet<TaskId>>().len() as u64)
}

/// Whose letter has this name.
fn buried(name: &str) -> Option<TaskId> {
    let (_, task) = name.strip_suffix(".json")?.split_once('.')?;
    Some(TaskId(task.parse().ok()?))
}

/// The tasks in a claim's directory.
fn read(id: ClaimId, name: &QueueName, directory: &Path) -> Result<Option<Claim>, TransportError> {
    let mut tasks = Vec::new();
    for (task, path) in files(directory)? {
        let task_file::Content { payload, attempt, history } = task_file::content(&path)?;
        tasks.push(ClaimedTask { id: task, attempt, payload, history });
    }
    Ok((!tasks.is_empty()).then(|| Claim { id, queue: name.clone(), tasks }))
}

/// The task files of a claim, oldest first.
pub(super) fn files(directory: &Path) -> Result<Vec<(TaskId, PathBuf)>, TransportError> {
    let names = disk::names(directory)?;
    let mut files: Vec<(TaskId, PathBuf)> = names
        .iter()
        .filter_map(|name| Some((TaskId(name.parse().ok()?), directory.join(name))))
        .collect();
    files.sort_unstable_by_key(|(id, _)| *id);
    Ok(files)
}
