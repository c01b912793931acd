//! The Lua scripts, each one atomic step on the server; `common.lua` is put before each of them.
//! They name keys that they build themselves, so a Redis Cluster cannot run them.

use redis::Script;

use super::address::Address;

/// All scripts, hashed once for each transport.
pub(super) struct Scripts {
    pub(super) submit: Script,
    pub(super) peek: Script,
    pub(super) purge: Script,
    pub(super) pause: Script,
    pub(super) claim: Script,
    pub(super) held: Script,
    pub(super) finish: Script,
    pub(super) count: Script,
    pub(super) revive: Script,
    pub(super) discard: Script,
    pub(super) register: Script,
    pub(super) beat: Script,
    pub(super) take_over: Script,
    pub(super) occasion: Script,
    pub(super) last: Script,
    pub(super) mark: Script,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        let script = |body: &str| Script::new(&format!("{}\n{body}", include_str!("common.lua")));
        Scripts {
            submit: script(include_str!("submit.lua")),
            peek: script(include_str!("peek.lua")),
            purge: script(include_str!("purge.lua")),
            pause: script(include_str!("pause.lua")),
            claim: script(include_str!("claim.lua")),
            held: script(include_str!("held.lua")),
            finish: script(include_str!("finish.lua")),
            count: script(include_str!("count.lua")),
            revive: script(include_str!("revive.lua")),
            discard: script(include_str!("discard.lua")),
            register: script(include_str!("register.lua")),
            beat: script(include_str!("beat.lua")),
            take_over: script(include_str!("take_over.lua")),
            occasion: script(include_str!("occasion.lua")),
            last: script(include_str!("last.lua")),
            mark: script(include_str!("mark.lua")),
        }
    }
}

/// A script's call with what every script is told first.
pub(super) fn call<'a>(script: &'a Script, address: &Address) -> redis::ScriptInvocation<'a> {
    let mut call = script.prepare_invoke();
    call.arg(&address.prefix).arg(address.db);
    call
}
