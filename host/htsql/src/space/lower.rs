//! Lowers bindings: flows to spaces, values to codes, what is output to a tree of outputs.
//!
//! Here it shows whether expressions are singular where they must be, and plural where they must.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Arena, Code, CodeId, SpaceId, Step};
use crate::bind::{Binding, Bound, Kind};
use crate::catalog::Catalog;
use crate::domain::Domain;
use crate::error::{Error, Stage};
use crate::func::{Aggregate, Op};
use crate::literal;
use crate::syn::Syn;
use crate::value::Value;

/// What a field of the output is made of.
#[derive(Debug)]
pub(crate) enum Output {
    Void,
    Scalar {
        code: CodeId,
        domain: Domain,
    },
    /// A record on a row of `space`, which is single on the row around.
    Record {
        space: SpaceId,
        fields: Vec<Output>,
    },
    Identity {
        labels: Vec<Output>,
    },
    /// A nested segment, by index.
    List {
        segment: usize,
    },
}

/// A segment: the rows of a flow.
#[derive(Debug)]
pub(crate) struct SegmentSpace {
    /// The enclosing segment; `None` for the root row.
    pub(crate) parent: Option<usize>,
    pub(crate) space: SpaceId,
    /// Values that must not be NULL for the row to count.
    pub(crate) required: Vec<CodeId>,
    pub(crate) item: Output,
}

/// A lowered query.
pub(crate) struct Product<'a> {
    pub(crate) arena: Arena<'a>,
    pub(crate) root: SpaceId,
    pub(crate) output: Output,
    /// Each after the one that holds it.
    pub(crate) segments: Vec<SegmentSpace>,
}

/// Lowers the product of a query.
///
/// # Errors
/// Expressions that are plural where a single value is needed and the like, literals that are not
/// of the type they are used as, casts that do not exist.
pub(crate) fn lower<'a>(bound: &Bound, catalog: &'a Catalog) -> Result<Product<'a>, Error> {
    let mut arena = Arena::new(catalog);
    let root = arena.intern_space(None, Step::Root, &bound.syn);
    let mut lower =
        Lower { arena, root, spaces: HashMap::new(), codes: HashMap::new(), segments: Vec::new() };
    let output = lower.output(bound, root, None)?;
    let segments = lower.segments.into_iter().flatten().collect();
    Ok(Product { arena: lower.arena, root, output, segments })
}

struct Lower<'a> {
    arena: Arena<'a>,
    root: SpaceId,
    spaces: HashMap<*const Binding, SpaceId>,
    codes: HashMap<*const Binding, CodeId>,
    segments: Vec<Option<SegmentSpace>>,
}

fn fail(message: impl Into<String>, syn: &Syn) -> Error {
    Error::new(message).at(Stage::Translating, syn.mark())
}

impl Lower<'_> {
    // Flows.

    fn relate(&mut self, bound: &Bound) -> Result<SpaceId, Error> {
        if let Some(id) = self.spaces.get(&Rc::as_ptr(bound)) {
            return Ok(*id);
        }
        let id = self.relate_new(bound)?;
        self.spaces.insert(Rc::as_ptr(bound), id);
        Ok(id)
    }

    fn relate_base(&mut self, bound: &Bound) -> Result<SpaceId, Error> {
        match &bound.base {
            Some(base) => self.relate(base),
            None => Ok(self.root),
        }
    }

    fn step(&mut self, base: SpaceId, step: Step, bound: &Bound) -> SpaceId {
        self.arena.intern_space(Some(base), step, &bound.syn)
    }

    fn relate_new(&mut self, bound: &Bound) -> Result<SpaceId, Error> {
        match &bound.kind {
            Kind::Root => return Ok(self.root),
            Kind::Column { link: Some(link), .. } => return self.relate(link),
            Kind::Cast { base, is_implicit: true } => return self.relate(base),
            _ => {}
        }
        let base = self.relate_base(bound)?;
        let step = match &bound.kind {
            Kind::Home => Step::Scalar,
            Kind::Table(id, _) => Step::Table(*id),
            Kind::Chain(join, _) => Step::Fiber(*join),
            Kind::Quotient { seed, kernels } => {
                let seed_space = self.plural_seed(base, seed)?;
                let kernels = self.encode_all(kernels, seed_space)?;
                if kernels.iter().all(|kernel| self.arena.units(*kernel).is_empty()) {
                    return Err(fail("Found an empty or constant kernel", &bound.syn));
                }
                Step::Quotient { seed: seed_space, kernels }
            }
            Kind::Complement { quotient } => {
                let quotient = self.relate(quotient)?;
                match &self.arena.space(self.arena.axis(quotient)).step {
                    Step::Quotient { seed, kernels } => {
                        Step::Complement { seed: *seed, kernels: kernels.clone() }
                    }
                    _ => return Err(fail("Expected a plural expression", &bound.syn)),
                }
            }
            Kind::Cover { seed } => {
                let seed_space = self.relate(seed)?;
                self.check_descends(base, seed_space, seed)?;
                Step::Moniker { seed: seed_space }
            }
            Kind::Fork { kernels } => {
                Step::Fork { seed: base, kernels: self.encode_all(kernels, base)? }
            }
            Kind::Attach { seed, images, condition } => {
                let seed_space = self.relate(seed)?;
                let mut pairs = Vec::with_capacity(images.len());
                for (origin, target) in images {
                    let origin = self.encode_on(origin, base)?;
                    let target = self.encode_on(target, seed_space)?;
                    pairs.push((origin, target));
                }
                let filter = condition.as_ref().map(|c| self.encode(c)).transpose()?;
                if let Some(filter) = filter {
                    self.check_condition(filter, base, seed_space)?;
                }
                Step::Attach { seed: seed_space, images: pairs, filter }
            }
            Kind::Clip { seed, limit, offset } => {
                let seed_space = self.plural_seed(base, seed)?;
                Step::Clip { seed: seed_space, limit: *limit, offset: *offset }
            }
            Kind::Locate { seed, leaves } => {
                let seed_space = self.relate(seed)?;
                let mut tests = Vec::with_capacity(leaves.len());
                for (leaf, value) in leaves {
                    let leaf = self.encode(leaf)?;
                    let args = vec![leaf, self.encode_on(value, base)?];
                    let syn = &value.syn;
                    tests.push(self.arena.intern_code(Code::Formula { op: Op::Eq, args }, syn));
                }
                let filter = match tests.as_slice() {
                    [one] => *one,
                    _ => {
                        let code = Code::Formula { op: Op::And, args: tests };
                        self.arena.intern_code(code, &bound.syn)
                    }
                };
                Step::Locate { seed: seed_space, filter }
            }
            Kind::Sieve(filter) => Step::Filter(self.encode_on(filter, base)?),
            Kind::Sort { order, limit, offset } => {
                let mut keys = Vec::with_capacity(order.len());
                for key in order {
                    let is_descending = crate::bind::is_descending(key);
                    keys.push((self.encode_on(key, base)?, is_descending));
                }
                Step::Order { order: keys, limit: *limit, offset: *offset }
            }
            // Everything else has the rows of its base.
            _ => return Ok(base),
        };
        Ok(self.step(base, step, bound))
    }

    /// The seed of a quotient or clip: plural, and below the base.
    fn plural_seed(&mut self, base: SpaceId, seed: &Bound) -> Result<SpaceId, Error> {
        let mut space = self.relate(seed)?;
        if !matches!(seed.domain, Domain::Entity | Domain::Record(_))
            && self.arena.spans(base, space)
        {
            // A value: the rows it speaks of.
            let code = self.encode(seed)?;
            let found = self.plural_units(base, &[code]);
            if let Some(dominant) = self.arena.dominant(&found) {
                space = dominant;
            }
        }
        if self.arena.spans(base, space) {
            return Err(fail("Expected a plural expression", self.flow_syn(seed)));
        }
        self.check_descends(base, space, seed)?;
        Ok(space)
    }

    fn check_descends(&self, base: SpaceId, space: SpaceId, seed: &Bound) -> Result<(), Error> {
        if self.arena.spans(space, base) {
            return Ok(());
        }
        Err(fail("Expected a descendant expression", self.flow_syn(seed)))
    }

    /// The syntax of the flow under decorations that only name it.
    fn flow_syn<'b>(&self, bound: &'b Bound) -> &'b Syn {
        let mut bound = bound;
        while let (Kind::Alias | Kind::Group | Kind::Title(_), Some(base)) =
            (&bound.kind, &bound.base)
        {
            bound = base;
        }
        &bound.syn
    }

    // Values.

    fn encode_all(&mut self, items: &[Bound], space: SpaceId) -> Result<Vec<CodeId>, Error> {
        items.iter().map(|item| self.encode_on(item, space)).collect()
    }

    /// A value that must be single on a space.
    fn encode_on(&mut self, bound: &Bound, space: SpaceId) -> Result<CodeId, Error> {
        let code = self.encode(bound)?;
        self.check_singular(code, space)?;
        Ok(code)
    }

    fn check_singular(&self, code: CodeId, space: SpaceId) -> Result<(), Error> {
        for unit in self.arena.units(code) {
            if let Some(unit_space) = self.arena.unit_space(*unit)
                && !self.arena.spans(space, unit_space)
            {
                return Err(fail("Expected a singular expression", self.arena.code_syn(*unit)));
            }
        }
        Ok(())
    }

    /// A condition on pairs of rows: each unit single on one of them.
    fn check_condition(&self, code: CodeId, a: SpaceId, b: SpaceId) -> Result<(), Error> {
        for unit in self.arena.units(code) {
            if let Some(space) = self.arena.unit_space(*unit)
                && !self.arena.spans(a, space)
                && !self.arena.spans(b, space)
            {
                return Err(fail("Expected a singular expression", self.arena.code_syn(*unit)));
            }
        }
        Ok(())
    }

    fn encode(&mut self, bound: &Bound) -> Result<CodeId, Error> {
        if let Some(id) = self.codes.get(&Rc::as_ptr(bound)) {
            return Ok(*id);
        }
        let id = self.encode_new(bound)?;
        self.codes.insert(Rc::as_ptr(bound), id);
        Ok(id)
    }

    fn encode_new(&mut self, bound: &Bound) -> Result<CodeId, Error> {
        let code = match &bound.kind {
            Kind::Literal { value, is_param } => Code::Literal {
                value: value.clone(),
                domain: bound.domain.clone(),
                is_param: *is_param,
            },
            Kind::Column { column, .. } => {
                Code::Column { space: self.relate_base(bound)?, column: *column }
            }
            Kind::Kernel { index, .. } => {
                Code::Kernel { space: self.relate_base(bound)?, index: *index }
            }
            Kind::Formula { op, args } => {
                let args =
                    args.iter().map(|arg| self.encode(arg)).collect::<Result<Vec<_>, Error>>()?;
                Code::Formula { op: *op, args }
            }
            Kind::Cast { base, .. } => return self.encode_cast(bound, base),
            Kind::Aggregate { op, arg, flow, delimiter } => {
                self.encode_aggregate(bound, *op, arg, flow.as_ref(), delimiter.as_ref())?
            }
            Kind::Sieve(filter) if bound.domain.is_scalar() => {
                let value = match &bound.base {
                    Some(base) => self.encode(base)?,
                    None => return Err(fail("Expected a code expression", &bound.syn)),
                };
                let filter = self.encode(filter)?;
                Code::Formula { op: Op::If, args: vec![filter, value] }
            }
            Kind::Selection { .. } | Kind::Wild { .. } => {
                return Err(fail("Expected a code expression", &bound.syn));
            }
            Kind::Rescope { scope } => {
                let Some(base) = &bound.base else {
                    return Err(fail("Expected a code expression", &bound.syn));
                };
                let value = self.encode(base)?;
                let space = self.relate(scope)?;
                if !self.narrows(space, value) {
                    return Ok(value);
                }
                let present = self.arena.intern_code(Code::Present { space }, &bound.syn);
                Code::Formula { op: Op::If, args: vec![present, value] }
            }
            _ => match &bound.base {
                Some(base) if bound.is_decoration() => return self.encode(base),
                _ => return Err(fail("Expected a code expression", &bound.syn)),
            },
        };
        Ok(self.arena.intern_code(code, &bound.syn))
    }

    /// Whether a space drops rows that the units of a code keep.
    fn narrows(&self, space: SpaceId, code: CodeId) -> bool {
        let chain = self.arena.chain(space);
        let mut dropping = chain.iter().filter(|id| {
            let space = self.arena.space(**id);
            !space.is_axis() && !space.is_expanding
        });
        let units = self.arena.units(code);
        dropping.any(|id| {
            units.iter().any(|unit| {
                self.arena
                    .unit_space(*unit)
                    .is_none_or(|space| !self.arena.chain(space).contains(id))
            })
        })
    }

    fn encode_cast(&mut self, bound: &Bound, base: &Bound) -> Result<CodeId, Error> {
        let (from, to) = (&base.domain, &bound.domain);
        let inconvertible = || {
            let message = format!("Cannot convert a value of type {from} to {to}");
            fail(message, &bound.syn)
        };
        match (from, to) {
            (Domain::Entity | Domain::Record(_), Domain::Boolean) => {
                let space = self.relate(base)?;
                return Ok(self.arena.intern_code(Code::Present { space }, &base.syn));
            }
            (Domain::Identity(_), Domain::Text) => return self.identity_text(base),
            (Domain::Record(_), Domain::Json) => return self.json_object(base, bound),
            _ => {}
        }
        if !from.is_scalar() {
            return Err(inconvertible());
        }
        let arg = self.encode(base)?;
        if *from == Domain::Untyped {
            // An untyped literal is read now; an untyped expression is text.
            if let Code::Literal { value, is_param, .. } = self.arena.code(arg).clone() {
                let value = match &value {
                    Value::Text(text) => {
                        literal::parse(to, text).map_err(|message| fail(message, &bound.syn))?
                    }
                    other => other.clone(),
                };
                let code = Code::Literal { value, domain: to.clone(), is_param };
                return Ok(self.arena.intern_code(code, &bound.syn));
            }
        }
        if from == to {
            return Ok(arg);
        }
        let from = if *from == Domain::Untyped { &Domain::Text } else { from };
        if from != to && !is_castable(from, to) {
            return Err(inconvertible());
        }
        let code = Code::Cast { from: from.clone(), to: to.clone(), arg };
        Ok(self.arena.intern_code(code, &bound.syn))
    }

    fn constant(&mut self, text: &str, syn: &Syn) -> CodeId {
        let value = Value::Text(text.to_string());
        let code = Code::Literal { value, domain: Domain::Text, is_param: false };
        self.arena.intern_code(code, syn)
    }

    /// The text of an identity: labels joined by `.`, NULL when one is NULL.
    fn identity_text(&mut self, bound: &Bound) -> Result<CodeId, Error> {
        let Some(elements) = crate::bind::identity_elements(bound) else {
            return Err(fail("Expected a code expression", &bound.syn));
        };
        let is_nested = |e: &Bound| matches!(e.domain, Domain::Identity(_));
        let flattened = !elements.iter().skip(1).any(is_nested);
        let mut parts = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            if index > 0 {
                parts.push(self.constant(".", &bound.syn));
            }
            if let Domain::Identity(labels) = &element.domain {
                let wrapped = !flattened && labels.len() > 1;
                if wrapped {
                    parts.push(self.constant("(", &bound.syn));
                }
                parts.push(self.identity_text(element)?);
                if wrapped {
                    parts.push(self.constant(")", &bound.syn));
                }
            } else {
                let leaf = self.encode(element)?;
                let text = self.as_text(leaf, &element.domain, &element.syn);
                let code = Code::Formula { op: Op::QuoteLabel, args: vec![text] };
                parts.push(self.arena.intern_code(code, &element.syn));
            }
        }
        let code = Code::Formula { op: Op::StrictConcat, args: parts };
        Ok(self.arena.intern_code(code, &bound.syn))
    }

    fn as_text(&mut self, code: CodeId, domain: &Domain, syn: &Syn) -> CodeId {
        if matches!(domain, Domain::Text | Domain::Untyped) {
            return code;
        }
        let code = Code::Cast { from: domain.clone(), to: Domain::Text, arg: code };
        self.arena.intern_code(code, syn)
    }

    /// `{a, b}` as a JSON object; what JSON has no type for goes as text.
    fn json_object(&mut self, base: &Bound, bound: &Bound) -> Result<CodeId, Error> {
        let mut selection = base;
        let elements = loop {
            match (&selection.kind, &selection.base) {
                (Kind::Selection { elements }, _) => break elements,
                (_, Some(next)) if selection.is_decoration() => selection = next,
                _ => return Err(fail("Expected a code expression", &bound.syn)),
            }
        };
        let Domain::Record(fields) = &selection.domain else {
            return Err(fail("Expected a code expression", &bound.syn));
        };
        let mut args = Vec::with_capacity(elements.len() * 2);
        for (element, field) in elements.iter().zip(fields.iter()) {
            let Some(name) = field.tag.as_ref().or(field.header.as_ref()) else {
                continue;
            };
            let value = match &element.domain {
                Domain::Identity(_) => self.identity_text(element)?,
                Domain::Record(_) => self.json_object(element, element)?,
                Domain::Boolean
                | Domain::Integer
                | Domain::Decimal
                | Domain::Float
                | Domain::Json => self.encode(element)?,
                domain => {
                    let code = self.encode(element)?;
                    self.as_text(code, &domain.clone(), &element.syn)
                }
            };
            args.push(self.constant(name, &element.syn));
            args.push(value);
        }
        let code = Code::Formula { op: Op::JsonObject, args };
        Ok(self.arena.intern_code(code, &bound.syn))
    }

    fn encode_aggregate(
        &mut self,
        bound: &Bound,
        op: Aggregate,
        arg: &Bound,
        flow: Option<&Bound>,
        delimiter: Option<&Bound>,
    ) -> Result<Code, Error> {
        let space = self.relate_base(bound)?;
        let arg = self.encode(arg)?;
        let plural = match flow {
            Some(flow) => self.relate(flow)?,
            None => {
                let candidates = self.plural_units(space, &[arg]);
                if candidates.is_empty() {
                    return Err(fail("Expected a plural operand", &bound.syn));
                }
                match self.arena.dominant(&candidates) {
                    Some(plural) => plural,
                    None => {
                        let message = "Cannot deduce an unambiguous aggregate flow";
                        return Err(fail(message, &bound.syn));
                    }
                }
            }
        };
        if self.arena.spans(space, plural) {
            return Err(fail("Expected a plural operand", &bound.syn));
        }
        if !self.arena.spans(plural, space) {
            return Err(fail("Expected a descendant operand", &bound.syn));
        }
        self.check_singular(arg, plural)?;
        let delimiter = delimiter.map(|d| self.encode_on(d, space)).transpose()?;
        Ok(Code::Aggregate { op, space, plural, arg, delimiter })
    }

    /// Spaces of the units that are not single on a space, each once.
    fn plural_units(&self, space: SpaceId, codes: &[CodeId]) -> Vec<SpaceId> {
        let mut found = Vec::new();
        for code in codes {
            for unit in self.arena.units(*code) {
                if let Some(unit) = self.arena.unit_space(*unit)
                    && !self.arena.spans(space, unit)
                    && !found.contains(&unit)
                {
                    found.push(unit);
                }
            }
        }
        found
    }

    // Output.

    /// Lowers what is output on a row of `space`, in the segment `parent`.
    fn output(
        &mut self,
        bound: &Bound,
        space: SpaceId,
        parent: Option<usize>,
    ) -> Result<Output, Error> {
        match &bound.domain {
            Domain::Void => Ok(Output::Void),
            Domain::List(_) => self.output_list(bound, space, parent),
            Domain::Record(_) => self.output_record(bound, space, parent),
            Domain::Identity(_) => self.output_identity(bound, space),
            domain => {
                let code = self.encode_on(bound, space)?;
                Ok(Output::Scalar { code, domain: domain.clone() })
            }
        }
    }

    fn output_record(
        &mut self,
        bound: &Bound,
        space: SpaceId,
        parent: Option<usize>,
    ) -> Result<Output, Error> {
        let own = self.relate(bound)?;
        if !self.arena.spans(space, own) {
            let syn = &self.arena.space(own).syn;
            return Err(fail("Expected a singular expression", syn));
        }
        let mut selection = bound;
        let elements = loop {
            match (&selection.kind, &selection.base) {
                (Kind::Selection { elements } | Kind::Wild { elements }, _) => break elements,
                (Kind::Cast { base, .. }, _) => selection = base,
                (_, Some(base)) if selection.is_decoration() => selection = base,
                _ => return Err(fail("Expected a code expression", &bound.syn)),
            }
        };
        let mut fields = Vec::with_capacity(elements.len());
        for element in elements {
            fields.push(self.output(element, space, parent)?);
        }
        Ok(Output::Record { space: own, fields })
    }

    fn output_identity(&mut self, bound: &Bound, space: SpaceId) -> Result<Output, Error> {
        let Some(elements) = crate::bind::identity_elements(bound) else {
            return Err(fail("Expected a code expression", &bound.syn));
        };
        let mut labels = Vec::with_capacity(elements.len());
        for element in elements {
            labels.push(match &element.domain {
                Domain::Identity(_) => self.output_identity(element, space)?,
                domain => {
                    let code = self.encode_on(element, space)?;
                    Output::Scalar { code, domain: domain.clone() }
                }
            });
        }
        Ok(Output::Identity { labels })
    }

    fn output_list(
        &mut self,
        bound: &Bound,
        space: SpaceId,
        parent: Option<usize>,
    ) -> Result<Output, Error> {
        let mut collect = bound;
        let seed = loop {
            match (&collect.kind, &collect.base) {
                (Kind::Collect { seed }, _) => break seed,
                (_, Some(base)) if collect.is_decoration() => collect = base,
                _ => return Err(fail("Expected a code expression", &bound.syn)),
            }
        };
        let scope = self.relate_base(collect)?;
        if !self.arena.spans(space, scope) {
            let syn = &self.arena.space(scope).syn;
            return Err(fail("Expected a singular expression", syn));
        }
        let flow = self.segment_flow(seed, scope, bound)?;
        if !self.arena.spans(flow, scope) {
            return Err(fail("Expected a descendant segment flow", &bound.syn));
        }
        let index = self.segments.len();
        self.segments.push(None);
        let item = self.output(seed, flow, Some(index))?;
        let mut required = Vec::new();
        if !matches!(item, Output::Record { .. }) {
            leaves(&item, &mut required);
            required.retain(|code| !self.arena.units(*code).is_empty());
            if let Output::Scalar { code, .. } = &item {
                required = vec![*code];
            }
        }
        self.segments[index] = Some(SegmentSpace { parent, space: flow, required, item });
        Ok(Output::List { segment: index })
    }

    /// The rows of a segment: those of its seed, or those its value speaks of.
    fn segment_flow(
        &mut self,
        seed: &Bound,
        scope: SpaceId,
        bound: &Bound,
    ) -> Result<SpaceId, Error> {
        let own = self.relate(seed)?;
        let codes = match &seed.domain {
            Domain::Record(_) | Domain::List(_) | Domain::Void => return Ok(own),
            Domain::Identity(_) => {
                let mut codes = Vec::new();
                self.identity_codes(seed, &mut codes)?;
                codes
            }
            _ => vec![self.encode(seed)?],
        };
        if codes.iter().all(|code| self.arena.units(*code).is_empty()) {
            return Ok(scope);
        }
        let is_own = !self.arena.spans(scope, own)
            && codes.iter().all(|code| self.arena.is_singular(own, *code));
        if is_own {
            return Ok(own);
        }
        let candidates = self.plural_units(scope, &codes);
        if candidates.is_empty() {
            return Ok(own);
        }
        match self.arena.dominant(&candidates) {
            Some(flow) => Ok(flow),
            None => Err(fail("Cannot deduce an unambiguous segment flow", &bound.syn)),
        }
    }

    fn identity_codes(&mut self, bound: &Bound, out: &mut Vec<CodeId>) -> Result<(), Error> {
        if let Some(elements) = crate::bind::identity_elements(bound) {
            for element in elements {
                self.identity_codes(element, out)?;
            }
        } else {
            out.push(self.encode(bound)?);
        }
        Ok(())
    }
}

fn leaves(output: &Output, out: &mut Vec<CodeId>) {
    match output {
        Output::Scalar { code, .. } => out.push(*code),
        Output::Identity { labels } => labels.iter().for_each(|label| leaves(label, out)),
        _ => {}
    }
}

/// Whether an explicit cast between two different scalar domains exists.
fn is_castable(from: &Domain, to: &Domain) -> bool {
    match to {
        Domain::Boolean => !matches!(from, Domain::Json),
        Domain::Text => true,
        Domain::Integer | Domain::Decimal | Domain::Float => {
            matches!(from, Domain::Integer | Domain::Decimal | Domain::Float | Domain::Text)
        }
        Domain::Date => matches!(from, Domain::Text | Domain::DateTime),
        Domain::Time => matches!(from, Domain::Text | Domain::DateTime),
        Domain::DateTime => matches!(from, Domain::Text | Domain::Date),
        Domain::Json => matches!(from, Domain::Text),
        _ => false,
    }
}
