//! Notices that the plugin directory changed, once it has come to rest.
//!
//! Files do not arrive at once: the news is held back while one is open for writing, and until
//! nothing has happened for a moment. The directory may also go and come back (some deployments
//! replace it): while it is away it is looked for now and then.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr, OsString};
use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::catalog::is_plugin_name;

/// Nothing must have happened for so long.
const QUIET: Duration = Duration::from_millis(200);

/// A file that is open for writing, but not written to for so long, is not waited for.
const STALLED: Duration = Duration::from_secs(5);

/// How often a directory that is away is looked for.
const AWAY: Duration = Duration::from_secs(1);

/// How often it is looked whether the path still leads to the same directory: a link on the way may
/// have been changed, which no event tells.
const RECHECK: Duration = Duration::from_secs(30);

/// Watches until it is dropped.
pub struct Watch {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread sees its end of the pipe closed.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends when files named `*.so` in `dir` came, went or changed; once for many changes. Changes that
/// happen before are not told: watch first, then discover.
///
/// # Errors
/// When the directory cannot be watched.
pub fn watch(dir: &Path) -> io::Result<(Receiver<()>, Watch)> {
    let (sender, receiver) = bounded(1);
    let (stopped, stop) = io::pipe()?;
    let mut watcher = Watcher {
        dir: dir.to_owned(),
        inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
        watched: None,
        rest: Rest::new(Instant::now()),
    };
    watcher.begin()?;
    let thread = thread::Builder::new()
        .name("plugin-watch".to_owned())
        .spawn(move || watcher.run(&stopped, &sender))?;
    Ok((receiver, Watch { stop: Some(stop), thread: Some(thread) }))
}

/// Which directory is watched, and as what.
struct Watched {
    descriptor: i32,
    identity: (u64, u64),
}

struct Watcher {
    dir: PathBuf,
    inotify: OwnedFd,
    watched: Option<Watched>,
    rest: Rest,
}

impl Watcher {
    fn run(&mut self, stopped: &PipeReader, news: &Sender<()>) {
        loop {
            let idle = if self.watched.is_some() { RECHECK } else { AWAY };
            let wait = match self.rest.due() {
                Some(due) => due.saturating_duration_since(Instant::now()).min(idle),
                None => idle,
            };
            let mut fds =
                [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
            let happened = match poll(&mut fds, Timespec::try_from(wait).ok().as_ref()) {
                Ok(happened) => happened,
                Err(Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!("the plugin directory is no longer watched: {error}");
                    return;
                }
            };
            if !fds[1].revents().is_empty() {
                return;
            }
            if happened > 0 {
                self.read();
            } else {
                self.recheck();
            }
            if self.rest.is_over(Instant::now()) && self.watched.is_some() {
                self.rest.told();
                // One that is not yet read tells as much.
                let _ = news.try_send(());
            }
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        let events = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let descriptor = inotify::add_watch(&self.inotify, &self.dir, events)?;
        self.watched = Some(Watched { descriptor, identity: identity(&self.dir)? });
        Ok(())
    }

    fn end(&mut self) {
        if let Some(watched) = self.watched.take() {
            // It may be gone already.
            let _ = inotify::remove_watch(&self.inotify, watched.descriptor);
        }
    }

    /// Whether the path leads to the directory that is watched; looks for it when it does not.
    fn recheck(&mut self) {
        let now = identity(&self.dir).ok();
        if self.watched.as_ref().is_some_and(|watched| Some(watched.identity) == now) {
            return;
        }
        self.end();
        if now.is_some() && self.begin().is_ok() {
            self.rest.changed(Instant::now());
        }
    }

    fn read(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut lost = false;
        let now = Instant::now();
        while let Ok(event) = reader.next() {
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.rest.overflowed(now);
            } else if self.watched.as_ref().is_none_or(|w| w.descriptor != event.wd()) {
                // Of a directory that was watched before.
            } else if flags.intersects(
                ReadFlags::DELETE_SELF
                    | ReadFlags::MOVE_SELF
                    | ReadFlags::IGNORED
                    | ReadFlags::UNMOUNT,
            ) {
                lost = true;
            } else if let Some(name) = event.file_name().map(name_of)
                && is_plugin_name(Path::new(name))
            {
                self.rest.file(name, flags, now);
            }
        }
        if lost {
            self.end();
            self.recheck();
        }
    }
}

fn name_of(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

fn identity(dir: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::metadata(dir)?;
    Ok((meta.dev(), meta.ino()))
}

/// Whether there is something to tell, and whether the directory has come to rest.
struct Rest {
    changed: bool,
    last: Instant,
    /// Files that were created or written to, and not closed.
    writing: HashSet<OsString>,
}

impl Rest {
    fn new(now: Instant) -> Rest {
        Rest { changed: false, last: now, writing: HashSet::new() }
    }

    fn changed(&mut self, now: Instant) {
        self.changed = true;
        self.last = now;
    }

    fn overflowed(&mut self, now: Instant) {
        self.writing.clear();
        self.changed(now);
    }

    fn file(&mut self, name: &OsStr, flags: ReadFlags, now: Instant) {
        self.changed(now);
        if flags.intersects(ReadFlags::CREATE | ReadFlags::MODIFY) {
            self.writing.insert(name.to_owned());
        } else if !flags.contains(ReadFlags::ATTRIB) {
            self.writing.remove(name);
        }
    }

    fn due(&self) -> Option<Instant> {
        let wait = if self.writing.is_empty() { QUIET } else { STALLED };
        self.changed.then(|| self.last + wait)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    fn told(&mut self) {
        self.changed = false;
        self.writing.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::time::{Duration, Instant};

    use rustix::fs::inotify::ReadFlags;

    use super::{QUIET, Rest, STALLED};

    #[test]
    fn a_file_that_is_written_is_waited_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (a, b) = (OsStr::new("a.so"), OsStr::new("b.so"));
        let mut rest = Rest::new(start);
        assert!(rest.due().is_none());

        rest.file(a, ReadFlags::CREATE, at(0));
        rest.file(a, ReadFlags::MODIFY, at(10));
        rest.file(b, ReadFlags::MOVED_TO, at(20));
        assert!(!rest.is_over(at(1000)));
        rest.file(a, ReadFlags::MODIFY, at(1000));
        rest.file(a, ReadFlags::CLOSE_WRITE, at(1001));
        assert!(!rest.is_over(at(1100)));
        assert!(rest.is_over(at(1001) + QUIET));
        rest.told();
        assert!(!rest.is_over(at(9000)));
    }

    #[test]
    fn a_writer_that_stalls_is_not_waited_for_for_ever() {
        let start = Instant::now();
        let mut rest = Rest::new(start);
        rest.file(OsStr::new("a.so"), ReadFlags::MODIFY, start);
        assert!(!rest.is_over(start + QUIET));
        assert!(rest.is_over(start + STALLED));
    }

    #[test]
    fn a_file_that_is_removed_is_not_waited_for() {
        let start = Instant::now();
        let mut rest = Rest::new(start);
        rest.file(OsStr::new("a.so"), ReadFlags::MODIFY, start);
        rest.file(OsStr::new("a.so"), ReadFlags::ATTRIB, start);
        assert!(!rest.is_over(start + QUIET));
        rest.file(OsStr::new("a.so"), ReadFlags::DELETE, start);
        assert!(rest.is_over(start + QUIET));
    }
}
