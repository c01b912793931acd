//! The contract of `rex_transport::contract`. Ownership is the broker's here: what it does with a
//! dead host's tasks, and why nobody can take them from a silent one, is in `trouble.rs`.

use std::any::Any;

use rex_transport::{Features, Uri};

fn fresh() -> Option<(Uri, Box<dyn Any>)> {
    let uri = rex_test_support::amqp::fresh(0)?;
    Some((Uri::parse(&uri).unwrap(), Box::new(())))
}

/// The broker alone knows what others hold.
const FEATURES: Features = Features {
    priorities: false,
    delays: true,
    unique: false,
    pause: false,
    in_flight: false,
    schedules: false,
};

rex_transport::keeps_the_contract!(fresh, FEATURES, basics);

/// Not a check: the process that `trouble` kills.
#[test]
fn doomed_owner() {
    rex_transport::contract::doomed_owner();
}
