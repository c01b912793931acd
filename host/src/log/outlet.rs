//! Standard output and error behind a thread of their own: whoever has something to say never waits
//! for who reads it.
//!
//! A reader that stops reading (a terminal on hold, a stuck log collector) fills the store of what
//! is to be written; [`Outlet::is_full`] then tells the supervisor to leave prints in the workers'
//! pipes, which slows the workers down and keeps the host awake. What comes all the same, from
//! processes that end meanwhile, is kept up to a second bound and then dropped and counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes from which on workers are to wait.
const HIGH: usize = 1 << 20;
/// Bytes that are kept at most.
const MOST: usize = 16 << 20;
/// How long an impatient end waits for the reader.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
pub(super) struct Outlet {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something is to be written, or was.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Texts in order, those of one stream that follow each other joined.
    texts: VecDeque<(Stream, Vec<u8>)>,
    /// Bytes in `texts`, and being written.
    bytes: usize,
    dropped: usize,
    has_thread: bool,
    impatient: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

impl Outlet {
    /// Puts whole lines in line.
    pub(super) fn write(&self, stream: Stream, text: &[u8]) {
        let mut state = self.lock();
        if state.bytes + text.len() > MOST {
            state.dropped += text.len();
            return;
        }
        if !state.has_thread {
            let outlet = self.clone();
            let thread = std::thread::Builder::new().name("output".to_owned());
            state.has_thread = thread.spawn(move || outlet.run()).is_ok();
            if !state.has_thread {
                drop(state);
                return put(stream, text);
            }
        }
        state.bytes += text.len();
        match state.texts.back_mut() {
            Some((last, texts)) if *last == stream => texts.extend_from_slice(text),
            _ => state.texts.push_back((stream, text.to_vec())),
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Whether more should wait until the reader has caught up.
    pub(super) fn is_full(&self) -> bool {
        self.lock().bytes > HIGH
    }

    /// From now on the end does not wait long for the reader.
    pub(super) fn hurry(&self) {
        self.lock().impatient = true;
        self.shared.changed.notify_all();
    }

    /// Waits until all is written.
    pub(super) fn flush(&self) {
        let mut state = self.lock();
        while state.bytes > 0 {
            let waited = self.shared.changed.wait_timeout(state, LAST_WORDS);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            if state.impatient && timeout.timed_out() {
                return;
            }
        }
    }

    fn run(&self) {
        loop {
            let mut state = self.lock();
            while state.texts.is_empty() {
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let texts = mem::take(&mut state.texts);
            let dropped = mem::take(&mut state.dropped);
            let bytes = state.bytes;
            drop(state);
            for (stream, text) in &texts {
                put(*stream, text);
            }
            if dropped > 0 {
                let text = format!(
                    "WARNING:rex-host:{dropped} bytes of output were dropped: nobody read them\n"
                );
                put(Stream::Err, text.as_bytes());
            }
            let mut state = self.lock();
            state.bytes -= bytes;
            drop(state);
            self.shared.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An output that is gone costs the lines, not the host.
fn put(stream: Stream, text: &[u8]) {
    let _ = match stream {
        Stream::Out => {
            let mut out = io::stdout().lock();
            out.write_all(text).and_then(|()| out.flush())
        }
        Stream::Err => io::stderr().lock().write_all(text),
    };
}
