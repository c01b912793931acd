//! `mart-purge`: marts that are chosen go.

use std::io::{BufRead, Write};

use rex_mart::{Inventory, Mart, purge};
use rex_plugin_api::{Application, Command, CommandOption, Error, Result, say};

use crate::application::{marts, rex};
use crate::arguments::{Given, toggle, valued};

#[derive(Default)]
pub(crate) struct Purge;

impl Command for Purge {
    const ABOUT: &'static str = "purge Mart database(s)";
    const HELP: &'static str = "\
Purges marts: their databases, unless they were there before, and their records. Of one option any
value will do; several kinds of options must all fit.";
    const OPTIONS: &'static [CommandOption] = &[
        valued(
            "owner",
            Some('o'),
            "OWNER",
            "The owner of the Mart(s) to purge. This option may be repeated to specify multiple \
             owners.",
        ),
        valued(
            "definition",
            Some('d'),
            "DEFINITION",
            "The Definition ID of the Mart(s) to purge. This option may be repeated to specify \
             multiple Definitions.",
        ),
        valued(
            "name",
            Some('n'),
            "NAME",
            "The name of the Mart database(s) to purge. This option may be repeated to specify \
             multiple databases.",
        ),
        valued(
            "code",
            Some('c'),
            "CODE",
            "The unique Code/ID of the Mart(s) to purge. This option may be repeated to specify \
             multiple Marts.",
        ),
        toggle(
            "all",
            Some('a'),
            "Indicates that ALL Marts in the system should be purged (regardless of any other \
             criteria specified).",
        ),
        toggle(
            "force-accept",
            Some('f'),
            "Indicates that the Marts should be purged immediately without prompting the user for \
             confirmation.",
        ),
    ];
    const APPLICATION: bool = true;

    fn run_in(&mut self, application: &Application, arguments: &[String]) -> Result<()> {
        let given = Given::read("mart-purge", Self::OPTIONS, &[], arguments)?;
        let kinds = ["owner", "definition", "name", "code", "all"];
        if !kinds.iter().any(|kind| given.has(kind)) {
            return Err(Error::usage("You must specify some selection criteria"));
        }
        let codes: Vec<i64> = given
            .all("code")
            .into_iter()
            .map(|code| {
                let bad = || {
                    let text = "Expected an integer\nGot:\n    ";
                    Error::usage(format!("invalid value for option --code: \n{text}'{code}'"))
                };
                code.parse().map_err(|_| bad())
            })
            .collect::<Result<_>>()?;
        let (settings, definitions) = marts(application)?;
        let all = Inventory::open(&settings.database).and_then(|mut found| found.all());
        let mut marts = all.map_err(|error| rex(error))?;
        let fits = |kind: &str, value: &str| !given.has(kind) || given.all(kind).contains(&value);
        marts.retain(|mart| {
            given.has("all")
                || fits("owner", &mart.owner)
                    && fits("definition", &mart.definition)
                    && fits("name", &mart.name)
                    && (codes.is_empty() || codes.contains(&mart.code))
        });
        if marts.is_empty() {
            say!("No Marts found matching the specified criteria.");
            return Ok(());
        }
        say!("You are about to purge {} Marts from the system:", marts.len());
        for mart in &marts {
            say!("  {}", shown(mart));
        }
        if !given.has("force-accept") && !is_sure()? {
            say!("Purge aborted.");
            return Ok(());
        }
        let mut first = Ok(());
        for mart in &marts {
            say!("Purging {}...", shown(mart));
            match purge(&settings, &definitions, mart) {
                Ok(true) => {}
                Ok(false) => say!("It is gone already."),
                // It keeps no other.
                Err(error) => {
                    say!("It stays.");
                    first = first.and(Err(error.guard("While purging Mart:", shown(mart))));
                }
            }
        }
        first.map_err(|error| rex(error))?;
        say!("Purge complete.");
        Ok(())
    }
}

fn shown(mart: &Mart) -> String {
    let Mart { code, name, owner, definition, .. } = mart;
    format!("#{code}: {name} (owner={owner}, definition={definition})")
}

fn is_sure() -> Result<bool> {
    print!("Are you sure you want to continue? (y/N): ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.starts_with(['y', 'Y']))
}
