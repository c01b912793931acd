//! Runs a worker without a host, for the tests of a plugin's crate.
//!
//! ```
//! use rex_plugin_api::{Context, Payload, Result, Worker, testing};
//! use serde_json::json;
//! # #[derive(Default)] struct Twice;
//! # impl Worker for Twice {
//! #     fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
//! #         ctx.requeue(json!({"n": payload.integer("n")? * 2}))
//! #     }
//! # }
//!
//! let run = testing::run(&mut Twice::default(), json!({"n": 2}));
//! assert_eq!(run.submitted, [(None, json!({"n": 4}))]);
//! ```

use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::abi::{Buffer, Host};
use crate::context::Context;
use crate::ops::{self, Failure, Log, Submit};
use crate::payload::Payload;
use crate::registry;
use crate::worker::Worker;

/// What one call of `process` did.
#[derive(Debug)]
pub struct Run {
    /// Errors and caught panics alike.
    pub result: Result<(), Failure>,
    /// `LEVEL text`, in order.
    pub logs: Vec<String>,
    /// Queue (`None`: the worker's own) and payload, in order; a host drops them if `result` is an
    /// error.
    pub submitted: Vec<(Option<String>, Value)>,
}

/// Has `worker` process `payload` as task 1 of the queue `test`.
///
/// # Panics
/// When `payload` is no JSON object.
pub fn run<W: Worker>(worker: &mut W, payload: Value) -> Run {
    run_with(worker, payload, Map::new())
}

/// As [`run`], with the queue's `settings`.
///
/// # Panics
/// When `payload` is no JSON object.
pub fn run_with<W: Worker>(worker: &mut W, payload: Value, settings: Map<String, Value>) -> Run {
    let payload = Payload::try_from(payload).expect("a payload is a JSON object");
    let recorder = Recorder::default();
    let ctx = Context {
        host: &recorder,
        queue: "test",
        task_id: 1,
        attempt: 1,
        level: registry::ALL,
        settings: &settings,
    };
    let result = registry::guard(|| worker.process(&payload, &ctx));
    let recorded = recorder.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    Run { result, logs: recorded.logs, submitted: recorded.submitted }
}

#[derive(Default)]
struct Recorder(Mutex<Recorded>);

#[derive(Default)]
struct Recorded {
    logs: Vec<String>,
    submitted: Vec<(Option<String>, Value)>,
}

impl Host for Recorder {
    fn call(&self, op: u32, input: &[u8], output: &mut Buffer) -> u32 {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parsed = match op {
            ops::HOST_LOG => serde_json::from_slice::<Log>(input)
                .map(|log| recorded.logs.push(format!("{} {}", log.level, log.text))),
            ops::HOST_SUBMIT => serde_json::from_slice::<Submit>(input).and_then(|submit| {
                let payload = serde_json::from_str(&submit.payload)?;
                recorded.submitted.push((submit.queue, payload));
                Ok(())
            }),
            ops::HOST_SHOULD_STOP => {
                output.set(b"0");
                Ok(())
            }
            _ => {
                output.set(ops::API.to_string().as_bytes());
                return ops::UNKNOWN_OP;
            }
        };
        match parsed {
            Ok(()) => ops::OK,
            Err(error) => {
                output.set(error.to_string().as_bytes());
                ops::BAD_INPUT
            }
        }
    }
}
