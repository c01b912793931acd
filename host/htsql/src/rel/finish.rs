//! Finishes frames: puts FROM items into an order in which each refers only to earlier ones, and
//! replaces frames by the SELECTs they have become.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::build::{Builder, FrameId, FrameSource};
use super::{Alias, Expr, Item, Key, Node, Select, Source};

impl Builder<'_, '_> {
    /// The simplified SELECT of a frame.
    pub(super) fn finished(&self, frame: FrameId) -> Select {
        let mut select = self.finish(frame);
        super::simplify::simplify(&mut select);
        select
    }

    /// The SELECT of a frame.
    pub(super) fn finish(&self, frame: FrameId) -> Select {
        let built = &self.frames[frame];
        let mut rest: Vec<Item> = built
            .items
            .iter()
            .map(|item| {
                let source = match item.source {
                    FrameSource::Table(table) => Source::Table(table),
                    FrameSource::Frame(inner) => Source::Select(Box::new(self.finish(inner))),
                };
                Item {
                    join: item.join,
                    alias: item.alias,
                    source,
                    on: item.on.iter().map(|on| self.resolve(on)).collect(),
                    is_lateral: false,
                }
            })
            .collect();
        let own: BTreeSet<Alias> = rest.iter().map(|item| item.alias).collect();
        let mut from: Vec<Item> = Vec::with_capacity(rest.len());
        let mut known: BTreeSet<Alias> = BTreeSet::new();
        while !rest.is_empty() {
            let ready = rest.iter().position(|item| {
                let used = item_aliases(item);
                used.iter().all(|a| *a == item.alias || !own.contains(a) || known.contains(a))
            });
            let mut item = rest.remove(ready.unwrap_or(0));
            item.is_lateral = match &item.source {
                Source::Table(_) => false,
                Source::Select(select) => {
                    let mut used = BTreeSet::new();
                    select_aliases(select, &mut used);
                    !used.is_empty()
                }
            };
            known.insert(item.alias);
            from.push(item);
        }
        let keys = |keys: &[Key]| {
            keys.iter()
                .map(|key| Key { expr: self.resolve(&key.expr), is_descending: key.is_descending })
                .collect()
        };
        Select {
            columns: built.columns.iter().map(|column| self.resolve(column)).collect(),
            from,
            filters: built.filters.iter().map(|filter| self.resolve(filter)).collect(),
            group: built.group.clone(),
            order: keys(&built.order),
            limit: built.limit,
            offset: built.offset,
        }
    }

    /// Replaces frames in an expression.
    pub(super) fn resolve(&self, expr: &Expr) -> Expr {
        let all = |args: &[Expr]| args.iter().map(|arg| self.resolve(arg)).collect();
        Rc::new(match &**expr {
            Node::Column { .. } | Node::Output { .. } | Node::Literal { .. } => {
                return expr.clone();
            }
            Node::Cast { from, to, arg } => {
                Node::Cast { from: from.clone(), to: to.clone(), arg: self.resolve(arg) }
            }
            Node::Formula { op, args } => Node::Formula { op: *op, args: all(args) },
            Node::Mask { condition, value } => {
                Node::Mask { condition: self.resolve(condition), value: self.resolve(value) }
            }
            Node::IsNotNull(arg) => Node::IsNotNull(self.resolve(arg)),
            Node::OrZero(arg) => Node::OrZero(self.resolve(arg)),
            Node::Same { left, right, is_null_safe } => Node::Same {
                left: self.resolve(left),
                right: self.resolve(right),
                is_null_safe: *is_null_safe,
            },
            Node::Aggregate { op, arg, delimiter, order } => Node::Aggregate {
                op: *op,
                arg: self.resolve(arg),
                delimiter: delimiter.as_ref().map(|d| self.resolve(d)),
                order: order
                    .iter()
                    .map(|k| Key { expr: self.resolve(&k.expr), is_descending: k.is_descending })
                    .collect(),
            },
            Node::Exists { frame, is_negated } => Node::ExistsSelect {
                select: Box::new(self.finish(*frame)),
                is_negated: *is_negated,
            },
            Node::ExistsSelect { select, is_negated } => {
                Node::ExistsSelect { select: select.clone(), is_negated: *is_negated }
            }
        })
    }
}

/// Aliases that an item refers to.
fn item_aliases(item: &Item) -> BTreeSet<Alias> {
    let mut used = BTreeSet::new();
    if let Source::Select(select) = &item.source {
        select_aliases(select, &mut used);
    }
    for on in &item.on {
        aliases(on, &mut used);
    }
    used
}

/// Aliases that a SELECT refers to from outside of it.
pub(super) fn select_aliases(select: &Select, used: &mut BTreeSet<Alias>) {
    let mut inside = BTreeSet::new();
    let keys = select.order.iter().map(|key| &key.expr);
    for expr in select.columns.iter().chain(&select.filters).chain(keys) {
        aliases(expr, &mut inside);
    }
    for item in &select.from {
        inside.append(&mut item_aliases(item));
    }
    for item in &select.from {
        inside.remove(&item.alias);
    }
    used.append(&mut inside);
}

pub(super) fn aliases(expr: &Expr, used: &mut BTreeSet<Alias>) {
    match &**expr {
        Node::Column { alias, .. } | Node::Output { alias, .. } => {
            used.insert(*alias);
        }
        Node::Literal { .. } | Node::Exists { .. } => {}
        Node::Cast { arg, .. } | Node::IsNotNull(arg) | Node::OrZero(arg) => {
            aliases(arg, used);
        }
        Node::Formula { args, .. } => args.iter().for_each(|arg| aliases(arg, used)),
        Node::Mask { condition, value } => {
            aliases(condition, used);
            aliases(value, used);
        }
        Node::Same { left, right, .. } => {
            aliases(left, used);
            aliases(right, used);
        }
        Node::Aggregate { arg, delimiter, order, .. } => {
            aliases(arg, used);
            delimiter.iter().for_each(|d| aliases(d, used));
            order.iter().for_each(|key| aliases(&key.expr, used));
        }
        Node::ExistsSelect { select, .. } => select_aliases(select, used),
    }
}
