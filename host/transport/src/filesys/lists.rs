//! Looks at what is there, without the lock: counts, tasks that wait, claims, dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::claims::{self, Letter};
use super::{Place, disk, index, queue, safely, task_file};
use crate::letters::Letters;
use crate::{
    ClaimId, DeadLetter, DeadQuery, LetterId, Payload, QueueName, QueueStatus, TaskId, Timestamp,
    TransportError, WaitingTask,
};

pub(super) fn count(place: &Place, name: &QueueName) -> Result<u64, TransportError> {
    // In this order: what is due goes from one to the other.
    let (due, _) = delayed(place, name)?;
    let directory = place.queue(name);
    let indexed = match index::read(&directory)? {
        Some(index) => index.len(),
        None => index::guess(&directory)?.len() as u64,
    };
    Ok(due + indexed)
}

/// How many tasks are due that waited for their time, and how many still wait for it.
fn delayed(place: &Place, name: &QueueName) -> Result<(u64, u64), TransportError> {
    let now = task_file::now_nanos() / 1000;
    let tasks = queue::delayed(&place.ours_of(name))?;
    let ripe = tasks.iter().filter(|task| task.due <= now).count();
    Ok((ripe as u64, (tasks.len() - ripe) as u64))
}

/// How long until the first of the tasks is due that wait for their time.
pub(super) fn next_due(
    place: &Place,
    name: &QueueName,
) -> Result<Option<Duration>, TransportError> {
    let now = task_file::now_nanos() / 1000;
    let tasks = queue::delayed(&place.ours_of(name))?;
    let wait = |due: i64| Duration::from_micros(u64::try_from(due - now).unwrap_or(0));
    Ok(tasks.first().map(|task| wait(task.due)))
}

pub(super) fn is_paused(place: &Place, name: &QueueName) -> bool {
    place.ours_of(name).join("paused").exists()
}

/// The queues of which there is anything.
pub(super) fn names(place: &Place) -> Result<BTreeSet<QueueName>, TransportError> {
    let mut names = disk::names(&place.root)?;
    names.retain(|name| place.root.join(name).is_dir());
    names.extend(disk::names(&place.ours().join("queues"))?);
    Ok(names.iter().filter_map(|name| QueueName::parse(name).ok()).collect())
}

/// Queues that cannot be used, and why.
pub(super) type LeftOut = BTreeMap<QueueName, TransportError>;

/// Does something with each queue; one that cannot be used for what is there, or whose it is, costs no
/// other.
pub(super) fn each(
    place: &Place,
    left_out: &mut LeftOut,
    mut work: impl FnMut(&QueueName) -> Result<(), TransportError>,
) -> Result<(), TransportError> {
    for name in names(place)? {
        match work(&name) {
            Err(error) if disk::is_of_the_place(&error) => {
                left_out.insert(name, error);
            }
            done => done?,
        }
    }
    Ok(())
}

/// A queue's claims: number, owner, directory.
pub(super) fn claims(
    place: &Place,
    name: &QueueName,
) -> Result<Vec<(ClaimId, String, PathBuf)>, TransportError> {
    let directory = place.ours_of(name).join("claims");
    let claim = |name: &String| {
        let (id, owner) = name.split_once('.')?;
        Some((ClaimId(id.parse().ok()?), owner.to_owned(), directory.join(name)))
    };
    Ok(disk::names(&directory)?.iter().filter_map(claim).collect())
}

/// How many tasks are claimed; `None` when no claim is there or being made.
pub(super) fn in_flight(place: &Place, name: &QueueName) -> Result<Option<u64>, TransportError> {
    let claims = claims(place, name)?;
    let mut count = 0;
    for (.., directory) in &claims {
        count += claims::count(directory)?;
    }
    Ok((!claims.is_empty()).then_some(count))
}

pub(super) fn queues(
    place: &Place,
    left_out: &mut LeftOut,
) -> Result<Vec<QueueStatus>, TransportError> {
    let mut statuses = Vec::new();
    each(place, left_out, |name| {
        let status = status(place, name.clone())?;
        let tasks = status.waiting + status.delayed + status.in_flight + status.dead;
        if tasks > 0 || status.paused {
            statuses.push(status);
        }
        Ok(())
    })?;
    Ok(statuses)
}

fn status(place: &Place, queue: QueueName) -> Result<QueueStatus, TransportError> {
    // In this order, in which tasks go from one to the other.
    let (_, delayed) = delayed(place, &queue)?;
    let oldest = queue::waiting(place, &queue, 1)?;
    Ok(QueueStatus {
        delayed,
        waiting: count(place, &queue)?,
        in_flight: in_flight(place, &queue)?.unwrap_or(0),
        dead: disk::names(&place.ours_of(&queue).join("dead"))?.len() as u64,
        oldest: oldest.first().map(queue::Found::submitted),
        paused: is_paused(place, &queue),
        queue,
    })
}

pub(super) fn peek(
    place: &Place,
    name: &QueueName,
    limit: u64,
) -> Result<Vec<WaitingTask>, TransportError> {
    let directory = place.queue(name);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let now = task_file::now_nanos() / 1000;
    let waiting = queue::waiting(place, name, limit)?;
    let waiting = waiting.iter().map(|at| (at.id, 0, directory.join(at.number.to_string())));
    let delayed = queue::delayed(&place.ours_of(name))?;
    let delayed = delayed.into_iter().map(|task| (task.id, task.due, task.path));
    let mut tasks = Vec::new();
    for (id, due, path) in waiting.chain(delayed).take(limit) {
        let task_file::Content { payload, attempt, .. } = match task_file::content(&path) {
            // Taken between the two looks.
            Err(_) if !path.exists() => continue,
            content => content?,
        };
        let due = Some(Timestamp(due)).filter(|due| due.0 > now);
        let submitted = task_file::submitted(id);
        tasks.push(WaitingTask { id, submitted, attempt, priority: 0, due, payload });
    }
    Ok(tasks)
}

/// A dead letter's file.
pub(super) struct Dead {
    pub(super) letter: LetterId,
    pub(super) queue: QueueName,
    pub(super) path: PathBuf,
}

/// The dead letters of one queue or of all that can be looked at, oldest death first.
pub(super) fn dead(
    place: &Place,
    of: Option<&QueueName>,
    left_out: &mut LeftOut,
) -> Result<Vec<Dead>, TransportError> {
    let mut found = Vec::new();
    let mut find = |queue: &QueueName| {
        let directory = place.ours_of(queue).join("dead");
        for name in disk::names(&directory)? {
            let Some(Ok(number)) = name.split('.').next().map(str::parse) else { continue };
            let (letter, path) = (LetterId(number), directory.join(name));
            found.push(Dead { letter, queue: queue.clone(), path });
        }
        Ok(())
    };
    match of {
        Some(name) => find(name)?,
        None => each(place, left_out, find)?,
    }
    found.sort_unstable_by_key(|dead| dead.letter);
    Ok(found)
}

impl Dead {
    /// `None` for what is no letter, or was taken away since.
    pub(super) fn read(&self) -> Result<Option<DeadLetter>, TransportError> {
        let text = match safely::read(&self.path) {
            Err(error) if safely::is_missing(&error) => return Ok(None),
            text => text.map_err(disk::failed(&self.path))?,
        };
        let Ok(letter) = serde_json::from_slice::<Letter>(&text) else { return Ok(None) };
        let payload = match &letter.file {
            Some(file) => Payload::no_task(file),
            None => Payload::from_stored(letter.payload),
        };
        Ok(Some(DeadLetter {
            letter: self.letter,
            id: TaskId(letter.id),
            queue: self.queue.clone(),
            payload,
            submitted: Timestamp(letter.submitted),
            died: Timestamp(letter.died),
            attempts: letter.attempts,
            death: letter.death,
        }))
    }
}

pub(super) fn dead_letters(
    place: &Place,
    query: &DeadQuery,
    left_out: &mut LeftOut,
) -> Result<Vec<DeadLetter>, TransportError> {
    let mut letters = Letters::of(query);
    for dead in dead(place, query.queue.as_ref(), left_out)? {
        if letters.is_full() {
            break;
        }
        if query.after.is_none_or(|after| dead.letter > after) {
            match dead.read() {
                Err(error) if query.queue.is_none() && disk::is_of_the_place(&error) => {
                    left_out.insert(dead.queue, error);
                }
                letter => letter?.into_iter().for_each(|letter| letters.offer(letter)),
            }
        }
    }
    Ok(letters.found())
}
