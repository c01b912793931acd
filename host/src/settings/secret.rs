//! Passwords in text that is about to be shown. Errors and listings quote what a user wrote, which
//! may be (or hold, within JSON) a URI with a password.

const MASK: &str = "***";

/// `text` with the passwords of URIs and of `password=…` / `"password": "…"` replaced by `***`.
pub fn mask(text: &str) -> String {
    text.split_inclusive('\n').map(|line| mask_fields(&mask_uris(line))).collect()
}

/// Masks what stands between the first `:` and the last `@` of each `//…/`.
fn mask_uris(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        // A password may hold anything but `/`, `?`, `#` and blanks; those are written %XX.
        let end = after.find(|c: char| "/?#".contains(c) || c.is_whitespace());
        let (authority, tail) = after.split_at(end.unwrap_or(after.len()));
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                // How addresses are written is no secret.
                let secret = user.split_once(':').filter(|(_, secret)| *secret != "PASSWORD");
                let name = secret.map(|(name, _)| name);
                out.push_str(&name.map_or(user.to_owned(), |name| format!("{name}:{MASK}")));
                out.push('@');
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = tail;
    }
    out + rest
}

/// Masks the value after each `password` and a `=` or `:`, quoted or not.
fn mask_fields(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find("password") {
        let (before, after) = rest.split_at(at + "password".len());
        out.push_str(before);
        let value = after.trim_start_matches(['\'', '"', '\\', ' ']);
        let Some(value) = value.strip_prefix(['=', ':']) else {
            rest = after;
            continue;
        };
        let value = value.trim_start_matches(['\\', ' ']);
        let quote = value.chars().next().filter(|c| "'\"".contains(*c));
        let value = value.strip_prefix(['\'', '"']).unwrap_or(value);
        out.push_str(&after[..after.len() - value.len()]);
        let end = match quote {
            Some(quote) => value.find(quote),
            None => value.find(|c: char| "&,}'\"".contains(c) || c.is_whitespace()),
        };
        let end = end.unwrap_or(value.len());
        if end > 0 {
            out.push_str(MASK);
        }
        rest = &value[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_and_nothing_else() {
        for (text, expect) in [
            ("pgsql://u:p@h:1/db", "pgsql://u:***@h:1/db"),
            ("pgsql://u:p@@:h/db", "pgsql://u:***@:h/db"),
            ("'pgsql://u:p@h' and 'amqp://a:b@c/'", "'pgsql://u:***@h' and 'amqp://a:***@c/'"),
            ("pgsql://u@h/db", "pgsql://u@h/db"),
            ("amqp://USER:PASSWORD@HOST", "amqp://USER:PASSWORD@HOST"),
            ("pgsql:///db", "pgsql:///db"),
            ("sqlite:/a:b@c", "sqlite:/a:b@c"),
            ("pgsql:///d?password=x&a=b", "pgsql:///d?password=***&a=b"),
            ("{'password': 'x', 'a': 1}", "{'password': '***', 'a': 1}"),
            (r#"{"password": "it's"}"#, r#"{"password": "***"}"#),
            ("{\"PASSWORD\":5}", "{\"PASSWORD\":***}"),
            ("password", "password"),
            ("no password here\nx", "no password here\nx"),
            ("password: \n", "password: \n"),
            ("é://ü:ö@ä", "é://ü:***@ä"),
        ] {
            assert_eq!(mask(text), expect, "{text}");
        }
    }
}
