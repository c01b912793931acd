//! Values: codes as expressions of a frame.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use super::build::{Builder, FrameId, FrameSource, Place, Via};
use super::finish::aliases;
use super::{Alias, Expr, Join, Node};
use crate::domain::Domain;
use crate::func::{Aggregate, Op};
use crate::space::{Arena, Code, CodeId, SpaceId, Step};
use crate::value::Value;

impl Builder<'_, '_> {
    /// The value of a code on the frame's rows.
    pub(super) fn value(&mut self, frame: FrameId, code: CodeId) -> Expr {
        if let Some(value) = self.frames[frame].values.get(&code) {
            return value.clone();
        }
        let value = self.compute(frame, code);
        self.frames[frame].values.insert(code, value.clone());
        value
    }

    fn compute(&mut self, frame: FrameId, id: CodeId) -> Expr {
        match self.arena.code(id).clone() {
            Code::Literal { value, domain, is_param } => {
                Rc::new(Node::Literal { value, domain, is_param })
            }
            Code::Cast { from, to, arg } => {
                let arg = self.value(frame, arg);
                Rc::new(Node::Cast { from, to, arg })
            }
            Code::Formula { op, args } => {
                let args: Vec<Expr> = args.into_iter().map(|arg| self.value(frame, arg)).collect();
                if let (Op::If, [condition, value]) = (op, args.as_slice())
                    && condition.is_true()
                {
                    return value.clone();
                }
                Rc::new(Node::Formula { op, args })
            }
            Code::Column { space, column } => self.column(frame, space, column),
            Code::Kernel { space, index } => {
                let place = self.place(frame, space);
                let value = match place.via {
                    Via::Group { alias } => {
                        let is_nullable = place.is_optional;
                        Rc::new(Node::Output { alias, index, is_nullable })
                    }
                    Via::Frame { alias, frame: inner, inner: seed } => {
                        let syn = self.arena.code_syn(id).clone();
                        let code = Code::Kernel { space: seed, index };
                        let code = self.arena.intern_code(code, &syn);
                        self.export(inner, alias, code, place.is_optional)
                    }
                    Via::Nothing | Via::Table { .. } => null(),
                };
                masked(&place, value)
            }
            Code::Present { space } => self.present(frame, space),
            Code::Cover { space, code } => {
                let place = self.place(frame, space);
                let value = match place.via {
                    Via::Frame { alias, frame: inner, inner: seed } => {
                        // A limited sub-select stands before the covering one: pass it on.
                        let axis = self.arena.axis(space);
                        let code = if self.arena.axis(seed) == axis {
                            let syn = self.arena.code_syn(id).clone();
                            self.arena.intern_code(Code::Cover { space: seed, code }, &syn)
                        } else {
                            code
                        };
                        self.export(inner, alias, code, place.is_optional)
                    }
                    _ => self.value(frame, code),
                };
                masked(&place, value)
            }
            Code::Aggregate { op, space, plural, arg, delimiter } => {
                self.aggregate(frame, id, op, (space, plural), arg, delimiter)
            }
        }
    }

    fn column(&mut self, frame: FrameId, space: SpaceId, column: usize) -> Expr {
        if let Some((base, origin)) = self.foreign_column(space, column) {
            let syn = self.arena.space(space).syn.clone();
            let code = Code::Column { space: base, column: origin };
            let code = self.arena.intern_code(code, &syn);
            return self.value(frame, code);
        }
        let place = self.place(frame, space);
        let crate::space::Family::Table(table) = self.arena.space(space).family else {
            return null();
        };
        let value = self.column_at(&place, column, table);
        masked(&place, value)
    }

    /// The column of the base that equals a key column of a linked row, whether or not the link
    /// misses.
    fn foreign_column(&self, space: SpaceId, column: usize) -> Option<(SpaceId, usize)> {
        let (base, join) = match self.arena.space(space) {
            s if matches!(s.step, Step::Fiber(join) if join.is_direct) => match s.step {
                Step::Fiber(join) => (s.base?, join),
                _ => return None,
            },
            _ => return None,
        };
        let catalog = self.arena.catalog;
        let columns = catalog.join_columns(join);
        if columns.len() > 1 && !catalog.is_expanding(join) {
            return None;
        }
        let (origin, _) = columns.iter().find(|(_, target)| *target == column)?;
        let (own, other) = (
            catalog.column(catalog.origin(join), *origin),
            catalog.column(catalog.target(join), column),
        );
        (own.sql_type == other.sql_type).then_some((base, *origin))
    }

    /// Whether the row of a space exists.
    fn present(&mut self, frame: FrameId, space: SpaceId) -> Expr {
        if let Step::Fiber(join) = self.arena.space(space).step
            && join.is_direct
            && let Some(base) = self.arena.space(space).base
        {
            let catalog = self.arena.catalog;
            if let [(origin, _)] = catalog.join_columns(join).as_slice()
                && !self.frames[frame].places.contains_key(&space)
            {
                let syn = self.arena.space(space).syn.clone();
                let code = Code::Column { space: base, column: *origin };
                let code = self.arena.intern_code(code, &syn);
                let value = self.value(frame, code);
                return Rc::new(Node::IsNotNull(value));
            }
        }
        self.place(frame, space).present.unwrap_or_else(super::place::always)
    }

    // Exports.

    /// A value of a sub-select's rows as a column of it.
    pub(super) fn export(
        &mut self,
        inner: FrameId,
        alias: Alias,
        code: CodeId,
        is_optional: bool,
    ) -> Expr {
        let value = self.value(inner, code);
        let index = match self.frames[inner].exports.get(&code) {
            Some(index) => *index,
            None => {
                let index = self.frames[inner].columns.len();
                self.frames[inner].columns.push(value.clone());
                self.frames[inner].exports.insert(code, index);
                index
            }
        };
        let is_nullable = is_optional || value.is_nullable();
        Rc::new(Node::Output { alias, index, is_nullable })
    }

    /// An expression of a sub-select as a column of it.
    pub(super) fn export_expr(&mut self, inner: FrameId, alias: Alias, expr: Expr) -> Expr {
        let columns = &mut self.frames[inner].columns;
        let index = match columns.iter().position(|column| Rc::ptr_eq(column, &expr)) {
            Some(index) => index,
            None => {
                columns.push(expr);
                columns.len() - 1
            }
        };
        Rc::new(Node::Output { alias, index, is_nullable: true })
    }

    // Aggregates.

    fn aggregate(
        &mut self,
        frame: FrameId,
        id: CodeId,
        op: Aggregate,
        (space, plural): (SpaceId, SpaceId),
        arg: CodeId,
        delimiter: Option<CodeId>,
    ) -> Expr {
        if let Some((outer, ground)) = self.frames[frame].outer
            && self.arena.spans(ground, space)
        {
            return self.value(outer, id);
        }
        let place = self.place(frame, space);
        if let Via::Frame { alias, frame: inner, inner: seed } = place.via
            && seed == space
            && self.frames[inner].values.contains_key(&id)
        {
            // A limited sub-select has computed it already, to sort or filter by it.
            let value = self.export(inner, alias, id, place.is_optional);
            return masked(&place, value);
        }
        let value = match op {
            Aggregate::Exists | Aggregate::Every => {
                let inner = self.seed(frame, space, plural);
                let mut test = self.value(inner, arg);
                if op == Aggregate::Every {
                    test = Rc::new(Node::Formula { op: Op::Not, args: vec![test] });
                }
                if !test.is_true() {
                    self.frames[inner].filters.push(test);
                }
                Rc::new(Node::Exists { frame: inner, is_negated: op == Aggregate::Every })
            }
            _ => self.aggregate_column(frame, op, (space, plural), arg, delimiter),
        };
        match &place.present {
            Some(present) => Rc::new(Node::Mask { condition: present.clone(), value }) as Expr,
            None => value,
        }
    }

    /// A value as one of the frame's own: PostgreSQL takes an aggregate of outer values alone for
    /// an aggregate of the outer SELECT.
    fn own_value(&mut self, frame: FrameId, value: Expr) -> Expr {
        let mut used = BTreeSet::new();
        aliases(&self.resolve(&value), &mut used);
        let is_own = self.frames[frame].items.iter().any(|item| used.contains(&item.alias));
        if is_own || used.is_empty() {
            return value;
        }
        let is_nullable = value.is_nullable();
        let inner = self.frame(None);
        self.frames[inner].columns.push(value);
        let alias = self.push(frame, Join::Inner, FrameSource::Frame(inner), Vec::new());
        Rc::new(Node::Output { alias, index: 0, is_nullable })
    }

    fn aggregate_column(
        &mut self,
        frame: FrameId,
        op: Aggregate,
        (space, plural): (SpaceId, SpaceId),
        arg: CodeId,
        delimiter: Option<CodeId>,
    ) -> Expr {
        // Aggregates of the same rows share a frame, unless they need one another's values.
        let is_shared = !Reach::new(self.arena, space, plural).code(arg);
        let found = self.frames[frame].aggregates.get(&(space, plural)).copied();
        let (alias, inner) = match found.filter(|_| is_shared) {
            Some(found) => found,
            None => {
                let inner = self.seed(frame, space, plural);
                let alias = self.push(frame, Join::Inner, FrameSource::Frame(inner), Vec::new());
                if is_shared {
                    self.frames[frame].aggregates.insert((space, plural), (alias, inner));
                }
                (alias, inner)
            }
        };
        let arg = self.value(inner, arg);
        let arg = self.own_value(inner, arg);
        let delimiter = delimiter.map(|delimiter| self.value(inner, delimiter));
        let mut order = Vec::new();
        if op == Aggregate::Join {
            let mut keys = self.arena.full_order(plural);
            keys.retain(|(code, _)| !self.arena.is_singular(space, *code));
            order = self.keys(inner, keys);
        }
        let node = Node::Aggregate { op, arg, delimiter, order };
        let is_nullable = node.is_nullable();
        let columns = &mut self.frames[inner].columns;
        columns.push(Rc::new(node));
        let index = columns.len() - 1;
        let output = Rc::new(Node::Output { alias, index, is_nullable });
        // Nothing to aggregate may become no row at all, when rows are grouped.
        if is_nullable { output } else { Rc::new(Node::OrZero(output)) }
    }
}

/// Whether an aggregate's argument needs values that the frame of its ground computes in
/// sub-selects.
struct Reach<'r, 'c> {
    arena: &'r Arena<'c>,
    ground: SpaceId,
    /// Spaces that are known not to.
    passed: HashSet<SpaceId>,
}

impl<'r, 'c> Reach<'r, 'c> {
    fn new(arena: &'r Arena<'c>, ground: SpaceId, plural: SpaceId) -> Reach<'r, 'c> {
        let passed = arena.chain(ground).into_iter().chain(arena.chain(plural)).collect();
        Reach { arena, ground, passed }
    }

    fn code(&mut self, code: CodeId) -> bool {
        let arena = self.arena;
        arena.units(code).iter().any(|unit| match arena.code(*unit) {
            Code::Aggregate { space, plural, arg, delimiter, .. } => {
                arena.spans(self.ground, *space)
                    || self.space(*plural)
                    || self.code(*arg)
                    || delimiter.is_some_and(|delimiter| self.code(delimiter))
            }
            Code::Cover { space, code } => self.space(*space) || self.code(*code),
            _ => arena.unit_space(*unit).is_some_and(|space| self.space(space)),
        })
    }

    fn space(&mut self, space: SpaceId) -> bool {
        self.arena.chain(space).into_iter().any(|id| {
            if !self.passed.insert(id) {
                return false;
            }
            let step = &self.arena.space(id).step;
            if !matches!(step, Step::Root | Step::Scalar | Step::Table(_) | Step::Fiber(_))
                && self.arena.spans(self.ground, id)
            {
                return true;
            }
            match step {
                Step::Root | Step::Scalar | Step::Table(_) | Step::Fiber(_) => false,
                Step::Quotient { seed, kernels }
                | Step::Complement { seed, kernels }
                | Step::Fork { seed, kernels } => {
                    self.space(*seed) || kernels.iter().any(|kernel| self.code(*kernel))
                }
                Step::Moniker { seed } | Step::Clip { seed, .. } => self.space(*seed),
                Step::Attach { seed, images, filter } => {
                    self.space(*seed)
                        || images.iter().any(|(a, b)| self.code(*a) || self.code(*b))
                        || filter.is_some_and(|filter| self.code(filter))
                }
                Step::Locate { seed, filter } => self.space(*seed) || self.code(*filter),
                Step::Filter(filter) => self.code(*filter),
                Step::Order { order, .. } => order.iter().any(|(key, _)| self.code(*key)),
            }
        })
    }
}

fn masked(place: &Place, value: Expr) -> Expr {
    match &place.mask {
        Some(mask) => Rc::new(Node::Mask { condition: mask.clone(), value }),
        None => value,
    }
}

fn null() -> Expr {
    let (value, domain) = (Value::Null, Domain::Untyped);
    Rc::new(Node::Literal { value, domain, is_param: false })
}
