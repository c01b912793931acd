//! Whatever a database went through, it ends where a new one begins: structures drawn at random are
//! deployed one after another on one database, and each also on a new one.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use rex_test_support::shared::plain;

use crate::corpus::structure;
use crate::support::Driver;

/// Numbers that look random, the same ones each time (xorshift).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (bound as u64)).unwrap()
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// Facts about two tables. Types are such that each can become each other, through text.
fn facts(draw: &mut Draw) -> Vec<Json> {
    let mut facts = Vec::new();
    for table in ["left", "some_right"] {
        let title = draw.one(&[json!(null), json!("It's a title: of a table")]);
        facts.push(json!({"table": table, "title": title}));
    }
    for table in ["left", "some_right"] {
        facts.push(column(draw, table, "code", true));
        for label in ["a", "b_seq"] {
            if draw.below(4) > 0 {
                let required = draw.flip();
                facts.push(column(draw, table, label, required));
            } else {
                let name = format!("{table}.{label}");
                facts.push(json!({"column": name, "present": false}));
            }
        }
        let link = format!("{table}.other");
        let target = if table == "left" { "some_right" } else { "left" };
        let is_identity = table == "left" && draw.flip();
        if is_identity || draw.flip() {
            let required = is_identity || draw.flip();
            let (unique, title) = (draw.flip(), draw.one(&[json!(null), json!("That one")]));
            facts.push(json!({"link": link, "to": target, "required": required,
                "unique": unique, "title": title}));
        } else {
            facts.push(json!({"link": link, "present": false}));
        }
        let code = draw.one(&[json!("code"), json!({"code": "random"}), json!({"code": "offset"})]);
        let fields = if is_identity { vec![json!("other"), code] } else { vec![code] };
        facts.push(json!({"identity": fields, "of": table}));
        if draw.flip() {
            facts.push(json!({"alias": format!("{table}.x($y) := code+$y")}));
        } else {
            facts.push(json!({"alias": format!("{table}.x($y)"), "present": false}));
        }
    }
    facts
}

fn column(draw: &mut Draw, table: &str, label: &str, required: bool) -> Json {
    let kinds = if label == "code" {
        vec![(json!("text"), vec![json!(null), json!("007")])]
    } else {
        vec![
            (json!("text"), vec![json!(null), json!("it's")]),
            (json!(["x", "y"]), vec![json!(null), json!("y")]),
            (json!(["y", "x", "z"]), vec![json!(null), json!("z")]),
        ]
    };
    let (ty, defaults) = draw.one(&kinds);
    let (default, unique) = (draw.one(&defaults), draw.flip());
    json!({"column": format!("{table}.{label}"), "type": ty, "default": default,
        "required": required, "unique": unique})
}

/// Without entries that say nothing.
fn text(facts: &[Json]) -> String {
    let plain = facts.iter().map(|fact| {
        let entries = fact.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
        entries.map(|(name, value)| (name.clone(), value.clone())).collect::<Json>()
    });
    plain.collect::<Json>().to_string()
}

/// The structure, columns in no order.
fn unordered(driver: &mut Driver) -> Json {
    let mut structure = structure(driver);
    for table in structure["tables"].as_object_mut().unwrap().values_mut() {
        let columns = table["columns"].as_array().unwrap();
        let by_name = columns.iter().map(|c| (c["name"].to_string(), c.clone()));
        table["columns"] = json!(by_name.collect::<BTreeMap<_, _>>());
    }
    let functions = driver.text(
        "SELECT coalesce(json_object_agg(proname, prosrc ORDER BY proname), '{}')::text FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace",
    );
    structure["functions"] = serde_json::from_str(&functions).unwrap();
    structure
}

#[test]
fn a_history_leaves_no_trace() {
    let mut draw = Draw(0x9E37_79B9_7F4A_7C15);
    let mut driver = Driver::new("history");
    let mut fresh = Driver::new("history_fresh");
    let anew = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    for history in 0..5 {
        driver.sql(anew);
        for step in 0..6 {
            let text = text(&facts(&mut draw));
            driver.run(&text);
            fresh.sql(anew);
            fresh.run(&text);
            let pretty = |json: Json| serde_json::to_string_pretty(&plain(&json)).unwrap();
            let (found, expected) = (pretty(unordered(&mut driver)), pretty(unordered(&mut fresh)));
            assert_eq!(found, expected, "history {history}, step {step}:\n{text}");
        }
    }
}
