//! A database of its own for each test, and facts deployed on it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rex_db::{Address, Config, Session};
use rex_deploy::{Deployer, Facts};
use rex_htsql::{Naming, Value};
use rex_test_support::server::Server;

/// The server of all tests.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start().unwrap())
}

/// A database, and the facts that are deployed on it one after another.
pub(crate) struct Driver {
    pub(crate) session: Session,
    base: PathBuf,
}

impl Driver {
    pub(crate) fn new(name: &str) -> Driver {
        Driver::within(name, Path::new("/"))
    }

    /// Paths in facts begin at `base`.
    pub(crate) fn within(name: &str, base: &Path) -> Driver {
        let uri = server().create_database(name).unwrap();
        let address = Address::parse(&uri).unwrap();
        let config =
            Config { address, naming: Naming::Rex, gateways: Vec::new(), statement_timeout: None };
        Driver { session: Session::new(config).unwrap(), base: base.to_owned() }
    }

    fn facts(&self, text: &str) -> Result<Facts, rex_yaml::Error> {
        Facts::text(text, "<unicode string>", &self.base)
    }

    /// The text of the error of facts that cannot be read.
    pub(crate) fn unread(&self, text: &str) -> String {
        self.facts(text).unwrap_err().to_string()
    }

    /// Deploys facts and gives the statements that it took, one after another. Doing it again must
    /// take none.
    #[track_caller]
    pub(crate) fn run(&mut self, text: &str) -> String {
        let facts = self.facts(text).unwrap_or_else(|error| panic!("{error}"));
        self.session.begin();
        let mut deployer = Deployer::new(&mut self.session);
        let done = deployer.deploy(&facts);
        let statements = deployer.statements().join("\n");
        if let Err(error) = done {
            panic!("{statements}\n{error}");
        }
        self.session.end(true).unwrap();
        self.session.begin();
        let mut deployer = Deployer::new(&mut self.session);
        if let Err(error) = deployer.validate(&facts) {
            panic!("{statements}\nand then\n{error}");
        }
        self.session.end(false).unwrap();
        statements
    }

    /// Deploys facts and has them checked by the same one, as the command does.
    #[track_caller]
    pub(crate) fn run_at_once(&mut self, text: &str) -> String {
        let facts = self.facts(text).unwrap_or_else(|error| panic!("{error}"));
        self.session.begin();
        let mut deployer = Deployer::new(&mut self.session);
        deployer.deploy(&facts).unwrap_or_else(|error| panic!("{error}"));
        deployer.validate(&facts).unwrap_or_else(|error| panic!("{error}"));
        let statements = deployer.statements().join("\n");
        self.session.end(true).unwrap();
        statements
    }

    /// Deploys facts without asking whether they agree with each other.
    #[track_caller]
    pub(crate) fn run_once(&mut self, text: &str) -> String {
        let facts = self.facts(text).unwrap_or_else(|error| panic!("{error}"));
        self.session.begin();
        let mut deployer = Deployer::new(&mut self.session);
        deployer.deploy(&facts).unwrap_or_else(|error| panic!("{error}"));
        let statements = deployer.statements().join("\n");
        self.session.end(true).unwrap();
        statements
    }

    /// The text of the error of facts that cannot be deployed.
    #[track_caller]
    pub(crate) fn fail(&mut self, text: &str) -> String {
        self.failure(text, false)
    }

    /// The text of the error of facts that do not hold.
    #[track_caller]
    pub(crate) fn locked(&mut self, text: &str) -> String {
        self.failure(text, true)
    }

    #[track_caller]
    fn failure(&mut self, text: &str, is_locked: bool) -> String {
        let facts = self.facts(text).unwrap_or_else(|error| panic!("{error}"));
        self.session.begin();
        let mut deployer = Deployer::new(&mut self.session);
        let done = if is_locked { deployer.validate(&facts) } else { deployer.deploy(&facts) };
        self.session.end(false).unwrap();
        done.expect_err("facts that were refused").to_string()
    }

    pub(crate) fn sql(&mut self, text: &str) {
        self.session.execute_sql(text).unwrap();
    }

    /// The one value that a query gives.
    pub(crate) fn value(&mut self, text: &str) -> Value {
        self.session.sql_rows(text).unwrap()[0][0].clone()
    }

    pub(crate) fn text(&mut self, text: &str) -> String {
        match self.value(text) {
            Value::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn count(&mut self, table: &str) -> i64 {
        match self.value(&format!("SELECT count(*) FROM \"{table}\"")) {
            Value::Integer(count) => count,
            other => panic!("{other:?}"),
        }
    }
}

/// The statements of a text, whose lines the test has set in.
#[track_caller]
pub(crate) fn same(got: &str, expected: &str) {
    let expected = expected.trim_matches('\n');
    let indent = expected.len() - expected.trim_start_matches(' ').len();
    let lines: Vec<&str> = expected.lines().map(|line| line.get(indent..).unwrap_or("")).collect();
    assert_eq!(got.trim_end(), lines.join("\n").trim_end());
}
