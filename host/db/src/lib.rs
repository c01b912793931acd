//! PostgreSQL under HTSQL: everything that touches a database.
//!
//! | module | does |
//! |---|---|
//! | `uri`, `tls`, `connection` | an address to an open connection |
//! | `introspect` | a live database to the plain data of a catalog |
//! | `params`, `decode`, `driver` | values and errors between the server and HTSQL |
//!
//! The compiler (`rex-htsql`) never opens a connection, this crate never looks into a query.

mod connection;
mod decode;
mod driver;
mod introspect;
mod params;
mod tls;
mod uri;

#[cfg(feature = "testing")]
pub mod testing;

pub use connection::{Canceller, ConnectError};
pub use tls::TlsError;
pub use uri::{BadUri, Uri};
