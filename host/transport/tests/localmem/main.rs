//! Queues in memory keep the contract, as far as one process goes.

use std::any::Any;
use std::sync::atomic::{AtomicU32, Ordering};

use rex_transport::{Features, Uri};

fn fresh() -> Option<(Uri, Box<dyn Any>)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Some((Uri::parse(&format!("localmem://store{number}")).expect("a URI"), Box::new(())))
}

rex_transport::keeps_the_contract!(fresh, Features::ALL, basics takeover);
