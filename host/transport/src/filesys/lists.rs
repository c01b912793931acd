//! Looks at what is there, without the lock: counts, tasks that wait, claims, dead letters.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::claims::{Letter, files};
use super::{Place, disk, index, queue};
use crate::{
    ClaimId, DeadLetter, Payload, QueueName, QueueStatus, TaskId, Timestamp, TransportError,
    WaitingTask,
};

pub(super) fn count(place: &Place, name: &QueueName) -> Result<u64, TransportError> {
    Ok(index::read(&place.queue(name))?.len())
}

/// The queues of which there is anything.
pub(super) fn names(place: &Place) -> Result<BTreeSet<QueueName>, TransportError> {
    let mut names = disk::names(&place.root)?;
    names.extend(disk::names(&place.ours().join("queues"))?);
    Ok(names.iter().filter_map(|name| QueueName::parse(name).ok()).collect())
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
        count += files(directory)?.len() as u64;
    }
    Ok((!claims.is_empty()).then_some(count))
}

pub(super) fn queues(place: &Place) -> Result<Vec<QueueStatus>, TransportError> {
    let mut statuses = Vec::new();
    for name in names(place)? {
        let oldest = queue::waiting(&place.queue(&name), &name, 1)?;
        let status = QueueStatus {
            waiting: count(place, &name)?,
            in_flight: in_flight(place, &name)?.unwrap_or(0),
            dead: disk::names(&place.ours_of(&name).join("dead"))?.len() as u64,
            oldest: oldest.first().map(queue::Found::submitted),
            queue: name,
        };
        if status.waiting + status.in_flight + status.dead > 0 {
            statuses.push(status);
        }
    }
    Ok(statuses)
}

pub(super) fn peek(
    place: &Place,
    name: &QueueName,
    limit: u64,
) -> Result<Vec<WaitingTask>, TransportError> {
    let directory = place.queue(name);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut tasks = Vec::new();
    for found in queue::waiting(&directory, name, limit)? {
        let path = directory.join(found.number.to_string());
        let payload = match queue::payload(&path) {
            // Taken between the two looks.
            Err(_) if !path.exists() => continue,
            payload => payload?,
        };
        tasks.push(WaitingTask { id: found.id, submitted: found.submitted(), attempt: 1, payload });
    }
    Ok(tasks)
}

pub(super) fn dead_letters(
    place: &Place,
    of: Option<&QueueName>,
    limit: Option<u64>,
) -> Result<Vec<DeadLetter>, TransportError> {
    let names = match of {
        Some(name) => BTreeSet::from([name.clone()]),
        None => names(place)?,
    };
    let mut found = Vec::new();
    for name in names {
        let directory = place.ours_of(&name).join("dead");
        let files = disk::names(&directory)?;
        found.extend(files.into_iter().map(|file| (file, directory.clone(), name.clone())));
    }
    found.sort_unstable();
    found.truncate(limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX)));
    let mut letters = Vec::new();
    for (file, directory, queue) in found {
        let path = directory.join(file);
        let text = fs::read(&path).map_err(disk::failed(&path))?;
        let Ok(letter) = serde_json::from_slice::<Letter>(&text) else { continue };
        letters.push(DeadLetter {
            id: TaskId(letter.id),
            queue,
            payload: Payload::from_stored(letter.payload),
            submitted: Timestamp(letter.submitted),
            died: Timestamp(letter.died),
            attempts: letter.attempts,
            death: letter.death,
        });
    }
    Ok(letters)
}
