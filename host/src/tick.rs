//! The kernel's count of time in `/proc`: what a process has used, and when it was started.

use std::time::Duration;

/// When a process was started: ticks since the machine was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);

impl Tick {
    /// Of a tick, whatever the kernel's own clock.
    pub const LENGTH: Duration = Duration::from_millis(10);

    /// That of the moment `ago` before now.
    pub fn before_now(ago: Duration) -> Tick {
        let ticks = since_boot().saturating_sub(ago).as_nanos() / Tick::LENGTH.as_nanos();
        Tick(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// Waits for the next one: what is started then is dated differently from what is there.
    pub fn wait_for_next() {
        let passed = (since_boot().as_nanos() % Tick::LENGTH.as_nanos()) as u64;
        // Who reckons when that was is some microseconds off.
        let margin = Duration::from_millis(1);
        std::thread::sleep(Tick::LENGTH - Duration::from_nanos(passed) + margin);
    }
}

fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or(0)) + Duration::from_nanos(nanos)
}
