//! PostgreSQL keeps the contract.

use std::any::Any;

use rex_test_support::pg::Database;
use rex_test_support::server;
use rex_transport::Uri;

fn fresh() -> Option<(Uri, Box<dyn Any>)> {
    if std::env::var_os("REX_TEST_PG").is_none() {
        server::binaries()?;
    }
    let database = Database::new();
    Some((Uri::parse(&database.uri()).unwrap(), Box::new(database)))
}

mod contract {
    rex_transport::keeps_the_contract!(super::fresh);
}
