//! PostgreSQL for tests: one private server for all, a database for each.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use postgres::{Client, NoTls};

use crate::env::repository;

/// The shared server's address, `pgsql://USER@HOST:PORT`: the one that `REX_TEST_PG` names, or one
/// that is started now and ends with this process.
///
/// # Panics
/// When there is no PostgreSQL to start.
pub fn server() -> &'static str {
    static SERVER: OnceLock<String> = OnceLock::new();
    // The child's standard input closes with our process, which ends the server.
    static KEEPER: Mutex<Option<Child>> = Mutex::new(None);
    SERVER.get_or_init(|| {
        if let Ok(address) = std::env::var("REX_TEST_PG") {
            return address;
        }
        let mut child = Command::new(repository().join("tests/support/postgres"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/support/postgres can be run");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it was asked for");
        BufReader::new(stdout).read_line(&mut line).expect("it prints text");
        *KEEPER.lock().expect("nobody panics with it") = Some(child);
        let address = line.trim_end().to_owned();
        assert!(!address.is_empty(), "tests/support/postgres did not start a server");
        address
    })
}

/// A database of its own, dropped with this value.
pub struct Database {
    name: String,
}

impl Default for Database {
    fn default() -> Database {
        Database::new()
    }
}

impl Database {
    /// # Panics
    /// When the server refuses.
    pub fn new() -> Database {
        Database::with("")
    }

    /// With an encoding that lacks most of the world's letters.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn latin1() -> Database {
        Database::with("encoding 'LATIN1' locale 'C' template template0")
    }

    fn with(options: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rex_{}_{number}", std::process::id());
        admin()
            .batch_execute(&format!("create database {name} {options}"))
            .expect("a database can be made");
        Database { name }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// As the original spells it: `pgsql://USER@HOST:PORT/NAME`.
    pub fn uri(&self) -> String {
        format!("{}/{}", server(), self.name)
    }

    /// `HOST:PORT` of the server.
    pub fn address(&self) -> String {
        server().rsplit('@').next().expect("there is always a last part").to_owned()
    }

    /// A connection beside the host's.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn connect(&self) -> Client {
        connect(&self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A server that is gone took the database with it.
        if let Ok(mut client) = try_connect("postgres") {
            let _ = client.batch_execute(&format!("drop database {} with (force)", self.name));
        }
    }
}

fn admin() -> Client {
    connect("postgres")
}

fn connect(database: &str) -> Client {
    try_connect(database).unwrap_or_else(|error| panic!("{}: {error}", server()))
}

fn try_connect(database: &str) -> Result<Client, postgres::Error> {
    let uri = server().replacen("pgsql:", "postgresql:", 1);
    Client::connect(&format!("{uri}/{database}"), NoTls)
}
