//! A worker that fails when it is told to: the task is lost to the dead letters, the worker stays.

use rex_plugin_api::{Context, Error, Payload, Result, Worker, export_plugin};

#[derive(Default)]
struct ErrorWorker;

impl Worker for ErrorWorker {
    fn process(&mut self, payload: &Payload, _: &Context) -> Result<()> {
        if payload.flag("error") {
            return Err(Error::new("Oops!"));
        }
        println!("ERROR processed: {payload}");
        Ok(())
    }
}

export_plugin! { workers: { "demo_error_worker" => ErrorWorker } }
