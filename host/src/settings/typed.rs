//! Settings as the host uses them: validated, with units, defaults filled in.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rex_cron::{Cron, CronError, Field};
use rex_plugin_api::pyrepr::repr;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::database;
use rex_yaml::Error;

/// The settings of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `asynctask_transport`, else the URI of `db`; without either the host's own queue.
    pub transport: Option<String>,
    /// The URI of `db`.
    pub database: Option<String>,
    /// By name the URI of each of `gateways`, `None` for a configuration without one; those set to
    /// null are left out.
    pub gateways: Vec<(String, Option<String>)>,
    /// By queue name; those set to null are left out.
    pub queues: Vec<QueueSettings>,
    /// In the order of the application's sources.
    pub schedules: Vec<Schedule>,
    /// Where clocks show the times of schedules.
    pub timezone: TimeZone,
    pub misfire: Misfire,
    pub poll_interval: Duration,
    pub check_child_interval: Duration,
    /// The root logger's.
    pub log_level: Level,
    /// By logger name; `None` where the root logger's level holds.
    pub loggers: Vec<(String, Option<Level>)>,
    pub drain_timeout: Duration,
    /// Bytes of a task's payload.
    pub payload_limit: u64,
    /// Bytes that one task may print.
    pub output_limit: u64,
    /// How long dead letters are kept.
    pub dead_letter_retention: Option<Duration>,
    pub rescue_grace: Duration,
    pub owner_timeout: Duration,
    pub lock_timeout: Duration,
    pub schema_additions: bool,
    /// Whether each plugin in use has a process in reserve.
    pub standby: bool,
    pub debug: bool,
    /// Queues that jobs are put into.
    pub job_queues: u32,
    /// How long jobs are kept after their end.
    pub job_max_age: Option<Duration>,
    /// By type, jobs that may be queued or started at once.
    pub job_limits: Vec<(String, u32)>,
}

/// How a queue is worked.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSettings {
    /// Not checked to be a well-formed name.
    pub queue: String,
    pub worker: String,
    /// At most so many starts in [`QueueSettings::rate_period`].
    pub rate_max_calls: Option<u32>,
    /// Seconds; finite and not negative.
    pub rate_period: Option<f64>,
    pub processes: u32,
    /// How long one task may take.
    pub timeout: Option<Duration>,
    /// How long before that the task is told.
    pub notice: Option<Duration>,
    /// CPU time that one task may take.
    pub cpu_limit: Option<Duration>,
    /// Bytes that a worker process may use.
    pub memory_limit: Option<u64>,
    /// Tasks after which a process is exchanged for a new one.
    pub max_tasks: Option<u32>,
    /// Age at which a process is exchanged, between tasks.
    pub max_age: Option<Duration>,
    /// Resident bytes at which a process is exchanged, between tasks.
    pub max_rss: Option<u64>,
    pub max_attempts: u32,
    pub backoff: Backoff,
    /// Tasks of the queue that may be in flight at once, over all hosts.
    pub max_in_flight: Option<u32>,
    /// Handed to the worker as it is.
    pub settings: Map<String, Value>,
}

impl QueueSettings {
    /// A queue that only a worker is known for.
    pub fn plain(queue: &str, worker: &str) -> QueueSettings {
        QueueSettings {
            queue: queue.to_owned(),
            worker: worker.to_owned(),
            rate_max_calls: None,
            rate_period: None,
            processes: 1,
            timeout: None,
            notice: None,
            cpu_limit: None,
            memory_limit: None,
            max_tasks: None,
            max_age: None,
            max_rss: None,
            max_attempts: 1,
            backoff: BackoffConfig::Initial(1.0).typed(),
            max_in_flight: None,
            settings: Map::new(),
        }
    }
}

/// How long a failed task waits for its next attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Before the second attempt.
    pub initial: Duration,
    /// How much longer each further time.
    pub factor: f64,
    pub max: Duration,
}

/// A task to be submitted by the clock. The time fields are an integer, an expression, or null.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Schedule {
    pub worker: Option<String>,
    pub ctl: Option<String>,
    pub year: Value,
    pub month: Value,
    pub day: Value,
    pub week: Value,
    pub day_of_week: Value,
    pub hour: Value,
    pub minute: Value,
    pub second: Value,
    /// `YYYY-MM-DDTHH:MM:SS[.FFFFFF]` in UTC.
    pub start_date: Option<String>,
    pub end_date: Option<String>,
}

impl Schedule {
    /// The time fields, null where they are not given.
    pub fn times(&self) -> [(Field, &Value); 8] {
        [
            (Field::Year, &self.year),
            (Field::Month, &self.month),
            (Field::Day, &self.day),
            (Field::Week, &self.week),
            (Field::DayOfWeek, &self.day_of_week),
            (Field::Hour, &self.hour),
            (Field::Minute, &self.minute),
            (Field::Second, &self.second),
        ]
    }

    /// When it is due.
    ///
    /// # Errors
    /// In the original's words.
    pub fn cron(&self) -> Result<Cron, CronError> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let given = self.times().into_iter().filter(|(_, value)| !value.is_null());
        let texts: Vec<(Field, String)> =
            given.map(|(field, value)| (field, text(value))).collect();
        let given: Vec<(Field, &str)> =
            texts.iter().map(|(field, text)| (*field, text.as_str())).collect();
        let moment = |text: &Option<String>| text.as_deref().and_then(moment);
        Ok(Cron::parse(&given)?.between(moment(&self.start_date), moment(&self.end_date)))
    }
}

/// A validated date and time, which is in UTC.
fn moment(text: &str) -> Option<Timestamp> {
    let date: DateTime = text.parse().ok()?;
    date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// What is done about occasions that passed while no host was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfire {
    pub policy: MisfirePolicy,
    /// How late an occasion may be fired.
    pub grace: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MisfirePolicy {
    /// Several missed occasions are made up for by one.
    Once,
    /// Each is made up for.
    All,
    /// None is.
    Skip,
}

/// The machine's own, where none is named.
fn timezone(name: Option<String>) -> Result<TimeZone, Error> {
    match name {
        None => Ok(TimeZone::system()),
        Some(name) => TimeZone::get(&name).map_err(|error| {
            Error::new(error.to_string()).guard("While validating setting:", "asynctask_timezone")
        }),
    }
}

/// A log level, from the least to the most severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    /// By Python's name; `None` for `NOTSET`.
    fn of(name: &str) -> Option<Level> {
        match name {
            "DEBUG" => Some(Level::Debug),
            "INFO" => Some(Level::Info),
            "WARNING" => Some(Level::Warning),
            "ERROR" => Some(Level::Error),
            "CRITICAL" => Some(Level::Critical),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
            Level::Critical => "CRITICAL",
        }
    }
}

impl Settings {
    /// Takes validated values of all settings by name.
    pub(super) fn of(values: &Map<String, Value>) -> Result<Settings, Error> {
        let read = Reader { values };
        let database = database::uri(&values["db"])
            .map_err(|error| error.guard("While validating setting:", "db"))?;
        let mut gateways = Vec::new();
        for (name, value) in read.take::<Map<String, Value>>("gateways")? {
            if !value.is_null() {
                let uri = database::uri(&value).map_err(|error| {
                    error
                        .guard(
                            "While validating mapping value for key:",
                            repr(&name.as_str().into()),
                        )
                        .guard("While validating setting:", "gateways")
                })?;
                gateways.push((name, uri));
            }
        }
        let transport: Option<String> = read.take("asynctask_transport")?;
        let transport = transport.or_else(|| database.clone());
        let mut queues = Vec::new();
        for (queue, value) in read.take::<Map<String, Value>>("asynctask_workers")? {
            if !value.is_null() {
                queues.push(queue_settings(queue, value)?);
            }
        }
        let root: Logger = read.take("logging_root")?;
        let loggers: Map<String, Value> = read.take("logging_loggers")?;
        let logger = |(name, value): (String, Value)| {
            let level = value["level"].as_str().and_then(Level::of);
            (name, level)
        };
        Ok(Settings {
            transport,
            database,
            gateways,
            queues,
            schedules: read.take("asynctask_scheduled_workers")?,
            timezone: timezone(read.take("asynctask_timezone")?)?,
            misfire: Misfire {
                policy: read.take("asynctask_misfire")?,
                grace: read.seconds("asynctask_misfire_grace")?,
            },
            poll_interval: read.millis("asynctask_workers_poll_interval")?,
            check_child_interval: read.millis("asynctask_workers_check_child_interval")?,
            // Python's root logger without level logs everything.
            log_level: Level::of(&root.level).unwrap_or(Level::Debug),
            loggers: loggers.into_iter().map(logger).collect(),
            drain_timeout: read.seconds("asynctask_drain_timeout")?,
            payload_limit: read.take("asynctask_payload_limit")?,
            output_limit: read.take("asynctask_output_limit")?,
            dead_letter_retention: read
                .take::<Option<f64>>("asynctask_dead_letter_retention")?
                .map(duration),
            rescue_grace: read.seconds("asynctask_rescue_grace")?,
            owner_timeout: read.seconds("asynctask_owner_timeout")?,
            lock_timeout: read.seconds("asynctask_lock_timeout")?,
            schema_additions: read.take("asynctask_schema_additions")?,
            standby: read.take("asynctask_standby")?,
            debug: read.take("debug")?,
            job_queues: read.take("job_queues")?,
            job_max_age: Some(read.take("job_max_age")?)
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            job_limits: read
                .take::<BTreeMap<String, JobLimit>>("job_limits")?
                .into_iter()
                .filter_map(|(name, limit)| {
                    Some((name, u32::try_from(limit.max_concurrency?).unwrap_or(u32::MAX)))
                })
                .collect(),
        })
    }
}

#[derive(Deserialize)]
struct JobLimit {
    max_concurrency: Option<u64>,
}

#[derive(Deserialize)]
struct Logger {
    level: String,
}

struct Reader<'a> {
    values: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn take<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        let value = self.values.get(name).unwrap_or(&Value::Null);
        T::deserialize(value)
            .map_err(|error| Error::new(error.to_string()).guard("While validating setting:", name))
    }

    fn millis(&self, name: &str) -> Result<Duration, Error> {
        Ok(Duration::from_millis(self.take(name)?))
    }

    fn seconds(&self, name: &str) -> Result<Duration, Error> {
        // The validator lets only finite numbers through, and none below zero.
        Ok(Duration::try_from_secs_f64(self.take(name)?).unwrap_or(Duration::MAX))
    }
}

/// A worker config as its validator leaves it: a name, or a record with every field.
#[derive(Deserialize)]
#[serde(untagged)]
enum QueueConfig {
    Name(String),
    Record(Box<QueueRecord>),
}

#[derive(Deserialize)]
struct QueueRecord {
    worker: String,
    rate_max_calls: Option<u32>,
    /// Text for what is no finite number.
    rate_period: Value,
    processes: u32,
    timeout: Option<f64>,
    notice: Option<f64>,
    cpu_limit: Option<f64>,
    memory_limit: Option<u64>,
    max_tasks: Option<u32>,
    max_age: Option<f64>,
    max_rss: Option<u64>,
    max_attempts: u32,
    backoff: BackoffConfig,
    max_in_flight: Option<u32>,
    settings: Map<String, Value>,
}

/// Seconds: the initial ones, or a record.
#[derive(Deserialize)]
#[serde(untagged)]
enum BackoffConfig {
    Initial(f64),
    Record { initial: f64, factor: f64, max: f64 },
}

impl BackoffConfig {
    fn typed(&self) -> Backoff {
        let (initial, factor, max) = match *self {
            BackoffConfig::Initial(initial) => (initial, 2.0, f64::max(3600.0, initial)),
            BackoffConfig::Record { initial, factor, max } => (initial, factor, max),
        };
        Backoff { initial: duration(initial), factor, max: duration(max) }
    }
}

/// What the validator let through; what is longer than a duration can say is for ever.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn queue_settings(queue: String, value: Value) -> Result<QueueSettings, Error> {
    let about = |error: Error, queue: &str| {
        let key = rex_plugin_api::pyrepr::repr_str(queue);
        error
            .guard("While validating mapping value for key:", key)
            .guard("While validating setting:", "asynctask_workers")
    };
    let record = match QueueConfig::deserialize(&value) {
        Ok(QueueConfig::Record(record)) => *record,
        Ok(QueueConfig::Name(worker)) => return Ok(QueueSettings::plain(&queue, &worker)),
        Err(error) => return Err(about(Error::new(error.to_string()), &queue)),
    };
    let rate_period = match record.rate_period.as_f64() {
        None if record.rate_period.is_null() => None,
        // The original takes any number and then sleeps for as long; none of these can be meant.
        Some(period) if (0.0..=1e9).contains(&period) => Some(period),
        _ => {
            let error = Error::with("Expected a number of seconds in range:", "[0..1000000000]")
                .guard("Got:", rex_plugin_api::pyrepr::repr(&record.rate_period))
                .guard("While validating field:", "rate_period");
            return Err(about(error, &queue));
        }
    };
    Ok(QueueSettings {
        queue,
        worker: record.worker,
        rate_max_calls: record.rate_max_calls,
        rate_period,
        processes: record.processes,
        timeout: record.timeout.and_then(|secs| Duration::try_from_secs_f64(secs).ok()),
        notice: record.notice.map(duration),
        cpu_limit: record.cpu_limit.map(duration),
        memory_limit: record.memory_limit,
        max_tasks: record.max_tasks,
        max_age: record.max_age.map(duration),
        max_rss: record.max_rss,
        max_attempts: record.max_attempts,
        backoff: record.backoff.typed(),
        max_in_flight: record.max_in_flight,
        settings: record.settings,
    })
}
