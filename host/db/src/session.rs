//! A session: a database with its gateways, in which queries run one after another.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt as _;
use rex_htsql::catalog::Catalog;
use rex_htsql::error::Kind;
use rex_htsql::pending::Pending;
use rex_htsql::plan::{Format, Plan};
use rex_htsql::profile::Profile;
use rex_htsql::{Error, Lens, Naming, Params, Value};
use tokio::runtime::Runtime;

use crate::connection::Canceller;
use crate::decode;
use crate::driver;
use crate::exec::{Run, writes};
use crate::format::Printer;
use crate::item::{Item, More};
use crate::out_of_place::{client_copy, transaction_control};
use crate::product::{Feed, Product};
use crate::space::{DatabaseId, MAIN, Space};
use rex_pg::Address;

/// A database to reach by a command of its name (`/:rexdb`).
#[derive(Debug, Clone)]
pub struct Gateway {
    pub name: String,
    pub address: Address,
    pub naming: Naming,
}

/// What a session works with.
#[derive(Debug, Clone)]
pub struct Config {
    pub address: Address,
    pub naming: Naming,
    pub gateways: Vec<Gateway>,
    /// After how long the server gives up on a statement; `None` for never.
    pub statement_timeout: Option<Duration>,
}

/// Receives an answer item by item. An error stops the query.
pub trait Sink {
    /// Comes first. `is_list`: any number of items follow, else exactly one.
    ///
    /// # Errors
    /// Output failed.
    fn begin(&mut self, profile: &Profile, is_list: bool) -> std::io::Result<()>;

    /// An item of the list, or the one value; `more` reads the rest of its long lists.
    ///
    /// # Errors
    /// Output failed, or reading did.
    fn item(&mut self, item: Item, more: &mut More<'_>) -> std::io::Result<()>;

    /// Asks how to print when the query itself ends in a format command: comes before `begin`.
    fn format(&mut self, format: Format);
}

/// Takes the answers that nobody reads.
#[derive(Debug)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn begin(&mut self, _profile: &Profile, _is_list: bool) -> std::io::Result<()> {
        Ok(())
    }

    fn item(&mut self, _item: Item, _more: &mut More<'_>) -> std::io::Result<()> {
        Ok(())
    }

    fn format(&mut self, _format: Format) {}
}

/// Connections are opened and catalogs read on first use. What is not in a transaction begun by
/// [`Session::begin`] runs in one of its own, committed when the query succeeds.
pub struct Session {
    runtime: Runtime,
    space: Space,
    grouped: bool,
    /// The shared transaction may have changed the schema.
    reshaped: bool,
}

impl Session {
    /// Prepares a session; nothing is connected yet.
    ///
    /// # Errors
    /// The system refuses what a connection needs.
    pub fn new(config: Config) -> Result<Session, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::of(Kind::Internal, error.to_string()))?;
        let gateways = config
            .gateways
            .into_iter()
            .map(|gateway| (gateway.name, gateway.address, gateway.naming))
            .collect();
        let space = Space::new(config.address, config.naming, gateways, config.statement_timeout);
        Ok(Session { runtime, space, grouped: false, reshaped: false })
    }

    /// Runs a query and reads its whole answer.
    ///
    /// # Errors
    /// The layered text of what went wrong; nothing of the query remains in the database.
    pub fn produce(&mut self, query: &str, params: &Params) -> Result<Product, Error> {
        self.answer(query, params, |runtime, plan, mut feed| {
            let Some(format) = format_of(plan) else {
                let (profile, data) = runtime.block_on(feed.collect())?;
                return Ok(Product { profile: Some(profile), data, rendered: None });
            };
            let mut printer = Printer::new(format, None, Vec::new());
            hand_over(runtime, &mut feed, &mut printer)?;
            let text = printer.finish().map_err(unwritten)?;
            let text = String::from_utf8_lossy(&text).into_owned();
            Ok(Product { profile: None, data: Value::Null, rendered: Some(text) })
        })
    }

    /// Runs a query and hands its answer over item by item, so that a long one needs little
    /// memory. What was handed over before an error came is void.
    ///
    /// # Errors
    /// As [`Session::produce`]; an error of `sink` reads `failed to write the answer`.
    pub fn stream(
        &mut self,
        query: &str,
        params: &Params,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        self.answer(query, params, |runtime, plan, mut feed| {
            if let Some(format) = format_of(plan) {
                sink.format(format);
            }
            hand_over(runtime, &mut feed, sink)
        })
    }

    /// Starts a query and has its answer taken, within its transaction.
    fn answer<T>(
        &mut self,
        query: &str,
        params: &Params,
        take: impl FnOnce(&Runtime, &Plan, Feed<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (runtime, space) = (&self.runtime, &self.space);
        let scope = runtime.block_on(enter(space, self.grouped))?;
        let started = runtime.block_on(start(space, query, params));
        let outcome = started.and_then(|(plan, feed)| take(runtime, &plan, feed));
        runtime.block_on(leave(space, scope, outcome))
    }

    /// Prints a stage of the compilation of a query.
    ///
    /// # Errors
    /// As those of the compilation.
    pub fn explain(&mut self, query: &str, lens: Lens, params: &Params) -> Result<String, Error> {
        let space = &self.space;
        if lens == Lens::Sql {
            return self.runtime.block_on(async {
                let plan = space
                    .compile(MAIN, |catalog, env| rex_htsql::compile(query, catalog, env, params))
                    .await?;
                let run = Run { space, database: MAIN, writes: false, busy: None, meta: false };
                let mut shown = Vec::new();
                run.statements(&plan, params, &Pending::default(), &mut shown).await?;
                if shown.is_empty() {
                    shown.push("-- nothing is sent\n".to_string());
                }
                Ok(shown.join("\n"))
            });
        }
        self.runtime.block_on(
            space.compile(MAIN, |catalog, env| {
                rex_htsql::explain(query, lens, catalog, env, params)
            }),
        )
    }

    /// The profile of a query's answer, without running it.
    ///
    /// # Errors
    /// As those of the compilation; `unsupported action` for commands whose answer depends on what
    /// they do.
    pub fn analyze(&mut self, query: &str, params: &Params) -> Result<Profile, Error> {
        let space = &self.space;
        let plan = self.runtime.block_on(
            space.compile(MAIN, |catalog, env| rex_htsql::compile(query, catalog, env, params)),
        )?;
        plan.profile().ok_or_else(|| Error::new("unsupported action"))
    }

    /// The catalog of the main database.
    ///
    /// # Errors
    /// There is no connecting, or introspection fails.
    pub fn catalog(&mut self) -> Result<Arc<Catalog>, Error> {
        self.runtime.block_on(self.space.catalog(MAIN))
    }

    /// Runs plain SQL statements on the main database; for set-up. Catalogs are read anew.
    ///
    /// # Errors
    /// The server's text; a statement that would end a shared transaction.
    pub fn execute_sql(&mut self, sql: &str) -> Result<(), Error> {
        self.refuse_out_of_place(sql)?;
        let space = &self.space;
        let done = self.runtime.block_on(within(space, self.grouped, async {
            if self.grouped {
                space.begin(MAIN).await?;
            }
            let connection = space.connection(MAIN).await?;
            let client = connection.client();
            client.batch_execute(sql).await.map_err(|error| driver::error(&error, sql, 0))
        }));
        space.forget_catalogs();
        self.reshaped = self.grouped;
        done
    }

    /// Runs one plain SQL statement on the main database and returns its rows, within the shared
    /// transaction if there is one. A value of a type that HTSQL has no family for is a text.
    ///
    /// # Errors
    /// The server's text. There is no savepoint: a shared transaction can then only be rolled back.
    pub fn sql_rows(&mut self, sql: &str) -> Result<Vec<Vec<Value>>, Error> {
        let (space, grouped) = (&self.space, self.grouped);
        self.runtime.block_on(async {
            if grouped {
                space.begin(MAIN).await?;
            }
            let connection = space.connection(MAIN).await?;
            let rows = connection.rows(sql, Vec::new()).await;
            let rows = rows.map_err(|error| driver::error(&error, sql, 0))?;
            Ok(rows.iter().map(decode::row).collect())
        })
    }

    /// Whether a proxy gives the server process of this session, which is idle, to others;
    /// `second` is one more on the same database.
    ///
    /// # Errors
    /// No connection can be made.
    pub fn is_pooled(&mut self, second: &mut Session) -> Result<bool, Error> {
        let before = self.backend()?;
        second.begin();
        let found = second
            .backend()
            .and_then(|meanwhile| rex_pg::is_pooled(before, meanwhile, || self.backend()));
        second.end(false)?;
        found
    }

    /// The number of the server process that answers.
    fn backend(&mut self) -> Result<i64, Error> {
        let rows = self.sql_rows("SELECT pg_catalog.pg_backend_pid()")?;
        match rows.first().and_then(|row| row.first()) {
            Some(Value::Integer(number)) => Ok(*number),
            _ => Err(Error::of(Kind::Internal, "a server process has no number")),
        }
    }

    /// Runs plain SQL statements on the main database as [`Session::execute_sql`] does, but without
    /// a savepoint, for many small ones in a row.
    ///
    /// # Errors
    /// As [`Session::execute_sql`]. A shared transaction can then only be rolled back.
    pub fn sql_change(&mut self, sql: &str) -> Result<(), Error> {
        self.refuse_out_of_place(sql)?;
        let (space, grouped) = (&self.space, self.grouped);
        space.forget_catalogs();
        self.reshaped = grouped;
        self.runtime.block_on(async {
            if grouped {
                space.begin(MAIN).await?;
            }
            space.connection(MAIN).await?.run(sql).await
        })
    }

    /// Feeds rows to a `COPY … FROM STDIN` on the main database, within the shared transaction if
    /// there is one; how many there were. `rows` is what the statement's format says, in pieces.
    ///
    /// # Errors
    /// The server's text. There is no savepoint: a shared transaction can then only be rolled back.
    pub fn copy_in(
        &mut self,
        statement: &str,
        rows: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<u64, Error> {
        let (space, grouped) = (&self.space, self.grouped);
        self.runtime.block_on(async {
            if grouped {
                space.begin(MAIN).await?;
            }
            let connection = space.connection(MAIN).await?;
            let failed = |error: tokio_postgres::Error| driver::error(&error, statement, 0);
            let sink = connection.client().copy_in::<_, Bytes>(statement).await;
            let mut sink = std::pin::pin!(sink.map_err(failed)?);
            for piece in rows {
                sink.send(piece.into()).await.map_err(failed)?;
            }
            sink.finish().await.map_err(failed)
        })
    }

    /// A shared transaction ends as a whole, and nobody feeds or reads a COPY.
    fn refuse_out_of_place(&self, sql: &str) -> Result<(), Error> {
        let refused = |command, reason| {
            Err(Error::of(Kind::Query, format!("{command} is refused: {reason}")))
        };
        if let Some(command) = client_copy(sql) {
            return refused(command, "no rows go with a statement");
        }
        match transaction_control(sql).filter(|_| self.grouped) {
            Some(command) => refused(command, "the transaction is shared, and ends as a whole"),
            None => Ok(()),
        }
    }

    /// Begins a transaction that the following queries share, each with a savepoint, until
    /// [`Session::end`].
    pub fn begin(&mut self) {
        self.grouped = true;
    }

    /// Ends the shared transaction.
    ///
    /// # Errors
    /// The commit failed; everything is rolled back then.
    pub fn end(&mut self, commit: bool) -> Result<(), Error> {
        self.grouped = false;
        if std::mem::take(&mut self.reshaped) && !commit {
            self.space.forget_catalogs();
        }
        self.runtime.block_on(self.space.end(commit))
    }

    /// What stops a running query, wherever it runs, from another thread.
    pub fn canceller(&self) -> Canceller {
        self.space.canceller()
    }

    /// Forgets the catalogs, so that the next query sees a changed schema.
    pub fn refresh(&mut self) {
        self.space.forget_catalogs();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("grouped", &self.grouped).finish_non_exhaustive()
    }
}

/// Compiles a query and starts it.
async fn start<'a>(
    space: &'a Space,
    query: &str,
    params: &Params,
) -> Result<(Arc<Plan>, Feed<'a>), Error> {
    let plan = space.plan(query, params).await?;
    let run = Run { space, database: MAIN, writes: writes(&plan), busy: None, meta: false };
    let feed = run.plan(&plan, params).await?;
    Ok((plan, feed))
}

/// Hands an answer over.
fn hand_over(runtime: &Runtime, feed: &mut Feed<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
    sink.begin(&feed.profile, feed.is_list()).map_err(unwritten)?;
    loop {
        let long = runtime.block_on(async {
            while let Some(item) = feed.next().await? {
                if !matches!(item, Item::Whole(_)) {
                    return Ok(Some(item));
                }
                sink.item(item, &mut More::none()).map_err(unwritten)?;
            }
            Ok::<_, Error>(None)
        })?;
        // Outside of what waits for the feed: whoever takes the item reads from the feed.
        let Some(item) = long else { return Ok(()) };
        let rest = |segment| runtime.block_on(feed.rest(segment)).map_err(std::io::Error::other);
        sink.item(item, &mut More::of(rest)).map_err(unwritten)?;
    }
}

/// What a sink says; an error of the query that came by way of it stays what it is.
fn unwritten(error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::of(Kind::Internal, format!("failed to write the answer: {error}")),
    }
}

fn format_of(plan: &Plan) -> Option<Format> {
    match plan {
        Plan::Format { format, .. } => Some(*format),
        Plan::Gateway { plan, .. } | Plan::Meta { plan, .. } => format_of(plan),
        _ => None,
    }
}

/// What a piece of work is within.
enum Scope {
    /// The transactions that it begins.
    Own,
    /// A group, by a savepoint in each of these transactions.
    Line(Vec<DatabaseId>),
}

/// Runs work within transactions: those it begins are ended after it, or, in a group, what it did
/// is undone where it fails.
async fn within<T>(
    space: &Space,
    grouped: bool,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let scope = enter(space, grouped).await?;
    let outcome = work.await;
    leave(space, scope, outcome).await
}

async fn enter(space: &Space, grouped: bool) -> Result<Scope, Error> {
    if !grouped {
        return Ok(Scope::Own);
    }
    space.begin(MAIN).await?;
    let before = space.transactions();
    space.run_in_transactions("SAVEPOINT rex_line").await?;
    Ok(Scope::Line(before))
}

async fn leave<T>(space: &Space, scope: Scope, outcome: Result<T, Error>) -> Result<T, Error> {
    let Scope::Line(before) = scope else {
        let ended = space.end(outcome.is_ok()).await;
        return outcome.and_then(|value| ended.map(|()| value));
    };
    match outcome {
        Ok(value) => {
            for id in before {
                space.connection(id).await?.run("RELEASE SAVEPOINT rex_line").await?;
            }
            Ok(value)
        }
        Err(error) => {
            for id in space.transactions() {
                if before.contains(&id) {
                    let undo = "ROLLBACK TO SAVEPOINT rex_line; RELEASE SAVEPOINT rex_line";
                    space.connection(id).await?.run(undo).await?;
                } else {
                    space.abandon(id).await?;
                }
            }
            Err(error)
        }
    }
}
