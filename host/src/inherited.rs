//! Signals as the host and its workers expect them, whatever the parent process made of them.
#![expect(unsafe_code, reason = "signal masks and dispositions, which no safe wrapper has")]

/// Lets every signal through, and these have their usual effect again.
pub(crate) fn undo(signals: &[i32]) {
    // SAFETY: plain libc calls on local memory, before there is another thread.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        for signal in signals {
            libc::signal(*signal, libc::SIG_DFL);
        }
    }
}

/// A file that may not grow any more (`ulimit -f`) is an error to be told, `EFBIG`, and no death; in
/// the processes that are started from here too, as in Python.
pub(crate) fn ignore_file_size_signal() {
    // SAFETY: a plain libc call, before there is another thread.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
