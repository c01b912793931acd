//! Operators: comparison, logic, arithmetic; and whatever is chosen by the types of operands.

use super::binding::{Bound, Kind};
use super::structure::identity_elements;
use super::{Binder, Binds, fail};
use crate::coerce;
use crate::domain::Domain;
use crate::error::{Error, Stage};
use crate::func::{self, Combination, Family, Op};
use crate::syn::Syn;
use crate::syn::tree;
use crate::value::Value;

impl Binder<'_> {
    /// Binds an operator with the chain of operators that is its left operand: a loop, since
    /// chains may be long.
    pub(super) fn bind_operators(&mut self, scope: &Bound, syn: &Syn) -> Binds {
        let mut chain = Vec::new();
        let mut first = syn;
        while let tree::Kind::Operator { symbol, left, right } = first.kind() {
            chain.push((*symbol, right, first));
            first = left;
        }
        let mut bound = self.bind(scope, first)?;
        while let Some((symbol, right, mut syn)) = chain.pop() {
            let right = self.bind(scope, right)?;
            let op = match symbol {
                "&" => Op::And,
                "|" => Op::Or,
                _ => {
                    bound = self.bind_operator(scope, symbol, [bound, right], syn)?;
                    continue;
                }
            };
            // `a | b | c` is one formula.
            let mut args =
                vec![self.cast(&bound, &Domain::Boolean)?, self.cast(&right, &Domain::Boolean)?];
            while let Some((_, right, whole)) = chain.pop_if(|(next, ..)| *next == symbol) {
                let right = self.bind(scope, right)?;
                args.push(self.cast(&right, &Domain::Boolean)?);
                syn = whole;
            }
            bound = self.formula(scope, op, args, Domain::Boolean, syn)?;
        }
        Ok(bound)
    }

    fn bind_operator(&mut self, scope: &Bound, symbol: &str, args: [Bound; 2], syn: &Syn) -> Binds {
        match symbol {
            "=" | "!=" => {
                let [left, right] = &args;
                self.among(scope, left, right, symbol == "!=", syn)
            }
            "==" | "!==" => {
                let (args, _) = self.common(&args, syn)?;
                let op = if symbol == "==" { Op::Is } else { Op::IsNot };
                self.formula(scope, op, args, Domain::Boolean, syn)
            }
            "<" | "<=" | ">" | ">=" => {
                let (args, domain) = self.common(&args, syn)?;
                if matches!(domain, Domain::Boolean | Domain::Json | Domain::Opaque(_)) {
                    let message = format!("Values of type {domain} are not comparable");
                    return Err(fail(message, syn));
                }
                let op = match symbol {
                    "<" => Op::Less,
                    "<=" => Op::LessEq,
                    ">" => Op::Greater,
                    _ => Op::GreaterEq,
                };
                self.formula(scope, op, args, Domain::Boolean, syn)
            }
            "~" | "!~" => {
                let what = format!("operator '{symbol}'");
                let op = if symbol == "~" { Op::Contains } else { Op::NotContains };
                self.texts(scope, &what, op, &args, Domain::Boolean, syn)
            }
            "+" => self.add(scope, &args, syn),
            "-" => self.arithmetic(scope, symbol, &args, func::SUBTRACT, syn),
            "*" => self.arithmetic(scope, symbol, &args, func::MULTIPLY, syn),
            "/" => self.arithmetic(scope, symbol, &args, func::DIVIDE, syn),
            _ => {
                Err(Error::quoting("Found unknown operator", symbol)
                    .at(Stage::Translating, syn.mark()))
            }
        }
    }

    pub(super) fn bind_prefix(
        &mut self,
        scope: &Bound,
        symbol: &str,
        arm: &Syn,
        syn: &Syn,
    ) -> Binds {
        // A sign belongs to its number: the least integer has no positive counterpart.
        if let ("-", tree::Kind::Integer { text }) = (symbol, arm.kind())
            && let Ok(value) = crate::literal::parse(&Domain::Integer, &format!("-{text}"))
        {
            return self.literal(scope, value, Domain::Integer, syn);
        }
        let arm = self.bind(scope, arm)?;
        match symbol {
            "!" => {
                let arm = self.cast(&arm, &Domain::Boolean)?;
                self.formula(scope, Op::Not, vec![arm], Domain::Boolean, syn)
            }
            "-" => {
                // A negative number is a literal, not an operation.
                if let Kind::Literal { value, is_param } = &arm.kind
                    && let Some(value) = negated(value)
                {
                    let kind = Kind::Literal { value, is_param: *is_param };
                    return self.make(kind, Some(scope), arm.domain.clone(), syn);
                }
                self.polymorphic(scope, "unary operator '-'", func::MINUS, &[arm], syn)
            }
            "+" => self.polymorphic(scope, "unary operator '+'", func::PLUS, &[arm], syn),
            _ => Err(Error::quoting("Found unknown unary operator", symbol)
                .at(Stage::Translating, syn.mark())),
        }
    }

    fn add(&mut self, scope: &Bound, args: &[Bound; 2], syn: &Syn) -> Binds {
        if args.iter().all(|arg| Family::AnyText.accepts(&arg.domain)) {
            return self.texts(scope, "operator '+'", Op::Concat, args, Domain::Text, syn);
        }
        self.polymorphic(scope, "operator '+'", func::ADD, args, syn)
    }

    fn arithmetic(
        &mut self,
        scope: &Bound,
        symbol: &str,
        args: &[Bound; 2],
        combinations: &'static [Combination],
        syn: &Syn,
    ) -> Binds {
        self.polymorphic(scope, &format!("operator '{symbol}'"), combinations, args, syn)
    }

    /// A formula over texts.
    pub(super) fn texts(
        &mut self,
        scope: &Bound,
        what: &str,
        op: Op,
        args: &[Bound],
        domain: Domain,
        syn: &Syn,
    ) -> Binds {
        if !args.iter().all(|arg| Family::AnyText.accepts(&arg.domain)) {
            let families = vec![Family::AnyText; args.len()];
            return Err(inapplicable(what, args, &[&families], syn));
        }
        let args = args
            .iter()
            .map(|arg| self.cast(arg, &Domain::Text))
            .collect::<Result<Vec<_>, Error>>()?;
        self.formula(scope, op, args, domain, syn)
    }

    /// The combination that fits the operands.
    pub(super) fn polymorphic(
        &mut self,
        scope: &Bound,
        what: &str,
        combinations: &'static [Combination],
        args: &[Bound],
        syn: &Syn,
    ) -> Binds {
        let fits = |c: &&Combination| {
            c.operands.len() == args.len()
                && !c.template.is_empty()
                && c.operands.iter().zip(args).all(|(family, arg)| family.accepts(&arg.domain))
        };
        let Some(found) = combinations.iter().find(fits) else {
            let valid: Vec<&[Family]> = combinations
                .iter()
                .filter(|c| c.operands.len() == args.len())
                .map(|c| c.operands)
                .collect();
            return Err(inapplicable(what, args, &valid, syn));
        };
        let mut cast = Vec::with_capacity(args.len());
        for (family, arg) in found.operands.iter().zip(args) {
            cast.push(self.cast(arg, &family.domain())?);
        }
        let op = Op::Template(found.template);
        self.formula(scope, op, cast, found.result.domain(), syn)
    }

    /// `left = right`, where the right side may be a selection of several values.
    pub(super) fn among(
        &mut self,
        scope: &Bound,
        left: &Bound,
        right: &Bound,
        is_negated: bool,
        syn: &Syn,
    ) -> Binds {
        let rights = match &right.domain {
            Domain::Record(_) => self.spread(scope, right)?,
            _ => None,
        };
        let rights = rights.unwrap_or_else(|| vec![right.clone()]);
        self.among_all(scope, left, &rights, is_negated, syn)
    }

    pub(super) fn among_all(
        &mut self,
        scope: &Bound,
        left: &Bound,
        rights: &[Bound],
        is_negated: bool,
        syn: &Syn,
    ) -> Binds {
        let is_identity = |b: &Bound| matches!(b.domain, Domain::Identity(_) | Domain::Entity);
        if is_identity(left) || rights.iter().any(is_identity) {
            return self.same_identity(scope, left, rights, is_negated, syn);
        }
        let mut args = vec![left.clone()];
        args.extend(rights.iter().cloned());
        let (args, _) = self.common(&args, syn)?;
        let op = match (rights.len(), is_negated) {
            (1, false) => Op::Eq,
            (1, true) => Op::Ne,
            (_, false) => Op::In,
            (_, true) => Op::NotIn,
        };
        self.formula(scope, op, args, Domain::Boolean, syn)
    }

    /// Compares identities label by label.
    fn same_identity(
        &mut self,
        scope: &Bound,
        left: &Bound,
        rights: &[Bound],
        is_negated: bool,
        syn: &Syn,
    ) -> Binds {
        let mismatch = |right: &Bound| {
            let list = coerce::list([&left.domain, &right.domain]);
            fail(format!("Cannot coerce values of types {list} to a common type"), syn)
        };
        let mut tests = Vec::with_capacity(rights.len());
        for right in rights {
            let (mut left_id, mut right_id) = (self.as_identity(left)?, self.as_identity(right)?);
            if left_id.is_none()
                && let Some(id) = &right_id
            {
                left_id = self.adapt_literal(scope, left, &id.domain)?;
            }
            if right_id.is_none()
                && let Some(id) = &left_id
            {
                right_id = self.adapt_literal(scope, right, &id.domain)?;
            }
            let (Some(left_id), Some(right_id)) = (left_id, right_id) else {
                return Err(mismatch(right));
            };
            let (lefts, rights) = (leaves(&left_id), leaves(&right_id));
            if lefts.len() != rights.len() || lefts.is_empty() {
                return Err(mismatch(right));
            }
            let mut pairs = Vec::with_capacity(lefts.len());
            for (left, right) in lefts.into_iter().zip(rights) {
                let (args, _) = self.common(&[left, right], syn)?;
                let op = if is_negated { Op::Ne } else { Op::Eq };
                pairs.push(self.formula(scope, op, args, Domain::Boolean, syn)?);
            }
            let op = if is_negated { Op::Or } else { Op::And };
            tests.push(self.chain(scope, op, pairs, syn)?);
        }
        let op = if is_negated { Op::And } else { Op::Or };
        self.chain(scope, op, tests, syn)
    }

    fn chain(&mut self, scope: &Bound, op: Op, mut tests: Vec<Bound>, syn: &Syn) -> Binds {
        match tests.len() {
            0 => self.literal(scope, Value::Boolean(op == Op::And), Domain::Boolean, syn),
            1 => Ok(tests.remove(0)),
            _ => self.formula(scope, op, tests, Domain::Boolean, syn),
        }
    }

    /// An untyped literal as an identity of a domain; `None` for anything else.
    fn adapt_literal(
        &mut self,
        scope: &Bound,
        bound: &Bound,
        domain: &Domain,
    ) -> Result<Option<Bound>, Error> {
        let (Some(value), Domain::Identity(labels)) = (untyped(bound), domain) else {
            return Ok(None);
        };
        let labels = labels.clone();
        self.literal_identity(scope, &labels, &value.clone(), &bound.syn.clone()).map(Some)
    }
}

/// The value of an untyped literal, through whatever decorates it.
fn untyped(bound: &Bound) -> Option<&Value> {
    if bound.domain != Domain::Untyped {
        return None;
    }
    let mut bound = bound;
    loop {
        bound = match &bound.kind {
            Kind::Literal { value, .. } => return Some(value),
            _ if bound.is_decoration() => bound.base.as_ref()?,
            _ => return None,
        };
    }
}

/// The leaves of an identity, left to right.
fn leaves(bound: &Bound) -> Vec<Bound> {
    match identity_elements(bound) {
        Some(elements) => elements.iter().flat_map(leaves).collect(),
        None => vec![bound.clone()],
    }
}

fn negated(value: &Value) -> Option<Value> {
    match value {
        Value::Integer(i) => i.checked_neg().map(Value::Integer),
        Value::Float(x) => Some(Value::Float(-x)),
        Value::Decimal(d) => match d.strip_prefix('-') {
            Some(positive) => Some(Value::Decimal(positive.to_string())),
            None => Some(Value::Decimal(format!("-{d}"))),
        },
        _ => None,
    }
}

/// The error of operands that no combination fits.
pub(super) fn inapplicable(what: &str, args: &[Bound], valid: &[&[Family]], syn: &Syn) -> Error {
    let (got, choices): (String, Vec<String>) = if let [arg] = args {
        let names = valid.iter().filter_map(|c| c.first()).map(|f| f.name().to_string());
        (format!("a value of type {}", arg.domain.family()), names.collect())
    } else {
        let names: Vec<&str> = args.iter().map(|arg| arg.domain.family()).collect();
        let row = |c: &&[Family]| {
            let names: Vec<&str> = c.iter().map(|family| family.name()).collect();
            format!("({})", names.join(", "))
        };
        (format!("values of types ({})", names.join(", ")), valid.iter().map(row).collect())
    };
    let heading = if choices.len() == 1 { "Valid type" } else { "Valid types" };
    let heading = if args.len() == 1 { "Valid type" } else { heading };
    Error::new(format!("Cannot apply {what} to {got}"))
        .wrap(heading, choices.join("\n"))
        .at(Stage::Translating, syn.mark())
}
