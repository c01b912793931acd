//! Panics: what is told of which, and what of none.

use std::panic::{catch_unwind, panic_any, resume_unwind};
use std::sync::Once;

use super::{Failure, guard, keep_panics};
use crate::Result;

fn failure(work: impl FnOnce() -> Result<()>) -> Failure {
    static KEPT: Once = Once::new();
    KEPT.call_once(keep_panics);
    guard(work).unwrap_err()
}

fn catches() {
    let _ = catch_unwind(|| panic!("the caught one"));
}

#[test]
fn a_panic_that_was_caught_is_not_that_of_a_later_call() {
    let (text, line) = ("the caught one", line!() + 1);
    let told = failure(|| panic!("{text}"));
    assert_eq!((told.text.as_str(), told.place), (text, Some(format!("{}:{line}", file!()))));

    // What both calls say is the same, but nothing of the second one passed the hook.
    guard(|| {
        catches();
        Ok(())
    })
    .unwrap();
    let told = failure(|| resume_unwind(Box::new(text)));
    assert_eq!((told.text.as_str(), told.place), (text, None));
    assert_eq!(told.frames, [""; 0]);
}

#[test]
fn a_panic_that_was_caught_is_not_a_later_one_of_its_call() {
    let told = failure(|| {
        catches();
        resume_unwind(Box::new("the resumed one"))
    });
    assert_eq!((told.text.as_str(), told.place), ("the resumed one", None));
    assert_eq!(told.frames, [""; 0]);
    assert!(told.panicked);
}

#[test]
fn a_panic_that_is_handed_on_keeps_its_place() {
    let line = line!() + 2;
    let told = failure(|| {
        let caught = catch_unwind(|| panic!("number {}", 1)).unwrap_err();
        resume_unwind(caught)
    });
    assert_eq!(told.text, "number 1");
    assert_eq!(told.place, Some(format!("{}:{line}", file!())));
    assert!(failure(|| panic_any(1)).place.is_some());
}
