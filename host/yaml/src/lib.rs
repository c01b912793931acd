//! What users write, read: YAML whose nodes know where they stand, validators that say in the
//! original's words what is wrong, and its layered error. Settings, facts of a deployment and
//! definitions are all read with it; what they mean is decided by whoever asked.

mod error;
pub mod given;
mod node;
pub mod number;
pub mod validate;

pub use error::Error;
pub use given::Given;
pub use node::{Kind, Loader, Lookup, Mark, Node, Scalar};
pub use rex_plugin_api::pyrepr::{repr, repr_json};
