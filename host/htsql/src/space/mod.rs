//! Spaces and codes: which rows an expression speaks of, and what it computes on them.
//!
//! A space is a chain of steps from the single root row. *Axes* lead to other rows (a table, a
//! link, a quotient, …), *modifiers* keep some of the rows or order them. A code is a value
//! computed on the rows of spaces; its *units* are the parts that need a row. Both are interned:
//! equal chains are the same `SpaceId`, which is what makes two mentions of `school` in one scope
//! the same row.
//!
//! `relation` compares chains, `lower` makes them from bindings, `order` sorts them.

mod lower;
mod order;
mod print;
mod relation;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

pub(crate) use lower::{Output, Product, SegmentSpace, lower};
pub(crate) use order::unique;

use crate::catalog::{Catalog, Join, TableId};
use crate::domain::Domain;
use crate::func::{Aggregate, Op};
use crate::syn::Syn;
use crate::value::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SpaceId(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CodeId(u32);

/// One step of a chain. `seed`s are chains of their own, which descend from the step's base.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    // Axes.
    Root,
    /// One empty row for each row of the base.
    Scalar,
    /// All rows of a table.
    Table(TableId),
    /// Linked rows.
    Fiber(Join),
    /// Unique values of the kernels over the seed.
    Quotient {
        seed: SpaceId,
        kernels: Vec<CodeId>,
    },
    /// Rows of the seed with the kernels of the base, a quotient.
    Complement {
        seed: SpaceId,
        kernels: Vec<CodeId>,
    },
    /// Rows of the seed.
    Moniker {
        seed: SpaceId,
    },
    /// Rows of the seed (the base itself) with equal kernels.
    Fork {
        seed: SpaceId,
        kernels: Vec<CodeId>,
    },
    /// Rows of the seed whose images equal those of the base, for which the filter holds.
    Attach {
        seed: SpaceId,
        images: Vec<(CodeId, CodeId)>,
        filter: Option<CodeId>,
    },
    /// The first rows of the seed; without a limit, the first one.
    Clip {
        seed: SpaceId,
        limit: Option<u64>,
        offset: u64,
    },
    /// The rows of the seed for which the filter (on an identity) holds.
    Locate {
        seed: SpaceId,
        filter: CodeId,
    },
    // Modifiers.
    Filter(CodeId),
    /// Sort keys, with whether they descend.
    Order {
        order: Vec<(CodeId, bool)>,
        limit: Option<u64>,
        offset: Option<u64>,
    },
}

/// What attributes the rows of a space have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Scalar,
    Table(TableId),
    Quotient,
}

#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) base: Option<SpaceId>,
    pub(crate) step: Step,
    pub(crate) family: Family,
    /// At most one row for each row of the base.
    pub(crate) is_contracting: bool,
    /// At least one row for each row of the base.
    pub(crate) is_expanding: bool,
    /// The binding it was first made from.
    pub(crate) syn: Syn,
}

impl Space {
    pub(crate) fn is_axis(&self) -> bool {
        !matches!(self.step, Step::Filter(_) | Step::Order { .. })
    }
}

/// A value. The variants with a `space` are units.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Code {
    Literal {
        value: Value,
        domain: Domain,
        is_param: bool,
    },
    Cast {
        from: Domain,
        to: Domain,
        arg: CodeId,
    },
    Formula {
        op: Op,
        args: Vec<CodeId>,
    },
    Column {
        space: SpaceId,
        column: usize,
    },
    /// A column of a quotient.
    Kernel {
        space: SpaceId,
        index: usize,
    },
    /// Whether the row exists.
    Present {
        space: SpaceId,
    },
    /// An aggregate over the rows of `plural` that belong to the row of `space`.
    Aggregate {
        op: Aggregate,
        space: SpaceId,
        plural: SpaceId,
        arg: CodeId,
        delimiter: Option<CodeId>,
    },
    /// A value of the seed of the (covering) space.
    Cover {
        space: SpaceId,
        code: CodeId,
    },
}

impl Eq for Code {}

impl Hash for Code {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Code::Literal { value, is_param, .. } => {
                is_param.hash(state);
                match value {
                    Value::Integer(i) => i.hash(state),
                    Value::Text(text) | Value::Decimal(text) => text.hash(state),
                    Value::Boolean(b) => b.hash(state),
                    _ => {}
                }
            }
            Code::Cast { to, arg, .. } => (to.family(), arg).hash(state),
            Code::Formula { op, args } => (op, args).hash(state),
            Code::Column { space, column } => (space, column).hash(state),
            Code::Kernel { space, index } => (space, index).hash(state),
            Code::Present { space } => space.hash(state),
            Code::Aggregate { op, space, plural, arg, delimiter } => {
                (op, space, plural, arg, delimiter).hash(state);
            }
            Code::Cover { space, code } => (space, code).hash(state),
        }
    }
}

struct CodeInfo {
    code: Code,
    /// Units of the code: itself, if it is one.
    units: Vec<CodeId>,
    syn: Syn,
}

/// All spaces and codes of a query.
pub(crate) struct Arena<'a> {
    pub(crate) catalog: &'a Catalog,
    spaces: Vec<Space>,
    space_ids: HashMap<(Option<SpaceId>, Step), SpaceId>,
    codes: Vec<CodeInfo>,
    code_ids: HashMap<Code, CodeId>,
}

impl<'a> Arena<'a> {
    fn new(catalog: &'a Catalog) -> Arena<'a> {
        Arena {
            catalog,
            spaces: Vec::new(),
            space_ids: HashMap::new(),
            codes: Vec::new(),
            code_ids: HashMap::new(),
        }
    }

    pub(crate) fn space(&self, id: SpaceId) -> &Space {
        &self.spaces[id.0 as usize]
    }

    pub(crate) fn code(&self, id: CodeId) -> &Code {
        &self.codes[id.0 as usize].code
    }

    pub(crate) fn code_syn(&self, id: CodeId) -> &Syn {
        &self.codes[id.0 as usize].syn
    }

    /// The units of a code, each once.
    pub(crate) fn units(&self, id: CodeId) -> &[CodeId] {
        &self.codes[id.0 as usize].units
    }

    /// The space of a unit.
    pub(crate) fn unit_space(&self, id: CodeId) -> Option<SpaceId> {
        match self.code(id) {
            Code::Column { space, .. }
            | Code::Kernel { space, .. }
            | Code::Present { space }
            | Code::Aggregate { space, .. }
            | Code::Cover { space, .. } => Some(*space),
            Code::Literal { .. } | Code::Cast { .. } | Code::Formula { .. } => None,
        }
    }

    /// The domain of a column, straight or through quotients and covers; `None` for other codes.
    pub(crate) fn column_domain(&self, id: CodeId) -> Option<Domain> {
        match self.code(id) {
            Code::Column { space, column } => match self.space(*space).family {
                Family::Table(table) => Some(self.catalog.column(table, *column).domain.clone()),
                _ => None,
            },
            Code::Cover { code, .. } => self.column_domain(*code),
            Code::Kernel { space, index } => {
                let mut axis = self.axis(*space);
                loop {
                    axis = match &self.space(axis).step {
                        Step::Quotient { kernels, .. } => {
                            return kernels.get(*index).and_then(|k| self.column_domain(*k));
                        }
                        Step::Complement { seed, .. }
                        | Step::Moniker { seed }
                        | Step::Fork { seed, .. }
                        | Step::Attach { seed, .. }
                        | Step::Clip { seed, .. }
                        | Step::Locate { seed, .. } => self.axis(*seed),
                        _ => return None,
                    };
                }
            }
            _ => None,
        }
    }

    pub(crate) fn intern_code(&mut self, code: Code, syn: &Syn) -> CodeId {
        if let Some(id) = self.code_ids.get(&code) {
            return *id;
        }
        let id = CodeId(u32::try_from(self.codes.len()).unwrap_or(u32::MAX));
        let mut units = Vec::new();
        match &code {
            Code::Literal { .. } => {}
            Code::Cast { arg, .. } => units.extend_from_slice(self.units(*arg)),
            Code::Formula { args, .. } => {
                for arg in args {
                    for unit in self.units(*arg) {
                        if !units.contains(unit) {
                            units.push(*unit);
                        }
                    }
                }
            }
            _ => units.push(id),
        }
        self.codes.push(CodeInfo { code: code.clone(), units, syn: syn.clone() });
        self.code_ids.insert(code, id);
        id
    }

    fn intern_space(&mut self, base: Option<SpaceId>, step: Step, syn: &Syn) -> SpaceId {
        let key = (base, step);
        if let Some(id) = self.space_ids.get(&key) {
            return *id;
        }
        let id = SpaceId(u32::try_from(self.spaces.len()).unwrap_or(u32::MAX));
        let (base, step) = key.clone();
        let (is_contracting, is_expanding) = self.flags(base, &step);
        let family = self.family(base, &step);
        let syn = syn.clone();
        self.spaces.push(Space { base, step, family, is_contracting, is_expanding, syn });
        self.space_ids.insert(key, id);
        id
    }

    fn family(&self, base: Option<SpaceId>, step: &Step) -> Family {
        match step {
            Step::Root | Step::Scalar => Family::Scalar,
            Step::Table(id) => Family::Table(*id),
            Step::Fiber(join) => Family::Table(self.catalog.target(*join)),
            Step::Quotient { .. } => Family::Quotient,
            Step::Complement { seed, .. }
            | Step::Moniker { seed }
            | Step::Fork { seed, .. }
            | Step::Attach { seed, .. }
            | Step::Clip { seed, .. }
            | Step::Locate { seed, .. } => self.space(*seed).family,
            Step::Filter(_) | Step::Order { .. } => {
                base.map_or(Family::Scalar, |base| self.space(base).family)
            }
        }
    }

    /// Whether a step gives at most one and at least one row for each row of its base.
    fn flags(&self, base: Option<SpaceId>, step: &Step) -> (bool, bool) {
        let Some(base) = base else {
            return (true, true);
        };
        match step {
            Step::Root | Step::Scalar => (true, true),
            Step::Table(_) | Step::Attach { .. } => (false, false),
            Step::Fiber(join) => {
                (self.catalog.is_contracting(*join), self.catalog.is_expanding(*join))
            }
            Step::Quotient { kernels, .. } => (kernels.is_empty(), false),
            Step::Complement { .. } => (false, true),
            Step::Moniker { seed } => (self.spans(base, *seed), self.dominates(*seed, base)),
            Step::Fork { seed, kernels } => {
                let axis = self.axis(*seed);
                let is_contracting = self.space(axis).is_contracting;
                (is_contracting, kernels.is_empty() && self.dominates(*seed, base))
            }
            Step::Clip { seed, limit, offset } => {
                let is_expanding = *offset == 0 && *limit != Some(0) && self.dominates(*seed, base);
                (limit.is_none(), is_expanding)
            }
            Step::Locate { seed, .. } => (self.spans(base, self.parent(*seed)), false),
            Step::Filter(_) => (true, false),
            Step::Order { limit, offset, .. } => (true, limit.is_none() && offset.is_none()),
        }
    }

    /// The space without the modifiers on top.
    pub(crate) fn axis(&self, mut id: SpaceId) -> SpaceId {
        while !self.space(id).is_axis() {
            match self.space(id).base {
                Some(base) => id = base,
                None => break,
            }
        }
        id
    }
}
