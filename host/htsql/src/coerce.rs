//! Coercion: the common domain of values that meet in one expression.

use crate::domain::Domain;

/// The scalar domain a single value takes where any scalar will do: untyped becomes text. `None`
/// for what is not a scalar.
pub(crate) fn scalar(domain: &Domain) -> Option<Domain> {
    match domain {
        Domain::Untyped => Some(Domain::Text),
        domain => domain.is_scalar().then(|| domain.clone()),
    }
}

/// The common domain of several values; `None` when there is none.
pub(crate) fn common<'a>(domains: impl IntoIterator<Item = &'a Domain>) -> Option<Domain> {
    let mut domains = domains.into_iter();
    let first = domains.next()?.clone();
    let common = domains.try_fold(first, |left, right| pair(&left, right))?;
    scalar(&common)
}

fn pair(left: &Domain, right: &Domain) -> Option<Domain> {
    if !left.is_scalar() || !right.is_scalar() {
        return None;
    }
    match (left, right) {
        (Domain::Untyped, other) | (other, Domain::Untyped) => Some(other.clone()),
        (Domain::Integer, Domain::Decimal) | (Domain::Decimal, Domain::Integer) => {
            Some(Domain::Decimal)
        }
        (Domain::Integer | Domain::Decimal, Domain::Float)
        | (Domain::Float, Domain::Integer | Domain::Decimal) => Some(Domain::Float),
        (left, right) if left == right => Some(left.clone()),
        _ => None,
    }
}

/// `(text, date)` for messages.
pub(crate) fn list<'a>(domains: impl IntoIterator<Item = &'a Domain>) -> String {
    let names: Vec<String> = domains.into_iter().map(Domain::to_string).collect();
    format!("({})", names.join(", "))
}
