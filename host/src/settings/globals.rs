//! Global settings of the command line: those that belong to the command rather than to the
//! application, above all which application it is. Each comes from the first of: the command line,
//! the environment (`REX_PROJECT`), the configuration file (`rex.yaml`). A source replaces a
//! setting as a whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use rex_yaml::Error;
use rex_yaml::Loader;
use rex_yaml::validate::Val;

/// All that settings are made from, read once by the caller.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `rex` (also when empty), or what `@name` says: the name of the configuration file and, in
    /// upper case, the prefix of environment variables.
    pub instance: String,
    /// Global settings of the command line by name: text, or `true` for a toggle.
    pub globals: BTreeMap<String, Value>,
    /// The task's own `<project>` argument.
    pub project: Option<String>,
    /// `--require`, in order.
    pub requires: Vec<String>,
    /// `--set NAME=VALUE`, in order; `--set NAME` has no value.
    pub sets: Vec<(String, Option<String>)>,
    pub environment: BTreeMap<String, String>,
    pub cwd: PathBuf,
    /// Where the installation is; its configuration file comes before that of `cwd`.
    pub prefix: Option<PathBuf>,
    /// Where projects are, beside what `--settings` names.
    pub settings_dirs: Vec<PathBuf>,
}

impl Sources {
    fn instance(&self) -> &str {
        if self.instance.is_empty() { "rex" } else { &self.instance }
    }
}

/// What a global setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Toggle,
    Text,
    /// Text where a variable that is set but empty counts as not set.
    Path,
    List,
    Map,
}

/// A global setting, as parser, reader and help know it.
#[derive(Debug)]
pub struct Global {
    pub name: &'static str,
    pub takes: Takes,
    /// One line for `rex help`.
    pub hint: &'static str,
}

const fn global(name: &'static str, takes: Takes, hint: &'static str) -> Global {
    Global { name, takes, hint }
}

/// Every global setting, sorted by name.
pub const GLOBALS: [Global; 12] = [
    global("config", Takes::Path, "configuration file to read instead of rex.yaml"),
    global("debug", Takes::Toggle, "print debug information"),
    global("name", Takes::Text, "name of this host among those of one state directory"),
    global("parameters", Takes::Map, "application parameters as a JSON object"),
    global("plugins", Takes::Path, "directory with worker plugins"),
    global("project", Takes::Text, "application to run"),
    global("quiet", Takes::Toggle, "print errors only"),
    global("requirements", Takes::List, "additional packages as a JSON array"),
    global("sentry", Takes::Text, "address to report errors to (accepted, not used)"),
    global("settings", Takes::Path, "directory with projects"),
    global("shared", Takes::Path, "directory with data that tests use"),
    global("state", Takes::Path, "directory for the queue, plugin copies and control socket"),
];

/// The global settings of one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Globals {
    pub project: Option<String>,
    pub requirements: Vec<String>,
    pub parameters: Map<String, Value>,
    pub debug: bool,
    pub quiet: bool,
    pub sentry: Option<String>,
    pub state: Option<PathBuf>,
    pub plugins: Option<PathBuf>,
    pub settings: Option<PathBuf>,
    pub name: Option<String>,
    /// What to tell the user, each on standard error after `WARNING: `.
    pub warnings: Vec<String>,
}

impl Globals {
    /// Reads the environment and the configuration file.
    ///
    /// # Errors
    /// A configuration file that is named but not there, or is broken; a value of the wrong kind.
    pub fn read(sources: &Sources) -> Result<Globals, Error> {
        let mut warnings = Vec::new();
        let environment = from_environment(sources, &mut warnings);
        let named = sources.globals.get("config").or(environment.get("config"));
        let config = from_file(sources, named.and_then(Value::as_str), &mut warnings)?;
        let mut globals = Globals { warnings, ..Globals::default() };
        for Global { name, takes, .. } in &GLOBALS {
            let places = [&sources.globals, &environment, &config];
            let Some(raw) = places.iter().find_map(|place| place.get(*name)) else { continue };
            let value = takes.val().value(raw).map_err(|error| {
                Error::new(format!("invalid value for setting --{name}: \n{error}"))
                    .map_text(super::mask)
            })?;
            globals.set(name, value);
        }
        Ok(globals)
    }

    fn set(&mut self, name: &str, value: Value) {
        let text = || value.as_str().map(str::to_owned);
        let path = || value.as_str().map(PathBuf::from);
        match name {
            "debug" => self.debug = value == true,
            "quiet" => self.quiet = value == true,
            "project" => self.project = text(),
            "sentry" => self.sentry = text(),
            "name" => self.name = text(),
            "state" => self.state = path(),
            "plugins" => self.plugins = path(),
            "settings" => self.settings = path(),
            "requirements" => {
                let items = value.as_array().into_iter().flatten();
                self.requirements = items.filter_map(Value::as_str).map(str::to_owned).collect();
            }
            "parameters" => {
                let fields = value.as_object().into_iter().flatten();
                self.parameters =
                    fields.map(|(name, value)| (parameter(name), value.clone())).collect();
            }
            // `config` is used up by now, `shared` is for the tests.
            _ => {}
        }
    }
}

/// A parameter's name as the application knows it.
pub(crate) fn parameter(name: &str) -> String {
    name.replace('-', "_")
}

impl Takes {
    fn val(self) -> Val {
        match self {
            Takes::Toggle => Val::Bool,
            Takes::Text | Takes::Path => Val::Str,
            Takes::List => Val::seq(Val::Str),
            Takes::Map => Val::map(Val::Str, Val::Any),
        }
    }
}

fn variable(text: &str) -> String {
    text.replace(['-', '.'], "_").to_uppercase()
}

fn from_environment(sources: &Sources, warnings: &mut Vec<String>) -> BTreeMap<String, Value> {
    let prefix = variable(sources.instance()) + "_";
    let mut found = BTreeMap::new();
    for (variable_name, text) in &sources.environment {
        let Some(rest) = variable_name.strip_prefix(&prefix) else { continue };
        match GLOBALS.iter().find(|global| variable(global.name) == rest) {
            Some(Global { takes: Takes::Path, .. }) if text.is_empty() => {}
            Some(global) => {
                found.insert(global.name.to_owned(), Value::String(text.clone()));
            }
            None => warnings.push(format!("unknown setting {variable_name} in the environment")),
        }
    }
    found
}

/// The configuration file: the one that is named, else that of the installation, else that of the
/// current directory. Only the first that is there is read.
fn from_file(
    sources: &Sources,
    named: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, Value>, Error> {
    let path = match named {
        Some(named) => {
            let path = sources.cwd.join(named);
            if !path.is_file() {
                let text = format!("specified configuration file {named} does not exist");
                return Err(Error::new(text));
            }
            path
        }
        None => {
            let name = format!("{}.yaml", sources.instance());
            let dirs = sources.prefix.iter().chain([&sources.cwd]);
            let mut paths = dirs.map(|dir| dir.join(&name));
            match paths.find(|path| path.is_file()) {
                Some(path) => path,
                None => return Ok(BTreeMap::new()),
            }
        }
    };
    let shown = named.map_or_else(|| path.clone(), PathBuf::from);
    read_file(&sources.cwd, &path, &shown, warnings)
}

fn read_file(
    cwd: &Path,
    path: &Path,
    shown: &Path,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, Value>, Error> {
    let node = Loader::new(cwd).file(path)?;
    let content = Val::map(Val::Any, Val::Any).node(&node)?;
    let mut found = BTreeMap::new();
    for (key, value) in content.as_object().into_iter().flatten() {
        match GLOBALS.iter().find(|global| global.name == key.replace('_', "-")) {
            Some(global) => {
                found.insert(global.name.to_owned(), value.clone());
            }
            None => warnings
                .push(format!("unknown setting {key} in configuration file {}", shown.display())),
        }
    }
    Ok(found)
}
