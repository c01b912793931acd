//! Standard output and error behind a thread of their own: whoever has something to say never waits
//! for who reads it.
//!
//! A reader that stops reading (a terminal on hold, a stuck log collector) fills the store of what
//! is to be written; [`Outlet::is_full`] then tells the supervisor to leave prints in the workers'
//! pipes, which slows the workers down to what is read. One that reads nothing any more holds nobody
//! up: what comes then is kept up to a second bound, and beyond that dropped and counted. As long as it
//! reads nothing is dropped: what is on the way when workers are to wait is kept, however much it is.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Bytes from which on workers are to wait.
const HIGH: usize = 1 << 20;
/// Bytes that are kept for a reader who has stopped reading.
const MOST: usize = 16 << 20;
/// Bytes that are written at once: few, so that a slow reader is seen to read.
const CHUNK: usize = 4 << 10;
/// Texts of one stream are joined up to this size.
const JOINED: usize = 64 << 10;
/// A reader that takes nothing for so long has stopped reading.
const STUCK: Duration = Duration::from_secs(5);
/// How long an end that is wanted at once waits for such a reader.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Outlet {
    shared: Arc<Shared>,
    /// Where [`Outlet::wake`] comes from.
    woken: Receiver<()>,
}

struct Shared {
    state: Mutex<State>,
    /// Something is to be written, or was.
    changed: Condvar,
    wake: Sender<()>,
}

struct State {
    /// Texts in order, those of one stream that follow each other joined.
    texts: VecDeque<(Stream, Vec<u8>)>,
    /// Bytes that were taken over since the start, and of these written or given up.
    taken: u64,
    written: u64,
    /// When bytes were last written, or came while there were none.
    moved: Instant,
    dropped: usize,
    has_thread: bool,
    /// Nothing waits for the output any more.
    released: bool,
    end: End,
}

/// How long the end waits for the reader, but for a moment always.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As long as it takes.
    Patient,
    /// Until it has stopped reading, and no longer than that.
    By(Instant),
    /// A moment.
    AtOnce,
}

impl State {
    fn new() -> State {
        State {
            texts: VecDeque::new(),
            taken: 0,
            written: 0,
            moved: Instant::now(),
            dropped: 0,
            has_thread: false,
            released: false,
            end: End::Patient,
        }
    }

    fn bytes(&self) -> u64 {
        self.taken - self.written
    }

    fn is_stuck(&self, patience: Duration) -> bool {
        self.bytes() > 0 && self.moved.elapsed() >= patience
    }

    /// Whether nothing more is kept.
    fn is_overfull(&self) -> bool {
        self.bytes() > MOST as u64 && self.is_stuck(STUCK)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

impl Stream {
    fn other(self) -> Stream {
        match self {
            Stream::Out => Stream::Err,
            Stream::Err => Stream::Out,
        }
    }
}

impl Outlet {
    pub(super) fn new() -> Outlet {
        let (wake, woken) = crossbeam_channel::bounded(1);
        let state = Mutex::new(State::new());
        Outlet { shared: Arc::new(Shared { state, changed: Condvar::new(), wake }), woken }
    }

    /// Puts whole lines in line.
    pub(super) fn write(&self, stream: Stream, text: &[u8]) {
        let mut state = self.lock();
        if state.is_overfull() {
            state.dropped += text.len();
            return;
        }
        if !state.has_thread {
            let outlet = self.clone();
            let thread = std::thread::Builder::new().name("output".to_owned());
            state.has_thread = thread.spawn(move || outlet.run()).is_ok();
            if !state.has_thread {
                drop(state);
                let _unheard = put(stream, text);
                return;
            }
        }
        if state.bytes() == 0 {
            state.moved = Instant::now();
        }
        state.taken += text.len() as u64;
        match state.texts.back_mut() {
            Some((last, texts)) if *last == stream && texts.len() < JOINED => {
                texts.extend_from_slice(text);
            }
            _ => state.texts.push_back((stream, text.to_vec())),
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Whether more should wait until the reader, who reads, has caught up.
    pub(super) fn is_full(&self) -> bool {
        let state = self.lock();
        state.bytes() > HIGH as u64 && !state.is_stuck(STUCK)
    }

    /// Where all that was taken over until now ends.
    pub(super) fn mark(&self) -> u64 {
        self.lock().taken
    }

    /// Up to which mark everything is written, or not to be waited for.
    pub(super) fn out(&self) -> u64 {
        let state = self.lock();
        let is_moot = state.released || state.end == End::AtOnce || state.is_stuck(STUCK);
        if is_moot { u64::MAX } else { state.written }
    }

    /// Says after each write that [`Outlet::out`] may have changed.
    pub(super) fn wake(&self) -> &Receiver<()> {
        &self.woken
    }

    /// From now on nothing waits for the output; it is written all the same.
    pub(super) fn release(&self) {
        self.lock().released = true;
    }

    /// Says how long the end waits; never longer than was said before.
    pub(super) fn hurry(&self, end: End) {
        let mut state = self.lock();
        state.end = match (state.end, end) {
            (End::Patient, end) | (end, End::Patient) => end,
            (End::By(one), End::By(other)) => End::By(one.min(other)),
            (End::AtOnce, _) | (_, End::AtOnce) => End::AtOnce,
        };
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Waits until all is written, or the reader is given up.
    pub(super) fn flush(&self) {
        let begun = Instant::now();
        let mut state = self.lock();
        while state.bytes() > 0 {
            let is_over = match state.end {
                End::Patient => false,
                End::By(time) => state.is_stuck(STUCK) || time <= Instant::now(),
                End::AtOnce => true,
            };
            if is_over && begun.elapsed() >= LAST_WORDS {
                return;
            }
            let waited = self.shared.changed.wait_timeout(state, LAST_WORDS / 4);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self) {
        let mut complained = false;
        loop {
            let mut state = self.lock();
            let (stream, text) = loop {
                if let Some(next) = state.texts.pop_front() {
                    break next;
                }
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            let dropped = mem::take(&mut state.dropped);
            drop(state);
            for chunk in text.chunks(CHUNK) {
                // An output that is gone costs the lines, not the host. Who has closed it knows.
                if let Err(error) = put(stream, chunk)
                    && error != Errno::PIPE
                    && !mem::replace(&mut complained, true)
                {
                    let name = match stream {
                        Stream::Out => "standard output",
                        Stream::Err => "standard error",
                    };
                    let text = format!(
                        "ERROR:rex-host:{name} cannot be written, what is printed is lost: {error}\n"
                    );
                    let _unheard = put(stream.other(), text.as_bytes());
                }
                let mut state = self.lock();
                state.written += chunk.len() as u64;
                state.moved = Instant::now();
                drop(state);
                // One word waits already.
                let _ = self.shared.wake.try_send(());
            }
            if dropped > 0 {
                let text = format!(
                    "WARNING:rex-host:{dropped} bytes of output were dropped: nobody read them\n"
                );
                let _unheard = put(Stream::Err, text.as_bytes());
            }
            self.shared.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all of it. One that others made non-blocking (it may be shared with them) is waited for all
/// the same.
fn put(stream: Stream, mut text: &[u8]) -> Result<(), Errno> {
    let output = match stream {
        Stream::Out => rustix::stdio::stdout(),
        Stream::Err => rustix::stdio::stderr(),
    };
    while !text.is_empty() {
        match rustix::io::write(output, text) {
            Ok(count) => text = &text[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                // Whatever it answers, the next write tells.
                let _ = poll(&mut [PollFd::new(&output, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{MOST, STUCK, State};

    #[test]
    fn only_what_nobody_has_read_for_long_is_dropped() {
        let mut state = State::new();
        state.taken = 3 * MOST as u64;
        assert!(!state.is_overfull(), "it is being written");
        let Some(long_ago) = Instant::now().checked_sub(STUCK) else { return };
        state.moved = long_ago;
        assert!(state.is_overfull(), "nobody reads");
        state.written = 2 * MOST as u64;
        assert!(!state.is_overfull(), "there is room");
    }
}
