//! The application database of the mart corpus, deployed from facts that are read off it, has the
//! structure that the original gave it: columns, constraints, indexes, triggers, comments and
//! enumerations, by name. So have the tables of its definitions.

use rex_htsql::Value;
use rex_test_support::shared::{STRUCTURE, plain, shared_file};
use serde_json::{Value as Json, json};

use crate::support::Driver;

/// The structure of a database in the shape of the corpus.
pub(crate) fn structure(driver: &mut Driver) -> Json {
    serde_json::from_str(&driver.text(STRUCTURE)).unwrap()
}

#[track_caller]
fn agree(got: &Json, expected: &Json, tables: impl Fn(&str) -> bool) {
    let (got, expected) = (plain(got), plain(expected));
    for (name, table) in expected["tables"].as_object().unwrap() {
        if tables(name) {
            let pretty = |json: &Json| serde_json::to_string_pretty(json).unwrap();
            assert_eq!(pretty(&got["tables"][name]), pretty(table), "{name}");
        }
    }
    for (name, labels) in got["enums"].as_object().unwrap() {
        assert_eq!(labels, &expected["enums"][name], "{name}");
    }
}

/// The table that a foreign key leads to.
fn target(definition: &str) -> Option<&str> {
    let (_, rest) = definition.split_once("REFERENCES ")?;
    rest.split_once('(').map(|(name, _)| name.trim_matches('"'))
}

/// A column or a link as a fact.
fn field(table: &Json, column: &Json, enums: &Json) -> Json {
    let name = column["name"].as_str().unwrap();
    let comment = column["comment"].as_str().unwrap_or_default();
    let entry = |key: &str| {
        let line = comment.lines().find_map(|line| line.strip_prefix(key));
        line.map(|value| value.trim().trim_matches('\'').to_owned())
    };
    let required = column["required"].as_bool().unwrap();
    let title = entry("title:");
    let mut links = table["constraints"].as_array().unwrap().iter().filter_map(|constraint| {
        let definition = constraint["definition"].as_str()?;
        let (columns, _) = definition.strip_prefix("FOREIGN KEY (")?.split_once(')')?;
        (columns == name).then(|| target(definition)).flatten()
    });
    let mut fact = match links.next() {
        Some(target) => {
            let label = name.strip_suffix("id").unwrap().trim_end_matches('_');
            json!({"link": label, "to": target})
        }
        None => {
            let ty = column["type"].as_str().unwrap();
            let ty = match ty {
                "bigint" => json!("integer"),
                "timestamp without time zone" => json!("datetime"),
                "jsonb" => json!("json"),
                "text" | "boolean" | "date" | "time" => json!(ty),
                other => enums[other].clone(),
            };
            json!({"column": name, "type": ty, "default": entry("default:")})
        }
    };
    fact["required"] = json!(required);
    fact["title"] = json!(title);
    fact
}

/// The facts that lead to the structure of the corpus.
fn facts(schema: &Json) -> Vec<Json> {
    let tables = schema["tables"].as_object().unwrap();
    let mut facts: Vec<Json> = tables
        .iter()
        .map(|(name, table)| {
            let comment = table["comment"].as_str().unwrap_or_default();
            let title = comment.lines().find_map(|line| line.strip_prefix("title: "));
            json!({"table": name, "title": title})
        })
        .collect();
    for (name, table) in tables {
        let columns = table["columns"].as_array().unwrap().iter().skip(1);
        let mut with: Vec<Json> =
            columns.clone().map(|column| field(table, column, &schema["enums"])).collect();
        let key = table["constraints"].as_array().unwrap().iter().find_map(|constraint| {
            constraint["definition"].as_str()?.strip_prefix("PRIMARY KEY (")?.strip_suffix(')')
        });
        let is_generated = table["triggers"].is_array();
        let identity: Vec<Json> = key
            .unwrap()
            .split(", ")
            .map(|column| {
                let at = columns.clone().position(|c| c["name"] == column).unwrap();
                let label = with[at].get("column").or(with[at].get("link")).unwrap().clone();
                if is_generated { json!({label.as_str().unwrap(): "offset"}) } else { label }
            })
            .collect();
        with.push(json!({"identity": identity}));
        for line in table["comment"].as_str().unwrap_or_default().lines() {
            if let Some(alias) = line.strip_prefix("- ") {
                with.push(json!({"alias": alias}));
            }
        }
        let title = facts.iter().find(|fact| fact["table"] == *name).unwrap()["title"].clone();
        facts.push(json!({"table": name, "title": title, "with": with}));
    }
    facts.push(json!({
        "sql": "ALTER TABLE rexmart_dynamic_assessment ADD CONSTRAINT \
                rexmart_dynamic_assessment_defname UNIQUE (definition, name)",
        "unless": "SELECT TRUE FROM pg_constraint \
                   WHERE conname = 'rexmart_dynamic_assessment_defname'",
    }));
    facts
}

#[test]
fn the_application_has_the_structure_that_the_original_gave_it() {
    let Some(path) = shared_file("mart-corpus/app/schema.json") else { return };
    let schema: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut driver = Driver::new("corpus_app");
    // JSON is YAML.
    let facts = plain(&Json::Array(facts(&schema))).to_string();
    driver.run(&facts);
    agree(&structure(&mut driver), &schema, |_| true);
    for (code, expected) in [("NULL", 1), ("7", 7), ("NULL", 8)] {
        let insert =
            format!("INSERT INTO job (code, owner, type) VALUES ({code}, 'o', 't') RETURNING code");
        assert_eq!(driver.value(&insert), Value::Integer(expected));
    }
}

#[test]
fn definitions_have_the_tables_that_the_original_gave_them() {
    let Some(path) = shared_file("mart-corpus/definitions.json") else { return };
    let definitions: Json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let mut compared = 0;
    for definition in definitions.as_array().unwrap() {
        let name = definition["id"].as_str().unwrap();
        let expected = path.with_file_name("expected").join(format!("{name}.json"));
        let Ok(expected) = std::fs::read_to_string(expected) else { continue };
        // What is included is not in the corpus.
        let Some(facts) =
            definition["deploy"].as_array().filter(|facts| facts[0]["table"].is_string())
        else {
            continue;
        };
        let expected: Json = serde_json::from_str(&expected).unwrap();
        let mut driver = Driver::new(&format!("corpus_{name}"));
        driver.run(&definition["deploy"].to_string());
        let mut expected = expected;
        let deployed = |table: &str| facts.iter().any(|fact| fact["table"] == table);
        // Indexes of one's own come later.
        for table in expected["tables"].as_object_mut().unwrap().values_mut() {
            let indexes = table["indexes"].as_array_mut().unwrap();
            indexes.retain(|index| !index["name"].as_str().unwrap().ends_with("_idx"));
        }
        agree(&structure(&mut driver), &expected, deployed);
        compared += 1;
    }
    assert!(compared >= 10, "{compared}");
}

#[test]
fn the_table_of_jobs_is_that_of_the_original() {
    let Some(path) = shared_file("mart-corpus/app/schema.json") else { return };
    let schema: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut driver = Driver::new("corpus_job");
    let facts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../settings/rex.job.deploy.yaml");
    driver.run(&format!("{{ include: {facts} }}"));
    let mut structure = structure(&mut driver);
    // The additions.
    let job = &mut structure["tables"]["job"];
    let triggers = job["triggers"].as_array_mut().unwrap();
    triggers.retain(|trigger| trigger != "job_ahead" && trigger != "job_noticed");
    let indexes = job["indexes"].as_array_mut().unwrap();
    indexes.retain(|index| !index["name"].as_str().unwrap().starts_with("rex_"));
    agree(&structure, &schema, |table| table == "job");
}
