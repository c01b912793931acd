//! Measures what an operator feels, each figure beside its limit from the same run.

fn main() {}
