//! How a column stands in the database when it is to move: moving copies it and drops the old one,
//! and what hangs on that goes with it. It is read at that moment, since tables, columns and types
//! may have got other names since the image was read.

use std::collections::BTreeMap;

use rex_htsql::Value;
use rex_yaml::Error;
use serde::Deserialize;

use crate::deployer::{At, Deployer};
use crate::sql;

/// One JSON document about the column `$COLUMN` of the table `$TABLE`. What is `bound` stays: the column
/// has something that a copy has not, something hangs on it that [`Deployer::move_last`] does not make
/// anew just as it was, or copying the values could fall short.
const STANDING: &str = "
WITH place AS (
  SELECT c.oid AS owner, a.attnum AS num
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
  WHERE c.relnamespace = 'public'::pg_catalog.regnamespace
    AND c.relname = $TABLE AND a.attname = $COLUMN
), indexed AS (
  SELECT x.indexrelid AS id, i.relname AS name, pg_get_indexdef(i.oid) AS definition,
    (SELECT format('CREATE INDEX %I ON public.%I USING btree (%I)', i.relname, c.relname, b.attname)
     FROM pg_catalog.pg_class c
     JOIN pg_catalog.pg_attribute b ON b.attrelid = c.oid
     WHERE c.oid = x.indrelid AND b.attnum = x.indkey[0]) AS plain,
    i.reloptions AS options, x.indisclustered AS clustered,
    x.indisvalid AND NOT x.indisreplident AND i.reltablespace = 0
      AND obj_description(i.oid, 'pg_class') IS NULL
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_attribute b
        WHERE b.attrelid = i.oid AND coalesce(b.attstattarget, -1) <> -1)
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend p
        WHERE p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = i.oid
          AND p.deptype <> 'i') AS known
  FROM place
  JOIN pg_catalog.pg_index x ON x.indrelid = place.owner
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
), constrained AS (
  SELECT k.oid AS id,
    NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend p
      WHERE p.refclassid = 'pg_catalog.pg_constraint'::regclass AND p.refobjid = k.oid
        AND p.deptype <> 'i')
    AND CASE k.contype
      WHEN 'n' THEN TRUE
      WHEN 'f' THEN NOT (k.confrelid = k.conrelid AND place.num = ANY (k.confkey))
        AND pg_get_constraintdef(k.oid) = concat('FOREIGN KEY (', own.names, ') REFERENCES ',
          k.confrelid::regclass, '(', target.names, ')',
          ' ON UPDATE ' || action.names[strpos('rcnd', k.confupdtype::text)],
          ' ON DELETE ' || action.names[strpos('rcnd', k.confdeltype::text)])
      ELSE pg_get_constraintdef(k.oid) = concat(
          CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' WHEN 'u' THEN 'UNIQUE' END,
          ' (', own.names, ')')
        AND EXISTS (
          SELECT FROM indexed i
          WHERE i.id = k.conindid AND i.known AND i.options IS NULL
            AND i.clustered = (k.contype = 'p'))
      END AS known
  FROM place
  JOIN pg_catalog.pg_constraint k ON k.conrelid = place.owner
  CROSS JOIN LATERAL (
    SELECT string_agg(quote_ident(b.attname), ', ' ORDER BY n.at) AS names
    FROM unnest(k.conkey) WITH ORDINALITY n (num, at)
    JOIN pg_catalog.pg_attribute b ON b.attrelid = k.conrelid AND b.attnum = n.num) own
  CROSS JOIN LATERAL (
    SELECT string_agg(quote_ident(b.attname), ', ' ORDER BY n.at) AS names
    FROM unnest(k.confkey) WITH ORDINALITY n (num, at)
    JOIN pg_catalog.pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = n.num) target
  CROSS JOIN (VALUES (ARRAY['RESTRICT', 'CASCADE', 'SET NULL', 'SET DEFAULT'])) action (names)
)
SELECT json_build_object(
  'default', (
    SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d
    WHERE d.adrelid = owner AND d.adnum = num),
  'indexes', (
    SELECT coalesce(json_object_agg(i.name, CASE
      WHEN i.definition IS DISTINCT FROM i.plain THEN i.definition END), '{}')
    FROM indexed i),
  'bound', EXISTS (
    SELECT FROM pg_catalog.pg_depend p
    WHERE p.refclassid = 'pg_catalog.pg_class'::regclass
      AND p.refobjid = owner AND p.refobjsubid = num
      AND NOT CASE p.classid
        WHEN 'pg_catalog.pg_attrdef'::regclass THEN EXISTS (
          SELECT FROM pg_catalog.pg_attrdef d
          WHERE d.oid = p.objid AND d.adrelid = owner AND d.adnum = num)
        WHEN 'pg_catalog.pg_constraint'::regclass THEN EXISTS (
          SELECT FROM constrained k WHERE k.id = p.objid AND k.known)
        WHEN 'pg_catalog.pg_class'::regclass THEN EXISTS (
          SELECT FROM indexed i WHERE i.id = p.objid AND i.known AND NOT i.clustered)
        ELSE FALSE END)
  OR EXISTS (
    SELECT FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    CROSS JOIN LATERAL (
      -- Not every release has all of these.
      SELECT to_jsonb(a) ->> 'attgenerated' AS generated, to_jsonb(a) ->> 'attcompression' AS compression
    ) newer
    WHERE a.attrelid = owner AND a.attnum = num
      AND (a.attacl IS NOT NULL OR a.attoptions IS NOT NULL OR coalesce(a.attstattarget, -1) <> -1
        OR a.attstorage <> t.typstorage OR a.attcollation <> t.typcollation OR a.atttypmod <> -1
        OR a.attidentity <> '' OR newer.generated <> '' OR newer.compression <> ''))
  OR EXISTS (
    SELECT FROM pg_catalog.pg_seclabel l
    WHERE l.classoid = 'pg_catalog.pg_class'::regclass AND l.objoid = owner AND l.objsubid = num)
  OR EXISTS (
    SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = owner OR h.inhparent = owner)
  OR pg_catalog.row_security_active(owner)
  OR EXISTS (
    SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = owner AND r.ev_type = '2')
  OR EXISTS (
    -- BEFORE UPDATE
    SELECT FROM pg_catalog.pg_trigger g
    WHERE g.tgrelid = owner AND NOT g.tgisinternal AND g.tgtype & 18 = 18)
)::text
FROM place";

#[derive(Debug, Deserialize)]
pub(crate) struct Standing {
    /// Whether the column cannot be dropped and made anew without loss.
    pub(crate) bound: bool,
    /// The expression, as the server prints it now.
    pub(crate) default: Option<String>,
    /// The table's indexes; with the statement that makes it, where it is more than an index of a column.
    pub(crate) indexes: BTreeMap<String, Option<String>>,
}

pub(crate) fn read(d: &mut Deployer<'_>, at: At) -> Result<Standing, Error> {
    let table = sql::text(&d.table(at.table)?.name);
    let column = sql::text(&d.column(at)?.name);
    // Neither name is looked into for the other's place.
    let (head, tail) = STANDING.split_once("$TABLE").unwrap_or((STANDING, ""));
    let rows = d.ask(&format!("{head}{table}{}", tail.replacen("$COLUMN", &column, 1)))?;
    let text = match rows.first().and_then(|row| row.first()) {
        Some(Value::Text(text)) => text.as_str(),
        _ => return Err(Error::new("Discovered missing field")),
    };
    serde_json::from_str(text)
        .map_err(|error| Error::with("Failed to read the structure of the database:", error))
}
