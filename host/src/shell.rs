//! Words that people can paste into a shell.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// As a shell reads it.
pub fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') {
        text
    } else if path.to_str().is_none() || text.chars().any(char::is_control) {
        // What no other quotes can show on one line; shells but the plainest know it.
        let shown = |byte: &u8| match byte {
            b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
            b' '..=b'~' => char::from(*byte).to_string(),
            byte => format!("\\x{byte:02x}"),
        };
        format!("$'{}'", path.as_os_str().as_bytes().iter().map(shown).collect::<String>())
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::quote;

    #[test]
    fn quoting_keeps_plain_paths_plain() {
        assert_eq!(quote(Path::new("/opt/rex-1.0/a_b.so")), "/opt/rex-1.0/a_b.so");
        assert_eq!(quote(Path::new("it's\n\\ü")), r"$'it\'s\x0a\\\xc3\xbc'");
        assert_eq!(quote(Path::new("")), "''");
    }
}
