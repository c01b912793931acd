//! The thread that fires schedules. It has a connection of its own to the store, so that a slow store
//! holds up neither it nor the host's loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rex_transport::{Transport, TransportError};

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
            let last = match known {
                Some(known) => old.swap_remove(known).last,
                None => {
                    tracing::info!(
                        logger = MASTER,
                        "Scheduling \"{}\" for {}",
                        entry.what,
                        entry.times()
                    );
                    None
                }
            };
            let next = last.and_then(|last| entry.cron.next(last, &self.zone));
            self.entries.push(Scheduled { entry, last, next });
        }
    }

    /// Fires what is due; says how long there is nothing to do.
    fn fire(&mut self) -> Result<Duration, TransportError> {
        let Some(misfire) = self.misfire else { return Ok(LOOK) };
        let mut wait = LOOK;
        for scheduled in &mut self.entries {
            let now = Timestamp::now();
            let entry = &scheduled.entry;
            let last = match scheduled.last {
                Some(last) => last,
                None => last(&mut *self.transport, entry, now)?,
            };
            if scheduled.last.is_none() {
                scheduled.last = Some(last);
                scheduled.next = entry.cron.next(last, &self.zone);
            }
            if scheduled.next.is_some_and(|next| next <= now) {
                let Due { fire, missed, settled } =
                    due(&entry.cron, &self.zone, misfire, last, now);
                let mut ours = false;
                for at in &fire {
                    ours |= record(&mut *self.transport, entry, *at, true)?;
                }
                if fire.is_empty() && settled > last {
                    ours = record(&mut *self.transport, entry, settled, false)?;
                }
                if let Some(missed) = missed.filter(|_| ours) {
                    let missed = missed.to_zoned(self.zone.clone());
                    tracing::warn!(
                        "the schedule of {} was missed from {} on",
                        entry.what,
                        missed.strftime("%Y-%m-%d %H:%M:%S %Z")
                    );
                }
                scheduled.last = Some(settled);
                scheduled.next = entry.cron.next(settled, &self.zone);
            }
            if let Some(next) = scheduled.next {
                let until = next.duration_since(Timestamp::now());
                wait = wait.min(until.try_into().unwrap_or(Duration::ZERO));
            }
        }
        Ok(wait)
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
