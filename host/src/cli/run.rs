//! `rex-host run`, and `rex asynctask-workers`: a host from its start to its end.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rex_plugin_api::Level;
use rex_transport::Owner;

use super::Environment;
use super::failure::Failure;
use super::output;
use super::place::{Common, Place};
use super::plan::{Only, Reader};
use super::reread::{Rereader, advice, store_settings, warn_of};
use crate::control;
use crate::cron::{Scheduler, Schedules};
use crate::dispatch::{self, Counts, Purpose, Setup};
use crate::log::{Console, Filter, Format, MASTER};
use crate::plugins::{shown, watch};
use crate::settings::Settings;
use crate::supervisor::Signals;

#[derive(clap::Args)]
pub(crate) struct RunArgs {
    /// Project whose settings count, as with --project
    #[arg(id = "application", value_name = "PROJECT")]
    application: Option<String>,
    /// Fire the configured schedules too
    #[arg(long)]
    scheduler: bool,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
    /// End each worker when its queue is found empty, and the host with the last
    #[arg(long)]
    halt_when_empty: bool,
    /// Reload when the plugin directory changes
    #[arg(long)]
    watch: bool,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: Format,
    #[command(flatten)]
    common: Common,
}

/// What both spellings of the command say.
pub(crate) struct Request {
    pub(crate) scheduler: bool,
    pub(crate) quiet: bool,
    pub(crate) halt_when_empty: bool,
    pub(crate) watch: bool,
    pub(crate) format: Format,
    /// The original's spelling.
    pub(crate) original: bool,
    /// Work on one queue alone.
    pub(crate) only: Option<Only>,
}

pub(crate) fn run(args: RunArgs, environment: Environment) -> Result<u8, Failure> {
    let mut sources = args.common.sources(&environment);
    sources.project = args.application;
    let place = Place::find(sources, &environment).map_err(Failure::configuration)?;
    output::warn(&place.globals.warnings);
    let request = Request {
        scheduler: args.scheduler,
        quiet: args.quiet,
        halt_when_empty: args.halt_when_empty,
        watch: args.watch,
        format: args.log_format,
        original: false,
        only: None,
    };
    host(place, &request)
}

/// Runs a host until it ends; returns the exit code.
///
/// # Errors
/// When it cannot start.
pub(crate) fn host(place: Place, request: &Request) -> Result<u8, Failure> {
    serve(place, request).map(|_| 0)
}

/// Runs a host until it ends; returns what it did.
///
/// # Errors
/// When it cannot start.
pub(crate) fn serve(place: Place, request: &Request) -> Result<Counts, Failure> {
    let quiet = request.quiet || place.globals.quiet;
    let filter = Filter {
        level: Level::Info,
        loggers: BTreeMap::new(),
        quiet,
        additions: !request.original,
    };
    let console = Console::new(request.format, filter);
    console.install();
    let written = Written { console: console.clone(), code: Cell::new(1) };
    let mut signals = Signals::default();
    signals
        .take(&dispatch::SIGNALS)
        .map_err(|error| Failure::new("cannot take over signals").because(&error))?;

    // First, so that a second host of this name neither looks at plugins nor says anything of them.
    let _lock = place.state.lock()?;
    let finder = place
        .finder()
        .with_copies(&place.state.own_dir())
        .map_err(|error| directory_failure(&error))?;
    // Before the first look, so that no change falls between.
    let watching = request.watch.then(|| watch::watch(&place.plugins)).transpose();
    let watching = watching.map_err(|error| {
        Failure::new(format!("cannot watch `{}`", place.plugins.display())).because(&error)
    })?;
    let (changes, _watch) = match watching {
        Some((changes, watch)) => (changes, Some(watch)),
        None => (crossbeam_channel::never(), None),
    };
    let catalog =
        finder.discover(&place.plugins, None).map_err(|error| directory_failure(&error))?;
    for refusal in &catalog.refusals {
        tracing::warn!("plugin {} is refused: {}", shown(&refusal.path), advice(refusal));
    }
    for plugin in &catalog.plugins {
        warn_of(plugin);
    }
    let (original, only) = (request.original, request.only.clone());
    let reader = Reader { place, finder, quiet: request.quiet, original, only };
    let (plan, settings) = reader.plan(&catalog)?;
    console.set_filter(plan.filter.clone());
    if plan.queues.is_empty() {
        tracing::info!(logger = MASTER, "No workers configured; terminating.");
        return Ok(Counts::default());
    }

    let place = reader.place.clone();
    let owner = Owner { id: owner_id() };
    let transport = place.open(&settings, Some(owner))?;
    let label = transport.label();
    let features = transport.features();
    plan.refuse_beyond(&features, &label).map_err(|text| Failure::new(text).configuration())?;
    let socket = place.state.control_socket();
    let control = control::serve(&socket).map_err(|error| {
        Failure::new(format!("cannot listen on `{}`", socket.display())).because(&error)
    })?;
    let begin = match plan.has_jobs() {
        true => reader.jobs(&plan, &settings, Purpose::Force)?,
        false => None,
    };
    let (jobs, transport) = match begin.map(|begin| begin()).transpose() {
        Ok(Some((jobs, around))) => (Some(jobs), around(transport)),
        Ok(None) => (None, transport),
        Err(error) => return Err(Failure::new("cannot start a thread").because(&error)),
    };
    let scheduler = if request.scheduler {
        if plan.schedules.entries.is_empty() {
            tracing::info!(logger = MASTER, "No schedules configured -- not starting scheduler");
        }
        Some(scheduler(&place, &settings, &plan.schedules)?)
    } else {
        None
    };
    let reader = Arc::new(Rereader {
        store: store_settings(&settings),
        jobs: Arc::new(Mutex::new(jobs.as_ref().and(settings.database))),
        features,
        label: label.clone(),
        catalog: Arc::new(Mutex::new(catalog)),
        reader: Arc::new(reader),
    });
    reader.tidy_copies(Vec::new());
    let setup = Setup {
        console,
        halt_when_empty: request.halt_when_empty,
        scheduler,
        original: request.original,
        replan: Arc::new(move |purpose| reader.replan(purpose)),
        control,
        jobs,
        changes,
        label,
        instance: place.state.instance.clone(),
    };
    let counts = dispatch::run(setup, plan, signals, transport)
        .map_err(|error| Failure::new("the host cannot run").because(&error))?;
    tracing::info!(logger = MASTER, "Complete");
    // What is left is to wait for the reader of the output: nobody is there to be asked any more.
    let _gone = std::fs::remove_file(&socket);
    written.code.set(0);
    Ok(counts)
}

/// Whatever ends the host, its log is written before.
struct Written {
    console: Console,
    /// The exit code of a host that is told not to wait for that.
    code: Cell<u8>,
}

impl Drop for Written {
    fn drop(&mut self) {
        self.console.flush(&[libc::SIGINT, libc::SIGTERM], self.code.get());
    }
}

/// What fires schedules, on a connection of its own.
fn scheduler(
    place: &Place,
    settings: &Settings,
    schedules: &Schedules,
) -> Result<Scheduler, Failure> {
    let transport = place.open_for_many(settings)?;
    if !transport.features().schedules && !schedules.entries.is_empty() {
        tracing::warn!(
            "{} keeps no schedules: --scheduler is for one host only, and what it misses is not \
             made up for after a restart",
            transport.label()
        );
    }
    Scheduler::start(transport)
        .map_err(|error| Failure::new("cannot start a thread").because(&error))
}

/// Tells this run of this host from all others, in words that lead an operator to it.
pub(super) fn owner_id() -> String {
    let machine = rustix::system::uname();
    let host = machine.nodename().to_string_lossy();
    format!("{host}:{}:{}", std::process::id(), crate::page::monotonic_ns())
}

fn directory_failure(error: &crate::plugins::DirError) -> Failure {
    let failure = Failure::new(error.to_string());
    let failure = if error.is_full() { failure } else { failure.configuration() };
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
