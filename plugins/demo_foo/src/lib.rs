//! The original's demo workers that only show what they got.

use rex_plugin_api::{Context, Payload, Result, Worker, export_plugin};

#[derive(Default)]
struct FooWorker;

impl Worker for FooWorker {
    fn process(&mut self, payload: &Payload, _: &Context) -> Result<()> {
        println!("FOO processed: {payload}");
        Ok(())
    }
}

#[derive(Default)]
struct BarWorker;

impl Worker for BarWorker {
    fn process(&mut self, payload: &Payload, _: &Context) -> Result<()> {
        println!("BAR processed: {payload}");
        Ok(())
    }
}

#[derive(Default)]
struct BazWorker;

impl Worker for BazWorker {
    fn process(&mut self, payload: &Payload, _: &Context) -> Result<()> {
        println!("BAZ processed: {payload}");
        Ok(())
    }
}

/// Logs instead of printing.
#[derive(Default)]
struct LoggingWorker;

impl Worker for LoggingWorker {
    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
        ctx.info(format_args!("Logging Worker received: {payload}"));
        Ok(())
    }
}

/// Does nothing, quietly.
#[derive(Default)]
struct QuietWorker;

impl Worker for QuietWorker {
    fn process(&mut self, _: &Payload, _: &Context) -> Result<()> {
        Ok(())
    }
}

export_plugin! {
    workers: {
        "demo_foo_worker" => FooWorker,
        "demo_bar_worker" => BarWorker,
        "demo_baz_worker" => BazWorker,
        "demo_logging_worker" => LoggingWorker,
        "demo_quiet_worker" => QuietWorker,
    }
}
