//! Ctrl-C: the first stops the statement that runs on the server and what would come after it, the
//! second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::connection::Canceller;

/// Whether the user asked to stop.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(super) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Listens for Ctrl-C from now on, for as long as the process lives. Where the system gives no
    /// means to, Ctrl-C ends the process.
    pub(super) fn listen(canceller: Canceller) -> Interrupt {
        let interrupt = Interrupt::default();
        let raised = interrupt.clone();
        let Ok(mut signals) = Signals::new([SIGINT]) else { return interrupt };
        let listen = move || {
            for signal in signals.forever() {
                if raised.0.swap(true, Ordering::Relaxed) {
                    let _ended = emulate_default_handler(signal);
                }
                // Without an answer from the server the second Ctrl-C is the way out.
                let _asked = canceller.cancel();
            }
        };
        let _thread = std::thread::Builder::new().name("interrupt".to_string()).spawn(listen);
        interrupt
    }
}
