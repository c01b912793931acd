//! Passwords in text that is about to be shown. Errors and listings quote what a user wrote, which
//! may be (or hold, within JSON) a URI with a password.

const MASK: &str = "***";

/// `text` with the passwords of URIs and of `password=…` / `"password": "…"` replaced by `***`.
pub fn mask(text: &str) -> String {
    text.split_inclusive('\n').map(|line| mask_fields(&mask_uris(line))).collect()
}

/// Masks each login's password. Rather too much than too little: a password that should have been
/// %-encoded may hold any character, so that it ends with the last `@` before the next address or
/// the end of the line.
fn mask_uris(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let (address, tail) = after.split_at(next_address(after).unwrap_or(after.len()));
        let login = address.rsplit_once('@').and_then(|(login, host)| {
            let (user, secret) = login.split_once(':')?;
            Some((user, secret, host))
        });
        match login {
            // How addresses are written is no secret, and what another has masked is none any more.
            Some((user, secret, host))
                if secret != "PASSWORD" && !format!("{secret}@").starts_with("***@") =>
            {
                out.push_str(&format!("{user}:{MASK}@{host}"));
            }
            _ => out.push_str(address),
        }
        rest = tail;
    }
    out + rest
}

/// Where the scheme of another address begins: behind a blank or a quote.
fn next_address(text: &str) -> Option<usize> {
    text.match_indices("://").find_map(|(at, _)| {
        let before =
            text[..at].trim_end_matches(|c: char| c.is_alphanumeric() || "+-._".contains(c));
        let begins = before.ends_with(|c: char| c.is_whitespace() || "'\"".contains(c));
        (begins && before.len() < at).then_some(before.len())
    })
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
        let value = value.trim_start_matches(' ');
        let unescaped = value.trim_start_matches('\\');
        let escapes = value.len() - unescaped.len();
        let (value, end) = match unescaped.chars().next() {
            Some(quote @ ('\'' | '"')) => {
                let value = &unescaped[1..];
                (value, closing(value, quote, escapes))
            }
            _ => (value, unquoted(value, rest[..at].ends_with(['?', '&']))),
        };
        out.push_str(&after[..after.len() - value.len()]);
        if end > 0 {
            out.push_str(MASK);
        }
        rest = &value[end..];
    }
    out + rest
}

/// How long a quoted value is: to the next quote that is escaped as its first one was, which may be
/// by `escapes` backslashes (text within text).
fn closing(value: &str, quote: char, escapes: usize) -> usize {
    let mut backslashes = 0;
    for (at, c) in value.char_indices() {
        match c {
            '\\' => backslashes += 1,
            c if c == quote && backslashes % (2 * (escapes + 1)) == escapes => return at - escapes,
            _ => backslashes = 0,
        }
    }
    value.trim_end().len()
}

/// How long an unquoted value is: to the next blank, or option of a query, without what closes the
/// text around it.
fn unquoted(value: &str, in_query: bool) -> usize {
    let mut escaped = false;
    let ends = |c: char| {
        let ends = !escaped && (c.is_whitespace() || in_query && c == '&');
        escaped = c == '\\' && !escaped;
        ends
    };
    let end = value.find(ends).unwrap_or(value.trim_end().len());
    value[..end].trim_end_matches(['\'', '"', '}', ']', ')', ',']).len()
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
            ("'pgsql://u:a#b@h'", "'pgsql://u:***@h'"),
            ("pgsql://u:a b@h/db", "pgsql://u:***@h/db"),
            ("pgsql://u:a/b@h/db", "pgsql://u:***@h/db"),
            ("pgsql://u:a?b@h/db", "pgsql://u:***@h/db"),
            ("pgsql://u:a@b#c@h/db", "pgsql://u:***@h/db"),
            ("pgsql://u:a://b@h/db", "pgsql://u:***@h/db"),
            ("pgsql://h:1/db 'amqp://u:a b@c' x", "pgsql://h:1/db 'amqp://u:***@c' x"),
            ("pgsql://u:***@h: no \"a@b\"", "pgsql://u:***@h: no \"a@b\""),
            ("pgsql:///db", "pgsql:///db"),
            ("sqlite:/a:b@c", "sqlite:/a:b@c"),
            ("pgsql:///d?password=x&a=b", "pgsql:///d?password=***&a=b"),
            ("{'password': 'x', 'a': 1}", "{'password': '***', 'a': 1}"),
            ("pgsql:///d?password=x,'y&a=b", "pgsql:///d?password=***&a=b"),
            ("['host=h password=a,b&c']", "['host=h password=***']"),
            (r"password=a\ b host=h", "password=*** host=h"),
            (r"password='a\'b' host=h", "password='***' host=h"),
            (r#"{"password": "a\"b\\", "c": 1}"#, r#"{"password": "***", "c": 1}"#),
            (r#"'{\"password\": \"a\\\"b\", 1}'"#, r#"'{\"password\": \"***\", 1}'"#),
            ("password='a", "password='***"),
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
