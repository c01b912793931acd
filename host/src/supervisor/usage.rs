//! What a process has used so far, as the kernel counts it: nothing that it can lie about.

use std::time::Duration;

use rustix::process::Pid;

/// Ticks a second in `/proc`, whatever the kernel's own clock.
const USER_HZ: u64 = 100;

/// CPU time, user and system, of the process and of the children that it has waited for; `None`
/// when it is gone.
pub fn cpu_time(pid: Pid) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have blanks and parentheses in it; what follows the last one has none.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = fields.split(' ').skip(11).take(4).map(|field| field.parse::<u64>().unwrap_or(0));
    Some(Duration::from_millis(ticks.sum::<u64>() * 1000 / USER_HZ))
}

/// Resident bytes; `None` when it is gone.
pub fn resident(pid: Pid) -> Option<u64> {
    status(pid, "VmRSS:")
}

/// Most resident bytes until now; `None` when it is gone.
pub fn peak_resident(pid: Pid) -> Option<u64> {
    status(pid, "VmHWM:")
}

fn status(pid: Pid, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{cpu_time, peak_resident, resident};

    #[test]
    fn of_this_process() {
        let me = rustix::process::getpid();
        let (before, begun) = (cpu_time(me).unwrap(), Instant::now());
        while cpu_time(me).unwrap() < before + Duration::from_millis(30) {
            assert!(begun.elapsed() < Duration::from_secs(60), "no CPU time is counted");
        }
        assert!(resident(me).unwrap() > 1 << 20);
        assert!(peak_resident(me).unwrap() >= resident(me).unwrap());
    }
}
