//! What a worker has started and finished, exact to the task although its answers are batched: one
//! page of memory that the worker writes and its host reads after a death and for time limits. And, by
//! the host, until when the worker may start what it was sent: it keeps to that though its host is
//! stopped and can recall nothing.
//!
//! The plugin lives in the same process as the page's writer and may scribble over it, so the host
//! clamps what it reads to what it sent. The page cannot be resized (sealed), so reading it is
//! always safe.
#![expect(unsafe_code, reason = "memory shared between two processes")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

const SIZE: usize = 4096;

#[repr(C)]
struct Layout {
    /// `seq` of the task that was started last; 0 before the first.
    started: AtomicU64,
    /// `seq` of the task that was finished last.
    finished: AtomicU64,
    /// Monotonic clock at the start of `started`, in nanoseconds.
    started_at: AtomicU64,
    /// Monotonic clock, in nanoseconds, after which no task is to be started; 0 before the host has
    /// said anything.
    start_until: AtomicU64,
}

/// One mapping of the page.
pub struct Page {
    layout: NonNull<Layout>,
}

// SAFETY: the page is only accessed through atomics.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

/// What the page says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub started: u64,
    pub finished: u64,
    /// Nanoseconds of the monotonic clock.
    pub started_at: u64,
}

impl Page {
    /// A new page, and the descriptor that a worker inherits (it survives `exec`).
    ///
    /// # Errors
    /// When the kernel has no memory or descriptors left.
    pub fn create() -> io::Result<(Page, OwnedFd)> {
        let file = rustix::fs::memfd_create("rex-progress", MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&file, SIZE as u64)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok((Page::map(file.as_fd())?, file))
    }

    /// Maps the page behind an inherited descriptor.
    ///
    /// # Errors
    /// When it is no such page.
    pub fn map(file: BorrowedFd<'_>) -> io::Result<Page> {
        if rustix::fs::fstat(file)?.st_size != SIZE as i64 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a progress page"));
        }
        // SAFETY: a new shared mapping of a whole page that is sealed against resizing; it overlaps
        // nothing that Rust knows.
        let address = unsafe {
            let both = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(std::ptr::null_mut(), SIZE, both, MapFlags::SHARED, file, 0)?
        };
        let layout = NonNull::new(address.cast())
            .ok_or_else(|| io::Error::other("the kernel mapped a page at address 0"))?;
        Ok(Page { layout })
    }

    fn layout(&self) -> &Layout {
        // SAFETY: mapped in `map` for the life of `self`; any bytes are valid atomics.
        unsafe { self.layout.as_ref() }
    }

    /// Host: tasks may be started until then, in nanoseconds of the monotonic clock; `u64::MAX`: for
    /// ever. A task that [`read`](Self::read) shows in hand after this is the last that is started
    /// against it.
    pub fn allow(&self, until: u64) {
        self.layout().start_until.store(until, Ordering::SeqCst);
    }

    /// Worker: whether a task may be started at that time.
    pub fn allows(&self, now: u64) -> bool {
        now <= self.layout().start_until.load(Ordering::SeqCst)
    }

    /// Worker: the task `seq` starts now.
    pub fn start(&self, seq: u64, now: u64) {
        self.layout().started_at.store(now, Ordering::Relaxed);
        self.layout().started.store(seq, Ordering::Release);
    }

    /// Worker: the task `seq` is finished.
    pub fn finish(&self, seq: u64) {
        self.layout().finished.store(seq, Ordering::SeqCst);
    }

    /// Host: what is there.
    pub fn read(&self) -> Progress {
        let finished = self.layout().finished.load(Ordering::SeqCst);
        let started = self.layout().started.load(Ordering::Acquire);
        Progress { started, finished, started_at: self.layout().started_at.load(Ordering::Relaxed) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: unmaps what `map` mapped; no reference outlives `self`. A failure leaves one page
        // mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.layout.as_ptr().cast(), SIZE) };
    }
}

/// A time to come by the clock that both processes share, never later than it is; 0: it is over.
pub fn monotonic_at(time: Instant) -> u64 {
    // In this order, should this process be stopped in between.
    let now = monotonic_ns();
    let left = time.checked_duration_since(Instant::now());
    left.map_or(0, |left| now.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)))
}

/// The clock that both processes share.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests;
