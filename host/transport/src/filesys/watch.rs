//! Word of new tasks: whoever adds one, old producer or ours, writes the queue's index, and the
//! kernel tells of that.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Sender;
use rustix::event::{EventfdFlags, eventfd};
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
        while let Some(happened) = crate::inotify::wait(&self.events, stop) {
            let mut told = BTreeSet::new();
            let mut made = Vec::new();
            for (watched, name) in happened {
                match self.queues.get(&watched) {
                    Some(queue) if name == ".index" => {
                        told.insert(queue.clone());
                    }
                    Some(_) => {}
                    None => made.push(name),
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
