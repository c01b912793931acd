//! The contract of `rex_transport::contract`.

use std::any::Any;

use rex_transport::{Features, Uri};

fn fresh() -> Option<(Uri, Box<dyn Any>)> {
    let directory = tempfile::tempdir().unwrap();
    let uri = Uri::parse(&format!("sqlite:{}/queue.db", directory.path().display())).unwrap();
    Some((uri, Box::new(directory)))
}

rex_transport::keeps_the_contract!(fresh, Features::ALL);
