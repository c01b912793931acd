//! How the rows of two spaces relate.

use super::{Arena, SpaceId};

impl Arena<'_> {
    /// The chain of a space, root first.
    pub(crate) fn chain(&self, id: SpaceId) -> Vec<SpaceId> {
        let mut chain = vec![id];
        let mut at = id;
        while let Some(base) = self.space(at).base {
            chain.push(base);
            at = base;
        }
        chain.reverse();
        chain
    }

    fn axes(&self, id: SpaceId) -> Vec<SpaceId> {
        let mut chain = self.chain(id);
        chain.retain(|id| self.space(*id).is_axis());
        chain
    }

    fn resembles(&self, a: SpaceId, b: SpaceId) -> bool {
        a == b || self.space(a).step == self.space(b).step
    }

    /// Number of axes (the root included) that two spaces share.
    pub(crate) fn shared_axes(&self, a: SpaceId, b: SpaceId) -> usize {
        let (a, b) = (self.axes(a), self.axes(b));
        a.iter().zip(&b).take_while(|(a, b)| self.resembles(**a, **b)).count()
    }

    /// Whether each row of `a` has at most one row of `b`: values on `b` are single values on `a`.
    pub(crate) fn spans(&self, a: SpaceId, b: SpaceId) -> bool {
        if a == b {
            return true;
        }
        let shared = self.shared_axes(a, b);
        self.axes(b)[shared..].iter().all(|id| self.space(*id).is_contracting)
    }

    /// Whether each row of `b` has at least one row of `a`.
    pub(crate) fn dominates(&self, a: SpaceId, b: SpaceId) -> bool {
        if a == b {
            return true;
        }
        let (mine, theirs) = (self.chain(a), self.chain(b));
        let (mut i, mut j) = (0, 0);
        while i < mine.len() && j < theirs.len() {
            let their = self.space(theirs[j]);
            if self.resembles(mine[i], theirs[j]) {
                i += 1;
                j += 1;
            } else if their.is_contracting && !their.is_axis() {
                j += 1;
            } else {
                break;
            }
        }
        mine[i..].iter().all(|id| self.space(*id).is_expanding)
            && theirs[j..].iter().all(|id| self.space(*id).is_contracting)
    }

    /// The one of several spaces that dominates and spans all others, the deepest first; `None`
    /// when there is none.
    pub(crate) fn dominant(&self, spaces: &[SpaceId]) -> Option<SpaceId> {
        let beats = |a: SpaceId| spaces.iter().all(|b| self.dominates(a, *b));
        spaces.iter().copied().find(|a| beats(*a))
    }
}
