//! `rex-host dlq`: tasks that failed for good.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use rex_transport::{
    DeadLetter, DeadQuery, LetterId, TaskId, Timestamp, Transport, TransportError,
};
use serde_json::{Value, json};

use super::Environment;
use super::failure::Failure;
use super::output::{self, Output, tasks};
use super::place::{self, Common, Place};
use super::queue::{age, shown};
use super::submit::parse_queue;
use crate::clock;
use crate::control::{self, Answer, Request};
use crate::plugins::source;

#[derive(clap::Subcommand)]
pub(crate) enum DlqCommand {
    /// List dead letters, oldest death first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Print one JSON object a dead letter, with everything known
        #[arg(long)]
        json: bool,
        /// At most so many [default: 100; with --json: all]
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        #[command(flatten)]
        common: Common,
    },
    /// Show everything known of a dead task
    Show {
        /// The task's id
        task: i64,
        /// Print it as a JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Put dead tasks back into their queues, with all attempts before them
    Retry {
        #[command(flatten)]
        choice: Choice,
        /// Also those that killed their worker on every attempt, with the build that they killed
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Delete dead letters
    Discard {
        #[command(flatten)]
        choice: Choice,
        #[command(flatten)]
        common: Common,
    },
}

/// Which dead letters.
#[derive(clap::Args)]
pub(crate) struct Filter {
    /// Only of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Only of this worker
    #[arg(long, value_name = "WORKER", value_parser = NonEmptyStringValueParser::new())]
    worker: Option<String>,
    /// Only those that died since: a time, or how long ago (90, 15m, 2h, 3d)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Only those whose reason or error text has this in it
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    error: Option<String>,
    /// Only those of the build whose hash begins so
    #[arg(long, value_name = "HASH", value_parser = NonEmptyStringValueParser::new())]
    plugin_hash: Option<String>,
}

/// Which dead letters to change.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true)
    .args(["tasks", "all", "queue", "worker", "since", "error", "plugin_hash"]))]
pub(crate) struct Choice {
    /// Ids of tasks
    #[arg(value_name = "TASK", conflicts_with = "all")]
    tasks: Vec<i64>,
    /// All that the other options leave
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object a dead letter
    #[arg(long)]
    json: bool,
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(span) = clock::span(text) {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        return Ok(Timestamp(clock::now().0.saturating_sub(micros)));
    }
    clock::moment(text)
}

/// Letters read, or changed, at once.
const PAGE: u64 = 500;
/// Of their payloads and details; a letter more may be read.
const PAGE_BYTES: usize = 16 << 20;

pub(crate) fn dlq(
    command: DlqCommand,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        DlqCommand::List { filter, json, limit, common } => {
            let mut transport = place::viewer(&common, &environment)?;
            let limit = limit.unwrap_or(if json { usize::MAX } else { 100 });
            let mut rows = Vec::new();
            let mut left = limit;
            filter.each_page(&[], &mut *transport, |_, letters| {
                for letter in letters.iter().take(left) {
                    if json {
                        output.json_with_payload(&everything(letter), letter.payload.as_str())?;
                    } else {
                        rows.push(row(letter));
                    }
                }
                left = left.saturating_sub(letters.len());
                Ok(left > 0)
            })?;
            if !json {
                output.table(&["TASK", "QUEUE", "DIED", "ATTEMPTS", "REASON"], &rows)?;
            }
            output::left_out(&mut *transport);
        }
        DlqCommand::Show { task, json, common } => {
            let mut transport = place::viewer(&common, &environment)?;
            let mut found = false;
            Filter::none().each_page(&[task], &mut *transport, |_, letters| {
                for letter in &letters {
                    found = true;
                    if json {
                        output.json_with_payload(&everything(letter), letter.payload.as_str())?;
                    } else {
                        show(letter, output)?;
                    }
                }
                Ok(true)
            })?;
            if !found {
                output::left_out(&mut *transport);
                return Err(Failure::new(format!("no dead letter of task {task}"))
                    .hint("`rex-host dlq list` shows which there are"));
            }
        }
        DlqCommand::Retry { choice, force, common } => {
            let builds = Builds::of(common.place(&environment)?);
            let mut transport = place::viewer(&common, &environment)?;
            let (mut kept, mut kept_one) = (0, None);
            let count = choice.change(&mut *transport, "retried", output, |letter| {
                let details = &letter.death.details;
                let keep = !force && details["quarantined"] == true && !builds.has_another(details);
                if keep {
                    kept += 1;
                    kept_one.get_or_insert(letter.id.0);
                }
                !keep
            })?;
            if let Some(one) = kept_one {
                let are = match kept {
                    1 => "1 task is quarantined: it".to_owned(),
                    kept => format!("{kept} tasks are quarantined: each"),
                };
                let text = format!(
                    "{are} killed its worker on every attempt, and {} (the first is task {one})",
                    builds.without_another()
                );
                let hint = builds.hint();
                if count == 0 {
                    return Err(Failure::new(text).hint(hint));
                }
                output.remark(format_args!("{text}; {hint}"));
            }
        }
        DlqCommand::Discard { choice, common } => {
            let mut transport = place::viewer(&common, &environment)?;
            choice.change(&mut *transport, "discarded", output, |_| true)?;
        }
    }
    output.finish()
}

impl Filter {
    fn none() -> Filter {
        Filter { queue: None, worker: None, since: None, error: None, plugin_hash: None }
    }

    fn fits(&self, letter: &DeadLetter) -> bool {
        let details = &letter.death.details;
        let has = |text: &str| {
            letter.death.reason.contains(text)
                || details["text"].as_str().is_some_and(|whole| whole.contains(text))
                || details["traceback"].as_str().is_some_and(|whole| whole.contains(text))
        };
        let hash = details["plugin_hash"].as_str().unwrap_or_default();
        self.worker.as_deref().is_none_or(|worker| details["worker"] == worker)
            && self.since.is_none_or(|since| letter.died >= since)
            && self.error.as_deref().is_none_or(has)
            && self.plugin_hash.as_deref().is_none_or(|start| hash.starts_with(start))
    }

    /// Calls `work` with the letters that fit, of these tasks if any are named, a page at a time, until
    /// it says that this is enough.
    fn each_page(
        &self,
        tasks: &[i64],
        transport: &mut dyn Transport,
        mut work: impl FnMut(&mut dyn Transport, Vec<DeadLetter>) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let queue = self.queue.as_deref().map(parse_queue).transpose()?;
        let tasks = tasks.iter().map(|task| TaskId(*task)).collect();
        let (limit, bytes) = (Some(PAGE), Some(PAGE_BYTES));
        let mut query = DeadQuery { queue, tasks, after: None, limit, bytes };
        loop {
            let mut letters = transport.dead_letters(&query)?;
            let Some(last) = letters.last().map(|letter| letter.letter) else { return Ok(()) };
            let bytes: usize = letters.iter().map(DeadLetter::bytes).sum();
            let is_last = (letters.len() as u64) < PAGE && bytes <= PAGE_BYTES / 2;
            query.after = Some(last);
            letters.retain(|letter| self.fits(letter));
            if !work(transport, letters)? || is_last {
                return Ok(());
            }
        }
    }
}

impl Choice {
    /// Does to each letter that is chosen and that `may` lets through what `done` says, and counts
    /// them.
    fn change(
        &self,
        transport: &mut dyn Transport,
        done: &str,
        output: &mut Output,
        mut may: impl FnMut(&DeadLetter) -> bool,
    ) -> Result<u64, Failure> {
        let mut missing: HashSet<i64> = self.tasks.iter().copied().collect();
        let mut count = 0;
        // What dies from now on, perhaps what is retried here, is none of them.
        let mut newest = None;
        self.filter.each_page(&self.tasks, transport, |_, letters| {
            newest = letters.last().map(|letter| letter.letter).or(newest);
            Ok(true)
        })?;
        output::left_out(transport);
        self.filter.each_page(&self.tasks, transport, |transport, mut letters| {
            let read = letters.len();
            letters.retain(|letter| newest.is_some_and(|newest| letter.letter <= newest));
            let is_last = letters.len() < read;
            letters.retain(|letter| {
                missing.remove(&letter.id.0);
                may(letter)
            });
            let ids: Vec<LetterId> = letters.iter().map(|letter| letter.letter).collect();
            let changed = match done {
                _ if self.dry_run => Ok(ids.len() as u64),
                "retried" => transport.revive(&ids),
                _ => transport.discard(&ids),
            };
            count += changed.map_err(|error| cut_off(error, count, done))?;
            for letter in &letters {
                if self.json {
                    output.json(&json!({
                        "id": letter.id.0,
                        "queue": letter.queue.as_str(),
                        "reason": letter.death.reason,
                    }))?;
                } else if self.dry_run {
                    let reason = shown(&letter.death.reason);
                    let (id, queue) = (letter.id.0, &letter.queue);
                    output.line(format_args!("task {id} of queue {queue}: {reason}"))?;
                }
            }
            Ok(!is_last)
        })?;
        let would = if self.dry_run { "would be " } else { "" };
        if let Some(id) = missing.iter().min() {
            let were = if self.dry_run { "would be" } else { "were" };
            let text = format!("no dead letter of task {id}");
            return Err(Failure::new(text).hint(format!("{count} others {were} {done}")));
        }
        if !self.json {
            output.line(format_args!("{} {would}{done}", tasks(count)))?;
        }
        Ok(count)
    }
}

/// What is said when the store fails among many letters.
fn cut_off(error: TransportError, count: u64, done: &str) -> Failure {
    let failure = Failure::from(error);
    if count == 0 {
        return failure;
    }
    let so_far = format!("{} {done} before", tasks(count));
    let hint = match &failure.hint {
        Some(hint) => format!("{hint}; {so_far}"),
        None => so_far,
    };
    failure.hint(hint)
}

/// The builds of plugins that retried tasks would meet.
struct Builds {
    plugins: PathBuf,
    /// What the host that runs here serves, by file; it takes what is in the directory when it is
    /// told to.
    served: Option<HashMap<String, String>>,
}

impl Builds {
    fn of(place: Place) -> Builds {
        let status = control::ask(&place.state.control_socket(), &Request::Status);
        let served = match status {
            Ok(Answer::Status { status }) => {
                let queues = status["queues"].as_array().cloned().unwrap_or_default();
                let text = |value: &Value| value.as_str().map(str::to_owned);
                let build = |q: &Value| Some((text(&q["plugin"])?, text(&q["plugin_hash"])?));
                Some(queues.iter().filter_map(build).collect())
            }
            // No host runs here.
            _ => None,
        };
        Builds { plugins: place.plugins, served }
    }

    /// Whether the plugin's build is another one than those that a task has killed.
    fn has_another(&self, details: &Value) -> bool {
        let Some(name) = details["plugin"].as_str() else { return false };
        let served = self.served.as_ref().and_then(|served| served.get(name).cloned());
        let build = served.or_else(|| {
            let mut file = std::fs::File::open(self.plugins.join(name)).ok()?;
            source::hash_of(&mut file).ok()
        });
        let attempts = details["attempts"].as_array().map_or(&[][..], Vec::as_slice);
        let killed = |build: &str| {
            attempts.iter().chain([details]).any(|attempt| attempt["plugin_hash"] == build)
        };
        build.is_some_and(|build| !killed(&build))
    }

    fn without_another(&self) -> String {
        match &self.served {
            Some(_) => "the host that runs here serves no other build of the plugin".to_owned(),
            None => format!("no other build of the plugin is in `{}`", self.plugins.display()),
        }
    }

    fn hint(&self) -> &'static str {
        match &self.served {
            Some(_) => "replace the plugin and say `rex-host reload`, or say --force",
            None => {
                "replace the plugin there, name the host's directory with --plugins, or say --force"
            }
        }
    }
}

fn row(letter: &DeadLetter) -> Vec<String> {
    vec![
        letter.id.0.to_string(),
        letter.queue.to_string(),
        age(letter.died),
        letter.attempts.to_string(),
        shown(&letter.death.reason),
    ]
}

fn everything(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id.0,
        "queue": letter.queue.as_str(),
        "submitted": clock::timestamp(letter.submitted),
        "died": clock::timestamp(letter.died),
        "attempts": letter.attempts,
        "reason": letter.death.reason,
        "details": letter.death.details,
    })
}

/// For a person: what is there, the long texts last.
fn show(letter: &DeadLetter, output: &mut Output) -> Result<(), Failure> {
    let details = &letter.death.details;
    output.line(format_args!("task {} of queue {}", letter.id.0, letter.queue))?;
    let mut line = |name: &str, text: String| output.line(format_args!("  {name:<12} {text}"));
    line("submitted", clock::timestamp(letter.submitted))?;
    line("died", clock::timestamp(letter.died))?;
    line("reason", letter.death.reason.clone())?;
    line("payload", letter.payload.as_str().to_owned())?;
    let facts = [
        "kind",
        "worker",
        "plugin",
        "plugin_hash",
        "pid",
        "exit",
        "place",
        "ran_ms",
        "cpu_ms",
        "peak_rss",
        "quarantined",
    ];
    for name in facts {
        match &details[name] {
            Value::Null | Value::Bool(false) => {}
            Value::String(text) => line(name, text.clone())?,
            value => line(name, value.to_string())?,
        }
    }
    for attempt in details["attempts"].as_array().into_iter().flatten() {
        let text = |name: &str| attempt[name].as_str().unwrap_or_default();
        line("attempt", format!("{} {}: {}", attempt["attempt"], text("failed"), text("reason")))?;
    }
    if let Some(traceback) = details["traceback"].as_str() {
        output.line(format_args!("{traceback}"))?;
    }
    let printed = details["last_output"].as_array().map_or(&[][..], Vec::as_slice);
    if !printed.is_empty() {
        output.line(format_args!("last output:"))?;
    }
    for text in printed.iter().filter_map(Value::as_str) {
        output.line(format_args!("  {text}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
