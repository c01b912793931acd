//! libpq's password file.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Looks the password of `[host, port, database, user]` up in a password file
/// (`host:port:database:user:password`, `*` for any). A file that others may read is passed over
/// with a warning.
pub(crate) fn password(file: &Path, wanted: [&str; 4]) -> Option<String> {
    match fs::metadata(file) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            tracing::warn!(
                "password file {} has group or world access; permissions should be u=rw (0600) or \
                 less",
                file.display()
            );
            return None;
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!("cannot read the password file {}: {error}", file.display());
            return None;
        }
    }
    let lines = fs::read_to_string(file).ok()?;
    find(&lines, wanted)
}

fn find(lines: &str, wanted: [&str; 4]) -> Option<String> {
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
mod tests {
    use super::find;

    #[test]
    fn lines() {
        let lines = "# comment\nh:5432:db:u:one\n*:*:other:u:t\\:w\\\\o\nlocalhost:1:*:*:three:x\n";
        let find = |host, port, db, user| find(lines, [host, port, db, user]);
        assert_eq!(find("h", "5432", "db", "u").as_deref(), Some("one"));
        assert_eq!(find("h", "1", "other", "u").as_deref(), Some("t:w\\o"));
        assert_eq!(find("localhost", "1", "db", "x").as_deref(), Some("three:x"));
        assert_eq!(find("h", "5432", "db", "nobody"), None);
    }
}
