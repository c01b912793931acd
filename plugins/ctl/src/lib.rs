//! `ctl_executor`: runs a command of `rex`, as tasks `{"command": "mart-purge --yes"}` ask for it,
//! those of scheduled commands above all.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use rex_plugin_api::{Context, Error, Payload, Result, ResultExt, Worker, export_plugin, pyrepr};

/// A worker's process is rex-host's own program.
const PROGRAM: &str = "/proc/self/exe";

/// A command that fails is logged, and its task is done all the same, as in the original.
#[derive(Default)]
struct CtlExecutorWorker;

impl Worker for CtlExecutorWorker {
    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
        let command = command_of(payload)?;
        let words = split(command)
            .ok_or_else(|| rex_error(format!("No closing quotation\nIn:\n    {command}")))?;
        ctx.info(format_args!("Executing Task: {command}"));
        let (status, output) = run(&words).context("the command cannot be started")?;
        if status.success() {
            let output = output.trim();
            if !output.is_empty() {
                ctx.info(output);
            }
        } else {
            let error = unexpected(status, &output, command);
            ctx.error(format_args!(
                "Failed execution\nTraceback (most recent call last):\n  File \"{}\", line {}\n\
                 rex.core.Error: {error}",
                file!(),
                line!()
            ));
        }
        Ok(())
    }
}

/// The words of a command line; `None` where a quotation has no end. `#` begins no comment, as in the
/// original.
fn split(command: &str) -> Option<Vec<String>> {
    // The crate has no option for that: a character that is not there stands for it.
    let stand_in = ('\u{e000}'..).find(|c| !command.contains(*c))?.to_string();
    let words = shlex::split(&command.replace('#', &stand_in))?;
    Some(words.iter().map(|word| word.replace(&stand_in, "#")).collect())
}

fn rex_error(text: String) -> Error {
    Error::of("rex.core.Error", text)
}

fn command_of(payload: &Payload) -> Result<&str> {
    if let Some(field) = payload.keys().find(|field| *field != "command") {
        return Err(rex_error(format!("Got unexpected field:\n    {field}")));
    }
    let value = payload
        .get("command")
        .ok_or_else(|| rex_error("Missing mandatory field:\n    command".into()))?;
    value.as_str().ok_or_else(|| {
        let got = pyrepr::repr(value);
        rex_error(format!(
            "Expected a string\nGot:\n    {got}\nWhile validating field:\n    command"
        ))
    })
}

/// Runs `rex WORDS…`; its end, and what it printed on both outputs, in the order printed.
fn run(words: &[String]) -> std::io::Result<(ExitStatus, String)> {
    let (mut reader, writer) = std::io::pipe()?;
    let mut command = Command::new(PROGRAM);
    command.arg0("rex").args(words).stdin(Stdio::null());
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // With it go our ends of the pipe, so that its end is seen.
    drop(command);
    let mut output = Vec::new();
    reader.read_to_end(&mut output)?;
    Ok((child.wait()?, String::from_utf8_lossy(&output).into_owned()))
}

fn unexpected(status: ExitStatus, output: &str, command: &str) -> String {
    // As the original's language has it: the signal's number below zero.
    let code = status.code().or_else(|| status.signal().map(|signal| -signal)).unwrap_or(-1);
    let mut text = format!("Received unexpected exit code:\n    expected 0; got {code}\n");
    if !output.is_empty() {
        text.push_str("With output:\n");
        for line in output.lines() {
            text.push_str(if line.is_empty() { "" } else { "    " });
            text.push_str(line);
            text.push('\n');
        }
    }
    text + &format!("From:\n    rex {command}")
}

export_plugin! { workers: { "ctl_executor" => CtlExecutorWorker } }

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use rex_plugin_api::testing;
    use serde_json::json;

    use super::{CtlExecutorWorker, split, unexpected};

    #[test]
    fn failures_are_told_as_in_the_original() {
        let status = ExitStatus::from_raw(1 << 8);
        let output = "FATAL ERROR: Oops, I crashed\n\n";
        assert_eq!(
            unexpected(status, output, "demo-crashy-task"),
            "Received unexpected exit code:\n    expected 0; got 1\nWith output:\n    \
             FATAL ERROR: Oops, I crashed\n\nFrom:\n    rex demo-crashy-task"
        );
    }

    #[test]
    fn a_command_line_has_words_and_no_comments() {
        let words = |line| split(line).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(words("crash-now #abort"), ["crash-now", "#abort"]);
        assert_eq!(
            words("a '#b' \"c # d\" e#f \u{e000}#"),
            ["a", "#b", "c # d", "e#f", "\u{e000}#"]
        );
    }

    #[test]
    fn bad_payloads_are_refused_in_the_original_s_words() {
        for (payload, expected) in [
            (json!({}), "Missing mandatory field:\n    command"),
            (json!({"command": "x", "y": 1}), "Got unexpected field:\n    y"),
            (
                json!({"command": 1}),
                "Expected a string\nGot:\n    1\nWhile validating field:\n    command",
            ),
            (json!({"command": "a 'b"}), "No closing quotation\nIn:\n    a 'b"),
        ] {
            let run = testing::run(&mut CtlExecutorWorker, payload);
            assert_eq!(run.result.unwrap_err().text, expected);
        }
    }
}
