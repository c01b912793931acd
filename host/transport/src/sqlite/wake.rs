//! Telling other processes of new tasks: a file for each queue in `<queue file>.wake/`, opened and
//! closed after every submit, and watched through inotify. Only a hint: every failure here is
//! silent, the hosts' fallback poll does without.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::Sender;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;

use super::failure;
use super::owners::{beside, make_directory};
use crate::{QueueName, TransportError, Wake, Watch};

pub(super) struct WakeFiles {
    directory: PathBuf,
}

impl WakeFiles {
    pub(super) fn beside(path: &Path) -> WakeFiles {
        WakeFiles { directory: beside(path, ".wake") }
    }

    /// Wakes whoever watches these queues.
    pub(super) fn touch<'a>(&self, queues: impl IntoIterator<Item = &'a QueueName>) {
        for queue in queues {
            let path = self.directory.join(queue.as_str());
            let open = || OpenOptions::new().write(true).create(true).truncate(false).open(&path);
            // The directory is made by the first who needs it.
            if open().is_err() && make_directory(&self.directory).is_ok() {
                let _hint = open();
            }
        }
    }

    /// Starts the thread that watches.
    pub(super) fn watch(&self, wake: Sender<Wake>) -> Result<Watch, TransportError> {
        let complain =
            |error: &dyn std::fmt::Display| failure::text(&self.directory, &error.to_string());
        make_directory(&self.directory).map_err(|error| complain(&error))?;
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let events = inotify::init(flags).map_err(|error| complain(&error))?;
        inotify::add_watch(&events, &self.directory, inotify::WatchFlags::CLOSE_WRITE)
            .map_err(|error| complain(&error))?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| complain(&error))?;
        let stop = Arc::new(stop);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("queue-watch".to_owned())
            .spawn(move || watch(&events, &stopped, &wake))
            .map_err(|error| complain(&error))?;
        Ok(Watch::new(move || {
            let _told = rustix::io::write(&*stop, &1u64.to_ne_bytes());
            let _joined = thread.join();
        }))
    }
}

/// Until told to stop, or until nobody listens.
fn watch(events: &OwnedFd, stop: &OwnedFd, wake: &Sender<Wake>) {
    while let Some(happened) = crate::inotify::wait(events, stop) {
        // A burst of submits is one wake-up a queue.
        let names = happened.iter().filter_map(|(_, name)| QueueName::parse(name).ok());
        let touched: BTreeSet<QueueName> = names.collect();
        for queue in touched {
            if wake.send(Wake::Queue(queue)).is_err() {
                return;
            }
        }
    }
}
