//! The worker `rexmart_create`: a task is an entry of a run list.

use rex_mart::{Creation, Entry};
use rex_plugin_api::{Context, Payload, Result, Worker};
use rex_yaml::validate::Input;

use crate::application::{marts, rex};
use crate::tidy;

#[derive(Default)]
pub(crate) struct MartCreateWorker;

impl Worker for MartCreateWorker {
    const APPLICATION: bool = true;

    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
        let payload = rex_plugin_api::serde_json::Value::Object((**payload).clone());
        let entry = Entry::read(Input::Value(&payload)).map_err(|error| rex(error))?;
        let (settings, definitions) = marts(ctx.application())?;
        let creation =
            Creation::new(&settings, &definitions, &entry).map_err(|error| rex(error))?;
        let made = creation.run(&mut |line, fraction| tell(ctx, line, fraction), &|| false);
        tidy::settled(settings.clone(), made)
    }

    /// A file of definitions that is wrong costs no task, and what the process before this one has
    /// left does not wait for one.
    fn start(&mut self, ctx: &Context) -> Result<()> {
        marts(ctx.application())?;
        tidy::begin(ctx.application())
    }
}

/// Says how the making of a mart goes.
pub(crate) fn tell(ctx: &Context, line: &str, fraction: Option<f64>) {
    ctx.info(line);
    if let Some(fraction) = fraction {
        ctx.progress(fraction, line);
    }
}
