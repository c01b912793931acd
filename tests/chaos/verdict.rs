//! Whether the promise was kept: every task was worked; one was worked twice only where the promise
//! says so; the dead letters are those that were told to die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ground::Allowed;
use crate::hosts::{Life, OWNER_TIMEOUT, Span, nanos};
use crate::journal::Run;

/// Silence is counted from the last sign of life, which is up to a second and a call old when a host
/// is stopped.
const BEAT: Duration = Duration::from_secs(2);

/// How long it takes at most until what a task ended with is recorded: outcomes go in batches, one at
/// a time, on a busy machine.
const RECORDED: Duration = Duration::from_secs(2);

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
    let stops = lives.iter().flat_map(|life| life.stops.clone());
    let locks: Vec<Span> = stops.filter(|_| allowed.locks).collect();
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
                match cause(life, before, after, (allowed, &locks)).or_else(woken).or_else(again) {
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

/// What happened to the host of a run while it was in flight: from its start until its outcome was
/// recorded, or it was started again.
fn cause(
    life: &Life,
    run: &Run,
    again: &Run,
    (allowed, locks): (Allowed, &[Span]),
) -> Option<Cause> {
    // An outcome waits for the batch before it, and as long as the store is away, does not answer, or
    // may be locked.
    let recorded =
        |ended: u64| {
            let waits =
                life.outages.iter().chain(&life.silences).chain(locks).filter(|(from, to)| {
                    (from.saturating_sub(nanos(RECORDED))..*to).contains(&ended)
                });
            waits.map(|(_, to)| *to).fold(ended, u64::max) + nanos(RECORDED)
        };
    let until = run.ended.map_or(again.started, |ended| recorded(ended).min(again.started));
    let hit = |from: u64, to: u64| from <= until && to >= run.started;
    let over = |spans: &[(u64, u64)], limit: Duration| {
        spans.iter().any(|(from, to)| hit(*from, *to) && to - from > nanos(limit))
    };
    if over(&life.stops, OWNER_TIMEOUT - BEAT) {
        Some(Cause::Stopped)
    } else if over(&life.outages, allowed.cut_off) {
        Some(Cause::CutOff)
    } else if life.killed.is_some_and(|(from, to)| hit(from, to)) {
        Some(Cause::Killed)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowed, Cause, Life, Run, cause, nanos};
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    fn run(started: u64, ended: Option<u64>) -> Run {
        let (started, ended) = (started * SECOND, ended.map(|ended| ended * SECOND));
        Run { n: 1, attempt: 1, task: 1, pid: 1, host: 1, started, ended }
    }

    #[test]
    fn what_happens_to_a_host_later_excuses_nothing() {
        let cut_off = Duration::from_secs(4);
        let allowed = Allowed { cut_off, repeats: false, doubles: false, locks: false };
        let silent = std::cell::Cell::new(None);
        let why = |killed: Option<u64>, stop: Option<(u64, u64)>, ended: Option<u64>| {
            let life = Life {
                pid: 1,
                killed: killed.map(|at| (at * SECOND, at * SECOND)),
                stops: stop.into_iter().map(|(from, to)| (from * SECOND, to * SECOND)).collect(),
                outages: Vec::new(),
                silences: silent.get().into_iter().collect(),
                refused: 0,
                workers: Vec::new(),
                log: String::new(),
            };
            cause(&life, &run(10, ended), &run(30, Some(30)), (allowed, &[]))
        };
        assert_eq!(why(Some(11), None, None), Some(Cause::Killed));
        assert_eq!(why(Some(11), None, Some(11)), Some(Cause::Killed), "not recorded yet");
        assert_eq!(why(Some(25), None, Some(11)), None, "recorded long before");
        assert_eq!(why(Some(52), None, None), None, "killed when it ran again already");
        assert_eq!(why(None, Some((9, 20)), Some(11)), Some(Cause::Stopped));
        assert_eq!(why(None, Some((52, 60)), Some(11)), None);
        silent.set(Some((10 * SECOND, 25 * SECOND)));
        assert_eq!(why(Some(25), None, Some(11)), Some(Cause::Killed), "it could not be recorded");
        assert_eq!(nanos(Duration::from_secs(1)), SECOND);
    }
}
