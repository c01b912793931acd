//! Runs programs for tests: to the end within a deadline, or in the background with their output
//! at hand. Every wait is for a condition and has an end; what is left over is killed.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before it counts as hanging; far more than anything needs, because
/// the machine may be busy with other things.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not hold before the deadline.
pub fn wait_for(what: impl fmt::Display, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// A program that has ended.
pub struct Done {
    pub command: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// What it printed, when it ended well.
    ///
    /// # Panics
    /// When the exit code is not 0.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{self}");
        self.stdout
    }

    /// What it complained about, when it ended with `code`.
    ///
    /// # Panics
    /// When the exit code is another one.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self.stderr
    }

    /// The objects that a `--json` list printed, one a line.
    ///
    /// # Panics
    /// When the program failed or a line is no JSON.
    #[track_caller]
    pub fn json_lines(self) -> Vec<Value> {
        let text = self.ok();
        text.lines().map(|line| parse_json(line)).collect()
    }
}

#[track_caller]
fn parse_json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"))
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { command, status, stdout, stderr } = self;
        write!(f, "`{command}`: {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

/// Runs `command` to its end, with `input` on its standard input.
///
/// # Panics
/// When it cannot be started, or does not end before the deadline (it is killed then).
#[track_caller]
pub fn run(command: Command, input: &str) -> Done {
    run_within(DEADLINE, command, input)
}

/// As [`run`], with another deadline.
///
/// # Panics
/// As [`run`].
#[track_caller]
pub fn run_within(deadline: Duration, mut command: Command, input: &str) -> Done {
    let text = describe(&command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start `{text}`: {error}"));
    let mut stdin = child.stdin.take().expect("it was asked for");
    let input = input.to_owned();
    let writer = thread::spawn(move || {
        // A program need not read its input.
        let _ = stdin.write_all(input.as_bytes());
    });
    let stdout = collect(child.stdout.take().expect("it was asked for"));
    let stderr = collect(child.stderr.take().expect("it was asked for"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break Some(status);
        }
        if start.elapsed() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        thread::park_timeout(Duration::from_millis(2));
    };
    writer.join().expect("the writer does not panic");
    let done = Done {
        command: text,
        status: status.unwrap_or_else(|| ExitStatus::from_raw(9)),
        stdout: stdout.join().expect("the reader does not panic"),
        stderr: stderr.join().expect("the reader does not panic"),
    };
    assert!(status.is_some(), "did not end within {deadline:?}: {done}");
    done
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A program in the background; stdout and stderr in one pipe, as on a terminal. Killed with
/// everything it started when dropped.
pub struct Running {
    child: Child,
    command: String,
    output: Arc<Output>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Output {
    text: Mutex<(String, bool)>,
    grown: Condvar,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, (String, bool)> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Starts `command` in a process group of its own.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(mut command: Command) -> Running {
        let text = describe(&command);
        obeys_the_terminal(&mut command);
        let (mut from, to) = std::io::pipe().expect("a pipe can be made");
        let also_to = to.try_clone().expect("a pipe can be cloned");
        let child = command
            .stdin(Stdio::null())
            .stdout(to)
            .stderr(also_to)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start `{text}`: {error}"));
        drop(command); // and with it our copies of the pipe's other end
        let output = Arc::new(Output::default());
        let shared = Arc::clone(&output);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 8192];
            let mut pending = Vec::new();
            while let Ok(n) = from.read(&mut chunk) {
                if n == 0 {
                    break;
                }
                pending.extend_from_slice(&chunk[..n]);
                let whole = pending.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
                let text: Vec<u8> = pending.drain(..whole).collect();
                shared.lock().0.push_str(&String::from_utf8_lossy(&text));
                shared.grown.notify_all();
            }
            let mut output = shared.lock();
            output.0.push_str(&String::from_utf8_lossy(&pending));
            output.1 = true;
            shared.grown.notify_all();
        });
        Running { child, command: text, output, reader: Some(reader) }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits")
    }

    /// All whole lines so far.
    pub fn output(&self) -> String {
        self.output.lock().0.clone()
    }

    /// Waits until the output holds `part` and returns the output.
    ///
    /// # Panics
    /// When the deadline passes, or the output ends without it.
    #[track_caller]
    pub fn wait_output(&self, part: &str) -> String {
        self.wait_output_times(part, 1)
    }

    /// Waits until the output holds `part` that many times.
    ///
    /// # Panics
    /// As [`wait_output`](Self::wait_output).
    #[track_caller]
    pub fn wait_output_times(&self, part: &str, times: usize) -> String {
        let start = Instant::now();
        let mut output = self.output.lock();
        loop {
            if output.0.matches(part).count() >= times {
                return output.0.clone();
            }
            let why = if output.1 { "its output ended" } else { "the deadline passed" };
            let Some(left) = DEADLINE.checked_sub(start.elapsed()).filter(|_| !output.1) else {
                let text = output.0.clone();
                drop(output);
                panic!("`{}`: {why} before `{part}` came:\n{text}", self.command);
            };
            output = match self.output.grown.wait_timeout(output, left) {
                Ok((output, _)) => output,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: i32) {
        send(self.pid(), signal);
    }

    /// Sends a signal to the program's process group, as a terminal does on Ctrl-C.
    pub fn signal_group(&self, signal: i32) {
        send(-self.pid(), signal);
    }

    /// Waits for the end; the exit status and the whole output.
    ///
    /// # Panics
    /// When it does not end before the deadline.
    #[track_caller]
    pub fn wait(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                break status;
            }
            let late = start.elapsed() > DEADLINE;
            assert!(!late, "`{}` did not end:\n{}", self.command, self.output());
            thread::park_timeout(Duration::from_millis(2));
        };
        // What a grandchild that holds the pipe prints later is not the program's.
        let drained = Instant::now();
        let mut output = self.output.lock();
        while !output.1 && drained.elapsed() < Duration::from_secs(2) {
            output = match self.output.grown.wait_timeout(output, Duration::from_millis(100)) {
                Ok((output, _)) => output,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        let text = output.0.clone();
        drop(output);
        (status, text)
    }

    /// Waits for the end, which must be with exit code 0, and returns the whole output.
    ///
    /// # Panics
    /// When the exit code is another one.
    #[track_caller]
    pub fn wait_ok(self) -> String {
        let command = self.command.clone();
        let (status, output) = self.wait();
        assert!(status.success(), "`{command}`: {status}\n{output}");
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let family = descendants(self.pid());
            let _ = self.child.kill();
            let _ = self.child.wait();
            for process in family {
                if process.is_alive() {
                    send(process.pid, libc::SIGKILL);
                }
            }
        }
        // The reader ends with the last holder of the pipe; nobody waits for it.
        drop(self.reader.take());
    }
}

/// Who runs the tests in the background of a script, or by `nohup`, has them, and what they start,
/// ignore what a terminal says.
#[expect(unsafe_code, reason = "what runs between fork and exec")]
fn obeys_the_terminal(command: &mut Command) {
    let default = || {
        for signal in [libc::SIGINT, libc::SIGHUP] {
            // SAFETY: signal takes two integers and may be called there.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the function makes one system call and uses no memory.
    unsafe { command.pre_exec(default) };
}

#[expect(unsafe_code, reason = "kill is a libc call")]
fn send(pid: i32, signal: i32) {
    // SAFETY: kill takes two integers and touches no memory of ours.
    unsafe { libc::kill(pid, signal) };
}

/// A process that was seen, told from a later one with the same number by its start time.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    parent: i32,
    started: u64,
    /// The command line, words separated by spaces.
    pub command: String,
}

impl PartialEq for Process {
    fn eq(&self, other: &Process) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }
}

impl Process {
    /// What runs under this number now; zombies do not run.
    pub fn find(pid: i32) -> Option<Process> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
        let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split(' ').collect();
        if fields[0] == "Z" || fields[0] == "X" {
            return None;
        }
        let command = std::fs::read_to_string(folder.join("cmdline")).unwrap_or_default();
        Some(Process {
            pid,
            parent: fields[1].parse().ok()?,
            started: fields[19].parse().ok()?,
            command: command.replace('\0', " ").trim_end().to_owned(),
        })
    }

    pub fn is_alive(&self) -> bool {
        Process::find(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Memory in bytes, as the kernel accounts it under this name: `VmRSS` all that is resident,
    /// `RssAnon` what no other process and no file has.
    pub fn memory(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kb| kb * 1024)
    }

    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    pub fn signal(&self, signal: i32) {
        send(self.pid, signal);
    }
}

/// The living children of `pid` and theirs.
pub fn descendants(pid: i32) -> Vec<Process> {
    let all: Vec<Process> = std::fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Process::find)
        .collect();
    let mut family = vec![pid];
    let mut found = Vec::new();
    let mut next = 0;
    while next < family.len() {
        let parent = family[next];
        for process in all.iter().filter(|process| process.parent == parent) {
            family.push(process.pid);
            found.push(process.clone());
        }
        next += 1;
    }
    found
}
