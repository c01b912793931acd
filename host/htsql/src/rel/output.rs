//! Output: the columns of each statement, how they become values, and the keys that stitch nested
//! segments to their parents.

use std::rc::Rc;

use super::build::{Builder, FrameId};
use super::{Expr, Node, Select};
use crate::domain::Domain;
use crate::func::{Op, SECOND};
use crate::plan::Shape;
use crate::space::{Code, CodeId, Output, Product, SegmentSpace};

/// The SELECTs of a query, with the shape of its product.
pub(crate) struct Fetch {
    /// `None` when the shape needs no columns of the root row.
    pub(crate) root: Option<Select>,
    pub(crate) shape: Shape,
    pub(crate) segments: Vec<SegmentSelect>,
}

pub(crate) struct SegmentSelect {
    pub(crate) parent: Option<usize>,
    pub(crate) select: Select,
    pub(crate) key: Vec<usize>,
    pub(crate) parent_key: Vec<usize>,
    pub(crate) item: Shape,
}

/// Plans the statements of a lowered query.
pub(crate) fn plan(product: &mut Product<'_>) -> Fetch {
    let Product { arena, root, output, segments } = product;
    let mut builder = Builder::new(arena);
    let frame = builder.frame(None);
    builder.enter(frame, *root, None);
    let shape = builder.shape(frame, output);
    let has_columns = !builder.frames[frame].columns.is_empty();
    let root = has_columns.then(|| builder.finished(frame));
    let mut planned: Vec<SegmentSelect> = Vec::with_capacity(segments.len());
    let mut frames: Vec<FrameId> = Vec::with_capacity(segments.len());
    for index in 0..segments.len() {
        let frame = builder.segment(segments, index);
        let item = builder.shape(frame, &segments[index].item);
        let keys = segments[index].parent.map(|parent| builder.row_key(segments, parent));
        let mut key = Vec::new();
        let mut parent_key = Vec::new();
        if let (Some(codes), Some(parent)) = (keys, segments[index].parent) {
            for code in codes {
                key.push(builder.key_column(frame, code));
                parent_key.push(builder.key_column(frames[parent], code));
            }
        }
        frames.push(frame);
        let parent = segments[index].parent;
        planned.push(SegmentSelect { parent, select: empty(), key, parent_key, item });
    }
    for (segment, frame) in planned.iter_mut().zip(frames) {
        if builder.frames[frame].columns.is_empty() {
            builder.frames[frame].columns.push(super::place::always());
        }
        segment.select = builder.finished(frame);
    }
    Fetch { root, shape, segments: planned }
}

fn empty() -> Select {
    Select {
        columns: Vec::new(),
        from: Vec::new(),
        filters: Vec::new(),
        group: Vec::new(),
        order: Vec::new(),
        limit: None,
        offset: None,
    }
}

impl Builder<'_, '_> {
    /// The frame of a segment: the rows of its parents, then its own, in the order of all.
    fn segment(&mut self, segments: &[SegmentSpace], index: usize) -> FrameId {
        let frame = self.frame(None);
        let mut order = Vec::new();
        let mut anchor = None;
        for at in lineage(segments, index) {
            let segment = &segments[at];
            self.enter(frame, segment.space, anchor);
            for code in &segment.required {
                let value = self.value(frame, *code);
                if value.is_nullable() {
                    self.frames[frame].filters.push(Rc::new(Node::IsNotNull(value)));
                }
            }
            order.extend(self.arena.full_order(segment.space));
            anchor = Some(segment.space);
        }
        let order = crate::space::unique(order);
        let order = self.keys(frame, order);
        self.frames[frame].order = order;
        frame
    }

    /// The codes that tell the rows of a segment apart, over all its parents.
    fn row_key(&mut self, segments: &[SegmentSpace], index: usize) -> Vec<CodeId> {
        let mut order = Vec::new();
        for at in lineage(segments, index) {
            order.extend(self.arena.weak_order(segments[at].space));
        }
        crate::space::unique(order).into_iter().map(|(code, _)| code).collect()
    }

    fn key_column(&mut self, frame: FrameId, code: CodeId) -> usize {
        let mut value = self.value(frame, code);
        // Keys are compared by the executor, which need not know every type.
        if let Some(domain @ (Domain::Enum(_) | Domain::Opaque(_) | Domain::Json)) =
            self.arena.column_domain(code)
        {
            let found = self.frames[frame].exports.get(&code).copied();
            if let Some(index) = found {
                return index;
            }
            value = Rc::new(Node::Cast { from: domain, to: Domain::Text, arg: value });
            let index = self.column_index(frame, value);
            self.frames[frame].exports.insert(code, index);
            return index;
        }
        self.column_index(frame, value)
    }

    fn column_index(&mut self, frame: FrameId, expr: Expr) -> usize {
        let columns = &mut self.frames[frame].columns;
        match columns.iter().position(|column| Rc::ptr_eq(column, &expr)) {
            Some(index) => index,
            None => {
                columns.push(expr);
                columns.len() - 1
            }
        }
    }

    /// Adds the columns of an output and says how they become its value.
    fn shape(&mut self, frame: FrameId, output: &Output) -> Shape {
        match output {
            Output::Void => Shape::Null,
            Output::Scalar { code, domain } => {
                let mut value = self.value(frame, *code);
                if matches!(domain, Domain::Enum(_) | Domain::Opaque(_)) {
                    let (from, to) = (domain.clone(), Domain::Text);
                    value = Rc::new(Node::Cast { from, to, arg: value });
                }
                let index = self.column_index(frame, value);
                let is_exact = matches!(
                    self.arena.code(*code),
                    Code::Formula { op: Op::Template(SECOND), .. }
                );
                let domain = if is_exact { Domain::Decimal } else { domain.clone() };
                Shape::Column { index, domain }
            }
            Output::Identity { labels } => Shape::Identity {
                labels: labels.iter().map(|label| self.shape(frame, label)).collect(),
            },
            Output::Record { space, fields } => {
                let indicator = self.indicator(frame, *space);
                let fields = fields.iter().map(|field| self.shape(frame, field)).collect();
                Shape::Record { indicator, fields }
            }
            Output::List { segment } => Shape::List { segment: *segment, indicator: None },
        }
    }

    fn indicator(&mut self, frame: FrameId, space: crate::space::SpaceId) -> Option<usize> {
        let present = self.place(frame, space).present?;
        Some(self.column_index(frame, present))
    }
}

/// The enclosing segments of a segment, outermost first, and itself.
fn lineage(segments: &[SegmentSpace], index: usize) -> Vec<usize> {
    let mut line = vec![index];
    let mut at = index;
    while let Some(parent) = segments[at].parent {
        line.push(parent);
        at = parent;
    }
    line.reverse();
    line
}
