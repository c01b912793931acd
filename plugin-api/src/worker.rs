//! What a plugin's author implements.

use crate::{Context, Payload, Result};

/// Does the work of one queue, one task after the other, in a process of its own.
///
/// A value is made with `Default` when the worker's process starts, and made anew after a panic.
/// State between tasks is allowed and lost with the process: keep nothing in it that matters.
pub trait Worker: Default + Send + 'static {
    /// Whether the worker must know the application that it works for
    /// ([`Context::application`](crate::Context::application)), its passwords included.
    const APPLICATION: bool = false;

    /// Processes one task. `Err` or a panic fails the task; what the task asked for through `ctx`
    /// (requeue, submit) is then dropped, and takes effect together with the success otherwise.
    ///
    /// # Errors
    /// Any error fails the task and is logged with its place and chain of causes.
    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()>;

    /// Called once before the first task: open files and connections here.
    ///
    /// # Errors
    /// The process is stopped and started again later, with growing delay; no task is touched.
    fn start(&mut self, ctx: &Context) -> Result<()> {
        let _ = ctx;
        Ok(())
    }
}
