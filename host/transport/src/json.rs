//! JSON text in, JSON text out: one pass that checks a text and writes it as Python's `json.dumps`
//! would, but keeps the text of every number. Knows nothing of values; a payload of any size costs
//! its own length. What Python writes although it is no JSON is known where it is stored already.

use std::collections::HashMap;

/// Why a text is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NotJson,
    /// Nested deeper than [`DEPTH`].
    TooDeep,
}

use Refused::{NotJson, TooDeep};

/// Arrays and objects inside one another; about as many as Python reads.
pub const DEPTH: usize = 1000;

pub(crate) enum Rewritten {
    /// The text of an object, in the original's form.
    Object(String),
    Null,
    /// JSON of another kind.
    Other,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Other,
}

/// Checks a text and writes it anew.
pub(crate) fn rewrite(text: &str) -> Result<Rewritten, Refused> {
    let out = Some(String::with_capacity(text.len() + 16));
    let mut scan = Scan { text, at: 0, out };
    scan.document()?;
    let out = scan.out.unwrap_or_default();
    Ok(match out.as_bytes().first() {
        Some(b'{') => Rewritten::Object(out),
        _ if out == "null" => Rewritten::Null,
        _ => Rewritten::Other,
    })
}

/// What kind of JSON a stored text is, which may have what Python writes and JSON does not allow:
/// `NaN`, `Infinity`, `-Infinity`.
pub(crate) fn stored(text: &str) -> Result<Kind, Refused> {
    let mut scan = Scan { text, at: 0, out: None };
    scan.document()?;
    Ok(match text.trim_start_matches(BLANK).as_bytes().first() {
        Some(b'{') => Kind::Object,
        _ => Kind::Other,
    })
}

/// Of a stored object whose first member is `key`: that member's value, and the object of the others.
pub(crate) fn first_member<'a>(text: &'a str, key: &str) -> Option<(&'a str, String)> {
    let mut scan = Scan { text, at: 0, out: None };
    scan.blanks();
    scan.expect(b'{').ok()?;
    scan.blanks();
    let start = scan.at;
    scan.string().ok()?;
    if scan.text[start..scan.at].trim_matches('"') != key {
        return None;
    }
    scan.blanks();
    scan.expect(b':').ok()?;
    scan.blanks();
    let start = scan.at;
    scan.value(0).ok()?;
    let value = &text[start..scan.at];
    scan.blanks();
    let others = match scan.peek()? {
        b',' => text[scan.at + 1..].to_owned(),
        _ => text[scan.at..].to_owned(),
    };
    Some((value, format!("{{{others}")))
}

const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

struct Scan<'a> {
    text: &'a str,
    /// Where we are, in bytes; always between characters.
    at: usize,
    /// What has been written; `None` when a stored text is looked at.
    out: Option<String>,
}

impl Scan<'_> {
    fn document(&mut self) -> Result<(), Refused> {
        self.value(0)?;
        self.blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(NotJson) }
    }

    fn value(&mut self, depth: usize) -> Result<(), Refused> {
        if depth > DEPTH {
            return Err(TooDeep);
        }
        self.blanks();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b'0'..=b'9') => self.number(),
            _ => match self.word() {
                Some(word) => {
                    self.at += word.len();
                    self.write(word);
                    Ok(())
                }
                None if self.peek() == Some(b'-') => self.number(),
                None => Err(NotJson),
            },
        }
    }

    fn word(&self) -> Option<&'static str> {
        const WORDS: [&str; 6] = ["null", "true", "false", "NaN", "Infinity", "-Infinity"];
        let words = if self.out.is_some() { &WORDS[..3] } else { &WORDS };
        words.iter().copied().find(|word| self.text[self.at..].starts_with(word))
    }

    fn array(&mut self, depth: usize) -> Result<(), Refused> {
        self.expect(b'[')?;
        self.write("[");
        self.blanks();
        if !self.take(b']') {
            loop {
                self.value(depth + 1)?;
                self.blanks();
                if self.take(b']') {
                    break;
                }
                self.expect(b',')?;
                self.write(", ");
            }
        }
        self.write("]");
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), Refused> {
        self.expect(b'{')?;
        self.write("{");
        let body = self.written();
        // Where each member was written: key, then the whole member.
        let mut members: Vec<Member> = Vec::new();
        self.blanks();
        if !self.take(b'}') {
            loop {
                self.blanks();
                let start = self.written();
                self.string()?;
                let key_end = self.written();
                self.blanks();
                self.expect(b':')?;
                self.write(": ");
                self.value(depth + 1)?;
                if self.out.is_some() {
                    members.push(Member { start, key_end, end: self.written() });
                }
                self.blanks();
                if self.take(b'}') {
                    break;
                }
                self.expect(b',')?;
                self.write(", ");
            }
        }
        if let Some(out) = &mut self.out {
            arrange(out, body, members, depth == 0);
        }
        self.write("}");
        Ok(())
    }

    /// A string; written with Python's escapes.
    fn string(&mut self) -> Result<(), Refused> {
        self.expect(b'"')?;
        self.write("\"");
        loop {
            // Up to the next character that needs a look.
            let rest = &self.text[self.at..];
            let plain = rest
                .bytes()
                .position(|b| b == b'"' || b == b'\\' || !(0x20..0x80).contains(&b))
                .ok_or(NotJson)?;
            let (run, rest) = rest.split_at(plain);
            self.at += plain;
            self.write(run);
            let next = rest.chars().next().ok_or(NotJson)?;
            match next {
                '"' => {
                    self.at += 1;
                    self.write("\"");
                    return Ok(());
                }
                '\\' => self.escape()?,
                '\0'..='\u{1f}' => return Err(NotJson),
                other => {
                    self.at += other.len_utf8();
                    let mut units = [0; 2];
                    for unit in other.encode_utf16(&mut units) {
                        self.write_unit(*unit);
                    }
                }
            }
        }
    }

    fn escape(&mut self) -> Result<(), Refused> {
        let rest = &self.text.as_bytes()[self.at..];
        let (length, unit) = match rest.get(1).ok_or(NotJson)? {
            b'"' => (2, u16::from(b'"')),
            b'\\' => (2, u16::from(b'\\')),
            b'/' => (2, u16::from(b'/')),
            b'b' => (2, 8),
            b'f' => (2, 12),
            b'n' => (2, 10),
            b'r' => (2, 13),
            b't' => (2, 9),
            b'u' => {
                let digits = rest.get(2..6).ok_or(NotJson)?;
                let mut unit = 0u16;
                for digit in digits {
                    let value = char::from(*digit).to_digit(16).ok_or(NotJson)?;
                    unit = unit << 4 | u16::try_from(value).map_err(|_| NotJson)?;
                }
                (6, unit)
            }
            _ => return Err(NotJson),
        };
        self.at += length;
        self.write_unit(unit);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Refused> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let text = self.text;
        self.write(&text[start..self.at]);
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), Refused> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(NotJson) }
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8) -> Result<(), Refused> {
        if self.take(byte) { Ok(()) } else { Err(NotJson) }
    }

    fn written(&self) -> usize {
        self.out.as_ref().map_or(0, String::len)
    }

    fn write(&mut self, text: &str) {
        if let Some(out) = &mut self.out {
            out.push_str(text);
        }
    }

    /// Writes one UTF-16 unit of a string as `json.dumps` does.
    fn write_unit(&mut self, unit: u16) {
        let Some(out) = &mut self.out else { return };
        match unit {
            0x08 => out.push_str("\\b"),
            0x09 => out.push_str("\\t"),
            0x0a => out.push_str("\\n"),
            0x0c => out.push_str("\\f"),
            0x0d => out.push_str("\\r"),
            0x22 => out.push_str("\\\""),
            0x5c => out.push_str("\\\\"),
            0x20..=0x7f => out.push(char::from(unit.to_le_bytes()[0])),
            _ => {
                out.push_str("\\u");
                for shift in [12, 8, 4, 0] {
                    let digit = u32::from(unit >> shift & 0xf);
                    out.push(char::from_digit(digit, 16).unwrap_or('0'));
                }
            }
        }
    }
}

struct Member {
    start: usize,
    key_end: usize,
    end: usize,
}

/// Puts the members written since `body` in order: of equal keys the last value in the first one's
/// place, as in a Python dict; sorted by key when `sorted`.
fn arrange(out: &mut String, body: usize, members: Vec<Member>, sorted: bool) {
    // Written keys are equal exactly when the keys are: each character has one way to be written.
    let mut kept: Vec<Member> = Vec::with_capacity(members.len());
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(members.len());
    let mut repeated = false;
    for member in members {
        match places.entry(&out[member.start..member.key_end]) {
            std::collections::hash_map::Entry::Occupied(place) => {
                repeated = true;
                kept[*place.get()] = member;
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(member);
            }
        }
    }
    if sorted {
        kept.sort_by_cached_key(|member| code_points(&out[member.start + 1..member.key_end - 1]));
    } else if !repeated {
        return;
    }
    let members: Vec<&str> = kept.iter().map(|member| &out[member.start..member.end]).collect();
    let text = members.join(", ");
    out.truncate(body);
    out.push_str(&text);
}

/// A written key's characters, by which Python sorts; halves of pairs count for themselves.
fn code_points(key: &str) -> Vec<u32> {
    let mut units: Vec<u16> = Vec::with_capacity(key.len());
    let mut rest = key.chars();
    while let Some(c) = rest.next() {
        let unit = match c {
            '\\' => match rest.next() {
                Some('b') => 8,
                Some('t') => 9,
                Some('n') => 10,
                Some('f') => 12,
                Some('r') => 13,
                Some('u') => (0..4).fold(0, |unit, _| {
                    unit << 4 | rest.next().and_then(|c| c.to_digit(16)).unwrap_or(0)
                }),
                Some(other) => u32::from(other),
                None => 0,
            },
            other => u32::from(other),
        };
        units.push(u16::try_from(unit).unwrap_or(u16::MAX));
    }
    char::decode_utf16(units)
        .map(|c| c.map_or_else(|half| u32::from(half.unpaired_surrogate()), u32::from))
        .collect()
}
