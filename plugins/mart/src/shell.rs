//! `mart-shell`: HTSQL about a mart, a query a line.

use std::io::{BufRead, IsTerminal, Write};

use rex_mart::{Inventory, Mart, Shell};
use rex_plugin_api::{Application, Command, CommandOption, Error, Result};

use crate::application::{marts, rex};
use crate::arguments::{Given, valued};

#[derive(Default)]
pub(crate) struct AskMart;

impl Command for AskMart {
    const ABOUT: &'static str = "open HTSQL shell to Mart database";
    const ARGUMENTS: &'static str = "<code-name-owner>";
    const HELP: &'static str = "\
Answers queries from standard input, one a line, about the mart with this code, whose database has this
name, or, with --reference, that belongs to this owner.";
    const OPTIONS: &'static [CommandOption] = &[valued(
        "reference",
        Some('r'),
        "REFERENCE",
        "Specifies which of the owner's Mart databases to connect to. It must be in the form \
         <DEFINITION_ID>@latest or <DEFINITION_ID>@<NUMBER>, where <NUMBER> is the index of the \
         Marts of that Definition for the user (foo@1 would be the most recent foo Mart created, \
         etc).",
    )];
    const APPLICATION: bool = true;

    fn run_in(&mut self, application: &Application, arguments: &[String]) -> Result<()> {
        let given = Given::read("mart-shell", Self::OPTIONS, &["code-name-owner"], arguments)?;
        let (settings, _) = marts(application)?;
        let mut inventory = Inventory::open(&settings.database).map_err(|error| rex(error))?;
        let word = given.words.first().map_or("", String::as_str);
        let mart = match given.all("reference").last() {
            Some(reference) => Mart::refer(&mut inventory, word, reference),
            None => Mart::find(&mut inventory, word),
        };
        let mut shell = Shell::open(&settings, &mart.map_err(|error| rex(error))?)
            .map_err(|error| rex(error))?;
        let is_person = std::io::stdin().is_terminal();
        let mut failed = false;
        let mut line = String::new();
        loop {
            if is_person {
                eprint!("{word}$ ");
            }
            line.clear();
            if std::io::stdin().lock().read_line(&mut line)? == 0 {
                break;
            }
            if line.trim().is_empty() {
                continue;
            }
            let mut out = std::io::stdout().lock();
            if let Err(error) = shell.ask(line.trim_end(), None, &mut out) {
                out.flush()?;
                eprintln!("{error}");
                failed = true;
            }
        }
        match failed && !is_person {
            true => Err(Error::new("a query could not be answered")),
            false => Ok(()),
        }
    }
}
