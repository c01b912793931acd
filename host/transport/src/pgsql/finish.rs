//! Recording what became of tasks: a batch in one statement when all went well, in one transaction
//! when some died, went back or asked for more. The claims' rows say, inside it, what is still ours.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use serde_json::Value;

use super::failure::Trouble;
use super::session::Session;
use super::types::{micros, storable, storable_json};
use super::{Held, Pgsql};
use super::{owners, tasks};
use crate::{ClaimId, Death, Finished, NewTask, Outcome, QueueName, TaskId};

/// The tasks of the claims `$1`, a row each, as a part of a statement.
macro_rules! held {
    () => {
        "(
    SELECT claims.id AS claim, claims.keys, claims.queue_name, task.*
    FROM asynctask.rex_claims AS claims,
        unnest(claims.ids, claims.payloads, claims.dates, claims.attempts, claims.priorities)
            AS task (id, payload, date, attempt, priority)
    WHERE claims.id = ANY ($1)
) AS held"
    };
}

impl Pgsql {
    pub(super) fn record(
        &mut self,
        session: &mut Session,
        finished: &[Finished],
    ) -> Result<Vec<TaskId>, Trouble> {
        let batch = Batch::sort(finished, &self.held);
        let mut lost = batch.unknown.clone();
        if !batch.claims.is_empty() {
            let held = || batch.claims.keys().filter_map(|id| self.held.get(id));
            let free: BTreeSet<&QueueName> =
                held().filter(|held| held.is_limited).map(|held| &held.queue).collect();
            let keyed = held().any(|held| !held.keyed.is_empty());
            let kept = if batch.is_plain() && !keyed && free.is_empty() {
                batch.mark(session, self.owner)?
            } else {
                session.transaction(|session| {
                    let kept = batch.write(session, self.owner)?;
                    if keyed {
                        batch.free_keys(session, &kept, &self.held)?;
                    }
                    // Whoever found the queue's limit reached may claim now.
                    if !free.is_empty() {
                        tasks::notify(session, free.iter().map(|queue| queue.as_str()))?;
                    }
                    Ok(kept)
                })?
            };
            // What went back is below what was taken since.
            for (id, task) in &batch.released {
                match self.held.get(id) {
                    Some(held) if held.is_plain => self.marks.put_back(&held.queue, task.0),
                    Some(held) => self.marks.forget(&held.queue),
                    None => {}
                }
            }
            for (id, ended) in &batch.claims {
                if !kept.contains(id) {
                    self.held.remove(id);
                    lost.extend(&ended.tasks);
                } else if ended.is_whole() {
                    self.held.remove(id);
                } else if let Some(held) = self.held.get_mut(id) {
                    let mut gone = ended.gone.iter();
                    held.tasks.retain(|_| gone.next() == Some(&false));
                }
            }
        }
        for id in &batch.repeated {
            if self.held.get(id).is_some_and(|held| held.tasks.is_empty()) {
                self.held.remove(id);
            }
        }
        Ok(lost)
    }
}

/// What a batch does to one claim.
struct Ended {
    tasks: Vec<TaskId>,
    /// For each task that was held, whether it is one of them.
    gone: Vec<bool>,
}

impl Ended {
    /// Whether the claim has no task left after it.
    fn is_whole(&self) -> bool {
        self.tasks.len() == self.gone.len()
    }
}

/// A batch, sorted by what is to be written.
#[derive(Default)]
struct Batch<'a> {
    claims: BTreeMap<ClaimId, Ended>,
    /// Done or dead: their unique keys are free.
    gone: Vec<(ClaimId, TaskId)>,
    dead: Vec<(ClaimId, TaskId, &'a Death)>,
    /// With the time to wait and the history.
    retried: Vec<(ClaimId, TaskId, Duration, &'a Value)>,
    released: Vec<(ClaimId, TaskId)>,
    submits: Vec<(ClaimId, &'a NewTask)>,
    /// Tasks of claims that this owner does not hold.
    unknown: Vec<TaskId>,
    /// Claims of tasks that were recorded before, by a call whose reply was lost.
    repeated: Vec<ClaimId>,
}

impl<'a> Batch<'a> {
    fn sort(finished: &'a [Finished], held: &BTreeMap<ClaimId, Held>) -> Batch<'a> {
        let mut batch = Batch::default();
        for one in finished {
            let Some(Held { tasks, .. }) = held.get(&one.claim) else {
                batch.unknown.push(one.task);
                continue;
            };
            let ended = tasks.binary_search(&one.task).ok().and_then(|place| {
                let unended = || Ended { tasks: Vec::new(), gone: vec![false; tasks.len()] };
                let ended = batch.claims.entry(one.claim).or_insert_with(unended);
                let gone = ended.gone.get_mut(place)?;
                (!std::mem::replace(gone, true)).then_some(ended)
            });
            let Some(ended) = ended else {
                batch.repeated.push(one.claim);
                continue;
            };
            ended.tasks.push(one.task);
            match &one.outcome {
                Outcome::Done => batch.gone.push((one.claim, one.task)),
                Outcome::Dead(death) => {
                    batch.gone.push((one.claim, one.task));
                    batch.dead.push((one.claim, one.task, death));
                }
                Outcome::Retry { after, history } => {
                    batch.retried.push((one.claim, one.task, *after, history));
                }
                Outcome::Released => batch.released.push((one.claim, one.task)),
            }
            batch.submits.extend(one.submits.iter().map(|task| (one.claim, task)));
        }
        batch
    }

    /// Whether every task is simply done.
    fn is_plain(&self) -> bool {
        self.dead.is_empty()
            && self.retried.is_empty()
            && self.released.is_empty()
            && self.submits.is_empty()
    }

    /// Marks tasks done and ends the claims that have none left; returns the claims that were ours.
    fn mark(&self, session: &mut Session, owner: Option<i64>) -> Result<HashSet<ClaimId>, Trouble> {
        /// `$1` owner, `$2` claims that end; of others `$3` claims, `$4` tasks, a pair for each
        /// task. One row for each claim that is still the owner's. Payloads are not touched: what
        /// PostgreSQL keeps out of line is not written again. Claims are found by their ids, also
        /// where there are none to be found: else all that lately ended might be gone through.
        const MARK: &str = "
WITH ended AS (
    DELETE FROM asynctask.rex_claims
    WHERE owner = $1 AND id = ANY ($2)
    RETURNING id
), marked AS (
    UPDATE asynctask.rex_claims AS claims
    SET done = claims.done || given.tasks
    FROM (
        SELECT claim, array_agg(task) AS tasks
        FROM unnest($3::bigint[], $4::bigint[]) AS pairs (claim, task)
        GROUP BY claim
    ) AS given
    WHERE claims.id = given.claim AND claims.id = ANY ($3) AND claims.owner = $1
    RETURNING claims.id
)
SELECT id FROM ended
UNION ALL
SELECT id FROM marked";
        let whole = self.claims.iter().filter(|(_, ended)| ended.is_whole());
        let whole: Vec<i64> = whole.map(|(id, _)| id.0).collect();
        let (mut claims, mut tasks) = (Vec::new(), Vec::new());
        for (id, ended) in self.claims.iter().filter(|(_, ended)| !ended.is_whole()) {
            claims.extend(ended.tasks.iter().map(|_| id.0));
            tasks.extend(ended.tasks.iter().map(|task| task.0));
        }
        let rows = session.rows(MARK, &[&owner, &whole, &claims, &tasks])?;
        Ok(rows.iter().map(|row| ClaimId(row.get(0))).collect())
    }

    /// Writes all of the batch that is still ours.
    fn write(
        &self,
        session: &mut Session,
        owner: Option<i64>,
    ) -> Result<HashSet<ClaimId>, Trouble> {
        /// `$1` owner, `$2` claims. Held until the transaction ends; in order, so that nobody waits
        /// in a circle.
        const HOLD: &str = "
SELECT id
FROM asynctask.rex_claims
WHERE owner = $1 AND id = ANY ($2)
ORDER BY id
FOR UPDATE";
        let claims: Vec<i64> = self.claims.keys().map(|id| id.0).collect();
        let rows = session.rows(HOLD, &[&owner, &claims])?;
        let kept: HashSet<ClaimId> = rows.iter().map(|row| ClaimId(row.get(0))).collect();
        self.bury(session, &kept)?;
        self.retry(session, &kept)?;
        self.release(session, &kept)?;
        self.mark(session, owner)?;
        let submits: Vec<NewTask> = self
            .submits
            .iter()
            .filter(|(claim, _)| kept.contains(claim))
            .map(|(_, task)| (*task).clone())
            .collect();
        if !submits.is_empty() {
            tasks::put(session, &submits)?;
        }
        Ok(kept)
    }

    /// Copies the dead to the dead letters.
    fn bury(&self, session: &mut Session, kept: &HashSet<ClaimId>) -> Result<(), Trouble> {
        /// `$1` claims, `$2` tasks, `$3` reasons, `$4` details: one of each for each death, in the
        /// order in which they are to be listed.
        const BURY: &str = concat!(
            "
INSERT INTO asynctask.rex_dead
    (id, queue_name, payload, date_submitted, priority, attempts, reason, details)
SELECT held.id, held.queue_name, held.payload, held.date, coalesce(held.priority, 0), held.attempt,
    given.reason, given.details::jsonb
FROM ",
            held!(),
            "
JOIN unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])
    WITH ORDINALITY AS given (claim, task, reason, details, place)
    ON given.claim = held.claim AND given.task = held.id
ORDER BY given.place"
        );
        let dead: Vec<_> = self.dead.iter().filter(|(claim, ..)| kept.contains(claim)).collect();
        if dead.is_empty() {
            return Ok(());
        }
        let claims: Vec<i64> = dead.iter().map(|(claim, ..)| claim.0).collect();
        let tasks: Vec<i64> = dead.iter().map(|(_, task, _)| task.0).collect();
        let reasons: Vec<String> = dead.iter().map(|(.., death)| storable(&death.reason)).collect();
        let details: Vec<String> =
            dead.iter().map(|(.., death)| storable_json(&death.details)).collect();
        session.change(BURY, &[&claims, &tasks, &reasons, &details])?;
        Ok(())
    }

    /// Copies what is to be tried again to where tasks with attributes wait.
    fn retry(&self, session: &mut Session, kept: &HashSet<ClaimId>) -> Result<(), Trouble> {
        /// `$1` claims, `$2` tasks, `$3` microseconds to wait, `$4` histories, `$5` ids to wait
        /// under: one of each for each task. The places (from 1) of those whose id is another's: one
        /// that was given out again meanwhile must not cost the task. A key goes with its task.
        const RETRY: &str = concat!(
            "
WITH back AS MATERIALIZED (
    SELECT held.*, given.wait, given.history, given.goal, given.place,
        row_number() OVER (PARTITION BY given.goal ORDER BY given.place) AS turn
    FROM ",
            held!(),
            "
    JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[])
        WITH ORDINALITY AS given (claim, task, wait, history, goal, place)
        ON given.claim = held.claim AND given.task = held.id
), put AS (
    INSERT INTO asynctask.rex_tasks
        (id, queue_name, payload, date_submitted, priority, attempt, due, history)
    SELECT goal, queue_name, payload, date, coalesce(priority, 0), attempt + 1,
        clock_timestamp() + wait * interval '1 microsecond', history::json
    FROM back
    WHERE turn = 1
    ON CONFLICT (id) DO NOTHING
    RETURNING id
), keys AS (
    UPDATE asynctask.rex_keys AS keys
    SET task = back.goal
    FROM back JOIN put ON put.id = back.goal
    WHERE keys.task = back.id AND back.id = ANY (back.keys)
        AND back.turn = 1 AND back.goal <> back.id
)
SELECT place FROM back WHERE turn > 1 OR goal NOT IN (SELECT id FROM put)"
        );
        let mut left: Vec<_> = self
            .retried
            .iter()
            .filter(|(claim, ..)| kept.contains(claim))
            .map(|retried| (retried, retried.1.0))
            .collect();
        while !left.is_empty() {
            let claims: Vec<i64> = left.iter().map(|((claim, ..), _)| claim.0).collect();
            let tasks: Vec<i64> = left.iter().map(|((_, task, ..), _)| task.0).collect();
            let waits: Vec<i64> = left.iter().map(|((.., wait, _), _)| micros(*wait)).collect();
            let histories: Vec<String> =
                left.iter().map(|((.., history), _)| storable_json(history)).collect();
            let ids: Vec<i64> = left.iter().map(|(_, id)| *id).collect();
            let rows = session.rows(RETRY, &[&claims, &tasks, &waits, &histories, &ids])?;
            left = tasks::renumber(session, &left, &rows)?;
        }
        Ok(())
    }

    /// Lets tasks of the same key in again.
    fn free_keys(
        &self,
        session: &mut Session,
        kept: &HashSet<ClaimId>,
        held: &BTreeMap<ClaimId, Held>,
    ) -> Result<(), Trouble> {
        /// `$1` tasks.
        const FREE: &str = "DELETE FROM asynctask.rex_keys WHERE task = ANY ($1)";
        let has_key = |claim, task| held.get(claim).is_some_and(|held| held.keyed.contains(task));
        let gone =
            self.gone.iter().filter(|(claim, task)| kept.contains(claim) && has_key(claim, task));
        let gone: Vec<i64> = gone.map(|(_, task)| task.0).collect();
        session.change(FREE, &[&gone])?;
        Ok(())
    }

    /// Copies what goes back to its old place in the queue.
    fn release(&self, session: &mut Session, kept: &HashSet<ClaimId>) -> Result<(), Trouble> {
        let released: Vec<_> = self.released.iter().filter(|(id, _)| kept.contains(id)).collect();
        if released.is_empty() {
            return Ok(());
        }
        let claims: Vec<i64> = released.iter().map(|(claim, _)| claim.0).collect();
        let tasks: Vec<i64> = released.iter().map(|(_, task)| task.0).collect();
        owners::put_back(session, &claims, Some(&tasks)).map(|_| ())
    }
}
