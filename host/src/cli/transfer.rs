//! Moving what waits from one transport to another. A batch is claimed at the source, submitted at
//! the target, and only then finished at the source: an interruption leaves its tasks claimed, and
//! the next host or move takes them back. At most the batch in hand is then moved twice.

use std::time::{Duration, Instant};

use rex_transport::{
    Claim, Finished, Kind, NewTask, Options, Outcome, Owner, QueueName, Transport, TransportError,
    Uri, Want,
};

use super::failure::Failure;
use super::output;
use super::place::{options, refuse_memory};
use super::run::owner_id;
use crate::settings::Settings;

/// How many tasks an interruption can double.
const BATCH: usize = 200;
/// How often the source sees that we live.
const BEAT: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Moved {
    pub(super) count: u64,
    /// Tasks that are at the target, and were taken from the move at the source, to be worked there.
    pub(super) doubled: u64,
    /// Tasks that others submitted to the source meanwhile.
    pub(super) came: u64,
    /// Tasks that stay because their time has not come.
    pub(super) left: u64,
    /// Tasks that stay because the target has one of the same key.
    pub(super) kept: u64,
}

/// Moves what is due at the beginning.
///
/// # Errors
/// When either transport cannot be used; nothing is lost then.
pub(super) fn transfer(
    settings: &Settings,
    from: &str,
    to: &str,
    queue: &QueueName,
) -> Result<Moved, Failure> {
    refuse_memory(Some(from))?;
    refuse_memory(Some(to))?;
    let (from, to) = (Uri::parse(from)?, Uri::parse(to)?);
    if from == to {
        return Err(both_are(&from));
    }
    let owner = Owner { id: owner_id() };
    // Of a name that was mistyped no empty queue is to be made.
    let existing = Options { create: false, patient: true, ..options(settings, Some(owner)) };
    let mut source = rex_transport::open(&from, &existing)?;
    let mut target = rex_transport::open(&to, &options(settings, None))?;
    if target.is(&source.identity()?)? {
        source.close()?;
        return Err(both_are(&from));
    }
    let status = source.queues()?.into_iter().find(|status| status.queue == *queue);
    if status.is_some_and(|status| status.paused) {
        return Err(Failure::new(format!(
            "queue {queue} is paused at {from}: nothing can be taken"
        ))
        .hint("resume it first"));
    }
    let mut moved = carry(&mut *source, &mut *target, queue, &from)?;
    let told = |error| after(moved.count, error);
    let queues = source.queues().map_err(told)?;
    let status = queues.into_iter().find(|status| status.queue == *queue);
    let (waiting, left) = status.map_or((0, 0), |status| (status.waiting, status.delayed));
    source.close().map_err(told)?;
    if moved.doubled == 0 {
        moved.came = waiting.saturating_sub(moved.kept);
        moved.left = left;
    }
    Ok(moved)
}

/// Moves as many tasks as wait at the beginning: there is an end to it although others go on submitting
/// to the source.
fn carry(
    source: &mut dyn Transport,
    target: &mut dyn Transport,
    queue: &QueueName,
    from: &Uri,
) -> Result<Moved, Failure> {
    // Also what an interrupted move has left behind.
    source.rescue()?;
    let mut beat = Instant::now() + BEAT;
    let (mut moved, mut room) = (Moved::default(), source.poll(queue)?);
    // Given back at the end, or they would be claimed again.
    let mut kept: Vec<Finished> = Vec::new();
    while room > 0 {
        let told = |error| after(moved.count, error);
        if beat <= Instant::now() {
            room += source.rescue().map_err(told)?;
            beat = Instant::now() + BEAT;
        }
        let want = usize::try_from(room).map_or(BATCH, |room| room.min(BATCH));
        let Some(claim) = source.claim(queue, &Want::tasks(want)).map_err(told)? else { break };
        let mut attributes = source.attributes(claim.id).map_err(told)?;
        let tasks: Vec<NewTask> = claim
            .tasks
            .iter()
            .map(|task| NewTask {
                queue: queue.clone(),
                payload: task.payload.clone(),
                attributes: attributes.remove(&task.id).unwrap_or_default(),
            })
            .collect();
        let submitted = match are_texts(&tasks).and_then(|()| target.submit(&tasks)) {
            Ok(submitted) => submitted,
            Err(error) => {
                // Whether the target has the others is not known; the source still does.
                let taken = error.taken.iter().filter(|(_, done)| !done.existed);
                let taken: Vec<Finished> =
                    taken.map(|(at, _)| end(&claim, *at, Outcome::Done)).collect();
                finish(source, &taken, &mut moved)?;
                let count = moved.count;
                // What it still had is taken back by whoever looks next, and the reason comes first.
                let _taken_back = source.close();
                let refused = error.kind != Kind::Unreachable;
                let unread = tasks.iter().any(|task| task.payload.check().is_err());
                let failure = Failure::from(error);
                let mut hints = Vec::from_iter(failure.hint.clone());
                if refused && unread {
                    hints.push(format!(
                        "a payload that is no JSON object may be the reason: a host at {from} makes its \
                         task a dead letter, and the others can be moved"
                    ));
                }
                if moved.doubled > 0 {
                    let are = if moved.doubled == 1 { "is" } else { "are" };
                    hints.push(format!(
                        "{} {are} at both stores, because the connection to {from} broke or the move was \
                         taken for dead there",
                        output::tasks(moved.doubled)
                    ));
                }
                if refused || count > 0 {
                    hints.push(format!("{}; the rest waits at {from}", were_moved(count)));
                }
                return Err(match hints.is_empty() {
                    true => failure,
                    false => failure.hint(hints.join("; ")),
                });
            }
        };
        let (there, new): (Vec<usize>, Vec<usize>) =
            (0..claim.tasks.len()).partition(|at| submitted[*at].existed);
        let done: Vec<Finished> =
            new.into_iter().map(|at| end(&claim, at, Outcome::Done)).collect();
        finish(source, &done, &mut moved)?;
        kept.extend(there.into_iter().map(|at| end(&claim, at, Outcome::Released)));
        if moved.doubled > 0 {
            // They would come again.
            break;
        }
        room = room.saturating_sub(claim.tasks.len() as u64);
    }
    moved.kept = kept.len() as u64;
    source.finish(&kept).map_err(|error| after(moved.count, error))?;
    Ok(moved)
}

/// Takes what the target has from the source.
fn finish(source: &mut dyn Transport, done: &[Finished], moved: &mut Moved) -> Result<(), Failure> {
    let lost = source.finish(done).map_err(|error| {
        let there = match error.kind {
            Kind::Unreachable => {
                "at the target; whether they will wait at the source again is not known: see `queue list` \
                 there before you move again"
            }
            _ => "at the target and will wait at the source again",
        };
        let failure = Failure::from(error);
        let before = failure.hint.clone().map(|hint| format!("{hint}; ")).unwrap_or_default();
        let hint = format!("{before}{}, and {} more are {there}", were_moved(moved.count), done.len());
        failure.hint(hint)
    })?;
    moved.doubled += lost.len() as u64;
    moved.count += (done.len() - lost.len()) as u64;
    Ok(())
}

/// What fails between two batches.
fn after(count: u64, error: TransportError) -> Failure {
    let failure = Failure::from(error);
    if count == 0 {
        return failure;
    }
    let before = failure.hint.clone().map(|hint| format!("{hint}; ")).unwrap_or_default();
    failure.hint(format!("{before}{}", were_moved(count)))
}

fn were_moved(count: u64) -> String {
    let were = if count == 1 { "was" } else { "were" };
    format!("{} {were} moved", output::tasks(count))
}

/// Refuses what would be another payload at the target.
fn are_texts(tasks: &[NewTask]) -> Result<(), TransportError> {
    let refusals = tasks.iter().filter(|task| !task.payload.is_text());
    let reason = refusals.filter_map(|task| task.payload.check().err()).next();
    reason.map_or(Ok(()), |error| Err(TransportError::new(Kind::Invalid, error.to_string())))
}

fn end(claim: &Claim, at: usize, outcome: Outcome) -> Finished {
    Finished { claim: claim.id, task: claim.tasks[at].id, outcome, submits: Vec::new() }
}

fn both_are(from: &Uri) -> Failure {
    Failure::new(format!("both transports are {from}"))
        .hint("name the transport to leave with --from and the new one with --to")
}

#[cfg(test)]
mod tests {
    use rex_transport::{NewTask, Options, Owner, Payload, QueueName, Uri, open};

    /// Producers that go on, and a store that does not know itself.
    #[test]
    fn a_move_ends_although_tasks_go_on_coming() {
        let uri = Uri::parse("localmem://carry").expect("a URI");
        let owner = Some(Owner { id: "mover".to_owned() });
        let mut source = open(&uri, &Options { owner, ..Options::default() }).expect("memory");
        let mut target = open(&uri, &Options::default()).expect("memory");
        let queue = QueueName::parse("foo").expect("a name");
        let task = NewTask::plain(queue.clone(), Payload::empty());
        source.submit(&vec![task; 450]).expect("memory");
        let moved = super::carry(&mut *source, &mut *target, &queue, &uri).ok();
        assert_eq!(moved.map(|moved| (moved.count, moved.kept, moved.doubled)), Some((450, 0, 0)));
        assert_eq!(target.poll(&queue).expect("memory"), 450);
    }
}
