//! Commands that write and fail half-way: what they say, and that nothing of them remains.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rex_db::{Address, Config, Session};
use rex_htsql::{Naming, Params, Value};
use rex_test_support::server::Server;

/// Tables as a deployment makes them.
const SCHEMA: &str = "
CREATE TYPE study_state_enum AS ENUM ('open', 'closed');
CREATE TABLE study (
    id serial NOT NULL UNIQUE, code text PRIMARY KEY, size int CHECK (size > 0),
    state study_state_enum);
CREATE TABLE visit (
    id serial NOT NULL UNIQUE, study_id int NOT NULL REFERENCES study (id), num int NOT NULL,
    PRIMARY KEY (study_id, num));
CREATE TABLE number (id serial NOT NULL UNIQUE, n int PRIMARY KEY, study text NOT NULL);
CREATE TABLE staging (n int, study text);
INSERT INTO study (code) VALUES ('a'), ('b');
INSERT INTO number (n, study)
    SELECT i, CASE i WHEN 5001 THEN 'none' ELSE 'a' END FROM generate_series(1, 20000) i;
";

struct Bench {
    session: Session,
    _server: Server,
}

impl Bench {
    fn new() -> Bench {
        let server = Server::start().unwrap();
        let uri = server.create_database("small").unwrap();
        server.sql("small", SCHEMA).unwrap();
        let (address, naming) = (Address::parse(&uri).unwrap(), Naming::Rex);
        let config = Config { address, naming, gateways: Vec::new(), statement_timeout: None };
        Bench { session: Session::new(config).unwrap(), _server: server }
    }

    fn run(&mut self, query: &str) -> Result<Value, String> {
        let product = self.session.produce(query, &Params::new());
        product.map(|product| product.data).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check_error(&mut self, query: &str, expected: &str) {
        let error = self.run(query).unwrap_err();
        let (said, _) = error.split_once("\nWhile processing:").unwrap();
        assert_eq!(said, expected, "{query}");
    }

    #[track_caller]
    fn count(&mut self, table: &str, expected: i64) {
        assert_eq!(self.run(&format!("count({table})")), Ok(Value::Integer(expected)));
    }
}

#[test]
fn copy_says_what_copy_says() {
    let mut bench = Bench::new();
    // The line is counted over all batches.
    for (query, line) in [
        ("/study{code} :as study/:copy", 1),
        ("/number{if(n=12345, 'a', 'n'+string(n)) :as code} :as study/:copy", 12345),
    ] {
        let said = format!(
            "Got a duplicate identity:\n    Study . Code\nWhich triggered an error from the \
             database driver:\n    duplicate key value violates unique constraint \
             \"study_pkey\"\n    DETAIL:  Key (code)=(a) already exists.\n    CONTEXT:  COPY \
             study, line {line}\nWhile copying a batch of records"
        );
        bench.check_error(query, &said);
    }
    let error = bench.run("{'x' :as code, -5 :as size} :as study/:copy").unwrap_err();
    let end = "CONTEXT:  COPY study, line 1: \"x\t-5\"\nWhile copying a batch of records\nWhile";
    assert!(error.contains(end), "{error}");
    // What is wrong with a record is found before anything is copied.
    bench.check_error(
        "/number{if(n=1, 'a', 'n'+string(n)) :as code, if(n=77, 'lost', 'open') :as state} \
         :as study/:copy",
        "Failed to adapt value of state to enum('open', 'closed'):\n    'lost'\n\
         While copying record #77:\n    {'n77', 'lost'}",
    );
    bench.count("study", 2);
}

#[test]
fn links_are_copied() {
    let mut bench = Bench::new();
    bench.check_error(
        "/number{id(study) :as study, if(n=3, 2, n) :as num} :as visit/:copy",
        "Unable to resolve a link:\n    study[none]\nWhile copying record #5001:\n    \
         {[none], 5001}",
    );
    bench.count("visit", 0);
    let copied = bench.run("/number?study='a'{id(study) :as study, n :as num} :as visit/:copy");
    assert_eq!(copied, Ok(Value::Null));
    bench.count("visit", 19999);
    bench.count("visit?study='a'", 19999);
}

/// Nobody asks which rows COPY has made.
#[test]
fn a_table_without_a_key_takes_copies_alone() {
    let mut bench = Bench::new();
    let copied = bench.run("/number?n<=70{n, study} :as staging/:copy");
    assert_eq!(copied, Ok(Value::Null));
    bench.count("staging", 70);
    bench.check_error("{1 :as n} :as staging/:insert", "Table does not have a primary key");
}
