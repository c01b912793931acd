//! Axes that need a sub-select: quotients, complements, monikers, forks, attachments, clips and
//! locators.

use std::rc::Rc;

use super::build::{Builder, FrameId, FrameSource, Place, Via};
use super::place::always;
use super::{Expr, Join, Node};
use crate::space::{Code, CodeId, SpaceId, Step};

impl Builder<'_, '_> {
    /// Joins the rows of an axis to those of its base, which the frame has or can join.
    pub(super) fn axis(&mut self, frame: FrameId, space: SpaceId, kind: Join) -> Place {
        let Some(base) = self.arena.space(space).base else {
            return Place { via: Via::Nothing, mask: None, present: None, is_optional: false };
        };
        let origin = self.place(frame, base);
        let can_miss = kind == Join::Left
            && (origin.is_optional
                || origin.mask.is_some()
                || !self.arena.space(space).is_expanding);
        let step = self.arena.space(space).step.clone();
        let (inner, seed) = match step {
            Step::Quotient { seed, kernels } => {
                let inner = self.group(frame, base, seed, &kernels);
                let join = if can_miss { Join::Left } else { Join::Inner };
                let alias = self.push(frame, join, FrameSource::Frame(inner), Vec::new());
                let present = can_miss.then(|| {
                    let index = 0;
                    let node = Node::Output { alias, index, is_nullable: true };
                    Rc::new(Node::IsNotNull(Rc::new(node))) as Expr
                });
                let via = Via::Group { alias };
                return Place { via, mask: None, present, is_optional: can_miss };
            }
            Step::Complement { seed, kernels } => {
                (self.complement(frame, base, seed, &kernels), seed)
            }
            Step::Moniker { seed } => (self.seed(frame, base, seed), seed),
            Step::Fork { seed, kernels } => (self.fork(frame, seed, &kernels), seed),
            Step::Attach { seed, images, filter } => {
                (self.attach(frame, base, seed, &images, filter), seed)
            }
            Step::Clip { seed, limit, offset } => {
                (self.clip(frame, base, seed, limit.unwrap_or(1), offset), seed)
            }
            Step::Locate { seed, filter } => {
                let inner = self.seed(frame, base, seed);
                let filter = self.value(inner, filter);
                self.frames[inner].filters.push(filter);
                (inner, seed)
            }
            // Tables are not single on anything; links are joined by `fiber`.
            _ => (self.seed(frame, base, space), space),
        };
        let join = if can_miss { Join::Left } else { Join::Inner };
        let mut on: Vec<Expr> = Vec::new();
        if can_miss {
            on.extend(origin.mask.clone());
        }
        let alias = self.push(frame, join, FrameSource::Frame(inner), on);
        let present = can_miss.then(|| {
            let flag = self.export_expr(inner, alias, always());
            Rc::new(Node::IsNotNull(flag)) as Expr
        });
        let via = Via::Frame { alias, frame: inner, inner: seed };
        Place { via, mask: None, present, is_optional: can_miss }
    }

    /// A frame of the rows of a seed that belong to the frame's row of the ground.
    ///
    /// A limit in the seed counts the rows of the whole flow, over all rows of the ground: such a
    /// seed is computed apart, and the rows that belong to the ground's are picked afterwards.
    pub(super) fn seed(&mut self, frame: FrameId, ground: SpaceId, seed: SpaceId) -> FrameId {
        let chain = self.arena.chain(seed);
        let shared = chain.iter().take_while(|id| self.arena.spans(ground, **id)).count();
        let is_limited = |id: &SpaceId| {
            let step = &self.arena.space(*id).step;
            matches!(step, Step::Order { limit, offset, .. } if limit.is_some() || offset.is_some())
        };
        let keys = match chain[..shared].last() {
            Some(last) if chain[shared..].iter().any(is_limited) => self.arena.weak_order(*last),
            _ => Vec::new(),
        };
        if keys.is_empty() {
            let inner = self.frame(Some((frame, ground)));
            self.enter(inner, seed, None);
            return inner;
        }
        let inner = self.frame(None);
        self.enter(inner, seed, None);
        for (key, _) in keys {
            let left = self.value(inner, key);
            let right = self.value(frame, key);
            let is_null_safe = left.is_nullable() && right.is_nullable();
            let same = Rc::new(Node::Same { left, right, is_null_safe });
            self.frames[inner].filters.push(same);
        }
        inner
    }

    /// Unique kernels of the seed, without NULLs.
    fn group(
        &mut self,
        frame: FrameId,
        base: SpaceId,
        seed: SpaceId,
        kernels: &[CodeId],
    ) -> FrameId {
        let inner = self.seed(frame, base, seed);
        for kernel in kernels {
            let expr = self.value(inner, *kernel);
            if expr.is_nullable() {
                let filter = Rc::new(Node::IsNotNull(expr.clone()));
                self.frames[inner].filters.push(filter);
            }
            self.frames[inner].columns.push(expr);
        }
        self.frames[inner].group = (0..kernels.len()).collect();
        inner
    }

    /// Rows of the seed that have the kernels of the base's row.
    fn complement(
        &mut self,
        frame: FrameId,
        base: SpaceId,
        seed: SpaceId,
        kernels: &[CodeId],
    ) -> FrameId {
        let ground = self.arena.parent(base);
        let inner = self.seed(frame, ground, seed);
        for (index, kernel) in kernels.iter().enumerate() {
            let syn = self.arena.space(base).syn.clone();
            let own = self.arena.intern_code(Code::Kernel { space: base, index }, &syn);
            let right = self.value(frame, own);
            let left = self.value(inner, *kernel);
            let same = Rc::new(Node::Same { left, right, is_null_safe: false });
            self.frames[inner].filters.push(same);
        }
        inner
    }

    fn fork(&mut self, frame: FrameId, seed: SpaceId, kernels: &[CodeId]) -> FrameId {
        let ground = self.arena.parent(seed);
        let inner = self.seed(frame, ground, seed);
        for kernel in kernels {
            let left = self.value(inner, *kernel);
            let right = self.value(frame, *kernel);
            let same = Rc::new(Node::Same { left, right, is_null_safe: false });
            self.frames[inner].filters.push(same);
        }
        inner
    }

    fn attach(
        &mut self,
        frame: FrameId,
        base: SpaceId,
        seed: SpaceId,
        images: &[(CodeId, CodeId)],
        filter: Option<CodeId>,
    ) -> FrameId {
        let inner = self.seed(frame, base, seed);
        for (origin, target) in images {
            let left = self.value(inner, *target);
            let right = self.value(frame, *origin);
            let same = Rc::new(Node::Same { left, right, is_null_safe: false });
            self.frames[inner].filters.push(same);
        }
        if let Some(filter) = filter {
            let filter = self.value(inner, filter);
            self.frames[inner].filters.push(filter);
        }
        inner
    }

    fn clip(
        &mut self,
        frame: FrameId,
        base: SpaceId,
        seed: SpaceId,
        limit: u64,
        offset: u64,
    ) -> FrameId {
        let inner = self.seed(frame, base, seed);
        let mut order = self.arena.full_order(seed);
        order.retain(|(code, _)| !self.arena.is_singular(base, *code));
        let order = self.keys(inner, order);
        self.frames[inner].order = order;
        self.frames[inner].limit = Some(limit);
        self.frames[inner].offset = (offset > 0).then_some(offset);
        inner
    }
}
