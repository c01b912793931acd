//! One query of the corpus, and its run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rex_db::{Address, Config, Session, profile_json, value_json};
use rex_htsql::domain::Domain;
use rex_htsql::{Lens, Naming, Params, Value};
use serde_json::Value as Json;

#[derive(serde::Deserialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    db: String,
    query: String,
    #[serde(default)]
    ok: Json,
    #[serde(default)]
    columns: Json,
    rendered: Option<String>,
    error: Option<String>,
}

impl Case {
    /// The suite: the id without its number.
    pub(crate) fn suite(&self) -> &str {
        self.id.split('#').next().unwrap()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What differs; empty where nothing does.
    differences: Vec<Difference>,
}

#[derive(Debug)]
struct Difference {
    what: &'static str,
    expected: String,
    actual: String,
}

impl Outcome {
    pub(crate) fn equal(&self) -> bool {
        self.differences.is_empty()
    }

    fn compare(&mut self, what: &'static str, expected: &Json, actual: &Json) {
        if expected != actual {
            let text = |json: &Json| match json {
                Json::String(text) => text.clone(),
                Json::Array(items) if items.len() > 1 => {
                    let lines: Vec<String> = items.iter().map(Json::to_string).collect();
                    lines.join("\n")
                }
                other => other.to_string(),
            };
            let (expected, actual) = (text(expected), text(actual));
            self.differences.push(Difference { what, expected, actual });
        }
    }
}

#[derive(Default)]
pub(crate) struct Runner {
    sessions: HashMap<&'static str, Session>,
}

impl Runner {
    pub(crate) fn add(&mut self, name: &'static str, uri: &str) {
        let config = Config {
            address: Address::parse(uri).unwrap(),
            naming: Naming::Stock,
            gateways: Vec::new(),
            statement_timeout: Some(std::time::Duration::from_secs(30)),
        };
        self.sessions.insert(name, Session::new(config).unwrap());
    }

    pub(crate) fn run(&mut self, case: &Case) -> Outcome {
        let session = self.sessions.get_mut(case.db.as_str()).unwrap();
        let mut outcome = Outcome::default();
        let produced =
            catch_unwind(AssertUnwindSafe(|| session.produce(&case.query, &Params::new())));
        let (data, columns, rendered, error) = match produced {
            Err(_) => (Json::Null, Json::Null, None, Some("PANIC".to_string())),
            Ok(Err(error)) => (Json::Null, Json::Null, None, Some(error.to_string())),
            Ok(Ok(product)) => {
                let domain = product.profile.as_ref().map_or(&Domain::Void, |p| &p.domain);
                let data: &Value = &product.data;
                let columns = product.profile.as_ref().map_or(Json::Null, profile_json);
                (value_json(domain, data), columns, product.rendered, None)
            }
        };
        let json = |text: &Option<String>| text.clone().map_or(Json::Null, Json::String);
        outcome.compare("error", &json(&case.error), &json(&error));
        outcome.compare("ok", &case.ok, &data);
        outcome.compare("columns", &case.columns, &columns);
        outcome.compare("rendered", &json(&case.rendered), &json(&rendered));
        outcome
    }

    /// The query, its SQL, and what differs.
    pub(crate) fn describe(&mut self, case: &Case, outcome: &Outcome) -> String {
        let session = self.sessions.get_mut(case.db.as_str()).unwrap();
        let explained = catch_unwind(AssertUnwindSafe(|| {
            session.explain(&case.query, Lens::Sql, &Params::new())
        }));
        let sql = match explained {
            Ok(Ok(sql)) => sql,
            Ok(Err(error)) => format!("-- {}", error.to_string().lines().next().unwrap_or("")),
            Err(_) => "-- PANIC".to_string(),
        };
        let mut text = format!("==== {}\n{}\n-- SQL\n{sql}\n", case.id, case.query);
        for difference in &outcome.differences {
            let Difference { what, expected, actual } = difference;
            let cut = |text: &str| -> String {
                let lines: Vec<&str> = text.lines().collect();
                let at = expected.lines().zip(actual.lines()).take_while(|(e, a)| e == a).count();
                let from = at.saturating_sub(2).min(lines.len());
                let part: Vec<String> = lines[from..lines.len().min(from + 12)]
                    .iter()
                    .map(|line| line.chars().take(600).collect())
                    .collect();
                format!("({} lines, from {from})\n{}", lines.len(), part.join("\n"))
            };
            text.push_str(&format!(
                "-- expected {what} {}\n-- actual {what} {}\n",
                cut(expected),
                cut(actual)
            ));
        }
        if outcome.equal() {
            text.push_str("-- equal\n");
        }
        text
    }
}
