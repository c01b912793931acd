//! The inventory: which marts there are, in a table of the application's database, and beside it
//! what the original's table has no column for: which marts are being made, whose databases were
//! there before, and which database on which server a mart's is.

use jiff::civil::DateTime;
use rex_db::{Address, Session};
use rex_deploy::sql;
use rex_htsql::Value;
use rex_yaml::Error;
use serde_json::json;

use crate::cluster;
use crate::failure::guarded;
use crate::moment;

/// A mart, as the inventory knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mart {
    /// Of the record: codes are used again, this is not.
    pub(crate) id: i64,
    pub code: i64,
    pub definition: String,
    pub owner: String,
    /// Of the database.
    pub name: String,
    /// `complete`, or the stage that it is in or was left in.
    pub status: String,
    pub date_creation_started: DateTime,
    pub date_creation_completed: Option<DateTime>,
    /// Bytes.
    pub size: Option<i64>,
    pub pinned: bool,
    /// Whether the database was there before and goes on when the mart is purged; `None` where
    /// nothing was noted, as in the inventory of the original.
    pub existing: Option<bool>,
    /// The name under which whoever makes it holds a lock; `None` once nobody does.
    pub(crate) claim: Option<String>,
    /// What the database is to be called in the end, once it is being renamed.
    pub(crate) final_name: Option<String>,
    /// Whether its status is to be left open then.
    pub(crate) left_open: bool,
    /// The transaction of its database that takes back its reference, if one was begun.
    pub(crate) released: Option<String>,
    /// The server that it was made on, and the number of its database there, as far as was noted.
    pub(crate) server: Option<String>,
    pub(crate) database_oid: Option<i64>,
}

impl Mart {
    pub fn is_complete(&self) -> bool {
        self.status == COMPLETE
    }

    /// As the original's web interface gives it.
    pub fn json(&self) -> serde_json::Value {
        let moment = |at: DateTime| at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        json!({
            "code": self.code,
            "definition": self.definition,
            "owner": self.owner,
            "name": self.name,
            "date_creation_started": moment(self.date_creation_started),
            "date_creation_completed": self.date_creation_completed.map(moment),
            "pinned": self.pinned,
            "size": self.size,
            "status": self.status,
        })
    }
}

/// As Python shows it.
impl std::fmt::Display for Mart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let repr = |text: &str| rex_yaml::repr(&text.into());
        let (definition, owner) = (repr(&self.definition), repr(&self.owner));
        write!(f, "Mart(code={}, definition={definition}, owner={owner})", self.code)
    }
}

pub(crate) const COMPLETE: &str = "complete";

/// The inventory of an application.
pub struct Inventory {
    session: Session,
    address: Address,
}

impl std::fmt::Debug for Inventory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inventory").finish_non_exhaustive()
    }
}

/// Whoever adds to the inventory does so alone, since a code is one more than the greatest.
const ALONE: &str = "SELECT pg_catalog.pg_advisory_xact_lock(
    pg_catalog.hashtextextended('rex mart inventory', 0))";

const COLUMNS: &str = "i.id, i.code, i.definition, i.owner, i.name, i.status::text, \
    i.date_creation_started::text, i.date_creation_completed::text, i.size, i.pinned, \
    b.existing, b.claim, b.final_name, b.left_open, b.released, b.server, b.database_oid";

const TABLES: &str = "rexmart_inventory AS i LEFT JOIN rexmart_building AS b \
    ON b.rexmart_inventory__id = i.id";

/// A mart that is about to be made.
pub(crate) struct Planned<'a> {
    pub(crate) definition: &'a str,
    pub(crate) owner: &'a str,
    pub(crate) started: DateTime,
    /// Its database was there before.
    pub(crate) existing: bool,
    /// That it is made on, if that can be known.
    pub(crate) server: Option<String>,
}

impl Inventory {
    /// That of the application whose database is named.
    ///
    /// # Errors
    /// The system refuses what a connection needs.
    pub fn open(database: &Address) -> Result<Inventory, Error> {
        Ok(Inventory { session: cluster::session(database)?, address: database.clone() })
    }

    /// Leaves the database until it is needed again.
    pub(crate) fn leave(&mut self) -> Result<(), Error> {
        self.session = cluster::session(&self.address)?;
        Ok(())
    }

    /// Whether the database has the tables of marts.
    pub(crate) fn is_deployed(&mut self) -> Result<bool, Error> {
        let query = "SELECT pg_catalog.to_regclass('rexmart_building') IS NOT NULL";
        let rows = guarded(self.session.sql_rows(query))?;
        Ok(matches!(rows.first().and_then(|row| row.first()), Some(Value::Boolean(true))))
    }

    /// The marts that fulfil a condition of SQL, by code.
    fn select(&mut self, condition: &str, order: &str) -> Result<Vec<Mart>, Error> {
        let query = format!("SELECT {COLUMNS} FROM {TABLES} WHERE {condition} ORDER BY {order}");
        let rows = guarded(self.session.sql_rows(&query)).map_err(deployed)?;
        rows.iter()
            .map(|row| mart(row).ok_or_else(|| Error::new("Got a malformed inventory record")))
            .collect()
    }

    /// All of them, by code.
    ///
    /// # Errors
    /// The inventory cannot be read.
    pub fn all(&mut self) -> Result<Vec<Mart>, Error> {
        self.select("TRUE", "i.code")
    }

    /// The mart of this code.
    ///
    /// # Errors
    /// As [`Inventory::all`].
    pub fn get(&mut self, code: i64) -> Result<Option<Mart>, Error> {
        Ok(self.select(&format!("i.code = {code}"), "i.code")?.pop())
    }

    /// Does something with a mart while nobody else changes, finishes or purges it: all of `work` on the
    /// inventory is done, or nothing of it. `None`: the mart is gone. Whoever waits for a claim holds no
    /// mart.
    pub(crate) fn hold<T>(
        &mut self,
        id: i64,
        work: impl FnOnce(&mut Inventory, Option<Mart>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.session.begin();
        let done = self.lock(&format!("id = {id}")).and_then(|()| {
            let mart = self.of(id)?;
            work(self, mart)
        });
        let ended = guarded(self.session.end(done.is_ok()));
        let done = done?;
        ended.map(|()| done)
    }

    /// As [`Inventory::named`], and nobody else purges them until the mart that is held is let go.
    pub(crate) fn hold_named(&mut self, name: &str) -> Result<Vec<Mart>, Error> {
        self.lock(&format!("name = {}", sql::text(name)))?;
        self.named(name)
    }

    /// The mart of this record.
    pub(crate) fn of(&mut self, id: i64) -> Result<Option<Mart>, Error> {
        Ok(self.select(&format!("i.id = {id}"), "i.code")?.pop())
    }

    fn lock(&mut self, condition: &str) -> Result<(), Error> {
        // Its row in rexmart_building may be made meanwhile, see `set_released`.
        let lock = format!(
            "SELECT id FROM rexmart_inventory WHERE {condition} ORDER BY id FOR NO KEY UPDATE"
        );
        guarded(self.session.sql_rows(&lock)).map_err(deployed).map(|_| ())
    }

    pub(crate) fn named(&mut self, name: &str) -> Result<Vec<Mart>, Error> {
        self.select(&format!("i.name = {}", sql::text(name)), "i.code")
    }

    /// Complete marts of an owner, the oldest first.
    pub(crate) fn complete_of(&mut self, owner: &str) -> Result<Vec<Mart>, Error> {
        let owner = sql::text(owner);
        self.select(
            &format!("i.owner = {owner} AND i.status = '{COMPLETE}'"),
            "i.date_creation_completed, i.code",
        )
    }

    /// Those that somebody began to make and has neither finished nor given up.
    pub(crate) fn building(&mut self) -> Result<Vec<Mart>, Error> {
        self.select("b.claim IS NOT NULL", "i.code")
    }

    /// Adds a mart that is about to be made; `name` makes the name of its database of its code and
    /// claims it, before anybody can see the record. The id of the record, and the name.
    pub(crate) fn add(
        &mut self,
        planned: &Planned<'_>,
        name: impl FnOnce(i64) -> Result<String, Error>,
    ) -> Result<(i64, String), Error> {
        self.session.begin();
        let added = self.insert(planned, name);
        let ended = guarded(self.session.end(added.is_ok()));
        let added = added?;
        ended.map(|()| added)
    }

    fn insert(
        &mut self,
        planned: &Planned<'_>,
        name: impl FnOnce(i64) -> Result<String, Error>,
    ) -> Result<(i64, String), Error> {
        let Planned { definition, owner, started, existing, .. } = *planned;
        let creating = |error: Error| error.remark("While creating inventory record");
        guarded(self.session.sql_rows(ALONE)).map_err(creating)?;
        let insert = format!(
            "INSERT INTO rexmart_inventory (definition, owner, name, status, date_creation_started)
             VALUES ({}, {}, 'TBD', 'creation', {}) RETURNING code, id",
            sql::text(definition),
            sql::text(owner),
            sql::text(&moment::shown(started)),
        );
        let rows = guarded(self.session.sql_rows(&insert)).map_err(creating)?;
        let Some([Value::Integer(code), Value::Integer(id)]) = rows.first().map(Vec::as_slice)
        else {
            return Err(creating(Error::new("Got a malformed inventory record")));
        };
        let name = name(*code)?;
        let naming = |error: Error| error.guard("While updating inventory name:", &name);
        let text = sql::text(&name);
        let server = planned.server.as_deref().map_or_else(|| "NULL".to_owned(), sql::text);
        let update = format!(
            "UPDATE rexmart_inventory SET name = {text} WHERE id = {id};
             INSERT INTO rexmart_building (rexmart_inventory__id, existing, claim, server)
             VALUES ({id}, {existing}, {text}, {server});"
        );
        guarded(self.session.sql_change(&update)).map_err(naming)?;
        Ok((*id, name))
    }

    /// The making of the mart has come to this stage. A crash of the server may forget it, but then
    /// nobody makes that mart any more, and waiting for the disk would cost more than all the rest.
    pub(crate) fn set_stage(&mut self, id: i64, status: &str) -> Result<(), Error> {
        let update = format!(
            "UPDATE rexmart_inventory SET {}
             FROM (SELECT pg_catalog.set_config('synchronous_commit', 'off', TRUE)) AS quickly
             WHERE id = {id} RETURNING id",
            status_is(status)
        );
        let updated = guarded(self.session.sql_rows(&update))
            .map_err(|error| error.guard("While updating inventory status:", status))?;
        if updated.is_empty() { Err(purged()) } else { Ok(()) }
    }

    /// The database of the mart is made; a crash may forget it as in [`Inventory::set_stage`].
    pub(crate) fn set_database(&mut self, id: i64, oid: i64) -> Result<(), Error> {
        let update = format!(
            "UPDATE rexmart_building SET database_oid = {oid}
             FROM (SELECT pg_catalog.set_config('synchronous_commit', 'off', TRUE)) AS quickly
             WHERE rexmart_inventory__id = {id}"
        );
        guarded(self.session.sql_change(&update))
    }

    pub(crate) fn set_name(&mut self, id: i64, name: &str) -> Result<(), Error> {
        self.update(id, &format!("name = {}", sql::text(name)))
            .map_err(|error| error.guard("While updating inventory name:", name))
    }

    /// The mart, which is held, has lost its name, and what that says of its database is noted.
    pub(crate) fn put_aside(&mut self, id: i64, name: &str, existing: bool) -> Result<(), Error> {
        self.set_name(id, name)?;
        let note = format!(
            "INSERT INTO rexmart_building (rexmart_inventory__id, existing) VALUES ({id}, {existing})
             ON CONFLICT (rexmart_inventory__id) DO UPDATE SET existing = {existing};"
        );
        guarded(self.session.sql_change(&note))
    }

    /// The mart, which is held, is finished and nobody makes it any more; `complete`: it is told to be
    /// that. The moment at which it was.
    pub(crate) fn finish(&mut self, id: i64, size: i64, complete: bool) -> Result<DateTime, Error> {
        let moment = moment::now();
        let text = sql::text(&moment::shown(moment));
        self.update(id, &format!("date_creation_completed = {text}, size = {size}"))
            .map_err(|error| error.remark("While updating inventory date"))?;
        if complete {
            self.update(id, &status_is(COMPLETE))
                .map_err(|error| error.guard("While updating inventory status:", COMPLETE))?;
        }
        self.release(id)?;
        Ok(moment)
    }

    /// The database is about to take this name; what is to become of its status then.
    pub(crate) fn set_final_name(
        &mut self,
        id: i64,
        name: &str,
        left_open: bool,
    ) -> Result<(), Error> {
        let name = sql::text(name);
        self.note(id, &format!("final_name = {name}, left_open = {left_open}"))
    }

    /// Keeps a mart from being purged for a quota, or no more.
    ///
    /// # Errors
    /// The inventory cannot be written, or the mart is gone.
    pub fn pin(&mut self, mart: &Mart, pinned: bool) -> Result<(), Error> {
        self.hold(mart.id, |inventory, now| match now {
            Some(now) => inventory.update(now.id, &format!("pinned = {pinned}")),
            None => Err(Error::new(format!("Mart #{} was purged meanwhile", mart.code))),
        })
    }

    /// Nobody makes the mart any more: it stays as it is.
    pub(crate) fn release(&mut self, id: i64) -> Result<(), Error> {
        self.note(id, "claim = NULL, final_name = NULL, left_open = NULL")
    }

    /// That transaction is about to take back the reference of the mart, which is held: noted for whoever
    /// purges it if this one dies, so not in the transaction that holds it.
    pub(crate) fn set_released(&self, id: i64, transaction: &str) -> Result<(), Error> {
        let transaction = sql::text(transaction);
        let note = format!(
            "INSERT INTO rexmart_building (rexmart_inventory__id, existing, released)
             VALUES ({id}, FALSE, {transaction})
             ON CONFLICT (rexmart_inventory__id) DO UPDATE SET released = {transaction};"
        );
        self.note_at_once(&note)
    }

    /// The mart, which is held, never gets its final name; noted as in [`Inventory::set_released`].
    pub(crate) fn forget_final_name(&self, id: i64) -> Result<(), Error> {
        self.note_at_once(&format!(
            "UPDATE rexmart_building SET final_name = NULL WHERE rexmart_inventory__id = {id}"
        ))
    }

    fn note_at_once(&self, change: &str) -> Result<(), Error> {
        guarded(cluster::session(&self.address)?.sql_change(change))
    }

    fn note(&mut self, id: i64, what: &str) -> Result<(), Error> {
        let update =
            format!("UPDATE rexmart_building SET {what} WHERE rexmart_inventory__id = {id}");
        guarded(self.session.sql_change(&update))
    }

    pub(crate) fn remove(&mut self, id: i64) -> Result<(), Error> {
        let delete = format!("DELETE FROM rexmart_inventory WHERE id = {id}");
        guarded(self.session.sql_change(&delete))
    }

    fn update(&mut self, id: i64, what: &str) -> Result<(), Error> {
        let update = format!("UPDATE rexmart_inventory SET {what} WHERE id = {id}");
        guarded(self.session.sql_change(&update))
    }
}

/// Why a mart is made no further.
pub(crate) fn purged() -> Error {
    Error::new("The Mart was purged while it was made")
}

fn status_is(status: &str) -> String {
    format!("status = {}", sql::text(status))
}

/// An error that says what helps where the tables are not there.
fn deployed(error: Error) -> Error {
    let text = error.to_string();
    // Tables of an earlier build lack columns.
    let is_missing =
        ["relation \"rexmart_inventory\"", "relation \"rexmart_building\"", "column b.server"]
            .iter()
            .any(|missing| text.contains(&format!("{missing} does not exist")));
    match is_missing {
        true => error.guard("The tables of marts are made by:", "rex-host deploy --project NAME"),
        false => error,
    }
}

fn mart(row: &[Value]) -> Option<Mart> {
    let text = |at: usize| match row.get(at) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let integer = |at: usize| match row.get(at) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    };
    let flag = |at: usize| match row.get(at) {
        Some(Value::Boolean(truth)) => Some(*truth),
        _ => None,
    };
    Some(Mart {
        id: integer(0)?,
        code: integer(1)?,
        definition: text(2)?,
        owner: text(3)?,
        name: text(4)?,
        status: text(5)?,
        date_creation_started: moment::read(&text(6)?)?,
        date_creation_completed: text(7).and_then(|text| moment::read(&text)),
        size: integer(8),
        pinned: flag(9)?,
        existing: flag(10),
        claim: text(11),
        final_name: text(12),
        left_open: flag(13) == Some(true),
        released: text(14),
        server: text(15),
        database_oid: integer(16),
    })
}
