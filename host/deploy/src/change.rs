//! Changes of the structure: each sends its statement where something differs, and alters the image
//! as the statement alters the database.

use rex_yaml::Error;

use crate::deployer::{At, Deployer};
use crate::image::{Action, Column, EnumId, ForeignKey, Index, Key, TableId, Trigger, Type};
use crate::{sql, standing};

impl Deployer<'_> {
    pub(crate) fn create_table(&mut self, name: &str, unlogged: bool) -> Result<TableId, Error> {
        let kind = if unlogged { "CREATE UNLOGGED TABLE" } else { "CREATE TABLE" };
        self.change(&format!("{kind} {} (\n    \"id\" \"int4\" NOT NULL\n);", sql::name(name)))?;
        let image = self.image()?;
        let id = Column {
            id: image.new_id(),
            name: "id".to_owned(),
            ty: Type::System("int4".to_owned()),
            not_null: true,
            default: None,
            comment: None,
            sequence: None,
        };
        Ok(image.add_table(name.to_owned(), unlogged, vec![id]))
    }

    pub(crate) fn rename_table(&mut self, table: TableId, name: &str) -> Result<(), Error> {
        let old = self.table(table)?.name.clone();
        if old != name {
            self.change(&format!(
                "ALTER TABLE {} RENAME TO {};",
                sql::name(&old),
                sql::name(name)
            ))?;
            self.table(table)?.name = name.to_owned();
        }
        Ok(())
    }

    pub(crate) fn comment_table(
        &mut self,
        table: TableId,
        comment: Option<String>,
    ) -> Result<(), Error> {
        if self.table(table)?.comment != comment {
            let name = sql::name(&self.table(table)?.name);
            let text = sql::text_or_null(comment.as_deref());
            self.change(&format!("COMMENT ON TABLE {name} IS {text};"))?;
            self.table(table)?.comment = comment;
        }
        Ok(())
    }

    pub(crate) fn drop_table(&mut self, table: TableId) -> Result<(), Error> {
        let name = sql::name(&self.table(table)?.name);
        self.change(&format!("DROP TABLE {name};"))?;
        self.image()?.tables.remove(&table);
        Ok(())
    }

    /// A sequence that fills a column and belongs to it.
    pub(crate) fn create_sequence(&mut self, at: At, name: &str) -> Result<(), Error> {
        let table = sql::name(&self.table(at.table)?.name);
        let column = sql::name(&self.column(at)?.name);
        self.change(&format!("CREATE SEQUENCE {} OWNED BY {table}.{column};", sql::name(name)))?;
        self.column(at)?.sequence = Some(name.to_owned());
        let next = format!("nextval({}::regclass)", sql::text(&sql::name(name)));
        self.set_default(at, Some(next))
    }

    pub(crate) fn rename_sequence(&mut self, at: At, name: &str) -> Result<(), Error> {
        let Some(old) = self.column(at)?.sequence.clone() else { return Ok(()) };
        if old != name {
            let (old, new) = (sql::name(&old), sql::name(name));
            self.change(&format!("ALTER SEQUENCE {old} RENAME TO {new};"))?;
            self.column(at)?.sequence = Some(name.to_owned());
        }
        Ok(())
    }

    pub(crate) fn create_column(
        &mut self,
        table: TableId,
        name: &str,
        ty: Type,
        not_null: bool,
        default: Option<String>,
    ) -> Result<At, Error> {
        let owner = sql::name(&self.table(table)?.name);
        let type_name = sql::name(self.image()?.type_name(&ty));
        let required = if not_null { " NOT NULL" } else { "" };
        let value = default.as_ref().map(|text| format!(" DEFAULT {text}")).unwrap_or_default();
        self.change(&format!(
            "ALTER TABLE {owner} ADD COLUMN {} {type_name}{required}{value};",
            sql::name(name)
        ))?;
        let id = self.image()?.new_id();
        let name = name.to_owned();
        let column = Column { id, name, ty, not_null, default, comment: None, sequence: None };
        self.table(table)?.columns.push(column);
        Ok(At { table, column: id })
    }

    /// `ALTER TABLE t ALTER COLUMN c`, or the head of another command on a column.
    fn alter_column(&mut self, at: At) -> Result<String, Error> {
        let table = sql::name(&self.table(at.table)?.name);
        let column = sql::name(&self.column(at)?.name);
        Ok(format!("ALTER TABLE {table} ALTER COLUMN {column}"))
    }

    pub(crate) fn rename_column(&mut self, at: At, name: &str) -> Result<(), Error> {
        let old = self.column(at)?.name.clone();
        if old != name {
            let table = sql::name(&self.table(at.table)?.name);
            let (old, new) = (sql::name(&old), sql::name(name));
            self.change(&format!("ALTER TABLE {table} RENAME COLUMN {old} TO {new};"))?;
            self.column(at)?.name = name.to_owned();
        }
        Ok(())
    }

    pub(crate) fn set_not_null(&mut self, at: At, not_null: bool) -> Result<(), Error> {
        if self.column(at)?.not_null != not_null {
            let head = self.alter_column(at)?;
            let verb = if not_null { "SET" } else { "DROP" };
            self.change(&format!("{head} {verb} NOT NULL;"))?;
            self.column(at)?.not_null = not_null;
        }
        Ok(())
    }

    pub(crate) fn set_default(&mut self, at: At, value: Option<String>) -> Result<(), Error> {
        if self.column(at)?.default != value {
            let head = self.alter_column(at)?;
            self.change(&match &value {
                Some(text) => format!("{head} SET DEFAULT {text};"),
                None => format!("{head} DROP DEFAULT;"),
            })?;
            self.column(at)?.default = value;
        }
        Ok(())
    }

    pub(crate) fn comment_column(&mut self, at: At, comment: Option<String>) -> Result<(), Error> {
        if self.column(at)?.comment != comment {
            self.column(at)?.comment = comment;
            self.write_column_comment(at)?;
        }
        Ok(())
    }

    fn write_column_comment(&mut self, at: At) -> Result<(), Error> {
        let table = sql::name(&self.table(at.table)?.name);
        let column = self.column(at)?;
        let text = sql::text_or_null(column.comment.as_deref());
        let name = sql::name(&column.name);
        self.change(&format!("COMMENT ON COLUMN {table}.{name} IS {text};"))
    }

    /// Changes the type; `using` converts the values.
    pub(crate) fn set_type(&mut self, at: At, ty: Type, using: &str) -> Result<(), Error> {
        let head = self.alter_column(at)?;
        let type_name = sql::name(self.image()?.type_name(&ty));
        self.change(&format!("{head} SET DATA TYPE {type_name} USING {using};"))?;
        self.column(at)?.ty = ty;
        // The server makes the column's keys anew and forgets their comments.
        let keys = self.table(at.table)?.keys.clone();
        for key in keys.iter().filter(|key| key.columns.contains(&at.column)) {
            self.write_key_comment(at.table, key)?;
        }
        Ok(())
    }

    pub(crate) fn drop_column(&mut self, at: At) -> Result<(), Error> {
        let table = sql::name(&self.table(at.table)?.name);
        let column = sql::name(&self.column(at)?.name);
        self.change(&format!("ALTER TABLE {table} DROP COLUMN {column};"))?;
        self.table(at.table)?.remove_column(at.column);
        Ok(())
    }

    /// Makes a column the last one, by copying it; one that stands so that it cannot be copied without
    /// loss stays where it is.
    pub(crate) fn move_last(&mut self, at: At) -> Result<(), Error> {
        if self.is_locked() && self.left.contains(&at) {
            return Ok(());
        }
        let standing = standing::read(self, at)?;
        if standing.bound {
            self.left.push(at);
            return Ok(());
        }
        let before = self.table(at.table)?.clone();
        let column = self.column(at)?.clone();
        let table = sql::name(&before.name);
        let (name, copy) = (sql::name(&column.name), sql::name("?"));
        let type_name = sql::name(self.image()?.type_name(&column.ty));
        self.change(&format!("ALTER TABLE {table} ADD COLUMN {copy} {type_name};"))?;
        self.change(&format!("UPDATE {table} SET {copy} = {name};"))?;
        self.change(&format!("ALTER TABLE {table} DROP COLUMN {name};"))?;
        self.change(&format!("ALTER TABLE {table} RENAME COLUMN {copy} TO {name};"))?;
        let head = self.alter_column(at)?;
        if column.not_null {
            self.change(&format!("{head} SET NOT NULL;"))?;
        }
        if let Some(default) = &standing.default {
            self.change(&format!("{head} SET DEFAULT {default};"))?;
        }
        if column.comment.is_some() {
            self.write_column_comment(at)?;
        }
        for key in before.keys.iter().filter(|key| key.columns.contains(&at.column)) {
            self.write_key(at.table, key)?;
            self.write_key_comment(at.table, key)?;
        }
        for link in before.links.iter().filter(|link| link.columns.contains(&at.column)) {
            self.write_link(at.table, link)?;
        }
        for index in before.indexes.iter().filter(|index| index.columns.contains(&at.column)) {
            match standing.indexes.get(&index.name) {
                Some(Some(definition)) => self.change(&format!("{definition};"))?,
                _ => self.write_index(at.table, index)?,
            }
        }
        let columns = &mut self.table(at.table)?.columns;
        columns.retain(|other| other.id != at.column);
        columns.push(column);
        Ok(())
    }

    pub(crate) fn create_key(&mut self, table: TableId, key: Key) -> Result<(), Error> {
        self.write_key(table, &key)?;
        self.table(table)?.keys.push(key);
        Ok(())
    }

    fn write_key(&mut self, table: TableId, key: &Key) -> Result<(), Error> {
        let owner = self.table(table)?;
        let columns = sql::names(owner.column_names(&key.columns).iter().map(String::as_str));
        let (table, name) = (sql::name(&owner.name), sql::name(&key.name));
        self.change(&if key.primary {
            format!(
                "ALTER TABLE {table} ADD CONSTRAINT {name} PRIMARY KEY ({columns}), CLUSTER ON {name};"
            )
        } else {
            format!("ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE ({columns});")
        })
    }

    fn write_key_comment(&mut self, table: TableId, key: &Key) -> Result<(), Error> {
        let Some(comment) = &key.comment else { return Ok(()) };
        let table = sql::name(&self.table(table)?.name);
        let (name, text) = (sql::name(&key.name), sql::text(comment));
        self.change(&format!("COMMENT ON CONSTRAINT {name} ON {table} IS {text};"))
    }

    pub(crate) fn comment_key(
        &mut self,
        table: TableId,
        name: &str,
        comment: Option<String>,
    ) -> Result<(), Error> {
        let owner = self.table(table)?;
        let Some(key) = owner.keys.iter_mut().find(|key| key.name == name) else { return Ok(()) };
        if key.comment != comment {
            key.comment = comment.clone();
            let (table, name) = (sql::name(&owner.name), sql::name(name));
            let text = sql::text_or_null(comment.as_deref());
            self.change(&format!("COMMENT ON CONSTRAINT {name} ON {table} IS {text};"))?;
        }
        Ok(())
    }

    /// Renames a constraint of any kind.
    pub(crate) fn rename_constraint(
        &mut self,
        table: TableId,
        old: &str,
        new: &str,
    ) -> Result<(), Error> {
        if old == new {
            return Ok(());
        }
        let owner = self.table(table)?;
        for key in owner.keys.iter_mut().filter(|key| key.name == old) {
            new.clone_into(&mut key.name);
        }
        for link in owner.links.iter_mut().filter(|link| link.name == old) {
            new.clone_into(&mut link.name);
        }
        let table = sql::name(&owner.name);
        let (old, new) = (sql::name(old), sql::name(new));
        self.change(&format!("ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new};"))
    }

    pub(crate) fn drop_constraint(&mut self, table: TableId, name: &str) -> Result<(), Error> {
        let owner = self.table(table)?;
        owner.keys.retain(|key| key.name != name);
        owner.links.retain(|link| link.name != name);
        let table = sql::name(&owner.name);
        self.change(&format!("ALTER TABLE {table} DROP CONSTRAINT {};", sql::name(name)))
    }

    pub(crate) fn create_link(&mut self, table: TableId, link: ForeignKey) -> Result<(), Error> {
        self.write_link(table, &link)?;
        self.table(table)?.links.push(link);
        Ok(())
    }

    fn write_link(&mut self, table: TableId, link: &ForeignKey) -> Result<(), Error> {
        let owner = self.table(table)?;
        let columns = sql::names(owner.column_names(&link.columns).iter().map(String::as_str));
        let table = sql::name(&owner.name);
        let target = self.table(link.target)?;
        let to = sql::names(target.column_names(&link.target_columns).iter().map(String::as_str));
        let target = sql::name(&target.name);
        let name = sql::name(&link.name);
        let events = link.on_update.clause("UPDATE") + &link.on_delete.clause("DELETE");
        self.change(&format!(
            "ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY ({columns}) REFERENCES {target} \
             ({to}){events};"
        ))?;
        if let Some(comment) = &link.comment {
            let text = sql::text(comment);
            self.change(&format!("COMMENT ON CONSTRAINT {name} ON {table} IS {text};"))?;
        }
        Ok(())
    }

    /// What becomes of the row when what its link leads to is deleted.
    pub(crate) fn set_on_delete(&mut self, at: At, action: Action) -> Result<(), Error> {
        let links = self.table(at.table)?.links.clone();
        for link in links.into_iter().filter(|link| link.columns == [at.column]) {
            if link.on_delete == action {
                continue;
            }
            self.drop_constraint(at.table, &link.name)?;
            self.create_link(at.table, ForeignKey { on_delete: action, ..link })?;
        }
        Ok(())
    }

    pub(crate) fn create_index(&mut self, table: TableId, index: Index) -> Result<(), Error> {
        self.write_index(table, &index)?;
        self.table(table)?.indexes.push(index);
        Ok(())
    }

    fn write_index(&mut self, table: TableId, index: &Index) -> Result<(), Error> {
        let owner = self.table(table)?;
        let columns = sql::names(owner.column_names(&index.columns).iter().map(String::as_str));
        let (table, name) = (sql::name(&owner.name), sql::name(&index.name));
        self.change(&format!("CREATE INDEX {name} ON {table} ({columns});"))
    }

    pub(crate) fn rename_index(
        &mut self,
        table: TableId,
        old: &str,
        new: &str,
    ) -> Result<(), Error> {
        let indexes = &mut self.table(table)?.indexes;
        let Some(index) = indexes.iter_mut().find(|index| index.name == old) else {
            return Ok(());
        };
        if old != new {
            new.clone_into(&mut index.name);
            let (old, new) = (sql::name(old), sql::name(new));
            self.change(&format!("ALTER INDEX {old} RENAME TO {new};"))?;
        }
        Ok(())
    }

    pub(crate) fn drop_index(&mut self, table: TableId, name: &str) -> Result<(), Error> {
        self.table(table)?.indexes.retain(|index| index.name != name);
        self.change(&format!("DROP INDEX {};", sql::name(name)))
    }

    pub(crate) fn create_enum(&mut self, name: &str, labels: &[String]) -> Result<EnumId, Error> {
        let texts = sql::texts(labels);
        self.change(&format!("CREATE TYPE {} AS ENUM ({texts});", sql::name(name)))?;
        Ok(self.image()?.add_enum(name.to_owned(), labels.to_vec()))
    }

    pub(crate) fn rename_enum(&mut self, id: EnumId, name: &str) -> Result<(), Error> {
        let Some(found) = self.image()?.enums.get_mut(&id) else { return Ok(()) };
        if found.name != name {
            let old = std::mem::replace(&mut found.name, name.to_owned());
            let (old, new) = (sql::name(&old), sql::name(name));
            self.change(&format!("ALTER TYPE {old} RENAME TO {new};"))?;
        }
        Ok(())
    }

    pub(crate) fn drop_enum(&mut self, id: EnumId) -> Result<(), Error> {
        let Some(found) = self.image()?.enums.remove(&id) else { return Ok(()) };
        self.change(&format!("DROP TYPE {};", sql::name(&found.name)))
    }

    /// Makes a trigger function, or gives it another source.
    pub(crate) fn write_function(&mut self, name: &str, source: &str) -> Result<(), Error> {
        if self.image()?.functions.get(name).is_some_and(|known| known == source) {
            return Ok(());
        }
        let (quoted, body) = (sql::name(name), sql::text(source));
        self.change(&format!(
            "CREATE OR REPLACE FUNCTION {quoted}() RETURNS \"trigger\" LANGUAGE plpgsql AS {body};"
        ))?;
        self.image()?.functions.insert(name.to_owned(), source.to_owned());
        Ok(())
    }

    pub(crate) fn rename_function(&mut self, old: &str, new: &str) -> Result<(), Error> {
        if old == new {
            return Ok(());
        }
        let functions = &mut self.image()?.functions;
        let Some(source) = functions.remove(old) else { return Ok(()) };
        functions.insert(new.to_owned(), source);
        let (from, to) = (sql::name(old), sql::name(new));
        self.change(&format!("ALTER FUNCTION {from}() RENAME TO {to};"))?;
        for table in self.image()?.tables.values_mut() {
            for trigger in table.triggers.iter_mut().filter(|t| t.function == old) {
                new.clone_into(&mut trigger.function);
            }
        }
        Ok(())
    }

    pub(crate) fn drop_function(&mut self, name: &str) -> Result<(), Error> {
        if self.image()?.functions.remove(name).is_none() {
            return Ok(());
        }
        self.change(&format!("DROP FUNCTION {}();", sql::name(name)))
    }

    /// A trigger that runs the function of its own name before each insert.
    pub(crate) fn create_trigger(&mut self, table: TableId, name: &str) -> Result<(), Error> {
        let owner = sql::name(&self.table(table)?.name);
        let quoted = sql::name(name);
        self.change(&format!(
            "CREATE TRIGGER {quoted} BEFORE INSERT ON {owner} FOR EACH ROW EXECUTE PROCEDURE \
             {quoted}();"
        ))?;
        let trigger = Trigger { name: name.to_owned(), function: name.to_owned() };
        self.table(table)?.triggers.push(trigger);
        Ok(())
    }

    /// The trigger that tells the schema `audit` of each row that changes. It goes where its table
    /// goes, so the image does without it.
    pub(crate) fn create_audit_trigger(&mut self, table: TableId) -> Result<(), Error> {
        let owner = sql::name(&self.table(table)?.name);
        self.change(&format!(
            "CREATE TRIGGER \"audit\" AFTER INSERT OR UPDATE OR DELETE ON {owner} FOR EACH ROW \
             EXECUTE PROCEDURE \"audit\".\"audit\"();"
        ))
    }

    pub(crate) fn rename_trigger(
        &mut self,
        table: TableId,
        old: &str,
        new: &str,
    ) -> Result<(), Error> {
        let owner = self.table(table)?;
        let name = sql::name(&owner.name);
        let Some(trigger) = owner.triggers.iter_mut().find(|trigger| trigger.name == old) else {
            return Ok(());
        };
        if old != new {
            new.clone_into(&mut trigger.name);
            let (old, new) = (sql::name(old), sql::name(new));
            self.change(&format!("ALTER TRIGGER {old} ON {name} RENAME TO {new};"))?;
        }
        Ok(())
    }

    pub(crate) fn drop_trigger(&mut self, table: TableId, name: &str) -> Result<(), Error> {
        let owner = self.table(table)?;
        if owner.trigger(name).is_none() {
            return Ok(());
        }
        owner.triggers.retain(|trigger| trigger.name != name);
        let owner = sql::name(&owner.name);
        self.change(&format!("DROP TRIGGER {} ON {owner};", sql::name(name)))
    }
}
