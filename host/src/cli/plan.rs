//! From settings and plugins to the plan of a host.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use rex_plugin_api::Level;
use rex_plugin_api::ops;
use rex_transport::QueueName;

use super::failure::Failure;
use super::place::Place;
use crate::cron::{CTL_EXECUTOR, Entry, Schedules};
use crate::dispatch::plan::{ExecutorPlan, Plan, PluginCopy, QueuePlan, Rate, Recycling};
use crate::dispatch::retry::Retries;
use crate::jobs::{Duty, Rules};
use crate::log::Filter;
use crate::plugins::{Catalog, Finder, PluginFile};
use crate::settings::{self, Application, Globals, QueueSettings, Settings};

/// One queue, and which worker works it if not the configured one.
#[derive(Clone)]
pub(crate) struct Only {
    pub(crate) queue: QueueName,
    pub(crate) worker: Option<String>,
}

/// Makes plans from what is on disk.
pub(super) struct Reader {
    pub(super) place: Place,
    pub(super) finder: Finder,
    pub(super) quiet: bool,
    pub(super) original: bool,
    pub(super) only: Option<Only>,
}

impl Reader {
    /// The place with environment and configuration file as they are now.
    fn place(&self) -> Result<Place, Failure> {
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
            None => Ok(Place { globals: new, ..self.place.clone() }),
        }
    }

    pub(super) fn plan(&self, catalog: &Catalog) -> Result<(Plan, Settings), Failure> {
        let bad = |error: settings::Error| Failure::from(error).configuration();
        let place = self.place()?;
        let application = Application::load(&place.sources, &place.globals).map_err(bad)?;
        let workers = known_workers(catalog, application.includes(settings::JOBS));
        let settings = application.settings(Some(&workers)).map_err(bad)?;
        let schedules = schedules(&settings)?;
        let mut queues = IndexMap::new();
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
            queues = IndexMap::from([(only.queue.clone(), plan)]);
        }
        let environment: Arc<[_]> = place.environment().into();
        for plan in queues.values_mut() {
            Arc::make_mut(plan).environment = Arc::clone(&environment);
        }
        tell(&place, &mut queues, catalog)?;
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
                quiet: self.quiet || place.globals.quiet,
                additions: !self.original,
            },
        };
        Ok((plan, settings))
    }
}

impl Only {
    /// In the original's words where there is nothing to be done.
    fn plan(
        &self,
        configured: &IndexMap<QueueName, Arc<QueuePlan>>,
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

/// The names that a queue's worker may have, in the original's order: the projects' that others build
/// on first, each in the order of their definition.
fn known_workers(catalog: &Catalog, with_jobs: bool) -> Vec<String> {
    let (base, plugins): (Vec<&str>, Vec<&str>) =
        catalog.worker_names().into_iter().partition(|name| *name == CTL_EXECUTOR);
    let duties = Duty::ALL.map(Duty::worker);
    let duties = if with_jobs { &duties[..] } else { &[] };
    [&base[..], duties, &plugins].concat().into_iter().map(str::to_owned).collect()
}

/// Tells the queues of the application whose workers or executors must know it.
fn tell(
    place: &Place,
    queues: &mut IndexMap<QueueName, Arc<QueuePlan>>,
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
    let text = place.told().map_err(Failure::configuration)?;
    for plan in told {
        Arc::make_mut(plan).application.clone_from(&text);
    }
    Ok(())
}

fn schedules(settings: &Settings) -> Result<Schedules, Failure> {
    let bad = |text: String| {
        let setting = "While validating setting:\n    asynctask_scheduled_workers";
        Failure::new(format!("{text}\n{setting}")).configuration()
    };
    let entries = Entry::all(&settings.schedules).map_err(bad)?;
    Ok(Schedules {
        entries: entries.into_iter().map(Arc::new).collect(),
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
        (None, None) => None,
        (calls, _) => {
            let (given, missing) = match calls {
                Some(_) => ("rate_max_calls", "rate_period"),
                None => ("rate_period", "rate_max_calls"),
            };
            tracing::warn!("{given} of queue {queue} limits nothing without {missing}");
            None
        }
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
        environment: [].into(),
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
        starts: executor.starts,
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

pub(super) fn only_at_start(name: &str) -> String {
    format!("{name} has changed: stop the host and start it again")
}
