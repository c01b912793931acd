//! Every definition of the mart corpus that has an expectation gives the mart that the original made:
//! tables, columns, constraints, indexes, comments, enumerations and rows.

use std::collections::BTreeMap;

use postgres::Client;
use rex_test_support::shared::{STRUCTURE, plain, shared_file};
use serde_json::{Map, Value, json};

use crate::support::App;

/// A mart in the shape of the corpus.
fn mart(client: &mut Client) -> Value {
    let text: String = client.query_one(STRUCTURE, &[]).unwrap().get(0);
    let mut mart = plain(&serde_json::from_str(&text).unwrap());
    let Some(tables) = mart["tables"].as_object_mut() else {
        return json!({"tables": {}, "enums": {}});
    };
    for (name, table) in tables {
        let columns: Vec<String> = table["columns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| format!("\"{}\"::text", column["name"].as_str().unwrap()))
            .collect();
        let query = format!("SELECT {} FROM \"{name}\" AS t ORDER BY t.id", columns.join(", "));
        let rows = client.query(&query, &[]).unwrap();
        let cells = |row: &postgres::Row| -> Value {
            (0..row.len()).map(|n| json!(row.get::<_, Option<String>>(n))).collect()
        };
        table["rows"] = rows.iter().map(cells).collect();
    }
    mart
}

/// An expectation in the same shape.
fn expected(text: &str) -> Value {
    let given: Value = serde_json::from_str(text).unwrap();
    let mut mart = json!({"tables": plain(&given["tables"]), "enums": plain(&given["enums"])});
    for (name, table) in mart["tables"].as_object_mut().unwrap() {
        table["rows"] = given["tables"][name]["rows"].clone();
    }
    mart
}

/// Random numbers as one word, in the order that they then have.
fn without_random(mart: &Value) -> Value {
    let mut mart = mart.clone();
    for rows in mart["tables"].as_object_mut().into_iter().flatten().map(|(_, table)| table) {
        for cell in rows["rows"].as_array_mut().into_iter().flatten() {
            for cell in cell.as_array_mut().into_iter().flatten() {
                let is_random = |text: &str| text.starts_with("0.") && text.len() > 10;
                if cell.as_str().is_some_and(is_random) {
                    *cell = json!("random");
                }
            }
        }
    }
    mart
}

/// The definitions that are known to differ, with why.
fn failing() -> BTreeMap<&'static str, &'static str> {
    let lines = include_str!("corpus-failing.txt").lines();
    lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": ")).collect()
}

fn first_difference(got: &Value, want: &Value, path: &str) -> Option<String> {
    match (got, want) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys());
            names.into_iter().find_map(|name| {
                let nothing = Value::Null;
                let (a, b) = (a.get(name).unwrap_or(&nothing), b.get(name).unwrap_or(&nothing));
                first_difference(a, b, &format!("{path}/{name}"))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(n, (a, b))| first_difference(a, b, &format!("{path}/{n}"))),
        _ if got == want => None,
        _ => Some(format!("{path}\n  got  {got}\n  want {want}")),
    }
}

#[test]
fn marts_of_the_corpus_are_those_of_the_original() {
    let Some(app) = App::of_corpus() else { return };
    let folder = shared_file("mart-corpus/expected").unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().to_str()?.strip_suffix(".json").map(Into::into)
        })
        .collect();
    names.sort();
    let failing = failing();
    let mut wrong = Vec::new();
    let mut good = 0;
    for name in &names {
        let mut parameters = Map::new();
        if name == "some_parameters" {
            parameters = json!({"foo": "blah", "bar": 123}).as_object().unwrap().clone();
        }
        let entry = json!({"owner": "test", "definition": name, "parameters": parameters});
        let (log, made) = app.create(entry);
        let file = format!("mart-corpus/expected/{name}.json");
        let want = expected(&std::fs::read_to_string(shared_file(&file).unwrap()).unwrap());
        let difference = match made {
            Ok(made) => {
                let got = without_random(&mart(&mut app.client(&made.name)));
                first_difference(&got, &without_random(&want), "")
            }
            Err(error) => Some(format!("{}\n{error}", log.join("\n"))),
        };
        good += usize::from(difference.is_none());
        match (difference, failing.contains_key(name.as_str())) {
            (Some(difference), false) => wrong.push(format!("{name}: {difference}")),
            (None, true) => wrong.push(format!("{name}: agrees now; take it off the list")),
            _ => {}
        }
    }
    println!("corpus: marts: {good} of {} are those of the original", names.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
