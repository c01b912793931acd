//! `mart-pin`: marts that no quota purges.

use rex_mart::{Inventory, Mart};
use rex_plugin_api::{Application, Command, CommandOption, Result};

use crate::application::{marts, rex};
use crate::arguments::{Given, toggle};

#[derive(Default)]
pub(crate) struct Pin;

impl Command for Pin {
    const ABOUT: &'static str = "keep a Mart database whatever the quota";
    const ARGUMENTS: &'static str = "<code-name>";
    const HELP: &'static str = "\
Pins the mart with this code, or whose database has this name: it is not purged when its owner has more
marts than the quota allows. Once all of them are pinned no other is made.";
    const OPTIONS: &'static [CommandOption] = &[toggle("undo", Some('u'), "pinned no more")];
    const APPLICATION: bool = true;

    fn run_in(&mut self, application: &Application, arguments: &[String]) -> Result<()> {
        let given = Given::read("mart-pin", Self::OPTIONS, &["code-name"], arguments)?;
        let (settings, _) = marts(application)?;
        let mut inventory = Inventory::open(&settings.database).map_err(|error| rex(error))?;
        let word = given.words.first().map_or("", String::as_str);
        let mart = Mart::find(&mut inventory, word).map_err(|error| rex(error))?;
        inventory.pin(&mart, !given.has("undo")).map_err(|error| rex(error))
    }
}
