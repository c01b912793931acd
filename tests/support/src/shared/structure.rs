//! The structure of a database as the mart corpus tells it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Gives one JSON text: tables with columns, constraints, indexes, triggers and comments, and enums.
pub const STRUCTURE: &str = "SELECT json_build_object(
  'tables', (SELECT json_object_agg(c.relname, json_strip_nulls(json_build_object(
    'comment', obj_description(c.oid, 'pg_class'),
    'columns', (SELECT json_agg(json_build_object(
        'name', attname, 'type', format_type(atttypid, atttypmod), 'required', attnotnull,
        'default', pg_get_expr(adbin, adrelid), 'comment', col_description(c.oid, attnum))
        ORDER BY attnum)
      FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
      WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
    'constraints', (SELECT json_agg(json_build_object(
        'name', conname, 'definition', pg_get_constraintdef(oid)) ORDER BY conname)
      FROM pg_constraint WHERE conrelid = c.oid),
    'indexes', (SELECT json_agg(json_build_object('name', indexname, 'definition', indexdef)
        ORDER BY indexname) FROM pg_indexes WHERE tablename = c.relname),
    'triggers', (SELECT json_agg(tgname ORDER BY tgname) FROM pg_trigger
      WHERE tgrelid = c.oid AND NOT tgisinternal)
  ))) FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace),
  'enums', (SELECT coalesce(json_object_agg(typname, ARRAY(
      SELECT enumlabel FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder)), '{}')
    FROM pg_type t WHERE typtype = 'e')
)::text";

/// What the corpus does not tell apart: absent entries, and the end of a table's comment.
pub fn plain(structure: &Value) -> Value {
    match structure {
        Value::Object(members) => {
            let members = members.iter().filter(|(name, v)| !v.is_null() && *name != "rows");
            let members = members.map(|(name, value)| match value {
                Value::String(text) if name == "comment" => (name.clone(), json!(text.trim_end())),
                other => (name.clone(), plain(other)),
            });
            Value::Object(members.collect::<BTreeMap<_, _>>().into_iter().collect())
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}
