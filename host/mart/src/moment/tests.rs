//! Moments and durations as Python shows them.

use super::*;

#[test]
fn moments_and_durations_as_python_shows_them() {
    let at = |text: &str| read(text).unwrap();
    let moment = at("2026-11-21 22:27:45.000123");
    assert_eq!(shown(moment), "2026-11-21 22:27:45.000123");
    assert_eq!(shown(at("2026-11-21 02:07:05")), "2026-11-21 02:07:05");
    assert_eq!(compact(moment), "20261121222745");
    assert_eq!(between(moment, at("2026-11-21 22:27:46.000123")), "0:00:01");
    assert_eq!(between(moment, at("2026-11-22 23:27:45.500123")), "1 day, 1:00:00.500000");
}
