//! Waiting for what happens in watched directories.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

/// What happened since the last call, waited for: watches, each with the name of the file. `None`
/// when `stop` became readable, or nothing can be heard any more.
pub(crate) fn wait(events: &OwnedFd, stop: &OwnedFd) -> Option<Vec<(i32, String)>> {
    let mut fds = [PollFd::new(events, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
    loop {
        match poll(&mut fds, None) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    if !fds[1].revents().is_empty() {
        return None;
    }
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut reader = inotify::Reader::new(events, &mut buffer);
    let mut happened = Vec::new();
    loop {
        match reader.next() {
            Ok(event) => {
                let name = event.file_name().and_then(|name| name.to_str().ok());
                happened.extend(name.map(|name| (event.wd(), name.to_owned())));
            }
            Err(Errno::INTR) => {}
            Err(_) => return Some(happened),
        }
    }
}
