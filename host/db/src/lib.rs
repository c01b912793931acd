//! PostgreSQL under HTSQL: everything that touches a database.
//!
//! | module | does |
//! |---|---|
//! | `uri`, `tls`, `connection` | an address to an open connection |
//! | `introspect` | a live database to the plain data of a catalog |
//! | `params`, `decode`, `driver` | values and errors between the server and HTSQL |
//!
//! The compiler (`rex-htsql`) never opens a connection, this crate never looks into a query.

pub mod command;
mod connection;
mod decode;
mod describe;
mod driver;
mod encode;
mod etl;
mod exec;
mod fetch;
mod format;
mod introspect;
mod json_param;
mod params;
mod product;
mod rows;
mod session;
mod space;
mod tls;
mod uri;

#[cfg(feature = "testing")]
pub mod testing;

pub use connection::{Canceller, ConnectError};
pub use encode::{profile_json, value_json};
pub use format::Printer;
pub use json_param::{from_json, from_typed_json};
pub use product::Product;
pub use session::{Config, Gateway, Session, Sink};
pub use tls::TlsError;
pub use uri::{BadUri, Uri};
