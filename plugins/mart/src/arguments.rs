//! Arguments of the commands, in the original's grammar: `--name value`, `--name=value`, `-n value`,
//! `-nvalue`; any number of times.

use rex_plugin_api::{Error, Result};

/// An option: its name, its letter, and whether it takes a value.
pub(crate) struct Opt {
    pub(crate) name: &'static str,
    pub(crate) letter: Option<char>,
    pub(crate) takes_value: bool,
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
        options: &[Opt],
        expected: &[&str],
        arguments: &[String],
    ) -> Result<Given> {
        let mut given = Given { options: Vec::new(), words: Vec::new() };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let unknown = || Err(Error::new(format!("unknown option {word}")));
            let (shown, option, value) = if let Some(name) = word.strip_prefix("--") {
                let (name, value) = match name.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (name, None),
                };
                let normal = name.to_lowercase().replace('_', "-");
                let Some(option) = options.iter().find(|option| option.name == normal) else {
                    return unknown();
                };
                (format!("--{name}"), option, value)
            } else if let Some(rest) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                let letter = rest.chars().next();
                let Some(option) = options.iter().find(|option| option.letter == letter) else {
                    return unknown();
                };
                let value = rest.chars().skip(1).collect::<String>();
                let value = Some(value).filter(|value| !value.is_empty());
                (word.chars().take(2).collect(), option, value)
            } else if given.words.len() < expected.len() {
                given.words.push(word.clone());
                continue;
            } else {
                return Err(Error::new(format!("too many arguments for task {command}")));
            };
            let value = match (option.takes_value, value) {
                (true, Some(value)) => value,
                (true, None) => words
                    .next()
                    .cloned()
                    .ok_or_else(|| Error::new(format!("missing value for option {shown}")))?,
                (false, None) => String::new(),
                (false, Some(_)) => {
                    return Err(Error::new(format!(
                        "unexpected value for a toggle option {shown}"
                    )));
                }
            };
            given.options.push((option.name, value));
        }
        match &expected[given.words.len()..] {
            [] => Ok(given),
            missing => {
                let missing: Vec<String> = missing.iter().map(|name| format!("<{name}>")).collect();
                let missing = missing.join(" ");
                Err(Error::new(format!("too few arguments for task {command}: missing {missing}")))
            }
        }
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
