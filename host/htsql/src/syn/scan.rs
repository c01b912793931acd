//! Tokens: the longest match at each position, in one of three contexts.
//!
//! `[` opens the identity context, where labels replace names and numbers; `$` inside of it opens
//! the context of a single name.

use std::sync::Arc;

use crate::error::{Error, Mark, Stage};
use crate::literal::is_label_char;
use crate::name::is_word;

/// What a token is. Names, numbers and labels are read from the text by their span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// The contents, quotes undoubled.
    String(String),
    Integer,
    Decimal,
    Float,
    Name,
    Label,
    Symbol(&'static str),
    End,
}

/// A token with its byte span.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Longest first where one is a prefix of another.
const SYMBOLS: &[&str] = &[
    "!==", "!~", "!=", "<=", ">=", "==", "->", ":=", "~", "<", ">", "=", "^", "?", "@", "!", "&",
    "|", "+", "-", "*", "/", "(", ")", "{", "}", ".", ",", ":", ";", "$", "[", "]",
];

#[derive(Clone, Copy, PartialEq)]
enum Context {
    Query,
    Identity,
    Name,
}

/// Splits a decoded text into tokens; the last one is `End`.
///
/// # Errors
/// A character that starts no token, an unmatched quote or bracket.
pub(super) fn scan(text: &Arc<str>) -> Result<Vec<Token>, Error> {
    let mut scanner = Scanner { text, position: 0, tokens: Vec::with_capacity(text.len() / 3) };
    let mut contexts = vec![Context::Query];
    loop {
        let context = contexts.last().copied().unwrap_or(Context::Query);
        scanner.skip_junk(context);
        let start = scanner.position;
        let Some(c) = text[start..].chars().next() else {
            if context != Context::Query {
                return Err(scanner.fail("cannot find a matching ']'".into(), start));
            }
            scanner.push(Kind::End, start);
            return Ok(scanner.tokens);
        };
        match context {
            Context::Query => match c {
                '\'' => scanner.string()?,
                ']' => return Err(scanner.fail("cannot find a matching '['".into(), start + 1)),
                '[' => {
                    contexts.push(Context::Identity);
                    scanner.push(Kind::Symbol("["), start + 1);
                }
                _ => scanner.query_token(c)?,
            },
            Context::Identity => match c {
                '\'' => scanner.string()?,
                '[' | '(' => {
                    contexts.push(Context::Identity);
                    scanner.push(Kind::Symbol(if c == '[' { "[" } else { "(" }), start + 1);
                }
                ']' | ')' => {
                    contexts.pop();
                    scanner.push(Kind::Symbol(if c == ']' { "]" } else { ")" }), start + 1);
                }
                '.' => scanner.push(Kind::Symbol("."), start + 1),
                '$' => {
                    contexts.push(Context::Name);
                    scanner.push(Kind::Symbol("$"), start + 1);
                }
                c if is_label_char(c) => {
                    let end = scanner.run(start, is_label_char);
                    scanner.push(Kind::Label, end);
                }
                c => return Err(scanner.unexpected(c)),
            },
            Context::Name => {
                if !is_word(c) {
                    return Err(scanner.unexpected(c));
                }
                contexts.pop();
                if c.is_ascii_digit() {
                    let end = scanner.run(start, |c| c.is_ascii_digit());
                    scanner.push(Kind::Integer, end);
                } else {
                    let end = scanner.run(start, is_word);
                    scanner.push(Kind::Name, end);
                }
            }
        }
    }
}

struct Scanner<'a> {
    text: &'a Arc<str>,
    position: usize,
    tokens: Vec<Token>,
}

impl Scanner<'_> {
    fn push(&mut self, kind: Kind, end: usize) {
        self.tokens.push(Token { kind, start: self.position, end });
        self.position = end;
    }

    /// Where a run of characters ends that starts at `start`.
    fn run(&self, start: usize, belongs: impl Fn(char) -> bool) -> usize {
        let rest = &self.text[start..];
        rest.find(|c| !belongs(c)).map_or(self.text.len(), |len| start + len)
    }

    fn skip_junk(&mut self, context: Context) {
        loop {
            self.position = self.run(self.position, char::is_whitespace);
            if context != Context::Query || !self.text[self.position..].starts_with('#') {
                return;
            }
            self.position = self.run(self.position, |c| !matches!(c, '\r' | '\n' | '\0'));
        }
    }

    fn string(&mut self) -> Result<(), Error> {
        let start = self.position;
        let mut contents = String::new();
        let mut at = start + 1;
        loop {
            let rest = &self.text[at..];
            match rest.find(['\'', '\0']) {
                Some(len) if rest.as_bytes()[len] == b'\'' => {
                    contents.push_str(&rest[..len]);
                    at += len + 1;
                    if !self.text[at..].starts_with('\'') {
                        break;
                    }
                    contents.push('\'');
                    at += 1;
                }
                _ => {
                    return Err(self.fail("cannot find a matching quote mark".into(), start + 1));
                }
            }
        }
        self.push(Kind::String(contents), at);
        Ok(())
    }

    fn query_token(&mut self, c: char) -> Result<(), Error> {
        let start = self.position;
        let dotted = c == '.' && self.text[start + 1..].starts_with(|c: char| c.is_ascii_digit());
        if c.is_ascii_digit() || dotted {
            self.number();
        } else if is_word(c) {
            let end = self.run(start, is_word);
            self.push(Kind::Name, end);
        } else {
            let symbol = SYMBOLS.iter().find(|s| self.text[start..].starts_with(**s));
            let Some(symbol) = symbol else {
                return Err(self.unexpected(c));
            };
            self.push(Kind::Symbol(symbol), start + symbol.len());
        }
        Ok(())
    }

    fn number(&mut self) {
        let digits = |at| self.run(at, |c| c.is_ascii_digit());
        let start = self.position;
        let mut end = digits(start);
        let mut kind = Kind::Integer;
        if self.text[end..].starts_with('.') {
            end = digits(end + 1);
            kind = Kind::Decimal;
        }
        let exponent = &self.text[end..];
        if exponent.starts_with(['e', 'E']) {
            let sign = usize::from(exponent[1..].starts_with(['+', '-']));
            let power = digits(end + 1 + sign);
            if power > end + 1 + sign {
                end = power;
                kind = Kind::Float;
            }
        }
        self.push(kind, end);
    }

    fn unexpected(&self, c: char) -> Error {
        let quoted = match c {
            '\'' => "\"'\"".to_string(),
            c if c.is_control() => format!("'\\x{:02x}'", u32::from(c)),
            c => format!("'{c}'"),
        };
        let message = format!("Got unexpected character {quoted}");
        self.fail(message, self.position + c.len_utf8())
    }

    fn fail(&self, message: String, end: usize) -> Error {
        let mark = Mark { text: self.text.clone(), start: self.position, end };
        Error::new(message).at(Stage::Parsing, &mark)
    }
}
