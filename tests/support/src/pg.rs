//! PostgreSQL for tests: one private server for all, a database for each.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use postgres::Client;

use crate::server::{self, Server};

/// The shared server's address, `pgsql://USER@HOST:PORT`: the one that `REX_TEST_PG` names, or one
/// that is started now and ends with this process; `None` where no PostgreSQL is installed.
pub fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    static NAMED: OnceLock<Option<String>> = OnceLock::new();
    let named = NAMED.get_or_init(|| std::env::var("REX_TEST_PG").ok());
    if let Some(named) = named {
        return Some(named);
    }
    SERVER.get_or_init(Server::start).as_ref().map(Server::address)
}

/// A database of its own, dropped with this value.
pub struct Database {
    server: String,
    name: String,
}

impl Default for Database {
    fn default() -> Database {
        Database::new()
    }
}

impl Database {
    /// # Panics
    /// When there is no server, or it refuses.
    pub fn new() -> Database {
        Database::with("")
    }

    /// On a server of the test's own.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn on(server: &Server) -> Database {
        Database::make(server.address(), "")
    }

    /// With an encoding that lacks most of the world's letters.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn latin1() -> Database {
        Database::with("encoding 'LATIN1' locale 'C' template template0")
    }

    /// With no encoding, so that texts are whatever bytes were written.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn sql_ascii() -> Database {
        Database::with("encoding 'SQL_ASCII' locale 'C' template template0")
    }

    fn with(options: &str) -> Database {
        Database::make(server().expect("PostgreSQL is installed"), options)
    }

    fn make(server: &str, options: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rex_{}_{number}", std::process::id());
        let database = Database { server: server.to_owned(), name };
        let make = format!("create database {} {options}", database.name);
        let mut admin =
            server::connect(&format!("{server}/postgres")).expect("the server is there");
        admin.batch_execute(&make).expect("a database can be made");
        database
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// As the original spells it: `pgsql://USER@HOST:PORT/NAME`.
    pub fn uri(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    /// `HOST:PORT` of the server.
    ///
    /// # Panics
    /// Never: there is always a last part.
    pub fn address(&self) -> String {
        self.server.rsplit('@').next().expect("there is always a last part").to_owned()
    }

    /// A connection beside the host's.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn connect(&self) -> Client {
        let uri = self.uri();
        server::connect(&uri).unwrap_or_else(|error| panic!("{uri}: {error}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A server that is gone took the database with it.
        if let Ok(mut client) = server::connect(&format!("{}/postgres", self.server)) {
            let _ = client.batch_execute(&format!("drop database {} with (force)", self.name));
        }
    }
}
