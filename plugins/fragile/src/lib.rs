//! A worker that ends its own process when it is told to: the host notices and starts another.

use rex_plugin_api::{Context, Payload, Result, Worker, export_plugin};

#[derive(Default)]
struct FragileWorker;

impl Worker for FragileWorker {
    fn process(&mut self, payload: &Payload, _: &Context) -> Result<()> {
        if payload.flag("die") {
            println!("FRAGILE DYING!");
            std::process::exit(0);
        }
        println!("FRAGILE processed: {payload}");
        Ok(())
    }
}

export_plugin! { workers: { "demo_fragile_worker" => FragileWorker } }
