//! What `rex-host status` shows of the loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rex_transport::QueueName;
use serde_json::{Value, json};

use super::plan::QueuePlan;
use super::{Host, Phase};
use crate::control::{Answer, Call, Request};

/// Tasks since the start.
#[derive(Debug, Default)]
pub struct Counts {
    pub done: u64,
    /// For good.
    pub failed: u64,
}

impl Host {
    pub(super) fn on_call(&mut self, call: Call) {
        let Call { request, reply } = call;
        match request {
            Request::Status => {
                // The one who asked may have left.
                let _ = reply.send(Answer::Status { status: self.status() });
            }
            Request::Reload { check } => self.start_reload(Some(reply), check),
            Request::Stop { now } => {
                // Another one who is in no hurry waits along.
                if self.phase == Phase::Working {
                    self.stop(Instant::now());
                }
                if now {
                    self.stop(Instant::now());
                }
                let _ = reply.send(Answer::Done { lines: vec!["stopping".to_owned()] });
            }
        }
    }

    fn status(&self) -> Value {
        let phase = match self.phase {
            // One that does not answer is heard of by the lease alone.
            Phase::Working if self.outbox.down || self.lease.has_lapsed() => "store away",
            Phase::Working if self.quiet => "quiet",
            Phase::Working => "working",
            Phase::Draining { .. } => "draining",
            Phase::Closing { .. } | Phase::Closed => "closing",
        };
        // Also those that a reload has left, as long as a process works for them.
        let left = self.slots.values().map(|seat| (&seat.plan.queue, &seat.plan));
        let plans: BTreeMap<&QueueName, &Arc<QueuePlan>> = left.chain(&self.plan.queues).collect();
        let queues: Vec<Value> = plans
            .into_iter()
            .map(|(name, plan)| {
                let seats: Vec<Value> = self
                    .slots
                    .values()
                    .filter(|seat| seat.plan.queue == *name)
                    .map(|seat| self.seat_status(seat))
                    .collect();
                json!({
                    "queue": name.as_str(),
                    "worker": plan.worker,
                    "plugin": plan.plugin.name,
                    "plugin_hash": plan.plugin.hash,
                    "ready": self.queues.get(name).map_or(0, |queue| queue.feed.ready()),
                    "processes": seats,
                })
            })
            .collect();
        json!({
            "instance": self.setup.instance,
            "pid": std::process::id(),
            "phase": phase,
            "uptime_s": self.started.elapsed().as_secs(),
            "transport": self.setup.label,
            "done": self.counts.done,
            "failed": self.counts.failed,
            "queues": queues,
        })
    }

    fn seat_status(&self, seat: &super::Seat) -> Value {
        let running = seat.process.and_then(|id| self.processes.get(&id));
        let progress = running.map(|running| running.process.page.read());
        let task = running.zip(progress).and_then(|(running, page)| running.held.in_hand(page));
        let said = running.and_then(|running| running.said.as_ref());
        let said = said.filter(|said| task.is_some_and(|task| task.seq == said.seq));
        json!({
            "state": seat.slot.word(),
            "restart_in_s": seat.slot.restarts_at().map(|at| at.saturating_duration_since(Instant::now()).as_secs_f64()),
            "last_death": seat.last_death,
            "pid": running.map(|running| running.process.pid.as_raw_nonzero().get()),
            "task": task.map(|held| held.claimed.task.id.0),
            "task_s": task.and(progress).map(|p| super::running::since_monotonic(p.started_at).as_secs_f64()),
            "fraction": said.map(|said| said.fraction),
            "progress": said.map(|said| &said.text),
            "held": running.map_or(0, |running| running.held.count()),
            "worker": seat.plan.worker,
            "plugin": seat.plan.plugin.name,
            "plugin_hash": seat.plan.plugin.hash,
        })
    }
}
