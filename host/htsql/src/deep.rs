//! Room for deep queries: stages recurse over the tree, so tall trees get a thread with a larger
//! stack.

use crate::error::{Error, Kind};
use crate::syn::Syn;

/// Trees up to this height fit any thread's stack.
const ORDINARY_HEIGHT: u32 = 60;

/// Stack of the thread for taller ones, in bytes; the tallest tree allowed fits.
const LARGE_STACK: usize = 512 << 20;

/// Runs a stage over a tree.
///
/// # Errors
/// What the stage returns; `Internal` when no thread can be started.
pub(crate) fn run<T: Send>(
    syn: &Syn,
    stage: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    if syn.height() <= ORDINARY_HEIGHT {
        return stage();
    }
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(LARGE_STACK);
        let internal = |message: &str| Error::of(Kind::Internal, message);
        match builder.spawn_scoped(scope, stage) {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err(internal("The compiler failed"))),
            Err(_) => Err(internal("Unable to start a thread for a deep query")),
        }
    })
}
