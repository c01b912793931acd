//! Lookups: what each kind of binding answers to names, `*`, `^`, `id()`, and how it is called.

use std::collections::BTreeSet;

use super::binding::{Bound, Kind, Recipe};
use crate::catalog::{Arc, Catalog, Element, Identity, Label, Naming, TableId};
use crate::error::Mark;
use crate::name::to_name;
use crate::syn::Syn;
use crate::syn::tree;

/// What an expansion may open: explicit selections, wildcards, public attributes of the class,
/// links behind columns.
#[derive(Clone, Copy, Default)]
pub(super) struct Expand {
    pub(super) syntax: bool,
    pub(super) wild: bool,
    pub(super) class: bool,
    pub(super) link: bool,
}

/// The name under which `^` is defined in the condition of an attachment; no identifier.
pub(super) const LIFT: &str = "^";

pub(super) type Items = Vec<(Syn, Recipe)>;

pub(super) struct Lookup<'a> {
    pub(super) catalog: &'a Catalog,
}

impl Lookup<'_> {
    fn recipe(&self, label: &Label) -> Recipe {
        let title = label.title.clone();
        match &label.arc {
            Arc::Table(id) => Recipe::Table(*id, title),
            Arc::Column(column, link) => Recipe::Column {
                column: *column,
                link: link.map(|join| Box::new(Recipe::Chain(join, None))),
                title,
            },
            Arc::Link(join) => Recipe::Chain(*join, title),
            // Aliases need a scope; `attribute` makes them.
            Arc::Alias { .. } => Recipe::Ambiguous(vec![label.name.clone()]),
            Arc::Ambiguous(choices) => Recipe::Ambiguous(choices.clone()),
        }
    }

    /// The recipe of an attribute of a scope, by normalised name.
    pub(super) fn attribute(
        &self,
        scope: &Bound,
        name: &str,
        arity: Option<usize>,
    ) -> Option<Recipe> {
        let mut scope = scope;
        loop {
            let next = match &scope.kind {
                Kind::Root | Kind::Home => {
                    let label = self.catalog.find_home_label(name, arity)?;
                    return Some(self.recipe(label));
                }
                Kind::Table(id, _) => return self.table_attribute(scope, *id, name, arity),
                Kind::Chain(join, _) => {
                    let id = self.catalog.target(*join);
                    return self.table_attribute(scope, id, name, arity);
                }
                Kind::Column { link, .. } => link.as_ref()?,
                Kind::Complement { quotient } => quotient_seed(quotient)?,
                Kind::Cover { seed }
                | Kind::Attach { seed, .. }
                | Kind::Clip { seed, .. }
                | Kind::Locate { seed, .. } => seed,
                Kind::Fork { .. } => scope.base.as_ref()?,
                Kind::Define { name: defined, is_reference: false, arity: params, recipe }
                    if defined == name && *params == arity =>
                {
                    return Some((**recipe).clone());
                }
                Kind::Reroute { target } => target,
                _ if scope.is_decoration() => scope.base.as_ref()?,
                _ => return None,
            };
            scope = next;
        }
    }

    fn table_attribute(
        &self,
        scope: &Bound,
        id: TableId,
        name: &str,
        arity: Option<usize>,
    ) -> Option<Recipe> {
        let label = self.catalog.find_table_label(id, name, arity)?;
        if let Arc::Alias { body, params } = &label.arc {
            let body = crate::syn::parse(body).ok()?;
            let params = arity.map(|_| {
                let term = |(name, is_reference): &(String, bool)| tree::Term {
                    name: name.clone(),
                    is_reference: *is_reference,
                };
                params.iter().map(term).collect()
            });
            return Some(Recipe::Closed(Box::new(Recipe::Substitution {
                base: scope.clone(),
                terms: Vec::new(),
                params,
                body,
            })));
        }
        Some(self.recipe(label))
    }

    /// Names and arities of all attributes of a scope.
    pub(super) fn attributes(&self, scope: &Bound) -> BTreeSet<(String, Option<usize>)> {
        let mut found = BTreeSet::new();
        let mut scope = scope;
        let mut add = |labels: &[Label]| {
            found.extend(labels.iter().map(|label| (label.name.clone(), label.arity)));
        };
        let mut defined = Vec::new();
        loop {
            let next = match &scope.kind {
                Kind::Root | Kind::Home => {
                    add(self.catalog.home_labels());
                    None
                }
                Kind::Table(id, _) => {
                    add(self.catalog.table_labels(*id));
                    None
                }
                Kind::Chain(join, _) => {
                    add(self.catalog.table_labels(self.catalog.target(*join)));
                    None
                }
                Kind::Column { link, .. } => link.as_ref(),
                Kind::Complement { quotient } => quotient_seed(quotient),
                Kind::Cover { seed }
                | Kind::Attach { seed, .. }
                | Kind::Clip { seed, .. }
                | Kind::Locate { seed, .. } => Some(seed),
                Kind::Fork { .. } => scope.base.as_ref(),
                Kind::Reroute { target } => Some(target),
                Kind::Define { name, is_reference: false, arity, .. } => {
                    defined.push((name.clone(), *arity));
                    scope.base.as_ref()
                }
                _ if scope.is_decoration() => scope.base.as_ref(),
                _ => None,
            };
            match next {
                Some(next) => scope = next,
                None => break,
            }
        }
        found.extend(defined);
        found
    }

    /// The recipe of a reference, looked up through all enclosing scopes.
    pub(super) fn reference(&self, scope: &Bound, name: &str) -> Option<Recipe> {
        let mut scope = scope;
        loop {
            scope = match &scope.kind {
                Kind::Define { name: defined, is_reference: true, recipe, .. }
                    if defined == name =>
                {
                    return Some((**recipe).clone());
                }
                Kind::Reroute { target } | Kind::ReferenceReroute { target } => target,
                _ => scope.base.as_ref()?,
            };
        }
    }

    /// Names of all references that are visible.
    pub(super) fn references(&self, scope: &Bound) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut scope = Some(scope);
        while let Some(at) = scope {
            if let Kind::Define { name, is_reference: true, .. } = &at.kind {
                found.insert(name.clone());
            }
            scope = match &at.kind {
                Kind::Reroute { target } | Kind::ReferenceReroute { target } => Some(target),
                _ => at.base.as_ref(),
            };
        }
        found
    }

    /// The complement of the quotient that a scope is.
    pub(super) fn complement(&self, scope: &Bound) -> Option<Recipe> {
        let mut scope = scope;
        loop {
            scope = match &scope.kind {
                Kind::Quotient { .. } => return Some(Recipe::Complement(scope.clone())),
                Kind::Define { name, recipe, .. } if name == LIFT => {
                    return Some((**recipe).clone());
                }
                Kind::Complement { quotient } => quotient_seed(quotient)?,
                Kind::Cover { seed }
                | Kind::Attach { seed, .. }
                | Kind::Clip { seed, .. }
                | Kind::Locate { seed, .. } => seed,
                Kind::Fork { .. } => scope.base.as_ref()?,
                Kind::Reroute { target } => target,
                _ if scope.is_decoration() => scope.base.as_ref()?,
                _ => return None,
            };
        }
    }

    /// What a binding is made of, for `*` and default output.
    pub(super) fn expand(&self, bound: &Bound, mut probe: Expand) -> Option<Items> {
        let mut bound = bound;
        loop {
            let next = match &bound.kind {
                Kind::Root | Kind::Home => return probe.class.then(Vec::new),
                Kind::Table(id, _) if probe.class => {
                    return Some(self.public(*id, bound.syn.mark()));
                }
                Kind::Chain(join, _) if probe.class => {
                    return Some(self.public(self.catalog.target(*join), bound.syn.mark()));
                }
                Kind::Column { link, .. } if probe.link => link.as_ref()?,
                Kind::Quotient { kernels, .. } if probe.class => {
                    let items = kernels.iter().enumerate();
                    return Some(
                        items
                            .map(|(i, k)| (k.syn.clone(), Recipe::Kernel(bound.clone(), i)))
                            .collect(),
                    );
                }
                Kind::Complement { .. }
                | Kind::Cover { .. }
                | Kind::Attach { .. }
                | Kind::Clip { .. }
                | Kind::Locate { .. }
                | Kind::Fork { .. } => {
                    if !probe.class {
                        return None;
                    }
                    probe.syntax = false;
                    probe.wild = false;
                    match &bound.kind {
                        Kind::Complement { quotient } => quotient_seed(quotient)?,
                        Kind::Cover { seed }
                        | Kind::Attach { seed, .. }
                        | Kind::Clip { seed, .. }
                        | Kind::Locate { seed, .. } => seed,
                        _ => bound.base.as_ref()?,
                    }
                }
                Kind::Selection { elements } if probe.syntax => return Some(items(elements)),
                Kind::Selection { .. } => {
                    probe.wild = false;
                    bound.base.as_ref()?
                }
                Kind::Wild { elements } if probe.wild => return Some(items(elements)),
                Kind::Reroute { target } => target,
                Kind::Rescope { .. } => bound.base.as_ref()?,
                _ if bound.is_decoration() => bound.base.as_ref()?,
                _ => return None,
            };
            bound = next;
        }
    }

    fn public(&self, id: TableId, mark: &Mark) -> Items {
        let labels = self.catalog.table_labels(id).iter().filter(|label| label.is_public);
        labels
            .map(|label| {
                let kind = tree::Kind::Ident { name: label.name.clone() };
                (Syn::new(kind, mark.clone()), self.recipe(label))
            })
            .collect()
    }

    /// The recipe of `id()` in a scope.
    pub(super) fn identity(&self, scope: &Bound) -> Option<Recipe> {
        let mut scope = scope;
        loop {
            let id = match &scope.kind {
                Kind::Table(id, _) => *id,
                Kind::Chain(join, _) => self.catalog.target(*join),
                Kind::Column { link, .. } => {
                    scope = link.as_ref()?;
                    continue;
                }
                Kind::Complement { quotient } => {
                    scope = quotient_seed(quotient)?;
                    continue;
                }
                Kind::Cover { seed }
                | Kind::Attach { seed, .. }
                | Kind::Clip { seed, .. }
                | Kind::Locate { seed, .. } => {
                    scope = seed;
                    continue;
                }
                Kind::Reroute { target } => {
                    scope = target;
                    continue;
                }
                Kind::Fork { .. } => {
                    scope = scope.base.as_ref()?;
                    continue;
                }
                _ if scope.is_decoration() => {
                    scope = scope.base.as_ref()?;
                    continue;
                }
                _ => return None,
            };
            return self.catalog.identity(id).map(identity_recipe);
        }
    }

    /// The table whose rows a flow has, if any.
    pub(super) fn link_of<'b>(&self, bound: &'b Bound) -> Option<&'b Bound> {
        let mut bound = bound;
        loop {
            bound = match &bound.kind {
                Kind::Chain(..) => return Some(bound),
                Kind::Alias | Kind::Group | Kind::Title(_) | Kind::Direction { .. } => {
                    bound.base.as_ref()?
                }
                Kind::Rescope { .. } | Kind::ReferenceReroute { .. } => bound.base.as_ref()?,
                _ => return None,
            };
        }
    }

    /// Whether a bare link is shown as an identity.
    pub(super) fn shows_identity(&self, bound: &Bound) -> bool {
        self.catalog.naming() == Naming::Rex
            && self.link_of(bound).is_some_and(|link| match &link.kind {
                Kind::Chain(join, _) => join.is_direct,
                _ => false,
            })
    }
}

fn items(elements: &[Bound]) -> Items {
    elements.iter().map(|e| (e.syn.clone(), Recipe::Bound(e.clone()))).collect()
}

fn quotient_seed(quotient: &Bound) -> Option<&Bound> {
    match &quotient.kind {
        Kind::Quotient { seed, .. } => Some(seed),
        _ => None,
    }
}

fn identity_recipe(identity: &Identity) -> Recipe {
    Recipe::Identity(
        identity
            .elements
            .iter()
            .map(|element| match element {
                Element::Column(column) => {
                    Recipe::Column { column: *column, link: None, title: None }
                }
                Element::Link(join, target) => {
                    Recipe::Sequence(vec![Recipe::Chain(*join, None), identity_recipe(target)])
                }
            })
            .collect(),
    )
}

/// The name of a binding as a field or table.
pub(super) fn guess_tag(bound: &Bound) -> Option<String> {
    let mut bound = bound;
    loop {
        if let tree::Kind::Ident { name } = bound.syn.kind() {
            return Some(name.clone());
        }
        bound = match &bound.kind {
            Kind::Collect { seed } | Kind::Locate { seed, .. } | Kind::Clip { seed, .. } => seed,
            Kind::Cast { base, is_implicit: true } => base,
            // An alias is called what its syntax says.
            Kind::Alias => return None,
            _ if bound.is_decoration() => bound.base.as_ref()?,
            _ => return None,
        };
    }
}

/// The title of a binding; `None` for the root and home scopes.
pub(super) fn guess_header(bound: &Bound) -> Option<String> {
    let mut bound = bound;
    loop {
        bound = match &bound.kind {
            Kind::Title(title) => return Some(title.clone()),
            Kind::Root | Kind::Home => return None,
            Kind::Table(_, Some(title)) | Kind::Chain(_, Some(title)) => {
                return Some(title.clone());
            }
            Kind::Column { title: Some(title), .. } => return Some(title.clone()),
            Kind::Alias => return Some(bound.syn.to_string()),
            Kind::Quotient { seed, kernels } => {
                let seed = guess_header(seed);
                let kernels: Option<Vec<String>> = kernels.iter().map(guess_header).collect();
                return match (seed, kernels.as_deref()) {
                    (Some(seed), Some([kernel])) => Some(format!("{seed}^{kernel}")),
                    (Some(seed), Some(kernels)) => {
                        Some(format!("{seed}^{{{}}}", kernels.join(",")))
                    }
                    _ => Some(bound.syn.to_string()),
                };
            }
            Kind::Collect { seed }
            | Kind::Locate { seed, .. }
            | Kind::Clip { seed, .. }
            | Kind::Attach { seed, .. } => seed,
            Kind::Cast { base, is_implicit: true } => base,
            _ if bound.is_decoration() => match &bound.base {
                Some(base) => base,
                None => return None,
            },
            _ => return Some(bound.syn.to_string()),
        };
    }
}

/// The direction a field is sorted in, if any: `Some(true)` for descending.
pub(super) fn direction(bound: &Bound) -> Option<bool> {
    let mut bound = bound;
    let mut found: Option<bool> = None;
    loop {
        if let Kind::Direction { is_descending } = &bound.kind {
            let flipped = found.unwrap_or(false) != *is_descending;
            found = Some(flipped);
        }
        if let Kind::Rescope { scope } = &bound.kind
            && let Some(outer) = direction(scope)
        {
            found = Some(found.unwrap_or(false) != outer);
        }
        let next = match &bound.kind {
            Kind::Cast { base, is_implicit: true } => Some(base),
            Kind::Alias
            | Kind::Direction { .. }
            | Kind::Rescope { .. }
            | Kind::Title(_)
            | Kind::Group
            | Kind::Define { .. }
            | Kind::Reroute { .. }
            | Kind::ReferenceReroute { .. } => bound.base.as_ref(),
            Kind::Sieve(_) | Kind::Sort { .. } | Kind::Selection { .. } | Kind::Wild { .. } => {
                bound.base.as_ref()
            }
            _ => None,
        };
        match next {
            Some(next) => bound = next,
            None => return found,
        }
    }
}

/// Normalised name for lookups.
pub(super) fn key(name: &str) -> String {
    to_name(name)
}
