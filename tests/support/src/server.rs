//! A PostgreSQL server of one test's own, which the test may stop, crash and start again; it ends
//! with the test process whatever ends that. Tests that leave the server alone use `pg.rs`.

#![expect(clippy::print_stderr, reason = "tests tell on stderr what they cannot run")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use postgres::{Client, NoTls};

use crate::env::repository;

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// `tests/support/postgres`, which stops the server as soon as its input ends.
    keeper: Child,
    answers: Mutex<BufReader<ChildStdout>>,
    address: String,
}

impl Server {
    /// A new server that syncs nothing; `None`, said on stderr, where no PostgreSQL is installed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Option<Server> {
        Server::start_with(&[])
    }

    /// A new server with settings `name=value` on top.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with(settings: &[&str]) -> Option<Server> {
        let mut keeper = Command::new(repository().join("tests/support/postgres"))
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/support/postgres can be run");
        let mut answers = BufReader::new(keeper.stdout.take().expect("it was asked for"));
        let address = read_line(&mut answers);
        if address.is_empty() {
            let status = keeper.wait().expect("it is our child");
            assert!(status.code() == Some(3), "PostgreSQL does not start");
            eprintln!("NOT RUN: what needs PostgreSQL, which is not installed");
            return None;
        }
        Some(Server { keeper, answers: Mutex::new(answers), address })
    }

    /// `pgsql://USER@HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address of one of its databases.
    pub fn uri(&self, database: &str) -> String {
        format!("{}/{database}", self.address)
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap_or_default()
    }

    /// The data directory.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn data(&self) -> PathBuf {
        let row = self.client("postgres").query_one("SHOW data_directory", &[]);
        PathBuf::from(row.expect("the server answers").get::<_, String>(0))
    }

    /// What it has logged so far; a file.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn log(&self) -> PathBuf {
        self.data().parent().expect("it has a folder of its own").with_extension("log")
    }

    /// Makes a database, in place of one of that name, and returns its URI.
    ///
    /// # Errors
    /// The server's message.
    pub fn create_database(&self, name: &str) -> Result<String, postgres::Error> {
        self.sql("postgres", &format!("DROP DATABASE IF EXISTS \"{name}\""))?;
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\" TEMPLATE template0"))?;
        Ok(self.uri(name))
    }

    /// Runs one SQL text on a database; for set-up.
    ///
    /// # Errors
    /// The server's message.
    pub fn sql(&self, database: &str, text: &str) -> Result<(), postgres::Error> {
        connect(&self.uri(database))?.batch_execute(text)
    }

    /// A connection of the test's own.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn client(&self, database: &str) -> Client {
        let uri = self.uri(database);
        connect(&uri).unwrap_or_else(|error| panic!("{uri}: {error}"))
    }

    /// Stops the server as a crash would (`immediate`) or in good order.
    ///
    /// # Panics
    /// When it cannot be stopped.
    pub fn stop(&self, immediate: bool) {
        self.command(if immediate { "stop immediate" } else { "stop fast" });
    }

    /// Starts the server again after [`Server::stop`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self) {
        self.command("start");
    }

    fn command(&self, line: &str) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut input = self.keeper.stdin.as_ref().expect("it is open until the end");
        writeln!(input, "{line}").expect("the keeper listens");
        assert_eq!(read_line(&mut answers), "done", "{line}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ended = self.keeper.wait();
    }
}

fn read_line(answers: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    answers.read_line(&mut line).expect("it prints text");
    line.trim_end().to_owned()
}

/// A connection to a database whose URI [`Server::uri`] gave.
///
/// # Errors
/// The driver's.
pub fn connect(uri: &str) -> Result<Client, postgres::Error> {
    // The driver knows the same form under another name.
    Client::connect(&uri.replacen("pgsql:", "postgresql:", 1), NoTls)
}

/// Runs a dump through `psql` on the database at `uri`, stopping at its first error.
///
/// # Errors
/// `psql` is absent, or its messages where it failed.
pub fn load_sql(uri: &str, file: &Path) -> Result<(), String> {
    let output = Command::new("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d"])
        .arg(uri.replacen("pgsql:", "postgresql:", 1))
        .arg("-f")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("psql: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}
