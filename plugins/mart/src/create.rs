//! `mart-create`: marts from a terminal.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rex_mart::{Creation, Definitions, Entry, Settings, now};
use rex_plugin_api::command::is_quiet;
use rex_plugin_api::serde_json::{Map, Value, json};
use rex_plugin_api::{Application, Command, Error, Result};
use rex_yaml::Loader;
use rex_yaml::validate::Input;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use signal_hook::flag;

use crate::application::{marts, rex};
use crate::arguments::{Given, Opt};

#[derive(Default)]
pub(crate) struct Create;

const OPTIONS: [Opt; 7] = [
    Opt { name: "owner", letter: Some('o'), takes_value: true },
    Opt { name: "definition", letter: Some('d'), takes_value: true },
    Opt { name: "runlist", letter: Some('r'), takes_value: true },
    Opt { name: "halt-on-failure", letter: None, takes_value: false },
    Opt { name: "keep-on-failure", letter: None, takes_value: false },
    Opt { name: "leave-incomplete", letter: None, takes_value: false },
    Opt { name: "param", letter: Some('p'), takes_value: true },
];

impl Command for Create {
    const ABOUT: &'static str = "create Mart database(s)";
    const ARGUMENTS: &'static str =
        "--owner=OWNER… --definition=DEFINITION… [--param=NAME=VALUE…] | --runlist=FILE";
    const HELP: &'static str = "\
Makes a mart for each owner and definition, or those of a run list, one after another.

Options:
  -o, --owner=OWNER            whom the marts belong to; may be repeated
  -d, --definition=DEFINITION  what is made; may be repeated
  -r, --runlist=FILE           a YAML list of {owner, definition, parameters, halt_on_failure,
                               purge_on_failure, leave_incomplete}; PROJECT:/FILE is beside a
                               project's settings
  -p, --param=NAME=VALUE       a parameter of the definitions; may be repeated
      --halt-on-failure        end with the first mart that cannot be made
      --keep-on-failure        leave what there is of one that cannot be made
      --leave-incomplete       do not call the marts complete

The application is named as for other commands: --project, --require, --set, --config, --settings.";
    const APPLICATION: bool = true;

    fn run_in(&mut self, application: &Application, arguments: &[String]) -> Result<()> {
        let given = Given::read("mart-create", &OPTIONS, &[], arguments)?;
        let (settings, definitions) = marts(application)?;
        let entries = entries(&given, application, &definitions)?;
        let ended = ended_by()?;
        for entry in entries {
            let made = make(&settings, &definitions, &entry, &ended);
            let signal = ended.load(Ordering::Relaxed);
            if signal != 0 {
                signal_hook::low_level::emulate_default_handler(i32::try_from(signal)?)?;
            }
            if !made && entry.halt_on_failure {
                return Err(Error::new("Halting RunList due to creation error"));
            }
        }
        Ok(())
    }
}

/// The signal that has told this process to end, or 0: first what was begun is taken away. A second
/// one ends it at once, and a reader who has seen enough does not.
fn ended_by() -> Result<Arc<AtomicUsize>> {
    let (ended, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_conditional_default(signal, Arc::clone(&again))?;
        flag::register(signal, Arc::clone(&again))?;
        flag::register_usize(signal, Arc::clone(&ended), usize::try_from(signal)?)?;
    }
    flag::register(SIGPIPE, Arc::new(AtomicBool::new(false)))?;
    Ok(ended)
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
            return Err(Error::new(
                "Cannot specify both a runlist and owner/definition combinations",
            ));
        }
        return run_list(list, application);
    }
    if ids.is_empty() {
        let known = definitions.ids().join(", ");
        return Err(Error::new(format!("You must specify at least one definition ({known})")));
    }
    if owners.is_empty() {
        return Err(Error::new("You must specify at least one owner"));
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
            entries.push(Entry::read(Input::Value(&entry)).map_err(rex)?);
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
    if let Err(error) = std::fs::File::open(&path) {
        let number = error.raw_os_error().unwrap_or(0);
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or(&text);
        return Err(Error::new(format!(
            "Could not open \"{name}\": [Errno {number}] {text}: '{}'",
            path.display()
        )));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let node = Loader::new(folder).file(&path).map_err(rex)?;
    Entry::list(Input::Node(&node)).map_err(rex)
}

/// Makes one; whether it could be made.
fn make(
    settings: &Settings,
    definitions: &Definitions,
    entry: &Entry,
    ended: &AtomicUsize,
) -> bool {
    let Entry { owner, definition, .. } = entry;
    say(&format!("Starting Mart creation for owner={owner}, definition={definition}"));
    let made = Creation::new(settings, definitions, entry).and_then(|creation| {
        creation.run(&mut |line, _| say(line), &|| ended.load(Ordering::Relaxed) != 0)
    });
    if let Err(error) = &made {
        let text = format!(
            "Mart creation for {entry} failed:\nTraceback (most recent call last):\n  File \
             \"{}\", line {}\nrex.core.Error: {error}",
            file!(),
            line!()
        );
        let _ = writeln!(std::io::stderr(), "{}", stamped(&text));
    }
    made.is_ok()
}

/// Tells on stdout; that nobody listens any more does not end a creation half-way.
fn say(text: &str) {
    if is_quiet() {
        return;
    }
    let _ = writeln!(std::io::stdout(), "{}", stamped(text));
}

/// A text with the time before its first line, and as much room before the others.
fn stamped(text: &str) -> String {
    let stamp = now();
    let room = " ".repeat(stamp.len());
    text.replace('\n', &format!("\n{room}")).replacen("", &stamp, 1)
}
