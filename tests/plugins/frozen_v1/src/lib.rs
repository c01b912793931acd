//! A plugin as it was built with API 1.0: it must be served for as long as that major version is.

use rex_plugin_api::serde_json::json;
use rex_plugin_api::{Context, Error, Payload, Result, Worker, export_plugin};

/// Does all that API 1.0 allows, as its payload says.
#[derive(Default)]
struct FrozenWorker {
    tasks: u32,
}

impl Worker for FrozenWorker {
    fn start(&mut self, ctx: &Context) -> Result<()> {
        ctx.info(format_args!("started on {} with {}", ctx.queue(), json!(ctx.settings())));
        Ok(())
    }

    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
        self.tasks += 1;
        let (id, attempt) = (ctx.task_id(), ctx.attempt());
        ctx.warning(format_args!("task {id}, attempt {attempt}, number {}", self.tasks));
        match payload.text("do")? {
            "requeue" => ctx.requeue(json!({"again": true})),
            "submit" => ctx.submit("elsewhere", json!({"n": 1})),
            "fail" => Err(Error::new("on purpose")),
            "panic" => panic!("a panic on purpose"),
            _ => Ok(()),
        }
    }
}

export_plugin! { workers: { "frozen_worker" => FrozenWorker } }
