//! SQL: spells relations for PostgreSQL.
//!
//! Text of the query and all values of parameters become bound parameters; names go through one
//! quoting function. Numbers, dates and labels of enumerations are written out in canonical form.
//! The constant under a cast of a text literal is written out too, quoted: PostgreSQL then
//! converts it when it parses, and can say where a conversion failed.

use std::fmt::Write;

use crate::catalog::Catalog;
use crate::catalog::model::{Column, Table};
use crate::domain::Domain;
use crate::func::{Aggregate, Op};
use crate::literal;
use crate::plan::{SqlParam, SqlType, Statement};
use crate::rel::{Expr, Item, Join, Key, Node, Select, Source};
use crate::value::Value;

/// A quoted identifier.
pub(crate) fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A quoted string constant.
fn constant(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// Spells a SELECT.
pub(crate) fn statement(select: &Select, catalog: &Catalog) -> Statement {
    let mut writer = Writer { catalog, sql: String::with_capacity(256), params: Vec::new() };
    writer.select(select, true);
    Statement { sql: writer.sql, params: writer.params, width: select.columns.len() }
}

struct Writer<'a> {
    catalog: &'a Catalog,
    sql: String,
    params: Vec<SqlParam>,
}

impl Writer<'_> {
    fn put(&mut self, text: &str) {
        self.sql.push_str(text);
    }

    fn select(&mut self, select: &Select, is_top: bool) {
        self.put("SELECT ");
        if select.columns.is_empty() {
            self.put("1");
        }
        for (index, column) in select.columns.iter().enumerate() {
            if index > 0 {
                self.put(", ");
            }
            self.typed(column);
            if !is_top {
                let _ = write!(self.sql, " AS c{index}");
            }
        }
        let mut filters: Vec<&Expr> = Vec::new();
        if !select.from.is_empty() {
            self.put(" FROM ");
            for (index, item) in select.from.iter().enumerate() {
                self.item(item, index == 0, &mut filters);
            }
        }
        filters.extend(&select.filters);
        filters.retain(|filter| !filter.is_true());
        if !filters.is_empty() {
            self.put(" WHERE ");
            self.all(&filters);
        }
        if !select.group.is_empty() {
            let numbers: Vec<String> = select.group.iter().map(|n| (n + 1).to_string()).collect();
            self.put(" GROUP BY ");
            self.put(&numbers.join(", "));
        }
        self.order(&select.order);
        if let Some(limit) = select.limit {
            let _ = write!(self.sql, " LIMIT {limit}");
        }
        if let Some(offset) = select.offset {
            let _ = write!(self.sql, " OFFSET {offset}");
        }
    }

    fn order(&mut self, keys: &[Key]) {
        let mut started = false;
        for key in keys {
            if matches!(&*key.expr, Node::Literal { .. }) {
                continue;
            }
            self.put(if started { ", " } else { " ORDER BY " });
            started = true;
            self.expr(&key.expr);
            match (key.is_descending, key.expr.is_nullable()) {
                (false, false) => {}
                (false, true) => self.put(" NULLS FIRST"),
                (true, false) => self.put(" DESC"),
                (true, true) => self.put(" DESC NULLS LAST"),
            }
        }
    }

    fn item<'e>(&mut self, item: &'e Item, is_first: bool, filters: &mut Vec<&'e Expr>) {
        if is_first && item.join == Join::Left {
            self.put("(SELECT 1) AS t0 LEFT JOIN ");
        } else if !is_first {
            self.put(match (item.join, item.on.is_empty()) {
                (Join::Left, _) => " LEFT JOIN ",
                (Join::Inner, true) => " CROSS JOIN ",
                (Join::Inner, false) => " JOIN ",
            });
        }
        match &item.source {
            Source::Table(id) => {
                let schema = &self.catalog.schema(*id).name;
                let table = self.catalog.table(*id);
                if let Some(rows) = &table.rows {
                    self.given(table, rows, item.alias);
                } else {
                    let (schema, table) = (name(schema), name(&table.name));
                    let _ = write!(self.sql, "{schema}.{table} AS t{}", item.alias);
                }
            }
            Source::Select(select) => {
                if item.is_lateral {
                    self.put("LATERAL ");
                }
                self.put("(");
                self.select(select, false);
                let _ = write!(self.sql, ") AS t{}", item.alias);
            }
        }
        if is_first && item.join == Join::Inner {
            filters.extend(&item.on);
        } else if item.join == Join::Left && item.on.is_empty() {
            self.put(" ON TRUE");
        } else if !item.on.is_empty() {
            self.put(" ON (");
            self.all(&item.on.iter().collect::<Vec<_>>());
            self.put(")");
        }
    }

    /// A table whose rows come with the statement.
    fn given(&mut self, table: &Table, rows: &str, alias: u32) {
        self.put("jsonb_to_recordset(");
        self.param(SqlType::Jsonb, Value::Json(rows.to_string()));
        let column = |column: &Column| format!("{} {}", name(&column.name), column.sql_type);
        let columns: Vec<String> = table.columns.iter().map(column).collect();
        let _ = write!(self.sql, ") AS t{alias}({})", columns.join(", "));
    }

    fn all(&mut self, conditions: &[&Expr]) {
        for (index, condition) in conditions.iter().enumerate() {
            if index > 0 {
                self.put(" AND ");
            }
            self.expr(condition);
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match &**expr {
            Node::Column { alias, table, column, .. } => {
                let column = name(&self.catalog.column(*table, *column).name);
                let _ = write!(self.sql, "t{alias}.{column}");
            }
            Node::Output { alias, index, .. } => {
                let _ = write!(self.sql, "t{alias}.c{index}");
            }
            Node::Literal { value, domain, is_param } => self.literal(value, domain, *is_param),
            Node::Cast { from, to, arg } => self.cast(from, to, arg),
            Node::Formula { op, args } => self.formula(*op, args),
            Node::Mask { condition, value } => {
                self.put("(CASE WHEN ");
                self.expr(condition);
                self.put(" THEN ");
                self.expr(value);
                self.put(" END)");
            }
            Node::IsNotNull(arg) => {
                self.put("(");
                self.typed(arg);
                self.put(" IS NOT NULL)");
            }
            Node::OrZero(arg) => {
                self.put("COALESCE(");
                self.expr(arg);
                self.put(", 0)");
            }
            Node::Same { left, right, is_null_safe } => {
                self.put("(");
                self.expr(left);
                self.put(if *is_null_safe { " IS NOT DISTINCT FROM " } else { " = " });
                self.expr(right);
                self.put(")");
            }
            Node::Aggregate { op, arg, delimiter, order } => {
                self.aggregate(*op, arg, delimiter.as_ref(), order);
            }
            Node::Exists { .. } => self.put("FALSE"),
            Node::ExistsSelect { select, is_negated } => {
                self.put(if *is_negated { "(NOT EXISTS (" } else { "EXISTS (" });
                self.select(select, false);
                self.put(if *is_negated { "))" } else { ")" });
            }
        }
    }

    fn binary(&mut self, args: &[Expr], symbol: &str) {
        self.put("(");
        for (index, arg) in args.iter().enumerate() {
            if index > 0 {
                self.put(symbol);
            }
            self.typed(arg);
        }
        self.put(")");
    }

    /// An expression where PostgreSQL could not tell the type of a bare NULL.
    fn typed(&mut self, expr: &Expr) {
        match &**expr {
            Node::Literal { value: Value::Null, domain, .. } => {
                let ty = type_name(domain);
                let _ = write!(self.sql, "NULL::{ty}");
            }
            _ => self.expr(expr),
        }
    }

    fn param(&mut self, ty: SqlType, value: Value) {
        let param = SqlParam { ty, value };
        let index = match self.params.iter().position(|known| *known == param) {
            Some(index) => index,
            None => {
                self.params.push(param);
                self.params.len() - 1
            }
        };
        let _ = write!(self.sql, "${}", index + 1);
    }

    fn literal(&mut self, value: &Value, domain: &Domain, is_param: bool) {
        match value {
            Value::Null => self.put("NULL"),
            Value::Text(text) => match domain {
                Domain::Enum(ty) => {
                    let _ = write!(
                        self.sql,
                        "{}::{}.{}",
                        constant(text),
                        name(&ty.schema),
                        name(&ty.name)
                    );
                }
                Domain::Opaque(ty) => {
                    self.param(SqlType::Text, value.clone());
                    let _ = write!(self.sql, "::{}.{}", name(&ty.schema), name(&ty.name));
                }
                _ => self.param(SqlType::Text, value.clone()),
            },
            Value::Json(_) => self.param(SqlType::Jsonb, value.clone()),
            Value::Boolean(b) => self.put(if *b { "TRUE" } else { "FALSE" }),
            Value::Integer(_) if is_param => self.param(SqlType::BigInt, value.clone()),
            Value::Decimal(_) if is_param => self.param(SqlType::Numeric, value.clone()),
            Value::Float(_) if is_param => self.param(SqlType::Double, value.clone()),
            Value::Date(_) if is_param => self.param(SqlType::Date, value.clone()),
            Value::Time(_) if is_param => self.param(SqlType::Time, value.clone()),
            Value::DateTime(stamp) if is_param => {
                let zoned = stamp.offset.is_some();
                let ty = if zoned { SqlType::TimestampTz } else { SqlType::Timestamp };
                self.param(ty, value.clone());
            }
            Value::Integer(i) => {
                // The least int8 has no positive counterpart to negate.
                if *i == i64::MIN {
                    self.put("'-9223372036854775808'::BIGINT");
                } else if *i < 0 {
                    let _ = write!(self.sql, "({i})");
                } else {
                    let _ = write!(self.sql, "{i}");
                }
            }
            Value::Decimal(d) => {
                let _ = if d.starts_with('-') {
                    write!(self.sql, "'{d}'::NUMERIC")
                } else {
                    write!(self.sql, "{d}::NUMERIC")
                };
            }
            Value::Float(x) => {
                let text = literal::plain_text(domain, value).unwrap_or_default();
                let _ = if *x < 0.0 {
                    write!(self.sql, "'{text}'::FLOAT8")
                } else {
                    write!(self.sql, "{text}::FLOAT8")
                };
            }
            Value::Date(date) => {
                let _ = write!(self.sql, "'{date}'::DATE");
            }
            Value::Time(time) => {
                let _ = write!(self.sql, "'{time}'::TIME");
            }
            Value::DateTime(stamp) => {
                let ty = if stamp.offset.is_some() { "TIMESTAMPTZ" } else { "TIMESTAMP" };
                let _ = write!(self.sql, "'{stamp}'::{ty}");
            }
            // Composite values never reach SQL.
            Value::Identity(_) | Value::Record(_) | Value::List(_) => self.put("NULL"),
        }
    }

    fn cast(&mut self, from: &Domain, to: &Domain, arg: &Expr) {
        match (from, to) {
            (Domain::Text, Domain::Boolean) => {
                self.put("(NULLIF(");
                self.typed(arg);
                self.put(", '') IS NOT NULL)");
            }
            (_, Domain::Boolean) => {
                self.put("(");
                self.typed(arg);
                self.put(" IS NOT NULL)");
            }
            _ => {
                self.put("CAST(");
                match &**arg {
                    Node::Literal { value: Value::Text(text), is_param: false, .. } => {
                        let text = constant(text);
                        self.put(&text);
                    }
                    _ => self.expr(arg),
                }
                let ty = type_name(to);
                let _ = write!(self.sql, " AS {ty})");
            }
        }
    }

    fn template(&mut self, template: &str, args: &[Expr]) {
        let mut rest = template;
        while let Some(at) = rest.find('{') {
            self.put(&rest[..at]);
            let digit = rest[at + 1..].chars().next().and_then(|c| c.to_digit(10));
            match digit.and_then(|n| args.get(n as usize)) {
                Some(arg) => self.typed(arg),
                None => self.put("NULL"),
            }
            rest = rest.get(at + 3..).unwrap_or_default();
        }
        self.put(rest);
    }

    fn formula(&mut self, op: Op, args: &[Expr]) {
        match op {
            Op::Eq => self.binary(args, " = "),
            Op::Ne => self.binary(args, " <> "),
            Op::Less => self.binary(args, " < "),
            Op::LessEq => self.binary(args, " <= "),
            Op::Greater => self.binary(args, " > "),
            Op::GreaterEq => self.binary(args, " >= "),
            Op::Is | Op::IsNot => {
                let is_safe = args.iter().any(|arg| arg.is_nullable());
                self.binary(
                    args,
                    match (op, is_safe) {
                        (Op::Is, true) => " IS NOT DISTINCT FROM ",
                        (Op::Is, false) => " = ",
                        (_, true) => " IS DISTINCT FROM ",
                        (_, false) => " <> ",
                    },
                );
            }
            Op::In | Op::NotIn => self.among(op, args),
            Op::Never => self.put("FALSE"),
            Op::And => self.binary(args, " AND "),
            Op::Or => self.binary(args, " OR "),
            Op::Not => {
                self.put("(NOT ");
                self.typed_arg(args, 0);
                self.put(")");
            }
            Op::IsNull => {
                self.put("(");
                self.typed_arg(args, 0);
                self.put(" IS NULL)");
            }
            Op::If => self.cases(args, None),
            Op::Switch => {
                if let Some((value, rest)) = args.split_first() {
                    self.cases(rest, Some(value));
                }
            }
            Op::Contains | Op::NotContains => self.contains(op, args),
            Op::HasPrefix => {
                self.put("STARTS_WITH(");
                self.typed_arg(args, 0);
                self.put(", ");
                self.typed_arg(args, 1);
                self.put(")");
            }
            Op::Concat => {
                self.put("(");
                for (index, arg) in args.iter().enumerate() {
                    if index > 0 {
                        self.put(" || ");
                    }
                    if arg.is_nullable() {
                        self.put("COALESCE(");
                        self.typed(arg);
                        self.put(", '')");
                    } else {
                        self.expr(arg);
                    }
                }
                self.put(")");
            }
            Op::StrictConcat => self.binary(args, " || "),
            Op::QuoteLabel => self.template(
                "(CASE WHEN {0} ~ '^[[:alnum:]_-]+$' THEN {0} \
                 ELSE '''' || REPLACE({0}, '''', '''''') || '''' END)",
                args,
            ),
            Op::JsonObject => {
                self.put("JSONB_BUILD_OBJECT(");
                for (index, arg) in args.iter().enumerate() {
                    if index > 0 {
                        self.put(", ");
                    }
                    self.typed(arg);
                }
                self.put(")");
            }
            Op::Template(template) => self.template(template, args),
        }
    }

    fn typed_arg(&mut self, args: &[Expr], index: usize) {
        match args.get(index) {
            Some(arg) => self.typed(arg),
            None => self.put("NULL"),
        }
    }

    /// `IN`; nothing to choose from gives FALSE, or NULL for NULL.
    fn among(&mut self, op: Op, args: &[Expr]) {
        let Some((value, choices)) = args.split_first() else {
            return self.put("FALSE");
        };
        self.put("(");
        self.typed(value);
        if choices.is_empty() {
            self.put(if op == Op::In { " <> " } else { " = " });
            self.typed(value);
        } else {
            self.put(if op == Op::In { " IN (" } else { " NOT IN (" });
            for (index, choice) in choices.iter().enumerate() {
                if index > 0 {
                    self.put(", ");
                }
                self.expr(choice);
            }
            self.put(")");
        }
        self.put(")");
    }

    /// Conditions and values in turn, then the alternative.
    fn cases(&mut self, args: &[Expr], value: Option<&Expr>) {
        self.put("(CASE ");
        if let Some(value) = value {
            self.typed(value);
            self.put(" ");
        }
        for pair in args.chunks(2) {
            match pair {
                [condition, value] => {
                    self.put("WHEN ");
                    self.typed(condition);
                    self.put(" THEN ");
                    self.typed(value);
                    self.put(" ");
                }
                [otherwise] => {
                    self.put("ELSE ");
                    self.typed(otherwise);
                    self.put(" ");
                }
                _ => {}
            }
        }
        self.put("END)");
    }

    fn contains(&mut self, op: Op, args: &[Expr]) {
        let [text, part] = args else {
            return self.put("NULL");
        };
        self.put("(");
        self.typed(text);
        self.put(if op == Op::Contains { " ILIKE " } else { " NOT ILIKE " });
        if let Node::Literal { value: Value::Text(part), .. } = &**part {
            let escaped = part.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            self.param(SqlType::Text, Value::Text(format!("%{escaped}%")));
        } else {
            self.put("('%' || REPLACE(REPLACE(REPLACE(");
            self.typed(part);
            self.put(r", E'\\', E'\\\\'), '%', E'\\%'), '_', E'\\_') || '%')");
        }
        self.put(")");
    }

    fn aggregate(&mut self, op: Aggregate, arg: &Expr, delimiter: Option<&Expr>, order: &[Key]) {
        let (before, after) = match op {
            Aggregate::Count if arg.is_true() => return self.put("COUNT(*)"),
            Aggregate::Count => ("COUNT(NULLIF(", ", FALSE))"),
            Aggregate::Min => ("MIN(", ")"),
            Aggregate::Max => ("MAX(", ")"),
            Aggregate::SumInteger => ("COALESCE(SUM(", "), 0)::BIGINT"),
            Aggregate::SumDecimal | Aggregate::SumFloat => ("COALESCE(SUM(", "), 0)"),
            Aggregate::AvgInteger => ("AVG(CAST(", " AS NUMERIC))"),
            Aggregate::Avg => ("AVG(", ")"),
            Aggregate::Median => ("PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY ", ")"),
            Aggregate::Join => ("STRING_AGG(", ""),
            Aggregate::Exists | Aggregate::Every => ("BOOL_OR(", ")"),
        };
        self.put(before);
        self.typed(arg);
        if let Some(delimiter) = delimiter {
            self.put(", ");
            self.typed(delimiter);
            self.order(order);
            self.put(")");
        }
        self.put(after);
    }
}

/// The type to cast a value of a domain to.
fn type_name(domain: &Domain) -> String {
    match domain {
        Domain::Boolean => "BOOLEAN",
        Domain::Integer => "INTEGER",
        Domain::Decimal => "NUMERIC",
        Domain::Float => "FLOAT8",
        Domain::Date => "DATE",
        Domain::Time => "TIME",
        Domain::DateTime => "TIMESTAMP",
        Domain::Json => "JSONB",
        Domain::Enum(ty) => return format!("{}.{}", name(&ty.schema), name(&ty.name)),
        Domain::Opaque(ty) => return format!("{}.{}", name(&ty.schema), name(&ty.name)),
        _ => "TEXT",
    }
    .to_string()
}
