//! Names made from what users write: tokens that are safe in the names of databases, tables and
//! columns.

use rex_yaml::Error;

/// What PostgreSQL keeps of a name.
pub(crate) const MAX_LENGTH: usize = 63;

/// Whether a text may stand in a name as it is.
pub(crate) fn is_safe(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_lowercase()) && text.bytes().all(is_kept)
}

fn is_kept(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'
}

/// A text without what may not stand in a name; may begin with any of what may.
pub(crate) fn clean(text: &str) -> String {
    let lower = text.to_lowercase().replace('-', "_");
    if lower == "id" {
        return "id_".to_owned();
    }
    lower.bytes().filter(|b| is_kept(*b)).map(char::from).collect()
}

/// The token that stands for a text in names.
///
/// # Errors
/// Nothing of the text may stand in one.
pub(crate) fn safe(text: &str) -> Result<String, Error> {
    let clean = clean(text);
    let token = clean.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    if token.is_empty() {
        return Err(Error::new(format!("Cannot make a safe token out of \"{text}\"")));
    }
    Ok(token[..token.len().min(MAX_LENGTH)].to_owned())
}

/// The part of a name that fits `length` bytes; names are ASCII.
pub(crate) fn cut(name: &str, length: usize) -> &str {
    &name[..name.len().min(length)]
}

#[cfg(test)]
mod tests;
