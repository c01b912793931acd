//! Taking tasks and recording what became of them, a script each.

use super::scripts::call;
use super::{Redis, connect, tasks};
use crate::{
    Claim, ClaimId, ClaimedTask, Finished, Outcome, QueueName, TaskId, TransportError, WaitingTask,
};

impl Redis {
    pub(super) fn take(
        &mut self,
        queue: &QueueName,
        max: usize,
    ) -> Result<Option<Claim>, TransportError> {
        let owner = self.owner()?;
        if self.doubt
            && let Some(claim) = self.find_unreturned(owner, queue)?
        {
            return Ok(Some(claim));
        }
        // An empty list is no key: asked first, so that polling runs no script.
        if max == 0 || self.count_waiting(queue)? == 0 {
            return Ok(None);
        }
        let taken = self.with_connection(|redis, connection| {
            let mut claim = call(&redis.scripts.claim, &redis.address);
            match claim.arg(owner).arg(queue.as_str()).arg(max).invoke(connection) {
                Err(error) if connect::is_gone(&error) => Ok(None),
                answer => answer.map(Some),
            }
        });
        let rows: Vec<Vec<u8>> = match taken {
            Ok(Some(rows)) => rows,
            // It was taken for dead and lives: it starts anew.
            Ok(None) => {
                self.register_again()?;
                return self.take(queue, max);
            }
            Err(error) => {
                self.doubt = true;
                return Err(error);
            }
        };
        let Some((id, rows)) = rows.split_first() else { return Ok(None) };
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).map(ClaimId);
        let Some(id) = id else { return Ok(None) };
        self.known.insert(id);
        Ok(claim(id, queue, tasks::tasks(rows)))
    }

    /// A claim of ours that was made although the call that made it failed.
    fn find_unreturned(
        &mut self,
        owner: i64,
        queue: &QueueName,
    ) -> Result<Option<Claim>, TransportError> {
        let rows: Vec<String> = self.with_connection(|redis, connection| {
            call(&redis.scripts.held, &redis.address).arg(owner).invoke(connection)
        })?;
        let ours = rows.chunks(2).filter_map(|pair| match pair {
            [id, name] => Some((ClaimId(id.parse().ok()?), name)),
            _ => None,
        });
        let unreturned: Vec<(ClaimId, &String)> =
            ours.filter(|(id, _)| !self.known.contains(id)).collect();
        let Some((id, _)) = unreturned.iter().find(|(_, name)| *name == queue.as_str()) else {
            self.doubt = !unreturned.is_empty();
            return Ok(None);
        };
        let key = format!("{}:rex:claim:{}", self.address.prefix, id.0);
        let fields: Vec<(i64, Vec<u8>)> =
            self.with_connection(|_, connection| redis::cmd("HGETALL").arg(key).query(connection))?;
        let mut rows: Vec<WaitingTask> = fields
            .iter()
            .flat_map(|(task, value)| {
                // "SUBMITTED ATTEMPT PAYLOAD"
                let mut parts = value.splitn(3, |byte| *byte == b' ');
                let mut part = || parts.next().unwrap_or_default();
                let mut meta = task.to_string().into_bytes();
                for word in [part(), part()] {
                    meta.push(b' ');
                    meta.extend_from_slice(word);
                }
                tasks::tasks(&[meta, part().to_vec()])
            })
            .collect();
        rows.sort_by_key(|task| task.id);
        self.known.insert(*id);
        Ok(claim(*id, queue, rows))
    }

    pub(super) fn record(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        let owner = self.owner()?;
        if finished.is_empty() {
            return Ok(Vec::new());
        }
        let lost: Vec<i64> = self.with_connection(|redis, connection| {
            let mut finish = call(&redis.scripts.finish, &redis.address);
            finish.arg(owner);
            for one in finished {
                let (outcome, death) = match &one.outcome {
                    Outcome::Done => ("done", String::new()),
                    Outcome::Released => ("back", String::new()),
                    Outcome::Dead(death) => {
                        ("dead", serde_json::to_string(death).unwrap_or_default())
                    }
                };
                finish.arg(one.claim.0).arg(one.task.0).arg(outcome).arg(death);
                finish.arg(one.submits.len());
                for task in &one.submits {
                    finish.arg(task.queue.as_str()).arg(task.payload.as_str());
                }
            }
            finish.invoke(connection)
        })?;
        Ok(lost.into_iter().map(TaskId).collect())
    }
}

fn claim(id: ClaimId, queue: &QueueName, tasks: Vec<WaitingTask>) -> Option<Claim> {
    let tasks: Vec<ClaimedTask> = tasks
        .into_iter()
        .map(|task| ClaimedTask {
            id: task.id,
            attempt: task.attempt,
            submitted: task.submitted,
            payload: task.payload,
        })
        .collect();
    (!tasks.is_empty()).then(|| Claim { id, queue: queue.clone(), tasks })
}
