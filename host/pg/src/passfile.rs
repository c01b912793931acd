//! libpq's password file.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The lines of a password file; none where there is no such file.
///
/// # Errors
/// In libpq's words: others may read it, or this user may not.
pub(crate) fn read(file: &Path) -> Result<String, String> {
    match fs::metadata(file) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => Err(format!(
            "password file \"{}\" has group or world access; permissions should be u=rw (0600) or \
             less",
            file.display()
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        _ => fs::read_to_string(file).map_err(|error| {
            format!("could not read password file \"{}\": {error}", file.display())
        }),
    }
}

/// Looks the password of `[host, port, database, user]` up in the lines of a password file
/// (`host:port:database:user:password`, `*` for any).
pub(crate) fn password(lines: &str, wanted: [&str; 4]) -> Option<String> {
    lines.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split_fields(line);
        let (password, keys) = fields.split_last()?;
        let fits = keys.len() == wanted.len()
            && keys.iter().zip(wanted).all(|(key, wanted)| key == "*" || key == wanted);
        fits.then(|| password.clone())
    })
}

/// At `:`, where `\` protects a `:` or a `\`; the fifth field is all the rest.
fn split_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        let last = fields.len() - 1;
        match c {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields[last].extend(rest.next()),
            c => fields[last].push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests;
