//! The way back to the host: answers, log lines in step with prints, and the plugin's requests.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use rex_plugin_api::Level;
use rex_plugin_api::abi::{self, Buffer};
use rex_plugin_api::ops;
use rex_transport::{Payload, QueueName};

use super::leash;
use crate::wire::{self, Answer, Marker, Request, Start, ToHost};

pub(super) struct Link {
    out: Mutex<Out>,
    /// `seq` of the task that runs; 0 between tasks.
    task: AtomicU64,
    /// `seq` of the last task that has asked for another one.
    asked: AtomicU64,
    /// Tasks up to this one should come to an end.
    notice: AtomicU64,
    role: OnceLock<Role>,
    /// Who logs instead of the worker: a job's executor.
    speaker: Mutex<Option<(String, Level)>>,
    replies: Mutex<Replies>,
    replied: Condvar,
}

/// What the host was asked for.
#[derive(Default)]
struct Replies {
    asked: u64,
    here: HashMap<u64, Result<(), String>>,
}

struct Out {
    socket: UnixStream,
    /// Copies of standard output and error as the host gave them, whatever the plugin does to its
    /// own.
    pipes: [File; 2],
    marker: Marker,
    markers: u64,
}

/// What this process was started as.
struct Role {
    logger: String,
    level: Level,
    payload_limit: usize,
}

impl Link {
    pub(super) fn new(socket: UnixStream, nonce: u64) -> io::Result<Link> {
        let pipes = leash::copies_of_output()?;
        let marker = Marker::new(nonce);
        Ok(Link {
            out: Mutex::new(Out { socket, pipes, marker, markers: 0 }),
            task: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            notice: AtomicU64::new(0),
            role: OnceLock::new(),
            speaker: Mutex::default(),
            replies: Mutex::default(),
            replied: Condvar::new(),
        })
    }

    pub(super) fn begin(&self, start: &Start) {
        let role = Role {
            logger: start.logger.clone(),
            level: start.level,
            payload_limit: start.payload_limit,
        };
        // A worker is started once; `worker::run` asks for no second start.
        let _ = self.role.set(role);
    }

    /// Whether that task has asked for another one, and none has after it.
    pub(super) fn has_asked(&self, seq: u64) -> bool {
        self.asked.load(Ordering::Acquire) == seq
    }

    pub(super) fn set_task(&self, seq: u64) {
        self.task.store(seq, Ordering::Release);
    }

    pub(super) fn give_notice(&self, seq: u64) {
        self.notice.fetch_max(seq, Ordering::AcqRel);
    }

    fn should_stop(&self) -> bool {
        let task = self.task.load(Ordering::Acquire);
        task != 0 && task <= self.notice.load(Ordering::Acquire)
    }

    /// Has log lines be another's than the worker's; `None`: the worker's again.
    pub(super) fn speak_as(&self, speaker: Option<(String, Level)>) {
        *lock(&self.speaker) = speaker;
    }

    /// Asks the host for what only it can do, and waits until it has answered.
    pub(super) fn ask(&self, request: Request) -> Result<(), String> {
        let seq = self.task.load(Ordering::Acquire);
        let mut replies = lock(&self.replies);
        replies.asked += 1;
        let ask = replies.asked;
        drop(replies);
        self.send(0, Answer::Ask { seq, ask, request })
            .map_err(|error| format!("the host is gone: {error}"))?;
        let mut replies = lock(&self.replies);
        loop {
            if let Some(result) = replies.here.remove(&ask) {
                return result;
            }
            // A host that is gone ends this process.
            replies = self.replied.wait(replies).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn take_reply(&self, ask: u64, result: Result<(), String>) {
        lock(&self.replies).here.insert(ask, result);
        self.replied.notify_all();
    }

    pub(super) fn logs(&self, level: Level) -> bool {
        self.role.get().is_some_and(|role| level >= role.level)
    }

    /// Sends a log line of the worker's logger, after what was printed so far.
    pub(super) fn log(&self, level: Level, text: &str) -> io::Result<()> {
        self.record(false, level, text.to_owned())
    }

    fn record(&self, plugin: bool, level: Level, text: String) -> io::Result<()> {
        let Some(role) = self.role.get() else { return Ok(()) };
        let speaker = lock(&self.speaker).clone();
        let (logger, from) = speaker.unwrap_or_else(|| (role.logger.clone(), role.level));
        if level < from {
            return Ok(());
        }
        let seq = self.task.load(Ordering::Acquire);
        self.send_in_order(Answer::Log { seq, plugin, level, logger, text })
    }

    /// Sends an answer that prints need not wait for.
    pub(super) fn send(&self, marker: u64, body: Answer) -> io::Result<()> {
        wire::send(&mut self.lock().socket, &ToHost { marker, body })
    }

    /// Sends an answer that comes after everything printed so far.
    pub(super) fn send_in_order(&self, body: Answer) -> io::Result<()> {
        let mut out = self.lock();
        let marker = out.mark();
        wire::send(&mut out.socket, &ToHost { marker, body })
    }

    pub(super) fn say_goodbye(&self) -> io::Result<()> {
        self.send_in_order(Answer::Goodbye)
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        lock(&self.out)
    }

    fn update_facet(&self, input: &[u8]) -> Result<(), String> {
        let facet: ops::Facet = serde_json::from_slice(input).map_err(|e| e.to_string())?;
        let fields = serde_json::to_string(&facet.fields).map_err(|e| e.to_string())?;
        self.ask(Request::Facet { table: facet.table, fields })
    }

    fn report(&self, input: &[u8]) -> Result<(), String> {
        let ops::Progress { fraction, text } =
            serde_json::from_slice(input).map_err(|e| e.to_string())?;
        let seq = self.task.load(Ordering::Acquire);
        self.send(0, Answer::Progress { seq, fraction, text })
            .map_err(|error| format!("the host is gone: {error}"))
    }

    fn submit(&self, input: &[u8]) -> Result<(), String> {
        let request: ops::Submit = serde_json::from_slice(input).map_err(|e| e.to_string())?;
        let seq = self.task.load(Ordering::Acquire);
        let Some(role) = self.role.get().filter(|_| seq != 0) else {
            return Err("tasks can be submitted only while one is processed".to_owned());
        };
        if let Some(queue) = &request.queue {
            QueueName::parse(queue).map_err(|error| error.to_string())?;
        }
        let payload = Payload::parse(&request.payload, role.payload_limit)
            .map_err(|error| error.to_string())?;
        let payload = payload.as_str().to_owned();
        self.asked.store(seq, Ordering::Release);
        self.send(0, Answer::Submit { seq, queue: request.queue, payload })
            .map_err(|error| format!("the host is gone: {error}"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Out {
    /// Marks both pipes; 0 when a pipe is gone, since nothing can come out of it any more.
    fn mark(&mut self) -> u64 {
        self.markers += 1;
        let bytes = self.marker.bytes(self.markers);
        for pipe in &mut self.pipes {
            if pipe.write_all(&bytes).is_err() {
                return 0;
            }
        }
        self.markers
    }
}

impl abi::Host for Link {
    fn call(&self, op: u32, input: &[u8], output: &mut Buffer) -> u32 {
        let result = match op {
            ops::HOST_LOG => serde_json::from_slice::<ops::Log>(input)
                .map_err(|error| error.to_string())
                .and_then(|log| self.record(true, log.level, log.text).map_err(|e| e.to_string())),
            ops::HOST_SUBMIT => self.submit(input),
            ops::HOST_UPDATE_FACET => self.update_facet(input),
            ops::HOST_PROGRESS => self.report(input),
            ops::HOST_SHOULD_STOP => {
                output.set(if self.should_stop() { b"1" } else { b"0" });
                return ops::OK;
            }
            _ => {
                output.set(ops::API.to_string().as_bytes());
                return ops::UNKNOWN_OP;
            }
        };
        match result {
            Ok(()) => {
                output.clear();
                ops::OK
            }
            Err(text) => {
                output.set(text.as_bytes());
                ops::FAILED
            }
        }
    }
}
