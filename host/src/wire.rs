//! The conversation between the host and one worker process: frames over a socketpair.
//!
//! A frame is a `u32` length (little endian) and a postcard-encoded [`ToWorker`] or [`ToHost`].
//! Both ends are the same binary, even when its file was replaced, so the encoding needs no versions.
//!
//! Answers are batched, and the two pipes that carry what a plugin prints run beside the socket.
//! To put both back in order a worker writes a [`Marker`] into each pipe before it sends a frame
//! that must come after the prints so far; the frame carries the marker's number.

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::jobs::Duty;
use rex_plugin_api::Level;
use rex_plugin_api::ops::Failure;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest frame that is believed: a batch of large payloads.
const MAX_FRAME: usize = 1 << 30;

/// Host to worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToWorker {
    /// First: which file to load. Answered by `Loaded` or `Unfit`.
    Load {
        /// None, for what rex-host does itself.
        plugin: Option<String>,
        /// What markers start with; chosen by the host, so that a plugin cannot print one by chance.
        nonce: u64,
        limits: Limits,
    },
    /// Second: what to be. Answered by `Ready` or `Unfit`.
    Start(Start),
    /// Tasks to process, in order; `seq` ascends by one over the life of the process.
    Tasks(Vec<Task>),
    /// Give back what has not been started. Answered by `Recalled`.
    Recall,
    /// This task should come to an end: its time is nearly up.
    Notice { seq: u64 },
    /// What was asked for by that number is done, or why it is not.
    Reply { ask: u64, result: Result<(), String> },
    /// Finish the task in hand, answer for everything, say `Goodbye` and exit. Tasks not started
    /// are given back. `empty`: because the queue is.
    Stop { empty: bool },
}

/// What the kernel holds a worker process to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of private memory that may be allocated.
    pub memory: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    pub worker: String,
    pub logger: String,
    pub queue: String,
    pub level: Level,
    /// Bytes that a submitted payload may have.
    pub payload_limit: usize,
    /// Whether the CPU time of a task and of what it starts is limited.
    pub cpu_limited: bool,
    /// A JSON object's text: the queue's `settings`.
    pub settings: String,
    /// The text of an `Application`, for a worker or executors that must know it; else empty.
    pub application: String,
    /// For what rex-host does itself.
    pub duty: Option<Duty>,
    /// Of jobs, where that is the duty.
    pub executors: Vec<Executor>,
}

/// Who runs the jobs of one type.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Executor {
    /// The type.
    pub name: String,
    pub logger: String,
    pub level: Level,
    /// The file to load.
    pub plugin: String,
    /// Whether it must know the application.
    pub application: bool,
    /// Whether it has something to do before the first job.
    pub starts: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    pub seq: u64,
    pub id: i64,
    pub attempt: u32,
    /// The payload as it is stored: the text of a JSON object.
    pub payload: String,
}

/// Worker to host, with the number of the marker that its prints precede; 0 for none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToHost {
    pub marker: u64,
    pub body: Answer,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    Loaded,
    Ready,
    /// The plugin cannot be loaded or the worker cannot start; the process exits next.
    Unfit(String),
    Log {
        /// The task in hand; 0 between tasks.
        seq: u64,
        /// Whether the plugin says it, and not the worker process about it.
        plugin: bool,
        level: Level,
        logger: String,
        text: String,
    },
    /// A task asks for another one; it takes effect if the task succeeds.
    Submit {
        seq: u64,
        queue: Option<String>,
        payload: String,
    },
    /// Answered by `Reply`.
    Ask {
        seq: u64,
        ask: u64,
        request: Request,
    },
    /// How far a task is.
    Progress {
        seq: u64,
        fraction: f64,
        text: String,
    },
    /// Sent before the task counts as finished.
    Failed {
        seq: u64,
        failure: Failure,
        ran: Duration,
    },
    /// All tasks up to this one are finished; those that failed were reported before.
    Finished {
        seq: u64,
        /// How long each ran of those that have asked for others.
        asked: Vec<(u64, Duration)>,
    },
    /// These were not started and never will be.
    Recalled(Vec<u64>),
    /// Everything is said; a death after this is no crash.
    Goodbye,
}

/// What only the host can do, and a task waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Update the job's row in a table: the fields are a JSON object's text.
    Facet { table: String, fields: String },
    /// Queue new jobs.
    QueueNew,
    /// Delete old jobs.
    CleanUp,
}

/// Encodes one frame, length included.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame = postcard::to_extend(message, frame).unwrap_or_else(|error| {
        unreachable!("every type of the wire can be encoded: {error}");
    });
    let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame
}

/// Writes one frame.
///
/// # Errors
/// When the other side is gone.
pub fn send(out: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    out.write_all(&encode(message))
}

/// Takes frames out of a stream of bytes.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Bytes at the front that were taken already.
    taken: usize,
}

impl Frames {
    /// Reads once from `source`; 0 at the end of the stream.
    ///
    /// # Errors
    /// Those of the read, `WouldBlock` among them.
    pub fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        let length = self.buffer.len();
        self.buffer.resize(length + 64 * 1024, 0);
        let read = source.read(&mut self.buffer[length..]);
        self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
        read
    }

    /// The next whole frame; `None` until more bytes come.
    ///
    /// # Errors
    /// `InvalidData` when the bytes are no frame: the other side is not ours, or is broken.
    pub fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let bytes = &self.buffer[self.taken..];
        let Some(head) = bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of impossible length"));
        }
        let Some(body) = bytes.get(4..4 + length) else { return Ok(None) };
        let message = postcard::from_bytes(body)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        self.taken += 4 + length;
        Ok(Some(message))
    }
}

/// A number written into a pipe between a plugin's prints.
#[derive(Debug, Clone, Copy)]
pub struct Marker {
    nonce: u64,
}

impl Marker {
    const LENGTH: usize = 2 + 8 + 8;

    pub fn new(nonce: u64) -> Marker {
        Marker { nonce }
    }

    pub fn bytes(self, number: u64) -> [u8; Marker::LENGTH] {
        let mut bytes = [0; Marker::LENGTH];
        bytes[..10].copy_from_slice(&self.head());
        bytes[10..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    fn head(self) -> [u8; 10] {
        let mut head = [0; 10];
        head[..2].copy_from_slice(&[0x00, 0x1e]);
        head[2..].copy_from_slice(&self.nonce.to_le_bytes());
        head
    }

    /// Where the first marker in `bytes` starts, and its number.
    pub fn find(self, bytes: &[u8]) -> Option<(usize, u64)> {
        let head = self.head();
        let mut from = 0;
        while let Some(offset) = bytes[from..].iter().position(|b| *b == 0) {
            let start = from + offset;
            if bytes[start..].starts_with(&head)
                && let Some(number) = bytes[start + 10..].first_chunk::<8>()
            {
                return Some((start, u64::from_le_bytes(*number)));
            }
            from = start + 1;
        }
        None
    }

    /// How many bytes a marker takes in the pipe.
    pub fn length(self) -> usize {
        Marker::LENGTH
    }
}

#[cfg(test)]
mod tests;
