//! Where a PostgreSQL server is and how to reach it: addresses, defaults, password files, TLS and
//! the words for what went wrong, all as libpq has them. The queue and the query engine connect
//! by it, the one with the blocking driver, the other with the asynchronous one; so it opens no
//! connection itself but says which to try next.

mod address;
mod attempts;
mod idle;
mod params;
mod passfile;
mod pooler;
mod tls;

pub use address::{Address, BadAddress};
pub use attempts::{Attempt, Attempts, ConnectError};
pub use idle::STAY;
pub use params::{Params, is_postgresql};
pub use pooler::{POOLED, is_pooled, pooled};
pub use tls::{Protection, TlsFiles, cause};
