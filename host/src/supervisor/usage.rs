//! What a process has used so far, as the kernel counts it: nothing that it can lie about.

use std::time::Duration;

use rustix::process::Pid;

/// Ticks a second in `/proc`, whatever the kernel's own clock.
const USER_HZ: u64 = 100;

/// CPU time, user and system, of the process and of the children that it has waited for; `None`
/// when it is gone.
pub fn cpu_time(pid: Pid) -> Option<Duration> {
    stat(&pid.to_string()).map(|stat| stat.cpu)
}

/// As [`cpu_time`], with all processes of the group that this one leads: what it has started computes on
/// its account. Looks at each process of the machine.
pub fn cpu_time_of_group(leader: Pid) -> Option<Duration> {
    let own = cpu_time(leader)?;
    let group = leader.as_raw_nonzero().get();
    let names = std::fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse::<i32>().ok());
    let others = pids.filter(|pid| *pid != group).filter_map(|pid| stat(&pid.to_string()));
    Some(own + others.filter(|stat| stat.group == group).map(|stat| stat.cpu).sum())
}

struct Stat {
    group: i32,
    cpu: Duration,
}

fn stat(pid: &str) -> Option<Stat> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have blanks and parentheses in it; what follows the last one has none.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().unwrap_or(0));
    let cpu = Duration::from_millis(ticks.sum::<u64>() * 1000 / USER_HZ);
    Some(Stat { group: fields.get(2)?.parse().ok()?, cpu })
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
