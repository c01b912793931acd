//! Word of new tasks: whoever adds one, old producer or ours, writes the queue's index, and the
//! kernel tells of that.

use std::collections::{BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Sender;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, WatchFlags};
use rustix::io::Errno;

use super::{Place, disk};
use crate::{QueueName, TransportError, Wake, Watch};

struct Watching {
    events: OwnedFd,
    root: PathBuf,
    /// The queues' directories, by the number that the kernel gives.
    queues: HashMap<i32, QueueName>,
}

pub(super) fn start(place: &Place, wake: Sender<Wake>) -> Result<Watch, TransportError> {
    let failed = |error: Errno| disk::failed(&place.root)(error.into());
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let events = inotify::init(flags).map_err(failed)?;
    inotify::add_watch(&events, &place.root, WatchFlags::CREATE | WatchFlags::MOVED_TO)
        .map_err(failed)?;
    let mut watching = Watching { events, root: place.root.clone(), queues: HashMap::new() };
    for name in disk::names(&place.root)? {
        watching.add(&name);
    }
    let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(failed)?);
    let stopped = Arc::clone(&stop);
    let thread = std::thread::Builder::new()
        .name("queue-watch".to_owned())
        .spawn(move || watching.run(&stopped, &wake))
        .map_err(disk::failed(&place.root))?;
    Ok(Watch::new(move || {
        let _told = rustix::io::write(&*stop, &1u64.to_ne_bytes());
        let _joined = thread.join();
    }))
}

impl Watching {
    /// Watches a queue's directory; `None` for what is none.
    fn add(&mut self, name: &str) -> Option<QueueName> {
        let queue = QueueName::parse(name).ok()?;
        let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let number = inotify::add_watch(&self.events, self.root.join(name), flags).ok()?;
        self.queues.insert(number, queue.clone());
        Some(queue)
    }

    /// Until told to stop, or until nobody listens.
    fn run(&mut self, stop: &OwnedFd, wake: &Sender<Wake>) {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        loop {
            let mut fds =
                [PollFd::new(&self.events, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return,
            }
            if !fds[1].revents().is_empty() {
                return;
            }
            let mut told = BTreeSet::new();
            let mut made = Vec::new();
            let mut reader = inotify::Reader::new(&self.events, &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => {
                        let name = event.file_name().and_then(|name| name.to_str().ok());
                        match (self.queues.get(&event.wd()), name) {
                            (Some(queue), Some(".index")) => {
                                told.insert(queue.clone());
                            }
                            (None, Some(name)) => made.push(name.to_owned()),
                            _ => {}
                        }
                    }
                    Err(Errno::INTR) => {}
                    Err(_) => break,
                }
            }
            // A new queue may have had tasks before it was watched.
            told.extend(made.iter().filter_map(|name| self.add(name)));
            for queue in told {
                if wake.send(Wake::Queue(queue)).is_err() {
                    return;
                }
            }
        }
    }
}
