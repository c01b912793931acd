//! The original's demo workers that only show what they got, and its demo commands.

use rex_plugin_api::{Command, Context, Error, Payload, Result, Worker, export_plugin, say};

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

#[derive(Default)]
struct NoisyTask;

impl Command for NoisyTask {
    const ABOUT: &'static str = "says hello";

    fn run(&mut self, _: &[String]) -> Result<()> {
        say!("Hello world!");
        Ok(())
    }
}

#[derive(Default)]
struct QuietTask;

impl Command for QuietTask {
    const ABOUT: &'static str = "does nothing";

    fn run(&mut self, _: &[String]) -> Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct CrashyTask;

impl Command for CrashyTask {
    const ABOUT: &'static str = "fails";

    fn run(&mut self, _: &[String]) -> Result<()> {
        Err(Error::new("Oops, I crashed"))
    }
}

export_plugin! {
    workers: {
        "demo_foo_worker" => FooWorker,
        "demo_bar_worker" => BarWorker,
        "demo_baz_worker" => BazWorker,
        "demo_logging_worker" => LoggingWorker,
        "demo_quiet_worker" => QuietWorker,
    },
    commands: {
        "demo-noisy-task" => NoisyTask,
        "demo-quiet-task" => QuietTask,
        "demo-crashy-task" => CrashyTask,
    },
}
