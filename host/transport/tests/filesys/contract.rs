//! The contract of `rex_transport::contract`.

use std::any::Any;
use std::path::Path;

use rex_transport::{Features, Uri};

fn fresh() -> Option<(Uri, Box<dyn Any>)> {
    // In memory where that is: the contract makes thousands of files, each of them synced.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let directory = tempfile::tempdir_in(place).expect("a scratch folder");
    let uri = Uri::parse(&format!("filesys:{}", directory.path().display())).expect("a URI");
    Some((uri, Box::new(directory)))
}

/// Old consumers take tasks from the same directory, whatever their priorities and keys.
const FEATURES: Features =
    Features { priorities: false, unique: false, schedules: false, ..Features::ALL };

rex_transport::keeps_the_contract!(fresh, FEATURES);
