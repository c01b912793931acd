//! `mart-purge`: marts that are chosen go.

use std::io::{BufRead, Write};

use rex_mart::{Inventory, Mart, purge};
use rex_plugin_api::{Application, Command, Error, Result, say};

use crate::application::{marts, rex};
use crate::arguments::{Given, Opt};

#[derive(Default)]
pub(crate) struct Purge;

const OPTIONS: [Opt; 6] = [
    Opt { name: "owner", letter: Some('o'), takes_value: true },
    Opt { name: "definition", letter: Some('d'), takes_value: true },
    Opt { name: "name", letter: Some('n'), takes_value: true },
    Opt { name: "code", letter: Some('c'), takes_value: true },
    Opt { name: "all", letter: Some('a'), takes_value: false },
    Opt { name: "force-accept", letter: Some('f'), takes_value: false },
];

impl Command for Purge {
    const ABOUT: &'static str = "purge Mart database(s)";
    const ARGUMENTS: &'static str = "--all | --owner=OWNER… --definition=DEFINITION… --name=NAME… --code=CODE… [--force-accept]";
    const HELP: &'static str = "\
Purges marts: their databases, unless they were there before, and their records. Of one option any
value will do; several kinds of options must all fit.

Options:
  -o, --owner=OWNER            of this owner; may be repeated
  -d, --definition=DEFINITION  of this definition; may be repeated
  -n, --name=NAME              whose database has this name; may be repeated
  -c, --code=CODE              with this code; may be repeated
  -a, --all                    all
  -f, --force-accept           do not ask

The application is named as for other commands: --project, --require, --set, --config, --settings.";
    const APPLICATION: bool = true;

    fn run_in(&mut self, application: &Application, arguments: &[String]) -> Result<()> {
        let given = Given::read("mart-purge", &OPTIONS, &[], arguments)?;
        let kinds = ["owner", "definition", "name", "code", "all"];
        if !kinds.iter().any(|kind| given.has(kind)) {
            return Err(Error::new("You must specify some selection criteria"));
        }
        let codes: Vec<i64> = given
            .all("code")
            .into_iter()
            .map(|code| {
                let bad = || {
                    let text = "Expected an integer\nGot:\n    ";
                    Error::new(format!("invalid value for option --code: \n{text}'{code}'"))
                };
                code.parse().map_err(|_| bad())
            })
            .collect::<Result<_>>()?;
        let (settings, definitions) = marts(application)?;
        let all = Inventory::open(&settings.database).and_then(|mut found| found.all());
        let mut marts = all.map_err(rex)?;
        let fits = |kind: &str, value: &str| !given.has(kind) || given.all(kind).contains(&value);
        marts.retain(|mart| {
            fits("owner", &mart.owner)
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
        for mart in &marts {
            say!("Purging {}...", shown(mart));
            purge(&settings, &definitions, mart).map_err(rex)?;
        }
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
