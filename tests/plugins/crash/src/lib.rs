//! A worker that ends, hangs or fails in every way the host must survive, as its payload says.
//!
//! `how` names the way. With `record`, a path, it appends `start N` and `done N` there (N is the
//! payload's `n`), so that a test can count what ran without asking the host. `then` is a payload
//! that it requeues.

#![expect(unsafe_code, reason = "crashing on purpose needs what safe code cannot do")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a worker may print")]

use std::cell::Cell;
use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rex_plugin_api::serde_json::Value;
use rex_plugin_api::{
    Command, Context, Error, Job, JobContext, JobExecutor, Payload, Result, Worker, export_plugin,
};

thread_local! {
    static ENDS_BADLY: Cell<bool> = const { Cell::new(false) };
}

/// What panics when its owner is dropped, as a guard that meets a poisoned lock does.
#[derive(Default)]
struct End;

impl Drop for End {
    fn drop(&mut self) {
        if ENDS_BADLY.take() {
            panic!("panicked at the end");
        }
    }
}

#[derive(Default)]
struct CrashWorker {
    _end: End,
}

impl Worker for CrashWorker {
    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
        record(payload, "start")?;
        act(payload.text("how")?, payload, ctx)?;
        if let Some(next) = payload.get("then") {
            ctx.requeue(next.clone())?;
        }
        record(payload, "done")
    }
}

/// One write a line, so that lines of several processes never mix.
fn record(payload: &Payload, event: &str) -> Result<()> {
    if payload.contains_key("record") {
        let mut file =
            OpenOptions::new().append(true).create(true).open(payload.text("record")?)?;
        file.write_all(format!("{event} {}\n", payload.integer("n")?).as_bytes())?;
    }
    Ok(())
}

fn act(how: &str, payload: &Payload, ctx: &Context) -> Result<()> {
    match how {
        "ok" => {}
        "error" => {
            let message = payload.get("message").and_then(Value::as_str);
            return Err(Error::new(message.unwrap_or("failed on purpose")));
        }
        // Fails before attempt `until`.
        "again" if i64::from(ctx.attempt()) < payload.integer("until")? => {
            let error = Error::new(format_args!("attempt {} failed", ctx.attempt()));
            return Err(match payload.get("after_ms").and_then(Value::as_u64) {
                Some(millis) => error.retry_after(Duration::from_millis(millis)),
                None => error,
            });
        }
        "again" => {}
        "never" => return Err(Error::new("there is no use").give_up()),
        "crash_until" if i64::from(ctx.attempt()) < payload.integer("until")? => kill_self(),
        "crash_until" => {}
        "until_told" => {
            while !ctx.should_stop() {
                std::thread::yield_now();
            }
        }
        "gives_way" => {
            act("until_told", payload, ctx)?;
            return Err(Error::new("told to stop"));
        }
        "panic" => panic!("panicked on purpose"),
        // As literals do up to edition 2018.
        "panic_any" => std::panic::panic_any("panicked on purpose"),
        // As libraries do.
        "caught_panic" => {
            let _ = std::panic::catch_unwind(|| panic!("caught on purpose"));
        }
        "resumed_panic" => std::panic::resume_unwind(Box::new("handed on, on purpose")),
        "panic_drop" => {
            ENDS_BADLY.set(true);
            panic!("panicked on purpose");
        }
        "panic_thread" => {
            let thread = std::thread::spawn(|| panic!("panicked on purpose in a thread"));
            if thread.join().is_err() {
                return Err(Error::new("the thread panicked"));
            }
        }
        "escaped_panic" => {
            extern "C" fn callback() {
                panic!("panicked where nothing may unwind");
            }
            callback();
        }
        // SAFETY: not safe at all: no such address is mapped, which is the point.
        "segfault" => unsafe { black_box(16 as *mut u8).write_volatile(1) },
        "abort" => std::process::abort(),
        "exit0" => std::process::exit(0),
        "exit3" => std::process::exit(3),
        "exit5_thread" => {
            let _ = std::thread::spawn(|| std::process::exit(5)).join();
        }
        // SAFETY: the function is there as long as the process, since plugins are never unloaded.
        "atexit" => unsafe {
            libc::atexit(hang);
        },
        "kill" => kill_self(),
        "stamp" => stamp(payload, "task")?,
        "stamp_kill" => {
            stamp(payload, "death")?;
            kill_self();
        }
        "stack_overflow_main" => {
            black_box(descend(1));
        }
        "stack_overflow_thread" => {
            let _ = std::thread::spawn(|| black_box(descend(1))).join();
        }
        "illegal_instruction" => illegal_instruction(),
        "close_files" => {
            for file in 0..1024 {
                // SAFETY: not safe for who reads from them, who has to notice: that is the point.
                unsafe { libc::close(file) };
            }
            hang();
        }
        "nonsense" => send_nonsense(),
        "loop" => loop {
            std::hint::spin_loop();
        },
        "loop_in_child" => {
            std::process::Command::new("sh").args(["-c", "while :; do :; done"]).status()?;
        }
        "leave_loop" => {
            // It computes itself, and in a child that it starts when another task is in hand.
            let script = "until grep -q 'start 2' \"$0\"; do :; done; (while :; do :; done) &
                (i=0; while [ $i -lt 999 ]; do i=$((i+1)); done; while :; do :; done & exit) &
                while :; do :; done";
            let record = payload.text("record")?;
            std::process::Command::new("sh").args(["-c", script, record]).spawn()?;
        }
        "sleep" => hang(),
        "memory" => eat(),
        "print" => print_lines(payload.integer("lines")?),
        "log" => {
            let text = "y".repeat(usize::try_from(payload.integer("bytes")?)?);
            for _ in 0..payload.integer("records")? {
                ctx.info(&text);
            }
        }
        "stderr" => {
            eprintln!("{}", payload.text("text")?);
            std::process::abort();
        }
        "spawn" => spawn_and_hang(payload, ctx)?,
        "until" => wait_for_file(payload.text("file")?),
        "until_print" => {
            wait_for_file(payload.text("file")?);
            print_lines(payload.integer("lines")?);
        }
        "work" => burn(Duration::from_millis(payload.integer("ms")?.unsigned_abs())),
        "submit" => ctx.submit(payload.text("queue")?, payload_of(payload)?)?,
        other => return Err(Error::new(format_args!("no way to go named `{other}`"))),
    }
    Ok(())
}

extern "C" fn hang() {
    loop {
        std::thread::park_timeout(Duration::from_secs(60));
    }
}

/// Writes what no worker writes to whoever is at the other end of a socket of this process.
fn send_nonsense() {
    let text = [0xff_u8; 64];
    for file in 3..256 {
        // SAFETY: the bytes are there; what is no socket refuses them.
        unsafe { libc::send(file, text.as_ptr().cast(), text.len(), libc::MSG_DONTWAIT) };
    }
}

fn kill_self() {
    // SAFETY: kill touches no memory.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

/// Writes down what happens now, in nanoseconds of the machine's clock.
fn stamp(payload: &Payload, event: &str) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let mut file = OpenOptions::new().append(true).create(true).open(payload.text("stamps")?)?;
    file.write_all(format!("{event} {now}\n").as_bytes())?;
    Ok(())
}

fn payload_of(payload: &Payload) -> Result<Payload> {
    Ok(Payload::try_from(payload.get("payload").cloned().unwrap_or_default())?)
}

fn descend(depth: u64) -> u64 {
    let here = black_box([depth; 64]);
    if here[0] == 0 { 0 } else { descend(here[0] + 1) + here[63] }
}

fn illegal_instruction() {
    // SAFETY: raises SIGILL, which is the point.
    unsafe {
        #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
        std::arch::asm!("ud2");
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("udf #0");
    }
}

/// Takes memory and touches it, until something ends it.
fn eat() {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(vec![1; 1 << 20]);
        black_box(&taken);
    }
}

fn print_lines(lines: i64) {
    let line = "x".repeat(99);
    for _ in 0..lines {
        println!("{line}");
    }
}

/// Starts a `sleep`, says so, and never comes back.
fn spawn_and_hang(payload: &Payload, ctx: &Context) -> Result<()> {
    let child = std::process::Command::new("sleep").arg("600").spawn()?;
    ctx.info(format_args!("started sleep {}", child.id()));
    std::fs::write(payload.text("file")?, child.id().to_string())?;
    hang();
    Ok(())
}

/// Stays in the task until the test makes the file.
fn wait_for_file(path: &str) {
    while !std::path::Path::new(path).exists() {
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn burn(time: Duration) {
    let start = std::time::Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Ends its process, or itself, in the way that its argument says.
#[derive(Default)]
struct CrashNow;

impl Command for CrashNow {
    const ABOUT: &'static str = "comes to a bad end";
    const ARGUMENTS: &'static str = "abort|panic|exit3|wait FILE";

    fn run(&mut self, arguments: &[String]) -> Result<()> {
        match arguments.first().map(String::as_str) {
            Some("abort") => std::process::abort(),
            Some("panic") => panic!("panicked on purpose"),
            Some("exit3") => std::process::exit(3),
            Some("wait") => {
                println!("waiting");
                wait_for_file(arguments.get(1).map_or("", String::as_str));
                println!("done");
                Ok(())
            }
            other => Err(Error::new(format_args!("no way to go named {other:?}"))),
        }
    }
}

/// Does as a job what [`CrashWorker`] does as a task; `then` is not for jobs. It prints a line first. It
/// fails to start where the queue's settings say so.
#[derive(Default)]
struct CrashExecutor {
    _end: End,
}

impl JobExecutor for CrashExecutor {
    const STARTS: bool = true;

    fn start(ctx: &Context) -> Result<()> {
        match ctx.settings().get("fails") {
            Some(_) => Err(Error::new("fails on purpose")),
            None => Ok(()),
        }
    }

    fn run(&mut self, job: &Job, ctx: &JobContext) -> Result<()> {
        println!("job {} begins", job.code);
        record(&job.payload, "start")?;
        if let Some(text) = job.payload.get("progress").and_then(Value::as_str) {
            ctx.progress(0.25, text);
        }
        update_facets(job, "facets", ctx)?;
        act(job.payload.text("how")?, &job.payload, ctx)?;
        update_facets(job, "facets_after", ctx)?;
        record(&job.payload, "done")
    }
}

fn update_facets(job: &Job, field: &str, ctx: &JobContext) -> Result<()> {
    let facets = job.payload.get(field).and_then(Value::as_object);
    for (table, fields) in facets.into_iter().flatten() {
        ctx.update_facet(table, fields)?;
    }
    Ok(())
}

export_plugin! {
    workers: { "crash_worker" => CrashWorker },
    commands: { "crash-now" => CrashNow },
    executors: { "crash" => CrashExecutor },
}
