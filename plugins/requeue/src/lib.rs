//! A worker that puts a task back into its own queue.

use rex_plugin_api::serde_json::json;
use rex_plugin_api::{Context, Payload, Result, Worker, export_plugin};

#[derive(Default)]
struct RequeueWorker;

impl Worker for RequeueWorker {
    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
        println!("REQUEUE processed: {payload}");
        if payload.integer("foo").is_ok_and(|value| value == 1) {
            ctx.requeue(json!({"foo": 2}))?;
            println!("REQUEUE requeued");
        }
        Ok(())
    }
}

export_plugin! { workers: { "requeue_worker" => RequeueWorker } }
