//! `rex-host cron`: what the clock submits.

use std::process::ExitCode;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::Environment;
use super::failure::Failure;
use super::output::Output;
use super::place::Common;
use crate::cron::Entry;
use crate::settings::{self, Settings};

#[derive(clap::Subcommand)]
pub(crate) enum CronCommand {
    /// List schedules with their next occasion
    List {
        /// Print one JSON object a schedule
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show the coming occasions of all schedules, or of one
    Next {
        /// Worker or command, or the number that `cron list` shows
        schedule: Option<String>,
        /// Print one JSON object an occasion
        #[arg(long)]
        json: bool,
        /// So many of each schedule
        #[arg(long, value_name = "N", default_value_t = 3)]
        count: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Submit a schedule's task now; its occasions stay as they are
    Trigger {
        /// Worker or command, or the number that `cron list` shows
        schedule: String,
        #[command(flatten)]
        common: Common,
    },
}

pub(crate) fn cron(
    command: CronCommand,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        CronCommand::List { json, common } => {
            let (settings, entries) = read(&common, &environment)?;
            let now = Timestamp::now();
            let mut rows = Vec::new();
            for (n, entry) in entries.iter().enumerate() {
                let next = entry.cron.next(now, &settings.timezone);
                if json {
                    output.json(&json!({
                        "number": n + 1,
                        "schedule": entry.what,
                        "queue": entry.queue.as_str(),
                        "times": entry.fields,
                        "next": next.map(|at| at.to_string()),
                    }))?;
                }
                rows.push(vec![
                    (n + 1).to_string(),
                    entry.what.clone(),
                    entry.queue.to_string(),
                    next.map_or_else(|| "never".to_owned(), |at| shown(at, &settings.timezone)),
                    entry.times(),
                ]);
            }
            if !json {
                output.table(&["#", "SCHEDULE", "QUEUE", "NEXT", "TIMES"], &rows)?;
            }
        }
        CronCommand::Next { schedule, json, count, common } => {
            let (settings, entries) = read(&common, &environment)?;
            let chosen = match &schedule {
                Some(name) => vec![find(&entries, name)?],
                None => entries.iter().collect(),
            };
            let mut occasions: Vec<(Timestamp, &Entry)> = Vec::new();
            for entry in chosen {
                let zone = &settings.timezone;
                let first = entry.cron.next(Timestamp::now(), zone);
                let coming = std::iter::successors(first, |at| entry.cron.next(*at, zone));
                occasions.extend(coming.take(count).map(|at| (at, entry)));
            }
            occasions.sort_by_key(|(at, _)| *at);
            for (at, entry) in occasions {
                if json {
                    output.json(&json!({
                        "at": at.to_string(),
                        "schedule": entry.what,
                        "queue": entry.queue.as_str(),
                    }))?;
                } else {
                    output.line(format_args!(
                        "{}  {}",
                        shown(at, &settings.timezone),
                        entry.what
                    ))?;
                }
            }
        }
        CronCommand::Trigger { schedule, common } => {
            let (settings, entries) = read(&common, &environment)?;
            let entry = find(&entries, &schedule)?;
            let mut transport = common.place(&environment)?.open(&settings, None)?;
            for submitted in transport.submit(&[entry.task()])? {
                output.line(format_args!("task {} in queue {}", submitted.id.0, entry.queue))?;
            }
        }
    }
    output.finish()
}

fn read(common: &Common, environment: &Environment) -> Result<(Settings, Vec<Entry>), Failure> {
    let place = common.place(environment)?;
    let settings = settings::resolve_schedules(&place.sources, &place.globals)?;
    let entries = Entry::all(&settings.schedules);
    Ok((settings, entries.map_err(Failure::new)?))
}

/// By number, else by name.
fn find<'a>(entries: &'a [Entry], name: &str) -> Result<&'a Entry, Failure> {
    let number = name.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    if let Some(entry) = number.and_then(|number| entries.get(number)) {
        return Ok(entry);
    }
    let mut named = entries.iter().filter(|entry| entry.what == name);
    match (named.next(), named.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => Err(Failure::new(format!("several schedules are for `{name}`"))
            .hint("say which by the number that `rex-host cron list` shows")),
        (None, _) => Err(Failure::new(format!("no schedule is for `{name}`"))
            .hint("`rex-host cron list` shows all; --project says whose")),
    }
}

fn shown(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string()
}
