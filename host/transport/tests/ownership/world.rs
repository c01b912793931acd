//! A store and its hosts, one small step at a time. A step of a host is what it does between two
//! moments at which others may come in: one statement or transaction, or one move of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rex_transport::ownership::{Patience, Sighting, Verdict, judge, may_start};

pub(crate) const HOSTS: usize = 3;
const TASKS: usize = 6;
/// In one claim.
const BATCH: usize = 2;

/// In units of time, as all times here.
const BEAT: u64 = 10;
const GRACE: u64 = 20;
const OWNER_TIMEOUT: u64 = 60;

fn time(units: u64) -> Duration {
    Duration::from_secs(units)
}

/// Which rules are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// An outcome counts only while its claim is its owner's.
    pub(crate) fence: bool,
    /// A free lock is not at once a death.
    pub(crate) grace: bool,
    /// Nothing is started after a time without the store.
    pub(crate) lease: bool,
    /// Claims of the dead are taken back.
    pub(crate) rescue: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { fence: true, grace: true, lease: true, rescue: true }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Wait(u64),
    /// The host does what comes next.
    Work(usize),
    /// Its connection ends, and both sides know.
    Break(usize),
    /// Nothing gets through, and neither side knows.
    Cut(usize),
    Heal(usize),
    Stop(usize),
    Continue(usize),
    Crash(usize),
    Boot(usize),
    StoreDown,
    StoreUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    /// In a claim.
    Claimed(u64),
    Recorded,
}

/// A row of `rex_owners`.
#[derive(Debug)]
struct Row {
    host: usize,
    /// Which start of the host.
    life: u64,
    beats: u64,
    beaten: u64,
    free_since: Option<u64>,
}

#[derive(Debug, Default)]
struct Store {
    up: bool,
    up_since: u64,
    places: Vec<Place>,
    /// How often an outcome was written, with the submits that go with it.
    records: Vec<u32>,
    owners: BTreeMap<u64, Row>,
    /// Claims and whose they are.
    claims: BTreeMap<u64, u64>,
    /// Connections, by the host's life that made them; whether its lock is held by it.
    sessions: BTreeMap<u64, (u64, bool)>,
    last: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    None,
    /// Made; the steps of registering that are left.
    Registering(u64, u8),
    Ready(u64),
}

#[derive(Debug)]
struct Host {
    up: bool,
    /// One number a start.
    life: u64,
    stopped: bool,
    cut: bool,
    connection: Connection,
    owner: Option<u64>,
    last_beat: Option<u64>,
    /// Seen and not yet acted upon: owner, beats, what was seen.
    seen: Vec<(u64, u64, Sighting)>,
    /// Claimed and not started.
    feed: Vec<(u64, usize)>,
    running: Option<(u64, usize)>,
    finished: Vec<(u64, usize)>,
}

pub(crate) struct World {
    rules: Rules,
    now: u64,
    store: Store,
    hosts: Vec<Host>,
}

type Outcome = Result<(), String>;

impl World {
    /// Takes the steps, then lets everybody be healthy until all is done.
    ///
    /// # Errors
    /// Which promise was broken, in words.
    pub(crate) fn run(rules: Rules, steps: &[Step]) -> Outcome {
        let mut world = World::new(rules);
        for step in steps {
            world.take(*step)?;
        }
        world.take(Step::StoreUp)?;
        for host in 0..HOSTS {
            for step in [Step::Heal(host), Step::Continue(host), Step::Boot(host)] {
                world.take(step)?;
            }
        }
        for _ in 0..2000 {
            if world.store.places.iter().all(|place| *place == Place::Recorded) {
                break;
            }
            for host in 0..HOSTS {
                world.take(Step::Work(host))?;
            }
            world.take(Step::Wait(1))?;
        }
        for (task, place) in world.store.places.iter().enumerate() {
            if *place != Place::Recorded {
                return Err(format!("task {task} is lost: {place:?}"));
            }
        }
        Ok(())
    }

    fn new(rules: Rules) -> World {
        let store = Store {
            up: true,
            places: vec![Place::Waiting; TASKS],
            records: vec![0; TASKS],
            ..Store::default()
        };
        let mut world = World { rules, now: 100, store, hosts: Vec::new() };
        for _ in 0..HOSTS {
            let life = world.store.next();
            world.hosts.push(Host::new(life));
        }
        world
    }

    fn take(&mut self, step: Step) -> Outcome {
        match step {
            Step::Wait(time) => self.now += time,
            Step::Work(at) => {
                let host = &self.hosts[at];
                if host.up && !host.stopped {
                    self.work(at)?;
                } else if host.up {
                    // Its workers are not stopped.
                    self.end_running(at);
                }
            }
            Step::Break(at) => {
                if let Some(session) = self.hosts[at].session() {
                    self.store.sessions.remove(&session);
                }
            }
            Step::Cut(at) => self.hosts[at].cut = true,
            Step::Heal(at) => self.hosts[at].cut = false,
            Step::Stop(at) => self.hosts[at].stopped = true,
            Step::Continue(at) => self.hosts[at].stopped = false,
            Step::Crash(at) => {
                self.hosts[at].up = false;
                if let Some(session) = self.hosts[at].session().filter(|_| !self.hosts[at].cut) {
                    self.store.sessions.remove(&session);
                }
            }
            Step::Boot(at) => {
                if !self.hosts[at].up {
                    self.hosts[at] = Host::new(self.store.next());
                }
            }
            Step::StoreDown => {
                self.store.up = false;
                self.store.sessions.clear();
            }
            Step::StoreUp => {
                if !self.store.up {
                    self.store.up = true;
                    self.store.up_since = self.now;
                }
            }
        }
        Ok(())
    }

    /// The next thing a host does: it beats and looks around when it is time, records, starts, ends,
    /// claims.
    fn work(&mut self, at: usize) -> Outcome {
        let now = self.now;
        let host = &self.hosts[at];
        let since = host.last_beat.map(|beat| now - beat);
        let is_due = since.is_none_or(|since| since >= BEAT);
        let may_start =
            !self.rules.lease || since.is_some_and(|since| may_start(time(since), time(GRACE)));
        if host.running.is_none() && !host.feed.is_empty() && may_start {
            let (claim, task) = self.hosts[at].feed.remove(0);
            let mine = self.hosts[at].owner;
            if self.store.places[task] != Place::Claimed(claim)
                || self.store.claims.get(&claim).copied() != mine
            {
                return Err(format!("host {at} starts task {task}, which is not its own"));
            }
            self.hosts[at].running = Some((claim, task));
            return Ok(());
        }
        let reaches = self.store.up && !host.cut;
        if !reaches || !(is_due || host.running.is_none() || !host.seen.is_empty()) {
            self.end_running(at);
            return Ok(());
        }
        match host.connection {
            Connection::None => self.connect(at),
            Connection::Registering(session, _) | Connection::Ready(session)
                if !self.store.sessions.contains_key(&session) =>
            {
                self.hosts[at].connection = Connection::None;
            }
            Connection::Registering(session, left) => self.register(at, session, left),
            Connection::Ready(_) if !host.seen.is_empty() => self.act(at)?,
            Connection::Ready(_) if is_due => self.beat(at),
            Connection::Ready(_) if !host.finished.is_empty() => self.finish(at)?,
            Connection::Ready(_) if host.feed.is_empty() => self.claim(at),
            Connection::Ready(_) => {}
        }
        Ok(())
    }

    fn end_running(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let ended = host.running.take();
        host.finished.extend(ended);
    }

    fn connect(&mut self, at: usize) {
        let session = self.store.next();
        self.store.sessions.insert(session, (self.hosts[at].life, false));
        self.hosts[at].connection = Connection::Registering(session, 3);
        // A look and what it calls for are one call, which has failed.
        self.hosts[at].seen.clear();
    }

    /// A sign of life, the lock, the row: three statements.
    fn register(&mut self, at: usize, session: u64, left: u8) {
        let life = self.hosts[at].life;
        match left {
            3 => drop(self.renew(at)),
            2 => {
                // A former session of its own is ended.
                self.store.sessions.retain(|id, (of, _)| *of != life || *id == session);
                self.store.sessions.insert(session, (life, true));
            }
            _ => {
                if !self.renew(at) {
                    self.enter(at);
                }
                self.hosts[at].connection = Connection::Ready(session);
                return;
            }
        }
        self.hosts[at].connection = Connection::Registering(session, left - 1);
    }

    /// Beats in the owner's row, if it is there.
    fn renew(&mut self, at: usize) -> bool {
        let row = self.hosts[at].owner.and_then(|no| self.store.owners.get_mut(&no));
        let Some(row) = row else { return false };
        row.beats += 1;
        row.beaten = self.now;
        row.free_since = None;
        true
    }

    /// A new row; what was held is others'.
    fn enter(&mut self, at: usize) {
        let no = self.store.next();
        let life = self.hosts[at].life;
        let row = Row { host: at, life, beats: 0, beaten: self.now, free_since: None };
        self.store.owners.insert(no, row);
        let host = &mut self.hosts[at];
        host.owner = Some(no);
        host.feed.clear();
    }

    /// A beat, and a look at the others in the same call.
    fn beat(&mut self, at: usize) {
        if !self.renew(at) {
            self.enter(at);
        }
        let (now, mine) = (self.now, self.hosts[at].owner);
        self.hosts[at].last_beat = Some(now);
        if !self.rules.rescue {
            return;
        }
        let others = self.store.owners.iter().filter(|(no, _)| Some(**no) != mine);
        let seen = others.map(|(no, row)| {
            let holds_lock = self.store.sessions.values().any(|held| *held == (row.life, true));
            let other = &self.hosts[row.host];
            let sighting = Sighting {
                // Hosts 0 and 1 are on one machine.
                provably_dead: at < 2 && row.host < 2 && (other.life != row.life || !other.up),
                holds_lock,
                silent_for: time(now - row.beaten),
                missing_for: row.free_since.map(|since| time(now - since)),
                store_up_for: time(now - self.store.up_since),
            };
            (*no, row.beats, sighting)
        });
        self.hosts[at].seen = seen.collect();
    }

    /// Does what the look at another owner calls for, unless it has beaten since.
    fn act(&mut self, at: usize) -> Outcome {
        let Some((no, beats, seen)) = self.hosts[at].seen.pop() else { return Ok(()) };
        let Some(row) = self.store.owners.get_mut(&no).filter(|row| row.beats == beats) else {
            return Ok(());
        };
        let patience = Patience { grace: time(GRACE), owner_timeout: time(OWNER_TIMEOUT) };
        match judge(&seen, &patience) {
            Verdict::Lives => {}
            Verdict::Missing if self.rules.grace => {
                let since = row.free_since.filter(|since| *since >= self.store.up_since);
                row.free_since = Some(since.unwrap_or(self.now));
            }
            Verdict::Missing | Verdict::Dead => {
                let (robbed, life) = (row.host, row.life);
                let other = &self.hosts[robbed];
                if other.up && other.life == life {
                    // What it could do while the store was away is nobody's fault.
                    let seen = other.last_beat.unwrap_or(row.beaten).max(self.store.up_since);
                    if self.now - seen <= GRACE {
                        let time = self.now - seen;
                        return Err(format!("host {robbed} was taken for dead after {time}"));
                    }
                }
                self.store.owners.remove(&no);
                let claims: BTreeSet<u64> = self
                    .store
                    .claims
                    .iter()
                    .filter(|(_, owner)| **owner == no)
                    .map(|(claim, _)| *claim)
                    .collect();
                for place in &mut self.store.places {
                    if matches!(place, Place::Claimed(claim) if claims.contains(claim)) {
                        *place = Place::Waiting;
                    }
                }
                self.store.claims.retain(|claim, _| !claims.contains(claim));
                self.store.sessions.retain(|_, (of, _)| *of != life);
            }
        }
        Ok(())
    }

    fn claim(&mut self, at: usize) {
        // The claim refers to the owner's row.
        if !self.hosts[at].owner.is_some_and(|no| self.store.owners.contains_key(&no)) {
            self.enter(at);
        }
        let waiting = (0..TASKS).filter(|task| self.store.places[*task] == Place::Waiting);
        let tasks: Vec<usize> = waiting.take(BATCH).collect();
        let (Some(owner), false) = (self.hosts[at].owner, tasks.is_empty()) else { return };
        let claim = self.store.next();
        self.store.claims.insert(claim, owner);
        for task in tasks {
            self.store.places[task] = Place::Claimed(claim);
            self.hosts[at].feed.push((claim, task));
        }
    }

    fn finish(&mut self, at: usize) -> Outcome {
        for (claim, task) in std::mem::take(&mut self.hosts[at].finished) {
            let is_ours = self.store.places[task] == Place::Claimed(claim)
                && self.store.claims.get(&claim).copied() == self.hosts[at].owner;
            if is_ours || !self.rules.fence {
                self.store.places[task] = Place::Recorded;
                self.store.records[task] += 1;
                if self.store.records[task] > 1 {
                    let times = self.store.records[task];
                    return Err(format!("task {task} was recorded {times} times"));
                }
            }
        }
        Ok(())
    }
}

impl Store {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Host {
    fn new(life: u64) -> Host {
        Host {
            up: true,
            life,
            stopped: false,
            cut: false,
            connection: Connection::None,
            owner: None,
            last_beat: None,
            seen: Vec::new(),
            feed: Vec::new(),
            running: None,
            finished: Vec::new(),
        }
    }

    fn session(&self) -> Option<u64> {
        match self.connection {
            Connection::None => None,
            Connection::Registering(session, _) | Connection::Ready(session) => Some(session),
        }
    }
}
