//! What `rex` and `rex help` print, made from the same tables that the parser reads and from what
//! plugins say of their commands.

use rex_plugin_api::ops::CommandEntry;

use super::grammar::normal;
use super::tasks::{OF_APPLICATIONS, Opt, TASKS, Task, task};
use crate::settings::{GLOBALS, Global, Takes};

const TITLE: &str = "Rex - Command-line administration utility for the RexDB platform\n\
                     Usage: rex [@instance] [<settings>...] <task> [<arguments>...]\n\n";

/// `rex` without a task.
pub(super) fn usage() -> String {
    TITLE.to_owned()
        + "Run rex help for general usage and a list of tasks and settings.\n\
           Run rex help <topic> for help on a specific task or setting.\n"
}

/// `rex help` without topic; `commands` are the names and hints of what plugins add.
pub(super) fn overview(commands: &[(String, String)]) -> String {
    let mut out = TITLE.to_owned()
        + "Run rex help for general usage and a list of tasks,\n\
           settings and other help topics.\n\n\
           Run rex help <topic> for help on a specific task or setting.\n\n";
    out += "Available tasks:\n";
    let ours = TASKS.iter().map(|task| (task.name, task.hint));
    let theirs = commands.iter().map(|(name, hint)| (name.as_str(), hint.as_str()));
    let mut tasks: Vec<(&str, &str)> = ours.chain(theirs).collect();
    tasks.sort_unstable();
    out.extend(tasks.iter().map(|(name, hint)| listed(name, hint)));
    out += "\nSettings:\n";
    for global in &GLOBALS {
        out += &listed(&option(global), global.hint);
    }
    out + "\n"
}

/// `rex help <topic>`; `None` where there is no such task or setting here.
pub(super) fn topic(topic: &str) -> Option<String> {
    let name = normal(topic);
    if let Some(task) = task(&name) {
        return Some(describe_task(task));
    }
    GLOBALS.iter().find(|global| global.name == name).map(describe_global)
}

fn listed(usage: &str, hint: &str) -> String {
    format!("  {usage:<24} : {hint}\n")
}

fn describe_task(task: &Task) -> String {
    let arguments: String =
        task.arguments.iter().map(|argument| format!(" [<{}>]", argument.name)).collect();
    described(task.name, task.hint, &arguments, task.body, task.options.iter().map(Shown::of))
}

/// `rex help <command>`, where a plugin has it.
pub(in crate::cli) fn of_plugin(entry: &CommandEntry) -> String {
    let arguments = match entry.arguments.as_str() {
        "" => String::new(),
        arguments => format!(" {arguments}"),
    };
    let of_applications = OF_APPLICATIONS.iter().filter(|_| entry.application).map(Shown::of);
    let own = entry.options.iter().map(|option| Shown {
        name: &option.name,
        key: option.key,
        value: option.value.as_deref(),
        hint: &option.hint,
    });
    described(&entry.name, &entry.about, &arguments, &entry.help, of_applications.chain(own))
}

/// An option, whosever it is.
struct Shown<'a> {
    name: &'a str,
    key: Option<char>,
    value: Option<&'a str>,
    hint: &'a str,
}

impl Shown<'_> {
    fn of(option: &Opt) -> Shown<'_> {
        Shown { name: option.name, key: option.key, value: option.value, hint: option.hint }
    }
}

fn described<'a>(
    name: &str,
    hint: &str,
    arguments: &str,
    body: &str,
    options: impl Iterator<Item = Shown<'a>>,
) -> String {
    let mut out = format!("{} - {hint}\nUsage: rex {name}{arguments}\n\n", name.to_uppercase());
    if !body.is_empty() {
        out += &format!("{}\n\n", body.trim_end());
    }
    let mut options = options.peekable();
    if options.peek().is_none() {
        return out;
    }
    out += "Options:\n";
    for option in options {
        let key = option.key.map(|key| format!("-{key}/")).unwrap_or_default();
        let value = option.value.map(|value| format!("={value}")).unwrap_or_default();
        out += &listed(&format!("{key}--{}{value}", option.name), option.hint);
    }
    out + "\n"
}

fn describe_global(global: &Global) -> String {
    let variable = global.name.to_uppercase().replace('-', "_");
    let (in_file, in_environment) = match global.takes {
        Takes::Toggle => ("true", "1"),
        _ => (variable.as_str(), variable.as_str()),
    };
    format!(
        "{} - {}\nUsage: rex {}\n       {}: {in_file} (rex.yaml)\n       \
         REX_{variable}={in_environment} (environment)\n\n",
        global.name.to_uppercase(),
        global.hint,
        option(global),
        global.name,
    )
}

fn option(global: &Global) -> String {
    match global.takes {
        Takes::Toggle => format!("--{}", global.name),
        _ => format!("--{}={}", global.name, global.name.to_uppercase().replace('-', "_")),
    }
}

#[cfg(test)]
mod tests;
