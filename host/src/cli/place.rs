//! What a command works on: found the same way by all of them, so that they find the same queue and
//! the same host.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rex_plugin_api::ops::OptionEntry;
use rex_transport::{Options, Owner, Transport, Uri};
use serde_json::Value;

use super::Environment;
use super::failure::Failure;
use super::output;
use crate::plugins::Finder;
use crate::settings::{self, Application, Globals, Settings, Sources};
use crate::state::State;

/// Options that every command has.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Common {
    /// Project whose settings count: a name in the settings directory, or a path
    #[arg(long, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// Another project whose settings count, less than the first one's
    #[arg(long, value_name = "NAME")]
    pub(crate) require: Vec<String>,
    /// Set one setting, above all files
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Configuration file [default: ./rex.yaml]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of projects [default: beside the binary]
    #[arg(long, value_name = "DIR")]
    pub(crate) settings: Option<PathBuf>,
    /// Directory of plugins [default: beside the binary]
    #[arg(long, value_name = "DIR")]
    pub(crate) plugins: Option<PathBuf>,
    /// Directory for the embedded queue, plugin copies and the control socket
    /// [default: $STATE_DIRECTORY, else ./.rex-host]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Name of the host among those that share a state directory [default: rex]
    #[arg(long, value_name = "INSTANCE")]
    pub(crate) name: Option<String>,
}

/// The options of [`Common`] that take a value.
pub(crate) const OPTIONS: [&str; 8] =
    ["project", "require", "set", "config", "settings", "plugins", "state", "name"];

impl Common {
    /// Takes what is ours out of the arguments of a command that a plugin has. What comes after `--` is
    /// the command's, and so are options that it has itself under names of ours.
    ///
    /// # Errors
    /// An option has no value.
    pub(crate) fn take(
        arguments: &mut Vec<OsString>,
        own: &[OptionEntry],
    ) -> Result<Common, Failure> {
        let is_own = |name: &str| own.iter().any(|option| option.name == name);
        let mut common = Common::default();
        let mut rest = Vec::new();
        let mut words = std::mem::take(arguments).into_iter();
        while let Some(word) = words.next() {
            let ours = word.to_str().and_then(|word| {
                let (name, value) = match word.strip_prefix("--")?.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (&word[2..], None),
                };
                let option = OPTIONS.iter().find(|option| **option == name && !is_own(name));
                option.map(|option| (*option, value))
            });
            let Some((name, value)) = ours else {
                let is_end = word == "--";
                rest.push(word);
                if is_end {
                    break;
                }
                continue;
            };
            let next = || words.next().and_then(|word| word.into_string().ok());
            let value = value.or_else(next);
            let missing = || Failure::new(format!("--{name} needs a value")).usage();
            let value = value.ok_or_else(missing)?;
            match name {
                "project" => common.project = Some(value),
                "require" => common.require.push(value),
                "set" => common.set.push(value),
                "config" => common.config = Some(value.into()),
                "settings" => common.settings = Some(value.into()),
                "plugins" => common.plugins = Some(value.into()),
                "state" => common.state = Some(value.into()),
                _ => common.name = Some(value),
            }
        }
        rest.extend(words);
        *arguments = rest;
        Ok(common)
    }

    pub(crate) fn sources(&self, environment: &Environment) -> Sources {
        let text = |path: &Path| Value::String(path.to_string_lossy().into_owned());
        let paths = [
            ("config", &self.config),
            ("settings", &self.settings),
            ("plugins", &self.plugins),
            ("state", &self.state),
        ];
        let mut globals: BTreeMap<String, Value> = paths
            .into_iter()
            .filter_map(|(name, path)| Some((name.to_owned(), text(path.as_ref()?))))
            .collect();
        for (name, value) in [("name", &self.name), ("project", &self.project)] {
            globals.extend(value.clone().map(|value| (name.to_owned(), value.into())));
        }
        let sets = self.set.iter().map(|set| match set.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (set.clone(), None),
        });
        Sources {
            globals,
            requires: self.require.clone(),
            sets: sets.collect(),
            ..sources(environment)
        }
    }
}

impl Common {
    /// Where everything is, for the native spelling; tells what was not understood on the way.
    ///
    /// # Errors
    /// When the environment or the configuration file is malformed.
    pub(crate) fn place(&self, environment: &Environment) -> Result<Place, Failure> {
        let place = Place::find(self.sources(environment), environment)?;
        output::warn(&place.globals.warnings);
        Ok(place)
    }
}

/// The sources that no option changes.
pub(crate) fn sources(environment: &Environment) -> Sources {
    let home = environment.exe.parent().and_then(Path::parent);
    Sources {
        instance: "rex".to_owned(),
        environment: environment.variables.clone(),
        cwd: environment.cwd.clone(),
        prefix: home.map(Path::to_owned),
        settings_dirs: home.map(|home| home.join("settings")).into_iter().collect(),
        ..Sources::default()
    }
}

/// Where everything is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) sources: Sources,
    pub(crate) globals: Globals,
    pub(crate) state: State,
    /// The host that is meant: another instance only where one works beside it.
    pub(crate) host: State,
    pub(crate) plugins: PathBuf,
    pub(crate) exe: PathBuf,
}

impl Place {
    /// Reads environment and configuration file; touches nothing.
    ///
    /// # Errors
    /// When one of them is malformed.
    pub(crate) fn find(sources: Sources, environment: &Environment) -> Result<Place, Failure> {
        let globals = Globals::read(&sources)?;
        let systemd = environment.variables.get("STATE_DIRECTORY").filter(|dir| !dir.is_empty());
        let state = globals
            .state
            .clone()
            // systemd separates several directories by colons; the first one is the unit's own.
            .or_else(|| systemd.and_then(|dirs| dirs.split(':').next()).map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from(".rex-host"));
        let instance = globals.name.clone().unwrap_or_else(|| sources.instance.clone());
        let home = environment.exe.parent().and_then(Path::parent);
        let beside = home.map_or_else(|| PathBuf::from("plugins"), |home| home.join("plugins"));
        let plugins = globals.plugins.clone().unwrap_or(beside);
        let state = State::new(&environment.cwd.join(state), &instance)?;
        Ok(Place {
            host: state.clone(),
            state,
            plugins: environment.cwd.join(plugins),
            exe: environment.exe.clone(),
            sources,
            globals,
        })
    }

    /// The global settings that a program which is started by this one should find as this one did.
    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let (globals, host) = (&self.globals, &self.host);
        let mut variables = vec![
            ("REX_PLUGINS", self.plugins.clone().into_os_string()),
            ("REX_STATE", host.dir.clone().into_os_string()),
            ("REX_NAME", host.instance.clone().into()),
        ];
        variables
            .extend(globals.settings.clone().map(|dir| ("REX_SETTINGS", dir.into_os_string())));
        variables.extend(globals.project.clone().map(|name| ("REX_PROJECT", name.into())));
        variables
    }

    /// What looks for plugins, and takes those that the host has in service.
    pub(crate) fn finder(&self) -> Finder {
        Finder::new(&self.exe).as_in(&self.host.own_dir())
    }

    /// Settings for commands that run no workers.
    ///
    /// # Errors
    /// In the original's words.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Ok(settings::resolve_transport(&self.sources, &self.globals)?)
    }

    /// What plugins that must know the application are told: the text of an `Application`.
    ///
    /// # Errors
    /// As [`Place::settings`].
    pub(crate) fn told(&self) -> Result<String, Failure> {
        let application = Application::load(&self.sources, &self.globals)?.told()?;
        serde_json::to_string(&application)
            .map_err(|error| Failure::new("cannot tell the application").because(&error))
    }

    /// The transport that the settings name, else the embedded queue.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub(crate) fn open(
        &self,
        settings: &Settings,
        owner: Option<Owner>,
    ) -> Result<Box<dyn Transport>, Failure> {
        self.open_with(settings, &options(settings, owner))
    }

    /// As [`open`](Place::open), for a thread that puts tasks into many queues: one that is locked is not
    /// to hold up the others.
    pub(crate) fn open_for_many(&self, settings: &Settings) -> Result<Box<dyn Transport>, Failure> {
        self.open_with(settings, &Options { bounded: true, ..options(settings, None) })
    }

    fn open_with(
        &self,
        settings: &Settings,
        options: &Options,
    ) -> Result<Box<dyn Transport>, Failure> {
        let uri = match &settings.transport {
            Some(uri) => Uri::parse(uri)?,
            None => {
                self.state.create_queue()?;
                Uri::of_file(&self.state.queue())
            }
        };
        Ok(rex_transport::open(&uri, options)?)
    }

    /// As [`open`](Place::open), for who only looks: makes no file where there is none.
    fn open_existing(&self, settings: &Settings) -> Result<Box<dyn Transport>, Failure> {
        let (uri, embedded) = match &settings.transport {
            Some(uri) => (Uri::parse(uri)?, false),
            None => (Uri::of_file(&self.state.queue()), true),
        };
        let is_there = || {
            self.state.queue().try_exists().map_err(|error| {
                let dir = self.state.dir.display();
                Failure::new(format!("cannot look into the state directory `{dir}`"))
                    .because(&error)
            })
        };
        if embedded && !is_there()? {
            return Err(Failure::new(format!(
                "there is no queue in the state directory `{}`",
                self.state.dir.display()
            ))
            .hint(
                "name another one with --state, or a database with --set asynctask_transport=…; \
                 the first `submit` or `run` makes one",
            ));
        }
        let options = Options { create: false, ..options(settings, None) };
        Ok(rex_transport::open(&uri, &options)?)
    }
}

/// How a transport is to behave.
pub(crate) fn options(settings: &Settings, owner: Option<Owner>) -> Options {
    Options {
        owner,
        rescue_grace: settings.rescue_grace,
        owner_timeout: settings.owner_timeout,
        lock_timeout: settings.lock_timeout,
        additions: settings.schema_additions,
        create: true,
        patient: false,
        bounded: false,
    }
}

/// For commands that put tasks in: the place, its settings and its transport.
///
/// # Errors
/// When any of them is out of order.
pub(crate) fn submitter(
    common: &Common,
    environment: &Environment,
) -> Result<(Settings, Box<dyn Transport>), Failure> {
    let place = common.place(environment)?;
    let settings = place.settings()?;
    refuse_memory(settings.transport.as_deref())?;
    let transport = place.open(&settings, None)?;
    Ok((settings, transport))
}

/// For commands about tasks that are there.
///
/// # Errors
/// As [`submitter`], and when there is no queue yet.
pub(crate) fn viewer(
    common: &Common,
    environment: &Environment,
) -> Result<Box<dyn Transport>, Failure> {
    let place = common.place(environment)?;
    let settings = place.settings()?;
    refuse_memory(settings.transport.as_deref())?;
    place.open_existing(&settings)
}

/// A command that ends with its process has nothing to do with a store in memory.
///
/// # Errors
/// When the address is one.
pub(crate) fn refuse_memory(uri: Option<&str>) -> Result<(), Failure> {
    if uri.is_some_and(|uri| uri.trim_start().starts_with("localmem:")) {
        return Err(Failure::new(
            "a localmem:// queue lives in one process: no command reaches it",
        )
        .hint("name a store that programs share, such as sqlite:/PATH/TO/FILE"));
    }
    Ok(())
}
