//! Carries facts out over a session: sends each statement and notes it, and knows the database as it
//! is then. What has to change is decided by the modules of the facts.

use rex_db::Session;
use rex_htsql::{Catalog, Naming, Value};
use rex_yaml::Error;

use crate::fact::{Fact, Facts};
use crate::image::{Column, ColumnId, INTROSPECTION, Image, Table, TableId};
use crate::rows::Rows;
use crate::{alias, column, data, identity, link, raw, table};

/// Makes a database agree with facts, within the session's transaction if it has one.
///
/// When a fact cannot be deployed its transaction is spoilt: what remains is to roll it back.
pub struct Deployer<'s> {
    session: &'s mut Session,
    image: Option<Image>,
    pub(crate) rows: Rows,
    /// Links that got another label with their target, by the former one: facts may know them by that.
    pub(crate) followed: Vec<(TableId, String, ColumnId)>,
    /// Columns that stayed where they are, though facts have them elsewhere: also when these are checked.
    pub(crate) left: Vec<At>,
    is_locked: bool,
    statements: Vec<String>,
    depth: usize,
}

/// Facts within facts beyond this are taken for a loop.
const MAX_DEPTH: usize = 16;

impl std::fmt::Debug for Deployer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deployer").field("is_locked", &self.is_locked).finish_non_exhaustive()
    }
}

impl<'s> Deployer<'s> {
    pub fn new(session: &'s mut Session) -> Deployer<'s> {
        Deployer {
            session,
            image: None,
            rows: Rows::default(),
            followed: Vec::new(),
            left: Vec::new(),
            is_locked: false,
            statements: Vec::new(),
            depth: 0,
        }
    }

    /// Makes the database agree with the facts, in their order.
    ///
    /// # Errors
    /// The original's text about the first fact that cannot be deployed, with its place.
    pub fn deploy(&mut self, facts: &Facts) -> Result<(), Error> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::new(format!("Got facts nested deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        let done = facts.0.iter().try_for_each(|(fact, place)| {
            self.fact(fact).map_err(|error| {
                let doing = if self.is_locked { "validating" } else { "deploying" };
                error.guard(format!("While {doing} {} fact:", fact.key()), place)
            })
        });
        self.depth -= 1;
        done
    }

    /// Checks that the facts hold: what [`deploy`](Deployer::deploy) would still have to change is
    /// an error.
    ///
    /// # Errors
    /// As `deploy`, and `Detected inconsistent data model` with the statement that would be needed.
    pub fn validate(&mut self, facts: &Facts) -> Result<(), Error> {
        self.refresh();
        self.is_locked = true;
        let done = self.deploy(facts);
        self.is_locked = false;
        done
    }

    /// The statements that changed something so far, in order.
    pub fn statements(&self) -> &[String] {
        &self.statements
    }

    /// Forgets what is known of the database, after it was changed by other means.
    pub fn refresh(&mut self) {
        self.image = None;
        self.rows.clear();
        self.followed.clear();
    }

    fn fact(&mut self, fact: &Fact) -> Result<(), Error> {
        match fact {
            Fact::Table(fact) => table::deploy(self, fact),
            Fact::Column(fact) => column::deploy(self, fact),
            Fact::Link(fact) => link::deploy(self, fact),
            Fact::Identity(fact) => identity::deploy(self, fact),
            Fact::Data(fact) => data::deploy(self, fact),
            Fact::Alias(fact) => alias::deploy(self, fact),
            Fact::Raw(fact) => raw::deploy(self, fact),
            Fact::Include(path) => raw::include(self, path),
        }
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// The image of the database, read when it is first needed.
    pub(crate) fn image(&mut self) -> Result<&mut Image, Error> {
        if self.image.is_none() {
            let rows = self.ask(INTROSPECTION)?;
            let text = match rows.first().and_then(|row| row.first()) {
                Some(Value::Text(text)) => text.as_str(),
                _ => "",
            };
            let image = Image::read(text).map_err(|error| {
                Error::with("Failed to read the structure of the database:", error)
            })?;
            self.image = Some(image);
        }
        self.image.as_mut().ok_or_else(|| Error::new("Got no structure of the database"))
    }

    pub(crate) fn table(&mut self, id: TableId) -> Result<&mut Table, Error> {
        let gone = || Error::new("Discovered missing table");
        self.image()?.tables.get_mut(&id).ok_or_else(gone)
    }

    pub(crate) fn column(&mut self, at: At) -> Result<&mut Column, Error> {
        let gone = || Error::new("Discovered missing field");
        self.table(at.table)?.column_mut(at.column).ok_or_else(gone)
    }

    /// The database as queries see it.
    pub(crate) fn catalog(&mut self) -> Result<Catalog, Error> {
        let catalog = self.session.catalog().map_err(|error| Error::new(error.to_string()))?;
        Ok(Catalog::new(catalog.database().clone(), Naming::Rex))
    }

    /// Sends a query that changes nothing.
    pub(crate) fn ask(&mut self, text: &str) -> Result<Vec<Vec<Value>>, Error> {
        self.session.sql_rows(text).map_err(|error| failed(&error, text))
    }

    /// Sends a statement that changes structure or rows and may answer with rows.
    pub(crate) fn change_rows(&mut self, text: &str) -> Result<Vec<Vec<Value>>, Error> {
        self.note(text)?;
        self.ask(text)
    }

    /// Sends statements that change the structure.
    pub(crate) fn change(&mut self, text: &str) -> Result<(), Error> {
        self.note(text)?;
        self.rows.clear();
        self.session.sql_change(text).map_err(|error| failed(&error, text))
    }

    fn note(&mut self, text: &str) -> Result<(), Error> {
        if self.is_locked {
            return Err(Error::with("Detected inconsistent data model:", text));
        }
        self.statements.push(text.to_owned());
        Ok(())
    }
}

fn failed(error: &rex_htsql::Error, text: &str) -> Error {
    Error::new(error.to_string()).guard("While executing SQL:", text)
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) table: TableId,
    pub(crate) column: ColumnId,
}
