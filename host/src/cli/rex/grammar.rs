//! The original's command line, read from left to right:
//! `rex [@instance] [<settings>...] <task> [<arguments>...]`. A `--name` that is a global setting is
//! one wherever it stands, even where the task has an option of that name; else it belongs to the
//! task before it. `-` and `_` in names are the same, case does not matter.

use std::collections::BTreeMap;

use serde_json::Value;

use super::tasks::{OF_APPLICATIONS, Opt, Task, task};
use crate::settings::{Error, GLOBALS, Global, Takes};

/// What the words mean, before anything else is read.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// What `@instance` says.
    pub(super) instance: Option<String>,
    pub(super) globals: BTreeMap<String, Value>,
    pub(super) task: Option<&'static Task>,
    /// A word that is no task of ours, and all words after it: a plugin may have it.
    pub(super) command: Option<(String, Vec<String>)>,
    /// By position; `-` gives none.
    pub(super) arguments: Vec<Option<String>>,
    /// Name and value; a toggle has none.
    pub(super) options: Vec<(&'static str, Option<String>)>,
}

impl Line {
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == option)
    }

    /// The values of an option in the order given.
    pub(super) fn values(&self, option: &str) -> impl Iterator<Item = &str> {
        let options = self.options.iter().filter(move |(name, _)| *name == option);
        options.filter_map(|(_, value)| value.as_deref())
    }
}

/// Reads the words after the program's name.
///
/// # Errors
/// One paragraph in the original's words.
pub(super) fn parse(words: &[String]) -> Result<Line, Error> {
    let mut line = Line::default();
    let mut words = words.iter();
    let mut only_arguments = false;
    while let Some(word) = words.next() {
        if only_arguments || word == "-" || !word.starts_with('-') {
            line.bare(word)?;
            if line.command.is_some() {
                line.rest(&mut words)?;
            }
        } else if word == "--" {
            only_arguments = true;
        } else if word.starts_with("--") {
            line.long(word, &mut words)?;
        } else {
            line.short(word, &mut words)?;
        }
    }
    Ok(line)
}

type Words<'a> = std::slice::Iter<'a, String>;

pub(super) fn normal(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

fn error(text: String) -> Error {
    Error::new(text)
}

impl Line {
    fn bare(&mut self, word: &str) -> Result<(), Error> {
        let Some(known) = self.task else {
            if let (Some(instance), None) = (word.strip_prefix('@'), &self.instance)
                && is_instance(instance)
            {
                self.instance = Some(instance.to_owned());
                return Ok(());
            }
            self.task = task(&normal(word));
            if self.task.is_none() {
                self.command = Some((word.to_owned(), Vec::new()));
            }
            return Ok(());
        };
        if self.arguments.len() == known.arguments.len() {
            return Err(error(format!("too many arguments for task {}", known.name)));
        }
        self.arguments.push((word != "-").then(|| word.to_owned()));
        Ok(())
    }

    /// The words behind a command of a plugin, which are its own but for global settings.
    fn rest(&mut self, words: &mut Words<'_>) -> Result<(), Error> {
        while let Some(word) = words.next() {
            let (typed, inline) = match word.split_once('=') {
                Some((typed, value)) => (typed, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let name = typed.strip_prefix("--").map(normal);
            match GLOBALS.iter().find(|global| Some(global.name) == name.as_deref()) {
                Some(global) => self.global(global, typed, inline, words)?,
                None => {
                    let Some((_, arguments)) = &mut self.command else { break };
                    arguments.push(word.clone());
                    if word == "--" {
                        // Behind it there are no settings.
                        arguments.extend(words.by_ref().cloned());
                    }
                }
            }
        }
        Ok(())
    }

    /// `--name`, `--name=value` or `--name value`.
    fn long(&mut self, word: &str, words: &mut Words<'_>) -> Result<(), Error> {
        let (typed, inline) = match word.split_once('=') {
            Some((typed, value)) => (typed, Some(value.to_owned())),
            None => (word, None),
        };
        let name = normal(&typed[2..]);
        if let Some(global) = GLOBALS.iter().find(|global| global.name == name) {
            return self.global(global, typed, inline, words);
        }
        let options = self.task.map_or(&[][..], |task| task.options);
        match options.iter().find(|option| option.name == name) {
            Some(option) => self.option(option, typed, inline, words),
            None => Err(error(format!("unknown option or setting {typed}"))),
        }
    }

    fn global(
        &mut self,
        global: &Global,
        typed: &str,
        inline: Option<String>,
        words: &mut Words<'_>,
    ) -> Result<(), Error> {
        let value = match (global.takes, inline) {
            (Takes::Toggle, Some(_)) => {
                return Err(error(format!("unexpected value for toggle setting {typed}")));
            }
            (Takes::Toggle, None) => Value::Bool(true),
            (_, inline) => match inline.or_else(|| words.next().cloned()) {
                Some(text) => Value::String(text),
                None => return Err(error(format!("missing value for setting {typed}"))),
            },
        };
        self.globals.insert(global.name.to_owned(), value);
        Ok(())
    }

    fn option(
        &mut self,
        option: &'static Opt,
        typed: &str,
        inline: Option<String>,
        words: &mut Words<'_>,
    ) -> Result<(), Error> {
        let value = match (option.value, inline) {
            (None, Some(_)) => {
                return Err(error(format!("unexpected value for a toggle option {typed}")));
            }
            (None, None) => None,
            (Some(_), inline) => {
                Some(checked(option, typed, inline.or_else(|| words.next().cloned()))?)
            }
        };
        if !option.plural && self.has(option.name) {
            return Err(error(format!("duplicate option {typed}")));
        }
        self.options.push((option.name, value));
        Ok(())
    }

    /// `-k`, several toggles as `-kl`, `-k value` or `-kvalue`.
    fn short(&mut self, word: &str, words: &mut Words<'_>) -> Result<(), Error> {
        let options = self.task.map_or(&[][..], |task| task.options);
        let mut rest = word[1..].chars();
        while let Some(key) = rest.next() {
            let typed = format!("-{key}");
            let Some(option) = options.iter().find(|option| option.key == Some(key)) else {
                return Err(error(format!("unknown option {typed}")));
            };
            if option.value.is_none() {
                self.option(option, &typed, None, words)?;
                continue;
            }
            let inline = Some(rest.as_str().to_owned()).filter(|text| !text.is_empty());
            return self.option(option, &typed, inline, words);
        }
        Ok(())
    }
}

/// The value of an option that must have one.
pub(super) fn checked(option: &Opt, typed: &str, value: Option<String>) -> Result<String, Error> {
    let text = value.ok_or_else(|| error(format!("missing value for option {typed}")))?;
    (option.check)(&text)
        .map_err(|why| error(format!("invalid value for option {typed}: \n{why}")))?;
    Ok(text)
}

/// The option that each task of an application has, as it was typed, and its value if that is in the
/// same word.
pub(super) fn of_application(word: &str) -> Option<(&'static Opt, String, Option<String>)> {
    let (typed, inline) = match word.split_once('=') {
        Some((typed, value)) => (typed, Some(value.to_owned())),
        None => (word, None),
    };
    let name = normal(typed.strip_prefix("--")?);
    let option = OF_APPLICATIONS.iter().find(|option| option.name == name)?;
    Some((option, typed.to_owned(), inline))
}

/// An instance names a file and variables.
fn is_instance(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_part)
}

#[cfg(test)]
mod tests;
