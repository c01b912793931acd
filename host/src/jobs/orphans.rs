//! Jobs that submit something. The store has the submits and the task's end in one, and the table of jobs
//! is another: so the store is told first, and then the row ends. What the store is told has a task for
//! the queue `rex_job_ended` beside the submits, which names the run: hosts take it, and end the row if the
//! job's host died before it could. It is this way round because a store may refuse submits, and because
//! what is not recorded at all is made again.

use std::time::Instant;

use rex_transport::{
    ClaimId, Death, Finished, NewTask, Outcome, Payload, QueueName, TaskId, Transport,
    TransportError, Want,
};
use serde_json::json;

use super::table::{Known, NOT_AT_ALL, Orphan, Table};
use super::{Book, ORPHANS};

/// Those that this host has taken.
#[derive(Debug, Default)]
pub(super) struct Orphans(Vec<Taken>);

#[derive(Debug)]
struct Taken {
    claim: ClaimId,
    task: TaskId,
    /// The error is about its payload.
    orphan: Result<Orphan, String>,
    /// Since when its host could have ended the row, and lives.
    could: Option<Instant>,
}

/// Taken at once, and in all.
const MOST: usize = 1000;

/// What is submitted for a run.
pub(super) fn task(orphan: Orphan) -> Option<NewTask> {
    let text = serde_json::to_string(&orphan).ok()?;
    Some(NewTask::plain(queue()?, Payload::from_stored(text)))
}

fn queue() -> Option<QueueName> {
    QueueName::parse(ORPHANS).ok()
}

/// Whether no host has any, and none waits. To be asked after the queue of the jobs: they come when a
/// task leaves that.
pub(super) fn are_none(inner: &mut dyn Transport) -> Result<bool, TransportError> {
    queue().map_or(Ok(true), |queue| inner.is_idle(&queue))
}

impl Orphans {
    /// Takes what is there and ends the rows whose hosts are dead. Nothing of this is worth an outage:
    /// what fails is tried again at the next look.
    pub(super) fn look(&mut self, inner: &mut dyn Transport, table: &mut Table, book: &Book) {
        if let Err(error) = self.try_look(inner, table, book) {
            tracing::debug!("cannot look for jobs whose hosts died at their end: {error}");
        }
    }

    fn try_look(
        &mut self,
        inner: &mut dyn Transport,
        table: &mut Table,
        book: &Book,
    ) -> Result<(), TransportError> {
        let Some(queue) = queue() else { return Ok(()) };
        while self.0.len() < MOST
            && let Some(claim) = inner.claim(&queue, &Want::tasks(MOST))?
        {
            let id = claim.id;
            self.0.extend(claim.tasks.into_iter().map(|task| Taken {
                claim: id,
                task: task.id,
                orphan: serde_json::from_str(task.payload.as_str()).map_err(|e| e.to_string()),
                could: None,
            }));
        }
        let certain = !inner.submits_first();
        table.set_patience(NOT_AT_ALL);
        let (mut over, mut result) = (Vec::new(), Ok(()));
        for Taken { claim, task, orphan, could } in &mut self.0 {
            let outcome = match orphan {
                Ok(orphan) => {
                    // One that keeps its connection and does nothing, because somebody has stopped it.
                    let is_late = could.is_some_and(|since| since.elapsed() > inner.lease());
                    let known = Known { certain, here: book.has(orphan.task), late: is_late };
                    match table.end_orphan(*orphan, known) {
                        Ok(true) => Outcome::Done,
                        Ok(false) => {
                            could.get_or_insert_with(Instant::now);
                            continue;
                        }
                        Err(error) if error.away => {
                            result = Err(error.into());
                            break;
                        }
                        // Of this row alone.
                        Err(_) => {
                            *could = None;
                            continue;
                        }
                    }
                }
                Err(error) => Outcome::Dead(Death {
                    reason: format!("It names no run of a job: {error}"),
                    details: json!({"kind": "error", "text": error.as_str()}),
                }),
            };
            over.push(Finished { claim: *claim, task: *task, outcome, submits: Vec::new() });
        }
        if !over.is_empty() {
            inner.finish(&over)?;
            let held_back = inner.held_back();
            let is_over = |task| over.iter().any(|one| one.task == task);
            self.0.retain(|taken| !is_over(taken.task) || held_back.contains(&taken.task));
        }
        result
    }

    /// Forgets what others have taken over.
    pub(super) fn forget(&mut self, claims: &[ClaimId]) {
        self.0.retain(|taken| !claims.contains(&taken.claim));
    }
}
