//! Flows: filters, quotients, links by value, attachments, locators and identities.

use std::collections::VecDeque;
use std::rc::Rc;

use super::binding::{Bound, Kind, Recipe};
use super::lookup::{Expand, LIFT};
use super::output::name_of;
use super::{Binder, Binds, fail};
use crate::coerce;
use crate::domain::Domain;
use crate::error::Error;
use crate::syn::Syn;
use crate::syn::tree;
use crate::value::Value;

/// Labels of a locator as they are consumed: nested groups, or values.
enum Item {
    Group(VecDeque<Item>),
    Leaf(Bound),
}

impl Item {
    fn width(&self) -> usize {
        match self {
            Item::Group(items) => items.iter().map(Item::width).sum(),
            Item::Leaf(_) => 1,
        }
    }
}

impl Binder<'_> {
    pub(super) fn sieve(&mut self, base: &Bound, filter: &Syn, syn: &Syn) -> Binds {
        let filter = self.bind(base, filter)?;
        let filter = self.cast(&filter, &Domain::Boolean)?;
        self.decorate(Kind::Sieve(filter), base, syn)
    }

    /// `seed ^ kernel`.
    pub(super) fn bind_project(
        &mut self,
        scope: &Bound,
        seed: &Syn,
        kernel: &Syn,
        syn: &Syn,
    ) -> Binds {
        let seed = self.bind(scope, seed)?;
        let bound = self.bind(&seed, kernel)?;
        let elements = match self.spread(&bound, &bound)? {
            Some(elements) => {
                let mut rescoped = Vec::with_capacity(elements.len());
                for element in elements {
                    let kind = Kind::Rescope { scope: bound.clone() };
                    rescoped.push(self.decorate(kind, &element, &element.syn.clone())?);
                }
                rescoped
            }
            None => vec![bound],
        };
        self.quotient(scope, &seed, &elements, "Expected a scalar column", syn)
    }

    /// A quotient with names for its complement and kernels.
    pub(super) fn quotient(
        &mut self,
        scope: &Bound,
        seed: &Bound,
        elements: &[Bound],
        message: &str,
        syn: &Syn,
    ) -> Binds {
        let kernels = elements
            .iter()
            .map(|element| self.scalar(element, message))
            .collect::<Result<Vec<_>, Error>>()?;
        let kind = Kind::Quotient { seed: seed.clone(), kernels: kernels.clone() };
        let quotient = self.make(kind, Some(scope), Domain::Entity, syn)?;
        let mut names = Vec::new();
        if let Some(name) = name_of(seed) {
            names.push((name, Recipe::Complement(quotient.clone())));
        }
        for (index, kernel) in kernels.iter().enumerate() {
            if let Some(name) = name_of(kernel) {
                names.push((name, Recipe::Kernel(quotient.clone(), index)));
            }
        }
        let mut bound = quotient;
        for (name, recipe) in names {
            let define = Kind::Define {
                name,
                is_reference: false,
                arity: None,
                recipe: Rc::new(Recipe::Closed(Box::new(recipe))),
            };
            bound = self.decorate(define, &bound, syn)?;
        }
        Ok(bound)
    }

    /// `origin -> target{images}`; without images, the origin's are looked up in the target.
    pub(super) fn bind_link(
        &mut self,
        scope: &Bound,
        origin: &Syn,
        target: &Syn,
        syn: &Syn,
    ) -> Binds {
        let bound = self.bind(scope, origin)?;
        let origins = self.images(scope, &bound)?;
        let home = self.make(Kind::Home, Some(scope), Domain::Entity, syn)?;
        let seed = self.bind(&home, target)?;
        let probe = Expand { syntax: true, ..Expand::default() };
        let targets = if self.look.expand(&seed, probe).is_some() {
            self.images(&seed, &seed)?
        } else {
            let bound = self.bind(&seed, origin)?;
            self.images(&seed, &bound)?
        };
        if origins.len() != targets.len() {
            return Err(fail("Found unbalanced origin and target columns", syn));
        }
        let mut images = Vec::with_capacity(origins.len());
        for (origin, target) in origins.iter().zip(&targets) {
            let Some(domain) = coerce::common([&origin.domain, &target.domain]) else {
                let message = "Cannot coerce origin and target columns to a common type";
                return Err(fail(message, syn));
            };
            images.push((self.cast(origin, &domain)?, self.cast(target, &domain)?));
        }
        let kind = Kind::Attach { seed, images, condition: None };
        self.make(kind, Some(scope), Domain::Entity, syn)
    }

    fn images(&mut self, scope: &Bound, bound: &Bound) -> Result<Vec<Bound>, Error> {
        Ok(match self.spread(scope, bound)? {
            Some(elements) => {
                let mut rescoped = Vec::with_capacity(elements.len());
                for element in elements {
                    let kind = Kind::Rescope { scope: bound.clone() };
                    rescoped.push(self.decorate(kind, &element, &element.syn.clone())?);
                }
                rescoped
            }
            None => vec![bound.clone()],
        })
    }

    /// `condition @ target`: in the condition, `^` and the target's name are the candidate row.
    pub(super) fn bind_attach(
        &mut self,
        scope: &Bound,
        condition: &Syn,
        target: &Syn,
        syn: &Syn,
    ) -> Binds {
        let home = self.make(Kind::Home, Some(scope), Domain::Entity, syn)?;
        let seed = self.bind(&home, target)?;
        let recipe = Recipe::Closed(Box::new(Recipe::Bound(seed.clone())));
        let mut inner = scope.clone();
        for name in [Some(LIFT.to_string()), name_of(&seed)].into_iter().flatten() {
            let define = Kind::Define {
                name,
                is_reference: false,
                arity: None,
                recipe: Rc::new(recipe.clone()),
            };
            inner = self.decorate(define, &inner, &scope.syn.clone())?;
        }
        let condition = self.bind(&inner, condition)?;
        let condition = self.cast(&condition, &Domain::Boolean)?;
        let kind = Kind::Attach { seed, images: Vec::new(), condition: Some(condition) };
        self.make(kind, Some(scope), Domain::Entity, syn)
    }

    /// `base[identity]`.
    pub(super) fn bind_locate(
        &mut self,
        scope: &Bound,
        base: &Syn,
        identity: &Syn,
        syn: &Syn,
    ) -> Binds {
        let seed = self.bind(scope, base)?;
        let Some(recipe) = self.look.identity(&seed) else {
            return Err(fail("Cannot determine identity", &seed.syn));
        };
        let own = self.apply(&seed, &recipe, identity)?;
        let tree::Kind::Identity { labels, .. } = identity.kind() else {
            return Err(fail("Found ill-formed locator", identity));
        };
        let mut items = self.locator_items(scope, labels)?;
        // A lone group is the whole identity: `[$id]`, `[[a.b]]`.
        while let Some(group) = lone_group(&mut items) {
            items = group;
        }
        let mut leaves = Vec::new();
        if !self.align(&own, &mut items, &mut leaves)? || !items.is_empty() {
            return Err(fail("Found ill-formed locator", identity));
        }
        let kind = Kind::Locate { seed, leaves };
        self.make(kind, Some(scope), Domain::Entity, syn)
    }

    fn locator_items(&mut self, scope: &Bound, labels: &[Syn]) -> Result<VecDeque<Item>, Error> {
        let mut items = VecDeque::with_capacity(labels.len());
        for label in labels {
            if let tree::Kind::Identity { labels, .. } = label.kind() {
                items.push_back(Item::Group(self.locator_items(scope, labels)?));
                continue;
            }
            let bound = self.bind(scope, label)?;
            items.push_back(item(&bound));
        }
        Ok(items)
    }

    /// Pairs the leaves of an identity with located values; false when the shapes differ.
    fn align(
        &mut self,
        own: &Bound,
        items: &mut VecDeque<Item>,
        leaves: &mut Vec<(Bound, Bound)>,
    ) -> Result<bool, Error> {
        let Some(elements) = identity_elements(own) else {
            return Ok(false);
        };
        for element in elements {
            let width = element.domain.width();
            if identity_elements(element).is_none() {
                match items.pop_front() {
                    Some(Item::Leaf(value)) => {
                        let value = self.cast(&value, &element.domain)?;
                        leaves.push((element.clone(), value));
                    }
                    Some(Item::Group(mut group)) if group.len() == 1 => {
                        items.push_front(group.remove(0).unwrap_or(Item::Group(VecDeque::new())));
                        let Some(Item::Leaf(value)) = items.pop_front() else {
                            return Ok(false);
                        };
                        let value = self.cast(&value, &element.domain)?;
                        leaves.push((element.clone(), value));
                    }
                    _ => return Ok(false),
                }
            } else {
                match items.front() {
                    Some(Item::Group(group)) => {
                        if group.iter().map(Item::width).sum::<usize>() != width {
                            return Ok(false);
                        }
                        let Some(Item::Group(mut group)) = items.pop_front() else {
                            return Ok(false);
                        };
                        if !self.align(element, &mut group, leaves)? || !group.is_empty() {
                            return Ok(false);
                        }
                    }
                    _ => {
                        if !self.align(element, items, leaves)? {
                            return Ok(false);
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    /// `[a.b]`: an identity value of untyped labels.
    pub(super) fn bind_identity(&mut self, scope: &Bound, labels: &[Syn], syn: &Syn) -> Binds {
        let mut elements = Vec::with_capacity(labels.len());
        for label in labels {
            elements.push(self.bind(scope, label)?);
        }
        self.identity_of(scope, elements, syn)
    }

    pub(super) fn identity_of(&mut self, scope: &Bound, elements: Vec<Bound>, syn: &Syn) -> Binds {
        let domain = Domain::Identity(elements.iter().map(|e| e.domain.clone()).collect());
        self.make(Kind::Identity { elements }, Some(scope), domain, syn)
    }

    /// The identity of a binding: its own value, or that of the entity it is; `None` for others.
    pub(super) fn as_identity(&mut self, bound: &Bound) -> Result<Option<Bound>, Error> {
        match &bound.domain {
            Domain::Identity(_) => Ok(Some(bound.clone())),
            Domain::Entity => match self.look.identity(bound) {
                Some(recipe) => self.apply(bound, &recipe, &bound.syn).map(Some),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// A literal read as an identity of the given labels.
    pub(super) fn literal_identity(
        &mut self,
        scope: &Bound,
        labels: &[Domain],
        value: &Value,
        syn: &Syn,
    ) -> Binds {
        let parsed = match value {
            Value::Text(text) => {
                let domain = Domain::Identity(labels.into());
                match crate::literal::parse(&domain, text) {
                    Ok(value) => value,
                    Err(reason) => {
                        let message = format!("Cannot coerce [{text}] to {domain}");
                        return Err(Error::quoting(message, reason)
                            .at(crate::error::Stage::Translating, syn.mark()));
                    }
                }
            }
            other => other.clone(),
        };
        let values = match parsed {
            Value::Identity(values) => values,
            _ => vec![Value::Null; labels.len()],
        };
        let mut elements = Vec::with_capacity(labels.len());
        for (label, value) in labels.iter().zip(values) {
            elements.push(match label {
                Domain::Identity(inner) => self.literal_identity(scope, inner, &value, syn)?,
                leaf => self.literal(scope, value, leaf.clone(), syn)?,
            });
        }
        self.identity_of(scope, elements, syn)
    }

    /// Definitions of `define`, `given` and `where`.
    pub(super) fn define_all(
        &mut self,
        scope: &Bound,
        name: &str,
        items: &[Syn],
    ) -> Result<Bound, Error> {
        let mut scope = scope.clone();
        for item in items {
            let bound = self.bind(&scope, item)?;
            let Kind::Assign { terms, params, body } = &bound.kind else {
                let message = format!("Function '{name}' expects an assignment expression");
                return Err(fail(message, item));
            };
            let (terms, params) = (terms.clone(), params.clone());
            let syn = scope.syn.clone();
            scope = self.define_terms(&scope, &terms, params.as_deref(), &body.clone(), &syn)?;
        }
        Ok(scope)
    }
}

/// Takes the labels out of a group that is alone.
fn lone_group(items: &mut VecDeque<Item>) -> Option<VecDeque<Item>> {
    match items.make_contiguous() {
        [Item::Group(group)] => Some(std::mem::take(group)),
        _ => None,
    }
}

fn item(bound: &Bound) -> Item {
    match identity_elements(bound) {
        Some(elements) => Item::Group(elements.iter().map(item).collect()),
        None => Item::Leaf(bound.clone()),
    }
}

/// The elements of an identity value, through whatever decorates it.
pub(crate) fn identity_elements(bound: &Bound) -> Option<&Vec<Bound>> {
    let mut bound = bound;
    loop {
        bound = match &bound.kind {
            Kind::Identity { elements } => return Some(elements),
            Kind::Cast { base, is_implicit: true } => base,
            _ if bound.is_decoration() => bound.base.as_ref()?,
            _ => return None,
        };
    }
}
