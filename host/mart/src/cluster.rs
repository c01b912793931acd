//! The server that marts are made on, and its databases as a whole: made, copied, renamed, dropped.

use rex_db::{Address, Config, POOLED, Session, pooled};
use rex_deploy::{create_database, sql};
use rex_htsql::{Naming, Value};
use rex_yaml::Error;

/// A connection to the database that every server has, from which others are made.
pub(crate) struct Cluster {
    session: Session,
    address: Address,
    /// Nobody else answers for it.
    is_own: bool,
    /// What tells the server from all others, once it was asked for.
    identifier: Option<Option<String>>,
}

/// A session on a database in which nothing has to be reached from elsewhere.
pub(crate) fn session(address: &Address) -> Result<Session, Error> {
    let config = Config {
        address: address.clone(),
        naming: Naming::Rex,
        gateways: Vec::new(),
        statement_timeout: None,
    };
    Session::new(config).map_err(|error| Error::new(error.to_string()))
}

/// An error of statements about databases, as the original has it.
fn server<T>(result: Result<T, rex_htsql::Error>) -> Result<T, Error> {
    result.map_err(|error| {
        let text = error.to_string();
        let known = "Got an error from the database driver:";
        Error::new(match text.strip_prefix(known) {
            Some(rest) => format!("Got an error from the database server:{rest}"),
            None => text,
        })
    })
}

impl Cluster {
    pub(crate) fn open(address: &Address) -> Result<Cluster, Error> {
        let session = session(&address.with_database("postgres"))?;
        Ok(Cluster { session, address: address.clone(), is_own: false, identifier: None })
    }

    /// Refuses a proxy that gives this connection to others, and with it what is claimed.
    pub(crate) fn refuse_pooling(&mut self) -> Result<(), Error> {
        if self.is_own {
            return Ok(());
        }
        let address = self.address.with_database("postgres");
        if server(self.session.is_pooled(&mut session(&address)?))? {
            let text = pooled(&address.to_string(), "The claim to a Mart");
            return Err(Error::new(text).guard("What helps:", POOLED));
        }
        self.is_own = true;
        Ok(())
    }

    /// The address of one of its databases.
    pub(crate) fn address(&self, database: &str) -> Address {
        self.address.with_database(database)
    }

    pub(crate) fn exists(&mut self, name: &str) -> Result<bool, Error> {
        let name = sql::text(name);
        let query = format!("SELECT TRUE FROM pg_catalog.pg_database WHERE datname = {name}");
        Ok(!server(self.session.sql_rows(&query))?.is_empty())
    }

    /// What tells the server from all others, also from one that has its address later; `None` where
    /// this role may not know it.
    pub(crate) fn identifier(&mut self) -> Result<Option<String>, Error> {
        if let Some(identifier) = &self.identifier {
            return Ok(identifier.clone());
        }
        let allowed = "SELECT FROM (SELECT) AS one WHERE pg_catalog.has_function_privilege(
            pg_catalog.to_regprocedure('pg_catalog.pg_control_system()'), 'EXECUTE')";
        let identifier = match self.finds(allowed)? {
            true => {
                let query = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
                let rows = server(self.session.sql_rows(query))?;
                match rows.first().and_then(|row| row.first()) {
                    Some(Value::Text(identifier)) => Some(identifier.clone()),
                    _ => None,
                }
            }
            false => None,
        };
        Ok(self.identifier.insert(identifier).clone())
    }

    /// What tells a database from all others of its server, whatever they are called.
    pub(crate) fn oid(&mut self, name: &str) -> Result<Option<i64>, Error> {
        let name = sql::text(name);
        let query = format!("SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = {name}");
        match server(self.session.sql_rows(&query))?.first().and_then(|row| row.first()) {
            Some(Value::Integer(oid)) => Ok(Some(*oid)),
            _ => Ok(None),
        }
    }

    /// What any transaction has done by now survives a crash of the server: what is committed is on
    /// disk with all that was done before it.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let commit = "SELECT pg_catalog.set_config('synchronous_commit', 'on', TRUE),
            pg_catalog.pg_logical_emit_message(TRUE, 'rex', '')";
        server(self.session.sql_rows(commit)).map(|_| ())
    }

    /// Whether the server crashed while it dropped that database, which nobody can enter any more.
    pub(crate) fn is_half_dropped(&mut self, name: &str) -> Result<bool, Error> {
        let query = format!(
            "SELECT TRUE FROM pg_catalog.pg_database WHERE datname = {} AND datconnlimit = -2",
            sql::text(name)
        );
        Ok(!server(self.session.sql_rows(&query))?.is_empty())
    }

    /// Makes a database, a copy of `template` where there is one.
    pub(crate) fn create(&mut self, name: &str, template: Option<&str>) -> Result<(), Error> {
        server(create_database(&mut self.session, name, template))
    }

    /// Makes an empty database in UTF-8 that sorts and compares as another one does.
    pub(crate) fn create_like(&mut self, name: &str, other: &str) -> Result<(), Error> {
        // What a locale consists of differs between versions of the server.
        let query = format!(
            "SELECT d->>'datcollate', d->>'datctype', d->>'datlocprovider',
                coalesce(d->>'datlocale', d->>'daticulocale')
             FROM (SELECT pg_catalog.to_jsonb(r) AS d FROM pg_catalog.pg_database AS r
                WHERE datname = {}) AS records",
            sql::text(other)
        );
        let rows = server(self.session.sql_rows(&query))?;
        let text = |at: usize| match rows.first().and_then(|row| row.get(at)) {
            Some(Value::Text(text)) => sql::text(text),
            _ => "DEFAULT".to_owned(),
        };
        let (collate, ctype, locale) = (text(0), text(1), text(3));
        let more = match text(2).as_str() {
            "'i'" => format!(" LOCALE_PROVIDER = icu ICU_LOCALE = {locale}"),
            "'b'" => format!(" LOCALE_PROVIDER = builtin BUILTIN_LOCALE = {locale}"),
            _ => String::new(),
        };
        let create = format!(
            "CREATE DATABASE {} WITH ENCODING = 'UTF-8' TEMPLATE = template0
             LC_COLLATE = {collate} LC_CTYPE = {ctype}{more};",
            sql::name(name)
        );
        server(self.session.sql_change(&create))
    }

    /// Whether the query finds a row.
    fn finds(&mut self, query: &str) -> Result<bool, Error> {
        Ok(!server(self.session.sql_rows(query))?.is_empty())
    }

    pub(crate) fn is_utf8(&mut self, name: &str) -> Result<bool, Error> {
        self.finds(&format!(
            "SELECT FROM pg_catalog.pg_database
             WHERE datname = {} AND pg_catalog.pg_encoding_to_char(encoding) = 'UTF8'",
            sql::text(name)
        ))
    }

    /// Whether the server lets this role copy a database as a whole.
    pub(crate) fn may_copy(&mut self, name: &str) -> Result<bool, Error> {
        self.finds(&format!(
            "SELECT FROM pg_catalog.pg_database WHERE datname = {}
                AND (datistemplate OR pg_catalog.pg_has_role(datdba, 'USAGE'))",
            sql::text(name)
        ))
    }

    pub(crate) fn is_superuser(&mut self) -> Result<bool, Error> {
        self.finds("SELECT FROM pg_catalog.pg_roles WHERE rolname = current_user AND rolsuper")
    }

    /// Whether others than this connection are in a database.
    pub(crate) fn is_in_use(&mut self, name: &str) -> Result<bool, Error> {
        // Of other roles' sessions only few rights show more than who has them.
        let query = format!(
            "SELECT TRUE FROM pg_catalog.pg_stat_activity
             WHERE datname = {} AND usesysid IS NOT NULL
                AND coalesce(backend_type, 'client backend') = 'client backend' LIMIT 1",
            sql::text(name)
        );
        Ok(!server(self.session.sql_rows(&query))?.is_empty())
    }

    /// Drops a database, whoever is connected to it; none is fine, too.
    pub(crate) fn drop(&mut self, name: &str) -> Result<(), Error> {
        let template = format!(
            "SELECT TRUE FROM pg_catalog.pg_database WHERE datname = {} AND datistemplate",
            sql::text(name)
        );
        if !server(self.session.sql_rows(&template))?.is_empty() {
            let plain = format!("ALTER DATABASE {} IS_TEMPLATE false;", sql::name(name));
            server(self.session.sql_change(&plain))?;
        }
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE);", sql::name(name));
        server(self.session.sql_change(&drop))
    }

    /// Renames databases at one stroke; whoever is connected to them is sent away.
    pub(crate) fn rename(&mut self, pairs: &[(&str, &str)]) -> Result<(), Error> {
        for (from, _) in pairs {
            let leave = format!(
                "SELECT pg_catalog.pg_terminate_backend(pid, 10000)
                 FROM pg_catalog.pg_stat_activity
                 WHERE datname = {} AND pid <> pg_catalog.pg_backend_pid()",
                sql::text(from)
            );
            server(self.session.sql_rows(&leave))?;
        }
        let renames = pairs.iter().map(|(from, to)| {
            format!("ALTER DATABASE {} RENAME TO {};", sql::name(from), sql::name(to))
        });
        server(self.session.sql_change(&renames.collect::<String>()))
    }

    /// Bytes.
    pub(crate) fn size(&mut self, name: &str) -> Result<i64, Error> {
        let name = sql::text(name);
        let query = format!("SELECT pg_catalog.pg_database_size({name}::name)");
        match server(self.session.sql_rows(&query))?.first().and_then(|row| row.first()) {
            Some(Value::Integer(size)) => Ok(*size),
            _ => Err(Error::new("Got no size from the database server")),
        }
    }

    /// Tells everyone that the mart of this name is being made, until this connection ends.
    pub(crate) fn claim(&mut self, name: &str) -> Result<(), Error> {
        let query = format!("SELECT pg_catalog.pg_advisory_lock({})", key(name));
        server(self.session.sql_rows(&query)).map(|_| ())
    }

    /// Takes back what [`Cluster::claim`] or [`Cluster::is_abandoned`] took, once.
    pub(crate) fn unclaim(&mut self, name: &str) -> Result<(), Error> {
        let query = format!("SELECT pg_catalog.pg_advisory_unlock({})", key(name));
        server(self.session.sql_rows(&query)).map(|_| ())
    }

    /// Whether nobody makes the mart of this name any more; if so, nobody else will find so until
    /// this connection ends.
    pub(crate) fn is_abandoned(&mut self, name: &str) -> Result<bool, Error> {
        self.refuse_pooling()?;
        let query = format!("SELECT pg_catalog.pg_try_advisory_lock({})", key(name));
        let rows = server(self.session.sql_rows(&query))?;
        Ok(matches!(rows.first().and_then(|row| row.first()), Some(Value::Boolean(true))))
    }
}

/// What is claimed while the database of a mart is being made under this name.
pub(crate) fn making(name: &str) -> String {
    format!("database {name}")
}

fn key(name: &str) -> String {
    format!("pg_catalog.hashtextextended({}, 7)", sql::text(&format!("rex mart {name}")))
}
