//! The contract of `rex_transport::contract`.

use std::any::Any;

use rex_transport::Uri;

fn fresh() -> Option<(Uri, Box<dyn Any>)> {
    Some((crate::fresh()?, Box::new(())))
}

rex_transport::keeps_the_contract!(fresh);
