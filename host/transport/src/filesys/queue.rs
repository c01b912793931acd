//! One queue under its lock: tasks out and back. Every change of several steps is marked while
//! it lasts.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::index::{self, EMPTY, Index};
use super::lists::{Dead, LeftOut};
use super::task_file::{
    self, Dated, Tried, after, content, id_of, next_id, now_nanos, set_id, submitted, time,
};
use super::{Place, disk, lists, safely};
use crate::{Kind, Payload, QueueName, TaskId, Timestamp, TransportError};

/// So many tasks at most are moved to let others in between them, or come due, at once: the queue's lock
/// is held meanwhile.
const MOST: usize = 10_000;

/// Where more wait before a task that is due and was never tried, it goes to the end of the queue.
const FAR: usize = 1000;

/// No clock ticks so slowly, in nanoseconds.
const SOON: i64 = 10_000_000_000;

/// The file that bears the time of the last id that was given to a task when it was claimed.
fn given(ours: &Path) -> PathBuf {
    ours.join("given")
}

/// A queue whose lock is ours until this is dropped.
pub(super) struct Queue<'a> {
    pub(super) name: QueueName,
    pub(super) place: &'a Place,
    pub(super) directory: PathBuf,
    pub(super) ours: PathBuf,
    _lock: File,
}

/// A task that waits, found by its number.
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) id: TaskId,
}

impl Found {
    pub(super) fn submitted(&self) -> Timestamp {
        submitted(self.id)
    }
}

/// Ends what a crash has cut off in queues that nobody changes just now, and whose next change may be
/// far away; how many tasks wait again by that.
pub(super) fn mend_all(place: &Place) -> Result<u64, TransportError> {
    let mut count = 0;
    // Those that cannot be used are told by whoever looks for claims.
    lists::each(place, &mut LeftOut::new(), |name| {
        let ours = place.ours_of(name);
        if ours.join(MARK).exists() {
            let names = disk::names(&ours.join(REVIVING))?.into_iter();
            let revived = names.filter(|name| !ours.join("dead").join(name).exists()).count();
            if let Ok(Some(_)) = Queue::lock_within(place, name, Some(Duration::ZERO)) {
                count += revived as u64;
            }
        }
        Ok(())
    })?;
    Ok(count)
}

/// The file that says that a change is being made.
const MARK: &str = "changing";

/// Where tasks are on their way from a dead letter to the queue, each under its letter's name.
const REVIVING: &str = "reviving";

impl<'a> Queue<'a> {
    /// Makes the directories if they are missing, and mends what a crash has left.
    ///
    /// # Errors
    /// `Invalid` where this queue cannot be used and others may.
    pub(super) fn lock(place: &'a Place, name: &QueueName) -> Result<Queue<'a>, TransportError> {
        let queue = Queue::lock_within(place, name, place.lock_timeout)?;
        queue.ok_or_else(|| Queue::not_locked(place, name))
    }

    /// What [`lock`](Self::lock) says when somebody else has it locked.
    pub(super) fn not_locked(place: &Place, name: &QueueName) -> TransportError {
        let path = place.queue(name).join(".lock");
        let text = format!("The file lock '{}' could not be acquired.", path.display());
        TransportError::new(Kind::Refused, text)
            .with_hint("an old consumer that hangs may hold it; see lslocks")
    }

    /// As [`lock`](Self::lock); `None` when somebody else has it locked for as long as there is patience.
    pub(super) fn lock_within(
        place: &'a Place,
        name: &QueueName,
        patience: Option<Duration>,
    ) -> Result<Option<Queue<'a>>, TransportError> {
        Queue::try_lock(place, name, patience).map_err(|error| {
            match disk::is_of_the_place(&error) {
                true => TransportError { kind: Kind::Invalid, ..error },
                false => error,
            }
        })
    }

    fn try_lock(
        place: &'a Place,
        name: &QueueName,
        patience: Option<Duration>,
    ) -> Result<Option<Queue<'a>>, TransportError> {
        let (directory, ours) = (place.queue(name), place.ours_of(name));
        for needed in [&directory, &ours, &ours.join("claims"), &ours.join("dead")] {
            disk::make_directory(place, needed)?;
        }
        let Some(lock) = disk::lock(place, &directory.join(".lock"), patience)? else {
            return Ok(None);
        };
        let queue = Queue { name: name.clone(), place, directory, ours, _lock: lock };
        // Behind a mark every numbered file waits: a change was cut off in its middle.
        if queue.mark().exists() {
            queue.mend(&index::numbers(&queue.directory)?)?;
            queue.mend_revived()?;
            disk::remove(place, &queue.mark())?;
        } else if index::read(&queue.directory)?.is_none() {
            queue.mend(&index::guess(&queue.directory)?)?;
        }
        Ok(Some(queue))
    }

    /// Where a task waits for its time, in microseconds.
    pub(super) fn delayed(&self, id: TaskId, due: i64) -> Result<PathBuf, TransportError> {
        let directory = self.ours.join("delayed");
        disk::make_directory(self.place, &directory)?;
        Ok(directory.join(format!("{due:020}.{}", id.0)))
    }

    /// Makes waiting what is due by now, the first of it.
    pub(super) fn ripen(&self) -> Result<(), TransportError> {
        let now = now_nanos() / 1000;
        let ripe = delayed(&self.ours)?.into_iter().filter(|task| task.due <= now).take(MOST);
        let ripe: Vec<(TaskId, PathBuf)> = ripe.map(|task| (task.id, task.path)).collect();
        if ripe.is_empty() {
            return Ok(());
        }
        let far = self.waiting(FAR + 1)?.get(FAR).map(|found| found.id);
        let (mut back, mut late) = (Vec::new(), Vec::new());
        for (id, path) in ripe {
            let is_late = far.is_some_and(|far| id > far)
                && content(&path).is_ok_and(|task| task.attempt == 1);
            if is_late { &mut late } else { &mut back }.push((id, path));
        }
        self.put_back(back)?;
        self.put_last(late)
    }

    /// Moves a claimed task to where it waits for its next attempt.
    pub(super) fn retry(
        &self,
        id: TaskId,
        file: &Path,
        wait: Duration,
        history: &Value,
    ) -> Result<(), TransportError> {
        let task = content(file)?;
        let tried = Tried { attempt: task.attempt + 1, history: history.clone() };
        self.write_task(file, &task.payload, &tried)?;
        disk::rename(self.place, file, &self.delayed(id, after(now_nanos(), wait))?)?;
        disk::sync_directory(&self.ours.join("delayed"))
    }

    /// Puts the tasks of dead letters back, and counts those that were still there. A task is written
    /// beside its letter, and is alive when that is gone: a crash leaves one of both.
    pub(super) fn revive(&self, letters: &[Dead]) -> Result<u64, TransportError> {
        let mut back = Vec::new();
        disk::make_directory(self.place, &self.reviving())?;
        disk::write_new(self.place, &self.mark(), b"", false)?;
        disk::sync_directory(&self.ours)?;
        for dead in letters {
            let Some(letter) = dead.read()? else { continue };
            let history = letter.death.details["attempts"].clone();
            let file = self.reviving().join(dead.path.file_name().unwrap_or_default());
            self.write_task(&file, &letter.payload, &Tried { attempt: 1, history })?;
            disk::remove(self.place, &dead.path)?;
            back.push((letter.id, file));
        }
        disk::sync_directory(&self.ours.join("dead"))?;
        let count = back.len() as u64;
        self.put_back(back)?;
        disk::remove(self.place, &self.mark())?;
        Ok(count)
    }

    fn reviving(&self) -> PathBuf {
        self.ours.join(REVIVING)
    }

    /// Ends revivals that a crash has cut off.
    fn mend_revived(&self) -> Result<(), TransportError> {
        let mut back = Vec::new();
        for name in disk::names(&self.reviving())? {
            let file = self.reviving().join(&name);
            let id = name.split('.').nth(1).and_then(|id| id.parse().ok()).map(TaskId);
            match id {
                Some(id) if !self.ours.join("dead").join(&name).exists() => back.push((id, file)),
                _ => drop(disk::remove(self.place, &file)?),
            }
        }
        disk::sync_directory(&self.ours.join("dead"))?;
        self.put_back(back)
    }

    fn write_task(
        &self,
        file: &Path,
        payload: &Payload,
        tried: &Tried,
    ) -> Result<(), TransportError> {
        let bytes = task_file::tried(payload, tried);
        disk::replace(self.place, file, &self.ours.join("part.task"), &bytes)
    }

    fn paused(&self) -> PathBuf {
        self.ours.join("paused")
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused().exists()
    }

    pub(super) fn pause(&self, paused: bool) -> Result<(), TransportError> {
        if paused {
            disk::write_new(self.place, &self.paused(), b"", true)?;
        } else {
            disk::remove(self.place, &self.paused())?;
            // Written anew, so that whoever watches looks.
            self.write_index(self.index()?)?;
        }
        disk::sync_directory(&self.ours)
    }

    pub(super) fn file(&self, number: u64) -> PathBuf {
        self.directory.join(number.to_string())
    }

    fn mark(&self) -> PathBuf {
        self.ours.join(MARK)
    }

    /// Sound since the lock was taken.
    pub(super) fn index(&self) -> Result<Index, TransportError> {
        Ok(index::read(&self.directory)?.unwrap_or(EMPTY))
    }

    /// Wakes who watches the queue.
    pub(super) fn tell(&self) {
        // Only a hint: without it the next poll finds what there is.
        let _hint = safely::open_to_write(self.place, &self.directory.join(".index"));
    }

    pub(super) fn write_index(&self, index: Index) -> Result<(), TransportError> {
        index::write(self.place, &self.directory, &self.ours.join("index"), index)
    }

    /// Makes a change of several steps, marked until all is on disk.
    fn change<T>(
        &self,
        steps: impl FnOnce() -> Result<T, TransportError>,
    ) -> Result<T, TransportError> {
        disk::write_new(self.place, &self.mark(), b"", false)?;
        disk::sync_directory(&self.ours)?;
        let value = steps()?;
        disk::remove(self.place, &self.mark())?;
        Ok(value)
    }

    /// Makes these the tasks that wait, without gaps, in this order.
    fn mend(&self, numbers: &[u64]) -> Result<(), TransportError> {
        let first = numbers.first().copied().unwrap_or(1);
        for (number, from) in (first..).zip(numbers) {
            if number != *from {
                disk::rename(self.place, &self.file(*from), &self.file(number))?;
            }
        }
        let len = u64::try_from(numbers.len()).unwrap_or(u64::MAX);
        self.write_index(Index::of(first, len))
    }

    /// The oldest tasks that wait.
    pub(super) fn waiting(&self, most: usize) -> Result<Vec<Found>, TransportError> {
        waiting(self.place, &self.name, most)
    }

    /// Leaves as many as have no more than that, and the one that passes it.
    pub(super) fn keep_first_bytes(
        &self,
        tasks: &mut Vec<Found>,
        most: usize,
    ) -> Result<(), TransportError> {
        let (mut kept, mut bytes) = (0, 0);
        while kept < tasks.len() && bytes < most as u64 {
            let path = self.file(tasks[kept].number);
            bytes += fs::metadata(&path).map_err(disk::failed(&path))?.len();
            kept += 1;
        }
        tasks.truncate(kept);
        Ok(())
    }

    /// Leaves those before the first one that cannot be read, which stays where it is for whoever can.
    ///
    /// # Errors
    /// When that is the oldest: as in the original, the queue then stands still.
    pub(super) fn keep_readable(&self, tasks: &mut Vec<Found>) -> Result<(), TransportError> {
        let unreadable = |task: &Found| {
            let path = self.file(task.number);
            let read = safely::open_task(&path).and_then(|mut file| file.read(&mut [0]));
            read.err().map(|error| disk::failed(&path)(error))
        };
        let first = tasks.iter().enumerate().find_map(|(at, task)| Some((at, unreadable(task)?)));
        match first {
            Some((0, error)) => return Err(error),
            Some((at, _)) => tasks.truncate(at),
            None => {}
        }
        Ok(())
    }

    pub(super) fn id_of(&self, number: u64) -> Result<Option<TaskId>, TransportError> {
        Ok(id_of(&self.file(number), &self.name)?.map(|dated| dated.id))
    }

    /// Moves tasks into a claim's directory, each named by its id.
    pub(super) fn take(&self, tasks: &[Found], claim: &Path) -> Result<(), TransportError> {
        let Some(last) = tasks.last() else { return Ok(()) };
        let end = self.index()?.end;
        // Marked for a crash of this process only: after one of the machine the index may name files
        // that are gone, which whoever reads it notices.
        disk::write_new(self.place, &self.mark(), b"", false)?;
        disk::make_directory(self.place, claim)?;
        for task in tasks {
            disk::rename(self.place, &self.file(task.number), &claim.join(task.id.0.to_string()))?;
        }
        disk::sync_directory(claim)?;
        let rest = Index { start: last.number + 1, end };
        self.write_index(if rest.start > end { EMPTY } else { rest })?;
        disk::remove(self.place, &self.mark())?;
        let given = given(&self.ours);
        let file = safely::open_or_make(self.place, &given, 0o666);
        let dated = file.and_then(|file| file.set_modified(time(last.id)));
        dated.map_err(disk::failed(&given))
    }

    /// Puts claimed tasks into their old places.
    pub(super) fn put_back(&self, mut back: Vec<(TaskId, PathBuf)>) -> Result<(), TransportError> {
        let Some(youngest) = back.iter().map(|(id, _)| *id).max() else { return Ok(()) };
        self.change(|| {
            for (id, path) in &back {
                set_id(self.place, path, *id)?;
            }
            let mut waits = self.index()?;
            let room = back.len() as u64;
            if !waits.is_empty() && waits.start <= room {
                waits = self.shift(waits, room)?;
            }
            // What waits and is older than some that come back goes between them.
            if !waits.is_empty() {
                let older = self.older_than(youngest)?.into_iter();
                back.extend(older.map(|found| (found.id, self.file(found.number))));
            }
            back.sort_unstable_by_key(|(id, _)| *id);
            let start = if waits.is_empty() { 1 } else { waits.start - room };
            for (number, (_, path)) in (start..).zip(&back) {
                // A file moves to its own number or a lower one that is free by now.
                if *path != self.file(number) {
                    disk::rename(self.place, path, &self.file(number))?;
                }
            }
            self.write_index(Index::of(start, waits.len() + room))
        })
    }

    /// The first tasks that wait, as far as they are older.
    fn older_than(&self, id: TaskId) -> Result<Vec<Found>, TransportError> {
        let mut most = FAR;
        loop {
            let mut found = self.waiting(most)?;
            let older = found.partition_point(|found| found.id < id);
            if older < most || most == MOST {
                found.truncate(older);
                return Ok(found);
            }
            most = MOST;
        }
    }

    /// Puts tasks behind all that wait, under the next ids.
    fn put_last(&self, late: Vec<(TaskId, PathBuf)>) -> Result<(), TransportError> {
        if late.is_empty() {
            return Ok(());
        }
        self.change(|| {
            let Index { start, mut end } = self.index()?;
            let mut last = self.id_of(end)?.map_or(0, |id| id.0);
            for (id, path) in late {
                let id = if id.0 > last { id } else { next_id(last, &self.name) };
                last = id.0;
                set_id(self.place, &path, id)?;
                end += 1;
                disk::rename(self.place, &path, &self.file(end))?;
            }
            self.write_index(Index { start, end })
        })
    }

    /// Gives all that waits higher numbers, so that there is room before.
    fn shift(&self, waits: Index, room: u64) -> Result<Index, TransportError> {
        // Some more, so that the next ones find room too.
        let by = room + 1000;
        for number in (waits.start..=waits.end).rev() {
            if self.file(number).exists() {
                disk::rename(self.place, &self.file(number), &self.file(number + by))?;
            }
        }
        let shifted = Index { start: waits.start + by, end: waits.end + by };
        self.write_index(shifted)?;
        Ok(shifted)
    }

    pub(super) fn purge(&self) -> Result<u64, TransportError> {
        let tasks = self.waiting(usize::MAX)?;
        let later = delayed(&self.ours)?;
        self.change(|| {
            for task in &later {
                disk::remove(self.place, &task.path)?;
            }
            for task in &tasks {
                disk::remove(self.place, &self.file(task.number))?;
            }
            self.write_index(EMPTY)
        })?;
        Ok((tasks.len() + later.len()) as u64)
    }
}

/// The oldest tasks that wait in a queue. Ids ascend, whatever the files' times say, and none is
/// given again soon: files that one tick of the kernel's clock has made have all the same time.
pub(super) fn waiting(
    place: &Place,
    name: &QueueName,
    most: usize,
) -> Result<Vec<Found>, TransportError> {
    let directory = &place.queue(name);
    let given = id_of(&given(&place.ours_of(name)), name)?.map_or(0, |id| id.id.0);
    let numbers: Box<dyn Iterator<Item = u64>> = match index::read(directory)? {
        Some(index) if index.is_empty() => Box::new(std::iter::empty()),
        Some(index) => Box::new(index.start..=index.end),
        None => Box::new(index::guess(directory)?.into_iter()),
    };
    let mut found: Vec<Found> = Vec::new();
    let mut last = 0;
    for number in numbers {
        if found.len() >= most {
            break;
        }
        let Some(Dated { id, is_ours }) = id_of(&directory.join(number.to_string()), name)? else {
            continue;
        };
        let mut id = if id.0 > last { id } else { next_id(last, name) };
        if !is_ours && (given - SOON..=given).contains(&id.0) {
            id = next_id(given, name);
        }
        last = id.0;
        found.push(Found { number, id });
    }
    Ok(found)
}

/// A task that waits for its time.
pub(super) struct Delayed {
    pub(super) id: TaskId,
    /// Microseconds since 1970.
    pub(super) due: i64,
    pub(super) path: PathBuf,
}

/// The tasks of a queue that wait for their time, by that time.
pub(super) fn delayed(ours: &Path) -> Result<Vec<Delayed>, TransportError> {
    let directory = ours.join("delayed");
    let task = |name: &String| {
        let (due, id) = name.split_once('.')?;
        let (due, id) = (due.parse().ok()?, TaskId(id.parse().ok()?));
        Some(Delayed { id, due, path: directory.join(name) })
    };
    Ok(disk::names(&directory)?.iter().filter_map(task).collect())
}
