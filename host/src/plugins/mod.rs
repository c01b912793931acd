//! Which plugins there are: a directory of `.so` files becomes a [`Catalog`] of checked plugins and
//! of refused files.
//!
//! No plugin code ever runs in the host. A file must come from a trusted owner ([`permissions`]), be
//! a complete library ([`source`]) and is copied under the name of its content ([`copies`]); a
//! short-lived process loads that copy and tells what is in it ([`probe`], which uses [`mod@load`], as
//! the worker process does); the host checks what was told ([`manifest`]) and that no two plugins
//! claim the same worker ([`catalog`]). A file that fails anywhere is refused in one line
//! ([`Reason`]) and disturbs no other. [`watch`] notices that the directory changed; [`scaffold`]
//! writes the crate of a new plugin.

pub mod catalog;
pub mod copies;
pub mod load;
pub mod manifest;
pub mod permissions;
pub mod probe;
mod reason;
pub mod scaffold;
pub mod source;
pub mod watch;

pub use catalog::{Catalog, DirError, Finder, PluginFile, Refusal, new_refusals};
pub use load::{LoadError, Loaded, load};
pub use reason::{Reason, shown};
