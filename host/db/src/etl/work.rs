//! The course of a command: batches are read, run, and their identities given on one by one.
//!
//! Memory holds two batches: where the feed comes from another connection, the next one is read
//! while the database works on the last.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::join;
use rex_htsql::catalog::Catalog;
use rex_htsql::error::Mark;
use rex_htsql::literal::dump;
use rex_htsql::plan::{EtlKind, EtlPlan, Target};
use rex_htsql::{Error, Stage, Value};

use super::verbs::Verb;
use super::{Culprit, Failed};
use crate::connection::Connection;
use crate::product::Feed;

const BATCH_RECORDS: usize = 8192;
const BATCH_BYTES: usize = 8 << 20;

/// A record with its number in the feed, from 1.
pub(super) struct Numbered {
    pub(super) number: usize,
    pub(super) record: Value,
}

/// Records to run together; `last` once the feed has ended.
#[derive(Default)]
struct Batch {
    records: Vec<Numbered>,
    last: bool,
    /// The feed broke off after these records.
    error: Option<Error>,
}

/// A running command.
pub(crate) struct Work<'a> {
    verb: Verb,
    reader: Reader<'a>,
    kind: EtlKind,
    mark: Mark,
    overlap: bool,
    pending: Option<Batch>,
    out: VecDeque<Value>,
    ended: bool,
}

struct Reader<'a> {
    feed: Feed<'a>,
    number: usize,
}

impl<'a> Work<'a> {
    /// `overlap`: the feed comes from another connection.
    pub(super) fn new(
        connection: Arc<Connection>,
        catalog: Arc<Catalog>,
        plan: &EtlPlan,
        target: Target,
        feed: Feed<'a>,
        overlap: bool,
    ) -> Work<'a> {
        Work {
            verb: Verb::new(connection, catalog, plan.kind, target),
            reader: Reader { feed, number: 0 },
            kind: plan.kind,
            mark: plan.mark.clone(),
            overlap,
            pending: None,
            out: VecDeque::new(),
            ended: false,
        }
    }

    /// The next identity; runs the next batch when there is none left. Verbs that return nothing
    /// run to their end.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, Error> {
        loop {
            if let Some(id) = self.out.pop_front() {
                return Ok(Some(id));
            }
            if self.ended {
                return Ok(None);
            }
            if let Err(error) = self.step().await {
                self.ended = true;
                return Err(error.at(Stage::Processing, &self.mark));
            }
        }
    }

    async fn step(&mut self) -> Result<(), Error> {
        let batch = match self.pending.take() {
            Some(batch) => batch,
            None => self.reader.batch().await,
        };
        let (kind, is_list) = (self.kind, self.verb.target().is_list);
        let work = run_batch(&mut self.verb, kind, is_list, &batch.records);
        let ids = if self.overlap && !batch.last && batch.error.is_none() {
            let (ids, next) = join(work, self.reader.batch()).await;
            self.pending = Some(next);
            ids?
        } else {
            work.await?
        };
        self.out.extend(ids);
        self.ended = batch.last;
        batch.error.map_or(Ok(()), Err)
    }
}

impl Reader<'_> {
    async fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.records.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            match self.feed.next().await {
                Ok(Some(item)) => {
                    self.number += 1;
                    // No list goes into a table.
                    let record = item.without_lists();
                    if record != Value::Null {
                        bytes += record.size();
                        batch.records.push(Numbered { number: self.number, record });
                    }
                }
                Ok(None) => {
                    batch.last = true;
                    break;
                }
                Err(error) => {
                    batch.error = Some(error);
                    break;
                }
            }
        }
        batch
    }
}

/// Runs a batch; where it fails, runs its parts, down to the first record to blame.
async fn run_batch(
    verb: &mut Verb,
    kind: EtlKind,
    is_list: bool,
    records: &[Numbered],
) -> Result<Vec<Value>, Error> {
    let mut ids = Vec::new();
    let mut parts = vec![records];
    while let Some(part) = parts.pop() {
        let (left, right) = part.split_at(part.len() / 2);
        match part {
            [] => {}
            [one] => {
                verb.connection().send("SAVEPOINT rex_batch");
                match verb.run(part).await {
                    Ok(found) => {
                        verb.connection().send("RELEASE SAVEPOINT rex_batch");
                        ids.extend(found);
                    }
                    Err(failed) => {
                        verb.connection().send("ROLLBACK TO SAVEPOINT rex_batch");
                        let failed = verb.reconsider(failed, part).await;
                        return Err(blame(failed, verb, kind, is_list, Some(one)));
                    }
                }
            }
            _ => {
                verb.connection().run("SAVEPOINT rex_batch").await?;
                match verb.run(part).await {
                    Ok(found) => {
                        verb.connection().run("RELEASE SAVEPOINT rex_batch").await?;
                        ids.extend(found);
                    }
                    Err(failed @ Failed { culprit: Some(Culprit::Record(at)), .. }) => {
                        return Err(blame(failed, verb, kind, is_list, part.get(at)));
                    }
                    Err(failed @ Failed { culprit: Some(Culprit::Batch), .. }) => {
                        return Err(blame(failed, verb, kind, is_list, None));
                    }
                    Err(Failed { error, stop: true, .. }) => return Err(error),
                    Err(_) => {
                        let undo = "ROLLBACK TO SAVEPOINT rex_batch; RELEASE SAVEPOINT rex_batch";
                        verb.connection().run(undo).await?;
                        parts.push(right);
                        parts.push(left);
                    }
                }
            }
        }
    }
    Ok(ids)
}

/// Says of which record an error is; one of the whole batch stays as it is said.
fn blame(
    failed: Failed,
    verb: &Verb,
    kind: EtlKind,
    is_list: bool,
    at: Option<&Numbered>,
) -> Error {
    let is_of_batch = matches!(failed.culprit, Some(Culprit::Batch));
    let titled = failed.refusal.and_then(|refusal| refusal.titled(verb.catalog()));
    let error = titled.unwrap_or(failed.error);
    let gerund = kind.gerund();
    let Some(at) = at.filter(|_| !is_of_batch) else {
        return error.wrap(format!("While {gerund} a batch of records"), "");
    };
    let literal = dump(&verb.target().record, &at.record);
    match is_list {
        true => error.wrap(format!("While {gerund} record #{}", at.number), literal),
        false => error.wrap(format!("While {gerund} a record"), literal),
    }
}
