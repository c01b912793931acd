//! Makes, signals and reaps worker processes: the only file that does.
//!
//! A worker is this binary again with a hidden subcommand. Its standard input is one end of the
//! socketpair, its standard output and error are pipes, and it inherits the progress page. It is
//! started without a `fork` of this address space (`posix_spawn`), so that the host's size does not
//! matter, as leader of its own process group, so that a terminal's Ctrl-C reaches only the host
//! and a kill reaches what the plugin started.
#![expect(unsafe_code, reason = "wait4 reports resource usage, which no safe wrapper has")]

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};

use super::exit::{Exit, How};
use crate::page::Page;
use crate::worker;

/// A process of this host; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub u64);

/// This binary, whatever has happened to its file since it was started.
const PROGRAM: &str = "/proc/self/exe";

/// Starts processes. Must be used from one thread that lives as long as the host: the kernel takes
/// the end of the thread that made a worker for the death of its parent.
#[derive(Default)]
pub struct Spawner {
    last: u64,
}

/// A process that was started; dropping it leaves it alone.
pub struct Process {
    pub id: ProcessId,
    pub pid: Pid,
    pub page: Arc<Page>,
    pub held_up: Arc<HeldUp>,
    pub nonce: u64,
}

/// What the poller watches of it.
pub struct Ends {
    pub socket: UnixStream,
    pub stdout: File,
    pub stderr: File,
    pub pidfd: OwnedFd,
    pub page: Arc<Page>,
    pub held_up: Arc<HeldUp>,
}

/// For how long the process has had something to say that this host did not listen to, in all.
#[derive(Debug, Default)]
pub struct HeldUp(AtomicU64);

impl HeldUp {
    pub fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    pub fn read(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl Spawner {
    /// Starts a worker process; it waits for its first frame. `environment` is added to that of this
    /// process.
    ///
    /// # Errors
    /// When the kernel has no processes, descriptors or memory left, or `/proc` is not mounted.
    pub fn spawn(
        &mut self,
        queue: &str,
        environment: &[(&'static str, OsString)],
    ) -> io::Result<(Process, Ends)> {
        let (ours, theirs) = UnixStream::pair()?;
        let (page, page_fd) = Page::create()?;
        let (page, held_up) = (Arc::new(page), Arc::new(HeldUp::default()));
        let (stdout, child_stdout) = io::pipe()?;
        let (stderr, child_stderr) = io::pipe()?;
        let host = rustix::process::getpid();
        let child = Command::new(PROGRAM)
            .arg0("rex-host")
            .args([worker::SUBCOMMAND, queue])
            .arg(host.as_raw_nonzero().to_string())
            .arg(page_fd.as_raw_fd().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(child_stdout)
            .stderr(child_stderr)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_child(&child);
        // The child is reaped by `reap`, never through `Child`.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).inspect_err(|_| {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        })?;
        for pipe in [OwnedFd::from(stdout.try_clone()?), OwnedFd::from(stderr.try_clone()?)] {
            rustix::io::ioctl_fionbio(&pipe, true)?;
        }
        ours.set_nonblocking(true)?;
        self.last += 1;
        let id = ProcessId(self.last);
        let process = Process {
            id,
            pid,
            page: Arc::clone(&page),
            held_up: Arc::clone(&held_up),
            nonce: random_u64(),
        };
        let stdout = File::from(OwnedFd::from(stdout));
        let stderr = File::from(OwnedFd::from(stderr));
        Ok((process, Ends { socket: ours, stdout, stderr, pidfd, page, held_up }))
    }
}

impl Process {
    /// Kills the process and everything in its group. Its number cannot belong to another, since it
    /// is reaped only by `reap`, when nobody is left to call this.
    pub fn kill(&self) {
        kill_group(self.pid);
    }
}

/// Kills a process group whose leader was not reaped yet: its number cannot belong to another.
pub fn kill_group(leader: Pid) {
    // The only failure is that nobody is left in it.
    let _ = rustix::process::kill_process_group(leader, Signal::KILL);
}

/// Collects a dead process: what is left of its group is killed first. Its end is unknown when
/// somebody else has collected it, such as a debugger.
pub fn reap(process: &Process, goodbye: bool) -> Exit {
    let pid = process.pid;
    kill_group(pid);
    let mut status = 0;
    // SAFETY: `rusage` is plain numbers, and both pointers are to locals of the right types.
    let (result, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let pid = pid.as_raw_nonzero().get();
        let result = libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage);
        (result, usage)
    };
    let how = if result <= 0 {
        How::Unknown
    } else if libc::WIFSIGNALED(status) {
        How::Signal(libc::WTERMSIG(status))
    } else {
        How::Code(libc::WEXITSTATUS(status))
    };
    let time = |value: libc::timeval| {
        Duration::from_secs(u64::try_from(value.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(value.tv_usec).unwrap_or(0))
    };
    Exit {
        how,
        goodbye,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    }
}

/// A number that no plugin knows.
fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    // Before the kernel's pool is ready, the clock has to do: the number guards against accidents.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => crate::page::monotonic_ns(),
    }
}
