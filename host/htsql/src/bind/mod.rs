//! Binding: what the names of a syntax tree mean, and which types its values have.
//!
//! `Binder` walks the syntax with a current scope; `lookup` answers names in scopes, `recipe`
//! turns answers into bindings, `operator` and `function` bind everything that is called, `hint`
//! words the errors of unknown names. The result is a tree of bindings (`binding`) whose top has
//! only what can be output, and the profile of the product.

pub(crate) mod binding;
mod function;
mod hint;
mod lookup;
mod operator;
mod output;
mod recipe;
mod structure;

use std::rc::Rc;

pub(crate) use binding::{Binding, Bound, Kind, outline};
use lookup::{Expand, Lookup};
pub(crate) use structure::identity_elements;

use crate::catalog::Catalog;
use crate::coerce;
use crate::domain::Domain;
use crate::error::{Error, Stage};
use crate::profile::Profile;
use crate::syn::Syn;
use crate::syn::tree;
use crate::value::{Param, Params, Value};

/// Bindings a query may have: definitions can multiply a short text beyond all bounds.
const MAX_BINDINGS: usize = 100_000;

/// How deep uses of definitions may nest.
const MAX_DEPTH: usize = 1_500;

/// Binds a query that is not a command: its product's binding and profile.
///
/// # Errors
/// Unknown names, types that do not fit, malformed calls; marked as translating.
pub(crate) fn bind(
    syn: &Syn,
    catalog: &Catalog,
    params: &Params,
) -> Result<(Bound, Profile), Error> {
    let mut binder = Binder { look: Lookup { catalog }, count: 0, depth: 0 };
    let root = binder.root(syn, params)?;
    let bound = binder.bind(&root, syn)?;
    let bound = binder.output(&bound)?;
    let profile = output::decorate(&bound);
    Ok((bound, profile))
}

/// Binds an expression as a field of a table; `params` are the names that it may refer to.
///
/// # Errors
/// As [`bind`]; there is no such table.
pub(crate) fn bind_field(
    table: &str,
    params: &[String],
    syn: &Syn,
    catalog: &Catalog,
) -> Result<(), Error> {
    let mut binder = Binder { look: Lookup { catalog }, count: 0, depth: 0 };
    let mut known = Params::new();
    for name in params {
        known.set(name, Param::null());
    }
    let root = binder.root(syn, &known)?;
    let recipe = binder.look.attribute(&root, &lookup::key(table), None);
    let recipe = recipe.ok_or_else(|| Error::quoting("Found unknown attribute", table))?;
    let scope = binder.apply(&root, &recipe, syn)?;
    binder.bind(&scope, syn).map(|_bound| ())
}

pub(super) struct Binder<'a> {
    look: Lookup<'a>,
    count: usize,
    depth: usize,
}

type Binds = Result<Bound, Error>;

/// An error at a syntax node.
fn fail(message: impl Into<String>, syn: &Syn) -> Error {
    Error::new(message).at(Stage::Translating, syn.mark())
}

impl Binder<'_> {
    fn make(&mut self, kind: Kind, base: Option<&Bound>, domain: Domain, syn: &Syn) -> Binds {
        self.count += 1;
        if self.count > MAX_BINDINGS {
            return Err(fail("Found too complex an expression", syn));
        }
        Ok(Rc::new(Binding { kind, base: base.cloned(), domain, syn: syn.clone() }))
    }

    /// A binding with its base's domain.
    fn decorate(&mut self, kind: Kind, base: &Bound, syn: &Syn) -> Binds {
        self.make(kind, Some(base), base.domain.clone(), syn)
    }

    fn root(&mut self, syn: &Syn, params: &Params) -> Binds {
        let start = crate::error::Mark { end: syn.mark().start, ..syn.mark().clone() };
        let syn = Syn::new(tree::Kind::Skip, start);
        let mut scope = self.make(Kind::Root, None, Domain::Entity, &syn)?;
        for (name, param) in params.iter() {
            let define = Kind::Define {
                name: name.to_string(),
                is_reference: true,
                arity: None,
                recipe: Rc::new(recipe::embed(param)),
            };
            scope = self.decorate(define, &scope, &syn)?;
        }
        Ok(scope)
    }

    /// Binds a node in a scope.
    fn bind(&mut self, scope: &Bound, syn: &Syn) -> Binds {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(fail("Found too deeply nested expressions", syn));
        }
        let bound = self.bind_node(scope, syn);
        self.depth -= 1;
        bound
    }

    fn bind_node(&mut self, scope: &Bound, syn: &Syn) -> Binds {
        use tree::Kind as S;
        match syn.kind() {
            S::Skip => self.make(Kind::Void, Some(scope), Domain::Void, syn),
            S::Assign { lhs, rhs } => self.bind_assign(scope, lhs, rhs, syn),
            S::Specify { .. } => Err(fail("Unable to bind a node", syn)),
            S::Function { name, args } => self.bind_call(scope, name, args.clone(), syn),
            S::Pipe { name, base, args, .. } => {
                let args = std::iter::once(base).chain(args).cloned().collect();
                self.bind_call(scope, name, args, syn)
            }
            S::Operator { .. } => self.bind_operators(scope, syn),
            S::Prefix { symbol, arm } => self.bind_prefix(scope, symbol, arm, syn),
            S::Filter { base, filter } => {
                let base = self.bind(scope, base)?;
                self.sieve(&base, filter, syn)
            }
            S::Project { base, kernel } => self.bind_project(scope, base, kernel, syn),
            S::Link { origin, target } => self.bind_link(scope, origin, target, syn),
            S::Attach { condition, target } => self.bind_attach(scope, condition, target, syn),
            S::Detach { arm } => {
                let home = self.make(Kind::Home, Some(scope), Domain::Entity, syn)?;
                self.bind(&home, arm)
            }
            S::Collect { arm } => {
                let seed = self.bind(scope, arm)?;
                self.collect(scope, &seed, syn)
            }
            S::Direct { is_descending, base } => {
                let base = self.bind(scope, base)?;
                self.decorate(Kind::Direction { is_descending: *is_descending }, &base, syn)
            }
            S::Compose { base, arm } => {
                let base = self.bind(scope, base)?;
                self.bind(&base, arm)
            }
            S::Unpack { index } => self.bind_unpack(scope, index.as_deref(), syn),
            S::Lift => match self.look.complement(scope) {
                Some(recipe) => self.apply(scope, &recipe, syn),
                None => Err(fail("'^' could only be used in a quotient scope", syn)),
            },
            S::Group { arm } => {
                let base = self.bind(scope, arm)?;
                self.decorate(Kind::Group, &base, syn)
            }
            S::Select { base, record } => {
                let base = self.bind(scope, base)?;
                self.bind_record(&base, record)
            }
            S::Locate { base, identity } => self.bind_locate(scope, base, identity, syn),
            S::Record { .. } => self.bind_record(scope, syn),
            S::List { items } => self.bind_list(scope, items, syn),
            S::Identity { labels, .. } => self.bind_identity(scope, labels, syn),
            S::Reference { name } => self.bind_reference(scope, name, syn),
            S::Ident { name } => match self.look.attribute(scope, &lookup::key(name), None) {
                Some(recipe) => self.apply(scope, &recipe, syn),
                None => self.bind_global_name(scope, name, syn),
            },
            S::String { text } | S::Label { text } => {
                self.literal(scope, Value::Text(text.clone()), Domain::Untyped, syn)
            }
            S::Integer { text } => self.number(scope, text, &Domain::Integer, syn),
            S::Decimal { text } => self.number(scope, text, &Domain::Decimal, syn),
            S::Float { text } => self.number(scope, text, &Domain::Float, syn),
        }
    }

    fn literal(&mut self, scope: &Bound, value: Value, domain: Domain, syn: &Syn) -> Binds {
        self.make(Kind::Literal { value, is_param: false }, Some(scope), domain, syn)
    }

    fn number(&mut self, scope: &Bound, text: &str, domain: &Domain, syn: &Syn) -> Binds {
        let value = crate::literal::parse(domain, text).map_err(|message| fail(message, syn))?;
        self.literal(scope, value, domain.clone(), syn)
    }

    fn bind_reference(&mut self, scope: &Bound, name: &str, syn: &Syn) -> Binds {
        match self.look.reference(scope, &lookup::key(name)) {
            Some(recipe) => self.apply(scope, &recipe, syn),
            None => Err(self.unknown_reference(scope, name, syn)),
        }
    }

    // Casts.

    /// An implicit cast: keeps name and header of the value.
    fn cast(&mut self, base: &Bound, domain: &Domain) -> Binds {
        let kind = Kind::Cast { base: base.clone(), is_implicit: true };
        let (syn, scope) = (base.syn.clone(), base.base.clone());
        self.make(kind, scope.as_ref(), domain.clone(), &syn)
    }

    /// Casts to the scalar domain a value takes by itself.
    fn scalar(&mut self, base: &Bound, message: &str) -> Binds {
        match coerce::scalar(&base.domain) {
            Some(domain) => self.cast(base, &domain),
            None => Err(fail(message, &base.syn)),
        }
    }

    /// Casts several values to their common domain.
    fn common(&mut self, items: &[Bound], syn: &Syn) -> Result<(Vec<Bound>, Domain), Error> {
        let domains: Vec<&Domain> = items.iter().map(|item| &item.domain).collect();
        let Some(domain) = coerce::common(domains.iter().copied()) else {
            if let [_] = items {
                return Err(fail("Expected a scalar value", syn));
            }
            let list = coerce::list(domains);
            let message = format!("Cannot coerce values of types {list} to a common type");
            return Err(fail(message, syn));
        };
        let cast: Result<Vec<Bound>, Error> =
            items.iter().map(|item| self.cast(item, &domain)).collect();
        Ok((cast?, domain))
    }

    fn formula(
        &mut self,
        scope: &Bound,
        op: crate::func::Op,
        args: Vec<Bound>,
        domain: Domain,
        syn: &Syn,
    ) -> Binds {
        self.make(Kind::Formula { op, args }, Some(scope), domain, syn)
    }

    /// The elements of an explicit selection, each bound in the scope; `None` for anything else.
    fn spread(&mut self, scope: &Bound, bound: &Bound) -> Result<Option<Vec<Bound>>, Error> {
        let probe = Expand { syntax: true, ..Expand::default() };
        let Some(items) = self.look.expand(bound, probe) else {
            return Ok(None);
        };
        let mut elements = Vec::with_capacity(items.len());
        for (syn, recipe) in items {
            elements.push(self.apply(scope, &recipe, &syn)?);
        }
        Ok(Some(elements))
    }
}

/// Whether a sort key is written with a `-`.
pub(crate) fn is_descending(bound: &Bound) -> bool {
    lookup::direction(bound).unwrap_or(false)
}

/// A parameter as it is known after embedding: used by ETL control commands too.
pub(crate) fn is_void(param: &Param) -> bool {
    match &param.value {
        Value::Null => true,
        Value::Text(text) => text.is_empty() && param.domain == Domain::Untyped,
        _ => false,
    }
}
