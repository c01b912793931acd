//! placeholder
pub mod plugins;
