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
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{password, read};

    #[test]
    fn lines() {
        let lines = "# comment\nh:5432:db:u:one\n*:*:other:u:t\\:w\\\\o\nlocalhost:1:*:*:three:x\n";
        let find = |host, port, db, user| password(lines, [host, port, db, user]);
        assert_eq!(find("h", "5432", "db", "u").as_deref(), Some("one"));
        assert_eq!(find("h", "1", "other", "u").as_deref(), Some("t:w\\o"));
        assert_eq!(find("localhost", "1", "db", "x").as_deref(), Some("three:x"));
        assert_eq!(find("h", "5432", "db", "nobody"), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        let file = std::env::temp_dir().join(format!("rex-passfile-{}", std::process::id()));
        assert_eq!(read(&file).as_deref(), Ok(""));
        std::fs::write(&file, "*:*:*:*:secret\n").unwrap();
        for (mode, is_used) in [(0o600, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(read(&file).is_ok(), is_used, "{mode:o}");
        }
        let trouble = read(&file).unwrap_err();
        assert!(trouble.contains("group or world access") && !trouble.contains("secret"));
        std::fs::remove_file(&file).unwrap();
    }
}
