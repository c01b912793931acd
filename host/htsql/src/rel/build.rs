//! Frames: SELECTs under construction.
//!
//! A frame is built for a trunk, the space whose rows it gives. What its expressions need beside
//! the trunk is joined when it is asked for. A frame inside of another may use every row that is
//! single on its *ground*: those come from the frame around it.

use std::collections::HashMap;

use super::{Alias, Expr, Join, Key};
use crate::catalog::TableId;
use crate::space::{Arena, CodeId, SpaceId, Step};

pub(super) type FrameId = usize;

/// Where the rows of a space are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) via: Via,
    /// A condition to check before a value may be used, where the row is there but does not count.
    pub(super) mask: Option<Expr>,
    /// Whether the row exists; `None` when it always does.
    pub(super) present: Option<Expr>,
    /// Whether columns are NULL for some rows of the frame.
    pub(super) is_optional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// A row without columns.
    Nothing,
    Table {
        alias: Alias,
        table: TableId,
    },
    /// A frame whose rows are those of `inner`; values are exported from it.
    Frame {
        alias: Alias,
        frame: FrameId,
        inner: SpaceId,
    },
    /// A grouped frame whose first columns are the kernels.
    Group {
        alias: Alias,
    },
}

pub(super) struct FrameItem {
    pub(super) join: Join,
    pub(super) alias: Alias,
    pub(super) source: FrameSource,
    pub(super) on: Vec<Expr>,
}

#[derive(Clone, Copy)]
pub(super) enum FrameSource {
    Table(TableId),
    Frame(FrameId),
}

#[derive(Default)]
pub(super) struct Frame {
    /// The frame around, and the space whose single rows it supplies.
    pub(super) outer: Option<(FrameId, SpaceId)>,
    pub(super) items: Vec<FrameItem>,
    pub(super) filters: Vec<Expr>,
    pub(super) group: Vec<usize>,
    pub(super) order: Vec<Key>,
    pub(super) limit: Option<u64>,
    pub(super) offset: Option<u64>,
    pub(super) columns: Vec<Expr>,
    /// Columns by the code they hold.
    pub(super) exports: HashMap<CodeId, usize>,
    pub(super) places: HashMap<SpaceId, Place>,
    /// Values computed in the frame.
    pub(super) values: HashMap<CodeId, Expr>,
    /// Frames of aggregates by base and plural space.
    pub(super) aggregates: HashMap<(SpaceId, SpaceId), (Alias, FrameId)>,
}

pub(super) struct Builder<'a, 'c> {
    pub(super) arena: &'a mut Arena<'c>,
    pub(super) frames: Vec<Frame>,
    aliases: Alias,
}

impl<'a, 'c> Builder<'a, 'c> {
    pub(super) fn new(arena: &'a mut Arena<'c>) -> Builder<'a, 'c> {
        Builder { arena, frames: Vec::new(), aliases: 0 }
    }

    pub(super) fn frame(&mut self, outer: Option<(FrameId, SpaceId)>) -> FrameId {
        self.frames.push(Frame { outer, ..Frame::default() });
        self.frames.len() - 1
    }

    pub(super) fn alias(&mut self) -> Alias {
        self.aliases += 1;
        self.aliases
    }

    pub(super) fn push(
        &mut self,
        frame: FrameId,
        join: Join,
        source: FrameSource,
        on: Vec<Expr>,
    ) -> Alias {
        let alias = self.alias();
        self.frames[frame].items.push(FrameItem { join, alias, source, on });
        alias
    }

    /// Makes the rows of a space rows of the frame. `anchor`: a space that already is the trunk of
    /// the frame, to go on from.
    pub(super) fn enter(&mut self, frame: FrameId, space: SpaceId, anchor: Option<SpaceId>) {
        let from_outer =
            self.frames[frame].outer.is_some_and(|(_, ground)| self.arena.spans(ground, space));
        if from_outer || anchor.is_some_and(|anchor| self.arena.spans(anchor, space)) {
            let mut place = self.place(frame, space);
            if let Some(present) = place.present.take() {
                self.frames[frame].filters.push(present);
                place.mask = None;
            }
            if !from_outer {
                self.frames[frame].values.clear();
            }
            self.frames[frame].places.insert(space, place);
            return;
        }
        let Some(base) = self.arena.space(space).base else {
            let place = Place { via: Via::Nothing, mask: None, present: None, is_optional: false };
            self.frames[frame].places.insert(space, place);
            return;
        };
        self.enter(frame, base, anchor);
        let step = self.arena.space(space).step.clone();
        let place = match step {
            Step::Root | Step::Scalar => {
                Place { via: Via::Nothing, mask: None, present: None, is_optional: false }
            }
            Step::Filter(filter) => {
                let filter = self.value(frame, filter);
                self.frames[frame].filters.push(filter);
                self.place(frame, base)
            }
            Step::Order { limit: None, offset: None, .. } => self.place(frame, base),
            Step::Order { limit, offset, .. } => {
                self.wrap(frame, space, base, limit, offset);
                self.place(frame, base)
            }
            Step::Table(table) => {
                let alias = self.push(frame, Join::Inner, FrameSource::Table(table), Vec::new());
                let via = Via::Table { alias, table };
                Place { via, mask: None, present: None, is_optional: false }
            }
            Step::Fiber(join) => self.fiber(frame, base, join, Join::Inner),
            _ => self.axis(frame, space, Join::Inner),
        };
        self.frames[frame].places.insert(space, place);
    }

    /// Turns what the frame has so far into a limited sub-select.
    fn wrap(
        &mut self,
        frame: FrameId,
        space: SpaceId,
        base: SpaceId,
        limit: Option<u64>,
        offset: Option<u64>,
    ) {
        let outer = self.frames[frame].outer;
        let taken = std::mem::replace(&mut self.frames[frame], Frame { outer, ..Frame::default() });
        let own: Vec<Alias> = taken.items.iter().map(|item| item.alias).collect();
        let places = taken.places.clone();
        self.frames.push(taken);
        let inner = self.frames.len() - 1;
        for other in &mut self.frames {
            if let Some((around, _)) = &mut other.outer
                && *around == frame
            {
                *around = inner;
            }
        }
        if let Some(place) = places.get(&base) {
            self.frames[inner].places.insert(space, place.clone());
        }
        let order = self.arena.full_order(space);
        let order = self.keys(inner, order);
        self.frames[inner].order = order;
        self.frames[inner].limit = limit;
        self.frames[inner].offset = offset;
        let alias = self.push(frame, Join::Inner, FrameSource::Frame(inner), Vec::new());
        for (space, place) in places {
            let is_own = match place.via {
                Via::Nothing => false,
                Via::Table { alias, .. } | Via::Frame { alias, .. } | Via::Group { alias } => {
                    own.contains(&alias)
                }
            };
            let place = if is_own {
                let present = place.present.map(|present| self.export_expr(inner, alias, present));
                let mask = place.mask.map(|mask| self.export_expr(inner, alias, mask));
                let via = Via::Frame { alias, frame: inner, inner: space };
                Place { via, present, mask, is_optional: place.is_optional }
            } else {
                place
            };
            self.frames[frame].places.insert(space, place);
        }
    }

    /// Sort keys as expressions of a frame; constants are left out.
    pub(super) fn keys(&mut self, frame: FrameId, order: Vec<(CodeId, bool)>) -> Vec<Key> {
        let mut keys = Vec::with_capacity(order.len());
        for (code, is_descending) in order {
            if self.arena.units(code).is_empty() {
                continue;
            }
            keys.push(Key { expr: self.value(frame, code), is_descending });
        }
        keys
    }
}
