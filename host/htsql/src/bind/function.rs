//! Functions that have their own rules for scopes, arguments or types.

use super::binding::{Bound, Kind};
use super::lookup::key;
use super::operator::inapplicable;
use super::{Binder, Binds, fail, is_void};
use crate::coerce;
use crate::domain::Domain;
use crate::error::Error;
use crate::func::{self, Aggregate, Family, Op};
use crate::syn::Syn;
use crate::syn::tree;
use crate::value::{Param, Value};

/// A call as it is being bound.
struct Call<'s> {
    name: String,
    args: Vec<Syn>,
    syn: &'s Syn,
}

impl Call<'_> {
    /// Checks the number of arguments; `None` for any number above the least.
    fn count(&self, least: usize, most: Option<usize>) -> Result<(), Error> {
        let got = self.args.len();
        if got >= least && most.is_none_or(|most| got <= most) {
            return Ok(());
        }
        let expected = match most {
            Some(most) if most == least => {
                format!("{least} argument{}", if least == 1 { "" } else { "s" })
            }
            Some(most) => {
                format!("{least} to {most} argument{}", if most == 1 { "" } else { "s" })
            }
            None => format!("{least} or more arguments"),
        };
        let message = format!("Function '{}' expects {expected}; got {got}", self.name);
        Err(fail(message, self.syn))
    }

    fn expects(&self, what: &str, syn: &Syn) -> Error {
        fail(format!("Function '{}' expects {what}", self.name), syn)
    }
}

impl Binder<'_> {
    /// `name(args)`: an attribute of the scope with that many parameters, else a function.
    pub(super) fn bind_call(
        &mut self,
        scope: &Bound,
        name: &str,
        args: Vec<Syn>,
        syn: &Syn,
    ) -> Binds {
        let name_key = key(name);
        if let Some(recipe) = self.look.attribute(scope, &name_key, Some(args.len())) {
            return self.apply(scope, &recipe, syn);
        }
        let call = Call { name: name.to_string(), args, syn };
        match name_key.as_str() {
            "null" | "true" | "false" => {
                call.count(0, Some(0))?;
                self.bind_constant(scope, &name_key, syn)
            }
            "boolean" | "bool" => self.bind_cast(scope, &call, &Domain::Boolean),
            "text" | "string" | "str" => self.bind_cast(scope, &call, &Domain::Text),
            "integer" | "int" => self.bind_cast(scope, &call, &Domain::Integer),
            "decimal" | "dec" => self.bind_cast(scope, &call, &Domain::Decimal),
            "float" => self.bind_cast(scope, &call, &Domain::Float),
            "date" if call.args.len() == 3 => self.bind_parts(scope, &call, func::DATE_FROM_PARTS),
            "date" => self.bind_cast(scope, &call, &Domain::Date),
            "time" => self.bind_cast(scope, &call, &Domain::Time),
            "datetime" if call.args.len() > 1 => {
                call.count(1, Some(6))?;
                self.bind_parts(scope, &call, func::DATETIME_FROM_PARTS)
            }
            "datetime" => self.bind_cast(scope, &call, &Domain::DateTime),
            "json" => self.bind_cast(scope, &call, &Domain::Json),
            "is_null" | "null_if" | "if_null" => self.bind_null(scope, &name_key, &call),
            "if" => self.bind_if(scope, &call),
            "switch" | "recode" => self.bind_switch(scope, &name_key, &call),
            "accumulate" => self.bind_accumulate(scope, &call),
            "in" => self.bind_in(scope, &call),
            "has_prefix" => {
                call.count(2, Some(2))?;
                let args = self.bind_all(scope, &call.args)?;
                let what = format!("function '{}'", call.name);
                self.texts(scope, &what, Op::HasPrefix, &args, Domain::Boolean, syn)
            }
            "count" | "exists" | "every" => self.bind_quantifier(scope, &name_key, &call),
            "min" | "max" | "sum" | "avg" | "median" => {
                self.bind_aggregate(scope, &name_key, &call)
            }
            "join" => self.bind_join(scope, &call),
            _ => self.bind_method(scope, &name_key, &call),
        }
    }

    /// Functions that make or change flows.
    fn bind_method(&mut self, scope: &Bound, name: &str, call: &Call<'_>) -> Binds {
        let syn = call.syn;
        match name {
            "as" => self.bind_as(scope, call),
            "filter" => {
                call.count(1, Some(1))?;
                self.sieve(scope, &call.args[0], syn)
            }
            "select" => {
                call.count(1, None)?;
                self.select(scope, &call.args, syn)
            }
            "sort" => self.bind_sort(scope, call),
            "limit" => {
                call.count(1, Some(2))?;
                let limit = self.whole_number(call, 0)?;
                let offset = self.whole_number(call, 1)?;
                let kind = Kind::Sort { order: Vec::new(), limit, offset };
                self.decorate(kind, scope, syn)
            }
            "define" => {
                call.count(1, None)?;
                self.define_all(scope, &call.name, &call.args)
            }
            "given" | "where" => {
                call.count(1, None)?;
                let inner = self.define_all(scope, &call.name, &call.args[1..])?;
                self.bind(&inner, &call.args[0])
            }
            "top" => {
                call.count(1, Some(3))?;
                let limit = self.whole_number(call, 1)?;
                let offset = self.whole_number(call, 2)?.unwrap_or(0);
                let seed = self.bind(scope, &call.args[0])?;
                let kind = Kind::Clip { seed, limit, offset };
                self.make(kind, Some(scope), Domain::Entity, syn)
            }
            "distinct" => {
                call.count(1, Some(1))?;
                let seed = self.bind(scope, &call.args[0])?;
                let Some(elements) = self.spread(&seed, &seed)? else {
                    return Err(call.expects("an argument with a selector", &seed.syn));
                };
                self.quotient(scope, &seed, &elements, "Expected a scalar quotient column", syn)
            }
            "fork" => {
                let mut kernels = Vec::new();
                for arg in self.bind_variadic(scope, &call.args)? {
                    kernels.push(self.scalar(&arg, "Expected a scalar value")?);
                }
                self.make(Kind::Fork { kernels }, Some(scope), Domain::Entity, syn)
            }
            "moniker" => {
                call.count(1, Some(1))?;
                let seed = self.bind(scope, &call.args[0])?;
                self.make(Kind::Cover { seed }, Some(scope), Domain::Entity, syn)
            }
            "root" => {
                call.count(0, Some(0))?;
                let mut root = scope.clone();
                while let Some(base) = root.base.clone() {
                    let is_root = matches!(root.kind, Kind::Define { .. })
                        && matches!(base.kind, Kind::Root | Kind::Define { .. })
                        && root_below(&base);
                    if is_root {
                        break;
                    }
                    root = base;
                }
                self.decorate(Kind::Group, &root, syn)
            }
            "this" => {
                call.count(0, Some(0))?;
                self.decorate(Kind::Group, scope, syn)
            }
            "home" => {
                call.count(0, Some(0))?;
                self.make(Kind::Home, Some(scope), Domain::Entity, syn)
            }
            "id" => self.bind_id(scope, call),
            "guard" => self.bind_guard(scope, call),
            _ => self.bind_library(scope, name, call),
        }
    }

    fn bind_library(&mut self, scope: &Bound, name: &str, call: &Call<'_>) -> Binds {
        let Some(function) = func::FUNCTIONS.iter().find(|f| f.name == name) else {
            return Err(self.unknown_function(scope, &call.name, call.args.len(), call.syn));
        };
        let counts = || function.combinations.iter().map(|c| c.operands.len());
        call.count(counts().min().unwrap_or(0), counts().max())?;
        let mut args = self.bind_all(scope, &call.args)?;
        // A bare NULL goes with any type.
        for (index, arg) in args.iter_mut().enumerate() {
            let family = function
                .combinations
                .iter()
                .find(|c| c.operands.len() == call.args.len())
                .and_then(|c| c.operands.get(index));
            if let Some(family) = family
                && index > 0
                && *family != Family::AnyText
                && arg.domain == Domain::Untyped
            {
                *arg = self.cast(arg, &family.domain())?;
            }
        }
        // A slice without an end has a NULL end, a position without a length a length of one.
        if (name == "slice" || name == "at") && args.len() == 2 {
            let open = self.literal(scope, Value::Null, Domain::Integer, call.syn)?;
            args.push(open);
        }
        let what = format!("function '{}'", call.name);
        self.polymorphic(scope, &what, function.combinations, &args, call.syn)
    }

    fn bind_all(&mut self, scope: &Bound, args: &[Syn]) -> Result<Vec<Bound>, Error> {
        args.iter().map(|arg| self.bind(scope, arg)).collect()
    }

    /// Arguments of a variadic slot: a single selection is spread.
    fn bind_variadic(&mut self, scope: &Bound, args: &[Syn]) -> Result<Vec<Bound>, Error> {
        let bound = self.bind_all(scope, args)?;
        if let [one] = bound.as_slice()
            && let Some(elements) = self.spread(scope, one)?
        {
            return Ok(elements);
        }
        Ok(bound)
    }

    pub(super) fn bind_constant(&mut self, scope: &Bound, name: &str, syn: &Syn) -> Binds {
        match name {
            "null" => self.literal(scope, Value::Null, Domain::Untyped, syn),
            _ => self.literal(scope, Value::Boolean(name == "true"), Domain::Boolean, syn),
        }
    }

    fn bind_cast(&mut self, scope: &Bound, call: &Call<'_>, domain: &Domain) -> Binds {
        call.count(1, Some(1))?;
        let base = self.bind(scope, &call.args[0])?;
        let kind = Kind::Cast { base, is_implicit: false };
        self.make(kind, Some(scope), domain.clone(), call.syn)
    }

    fn bind_parts(
        &mut self,
        scope: &Bound,
        call: &Call<'_>,
        combinations: &'static [func::Combination],
    ) -> Binds {
        let args = self.bind_all(scope, &call.args)?;
        let what = format!("function '{}'", call.name);
        self.polymorphic(scope, &what, combinations, &args, call.syn)
    }

    fn bind_null(&mut self, scope: &Bound, name: &str, call: &Call<'_>) -> Binds {
        let count = if name == "is_null" { 1 } else { 2 };
        call.count(count, Some(count))?;
        let args = self.bind_all(scope, &call.args)?;
        let (args, domain) = self.common(&args, call.syn)?;
        match name {
            "is_null" => self.formula(scope, Op::IsNull, args, Domain::Boolean, call.syn),
            "null_if" => {
                let op = Op::Template("NULLIF({0}, {1})");
                self.formula(scope, op, args, domain, call.syn)
            }
            _ => {
                let op = Op::Template("COALESCE({0}, {1})");
                self.formula(scope, op, args, domain, call.syn)
            }
        }
    }

    fn bind_if(&mut self, scope: &Bound, call: &Call<'_>) -> Binds {
        call.count(2, None)?;
        let bound = self.bind_all(scope, &call.args)?;
        let last = bound.len() - 1;
        let is_value = |index: usize| index % 2 == 1 || index == last;
        let mut values = Vec::new();
        for (index, arg) in bound.iter().enumerate() {
            if is_value(index) {
                values.push(arg.clone());
            }
        }
        let (values, domain) = self.common(&values, call.syn)?;
        let mut values = values.into_iter();
        let mut args = Vec::with_capacity(bound.len());
        for (index, arg) in bound.iter().enumerate() {
            if is_value(index) {
                args.extend(values.next());
            } else {
                args.push(self.cast(arg, &Domain::Boolean)?);
            }
        }
        self.formula(scope, Op::If, args, domain, call.syn)
    }

    fn bind_switch(&mut self, scope: &Bound, name: &str, call: &Call<'_>) -> Binds {
        call.count(3, None)?;
        let is_recode = name == "recode";
        if is_recode && call.args.len().is_multiple_of(2) {
            let what = format!("an odd number of arguments; got {}", call.args.len());
            return Err(call.expects(&what, call.syn));
        }
        let bound = self.bind_all(scope, &call.args)?;
        let mut variants = vec![bound[0].clone()];
        let mut values = Vec::new();
        for (index, arg) in bound.iter().enumerate().skip(1) {
            let is_last_alone = index == bound.len() - 1 && index % 2 == 1;
            if index % 2 == 1 && !is_last_alone {
                variants.push(arg.clone());
            } else {
                values.push(arg.clone());
            }
        }
        if is_recode {
            values.push(bound[0].clone());
        }
        for value in variants.iter().chain(&values) {
            if coerce::scalar(&value.domain).is_none() {
                return Err(fail("Expected a scalar value", &value.syn));
            }
        }
        let (variants, _) = self.common(&variants, call.syn)?;
        let (values, domain) = self.common(&values, call.syn)?;
        let mut variants = variants.into_iter();
        let mut args: Vec<Bound> = variants.next().into_iter().collect();
        let mut values = values.into_iter();
        for variant in variants {
            args.push(variant);
            args.extend(values.next());
        }
        args.extend(values);
        self.formula(scope, Op::Switch, args, domain, call.syn)
    }

    fn bind_accumulate(&mut self, scope: &Bound, call: &Call<'_>) -> Binds {
        call.count(1, None)?;
        let zero = self.literal(scope, Value::Integer(0), Domain::Integer, call.syn)?;
        let mut sum: Option<Bound> = None;
        for arg in self.bind_variadic(scope, &call.args)? {
            let term = match &arg.domain {
                Domain::Integer | Domain::Untyped => self.cast(&arg, &Domain::Integer)?,
                Domain::Boolean => {
                    let one = self.literal(scope, Value::Integer(1), Domain::Integer, call.syn)?;
                    let args = vec![arg.clone(), one, zero.clone()];
                    self.formula(scope, Op::If, args, Domain::Integer, &arg.syn.clone())?
                }
                other => {
                    return Err(Error::quoting(
                        "Expected an integer value, got",
                        other.to_string(),
                    )
                    .at(crate::error::Stage::Translating, arg.syn.mark()));
                }
            };
            let op = Op::Template("COALESCE({0}, {1})");
            let term =
                self.formula(scope, op, vec![term, zero.clone()], Domain::Integer, call.syn)?;
            sum = Some(match sum {
                None => term,
                Some(sum) => {
                    let op = Op::Template("({0} + {1})");
                    self.formula(scope, op, vec![sum, term], Domain::Integer, call.syn)?
                }
            });
        }
        Ok(sum.unwrap_or(zero))
    }

    fn bind_in(&mut self, scope: &Bound, call: &Call<'_>) -> Binds {
        call.count(1, None)?;
        let left = self.bind(scope, &call.args[0])?;
        let mut rights = Vec::new();
        for arg in &call.args[1..] {
            let bound = self.bind(scope, arg)?;
            match self.spread(scope, &bound)? {
                Some(elements) => rights.extend(elements),
                None => rights.push(bound),
            }
        }
        if rights.is_empty() {
            let op = Op::Never;
            return self.formula(scope, op, Vec::new(), Domain::Boolean, call.syn);
        }
        self.among_all(scope, &left, &rights, false, call.syn)
    }

    // Aggregates.

    /// The single argument of an aggregate: the value and the flow whose rows are aggregated, when
    /// it was written with a selector.
    fn plural(&mut self, scope: &Bound, call: &Call<'_>) -> Result<(Bound, Option<Bound>), Error> {
        let arg = self.bind(scope, &call.args[0])?;
        let Domain::Record(_) = arg.domain else {
            return Ok((arg, None));
        };
        match self.spread(&arg, &arg)?.as_deref() {
            Some([element]) => {
                let rescope = Kind::Rescope { scope: arg.clone() };
                let value = self.decorate(rescope, element, &element.syn)?;
                Ok((value, Some(arg)))
            }
            Some(elements) => {
                let selection = selection_syn(&arg).clone();
                let what = format!("1 argument; got {}", elements.len());
                Err(call.expects(&what, &selection))
            }
            None => Ok((arg, None)),
        }
    }

    fn aggregate(
        &mut self,
        scope: &Bound,
        op: Aggregate,
        args: Vec<Bound>,
        flow: Option<Bound>,
        domain: Domain,
        syn: &Syn,
    ) -> Binds {
        let mut args = args.into_iter();
        let Some(arg) = args.next() else {
            return Err(fail("Expected a plural operand", syn));
        };
        let kind = Kind::Aggregate { op, arg, flow, delimiter: args.next() };
        self.make(kind, Some(scope), domain, syn)
    }

    fn bind_quantifier(&mut self, scope: &Bound, name: &str, call: &Call<'_>) -> Binds {
        call.count(1, Some(1))?;
        let (arg, flow) = self.plural(scope, call)?;
        let arg = self.cast(&arg, &Domain::Boolean)?;
        let (op, domain) = match name {
            "count" => (Aggregate::Count, Domain::Integer),
            "exists" => (Aggregate::Exists, Domain::Boolean),
            _ => (Aggregate::Every, Domain::Boolean),
        };
        self.aggregate(scope, op, vec![arg], flow, domain, call.syn)
    }

    fn bind_aggregate(&mut self, scope: &Bound, name: &str, call: &Call<'_>) -> Binds {
        call.count(1, Some(1))?;
        let (arg, flow) = self.plural(scope, call)?;
        let is_extreme = name == "min" || name == "max";
        let valid = if is_extreme { func::EXTREMES } else { func::NUMBERS };
        if !valid.iter().any(|family| family.accepts(&arg.domain)) {
            let rows: Vec<&[Family]> = valid.chunks(1).collect();
            let what = format!("function '{}'", call.name);
            return Err(inapplicable(&what, &[arg], &rows, call.syn));
        }
        let (op, domain) = match (name, &arg.domain) {
            ("min", domain) => (Aggregate::Min, domain.clone()),
            ("max", domain) => (Aggregate::Max, domain.clone()),
            ("sum", Domain::Integer) => (Aggregate::SumInteger, Domain::Integer),
            ("sum", Domain::Decimal) => (Aggregate::SumDecimal, Domain::Decimal),
            ("sum", _) => (Aggregate::SumFloat, Domain::Float),
            ("median", _) => (Aggregate::Median, Domain::Float),
            (_, Domain::Integer) => (Aggregate::AvgInteger, Domain::Decimal),
            (_, domain) => (Aggregate::Avg, domain.clone()),
        };
        self.aggregate(scope, op, vec![arg], flow, domain, call.syn)
    }

    fn bind_join(&mut self, scope: &Bound, call: &Call<'_>) -> Binds {
        call.count(2, Some(2))?;
        let arg = self.bind(scope, &call.args[0])?;
        let delimiter = self.bind(scope, &call.args[1])?;
        let (value, flow) = match self.spread(&arg, &arg)?.as_deref() {
            Some([element]) => {
                let rescope = Kind::Rescope { scope: arg.clone() };
                (self.decorate(rescope, element, &element.syn)?, Some(arg.clone()))
            }
            Some(elements) => {
                let what = format!("1 field for its first argument; got {}", elements.len());
                return Err(call.expects(&what, &arg.syn));
            }
            None => (arg, None),
        };
        if !Family::AnyText.accepts(&value.domain) || !Family::AnyText.accepts(&delimiter.domain) {
            let what = format!("function '{}'", call.name);
            let families: &[&[Family]] = &[&[Family::AnyText, Family::AnyText]];
            return Err(inapplicable(&what, &[value, delimiter], families, call.syn));
        }
        let args = vec![self.cast(&value, &Domain::Text)?, self.cast(&delimiter, &Domain::Text)?];
        self.aggregate(scope, Aggregate::Join, args, flow, Domain::Text, call.syn)
    }

    // Names, order, identity.

    fn bind_as(&mut self, scope: &Bound, call: &Call<'_>) -> Binds {
        call.count(2, Some(2))?;
        let base = self.bind(scope, &call.args[0])?;
        match call.args[1].kind() {
            tree::Kind::Ident { .. } => self.decorate(Kind::Alias, &base, &call.args[1]),
            tree::Kind::String { text } => {
                self.decorate(Kind::Title(text.clone()), &base, call.syn)
            }
            _ => Err(call.expects("a string literal or an identifier", &call.args[1])),
        }
    }

    fn bind_sort(&mut self, scope: &Bound, call: &Call<'_>) -> Binds {
        call.count(1, None)?;
        let mut order = Vec::new();
        for arg in &call.args {
            let bound = self.bind(scope, arg)?;
            let elements = match self.spread(scope, &bound)? {
                Some(elements) => {
                    let mut rescoped = Vec::with_capacity(elements.len());
                    for element in elements {
                        let kind = Kind::Rescope { scope: bound.clone() };
                        rescoped.push(self.decorate(kind, &element, &element.syn)?);
                    }
                    rescoped
                }
                None => vec![bound],
            };
            for element in elements {
                match coerce::scalar(&element.domain) {
                    Some(domain) => order.push(self.cast(&element, &domain)?),
                    None => return Err(call.expects("a scalar expression", &element.syn)),
                }
            }
        }
        let kind = Kind::Sort { order, limit: None, offset: None };
        self.decorate(kind, scope, call.syn)
    }

    /// A non-negative integer literal, if the argument is given.
    fn whole_number(&mut self, call: &Call<'_>, index: usize) -> Result<Option<u64>, Error> {
        let Some(arg) = call.args.get(index) else {
            return Ok(None);
        };
        let number = match arg.kind() {
            tree::Kind::Integer { text } => text.parse::<i64>().ok(),
            _ => None,
        };
        match number.and_then(|n| u64::try_from(n).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(call.expects("a non-negative integer", arg)),
        }
    }

    fn bind_id(&mut self, scope: &Bound, call: &Call<'_>) -> Binds {
        if call.args.is_empty() {
            return match self.look.identity(scope) {
                Some(recipe) => self.apply(scope, &recipe, call.syn),
                None => Err(fail("Cannot determine identity", call.syn)),
            };
        }
        let mut elements = Vec::with_capacity(call.args.len());
        for arg in self.bind_variadic(scope, &call.args)? {
            elements.push(match self.as_identity(&arg)? {
                Some(identity) => identity,
                None if arg.domain == Domain::Untyped => arg,
                None => self.scalar(&arg, "Expected a scalar value")?,
            });
        }
        self.identity_of(scope, elements, call.syn)
    }

    /// `guard($r, then, else)`: decided now, by whether the reference is a NULL or empty literal.
    fn bind_guard(&mut self, scope: &Bound, call: &Call<'_>) -> Binds {
        call.count(2, Some(3))?;
        let tree::Kind::Reference { .. } = call.args[0].kind() else {
            return Err(call.expects("a reference as the first argument", &call.args[0]));
        };
        let bound = self.bind(scope, &call.args[0])?;
        let mut value = &bound;
        let is_empty = loop {
            match &value.kind {
                Kind::Literal { value: literal, .. } => {
                    let param = Param { domain: value.domain.clone(), value: literal.clone() };
                    break is_void(&param);
                }
                Kind::Cast { base, .. } => value = base,
                _ if value.is_decoration() => match &value.base {
                    Some(base) if !matches!(value.kind, Kind::Selection { .. }) => value = base,
                    _ => break false,
                },
                _ => break false,
            }
        };
        match (is_empty, call.args.get(2)) {
            (false, _) => self.bind(scope, &call.args[1]),
            (true, Some(otherwise)) => self.bind(scope, otherwise),
            (true, None) => Ok(scope.clone()),
        }
    }
}

/// Whether only parameters lie between a binding and the root.
fn root_below(bound: &Bound) -> bool {
    let mut bound = bound;
    loop {
        match (&bound.kind, &bound.base) {
            (Kind::Root, _) => return true,
            (Kind::Define { .. }, Some(base)) => bound = base,
            _ => return false,
        }
    }
}

/// The syntax of the innermost selection.
fn selection_syn(bound: &Bound) -> &Syn {
    let mut bound = bound;
    loop {
        match (&bound.kind, &bound.base) {
            (Kind::Selection { .. }, _) | (_, None) => return &bound.syn,
            (_, Some(base)) => bound = base,
        }
    }
}
