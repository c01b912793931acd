//! Marts found by what a person knows of them, and asked.

use std::io::Write;

use rex_db::{Printer, Session};
use rex_htsql::Params;
use rex_htsql::plan::Format;
use rex_yaml::Error;

use crate::create;
use crate::failure::guarded;
use crate::inventory::{Inventory, Mart};
use crate::settings::Settings;

impl Mart {
    /// The mart of this code, or whose database has this name.
    ///
    /// # Errors
    /// There is none.
    pub fn find(inventory: &mut Inventory, code_or_name: &str) -> Result<Mart, Error> {
        let found = match code_or_name.parse() {
            Ok(code) => inventory.get(code)?,
            Err(_) => inventory.named(code_or_name)?.pop(),
        };
        let none = || Error::new(format!("No Mart exists with code/name \"{code_or_name}\""));
        found.ok_or_else(none)
    }

    /// An owner's complete mart by `DEFINITION@latest` or `DEFINITION@NUMBER`, where 1 is the newest.
    ///
    /// # Errors
    /// The reference says something else, or there is none.
    pub fn refer(inventory: &mut Inventory, owner: &str, reference: &str) -> Result<Mart, Error> {
        let malformed = || {
            Error::new(
                "The reference must be in the form <DEFINITION>@latest or <DEFINITION>@<NUMBER>",
            )
        };
        let (definition, which) = reference.split_once('@').ok_or_else(malformed)?;
        let number = match which {
            "latest" => 1,
            number => number.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(malformed)?,
        };
        let marts = inventory.complete_of(owner)?;
        let mut of_definition =
            marts.into_iter().filter(|mart| mart.definition == definition).rev();
        of_definition.nth(number - 1).ok_or_else(|| Error::new("No matching Marts found"))
    }
}

/// Queries about one mart, answered as text tables.
#[derive(Debug)]
pub struct Shell(Session);

impl Shell {
    /// # Errors
    /// The system refuses what a connection needs.
    pub fn open(settings: &Settings, mart: &Mart) -> Result<Shell, Error> {
        create::open(settings, &mart.name).map(Shell)
    }

    /// Answers a query; `width`: columns that the table may take.
    ///
    /// # Errors
    /// The layered text of HTSQL.
    pub fn ask(
        &mut self,
        query: &str,
        width: Option<usize>,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let mut printer = Printer::new(Format::Text, width, out);
        guarded(self.0.stream(query, &Params::new(), &mut printer))?;
        printer.finish().map(|_| ()).map_err(|error| Error::new(error.to_string()))
    }
}
