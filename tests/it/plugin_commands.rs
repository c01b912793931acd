//! Commands that plugins add, and the worker that runs commands.

use std::process::Command;

use rex_test_support::env::{Env, dist};
use rex_test_support::{plugins, process};
use serde_json::json;

use crate::store::Store;

#[test]
fn a_plugin_adds_commands_to_both_spellings() {
    let env = Env::new();
    assert_eq!(env.rex_host(&["demo-noisy-task"]).ok(), "Hello world!\n");
    assert_eq!(env.rex(&["demo-noisy-task"]).ok(), "Hello world!\n");
    assert_eq!(env.rex(&["DEMO_quiet-task"]).ok(), "");
    let text = env.rex(&["demo-noisy-task", "--config", "none.yaml"]).fails(1);
    assert!(text.contains("none.yaml does not exist"), "{text}");
    assert_eq!(env.rex_host(&["demo-crashy-task"]).fails(1), "error: Oops, I crashed\n");
    assert_eq!(env.rex(&["demo-crashy-task"]).fails(1), "FATAL ERROR: Oops, I crashed\n\n");
    assert_eq!(env.rex(&["no-such-task"]).fails(1), "FATAL ERROR: unknown task no-such-task\n\n");
    let help = env.rex_host(&["demo-noisy-task", "--help"]).ok();
    let more = ["demo-noisy-task", "--project", "rex.asynctask", "--help"];
    assert_eq!(env.rex_host(&more).ok(), help);
    assert_eq!(help, "says hello\n\nUsage: rex-host demo-noisy-task\n");
    let help = env.rex(&["help", "DEMO_noisy-task"]).ok();
    assert_eq!(help, "DEMO-NOISY-TASK - says hello\nUsage: rex demo-noisy-task\n\n");
    let text = env.rex(&["help", "no-such-task"]).fails(1);
    assert_eq!(text, "FATAL ERROR: unknown help topic no-such-task\n\n");
    let list = env.rex_host(&["plugin", "list"]).ok();
    assert!(list.contains("commands demo-noisy-task demo-quiet-task demo-crashy-task"), "{list}");
}

#[test]
fn help_of_a_command_is_what_the_command_says_of_itself() {
    let env = Env::new();
    for name in ["demo-noisy-task", "mart-create"] {
        let help = env.rex_host(&["help", name]);
        assert_eq!(help.status.code(), Some(0), "{help}");
        assert_eq!(help.stdout, env.rex_host(&[name, "--help"]).ok());
    }
    let ours = env.rex_host(&["help", "queue", "list"]).ok();
    assert_eq!(ours, env.rex_host(&["queue", "list", "--help"]).ok());
    assert_eq!(env.rex_host(&["help"]).ok(), env.rex_host(&["--help"]).ok());
    let of = |usage: &str, name: &str| {
        format!(
            "error: unrecognized subcommand '{name}'\n\nUsage: rex-host {usage}\n\n\
             For more information, try '--help'.\n"
        )
    };
    let text = env.rex_host(&["help", "qeue"]).fails(2);
    assert_eq!(text, of("<COMMAND>", "qeue"));
    let text = env.rex_host(&["help", "queue", "demo-noisy-task"]).fails(2);
    assert_eq!(text, of("queue <COMMAND>", "demo-noisy-task"));
    env.set("REX_PLUGINS", env.path("none").display().to_string());
    let text = env.rex_host(&["help", "demo-noisy-task"]).fails(2);
    let note = text.strip_prefix(&of("<COMMAND>", "demo-noisy-task")).expect("it is clap's");
    assert!(note.starts_with("note: the plugin directory ") && note.contains("does not exist"));
}

#[test]
fn a_command_that_takes_no_arguments_is_given_none() {
    let env = Env::new();
    for (word, text) in [
        ("extra", "too many arguments for task demo-noisy-task"),
        ("--no-such=1", "unknown option or setting --no-such"),
        ("-x", "unknown option -x"),
    ] {
        let words = ["demo-noisy-task", word];
        assert_eq!(env.rex(&words).fails(1), format!("FATAL ERROR: {text}\n\n"));
        assert_eq!(env.rex_host(&words).fails(2), format!("error: {text}\n"));
    }
    env.rex(&["demo-noisy-task", "--"]).ok();
}

#[test]
fn a_command_whose_output_cannot_be_written_says_so() {
    let env = Env::new();
    for name in ["rex", "rex-host"] {
        let script = format!("'{}/bin/{name}' demo-noisy-task >/dev/full", dist().display());
        let mut command = Command::new("bash");
        command.args(["-c", &script]).current_dir(env.work());
        let text = process::run(command, "").fails(1);
        let why = "cannot write to standard output: No space left on device (os error 28)";
        assert!(text.contains(why) && !text.contains("panicked"), "{text}");
    }
}

#[test]
fn quiet_silences_the_messages_of_a_command_and_not_its_errors() {
    let env = Env::new();
    assert_eq!(env.rex(&["--quiet", "demo-noisy-task"]).ok(), "");
    assert_eq!(env.rex(&["demo-noisy-task", "--quiet"]).ok(), "");
    assert_eq!(env.rex_host(&["demo-noisy-task", "--quiet"]).ok(), "");
    let text = env.rex(&["demo-crashy-task", "--quiet"]).fails(1);
    assert_eq!(text, "FATAL ERROR: Oops, I crashed\n\n");
    let workers = r#"asynctask_workers={"ctl": "ctl_executor"}"#;
    let command = json!({"command": "demo-noisy-task --quiet"}).to_string();
    Store::Embedded.submit(&env, "ctl", &[&command]);
    let output =
        env.start(&["run", "rex.asynctask", "--halt-when-empty", "--set", workers]).wait_ok();
    assert!(output.contains("Executing Task: demo-noisy-task --quiet\n"), "{output}");
    assert!(!output.contains("Hello"), "{output}");
    env.set("REX_QUIET", "1".to_owned());
    assert_eq!(env.rex(&["demo-noisy-task"]).ok(), "");
    assert_eq!(env.rex_host(&["demo-noisy-task"]).ok(), "");
}

#[test]
fn a_command_is_a_process_of_its_own() {
    let env = Env::new();
    env.add_plugin(&plugins::built("crash"));
    env.set("REX_PLUGINS", env.path("plugins").display().to_string());
    let text = env.rex_host(&["crash-now", "abort"]).fails(1);
    assert!(text.contains("error: the command crash-now of the plugin "), "{text}");
    assert!(text.contains(" was killed by signal 6 (SIGABRT)"), "{text}");
    let text = env.rex_host(&["crash-now", "panic"]).fails(1);
    assert!(text.contains("error: the command panicked at "), "{text}");
    assert!(text.contains(": panicked on purpose"), "{text}");
    env.rex_host(&["crash-now", "exit3"]).fails(3);
    // As the original, which knows two.
    env.rex(&["crash-now", "exit3"]).fails(1);
    // It runs what was looked at, whatever becomes of the file.
    let waits = env.start(&["crash-now", "wait", &env.path("go").display().to_string()]);
    waits.wait_output("waiting");
    std::fs::write(env.path("plugins/crash.so"), "no library any more").expect("ours");
    env.write("go", "");
    assert_eq!(waits.wait_ok(), "waiting\ndone\n");
}

#[test]
fn help_lists_commands_whatever_other_plugins_do() {
    let env = Env::new();
    env.add_plugin(&plugins::built("crash"));
    env.write("plugins/broken.so", "no library");
    env.set("REX_PLUGINS", env.path("plugins").display().to_string());
    let help = env.rex(&["help"]).ok();
    let listed = "Available tasks:\n  asynctask-workers        : Launches ";
    assert!(help.contains(listed), "{help}");
    assert!(help.contains("\n  crash-now                : "), "{help}");
    env.set("REX_PLUGINS", env.path("none").display().to_string());
    assert!(env.rex(&["help"]).ok().contains(listed));
}

#[test]
fn why_there_is_no_such_command() {
    let env = Env::new();
    env.set("REX_PLUGINS", env.path("none").display().to_string());
    let text = env.rex_host(&["demo-noisy-task"]).fails(2);
    assert!(
        text.contains("note: the plugin directory ") && text.contains("does not exist"),
        "{text}"
    );
}

#[test]
fn two_plugins_with_the_same_command_are_refused() {
    let env = Env::new();
    env.add_plugin(&plugins::built("crash"));
    let mut manifest = plugins::manifest("other", &["other_worker"]);
    manifest["commands"] = json!([{"name": "crash-now", "about": "", "arguments": "", "help": ""}]);
    plugins::chameleon().claim(&manifest).install(&env.path("plugins/other.so"));
    env.set("REX_PLUGINS", env.path("plugins").display().to_string());
    let list = env.rex_host(&["plugin", "list"]).ok();
    assert!(list.contains("exports the command `crash-now`, which "), "{list}");
}

#[test]
fn ctl_executor_runs_commands_as_the_original_does() {
    let env = Env::new();
    let command = |text: &str| json!({"command": text}).to_string();
    let tasks =
        [command("demo-noisy-task"), command("demo-quiet-task"), command("demo-crashy-task")];
    Store::Embedded.submit(&env, "ctl", &tasks.each_ref().map(String::as_str));
    Store::Embedded.submit(&env, "ctl", &["{}"]);
    let workers = r#"asynctask_workers={"foo": null, "ctl": "ctl_executor"}"#;
    let output =
        env.start(&["run", "rex.asynctask_demo", "--halt-when-empty", "--set", workers]).wait_ok();
    let part = "\
INFO:CtlExecutorWorker:Executing Task: demo-noisy-task
INFO:CtlExecutorWorker:Hello world!
DEBUG:CtlExecutorWorker:Processing complete
DEBUG:CtlExecutorWorker:Got payload: {'command': 'demo-quiet-task'}
INFO:CtlExecutorWorker:Executing Task: demo-quiet-task
DEBUG:CtlExecutorWorker:Processing complete
DEBUG:CtlExecutorWorker:Got payload: {'command': 'demo-crashy-task'}
INFO:CtlExecutorWorker:Executing Task: demo-crashy-task
ERROR:CtlExecutorWorker:Failed execution
";
    assert!(output.contains(part), "{output}");
    let part = "\
rex.core.Error: Received unexpected exit code:
    expected 0; got 1
With output:
    FATAL ERROR: Oops, I crashed

From:
    rex demo-crashy-task
DEBUG:CtlExecutorWorker:Processing complete
";
    assert!(output.contains(part), "{output}");
    // A payload that is none is the only failure.
    let letters = env.rex_host(&["dlq", "list", "--json"]).json_lines();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(output.contains("rex.core.Error: Missing mandatory field:\n    command\n"), "{output}");
}

#[test]
fn commands_are_scheduled() {
    let env = Env::new();
    let schedules = r#"asynctask_scheduled_workers=[{"ctl": "demo-noisy-task", "second": "*/1"}]"#;
    let host = env.start(&["run", "rex.asynctask_demo", "--scheduler", "--set", schedules]);
    host.wait_output("INFO:CtlExecutorWorker:Hello world!");
    host.signal(libc::SIGTERM);
    host.wait_ok();
}
