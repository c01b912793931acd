//! Numbers that nobody else has drawn.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::Timestamp;

/// Any number that is not negative.
pub(crate) fn random() -> i64 {
    let mut bytes = [0; 8];
    // Before the kernel has any, the moment must do.
    let drawn = getrandom(&mut bytes, GetRandomFlags::empty());
    drawn.map_or(Timestamp::now().0, |_| i64::from_ne_bytes(bytes)) & i64::MAX
}
