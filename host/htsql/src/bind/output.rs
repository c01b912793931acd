//! Output: records, default selectors, and the profiles of fields.

use super::binding::{Bound, Kind};
use super::lookup::{Expand, direction, guess_header, guess_tag, key};
use super::{Binder, Binds, fail};
use crate::domain::Domain;
use crate::profile::Profile;
use crate::syn::Syn;
use crate::syn::tree;

/// The profile of a binding as a field or product.
pub(super) fn decorate(bound: &Bound) -> Profile {
    Profile { tag: guess_tag(bound), header: guess_header(bound), domain: bound.domain.clone() }
}

/// The record domain of some fields.
pub(super) fn record(elements: &[Bound]) -> Domain {
    Domain::Record(elements.iter().map(decorate).collect())
}

impl Binder<'_> {
    /// Turns a binding into something that can be output: an entity or record into a selection of
    /// its fields, a value into a scalar.
    pub(super) fn output(&mut self, bound: &Bound) -> Binds {
        match &bound.domain {
            Domain::Void if matches!(bound.kind, Kind::Assign { .. }) => {
                Err(fail("Output column must be scalar", &bound.syn))
            }
            Domain::List(_) | Domain::Identity(_) | Domain::Untyped | Domain::Void => {
                Ok(bound.clone())
            }
            Domain::Entity | Domain::Record(_) => self.output_record(bound),
            _ => Ok(bound.clone()),
        }
    }

    fn output_record(&mut self, bound: &Bound) -> Binds {
        let probe = Expand { syntax: true, wild: true, class: true, link: false };
        let Some(items) = self.look.expand(bound, probe) else {
            // Lowering says what is wrong with an entity without attributes.
            return Ok(bound.clone());
        };
        let mut elements = Vec::with_capacity(items.len());
        for (syn, recipe) in items {
            let element = self.apply(bound, &recipe, &syn)?;
            elements.push(self.output_field(&element)?);
        }
        let domain = record(&elements);
        self.make(Kind::Selection { elements }, Some(bound), domain, &bound.syn.clone())
    }

    /// A field: like any output, but RexDB shows a bare link as an identity.
    fn output_field(&mut self, bound: &Bound) -> Binds {
        if bound.domain == Domain::Entity
            && self.look.shows_identity(bound)
            && let Some(recipe) = self.look.identity(bound)
        {
            let identity = self.apply(bound, &recipe, &bound.syn)?;
            let tag = guess_tag(bound);
            let header = guess_header(bound).unwrap_or_default();
            let titled = self.decorate(Kind::Title(header.clone()), &identity, &identity.syn)?;
            return match tag {
                Some(tag) => {
                    let name = tree::Kind::Ident { name: tag };
                    let syn = Syn::new(name, bound.syn.mark().clone());
                    let alias = self.decorate(Kind::Alias, &titled, &syn)?;
                    self.decorate(Kind::Title(header), &alias, &syn)
                }
                None => Ok(titled),
            };
        }
        self.output(bound)
    }

    /// `/seed`.
    pub(super) fn collect(&mut self, scope: &Bound, seed: &Bound, syn: &Syn) -> Binds {
        let seed = self.output(seed)?;
        let domain = Domain::List(Box::new(seed.domain.clone()));
        self.make(Kind::Collect { seed }, Some(scope), domain, syn)
    }

    /// `base{…}`: fields bound left to right; assignments define names for what follows, directed
    /// fields sort the flow.
    pub(super) fn bind_record(&mut self, base: &Bound, syn: &Syn) -> Binds {
        let tree::Kind::Record { items } = syn.kind() else {
            return Err(fail("Unable to bind a node", syn));
        };
        self.select(base, items, syn)
    }

    pub(super) fn select(&mut self, base: &Bound, items: &[Syn], syn: &Syn) -> Binds {
        let mut scope = base.clone();
        let mut elements = Vec::with_capacity(items.len());
        for item in items {
            let element = self.bind_field(&mut scope, item)?;
            let probe = Expand { wild: true, ..Expand::default() };
            let mut fields = Vec::new();
            match self.look.expand(&element, probe) {
                Some(items) => {
                    for (syn, recipe) in items {
                        let field = self.apply(&scope, &recipe, &syn)?;
                        let rescope = Kind::Rescope { scope: element.clone() };
                        fields.push(self.decorate(rescope, &field, &syn)?);
                    }
                }
                None => fields.push(element),
            }
            let order: Vec<Bound> =
                fields.iter().filter(|f| direction(f).is_some()).cloned().collect();
            if !order.is_empty() {
                let sort = Kind::Sort { order, limit: None, offset: None };
                scope = self.decorate(sort, &scope, &scope.syn.clone())?;
            }
            elements.append(&mut fields);
        }
        let domain = record(&elements);
        self.make(Kind::Selection { elements }, Some(&scope), domain, syn)
    }

    fn bind_field(&mut self, scope: &mut Bound, item: &Syn) -> Binds {
        let element = self.bind(scope, item)?;
        let Kind::Assign { terms, params, body } = &element.kind else {
            return Ok(element);
        };
        let [term] = terms.as_slice() else {
            let message = "Qualified definition is not allowed for an in-selector assignment";
            return Err(fail(message, item));
        };
        if params.is_some() {
            let message = "Parameterized definition is not allowed for an in-selector assignment";
            return Err(fail(message, item));
        }
        let mark = match item.kind() {
            tree::Kind::Assign { lhs, .. } => lhs.mark().clone(),
            _ => item.mark().clone(),
        };
        let name = term.name.clone();
        let kind = if term.is_reference {
            tree::Kind::Reference { name }
        } else {
            tree::Kind::Ident { name }
        };
        let syn = Syn::new(kind, mark);
        let body = body.clone();
        *scope = self.define_terms(scope, terms, None, &body, &scope.syn.clone())?;
        let recipe = match &scope.kind {
            Kind::Define { recipe, .. } => recipe.clone(),
            _ => return Err(fail("Unable to bind a node", item)),
        };
        // The value is bound in the scope before the definition.
        let Some(before) = scope.base.clone() else {
            return Err(fail("Unable to bind a node", item));
        };
        self.apply(&before, &recipe, &syn)
    }

    /// `*` and `*N`.
    pub(super) fn bind_unpack(&mut self, scope: &Bound, index: Option<&str>, syn: &Syn) -> Binds {
        let probe = Expand { syntax: true, wild: true, class: true, link: true };
        let Some(items) = self.look.expand(scope, probe) else {
            let message = "Cannot expand '*' since output columns are not defined";
            return Err(fail(message, syn));
        };
        let moved = |item: &Syn| Syn::new(item.kind().clone(), syn.mark().clone());
        if let Some(index) = index {
            let position = index.parse::<usize>().ok().filter(|n| (1..=items.len()).contains(n));
            let Some(position) = position else {
                let message = format!("Expected value in range 1-{}", items.len());
                return Err(fail(message, syn));
            };
            let (item, recipe) = &items[position - 1];
            return self.apply(scope, recipe, &moved(item));
        }
        let mut elements = Vec::with_capacity(items.len());
        for (item, recipe) in &items {
            elements.push(self.apply(scope, recipe, &moved(item))?);
        }
        let domain = record(&elements);
        self.make(Kind::Wild { elements }, Some(scope), domain, syn)
    }

    /// `()`, `(a,)`, `(a, b)`: a selection that has no rows of its own.
    pub(super) fn bind_list(&mut self, scope: &Bound, items: &[Syn], syn: &Syn) -> Binds {
        self.select(scope, items, syn)
    }

    /// `a := b` as an item: what it defines is decided by who asked for it.
    pub(super) fn bind_assign(&mut self, scope: &Bound, lhs: &Syn, rhs: &Syn, syn: &Syn) -> Binds {
        let tree::Kind::Specify { terms, params } = lhs.kind() else {
            return Err(fail("Expected an identifier", lhs));
        };
        if terms.iter().rev().skip(1).any(|term| term.is_reference) {
            return Err(fail("Expected an identifier", lhs));
        }
        let kind = Kind::Assign { terms: terms.clone(), params: params.clone(), body: rhs.clone() };
        self.make(kind, Some(scope), Domain::Void, syn)
    }
}

/// The name by which a binding can be looked up, if it has one.
pub(super) fn name_of(bound: &Bound) -> Option<String> {
    guess_tag(bound).map(|tag| key(&tag))
}
