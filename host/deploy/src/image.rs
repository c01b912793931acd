//! The schema `public` as it is deployed: tables, columns, keys, links, indexes, triggers, types and
//! trigger functions by name. It is read once, in one query, and kept up to date by every change
//! that this crate makes.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One JSON document with everything; ids are those of the system catalogs.
pub(crate) const INTROSPECTION: &str = "
WITH public AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'public')
SELECT json_build_object(
  'tables', (
    SELECT coalesce(json_agg(json_build_object(
      'id', c.oid::int8, 'name', c.relname, 'unlogged', c.relpersistence = 'u',
      'comment', obj_description(c.oid, 'pg_class'),
      'columns', (
        SELECT coalesce(json_agg(json_build_object(
          'id', a.attnum, 'name', a.attname, 'not_null', a.attnotnull,
          'type', CASE WHEN t.typtype = 'e' AND t.typnamespace = c.relnamespace
                       THEN json_build_object('enum', t.oid::int8)
                       WHEN n.nspname = 'pg_catalog' THEN json_build_object('system', t.typname)
                       ELSE json_build_object('other', format_type(t.oid, a.atttypmod)) END,
          'default', pg_get_expr(d.adbin, d.adrelid),
          'comment', col_description(c.oid, a.attnum),
          'sequence', (
            SELECT s.relname FROM pg_catalog.pg_depend p
            JOIN pg_catalog.pg_class s ON s.oid = p.objid AND s.relkind = 'S'
            WHERE p.classid = 'pg_catalog.pg_class'::regclass
              AND p.refclassid = 'pg_catalog.pg_class'::regclass
              AND p.refobjid = c.oid AND p.refobjsubid = a.attnum
            ORDER BY s.oid LIMIT 1)
        ) ORDER BY a.attnum), '[]')
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
      'keys', (
        SELECT coalesce(json_agg(json_build_object(
          'name', k.conname, 'columns', k.conkey, 'primary', k.contype = 'p',
          'comment', obj_description(k.oid, 'pg_constraint')) ORDER BY k.oid), '[]')
        FROM pg_catalog.pg_constraint k
        WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u')),
      'links', (
        SELECT coalesce(json_agg(json_build_object(
          'name', k.conname, 'columns', k.conkey, 'target', k.confrelid::int8,
          'target_columns', k.confkey, 'on_update', k.confupdtype, 'on_delete', k.confdeltype,
          'comment', obj_description(k.oid, 'pg_constraint')) ORDER BY k.oid), '[]')
        FROM pg_catalog.pg_constraint k
        WHERE k.conrelid = c.oid AND k.contype = 'f'),
      'indexes', (
        SELECT coalesce(json_agg(json_build_object(
          'name', i.relname, 'columns', ARRAY(
            SELECT p.refobjsubid FROM pg_catalog.pg_depend p
            WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = i.oid
              AND p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = c.oid
              AND p.refobjsubid > 0)) ORDER BY i.relname), '[]')
        FROM pg_catalog.pg_index x
        JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
        WHERE x.indrelid = c.oid AND NOT EXISTS (
          SELECT FROM pg_catalog.pg_constraint k
          WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x'))),
      'triggers', (
        SELECT coalesce(json_agg(json_build_object('name', g.tgname, 'function', f.proname)
                                 ORDER BY g.tgname), '[]')
        FROM pg_catalog.pg_trigger g
        JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid
        WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND f.pronamespace = c.relnamespace)
    ) ORDER BY c.relname), '[]')
    FROM pg_catalog.pg_class c, public
    WHERE c.relnamespace = public.oid AND c.relkind = 'r'
      AND pg_catalog.has_table_privilege(c.oid, 'SELECT')),
  'enums', (
    SELECT coalesce(json_agg(json_build_object(
      'id', t.oid::int8, 'name', t.typname, 'labels', ARRAY(
        SELECT e.enumlabel FROM pg_catalog.pg_enum e
        WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)) ORDER BY t.typname), '[]')
    FROM pg_catalog.pg_type t, public
    WHERE t.typnamespace = public.oid AND t.typtype = 'e'),
  'functions', (
    SELECT coalesce(json_agg(json_build_object('name', f.proname, 'source', f.prosrc)
                             ORDER BY f.proname), '[]')
    FROM pg_catalog.pg_proc f, public
    WHERE f.pronamespace = public.oid AND f.pronargs = 0
      AND f.prorettype = 'pg_catalog.trigger'::regtype),
  'audited', EXISTS (
    SELECT FROM pg_catalog.pg_namespace n
    WHERE n.nspname = 'audit'
      AND obj_description(n.oid, 'pg_namespace') = 'version: 2.11.0')
)::text";

pub(crate) type TableId = i64;
pub(crate) type ColumnId = i64;
pub(crate) type EnumId = i64;

#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) tables: BTreeMap<TableId, Table>,
    pub(crate) enums: BTreeMap<EnumId, Enum>,
    /// Sources by name, of trigger functions.
    pub(crate) functions: BTreeMap<String, String>,
    /// Whether new tables are to be audited: by the version of the schema `audit` that facts know.
    pub(crate) audited: bool,
    /// Ids of what is made here are negative.
    next_id: i64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Table {
    id: TableId,
    pub(crate) name: String,
    pub(crate) unlogged: bool,
    pub(crate) comment: Option<String>,
    /// By position.
    pub(crate) columns: Vec<Column>,
    /// PRIMARY KEY and UNIQUE constraints.
    pub(crate) keys: Vec<Key>,
    /// Foreign keys.
    pub(crate) links: Vec<ForeignKey>,
    /// Without those of constraints.
    pub(crate) indexes: Vec<Index>,
    /// Those that run functions of the schema, so not that of an audit.
    pub(crate) triggers: Vec<Trigger>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Column {
    pub(crate) id: ColumnId,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) ty: Type,
    pub(crate) not_null: bool,
    /// The expression, as the server prints it or as it was sent.
    pub(crate) default: Option<String>,
    pub(crate) comment: Option<String>,
    /// The sequence that the column owns.
    pub(crate) sequence: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Type {
    /// One of the schema's enumerations.
    Enum(EnumId),
    /// A type of the server, by its internal name.
    System(String),
    Other(String),
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) columns: Vec<ColumnId>,
    pub(crate) primary: bool,
    pub(crate) comment: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ForeignKey {
    pub(crate) name: String,
    pub(crate) columns: Vec<ColumnId>,
    pub(crate) target: TableId,
    pub(crate) target_columns: Vec<ColumnId>,
    pub(crate) on_update: Action,
    pub(crate) on_delete: Action,
    pub(crate) comment: Option<String>,
}

/// What a change of the target row does to rows that refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Action {
    #[serde(rename = "a")]
    Nothing,
    #[serde(rename = "r")]
    Restrict,
    #[serde(rename = "c")]
    Cascade,
    #[serde(rename = "n")]
    SetNull,
    #[serde(rename = "d")]
    SetDefault,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Index {
    pub(crate) name: String,
    /// All that it depends on.
    pub(crate) columns: Vec<ColumnId>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Trigger {
    pub(crate) name: String,
    pub(crate) function: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Enum {
    id: EnumId,
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
}

#[derive(Deserialize)]
struct Document {
    tables: Vec<Table>,
    enums: Vec<Enum>,
    functions: Vec<Function>,
    audited: bool,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    source: String,
}

impl Image {
    /// The image that [`INTROSPECTION`] answered with.
    pub(crate) fn read(text: &str) -> Result<Image, serde_json::Error> {
        let document: Document = serde_json::from_str(text)?;
        Ok(Image {
            tables: document.tables.into_iter().map(|table| (table.id, table)).collect(),
            enums: document.enums.into_iter().map(|found| (found.id, found)).collect(),
            functions: document.functions.into_iter().map(|f| (f.name, f.source)).collect(),
            audited: document.audited,
            next_id: -1,
        })
    }

    pub(crate) fn new_id(&mut self) -> i64 {
        self.next_id -= 1;
        self.next_id
    }

    pub(crate) fn table_named(&self, name: &str) -> Option<TableId> {
        self.tables.values().find(|table| table.name == name).map(|table| table.id)
    }

    pub(crate) fn add_table(
        &mut self,
        name: String,
        unlogged: bool,
        columns: Vec<Column>,
    ) -> TableId {
        let id = self.new_id();
        let table = Table {
            id,
            name,
            unlogged,
            comment: None,
            columns,
            keys: Vec::new(),
            links: Vec::new(),
            indexes: Vec::new(),
            triggers: Vec::new(),
        };
        self.tables.insert(id, table);
        id
    }

    pub(crate) fn add_enum(&mut self, name: String, labels: Vec<String>) -> EnumId {
        let id = self.new_id();
        self.enums.insert(id, Enum { id, name, labels });
        id
    }

    /// The name of a type as SQL takes it, unquoted.
    pub(crate) fn type_name<'a>(&'a self, ty: &'a Type) -> &'a str {
        match ty {
            Type::Enum(id) => self.enums.get(id).map_or("", |found| &found.name),
            Type::System(name) | Type::Other(name) => name,
        }
    }

    /// Tables and columns of the links that lead to a table from others.
    pub(crate) fn referring(&self, target: TableId) -> Vec<(TableId, ColumnId)> {
        let mut found = Vec::new();
        for table in self.tables.values().filter(|table| table.id != target) {
            for link in table.links.iter().filter(|link| link.target == target) {
                found.extend(link.columns.iter().map(|column| (table.id, *column)));
            }
        }
        found
    }
}

impl Table {
    pub(crate) fn column(&self, id: ColumnId) -> Option<&Column> {
        self.columns.iter().find(|column| column.id == id)
    }

    pub(crate) fn column_mut(&mut self, id: ColumnId) -> Option<&mut Column> {
        self.columns.iter_mut().find(|column| column.id == id)
    }

    pub(crate) fn column_named(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Names of columns, in the order given.
    pub(crate) fn column_names(&self, ids: &[ColumnId]) -> Vec<String> {
        ids.iter().filter_map(|id| self.column(*id)).map(|column| column.name.clone()).collect()
    }

    pub(crate) fn primary_key(&self) -> Option<&Key> {
        self.keys.iter().find(|key| key.primary)
    }

    /// The UNIQUE constraint on this column alone.
    pub(crate) fn unique_key(&self, column: ColumnId) -> Option<&Key> {
        self.keys.iter().find(|key| !key.primary && key.columns == [column])
    }

    /// The foreign key on this column alone.
    pub(crate) fn link(&self, column: ColumnId) -> Option<&ForeignKey> {
        self.links.iter().find(|link| link.columns == [column])
    }

    pub(crate) fn trigger(&self, name: &str) -> Option<&Trigger> {
        self.triggers.iter().find(|trigger| trigger.name == name)
    }

    /// Forgets a column and what the server drops with it.
    pub(crate) fn remove_column(&mut self, id: ColumnId) {
        self.columns.retain(|column| column.id != id);
        self.keys.retain(|key| !key.columns.contains(&id));
        self.links.retain(|link| !link.columns.contains(&id));
        self.indexes.retain(|index| !index.columns.contains(&id));
    }
}

impl Action {
    /// The clause of a foreign key, with a blank before it; nothing for the default.
    pub(crate) fn clause(self, event: &str) -> String {
        let action = match self {
            Action::Nothing => return String::new(),
            Action::Restrict => "RESTRICT",
            Action::Cascade => "CASCADE",
            Action::SetNull => "SET NULL",
            Action::SetDefault => "SET DEFAULT",
        };
        format!(" ON {event} {action}")
    }
}
