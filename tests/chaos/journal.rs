//! What the tasks wrote down about themselves: each run with its process, its host and its times.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

/// One start of a task, and its end if it came to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) n: u64,
    pub(crate) attempt: u32,
    /// The task's id in its store.
    pub(crate) task: i64,
    pub(crate) pid: i32,
    pub(crate) host: i32,
    /// Nanoseconds of the machine's clock.
    pub(crate) started: u64,
    pub(crate) ended: Option<u64>,
}

/// The file that the fixture `witness` writes, read as it grows.
pub(crate) struct Journal {
    path: PathBuf,
    read: u64,
    /// The last run of each process: the one that its next `end` is of.
    last: BTreeMap<i32, usize>,
    pub(crate) runs: Vec<Run>,
    /// The numbers that were worked to their end.
    pub(crate) done: BTreeSet<u64>,
}

impl Journal {
    pub(crate) fn new(path: PathBuf) -> Journal {
        Journal { path, read: 0, last: BTreeMap::new(), runs: Vec::new(), done: BTreeSet::new() }
    }

    /// Reads what was written since.
    pub(crate) fn read(&mut self) {
        // No task has run yet.
        let Ok(mut file) = File::open(&self.path) else { return };
        file.seek(SeekFrom::Start(self.read)).expect("a file can be wound");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("it is text");
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        self.read += u64::try_from(whole.len()).expect("it fits");
        whole.lines().for_each(|line| self.take(line));
    }

    /// Whether a process was at a task when last read.
    pub(crate) fn is_busy(&self, pid: i32) -> bool {
        self.last.get(&pid).is_some_and(|last| self.runs[*last].ended.is_none())
    }

    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let [event, n, attempt, task, pid, host, time] = words[..] else {
            panic!("no line of a journal: {line}")
        };
        let run = Run {
            n: n.parse().expect("a number"),
            attempt: attempt.parse().expect("a number"),
            task: task.parse().expect("a number"),
            pid: pid.parse().expect("a pid"),
            host: host.parse().expect("a pid"),
            started: time.parse().expect("a time"),
            ended: None,
        };
        if event == "start" {
            self.last.insert(run.pid, self.runs.len());
            self.runs.push(run);
        } else {
            let begun = &mut self.runs[self.last[&run.pid]];
            assert_eq!((begun.n, begun.ended), (run.n, None), "one task at a time: {line}");
            begun.ended = Some(run.started);
            self.done.insert(run.n);
        }
    }
}
