//! Queries beside the same questions put in SQL by hand, on the demo database of the corpus.
//!
//! `pairs.txt`: paragraphs of a query (a line) and its SQL; `#` begins a comment. Dates and numbers
//! are compared by value, rows in order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rex_db::{Address, Config, Session, value_json};
use rex_htsql::domain::Domain;
use rex_htsql::{Naming, Params};
use rex_test_support::server::{Server, load_sql};
use rex_test_support::shared::shared_file;
use serde_json::Value as Json;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

struct Pair {
    query: &'static str,
    sql: String,
}

fn pairs() -> Vec<Pair> {
    let paragraphs = include_str!("pairs.txt").split("\n\n");
    let pairs = paragraphs.filter_map(|paragraph| {
        let mut lines = paragraph.lines().filter(|line| !line.starts_with('#'));
        let query = lines.next().filter(|line| !line.is_empty())?;
        Some(Pair { query, sql: lines.collect::<Vec<_>>().join(" ") })
    });
    pairs.collect()
}

/// Values as both sides can give them.
fn plain(value: &Json) -> Json {
    match value {
        Json::Object(members) if members.len() == 1 => {
            let (kind, content) = members.iter().next().unwrap();
            match (kind.as_str(), content) {
                ("decimal" | "float", Json::String(text)) => number(text.parse().unwrap()),
                (_, content) => plain(content),
            }
        }
        Json::Array(items) => items.iter().map(plain).collect(),
        Json::Number(value) => number(value.as_f64().unwrap()),
        Json::String(text) => Json::String(moment(text)),
        other => other.clone(),
    }
}

/// Six digits after the point: what the two compute is not rounded alike.
fn number(value: f64) -> Json {
    Json::String(format!("#{:.6}", value + 0.0).replace("#-0.000000", "#0.000000"))
}

/// A date and time as SQL's JSON writes it.
fn moment(text: &str) -> String {
    let is_moment = text.len() >= 19 && text.as_bytes()[10] == b'T' && text.starts_with(['1', '2']);
    if is_moment { text.replacen('T', " ", 1) } else { text.to_string() }
}

/// The rows of a statement, by the names that keep its columns in order.
async fn rows(client: &Client, sql: &str, width: usize) -> Result<Vec<Vec<Json>>, String> {
    let names: Vec<String> = (0..width).map(|index| format!("c{index:03}")).collect();
    let sql = format!("SELECT row_to_json(t) FROM ({sql}) AS t({})", names.join(", "));
    let messages = client.simple_query(&sql).await.map_err(|error| format!("{error:?}"))?;
    let texts = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let rows = texts.map(|text| {
        let Json::Object(members) = serde_json::from_str(text).unwrap() else { return Vec::new() };
        names.iter().map(|name| plain(&members[name.as_str()])).collect()
    });
    Ok(rows.collect())
}

fn width(domain: &Domain) -> usize {
    match domain {
        Domain::List(item) => width(item),
        Domain::Record(fields) => fields.len(),
        _ => 1,
    }
}

#[test]
fn queries_are_what_they_are_in_sql() {
    let Some(demo) = shared_file("htsql-corpus/demo.sql") else { return };
    let server = Server::start().unwrap();
    let uri = server.create_database("demo").unwrap();
    load_sql(&uri, &demo).unwrap();
    let (address, naming) = (Address::parse(&uri).unwrap(), Naming::Stock);
    let config = Config { address, naming, gateways: Vec::new(), statement_timeout: None };
    let mut session = Session::new(config).unwrap();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(async {
        let uri = uri.replacen("pgsql:", "postgresql:", 1);
        let (client, connection) = tokio_postgres::connect(&uri, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("SET search_path = ad, cd, ed, id, rd, public").await.unwrap();
        client
    });

    let mut different = Vec::new();
    let pairs = pairs();
    for Pair { query, sql } in &pairs {
        let found = session.produce(query, &Params::new()).map_err(|error| error.to_string());
        let product = match found {
            Ok(product) => product,
            Err(error) => {
                different.push(format!("{query}\n  {error}"));
                continue;
            }
        };
        let domain = product.profile.unwrap().domain;
        let expected = runtime.block_on(rows(&client, sql, width(&domain)));
        let found: Vec<Vec<Json>> = match plain(&value_json(&domain, &product.data)) {
            Json::Array(items) if matches!(domain, Domain::List(_)) => items,
            single => vec![single],
        }
        .into_iter()
        .map(|item| match item {
            Json::Array(fields) => fields,
            scalar => vec![scalar],
        })
        .collect();
        if expected.as_ref() != Ok(&found) {
            different.push(format!("{query}\n  found    {found:?}\n  expected {expected:?}"));
        }
    }
    println!("pairs: {} of {} equal", pairs.len() - different.len(), pairs.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
}
