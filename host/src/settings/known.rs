//! The settings there are: name, what a value must be, default, and how values of several sources
//! are merged. One table; `settings/default.yaml` shows the same to users and a test compares them.

use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::typed::Schedule;
use rex_yaml::Error;
use rex_yaml::validate::{Field, Record, Val};

/// A setting.
pub struct Setting {
    pub name: &'static str,
    /// Taken as it is when no source gives a value.
    pub default: Value,
    val: fn(&Workers) -> Val,
    merge: Merge,
    extra: fn(&Value) -> Result<(), Error>,
}

/// The worker names that settings may refer to, in the order in which errors list them; `None`
/// while they are not known, when whatever names a worker is not validated.
pub type Workers<'a> = Option<&'a [String]>;

/// How the value of a more specific source joins that of a less specific one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Merge {
    /// The new value replaces the old.
    Last,
    /// Mappings are merged key by key; a new value of a key replaces the old.
    Keys,
    /// As `Keys`, and mappings within mappings likewise.
    Deep,
    /// Lists are concatenated, the old first.
    Concat,
}

impl Setting {
    fn new(name: &'static str, default: Value, val: fn(&Workers) -> Val) -> Setting {
        Setting { name, default, val, merge: Merge::Last, extra: |_| Ok(()) }
    }

    fn merged(self, merge: Merge) -> Setting {
        Setting { merge, ..self }
    }

    /// Joins two raw values.
    ///
    /// # Errors
    /// A value that cannot be merged since it has the wrong shape.
    pub fn merge(&self, old: &Value, new: &Value) -> Result<Value, Error> {
        let map = |value: &Value| Val::map(Val::Any, Val::Any).value(value);
        let seq = |value: &Value| Val::seq(Val::Any).value(value);
        match self.merge {
            Merge::Last => Ok(new.clone()),
            Merge::Keys => {
                let (mut old, new) = (object(map(old)?), object(map(new)?));
                old.extend(new);
                Ok(Value::Object(old))
            }
            // `db` may be a URI, which replaces a mapping and is replaced by one.
            Merge::Deep if map(old).is_err() || map(new).is_err() => Ok(new.clone()),
            Merge::Deep => Ok(Value::Object(deep(object(map(old)?), object(map(new)?)))),
            Merge::Concat => match (seq(old)?, seq(new)?) {
                (Value::Array(mut old), Value::Array(new)) => {
                    old.extend(new);
                    Ok(Value::Array(old))
                }
                (_, new) => Ok(new),
            },
        }
    }

    /// Whether `null` on the command line, where all values are texts, means none: else there would
    /// be no way to take such a setting back.
    pub fn takes_null(&self) -> bool {
        let takes = |value: &Value| self.validate(value, None).is_ok();
        self.default.is_null() || (takes(&Value::Null) && !takes(&json!("null")))
    }

    /// Validates the merged value.
    ///
    /// # Errors
    /// What is wrong with it, without the name of the setting.
    pub fn validate(&self, value: &Value, workers: Workers<'_>) -> Result<Value, Error> {
        let value = (self.val)(&workers).value(value)?;
        (self.extra)(&value)?;
        Ok(value)
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn deep(mut old: Map<String, Value>, new: Map<String, Value>) -> Map<String, Value> {
    for (key, value) in new {
        let value = match (old.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => Value::Object(deep(old, new)),
            (_, value) => value,
        };
        old.insert(key, value);
    }
    old
}

/// Every setting, sorted by name.
pub fn settings() -> Vec<Setting> {
    let dict = |_: &Workers| Val::map(Val::Str, Val::Any);
    let mut settings = vec![
        Setting::new("asynctask_transport", json!(null), |_| Val::maybe(Val::Str)),
        Setting::new("asynctask_workers", json!({}), |workers| {
            Val::map(Val::Str, Val::maybe(queue(workers)))
        })
        .merged(Merge::Keys),
        Setting::new("asynctask_workers_poll_interval", json!(500), |_| Val::pint()),
        Setting::new("asynctask_workers_check_child_interval", json!(1000), |_| Val::pint()),
        Setting {
            extra: check_schedules,
            ..Setting::new("asynctask_scheduled_workers", json!([]), |workers| {
                Val::seq(schedule(workers))
            })
            .merged(Merge::Concat)
        },
        Setting {
            extra: check_timezone,
            ..Setting::new("asynctask_timezone", json!(null), |_| Val::maybe(Val::Str))
        },
        Setting::new("asynctask_misfire", json!("once"), |_| {
            Val::Choice(["once", "all", "skip"].map(str::to_owned).to_vec())
        }),
        Setting::new("asynctask_misfire_grace", json!(300), |_| Val::Seconds { min: 0.0 }),
        Setting::new("asynctask_drain_timeout", json!(30), |_| Val::Seconds { min: 0.0 }),
        Setting::new("asynctask_payload_limit", json!(16 << 20), |_| Val::Bytes { min: 2 }),
        Setting::new("asynctask_output_limit", json!(1 << 20), |_| Val::Bytes { min: 0 }),
        Setting::new("asynctask_dead_letter_retention", json!(30 * 86_400), |_| {
            Val::maybe(Val::Seconds { min: 0.0 })
        }),
        Setting::new("asynctask_rescue_grace", json!(2), |_| Val::Seconds { min: 0.0 }),
        Setting::new("asynctask_owner_timeout", json!(60), |_| Val::Seconds { min: 1.0 }),
        Setting::new("asynctask_lock_timeout", json!(1), |_| Val::Seconds { min: MIN_SECONDS }),
        Setting::new("asynctask_schema_additions", json!(true), |_| Val::Bool),
        Setting::new("asynctask_standby", json!(true), |_| Val::Bool),
        Setting::new("db", json!(null), |_| Val::maybe(database())).merged(Merge::Deep),
        Setting::new("debug", json!(false), |_| Val::Bool),
        Setting::new("gateways", json!({}), |_| {
            let name = Val::Pattern { shown: "[A-Za-z_][0-9A-Za-z_]*", matches: is_identifier };
            Val::map(name, Val::maybe(database()))
        })
        .merged(Merge::Deep),
        Setting {
            extra: check_job_queues,
            ..Setting::new("job_queues", json!(1), |_| Val::pint())
        },
        Setting::new("job_max_age", json!(259_200), |_| Val::uint()),
        Setting::new("job_limits", json!({}), |_| Val::map(Val::Str, job_limit()))
            .merged(Merge::Keys),
        Setting::new("mart_allow_runtime_creation", json!(false), |_| Val::Bool),
        Setting::new("mart_default_max_marts_per_owner_definition", json!(3), |_| Val::pint()),
        Setting::new("mart_dictionary_channel_priority", json!([]), |_| Val::seq(Val::Str)),
        Setting::new("mart_dictionary_presentation_priority", json!(["form", "sms"]), |_| {
            Val::seq(Val::Str)
        }),
        Setting::new("mart_etl_htsql_extensions", json!({}), dict).merged(Merge::Deep),
        Setting {
            extra: check_gateways,
            ..Setting::new("mart_etl_htsql_gateways", json!({}), dict).merged(Merge::Deep)
        },
        Setting {
            extra: check_hosting,
            ..Setting::new("mart_hosting_cluster", json!(null), |_| Val::maybe(Val::Str))
        },
        Setting::new("mart_htsql_cache_depth", json!(20), |_| Val::pint()),
        Setting::new("mart_htsql_extensions", json!({}), dict).merged(Merge::Deep),
        Setting::new("mart_max_columns", json!(1000), |_| Val::pint()),
        Setting::new("mart_max_marts_per_owner", json!(10), |_| Val::pint()),
        Setting::new("mart_max_name_length", json!(63), |_| Val::pint()),
        Setting::new("mart_name_prefix", json!("mart_"), |_| Val::maybe(mart_prefix())),
        Setting::new("mart_runtime_creation_queue", json!("rexmart_create"), |_| Val::Str),
        Setting::new("logging_filters", json!({}), dict).merged(Merge::Deep),
        Setting::new("logging_formatters", json!({}), dict).merged(Merge::Deep),
        Setting::new("logging_handlers", json!({}), dict).merged(Merge::Deep),
        Setting::new("logging_loggers", json!({}), |_| Val::map(Val::Str, logger(json!("NOTSET"))))
            .merged(Merge::Deep),
        Setting::new("logging_root", json!({"level": "INFO"}), |_| logger(json!("INFO")))
            .merged(Merge::Deep),
    ];
    settings.sort_by_key(|setting| setting.name);
    settings
}

fn worker_name(workers: &Workers) -> Val {
    match workers {
        Some(names) => Val::Choice(names.to_vec()),
        None => Val::Str,
    }
}

/// Where 0 would mean at once or, to others, never: a millisecond.
const MIN_SECONDS: f64 = 0.001;

/// No worker process starts with less; who writes less forgot the unit.
const MIN_MEMORY: u64 = 1 << 20;

/// No machine runs more processes for one queue.
const MAX_PROCESSES: i64 = 1024;

/// No table of jobs is worked by more queues.
const MAX_QUEUES: i64 = 1024;

fn check_job_queues(value: &Value) -> Result<(), Error> {
    match value.as_i64() {
        Some(count) if count <= MAX_QUEUES => Ok(()),
        _ => Err(Error::new(format!("Expected at most {MAX_QUEUES} queues of jobs"))
            .guard("Got:", value)),
    }
}

/// What is limited of one type of jobs.
fn job_limit() -> Val {
    let count = Val::Int { min: Some(1), max: None };
    Val::record(vec![Field::optional("max_concurrency", count, json!(null))])
}

/// A queue's worker: its name, or a record.
fn queue(workers: &Workers) -> Val {
    let null = || json!(null);
    let seconds =
        |name| Field::optional(name, Val::maybe(Val::Seconds { min: MIN_SECONDS }), null());
    let bytes = |name| Field::optional(name, Val::maybe(Val::Bytes { min: MIN_MEMORY }), null());
    let count = |name| {
        let number = Val::Int { min: Some(1), max: Some(u32::MAX.into()) };
        Field::optional(name, Val::maybe(number), null())
    };
    let record = Val::record(vec![
        Field::required("worker", worker_name(workers)),
        count("rate_max_calls"),
        Field::optional("rate_period", Val::maybe(Val::Float), null()),
        Field::optional("processes", Val::Int { min: Some(1), max: Some(MAX_PROCESSES) }, json!(1)),
        seconds("timeout"),
        seconds("notice"),
        seconds("cpu_limit"),
        bytes("memory_limit"),
        count("max_tasks"),
        seconds("max_age"),
        bytes("max_rss"),
        Field::optional("max_attempts", Val::Int { min: Some(1), max: Some(1000) }, json!(1)),
        Field::optional(
            "backoff",
            backoff(),
            json!({"initial": 1.0, "factor": 2.0, "max": 3600.0}),
        ),
        count("max_in_flight"),
        Field::optional("settings", Val::map(Val::Str, Val::Any), json!({})),
    ]);
    Val::OneOf(vec![worker_name(workers), record])
}

/// Seconds before the second attempt, or a record.
fn backoff() -> Val {
    Val::OneOf(vec![
        Val::Seconds { min: 0.0 },
        Val::record(vec![
            Field::optional("initial", Val::Seconds { min: 0.0 }, json!(1.0)),
            Field::optional("factor", Val::Seconds { min: 1.0 }, json!(2.0)),
            Field::optional("max", Val::Seconds { min: 0.0 }, json!(3600.0)),
        ]),
    ])
}

fn schedule(workers: &Workers) -> Val {
    let field = |name, val| Field::optional(name, val, json!(null));
    let time = |name, min, max| field(name, Val::OneOf(vec![Val::Int { min, max }, Val::Str]));
    Val::record(vec![
        field("worker", worker_name(workers)),
        field("ctl", Val::Str),
        time("year", None, None),
        time("month", Some(1), Some(12)),
        time("day", Some(1), Some(31)),
        time("week", Some(1), Some(53)),
        time("day_of_week", Some(0), Some(6)),
        time("hour", Some(0), Some(23)),
        time("minute", Some(0), Some(59)),
        time("second", Some(0), Some(59)),
        field("start_date", Val::DateTime),
        field("end_date", Val::DateTime),
    ])
}

/// The fields of a schedule of which at least one must be given.
pub const SCHEDULE_FIELDS: [&str; 8] =
    ["year", "month", "day", "week", "day_of_week", "hour", "minute", "second"];

fn check_schedules(value: &Value) -> Result<(), Error> {
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        let given = |name: &str| !item[name].is_null() && item[name] != "";
        let wrong = if given("worker") == given("ctl") {
            "Must specify one of 'worker' or 'ctl'"
        } else if SCHEDULE_FIELDS.iter().all(|name| item[name].is_null()) {
            "Must specify some property of the schedule"
        } else {
            check_times(item).map_err(|error| at(n, error))?;
            continue;
        };
        return Err(at(n, Error::new(wrong)));
    }
    Ok(())
}

fn at(n: usize, error: Error) -> Error {
    error.guard("While validating sequence item", format!("#{}", n + 1))
}

/// The original finds out only when it runs.
fn check_times(item: &Value) -> Result<(), Error> {
    let schedule = Schedule::deserialize(item).map_err(|error| Error::new(error.to_string()))?;
    schedule.cron().map(|_| ()).map_err(|error| {
        Error::new(error.to_string()).guard("While validating field:", error.field)
    })
}

fn check_timezone(value: &Value) -> Result<(), Error> {
    match value.as_str().map(TimeZone::get) {
        Some(Err(_)) => Err(Error::new(
            "Expected a time zone that this machine knows, such as \
                                        Europe/Berlin",
        )
        .guard("Got:", rex_plugin_api::pyrepr::repr(value))),
        _ => Ok(()),
    }
}

fn mart_prefix() -> Val {
    Val::Pattern {
        shown: "^[a-z0-9_]+$",
        matches: |text| {
            let is_kept = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            !text.is_empty() && text.chars().all(is_kept)
        },
    }
}

/// Marts are databases of PostgreSQL.
fn check_hosting(value: &Value) -> Result<(), Error> {
    let check = |uri| check_postgresql(uri, "Only PostgreSQL systems can host Marts");
    value.as_str().map_or(Ok(()), check)
}

/// As the plugin `mart` reads them: by name a URI, or a mapping of which `htsql.db` is one.
fn check_gateways(value: &Value) -> Result<(), Error> {
    for (name, value) in value.as_object().into_iter().flatten() {
        let uri = value.as_str().or_else(|| value.get("htsql")?.get("db")?.as_str());
        let checked = match uri {
            Some(uri) => check_postgresql(uri, "Only PostgreSQL systems can be gateways"),
            None => Err(Error::new("Expected the URI of a database")),
        };
        checked.map_err(|error| error.guard("While validating mapping value for key:", name))?;
    }
    Ok(())
}

/// `other`: what is said of other systems.
fn check_postgresql(uri: &str, other: &str) -> Result<(), Error> {
    let scheme = uri.split(':').next().unwrap_or_default();
    if !rex_db::is_postgresql(scheme) {
        return Err(Error::new(other));
    }
    rex_db::Address::parse(uri).map(|_| ()).map_err(|error| Error::new(error.to_string()))
}

/// A database as a URI, a record, or the configuration of which `htsql.db` is one.
fn database() -> Val {
    Val::OneOf(vec![Val::map(Val::Str, Val::Any), Val::Str])
}

fn is_identifier(text: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    text.bytes().next().is_some_and(is_letter)
        && text.bytes().all(|b| is_letter(b) || b.is_ascii_digit())
}

fn logger(level: Value) -> Val {
    let fields = vec![Field::optional("level", Val::Level, level)];
    Val::Record(Record { fields, open: true })
}
