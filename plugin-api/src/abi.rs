//! The boundary between the host's binary and a plugin's `.so`: the only file that knows abi_stable
//! types, and the only `unsafe` code of this crate.
//!
//! Version 1 is frozen. A plugin exports one static, [`SYMBOL`], that leads to a root module of two
//! functions: `attach` hands it the host's callback, `call` runs an operation. Both directions are
//! `call(operation, bytes in, bytes out) -> status`, so that the boundary never changes when the
//! operations of [`ops`](crate::ops) grow (abi_stable refuses an older plugin as soon as a module
//! gains a field). abi_stable checks at load that both sides mean the same layout by this.
//!
//! A library is opened with libloading by whoever hosts it and never closed: see [`Plugin::attach`].
//! Panics are caught on the plugin's side; one that escaped would end the process.
#![expect(unsafe_code, reason = "the one place where machine code of two builds meets")]

use std::ops::Deref;

use abi_stable::StableAbi;
use abi_stable::library::{
    __call_root_module_loader, AbiHeaderRef, LibHeader, LibraryError, RootModule, RootModuleResult,
};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RSlice, RVec};

use crate::registry::{self, Registry};

/// The exported static's name. A version 2 would be another symbol beside it.
pub const SYMBOL: &str = "rex_plugin_v1";

/// What a plugin can call while it runs: implemented by the worker process, and by
/// [`testing`](crate::testing).
pub trait Host: Send + Sync {
    /// Runs one of the host operations of [`ops`](crate::ops); the status is one of its answers.
    fn call(&self, op: u32, input: &[u8], output: &mut Buffer) -> u32;
}

/// Bytes that one side allocates and the other fills or frees.
#[derive(Default)]
pub struct Buffer(RVec<u8>);

impl Buffer {
    pub fn set(&mut self, bytes: &[u8]) {
        self.0.clear();
        self.0.extend_from_slice(bytes);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// The root module of version 1. Never changes.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ModuleRef)))]
#[sabi(missing_field(panic))]
pub struct Module {
    /// Called once, before any `call`.
    attach: extern "C" fn(HostLink),
    /// Operation, input, output; the output's former content is dropped.
    #[sabi(last_prefix_field)]
    call: extern "C" fn(u32, RSlice<'_, u8>, &mut RVec<u8>) -> u32,
}

/// The way back into the host. `data` stays valid until the process ends.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct HostLink {
    data: *const (),
    call: extern "C" fn(*const (), u32, RSlice<'_, u8>, &mut RVec<u8>) -> u32,
}

// SAFETY: `data` comes from `Plugin::attach`, which makes it from a `&'static &'static dyn Host`,
// and `Host` is `Sync`.
unsafe impl Send for HostLink {}
// SAFETY: as above.
unsafe impl Sync for HostLink {}

impl RootModule for ModuleRef {
    abi_stable::declare_root_module_statics! {ModuleRef}
    const BASE_NAME: &'static str = "rex_plugin";
    const NAME: &'static str = "rex_plugin";
    // The boundary's version, not this crate's: it stays when the crate's minor version rises.
    const VERSION_STRINGS: VersionStrings = VersionStrings::new("1.0.0");
}

// ---- the plugin's side -------------------------------------------------------------------------

/// What the exported static is made of; see `export_plugin!`.
pub type Header = LibHeader;
/// What the exported constructor returns.
pub type Constructed = RootModuleResult;

/// For `export_plugin!`.
pub const fn header(constructor: extern "C" fn() -> Constructed) -> Header {
    // SAFETY: `constructor` is the one that `export_plugin!` writes, which returns what `construct`
    // made: a `ModuleRef`.
    unsafe {
        LibHeader::from_constructor::<ModuleRef>(
            constructor,
            abi_stable::library::CheckTypeLayout::Yes,
        )
    }
}

/// For `export_plugin!`: keeps the plugin's registry and returns its module.
pub fn construct(registry: fn() -> Registry) -> Constructed {
    registry::install(registry);
    __call_root_module_loader(|| Module { attach, call }.leak_into_prefix())
}

extern "C" fn attach(link: HostLink) {
    registry::attach(Box::new(ForeignHost(link)));
}

extern "C" fn call(op: u32, input: RSlice<'_, u8>, output: &mut RVec<u8>) -> u32 {
    // `Buffer` is this type by another name; swapping keeps the caller's allocation.
    let mut buffer = Buffer(std::mem::take(output));
    let status = registry::call(op, input.as_slice(), &mut buffer);
    *output = buffer.0;
    status
}

struct ForeignHost(HostLink);

impl Host for ForeignHost {
    fn call(&self, op: u32, input: &[u8], output: &mut Buffer) -> u32 {
        (self.0.call)(self.0.data, op, input.into(), &mut output.0)
    }
}

// ---- the host's side ---------------------------------------------------------------------------

/// A plugin that is loaded into this process, for good.
pub struct Plugin {
    module: ModuleRef,
}

/// Why a library is no plugin of ours. The texts are for the one line that an operator reads.
#[derive(Debug)]
pub enum AttachError {
    /// Made with an abi_stable that lays out its own types in another way.
    Toolkit(String),
    /// Another major version, or another idea of the module's layout.
    Layout(String),
    /// Its constructor failed.
    Constructor(String),
}

impl std::fmt::Display for AttachError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AttachError::Toolkit(text) => write!(f, "built for another ABI: {text}"),
            AttachError::Layout(text) => write!(f, "built for another plugin ABI: {text}"),
            AttachError::Constructor(text) => write!(f, "its constructor failed: {text}"),
        }
    }
}

impl std::error::Error for AttachError {}

impl Plugin {
    /// Checks the static that a library exports as [`SYMBOL`], and connects it to `host`.
    ///
    /// # Errors
    /// When it was built for another ABI. Nothing of the plugin but its checks has run then.
    ///
    /// # Safety
    /// `symbol` must be the address of that static in a library that stays loaded until the process
    /// ends. (That the library says the truth about itself cannot be checked: hence a process for
    /// each.)
    pub unsafe fn attach(
        symbol: *const (),
        host: &'static dyn Host,
    ) -> Result<Plugin, AttachError> {
        // SAFETY: the caller's promise; `AbiHeaderRef` is a transparent reference to the start of
        // the static, and checks a magic number before it trusts the rest.
        let header: AbiHeaderRef = unsafe { std::mem::transmute(symbol) };
        let header = header.upgrade().map_err(|e| AttachError::Toolkit(gist(&e)))?;
        let module = header.init_root_module::<ModuleRef>().map_err(|e| match e {
            LibraryError::RootModule { .. } => AttachError::Constructor(gist(&e)),
            _ => AttachError::Layout(gist(&e)),
        })?;
        let data: &'static &'static dyn Host = Box::leak(Box::new(host));
        module.attach()(HostLink { data: std::ptr::from_ref(data).cast(), call: call_host });
        Ok(Plugin { module })
    }

    /// Runs one of the plugin operations of [`ops`](crate::ops).
    pub fn call(&self, op: u32, input: &[u8], output: &mut Buffer) -> u32 {
        self.module.call()(op, input.into(), &mut output.0)
    }
}

extern "C" fn call_host(
    data: *const (),
    op: u32,
    input: RSlice<'_, u8>,
    output: &mut RVec<u8>,
) -> u32 {
    // SAFETY: `data` is the leaked box of `Plugin::attach`; plugins hand it back unchanged.
    let host: &'static &'static dyn Host = unsafe { &*data.cast() };
    let mut buffer = Buffer(std::mem::take(output));
    let status = host.call(op, input.as_slice(), &mut buffer);
    *output = buffer.0;
    status
}

/// abi_stable explains a layout in hundreds of lines; the gist of its first complaint fits one.
fn gist(error: &LibraryError) -> String {
    if let LibraryError::InvalidAbiHeader(found) = error {
        let ours = abi_stable::library::AbiHeader::VALUE;
        return if found.magic_string == ours.magic_string {
            format!(
                "made with abi_stable {}.{}, here it is {}.{}",
                found.abi_major, found.abi_minor, ours.abi_major, ours.abi_minor
            )
        } else {
            format!("`{SYMBOL}` is not what abi_stable exports")
        };
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let complaint = lines.find_map(|line| line.strip_prefix("Error:"));
    let mut after = |head| lines.by_ref().skip_while(|line| *line != head).nth(1);
    match (complaint, after("Expected:"), after("Found:")) {
        (Some(complaint), Some(expected), Some(found)) => {
            format!("{complaint} (expected {expected}, found {found})")
        }
        _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}
