//! A private PostgreSQL server for tests and benchmarks, and the reference data in it.
//!
//! Behind the feature `testing`. The server lives in a scratch folder, listens on a Unix socket
//! there and nowhere else, and ends with the process that started it, however that process ends.
//! Where `REX_TEST_PG` holds the URI of a server, that server is used instead.

mod app;
mod server;
mod shared;

pub use app::load_app;
pub use server::{Server, ServerError};
pub use shared::{load_sql, shared_file};
