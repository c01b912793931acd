//! The databases that a query may reach: the main one and its gateways, each with a connection
//! opened on first use, a catalog introspected on first use, and a transaction.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rex_htsql::catalog::Catalog;
use rex_htsql::error::Kind;
use rex_htsql::{Env, Error, Gateways, Naming, Params, Plan};

use crate::connection::{Canceller, Connection};
use crate::introspect::introspect;
use rex_pg::Address;

/// Index of a database in a [`Space`]; the main one is 0.
pub(crate) type DatabaseId = usize;

pub(crate) const MAIN: DatabaseId = 0;

/// Plans that are remembered, and the longest query of one, in bytes.
const MAX_KEPT_PLANS: usize = 32;
const MAX_KEPT_QUERY: usize = 4096;

/// All databases of a session.
pub(crate) struct Space {
    databases: Vec<Database>,
    statement_timeout: Option<Duration>,
    canceller: Canceller,
    plans: Mutex<Vec<(String, Arc<Plan>)>>,
    /// The gateway that a compilation asked for before it was introspected.
    missing: Mutex<Option<DatabaseId>>,
}

struct Database {
    /// The gateway's command; empty for the main database.
    name: String,
    address: Address,
    naming: Naming,
    connection: Mutex<Option<Arc<Connection>>>,
    catalog: Mutex<Option<Arc<Catalog>>>,
    in_transaction: AtomicBool,
    /// The transaction only reads, so that its end needs no answer.
    only_reads: AtomicBool,
}

impl Database {
    fn is_open(&self) -> bool {
        self.in_transaction.load(Ordering::Relaxed)
    }

    /// Notes whether a transaction is open, and tells whether one was.
    fn mark(&self, open: bool) -> bool {
        self.in_transaction.swap(open, Ordering::Relaxed)
    }
}

/// What a lock guards is whole at any time, so a panic elsewhere spoils nothing. No lock is held
/// over an await.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Space {
    pub(crate) fn new(
        address: Address,
        naming: Naming,
        gateways: Vec<(String, Address, Naming)>,
        statement_timeout: Option<Duration>,
    ) -> Space {
        let databases = std::iter::once((String::new(), address, naming))
            .chain(gateways)
            .map(|(name, address, naming)| Database {
                name,
                address,
                naming,
                connection: Mutex::new(None),
                catalog: Mutex::new(None),
                in_transaction: AtomicBool::new(false),
                only_reads: AtomicBool::new(false),
            })
            .collect();
        let canceller = Canceller::default();
        let (plans, missing) = (Mutex::default(), Mutex::new(None));
        Space { databases, statement_timeout, canceller, plans, missing }
    }

    fn database(&self, id: DatabaseId) -> Result<&Database, Error> {
        self.databases.get(id).ok_or_else(|| Error::of(Kind::Internal, "no such database"))
    }

    /// The gateway of a name.
    pub(crate) fn gateway(&self, name: &str) -> Option<DatabaseId> {
        self.databases.iter().skip(1).position(|database| database.name == name).map(|at| at + 1)
    }

    /// The connection of a database; a lost one is replaced unless a transaction was open on it.
    pub(crate) async fn connection(&self, id: DatabaseId) -> Result<Arc<Connection>, Error> {
        let database = self.database(id)?;
        if let Some(connection) = self.open_connection(id)
            && (!connection.is_closed() || database.is_open())
        {
            return Ok(connection);
        }
        let opened = Connection::open(&database.address, self.statement_timeout)
            .await
            .map(Arc::new)
            .map_err(|error| Error::of(Kind::Database, chain(&error)))?;
        self.canceller.add(id, &opened);
        *lock(&database.connection) = Some(opened.clone());
        Ok(opened)
    }

    /// The connection of a database where it has one.
    pub(crate) fn open_connection(&self, id: DatabaseId) -> Option<Arc<Connection>> {
        lock(&self.databases.get(id)?.connection).clone()
    }

    /// What stops the statements that run, on any database.
    pub(crate) fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// The catalog of a database.
    pub(crate) async fn catalog(&self, id: DatabaseId) -> Result<Arc<Catalog>, Error> {
        let database = self.database(id)?;
        let known = lock(&database.catalog).clone();
        if let Some(catalog) = known {
            return Ok(catalog);
        }
        let connection = self.connection(id).await?;
        let found = introspect(&connection).await?;
        let catalog = Arc::new(Catalog::new(found, database.naming));
        *lock(&database.catalog) = Some(catalog.clone());
        Ok(catalog)
    }

    /// Forgets what introspection found; for after changes of a schema.
    pub(crate) fn forget_catalogs(&self) {
        for database in &self.databases {
            *lock(&database.catalog) = None;
        }
        lock(&self.plans).clear();
    }

    /// Compiles a query for the main database. Short ones without parameters are remembered, as
    /// long as the catalogs are.
    pub(crate) async fn plan(&self, query: &str, params: &Params) -> Result<Arc<Plan>, Error> {
        let is_kept = query.len() <= MAX_KEPT_QUERY && params.iter().next().is_none();
        if is_kept && let Some((_, plan)) = lock(&self.plans).iter().find(|(text, _)| text == query)
        {
            return Ok(plan.clone());
        }
        let compile =
            |catalog: &Catalog, env: &Env<'_>| rex_htsql::compile(query, catalog, env, params);
        let plan = Arc::new(self.compile(MAIN, compile).await?);
        if is_kept {
            let mut plans = lock(&self.plans);
            if plans.len() >= MAX_KEPT_PLANS {
                plans.remove(0);
            }
            plans.push((query.to_string(), plan.clone()));
        }
        Ok(plan)
    }

    /// Compiles with the catalog of a database, introspecting the gateways that turn out to be
    /// needed.
    pub(crate) async fn compile<T>(
        &self,
        id: DatabaseId,
        compile: impl Fn(&Catalog, &Env<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let catalog = self.catalog(id).await?;
        loop {
            *lock(&self.missing) = None;
            let outcome = compile(&catalog, &Env { gateways: &View(self) });
            let missing = lock(&self.missing).take();
            match missing {
                Some(gateway) => self.catalog(gateway).await?,
                None => return outcome,
            };
        }
    }

    pub(crate) fn in_transaction(&self, id: DatabaseId) -> bool {
        self.databases.get(id).is_some_and(|database| database.is_open())
    }

    /// Notes that a transaction that only reads was begun by other means.
    pub(crate) fn note_reading(&self, id: DatabaseId) {
        if let Some(database) = self.databases.get(id) {
            database.mark(true);
            database.only_reads.store(true, Ordering::Relaxed);
        }
    }

    /// Begins a transaction on a database unless it has one.
    pub(crate) async fn begin(&self, id: DatabaseId) -> Result<(), Error> {
        let database = self.database(id)?;
        if database.is_open() {
            return Ok(());
        }
        self.connection(id).await?.run("BEGIN").await?;
        database.mark(true);
        Ok(())
    }

    /// Ends the transactions of all databases, gateways before the main one. The first failure of
    /// a commit rolls the rest back.
    pub(crate) async fn end(&self, mut commit: bool) -> Result<(), Error> {
        let mut outcome = Ok(());
        for database in self.databases.iter().rev() {
            if !database.mark(false) {
                continue;
            }
            let connection = lock(&database.connection).clone();
            let Some(connection) = connection else { continue };
            if database.only_reads.swap(false, Ordering::Relaxed) {
                connection.send("ROLLBACK");
                // The connection writes it now; locks are not kept until the next statement.
                tokio::task::yield_now().await;
                continue;
            }
            let ended = connection.run(if commit { "COMMIT" } else { "ROLLBACK" }).await;
            if commit && ended.is_err() {
                commit = false;
                outcome = ended;
            }
        }
        outcome
    }

    /// Runs a statement on every database that is in a transaction; for savepoints.
    pub(crate) async fn run_in_transactions(&self, sql: &str) -> Result<(), Error> {
        for id in 0..self.databases.len() {
            if self.in_transaction(id) {
                self.connection(id).await?.run(sql).await?;
            }
        }
        Ok(())
    }

    /// The databases that are in a transaction.
    pub(crate) fn transactions(&self) -> Vec<DatabaseId> {
        (0..self.databases.len()).filter(|id| self.in_transaction(*id)).collect()
    }

    /// Rolls one database's transaction back.
    pub(crate) async fn abandon(&self, id: DatabaseId) -> Result<(), Error> {
        if self.database(id)?.mark(false) {
            self.connection(id).await?.run("ROLLBACK").await?;
        }
        Ok(())
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What the compiler sees of the gateways: those introspected so far; it asks for others by
/// failing.
struct View<'a>(&'a Space);

impl Gateways for View<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.gateway(name).is_some()
    }

    fn catalog(&self, name: &str) -> Result<Arc<Catalog>, Error> {
        let unknown = || Error::quoting("Found unknown gateway", name);
        let id = self.0.gateway(name).ok_or_else(unknown)?;
        let known = lock(&self.0.database(id)?.catalog).clone();
        known.ok_or_else(|| {
            *lock(&self.0.missing) = Some(id);
            Error::of(Kind::Internal, "the gateway is not introspected yet")
        })
    }
}
