//! The hosts under test: started, killed, stopped and continued, each with what was done to it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rex_test_support::env::Env;
use rex_test_support::process::{Process, Running, descendants, wait_for};
use serde_json::{Value, json};

/// How long a host may be silent, and may have no connection, before others take its tasks.
pub(crate) const OWNER_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const RESCUE_GRACE: Duration = Duration::from_secs(4);

/// What a host logs of an outage.
const AWAY: &str = "the queue store is away";
const REFUSES: &str = "the queue store refuses this host";
const BACK: &str = "the queue store is back after ";
/// And where it waits for the store, before that is an outage.
const SILENT: &str = "the queue store has not answered for ";
const REFUSED: &str = "the queue store has refused this host for ";
const ANSWERS: &str = "the queue store answers";

/// A span of the machine's clock, in nanoseconds.
pub(crate) type Span = (u64, u64);

/// One process of `rex-host run` from start to end.
pub(crate) struct Life {
    pub(crate) pid: i32,
    /// From just before to when nothing of it was left.
    pub(crate) killed: Option<Span>,
    pub(crate) stops: Vec<Span>,
    /// When it could not reach the store, by its own log.
    pub(crate) outages: Vec<Span>,
    /// When the store did not answer, as where a stopped host has locked it.
    pub(crate) silences: Vec<Span>,
    /// Outcomes of its that did not count, by its own log.
    pub(crate) refused: usize,
    /// The workers that were killed, and when.
    pub(crate) workers: Vec<(i32, u64)>,
    /// All that it wrote.
    pub(crate) log: String,
}

pub(crate) struct Host {
    /// Its state directory.
    pub(crate) name: String,
    running: Running,
    life: Life,
    stopped: Option<u64>,
}

pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    u64::try_from(now.as_nanos()).expect("it fits")
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("it fits")
}

/// The arguments that point a command at the store.
pub(crate) fn on(uri: &str) -> [String; 2] {
    ["--set".to_owned(), format!("asynctask_transport={uri}")]
}

impl Host {
    /// A host that has reached the store and started its workers; `None` where another one was stopped
    /// with the store's lock in its hand.
    pub(crate) fn start(env: &Env, uri: &str, name: &str) -> Option<Host> {
        let queue = |processes: u32, max_attempts: u32| {
            json!({"worker": "witness_worker", "processes": processes, "max_attempts": max_attempts,
                "backoff": {"initial": 0.05, "max": 1}})
        };
        let workers = json!({"steady": queue(2, 1000), "doomed": queue(1, 2)});
        let plugins = env.path("plugins").display().to_string();
        let sets = [
            format!("asynctask_workers={workers}"),
            format!("asynctask_transport={uri}"),
            format!("asynctask_rescue_grace={}", RESCUE_GRACE.as_secs()),
            format!("asynctask_owner_timeout={}", OWNER_TIMEOUT.as_secs()),
        ];
        let mut args = vec!["run", "rex.asynctask", "--plugins", &plugins, "--state", name];
        args.extend(["--log-format", "json"]);
        args.extend(sets.iter().flat_map(|set| ["--set", set.as_str()]));
        let running = env.start(&args);
        let process = Process::find(running.pid());
        let serves = || running.output().contains("Starting; queue=steady");
        wait_for("a host to serve", || {
            serves() || !process.as_ref().is_some_and(Process::is_alive)
        });
        if !serves() {
            let (_, output) = running.wait();
            assert!(output.contains("another process keeps it locked"), "{output}");
            return None;
        }
        let life = Life {
            pid: running.pid(),
            killed: None,
            stops: Vec::new(),
            outages: Vec::new(),
            silences: Vec::new(),
            refused: 0,
            workers: Vec::new(),
            log: String::new(),
        };
        Some(Host { name: name.to_owned(), running, life, stopped: None })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.running.pid()
    }

    /// Whether it has said that it cannot reach the store, and not that it can again.
    pub(crate) fn is_without_store(&self) -> bool {
        let output = self.running.output();
        output.matches(AWAY).count() + output.matches(REFUSES).count()
            > output.matches(BACK).count()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Its worker processes; one in reserve among them.
    pub(crate) fn workers(&self) -> Vec<Process> {
        let mut workers = descendants(self.pid());
        workers.sort_by_key(|worker| worker.pid);
        workers
    }

    pub(crate) fn kill_worker(&mut self, worker: &Process) {
        worker.kill();
        wait_for("the worker's end", || !worker.is_alive());
        self.life.workers.push((worker.pid, now()));
    }

    pub(crate) fn stop(&mut self) {
        self.stopped = Some(now());
        self.running.signal(libc::SIGSTOP);
    }

    /// How long it has been stopped.
    pub(crate) fn stopped_for(&self) -> Duration {
        self.stopped.map_or(Duration::ZERO, |since| Duration::from_nanos(now() - since))
    }

    pub(crate) fn go_on(&mut self) {
        self.running.signal(libc::SIGCONT);
        if let Some(since) = self.stopped.take() {
            self.life.stops.push((since, now()));
        }
    }

    pub(crate) fn hang_up(&self) {
        self.running.signal(libc::SIGHUP);
    }

    /// Kills it, with its workers.
    pub(crate) fn kill(mut self) -> Life {
        let workers = self.workers();
        let begun = now();
        self.running.signal(libc::SIGKILL);
        let (_, output) = self.running.wait();
        // They die with it, but not in the same instant.
        wait_for("its workers' end", || !workers.iter().any(Process::is_alive));
        self.life.killed = Some((begun, now()));
        read_log(self.life, output)
    }

    /// Has it end in good order, while the others are seen to.
    pub(crate) fn leave(self, mut meanwhile: impl FnMut()) -> Life {
        let process = Process::find(self.pid());
        self.running.signal(libc::SIGTERM);
        wait_for("a host's end", || {
            meanwhile();
            !process.as_ref().is_some_and(Process::is_alive)
        });
        let output = self.running.wait_ok();
        read_log(self.life, output)
    }
}

/// What a host said about its connection and its claims.
fn read_log(mut life: Life, output: String) -> Life {
    let mut silent = None;
    for line in output.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let message = line["message"].as_str().unwrap_or_default();
        let time = || {
            let time = line["time"].as_str().expect("a time").parse::<jiff::Timestamp>();
            u64::try_from(time.expect("a time").as_nanosecond()).expect("after 1970")
        };
        let before = |rest: &str| {
            let (seconds, _) = rest.split_once(" s").expect("a number of seconds");
            time() - nanos(Duration::from_secs_f64(seconds.parse().expect("a number")))
        };
        if let Some(rest) = message.strip_prefix(BACK) {
            life.outages.push((before(rest), time()));
        }
        let silence = message.strip_prefix(SILENT).or_else(|| message.strip_prefix(REFUSED));
        if let Some(rest) = silence {
            silent = Some(before(rest));
        }
        if message.starts_with(ANSWERS) {
            life.silences.extend(silent.take().map(|since| (since, time())));
        }
        let refused = message.split_once(" are no longer this host's");
        if let Some(tasks) = refused.and_then(|(tasks, _)| tasks.strip_prefix("tasks ")) {
            life.refused += tasks.split(", ").count();
        }
    }
    life.log = output;
    life
}
