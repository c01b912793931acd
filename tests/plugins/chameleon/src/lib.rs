//! A plugin that is what a test makes of it: it claims to be whatever the slot `CLAIM` says, and
//! does while it is loaded what the slot `ACT` says.
//!
//! A test fills the slots by overwriting bytes of the built library (`rex_test_support::plugins`), so
//! that a dozen kinds of plugin need one build. With empty slots it is an honest plugin whose worker
//! asks the host for the operation that its payload names.
#![expect(unsafe_code, reason = "runs before main, and crashes on purpose")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "shows what becomes of prints")]

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use rex_plugin_api::ops::Manifest;
use rex_plugin_api::{Context, Error, Payload, Registry, Result, Worker, abi, serde_json};

/// A manifest as JSON.
static CLAIM: [u8; 2048] = slot(b"REX-SLOT-CLAIM:");
static ACT: [u8; 64] = slot(b"REX-SLOT-ACT:");

const fn slot<const SIZE: usize>(marker: &[u8]) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    let mut n = 0;
    while n < marker.len() {
        bytes[n] = marker[n];
        n += 1;
    }
    bytes
}

/// What stands in a slot behind its marker.
fn read(slot: &'static [u8]) -> &'static str {
    let text = std::str::from_utf8(black_box(slot)).expect("a test wrote text");
    text.trim_end_matches('\0').split_once(':').expect("the marker is still there").1
}

const START_AFTER: &str = "start after ";

#[derive(Default)]
struct Chameleon;

impl Worker for Chameleon {
    fn start(&mut self, _: &Context) -> Result<()> {
        match read(&ACT) {
            "refuse to start" => Err(Error::new("it does not want to")),
            "refuse at length" => Err(Error::new("z".repeat(3_000_000))),
            act => {
                if let Some(file) = act.strip_prefix(START_AFTER) {
                    wait_for(Path::new(file));
                }
                Ok(())
            }
        }
    }

    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
        let op = u32::try_from(payload.integer("op")?)?;
        ctx.call_host(op, &**payload)
    }
}

fn registry() -> Registry {
    let registry = Registry::new("chameleon", "0.1.0").worker::<Chameleon>("chameleon_worker");
    match read(&CLAIM) {
        "" => registry,
        claim => {
            let claim: Manifest = serde_json::from_str(claim).expect("the claim is a manifest");
            registry.claiming(claim)
        }
    }
}

// What `export_plugin!` writes, with this registry.
const _: () = {
    extern "C" fn constructor() -> abi::Constructed {
        abi::construct(registry)
    }

    #[unsafe(no_mangle)]
    static rex_plugin_v1: abi::Header = abi::header(constructor);
};

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = act;

extern "C" fn act() {
    match read(&ACT) {
        "" | "refuse to start" | "refuse at length" => {}
        act if act.starts_with(START_AFTER) => {}
        "abort" => std::process::abort(),
        // SAFETY: not safe at all: nothing is mapped there, which is the point.
        "segfault" => unsafe { black_box(16 as *mut u8).write_volatile(1) },
        "exit 0" => std::process::exit(0),
        "exit 3" => {
            eprintln!("cannot find my licence\n");
            std::process::exit(3);
        }
        "hang" => hang(),
        "print" => {
            println!("{{\"manifest\":\"a forged answer\"}}");
            eprintln!("hello from a constructor");
        }
        "flood" => loop {
            println!("{}", "x".repeat(10_000));
        },
        "spawn" => {
            let child = std::process::Command::new("sleep").arg("600").spawn();
            eprintln!("{}", child.expect("there is a sleep").id());
            hang();
        }
        other => match other.strip_prefix("wait for ") {
            Some(file) => wait_for(Path::new(file)),
            None => eprintln!("no act named {other}"),
        },
    }
}

fn wait_for(file: &Path) {
    while !file.exists() {
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn hang() {
    loop {
        std::thread::park_timeout(Duration::from_secs(60));
    }
}
