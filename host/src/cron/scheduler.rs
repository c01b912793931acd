//! The thread that fires schedules. It has a connection of its own to the store, so that a slow store
//! holds up neither it nor the host's loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rex_transport::{Kind, Transport, TransportError};

use super::due::{Due, due};
use super::{Entry, Schedules};
use crate::log::MASTER;
use crate::settings::Misfire;

/// The handle of the thread, which ends with it.
pub struct Scheduler {
    orders: Sender<Order>,
}

enum Order {
    Set(Schedules),
    Stop(Sender<()>),
}

/// The clock may be set meanwhile: it is looked at this often at least.
const LOOK: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);
/// A queue that is refused only after a while, such as one whose lock is waited for, is tried so much more
/// rarely than that takes: other schedules wait meanwhile.
const SPARING: u32 = 2;
/// How long a stop waits for the store.
const PATIENCE: Duration = Duration::from_secs(1);

impl Scheduler {
    /// Starts the thread, with nothing to fire yet.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(transport: Box<dyn Transport>) -> std::io::Result<Scheduler> {
        let (orders, inbox) = crossbeam_channel::unbounded();
        let mut thread = Thread {
            transport,
            entries: Vec::new(),
            zone: TimeZone::UTC,
            misfire: None,
            down: false,
        };
        let builder = std::thread::Builder::new().name("scheduler".to_owned());
        builder.spawn(move || thread.run(&inbox))?;
        Ok(Scheduler { orders })
    }

    /// Replaces what is fired.
    pub fn set(&self, schedules: Schedules) {
        // Fails only when the thread has ended by a panic that was reported.
        let _ = self.orders.send(Order::Set(schedules));
    }

    /// Ends the thread; nothing is fired after this.
    pub fn stop(self) {
        let (done, ended) = crossbeam_channel::bounded(1);
        if self.orders.send(Order::Stop(done)).is_ok() {
            // A store that does not answer is not waited for.
            let _ = ended.recv_timeout(PATIENCE);
        }
    }
}

struct Thread {
    transport: Box<dyn Transport>,
    entries: Vec<Scheduled>,
    zone: TimeZone,
    misfire: Option<Misfire>,
    /// The store was away when it was last asked.
    down: bool,
}

struct Scheduled {
    entry: Arc<Entry>,
    /// Up to when it is settled; unknown until the store was asked.
    last: Option<Timestamp>,
    next: Option<Timestamp>,
    /// The store has refused its queue: when it is tried again.
    refused: Option<Instant>,
}

impl Thread {
    fn run(&mut self, inbox: &Receiver<Order>) {
        let mut wait = LOOK;
        loop {
            let deadline = Instant::now() + wait;
            match inbox.recv_deadline(deadline) {
                Ok(Order::Set(schedules)) => self.set(schedules),
                Ok(Order::Stop(done)) => {
                    // The one who asked may have left.
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            wait = match self.fire() {
                Ok(wait) => {
                    if std::mem::take(&mut self.down) {
                        tracing::info!("schedules are fired again");
                    }
                    wait
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.down, true) {
                        tracing::error!("schedules cannot be fired: {error}");
                    }
                    RETRY
                }
            };
        }
    }

    fn set(&mut self, schedules: Schedules) {
        let mut old = std::mem::take(&mut self.entries);
        self.zone = schedules.zone;
        self.misfire = Some(schedules.misfire);
        for entry in schedules.entries {
            let known = old.iter().position(|other| other.entry.key == entry.key);
            let (last, refused) = match known.map(|known| old.swap_remove(known)) {
                Some(known) => (known.last, known.refused),
                None => {
                    tracing::info!(
                        logger = MASTER,
                        "Scheduling \"{}\" for {}",
                        entry.what,
                        entry.times()
                    );
                    (None, None)
                }
            };
            let next = last.and_then(|last| entry.cron.next(last, &self.zone));
            self.entries.push(Scheduled { entry, last, next, refused });
        }
    }

    /// Fires what is due; says how long there is nothing to do. A queue that the store refuses is said,
    /// and costs no other schedule.
    ///
    /// # Errors
    /// What costs all of them alike.
    fn fire(&mut self) -> Result<Duration, TransportError> {
        let Some(misfire) = self.misfire else { return Ok(LOOK) };
        let mut wait = LOOK;
        for scheduled in &mut self.entries {
            let begun = Instant::now();
            if let Some(again) = scheduled.refused.filter(|again| *again > begun) {
                wait = wait.min(again - begun);
                continue;
            }
            match scheduled.fire(&mut *self.transport, &self.zone, misfire) {
                Ok(taken) => {
                    if taken && scheduled.refused.take().is_some() {
                        tracing::info!("the schedule of {} is fired again", scheduled.entry.what);
                    }
                    if let Some(next) = scheduled.next {
                        let until = next.duration_since(Timestamp::now());
                        wait = wait.min(until.try_into().unwrap_or(Duration::ZERO));
                    }
                }
                Err(error) if matches!(error.kind, Kind::Refused | Kind::Invalid) => {
                    let pause = RETRY.max(begun.elapsed() * SPARING);
                    if scheduled.refused.replace(Instant::now() + pause).is_none() {
                        let Entry { what, queue, .. } = &*scheduled.entry;
                        tracing::error!(
                            "the schedule of {what} cannot be fired, for its queue {queue} takes no \
                             task: {}",
                            error.line()
                        );
                    }
                    wait = wait.min(pause);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(wait)
    }
}

impl Scheduled {
    /// Fires what is due; whether the store was asked for anything that it might have refused.
    fn fire(
        &mut self,
        transport: &mut dyn Transport,
        zone: &TimeZone,
        misfire: Misfire,
    ) -> Result<bool, TransportError> {
        let now = Timestamp::now();
        let entry = Arc::clone(&self.entry);
        let mut asked = false;
        let last = match self.last {
            Some(last) => last,
            None => {
                let last = last(transport, &entry, now)?;
                self.settle(last, zone);
                asked = true;
                last
            }
        };
        if self.next.is_none_or(|next| next > now) {
            return Ok(asked);
        }
        let Due { fire, mut missed, settled } = due(&entry.cron, zone, misfire, last, now);
        let mut tell = || {
            if let Some(missed) = missed.take() {
                let missed = missed.to_zoned(zone.clone());
                tracing::warn!(
                    "the schedule of {} was missed from {} on",
                    entry.what,
                    missed.strftime("%Y-%m-%d %H:%M:%S %Z")
                );
            }
        };
        for at in &fire {
            let ours = record(transport, &entry, *at, true)?;
            // If the next one is refused, this one is not fired again.
            self.settle(*at, zone);
            if ours {
                tell();
            }
        }
        if fire.is_empty() && settled > last && record(transport, &entry, settled, false)? {
            tell();
        }
        self.settle(settled, zone);
        Ok(asked || !fire.is_empty())
    }

    fn settle(&mut self, last: Timestamp, zone: &TimeZone) {
        self.last = Some(last);
        self.next = self.entry.cron.next(last, zone);
    }
}

/// Up to when a schedule is settled. A store that does not know begins anew with each host.
fn last(
    transport: &mut dyn Transport,
    entry: &Entry,
    now: Timestamp,
) -> Result<Timestamp, TransportError> {
    if !transport.features().schedules {
        return Ok(now);
    }
    let since = rex_transport::Timestamp(now.as_microsecond());
    let last = transport.last_occasion(&entry.key, since)?;
    Ok(Timestamp::from_microsecond(last.0).unwrap_or(now))
}

/// Settles a schedule up to `at`, with a task or without; `false` when another host did so.
fn record(
    transport: &mut dyn Transport,
    entry: &Entry,
    at: Timestamp,
    fire: bool,
) -> Result<bool, TransportError> {
    let tasks = if fire { vec![entry.task()] } else { Vec::new() };
    let micros = rex_transport::Timestamp(at.as_microsecond());
    let ours = if transport.features().schedules {
        transport.record_occasion(&entry.key, micros, &tasks)?
    } else {
        transport.submit(&tasks)?;
        true
    };
    if ours && fire {
        tracing::debug!(logger = MASTER, "Triggering scheduled execution of {}", entry.worker);
    }
    Ok(ours)
}

#[cfg(test)]
mod tests;
