//! What a process has used so far, as the kernel counts it: nothing that it can lie about.

use std::collections::BTreeMap;
use std::iter::successors;
use std::time::Duration;

use rustix::process::Pid;

use crate::tick::Tick;

/// CPU time, user and system, of the process and of the children that it has waited for; `None`
/// when it is gone.
pub fn cpu_time(pid: Pid) -> Option<Duration> {
    stat(&pid.to_string()).map(|stat| stat.cpu)
}

/// What a group of processes has used on the account of a task.
#[derive(Debug, Clone, Copy, Default)]
pub struct GroupUse {
    pub cpu: Duration,
    /// Whether there are processes that were there before the task.
    pub older: bool,
}

/// As [`cpu_time`], with the processes of the group that this one leads which were started at `since` or
/// later, but not by one that was there before. Where such were `older` at an earlier look, or are, one whose
/// parent has ended may be theirs. Looks at each process of the machine.
pub fn cpu_time_of_group(leader: Pid, since: Tick, older: bool) -> Option<GroupUse> {
    let own = cpu_time(leader)?;
    let group = leader.as_raw_nonzero().get();
    let names = std::fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse::<i32>().ok());
    let others = pids.filter(|pid| *pid != group);
    let others = others.filter_map(|pid| Some((pid, stat(&pid.to_string())?)));
    let members: BTreeMap<i32, Stat> = others.filter(|(_, stat)| stat.group == group).collect();
    let older = older || members.values().any(|member| member.started < since);
    let counts = |member: &Stat| {
        let ancestors = successors(Some(member), |member| members.get(&member.parent));
        let mut ancestors = ancestors.take(members.len());
        ancestors.all(|member| {
            let is_orphan = member.parent != group && !members.contains_key(&member.parent);
            member.started >= since && !(is_orphan && older)
        })
    };
    let theirs = members.values().filter(|member| counts(member)).map(|member| member.cpu);
    Some(GroupUse { cpu: own + theirs.sum::<Duration>(), older })
}

struct Stat {
    parent: i32,
    group: i32,
    cpu: Duration,
    started: Tick,
}

fn stat(pid: &str) -> Option<Stat> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have blanks and parentheses in it; what follows the last one has none.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().unwrap_or(0));
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        cpu: Tick::LENGTH * u32::try_from(ticks.sum::<u64>()).unwrap_or(u32::MAX),
        started: Tick(fields.get(19)?.parse().ok()?),
    })
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
mod tests;
