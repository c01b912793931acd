//! The command's batch protocol and what surrounds a query: parameters, transactions, time limits,
//! rights, answers read in portions.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use rex_db::command::{CommandError, batch};
use rex_db::{Address, Config, Session};
use rex_htsql::{Naming, Params, Value};
use rex_test_support::server::Server;
use serde_json::{Value as Json, json};

const SCHEMA: &str = "
CREATE TABLE school (code text PRIMARY KEY, name text NOT NULL, opened date, budget numeric(9,2));
CREATE TABLE department (
    code text PRIMARY KEY, school_code text REFERENCES school, opened timestamp);
INSERT INTO school VALUES ('art', 'Art', '2001-02-03', 10.5), ('law', 'Law', NULL, NULL);
INSERT INTO department SELECT 'd' || i, CASE i % 3 WHEN 0 THEN 'art' WHEN 1 THEN 'law' END
    FROM generate_series(1, 3000) i;
CREATE VIEW slow AS SELECT code FROM school, pg_sleep(30);
CREATE TABLE \"Ödd \"\"name\" (\"a 'b'\" int PRIMARY KEY, \"per%cent\" text);
INSERT INTO \"Ödd \"\"name\" VALUES (1, 'x');
CREATE TABLE secret (code text PRIMARY KEY);
CREATE ROLE guest LOGIN;
GRANT SELECT ON school TO guest;
";

fn server() -> Server {
    let server = Server::start().unwrap();
    server.create_database("small").unwrap();
    server.sql("small", SCHEMA).unwrap();
    server
}

fn session_at(uri: &str, timeout: Option<Duration>) -> Session {
    let address = Address::parse(uri).unwrap();
    let naming = Naming::Stock;
    Session::new(Config { address, naming, gateways: Vec::new(), statement_timeout: timeout })
        .unwrap()
}

fn answers(session: &mut Session, lines: &[&str], commit: bool) -> Vec<Json> {
    let mut out = Vec::new();
    batch(session, lines.join("\n").as_bytes(), &mut out, commit).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_line_is_answered() {
    let server = server();
    let mut session = session_at(&server.uri("small"), None);
    let long = format!("{{\"query\": \"/{{{}1}}\"}}", "1+".repeat(2000));
    let deep = format!("{{\"query\": \"{}1{}\"}}", "(".repeat(100_000), ")".repeat(100_000));
    let lines = [
        r#"{"query": "/school{code, opened, budget}"}"#,
        "junk",
        "",
        "[1]",
        r#"{"params": {}}"#,
        r#"{"query": "/school?code=$c", "params": {"c": {"$nope": "x"}}}"#,
        r#"{"query": "/{$i, $d, $t, $n, $l}", "params":
            {"i": 1, "d": {"$decimal": "1.50"}, "t": {"$datetime": "2020-01-02 03:04"}}}"#,
        r#"{"query": "/school{code}?code={'art'}", "params": {"unused": [1, 2]}}"#,
        r#"{"query": "/{$d, $t, $f}", "params":
            {"d": {"$decimal": "1.50"}, "t": {"$time": "03:04"}, "f": 0.5}}"#,
        r#"{"query": "/school{code}?code=$list", "params": {"list": ["law", "x"]}}"#,
        r#"{"query": "/school/:csv"}"#,
        r#"{"sql": "SELECT nonsense"}"#,
        &long,
        &deep,
        r#"{"query": "/school{code}"}"#,
        r#"{"query": "/school{code}", "sql": "SELECT 1"}"#,
        r#"{"query": "/{$x}", "param": {"x": 1}}"#,
        r#"{"query": "/school", "query": "/department"}"#,
        r#"{"query": "/{$x}", "params": {"x": 1, "y": 2, "x": 3}}"#,
    ]
    .map(|line| line.replace('\n', " "));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let answers = answers(&mut session, &lines, false);
    assert_eq!(answers.len(), lines.len());
    assert_eq!(
        answers[0]["ok"],
        json!([["art", {"date": "2001-02-03"}, {"decimal": "10.50"}], ["law", null, null]])
    );
    for bad in [1, 2, 3, 4, 5, 6, 11, 13, 15] {
        assert!(answers[bad]["error"].is_string(), "{bad}: {}", answers[bad]);
    }
    assert_eq!(answers[7]["ok"], json!([["art"]]));
    assert_eq!(answers[8]["ok"], json!([[{"decimal": "1.50"}, {"time": "03:04:00"}, 0.5]]));
    assert_eq!(answers[9]["ok"], json!([["law"]]));
    let text = answers[10]["rendered"].as_str().unwrap();
    assert!(text.starts_with("code,name,opened,budget\r\nart,Art,2001-02-03,10.50\r\n"), "{text}");
    assert_eq!(answers[14]["ok"], json!([["art"], ["law"]]));
    let unknown = "`param` is none of `query`, `params`, `group`, `sql`";
    assert_eq!(answers[16], json!({ "error": unknown }));
    assert_eq!(answers[17], json!({ "error": "`query` is given twice" }));
    assert_eq!(answers[18], json!({ "error": "`x` is given twice" }));
}

#[test]
fn groups_share_a_transaction_with_a_savepoint_a_line() {
    let server = server();
    let mut session = session_at(&server.uri("small"), None);
    let insert = |code: &str, group: &str| {
        format!("{{\"query\": \"insert(school:={{code:='{code}', name:='x'}})\"{group}}}")
    };
    let (one, two) = (", \"group\": 1", ", \"group\": \"two\"");
    let count = |group: &str| format!("{{\"query\": \"count(school)\"{group}}}");
    let lines = [
        insert("a", one),
        insert("a", one),
        insert("b", one),
        count(one),
        insert("c", two),
        format!("{{\"sql\": \"CREATE TABLE fresh (id int PRIMARY KEY)\"{two}}}"),
        format!("{{\"query\": \"insert(fresh:={{id:=7}})\"{two}}}"),
        count(two),
        insert("d", ""),
        count(""),
        r#"{"query": "/fresh"}"#.to_string(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();

    let kept = answers(&mut session, &lines, false);
    assert_eq!(kept[0]["ok"], json!({"id": "a"}));
    assert!(kept[1]["error"].as_str().unwrap().contains("Key (code)=(a) already exists"));
    assert_eq!(kept[3]["ok"], json!(4));
    assert_eq!(kept[6]["ok"], json!({"id": "7"}));
    assert_eq!(kept[7]["ok"], json!(3));
    assert_eq!(kept[8]["ok"], json!({"id": "d"}));
    assert_eq!(kept[9]["ok"], json!(2));
    assert!(kept[10]["error"].as_str().unwrap().starts_with("Found unknown attribute"));

    let kept = answers(&mut session, &lines, true);
    assert_eq!(kept[7]["ok"], json!(5));
    assert_eq!(kept[9]["ok"], json!(6));
    assert_eq!(kept[10]["ok"], json!([[7]]));
}

#[test]
fn statements_can_be_stopped() {
    let server = server();
    let mut session = session_at(&server.uri("small"), Some(Duration::from_millis(200)));
    let error = session.produce("/slow", &Params::new()).unwrap_err().to_string();
    assert!(error.contains("canceling statement due to statement timeout"), "{error}");
    session.produce("/school", &Params::new()).unwrap();

    let mut session = session_at(&server.uri("small"), None);
    let canceller = session.canceller();
    let start = Instant::now();
    let (stopped, was_stopped) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || {
        // Whatever runs when the request arrives is stopped; so ask until something was.
        let waiting = Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        while was_stopped.recv_timeout(Duration::from_millis(100)) == waiting {
            if canceller.cancel().is_err() || start.elapsed() > Duration::from_secs(20) {
                break;
            }
        }
    });
    let error = session.produce("/slow", &Params::new()).unwrap_err().to_string();
    stopped.send(()).unwrap();
    assert!(error.contains("canceling statement due to user request"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
    other.join().unwrap();
}

#[test]
fn rights_and_odd_names() {
    let server = server();
    let mut session = session_at(&server.uri("small"), None);
    let found = session.produce("/_dd__name", &Params::new());
    let found = found.or_else(|_| session.produce("/ödd__name", &Params::new())).unwrap();
    assert_eq!(
        found.data,
        Value::List(vec![Value::Record(vec![Value::Integer(1), Value::Text("x".to_string())])])
    );

    let uri = server.uri("small").replace("//rex@", "//guest@");
    if uri == server.uri("small") {
        println!("NOT RUN: the server's URI names no user to replace");
        return;
    }
    let mut session = session_at(&uri, None);
    session.produce("/school", &Params::new()).unwrap();
    let error = session.produce("/secret", &Params::new()).unwrap_err().to_string();
    assert!(error.starts_with("Found unknown attribute:\n    secret"), "{error}");
    let insert = "insert(school:={code:='x', name:='x'})";
    let error = session.produce(insert, &Params::new()).unwrap_err();
    assert!(error.to_string().contains("permission denied for table school"), "{error}");
    session.produce("/school", &Params::new()).unwrap();
}

#[test]
fn nested_segments_come_in_portions() {
    let server = server();
    let mut session = session_at(&server.uri("small"), None);
    let product =
        session.produce("/school{code, /department{code, /school{code}}}", &Params::new()).unwrap();
    let Value::List(schools) = product.data else { panic!() };
    let counts: Vec<usize> = schools
        .iter()
        .map(|school| match school {
            Value::Record(fields) => match &fields[1] {
                Value::List(departments) => departments.len(),
                _ => 0,
            },
            _ => 0,
        })
        .collect();
    assert_eq!(counts, [1000, 1000]);
    // The transaction of the fetch is over.
    session.produce("insert(school:={code:='x', name:='x'})", &Params::new()).unwrap();
}

const DEFERRED: &str = r#"{"sql": "CREATE TABLE late (id int PRIMARY KEY,
    after int REFERENCES late DEFERRABLE INITIALLY DEFERRED)"}"#;

#[test]
fn a_commit_that_fails_is_told_on_the_next_answer_or_at_the_end() {
    let server = server();
    let mut session = session_at(&server.uri("small"), None);
    let deferred = DEFERRED.replace('\n', " ");
    let insert =
        |row: &str, group: &str| format!("{{\"sql\": \"INSERT INTO late VALUES ({row})\"{group}}}");
    let lines = [
        deferred,
        insert("1, 9", ", \"group\": \"one\""),
        insert("2, 2", ", \"group\": \"two\""),
        insert("3, 9", ""),
        insert("4, 9", ", \"group\": 5"),
    ];
    let mut out = Vec::new();
    let ended = batch(&mut session, lines.join("\n").as_bytes(), &mut out, true);
    assert!(matches!(ended, Err(CommandError::Commit(_))), "{ended:?}");
    let text = String::from_utf8(out).unwrap();
    let told: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 6, "{text}");
    assert_eq!(told[1], json!({"ok": null}));
    assert_eq!(told[2]["ok"], json!(null));
    assert_eq!(told[2]["uncommitted"]["group"], json!("one"));
    assert!(told[3]["error"].as_str().unwrap().contains("violates foreign key"), "{text}");
    assert_eq!(told[5]["uncommitted"]["group"], json!(5));
    let kept = session.produce("/late{id}", &Params::new()).unwrap().data;
    assert_eq!(kept, Value::List(vec![Value::Record(vec![Value::Integer(2)])]));
}

#[test]
fn no_line_ends_the_transaction_of_its_group() {
    let server = server();
    let mut session = session_at(&server.uri("small"), None);
    let insert = |code: &str, end: &str| {
        format!("{{\"sql\": \"INSERT INTO school VALUES ('{code}', 'x'){end}\", \"group\": 1}}")
    };
    let lines = [
        insert("a", ""),
        insert("b", "; commit"),
        r#"{"sql": "rollback", "group": 1}"#.to_string(),
        r#"{"query": "count(school)", "group": 1}"#.to_string(),
        r#"{"sql": "END"}"#.to_string(),
        r#"{"query": "count(school)"}"#.to_string(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let told = answers(&mut session, &lines, false);
    let reason = "is refused: the transaction is shared, and ends as a whole";
    for (at, command) in [(1, "COMMIT"), (2, "ROLLBACK"), (4, "END")] {
        assert_eq!(told[at]["error"], json!(format!("{command} {reason}")));
    }
    assert_eq!(told[3]["ok"], json!(3));
    assert_eq!(told[5]["ok"], json!(2));
}

#[test]
fn parameters_keep_what_they_are() {
    let server = server();
    let mut session = session_at(&server.uri("small"), None);
    let lines = [
        r#"{"query": "/{$i, $j}", "params": {"i": 99999999999999999999,
            "j": {"n": [99999999999999999999, 1.50]}}}"#,
        r#"{"query": "/{$x}", "params": {"x": "it's\u0000"}}"#,
        r#"{"query": "/{1}", "params": {"unused": ["\u0000"]}}"#,
        r#"{"query": "/{$d, date(-1,1,1), datetime(0,2,1)}", "params": {"d": 1e3}}"#,
        r#"{"query": "do($d := date(-1,2,3), $t := datetime(0,1,2), {$d+1, $t})"}"#,
    ]
    .map(|line| line.replace('\n', " "));
    let mut out = Vec::new();
    batch(&mut session, lines.join("\n").as_bytes(), &mut out, false).unwrap();
    let text = String::from_utf8(out).unwrap();
    let exact = r#"{"ok":[[{"decimal":"99999999999999999999"},{"json":{"n":[99999999999999999999,1.50]}}]],"#;
    assert!(text.starts_with(exact), "{text}");
    let told: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let nil = "a string should not contain a NIL character: ";
    assert_eq!(told[1]["error"], json!(format!("{nil}\"it's\\x00\"")));
    assert_eq!(told[2]["error"], json!(format!("{nil}'\\x00'")));
    let dates = json!([[1000.0, {"date": "-0001-01-01"}, {"datetime": "0000-02-01 00:00:00"}]]);
    assert_eq!(told[3]["ok"], dates);
    let later = json!([{"date": "-0001-02-04"}, {"datetime": "0000-01-02 00:00:00"}]);
    assert_eq!(told[4]["ok"], later);
}

#[test]
fn answers_that_are_held_whole_are_bounded() {
    let server = server();
    let mut session = session_at(&server.uri("small"), None);
    let many = "CREATE VIEW many AS SELECT repeat('x', 1000000) AS t FROM generate_series(1, 600)";
    session.execute_sql(many).unwrap();
    let told = answers(
        &mut session,
        &[r#"{"query": "/many"}"#, r#"{"query": "/many.limit(2)/:csv"}"#],
        false,
    );
    let error = told[0]["error"].as_str().unwrap();
    assert!(error.contains("an answer on one line is limited to 256 MB"), "{error}");
    assert_eq!(told[1]["rendered"].as_str().unwrap().len(), 2_000_007);
    let error = session.produce("{/many}", &Params::new()).unwrap_err().to_string();
    assert!(error.starts_with("A list that is not streamed is limited to 512 MB"), "{error}");
}

#[test]
fn a_copy_by_way_of_the_connection_is_refused() {
    let server = server();
    let mut session = session_at(&server.uri("small"), None);
    let lines = [
        r#"{"sql": "copy school from stdin", "group": 1}"#,
        r#"{"sql": "COPY (SELECT 1) TO STDOUT"}"#,
        r#"{"query": "count(school)"}"#,
    ];
    let told = answers(&mut session, &lines, false);
    let reason = "is refused: no rows go with a statement";
    assert_eq!(told[0], json!({ "error": format!("COPY FROM STDIN {reason}") }));
    assert_eq!(told[1], json!({ "error": format!("COPY TO STDOUT {reason}") }));
    assert_eq!(told[2]["ok"], json!(2));
}

#[test]
fn values_that_a_format_has_no_way_to_write() {
    let server = server();
    let odd = "CREATE TABLE odd (id int PRIMARY KEY, t text, x float8);
        INSERT INTO odd VALUES (1, E'\\x01<\\r', 'NaN'), (2, NULL, 'infinity'), (3, NULL, '-infinity')";
    server.sql("small", odd).unwrap();
    let mut session = session_at(&server.uri("small"), None);
    let mut rendered = |query: &str| {
        session.produce(query, &Params::new()).unwrap().rendered.unwrap().replace("\r\n", "\n")
    };
    let xml = rendered("/odd{t}?id=1/:xml");
    assert!(xml.contains("<t>\u{fffd}&lt;&#13;</t>"), "{xml}");
    assert_eq!(rendered("/odd{x}/:csv"), "x\nnan\ninf\n-inf\n");
    assert_eq!(rendered("/odd{x}/:json").matches("\"x\": null").count(), 3);
    // A table takes them as they are.
    session.produce("/odd{id+10 :as id, x}/:insert", &Params::new()).unwrap();
    let copies = session.produce("/odd{x}?id>10/:csv", &Params::new()).unwrap().rendered.unwrap();
    assert_eq!(copies.replace("\r\n", "\n"), "x\nnan\ninf\n-inf\n");
}
