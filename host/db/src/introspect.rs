//! A live database to the plain data that a catalog is made of.
//!
//! Five set-based queries on `pg_catalog`, sent together, whatever the number of tables. What the
//! names mean (labels, links, identities) is the compiler's affair.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use rex_htsql::Error;
use rex_htsql::catalog::model::{Column, Database, ForeignKey, Schema, Table, UniqueKey};
use rex_htsql::domain::{Domain, EnumType, OpaqueType};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::connection::Connection;
use crate::driver;

/// Row: oid, name, priority, comment. Schemas outside of the search path have priority 0.
const SCHEMAS: &str = "
SELECT n.oid, n.nspname::text,
       coalesce(array_length(current_schemas(true), 1) + 1
                - array_position(current_schemas(true), n.nspname), 0),
       d.description
FROM pg_catalog.pg_namespace n
LEFT JOIN pg_catalog.pg_description d
       ON d.objoid = n.oid AND d.classoid = 'pg_catalog.pg_namespace'::regclass AND d.objsubid = 0
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
ORDER BY n.oid";

/// Row: oid, schema oid, name, comment.
const TABLES: &str = "
SELECT c.oid, c.relnamespace, c.relname::text, d.description
FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_description d
       ON d.objoid = c.oid AND d.classoid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0
WHERE c.relkind IN ('r', 'v', 'p') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
ORDER BY c.relnamespace, c.relname";

/// Row: table oid, number, name, type oid, type text, not null, has default, comment.
const COLUMNS: &str = "
SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid,
       pg_catalog.format_type(a.atttypid, a.atttypmod),
       a.attnotnull, a.atthasdef OR a.attidentity <> '', d.description
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_description d
       ON d.objoid = a.attrelid AND d.classoid = 'pg_catalog.pg_class'::regclass
      AND d.objsubid = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v', 'p')
  AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
ORDER BY a.attrelid, a.attnum";

/// Row: oid, schema, name, kind, base type oid, enum labels. Without array and row types.
const TYPES: &str = "
SELECT t.oid, n.nspname::text, t.typname::text, t.typtype::text, t.typbasetype,
       ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e
             WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('b', 'd', 'e', 'r', 'm') AND NOT (t.typlen = -1 AND t.typelem <> 0)";

/// Row: table oid, name, kind, columns, target oid, target columns, match type, comment.
const KEYS: &str = "
SELECT k.conrelid, k.conname::text, k.contype::text, k.conkey, k.confrelid,
       coalesce(k.confkey, '{}'), k.confmatchtype::text, d.description
FROM pg_catalog.pg_constraint k
LEFT JOIN pg_catalog.pg_description d
       ON d.objoid = k.oid AND d.classoid = 'pg_catalog.pg_constraint'::regclass
WHERE k.contype IN ('p', 'u', 'f')
ORDER BY k.oid";

/// Reads all tables that the session may SELECT from.
pub(crate) async fn introspect(connection: &Connection) -> Result<Database, Error> {
    let queries = [SCHEMAS, TABLES, COLUMNS, TYPES, KEYS];
    let answers = try_join_all(queries.map(|sql| async move {
        connection.rows(sql, Vec::new()).await.map_err(|error| driver::error(&error, sql, 0))
    }))
    .await?;
    let [schemas, tables, columns, types, keys] = answers.as_slice() else {
        return Err(Error::new("introspection gave no answer"));
    };
    let unreadable = |error: tokio_postgres::Error| driver::error(&error, "", 0);
    let types = Types::new(types).map_err(unreadable)?;
    assemble(schemas, tables, columns, &types, keys).map_err(unreadable)
}

/// Where a table is: indexes of its schema and of itself, and its columns by number.
struct Place {
    schema: usize,
    table: usize,
    columns: HashMap<i16, usize>,
}

fn assemble(
    schemas: &[Row],
    tables: &[Row],
    columns: &[Row],
    types: &Types,
    keys: &[Row],
) -> Result<Database, tokio_postgres::Error> {
    let mut database = Database::default();
    let mut schema_places: HashMap<u32, usize> = HashMap::new();
    for row in schemas {
        schema_places.insert(row.try_get(0)?, database.schemas.len());
        database.schemas.push(Schema {
            name: row.try_get(1)?,
            priority: row.try_get(2)?,
            comment: row.try_get(3)?,
            tables: Vec::new(),
        });
    }
    let mut places: HashMap<u32, Place> = HashMap::with_capacity(tables.len());
    for row in tables {
        let Some(&schema) = schema_places.get(&row.try_get::<_, u32>(1)?) else { continue };
        let siblings = &mut database.schemas[schema].tables;
        let place = Place { schema, table: siblings.len(), columns: HashMap::new() };
        places.insert(row.try_get(0)?, place);
        siblings.push(Table {
            name: row.try_get(2)?,
            comment: row.try_get(3)?,
            ..Table::default()
        });
    }
    for row in columns {
        let Some(place) = places.get_mut(&row.try_get::<_, u32>(0)?) else { continue };
        let table = &mut database.schemas[place.schema].tables[place.table];
        place.columns.insert(row.try_get(1)?, table.columns.len());
        let sql_type: String = row.try_get(4)?;
        table.columns.push(Column {
            name: row.try_get(2)?,
            domain: types.domain(row.try_get(3)?, &sql_type),
            sql_type,
            nullable: !row.try_get::<_, bool>(5)?,
            has_default: row.try_get(6)?,
            comment: row.try_get(7)?,
        });
    }
    for row in keys {
        add_key(&mut database, &places, row)?;
    }
    Ok(database)
}

fn add_key(
    database: &mut Database,
    places: &HashMap<u32, Place>,
    row: &Row,
) -> Result<(), tokio_postgres::Error> {
    let Some(place) = places.get(&row.try_get::<_, u32>(0)?) else { return Ok(()) };
    let numbers: Vec<i16> = row.try_get(3)?;
    let Some(columns) = indexes(place, &numbers) else { return Ok(()) };
    let name: String = row.try_get(1)?;
    let kind: &str = row.try_get(2)?;
    let comment: Option<String> = row.try_get(7)?;
    if kind != "f" {
        let primary = kind == "p";
        let table = &mut database.schemas[place.schema].tables[place.table];
        for (at, generated) in generators(comment.as_deref()).into_iter().enumerate() {
            if let Some(column) = columns.get(at).filter(|_| primary && generated) {
                table.columns[*column].has_default = true;
            }
        }
        table.unique_keys.push(UniqueKey { name, columns, primary, partial: false });
        return Ok(());
    }
    let Some(target) = places.get(&row.try_get::<_, u32>(4)?) else { return Ok(()) };
    let numbers: Vec<i16> = row.try_get(5)?;
    let Some(target_columns) = indexes(target, &numbers) else { return Ok(()) };
    let target_schema = &database.schemas[target.schema];
    let target_table = &target_schema.tables[target.table];
    let simple = row.try_get::<_, &str>(6)? == "s";
    let nullable = target_columns.iter().any(|&at| target_table.columns[at].nullable);
    let key = ForeignKey {
        name,
        partial: columns.len() > 1 && nullable && simple,
        columns,
        target_schema: target_schema.name.clone(),
        target_table: target_table.name.clone(),
        target_columns,
        comment,
    };
    database.schemas[place.schema].tables[place.table].foreign_keys.push(key);
    Ok(())
}

fn indexes(place: &Place, numbers: &[i16]) -> Option<Vec<usize>> {
    numbers.iter().map(|number| place.columns.get(number).copied()).collect()
}

/// Which columns of a primary key are filled by generators of a deployment: the metadata in the
/// key's comment lists one generator, or null, for each column.
fn generators(comment: Option<&str>) -> Vec<bool> {
    let mut lines = comment.unwrap_or_default().lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return Vec::new();
    }
    let mut generators = Vec::new();
    for line in lines.skip_while(|line| line.trim_end() != "generators:").skip(1) {
        let Some(item) = line.trim().strip_prefix('-') else { break };
        generators.push(!matches!(item.trim(), "" | "null" | "~"));
    }
    generators
}

/// What is known of the types by oid.
struct Types(HashMap<u32, Kind>);

enum Kind {
    Enum(Arc<EnumType>),
    /// An SQL domain over another type.
    Over(u32),
    Base(Arc<OpaqueType>),
}

impl Types {
    fn new(rows: &[Row]) -> Result<Types, tokio_postgres::Error> {
        let mut types = HashMap::with_capacity(rows.len());
        for row in rows {
            let (schema, name) = (row.try_get(1)?, row.try_get(2)?);
            let kind = match row.try_get(3)? {
                "e" => Kind::Enum(Arc::new(EnumType { schema, name, labels: row.try_get(5)? })),
                "d" => Kind::Over(row.try_get(4)?),
                _ => Kind::Base(Arc::new(OpaqueType { schema, name })),
            };
            types.insert(row.try_get(0)?, kind);
        }
        Ok(Types(types))
    }

    /// The domain of a type; `text` is how the server prints it.
    fn domain(&self, oid: u32, text: &str) -> Domain {
        match (Type::from_oid(oid), self.0.get(&oid)) {
            (Some(Type::BOOL), _) => Domain::Boolean,
            (Some(Type::INT2 | Type::INT4 | Type::INT8), _) => Domain::Integer,
            (Some(Type::NUMERIC), _) => Domain::Decimal,
            (Some(Type::FLOAT4 | Type::FLOAT8), _) => Domain::Float,
            (Some(Type::TEXT | Type::VARCHAR | Type::BPCHAR), _) => Domain::Text,
            (Some(Type::DATE), _) => Domain::Date,
            (Some(Type::TIME | Type::TIMETZ), _) => Domain::Time,
            (Some(Type::TIMESTAMP | Type::TIMESTAMPTZ), _) => Domain::DateTime,
            (Some(Type::JSON | Type::JSONB), _) => Domain::Json,
            (_, Some(Kind::Enum(ty))) => Domain::Enum(ty.clone()),
            (_, Some(Kind::Over(base))) if *base != oid => self.domain(*base, text),
            (_, Some(Kind::Base(ty))) => Domain::Opaque(ty.clone()),
            _ => Domain::Opaque(Arc::new(OpaqueType {
                schema: "pg_catalog".to_string(),
                name: text.to_string(),
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::generators;

    #[test]
    fn generators_of_a_key() {
        assert_eq!(generators(Some("---\ngenerators:\n- offset\n")), [true]);
        assert_eq!(generators(Some("---\ngenerators:\n- null\n- random\n")), [false, true]);
        assert!(generators(Some("plain words")).is_empty());
        assert!(generators(None).is_empty());
    }
}
