//! Whether the promise was kept: every task was worked; one was worked twice only where the promise
//! says so; the dead letters are those that were told to die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ground::Allowed;
use crate::hosts::{Life, OWNER_TIMEOUT, nanos};
use crate::journal::Run;

/// Silence is counted from the last sign of life, which is up to a second and a call old when a host
/// is stopped.
const BEAT: Duration = Duration::from_secs(2);

/// What happened to the first host of a task that was started twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    Killed,
    Stopped,
    CutOff,
    /// Of the server, which may give again what was done.
    Crash,
}

/// What came of it all.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Attempts that were started more than once.
    pub(crate) duplicates: BTreeMap<Cause, usize>,
    /// Attempts after one whose worker was killed.
    pub(crate) retries: usize,
    /// How the promise was broken.
    pub(crate) broken: Vec<String>,
}

/// Judges the runs of tasks: `expected` were to be worked, `doomed` to die.
pub(crate) fn judge(
    runs: &[Run],
    lives: &[Life],
    expected: &BTreeSet<u64>,
    doomed: &BTreeSet<u64>,
    letters: &[u64],
    allowed: Allowed,
) -> Verdict {
    let mut verdict = Verdict::default();
    let lives: BTreeMap<i32, &Life> = lives.iter().map(|life| (life.pid, life)).collect();
    let mut by_number: BTreeMap<u64, Vec<&Run>> = BTreeMap::new();
    let mut last_of_pid: BTreeMap<i32, u64> = BTreeMap::new();
    for run in runs {
        by_number.entry(run.n).or_default().push(run);
        last_of_pid.insert(run.pid, run.started);
    }
    let is_last = |run: &Run| last_of_pid[&run.pid] == run.started;
    for n in expected {
        if !by_number.get(n).is_some_and(|runs| runs.iter().any(|run| run.ended.is_some())) {
            verdict.broken.push(format!("task {n} is lost"));
        }
    }
    for (n, runs) in &mut by_number {
        // One that was put in twice is judged twice.
        runs.sort_by_key(|run| (run.task, run.attempt, run.started));
        if !expected.contains(n) && !doomed.contains(n) {
            verdict.broken.push(format!("nobody asked for task {n}: {runs:?}"));
        }
        if !allowed.doubles && runs.iter().any(|run| run.task != runs[0].task) {
            verdict.broken.push(format!("task {n} was put in twice: {runs:?}"));
        }
        for pair in runs.windows(2) {
            let [before, after] = pair else { continue };
            if before.task != after.task {
                continue;
            }
            let life = lives[&before.host];
            if after.attempt == before.attempt {
                let woken = || woken_between(lives[&after.host], before, after);
                let again = || allowed.repeats.then_some(Cause::Crash);
                match cause(life, before, allowed).or_else(woken).or_else(again) {
                    Some(cause) => *verdict.duplicates.entry(cause).or_default() += 1,
                    None => verdict.broken.push(format!(
                        "task {n} was started again although its host lived: {before:?} {after:?}"
                    )),
                }
            } else if !doomed.contains(n) {
                let mut killed = life.workers.iter();
                let is_charged = after.attempt == before.attempt + 1
                    && is_last(before)
                    && killed.any(|(pid, at)| *pid == before.pid && *at >= before.started);
                if is_charged {
                    verdict.retries += 1;
                } else {
                    verdict.broken.push(format!(
                        "task {n} was charged although nobody killed its worker: {before:?} {after:?}"
                    ));
                }
            }
        }
    }
    let mut dead = letters.to_vec();
    dead.sort_unstable();
    if allowed.doubles {
        dead.dedup();
    }
    if !dead.iter().eq(doomed) {
        let once: BTreeSet<u64> = dead.iter().copied().collect();
        let missing: Vec<_> = doomed.difference(&once).collect();
        let wrong: Vec<_> = once.difference(doomed).collect();
        verdict.broken.push(format!(
            "{} dead letters of {} tasks that were told to die; missing {missing:?}, wrong {wrong:?}",
            dead.len(),
            doomed.len()
        ));
    }
    verdict
}

/// A host that was stopped at the very moment of handing out a task does so on waking: nobody can
/// look and act at once. Meanwhile another one ran it.
fn woken_between(life: &Life, before: &Run, after: &Run) -> Option<Cause> {
    let mut stops = life.stops.iter().filter(|(from, to)| to - from > nanos(OWNER_TIMEOUT - BEAT));
    let woken = stops.any(|(from, to)| {
        (*from..*to).contains(&before.started) && *to <= after.started + nanos(BEAT)
    });
    woken.then_some(Cause::Stopped)
}

/// What happened to the host of a run after it began.
fn cause(life: &Life, run: &Run, allowed: Allowed) -> Option<Cause> {
    let over = |spans: &[(u64, u64)], limit: Duration| {
        spans.iter().any(|(from, to)| *to >= run.started && to - from > nanos(limit))
    };
    if over(&life.stops, OWNER_TIMEOUT - BEAT) {
        Some(Cause::Stopped)
    } else if over(&life.outages, allowed.cut_off) {
        Some(Cause::CutOff)
    } else if life.killed.is_some_and(|at| at >= run.started) {
        Some(Cause::Killed)
    } else {
        None
    }
}
