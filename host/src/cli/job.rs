//! `rex-host job`: the table of jobs.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use std::time::Duration;

use rex_db::Address;
use rex_transport::Payload;
use serde_json::json;

use super::Environment;
use super::failure::Failure;
use super::output::{Output, how_far, plain};
use super::place::Common;
use crate::clock;
use crate::jobs::{Cancelled, Filter, NewJob, Row, Table, TableError};
use crate::settings::Settings;

#[derive(clap::Subcommand)]
pub(crate) enum JobCommand {
    /// Put a job into the table
    Submit {
        /// Its type: the name of an executor
        r#type: String,
        /// A JSON object, or - to read it from standard input
        #[arg(default_value = "{}", value_name = "JSON")]
        payload: String,
        /// Whose job it is [default: the database's user]
        #[arg(long, value_name = "TEXT")]
        owner: Option<String>,
        #[arg(long, value_name = "TEXT")]
        title: Option<String>,
        /// Wait for its end; exit code 1 if it fails
        #[arg(long)]
        wait: bool,
        /// Print the job as one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// List jobs, oldest first
    List {
        /// Only these: new, queued, started, completed, failed
        #[arg(long, value_parser = ["new", "queued", "started", "completed", "failed"])]
        status: Option<String>,
        /// Only of this type
        #[arg(long = "type", value_name = "TYPE")]
        r#type: Option<String>,
        /// Only of this owner
        #[arg(long, value_name = "TEXT")]
        owner: Option<String>,
        /// The last N of them
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        /// Print one JSON object a job
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show all of a job
    Show {
        code: i64,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Have jobs end: those that run are told to, and killed later
    Cancel {
        #[arg(required = true, value_name = "CODE")]
        codes: Vec<i64>,
        /// How long a job that runs may go on
        #[arg(long, value_parser = clock::span, default_value = "10s", value_name = "TIME")]
        grace: Duration,
        #[command(flatten)]
        common: Common,
    },
    /// Have jobs that ended run again
    Retry {
        #[arg(required = true, value_name = "CODE")]
        codes: Vec<i64>,
        /// Those too that are queued: their task was lost
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show what a job logged and printed
    Logs {
        code: i64,
        /// Go on until the job has ended
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// How often a job that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often a server that is away is tried.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) fn job(
    command: JobCommand,
    environment: &Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        JobCommand::Submit { r#type, payload, owner, title, wait, json, common } => {
            let (mut table, settings) = open(&common, environment)?;
            let payload = payload_of(payload, &settings)?;
            let new = NewJob { r#type, payload, owner, title };
            let mut row = table.insert(&new).map_err(failed)?;
            let code = row.code;
            if !json {
                output.line(format_args!("job {code}"))?;
                output.finish()?;
            }
            if wait {
                row = wait_for(&mut table, &row, output).map_err(|mut failure| {
                    failure.text = format!("job {code} is submitted, but: {}", failure.text);
                    failure
                })?;
            }
            if json {
                output.json_with_payload(&shown(&row), &row.payload)?;
            } else if wait {
                output.line(format_args!("job {code} {}", row.status))?;
            }
            output.finish()?;
            if wait && row.status == "failed" {
                let detail = row.detail.unwrap_or_default();
                return Err(Failure::new(format!("job {code} failed: {detail}"))
                    .hint(format!("`rex-host job logs {code}` shows what it said")));
            }
        }
        JobCommand::List { status, r#type, owner, limit, json, common } => {
            let (mut table, _) = open(&common, environment)?;
            let filter = Filter { status, r#type, owner, limit };
            let rows = table.rows(&filter).map_err(failed)?;
            let head = ["CODE", "TYPE", "OWNER", "STATUS", "SUBMITTED", "TITLE", "DETAIL"];
            let mut cells = Vec::new();
            for row in rows {
                if json {
                    output.json_with_payload(&shown(&row), &row.payload)?;
                    continue;
                }
                let progress = row.progress.filter(|_| row.status == "started");
                let detail = row.detail.or(progress).unwrap_or_default();
                cells.push(vec![
                    row.code.to_string(),
                    row.r#type,
                    row.owner,
                    row.status,
                    row.submitted.chars().take(19).collect(),
                    row.title.unwrap_or_default(),
                    detail.lines().next().unwrap_or_default().to_owned(),
                ]);
            }
            if !json {
                output.table(&head, &cells)?;
            }
        }
        JobCommand::Show { code, json, common } => {
            let (mut table, _) = open(&common, environment)?;
            let row = find(&mut table, code)?;
            if json {
                output.json_with_payload(&shown(&row), &row.payload)?;
            } else {
                show(&row, output)?;
            }
        }
        JobCommand::Cancel { codes, grace, common } => {
            let (mut table, _) = open(&common, environment)?;
            let mut exit = ExitCode::SUCCESS;
            for code in codes {
                let failure = match table.cancel(code, grace).map_err(failed)? {
                    Cancelled::Missing => missing(code),
                    Cancelled::Ended(status) => {
                        Failure::new(format!("job {code} is {status} already"))
                    }
                    Cancelled::Now => {
                        output.line(format_args!("job {code} is cancelled"))?;
                        continue;
                    }
                    Cancelled::Told => {
                        output.line(format_args!(
                            "job {code} is told to stop, and killed after {} s",
                            grace.as_secs_f64()
                        ))?;
                        continue;
                    }
                };
                exit = output.fail(&failure);
            }
            output.finish()?;
            return Ok(exit);
        }
        JobCommand::Retry { codes, force, common } => {
            let (mut table, _) = open(&common, environment)?;
            let mut exit = ExitCode::SUCCESS;
            for code in codes {
                let failure = match table.retry(code, force).map_err(failed)? {
                    Ok(()) => {
                        output.line(format_args!("job {code} is new again"))?;
                        continue;
                    }
                    Err(None) => missing(code),
                    Err(Some(status)) => {
                        let failure = Failure::new(format!("job {code} is {status}"));
                        match status.as_str() {
                            "queued" => failure.hint("--force gives it another task"),
                            _ => failure,
                        }
                    }
                };
                exit = output.fail(&failure);
            }
            output.finish()?;
            return Ok(exit);
        }
        JobCommand::Logs { code, follow, common } => {
            let (mut table, _) = open(&common, environment)?;
            let mut row = find(&mut table, code)?;
            let mut last = 0;
            loop {
                // What is read after its end is all.
                let pieces = patiently(&mut table, output, |table| table.log_after(row.id, last))?;
                for (piece, text) in pieces {
                    last = piece;
                    output.text(&text)?;
                }
                output.finish()?;
                if !follow || row.has_ended() {
                    break;
                }
                std::thread::sleep(LOOK);
                row = look_at(&mut table, &row, output)?;
            }
        }
    }
    output.finish()
}

fn open(common: &Common, environment: &Environment) -> Result<(Table, Settings), Failure> {
    let settings = common.place(environment)?.settings()?;
    let mut table = Table::new(address(&settings)?, settings.rescue_grace);
    table.prepare().map_err(failed)?;
    Ok((table, settings))
}

/// The database of the table of jobs.
///
/// # Errors
/// When the settings name none.
pub(super) fn address(settings: &Settings) -> Result<Address, Failure> {
    let text = settings.database.as_ref().ok_or_else(|| {
        Failure::new("jobs need a PostgreSQL database").hint(
            "name it with the setting db (--set db=pgsql://USER@HOST/DATABASE), or a project that \
             does with --project NAME",
        )
    })?;
    Address::parse(text)
        .map_err(|error| Failure::new("the setting db is no address").because(&error))
}

pub(super) fn failed(error: TableError) -> Failure {
    let hint = error.hint;
    let failure = Failure::new(error.to_string());
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn payload_of(given: String, settings: &Settings) -> Result<String, Failure> {
    let text = match given.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::new("cannot read standard input").because(&error))?;
            text
        }
        _ => given,
    };
    let limit = usize::try_from(settings.payload_limit).unwrap_or(usize::MAX);
    let payload = Payload::parse(&text, limit).map_err(|error| Failure::new(error.to_string()))?;
    Ok(payload.as_str().to_owned())
}

fn missing(code: i64) -> Failure {
    Failure::new(format!("there is no job {code}")).hint("`rex-host job list` shows all")
}

fn find(table: &mut Table, code: i64) -> Result<Row, Failure> {
    table.row(code).map_err(failed)?.ok_or_else(|| missing(code))
}

/// The same job as it is by now.
fn look_at(table: &mut Table, row: &Row, output: &mut Output) -> Result<Row, Failure> {
    patiently(table, output, |table| table.row_of(row.id))?.ok_or_else(|| {
        Failure::new(format!("job {} is there no more: its row was deleted", row.code))
    })
}

/// What the table says, however long the server is away, which is told once: the job goes on meanwhile.
fn patiently<T>(
    table: &mut Table,
    output: &mut Output,
    ask: impl Fn(&mut Table) -> Result<T, TableError>,
) -> Result<T, Failure> {
    let mut is_told = false;
    loop {
        match ask(table) {
            Err(error) if error.passes() => {
                if !is_told {
                    output.remark(format_args!("warning: {error}; trying again"));
                }
                is_told = true;
                std::thread::sleep(AGAIN);
            }
            result => return result.map_err(failed),
        }
    }
}

/// Until the job has ended; on a terminal its progress is shown.
fn wait_for(table: &mut Table, row: &Row, output: &mut Output) -> Result<Row, Failure> {
    let shows = std::io::stderr().is_terminal();
    loop {
        let row = look_at(table, row, output)?;
        if shows {
            let all = row.fraction.map(|_| 1.0).filter(|_| row.status == "completed");
            output.progress(&row.status, all.or(row.fraction), row.progress.as_deref());
        }
        if row.has_ended() {
            output.end_progress();
            return Ok(row);
        }
        std::thread::sleep(LOOK);
    }
}

fn shown(row: &Row) -> serde_json::Value {
    json!({
        "code": row.code,
        "type": row.r#type,
        "owner": row.owner,
        "title": row.title,
        "status": row.status,
        "status_detail": row.detail,
        "date_submitted": row.submitted,
        "date_started": row.started,
        "date_completed": row.completed,
        "fraction": row.fraction,
        "progress": row.progress,
        "cancelled": row.cancelled,
    })
}

fn show(row: &Row, output: &mut Output) -> Result<(), Failure> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let progress = match row.fraction {
        _ if row.has_ended() => String::new(),
        Some(fraction) => how_far(fraction, row.progress.as_deref()),
        None => String::new(),
    };
    let cancelled = if row.cancelled && row.status == "started" { "asked for" } else { "" };
    let fields = [
        ("code", row.code.to_string()),
        ("type", row.r#type.clone()),
        ("owner", row.owner.clone()),
        ("title", text(&row.title)),
        ("status", row.status.clone()),
        ("payload", row.payload.clone()),
        ("submitted", row.submitted.clone()),
        ("started", text(&row.started)),
        ("completed", text(&row.completed)),
        ("progress", progress),
        ("cancel", cancelled.to_owned()),
        ("detail", text(&row.detail)),
    ];
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        let lines: Vec<String> = value.lines().map(plain).collect();
        output.line(format_args!("{name:9}  {}", lines.join("\n           ")))?;
    }
    Ok(())
}
