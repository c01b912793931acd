//! What a worker process does: loads one plugin, becomes one worker, processes the tasks it is sent,
//! one after the other, and answers. It opens no queue and does not outlive its host. What rex-host
//! itself does for jobs is `job`, which loads the plugins of executors as their jobs come.
//!
//! Two threads: this one runs the plugin's code; `inbox` reads the socket, so that tasks can be
//! recalled and answers go out in time while a task takes long. `link` is what the plugin's calls
//! into the host end in, `leash` the promise to die with the host.

mod inbox;
mod job;
pub(crate) mod leash;
mod link;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use rex_plugin_api::abi::{Buffer, Plugin};
use rex_plugin_api::ops::{self, Failure};
use rex_plugin_api::{Level, pyrepr};

use self::inbox::{Inbox, Next};
use self::link::Link;
use crate::page::{Page, monotonic_ns};
use crate::plugins;
use crate::tick::Tick;
use crate::wire::{Answer, Frames, Start, Task, ToWorker};

// Whatever a store gives, a plugin can read.
const _: () = assert!(rex_transport::PAYLOAD_DEPTH <= rex_plugin_api::payload::DEPTH);

/// The hidden subcommand. Its arguments, as `supervisor/spawn.rs` writes them: what the process is
/// for, to be read in `ps`; the host's process id; the descriptor of the progress page.
pub const SUBCOMMAND: &str = "worker-process";

/// Runs until the host says stop or is gone. The socket is standard input.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let number = |at: usize| arguments.get(at)?.to_str()?.parse().ok();
    let (Some(host), Some(page)) = (number(1), number(2)) else { return ExitCode::from(2) };
    match run(host, page) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(70)
        }
    }
}

/// Tells the host, by the pipe that it reads as this process's prints.
fn complain(error: &io::Error) {
    // Without a pipe there is no host to tell.
    let _ = writeln!(io::stderr(), "worker process: {error}");
}

fn run(host: i32, page: i32) -> io::Result<()> {
    leash::bind(host)?;
    let (socket, page) = (leash::take_stdin()?, leash::inherited(page)?);
    let page = Page::map(page.as_fd())?;
    let mut incoming = Incoming { socket: socket.try_clone()?, frames: Frames::default() };

    let ToWorker::Load { plugin, nonce, limits } = incoming.next()? else {
        return Err(io::Error::other("the host did not begin with a plugin"));
    };
    let link: &'static Link = Box::leak(Box::new(Link::new(socket, nonce)?));
    leash::limit(limits)?;
    let loaded = plugin.map(|plugin| plugins::load::load(&PathBuf::from(plugin), link));
    let loaded = match loaded.transpose() {
        Ok(loaded) => loaded,
        Err(error) => return link.send(0, Answer::Unfit(error.to_string())),
    };
    link.send(0, Answer::Loaded)?;

    let start = match incoming.next()? {
        ToWorker::Start(start) => start,
        ToWorker::Stop { .. } => return link.say_goodbye(),
        _ => return Err(io::Error::other("the host sent tasks to a worker that was not started")),
    };
    link.begin(&start);
    let cpu_limited = start.cpu_limited;
    link.log(Level::Info, &format!("Starting; queue={}", start.queue))?;
    let mut buffer = Buffer::default();
    let mut work = match (loaded, start.duty) {
        (Some(loaded), None) => {
            if let Err(failure) = start_worker(&loaded.plugin, &start, &mut buffer) {
                let text = format!("The worker failed to start\n{}", failure.traceback());
                link.log(Level::Error, &text)?;
                return link.send_in_order(Answer::Unfit(failure.last_line()));
            }
            Work::Plugin(loaded)
        }
        (None, Some(duty)) => {
            let mut own = job::Own::new(link, duty, start);
            own.begin()?;
            Work::Own(Box::new(own))
        }
        _ => return Err(io::Error::other("the host asked a plugin for what it does itself")),
    };
    link.send_in_order(Answer::Ready)?;

    let inbox = Arc::new(Inbox::new(link, page));
    let reader = Arc::clone(&inbox);
    std::thread::Builder::new()
        .name("inbox".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || reader.read(incoming))?;
    let mut input = Vec::new();
    loop {
        match inbox.next()? {
            Next::Task(task, mut now) => {
                if cpu_limited && leash::has_children() {
                    // The host knows a task's children by when they were started.
                    Tick::wait_for_next();
                    now = monotonic_ns();
                }
                inbox.started(task.seq, now);
                match &mut work {
                    Work::Plugin(loaded) => {
                        process(&loaded.plugin, link, &task, &mut input, &mut buffer)?;
                    }
                    Work::Own(own) => own.process(&task)?,
                }
                inbox.finished(task.seq, now);
            }
            Next::Stop { empty } => {
                if empty {
                    link.log(Level::Info, "No tasks found in queue")?;
                }
                link.log(Level::Info, "Terminating")?;
                return link.say_goodbye();
            }
        }
    }
}

/// Who does a task's work.
enum Work {
    Plugin(plugins::Loaded),
    Own(Box<job::Own>),
}

fn start_worker(plugin: &Plugin, start: &Start, buffer: &mut Buffer) -> Result<(), Failure> {
    let settings = serde_json::from_str(&start.settings).unwrap_or_default();
    let application = serde_json::from_str(&start.application).unwrap_or_default();
    let request = ops::Start {
        worker: start.worker.clone(),
        queue: start.queue.clone(),
        level: start.level,
        settings,
        application,
    };
    let input = serde_json::to_vec(&request).unwrap_or_default();
    match plugin.call(ops::PLUGIN_START, &input, buffer) {
        ops::OK => Ok(()),
        status => Err(failure(status, buffer)),
    }
}

/// Runs one task; what failed was reported when this returns.
fn process(
    plugin: &Plugin,
    link: &Link,
    task: &Task,
    input: &mut Vec<u8>,
    buffer: &mut Buffer,
) -> io::Result<()> {
    link.set_task(task.seq);
    if link.logs(Level::Debug) {
        let shown = pyrepr::repr_json(&task.payload);
        link.log(Level::Debug, &format!("Got payload: {shown}"))?;
    }
    input.clear();
    let header = ops::TaskHeader { id: task.id, attempt: task.attempt };
    serde_json::to_writer(&mut *input, &header)?;
    input.push(b'\n');
    input.extend_from_slice(task.payload.as_bytes());

    let started = Instant::now();
    let status = plugin.call(ops::PLUGIN_PROCESS, input, buffer);
    link.set_task(0);
    if status == ops::OK {
        if link.logs(Level::Debug) {
            link.log(Level::Debug, "Processing complete")?;
        }
        return Ok(());
    }
    let failure = failure(status, buffer);
    let text = "An unhandled exception occurred while processing the payload";
    link.log(Level::Error, &format!("{text}\n{}", failure.traceback()))?;
    let ran = started.elapsed();
    link.send_in_order(Answer::Failed { seq: task.seq, failure, ran })
}

/// What a plugin answered instead of `OK`.
fn failure(status: u32, output: &[u8]) -> Failure {
    let described = (status == ops::FAILED).then(|| serde_json::from_slice(output).ok()).flatten();
    described.unwrap_or_else(|| Failure {
        panicked: false,
        class: match status {
            ops::UNKNOWN_OP => "UnknownOperation".to_owned(),
            ops::BAD_INPUT => "BadPayload".to_owned(),
            _ => "PluginError".to_owned(),
        },
        text: String::from_utf8_lossy(output).into_owned(),
        place: None,
        frames: Vec::new(),
        again: ops::Again::default(),
    })
}

/// The socket's reading side.
struct Incoming {
    socket: UnixStream,
    frames: Frames,
}

impl Incoming {
    /// Waits for the next frame; `UnexpectedEof` when the host is gone.
    fn next(&mut self) -> io::Result<ToWorker> {
        loop {
            if let Some(message) = self.frames.next()? {
                return Ok(message);
            }
            if self.frames.fill(&mut self.socket)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The next frame if one is there already.
    fn buffered(&mut self) -> io::Result<Option<ToWorker>> {
        self.frames.next()
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
