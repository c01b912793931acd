//! JSON lines in, JSON lines out: one answer a line, whatever happens.
//!
//! In: `{"query": text, "params": {…}, "group": …}` or `{"sql": text, "group": …}`. Consecutive
//! lines of one group share a transaction, with a savepoint a line; a line without a group has a
//! transaction of its own. Transactions are rolled back unless told to commit.
//!
//! Out: `{"ok": …, "columns": …}` (with `"rendered"` after a format command), or
//! `{"error": text}`.

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rex_htsql::Params;
use rex_htsql::domain::Domain;
use serde_json::{Map, Value as Json, json};

use super::CommandError;
use crate::encode::{profile_json, value_json};
use crate::json_param::from_typed_json;
use crate::product::Product;
use crate::session::Session;

/// A line of input.
enum Line {
    Query { text: String, params: Params },
    Sql(String),
}

/// Answers every line of `input` on `out`, each as soon as it is known.
///
/// # Errors
/// Input or output failed, or a commit did: the lines of its group had been answered by then.
pub fn batch(
    session: &mut Session,
    mut input: impl BufRead,
    mut out: impl Write,
    commit: bool,
) -> Result<(), CommandError> {
    let unread = |source| CommandError::Read { path: "-".to_string(), source };
    let mut group: Option<Json> = None;
    let mut open = false;
    let mut uncommitted = None;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if input.read_until(b'\n', &mut bytes).map_err(unread)? == 0 {
            break;
        }
        let (line, named) = read(&bytes);
        if open && (named.is_none() || named != group) {
            open = false;
            keep_first(&mut uncommitted, session.end(commit));
        }
        if !open {
            session.begin();
            open = true;
        }
        let mut answer = match line {
            Err(reason) => json!({ "error": reason }),
            Ok(line) => answer(session, line),
        };
        if named.is_none() {
            // A transaction of its own: whether it holds is part of the answer.
            open = false;
            let failed = answer.get("error").is_some();
            if let Err(error) = session.end(commit && !failed) {
                answer = json!({ "error": error.to_string() });
            }
        }
        group = named;
        let written = serde_json::to_writer(&mut out, &answer).map_err(std::io::Error::from);
        written
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush())
            .map_err(CommandError::Write)?;
    }
    if open {
        keep_first(&mut uncommitted, session.end(commit));
    }
    uncommitted.map_or(Ok(()), |error| Err(CommandError::Commit(error)))
}

fn keep_first(kept: &mut Option<rex_htsql::Error>, outcome: Result<(), rex_htsql::Error>) {
    if let (None, Err(error)) = (&kept, outcome) {
        *kept = Some(error);
    }
}

/// The line and its group, which counts even where the line is bad.
fn read(bytes: &[u8]) -> (Result<Line, String>, Option<Json>) {
    let mut members: Map<String, Json> = match serde_json::from_slice(bytes) {
        Ok(Json::Object(members)) => members,
        Ok(_) => return (Err("the line is not a JSON object".to_string()), None),
        Err(error) => return (Err(format!("the line is not JSON: {error}")), None),
    };
    let group = members.remove("group").filter(|group| *group != Json::Null);
    (parse(members), group)
}

fn parse(mut members: Map<String, Json>) -> Result<Line, String> {
    if let Some(sql) = members.remove("sql") {
        return match sql {
            Json::String(sql) => Ok(Line::Sql(sql)),
            _ => Err("`sql` is not a text".to_string()),
        };
    }
    let Some(Json::String(text)) = members.remove("query") else {
        return Err("the line has neither a `query` nor `sql`".to_string());
    };
    let mut params = Params::new();
    match members.remove("params") {
        None | Some(Json::Null) => {}
        Some(Json::Object(given)) => {
            for (name, value) in given {
                let param = from_typed_json(value)
                    .map_err(|reason| format!("parameter `{name}`: {reason}"))?;
                params.set(&name, param);
            }
        }
        Some(_) => return Err("`params` is not an object".to_string()),
    }
    Ok(Line::Query { text, params })
}

fn answer(session: &mut Session, line: Line) -> Json {
    let worked = catch_unwind(AssertUnwindSafe(|| match line {
        Line::Sql(sql) => session.execute_sql(&sql).map(|()| json!({ "ok": null })),
        Line::Query { text, params } => session.produce(&text, &params).map(|p| encode(&p)),
    }));
    match worked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => json!({ "error": error.to_string() }),
        Err(_panic) => {
            // What the line did cannot be told apart, so its whole transaction goes.
            let undone = session.end(false);
            session.begin();
            let lost = undone.err().map(|error| format!(": {error}")).unwrap_or_default();
            json!({ "error": format!("the query made the program fail{lost}") })
        }
    }
}

fn encode(product: &Product) -> Json {
    let domain = product.profile.as_ref().map_or(&Domain::Void, |profile| &profile.domain);
    let mut answer = json!({
        "ok": value_json(domain, &product.data),
        "columns": product.profile.as_ref().map_or(Json::Null, profile_json),
    });
    if let (Some(text), Some(members)) = (&product.rendered, answer.as_object_mut()) {
        members.insert("rendered".to_string(), Json::String(text.clone()));
    }
    answer
}
