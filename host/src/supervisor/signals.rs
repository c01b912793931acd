//! Signals as bytes in pipes, where they wait until somebody listens.

use std::io;
use std::os::unix::net::UnixStream;

/// Signals that no longer have their usual effect on this process.
#[derive(Default)]
pub struct Signals(pub(super) Vec<(i32, UnixStream)>);

impl Signals {
    /// Takes over some more.
    ///
    /// # Errors
    /// When the kernel has no descriptors left.
    pub fn take(&mut self, signals: &[i32]) -> io::Result<()> {
        for signal in signals {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(*signal, write)?;
            self.0.push((*signal, read));
        }
        Ok(())
    }
}
