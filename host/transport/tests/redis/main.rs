//! Redis keeps the contract; what a server suffers, and old clients beside us.

#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

mod contract;
mod trouble;

use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rex_test_support::redis::Redis;
use rex_transport::Uri;

/// An empty database on the server that all tests share; it ends with this process.
fn fresh() -> Option<Uri> {
    static SERVER: OnceLock<Option<Mutex<Redis>>> = OnceLock::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.get_or_init(|| Redis::start().map(Mutex::new)).as_ref()?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let base = server.lock().unwrap().uri();
    Some(Uri::parse(&format!("{base}?db={number}")).unwrap())
}
