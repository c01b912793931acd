//! Breaks things while numbered tasks are worked, at moments that are drawn as "after so many more
//! tasks", and judges at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rex_test_support::env::{Env, target_dir};
use rex_test_support::plugins;
use rex_test_support::process::{Process, wait_for};
use serde_json::{Value, json};

use crate::ground::{Blow, Ground};
use crate::hosts::{Host, Life, OWNER_TIMEOUT, on};
use crate::journal::Journal;
use crate::seed::Seed;
use crate::verdict;

const HOSTS: usize = 3;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillWorker,
    KillHost,
    /// Shorter than others bear.
    StopHost,
    /// Longer.
    StopHostLong,
    LeaveAndJoin,
    Reload,
    Store(Blow),
}

const FAULTS: [Fault; 6] = [
    Fault::KillWorker,
    Fault::KillHost,
    Fault::StopHost,
    Fault::StopHostLong,
    Fault::LeaveAndJoin,
    Fault::Reload,
];

struct Chaos<'a> {
    env: &'a Env,
    ground: &'a mut dyn Ground,
    uri: String,
    seed: Seed,
    journal: Journal,
    hosts: Vec<Host>,
    lives: Vec<Life>,
    names: usize,
    numbers: u64,
    /// The tasks that are to be worked, and those that are told to die.
    expected: BTreeSet<u64>,
    doomed: BTreeSet<u64>,
    faults: BTreeMap<Fault, usize>,
}

/// Runs until `time` is over, then until all is worked.
///
/// # Panics
/// When the promise was broken.
pub(crate) fn run(ground: &mut dyn Ground, name: &str, seed: u64, time: Duration) {
    let env = Env::new();
    env.add_plugin(&plugins::built("witness"));
    let uri = ground.uri();
    let mut chaos = Chaos {
        env: &env,
        ground,
        uri,
        seed: Seed::new(seed),
        journal: Journal::new(env.path("journal")),
        hosts: Vec::new(),
        lives: Vec::new(),
        names: 0,
        numbers: 0,
        expected: BTreeSet::new(),
        doomed: BTreeSet::new(),
        faults: BTreeMap::new(),
    };
    let begun = Instant::now();
    for _ in 0..HOSTS {
        chaos.join();
    }
    let mut faults = Vec::new();
    while begun.elapsed() < time {
        // Every kind comes before any comes again.
        if faults.is_empty() {
            faults.extend(FAULTS);
            faults.extend(chaos.ground.blows().iter().map(|blow| Fault::Store(*blow)));
            chaos.seed.shuffle(&mut faults);
        }
        let more = 1 + chaos.seed.below(80);
        chaos.work(more);
        let fault = faults.pop().expect("there are some");
        if chaos.strike(fault) {
            *chaos.faults.entry(fault).or_default() += 1;
        }
    }
    chaos.finish(name, seed, begun);
}

impl Chaos<'_> {
    /// One more host.
    fn join(&mut self) {
        self.names += 1;
        let name = format!("host{}", self.names);
        let host = loop {
            match Host::start(self.env, &self.uri, &name) {
                Some(host) => break host,
                None => self.wake_the_stopped(),
            }
        };
        self.hosts.push(host);
    }

    fn outstanding(&mut self) -> usize {
        self.journal.read();
        self.expected.len() - self.journal.done.len()
    }

    /// Sees to it that there is enough to do, and waits until so many more tasks are done.
    fn work(&mut self, more: usize) {
        while self.outstanding() < more + 100 {
            self.submit(100);
        }
        let target = self.journal.done.len() + more;
        wait_for("progress", || {
            self.wake_the_stopped();
            self.journal.read();
            self.journal.done.len() >= target
        });
    }

    fn submit(&mut self, count: usize) {
        let lines: String = (0..count).fold(String::new(), |mut lines, _| {
            let (queue, payload) = self.task();
            let _ = writeln!(lines, "{}", json!({"queue": queue, "payload": payload}));
            lines
        });
        let [set, value] = on(&self.uri);
        wait_for("a submit", || {
            self.wake_the_stopped();
            let done = self.env.rex_host_with(&["submit", "--stdin", &set, &value], &lines);
            // A host that was stopped while it wrote keeps others from writing to its file. Nothing
            // was put in then.
            let texts = ["another process keeps it locked", "could not be acquired"];
            let locked = texts.iter().any(|text| done.stderr.contains(text));
            if !locked {
                done.ok();
            }
            !locked
        });
    }

    fn payload(&mut self, end: &str) -> Value {
        self.numbers += 1;
        let ms = if self.seed.rarely(3) { self.seed.below(30) } else { 0 };
        json!({"n": self.numbers, "ms": ms, "end": end, "log": self.env.path("journal")})
    }

    /// A new task: most just work, some ask for others, some die.
    fn task(&mut self) -> (&'static str, Value) {
        if self.seed.rarely(60) {
            const ENDS: [&str; 4] = ["fail", "panic", "exit", "abort"];
            let end = ENDS[self.seed.below(ENDS.len())];
            let payload = self.payload(end);
            self.doomed.insert(self.numbers);
            return ("doomed", payload);
        }
        if self.seed.rarely(60) {
            let payload = self.payload("give_up");
            self.doomed.insert(self.numbers);
            return ("steady", payload);
        }
        let mut payload = self.payload("ok");
        self.expected.insert(self.numbers);
        if self.seed.rarely(5) {
            let then: Vec<Value> = (0..=self.seed.below(3))
                .map(|_| {
                    let next = self.payload("ok");
                    self.expected.insert(self.numbers);
                    next
                })
                .collect();
            payload["then"] = json!(then);
        }
        ("steady", payload)
    }

    /// One of the hosts that run.
    fn any_host(&mut self) -> usize {
        let running: Vec<usize> =
            (0..self.hosts.len()).filter(|at| !self.hosts[*at].is_stopped()).collect();
        running[self.seed.below(running.len())]
    }

    /// Does it; `false` when there is nobody to do it to.
    fn strike(&mut self, fault: Fault) -> bool {
        let at = self.any_host();
        match fault {
            Fault::KillWorker => {
                // Rather one that is at work than one that waits or is in reserve.
                self.journal.read();
                let workers = self.hosts[at].workers();
                let busy = workers.iter().filter(|worker| self.journal.is_busy(worker.pid));
                let mut victims: Vec<&Process> = busy.collect();
                if victims.is_empty() {
                    victims.extend(&workers);
                }
                if victims.is_empty() {
                    return false;
                }
                let victim = victims[self.seed.below(victims.len())];
                self.hosts[at].kill_worker(victim);
            }
            Fault::KillHost => {
                let life = self.hosts.swap_remove(at).kill();
                self.lives.push(life);
                self.join();
            }
            Fault::StopHost => {
                self.hosts[at].stop();
                let more = 1 + self.seed.below(20);
                self.work(more);
                // The others may have been struck, too.
                self.hosts[at].go_on();
            }
            // One at a time: the others go on meanwhile, and are struck.
            Fault::StopHostLong => {
                if self.hosts.iter().any(Host::is_stopped) {
                    return false;
                }
                self.hosts[at].stop();
            }
            Fault::LeaveAndJoin => {
                // Which a stopped host can hold up by a lock that it has.
                let life = self.hosts.swap_remove(at).leave(|| self.wake_the_stopped());
                self.lives.push(life);
                self.join();
            }
            Fault::Reload => self.reload(at),
            Fault::Store(blow) => {
                let hosts = &self.hosts;
                self.ground.strike(blow, &mut self.seed, &mut || {
                    wait_for("the hosts to notice", || {
                        hosts.iter().all(|host| host.is_stopped() || host.is_without_store())
                    });
                });
            }
        }
        true
    }

    /// Another build of the plugin, put in service by command on one host and by signal on others.
    fn reload(&mut self, at: usize) {
        let mut library = std::fs::read(plugins::built("witness")).expect("it was built");
        library.extend(self.numbers.to_le_bytes());
        let changed = self.env.path("libwitness.so");
        std::fs::write(&changed, library).expect("the folder is ours");
        self.env.add_plugin(&changed);
        for (other, host) in self.hosts.iter().enumerate() {
            if other != at {
                host.hang_up();
            }
        }
        let [set, value] = on(&self.uri);
        self.env.rex_host(&["reload", "--state", &self.hosts[at].name, &set, &value]).ok();
    }

    /// Continues who has been stopped for long enough to have been taken over.
    fn wake_the_stopped(&mut self) {
        let long = OWNER_TIMEOUT * 2;
        for host in self.hosts.iter_mut().filter(|host| host.stopped_for() > long) {
            host.go_on();
        }
    }

    fn finish(mut self, name: &str, seed: u64, begun: Instant) {
        wait_for("the stopped to be woken", || {
            self.wake_the_stopped();
            !self.hosts.iter().any(Host::is_stopped)
        });
        let [set, value] = on(&self.uri);
        let list = |what: &[&str]| {
            let args = [what, &["list", "--json", &set, &value]].concat();
            self.env.rex_host(&args).json_lines()
        };
        let mut left = usize::MAX;
        wait_for("all tasks to be worked", || {
            self.journal.read();
            let before =
                std::mem::replace(&mut left, self.expected.len() - self.journal.done.len());
            let kept = |status: &Value| {
                ["waiting", "delayed", "in_flight"].iter().any(|kind| status[kind] != 0)
            };
            // Twice: some stores are not looked at as they are at one moment.
            let is_empty = || !list(&["queue"]).iter().any(kept);
            left == 0 && before == 0 && is_empty() && is_empty()
        });
        let letters: Vec<u64> = list(&["dlq"])
            .iter()
            .map(|letter| letter["payload"]["n"].as_u64().expect("a number"))
            .collect();
        for host in std::mem::take(&mut self.hosts) {
            self.lives.push(host.leave(|| ()));
        }
        self.journal.read();
        let verdict = verdict::judge(
            &self.journal.runs,
            &self.lives,
            &self.expected,
            &self.doomed,
            &letters,
            self.ground.allows(),
        );
        let refused: usize = self.lives.iter().map(|life| life.refused).sum();
        let outages: usize = self.lives.iter().map(|life| life.outages.len()).sum();
        let longest = self.lives.iter().flat_map(|life| &life.outages);
        let longest = longest.map(|(from, to)| to - from).max().unwrap_or_default();
        let report = format!(
            "chaos: {name}: seed {seed}, {:.0} s, {} hosts in all\n\
             chaos: {name}: faults {:?}\n\
             chaos: {name}: {} tasks worked, {} told to die, {} runs, {} retries of killed workers' \
             tasks\n\
             chaos: {name}: worked twice {:?}, outcomes refused {refused}\n\
             chaos: {name}: {outages} times a host was without the store, {:.1} s at most",
            begun.elapsed().as_secs_f64(),
            self.lives.len(),
            self.faults,
            self.expected.len(),
            self.doomed.len(),
            self.journal.runs.len(),
            verdict.retries,
            verdict.duplicates,
            Duration::from_nanos(longest).as_secs_f64(),
        );
        println!("{report}");
        if verdict.broken.is_empty() {
            return;
        }
        let kept = target_dir().join(format!("chaos-{name}"));
        let _old = std::fs::remove_dir_all(&kept);
        std::fs::create_dir_all(&kept).expect("the target directory is ours");
        for life in &self.lives {
            let file = kept.join(format!("{}.log", life.pid));
            std::fs::write(file, &life.log).expect("the target directory is ours");
        }
        std::fs::copy(self.env.path("journal"), kept.join("journal")).expect("as are all");
        let broken = verdict.broken.join("\n");
        panic!("seed {seed}, logs of the hosts in {}:\n{broken}", kept.display());
    }
}
