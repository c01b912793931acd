//! New tasks: written and synced before any lock is held, then moved into their queues.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::index::Index;
use super::queue::Queue;
use super::task_file::{after, next_id, now_nanos, time};
use super::{Place, disk, safely, task_file};
use crate::random::random;
use crate::{Due, NewTask, QueueName, Submitted, TaskId, TransportError};

/// From so many files on one sync of the file system costs less than one of each.
const MANY: usize = 16;

/// A task file that is written and synced, but in no queue yet; gone with this if it stays so.
pub(super) struct Staged {
    path: PathBuf,
    file: File,
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _moved_by_now = fs::remove_file(&self.path);
    }
}

/// Adds tasks to their queues, all of which are locked before the first file is in its place.
pub(super) fn submit(place: &Place, tasks: &[NewTask]) -> Result<Vec<Submitted>, TransportError> {
    let tasks: Vec<&NewTask> = tasks.iter().collect();
    let staged = stage(place, &tasks)?;
    let names: BTreeSet<&QueueName> = tasks.iter().map(|task| &task.queue).collect();
    let mut queues = Vec::new();
    for name in names {
        queues.push(Queue::lock(place, name)?);
    }
    let pairs: Vec<(&NewTask, &Staged)> = tasks.into_iter().zip(&staged).collect();
    let ids = add(&queues, &pairs)?;
    Ok(ids.into_iter().map(|id| Submitted { id, existed: false }).collect())
}

/// Writes what takes its time before any lock is held.
pub(super) fn stage(place: &Place, tasks: &[&NewTask]) -> Result<Vec<Staged>, TransportError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    /// Programs of several containers may share the directory, and have the same process id each.
    static PREFIX: LazyLock<i64> = LazyLock::new(random);
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let directory = place.ours().join("new");
    disk::make_directory(place, &directory)?;
    let (mut staged, prefix) = (Vec::with_capacity(tasks.len()), *PREFIX);
    for task in tasks {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{prefix:016x}.{number}"));
        let bytes = task_file::untried(&task.payload);
        let file = disk::write_unique(place, &path, &bytes, tasks.len() < MANY)?;
        staged.push(Staged { path, file });
    }
    if tasks.len() >= MANY {
        disk::sync_all(&directory)?;
    }
    Ok(staged)
}

/// Adds staged tasks to queues that are locked already, to each all or none; ids in the order given.
pub(super) fn add(
    queues: &[Queue<'_>],
    tasks: &[(&NewTask, &Staged)],
) -> Result<Vec<TaskId>, TransportError> {
    let mut ids = vec![TaskId(0); tasks.len()];
    let now = now_nanos();
    let mut last = now;
    for queue in queues {
        let mine: Vec<usize> =
            (0..tasks.len()).filter(|at| tasks[*at].0.queue == queue.name).collect();
        if mine.is_empty() {
            continue;
        }
        let before = queue.index()?;
        last = last.max(queue.id_of(before.end)?.map_or(0, |id| id.0));
        let start = if before.is_empty() { 1 } else { before.start };
        let mut placed = Vec::new();
        let put = || {
            let (mut end, mut delayed) = (before.end, false);
            for at in mine {
                let id = next_id(last, &queue.name);
                last = id.0;
                ids[at] = id;
                let Staged { path, file } = tasks[at].1;
                safely::give_for(queue.place, file, &queue.directory)
                    .and_then(|()| file.set_modified(time(id)))
                    .map_err(disk::failed(path))?;
                let due = match tasks[at].0.attributes.due {
                    Due::Now => 0,
                    Due::In(wait) => after(now, wait),
                    Due::At(time) => time.0,
                };
                let to = if due > now / 1000 {
                    delayed = true;
                    queue.delayed(id, due)?
                } else {
                    end += 1;
                    queue.file(end)
                };
                disk::rename(queue.place, path, &to)?;
                placed.push(to);
            }
            if delayed {
                disk::sync_directory(&queue.ours.join("delayed"))?;
            }
            // With the index, which is synced with its directory, they are there, all at once.
            queue.write_index(Index { start, end })
        };
        if let Err(error) = put() {
            if queue.index().is_ok_and(|index| index == before) {
                for path in placed {
                    let _said_already = disk::remove(queue.place, &path);
                }
            }
            return Err(error);
        }
    }
    Ok(ids)
}
