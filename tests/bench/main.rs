//! Measures what an operator feels, each figure beside its limit from the same run on the same
//! machine: the limit is a program that does the bare minimum, so only the ratio is worth quoting.
//! Arguments choose figures: `cargo bench -- starts stores`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

mod bare;
mod queue;
mod stores;

use std::path::Path;
use std::time::Duration;

use rex_test_support::env::Env;
use rex_test_support::plugins;
use rex_test_support::process::{Process, Running, wait_for};
use serde_json::{Value, json};

const STARTS: usize = 50;
const DEATHS: usize = 100;
const LOAD: usize = 20_000;
const RELOADS: usize = 5;

/// Measures and prints, with the fixture's library.
type Figures = fn(&Path);

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(bare::FLAG) {
        return bare::child(args.next().as_deref(), args.next().as_deref());
    }
    if std::env::var_os("REX_DIST").is_none() {
        eprintln!("REX_DIST is not set: measuring a tree of this cargo profile");
    }
    let library = plugins::built("crash");
    // Cargo adds an option of its own.
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!("{:<44} {:>12} {:>12} {:>7}", "figure", "measured", "limit", "ratio");
    let all: [(&str, Figures); 7] = [
        ("starts", starts),
        ("deaths", deaths),
        ("memory", memory),
        ("reload", reload),
        ("queue", queue::queue),
        ("attributes", queue::attributes),
        ("stores", stores::stores),
    ];
    for (name, figures) in all {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            figures(&library);
        }
    }
}

fn row(figure: &str, measured: Duration, limit: Duration) {
    let ms = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1000.0);
    let ratio = measured.as_secs_f64() / limit.as_secs_f64();
    println!("{figure:<44} {:>12} {:>12} {ratio:>7.2}", ms(measured), ms(limit));
}

/// The sample below which this part of all samples lie.
fn percentile(samples: &mut [Duration], part: f64) -> Duration {
    samples.sort_unstable();
    let last = samples.len() - 1;
    samples[(last as f64 * part).round() as usize]
}

fn environment(library: &Path) -> Env {
    let env = Env::new();
    env.add_plugin(library);
    env
}

fn start(env: &Env, more: &[&str]) -> Running {
    let plugins = env.path("plugins").display().to_string();
    let workers = r#"asynctask_workers={"crash": "crash_worker"}"#;
    let args = ["run", "rex.asynctask", "--plugins", &plugins, "--set", workers];
    env.start(&[&args, more].concat())
}

fn submit(env: &Env, payloads: impl Iterator<Item = Value>) {
    let lines: String = payloads.map(|payload| format!("{payload}\n")).collect();
    env.rex_host_with(&["submit", "crash", "-"], &lines).ok();
}

/// What the tasks wrote down: the event and its time.
fn stamps(env: &Env) -> Vec<(String, Duration)> {
    let text = std::fs::read_to_string(env.path("stamps")).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().filter_map(|line| {
        let (event, nanos) = line.split_once(' ')?;
        Some((event.to_owned(), Duration::from_nanos(nanos.parse().ok()?)))
    });
    lines.collect()
}

fn stamp(env: &Env, how: &str) -> Value {
    json!({"how": how, "stamps": env.path("stamps")})
}

/// From the line that says that a worker is launched to the line that says that it has a task.
fn starts(library: &Path) {
    let mut measured: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let env = environment(library);
            submit(&env, std::iter::once(json!({"how": "ok"})));
            let debug = r#"logging_root={"level": "DEBUG"}"#;
            let more = ["--halt-when-empty", "--log-format", "json", "--set", debug];
            let output = start(&env, &more).wait_ok();
            let time = |part: &str| {
                let line = output.lines().find(|line| line.contains(part)).expect("it is logged");
                let line: Value = serde_json::from_str(line).expect("it is JSON");
                time_of_day(line["time"].as_str().expect("a time"))
            };
            time("Got payload").saturating_sub(time("Launching"))
        })
        .collect();
    let mut limit: Vec<Duration> = (0..STARTS).map(|_| bare::start(library)).collect();
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        let figure = format!("worker start to first task, {name} of {STARTS}");
        row(&figure, percentile(&mut measured, part), percentile(&mut limit, part));
    }
}

/// `…T12:34:56.789012Z` as time since midnight.
fn time_of_day(text: &str) -> Duration {
    let clock = text.split('T').nth(1).expect("a time follows the date").trim_end_matches('Z');
    let mut seconds = 0.0;
    for part in clock.split(':') {
        seconds = seconds * 60.0 + part.parse::<f64>().expect("a number");
    }
    Duration::from_secs_f64(seconds)
}

/// From the last thing that a task does before it kills its process to the next task's start.
fn deaths(library: &Path) {
    let env = environment(library);
    // A task between two deaths: a worker that only dies would be restarted with growing delay.
    let pair = [stamp(&env, "stamp"), stamp(&env, "stamp_kill")];
    submit(&env, pair.iter().cloned().cycle().take(2 * DEATHS + 1));
    start(&env, &["--halt-when-empty", "--quiet"]).wait_ok();
    let events = stamps(&env);
    let mut measured: Vec<Duration> = events
        .windows(2)
        .filter(|pair| pair[0].0 == "death")
        .map(|pair| pair[1].1.saturating_sub(pair[0].1))
        .collect();
    assert_eq!(measured.len(), DEATHS, "each death was followed by a task");
    let mut limit = bare::deaths(library, DEATHS);
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        let figure = format!("worker death to next task, {name} of {DEATHS}");
        row(&figure, percentile(&mut measured, part), percentile(&mut limit, part));
    }
}

fn memory(library: &Path) {
    let env = environment(library);
    let host = start(&env, &[]);
    host.wait_output("Starting; queue=crash");
    let status = env.rex_host(&["status", "--json"]).json_lines().remove(0);
    let pid = status["queues"][0]["processes"][0]["pid"].as_i64().expect("a pid");
    let worker = i32::try_from(pid).expect("it fits");
    let memory = |pid: i32, name: &str| {
        let process = Process::find(pid).expect("it runs");
        process.memory(name).expect("the kernel accounts it")
    };
    // What is resident is mostly code that all processes share; what is anonymous is each one's own.
    let kinds = [("resident", "VmRSS"), ("anonymous", "RssAnon")];
    let figures = kinds.into_iter().flat_map(|(kind, name)| {
        let host = (memory(host.pid(), name), bare::memory(None, name));
        let worker = (memory(worker, name), bare::memory(Some(library), name));
        [
            (format!("{kind} memory of the host"), host),
            (format!("{kind} memory of an idle worker"), worker),
        ]
    });
    let figures: Vec<_> = figures.collect();
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
    for (figure, (measured, limit)) in figures {
        let mb = |bytes: u64| format!("{:.2} MB", bytes as f64 / 1e6);
        let ratio = measured as f64 / limit as f64;
        println!("{figure:<44} {:>12} {:>12} {ratio:>7.2}", mb(measured), mb(limit));
    }
}

/// The same load twice, once with reloads of a plugin whose file changes each time.
fn reload(library: &Path) {
    let (quiet, failed) = loaded_run(library, 0);
    assert_eq!(failed, 0, "tasks failed without any reload");
    let (busy, failed) = loaded_run(library, RELOADS);
    println!("{:<44} {failed:>12} {:>12}", format!("tasks failed, {RELOADS} reloads in {LOAD}"), 0);
    row("longest gap between task starts, reloading", busy, quiet);
}

fn loaded_run(library: &Path, reloads: usize) -> (Duration, usize) {
    let env = environment(library);
    let host = start(&env, &["--quiet"]);
    let task = stamp(&env, "stamp");
    submit(&env, std::iter::repeat_n(task, LOAD));
    for number in 1..=reloads {
        wait_for("some work between reloads", || {
            stamps(&env).len() > LOAD * number / (reloads + 1)
        });
        let mut bytes = std::fs::read(library).expect("it was built");
        bytes.extend(number.to_le_bytes());
        let changed = env.path("libcrash.so");
        std::fs::write(&changed, bytes).expect("ours");
        env.add_plugin(&changed);
        env.rex_host(&["reload"]).ok();
    }
    wait_for("all tasks", || stamps(&env).len() == LOAD);
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
    let failed = env.rex_host(&["dlq", "list", "--json"]).json_lines().len();
    let times: Vec<Duration> = stamps(&env).into_iter().map(|(_, time)| time).collect();
    let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    (gaps.max().unwrap_or_default(), failed)
}
