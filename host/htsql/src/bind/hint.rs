//! Errors of unknown names, with suggestions.

use super::binding::Bound;
use super::lookup::{guess_tag, key};
use super::{Binder, fail};
use crate::catalog::Naming;
use crate::error::{Error, Stage};
use crate::func;
use crate::name::similar;
use crate::syn::Syn;
use crate::syn::tree;

/// How many arguments a name takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Arity {
    /// A plain name.
    Bare,
    /// A function that checks the count itself.
    Any,
    Exactly(usize),
}

impl Binder<'_> {
    /// All names known in a scope with their arities, sorted.
    fn known(&self, scope: &Bound) -> Vec<(String, Arity)> {
        let attributes = self.look.attributes(scope).into_iter();
        let mut known: Vec<(String, Arity)> = attributes
            .map(|(name, arity)| (name, arity.map_or(Arity::Bare, Arity::Exactly)))
            .collect();
        known.extend(func::BARE.iter().map(|name| ((*name).to_string(), Arity::Bare)));
        known.extend(func::SPECIAL.iter().map(|name| ((*name).to_string(), Arity::Any)));
        let functions = func::FUNCTIONS.iter().map(|f| f.name);
        if self.look.catalog.naming() == Naming::Rex {
            let special = func::SPECIAL_REX.iter().copied();
            known.extend(functions.chain(special).map(|name| (name.to_string(), Arity::Any)));
        } else {
            let stock = functions.filter(|name| func::STOCK.contains(name));
            known.extend(stock.map(|name| (name.to_string(), Arity::Any)));
        }
        known.sort();
        known.dedup();
        known
    }

    pub(super) fn unknown_attribute(&self, scope: &Bound, name: &str, syn: &Syn) -> Error {
        let model = key(name);
        let known = self.known(scope);
        let choices = if self.look.references(scope).contains(&model) {
            vec![format!("a reference '${model}'")]
        } else if known.iter().any(|(name, arity)| *name == model && *arity != Arity::Bare) {
            vec![format!("a function '{model}'")]
        } else {
            let similar = known.iter().filter(|(name, arity)| {
                *arity == Arity::Bare && *name != model && similar(&model, name)
            });
            similar.map(|(name, _)| name.clone()).collect()
        };
        let quote = match guess_tag(scope) {
            Some(tag) => format!("{tag}.{name}"),
            None => name.to_string(),
        };
        Error::quoting("Found unknown attribute", quote)
            .hint(&choices)
            .at(Stage::Translating, syn.mark())
    }

    pub(super) fn unknown_function(
        &self,
        scope: &Bound,
        name: &str,
        count: usize,
        syn: &Syn,
    ) -> Error {
        let model = key(name);
        let known = self.known(scope);
        let mut arities: Vec<usize> = known
            .iter()
            .filter(|(name, _)| *name == model)
            .filter_map(|(_, arity)| match arity {
                Arity::Exactly(n) if *n != count => Some(*n),
                _ => None,
            })
            .collect();
        arities.sort_unstable();
        if let Some((last, rest)) = arities.split_last() {
            let numbers = if rest.is_empty() {
                last.to_string()
            } else {
                let rest: Vec<String> = rest.iter().map(usize::to_string).collect();
                format!("{} or {last}", rest.join(", "))
            };
            let noun = if *last == 1 { "argument" } else { "arguments" };
            let message = format!("Function '{name}' requires {numbers} {noun}; got {count}");
            return fail(message, syn);
        }
        let choices = if known.contains(&(model.clone(), Arity::Bare)) {
            vec![format!("an attribute '{model}'")]
        } else {
            let similar = known.iter().filter(|(name, arity)| {
                matches!(arity, Arity::Any | Arity::Exactly(_))
                    && (*arity == Arity::Any || *arity == Arity::Exactly(count))
                    && *name != model
                    && similar(&model, name)
            });
            let mut names: Vec<String> = similar.map(|(name, _)| name.clone()).collect();
            names.dedup();
            names
        };
        Error::quoting("Found unknown function", name)
            .hint(&choices)
            .at(Stage::Translating, syn.mark())
    }

    pub(super) fn unknown_reference(&self, scope: &Bound, name: &str, syn: &Syn) -> Error {
        let model = key(name);
        let references = self.look.references(scope);
        let similar = references.iter().filter(|name| similar(&model, name));
        let choices: Vec<String> = similar.map(|name| format!("${name}")).collect();
        Error::quoting("Found unknown reference", format!("${name}"))
            .hint(&choices)
            .at(Stage::Translating, syn.mark())
    }

    /// A name that is not an attribute: a constant or an error.
    pub(super) fn bind_global_name(
        &mut self,
        scope: &Bound,
        name: &str,
        syn: &Syn,
    ) -> super::Binds {
        if func::BARE.contains(&key(name).as_str()) {
            return self.bind_constant(scope, &key(name), syn);
        }
        debug_assert!(matches!(syn.kind(), tree::Kind::Ident { .. }));
        Err(self.unknown_attribute(scope, name, syn))
    }
}
