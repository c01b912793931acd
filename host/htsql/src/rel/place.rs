//! Places: the FROM item that has the row of a space, joined when it is first needed.

use std::rc::Rc;

use super::build::{Builder, FrameId, FrameSource, Place, Via};
use super::{Expr, Join, Node};
use crate::catalog;
use crate::domain::Domain;
use crate::func::Op;
use crate::space::{SpaceId, Step};
use crate::value::Value;

pub(super) fn always() -> Expr {
    let value = Value::Boolean(true);
    Rc::new(Node::Literal { value, domain: Domain::Boolean, is_param: false })
}

/// The conjunction of conditions that may be absent.
pub(super) fn both(left: Option<Expr>, right: Option<Expr>) -> Option<Expr> {
    match (left, right) {
        (Some(left), Some(right)) => {
            Some(Rc::new(Node::Formula { op: Op::And, args: vec![left, right] }))
        }
        (one, other) => one.or(other),
    }
}

impl Builder<'_, '_> {
    /// The place of a space that is single on the frame's rows.
    pub(super) fn place(&mut self, frame: FrameId, space: SpaceId) -> Place {
        if let Some(place) = self.frames[frame].places.get(&space) {
            return place.clone();
        }
        if let Some((outer, ground)) = self.frames[frame].outer
            && self.arena.spans(ground, space)
        {
            return self.place(outer, space);
        }
        let place = self.find(frame, space);
        self.frames[frame].places.insert(space, place.clone());
        place
    }

    fn find(&mut self, frame: FrameId, space: SpaceId) -> Place {
        let Some(base) = self.arena.space(space).base else {
            return Place { via: Via::Nothing, mask: None, present: None, is_optional: false };
        };
        match self.arena.space(space).step.clone() {
            Step::Root | Step::Scalar => {
                let place = self.place(frame, base);
                Place { via: Via::Nothing, ..place }
            }
            Step::Filter(filter) => {
                let place = self.place(frame, base);
                let filter = self.value(frame, filter);
                Place {
                    via: place.via,
                    mask: both(place.mask, Some(filter.clone())),
                    present: both(place.present, Some(filter)),
                    is_optional: true,
                }
            }
            Step::Order { limit: None, offset: None, .. } => self.place(frame, base),
            Step::Order { .. } => self.among_limited(frame, space, base),
            Step::Fiber(join) => self.fiber(frame, base, join, Join::Left),
            _ => self.axis(frame, space, Join::Left),
        }
    }

    /// A row that counts only when it is among the limited rows of its space.
    fn among_limited(&mut self, frame: FrameId, space: SpaceId, base: SpaceId) -> Place {
        let inner = self.frame(None);
        self.enter(inner, space, None);
        for (code, _) in self.arena.weak_order(base) {
            let left = self.value(inner, code);
            let right = self.value(frame, code);
            let is_null_safe = left.is_nullable() || right.is_nullable();
            let same = Rc::new(Node::Same { left, right, is_null_safe });
            self.frames[inner].filters.push(same);
        }
        let exists: Expr = Rc::new(Node::Exists { frame: inner, is_negated: false });
        let place = self.place(frame, base);
        Place {
            via: place.via,
            mask: both(place.mask, Some(exists.clone())),
            present: both(place.present, Some(exists)),
            is_optional: true,
        }
    }

    /// Joins a linked table. A left join becomes an inner one where the link cannot miss.
    pub(super) fn fiber(
        &mut self,
        frame: FrameId,
        base: SpaceId,
        join: catalog::Join,
        kind: Join,
    ) -> Place {
        let catalog = self.arena.catalog;
        let origin = self.place(frame, base);
        let table = catalog.target(join);
        let is_total = catalog.is_expanding(join);
        let can_miss =
            kind == Join::Left && (origin.is_optional || origin.mask.is_some() || !is_total);
        let kind = if can_miss { Join::Left } else { Join::Inner };
        let columns = catalog.join_columns(join);
        let mut lefts = Vec::with_capacity(columns.len());
        for (column, _) in &columns {
            lefts.push(self.column_at(&origin, *column, catalog.origin(join)));
        }
        let alias = self.push(frame, kind, FrameSource::Table(table), Vec::new());
        let mut on: Vec<Expr> = Vec::with_capacity(columns.len() + 1);
        if kind == Join::Left {
            on.extend(origin.mask.clone());
        }
        for (left, (_, column)) in lefts.into_iter().zip(&columns) {
            let is_nullable = catalog.column(table, *column).nullable;
            let right = Rc::new(Node::Column { alias, table, column: *column, is_nullable });
            on.push(Rc::new(Node::Same { left, right, is_null_safe: false }));
        }
        if let Some(item) = self.frames[frame].items.iter_mut().find(|item| item.alias == alias) {
            item.on = on;
        }
        let present = if can_miss {
            columns.first().map(|(_, column)| {
                let column = *column;
                let node = Node::Column { alias, table, column, is_nullable: true };
                Rc::new(Node::IsNotNull(Rc::new(node)))
            })
        } else {
            None
        };
        let via = Via::Table { alias, table };
        Place { via, mask: None, present, is_optional: can_miss }
    }

    /// A column of the table at a place, without its mask.
    pub(super) fn column_at(
        &mut self,
        place: &Place,
        column: usize,
        table: catalog::TableId,
    ) -> Expr {
        match place.via {
            Via::Table { alias, table } => {
                let is_nullable =
                    place.is_optional || self.arena.catalog.column(table, column).nullable;
                Rc::new(Node::Column { alias, table, column, is_nullable })
            }
            Via::Frame { alias, frame, inner } => {
                let syn = self.arena.space(inner).syn.clone();
                let code = crate::space::Code::Column { space: inner, column };
                let code = self.arena.intern_code(code, &syn);
                self.export(frame, alias, code, place.is_optional)
            }
            Via::Nothing | Via::Group { .. } => {
                let domain = self.arena.catalog.column(table, column).domain.clone();
                Rc::new(Node::Literal { value: Value::Null, domain, is_param: false })
            }
        }
    }
}
