//! Where a PostgreSQL server is and how to reach it: addresses, defaults, password files, TLS and
//! the words for what went wrong, all as libpq has them. All that connects to PostgreSQL does so here:
//! the queue, the table of jobs and the query engine.

mod address;
mod attempts;
mod connect;
mod idle;
mod params;
mod passfile;
mod pooler;
mod tls;

pub use address::{Address, BadAddress};
pub use attempts::ConnectError;
pub use connect::{Connected, Wire, timed_out, within};
pub use idle::STAY;
pub use params::{Params, is_postgresql};
pub use pooler::{POOLED, is_pooled, pooled};
pub use tls::{Protection, TlsFiles, cause};
