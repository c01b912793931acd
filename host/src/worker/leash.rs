//! How a worker or a probe is bound to its host: it dies with it, and takes what it started along.
//!
//! The kernel sends [`death_signal`] when the host's main thread ends; the handler kills the whole
//! process group, which `SIGKILL` to this process alone would leave behind. The end of the socket
//! does the same (`inbox.rs`), for a plugin that took the handler away.
#![expect(unsafe_code, reason = "a signal handler and inherited descriptors")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::process::{Resource, Rlimit, WaitId, WaitIdOptions};

use crate::inherited;
use crate::wire::Limits;

/// A real-time signal that plugins have no reason to use.
fn death_signal() -> i32 {
    libc::SIGRTMIN() + 7
}

extern "C" fn on_host_death(_: i32) {
    // SAFETY: `kill` is async-signal-safe; 0 names the own process group.
    unsafe { libc::kill(0, libc::SIGKILL) };
}

/// Kills this process and everything in its group.
pub(super) fn end_group() -> ! {
    on_host_death(0);
    std::process::exit(70)
}

/// Undoes what was inherited and asks for a death with the host.
///
/// # Errors
/// `UnexpectedEof` when the host is gone already.
pub(crate) fn bind(host: i32) -> io::Result<()> {
    inherited::undo(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGTSTP, libc::SIGCHLD]);
    // SAFETY: plain libc calls on local memory, before any other thread or plugin code runs.
    unsafe {
        let handler: extern "C" fn(i32) = on_host_death;
        libc::signal(death_signal(), handler as libc::sighandler_t);
        libc::prctl(libc::PR_SET_PDEATHSIG, death_signal());
    }
    let parent = rustix::process::getppid();
    if parent.map(rustix::process::Pid::as_raw_nonzero).map(i32::from) != Some(host) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // A crash is to cost milliseconds, not the writing of a core.
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Lets this process end when nobody reads what it prints any more, as programs do.
pub(crate) fn end_with_the_reader() {
    // SAFETY: a plain libc call, before any other thread or plugin code runs.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// The socket that was passed as standard input, which becomes `/dev/null` for the plugin.
pub(super) fn take_stdin() -> io::Result<UnixStream> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(UnixStream::from(socket))
}

/// Copies of standard output and error that the plugin does not know.
pub(super) fn copies_of_output() -> io::Result<[File; 2]> {
    let out = std::io::stdout().as_fd().try_clone_to_owned()?;
    let err = std::io::stderr().as_fd().try_clone_to_owned()?;
    Ok([File::from(out), File::from(err)])
}

/// Takes over a descriptor that `supervisor/spawn.rs` let us inherit, so that what the plugin
/// starts does not.
pub(super) fn inherited(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: the host names the descriptor that it passed for this purpose alone; a wrong number
    // fails in `fcntl` or when the page is mapped.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    debug_assert!(fd.as_raw_fd() > 2);
    Ok(fd)
}

/// Whether processes that this one has started are there still.
pub(super) fn has_children() -> bool {
    let looking = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::All, looking).is_ok()
}

/// Has the kernel refuse memory beyond the queue's limit. The limit is on private writable memory,
/// which is what a leak grows; it does not count the code of libraries or unused reservations.
pub(super) fn limit(limits: Limits) -> io::Result<()> {
    if let Some(bytes) = limits.memory {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        rustix::process::setrlimit(Resource::Data, limit)?;
    }
    Ok(())
}
