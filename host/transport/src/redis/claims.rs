//! Taking tasks and recording what became of them, a script each.

use super::scripts::call;
use super::{Redis, connect, tasks};
use crate::{
    Claim, ClaimId, ClaimedTask, Finished, Outcome, QueueName, TaskId, TransportError, Want,
};

impl Redis {
    pub(super) fn take(
        &mut self,
        queue: &QueueName,
        want: &Want,
    ) -> Result<Option<Claim>, TransportError> {
        let owner = self.owner()?;
        if self.doubt
            && let Some(claim) = self.find_unreturned(owner, queue, want)?
        {
            return Ok(Some(claim));
        }
        // Asked first, so that polling runs no script.
        if want.tasks == 0 || self.is_surely_empty(queue)? {
            return Ok(None);
        }
        let taken = self.with_connection(|redis, connection| {
            let mut claim = call(&redis.scripts.claim, &redis.address);
            claim.arg(owner).arg(queue.as_str()).arg(want.tasks).arg(want.bytes);
            match claim
                .arg(want.in_flight.map(|limit| limit.to_string()).unwrap_or_default())
                .invoke(connection)
            {
                Err(error) if connect::is_gone(&error) => Ok(None),
                answer => answer.map(Some),
            }
        });
        let rows: Vec<Vec<u8>> = match taken {
            Ok(Some(rows)) => rows,
            // It was taken for dead and lives: it starts anew.
            Ok(None) => {
                self.register_again()?;
                return self.take(queue, want);
            }
            Err(error) => {
                self.doubt = true;
                return Err(error);
            }
        };
        let Some((id, rows)) = rows.split_first() else { return Ok(None) };
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).map(ClaimId);
        let Some(id) = id else { return Ok(None) };
        self.known.insert(id, queue, want);
        Ok(claim(id, queue, tasks::claimed(rows)))
    }

    /// A claim of ours that was made although the call that made it failed.
    fn find_unreturned(
        &mut self,
        owner: i64,
        queue: &QueueName,
        want: &Want,
    ) -> Result<Option<Claim>, TransportError> {
        let rows: Vec<String> = self.with_connection(|redis, connection| {
            call(&redis.scripts.held, &redis.address).arg(owner).invoke(connection)
        })?;
        let ours = rows.chunks(2).filter_map(|pair| match pair {
            [id, name] => Some((ClaimId(id.parse().ok()?), name)),
            _ => None,
        });
        let unreturned: Vec<(ClaimId, &String)> =
            ours.filter(|(id, _)| !self.known.contains(*id)).collect();
        let Some((id, _)) = unreturned.iter().find(|(_, name)| *name == queue.as_str()) else {
            self.doubt = !unreturned.is_empty();
            return Ok(None);
        };
        let key = format!("{}:rex:claim:{}", self.address.prefix, id.0);
        let fields: Vec<(i64, Vec<u8>)> =
            self.with_connection(|_, connection| redis::cmd("HGETALL").arg(key).query(connection))?;
        let ids: Vec<i64> = fields.iter().map(|(task, _)| *task).collect();
        let history = self.ours("history");
        let histories: Vec<Option<Vec<u8>>> = self.with_connection(|_, connection| {
            redis::cmd("HMGET").arg(history).arg(&ids).query(connection)
        })?;
        let mut rows: Vec<ClaimedTask> = fields
            .iter()
            .zip(histories)
            .flat_map(|((task, value), history)| {
                // "SUBMITTED ATTEMPT PAYLOAD"
                let mut parts = value.splitn(3, |byte| *byte == b' ');
                let mut part = || parts.next().unwrap_or_default();
                let mut meta = task.to_string().into_bytes();
                for word in [part(), part()] {
                    meta.push(b' ');
                    meta.extend_from_slice(word);
                }
                tasks::claimed(&[meta, part().to_vec(), history.unwrap_or_default()])
            })
            .collect();
        rows.sort_by_key(|task| task.id);
        self.known.insert(*id, queue, want);
        Ok(claim(*id, queue, rows))
    }

    pub(super) fn record(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        let owner = self.owner()?;
        if finished.is_empty() {
            return Ok(Vec::new());
        }
        let freed = self.known.freed(finished);
        let channel = self.address.channel();
        let (lost, ended): (Vec<i64>, Vec<i64>) = self.with_connection(|redis, connection| {
            let mut finish = call(&redis.scripts.finish, &redis.address);
            finish.arg(owner);
            for one in finished {
                let (outcome, death) = match &one.outcome {
                    Outcome::Done => ("done".to_owned(), String::new()),
                    Outcome::Released => ("back".to_owned(), String::new()),
                    Outcome::Dead(death) => {
                        ("dead".to_owned(), serde_json::to_string(death).unwrap_or_default())
                    }
                    Outcome::Retry { after, history } => {
                        (after.as_micros().to_string(), history.to_string())
                    }
                };
                finish.arg(one.claim.0).arg(one.task.0).arg(outcome).arg(death);
                finish.arg(one.submits.len());
                for task in &one.submits {
                    tasks::add_to(&mut finish, task);
                }
            }
            let answer = finish.invoke(connection)?;
            for queue in &freed {
                tasks::tell(connection, &channel, queue)?;
            }
            Ok(answer)
        })?;
        self.known.forget(ended.into_iter().map(ClaimId));
        Ok(lost.into_iter().map(TaskId).collect())
    }
}

fn claim(id: ClaimId, queue: &QueueName, tasks: Vec<ClaimedTask>) -> Option<Claim> {
    (!tasks.is_empty()).then(|| Claim { id, queue: queue.clone(), tasks })
}
