//! The contract of `rex_transport::contract`.

use std::any::Any;

use rex_transport::{Features, Uri};

fn fresh() -> Option<(Uri, Box<dyn Any>)> {
    let database = super::database()?;
    Some((super::uri(&database.uri()), Box::new(database)))
}

rex_transport::keeps_the_contract!(fresh, Features::ALL);
