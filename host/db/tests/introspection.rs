//! Introspection of a live database: what it finds, and how long a large schema takes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use rex_db::{Address, Config, Session};
use rex_htsql::Naming;
use rex_htsql::catalog::model::{Database, Table};
use rex_test_support::server::Server;

const SCHEMA: &str = "
CREATE TYPE color AS ENUM ('red', 'green', 'a''b');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE parent (
    code varchar(8) PRIMARY KEY,
    paint color NOT NULL,
    size positive,
    extra jsonb,
    place inet,
    born timestamptz DEFAULT now(),
    gone text
);
ALTER TABLE parent DROP COLUMN gone;
CREATE TABLE child (
    parent_code varchar(8) REFERENCES parent,
    no int GENERATED ALWAYS AS IDENTITY,
    first int, second int,
    PRIMARY KEY (parent_code, no),
    UNIQUE (first, second)
);
CREATE TABLE grandchild (
    id int UNIQUE, first int, second int,
    FOREIGN KEY (first, second) REFERENCES child (first, second),
    CONSTRAINT grandchild_pk PRIMARY KEY (id)
);
COMMENT ON TABLE parent IS 'who came before';
COMMENT ON COLUMN parent.code IS 'unique';
COMMENT ON CONSTRAINT grandchild_pk ON grandchild IS E'---\\ngenerators:\\n- offset\\n';
CREATE SCHEMA \"Odd \"\"name\";
CREATE VIEW \"Odd \"\"name\".seen AS SELECT code FROM parent;
CREATE TABLE hidden (x int);
CREATE ROLE reader;
GRANT SELECT ON parent, child, grandchild TO reader;
GRANT USAGE ON SCHEMA \"Odd \"\"name\" TO reader;
GRANT SELECT ON \"Odd \"\"name\".seen TO reader;
";

fn read(uri: &str) -> Database {
    let address = Address::parse(uri).unwrap();
    let config =
        Config { address, naming: Naming::Stock, gateways: Vec::new(), statement_timeout: None };
    Session::new(config).unwrap().catalog().unwrap().database().clone()
}

fn describe(table: &Table) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|c| {
            let null = if c.nullable { "?" } else { "" };
            let default = if c.has_default { "=" } else { "" };
            format!("{} {}{null}{default}", c.name, c.domain)
        })
        .collect();
    let keys: Vec<String> = table
        .unique_keys
        .iter()
        .map(|k| format!("{}{:?}", if k.primary { "pk" } else { "uk" }, k.columns))
        .collect();
    let links: Vec<String> = table
        .foreign_keys
        .iter()
        .map(|k| {
            let partial = if k.partial { " partial" } else { "" };
            format!("{:?}->{}{:?}{partial}", k.columns, k.target_table, k.target_columns)
        })
        .collect();
    format!("{}: {} | {} {}", table.name, columns.join(", "), keys.join(" "), links.join(" "))
}

#[test]
fn finds_tables_types_and_keys() {
    let server = Server::start().unwrap();
    let uri = server.create_database("shapes").unwrap();
    server.sql("shapes", SCHEMA).unwrap();

    let separator = if uri.contains('?') { '&' } else { '?' };
    let database = read(&format!("{uri}{separator}options=-c%20role%3Dreader"));
    let names: Vec<(&str, i32)> =
        database.schemas.iter().map(|s| (s.name.as_str(), s.priority)).collect();
    assert_eq!(names, [("public", 1), ("Odd \"name", 0)]);
    let tables: Vec<String> = database.schemas[0].tables.iter().map(describe).collect();
    assert_eq!(
        tables,
        [
            "child: parent_code text, no integer=, first integer?, second integer? | \
             pk[0, 1] uk[2, 3] [0]->parent[0]",
            "grandchild: id integer=, first integer?, second integer? | \
             pk[0] [1, 2]->child[2, 3] partial",
            "parent: code text, paint enum('red', 'green', 'a''b'), size integer?, extra json?, \
             place opaque?, born datetime?= | pk[0] ",
        ]
    );
    let parent = &database.schemas[0].tables[2];
    assert_eq!(parent.comment.as_deref(), Some("who came before"));
    assert_eq!(parent.columns[0].comment.as_deref(), Some("unique"));
    assert_eq!(parent.columns[0].sql_type, "character varying(8)");
    assert_eq!(database.schemas[1].tables[0].name, "seen");
}

#[test]
fn five_thousand_tables_take_less_than_two_seconds() {
    let server = Server::start().unwrap();
    let uri = server.create_database("large").unwrap();
    // One transaction would need a larger lock table.
    for part in 0..10 {
        let make = format!(
            "DO $$ BEGIN FOR i IN {}..{} LOOP
                EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, up int REFERENCES t%s,
                    a text, b text NOT NULL, c date, d numeric(8,2), e bool, f jsonb)',
                    i, greatest(i - 1, 0));
             END LOOP; END $$",
            part * 500,
            part * 500 + 499
        );
        server.sql("large", &make).unwrap();
    }
    server.sql("large", "ANALYZE").unwrap();
    let start = Instant::now();
    let database = read(&uri);
    let took = start.elapsed();
    println!("introspection of 5,000 tables: {} ms", took.as_millis());
    assert_eq!(database.schemas[0].tables.len(), 5000);
    assert!(took < Duration::from_secs(2), "took {took:?}");
}
