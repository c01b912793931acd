//! Recording what became of tasks: a batch in one statement when all went well, in one transaction
//! when some died, went back or asked for more. The claims' rows say, inside it, what is still ours.

use std::collections::{BTreeMap, HashSet};

use super::Pgsql;
use super::failure::Trouble;
use super::session::Session;
use super::types::{storable, storable_json};
use super::{owners, tasks};
use crate::{ClaimId, Death, Finished, NewTask, Outcome, TaskId};

impl Pgsql {
    pub(super) fn record(
        &mut self,
        session: &mut Session,
        finished: &[Finished],
    ) -> Result<Vec<TaskId>, Trouble> {
        let batch = Batch::sort(finished, &self.held);
        let mut lost = batch.unknown.clone();
        if !batch.claims.is_empty() {
            let kept = if batch.is_plain() {
                batch.mark(session, self.owner)?
            } else {
                session.transaction(|session| batch.write(session, self.owner))?
            };
            for (id, ended) in &batch.claims {
                if !kept.contains(id) {
                    self.held.remove(id);
                    lost.extend(&ended.tasks);
                } else if ended.whole {
                    self.held.remove(id);
                } else if let Some(held) = self.held.get_mut(id) {
                    held.retain(|task| !ended.tasks.contains(task));
                }
            }
        }
        for id in &batch.repeated {
            if self.held.get(id).is_some_and(HashSet::is_empty) {
                self.held.remove(id);
            }
        }
        Ok(lost)
    }
}

/// What a batch does to one claim.
#[derive(Default)]
struct Ended {
    tasks: Vec<TaskId>,
    /// Whether the claim has no task left after it.
    whole: bool,
}

/// A batch, sorted by what is to be written.
#[derive(Default)]
struct Batch<'a> {
    claims: BTreeMap<ClaimId, Ended>,
    dead: Vec<(ClaimId, TaskId, &'a Death)>,
    released: Vec<(ClaimId, TaskId)>,
    submits: Vec<(ClaimId, &'a NewTask)>,
    /// Tasks of claims that this owner does not hold.
    unknown: Vec<TaskId>,
    /// Claims of tasks that were recorded before, by a call whose reply was lost.
    repeated: Vec<ClaimId>,
}

impl<'a> Batch<'a> {
    fn sort(
        finished: &'a [Finished],
        held: &std::collections::HashMap<ClaimId, HashSet<TaskId>>,
    ) -> Batch<'a> {
        let mut batch = Batch::default();
        let mut seen = HashSet::new();
        for one in finished {
            let Some(tasks) = held.get(&one.claim) else {
                batch.unknown.push(one.task);
                continue;
            };
            if !tasks.contains(&one.task) || !seen.insert((one.claim, one.task)) {
                batch.repeated.push(one.claim);
                continue;
            }
            let ended = batch.claims.entry(one.claim).or_default();
            ended.tasks.push(one.task);
            ended.whole = ended.tasks.len() == tasks.len();
            match &one.outcome {
                Outcome::Done => {}
                Outcome::Dead(death) => batch.dead.push((one.claim, one.task, death)),
                Outcome::Released => batch.released.push((one.claim, one.task)),
            }
            batch.submits.extend(one.submits.iter().map(|task| (one.claim, task)));
        }
        batch
    }

    /// Whether every task is simply done.
    fn is_plain(&self) -> bool {
        self.dead.is_empty() && self.released.is_empty() && self.submits.is_empty()
    }

    /// Marks tasks done and ends the claims that have none left; returns the claims that were ours.
    fn mark(&self, session: &mut Session, owner: Option<i64>) -> Result<HashSet<ClaimId>, Trouble> {
        /// `$1` owner, `$2` claims that end; of others `$3` claims, `$4` tasks, a pair for each
        /// task. One row for each claim that is still the owner's. Payloads are not touched: what
        /// PostgreSQL keeps out of line is not written again.
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
    WHERE claims.id = given.claim AND claims.owner = $1
    RETURNING claims.id
)
SELECT id FROM ended
UNION ALL
SELECT id FROM marked";
        let whole = self.claims.iter().filter(|(_, ended)| ended.whole);
        let whole: Vec<i64> = whole.map(|(id, _)| id.0).collect();
        let (mut claims, mut tasks) = (Vec::new(), Vec::new());
        for (id, ended) in self.claims.iter().filter(|(_, ended)| !ended.whole) {
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
        self.release(session, &kept)?;
        self.mark(session, owner)?;
        let submits: Vec<NewTask> = self
            .submits
            .iter()
            .filter(|(claim, _)| kept.contains(claim))
            .map(|(_, task)| (*task).clone())
            .collect();
        if !submits.is_empty() {
            tasks::insert(session, &submits)?;
            if !session.has_trigger {
                tasks::notify(session, submits.iter().map(|task| task.queue.as_str()))?;
            }
        }
        Ok(kept)
    }

    /// Copies the dead to the dead letters.
    fn bury(&self, session: &mut Session, kept: &HashSet<ClaimId>) -> Result<(), Trouble> {
        /// `$1` claims, `$2` tasks, `$3` reasons, `$4` details: one of each for each death, in the
        /// order in which they are to be listed.
        const BURY: &str = "
INSERT INTO asynctask.rex_dead
    (id, queue_name, payload, date_submitted, attempts, reason, details)
SELECT held.id, held.queue_name, held.payload, held.date, held.attempt, given.reason,
    given.details::jsonb
FROM (
    SELECT claims.id AS claim, claims.queue_name, task.*
    FROM asynctask.rex_claims AS claims,
        unnest(claims.ids, claims.payloads, claims.dates, claims.attempts)
            AS task (id, payload, date, attempt)
    WHERE claims.id = ANY ($1)
) AS held
JOIN unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])
    WITH ORDINALITY AS given (claim, task, reason, details, place)
    ON given.claim = held.claim AND given.task = held.id
ORDER BY given.place";
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
