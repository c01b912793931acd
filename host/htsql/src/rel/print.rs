//! Prints relations as outlines (the `rel` lens).

use std::fmt::Write;

use super::{Expr, Item, Join, Key, Node, Select, Source};
use crate::catalog::Catalog;

/// A SELECT, one part a line, sub-selects indented.
pub(crate) fn outline(select: &Select, catalog: &Catalog) -> String {
    let mut out = String::new();
    let printer = Printer { catalog };
    printer.select(select, 0, &mut out);
    out
}

struct Printer<'a> {
    catalog: &'a Catalog,
}

impl Printer<'_> {
    fn select(&self, select: &Select, level: usize, out: &mut String) {
        let pad = "  ".repeat(level);
        for (index, column) in select.columns.iter().enumerate() {
            let _ = writeln!(out, "{pad}column {index}: {}", self.expr(column));
        }
        for item in &select.from {
            self.item(item, level, out);
        }
        for filter in &select.filters {
            let _ = writeln!(out, "{pad}where {}", self.expr(filter));
        }
        for column in &select.group {
            let _ = writeln!(out, "{pad}group by column {column}");
        }
        for key in &select.order {
            let _ = writeln!(out, "{pad}order by {}", self.key(key));
        }
        if select.limit.is_some() || select.offset.is_some() {
            let limit = select.limit.map_or("all".into(), |n| n.to_string());
            let _ = writeln!(out, "{pad}limit {limit} offset {}", select.offset.unwrap_or(0));
        }
    }

    fn item(&self, item: &Item, level: usize, out: &mut String) {
        let pad = "  ".repeat(level);
        let kind = match item.join {
            Join::Inner => "join",
            Join::Left => "left join",
        };
        let lateral = if item.is_lateral { " lateral" } else { "" };
        let on: Vec<String> = item.on.iter().map(|on| self.expr(on)).collect();
        let on = if on.is_empty() { String::new() } else { format!(" on {}", on.join(" & ")) };
        match &item.source {
            Source::Table(id) => {
                let name = &self.catalog.table(*id).name;
                let _ = writeln!(out, "{pad}{kind} t{} = {name}{on}", item.alias);
            }
            Source::Select(select) => {
                let _ = writeln!(out, "{pad}{kind}{lateral} t{}{on}", item.alias);
                self.select(select, level + 1, out);
            }
        }
    }

    fn key(&self, key: &Key) -> String {
        format!("{}{}", self.expr(&key.expr), if key.is_descending { "-" } else { "+" })
    }

    fn expr(&self, expr: &Expr) -> String {
        match &**expr {
            Node::Column { alias, table, column, .. } => {
                format!("t{alias}.{}", self.catalog.column(*table, *column).name)
            }
            Node::Output { alias, index, .. } => format!("t{alias}#{index}"),
            Node::Literal { value, domain, .. } => crate::literal::dump(domain, value),
            Node::Cast { to, arg, .. } => format!("{}({})", to.family(), self.expr(arg)),
            Node::Formula { op, args } => {
                let args: Vec<String> = args.iter().map(|arg| self.expr(arg)).collect();
                crate::show::operation(*op, &args)
            }
            Node::Mask { condition, value } => {
                format!("({} ? {})", self.expr(value), self.expr(condition))
            }
            Node::OrZero(arg) => format!("zero({})", self.expr(arg)),
            Node::IsNotNull(arg) => format!("has({})", self.expr(arg)),
            Node::Same { left, right, is_null_safe } => {
                let symbol = if *is_null_safe { "==" } else { "=" };
                format!("{} {symbol} {}", self.expr(left), self.expr(right))
            }
            Node::Aggregate { op, arg, .. } => {
                format!("{}({})", crate::show::aggregate(*op), self.expr(arg))
            }
            Node::Exists { frame, .. } => format!("exists(frame {frame})"),
            Node::ExistsSelect { select, is_negated } => {
                let mut inner = String::new();
                self.select(select, 0, &mut inner);
                let inner = inner.trim_end().replace('\n', "; ");
                format!("{}exists({inner})", if *is_negated { "!" } else { "" })
            }
        }
    }
}
