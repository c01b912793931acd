//! Assessments that are defined in tables of the application: which table has which fields of which
//! instruments is data there.

use rex_db::Session;
use rex_deploy::sql;
use rex_htsql::Value as Cell;
use rex_yaml::Error;
use serde_json::{Map, Value, json};

use crate::definition::{Assessment, assessment_val};
use crate::failure::guarded;

/// What the tables say of a definition, as it would be written in a file.
const QUERY: &str = "SELECT jsonb_build_object(
    'name', a.name, 'selector', a.selector, 'relationship', a.parental_relationship,
    'identifiable', a.identifiable, 'include_fields', a.include_fields,
    'include_calculations', a.include_calculations,
    'instrument', (SELECT jsonb_agg(c.name ORDER BY c.id)
        FROM rexmart_dynamic_assessment_instrument AS c
        WHERE c.rexmart_dynamic_assessment__id = a.id),
    'parent', (SELECT jsonb_agg(c.name ORDER BY c.name)
        FROM rexmart_dynamic_assessment_parent AS c
        WHERE c.rexmart_dynamic_assessment__id = a.id),
    'fields', (SELECT jsonb_agg(c.name ORDER BY c.name)
        FROM rexmart_dynamic_assessment_instrument_field AS c
        WHERE c.rexmart_dynamic_assessment__id = a.id),
    'calculations', (SELECT jsonb_agg(c.name ORDER BY c.name)
        FROM rexmart_dynamic_assessment_calculation_field AS c
        WHERE c.rexmart_dynamic_assessment__id = a.id),
    'meta', (SELECT jsonb_agg(jsonb_build_object(c.name, c.type) ORDER BY c.name)
        FROM rexmart_dynamic_assessment_meta_field AS c
        WHERE c.rexmart_dynamic_assessment__id = a.id),
    'post_load_calculations', (SELECT jsonb_agg(jsonb_build_object(
            'name', c.name, 'type', c.type, 'expression', c.expression) ORDER BY c.name)
        FROM rexmart_dynamic_assessment_calculation AS c
        WHERE c.rexmart_dynamic_assessment__id = a.id)
)::text
FROM rexmart_dynamic_assessment AS a";

/// The assessments that the tables define for a definition.
///
/// # Errors
/// One of them is none that a file could define.
pub(super) fn rexdb(app: &mut Session, definition: &str) -> Result<Vec<Assessment>, Error> {
    let rows = guarded(app.sql_rows(&format!(
        "{QUERY} WHERE a.definition = {} AND a.status = 'enabled' ORDER BY a.sequence",
        sql::text(definition)
    )))?;
    rows.iter()
        .map(|row| match row.first() {
            Some(Cell::Text(text)) => {
                let record: Value =
                    serde_json::from_str(text).map_err(|error| Error::new(error.to_string()))?;
                Assessment::of(assessment_val().value(&written(&record))?)
            }
            _ => Err(Error::new("Got a malformed definition of an assessment")),
        })
        .collect()
}

/// The record as a file would have it.
fn written(record: &Value) -> Value {
    let mut written = Map::new();
    let listed = |name: &str| record[name].as_array().cloned().unwrap_or_default();
    for name in ["name", "selector", "identifiable"] {
        if !record[name].is_null() {
            written.insert(name.to_owned(), record[name].clone());
        }
    }
    written.insert("instrument".to_owned(), listed("instrument").into());
    let kind = &record["relationship"];
    let parents = if kind == "trunk" { Vec::new() } else { listed("parent") };
    let relationship = json!({"type": kind, "parent": parents});
    written.insert("parental_relationship".to_owned(), relationship);
    for (name, include) in [("fields", "include_fields"), ("calculations", "include_calculations")]
    {
        let value = match record[include].as_bool() {
            Some(false) => Value::Null,
            _ => listed(name).into(),
        };
        written.insert(name.to_owned(), value);
    }
    for name in ["meta", "post_load_calculations"] {
        if !record[name].is_null() {
            written.insert(name.to_owned(), record[name].clone());
        }
    }
    Value::Object(written)
}
