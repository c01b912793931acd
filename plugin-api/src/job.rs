//! What a plugin's author implements to run jobs: work that has a row in the table `job`.

use std::ops::Deref;

use serde::Serialize;
use serde_json::Value;

use crate::ops::{self, Facet};
use crate::{Context, Error, Payload, Result};

/// Runs the jobs of one type, in a process that runs one job after the other, of any type.
///
/// A value is made with `Default` for each job. The host writes the table: the job is `started` when
/// `run` is called, and `completed` or `failed` after it. An `Err` is the job's `status_detail`; so is
/// what is known of a panic or a crash, which cost this job and no other.
///
/// ```
/// use rex_plugin_api::{Job, JobContext, JobExecutor, Result, export_plugin, testing};
/// use serde_json::json;
///
/// #[derive(Default)]
/// struct CountExecutor;
///
/// impl JobExecutor for CountExecutor {
///     fn run(&mut self, job: &Job, ctx: &JobContext) -> Result<()> {
///         let to = job.payload.integer("to")?;
///         for n in 0..to {
///             if ctx.should_stop() {
///                 break;
///             }
///             ctx.progress(n as f64 / to as f64, format!("{n} of {to}"));
///         }
///         ctx.update_facet("count", json!({"value": to}))
///     }
/// }
///
/// export_plugin! { executors: { "count" => CountExecutor } }
///
/// let run = testing::run_job(&mut CountExecutor, json!({"to": 2}));
/// assert!(run.result.is_ok());
/// assert_eq!(run.progress.last(), Some(&(0.5, "1 of 2".to_owned())));
/// assert_eq!(run.facets, [("count".to_owned(), json!({"value": 2}))]);
/// ```
pub trait JobExecutor: Default + 'static {
    /// Whether the executor must know the application that it works for
    /// ([`Context::application`](crate::Context::application)), its passwords included.
    const APPLICATION: bool = false;
    /// Whether [`start`](Self::start) does anything. If so the plugin is loaded by each process of jobs,
    /// and not only by those that run a job of this type.
    const STARTS: bool = false;

    /// Runs one job.
    ///
    /// # Errors
    /// Any error fails the job; its text becomes the job's `status_detail`.
    fn run(&mut self, job: &Job, ctx: &JobContext) -> Result<()>;

    /// Called once in each process that may run such jobs, before it runs any: what a killed one has
    /// left can be put in order here. Other jobs wait meanwhile.
    ///
    /// # Errors
    /// Any error is logged; jobs are run all the same.
    fn start(ctx: &Context) -> Result<()> {
        let _ = ctx;
        Ok(())
    }
}

/// A job as its row has it.
#[derive(Debug, Clone)]
pub struct Job {
    pub code: i64,
    /// Who submitted it: free text.
    pub owner: String,
    pub title: Option<String>,
    pub payload: Payload,
}

/// What a job may ask of its host: all that a [`Context`] offers, and what only jobs have.
pub struct JobContext<'a>(pub(crate) Context<'a>);

impl<'a> Deref for JobContext<'a> {
    type Target = Context<'a>;

    fn deref(&self) -> &Context<'a> {
        &self.0
    }
}

impl JobContext<'_> {
    /// Gives the fields of this job's row in `table`, a table whose identity is a link to the job; the
    /// row is made if there is none. It is committed when this returns, whatever becomes of the job.
    ///
    /// # Errors
    /// When `fields` is no object, and when the database refuses the row, with its reason.
    #[track_caller]
    pub fn update_facet(&self, table: &str, fields: impl Serialize) -> Result<()> {
        let Value::Object(fields) = serde_json::to_value(fields)? else {
            return Err(Error::new("the fields of a facet are an object"));
        };
        self.call_host(ops::HOST_UPDATE_FACET, &Facet { table: table.to_owned(), fields })
    }
}
