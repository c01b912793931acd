//! Syntax: text to tree and back.
//!
//! `decode` undoes percent-encoding, `scan` makes tokens, `parse` makes the tree (`tree`), `print`
//! writes it back on one line. Nothing here knows of a catalog.

mod decode;
mod parse;
mod print;
mod scan;
pub mod tree;

pub use parse::parse;
pub use tree::Syn;
