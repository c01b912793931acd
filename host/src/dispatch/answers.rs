//! What worker processes say, and what the desk of jobs says to them.

use std::time::{Duration, Instant};

use rex_plugin_api::Level;
use rex_transport::{NewTask, Payload, QueueName};

use super::Host;
use super::death::Verdict;
use super::excerpt::{LONGEST_LINE, excerpt, shortened};
use super::held::Fault;
use super::running::{Running, Said};
use crate::supervisor::slot::Event as SlotEvent;
use crate::supervisor::{ProcessId, Stream, usage};
use crate::wire::{Answer, ToWorker};
use crate::{jobs, log};

/// How long a process may still be there after its goodbye.
const AFTER_GOODBYE: Duration = Duration::from_secs(2);

impl Host {
    pub(super) fn on_output(
        &mut self,
        process: ProcessId,
        stream: Stream,
        started: u64,
        text: &[u8],
    ) {
        let Some(running) = self.processes.get_mut(&process) else { return };
        let limit = self.plan.output_limit;
        let allowed = running.account_for_output(text, started, limit);
        if let Some(jobs) = self.setup.jobs_of(&running.plan)
            && let Some(task) = running.held.next().filter(|_| allowed > 0)
        {
            jobs.desk.log(task, String::from_utf8_lossy(&text[..allowed]).into_owned());
        }
        if allowed > 0 {
            let to_stderr = stream == Stream::Err;
            self.setup.console.print(running.plan.queue.as_str(), to_stderr, &text[..allowed]);
        }
    }

    pub(super) fn on_answer(&mut self, process: ProcessId, answer: Answer, now: Instant) {
        let Some(running) = self.processes.get_mut(&process) else { return };
        // What it says before it is killed is worth as little as what it said before.
        if running.verdict == Some(Verdict::Nonsense) {
            return;
        }
        let queue = running.plan.queue.clone();
        match answer {
            Answer::Loaded => {}
            // What its plugin left to do at exit may take for ever.
            Answer::Goodbye => running.gone_by = Some(now + AFTER_GOODBYE),
            Answer::Ready => {
                let Some(seat) = running.seat else { return };
                self.step(seat, SlotEvent::Ready, now);
                let replaced = self.slots.get_mut(&seat).map(|seat| {
                    seat.last_death = None;
                    seat.has_served = true;
                    std::mem::take(&mut seat.replaces)
                });
                for old in replaced.into_iter().flatten() {
                    self.step(old, SlotEvent::Stop { deadline: None, empty: false }, now);
                }
            }
            Answer::Unfit(reason) => running.unfit = Some(excerpt(&reason, LONGEST_LINE)),
            Answer::Log { seq, plugin, level, logger, text } => {
                running.printing(seq);
                if level >= Level::Error {
                    running.remember(text.as_bytes());
                }
                let limit = self.plan.output_limit;
                if let Some(text) = running.account_for_record(seq, plugin, &text, limit) {
                    if let Some(jobs) = self.setup.jobs_of(&running.plan)
                        && let Some(task) = running.held.task(seq)
                    {
                        jobs.desk.log(task, format!("{level}:{logger}:{text}\n"));
                    }
                    log::emit(level, &logger, &text);
                }
            }
            Answer::Submit { seq, queue: target, payload } => {
                let target = target.map_or(Ok(queue.clone()), |name| QueueName::parse(&name));
                let payload = Payload::parse(&payload, running.plan.payload_limit);
                // The worker checked both; a process that sends others is not believed.
                let accepted = match (target, payload) {
                    (Ok(queue), Ok(payload)) => {
                        running.held.submit(seq, NewTask::plain(queue, payload))
                    }
                    _ => false,
                };
                if !accepted {
                    running.condemn(Verdict::Nonsense);
                }
            }
            Answer::Ask { seq, ask, request } => match &self.setup.jobs {
                Some(jobs) => jobs.desk.ask(process, ask, running.held.task(seq), request),
                // Only those ask that were told to work for jobs.
                None => running.condemn(Verdict::Nonsense),
            },
            Answer::Progress { seq, fraction, text } => {
                if let Some(jobs) = &self.setup.jobs
                    && let Some(task) = running.held.task(seq)
                {
                    jobs.desk.progress(task, fraction, text.clone());
                }
                running.said = Some(Said { seq, fraction, text });
            }
            Answer::Failed { seq, failure, ran } => {
                let last_output = running.take_last_lines();
                let pid = running.process.pid;
                let (cpu, peak_rss) = (usage::cpu_time(pid), usage::peak_resident(pid));
                let failure = shortened(failure);
                let fault = Fault { failure, ran, cpu, peak_rss, last_output };
                if !running.held.fail(seq, fault) {
                    running.condemn(Verdict::Nonsense);
                }
            }
            Answer::Finished { seq, asked } => {
                for (seq, ran) in asked {
                    if let Some(asked) = running.held.asked(seq) {
                        asked.ran = Some(ran);
                    }
                }
                let dropped = running.report_dropped_output(seq);
                if let Some(jobs) = self.setup.jobs_of(&running.plan)
                    && let Some(task) = running.held.task(seq)
                {
                    jobs.log_warnings(task, &running.plan.logger, dropped);
                }
                let (finished, elapsed) = running.held.finish(seq, now);
                running.done += finished.len() as u64;
                if let Some(entry) = self.queues.get_mut(&queue) {
                    entry.feed.measured(finished.len() as u64, elapsed);
                }
                self.settle(process, finished);
                if let Some(running) = self.processes.get_mut(&process) {
                    running.forget_last_lines(seq);
                }
                self.recycle(process, now);
            }
            Answer::Recalled(seqs) => {
                // One that is told to stop gives back unasked.
                running.recalls = running.recalls.saturating_sub(1);
                if running.recalls == 0 {
                    running.process.page.allow(self.lease.start_until());
                }
                let tasks = running.held.recall(&seqs);
                self.put_back_unstarted(&queue, tasks);
            }
        }
        self.dirty.insert(queue);
    }

    /// What the desk of jobs says.
    pub(super) fn on_jobs(&mut self, event: jobs::Event, now: Instant) {
        match event {
            jobs::Event::Answer { process, ask, result } => {
                if let Some(running) = self.processes.get_mut(&process) {
                    running.send(&self.poller, &ToWorker::Reply { ask, result });
                }
            }
            jobs::Event::Cancel { task, grace } => {
                let runs = |running: &&mut Running| {
                    running.in_hand().is_some_and(|held| held.claimed.task.id == task)
                };
                let Some(running) = self.processes.values_mut().find(runs) else { return };
                let Some(seq) = running.in_hand().map(|held| held.seq) else { return };
                if running.cancel(seq, now + grace) {
                    let text = "The job in hand is cancelled";
                    log::emit(Level::Warning, &running.plan.logger, text);
                    running.send(&self.poller, &ToWorker::Notice { seq });
                }
            }
        }
    }
}
