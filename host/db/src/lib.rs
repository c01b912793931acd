//! PostgreSQL under HTSQL: everything that touches a database.
//!
//! | module | does |
//! |---|---|
//! | `connection` | an address to an open connection |
//! | `introspect` | a live database to the plain data of a catalog |
//! | `space` | the main database and its gateways: connections, catalogs, transactions |
//! | `session` | what a program uses: queries, answers, transactions |
//! | `exec` | each kind of plan to a feed of items |
//! | `rows`, `fetch`, `item`, `product` | rows of statements, nested into values, item by item |
//! | `turns` | the command `for` |
//! | `etl` | the commands that write |
//! | `out_of_place` | what plain SQL may not do in a session |
//! | `describe` | the commands `describe` and `pivot` |
//! | `params`, `decode`, `driver` | values and errors between the server and HTSQL |
//! | `json_param`, `encode`, `format` | values between HTSQL and the outside: JSON, tables, CSV |
//! | `command` | the command `query` |
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
mod item;
mod json_param;
mod out_of_place;
mod params;
mod product;
mod rows;
mod session;
mod space;
mod turns;

pub use connection::{Canceller, ConnectError};
pub use encode::{profile_json, value_json};
pub use format::Printer;
pub use item::{Item, LongList, More};
pub use json_param::{from_json, from_typed_json};
pub use product::Product;
pub use rex_pg::{Address, BadAddress, POOLED, STAY, cause, is_pooled, is_postgresql, pooled};
pub use session::{Config, Gateway, Nowhere, Session, Sink};
