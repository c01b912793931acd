//! Recipes: from what a lookup found to a binding in the scope of the use.

use std::rc::Rc;

use super::binding::{Bound, Kind, Recipe};
use super::lookup::key;
use super::{Binder, Binds, fail, output};
use crate::domain::Domain;
use crate::error::Error;
use crate::syn::Syn;
use crate::syn::tree;
use crate::value::{Param, Value};

/// The recipe of a parameter: scalars are literals, lists and records selections of them.
pub(super) fn embed(param: &Param) -> Recipe {
    match (&param.domain, &param.value) {
        (Domain::List(item), Value::List(values)) => Recipe::Selection(
            values
                .iter()
                .map(|v| embed(&Param { domain: (**item).clone(), value: v.clone() }))
                .collect(),
        ),
        (Domain::Record(fields), Value::Record(values)) => Recipe::Selection(
            fields
                .iter()
                .zip(values)
                .map(|(field, v)| {
                    let value = embed(&Param { domain: field.domain.clone(), value: v.clone() });
                    match &field.tag {
                        Some(tag) => Recipe::Named(tag.clone(), Box::new(value)),
                        None => value,
                    }
                })
                .collect(),
        ),
        (Domain::Identity(labels), Value::Identity(values)) => Recipe::Identity(
            labels
                .iter()
                .zip(values)
                .map(|(label, v)| embed(&Param { domain: label.clone(), value: v.clone() }))
                .collect(),
        ),
        (Domain::Identity(labels), Value::Null) => Recipe::Identity(
            labels
                .iter()
                .map(|label| embed(&Param { domain: label.clone(), value: Value::Null }))
                .collect(),
        ),
        (Domain::Record(_) | Domain::List(_) | Domain::Void | Domain::Entity, _) => {
            Recipe::Literal { domain: Domain::Untyped, value: Value::Null, is_param: true }
        }
        (domain, value) => {
            Recipe::Literal { domain: domain.clone(), value: value.clone(), is_param: true }
        }
    }
}

impl Binder<'_> {
    /// Applies a recipe in a scope for a use written as `syn`.
    pub(super) fn apply(&mut self, scope: &Bound, recipe: &Recipe, syn: &Syn) -> Binds {
        match recipe {
            Recipe::Literal { domain, value, is_param } => {
                let kind = Kind::Literal { value: value.clone(), is_param: *is_param };
                self.make(kind, Some(scope), domain.clone(), syn)
            }
            Recipe::Selection(recipes) => {
                let elements = recipes
                    .iter()
                    .map(|recipe| self.apply(scope, recipe, syn))
                    .collect::<Result<Vec<_>, Error>>()?;
                let domain = output::record(&elements);
                self.make(Kind::Selection { elements }, Some(scope), domain, syn)
            }
            Recipe::Table(id, title) => {
                self.make(Kind::Table(*id, title.clone()), Some(scope), Domain::Entity, syn)
            }
            Recipe::Chain(join, title) => {
                self.make(Kind::Chain(*join, title.clone()), Some(scope), Domain::Entity, syn)
            }
            Recipe::Column { column, link, title } => {
                self.apply_column(scope, *column, link.as_deref(), title.as_ref(), syn)
            }
            Recipe::Kernel(quotient, index) => {
                let domain = match &quotient.kind {
                    Kind::Quotient { kernels, .. } => kernels[*index].domain.clone(),
                    _ => Domain::Void,
                };
                let kind = Kind::Kernel { index: *index };
                self.make(kind, Some(scope), domain, syn)
            }
            Recipe::Complement(quotient) => {
                let kind = Kind::Complement { quotient: quotient.clone() };
                self.make(kind, Some(scope), Domain::Entity, syn)
            }
            Recipe::Identity(recipes) => {
                let elements = recipes
                    .iter()
                    .map(|recipe| self.apply(scope, recipe, syn))
                    .collect::<Result<Vec<_>, Error>>()?;
                let labels = elements.iter().map(|element| element.domain.clone()).collect();
                let domain = Domain::Identity(labels);
                self.make(Kind::Identity { elements }, Some(scope), domain, syn)
            }
            Recipe::Sequence(recipes) => {
                let mut bound = scope.clone();
                for recipe in recipes {
                    bound = self.apply(&bound, recipe, syn)?;
                }
                Ok(bound)
            }
            Recipe::Substitution { base, terms, params, body } => {
                if terms.is_empty() {
                    self.substitute(scope, base, params.as_deref(), body, syn)
                } else {
                    self.apply_qualified(scope, base, terms, params.as_deref(), body, syn)
                }
            }
            Recipe::Bound(bound) => Ok(bound.clone()),
            Recipe::Closed(recipe) => {
                let bound = self.apply(scope, recipe, syn)?;
                self.decorate(Kind::Alias, &bound, syn)
            }
            Recipe::Named(name, recipe) => {
                let bound = self.apply(scope, recipe, syn)?;
                let name = Syn::new(tree::Kind::Ident { name: name.clone() }, syn.mark().clone());
                self.decorate(Kind::Alias, &bound, &name)
            }
            Recipe::Ambiguous(choices) => {
                let error = Error::quoting("Found ambiguous name", syn.to_string());
                Err(error.hint(choices).at(crate::error::Stage::Translating, syn.mark()))
            }
        }
    }

    fn apply_column(
        &mut self,
        scope: &Bound,
        column: usize,
        link: Option<&Recipe>,
        title: Option<&String>,
        syn: &Syn,
    ) -> Binds {
        let link = link.map(|link| self.apply(scope, link, syn)).transpose()?;
        let Some(table) = self.table_of(scope) else {
            return Err(fail("Unable to bind a node", syn));
        };
        let domain = self.look.catalog.column(table, column).domain.clone();
        let kind = Kind::Column { column, link, title: title.cloned() };
        self.make(kind, Some(scope), domain, syn)
    }

    /// The table whose rows a scope has.
    pub(super) fn table_of(&self, scope: &Bound) -> Option<crate::catalog::TableId> {
        let mut scope = scope;
        loop {
            scope = match &scope.kind {
                Kind::Table(id, _) => return Some(*id),
                Kind::Chain(join, _) => return Some(self.look.catalog.target(*join)),
                Kind::Column { link, .. } => link.as_ref()?,
                Kind::Complement { quotient } => match &quotient.kind {
                    Kind::Quotient { seed, .. } => seed,
                    _ => return None,
                },
                Kind::Cover { seed }
                | Kind::Attach { seed, .. }
                | Kind::Clip { seed, .. }
                | Kind::Locate { seed, .. } => seed,
                Kind::Fork { .. } => scope.base.as_ref()?,
                _ if scope.is_decoration() => scope.base.as_ref()?,
                _ => return None,
            };
        }
    }

    /// Binds the body of a definition: names are looked up where it was defined, rows are those of
    /// the use.
    fn substitute(
        &mut self,
        scope: &Bound,
        base: &Bound,
        params: Option<&[tree::Term]>,
        body: &Syn,
        syn: &Syn,
    ) -> Binds {
        let rerouted = Kind::Reroute { target: base.clone() };
        let mut inner = self.decorate(rerouted, scope, &scope.syn.clone())?;
        let args: &[Syn] = match syn.kind() {
            tree::Kind::Function { args, .. } => args,
            tree::Kind::Pipe { args, .. } => args,
            _ => &[],
        };
        let piped = match syn.kind() {
            tree::Kind::Pipe { base, .. } => Some(base),
            _ => None,
        };
        let args: Vec<&Syn> = piped.into_iter().chain(args).collect();
        for (term, arg) in params.unwrap_or_default().iter().zip(args) {
            let arg = self.bind(scope, arg)?;
            let define = Kind::Define {
                name: key(&term.name),
                is_reference: term.is_reference,
                arity: None,
                recipe: Rc::new(Recipe::Closed(Box::new(Recipe::Bound(arg)))),
            };
            inner = self.decorate(define, &inner, &scope.syn.clone())?;
        }
        let bound = self.bind(&inner, body)?;
        let hidden = Kind::ReferenceReroute { target: scope.clone() };
        self.decorate(hidden, &bound, &bound.syn.clone())
    }

    /// `a.b := …`: the attribute `a` with the definition of `b` added to its scope.
    fn apply_qualified(
        &mut self,
        scope: &Bound,
        base: &Bound,
        terms: &[tree::Term],
        params: Option<&[tree::Term]>,
        body: &Syn,
        syn: &Syn,
    ) -> Binds {
        let name = match syn.kind() {
            tree::Kind::Ident { name } => key(name),
            _ => return Err(fail("Unable to bind a node", syn)),
        };
        let Some(recipe) = self.look.attribute(base, &name, None) else {
            return Err(self.unknown_attribute(base, &name, syn));
        };
        let bound = self.apply(scope, &recipe, syn)?;
        self.define_terms(&bound, terms, params, body, syn)
    }

    /// Adds a definition to a scope.
    pub(super) fn define_terms(
        &mut self,
        scope: &Bound,
        terms: &[tree::Term],
        params: Option<&[tree::Term]>,
        body: &Syn,
        syn: &Syn,
    ) -> Binds {
        let Some((term, rest)) = terms.split_first() else {
            return Ok(scope.clone());
        };
        let recipe = if term.is_reference {
            Recipe::Bound(self.bind(scope, body)?)
        } else {
            Recipe::Substitution {
                base: scope.clone(),
                terms: rest.to_vec(),
                params: params.map(<[tree::Term]>::to_vec),
                body: body.clone(),
            }
        };
        let arity = if rest.is_empty() { params.map(<[tree::Term]>::len) } else { None };
        let define = Kind::Define {
            name: key(&term.name),
            is_reference: term.is_reference,
            arity,
            recipe: Rc::new(Recipe::Closed(Box::new(recipe))),
        };
        self.decorate(define, scope, syn)
    }
}
