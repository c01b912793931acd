//! Databases that are unlike what a query's author expects: very wide tables, names of any letters,
//! encodings that lack them, rights that are missing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rex_db::{Address, Config, Gateway, Session, from_typed_json, value_json};
use rex_htsql::domain::Domain;
use rex_htsql::{Naming, Params};
use rex_test_support::pg::Database;
use rex_test_support::proxy::Proxy;
use rex_test_support::server::Server;
use serde_json::{Value as Json, json};

fn session(uri: &str, gateways: Vec<Gateway>) -> Session {
    let address = Address::parse(uri).unwrap();
    let naming = Naming::Stock;
    Session::new(Config { address, naming, gateways, statement_timeout: None }).unwrap()
}

/// A session on a database that SQL has made.
fn made(database: &Database, sql: &str) -> Session {
    database.connect().batch_execute(sql).unwrap();
    session(&database.uri(), Vec::new())
}

fn run(session: &mut Session, query: &str) -> Result<Json, String> {
    run_with(session, query, json!({}))
}

fn run_with(session: &mut Session, query: &str, params: Json) -> Result<Json, String> {
    let mut given = Params::new();
    for (name, value) in params.as_object().unwrap() {
        given.set(name, from_typed_json(&value.to_string()).unwrap());
    }
    let product = session.produce(query, &given).map_err(|error| error.to_string())?;
    let domain = product.profile.as_ref().map_or(&Domain::Void, |profile| &profile.domain);
    Ok(value_json(domain, &product.data))
}

#[track_caller]
fn check(session: &mut Session, query: &str, expected: Json) {
    assert_eq!(run(session, query), Ok(expected), "{query}");
}

/// The error without where it comes from.
#[track_caller]
fn check_error(session: &mut Session, query: &str, expected: &str) {
    let error = run(session, query).unwrap_err();
    let what = error.split("\nWhile processing:").next().unwrap();
    let what = what.split("\nWhile translating:").next().unwrap();
    assert_eq!(what, expected, "{query}");
}

/// The system makes connections for it.
#[test]
fn nobody_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let uri = format!("pgsql://u@127.0.0.1:{port}/db?connect_timeout=1");
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        // Who waits may have given up.
        let _ = tell.send(run(&mut session(&uri, Vec::new()), "/1"));
    });
    let error = told.recv_timeout(Duration::from_secs(8)).expect("an end").unwrap_err();
    let reason = format!("at \"127.0.0.1\", port {port} failed: timeout expired");
    assert!(error.contains(&reason), "{error}");
}

#[test]
fn nobody_answers_who_cancels() {
    let database = Database::new();
    let proxy = Proxy::to(&database.address());
    let uri = database.uri().replace(&database.address(), proxy.address());
    let mut session = session(&format!("{uri}?connect_timeout=1"), Vec::new());
    session.execute_sql("SELECT").unwrap();
    let canceller = session.canceller();
    proxy.hush();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        // Who waits may have given up.
        let _ = tell.send(canceller.cancel());
    });
    told.recv_timeout(Duration::from_secs(8)).expect("an end").unwrap_err();
}

#[test]
fn a_thousand_columns() {
    let database = Database::new();
    let columns: Vec<String> = (2..=1000).map(|n| format!("c{n} text")).collect();
    let sql = format!("CREATE TABLE t (c1 int PRIMARY KEY, {})", columns.join(", "));
    let mut session = made(&database, &sql);

    let fields: Vec<String> = (2..=1000).map(|n| format!("c{n}:='v{n}'")).collect();
    let insert = format!("insert(t:={{c1:=1, {}}})", fields.join(", "));
    check(&mut session, &insert, json!({"id": "1"}));
    check(&mut session, "insert(t:={c1:=2, c1000:='x'})", json!({"id": "2"}));
    let all = run(&mut session, "/t").unwrap();
    assert_eq!(all[0].as_array().unwrap().len(), 1000);
    assert_eq!(
        (&all[0][0], &all[0][499], &all[0][999]),
        (&json!(1), &json!("v500"), &json!("v1000"))
    );
    let some = "/t{c1, c500, c1000}?c999='v999'|c1=2";
    check(&mut session, some, json!([[1, "v500", "v1000"], [2, null, "x"]]));
    check(&mut session, "merge(t:={c1:=2, c3:='m'})", json!({"id": "2"}));
    check(&mut session, "/t[2]{c2, c3, c1000}", json!([[null, "m", "x"]]));
    check(
        &mut session,
        "/t{c1+10 :as c1, *(1000)} :as t/:insert",
        json!([{"id": "11"}, {"id": "12"}]),
    );
    check(&mut session, "/t^c1000{c1000, count(^)}", json!([["v1000", 2], ["x", 2]]));
}

#[test]
fn names_of_any_letters() {
    // 63 bytes, all that a name may have.
    let long = "é".repeat(31) + "x";
    let database = Database::new();
    let sql = format!(
        "CREATE TABLE \"sel\"\"ect $1 %s \\ ;--\" (
            \"a 'b' \"\"c\"\"\" int PRIMARY KEY, \"select\" text, \"per%cent $1\" numeric,
            \"Größe\" text, \"tab\tx\" text, \"日本語\" date, \"nl\nx\" int);
         CREATE TABLE \"{long}\" (
            \"{long}\" int PRIMARY KEY, \"sel\" int REFERENCES \"sel\"\"ect $1 %s \\ ;--\");
         CREATE TABLE \"123\" (\"1\" int PRIMARY KEY, \"2x\" text);
         CREATE TABLE \"null\" (\"true\" int PRIMARY KEY, id int);
         CREATE SCHEMA \"Odd \"\"s\";
         CREATE TABLE \"Odd \"\"s\".\"in'ner\" (id int PRIMARY KEY, \"x y\" text);
         CREATE TABLE \"Twice\" (id int PRIMARY KEY); CREATE TABLE twice (id int PRIMARY KEY)"
    );
    let mut session = made(&database, &sql);
    check(
        &mut session,
        "insert(sel_ect__1__s______:={a__b___c_:=1, select:='s', per_cent__1:=1.5, größe:='groß', \
         tab_x:='t', 日本語:='2020-01-02', nl_x:=3})",
        json!({"id": "1"}),
    );
    check(&mut session, &format!("insert({long}:={{{long}:=7, sel:=1}})"), json!({"id": "7"}));
    check(
        &mut session,
        &format!("/{long}{{{long}, sel.GRÖẞE}}?sel.日本語=date('2020-01-02')"),
        json!([[7, "groß"]]),
    );
    check(&mut session, "/_123{_1, _2x}", json!([]));
    check(&mut session, "insert(null:={true:=1, id:=2})", json!({"id": "1"}));
    check(&mut session, "/null{true, id}?true=1", json!([[1, 2]]));
    check(&mut session, "insert(in_ner:={id:=1, x_y:='z'})", json!({"id": "1"}));
    check(&mut session, "/in_ner{x_y}", json!([["z"]]));
    check_error(&mut session, "/twice", "Found ambiguous name:\n    twice");
    check_error(
        &mut session,
        "insert(null:={true:=1, id:=2})",
        "Got an error from the database driver:\n    duplicate key value violates unique \
         constraint \"null_pkey\"\n    DETAIL:  Key (\"true\")=(1) already exists.\n\
         While inserting a record:\n    {1, 2}",
    );
}

#[test]
fn what_is_not_allowed_is_told() {
    let server = Server::start().unwrap();
    let uri = server.create_database("rights").unwrap();
    let sql = "
        CREATE ROLE guest LOGIN; CREATE DATABASE closed; REVOKE CONNECT ON DATABASE closed FROM public;
        CREATE TABLE school (code text PRIMARY KEY); GRANT SELECT ON school TO guest;
        CREATE TABLE hidden (code text PRIMARY KEY);
        CREATE TABLE department (code text PRIMARY KEY, hidden_code text REFERENCES hidden);
        GRANT SELECT, INSERT ON department TO guest;
        CREATE TABLE part (code int PRIMARY KEY, a text, b text);
        GRANT SELECT ON part TO guest; GRANT INSERT (code, a) ON part TO guest;
        CREATE TABLE columns (code int PRIMARY KEY, a text); GRANT SELECT (code) ON columns TO guest;
        CREATE TABLE numbered (code serial PRIMARY KEY); GRANT SELECT, INSERT ON numbered TO guest;
        CREATE TABLE mine (code int PRIMARY KEY); ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
        GRANT SELECT, INSERT ON mine TO guest;
        CREATE SCHEMA own; CREATE TABLE own.inner (code int PRIMARY KEY);
        GRANT SELECT ON own.inner TO guest;
        INSERT INTO school VALUES ('art'); INSERT INTO part VALUES (1, 'a', 'b')";
    for statement in sql.split(';') {
        server.sql("rights", statement).unwrap();
    }
    let guest = uri.replace("rex@", "guest@");
    assert_ne!(guest, uri);
    let mut session = session(&guest, Vec::new());
    check(&mut session, "/school", json!([["art"]]));
    check(&mut session, "insert(part:={code:=2, a:='x'})", json!({"id": "2"}));
    // What may not be read as a whole is not there, and neither are links to it.
    for (query, name) in [
        ("/hidden", "hidden"),
        ("/columns{code}", "columns"),
        ("/department{hidden}", "department.hidden"),
    ] {
        let error = run(&mut session, query).unwrap_err();
        assert!(error.starts_with(&format!("Found unknown attribute:\n    {name}\n")), "{error}");
    }
    let refused = "Got an error from the database driver:\n    ";
    for (query, expected) in [
        (
            "/inner",
            "permission denied for schema own\n    LINE 1: SELECT t1.\"code\" FROM \
             \"own\".\"inner\" AS t1 ORDER BY t1.\"code\"\n                                  ^",
        ),
        (
            "insert(school:={code:='x'})",
            "permission denied for table school\nWhile inserting a record:\n    {'x'}",
        ),
        (
            "insert(part:={code:=3, b:='x'})",
            "permission denied for table part\nWhile inserting a record:\n    {3, 'x'}",
        ),
        (
            "insert(numbered:={})",
            "permission denied for sequence numbered_code_seq\nWhile inserting a record:\n    {}",
        ),
        (
            "insert(mine:={code:=1})",
            "new row violates row-level security policy for table \"mine\"\n\
             While inserting a record:\n    {1}",
        ),
        (
            "/part{id(), 'x' :as a}/:update",
            "permission denied for table part\nWhile updating record #1:\n    {[1], 'x'}",
        ),
        (
            "/part{id()}/:delete",
            "permission denied for table part\nWhile deleting record #1:\n    {[1]}",
        ),
        ("truncate(part)", "permission denied for table part"),
    ] {
        check_error(&mut session, query, &format!("{refused}{expected}"));
    }
    check(&mut session, "/part{code}", json!([[1], [2]]));
    let closed = guest.replace("/rights", "/closed");
    let error = run(&mut self::session(&closed, Vec::new()), "/school").unwrap_err();
    assert!(error.ends_with("FATAL:  permission denied for database \"closed\""), "{error}");
}

const NATIONAL: &str = "
    CREATE TABLE \"schöl\" (code text PRIMARY KEY, \"näme\" text CHECK (\"näme\" <> 'ö'));
    INSERT INTO \"schöl\" VALUES ('ä', 'Kunst Ü'), ('b', 'Recht');
    CREATE TABLE many (code int PRIMARY KEY, t text)";

/// What holds in both encodings.
fn check_national(session: &mut Session) {
    check(session, "/schöl", json!([["b", "Recht"], ["ä", "Kunst Ü"]]));
    check(session, "/schöl[ä]{näme, 'ß'}?näme~'Ü'", json!([["Kunst Ü", "ß"]]));
    let found = run_with(session, "/schöl{code}?näme=$n", json!({"n": "Kunst Ü"}));
    assert_eq!(found, Ok(json!([["ä"]])));
    check(session, "insert(schöl:={code:='é', näme:='à'})", json!({"id": "é"}));
    check_error(
        session,
        "/schol",
        "Found unknown attribute:\n    schol\nPerhaps you had in mind:\n    schöl",
    );
    check_error(
        session,
        "insert(schöl:={code:='q', näme:='ö'})",
        "Got an error from the database driver:\n    new row for relation \"schöl\" violates check \
         constraint \"schöl_näme_check\"\n    DETAIL:  Failing row contains (q, ö).\n\
         While inserting a record:\n    {'q', 'ö'}",
    );
}

#[test]
fn a_database_in_latin1() {
    let (database, utf8) = (Database::latin1(), Database::new());
    let mut session = made(&database, NATIONAL);
    check_national(&mut session);
    check(&mut session, "length(schöl[ä].näme)", json!(7));
    let lacks = "Got an error from the database driver:\n    character with byte sequence 0xe6 0x97 \
                 0xa5 in encoding \"UTF8\" has no equivalent in encoding \"LATIN1\"";
    for query in ["/schöl?näme='日'", "/{'日'}", "insert(schöl:={code:='日'})"] {
        check_error(&mut session, query, lacks);
    }
    check_error(&mut session, "/日", "Found unknown attribute:\n    日");

    // A long feed goes by COPY; the record that cannot be stored is told.
    let sql = "CREATE TABLE many (code int PRIMARY KEY, t text);
        INSERT INTO many SELECT i, CASE i WHEN 9000 THEN '日' ELSE 'é' || i END
        FROM generate_series(1, 9500) i";
    utf8.connect().batch_execute(sql).unwrap();
    let address = Address::parse(&utf8.uri()).unwrap();
    let gateway = Gateway { name: "utf8".to_string(), address, naming: Naming::Stock };
    let mut session = self::session(&database.uri(), vec![gateway]);
    let expected = format!("{lacks}\nWhile inserting record #9000:\n    {{9000, '日'}}");
    check_error(&mut session, "/many{code, t}/:utf8/:insert", &expected);
    let ids = run(&mut session, "/many{code, t}?code<9000/:utf8/:insert").unwrap();
    assert_eq!(ids.as_array().unwrap().len(), 8999);
    check(&mut session, "/many[8999]{t}", json!([["é8999"]]));
}

#[test]
fn a_database_without_an_encoding() {
    let database = Database::sql_ascii();
    let mut session = made(&database, NATIONAL);
    check_national(&mut session);
    check(&mut session, "/{'日', upper('日')}", json!([["日", "日"]]));
    // Bytes that another program wrote in another encoding.
    database
        .connect()
        .batch_execute(
            r"SET client_encoding = 'SQL_ASCII'; INSERT INTO many VALUES (1, 'é'), (2, E'caf\xe9')",
        )
        .unwrap();
    check(&mut session, "/many[1]{t}", json!([["é"]]));
    let unreadable = "Got an error from the database driver:\n    invalid byte sequence for encoding \
                      \"UTF8\": 0xe9";
    check_error(&mut session, "/many", unreadable);
    check(&mut session, "/many{code}", json!([[1], [2]]));
}
