//! The host as a keeper of processes: nothing outlives it, nothing is lost when it stops, and it
//! never spins.

use std::time::{Duration, Instant};

use rex_test_support::env::{Env, not_run};
use rex_test_support::pg::Database;
use rex_test_support::process::{self, Process, descendants, wait_for};
use rex_test_support::proxy::Proxy;
use serde_json::{Value, json};

use crate::crashing::{self, recorded, wait_started};
use crate::store::Store;

const QUIET: &str = r#"asynctask_workers={"crash": "demo_quiet_worker"}"#;

/// What waits in the queue `crash`: each task's `n` and the number of its next attempt.
fn waiting(env: &Env) -> Vec<(i64, i64)> {
    let tasks = env.rex_host(&["queue", "peek", "crash", "--json"]).json_lines();
    let number = |value: &Value| value.as_i64().expect("a number");
    tasks.iter().map(|task| (number(&task["payload"]["n"]), number(&task["attempt"]))).collect()
}

fn dead_letters(env: &Env) -> Vec<Value> {
    env.rex_host(&["dlq", "list", "--json"]).json_lines()
}

/// A task that stays until the file `go` is there.
fn held_task(env: &Env, n: i64) -> String {
    json!({"how": "until", "file": env.path("go"), "n": n, "record": env.path("record")})
        .to_string()
}

fn quick_task(env: &Env, n: i64) -> String {
    json!({"how": "ok", "n": n, "record": env.path("record")}).to_string()
}

#[test]
fn nothing_outlives_a_killed_host_and_the_task_comes_back() {
    let env = crashing::env();
    let file = env.path("sleep.pid");
    let task = json!({"how": "spawn", "file": file, "n": 1}).to_string();
    Store::Embedded.submit(&env, "crash", &[&task]);
    let host = crashing::start(&env, &json!({"crash": {"processes": 2}}), &[]);
    wait_for("the worker's own child", || {
        std::fs::read_to_string(&file).is_ok_and(|text| !text.is_empty())
    });
    let sleep = std::fs::read_to_string(&file).expect("it was there").parse().expect("a pid");
    let sleep = Process::find(sleep).expect("the worker's child runs");
    let mut family = descendants(host.pid());
    assert!(family.contains(&sleep), "{family:?}");
    assert!(family.len() >= 3, "two workers and a sleep: {family:?}");
    family.push(Process::find(host.pid()).expect("the host runs"));

    host.signal(libc::SIGKILL);
    let (status, output) = host.wait();
    assert!(!status.success());
    wait_for("all processes of the host to end", || !family.iter().any(Process::is_alive));

    // Whose host died is not to blame: no dead letter, and the next host finds the task.
    let args = ["run", "rex.asynctask", "--set", QUIET, "--halt-when-empty"];
    let second = env.start(&args).wait_ok();
    assert!(second.contains("All workers halted"), "{output}\n{second}");
    assert_eq!(waiting(&env), []);
    assert_eq!(dead_letters(&env), Vec::<Value>::new());
}

#[test]
fn term_drains() {
    let env = crashing::env();
    let tasks = [held_task(&env, 1), quick_task(&env, 2), quick_task(&env, 3)];
    Store::Embedded.submit(&env, "crash", &tasks.each_ref().map(String::as_str));
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    wait_started(&env.path("record"), 1);
    host.signal(libc::SIGTERM);
    host.wait_output("DEBUG:AsyncTaskWorkerTask:Termination received; shutting down children\n");
    env.write("go", "");
    let output = host.wait_ok();

    let lines: Vec<&str> = output.lines().collect();
    let tail = [
        "DEBUG:CrashWorker:Processing complete",
        "INFO:CrashWorker:Terminating",
        "DEBUG:AsyncTaskWorkerTask:Children dead",
        "INFO:AsyncTaskWorkerTask:Complete",
    ];
    let mut from = 0;
    for line in tail {
        let at = lines[from..].iter().position(|l| *l == line);
        from += at.unwrap_or_else(|| panic!("`{line}` is missing or too early in:\n{output}"));
    }
    assert_eq!(recorded(&env.path("record")).get(&1), Some(&(1, 1)), "{output}");
    assert_eq!(waiting(&env), [(2, 1), (3, 1)], "{output}");
    assert_eq!(dead_letters(&env), Vec::<Value>::new());
}

#[test]
fn second_term_does_not_wait() {
    let env = crashing::env();
    let tasks = [held_task(&env, 1), quick_task(&env, 2)];
    Store::Embedded.submit(&env, "crash", &tasks.each_ref().map(String::as_str));
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    wait_started(&env.path("record"), 1);
    let family = descendants(host.pid());
    host.signal(libc::SIGTERM);
    host.wait_output("Termination received");
    let begun = Instant::now();
    host.signal(libc::SIGTERM);
    let (_, output) = host.wait();
    assert!(output.contains("was stopped before its end, and waits again"), "{output}");
    // The drain alone would have waited 30 seconds for the task.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}\n{output}", begun.elapsed());
    assert_eq!(waiting(&env), [(1, 1), (2, 1)], "both come back uncharged:\n{output}");
    assert_eq!(dead_letters(&env), Vec::<Value>::new());
    wait_for("the workers to end", || !family.iter().any(Process::is_alive));
}

/// Orders that keep coming, as from somebody who leans on Ctrl-C, do not put the end off.
#[test]
fn impatience_does_not_delay_the_end() {
    let env = crashing::env();
    let database = Database::new();
    let proxy = Proxy::to(&database.address());
    let uri = database.uri().replacen(&database.address(), proxy.address(), 1);
    let set = format!("asynctask_transport={uri}");
    let host = crashing::start(&env, &json!({"crash": {}}), &["--set", &set]);
    host.wait_output("Starting; queue=crash");
    // The store takes no goodbye.
    proxy.cut();
    let process = Process::find(host.pid()).expect("it runs");
    wait_for("the host to end", || {
        host.signal(libc::SIGINT);
        !process.is_alive()
    });
    host.wait();
}

/// Nor does a store that takes connections and says nothing. The time to connect is long here: it is not
/// what ends the wait.
#[test]
fn a_database_that_does_not_answer_does_not_delay_the_end() {
    let env = crashing::env();
    let database = Database::new();
    let proxy = Proxy::to(&database.address());
    let uri = database.uri().replacen(&database.address(), proxy.address(), 1);
    let set = format!("asynctask_transport={uri}?connect_timeout=600");
    for by_signal in [true, false] {
        let host = crashing::start(&env, &json!({"crash": {}}), &["--set", &set]);
        host.wait_output("Starting; queue=crash");
        let before = proxy.unheard();
        proxy.hush();
        // For word of tasks, and for all else.
        wait_for("the host to connect", || proxy.unheard() - before > 1);
        let begun = Instant::now();
        if by_signal {
            host.signal(libc::SIGTERM);
            host.wait_output("Termination received");
            host.signal(libc::SIGTERM);
        } else {
            env.rex_host(&["stop", "--now"]).ok();
        }
        host.wait();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        proxy.restore();
    }
}

/// A terminal on hold, a stuck log collector: the host does not stand still with it.
#[test]
fn nobody_reads_the_output() {
    let env = crashing::env();
    // The log shows payloads.
    let chatty = json!({"how": "ok", "n": 1, "pad": "x".repeat(10_000)}).to_string();
    Store::Embedded.submit(&env, "crash", &vec![chatty.as_str(); 500]);
    let endless = json!({"how": "sleep", "n": 0}).to_string();
    Store::Embedded.submit(&env, "limited", &[&endless]);
    let queues = json!({"crash": {}, "limited": {"timeout": 1}});
    let host = crashing::start_unread(&env, &queues, &[]);
    wait_for("the time limit", || dead_letters(&env).iter().any(|l| l["queue"] == "limited"));
    let process = Process::find(host.pid()).expect("it runs");
    wait_for("the host to end", || {
        host.signal(libc::SIGTERM);
        !process.is_alive()
    });
}

/// As long as somebody might read it, workers wait in their prints; that is not their time. From then on
/// nobody waits.
#[test]
fn output_that_nobody_reads_charges_no_task_and_holds_none_up() {
    let env = crashing::env();
    let chatty = json!({"how": "print", "lines": 100}).to_string();
    Store::Embedded.submit(&env, "crash", &vec![chatty.as_str(); 300]);
    Store::Embedded.submit(&env, "limited", &vec![chatty.as_str(); 300]);
    let queues = json!({"crash": {}, "limited": {"timeout": 1}});
    let host = crashing::start_unread(&env, &queues, &[]);
    wait_for("all to be done", || {
        let status = env.rex_host(&["status", "--json"]);
        status.status.success() && status.json_lines()[0]["done"] == 600
    });
    assert_eq!(dead_letters(&env), [Value::Null; 0]);
    wait_for("the outcomes", || env.rex_host(&["queue", "list", "--json"]).ok().is_empty());
    host.signal(libc::SIGTERM);
    host.wait_ok();
}

#[test]
fn a_host_that_was_stopped_charges_no_task_that_could_not_print() {
    let env = crashing::env();
    let task = json!({"how": "until_print", "lines": 40_000, "file": env.path("go")}).to_string();
    Store::Embedded.submit(&env, "limited", &[&task]);
    let host = crashing::start(&env, &json!({"limited": {"timeout": 3}}), &[]);
    wait_for("the task", || {
        let status = env.rex_host(&["status", "--json"]);
        let running = |status: &Value| status["queues"][0]["processes"][0]["task"].is_i64();
        status.status.success() && running(&status.json_lines()[0])
    });
    host.signal(libc::SIGSTOP);
    env.write("go", "");
    let begun = Instant::now();
    wait_for("the limit to be passed", || begun.elapsed() > Duration::from_secs(5));
    host.signal(libc::SIGCONT);
    wait_for("its end", || waiting(&env).is_empty());
    assert_eq!(dead_letters(&env), [Value::Null; 0]);
    host.signal(libc::SIGTERM);
    host.wait_ok();
}

/// As by `docker pause`: one that is over before the host has anything to look at, or many short ones.
#[test]
fn pauses_of_all_are_charged_to_no_task() {
    for pauses in [1, 15] {
        pauses_of_all(pauses);
    }
}

fn pauses_of_all(pauses: u32) {
    let env = crashing::env();
    Store::Embedded.submit(&env, "limited", &[&held_task(&env, 1)]);
    let host = crashing::start(&env, &json!({"limited": {"timeout": 5}}), &[]);
    wait_started(&env.path("record"), 1);
    let started = Instant::now();
    let status = env.rex_host(&["status", "--json"]).json_lines().remove(0);
    let pid = status["queues"][0]["processes"][0]["pid"].as_i64().expect("a process");
    let worker = Process::find(i32::try_from(pid).expect("it fits")).expect("it serves");
    let length = Duration::from_millis(4500) / pauses;
    for _ in 0..pauses {
        host.signal(libc::SIGSTOP);
        worker.signal(libc::SIGSTOP);
        let begun = Instant::now();
        wait_for("a pause", || begun.elapsed() > length);
        worker.signal(libc::SIGCONT);
        host.signal(libc::SIGCONT);
        // It goes on in between.
        env.rex_host(&["status"]).ok();
    }
    wait_for("the limit to be passed", || started.elapsed() > Duration::from_secs(6));
    env.write("go", "");
    wait_for("its end", || waiting(&env).is_empty());
    assert_eq!(dead_letters(&env), [Value::Null; 0]);
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

/// What a task printed is out before the task is recorded as done; but nobody who stops reading
/// holds the host's end up.
#[test]
fn outcomes_wait_for_the_output() {
    let env = crashing::env();
    let chatty = json!({"how": "ok", "n": 1, "pad": "x".repeat(200_000)}).to_string();
    Store::Embedded.submit(&env, "crash", &[&chatty]);
    let host = crashing::start_unread(&env, &json!({"crash": {}}), &[]);
    let process = Process::find(host.pid()).expect("it runs");
    // Killed before it has waited for long: the task is run again.
    let done = || {
        let status = env.rex_host(&["status", "--json"]);
        status.status.success() && status.json_lines()[0]["done"] == 1
    };
    wait_for("the task to be done", done);
    process.kill();
    wait_for("the host to end", || !process.is_alive());
    assert_eq!(env.rex_host(&["queue", "list", "--json"]).json_lines()[0]["in_flight"], 1);

    let host = crashing::start_unread(&env, &json!({"crash": {}}), &[]);
    let process = Process::find(host.pid()).expect("it runs");
    wait_for("the task to be done", done);
    host.signal(libc::SIGTERM);
    wait_for("the host to end", || !process.is_alive());
    assert_eq!(env.rex_host(&["queue", "list", "--json"]).ok(), "");
}

/// A reader that is slower than the tasks, but reads: outcomes follow what it has read.
#[test]
fn outcomes_do_not_starve_behind_a_slow_reader() {
    let env = crashing::env();
    let chatty = json!({"how": "ok", "n": 1, "pad": "x".repeat(20_000)}).to_string();
    Store::Embedded.submit(&env, "crash", &vec![chatty.as_str(); 200]);
    let host = crashing::start_unread(&env, &json!({"crash": {}}), &[]);
    let fifo = env.work().join("unread");
    wait_for("the output", || fifo.exists());
    let mut reader = std::fs::OpenOptions::new().read(true).write(true).open(fifo);
    let left = || env.rex_host(&["queue", "list", "--json"]).json_lines();
    let reader = reader.as_mut().expect("the host has made it");
    let mut chunk = vec![0; 100_000];
    // Read a little, look; some are recorded long before all is read.
    wait_for("a part of the outcomes", || {
        std::io::Read::read(reader, &mut chunk).expect("there is more");
        let counts = &left()[0];
        let left = |name: &str| counts[name].as_u64().expect("a count");
        left("waiting") + left("in_flight") < 150
    });
    assert!(!left().is_empty(), "and not all of them");
    host.signal(libc::SIGKILL);
}

/// The host has done all that it has to do, and only its output waits for a reader: it is no host
/// that could be asked any more, and who tells it to end hears that it was done.
#[test]
fn a_host_that_is_done_and_unread_is_over() {
    let env = crashing::env();
    let chatty = json!({"how": "ok", "n": 1, "pad": "x".repeat(20_000)}).to_string();
    Store::Embedded.submit(&env, "crash", &[chatty.as_str(); 45]);
    let host = crashing::start_unread(&env, &json!({"crash": {}}), &["--halt-when-empty"]);
    wait_for("the host", || env.rex_host(&["status"]).status.success());
    wait_for("the host to be done", || {
        let status = env.rex_host(&["status"]);
        status.stderr.contains("error: no host `rex` is running")
    });
    assert!(Process::find(host.pid()).is_some_and(|process| process.is_alive()));
    assert_eq!(env.rex_host(&["queue", "list", "--json"]).json_lines(), Vec::<Value>::new());
    host.signal(libc::SIGTERM);
    host.wait_ok();
}

/// A reader that goes on reading, slowly, is waited for until the time is up.
#[test]
fn a_slow_reader_does_not_put_off_the_end() {
    let env = crashing::env();
    let chatty = json!({"how": "ok", "n": 1, "pad": "x".repeat(20_000)}).to_string();
    // Less than what makes the workers wait.
    Store::Embedded.submit(&env, "crash", &[chatty.as_str(); 45]);
    let more = ["--set", "asynctask_drain_timeout=1"];
    let host = crashing::start_unread(&env, &json!({"crash": {}}), &more);
    let process = Process::find(host.pid()).expect("it runs");
    wait_for("the tasks to be done", || {
        let status = env.rex_host(&["status", "--json"]);
        status.status.success() && status.json_lines()[0]["done"] == 45
    });
    let fifo = env.work().join("unread");
    let mut reader = std::fs::OpenOptions::new().read(true).write(true).open(fifo);
    let reader = reader.as_mut().expect("the host has made it");
    let (mut chunk, mut bytes) = ([0; 128], 0);
    host.signal(libc::SIGTERM);
    wait_for("the host to end", || {
        if process.is_alive() {
            bytes += std::io::Read::read(reader, &mut chunk).expect("there is more");
        }
        !process.is_alive()
    });
    assert!(bytes < 800_000, "all was read before the end");
}

/// A process that was caught at a lie is not believed that its task is done.
#[test]
fn a_task_of_a_lying_process_is_not_done() {
    let env = crashing::env();
    let task = json!({"how": "nonsense", "n": 1}).to_string();
    Store::Embedded.submit(&env, "crash", &[&task]);
    let host = crashing::start(&env, &json!({"crash": {}}), &["--halt-when-empty"]);
    let output = host.wait_ok();
    let letters = dead_letters(&env);
    assert_eq!(letters.len(), 1, "{output}");
    let reason = letters[0]["reason"].as_str().expect("a text");
    assert_eq!(reason, "the worker's process sent what no worker sends and was killed");
}

/// Nobody can tell which of the tasks that it has started made a process lie: they run again one by
/// one, and the liar is caught alone.
#[test]
fn neighbours_of_a_lie_are_not_charged() {
    let env = crashing::env();
    let how = |n| if n == 9 || n == 25 { "nonsense" } else { "ok" };
    let record = env.path("record");
    let task = |n| json!({"how": how(n), "n": n, "record": record}).to_string();
    let tasks: Vec<String> = (1..=40).map(task).collect();
    Store::Embedded.submit(&env, "crash", &tasks.iter().map(String::as_str).collect::<Vec<_>>());
    let output = crashing::start(&env, &json!({"crash": {}}), &["--halt-when-empty"]).wait_ok();
    let mut dead: Vec<i64> =
        dead_letters(&env).iter().map(|letter| letter["payload"]["n"].as_i64().unwrap()).collect();
    dead.sort_unstable();
    assert_eq!(dead, [9, 25], "{output}");
    let recorded = recorded(&record);
    assert_eq!((1..=40).filter(|n| !recorded.contains_key(n)).collect::<Vec<_>>(), [0; 0]);
}

#[test]
fn drain_has_a_deadline() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "crash", &[&held_task(&env, 1)]);
    let more = ["--set", "asynctask_drain_timeout=0.3"];
    let host = crashing::start(&env, &json!({"crash": {}}), &more);
    wait_started(&env.path("record"), 1);
    host.signal(libc::SIGTERM);
    let (_, output) = host.wait();
    assert_eq!(waiting(&env), [(1, 1)], "{output}");
    assert!(!output.contains("not recorded"), "the store was there all the time: {output}");
    assert_eq!(dead_letters(&env), Vec::<Value>::new());
}

/// A terminal's Ctrl-C reaches the whole foreground group; workers must not see it.
#[test]
fn ctrl_c_drains_and_another_one_ends() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "crash", &[&held_task(&env, 1)]);
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    wait_started(&env.path("record"), 1);
    host.signal_group(libc::SIGINT);
    host.wait_output("Termination received");
    env.write("go", "");
    host.wait_ok();
    assert_eq!(recorded(&env.path("record")).get(&1), Some(&(1, 1)));

    std::fs::remove_file(env.path("go")).expect("it was made");
    Store::Embedded.submit(&env, "crash", &[&held_task(&env, 2)]);
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    wait_started(&env.path("record"), 2);
    host.signal_group(libc::SIGINT);
    host.wait_output("Termination received");
    host.signal_group(libc::SIGINT);
    let (_, output) = host.wait();
    assert_eq!(waiting(&env), [(2, 1)], "{output}");
}

/// What a plugin leaves to be done at exit may hang; a worker that has said goodbye is not waited for.
#[test]
fn nobody_lingers_after_goodbye() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "crash", &[r#"{"how": "atexit"}"#]);
    let host = crashing::start(&env, &json!({"crash": {}}), &["--halt-when-empty"]);
    let output = host.wait_ok();
    assert!(output.contains("INFO:CrashWorker:Terminating"), "{output}");
    assert!(!output.contains("died"), "it did all it was asked: {output}");
    assert_eq!(dead_letters(&env), Vec::<Value>::new());
}

#[test]
fn a_host_that_does_not_answer_is_said_to_be_one() {
    let env = crashing::env();
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    host.wait_output("Starting; queue=crash");
    host.signal(libc::SIGSTOP);
    std::thread::scope(|scope| {
        for command in ["status", "reload", "stop"] {
            let command = env.command("rex-host", &[command]);
            scope.spawn(move || {
                let text = process::run(command, "").fails(1);
                assert!(text.contains("host `rex` does not answer"), "{text}");
                assert!(text.contains("/rex/pid`"), "{text}");
            });
        }
    });
    host.signal(libc::SIGCONT);
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

#[test]
fn halting_waits_for_tasks_in_flight() {
    let env = crashing::env();
    let task = json!({
        "how": "until", "file": env.path("go"), "n": 1, "record": env.path("record"),
        "then": {"how": "ok", "n": 2, "record": env.path("record")},
    });
    Store::Embedded.submit(&env, "crash", &[&task.to_string()]);
    let host = crashing::start(&env, &json!({"crash": {"processes": 2}}), &["--halt-when-empty"]);
    wait_started(&env.path("record"), 1);
    // The other process has nothing to do, and yet more may come of the first one's task.
    for _ in 0..3 {
        env.rex_host(&["status"]).ok();
        let output = host.output();
        assert!(!output.contains("No tasks found in queue"), "{output}");
    }
    env.write("go", "");
    let output = host.wait_ok();
    assert_eq!(recorded(&env.path("record")).get(&2), Some(&(1, 1)), "{output}");
    assert_eq!(output.matches("INFO:CrashWorker:No tasks found in queue").count(), 2, "{output}");
    assert_eq!(output.matches("INFO:CrashWorker:Terminating").count(), 2, "{output}");
}

#[test]
fn halting_takes_no_notice_of_queues_without_a_worker() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "elsewhere", &["{}"]);
    let host = crashing::start(&env, &json!({"crash": {}}), &["--halt-when-empty"]);
    host.wait_ok();
    let queues = env.rex_host(&["queue", "list", "--json"]).json_lines();
    assert_eq!(queues.len(), 1, "{queues:?}");
    assert_eq!((&queues[0]["queue"], &queues[0]["waiting"]), (&json!("elsewhere"), &json!(1)));
}

/// Only signals are impatient when they come again.
#[test]
fn another_stop_waits_along() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "crash", &[&held_task(&env, 1)]);
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    wait_started(&env.path("record"), 1);
    host.signal(libc::SIGTERM);
    host.wait_output("Termination received");
    let stop = env.command("rex-host", &["stop"]);
    let mut patient = std::process::Command::new("timeout");
    patient.arg("1").arg(stop.get_program()).args(stop.get_args()).current_dir(env.work());
    patient.envs(stop.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_eq!(patient.status().expect("there is a timeout").code(), Some(124), "it waits");
    env.write("go", "");
    host.wait_ok();
    assert_eq!(recorded(&env.path("record"))[&1], (1, 1));
}

#[test]
fn restarts_back_off() {
    let env = crashing::env();
    let tasks: Vec<String> = (0..5).map(|n| json!({"how": "exit3", "n": n}).to_string()).collect();
    let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
    Store::Embedded.submit(&env, "crash", &tasks);
    let begun = Instant::now();
    let host = crashing::start(&env, &json!({"crash": {}}), &["--halt-when-empty"]);
    let output = host.wait_ok();
    // At once, then 100, 200, 400 and 800 ms, less a quarter at most.
    assert!(begun.elapsed() > Duration::from_millis(1100), "{:?}\n{output}", begun.elapsed());
    assert_eq!(output.matches("died; restarting...").count(), 5, "{output}");
    assert_eq!(dead_letters(&env).len(), 5);
}

#[test]
fn an_idle_worker_that_is_killed_is_replaced() {
    let env = crashing::env();
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    host.wait_output("INFO:CrashWorker:Starting; queue=crash");
    let status = env.rex_host(&["status", "--json"]).json_lines();
    let pid = status[0]["queues"][0]["processes"][0]["pid"].as_i64().expect("a pid");
    let worker = Process::find(i32::try_from(pid).expect("it fits")).expect("it runs");
    worker.kill();
    host.wait_output("ERROR:AsyncTaskWorkerTask:Worker for queue crash died; restarting...");
    host.wait_output_times("INFO:CrashWorker:Starting; queue=crash", 2);
    Store::Embedded.submit(&env, "crash", &[&quick_task(&env, 7)]);
    wait_for("the task", || recorded(&env.path("record")).get(&7) == Some(&(1, 1)));
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

#[test]
fn a_second_host_of_the_same_name_is_told_both_remedies() {
    let env = crashing::env();
    let place = ["--state", "elsewhere"];
    let host = crashing::start(&env, &json!({"crash": {}}), &place);
    host.wait_output("Starting; queue=crash");
    env.write("plugins/bad.so", "this is no library");
    let second = crashing::start(&env, &json!({"crash": {}}), &place);
    let (status, output) = second.wait();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.starts_with("error: "), "it is told that first and nothing else: {output}");
    for part in [host.pid().to_string().as_str(), "--name", "--state", "rex-host stop"] {
        assert!(output.contains(part), "`{part}` is not in:\n{output}");
    }
    let named = [place[0], place[1], "--name", "other"];
    let other = crashing::start(&env, &json!({"crash": {}}), &named);
    other.wait_output("Starting; queue=crash");
    env.rex_host(&[&["stop"], &named[..]].concat()).ok();
    other.wait_ok();
    let original = env.rex(&["--state=elsewhere", "asynctask-workers", "rex.asynctask"]).fails(1);
    let told = output.lines().next().and_then(|line| line.strip_prefix("error: "));
    assert_eq!(original, format!("FATAL ERROR: {}\n\n", told.expect("an error")));
    let stop = output.split('`').find_map(|part| part.strip_prefix("rex-host "));
    env.rex_host(&stop.expect("a command").split(' ').collect::<Vec<_>>()).ok();
    host.wait_ok();
}

#[test]
fn a_process_that_takes_up_no_tasks_keeps_none_from_others() {
    let env = crashing::env();
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    Store::Embedded.submit(&env, "crash", &[&quick_task(&env, 1)]);
    wait_for("the task", || recorded(&env.path("record")).contains_key(&1));
    let status = || env.rex_host(&["status", "--json"]).json_lines().remove(0);
    let pid = status()["queues"][0]["processes"][0]["pid"].as_i64().expect("a process");
    let worker = Process::find(i32::try_from(pid).expect("it fits")).expect("it serves");
    worker.signal(libc::SIGSTOP);
    Store::Embedded.submit(&env, "crash", &[&quick_task(&env, 2), &quick_task(&env, 3)]);
    host.wait_output("did not react for 10 s and was killed between tasks");
    wait_for("the tasks", || {
        let recorded = recorded(&env.path("record"));
        [2, 3].iter().all(|n| recorded.get(n) == Some(&(1, 1)))
    });
    wait_for("their outcomes", || status()["done"] == 3);
    assert_eq!(status()["failed"], 0);
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

#[test]
fn an_idle_process_that_does_not_react_keeps_no_host_from_its_end() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "crash", &[&held_task(&env, 1)]);
    let host = crashing::start(&env, &json!({"crash": {"processes": 2}}), &["--halt-when-empty"]);
    wait_started(&env.path("record"), 1);
    let status = || env.rex_host(&["status", "--json"]).json_lines().remove(0);
    let idle = || {
        let processes = status()["queues"][0]["processes"].as_array().cloned().unwrap_or_default();
        let of = |process: &Value| process["pid"].as_i64().filter(|_| process["task"].is_null());
        processes.iter().find_map(of)
    };
    let mut pid = None;
    wait_for("an idle process", || {
        pid = idle();
        pid.is_some()
    });
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).expect("it fits");
    Process::find(pid).expect("it serves").signal(libc::SIGSTOP);
    env.write("go", "");
    host.wait_output("did not react for 10 s and was killed");
    let output = host.wait_ok();
    assert_eq!(recorded(&env.path("record")).get(&1), Some(&(1, 1)), "{output}");
}

#[test]
fn processes_of_a_queue_work_at_the_same_time() {
    let env = crashing::env();
    let tasks = [held_task(&env, 1), held_task(&env, 2)];
    Store::Embedded.submit(&env, "crash", &tasks.each_ref().map(String::as_str));
    let host = crashing::start(&env, &json!({"crash": {"processes": 2}}), &["--halt-when-empty"]);
    wait_started(&env.path("record"), 1);
    wait_started(&env.path("record"), 2);
    env.write("go", "");
    host.wait_ok();
}

#[test]
fn starts_are_rate_limited_over_all_processes() {
    let env = crashing::env();
    let tasks: Vec<String> = (0..6).map(|n| quick_task(&env, n)).collect();
    let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
    Store::Embedded.submit(&env, "crash", &tasks);
    let queue = json!({"processes": 2, "rate_max_calls": 2, "rate_period": 0.5});
    let begun = Instant::now();
    let output = crashing::start(&env, &json!({"crash": queue}), &["--halt-when-empty"]).wait_ok();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}\n{output}", begun.elapsed());
    assert!(output.contains("Rate limited on queue crash, sleeping for "), "{output}");
    assert_eq!(recorded(&env.path("record")).len(), 6);
}

#[test]
fn half_a_limit_of_rate_is_said_to_be_none() {
    let env = crashing::env();
    for (given, missing) in [("rate_max_calls", "rate_period"), ("rate_period", "rate_max_calls")] {
        let queues = json!({"crash": {given: 1}});
        let output = crashing::start(&env, &queues, &["--halt-when-empty"]).wait_ok();
        let said =
            format!("WARNING:rex-host:{given} of queue crash limits nothing without {missing}\n");
        assert!(output.contains(&said), "{output}");
    }
}

/// What no process has begun has not started, whoever it was handed to.
#[test]
fn a_process_that_dies_idle_costs_no_start() {
    let env = crashing::env();
    let limit = json!({"rate_max_calls": 1, "rate_period": 3600});
    let host = crashing::start(&env, &json!({ "crash": limit }), &[]);
    host.wait_output("Starting; queue=crash");
    let status = env.rex_host(&["status", "--json"]).json_lines().remove(0);
    let pid = status["queues"][0]["processes"][0]["pid"].as_i64().expect("a process");
    let worker = Process::find(i32::try_from(pid).expect("it fits")).expect("it serves");
    worker.signal(libc::SIGSTOP);
    Store::Embedded.submit(&env, "crash", &[&quick_task(&env, 1)]);
    wait_for("the claim", || {
        let queues = env.rex_host(&["queue", "list", "--json"]).json_lines();
        queues.iter().any(|queue| queue["in_flight"] == 1)
    });
    worker.signal(libc::SIGKILL);
    wait_for("the task", || recorded(&env.path("record")).get(&1) == Some(&(1, 1)));
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

#[test]
fn what_a_limit_of_rate_allows_is_claimed_in_batches() {
    is_claimed_in_batches(&json!({"rate_max_calls": 10_000, "rate_period": 1}));
    is_claimed_in_batches(&json!({"rate_max_calls": 1, "rate_period": 0.001}));
    // What is claimed is more than what may start soon.
    is_claimed_in_batches(&json!({"rate_max_calls": 10, "rate_period": 0.05}));
}

fn is_claimed_in_batches(limit: &Value) {
    let env = crashing::env();
    let store = Store::Pgsql(Database::new());
    let Store::Pgsql(database) = &store else { unreachable!("it was just made") };
    let tasks: Vec<String> = (0..400).map(|n| quick_task(&env, n)).collect();
    store.submit(&env, "crash", &tasks.iter().map(String::as_str).collect::<Vec<_>>());
    let set = format!("asynctask_transport={}", database.uri());
    let more = ["--halt-when-empty", "--set", &set];
    crashing::start(&env, &json!({ "crash": limit }), &more).wait_ok();
    assert_eq!(recorded(&env.path("record")).len(), 400);
    let claims = "SELECT pg_sequence_last_value(
        pg_get_serial_sequence('asynctask.rex_claims', 'id')::regclass)";
    let claims: i64 = database.connect().query_one(claims, &[]).expect("it can be asked").get(0);
    assert!(claims < 50, "{claims}");
}

/// What is left of the period is nothing to wait for.
#[test]
fn a_limit_of_rate_does_not_hold_up_the_end() {
    let env = crashing::env();
    let queue = json!({"rate_max_calls": 2, "rate_period": 3600});
    let tasks = [quick_task(&env, 1), quick_task(&env, 2)];
    Store::Embedded.submit(&env, "crash", &tasks.each_ref().map(String::as_str));
    crashing::start(&env, &json!({"crash": queue}), &["--halt-when-empty"]).wait_ok();
    assert_eq!(recorded(&env.path("record")).len(), 2);
}

#[test]
fn tstp_quiets_and_cont_resumes() {
    let env = crashing::env();
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    host.wait_output("Starting; queue=crash");
    let phase = || env.rex_host(&["status", "--json"]).json_lines().remove(0)["phase"].clone();
    host.signal(libc::SIGTSTP);
    wait_for("the host to be quiet", || phase() == "quiet");
    Store::Embedded.submit(&env, "crash", &[&quick_task(&env, 1)]);
    for _ in 0..3 {
        assert_eq!(phase(), "quiet");
    }
    assert_eq!(waiting(&env), [(1, 1)]);
    host.signal(libc::SIGCONT);
    wait_for("the task", || recorded(&env.path("record")).get(&1) == Some(&(1, 1)));
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

#[test]
fn tstp_gives_back_what_was_sent_ahead() {
    let env = crashing::env();
    let task = |n: i64| match n <= 2000 {
        true => quick_task(&env, n),
        false => {
            json!({"how": "work", "ms": 300, "n": n, "record": env.path("record")}).to_string()
        }
    };
    let tasks: Vec<String> = (1..=2040).map(task).collect();
    let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
    Store::Embedded.submit(&env, "crash", &tasks);
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    wait_started(&env.path("record"), 2001);
    host.signal(libc::SIGTSTP);
    wait_for("what was sent ahead", || {
        env.rex_host(&["queue", "list", "--json"]).json_lines()[0]["in_flight"] == 0
    });
    let begun = recorded(&env.path("record")).len();
    assert!(begun < 2020, "{begun} are begun");
    host.signal(libc::SIGCONT);
    wait_for("some more", || recorded(&env.path("record")).len() > begun);
    env.rex_host(&["stop"]).ok();
    host.wait_ok();
}

#[test]
fn stop_now_does_not_wait() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "crash", &[&held_task(&env, 1)]);
    let host = crashing::start(&env, &json!({"crash": {}}), &[]);
    wait_started(&env.path("record"), 1);
    let begun = Instant::now();
    env.rex_host(&["stop", "--now"]).ok();
    host.wait();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(waiting(&env), [(1, 1)]);
}

#[test]
fn output_is_passed_on_whole_and_capped() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "crash", &[r#"{"how": "print", "lines": 5000}"#]);
    let queue = json!({"crash": {}});
    let output = crashing::start(&env, &queue, &["--halt-when-empty"]).wait_ok();
    let line = "x".repeat(99);
    assert_eq!(output.lines().filter(|l| *l == line).count(), 5000);
    let end = output.find("Processing complete").expect("it is logged");
    assert!(output.rfind(&line).expect("it is there") < end, "output comes before the outcome");

    Store::Embedded.submit(&env, "crash", &[r#"{"how": "print", "lines": 5000}"#]);
    let more = ["--halt-when-empty", "--set", "asynctask_output_limit=10000"];
    let output = crashing::start(&env, &queue, &more).wait_ok();
    let kept = output.lines().filter(|l| *l == line).count();
    assert!((90..=110).contains(&kept), "{kept} lines kept");
    assert!(output.contains("490000") || output.contains("dropped"), "{output}");
}

/// What is written for long holds up what comes after it, and costs it nothing.
#[test]
fn what_is_logged_is_capped_and_costs_no_neighbour() {
    let env = crashing::env();
    let log = |bytes: usize, records: usize| {
        json!({"how": "log", "bytes": bytes, "records": records}).to_string()
    };
    let (one, many) = (log(40 << 20, 1), log(99, 1000));
    let print = r#"{"how": "print", "lines": 20}"#;
    let tasks = [print, &one, print, &many, &log(100_000, 1), print];
    Store::Embedded.submit(&env, "crash", &tasks);
    let more = ["--halt-when-empty", "--set", "asynctask_output_limit=60000"];
    let output = crashing::start(&env, &json!({"crash": {}}), &more).wait_ok();
    let count = |text: &str| output.lines().filter(|line| *line == text).count();
    assert_eq!(count(&"x".repeat(99)), 60);
    assert_eq!(count("DEBUG:CrashWorker:Processing complete"), 6);
    let kept = |line: &str| line.strip_prefix("INFO:CrashWorker:y").map(str::len);
    assert_eq!(output.lines().filter_map(kept).filter(|length| *length == 98).count(), 606);
    let cut = |text: &str| output.lines().filter(|line| line.ends_with(text)).count();
    assert_eq!(cut(&format!("y... ({} more bytes)", (40 << 20) - 60_000)), 1);
    assert_eq!(cut("y... (40000 more bytes)"), 1);
    let told = "bytes that the task logged were dropped; see asynctask_output_limit";
    assert_eq!(count(&format!("WARNING:CrashWorker:39000 of 99000 {told}")), 1);
    assert_eq!(cut(told), 3);
    assert!(!output.contains("nobody read them"), "nothing else is dropped");
}

/// A library that catches a panic, and one that hands one on, past every hook.
#[test]
fn a_task_fails_for_its_own_panic() {
    let env = crashing::env();
    let tasks = [r#"{"how": "caught_panic"}"#, r#"{"how": "resumed_panic"}"#];
    Store::Embedded.submit(&env, "crash", &tasks);
    crashing::start(&env, &json!({"crash": {}}), &["--halt-when-empty"]).wait_ok();
    let letters = dead_letters(&env);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["reason"], "Panic: handed on, on purpose");
    assert!(!letters[0].to_string().contains("caught on purpose"), "{letters:?}");
}

/// Many of them stand in the pipe when it is read.
#[test]
fn tasks_that_print_little_lose_nothing_to_the_limit() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "crash", &[r#"{"how": "print", "lines": 20}"#; 400]);
    let more = ["--halt-when-empty", "--set", "asynctask_output_limit=3000"];
    let output = crashing::start(&env, &json!({"crash": {}}), &more).wait_ok();
    let line = "x".repeat(99);
    assert_eq!(output.lines().filter(|l| *l == line).count(), 8000);
    assert!(!output.contains("dropped"), "{output}");
}

/// Daemons and the programs of others hand down what they made of signals.
#[test]
fn what_was_inherited_of_signals_changes_nothing() {
    let env = crashing::env();
    Store::Embedded.submit(&env, "crash", &[r#"{"how": "abort"}"#]);
    let host = crashing::start_under(
        &["env", "--ignore-signal=CHLD", "--block-signal=TERM"],
        &env,
        &json!({"crash": {}}),
    );
    host.wait_output("was killed by signal 6 (SIGABRT)");
    host.signal(libc::SIGTERM);
    host.wait_ok();
    let peak = dead_letters(&env)[0]["details"]["peak_rss"].as_u64();
    assert!(peak.is_some_and(|bytes| bytes > 0), "{:?}", dead_letters(&env));
}

/// A container has numbers of processes of its own.
#[test]
fn stop_waits_for_a_host_among_other_processes() {
    let env = crashing::env();
    let host = crashing::start_under(
        &["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"],
        &env,
        &json!({"crash": {}}),
    );
    let is_there = || host.output().contains("Starting; queue=crash");
    wait_for("the host, or why there is none", || is_there() || host.output().contains("unshare"));
    if !is_there() {
        return not_run("stop in another namespace", "this machine grants none");
    }
    assert!(env.rex_host(&["stop"]).ok().starts_with("stopped after "));
    host.wait_ok();
}
