//! The worker `rexmart_create`: a task is an entry of a run list.

use rex_mart::{Creation, Entry};
use rex_plugin_api::{Context, Payload, Result, Worker};
use rex_yaml::validate::Input;

use crate::application::{marts, rex};

#[derive(Default)]
pub(crate) struct MartCreateWorker;

impl Worker for MartCreateWorker {
    const APPLICATION: bool = true;

    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
        let payload = rex_plugin_api::serde_json::Value::Object((**payload).clone());
        let entry = Entry::read(Input::Value(&payload)).map_err(rex)?;
        let (settings, definitions) = marts(ctx.application())?;
        let creation = Creation::new(&settings, &definitions, &entry).map_err(rex)?;
        creation.run(&mut |line, fraction| tell(ctx, line, fraction), &|| false).map_err(rex)?;
        Ok(())
    }

    /// A file of definitions that is wrong costs no task, and what the process before this one has
    /// left does not wait for one.
    fn start(&mut self, ctx: &Context) -> Result<()> {
        let (settings, _) = marts(ctx.application())?;
        // To drop a database may take longer than a start may. Whoever makes the next mart looks
        // again, and tells what is in the way.
        std::thread::spawn(move || rex_mart::tidy(&settings));
        Ok(())
    }
}

/// Says how the making of a mart goes.
pub(crate) fn tell(ctx: &Context, line: &str, fraction: Option<f64>) {
    ctx.info(line);
    if let Some(fraction) = fraction {
        ctx.progress(fraction, line);
    }
}
