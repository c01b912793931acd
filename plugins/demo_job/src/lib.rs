//! The original's demo executors: one that is done at once, one that takes its time and keeps what it
//! found in the table `slow`, and one that fails.

use std::time::Duration;

use rex_plugin_api::serde_json::{Value, json};
use rex_plugin_api::{Error, Job, JobContext, JobExecutor, Result, export_plugin};

#[derive(Default)]
struct FastExecutor;

impl JobExecutor for FastExecutor {
    fn run(&mut self, _: &Job, ctx: &JobContext) -> Result<()> {
        ctx.info("FastExecutor executed!");
        Ok(())
    }
}

/// How many reports it makes.
const STEPS: u32 = 50;

/// Takes 5 seconds, or as many as the payload says.
#[derive(Default)]
struct SlowExecutor;

impl JobExecutor for SlowExecutor {
    fn run(&mut self, job: &Job, ctx: &JobContext) -> Result<()> {
        let value = job.payload.integer("foo")?;
        let seconds = job.payload.get("seconds").and_then(Value::as_f64).unwrap_or(5.0);
        let step_time = Duration::try_from_secs_f64(seconds)? / STEPS;
        for step in 0..STEPS {
            if ctx.should_stop() {
                return Err(Error::new("told to stop"));
            }
            ctx.progress(f64::from(step) / f64::from(STEPS), format_args!("step {step}"));
            std::thread::sleep(step_time);
        }
        ctx.update_facet("slow", json!({"my_value": value}))?;
        ctx.info("SlowExecutor executed!");
        Ok(())
    }
}

#[derive(Default)]
struct FragileExecutor;

impl JobExecutor for FragileExecutor {
    fn run(&mut self, _: &Job, _: &JobContext) -> Result<()> {
        Err(Error::of("rex.core.Error", "I crashed :("))
    }
}

export_plugin! {
    executors: {
        "demo_fast" => FastExecutor,
        "demo_slow" => SlowExecutor,
        "demo_fragile" => FragileExecutor,
    },
}

#[cfg(test)]
mod tests {
    use rex_plugin_api::serde_json::json;
    use rex_plugin_api::testing;

    use super::{FragileExecutor, SlowExecutor};

    #[test]
    fn the_slow_one_reports_and_keeps_its_value() {
        let run = testing::run_job(&mut SlowExecutor, json!({"foo": 123, "seconds": 0}));
        assert!(run.result.is_ok());
        assert_eq!(run.facets, [("slow".to_owned(), json!({"my_value": 123}))]);
        assert_eq!(run.progress[10], (0.2, "step 10".to_owned()));
        assert_eq!(run.logs, ["INFO SlowExecutor executed!"]);
    }

    #[test]
    fn the_fragile_one_fails() {
        let run = testing::run_job(&mut FragileExecutor, json!({}));
        assert_eq!(run.result.unwrap_err().last_line(), "rex.core.Error: I crashed :(");
    }
}
