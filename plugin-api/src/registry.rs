//! The plugin's side of every operation: which workers there are, the one that runs, its panics.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde::de::DeserializeOwned;

use crate::abi::{Buffer, Host};
use crate::application::Application;
use crate::command::{Command, CommandOption, refuse_arguments};
use crate::context::{Context, Level};
use crate::error::Result;
use crate::job::{Job, JobContext, JobExecutor};
use crate::ops::{
    self, CommandEntry, ExecutorEntry, Failure, JobHeader, Manifest, OptionEntry, RunCommand,
    Start, TaskHeader, WorkerEntry,
};
use crate::payload::Payload;
use crate::worker::Worker;

/// The workers, commands and executors of one plugin, by name; written by `export_plugin!`.
pub struct Registry {
    manifest: Manifest,
    makers: Vec<fn() -> Box<dyn ErasedWorker>>,
    commands: Vec<RunsCommand>,
    executors: Vec<RunsJobs>,
}

/// Makes a [`Command`] of that name and runs it.
type RunsCommand = fn(&str, &Application, &[String]) -> Result<()>;

/// What there is of a [`JobExecutor`] before one is made.
struct RunsJobs {
    start: fn(&Context) -> Result<()>,
    /// Makes one and runs it, guarded.
    run: fn(&Job, &JobContext) -> Result<(), Failure>,
}

/// [`Worker`] without its constructor, so that one process can hold any.
trait ErasedWorker: Send {
    fn start(&mut self, ctx: &Context) -> Result<()>;
    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()>;
}

impl<W: Worker> ErasedWorker for W {
    fn start(&mut self, ctx: &Context) -> Result<()> {
        Worker::start(self, ctx)
    }

    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
        Worker::process(self, payload, ctx)
    }
}

impl Registry {
    pub fn new(name: &str, version: &str) -> Registry {
        Registry {
            manifest: Manifest {
                name: name.to_owned(),
                version: version.to_owned(),
                api: ops::API,
                needs: Vec::new(),
                unwinds: cfg!(panic = "unwind"),
                workers: Vec::new(),
                commands: Vec::new(),
                executors: Vec::new(),
            },
            makers: Vec::new(),
            commands: Vec::new(),
            executors: Vec::new(),
        }
    }

    /// Adds a worker; its logger is named after its type.
    #[must_use]
    pub fn worker<W: Worker>(mut self, name: &str) -> Registry {
        let (name, logger) = (name.to_owned(), logger::<W>(name));
        let entry = WorkerEntry { name, logger, application: W::APPLICATION };
        self.manifest.workers.push(entry);
        self.makers.push(|| Box::new(W::default()));
        self
    }

    /// Adds a command.
    #[must_use]
    pub fn command<C: Command>(mut self, name: &str) -> Registry {
        let option = |option: &CommandOption| OptionEntry {
            name: option.name.to_owned(),
            key: option.key,
            value: option.value.map(str::to_owned),
            hint: option.hint.to_owned(),
        };
        self.manifest.commands.push(CommandEntry {
            name: name.to_owned(),
            about: C::ABOUT.to_owned(),
            arguments: C::ARGUMENTS.to_owned(),
            help: C::HELP.to_owned(),
            application: C::APPLICATION,
            options: C::OPTIONS.iter().map(option).collect(),
        });
        self.commands.push(|name, application, arguments| {
            refuse_arguments::<C>(name, arguments)?;
            match C::APPLICATION {
                true => C::default().run_in(application, arguments),
                false => C::default().run(arguments),
            }
        });
        self
    }

    /// Adds an executor of the jobs of one type; its logger is named after its type.
    #[must_use]
    pub fn executor<E: JobExecutor>(mut self, name: &str) -> Registry {
        let (name, logger) = (name.to_owned(), logger::<E>(name));
        let (application, starts) = (E::APPLICATION, E::STARTS);
        self.manifest.executors.push(ExecutorEntry { name, logger, application, starts });
        let run = |job: &Job, ctx: &JobContext| {
            let mut executor = None;
            let result = guard(|| executor.insert(E::default()).run(job, ctx));
            dispose(executor, result)
        };
        self.executors.push(RunsJobs { start: E::start, run });
        self
    }

    /// Declares a host operation without which the plugin is of no use: a host that does not know
    /// it refuses the plugin when it finds it, and not in the middle of a task.
    #[must_use]
    pub fn needs(mut self, op: u32) -> Registry {
        self.manifest.needs.push(op);
        self
    }

    fn runs_jobs(&self, name: &str) -> Option<&RunsJobs> {
        let position = self.manifest.executors.iter().position(|executor| executor.name == name);
        self.executors.get(position?)
    }

    /// Claims something else than what it is: for tests of hosts.
    #[doc(hidden)]
    #[must_use]
    pub fn claiming(mut self, manifest: Manifest) -> Registry {
        self.manifest = manifest;
        self
    }
}

/// The last part of a type's name.
fn logger<T>(otherwise: &str) -> String {
    std::any::type_name::<T>().rsplit("::").next().unwrap_or(otherwise).to_owned()
}

/// The worker of this process, and what it was started with.
struct Running {
    maker: fn() -> Box<dyn ErasedWorker>,
    /// `None` after a panic, until it is made anew.
    worker: Option<Box<dyn ErasedWorker>>,
    start: Start,
}

static REGISTRY: OnceLock<Registry> = OnceLock::new();
static HOST: OnceLock<Box<dyn Host>> = OnceLock::new();
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

thread_local! {
    /// Whether this thread runs a worker, whose panics are the task's and not to be printed.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// Rust's words for a panic that meets a frame which it cannot unwind, or another one: the end.
const ENDS_THE_PROCESS: [&str; 2] =
    ["panic in a function that cannot unwind", "panic in a destructor during cleanup"];

pub(crate) fn install(registry: fn() -> Registry) {
    REGISTRY.get_or_init(registry);
}

pub(crate) fn attach(host: Box<dyn Host>) {
    // A second host would be a second load of the same library, which dlopen answers with the
    // first one: the first link stays.
    if HOST.set(host).is_ok() {
        keep_panics();
    }
}

/// Has panics of workers be kept for [`guard`], which sees only their payload.
fn keep_panics() {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if GUARDED.get() {
            let failure = describe_panic(info.payload(), info.location());
            if ENDS_THE_PROCESS.contains(&failure.text.as_str())
                && let Some(cause) = PANIC.take()
            {
                // Nobody will ask for it: it is among the last lines of a crash.
                print(&cause);
            }
            PANIC.set(Some(failure));
        } else {
            default_hook(info);
        }
    }));
}

/// Runs an operation; nothing panics out of it.
pub(crate) fn call(op: u32, input: &[u8], output: &mut Buffer) -> u32 {
    let (Some(registry), Some(host)) = (REGISTRY.get(), HOST.get()) else {
        output.set(b"the plugin is not attached");
        return ops::BAD_INPUT;
    };
    match op {
        ops::PLUGIN_DESCRIBE => answer(output, &registry.manifest),
        ops::PLUGIN_START => match parse::<Start>(input) {
            Ok(start) => run_start(registry, &**host, start, output),
            Err(text) => bad_input(output, &text),
        },
        ops::PLUGIN_PROCESS => match parse_with_payload(input) {
            Ok((header, payload)) => run_task(&**host, &header, &payload, output),
            Err(text) => bad_input(output, &text),
        },
        ops::PLUGIN_COMMAND => match parse::<RunCommand>(input) {
            Ok(run) => run_command(registry, &run, output),
            Err(text) => bad_input(output, &text),
        },
        ops::PLUGIN_JOB => match parse_with_payload(input) {
            Ok((header, payload)) => run_job(registry, &**host, header, payload, output),
            Err(text) => bad_input(output, &text),
        },
        ops::PLUGIN_START_EXECUTOR => match parse::<Start>(input) {
            Ok(start) => start_executor(registry, &**host, &start, output),
            Err(text) => bad_input(output, &text),
        },
        _ => {
            output.set(ops::API.to_string().as_bytes());
            ops::UNKNOWN_OP
        }
    }
}

fn run_command(registry: &Registry, run: &RunCommand, output: &mut Buffer) -> u32 {
    let position = registry.manifest.commands.iter().position(|c| c.name == run.command);
    let Some(command) = position.and_then(|n| registry.commands.get(n)) else {
        return bad_input(output, &format!("the plugin has no command `{}`", run.command));
    };
    crate::command::set_quiet(run.quiet);
    let result = guard(|| command(&run.command, &run.application, &run.arguments));
    flush_stdio();
    outcome(result, output)
}

fn run_job(
    registry: &Registry,
    host: &dyn Host,
    header: JobHeader,
    payload: Payload,
    output: &mut Buffer,
) -> u32 {
    let Some(RunsJobs { run, .. }) = registry.runs_jobs(&header.executor) else {
        return no_executor(output, &header.executor);
    };
    let job = Job { code: header.code, owner: header.owner, title: header.title, payload };
    let ctx = JobContext(Context {
        host,
        queue: &header.queue,
        task_id: header.task.id,
        attempt: header.task.attempt,
        level: header.level,
        settings: &header.settings,
        application: &header.application,
    });
    let result = run(&job, &ctx);
    flush_stdio();
    outcome(result, output)
}

fn start_executor(registry: &Registry, host: &dyn Host, start: &Start, output: &mut Buffer) -> u32 {
    let Some(RunsJobs { start: begin, .. }) = registry.runs_jobs(&start.worker) else {
        return no_executor(output, &start.worker);
    };
    let result = guard(|| begin(&context(host, start, &TaskHeader { id: 0, attempt: 0 })));
    flush_stdio();
    outcome(result, output)
}

fn no_executor(output: &mut Buffer, name: &str) -> u32 {
    bad_input(output, &format!("the plugin has no executor `{name}`"))
}

fn run_start(registry: &Registry, host: &dyn Host, start: Start, output: &mut Buffer) -> u32 {
    let position = registry.manifest.workers.iter().position(|w| w.name == start.worker);
    let Some(maker) = position.and_then(|n| registry.makers.get(n)) else {
        return bad_input(output, &format!("the plugin has no worker `{}`", start.worker));
    };
    let mut running = Running { maker: *maker, worker: None, start };
    let result = guard(|| running.make(host));
    *lock_running() = Some(running);
    flush_stdio();
    outcome(result, output)
}

fn run_task(host: &dyn Host, header: &TaskHeader, payload: &Payload, output: &mut Buffer) -> u32 {
    let mut slot = lock_running();
    let Some(running) = slot.as_mut() else {
        return bad_input(output, "no worker was started");
    };
    let mut result = guard(|| {
        if running.worker.is_none() {
            running.make(host)?;
        }
        let Running { worker, start, .. } = running;
        let ctx = context(host, start, header);
        match worker {
            Some(worker) => worker.process(payload, &ctx),
            None => Ok(()),
        }
    });
    if matches!(&result, Err(failure) if failure.panicked) {
        result = dispose(running.worker.take(), result);
    }
    flush_stdio();
    outcome(result, output)
}

impl Running {
    fn make(&mut self, host: &dyn Host) -> Result<()> {
        let mut worker = (self.maker)();
        worker.start(&context(host, &self.start, &TaskHeader { id: 0, attempt: 0 }))?;
        self.worker = Some(worker);
        Ok(())
    }
}

fn context<'a>(host: &'a dyn Host, start: &'a Start, header: &TaskHeader) -> Context<'a> {
    Context {
        host,
        queue: &start.queue,
        task_id: header.id,
        attempt: header.attempt,
        level: start.level,
        settings: &start.settings,
        application: &start.application,
    }
}

/// Runs a worker's code: errors and panics both come out as failures.
pub(crate) fn guard(work: impl FnOnce() -> Result<()>) -> Result<(), Failure> {
    // One that an earlier call has caught itself is nothing of this one.
    PANIC.set(None);
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    match result {
        Ok(result) => result.map_err(crate::Error::into_failure),
        Err(payload) => {
            // What is handed on by `resume_unwind` passes no hook: the last panic that did is
            // another one, unless it says the same.
            let text = panic_text(&*payload);
            let kept = PANIC.take().filter(|failure| failure.text == text);
            let failure = kept.unwrap_or_else(|| describe_panic(&*payload, None));
            // Dropping a panic's payload may panic again; leaking it cannot.
            std::mem::forget(payload);
            Err(failure)
        }
    }
}

/// Drops what ran, whose `Drop` may panic, too: where something failed before, as what does not
/// expect the end of something that has panicked, that stays the failure.
fn dispose<T>(ran: T, result: Result<(), Failure>) -> Result<(), Failure> {
    let end = guard(|| {
        drop(ran);
        Ok(())
    });
    match (result, end) {
        (Err(failure), Err(panic)) => {
            print(&panic);
            Err(failure)
        }
        (result, end) => result.and(end),
    }
}

/// Writes a failure into the output of the process.
fn print(failure: &Failure) {
    let place = failure.place.as_deref().unwrap_or("an unknown place");
    let _ = writeln!(std::io::stderr(), "{}\nat {place}", failure.traceback());
}

fn panic_text(payload: &dyn Any) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// A panic; one without a place is over, and where this is asked is not where it was.
fn describe_panic(payload: &dyn Any, location: Option<&std::panic::Location<'_>>) -> Failure {
    let mut frames: Vec<String> = Vec::new();
    if let Some(place) = location {
        frames.push(format!("File \"{}\", line {}", place.file(), place.line()));
        frames.extend(backtrace_lines(&Backtrace::force_capture().to_string()));
    }
    Failure {
        panicked: true,
        class: "Panic".to_owned(),
        text: panic_text(payload),
        place: location.map(|place| format!("{}:{}", place.file(), place.line())),
        frames,
        again: ops::Again::default(),
    }
}

/// The frames between the panic machinery and this crate's: the author's own.
fn backtrace_lines(backtrace: &str) -> Vec<String> {
    let lines: Vec<&str> = backtrace.lines().map(str::trim).collect();
    let is_frame = |line: &str| line.split_once(':').is_some_and(|(n, _)| n.parse::<u32>().is_ok());
    let machinery = [
        "rust_begin_unwind",
        "begin_panic_handler",
        "core::panicking::",
        // What has no text to be formatted, as literals up to edition 2018.
        "std::panicking::begin_panic",
        "std::panic::panic_any",
    ];
    let first = lines
        .iter()
        .rposition(|line| is_frame(line) && machinery.iter().any(|name| line.contains(name)))
        .map_or(0, |n| n + 1);
    lines
        .iter()
        .skip(first)
        // The line that says where the machinery itself lies.
        .skip_while(|line| !is_frame(line))
        .take_while(|line| !line.contains("rex_plugin_api::registry::"))
        .map(|line| (*line).to_owned())
        .collect()
}

fn lock_running() -> MutexGuard<'static, Option<Running>> {
    // Worker code runs inside `guard`, so the mutex cannot really be poisoned.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was printed so far, by Rust or by a C library in this process, reaches the host's pipe.
#[expect(unsafe_code, reason = "fflush(NULL) has no safe spelling")]
pub(crate) fn flush_stdio() {
    // A closed stdout loses its text, not the task.
    let _ = std::io::stdout().flush();
    // SAFETY: a null stream means "all output streams"; there is nothing to uphold.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

fn parse<T: DeserializeOwned>(input: &[u8]) -> Result<T, String> {
    serde_json::from_slice(input).map_err(|e| e.to_string())
}

/// A header, a newline, and the payload's text.
fn parse_with_payload<T: DeserializeOwned>(input: &[u8]) -> Result<(T, Payload), String> {
    let end = input.iter().position(|b| *b == b'\n').ok_or("no header")?;
    let header = parse(&input[..end])?;
    let text = std::str::from_utf8(&input[end + 1..]).map_err(|e| e.to_string())?;
    Ok((header, Payload::from_json(text).map_err(|e| e.to_string())?))
}

fn bad_input(output: &mut Buffer, text: &str) -> u32 {
    output.set(text.as_bytes());
    ops::BAD_INPUT
}

fn outcome(result: Result<(), Failure>, output: &mut Buffer) -> u32 {
    match result {
        Ok(()) => {
            output.clear();
            ops::OK
        }
        Err(failure) => {
            answer(output, &failure);
            ops::FAILED
        }
    }
}

fn answer(output: &mut Buffer, value: &impl serde::Serialize) -> u32 {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            output.set(&bytes);
            ops::OK
        }
        Err(error) => bad_input(output, &error.to_string()),
    }
}

/// The level that lets everything through, for [`testing`](crate::testing).
pub(crate) const ALL: Level = Level::Debug;

#[cfg(test)]
mod tests;
