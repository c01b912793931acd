//! What is known of a task that is done and has submits: the store may refuse those, and then it has failed.

use std::sync::Arc;
use std::time::Duration;

use rex_plugin_api::ops::Again;
use rex_transport::Death;
use rustix::process::Pid;
use serde_json::{Value, json};

use super::death::details;
use super::plan::QueuePlan;
use super::retry::Failed;
use crate::clock;
use crate::supervisor::usage;

/// What a process has used until then.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    pub cpu: Option<Duration>,
    /// Most resident bytes.
    pub peak_rss: Option<u64>,
}

impl Used {
    /// What is not known where there is no such process any more.
    pub fn by(pid: Pid) -> Used {
        Used { cpu: usage::cpu_time(pid), peak_rss: usage::peak_resident(pid) }
    }
}

#[derive(Debug)]
pub struct Asker {
    pub plan: Arc<QueuePlan>,
    pub pid: Pid,
    pub attempt: u32,
    /// Of the attempts before.
    pub history: Value,
    pub ran: Option<Duration>,
    pub used: Used,
    /// The last lines that were printed while it ran.
    pub last_output: Vec<String>,
}

impl Asker {
    /// It is not tried again: it would ask for the same.
    pub fn refused(self, refusal: &str) -> Death {
        let Asker { plan, pid, attempt, history, ran, used, last_output } = self;
        let more = json!({
            "text": refusal,
            "cpu_ms": used.cpu.map(|cpu| cpu.as_millis() as u64),
            "peak_rss": used.peak_rss,
            "ran_ms": ran.map(|ran| ran.as_millis() as u64),
        });
        let pid = pid.as_raw_nonzero().get();
        let death = Death {
            reason: format!("its submits were refused: {refusal}"),
            details: details("refused", &plan, pid, &last_output, more),
        };
        Failed { attempt, history, again: Again::Never }.dead(death, clock::now())
    }
}
