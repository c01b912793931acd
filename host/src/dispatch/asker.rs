//! What is known of a task that is done and has submits: the store may refuse those, and then it has failed.

use std::sync::Arc;

use rex_plugin_api::ops::Again;
use rex_transport::Death;
use rustix::process::Pid;
use serde_json::{Value, json};

use super::death::details;
use super::plan::QueuePlan;
use super::retry::Failed;
use crate::clock;
use crate::supervisor::usage;

#[derive(Debug)]
pub struct Asker {
    pub plan: Arc<QueuePlan>,
    pub pid: Pid,
    pub attempt: u32,
    /// Of the attempts before.
    pub history: Value,
    /// The last lines that were printed while it ran.
    pub last_output: Vec<String>,
}

impl Asker {
    /// It is not tried again: it would ask for the same.
    pub fn refused(self, refusal: &str) -> Death {
        let Asker { plan, pid, attempt, history, last_output } = self;
        let more = json!({
            "text": refusal,
            "cpu_ms": usage::cpu_time(pid).map(|cpu| cpu.as_millis() as u64),
            "peak_rss": usage::peak_resident(pid),
        });
        let pid = pid.as_raw_nonzero().get();
        let death = Death {
            reason: format!("its submits were refused: {refusal}"),
            details: details("refused", &plan, pid, &last_output, more),
        };
        Failed { attempt, history, again: Again::Never }.dead(death, clock::now())
    }
}
