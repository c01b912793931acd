//! What this process has used.

use std::time::{Duration, Instant};

use super::{cpu_time, peak_resident, resident};

#[test]
fn of_this_process() {
    let me = rustix::process::getpid();
    let (before, begun) = (cpu_time(me).unwrap(), Instant::now());
    while cpu_time(me).unwrap() < before + Duration::from_millis(30) {
        assert!(begun.elapsed() < Duration::from_secs(60), "no CPU time is counted");
    }
    assert!(resident(me).unwrap() > 1 << 20);
    assert!(peak_resident(me).unwrap() >= resident(me).unwrap());
}
