//! Simplifies SELECTs: takes plain sub-selects apart, and turns correlated aggregates into grouped
//! joins.
//!
//! Both only change how PostgreSQL finds the rows, never which. A correlated aggregate is computed
//! anew for every row around it; grouped, it is computed once for all of them.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::finish::{aliases, select_aliases};
use super::{Alias, Expr, Item, Join, Key, Node, Select, Source};

/// Rows around an aggregate up to which it stays correlated.
const FEW: u64 = 50;

/// Simplifies a SELECT and what is inside of it.
pub(super) fn simplify(select: &mut Select) {
    for expr in expressions(select) {
        *expr = inner_expressions(expr);
    }
    for item in &mut select.from {
        if let Source::Select(inner) = &mut item.source {
            simplify(inner);
        }
    }
    flatten(select);
    let few_go_in = select.from.iter().any(|item| match &item.source {
        Source::Select(inner) => inner.limit.is_some_and(|n| n <= FEW),
        Source::Table(_) => false,
    });
    if !few_go_in {
        let few_go_out = select.limit.is_some_and(|n| n <= FEW);
        // Which rows those are may take the aggregates of all.
        let mut decisive = BTreeSet::new();
        for expr in select.filters.iter().chain(select.order.iter().map(|key| &key.expr)) {
            aliases(expr, &mut decisive);
        }
        let own: BTreeSet<Alias> = select.from.iter().map(|item| item.alias).collect();
        for item in &mut select.from {
            if !few_go_out || decisive.contains(&item.alias) {
                group(item, &own);
            }
        }
    }
    mark_lateral(select);
}

/// Simplifies SELECTs inside of an expression.
fn inner_expressions(expr: &Expr) -> Expr {
    map(expr, &|node| match node {
        Node::ExistsSelect { select, is_negated } => {
            let mut select = select.clone();
            simplify(&mut select);
            Some(Rc::new(Node::ExistsSelect { select, is_negated: *is_negated }))
        }
        _ => None,
    })
}

fn mark_lateral(select: &mut Select) {
    for item in &mut select.from {
        item.is_lateral = match &item.source {
            Source::Table(_) => false,
            Source::Select(inner) => {
                let mut used = BTreeSet::new();
                select_aliases(inner, &mut used);
                !used.is_empty()
            }
        };
    }
}

/// The expressions of a SELECT itself.
fn expressions(select: &mut Select) -> impl Iterator<Item = &mut Expr> {
    let ons = select.from.iter_mut().flat_map(|item| item.on.iter_mut());
    let keys = select.order.iter_mut().map(|key| &mut key.expr);
    select.columns.iter_mut().chain(&mut select.filters).chain(ons).chain(keys)
}

/// Rebuilds an expression, with nodes replaced where `replace` gives another one.
fn map(expr: &Expr, replace: &dyn Fn(&Node) -> Option<Expr>) -> Expr {
    if let Some(other) = replace(expr) {
        return other;
    }
    let go = |expr: &Expr| map(expr, replace);
    Rc::new(match &**expr {
        Node::Column { .. } | Node::Output { .. } | Node::Literal { .. } | Node::Exists { .. } => {
            return expr.clone();
        }
        Node::Cast { from, to, arg } => {
            Node::Cast { from: from.clone(), to: to.clone(), arg: go(arg) }
        }
        Node::Formula { op, args } => {
            Node::Formula { op: *op, args: args.iter().map(go).collect() }
        }
        Node::Mask { condition, value } => {
            Node::Mask { condition: go(condition), value: go(value) }
        }
        Node::IsNotNull(arg) => Node::IsNotNull(go(arg)),
        Node::OrZero(arg) => Node::OrZero(go(arg)),
        Node::Same { left, right, is_null_safe } => {
            Node::Same { left: go(left), right: go(right), is_null_safe: *is_null_safe }
        }
        Node::Aggregate { op, arg, delimiter, order } => Node::Aggregate {
            op: *op,
            arg: go(arg),
            delimiter: delimiter.as_ref().map(go),
            order: order
                .iter()
                .map(|key| Key { expr: go(&key.expr), is_descending: key.is_descending })
                .collect(),
        },
        Node::ExistsSelect { select, is_negated } => {
            let mut select = select.clone();
            map_select(&mut select, replace);
            Node::ExistsSelect { select, is_negated: *is_negated }
        }
    })
}

fn map_select(select: &mut Select, replace: &dyn Fn(&Node) -> Option<Expr>) {
    for expr in expressions(select) {
        *expr = map(expr, replace);
    }
    for item in &mut select.from {
        if let Source::Select(inner) = &mut item.source {
            map_select(inner, replace);
        }
    }
}

// Plain sub-selects.

fn is_plain(select: &Select) -> bool {
    select.group.is_empty()
        && select.limit.is_none()
        && select.offset.is_none()
        && !is_aggregate(select)
        && select.from.first().is_some_and(|item| item.join == Join::Inner)
}

fn is_aggregate(select: &Select) -> bool {
    select.columns.iter().any(|column| matches!(&**column, Node::Aggregate { .. }))
}

/// Replaces inner-joined plain sub-selects by what they select from.
fn flatten(select: &mut Select) {
    let mut at = 0;
    while at < select.from.len() {
        let is_candidate = select.from[at].join == Join::Inner
            && matches!(&select.from[at].source, Source::Select(inner) if is_plain(inner));
        if !is_candidate {
            at += 1;
            continue;
        }
        let Item { alias, source, on, .. } = select.from.remove(at);
        let Source::Select(inner) = source else {
            continue;
        };
        let Select { columns, from, filters, .. } = *inner;
        let added = from.len();
        select.from.splice(at..at, from);
        select.filters.extend(on);
        select.filters.extend(filters);
        map_select(select, &|node| match node {
            Node::Output { alias: used, index, .. } if *used == alias => {
                columns.get(*index).cloned()
            }
            _ => None,
        });
        at += added;
    }
}

// Aggregates.

/// Groups an aggregate by what it is correlated with, where that is only equalities with values
/// of the SELECT around (whose items are `around`).
fn group(item: &mut Item, around: &BTreeSet<Alias>) {
    let Source::Select(select) = &mut item.source else {
        return;
    };
    if item.join != Join::Inner
        || !item.on.is_empty()
        || !select.group.is_empty()
        || select.limit.is_some()
        || !is_aggregate(select)
    {
        return;
    }
    let own: BTreeSet<Alias> = select.from.iter().map(|item| item.alias).collect();
    let is_own = |expr: &Expr| {
        let mut used = BTreeSet::new();
        aliases(expr, &mut used);
        used.iter().all(|alias| own.contains(alias))
    };
    let is_outer = |expr: &Expr| {
        let mut used = BTreeSet::new();
        aliases(expr, &mut used);
        !used.is_empty() && used.iter().all(|alias| around.contains(alias))
    };
    let has_own = |expr: &Expr| {
        let mut used = BTreeSet::new();
        aliases(expr, &mut used);
        !used.is_empty() && is_own(expr)
    };
    let split = |filter: &Expr| match &**filter {
        Node::Same { left, right, is_null_safe: false } => {
            if has_own(left) && is_outer(right) {
                Some((left.clone(), right.clone()))
            } else if has_own(right) && is_outer(left) {
                Some((right.clone(), left.clone()))
            } else {
                None
            }
        }
        _ => None,
    };
    // Everything but those equalities must be the aggregate's own.
    let mut pairs = Vec::new();
    for (index, inner) in select.from.iter().enumerate() {
        if let Source::Select(nested) = &inner.source {
            let mut used = BTreeSet::new();
            select_aliases(nested, &mut used);
            if !used.iter().all(|alias| own.contains(alias)) {
                return;
            }
        }
        for on in &inner.on {
            if is_own(on) {
                continue;
            }
            match split(on) {
                Some(pair) if inner.join == Join::Inner || index == 0 => pairs.push(pair),
                _ => return,
            }
        }
    }
    for filter in &select.filters {
        if is_own(filter) {
            continue;
        }
        match split(filter) {
            Some(pair) => pairs.push(pair),
            None => return,
        }
    }
    if pairs.is_empty() || !select.columns.iter().all(is_own) {
        return;
    }
    for inner in &mut select.from {
        inner.on.retain(|on| is_own(on));
    }
    select.filters.retain(|filter| is_own(filter));
    for (own, outer) in pairs {
        let index = select.columns.len();
        select.columns.push(own);
        select.group.push(index);
        let left = Rc::new(Node::Output { alias: item.alias, index, is_nullable: true });
        item.on.push(Rc::new(Node::Same { left, right: outer, is_null_safe: false }));
    }
    item.join = Join::Left;
}
