//! How a process ended, in words that an operator can search for.

use std::fmt;
use std::time::Duration;

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub how: How,
    /// Whether the process had said that it would end.
    pub goodbye: bool,
    /// CPU time of the process, user and system.
    pub cpu: Duration,
    /// Largest resident size, in bytes.
    pub peak_rss: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Code(i32),
    Signal(i32),
    Unknown,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Unknown => f.write_str("ended in an unknown way"),
            How::Code(code) => write!(f, "exited with code {code}"),
            How::Signal(number) => match signal_name(*number) {
                Some(name) => write!(f, "was killed by signal {number} ({name})"),
                None => write!(f, "was killed by signal {number}"),
            },
        }
    }
}

/// `SIGSEGV` for 11; `None` for numbers without a name.
pub fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::How;

    #[test]
    fn in_words() {
        assert_eq!(How::Code(3).to_string(), "exited with code 3");
        assert_eq!(How::Signal(11).to_string(), "was killed by signal 11 (SIGSEGV)");
        assert_eq!(How::Signal(41).to_string(), "was killed by signal 41");
    }
}
