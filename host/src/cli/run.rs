//! `rex-host run`, and `rex asynctask-workers`: from settings and plugins to a running host.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rex_plugin_api::Level;
use rex_plugin_api::ops;
use rex_transport::{Features, Owner, QueueName, Transport};

use super::Environment;
use super::failure::Failure;
use super::output;
use super::place::{Common, Place};
use crate::control;
use crate::cron::{Entry, Scheduler, Schedules};
use crate::dispatch::plan::{ExecutorPlan, Plan, PluginCopy, QueuePlan, Rate, Recycling};
use crate::dispatch::retry::Retries;
use crate::dispatch::{self, Counts, Fresh, Jobs, Setup};
use crate::jobs::{Book, Desk, Duty, JobTransport, Means, Rules, Table};
use crate::log::{Console, Filter, Format, MASTER};
use crate::plugins::{Catalog, Finder, PluginFile, new_refusals, watch};
use crate::settings::{self, Application, Globals, QueueSettings, Settings};
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

/// One queue, and which worker works it if not the configured one.
#[derive(Clone)]
pub(crate) struct Only {
    pub(crate) queue: QueueName,
    pub(crate) worker: Option<String>,
}

pub(crate) fn run(args: RunArgs, environment: Environment) -> Result<u8, Failure> {
    let mut sources = args.common.sources(&environment);
    if let Some(project) = args.application
        && let Some(other) = sources.project.replace(project)
    {
        sources.globals.insert("project".to_owned(), other.into());
    }
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
    let _written = Written(console.clone());
    let mut signals = Signals::default();
    signals
        .take(&dispatch::SIGNALS)
        .map_err(|error| Failure::new("cannot take over signals").because(&error))?;

    // First, so that a second host of this name neither looks at plugins nor says anything of them.
    let _lock = place.state.lock()?;
    let finder = Finder::new(&place.exe)
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
        tracing::warn!("plugin {} is refused: {}", refusal.path.display(), advice(refusal));
    }
    for plugin in &catalog.plugins {
        warn_of(plugin);
    }
    let (original, only) = (request.original, request.only.clone());
    let reader = Reader { place, finder, quiet, original, only };
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
    let (jobs, transport) = match plan.has_jobs() {
        true => {
            let at_once = request.only.is_none();
            let (jobs, transport) = jobs(&place, &settings, &plan, transport, at_once)?;
            (Some(jobs), transport)
        }
        false => (None, transport),
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
        jobs: jobs.as_ref().and(settings.database),
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
        replan: Arc::new(move || reader.replan()),
        control,
        jobs,
        changes,
        label,
        instance: place.state.instance.clone(),
        environment: place.environment(),
    };
    let counts = dispatch::run(setup, plan, signals, transport)
        .map_err(|error| Failure::new("the host cannot run").because(&error))?;
    tracing::info!(logger = MASTER, "Complete");
    Ok(counts)
}

/// Whatever ends the host, its log is written before.
struct Written(Console);

impl Drop for Written {
    fn drop(&mut self) {
        self.0.flush(&[libc::SIGINT, libc::SIGTERM]);
    }
}

/// What works the table of jobs, and the transport around the queue's.
fn jobs(
    place: &Place,
    settings: &Settings,
    plan: &Plan,
    transport: Box<dyn Transport>,
    queues_at_once: bool,
) -> Result<(Jobs, Box<dyn Transport>), Failure> {
    let address = super::job::address(settings).map_err(Failure::configuration)?;
    let table = Table::new(address.clone()).for_runs(settings.lock_timeout);
    let host = table.host().unwrap_or_default();
    let mut own = Table::new(address.clone());
    own.prepare().map_err(|error| match error.away {
        true => super::job::failed(error),
        false => super::job::failed(error).configuration(),
    })?;
    let book = Book::default();
    let means = Means {
        address,
        table: own,
        transport: place.open(settings, None)?,
        book: book.clone(),
        host,
        queues_at_once,
    };
    let (desk, events) = Desk::start(means, plan.rules.clone())
        .map_err(|error| Failure::new("cannot start a thread").because(&error))?;
    // What is there already is queued before it is looked whether anything is.
    desk.flush();
    let transport = JobTransport::new(transport, table, book.clone(), desk.clone());
    Ok((Jobs { desk, book, events }, Box::new(transport)))
}

/// What fires schedules, on a connection of its own.
fn scheduler(
    place: &Place,
    settings: &Settings,
    schedules: &Schedules,
) -> Result<Scheduler, Failure> {
    let transport = place.open(settings, None)?;
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
    let failure = Failure::new(error.to_string()).configuration();
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn advice(refusal: &crate::plugins::Refusal) -> String {
    match &refusal.reason.hint {
        Some(hint) => format!("{} ({hint})", refusal.reason),
        None => refusal.reason.to_string(),
    }
}

/// Says what whoever serves the plugin ought to know.
fn warn_of(plugin: &PluginFile) {
    if let Some(warning) = plugin.warning() {
        tracing::warn!("plugin {} {warning}", plugin.path.display());
    }
}

/// Makes plans from what is on disk.
struct Reader {
    place: Place,
    finder: Finder,
    quiet: bool,
    original: bool,
    only: Option<Only>,
}

impl Reader {
    /// Environment and configuration file as they are now.
    fn globals(&self) -> Result<Globals, Failure> {
        let old = &self.place.globals;
        let new = Globals::read(&self.place.sources)
            .map_err(|error| Failure::from(error).configuration())?;
        let fixed = [
            ("state", new.state != old.state),
            ("name", new.name != old.name),
            ("plugins", new.plugins != old.plugins),
        ];
        match fixed.iter().find(|(_, has_changed)| *has_changed) {
            Some((name, _)) => Err(Failure::new(only_at_start(name)).configuration()),
            None => Ok(new),
        }
    }

    fn plan(&self, catalog: &Catalog) -> Result<(Plan, Settings), Failure> {
        let bad = |error: settings::Error| Failure::from(error).configuration();
        let globals = self.globals()?;
        let application = Application::load(&self.place.sources, &globals).map_err(bad)?;
        let mut workers: Vec<String> =
            catalog.worker_names().into_iter().map(str::to_owned).collect();
        if application.includes(settings::JOBS) {
            workers.extend(Duty::ALL.map(|duty| duty.worker().to_owned()));
            workers.sort();
        }
        let settings = application.settings(Some(&workers)).map_err(bad)?;
        let schedules = schedules(&settings)?;
        let mut queues = BTreeMap::new();
        let payload_limit = usize::try_from(settings.payload_limit).unwrap_or(usize::MAX);
        for queue in &settings.queues {
            let plan = queue_plan(queue, payload_limit, catalog)?;
            queues.insert(plan.queue.clone(), Arc::new(plan));
        }
        for entry in &schedules.entries {
            if !queues.contains_key(&entry.queue) {
                let queue = QueueSettings::plain(entry.queue.as_str(), &entry.worker);
                let plan = queue_plan(&queue, payload_limit, catalog)?;
                queues.insert(plan.queue.clone(), Arc::new(plan));
            }
        }
        if let Some(only) = &self.only {
            let plan = Arc::new(only.plan(&queues, payload_limit, catalog)?);
            queues = BTreeMap::from([(only.queue.clone(), plan)]);
        }
        self.tell(&mut queues, catalog)?;
        let plan = Plan {
            queues,
            schedules,
            rules: Rules {
                queues: settings.job_queues,
                limits: settings.job_limits.clone(),
                max_age: settings.job_max_age,
            },
            poll_interval: settings.poll_interval,
            drain_timeout: settings.drain_timeout,
            output_limit: usize::try_from(settings.output_limit).unwrap_or(usize::MAX),
            retention: settings.dead_letter_retention,
            standby: settings.standby,
            filter: Filter {
                level: level(settings.log_level),
                loggers: settings
                    .loggers
                    .iter()
                    .filter_map(|(name, own)| Some((name.clone(), level((*own)?))))
                    .collect(),
                quiet: self.quiet,
                additions: !self.original,
            },
        };
        Ok((plan, settings))
    }

    /// Tells the queues of the application whose workers or executors must know it.
    fn tell(
        &self,
        queues: &mut BTreeMap<QueueName, Arc<QueuePlan>>,
        catalog: &Catalog,
    ) -> Result<(), Failure> {
        let must_know = |plan: &QueuePlan| {
            let worker = catalog.worker(&plan.worker).filter(|_| plan.duty.is_none());
            worker.is_some_and(|(_, worker)| worker.application)
                || plan.executors.iter().any(|executor| executor.application)
        };
        let mut told = queues.values_mut().filter(|plan| must_know(plan)).peekable();
        if told.peek().is_none() {
            return Ok(());
        }
        let text = self.place.told().map_err(Failure::configuration)?;
        for plan in told {
            Arc::make_mut(plan).application.clone_from(&text);
        }
        Ok(())
    }
}

impl Only {
    /// In the original's words where there is nothing to be done.
    fn plan(
        &self,
        configured: &BTreeMap<QueueName, Arc<QueuePlan>>,
        payload_limit: usize,
        catalog: &Catalog,
    ) -> Result<QueuePlan, Failure> {
        let configured = configured.get(&self.queue).map(|plan| QueuePlan::clone(plan));
        let Some(worker) = &self.worker else {
            return configured.ok_or_else(|| {
                Failure::new(format!("Cannot identify worker for queue \"{}\"", self.queue))
                    .hint("name one with --worker, or the --project that has this queue")
            });
        };
        if catalog.worker(worker).is_none() && Duty::of(worker).is_none() {
            return Err(Failure::new(format!("Worker \"{worker}\" does not exist"))
                .hint("`rex-host plugin list` shows the workers there are"));
        }
        let plain = QueueSettings::plain(self.queue.as_str(), worker);
        let other = queue_plan(&plain, payload_limit, catalog)?;
        Ok(match configured {
            Some(plan) => QueuePlan {
                worker: other.worker,
                logger: other.logger,
                plugin: other.plugin,
                duty: other.duty,
                executors: other.executors,
                ..plan
            },
            None => other,
        })
    }
}

fn schedules(settings: &Settings) -> Result<Schedules, Failure> {
    let bad = |text: String| {
        let setting = "While validating setting:\n    asynctask_scheduled_workers";
        Failure::new(format!("{text}\n{setting}")).configuration()
    };
    let entries = settings.schedules.iter().map(|schedule| Entry::of(schedule).map(Arc::new));
    Ok(Schedules {
        entries: entries.collect::<Result<_, _>>().map_err(bad)?,
        zone: settings.timezone.clone(),
        misfire: settings.misfire,
    })
}

fn queue_plan(
    settings: &QueueSettings,
    payload_limit: usize,
    catalog: &Catalog,
) -> Result<QueuePlan, Failure> {
    let bad = |text: String| {
        Failure::new(format!("{text}\nWhile validating setting:\n    asynctask_workers"))
            .configuration()
    };
    let queue = QueueName::parse(&settings.queue).map_err(|error| bad(error.to_string()))?;
    // The validator let only known workers through.
    let duty = Duty::of(&settings.worker).filter(|_| catalog.worker(&settings.worker).is_none());
    let (plugin, logger) = match (duty, catalog.worker(&settings.worker)) {
        (Some(duty), _) => (PluginCopy::own(), duty.logger().to_owned()),
        (None, Some((plugin, worker))) => (copy_of(plugin), worker.logger.clone()),
        (None, None) => return Err(bad(format!("no plugin exports worker {}", settings.worker))),
    };
    let executors = match duty {
        Some(Duty::Executor) => executors(catalog),
        _ => Vec::new(),
    };
    let rate = match (settings.rate_max_calls, settings.rate_period) {
        (Some(calls), Some(period)) => Some(Rate {
            calls: calls as usize,
            period: Duration::try_from_secs_f64(period)
                .map_err(|error| bad(format!("rate_period: {error}")))?,
        }),
        _ => None,
    };
    Ok(QueuePlan {
        queue,
        worker: settings.worker.clone(),
        logger,
        plugin,
        duty,
        executors,
        processes: settings.processes,
        rate,
        timeout: settings.timeout,
        notice: settings.notice,
        cpu_limit: settings.cpu_limit,
        memory_limit: settings.memory_limit,
        recycling: Recycling {
            tasks: settings.max_tasks.map(u64::from),
            age: settings.max_age,
            rss: settings.max_rss,
        },
        retries: Retries {
            max_attempts: settings.max_attempts,
            initial: settings.backoff.initial,
            factor: settings.backoff.factor,
            max: settings.backoff.max,
        },
        in_flight: settings.max_in_flight.map(|limit| limit as usize),
        payload_limit,
        settings: serde_json::Value::Object(settings.settings.clone()).to_string(),
        application: String::new(),
    })
}

fn copy_of(plugin: &PluginFile) -> PluginCopy {
    PluginCopy {
        name: plugin.path.file_name().map_or_else(
            || plugin.manifest.name.clone(),
            |name| name.to_string_lossy().into_owned(),
        ),
        path: plugin.copy.clone(),
        hash: plugin.hash.clone(),
    }
}

fn executors(catalog: &Catalog) -> Vec<ExecutorPlan> {
    let plan = |(plugin, executor): (&PluginFile, &ops::ExecutorEntry)| ExecutorPlan {
        name: executor.name.clone(),
        logger: executor.logger.clone(),
        plugin: copy_of(plugin),
        application: executor.application,
    };
    catalog.executors().into_iter().map(plan).collect()
}

fn level(level: settings::Level) -> Level {
    match level {
        settings::Level::Debug => Level::Debug,
        settings::Level::Info => Level::Info,
        settings::Level::Warning => Level::Warning,
        settings::Level::Error => Level::Error,
        settings::Level::Critical => Level::Critical,
    }
}

/// Makes new plans for a host that runs.
struct Rereader {
    reader: Arc<Reader>,
    /// What is in force.
    catalog: Arc<Mutex<Catalog>>,
    store: StoreSettings,
    /// The database of the table of jobs, if this host works it.
    jobs: Option<String>,
    features: Features,
    label: String,
}

/// What counts when the store is opened: names and values.
type StoreSettings = [(&'static str, String); 5];

fn store_settings(settings: &Settings) -> StoreSettings {
    let seconds = |time: Duration| time.as_secs_f64().to_string();
    [
        ("asynctask_transport", settings.transport.clone().unwrap_or_default()),
        ("asynctask_rescue_grace", seconds(settings.rescue_grace)),
        ("asynctask_owner_timeout", seconds(settings.owner_timeout)),
        ("asynctask_lock_timeout", seconds(settings.lock_timeout)),
        ("asynctask_schema_additions", settings.schema_additions.to_string()),
    ]
}

fn only_at_start(name: &str) -> String {
    format!("{name} has changed: stop the host and start it again")
}

impl Rereader {
    fn replan(&self) -> Result<Fresh, String> {
        let Rereader { reader, catalog, store, jobs, features, label } = self;
        let previous = lock(catalog).clone();
        let fresh = reader
            .finder
            .discover(&reader.place.plugins, Some(&previous))
            .map_err(|error| error.to_string())?;
        let new: Vec<String> = new_refusals(&previous, &fresh)
            .iter()
            .map(|refusal| {
                format!("plugin {} is refused: {}", refusal.path.display(), advice(refusal))
            })
            .collect();
        if !new.is_empty() {
            return Err(new.join("\n"));
        }
        let (plan, settings) = reader.plan(&fresh).map_err(|failure| failure.text)?;
        let new = store_settings(&settings);
        if let Some(((name, _), _)) = store.iter().zip(&new).find(|(old, new)| old != new) {
            return Err(only_at_start(name));
        }
        if plan.has_jobs() && settings.database != *jobs {
            return Err(only_at_start("db"));
        }
        plan.refuse_beyond(features, label)?;
        let warnings = fresh
            .refusals
            .iter()
            .map(|refusal| format!("still refused: {}", refusal.path.display()))
            .collect();
        let this = Rereader {
            reader: Arc::clone(reader),
            catalog: Arc::clone(catalog),
            store: store.clone(),
            jobs: jobs.clone(),
            features: *features,
            label: label.clone(),
        };
        let adopt = Box::new(move |used| {
            let known = |new: &PluginFile| previous.plugins.iter().any(|old| old.hash == new.hash);
            fresh.plugins.iter().filter(|new| !known(new)).for_each(warn_of);
            *lock(&this.catalog) = fresh;
            this.tidy_copies(used);
        });
        Ok(Fresh { plan, warnings, adopt })
    }

    /// Notes what is in force, and removes the copies that neither it nor a dead letter names, beside
    /// the host's loop: it has to ask the store. A process that still runs an old copy has it mapped.
    fn tidy_copies(&self, used: Vec<String>) {
        let (reader, catalog) = (Arc::clone(&self.reader), Arc::clone(&self.catalog));
        if let Err(error) = reader.finder.note_in_service(&lock(&catalog)) {
            tracing::debug!("cannot note which plugins are in service: {error}");
        }
        let started = std::thread::Builder::new().name("tidy".to_owned()).spawn(move || {
            remove_unused_copies(&reader, &catalog, used);
        });
        if let Err(error) = started {
            tracing::debug!("cannot remove old copies of plugins: {error}");
        }
    }
}

fn remove_unused_copies(reader: &Reader, catalog: &Mutex<Catalog>, used: Vec<String>) {
    let in_letters = reader
        .place
        .settings()
        .and_then(|settings| reader.place.open(&settings, None))
        .and_then(|mut transport| Ok(transport.dead_details("plugin_hash")?));
    // Without the store's word nothing is removed.
    let (Ok(in_letters), Some(copies)) = (in_letters, reader.finder.copies()) else { return };
    let in_force: Vec<String> = lock(catalog).plugins.iter().map(|p| p.hash.clone()).collect();
    let keep: HashSet<String> = in_letters.into_iter().chain(in_force).chain(used).collect();
    if let Err(error) = copies.remove_unused(&keep) {
        tracing::debug!("cannot remove old copies of plugins: {error}");
    }
}

fn lock(catalog: &Mutex<Catalog>) -> MutexGuard<'_, Catalog> {
    catalog.lock().unwrap_or_else(PoisonError::into_inner)
}
