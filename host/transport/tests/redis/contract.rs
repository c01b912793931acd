//! The contract of `rex_transport::contract`.

use std::any::Any;

use rex_transport::{Features, Uri};

fn fresh() -> Option<(Uri, Box<dyn Any>)> {
    Some((crate::fresh()?, Box::new(())))
}

/// Old consumers take tasks from the same list, whatever their priorities and keys.
const FEATURES: Features = Features { priorities: false, unique: false, ..Features::ALL };

rex_transport::keeps_the_contract!(fresh, FEATURES);
