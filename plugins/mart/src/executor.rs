//! The executor `rexmart_create`: a job's payload is an entry of a run list. What the making of the mart
//! says is kept in the job's row of `job_rexmart_create`, as it is said.

use rex_mart::{Creation, Entry};
use rex_plugin_api::serde_json::{Value, json};
use rex_plugin_api::{Context, Job, JobContext, JobExecutor, Result};
use rex_yaml::validate::Input;

use crate::application::{marts, rex};
use crate::tidy;
use crate::worker::tell;

#[derive(Default)]
pub(crate) struct MartCreateExecutor;

/// The table of what jobs said.
const TABLE: &str = "job_rexmart_create";

impl JobExecutor for MartCreateExecutor {
    const APPLICATION: bool = true;
    const STARTS: bool = true;

    fn run(&mut self, job: &Job, ctx: &JobContext) -> Result<()> {
        let payload = Value::Object((*job.payload).clone());
        let entry = Entry::read(Input::Value(&payload)).map_err(|error| rex(error))?;
        let (settings, definitions) = marts(ctx.application())?;
        let creation =
            Creation::new(&settings, &definitions, &entry).map_err(|error| rex(error))?;
        let mut log = String::new();
        let mut kept = Ok(());
        let mut told = |line: &str, fraction| {
            tell(ctx, line, fraction);
            if !log.is_empty() {
                log.push('\n');
            }
            log.push_str(line);
            if kept.is_ok() {
                kept = ctx.update_facet(TABLE, json!({"log": log}));
            }
        };
        let made = creation.run(&mut told, &|| ctx.should_stop());
        tidy::settled(settings.clone(), made)?;
        kept
    }

    fn start(ctx: &Context) -> Result<()> {
        tidy::begin(ctx.application())
    }
}
