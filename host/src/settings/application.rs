//! An application: its projects, the parameters that it was started with, and what its settings
//! come to when both are merged. Each setting's values are folded from the least specific project
//! to the parameters, and only the final value is validated.

use std::path::PathBuf;

use rex_plugin_api::application::Project;
use rex_plugin_api::pyrepr::repr;
use serde_json::{Map, Value};

use super::globals::{Globals, Sources, parameter};
use super::known::{Setting, Workers, settings};
use super::project::{Package, Places};
use super::secret::mask;
use super::typed::Settings;
use crate::jobs::Duty;
use rex_yaml::Error;

/// Projects and parameters, merged but not yet validated.
#[derive(Debug, Clone)]
pub struct Application {
    /// As asked for, the most specific first.
    pub requirements: Vec<String>,
    /// The least specific first.
    pub packages: Vec<Package>,
    /// By name, sorted.
    pub parameters: Map<String, Value>,
    /// By setting: the merged value and whose values went into it.
    merged: Vec<(&'static str, Value, Vec<String>)>,
}

/// The value of one setting and where it is from.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    pub name: &'static str,
    /// As written, with passwords masked.
    pub value: Value,
    /// Files and `parameters`, the least specific first; empty for a default.
    pub from: Vec<String>,
}

impl Application {
    /// Finds and reads the projects, and merges.
    ///
    /// # Errors
    /// Layered, complete with the application it is about and with passwords masked: a project that
    /// is not there or broken, an unknown setting, values that cannot be merged.
    pub fn load(sources: &Sources, globals: &Globals) -> Result<Application, Error> {
        let mut application = Application {
            requirements: requirements(sources, globals),
            packages: Vec::new(),
            parameters: parameters(sources, globals),
            merged: Vec::new(),
        };
        let settings_dirs: Vec<PathBuf> =
            globals.settings.iter().chain(&sources.settings_dirs).cloned().collect();
        let places = Places { settings_dirs: &settings_dirs, cwd: &sources.cwd };
        let is_there = |dir: &PathBuf| sources.cwd.join(dir).is_dir();
        let loaded = match &globals.settings {
            Some(dir) if !is_there(dir) => {
                Err(Error::with("Cannot find settings directory:", dir.display()))
            }
            _ => places
                .packages(&application.requirements)
                .and_then(|packages| application.merge(packages)),
        };
        match loaded {
            Ok(()) => Ok(application),
            Err(error) => Err(application.about(error)),
        }
    }

    /// Whether a project of this name takes part.
    pub fn includes(&self, name: &str) -> bool {
        self.packages.iter().any(|package| package.name == name)
    }

    /// Validates every setting; without `workers` not those that name workers, which stay empty.
    ///
    /// # Errors
    /// As [`Application::load`].
    pub fn settings(&self, workers: Workers<'_>) -> Result<Settings, Error> {
        let skipped = ["asynctask_workers", "asynctask_scheduled_workers"];
        self.validated(workers, if workers.is_some() { &[] } else { &skipped })
    }

    /// As [`Application::settings`] without workers, but with the schedules.
    ///
    /// # Errors
    /// As [`Application::load`].
    pub fn schedules(&self) -> Result<Settings, Error> {
        self.validated(None, &["asynctask_workers"])
    }

    /// What is told to plugins that must know the application. Settings that name workers are left
    /// out.
    ///
    /// # Errors
    /// As [`Application::load`].
    pub fn told(&self) -> Result<rex_plugin_api::Application, Error> {
        let skipped = ["asynctask_workers", "asynctask_scheduled_workers"];
        let mut settings = self.values(None, &skipped)?;
        let database = Settings::of(&settings).map_err(|error| self.about(error))?.database;
        settings.retain(|name, _| !skipped.contains(&name.as_str()));
        let projects = self.packages.iter();
        let projects = projects
            .map(|package| Project { name: package.name.clone(), file: package.path.clone() });
        Ok(rex_plugin_api::Application { settings, database, projects: projects.collect() })
    }

    fn validated(&self, workers: Workers<'_>, skipped: &[&str]) -> Result<Settings, Error> {
        let values = self.values(workers, skipped)?;
        Settings::of(&values).map_err(|error| self.about(error))
    }

    /// The validated values of all settings; the defaults of those that are skipped.
    fn values(&self, workers: Workers<'_>, skipped: &[&str]) -> Result<Map<String, Value>, Error> {
        let mut values = Map::new();
        for setting in settings() {
            let raw = self.merged.iter().find(|(name, ..)| *name == setting.name);
            let value = match raw {
                Some((_, value, _)) if !skipped.contains(&setting.name) => setting
                    .validate(value, workers)
                    .map_err(|error| self.about(during(&setting, error)))?,
                _ => setting.default.clone(),
            };
            values.insert(setting.name.to_owned(), value);
        }
        if self.includes(JOBS) && workers.is_some() {
            add_job_queues(&mut values);
        }
        Ok(values)
    }

    /// Every setting with its merged value, sorted by name; nothing is validated.
    pub fn effective(&self) -> Vec<Effective> {
        let describe = |setting: Setting| {
            let merged = self.merged.iter().find(|(name, ..)| *name == setting.name);
            let (value, from) = match merged {
                Some((_, value, from)) => (masked(value), from.clone()),
                None => (setting.default, Vec::new()),
            };
            Effective { name: setting.name, value, from }
        };
        settings().into_iter().map(describe).collect()
    }

    fn merge(&mut self, packages: Vec<Package>) -> Result<(), Error> {
        let known = settings();
        for package in &packages {
            let path = package.path.as_ref().map(|path| path.display().to_string());
            let from = path.unwrap_or_else(|| package.name.clone());
            for (name, value) in &package.settings {
                self.fold(&known, name, value, &from).map_err(
                    |(unknown, error)| match unknown {
                        true => error.guard("In", &from),
                        false => error,
                    },
                )?;
            }
        }
        for (name, value) in &self.parameters.clone() {
            self.fold(&known, name, value, "parameters").map_err(|(_, error)| error)?;
        }
        self.packages = packages;
        Ok(())
    }

    /// The error tells whether there is no such setting at all.
    fn fold(
        &mut self,
        known: &[Setting],
        name: &str,
        value: &Value,
        from: &str,
    ) -> Result<(), (bool, Error)> {
        let Some(setting) = known.iter().find(|setting| setting.name == name) else {
            return Err((true, Error::with("Got unknown setting:", name)));
        };
        match self.merged.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, merged, origins)) => {
                *merged = setting
                    .merge(merged, value)
                    .map_err(|error| (false, during(setting, error)))?;
                origins.push(from.to_owned());
            }
            None => self.merged.push((setting.name, value.clone(), vec![from.to_owned()])),
        }
        Ok(())
    }

    /// Completes an error with the application that it is about, and masks passwords.
    fn about(&self, error: Error) -> Error {
        let message = "While initializing RexDB application";
        let error = match self.requirements.is_empty() {
            true => error.remark(message),
            false => error.guard(format!("{message}:"), self.requirements.join("\n")),
        };
        let lines: Vec<String> = self
            .parameters
            .iter()
            .map(|(name, value)| format!("{name}: {}", repr(value)))
            .collect();
        let error = match lines.is_empty() {
            true => error,
            false => error.guard("With parameters:", lines.join("\n")),
        };
        error.map_text(mask)
    }
}

/// The project whose queues are there without being configured.
pub const JOBS: &str = "rex.job";

fn add_job_queues(values: &mut Map<String, Value>) {
    let count = values.get("job_queues").and_then(Value::as_i64).unwrap_or_default();
    if let Some(Value::Object(workers)) = values.get_mut("asynctask_workers") {
        for n in 0..count {
            let queue = workers.entry(format!("{}{n}", crate::jobs::QUEUE));
            queue.or_insert_with(|| Duty::Executor.worker().into());
        }
        // The order in which they are launched.
        workers.sort_keys();
    }
}

fn during(setting: &Setting, error: Error) -> Error {
    error.guard("While validating setting:", setting.name)
}

/// The positional project, the global one, `--require`, global requirements: each less specific
/// than those before it.
fn requirements(sources: &Sources, globals: &Globals) -> Vec<String> {
    let first = sources.project.iter().chain(&globals.project);
    first.chain(&sources.requires).chain(&globals.requirements).cloned().collect()
}

fn parameters(sources: &Sources, globals: &Globals) -> Map<String, Value> {
    let mut found = std::collections::BTreeMap::new();
    if globals.debug {
        found.insert("debug".to_owned(), Value::Bool(true));
    }
    for (name, value) in &globals.parameters {
        found.insert(name.clone(), value.clone());
    }
    let known = settings();
    for (name, value) in &sources.sets {
        let name = parameter(name);
        let may_be_null = |setting: &Setting| setting.name == name && setting.takes_null();
        let value = match value {
            None => Value::Bool(true),
            Some(text) if text == "null" && known.iter().any(may_be_null) => Value::Null,
            Some(text) => Value::String(text.clone()),
        };
        found.insert(name, value);
    }
    found.into_iter().collect()
}

fn masked(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(mask(text)),
        Value::Array(items) => items.iter().map(masked).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let secret = name == "password" && !value.is_null();
                (name.clone(), if secret { "***".into() } else { masked(value) })
            };
            Value::Object(fields.iter().map(field).collect())
        }
        value => value.clone(),
    }
}
