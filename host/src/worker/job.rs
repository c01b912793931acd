//! The workers that rex-host has itself, all for jobs: `job_executor` runs a job by the executor of its
//! type, whose plugin it loads when the first such job comes, or at once if that executor has something
//! to do before; `job_queuer` and `job_cleanup` have the host do what they are for.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::Instant;

use rex_plugin_api::abi::{Buffer, Plugin};
use rex_plugin_api::ops::{self, Failure};
use rex_plugin_api::{Application, Level, pyrepr};
use serde_json::{Map, Value};

use super::link::Link;
use crate::jobs::{Assignment, Duty, JobFields, What};
use crate::plugins;
use crate::wire::{Answer, Executor, Request, Start, Task};

pub(super) struct Own {
    link: &'static Link,
    duty: Duty,
    start: Start,
    /// By file; never unloaded.
    loaded: HashMap<String, Plugin>,
}

/// The end of a task that went wrong.
struct Wrong {
    failure: Failure,
    /// It is not in the log yet.
    untold: bool,
}

impl Own {
    pub(super) fn new(link: &'static Link, duty: Duty, start: Start) -> Own {
        Own { link, duty, start, loaded: HashMap::new() }
    }

    /// What executors do before the first job. One that fails keeps no job waiting.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let executors = std::mem::take(&mut self.start.executors);
        for executor in executors.iter().filter(|executor| executor.starts) {
            if let Err(failure) = self.begin_with(executor) {
                let Executor { name, .. } = executor;
                let text = format!("The executor of {name} failed to start");
                self.log(Level::Error, &format!("{text}\n{}", failure.traceback()))?;
            }
        }
        self.start.executors = executors;
        Ok(())
    }

    fn begin_with(&mut self, executor: &Executor) -> Result<(), Failure> {
        let request = ops::Start {
            worker: executor.name.clone(),
            queue: self.start.queue.clone(),
            level: executor.level,
            settings: self.settings(),
            application: self.application(executor),
        };
        let input = serde_json::to_vec(&request).unwrap_or_default();
        self.call(executor, ops::PLUGIN_START_EXECUTOR, &input)
    }

    fn settings(&self) -> Map<String, Value> {
        serde_json::from_str(&self.start.settings).unwrap_or_default()
    }

    fn application(&self, executor: &Executor) -> Application {
        match executor.application {
            true => serde_json::from_str(&self.start.application).unwrap_or_default(),
            false => Application::default(),
        }
    }

    /// Asks something of an executor, whose plugin is loaded now if it is not yet.
    fn call(&mut self, executor: &Executor, op: u32, input: &[u8]) -> Result<(), Failure> {
        if !self.loaded.contains_key(&executor.plugin) {
            let loaded = plugins::load::load(Path::new(&executor.plugin), self.link)
                .map_err(|error| failure("PluginError", error.to_string()))?;
            self.loaded.insert(executor.plugin.clone(), loaded.plugin);
        }
        let Some(plugin) = self.loaded.get(&executor.plugin) else { return Ok(()) };
        let mut output = Buffer::default();
        self.link.speak_as(Some((executor.logger.clone(), executor.level)));
        let status = plugin.call(op, input, &mut output);
        self.link.speak_as(None);
        match status {
            ops::OK => Ok(()),
            status => Err(super::failure(status, &output)),
        }
    }

    /// Does one task; what failed was reported when this returns.
    pub(super) fn process(&mut self, task: &Task) -> io::Result<()> {
        self.link.set_task(task.seq);
        let begun = Instant::now();
        let result = match self.duty {
            Duty::Executor => self.execute(task)?,
            Duty::Queuer => self.ask(task, Request::QueueNew)?,
            Duty::Cleanup => self.ask(task, Request::CleanUp)?,
        };
        if let Err(Wrong { failure, untold: true }) = &result {
            let text = "An unhandled exception occurred while processing the payload";
            self.log(Level::Error, &format!("{text}\n{}", failure.traceback()))?;
        } else {
            self.log(Level::Debug, "Processing complete")?;
        }
        self.link.set_task(0);
        match result {
            Ok(()) => Ok(()),
            Err(Wrong { failure, .. }) => {
                let ran = begun.elapsed();
                self.link.send_in_order(Answer::Failed { seq: task.seq, failure, ran })
            }
        }
    }

    fn log(&self, level: Level, text: &str) -> io::Result<()> {
        self.link.log(level, text)
    }

    fn got(&self, payload: &str) -> io::Result<()> {
        if self.link.logs(Level::Debug) {
            let shown = pyrepr::repr_json(payload);
            self.log(Level::Debug, &format!("Got payload: {shown}"))?;
        }
        Ok(())
    }

    fn ask(&self, task: &Task, request: Request) -> io::Result<Result<(), Wrong>> {
        self.got(&task.payload)?;
        let wrong = |text| Wrong { failure: failure("Refused", text), untold: true };
        Ok(self.link.ask(request).map_err(wrong))
    }

    fn execute(&mut self, task: &Task) -> io::Result<Result<(), Wrong>> {
        let Assignment { payload, what } = serde_json::from_str(&task.payload)?;
        self.got(&payload)?;
        let (code, job) = match what {
            What::Bad { text } => {
                return Ok(Err(Wrong { failure: failure("rex.core.Error", text), untold: true }));
            }
            What::Missing { code } => {
                self.log(Level::Info, &format!("Processing Job #{code}"))?;
                self.log(Level::Warning, &format!("Job #{code} not found; bailing"))?;
                return Ok(Ok(()));
            }
            What::Skip { code, why } => {
                self.log(Level::Info, &format!("Processing Job #{code}"))?;
                self.log(Level::Warning, &format!("Job #{code} is {why}; bailing"))?;
                return Ok(Ok(()));
            }
            What::Unfit { code, text } => {
                self.log(Level::Info, &format!("Processing Job #{code}"))?;
                return self.end(code, Err(failure("rex.core.Error", text)));
            }
            What::Run { code, job } => (code, job),
        };
        self.log(Level::Info, &format!("Processing Job #{code}"))?;
        let Some(executor) = self.start.executors.iter().find(|e| e.name == job.r#type).cloned()
        else {
            self.log(Level::Error, &format!("Job type \"{}\" not found; bailing", job.r#type))?;
            let failure = failure("UnknownJobType", "Unknown Job Type".to_owned());
            return Ok(Err(Wrong { failure, untold: false }));
        };
        if self.link.logs(Level::Debug) {
            let shown = pyrepr::repr_json(job.payload.get());
            let owner = &job.owner;
            let text = format!("Executing job #{code} for owner \"{owner}\" with payload: {shown}");
            self.log(Level::Debug, &text)?;
        }
        let result = self.run(task, code, &job, &executor);
        self.end(code, result)
    }

    fn end(&self, code: i64, result: Result<(), Failure>) -> io::Result<Result<(), Wrong>> {
        if let Err(failure) = &result {
            self.log(Level::Error, &format!("Job #{code} failed\n{}", failure.traceback()))?;
        }
        self.log(Level::Info, &format!("Job #{code} complete"))?;
        Ok(result.map_err(|failure| Wrong { failure, untold: false }))
    }

    fn run(
        &mut self,
        task: &Task,
        code: i64,
        job: &JobFields,
        executor: &Executor,
    ) -> Result<(), Failure> {
        let header = ops::JobHeader {
            executor: executor.name.clone(),
            code,
            owner: job.owner.clone(),
            title: job.title.clone(),
            task: ops::TaskHeader { id: task.id, attempt: task.attempt },
            queue: self.start.queue.clone(),
            level: executor.level,
            settings: self.settings(),
            application: self.application(executor),
        };
        let mut input = serde_json::to_vec(&header).unwrap_or_default();
        input.push(b'\n');
        let payload = if is_falsy(job.payload.get()) { "{}" } else { job.payload.get() };
        input.extend_from_slice(payload.as_bytes());
        self.call(executor, ops::PLUGIN_JOB, &input)
    }
}

/// What Python takes for false, which the original gives to executors as an empty mapping
/// (`payload or {}`).
fn is_falsy(json: &str) -> bool {
    match serde_json::from_str(json) {
        Ok(Value::Null | Value::Bool(false)) => true,
        Ok(Value::String(text)) => text.is_empty(),
        Ok(Value::Array(items)) => items.is_empty(),
        Ok(Value::Number(number)) => number.as_f64() == Some(0.0),
        Ok(Value::Bool(true) | Value::Object(_)) | Err(_) => false,
    }
}

fn failure(class: &str, text: String) -> Failure {
    Failure {
        panicked: false,
        class: class.to_owned(),
        text,
        place: None,
        frames: Vec::new(),
        again: ops::Again::default(),
    }
}
