//! `mart-list`: which marts there are, or which could be made.

use std::io::Write;

use rex_mart::{Definition, Inventory, Mart};
use rex_plugin_api::serde_json::{Value, json};
use rex_plugin_api::{Application, Command, CommandOption, Error, Result};

use crate::application::{marts, rex};
use crate::arguments::{Given, toggle, valued};

#[derive(Default)]
pub(crate) struct List;

impl Command for List {
    const ABOUT: &'static str = "list Mart databases, or their definitions";
    const HELP: &'static str = "\
Lists marts by code, those in the making and those that failed and were kept among them.";
    const OPTIONS: &'static [CommandOption] = &[
        valued("owner", Some('o'), "OWNER", "of this owner; may be repeated"),
        valued("definition", Some('d'), "DEFINITION", "of this definition; may be repeated"),
        toggle("definitions", None, "what can be made, instead of what there is"),
        toggle("json", None, "an object a line"),
    ];
    const APPLICATION: bool = true;

    fn run_in(&mut self, application: &Application, arguments: &[String]) -> Result<()> {
        let given = Given::read("mart-list", Self::OPTIONS, &[], arguments)?;
        let (settings, definitions) = marts(application)?;
        let fits = |kind: &str, value: &str| !given.has(kind) || given.all(kind).contains(&value);
        let rows: Vec<Value> = if given.has("definitions") {
            if given.has("owner") {
                return Err(Error::usage("Definitions have no owner"));
            }
            if let Some(warning) = definitions.warning() {
                eprintln!("WARNING: {warning}");
            }
            let chosen = definitions.ids().into_iter().filter(|id| fits("definition", id));
            chosen.filter_map(|id| Some(described(definitions.get(id)?))).collect()
        } else {
            let all = Inventory::open(&settings.database).and_then(|mut found| found.all());
            let mut marts = all.map_err(|error| rex(error))?;
            marts.retain(|mart| fits("owner", &mart.owner) && fits("definition", &mart.definition));
            marts.iter().map(Mart::json).collect()
        };
        let mut out = std::io::stdout().lock();
        if given.has("json") {
            rows.iter().try_for_each(|row| writeln!(out, "{row}"))?;
            return Ok(());
        }
        let columns: &[&str] = match given.has("definitions") {
            true => &["id", "label", "base", "parameters", "description"],
            false => &[
                "code",
                "name",
                "definition",
                "owner",
                "status",
                "size",
                "date_creation_started",
                "pinned",
            ],
        };
        table(&mut out, columns, &rows)
    }
}

fn described(definition: &Definition) -> Value {
    let parameter = |parameter: &rex_mart::Parameter| match &parameter.default {
        Some(_) => format!("[{}]", parameter.name),
        None => parameter.name.clone(),
    };
    json!({
        "id": definition.id,
        "label": definition.label,
        "description": definition.description,
        "base": definition.base.kind,
        "target": definition.base.target,
        "fixed_name": definition.base.fixed_name,
        "parameters": definition.parameters.iter().map(parameter).collect::<Vec<_>>(),
    })
}

/// Fields of objects as a table for people.
fn table(out: &mut impl Write, columns: &[&str], rows: &[Value]) -> Result<()> {
    let cell = |value: &Value| match value {
        Value::Null | Value::Bool(false) => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::String(text) => text.lines().next().unwrap_or_default().to_owned(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    let head = columns.iter().map(|column| column.to_uppercase().replace("DATE_CREATION_", ""));
    let body = rows.iter().map(|row| columns.iter().map(|name| cell(&row[*name])).collect());
    let lines: Vec<Vec<String>> = std::iter::once(head.collect()).chain(body).collect();
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
