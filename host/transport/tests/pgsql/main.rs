//! PostgreSQL keeps the contract; and what only PostgreSQL has: the original beside us, broken
//! connections, rights, TLS, poolers. Each test has a database of its own.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panic, and tell what is not run"
)]

mod backlogs;
mod contract;
mod doubles;
mod faults;
mod interop;
mod rights;
mod server;

use rex_test_support::pg::Database;
use rex_transport::{Options, Owner, Transport, Uri, open};

/// A database, if there is a server to make it on.
fn database() -> Option<Database> {
    rex_test_support::pg::server().map(|_| Database::new())
}

fn uri(text: &str) -> Uri {
    Uri::parse(text).unwrap()
}

/// Opens a database as the owner of that name.
fn host(uri: &Uri, name: &str) -> Box<dyn Transport> {
    let owner = Some(Owner { id: name.to_owned() });
    open(uri, &Options { owner, ..Options::default() }).unwrap()
}
