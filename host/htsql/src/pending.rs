//! References of a script that have a value only once it runs: what `do` and `for` name, and the
//! fields that `with` takes apart. Whatever is shown of a script beforehand has to do without them.

use std::collections::BTreeSet;

use crate::domain::Domain;
use crate::name::to_name;
use crate::profile::Profile;
use crate::syn::Syn;
use crate::syn::tree::Kind;
use crate::value::Params;

/// References without a value yet.
#[derive(Debug, Clone, Default)]
pub struct Pending {
    names: BTreeSet<String>,
    /// A document that is not read yet may set any.
    any: bool,
}

impl Pending {
    /// These and one more.
    pub fn and(&self, reference: &str) -> Pending {
        let mut more = self.clone();
        more.names.insert(to_name(reference));
        more
    }

    /// These and the tags of a record; `None`, or what is no record, may set any.
    pub fn and_fields(&self, record: Option<&Profile>) -> Pending {
        let mut more = self.clone();
        match record.map(|profile| &profile.domain) {
            Some(Domain::Record(fields)) => {
                more.names
                    .extend(fields.iter().filter_map(|field| field.tag.as_deref()).map(to_name));
            }
            _ => more.any = true,
        }
        more
    }

    /// The parameters that keep their value.
    pub fn settled(&self, params: &Params) -> Params {
        let mut kept = Params::new();
        for (name, param) in params.iter().filter(|(name, _)| !self.has(name)) {
            kept.set(name, param.clone());
        }
        kept
    }

    /// Whether a query mentions one, so that it may have failed for want of its value.
    pub fn delays(&self, syn: &Syn) -> bool {
        let mut left = vec![syn];
        while let Some(syn) = left.pop() {
            match syn.kind() {
                Kind::Reference { name } if self.has(&to_name(name)) => return true,
                kind => left.extend(kind.children()),
            }
        }
        false
    }

    fn has(&self, name: &str) -> bool {
        self.any || self.names.contains(name)
    }
}

/// What is shown in place of a query that waits.
pub fn delayed(syn: &Syn) -> String {
    format!("-- not before it runs: {syn}\n")
}
