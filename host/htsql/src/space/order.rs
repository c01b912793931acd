//! The order of the rows of a space.
//!
//! Strong order is what the query asks for, weak order what makes it total: identities of tables,
//! kernels of quotients, the order of the seeds of covering spaces.

use super::{Arena, Code, CodeId, Family, SpaceId, Step};
use crate::catalog::{Element, Identity, TableId};

/// Sort keys, with whether they descend.
pub(crate) type Order = Vec<(CodeId, bool)>;

impl Arena<'_> {
    /// The full order, without repetitions.
    pub(crate) fn full_order(&mut self, id: SpaceId) -> Order {
        let mut order = Vec::new();
        self.order(id, true, true, &mut order);
        unique(order)
    }

    /// The keys that tell the rows of a space apart.
    pub(crate) fn weak_order(&mut self, id: SpaceId) -> Order {
        let mut order = Vec::new();
        self.order(id, false, true, &mut order);
        unique(order)
    }

    fn order(&mut self, id: SpaceId, strong: bool, weak: bool, out: &mut Order) {
        let Some(base) = self.space(id).base else {
            return;
        };
        match self.space(id).step.clone() {
            Step::Filter(_) => self.order(base, strong, weak, out),
            Step::Order { order, .. } => {
                if strong {
                    self.order(base, true, false, out);
                    out.extend(order);
                }
                if weak {
                    self.order(base, false, true, out);
                }
            }
            step => {
                self.order(base, strong, weak, out);
                if weak && !self.space(id).is_contracting {
                    self.own_order(id, base, &step, out);
                }
            }
        }
    }

    fn own_order(&mut self, id: SpaceId, base: SpaceId, step: &Step, out: &mut Order) {
        let syn = self.space(id).syn.clone();
        match step {
            Step::Table(_) | Step::Fiber(_) => {
                if let Family::Table(table) = self.space(id).family {
                    out.extend(self.table_order(id, table));
                }
            }
            Step::Quotient { kernels, .. } => {
                for index in 0..kernels.len() {
                    let code = self.intern_code(Code::Kernel { space: id, index }, &syn);
                    out.push((code, false));
                }
            }
            Step::Complement { seed, .. }
            | Step::Moniker { seed }
            | Step::Fork { seed, .. }
            | Step::Attach { seed, .. }
            | Step::Clip { seed, .. }
            | Step::Locate { seed, .. } => {
                // The seed of a fork is its base: other rows of it, below the same parent.
                let parent = match step {
                    Step::Fork { .. } => self.parent(*seed),
                    _ => base,
                };
                for (code, is_descending) in self.full_order(*seed) {
                    if !self.is_singular(parent, code) {
                        let code = self.intern_code(Code::Cover { space: id, code }, &syn);
                        out.push((code, is_descending));
                    }
                }
            }
            _ => {}
        }
    }

    /// The space below the axis of a space.
    pub(crate) fn parent(&self, id: SpaceId) -> SpaceId {
        let axis = self.axis(id);
        self.space(axis).base.unwrap_or(axis)
    }

    /// Whether all units of a code are single values on a space.
    pub(crate) fn is_singular(&self, space: SpaceId, code: CodeId) -> bool {
        self.units(code)
            .iter()
            .filter_map(|unit| self.unit_space(*unit))
            .all(|unit| self.spans(space, unit))
    }

    /// The identity of a table, else its first total key, else all columns.
    fn table_order(&mut self, id: SpaceId, table: TableId) -> Order {
        let catalog = self.catalog;
        let mut codes = Vec::new();
        if let Some(identity) = catalog.identity(table) {
            self.leaves(id, identity, &mut codes);
        } else {
            let columns = catalog.row_key(table);
            let all = || (0..catalog.table(table).columns.len()).collect();
            for column in columns.unwrap_or_else(all) {
                codes.push(self.column(id, column));
            }
        }
        codes.into_iter().map(|code| (code, false)).collect()
    }

    fn leaves(&mut self, id: SpaceId, identity: &Identity, out: &mut Vec<CodeId>) {
        for element in &identity.elements {
            match element {
                Element::Column(column) => out.push(self.column(id, *column)),
                Element::Link(join, target) => {
                    let syn = self.space(id).syn.clone();
                    let space = self.intern_space(Some(id), Step::Fiber(*join), &syn);
                    self.leaves(space, target, out);
                }
            }
        }
    }

    fn column(&mut self, space: SpaceId, column: usize) -> CodeId {
        let syn = self.space(space).syn.clone();
        self.intern_code(Code::Column { space, column }, &syn)
    }
}

/// Drops keys that occurred before, and constants.
pub(crate) fn unique(order: Order) -> Order {
    let mut seen = Vec::new();
    let mut kept = Vec::with_capacity(order.len());
    for (code, is_descending) in order {
        if !seen.contains(&code) {
            seen.push(code);
            kept.push((code, is_descending));
        }
    }
    kept
}
