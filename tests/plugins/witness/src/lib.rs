//! A worker that writes down what it runs: a line when a task starts and one when it ends, in the
//! file that the payload names, `start|end N ATTEMPT TASK PID HOST NANOS` (`N` is the payload's, `HOST`
//! the process that started this one, the time the machine's clock). Between the two it works for `ms`. Then it ends as the payload's
//! `end` says; `then` is a list of payloads that it requeues.

use std::fs::OpenOptions;
use std::hint::spin_loop;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rex_plugin_api::serde_json::Value;
use rex_plugin_api::{Context, Error, Payload, Result, Worker, export_plugin};

struct WitnessWorker {
    host: u32,
}

impl Default for WitnessWorker {
    fn default() -> WitnessWorker {
        // Later the host may be gone and this process have another parent.
        WitnessWorker { host: std::os::unix::process::parent_id() }
    }
}

impl Worker for WitnessWorker {
    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
        self.write("start", payload, ctx)?;
        work(Duration::from_millis(payload.integer("ms")?.unsigned_abs()));
        for next in payload.get("then").and_then(Value::as_array).into_iter().flatten() {
            ctx.requeue(next.clone())?;
        }
        match payload.text("end")? {
            "ok" => self.write("end", payload, ctx),
            "fail" => Err(Error::new("told to fail")),
            "give_up" => Err(Error::new("told to give up").give_up()),
            "panic" => panic!("told to panic"),
            "exit" => std::process::exit(3),
            "abort" => std::process::abort(),
            other => Err(Error::new(format_args!("no end named `{other}`"))),
        }
    }
}

fn work(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        spin_loop();
    }
}

impl WitnessWorker {
    /// One write a line, so that lines of several processes never mix.
    fn write(&self, event: &str, payload: &Payload, ctx: &Context) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let (n, attempt, task) = (payload.integer("n")?, ctx.attempt(), ctx.task_id());
        let (pid, host) = (std::process::id(), self.host);
        let line = format!("{event} {n} {attempt} {task} {pid} {host} {now}\n");
        let mut file = OpenOptions::new().append(true).create(true).open(payload.text("log")?)?;
        file.write_all(line.as_bytes())?;
        Ok(())
    }
}

export_plugin! { workers: { "witness_worker" => WitnessWorker } }
