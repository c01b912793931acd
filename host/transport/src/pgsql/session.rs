//! One connection: its settings, its prepared statements, its transactions.

use std::collections::HashMap;
use std::time::Duration;

use postgres::types::ToSql;
use postgres::{Row, SimpleQueryMessage, Statement};

use super::address::Address;
use super::failure::{self, Trouble, pooled};
use super::line::{Line, Work};
use super::{connect, locks};
use crate::{QueueName, TransportError};

/// `$1` master lock id, `$2` a name's key: takes the original's lock of that name until the
/// transaction ends; waits up to the lock timeout. Returns the server process that answers.
pub(super) const LOCK: &str = "SELECT pg_backend_pid(), pg_advisory_xact_lock($1, $2)";

/// A statement with its values.
pub(super) type Sent<'a> = (&'static str, &'a [&'a (dyn ToSql + Sync)]);

pub(super) struct Session {
    line: Line,
    statements: HashMap<&'static str, Statement>,
    /// The server's process for this connection.
    pub(super) backend: i32,
    /// Whether the table tells listeners of new rows by itself.
    pub(super) has_trigger: bool,
    /// Whether our own tables are there; without them one can still submit and count.
    pub(super) has_tables: bool,
    /// Whether tasks with attributes may be looked at.
    pub(super) sees_attributed: bool,
    in_transaction: bool,
}

impl Session {
    pub(super) fn connect(
        address: &Address,
        lock_timeout: Duration,
        claims: bool,
        is_first: bool,
    ) -> Result<Session, TransportError> {
        /// `$1` lock timeout, such as `5000ms`. A role's or a database's own defaults must not
        /// change what our statements mean. A database without an encoding gives what it has, whatever
        /// bytes these are: one row that is no text must not hide the others.
        const SETTINGS: &str = "
SELECT set_config('lock_timeout', $1, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('client_encoding', CASE current_setting('server_encoding')
        WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, false),
    pg_backend_pid(),
    EXISTS (
        SELECT FROM pg_trigger
        WHERE tgname = 'rex_notify' AND tgenabled IN ('O', 'A')
            AND tgrelid = to_regclass('asynctask.asynctask_queue')
    ),
    to_regclass('asynctask.rex_migrations') IS NOT NULL,
    coalesce(has_table_privilege(to_regclass('asynctask.rex_tasks'), 'SELECT'), false),
    (
        SELECT format_type(atttypid, NULL) FROM pg_attribute
        WHERE attrelid = to_regclass('asynctask.asynctask_queue') AND attname = 'id'
            AND atttypid <> 'bigint'::regtype
    )";
        /// A statement that was planned while the queue was empty is run when millions wait: it
        /// must go by the index then, so it does so from the start. Then it need not be planned
        /// anew each time, and what a plan seems to cost is no reason to compile it.
        const BY_INDEX: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off;
            SET enable_tidscan = on; SET plan_cache_mode = force_generic_plan; SET jit = off";
        let mut line = connect::line(address)?;
        if is_first {
            refuse_pooling(&mut line, address)?;
        }
        let mut session = Session {
            line,
            statements: HashMap::new(),
            backend: 0,
            has_trigger: false,
            has_tables: false,
            sees_attributed: false,
            in_transaction: false,
        };
        let timeout = format!("{}ms", lock_timeout.as_millis().max(1));
        let row =
            session.one(SETTINGS, &[&timeout]).map_err(|trouble| trouble.say(&address.label))?;
        if let Some(other) = row.get::<_, Option<String>>(7) {
            return Err(failure::other_ids(&address.label, &other));
        }
        session.run(rex_pg::STAY).map_err(|trouble| trouble.say(&address.label))?;
        if claims {
            session.run(BY_INDEX).map_err(|trouble| trouble.say(&address.label))?;
        }
        session.line.settle();
        session.backend = row.get(3);
        session.has_trigger = row.get(4);
        session.has_tables = row.get(5);
        session.sees_attributed = row.get(6);
        Ok(session)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.line.is_closed()
    }

    /// Runs a statement, prepared on first use.
    pub(super) fn rows(
        &mut self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Trouble> {
        let statement = self.prepared(sql)?;
        Ok(self.line.wait(|client| client.query(&statement, values))?)
    }

    /// Runs a statement that returns one row.
    pub(super) fn one(
        &mut self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Trouble> {
        let statement = self.prepared(sql)?;
        Ok(self.line.wait(|client| client.query_one(&statement, values))?)
    }

    /// Runs a statement and counts the rows that it changed.
    pub(super) fn change(
        &mut self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Trouble> {
        let statement = self.prepared(sql)?;
        Ok(self.line.wait(|client| client.execute(&statement, values))?)
    }

    /// Runs fixed statements that take and return nothing.
    pub(super) fn run(&mut self, sql: &'static str) -> Result<(), Trouble> {
        Ok(self.line.wait(|client| client.batch_execute(sql))?)
    }

    fn prepared(&mut self, sql: &'static str) -> Result<Statement, Trouble> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.line.wait(|client| client.prepare(sql))?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// Runs work in a transaction; on an error the caller of the work rolls back or hangs up.
    pub(super) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Session) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        self.run("BEGIN")?;
        self.in_transaction = true;
        let value = work(self)?;
        self.run("COMMIT")?;
        self.in_transaction = false;
        Ok(value)
    }

    /// Runs statements in a transaction of their own, sent together, and returns the rows of each.
    /// After one has failed, none of the rest is done, and the transaction is over.
    pub(super) fn together(&mut self, batch: &[Sent<'_>]) -> Result<Vec<Vec<Row>>, Trouble> {
        let prepared = batch.iter().map(|(sql, _)| self.prepared(sql));
        let prepared = prepared.collect::<Result<Vec<Statement>, Trouble>>()?;
        let results = self.line.wait_for_all(|client| {
            let run = |sql| -> Work<'_, Vec<Row>> {
                Box::pin(async move { client.batch_execute(sql).await.map(|()| Vec::new()) })
            };
            let mut works = vec![run("BEGIN")];
            works.extend(prepared.iter().zip(batch).map(|(statement, (_, values))| {
                let work: Work<'_, Vec<Row>> = Box::pin(client.query(statement, values));
                work
            }));
            works.push(run("COMMIT"));
            works
        });
        let mut rows = results.into_iter().collect::<Result<Vec<_>, _>>()?;
        // What `BEGIN` and `COMMIT` returned.
        rows.remove(0);
        rows.pop();
        Ok(rows)
    }

    /// Leaves a transaction that failed, if there is one.
    pub(super) fn roll_back(&mut self) -> Result<(), Trouble> {
        if self.in_transaction {
            self.run("ROLLBACK")?;
            self.in_transaction = false;
        }
        Ok(())
    }

    /// Takes the original's lock of a queue until the transaction ends; waits up to the lock
    /// timeout.
    pub(super) fn lock_queue(
        &mut self,
        address: &Address,
        queue: &QueueName,
    ) -> Result<(), Trouble> {
        self.lock(address, queue.as_str())
    }

    /// Takes the original's lock of that name until the transaction ends.
    pub(super) fn lock(&mut self, address: &Address, name: &str) -> Result<(), Trouble> {
        let row = self.one(LOCK, &[&address.master_lock, &locks::queue_key(name)])?;
        self.is_ours(address, &row)
    }

    /// Refuses what `LOCK` returns when another server process answers than before.
    pub(super) fn is_ours(&self, address: &Address, row: &Row) -> Result<(), Trouble> {
        let answered: i32 = row.get(0);
        if answered == self.backend { Ok(()) } else { Err(pooled(&address.label).into()) }
    }
}

/// Refuses a proxy that gives this connection to others, before anything is left in whoever answers: an
/// idle connection's server process must not answer a second one.
fn refuse_pooling(line: &mut Line, address: &Address) -> Result<(), TransportError> {
    let said = |error: postgres::Error| Trouble::from(error).say(&address.label);
    let refused = || Err(pooled(&address.label));
    let before = backend(line).map_err(said)?;
    let second = connect::line(address)?;
    // By statement a proxy knows no transactions.
    if backend(&second).map_err(said)? == before {
        return refused();
    }
    second.wait(|client| client.batch_execute("BEGIN")).map_err(said)?;
    let meanwhile = backend(&second).map_err(said)?;
    line.restart_clock();
    let is_pooled = rex_pg::is_pooled(before, meanwhile, || backend(line)).map_err(said)?;
    second.wait(|client| client.batch_execute("ROLLBACK")).map_err(said)?;
    if is_pooled { refused() } else { Ok(()) }
}

/// The server process that answers; the question is one that leaves nothing there.
fn backend(line: &Line) -> Result<i64, postgres::Error> {
    let messages = line.wait(|client| client.simple_query("SELECT pg_backend_pid()"))?;
    let number = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    Ok(number.unwrap_or_default())
}
