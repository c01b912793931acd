//! What the application that the plugin is told of says of marts.

use rex_mart::{Definitions, Settings};
use rex_plugin_api::{Application, Error};

/// An error in the original's layered form.
#[track_caller]
pub(crate) fn rex(error: impl std::fmt::Display) -> Error {
    Error::of("rex.core.Error", error)
}

/// The project whose applications have marts.
const PROJECT: &str = "rex.mart";

pub(crate) fn has_marts(application: &Application) -> bool {
    application.projects.iter().any(|project| project.name == PROJECT)
}

/// Settings and definitions, read anew.
pub(crate) fn marts(application: &Application) -> Result<(Settings, Definitions), Error> {
    if !has_marts(application) {
        return Err(rex(format!("package {PROJECT} must be included with the application")));
    }
    let database = application.database.as_deref();
    let settings = Settings::of(&application.settings, database).map_err(|error| rex(error))?;
    let files = application.projects.iter().filter_map(|project| project.file("mart"));
    let definitions =
        Definitions::load(&files.collect::<Vec<_>>(), &settings).map_err(|error| rex(error))?;
    Ok((settings, definitions))
}
