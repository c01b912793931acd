//! Finds, in plain SQL, the statements that a session does not send as they are: those that begin
//! or end transactions, and COPY by way of the connection.

/// The first statement of a script that would begin, end or change a transaction, as its command
/// (`COMMIT`).
pub(crate) fn transaction_control(sql: &str) -> Option<&'static str> {
    let mut words = Words { rest: sql };
    let mut is_first = true;
    // Within a function whose body is SQL, `;` ends no statement of the script.
    let (mut is_create, mut depth) = (false, 0_usize);
    while let Some(word) = words.next() {
        match word {
            Word::End if depth == 0 => (is_first, is_create) = (true, false),
            Word::End => {}
            Word::Open | Word::Close | Word::Other => is_first = false,
            Word::Name(name) => {
                let is = |other: &str| name.eq_ignore_ascii_case(other);
                if is_first {
                    if let Some(found) = CONTROL.iter().find(|control| is(control)) {
                        return Some(found);
                    }
                    is_create = is("CREATE");
                    is_first = false;
                } else if is_create && (is("BEGIN") || (depth > 0 && is("CASE"))) {
                    depth += 1;
                } else if is("END") {
                    depth = depth.saturating_sub(1);
                }
            }
        }
    }
    None
}

/// The first COPY of a script whose rows would go by way of the connection, as what it is
/// (`COPY FROM STDIN`).
pub(crate) fn client_copy(sql: &str) -> Option<&'static str> {
    let mut words = Words { rest: sql };
    let (mut is_first, mut is_copy, mut depth) = (true, false, 0_usize);
    let mut before = "";
    while let Some(word) = words.next() {
        match word {
            Word::End => (is_first, is_copy, depth) = (true, false, 0),
            Word::Open => depth += 1,
            Word::Close => depth = depth.saturating_sub(1),
            Word::Name(name) if is_first => is_copy = name.eq_ignore_ascii_case("COPY"),
            Word::Name(name) if is_copy && depth == 0 => {
                let is = |head: &str, tail: &str| {
                    before.eq_ignore_ascii_case(head) && name.eq_ignore_ascii_case(tail)
                };
                if is("FROM", "STDIN") {
                    return Some("COPY FROM STDIN");
                }
                if is("TO", "STDOUT") {
                    return Some("COPY TO STDOUT");
                }
            }
            Word::Name(_) | Word::Other => {}
        }
        is_first = is_first && matches!(word, Word::End);
        before = if let Word::Name(name) = word { name } else { "" };
    }
    None
}

/// `PREPARE TRANSACTION` included; of the statements that begin with `PREPARE` none is of use here.
const CONTROL: &[&str] =
    &["ABORT", "BEGIN", "COMMIT", "END", "PREPARE", "RELEASE", "ROLLBACK", "SAVEPOINT", "START"];

enum Word<'a> {
    Name(&'a str),
    /// `;`
    End,
    /// `(`
    Open,
    /// `)`
    Close,
    /// A quoted name, a constant, a sign.
    Other,
}

/// The words of a script, without comments and what is quoted.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<Word<'a>> {
        loop {
            self.rest = self.rest.trim_start();
            let first = self.rest.chars().next()?;
            if self.rest.starts_with("--") {
                self.skip_past(self.rest.find('\n'), 1);
            } else if self.rest.starts_with("/*") {
                self.skip_comment();
            } else if first.is_alphabetic() || first == '_' {
                let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
                let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
                let (name, rest) = self.rest.split_at(end);
                self.rest = rest;
                if name.eq_ignore_ascii_case("E") && rest.starts_with('\'') {
                    self.skip_quoted('\'', true);
                    return Some(Word::Other);
                }
                return Some(Word::Name(name));
            } else {
                match first {
                    ';' => {
                        self.rest = &self.rest[1..];
                        return Some(Word::End);
                    }
                    '(' | ')' => {
                        self.rest = &self.rest[1..];
                        return Some(if first == '(' { Word::Open } else { Word::Close });
                    }
                    '\'' | '"' => self.skip_quoted(first, false),
                    '$' => self.skip_dollar(),
                    other => self.rest = &self.rest[other.len_utf8()..],
                }
                return Some(Word::Other);
            }
        }
    }

    fn skip_past(&mut self, found: Option<usize>, width: usize) {
        self.rest = found.map_or("", |at| &self.rest[at + width..]);
    }

    /// Comments nest.
    fn skip_comment(&mut self) {
        let mut depth = 0_usize;
        let mut at = 0;
        while let Some(pair) = self.rest.as_bytes().get(at..at + 2) {
            match pair {
                b"/*" => depth += 1,
                b"*/" => depth -= 1,
                _ => {
                    at += 1;
                    continue;
                }
            }
            at += 2;
            if depth == 0 {
                self.rest = &self.rest[at..];
                return;
            }
        }
        self.rest = "";
    }

    /// A doubled quote within needs no care: what follows it is skipped as another constant.
    fn skip_quoted(&mut self, quote: char, escapes: bool) {
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == '\\' && escapes {
                chars.next();
            } else if c == quote {
                self.rest = &self.rest[at + 1..];
                return;
            }
        }
        self.rest = "";
    }

    /// `$tag$ … $tag$`, or a lone `$`.
    fn skip_dollar(&mut self) {
        let after = &self.rest[1..];
        let tag = after.find('$').map(|end| &self.rest[..end + 2]).filter(|tag| {
            let name = &tag[1..tag.len() - 1];
            name.chars().all(|c| c.is_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
        });
        match tag {
            None => self.rest = after,
            Some(tag) => {
                let body = &self.rest[tag.len()..];
                self.rest = body.find(tag).map_or("", |at| &body[at + tag.len()..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{client_copy, transaction_control};

    #[test]
    fn copies_by_way_of_the_connection_are_found() {
        for (sql, found) in [
            ("copy a (b, c) from stdin with (format csv)", Some("COPY FROM STDIN")),
            ("SELECT 1; COPY (SELECT 1) TO STDOUT;", Some("COPY TO STDOUT")),
            ("COPY (SELECT * FROM stdin) TO '/tmp/x'", None),
            ("COPY a FROM '/tmp/stdin'; SELECT 1 FROM stdin", None),
            ("INSERT INTO copy VALUES ('COPY a FROM STDIN')", None),
        ] {
            assert_eq!(client_copy(sql), found, "{sql}");
        }
    }

    #[test]
    fn control_is_found_wherever_a_statement_begins() {
        for (sql, command) in [
            ("commit", "COMMIT"),
            (" ; /* a /* b */ */ -- c\n Rollback to x", "ROLLBACK"),
            ("INSERT INTO a VALUES ('x'';'); END;", "END"),
            ("SELECT E'\\';'; begin", "BEGIN"),
            ("DO $x$ commit; $x$; start transaction", "START"),
            ("SELECT \"a;\" ;savepoint s", "SAVEPOINT"),
        ] {
            assert_eq!(transaction_control(sql), Some(command), "{sql}");
        }
    }

    #[test]
    fn other_statements_are_left_alone() {
        for sql in [
            "",
            "INSERT INTO commit VALUES ('; commit;', $$;commit$$, $1)",
            "SELECT CASE WHEN a THEN b END FROM t; -- ;commit\n/* ; commit */ SELECT 1",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 2 END; \
             SELECT 1; END; SELECT f()",
            "DO $$ BEGIN PERFORM 1; END $$",
            "SELECT 'open; commit",
            "$",
        ] {
            assert_eq!(transaction_control(sql), None, "{sql}");
        }
    }
}
