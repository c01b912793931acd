//! The application database of the mart corpus: deployed tables with links, generators and rows.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde::Deserialize;

use super::shared_file;
use crate::server::{self, Server};

#[derive(Deserialize)]
struct Schema {
    tables: BTreeMap<String, Table>,
    enums: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Table {
    columns: Vec<Column>,
    constraints: Vec<Constraint>,
    comment: Option<String>,
    #[serde(default)]
    triggers: Vec<String>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    sql_type: String,
    required: bool,
    default: Option<String>,
    comment: Option<String>,
}

#[derive(Deserialize)]
struct Constraint {
    name: String,
    definition: String,
}

/// Makes the database `name` with the tables and rows of the mart corpus; its URI, or `None` where
/// the corpus is absent.
///
/// # Errors
/// The files are malformed or the server refuses them.
pub fn load_app(server: &Server, name: &str) -> Result<Option<String>, Box<dyn Error>> {
    let Some(path) = shared_file("mart-corpus/app/schema.json") else { return Ok(None) };
    let uri = server.create_database(name)?;
    let schema: Schema = serde_json::from_str(&fs::read_to_string(&path)?)?;
    server.sql(name, &tables_sql(&schema))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    for table in schema.tables.keys() {
        let file = folder.join(format!("{table}.csv"));
        if file.exists() {
            copy_csv(&uri, table, &file)?;
        }
    }
    server.sql(name, &keys_sql(&schema))?;
    Ok(Some(uri))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn tables_sql(schema: &Schema) -> String {
    let mut sql = String::new();
    for (name, labels) in &schema.enums {
        let labels: Vec<String> = labels.iter().map(|label| literal(label)).collect();
        sql.push_str(&format!("CREATE TYPE \"{name}\" AS ENUM ({});\n", labels.join(", ")));
    }
    for (name, table) in &schema.tables {
        let id = table.columns.iter().find(|column| column.name == "id");
        let default = id.and_then(|column| column.default.as_deref()).unwrap_or_default();
        if let Some(sequence) = default.split('\'').nth(1) {
            sql.push_str(&format!("CREATE SEQUENCE {sequence};\n"));
        }
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| {
                let mut text = format!("\"{}\" {}", column.name, column.sql_type);
                if column.required {
                    text.push_str(" NOT NULL");
                }
                if let Some(default) = &column.default {
                    text.push_str(&format!(" DEFAULT {default}"));
                }
                text
            })
            .collect();
        sql.push_str(&format!("CREATE TABLE \"{name}\" ({});\n", columns.join(", ")));
        if let Some(comment) = &table.comment {
            sql.push_str(&format!("COMMENT ON TABLE \"{name}\" IS {};\n", literal(comment)));
        }
        for column in &table.columns {
            if let Some(comment) = &column.comment {
                let column = &column.name;
                let comment = literal(comment);
                sql.push_str(&format!("COMMENT ON COLUMN \"{name}\".\"{column}\" IS {comment};\n"));
            }
        }
    }
    sql
}

/// Keys after the rows, and links after what they refer to.
fn keys_sql(schema: &Schema) -> String {
    let mut sql = String::new();
    for is_link in [false, true] {
        for (name, table) in &schema.tables {
            for key in &table.constraints {
                if key.definition.starts_with("FOREIGN") == is_link {
                    let (key, definition) = (&key.name, &key.definition);
                    sql.push_str(&format!(
                        "ALTER TABLE \"{name}\" ADD CONSTRAINT \"{key}\" {definition};\n"
                    ));
                }
            }
        }
    }
    for (name, table) in &schema.tables {
        let default = table.columns.iter().find_map(|column| column.default.as_deref());
        if let Some(sequence) = default.and_then(|text| text.split('\'').nth(1)) {
            sql.push_str(&format!(
                "SELECT setval('{sequence}', (SELECT max(id) FROM \"{name}\"));\n"
            ));
        }
        for trigger in &table.triggers {
            sql.push_str(&offset_sql(name, trigger));
        }
    }
    sql
}

/// The generator of a table's code: one more than the largest.
fn offset_sql(table: &str, trigger: &str) -> String {
    format!(
        "CREATE FUNCTION \"{trigger}\"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.\"code\" IS NULL THEN
                SELECT coalesce(max(\"code\"), 0) + 1 INTO NEW.\"code\" FROM \"{table}\";
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER \"{trigger}\" BEFORE INSERT ON \"{table}\"
            FOR EACH ROW EXECUTE FUNCTION \"{trigger}\"();
        COMMENT ON CONSTRAINT \"{trigger}\" ON \"{table}\" IS E'---\\ngenerators:\\n- offset\\n';\n"
    )
}

fn copy_csv(uri: &str, table: &str, file: &Path) -> Result<(), Box<dyn Error>> {
    let rows = fs::read_to_string(file)?;
    let header = rows.lines().next().unwrap_or_default();
    let columns: Vec<String> = header.split(',').map(|column| format!("\"{column}\"")).collect();
    let copy =
        format!("COPY \"{table}\" ({}) FROM STDIN WITH (FORMAT csv, HEADER)", columns.join(", "));
    let mut client = server::connect(uri)?;
    let mut writer = client.copy_in(&copy)?;
    writer.write_all(rows.as_bytes())?;
    writer.finish()?;
    Ok(())
}
