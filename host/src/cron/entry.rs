//! One schedule as settings give it, and what follows from it: queue, payload, names.

use std::collections::HashMap;

use jiff::civil::DateTime;
use rex_cron::Cron;
use rex_plugin_api::pyrepr::{repr, repr_map};
use rex_transport::{NewTask, Payload, QueueName};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::settings::Schedule;

/// A schedule that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub queue: QueueName,
    /// The worker that gets its tasks.
    pub worker: String,
    /// The worker's name or the command, as configured.
    pub what: String,
    /// The time fields that are given, as configured.
    pub fields: Map<String, Value>,
    /// Tells it from all others in the store.
    pub key: String,
    pub cron: Cron,
    payload: Value,
}

/// The worker that runs commands.
pub const CTL_EXECUTOR: &str = "ctl_executor";

impl Entry {
    /// Takes validated schedules. Equal ones are told apart by their order: each is fired, as in the
    /// original.
    ///
    /// # Errors
    /// As [`Entry::of`].
    pub fn all(schedules: &[Schedule]) -> Result<Vec<Entry>, String> {
        let mut entries: Vec<Entry> = schedules.iter().map(Entry::of).collect::<Result<_, _>>()?;
        let mut counts: HashMap<String, usize> = HashMap::new();
        for entry in &mut entries {
            let count = counts.entry(entry.key.clone()).or_default();
            *count += 1;
            if *count > 1 {
                entry.key = format!("{} #{count}", entry.key);
            }
        }
        Ok(entries)
    }

    /// Takes a validated schedule.
    ///
    /// # Errors
    /// When its worker's name makes no queue name.
    pub fn of(schedule: &Schedule) -> Result<Entry, String> {
        let repr = record(schedule);
        let hash: String = Sha256::digest(&repr).iter().map(|byte| format!("{byte:02x}")).collect();
        let (queue, worker, what, payload) = match (&schedule.worker, &schedule.ctl) {
            (Some(worker), _) => {
                (format!("scheduled_0_{worker}"), worker.as_str(), worker, json!({}))
            }
            (None, Some(ctl)) => {
                let queue = format!("scheduled_0_ctl_{}", &hash[..8]);
                (queue, CTL_EXECUTOR, ctl, json!({"command": ctl}))
            }
            (None, None) => return Err("Must specify one of 'worker' or 'ctl'".to_owned()),
        };
        Ok(Entry {
            queue: QueueName::parse(&queue).map_err(|error| error.to_string())?,
            worker: worker.to_owned(),
            what: what.clone(),
            fields: given(schedule),
            key: format!("{queue} {}", &hash[..16]),
            cron: schedule.cron().map_err(|error| error.to_string())?,
            payload,
        })
    }

    /// The task of one occasion.
    pub fn task(&self) -> NewTask {
        // An object of one short text is below every limit.
        let text = self.payload.to_string();
        let payload = Payload::parse(&text, usize::MAX).unwrap_or_else(|_| Payload::empty());
        NewTask::plain(self.queue.clone(), payload)
    }

    /// `{'second': '*/2'}`.
    pub fn times(&self) -> String {
        repr_map(&self.fields)
    }
}

fn given(schedule: &Schedule) -> Map<String, Value> {
    let given = schedule.times().into_iter().filter(|(_, value)| !value.is_null());
    given.map(|(field, value)| (field.name().to_owned(), value.clone())).collect()
}

/// As Python shows the original's record: the names of queues are made of it.
fn record(schedule: &Schedule) -> String {
    let text = |text: &Option<String>| repr(&json!(text));
    let date = |text: &Option<String>| text.as_deref().map_or("None".to_owned(), date_repr);
    let mut fields = vec![("worker", text(&schedule.worker)), ("ctl", text(&schedule.ctl))];
    fields.extend(schedule.times().map(|(field, value)| (field.name(), repr(value))));
    fields.push(("start_date", date(&schedule.start_date)));
    fields.push(("end_date", date(&schedule.end_date)));
    let fields: Vec<String> =
        fields.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("Record({})", fields.join(", "))
}

/// `datetime.datetime(2020, 1, 2, 3, 4, 5)`; seconds and microseconds only as far as there are any.
fn date_repr(text: &str) -> String {
    let Ok(date) = text.parse::<DateTime>() else { return repr(&json!(text)) };
    let mut parts = vec![
        i32::from(date.year()),
        i32::from(date.month()),
        i32::from(date.day()),
        i32::from(date.hour()),
        i32::from(date.minute()),
        i32::from(date.second()),
        date.subsec_nanosecond() / 1000,
    ];
    while parts.len() > 5 && parts.last() == Some(&0) {
        parts.pop();
    }
    let parts: Vec<String> = parts.iter().map(i32::to_string).collect();
    format!("datetime.datetime({})", parts.join(", "))
}

#[cfg(test)]
mod tests;
