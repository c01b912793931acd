//! Asks a plugin what it exports, in a process that may die of it.
//!
//! Loading a library runs its constructors: they may crash, hang, print, exit, or start processes.
//! So the host starts itself again (the hidden subcommand `probe-plugin`, whose body is [`answer`])
//! in a process group of its own, reads one line of JSON from it, and kills the group in any case.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rex_plugin_api::abi::{Buffer, Host};
use rex_plugin_api::ops::{self, Manifest};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getppid, getrlimit, kill_process_group, pidfd_open,
    setrlimit,
};
use serde::{Deserialize, Serialize};

use super::load::load;
use super::reason::Reason;
use crate::supervisor::exit::signal_name;
use crate::worker::leash;

/// The hidden subcommand's name; its only argument is the plugin's path.
pub const SUBCOMMAND: &str = "probe-plugin";

/// How long a plugin may take to load.
pub const LIMIT: Duration = Duration::from_secs(10);

/// What it may take meanwhile.
const MAX_MEMORY: u64 = 4 << 30;

/// No honest answer comes near it.
const MAX_ANSWER: usize = 1 << 20;

/// What is kept of the plugin's prints, for the refusal; a panic that cannot unwind prints a lot.
const MAX_PRINTS: usize = 1 << 16;

/// What the refusal quotes of it.
const MAX_WORDS: usize = 400;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Manifest(Manifest),
    Refused(Reason),
}

// ---- in the probe ------------------------------------------------------------------------------

/// The body of the hidden subcommand: loads the plugin at `path` and writes one line of JSON to
/// what was stdout when it was called.
///
/// # Errors
/// When the answer cannot be written.
pub fn answer(path: &Path) -> io::Result<()> {
    // With the host the probe dies too, and what the plugin has started.
    leash::bind(getppid().map_or(0, |host| host.as_raw_nonzero().get()))?;
    limit_resources();
    // From here on the plugin's own prints go to stderr, whatever it prints to.
    let mut out = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?);
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;

    let answer = match load(path, &NoHost) {
        Ok(loaded) => Answer::Manifest(loaded.manifest),
        Err(error) => Answer::Refused(error.into()),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// Best effort: the host's time limit is what ends a plugin that goes on for ever.
fn limit_resources() {
    let lower = |resource, value: u64| {
        let Rlimit { maximum, .. } = getrlimit(resource);
        let limit = maximum.map_or(value, |maximum| value.min(maximum));
        let _ = setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) });
    };
    // In case that the host is gone and the signal of its death was missed.
    lower(Resource::Cpu, 2 * LIMIT.as_secs());
    // Before one that takes all memory costs others theirs.
    lower(Resource::Data, MAX_MEMORY);
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
}

/// Plugins are only described here; one that calls back has started something by itself.
struct NoHost;

impl Host for NoHost {
    fn call(&self, _: u32, _: &[u8], output: &mut Buffer) -> u32 {
        output.set(b"the plugin is only being looked at");
        ops::FAILED
    }
}

// ---- in the host -------------------------------------------------------------------------------

/// How probes are started.
#[derive(Debug, Clone)]
pub struct Prober {
    exe: PathBuf,
    limit: Duration,
}

impl Prober {
    /// `exe` is rex-host's own binary (another one's, in tests).
    pub fn new(exe: impl Into<PathBuf>) -> Prober {
        const SELF: &str = "/proc/self/exe";
        let exe = exe.into();
        // The running binary, even after another one was installed in its place.
        let exe = if is_same_file(&exe, Path::new(SELF)) { PathBuf::from(SELF) } else { exe };
        Prober { exe, limit: LIMIT }
    }

    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Prober {
        self.limit = limit;
        self
    }

    /// What the plugin at `path` says of itself. The caller checks it again: only the process that
    /// answered had to be honest for the answer to be.
    ///
    /// # Errors
    /// Why the plugin cannot be used.
    pub fn probe(&self, path: &Path) -> Result<Manifest, Reason> {
        let start = |e| Reason::new(format_args!("cannot be checked: the probe process: {e}"));
        let mut probe = Probe::spawn(&self.exe, path).map_err(start)?;
        let ending = probe.wait(Instant::now() + self.limit);
        let status = probe.end();
        match ending.map_err(start)? {
            Ending::Answered => parse(&probe.answer),
            Ending::TimedOut => Err(Reason::new(format_args!(
                "was stopped: it was still loading after {:?}{}",
                self.limit,
                probe.last_words()
            ))
            .hint("one of its constructors (code that runs when it is loaded) hangs")),
            Ending::Exited => Err(explain_exit(status, &probe)),
        }
    }
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    let id = |path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

fn explain_exit(status: Option<ExitStatus>, probe: &Probe) -> Reason {
    let words = probe.last_words();
    let signal = status.and_then(|status| status.signal());
    match (signal, status.and_then(|status| status.code())) {
        (Some(signal), _) => {
            let name = signal_name(signal).map(|name| format!(" ({name})")).unwrap_or_default();
            Reason::new(format_args!("crashed while loading: signal {signal}{name}{words}"))
        }
        (None, Some(code)) => {
            Reason::new(format_args!("ended its process while loading: exit code {code}{words}"))
        }
        (None, None) => Reason::new(format_args!("was lost while loading{words}")),
    }
}

fn parse(answer: &[u8]) -> Result<Manifest, Reason> {
    match serde_json::from_slice(answer) {
        Ok(Answer::Manifest(manifest)) => Ok(manifest),
        Ok(Answer::Refused(reason)) => {
            let clean = Reason::new(reason.text);
            Err(match reason.hint {
                Some(hint) => clean.hint(hint),
                None => clean,
            })
        }
        Err(error) => Err(Reason::new(format_args!("answered the probe with nonsense: {error}"))),
    }
}

enum Ending {
    /// A whole line came, or more than any line may have.
    Answered,
    TimedOut,
    Exited,
}

/// A running probe; [`Probe::end`] leaves nothing of it behind.
struct Probe {
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    answer: Vec<u8>,
    prints: Vec<u8>,
    ended: bool,
}

impl Probe {
    fn spawn(exe: &Path, path: &Path) -> io::Result<Probe> {
        let mut child = Command::new(exe)
            .arg0("rex-host")
            .arg(SUBCOMMAND)
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let probe =
            Probe { child, stdout, stderr, answer: Vec::new(), prints: Vec::new(), ended: false };
        if let Some(pipe) = &probe.stdout {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        if let Some(pipe) = &probe.stderr {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(probe)
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Reads until there is an answer, the process is gone, or time is up. A grandchild may hold the
    /// pipes, so that their end says nothing.
    fn wait(&mut self, deadline: Instant) -> io::Result<Ending> {
        let pid = self.pid().ok_or(io::ErrorKind::NotFound)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Ending::TimedOut);
            }
            let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
            if let Some(pipe) = &self.stdout {
                fds.push(PollFd::new(pipe, PollFlags::IN));
            }
            if let Some(pipe) = &self.stderr {
                fds.push(PollFd::new(pipe, PollFlags::IN));
            }
            // A limit beyond what the kernel counts is no limit.
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let gone = !fds[0].revents().is_empty();
            drop(fds);
            self.read();
            if self.is_answered() {
                return Ok(Ending::Answered);
            }
            if gone {
                return Ok(Ending::Exited);
            }
        }
    }

    fn is_answered(&mut self) -> bool {
        match self.answer.iter().position(|b| *b == b'\n') {
            Some(end) => {
                self.answer.truncate(end);
                true
            }
            None => self.answer.len() > MAX_ANSWER,
        }
    }

    /// Takes what is in the pipes; a closed one is forgotten.
    fn read(&mut self) {
        if !drain(self.stdout.as_mut(), &mut self.answer, |answer| answer.len() > MAX_ANSWER) {
            self.stdout = None;
        }
        let cut = |prints: &mut Vec<u8>| {
            let excess = prints.len().saturating_sub(MAX_PRINTS);
            prints.drain(..excess);
            false
        };
        if !drain(self.stderr.as_mut(), &mut self.prints, cut) {
            self.stderr = None;
        }
    }

    /// What the plugin said of its end, to be added to it: how it panicked, else its last line.
    fn last_words(&self) -> String {
        let prints = String::from_utf8_lossy(&self.prints);
        let lines: Vec<&str> =
            prints.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let panic = lines.iter().position(|line| line.contains(" panicked at "));
        let (head, words) = match panic {
            // The place, and on the next line the message.
            Some(n) => ("", lines[n..].iter().take(2).copied().collect::<Vec<_>>().join(" ")),
            None => match lines.last() {
                Some(line) => ("the last line it printed: ", (*line).to_owned()),
                None => return String::new(),
            },
        };
        format!("; {head}{}", words.chars().take(MAX_WORDS).collect::<String>())
    }

    /// Kills the process and all that it started in its group.
    fn end(&mut self) -> Option<ExitStatus> {
        self.ended = true;
        if let Some(pid) = self.pid() {
            // Before it is reaped: until then the group's number cannot belong to another.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        self.child.wait().ok()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if !self.ended {
            self.end();
        }
    }
}

/// Reads what a non-blocking pipe holds; `false` at its end. `full` may cut what was read, or stop
/// the reading.
fn drain(
    pipe: Option<&mut (impl Read + AsFd)>,
    into: &mut Vec<u8>,
    mut full: impl FnMut(&mut Vec<u8>) -> bool,
) -> bool {
    let Some(pipe) = pipe else { return false };
    let mut chunk = [0; 4096];
    // A bound, so that one who prints without end cannot hold the reader past its deadline.
    for _ in 0..256 {
        match pipe.read(&mut chunk) {
            Ok(0) => return false,
            Ok(n) => {
                into.extend_from_slice(&chunk[..n]);
                if full(into) {
                    return true;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
    true
}
