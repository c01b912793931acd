//! Lists within lists that are longer than what is held of one: every format and command reads
//! them as they come.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rex_db::{Address, Config, Session, value_json};
use rex_htsql::{Naming, Params};
use rex_test_support::server::Server;
use serde_json::{Value as Json, json};

/// Some 900 bytes a row, so that a hundred rows are no long list and two thousand are.
const SCHEMA: &str = "
CREATE TABLE parent (code text PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent_code text NOT NULL REFERENCES parent, name text);
CREATE TABLE grandchild (id int PRIMARY KEY, child_id int NOT NULL REFERENCES child, name text);
INSERT INTO parent VALUES ('a'), ('b'), ('c'), ('d');
INSERT INTO child SELECT i, CASE WHEN i <= 10 THEN 'a' WHEN i <= 2000 THEN 'b' ELSE 'd' END,
    repeat('n', 800) || i FROM generate_series(1, 2010) i;
INSERT INTO grandchild SELECT i, CASE WHEN i <= 1500 THEN 12 ELSE i - 1500 END,
    repeat('g', 800) || i FROM generate_series(1, 1700) i;
";

fn session() -> (Server, Session) {
    let server = Server::start().unwrap();
    server.create_database("nested").unwrap();
    server.sql("nested", SCHEMA).unwrap();
    let address = Address::parse(&server.uri("nested")).unwrap();
    let (naming, gateways) = (Naming::Stock, Vec::new());
    let config = Config { address, naming, gateways, statement_timeout: None };
    let session = Session::new(config).unwrap();
    (server, session)
}

/// The data of an answer.
fn data(session: &mut Session, query: &str) -> Json {
    let product = session.produce(query, &Params::new()).unwrap();
    value_json(&product.profile.unwrap().domain, &product.data)
}

fn rendered(session: &mut Session, query: &str, format: &str) -> String {
    let query = format!("{query}/:{format}");
    session.produce(&query, &Params::new()).unwrap().rendered.unwrap()
}

#[test]
fn a_long_list_is_the_same_however_it_is_read() {
    let (server, mut session) = session();
    let rows = "
        SELECT json_agg(json_build_array(code, (
            SELECT coalesce(json_agg(json_build_array(id, (
                SELECT coalesce(json_agg(json_build_array(g.id, g.name) ORDER BY g.id), '[]')
                FROM grandchild g WHERE child_id = child.id)) ORDER BY id), '[]')
            FROM child WHERE parent_code = code)) ORDER BY code)::text FROM parent";
    let expected: String = server.client("nested").query_one(rows, &[]).unwrap().get(0);
    let nested = "/parent{code, /child{id, /grandchild{id, name}}}";
    assert!(data(&mut session, nested) == serde_json::from_str::<Json>(&expected).unwrap());
    for query in [
        nested,
        "/parent{/child, code, /child{id, count(grandchild)} :as again}",
        "/parent{code, {/child{name}, 1 :as one} :as inner}",
        "/child{id, parent{code, /child{id, name}}}?id=11|id=12",
        "{/child :as a, 1 :as b, /child :as c}",
        "/{/child{id, name, /grandchild}}",
    ] {
        let raw: Json = serde_json::from_str(&rendered(&mut session, query, "raw")).unwrap();
        assert!(raw["data"] == data(&mut session, query), "{query}");
    }
}

#[test]
fn every_format_reads_long_lists() {
    let (_server, mut session) = session();
    let query = "/parent{code, /child{id, name}}";
    let json: Json = serde_json::from_str(&rendered(&mut session, query, "json")).unwrap();
    let children = &json["parent"][1]["child"];
    assert_eq!(children.as_array().unwrap().len(), 1990);
    assert_eq!(children[1989]["id"], json!(2000));
    assert_eq!(json["parent"][2], json!({"code": "c", "child": []}));
    let between = |text: &str, open: &str, close: &str| -> Vec<usize> {
        let parts = text.split(open).skip(1).filter_map(|part| part.split(close).next());
        parts.filter_map(|part| part.trim().parse().ok()).collect()
    };
    let ids: Vec<usize> = (1..=2010).collect();
    assert_eq!(between(&rendered(&mut session, query, "xml"), "<id>", "</id>"), ids);
    assert_eq!(between(&rendered(&mut session, query, "html"), "<td>", "</td>"), ids);
    assert_eq!(between(&rendered(&mut session, query, "txt"), "| ", " |"), ids);
    let tsv = rendered(&mut session, query, "tsv");
    assert_eq!(tsv.lines().nth(12).unwrap(), format!("\t12\t{}12", "n".repeat(800)));

    // Lists stand side by side.
    let query = "/parent{code, /child{name, id}, /child.sort(id-){name, id} :as b}?code='b'";
    let csv = rendered(&mut session, query, "csv");
    let ids: Vec<(usize, usize)> = csv
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            (cells[2].parse().unwrap(), cells[4].parse().unwrap())
        })
        .collect();
    assert_eq!(ids, (11..=2000).map(|id| (id, 2011 - id)).collect::<Vec<_>>());
}

#[test]
fn commands_read_long_lists() {
    let (_server, mut session) = session();
    // What nobody reads is passed over.
    let query = "do(/parent{code, /child{id, name, /grandchild}}, count(child))";
    assert_eq!(data(&mut session, query), json!(2010));
    let query = "for($p := /parent{code, /child{name}}?code='b', {1})";
    assert_eq!(data(&mut session, query), json!([[1]]));
    // The results of a loop are read as its turns are taken, in loops within loops too.
    let below = "/child{id, name}?parent_code=$p";
    let expected = data(&mut session, "/parent{/child{id, name}}");
    let expected: Vec<&Json> = expected.as_array().unwrap().iter().map(|one| &one[0]).collect();
    for (query, repeated) in [
        (format!("for($p := /parent.code, {below})"), false),
        (format!("for($i := {{1, 2}}, for($p := /parent.code, {below}))"), true),
    ] {
        let raw: Json = serde_json::from_str(&rendered(&mut session, &query, "raw")).unwrap();
        assert!(raw["data"] == data(&mut session, &query), "{query}");
        let once = if repeated { &raw["data"][1] } else { &raw["data"] };
        assert!(*once == json!(expected), "{query}");
    }
    // The server's error in the middle of a list is told as such.
    let query = "/parent{code, /child{id, name, 1/(id-1900)}}/:csv";
    let error = session.produce(query, &Params::new()).unwrap_err().to_string();
    assert!(error.contains("driver:\n    division by zero"), "{error}");
    assert_eq!(data(&mut session, "count(parent)"), json!(4));
}
