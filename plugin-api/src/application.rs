//! The application that a plugin works for. Most plugins need not know it: what they are to do is in
//! their tasks and in the `settings` of their queue.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An application, as it is told to workers and commands that declare
/// ([`Worker::APPLICATION`](crate::Worker::APPLICATION),
/// [`Command::APPLICATION`](crate::Command::APPLICATION)) that they must know it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Application {
    /// All settings by name, validated; passwords are as they were written.
    pub settings: Map<String, Value>,
    /// The URI of the database that the setting `db` names.
    pub database: Option<String>,
    /// The projects that it is made of, the least specific first.
    pub projects: Vec<Project>,
}

/// A project that takes part in an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub name: String,
    /// Its file of settings, if it has one.
    pub file: Option<PathBuf>,
}

impl Project {
    /// Another file of the project: see [`beside`].
    pub fn file(&self, kind: &str) -> Option<PathBuf> {
        beside(self.file.as_deref()?, kind)
    }
}

/// The file of a kind that belongs to a project whose settings are in `settings`: `NAME.KIND.yaml`
/// beside `NAME.yaml`, `KIND.yaml` beside the `settings.yaml` of a directory. `None` where there is
/// none.
pub fn beside(settings: &Path, kind: &str) -> Option<PathBuf> {
    let file = match settings.file_name()?.to_str()? {
        "settings.yaml" => settings.with_file_name(format!("{kind}.yaml")),
        _ => settings.with_extension(format!("{kind}.yaml")),
    };
    file.is_file().then_some(file)
}
