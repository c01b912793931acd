//! Projects: which files an application is made of, and in which order they count.
//!
//! A project `NAME` is the file `NAME.yaml` of a settings directory: a plain mapping of settings,
//! beside which the reserved key `requires` names the projects that it builds on. A requirement may
//! also be a path to such a file, or a directory (ending in `/`) whose `settings.yaml` is one; `-`
//! stands for a project without settings.

use std::path::{Path, PathBuf};

use rex_plugin_api::application::beside;
use serde_json::{Map, Value};

use rex_yaml::Error;
use rex_yaml::validate::Val;
use rex_yaml::{Kind, Loader, Node};

/// The key of a project file that is no setting.
const REQUIRES: &str = "requires";

/// A project that takes part in an application.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// `rex.asynctask_demo`; for a path the name of the file or directory.
    pub name: String,
    /// Absent when the project has no file.
    pub path: Option<PathBuf>,
    /// Raw values by name, not validated.
    pub settings: Map<String, Value>,
}

impl Package {
    /// The file of facts about the database that belongs to the project: `NAME.deploy.yaml` beside
    /// `NAME.yaml`, `deploy.yaml` beside the `settings.yaml` of a directory.
    pub fn facts(&self) -> Option<PathBuf> {
        beside(self.path.as_deref()?, "deploy")
    }
}

/// Where projects are looked for.
pub struct Places<'a> {
    /// Tried in order for a project's name.
    pub settings_dirs: &'a [PathBuf],
    /// What relative paths start from.
    pub cwd: &'a Path,
}

impl Places<'_> {
    /// The projects that satisfy `requirements` (the more specific first) and all that those build
    /// on, **the least specific first**: the order in which settings are merged.
    ///
    /// # Errors
    /// A requirement that is malformed or not there, a circle, a file that is no mapping.
    pub fn packages(&self, requirements: &[String]) -> Result<Vec<Package>, Error> {
        let mut search = Search { places: self, done: Vec::new(), open: Vec::new() };
        for requirement in requirements.iter().rev() {
            search.require(requirement, self.cwd)?;
        }
        Ok(search.done.into_iter().map(|(_, package)| package).collect())
    }

    /// The file of a requirement, which a directory need not have; `None` for one without file.
    fn locate(&self, requirement: &str, base: &Path) -> Result<Option<PathBuf>, Error> {
        let unsatisfied = || Error::with("Failed to satisfy requirement:", requirement);
        if requirement == "-" {
            return Ok(None);
        }
        if requirement.ends_with('/') {
            let dir = base.join(requirement);
            return match dir.is_dir() {
                true => Ok(Some(tidy(&dir).join("settings.yaml"))),
                false => Err(Error::with("Cannot find static directory:", requirement)),
            };
        }
        let is_file = |path: &Path| path.is_file();
        if requirement.contains('/') || requirement.ends_with(".yaml") {
            let path = tidy(&base.join(requirement));
            return if is_file(&path) { Ok(Some(path)) } else { Err(unsatisfied()) };
        }
        let is_name = requirement.starts_with(|c: char| c.is_ascii_alphanumeric())
            && requirement.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if !is_name {
            return Err(Error::with("Got ill-formed requirement:", requirement));
        }
        let dirs = self.settings_dirs.iter();
        let mut paths =
            dirs.map(|dir| tidy(&self.cwd.join(dir)).join(format!("{requirement}.yaml")));
        paths.find(|path| is_file(path)).map(Some).ok_or_else(unsatisfied)
    }
}

/// `path` without `.` and, where that is safe, as the one name of the file.
fn tidy(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

struct Search<'a> {
    places: &'a Places<'a>,
    /// Each with what tells it from the others.
    done: Vec<(PathBuf, Package)>,
    /// The chain of projects that led here, to notice a circle.
    open: Vec<PathBuf>,
}

impl Search<'_> {
    fn require(&mut self, requirement: &str, base: &Path) -> Result<(), Error> {
        let path = self.places.locate(requirement, base)?;
        let name = name_of(requirement, path.as_deref());
        let has_file = path.as_ref().is_some_and(|path| path.exists());
        let path = path.unwrap_or_else(|| PathBuf::from(requirement));
        if self.done.iter().any(|(known, _)| *known == path) {
            return Ok(());
        }
        if !has_file {
            self.done.push((path, Package { name, path: None, settings: Map::new() }));
            return Ok(());
        }
        if self.open.contains(&path) {
            return Err(Error::with("Got a circular requirement:", requirement));
        }
        let (settings, requires) = self.read(&path)?;
        self.open.push(path.clone());
        let base = path.parent().unwrap_or(self.places.cwd).to_path_buf();
        for required in requires.iter().rev() {
            self.require(required, &base).map_err(|error| error.guard("Required for:", &name))?;
        }
        self.open.pop();
        let package = Package { name, path: Some(path.clone()), settings };
        self.done.push((path, package));
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<(Map<String, Value>, Vec<String>), Error> {
        let node = Loader::new(self.places.cwd).file(path)?;
        let mut settings = match Val::map(Val::Any, Val::Any).node(&node)? {
            Value::Object(settings) => settings,
            _ => Map::new(),
        };
        settings.shift_remove(REQUIRES);
        let list = Val::OneOrSeq(Box::new(Val::Str));
        let requires = match field(&node, REQUIRES).map(|node| list.node(node)).transpose() {
            Ok(requires) => requires,
            Err(error) => return Err(error.guard("While validating field:", REQUIRES)),
        };
        let text = |value: Value| value.as_str().map(str::to_owned);
        Ok((
            settings,
            match requires {
                Some(Value::Array(items)) => items.into_iter().filter_map(text).collect(),
                Some(one) => text(one).into_iter().collect(),
                None => Vec::new(),
            },
        ))
    }
}

/// The value of a mapping's key.
fn field<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let Kind::Map(pairs) = &node.kind else { return None };
    let is_it =
        |(key, _): &&(Node, Node)| matches!(&key.kind, Kind::Scalar(text, _) if text == name);
    pairs.iter().find(is_it).map(|(_, value)| value)
}

fn name_of(requirement: &str, path: Option<&Path>) -> String {
    let is_dir = requirement.ends_with('/');
    let is_path = is_dir || requirement.contains('/') || requirement.ends_with(".yaml");
    let name = match path {
        Some(path) if is_dir => path.parent().and_then(Path::file_name),
        Some(path) if is_path => path.file_stem(),
        _ => None,
    };
    name.map_or_else(|| requirement.to_owned(), |name| name.to_string_lossy().into_owned())
}
