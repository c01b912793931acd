//! PostgreSQL keeps the contract.

use std::any::Any;

use rex_test_support::Postgres;
use rex_transport::Uri;

fn fresh() -> Option<(Uri, Box<dyn Any>)> {
    let database = Postgres::shared()?.create_database();
    Some((Uri::parse(&database.uri).unwrap(), Box::new(database)))
}

mod contract {
    rex_transport::keeps_the_contract!(super::fresh);
}
