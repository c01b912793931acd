//! Opens one plugin in this process, for good: what a worker process and the probe do, and the host
//! itself never.
//!
//! The library is opened with all symbols bound at once, so that a missing one shows here and not in
//! the middle of a task, and kept to itself, so that two plugins' symbols cannot meet. It is never
//! closed: threads and destructors of the plugin may outlive any handle.
#![expect(unsafe_code, reason = "runs the code of a foreign library")]

use std::error::Error;
use std::path::Path;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rex_plugin_api::abi::{self, AttachError, Plugin};
use rex_plugin_api::ops::{self, Manifest};

use super::manifest::{self, HostApi, ManifestError};
use super::reason::{Reason, one_line};

/// A plugin that lives in this process.
pub struct Loaded {
    pub plugin: Plugin,
    pub manifest: Manifest,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot be loaded: {0}")]
    Open(String),
    #[error("is no rex-host plugin: it does not export `{}`", abi::SYMBOL)]
    NoPlugin,
    #[error("{}", attach_text(.0))]
    Attach(#[source] AttachError),
    #[error("does not tell what it exports: {0}")]
    Describe(String),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl LoadError {
    pub fn hint(&self) -> Option<String> {
        match self {
            LoadError::Open(text) if text.contains("failed to map segment") => Some(
                "is the state directory on a file system that is mounted noexec? \
                 choose another one with --state"
                    .to_owned(),
            ),
            LoadError::Open(text) if text.contains("cannot open shared object file") => {
                Some("a library that the plugin needs is missing: see `ldd`".to_owned())
            }
            LoadError::Open(text) if text.contains("GLIBC_") => {
                Some("build the plugin on a system as old as this one".to_owned())
            }
            LoadError::Open(_) => None,
            LoadError::NoPlugin => Some(
                "a plugin's crate is of type cdylib and calls export_plugin! (see `rex-host \
                 plugin new`)"
                    .to_owned(),
            ),
            LoadError::Attach(AttachError::Constructor(_)) => None,
            LoadError::Attach(_) => Some("rebuild the plugin against this host's SDK".to_owned()),
            LoadError::Describe(_) => None,
            LoadError::Manifest(error) => Some(error.hint()),
        }
    }
}

impl From<LoadError> for Reason {
    fn from(error: LoadError) -> Reason {
        let reason = Reason::new(&error);
        match error.hint() {
            Some(hint) => reason.hint(hint),
            None => reason,
        }
    }
}

fn attach_text(error: &AttachError) -> String {
    match error {
        AttachError::Toolkit(_) | AttachError::Layout(_) => format!("is {error}"),
        AttachError::Constructor(_) => error.to_string(),
    }
}

/// Loads the plugin at `path`, whose code runs from now on; calls it makes go to `host`.
///
/// # Errors
/// When the file is no plugin, or none that this host can serve.
pub fn load(path: &Path, host: &'static dyn abi::Host) -> Result<Loaded, LoadError> {
    load_for(path, host, &HostApi::THIS)
}

/// As [`load`], for a host that offers `api`.
///
/// # Errors
/// As for [`load`].
pub fn load_for(
    path: &Path,
    host: &'static dyn abi::Host,
    api: &HostApi,
) -> Result<Loaded, LoadError> {
    // A bare name would be looked for in the system's directories.
    let path = &std::path::absolute(path).map_err(|error| LoadError::Open(error.to_string()))?;
    // SAFETY: this runs the library's constructors, which may do anything at all. That is why only
    // the probe and the worker, each a process of its own, load plugins.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| LoadError::Open(dlopen_text(path, &error)))?;
    // SAFETY: only the symbol's address is taken here; `Plugin::attach` checks what lies there.
    let symbol = unsafe { library.get::<*const ()>(abi::SYMBOL) }
        .map_err(|_| LoadError::NoPlugin)?
        .as_raw_ptr()
        .cast_const()
        .cast::<()>();
    // Leaked: see the module's text.
    let _ = library.into_raw();
    if symbol.is_null() {
        return Err(LoadError::NoPlugin);
    }
    // SAFETY: the address is that of the plugin's exported static, in a library that was just
    // leaked and therefore stays.
    let plugin = unsafe { Plugin::attach(symbol, host) }.map_err(LoadError::Attach)?;
    let manifest = describe(&plugin)?;
    manifest::check(&manifest, api)?;
    Ok(Loaded { plugin, manifest })
}

fn describe(plugin: &Plugin) -> Result<Manifest, LoadError> {
    let mut output = abi::Buffer::default();
    match plugin.call(ops::PLUGIN_DESCRIBE, &[], &mut output) {
        ops::OK => serde_json::from_slice(&output).map_err(|e| LoadError::Describe(e.to_string())),
        status => Err(LoadError::Describe(format!(
            "status {status}: {}",
            one_line(&String::from_utf8_lossy(&output))
        ))),
    }
}

/// dlopen's text without what the reader knows already.
fn dlopen_text(path: &Path, error: &libloading::Error) -> String {
    let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let prefix = format!("{}: ", path.display());
    match text.split_once(&prefix) {
        Some((_, rest)) => rest.to_owned(),
        None => text,
    }
}
