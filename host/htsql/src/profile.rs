//! Profiles: the name, title and domain of a product or of one of its fields.

use crate::domain::Domain;

/// What is known of a product (or a field) before it is computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The name by which programs and ETL commands refer to the field; `None` for an expression.
    pub tag: Option<String>,
    /// The title shown to people; `None` only for the root.
    pub header: Option<String>,
    pub domain: Domain,
}

impl Profile {
    /// A profile without a name.
    pub fn bare(domain: Domain) -> Profile {
        Profile { tag: None, header: None, domain }
    }

    /// The fields of a record or of a list of records; `None` for anything else.
    pub fn fields(&self) -> Option<&[Profile]> {
        match &self.domain {
            Domain::Record(fields) => Some(fields),
            Domain::List(item) => match &**item {
                Domain::Record(fields) => Some(fields),
                _ => None,
            },
            _ => None,
        }
    }
}
