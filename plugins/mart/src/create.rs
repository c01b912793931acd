//! `mart-create`: marts from a terminal.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rex_mart::{Creation, Definitions, Entry, Failure, Mart, Settings, now};
use rex_plugin_api::command::is_quiet;
use rex_plugin_api::serde_json::{Map, Value, json};
use rex_plugin_api::{Application, Command, CommandOption, Error, Result};
use rex_yaml::Loader;
use rex_yaml::validate::Input;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use signal_hook::flag;

use crate::application::{marts, rex};
use crate::arguments::{Given, toggle, valued};
use crate::tidy;

#[derive(Default)]
pub(crate) struct Create;

impl Command for Create {
    const ABOUT: &'static str = "create Mart database(s)";
    const HELP: &'static str = "\
Makes a mart for each owner and definition, or those of a run list, one after another. A run list is a
YAML list of {owner, definition, parameters, halt_on_failure, purge_on_failure, leave_incomplete}.";
    const OPTIONS: &'static [CommandOption] = &[
        valued(
            "owner",
            Some('o'),
            "OWNER",
            "The owner to assign to the Mart. This option may be repeated to create Marts for \
             multiple owners.",
        ),
        valued(
            "definition",
            Some('d'),
            "DEFINITION",
            "The ID of the Definition to use when creating the Mart. This option may be repeated to \
             create multiple types of Marts.",
        ),
        valued(
            "runlist",
            Some('r'),
            "RUNLIST",
            "The Mart RunList that details the batch creation of multiple Mart databases. If this \
             option is specified, the --owner and --definition options cannot be used. To reference \
             a runlist file that is embedded in a RexDB package, use the notation \
             \"some.package:/path/to/runlist.yaml\"",
        ),
        toggle(
            "halt-on-failure",
            None,
            "Indicates whether or not the failure to create a single Mart will cause the task to \
             immediately stop. If not specified, the task will attempt to create all specified \
             Marts, regardless of failures.",
        ),
        toggle(
            "keep-on-failure",
            None,
            "Indicates whether or not the databases of failed Mart creations should be kept. If not \
             specified, failed Marts will automatically have their databases deleted.",
        ),
        toggle(
            "leave-incomplete",
            None,
            "Indicates whether or not to leave the status of Marts open. If not specified, Marts \
             will automatically be marked as \"complete\", meaning they can be accessed by \
             front-end users.",
        ),
        valued("param", Some('p'), "PARAM=VALUE", "Sets a Mart creation parameter value."),
    ];
    const APPLICATION: bool = true;

    fn run_in(&mut self, application: &Application, arguments: &[String]) -> Result<()> {
        let given = Given::read("mart-create", Self::OPTIONS, &[], arguments)?;
        let (settings, definitions) = marts(application)?;
        let entries = entries(&given, application, &definitions)?;
        let ended = ended_by()?;
        let (mut is_left, mut is_halted, mut failed) = (false, false, 0);
        for entry in entries {
            let made = make(&settings, &definitions, &entry, &ended);
            failed += usize::from(made.is_err());
            is_left |= made.as_ref().is_err_and(|failure| failure.is_left);
            is_halted = made.is_err() && entry.halt_on_failure;
            if is_halted || is_ended(&ended) {
                break;
            }
        }
        if is_left {
            warn("Removing what is left of the Mart, once its server answers");
            if !tidy::within(PATIENCE, &settings, || is_ended(&ended)) {
                warn("What is left is removed when the next Mart is made");
            }
        }
        let signal = ended.load(Ordering::Relaxed);
        if signal != 0 {
            signal_hook::low_level::emulate_default_handler(i32::try_from(signal)?)?;
        }
        match failed {
            0 => Ok(()),
            _ if is_halted => Err(Error::new("Halting RunList due to creation error")),
            count => Err(Error::told(format!("{count} marts were not made"))),
        }
    }
}

/// How long the server is waited for that has gone away while a mart was made.
const PATIENCE: Duration = Duration::from_secs(30);

fn is_ended(ended: &AtomicUsize) -> bool {
    ended.load(Ordering::Relaxed) != 0
}

/// The signal that has told this process to end, or 0: first what was begun is taken away. Ctrl-C
/// after that ends it at once; what else comes in numbers, as from a terminal that is closed, does not, nor
/// does a reader who has seen enough.
fn ended_by() -> Result<Arc<AtomicUsize>> {
    let (ended, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let ignored = ignored()?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if ignored & (1 << (signal - 1)) != 0 {
            continue;
        }
        if signal == SIGINT {
            flag::register_conditional_default(signal, Arc::clone(&again))?;
        }
        flag::register(signal, Arc::clone(&again))?;
        flag::register_usize(signal, Arc::clone(&ended), usize::try_from(signal)?)?;
    }
    flag::register(SIGPIPE, Arc::new(AtomicBool::new(false)))?;
    Ok(ended)
}

/// The signals that whoever started this process has it ignore (`nohup`), the first in the lowest bit.
fn ignored() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    Ok(u64::from_str_radix(mask.unwrap_or("0").trim(), 16)?)
}

/// The marts that are asked for.
fn entries(
    given: &Given,
    application: &Application,
    definitions: &Definitions,
) -> Result<Vec<Entry>> {
    let (owners, ids) = (given.all("owner"), given.all("definition"));
    if let Some(list) = given.all("runlist").last() {
        if !owners.is_empty() || !ids.is_empty() {
            return Err(Error::usage(
                "Cannot specify both a runlist and owner/definition combinations",
            ));
        }
        return run_list(list, application);
    }
    if ids.is_empty() {
        let known = definitions.ids().join(", ");
        return Err(Error::usage(format!("You must specify at least one definition ({known})")));
    }
    if owners.is_empty() {
        return Err(Error::usage("You must specify at least one owner"));
    }
    if let Some(id) = ids.iter().find(|id| definitions.get(id).is_none()) {
        return Err(Error::new(format!("\"{id}\" is not a valid definition")));
    }
    let parameter = |text: &&str| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Value::from(value)),
        None => ((*text).to_owned(), Value::Bool(true)),
    };
    let parameters: Map<String, Value> = given.all("param").iter().map(parameter).collect();
    let mut entries = Vec::new();
    for owner in owners {
        for id in &ids {
            let entry = json!({
                "owner": owner,
                "definition": id,
                "halt_on_failure": given.has("halt-on-failure"),
                "purge_on_failure": !given.has("keep-on-failure"),
                "leave_incomplete": given.has("leave-incomplete"),
                "parameters": parameters,
            });
            entries.push(Entry::read(Input::Value(&entry)).map_err(|error| rex(error))?);
        }
    }
    Ok(entries)
}

/// A file of entries; `PROJECT:/FILE` is beside the settings of a project.
fn run_list(name: &str, application: &Application) -> Result<Vec<Entry>> {
    let embedded = name.split_once(':').and_then(|(project, file)| {
        let project = application.projects.iter().find(|known| known.name == project)?;
        Some(project.file.as_ref()?.parent()?.join(file.trim_start_matches('/')))
    });
    let path = embedded.unwrap_or_else(|| Path::new(name).to_owned());
    if let Err(error) = std::fs::read(&path) {
        let number = error.raw_os_error().unwrap_or(0);
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or(&text);
        return Err(Error::new(format!(
            "Could not open \"{name}\": [Errno {number}] {text}: '{}'",
            path.display()
        )));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let node = Loader::new(folder).file(&path).map_err(|error| rex(error))?;
    Entry::list(Input::Node(&node)).map_err(|error| rex(error))
}

/// Makes one, and tells if it cannot be made.
fn make(
    settings: &Settings,
    definitions: &Definitions,
    entry: &Entry,
    ended: &AtomicUsize,
) -> Result<Mart, Failure> {
    let Entry { owner, definition, .. } = entry;
    say(&format!("Starting Mart creation for owner={owner}, definition={definition}"));
    let made = Creation::new(settings, definitions, entry)
        .map_err(Failure::from)
        .and_then(|creation| creation.run(&mut |line, _| say(line), &|| is_ended(ended)));
    made.inspect_err(|failure| {
        let text = format!(
            "Mart creation for {entry} failed:\nTraceback (most recent call last):\n  File \
             \"{}\", line {}\nrex.core.Error: {failure}",
            file!(),
            line!()
        );
        warn(&text);
    })
}

/// Tells on stdout; that nobody listens any more does not end a creation half-way.
fn say(text: &str) {
    if is_quiet() {
        return;
    }
    let _ = writeln!(std::io::stdout(), "{}", stamped(text));
}

fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", stamped(text));
}

/// A text with the time before its first line, and as much room before the others.
fn stamped(text: &str) -> String {
    let stamp = now();
    let room = " ".repeat(stamp.len());
    text.replace('\n', &format!("\n{room}")).replacen("", &stamp, 1)
}
