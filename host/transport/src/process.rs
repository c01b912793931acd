//! Which process an owner is, and whether that process is provably dead. Proof needs the same boot
//! of the same machine and the same process-id namespace; everything else is "not known".

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};

/// A process, told apart from every other that ever had its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Boot id and process-id namespace; empty where `/proc` does not tell.
    pub(crate) machine: String,
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot.
    pub(crate) start: i64,
}

impl Process {
    /// This process.
    pub(crate) fn current() -> Process {
        let pid = getpid();
        Process {
            machine: machine().unwrap_or_default(),
            pid: pid.as_raw_nonzero().get(),
            start: stat_of(pid).map_or(0, |(_, start)| start),
        }
    }

    /// Whether this process certainly runs no more. `false` means that nobody here can tell.
    pub(crate) fn is_provably_dead(&self) -> bool {
        if self.machine.is_empty() || machine().is_none_or(|here| here != self.machine) {
            return false;
        }
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        // The signal, not /proc, says that there is none: /proc may hide other users' processes.
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        match stat_of(pid) {
            // A zombie has lost its locks and connections already.
            Some((b'Z' | b'X', _)) => true,
            Some((_, start)) => self.start > 0 && start != self.start,
            None => false,
        }
    }
}

/// Boot and process-id namespace, such as `ef0c…-…/4026531836`.
pub(crate) fn machine() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    let namespace = namespace.to_str()?;
    let number = namespace.trim_start_matches("pid:[").trim_end_matches(']');
    Some(format!("{}/{number}", boot.trim()))
}

/// The state's letter and the start.
fn stat_of(pid: Pid) -> Option<(u8, i64)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name in parentheses may hold anything; the start is field 22, the 20th behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.bytes().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::Process;

    #[test]
    fn the_living_and_the_dead() {
        let me = Process::current();
        assert!(me.start > 0);
        assert!(!me.is_provably_dead());
        assert!(Process { start: me.start + 1, ..me.clone() }.is_provably_dead(), "id taken again");
        assert!(Process { pid: i32::MAX, ..me.clone() }.is_provably_dead(), "no such process");
        let elsewhere = Process { machine: "other/1".to_owned(), pid: i32::MAX, start: 1 };
        assert!(!elsewhere.is_provably_dead());
        assert!(!Process { machine: String::new(), ..elsewhere }.is_provably_dead());
    }
}
