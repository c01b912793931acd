//! The limits: this program started again as a child that opens the plugin's library and does
//! nothing else. What rex-host does on top of it is what it costs.

#![expect(unsafe_code, reason = "dlopen, kill and pidfd are libc calls")]

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rex_test_support::process::Process;

/// The argument that makes this program the child.
pub(crate) const FLAG: &str = "--bare-child";

/// Opens the library, says so with the time, and dies or waits for the end of its input.
pub(crate) fn child(what: Option<&str>, library: Option<&str>) {
    if let Some(library) = library {
        let path = CString::new(library).expect("a path has no zero byte");
        // SAFETY: the path is a C string; a plugin runs no code of its own when it is opened.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "cannot open {library}");
    }
    print_time();
    if what == Some("die") {
        // Wait for the word, then say when.
        let _ = std::io::stdin().read(&mut [0]);
        print_time();
        // SAFETY: kill touches no memory.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn print_time() {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&now().as_nanos().to_le_bytes()).and_then(|()| out.flush());
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set")
}

fn spawn(what: &str, library: Option<&Path>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args([FLAG, what]).args(library);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child can be started")
}

fn read_time(child: &mut Child) -> Duration {
    let mut bytes = [0; 16];
    let stdout = child.stdout.as_mut().expect("it was asked for");
    stdout.read_exact(&mut bytes).expect("the child says when");
    Duration::from_nanos(u64::try_from(u128::from_le_bytes(bytes)).expect("it fits"))
}

/// From before the spawn until the library is open.
pub(crate) fn start(library: &Path) -> Duration {
    let begun = now();
    let mut child = spawn("wait", Some(library));
    let ready = read_time(&mut child);
    end(child);
    ready.saturating_sub(begun)
}

/// From a child's death, noticed through a pidfd, until the next one has the library open.
pub(crate) fn deaths(library: &Path, count: usize) -> Vec<Duration> {
    let mut child = spawn("die", Some(library));
    read_time(&mut child);
    let times = (0..count).map(|_| {
        let pidfd = pidfd(&child);
        drop(child.stdin.take());
        let died = read_time(&mut child);
        wait_readable(&pidfd);
        let mut next = spawn("die", Some(library));
        let ready = read_time(&mut next);
        let _ = std::mem::replace(&mut child, next).wait();
        ready.saturating_sub(died)
    });
    let times = times.collect();
    let _ = child.kill();
    let _ = child.wait();
    times
}

/// Bytes of a child that waits, with the library open or without any, as the kernel names them.
pub(crate) fn memory(library: Option<&Path>, name: &str) -> u64 {
    let mut child = spawn("wait", library);
    read_time(&mut child);
    let process = Process::find(i32::try_from(child.id()).expect("a pid fits"));
    let memory = process.and_then(|process| process.memory(name));
    end(child);
    memory.expect("the kernel accounts it")
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    let _ = child.wait();
}

fn pidfd(child: &Child) -> OwnedFd {
    // SAFETY: pidfd_open takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).expect("the kernel has pidfds");
    // SAFETY: the kernel just gave us this descriptor.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn wait_readable(fd: &OwnedFd) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, as the count says.
    unsafe { libc::poll(&raw mut poll, 1, -1) };
}
