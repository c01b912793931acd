//! `--explain sql` against what the server logs: the same statements, in the same order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use rex_db::{Address, Config, Gateway, Session};
use rex_htsql::{Lens, Naming, Params};
use rex_test_support::server::Server;

/// Tables as a deployment makes them.
const SCHEMA: &str = "
CREATE TABLE study (id serial NOT NULL UNIQUE, code text PRIMARY KEY, title text);
CREATE TABLE visit (
    id serial NOT NULL UNIQUE, study_id int NOT NULL REFERENCES study (id), num int NOT NULL,
    note text, PRIMARY KEY (study_id, num));
CREATE TABLE number (id serial NOT NULL UNIQUE, n int PRIMARY KEY);
INSERT INTO study (code, title) VALUES ('a', 'A'), ('b', 'B');
INSERT INTO visit (study_id, num) VALUES (1, 1), (1, 2), (2, 1);
INSERT INTO number (n) SELECT generate_series(1, 100);
";

struct Bench {
    session: Session,
    log: PathBuf,
    _server: Server,
}

impl Bench {
    fn new() -> Bench {
        let server = Server::start_with(&["log_statement=all"]).unwrap();
        let address = |name: &str| {
            let uri = server.create_database(name).unwrap();
            server.sql(name, SCHEMA).unwrap();
            Address::parse(&uri).unwrap()
        };
        let naming = Naming::Rex;
        let gateways = vec![Gateway { name: "far".into(), address: address("far"), naming }];
        let config = Config { address: address("near"), naming, gateways, statement_timeout: None };
        let mut session = Session::new(config).unwrap();
        // Both catalogs are read.
        session.produce("/study/:far/:json", &Params::new()).unwrap();
        Bench { session, log: server.log(), _server: server }
    }

    /// What `--explain sql` shows of a query, and the statements that are sent when it runs but for
    /// those around them: of transactions, cursors, and on the catalog.
    fn both(&mut self, query: &str) -> (String, Vec<String>) {
        let params = Params::new();
        let shown = self.session.explain(query, Lens::Sql, &params).unwrap();
        let before = std::fs::read_to_string(&self.log).unwrap().len();
        self.session.begin();
        let outcome = self.session.produce(query, &params);
        self.session.end(false).unwrap();
        outcome.unwrap_or_else(|error| panic!("{query}: {error}"));
        let log = std::fs::read_to_string(&self.log).unwrap();
        let around = ["BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK", "COMMIT", "FETCH", "CLOSE"];
        let own = |sql: &String| {
            !around.iter().any(|word| sql.starts_with(word)) && !sql.contains("pg_catalog")
        };
        (shown, statements(&log[before..]).into_iter().filter(own).collect())
    }

    /// What is shown is what is sent.
    #[track_caller]
    fn check(&mut self, query: &str) {
        let (shown, sent) = self.both(query);
        let is_statement =
            |line: &&str| !line.is_empty() && !line.starts_with("--") && !line.starts_with('$');
        let listed: Vec<&str> = shown.lines().filter(is_statement).collect();
        assert_eq!(listed, sent, "{query}");
    }

    /// What is sent is shown, beside what another number of records would need.
    #[track_caller]
    fn check_shown(&mut self, query: &str) {
        let (shown, sent) = self.both(query);
        assert!(!sent.is_empty(), "{query}");
        for sql in sent {
            assert!(shown.lines().any(|line| line.ends_with(&sql)), "{query}: {sql}\n{shown}");
        }
    }
}

/// The statements in a log, those of cursors without the cursor.
fn statements(log: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in log.lines() {
        if let Some(more) = line.strip_prefix('\t') {
            if let Some(last) = found.last_mut().filter(|_| goes_on) {
                last.push('\n');
                last.push_str(more);
            }
            continue;
        }
        let said = line.split_once("LOG:  ").map(|(_, said)| said);
        let sql = said.and_then(|said| match said.strip_prefix("statement: ") {
            None => said.strip_prefix("execute ")?.split_once(": ").map(|(_, sql)| sql),
            found => found,
        });
        goes_on = sql.is_some();
        found.extend(sql.map(|sql| match sql.split_once(" CURSOR FOR ") {
            Some((head, sql)) if head.starts_with("DECLARE") => sql.to_string(),
            _ => sql.to_string(),
        }));
    }
    found
}

#[test]
fn what_is_shown_is_sent() {
    let mut bench = Bench::new();
    for query in [
        "/study{code, count(visit)}?title~'a'",
        "/study{code, /visit{num}}",
        "/study/:far",
        "/study/:csv",
        "pivot(/visit{study.code, num, note})",
        "/{'x' :as code, 'y'} :as study/:insert",
        "insert(visit:={[a] :as study, 7 :as num})",
        "/study{code+'2' :as code, title} :as study/:far/:insert",
        "/study{id() :as study, 9 :as num} :as visit/:insert",
        "/study{id() :as study, 9 :as num} :as visit/:copy",
        "/study{code+'3' :as code}/:copy",
        "update(study:={[a], title:='x'})",
        "update(study:={[a]})",
        "update(visit:={[a.1], note:='x'})",
        "/study{id(), 'x' :as title}/:update",
        "/visit{id(), 'x' :as note}/:update",
        "/visit{id(), [b] :as study, num+if(study.code='a', 5, 9) :as num}/:update",
        "/visit{study, num+1 :as num, 'm' :as note}/:merge",
        "/visit{id(), num+70 :as num}/:clone",
        "/study{id(), code+'c' :as code}/:clone",
        "delete(visit:={[a.1]})",
        "/visit{id()}/:delete",
        "truncate(visit)",
        "do(/visit{id()}/:delete, count(visit))",
        "do(truncate(visit), if(true(), get(/study)))",
        "describe(/study)",
        "sql(/study{id()}/:delete)",
        "/",
    ] {
        bench.check(query);
    }
}

#[test]
fn what_depends_on_the_number_of_records_is_shown() {
    let mut bench = Bench::new();
    for query in [
        "/number{'n'+string(n) :as code} :as study/:insert",
        "/study?code='a'{id(), 'x' :as title}/:update",
        "/visit{study, num, 'm' :as note}/:merge",
        "merge(visit:={[a] :as study, 1 :as num})",
        "merge(visit:={[a] :as study, 99 :as num, 'x' :as note})",
        "/study?code='a'{id(), 'x' :as code}/:clone",
        "do(/study?code='b'{id()}/:update, if(false(), truncate(visit), get(/study)))",
    ] {
        bench.check_shown(query);
    }
}
