//! Runs a worker or a job executor without a host, for the tests of a plugin's crate.
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
use crate::application::Application;
use crate::context::Context;
use crate::error::Result;
use crate::job::{Job, JobContext, JobExecutor};
use crate::ops::{self, Facet, Failure, Log, Progress, Submit};
use crate::payload::Payload;
use crate::registry;
use crate::worker::Worker;

/// What one call of `process` or `run` did.
#[derive(Debug)]
pub struct Run {
    /// Errors and caught panics alike.
    pub result: Result<(), Failure>,
    /// `LEVEL text`, in order.
    pub logs: Vec<String>,
    /// Queue (`None`: the worker's own) and payload, in order; a host drops them if `result` is an
    /// error.
    pub submitted: Vec<(Option<String>, Value)>,
    /// Table and fields of each update of a facet, in order.
    pub facets: Vec<(String, Value)>,
    /// Fraction and text of each report, in order.
    pub progress: Vec<(f64, String)>,
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
    record(&settings, &Application::default(), |ctx| worker.process(&payload, &ctx))
}

/// As [`run`], for the worker of an application.
///
/// # Panics
/// When `payload` is no JSON object.
pub fn run_in<W: Worker>(worker: &mut W, payload: Value, application: &Application) -> Run {
    let payload = Payload::try_from(payload).expect("a payload is a JSON object");
    record(&Map::new(), application, |ctx| worker.process(&payload, &ctx))
}

/// Has `executor` run job 1 of the owner `test` with this payload.
///
/// # Panics
/// When `payload` is no JSON object.
pub fn run_job<E: JobExecutor>(executor: &mut E, payload: Value) -> Run {
    let payload = Payload::try_from(payload).expect("a payload is a JSON object");
    let job = Job { code: 1, owner: "test".to_owned(), title: None, payload };
    record(&Map::new(), &Application::default(), |ctx| executor.run(&job, &JobContext(ctx)))
}

fn record(
    settings: &Map<String, Value>,
    application: &Application,
    work: impl FnOnce(Context) -> Result<()>,
) -> Run {
    let recorder = Recorder::default();
    let ctx = Context {
        host: &recorder,
        queue: "test",
        task_id: 1,
        attempt: 1,
        level: registry::ALL,
        settings,
        application,
    };
    let result = registry::guard(|| work(ctx));
    let Recorded { logs, submitted, facets, progress } =
        recorder.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    Run { result, logs, submitted, facets, progress }
}

#[derive(Default)]
struct Recorder(Mutex<Recorded>);

#[derive(Default)]
struct Recorded {
    logs: Vec<String>,
    submitted: Vec<(Option<String>, Value)>,
    facets: Vec<(String, Value)>,
    progress: Vec<(f64, String)>,
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
            ops::HOST_UPDATE_FACET => serde_json::from_slice::<Facet>(input)
                .map(|facet| recorded.facets.push((facet.table, Value::Object(facet.fields)))),
            ops::HOST_PROGRESS => serde_json::from_slice::<Progress>(input)
                .map(|report| recorded.progress.push((report.fraction, report.text))),
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
