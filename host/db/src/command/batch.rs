//! JSON lines in, JSON lines out: one answer a line, whatever happens.
//!
//! In: `{"query": text, "params": {…}, "group": …}` or `{"sql": text, "group": …}`. Consecutive
//! lines of one group share a transaction, with a savepoint a line; a line without a group has a
//! transaction of its own. Transactions are rolled back unless told to commit, and no line may end
//! one itself.
//!
//! Out: `{"ok": …, "columns": …}` (with `"rendered"` after a format command), or
//! `{"error": text}`. Where the commit of a group fails, its lines have been answered: the next
//! answer, or one line more at the end, then has `"uncommitted": {"group": …, "error": text}`.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rex_htsql::domain::Domain;
use rex_htsql::plan::Format;
use rex_htsql::profile::Profile;
use rex_htsql::{Error, Params};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::CommandError;
use super::interrupt::Interrupt;
use crate::encode::{profile_json, write_item};
use crate::format::Printer;
use crate::item::{Item, More};
use crate::json_param::{Members, from_typed_json, read};
use crate::session::{Session, Sink};

/// The longest answer: it is whole or an error, so it is held until it is complete.
const MAX_ANSWER: usize = 256 << 20;

/// A line of input.
enum Line {
    Query { text: String, params: Params },
    Sql(String),
}

/// The transaction that lines share.
struct Group {
    name: Json,
}

/// Answers every line of `input` on `out`, each as soon as it is known.
///
/// # Errors
/// Input or output failed, a commit did, or the user interrupted.
pub fn batch(
    session: &mut Session,
    input: impl BufRead,
    out: impl Write,
    commit: bool,
) -> Result<(), CommandError> {
    interruptible(session, input, out, commit, &Interrupt::default())
}

/// As [`batch`], until an interrupt.
pub(super) fn interruptible(
    session: &mut Session,
    mut input: impl BufRead,
    mut out: impl Write,
    commit: bool,
    interrupt: &Interrupt,
) -> Result<(), CommandError> {
    let mut group: Option<Group> = None;
    let mut failures = Failures::default();
    let mut bytes = Vec::new();
    while !interrupt.is_raised() {
        bytes.clear();
        let unread = |source| CommandError::Read { path: "-".to_string(), source };
        let read = interrupt.waiting(|| input.read_until(b'\n', &mut bytes));
        if read.map_err(unread)? == 0 {
            break;
        }
        let (line, named) = read_line(&bytes);
        if group.as_ref().map(|group| &group.name) != named.as_ref() {
            failures.keep(end(session, group.take(), commit));
        }
        if group.is_none() {
            session.begin();
        }
        let mut answer = match line {
            Err(reason) => refusal(&reason),
            Ok(line) => answer(session, line),
        };
        match named {
            Some(name) => group = Some(Group { name }),
            None => {
                // A transaction of its own: whether it holds is part of the answer.
                if let Err(error) = session.end(commit && !answer.is_error) {
                    answer = refusal(&error.to_string());
                }
            }
        }
        failures.tell(&mut answer.text);
        answer.text.push(b'\n');
        out.write_all(&answer.text).and_then(|()| out.flush()).map_err(CommandError::Write)?;
    }
    let commit = commit && !interrupt.is_raised();
    failures.keep(end(session, group.take(), commit));
    if let Some(told) = failures.untold.take() {
        let line = json!({ "uncommitted": told });
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(CommandError::Write)?;
    }
    if interrupt.is_raised() {
        return Err(CommandError::Interrupted);
    }
    failures.first.map_or(Ok(()), |error| Err(CommandError::Commit(error)))
}

/// Ends the transaction of a group.
fn end(session: &mut Session, group: Option<Group>, commit: bool) -> Result<(), (Json, Error)> {
    match group {
        Some(group) => session.end(commit).map_err(|error| (group.name, error)),
        None => Ok(()),
    }
}

/// Groups that could not be committed.
#[derive(Default)]
struct Failures {
    first: Option<Error>,
    /// What no answer has told yet.
    untold: Option<Json>,
}

impl Failures {
    fn keep(&mut self, outcome: Result<(), (Json, Error)>) {
        if let Err((group, error)) = outcome {
            self.untold = Some(json!({ "group": group, "error": error.to_string() }));
            self.first.get_or_insert(error);
        }
    }

    /// Adds what is untold to an answer.
    fn tell(&mut self, answer: &mut Vec<u8>) {
        if let Some(told) = self.untold.take() {
            answer.pop();
            answer.extend_from_slice(format!(",\"uncommitted\":{told}}}").as_bytes());
        }
    }
}

/// The line and its group, which counts even where the line is bad.
fn read_line(bytes: &[u8]) -> (Result<Line, String>, Option<Json>) {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return (Err(format!("the line is not UTF-8: {error}")), None),
    };
    if !text.trim_start().starts_with('{') {
        return match read::<Box<RawValue>>(text) {
            Ok(_other) => (Err("the line is not a JSON object".to_string()), None),
            Err(reason) => (Err(format!("the line is not JSON: {reason}")), None),
        };
    }
    let given: Given = match read(text) {
        Ok(given) => given,
        Err(reason) => return (Err(format!("the line is not JSON: {reason}")), None),
    };
    let named = given.0.iter().find(|(name, _)| name == "group");
    let group = named.and_then(|(_, group)| read::<Json>(group.get()).ok());
    (given.members().and_then(parse), group.filter(|group| *group != Json::Null))
}

/// The members of an object as they are written: in order, those given twice too.
struct Given(Vec<(String, Box<RawValue>)>);

impl Given {
    /// The members by name.
    fn members(self) -> Result<Members, String> {
        let mut members = Members::new();
        for (name, value) in self.0 {
            if members.contains_key(&name) {
                return Err(format!("`{name}` is given twice"));
            }
            members.insert(name, value);
        }
        Ok(members)
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Given, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Given, M::Error> {
                let mut given = Vec::new();
                while let Some(member) = map.next_entry()? {
                    given.push(member);
                }
                Ok(Given(given))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

fn parse(mut members: Members) -> Result<Line, String> {
    members.remove("group");
    // What is misspelt would be passed over, parameters first of all.
    let known = ["query", "params", "sql"];
    if let Some(other) = members.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("`{other}` is none of `query`, `params`, `group`, `sql`"));
    }
    if let Some(sql) = members.get("sql") {
        if members.contains_key("query") {
            return Err("the line has both a `query` and `sql`".to_string());
        }
        return read(sql.get()).map(Line::Sql).map_err(|_| "`sql` is not a text".to_string());
    }
    let text = members.get("query").and_then(|query| read::<String>(query.get()).ok());
    let Some(text) = text else {
        return Err("the line has neither a `query` nor `sql`".to_string());
    };
    let mut params = Params::new();
    if let Some(given) = members.get("params") {
        let given: Option<Given> =
            read(given.get()).map_err(|_| "`params` is not an object".to_string())?;
        let given = given.map(Given::members).transpose()?;
        for (name, value) in given.unwrap_or_default() {
            let param = from_typed_json(value.get())
                .map_err(|reason| format!("parameter `{name}`: {reason}"))?;
            params.set(&name, param);
        }
    }
    Ok(Line::Query { text, params })
}

/// An answer without its end of line: an object.
struct Answer {
    text: Vec<u8>,
    is_error: bool,
}

fn refusal(reason: &str) -> Answer {
    Answer { text: json!({ "error": reason }).to_string().into_bytes(), is_error: true }
}

fn answer(session: &mut Session, line: Line) -> Answer {
    let worked = catch_unwind(AssertUnwindSafe(|| match line {
        Line::Sql(sql) => session.execute_sql(&sql).map(|()| b"{\"ok\":null}".to_vec()),
        Line::Query { text, params } => {
            let mut encoder = Encoder::default();
            session.stream(&text, &params, &mut encoder)?;
            encoder.finish().map_err(|error| Error::new(error.to_string()))
        }
    }));
    match worked {
        Ok(Ok(text)) => Answer { text, is_error: false },
        Ok(Err(error)) => refusal(&error.to_string()),
        Err(_panic) => {
            // What the line did cannot be told apart, so its whole transaction goes.
            let undone = session.end(false);
            session.begin();
            let lost = undone.err().map(|error| format!(": {error}")).unwrap_or_default();
            refusal(&format!("the query made the program fail{lost}"))
        }
    }
}

/// Writes an answer as its items come.
#[derive(Default)]
struct Encoder {
    out: Bounded,
    profile: Option<Profile>,
    is_list: bool,
    n_items: usize,
    rendered: Option<Printer<Bounded>>,
}

impl Encoder {
    fn finish(mut self) -> io::Result<Vec<u8>> {
        let out = &mut self.out;
        if let Some(printer) = self.rendered.take() {
            let text = printer.finish()?.0;
            out.write_all(b"{\"ok\":null,\"columns\":null,\"rendered\":")?;
            serde_json::to_writer(&mut *out, &String::from_utf8_lossy(&text))?;
        } else {
            if self.is_list {
                out.write_all(b"]")?;
            }
            let columns = self.profile.as_ref().map_or(Json::Null, profile_json);
            write!(out, ",\"columns\":{columns}")?;
        }
        out.write_all(b"}")?;
        Ok(self.out.0)
    }
}

impl Sink for Encoder {
    fn begin(&mut self, profile: &Profile, is_list: bool) -> io::Result<()> {
        if let Some(printer) = &mut self.rendered {
            return printer.begin(profile, is_list);
        }
        self.profile = Some(profile.clone());
        self.is_list = is_list;
        self.out.write_all(if is_list { b"{\"ok\":[" } else { b"{\"ok\":" })
    }

    fn item(&mut self, item: Item, more: &mut More<'_>) -> io::Result<()> {
        if let Some(printer) = &mut self.rendered {
            return printer.item(item, more);
        }
        let Some(profile) = &self.profile else { return Ok(()) };
        let domain = match &profile.domain {
            Domain::List(item) if self.is_list => item,
            domain => domain,
        };
        if self.n_items > 0 {
            self.out.write_all(b",")?;
        }
        self.n_items += 1;
        write_item(&mut self.out, domain, item, more)
    }

    fn format(&mut self, format: Format) {
        self.rendered = Some(Printer::new(format, None, Bounded::default()));
    }
}

/// A text of limited length.
#[derive(Default)]
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_ANSWER {
            let message = format!("an answer on one line is limited to {} MB", MAX_ANSWER >> 20);
            return Err(io::Error::other(message));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
