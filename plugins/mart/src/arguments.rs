//! Arguments of the commands, in the original's grammar: `--name value`, `--name=value`, `-n value`,
//! `-nvalue`, toggles as `-kl`; any number of times. `--` ends the options.

use rex_plugin_api::{CommandOption, Error, Result};

/// An option that takes a value.
pub(crate) const fn valued(
    name: &'static str,
    key: Option<char>,
    value: &'static str,
    hint: &'static str,
) -> CommandOption {
    CommandOption { name, key, value: Some(value), hint }
}

/// An option that takes none.
pub(crate) const fn toggle(
    name: &'static str,
    key: Option<char>,
    hint: &'static str,
) -> CommandOption {
    CommandOption { name, key, value: None, hint }
}

/// What was given, in order; the value of an option that takes none is empty.
pub(crate) struct Given {
    options: Vec<(&'static str, String)>,
    pub(crate) words: Vec<String>,
}

impl Given {
    /// Reads the arguments of a command that has these options and no others, and takes these words.
    pub(crate) fn read(
        command: &str,
        options: &[CommandOption],
        expected: &[&str],
        arguments: &[String],
    ) -> Result<Given> {
        let mut given = Given { options: Vec::new(), words: Vec::new() };
        let mut words = arguments.iter();
        let mut are_options = true;
        while let Some(word) = words.next() {
            if are_options && word == "--" {
                are_options = false;
            } else if let Some(name) = word.strip_prefix("--").filter(|_| are_options) {
                let (name, value) = match name.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (name, None),
                };
                let normal = name.to_lowercase().replace('_', "-");
                let option = options.iter().find(|option| option.name == normal);
                let option = option.ok_or_else(|| unknown(word))?;
                given.take(option, &format!("--{name}"), value, &mut words)?;
            } else if let Some(keys) = word.strip_prefix('-')
                && are_options
                && !keys.is_empty()
            {
                let mut keys = keys.chars();
                while let Some(key) = keys.next() {
                    let shown = format!("-{key}");
                    let option = options.iter().find(|option| option.key == Some(key));
                    let option = option.ok_or_else(|| unknown(&shown))?;
                    let rest = keys.as_str();
                    let value = (option.value.is_some() && !rest.is_empty()).then_some(rest);
                    given.take(option, &shown, value, &mut words)?;
                    if option.value.is_some() {
                        break;
                    }
                }
            } else if given.words.len() < expected.len() {
                given.words.push(word.clone());
            } else {
                return Err(Error::usage(format!("too many arguments for task {command}")));
            }
        }
        match &expected[given.words.len()..] {
            [] => Ok(given),
            missing => {
                let missing: Vec<String> = missing.iter().map(|name| format!("<{name}>")).collect();
                let missing = missing.join(" ");
                Err(Error::usage(format!(
                    "too few arguments for task {command}: missing {missing}"
                )))
            }
        }
    }

    /// Notes an option, whose value may be the next word.
    fn take(
        &mut self,
        option: &CommandOption,
        shown: &str,
        value: Option<&str>,
        words: &mut std::slice::Iter<'_, String>,
    ) -> Result<()> {
        let value = match (option.value, value) {
            (Some(_), value) => {
                let value = value.or_else(|| words.next().map(String::as_str));
                let missing = || Error::usage(format!("missing value for option {shown}"));
                value.ok_or_else(missing)?
            }
            (None, None) => "",
            (None, Some(_)) => {
                let text = format!("unexpected value for a toggle option {shown}");
                return Err(Error::usage(text));
            }
        };
        self.options.push((option.name, value.to_owned()));
        Ok(())
    }

    /// The values of an option.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.options.iter().filter(|(known, _)| *known == name);
        values.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(known, _)| *known == name)
    }
}

fn unknown(word: &str) -> Error {
    Error::usage(format!("unknown option {word}"))
}
