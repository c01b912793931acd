//! Ctrl-C: the first stops the statement that runs on the server and what would come after it, the
//! second ends the process. While only input is waited for, the first does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::connection::Canceller;

/// How long the server has to stop before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Whether the user asked to stop.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupt(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    raised: AtomicBool,
    waiting: AtomicBool,
}

impl Interrupt {
    pub(super) fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::Relaxed)
    }

    /// Waits for input, which Ctrl-C ends together with the process.
    pub(super) fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.0.waiting.store(true, Ordering::Relaxed);
        let came = wait();
        self.0.waiting.store(false, Ordering::Relaxed);
        came
    }

    /// Listens for Ctrl-C from now on, for as long as the process lives. Where the system gives no
    /// means to, Ctrl-C ends the process.
    pub(super) fn listen(canceller: Canceller) -> Interrupt {
        let interrupt = Interrupt::default();
        let raised = interrupt.clone();
        let Ok(mut signals) = Signals::new([SIGINT]) else { return interrupt };
        let listen = move || {
            for signal in signals.forever() {
                let again = raised.0.raised.swap(true, Ordering::Relaxed);
                if again || raised.0.waiting.load(Ordering::Relaxed) {
                    let _ended = emulate_default_handler(signal);
                }
                insist(canceller.clone());
            }
        };
        let _thread = thread::Builder::new().name("interrupt".to_string()).spawn(listen);
        interrupt
    }
}

/// Asks the server to stop until the process ends: between two statements there is nothing to stop,
/// and the request is lost.
fn insist(canceller: Canceller) {
    let ask = move || loop {
        // Without an answer from the server the second Ctrl-C is the way out.
        let _asked = canceller.cancel();
        thread::park_timeout(ASK_AGAIN);
    };
    let _thread = thread::Builder::new().name("cancel".to_string()).spawn(ask);
}
