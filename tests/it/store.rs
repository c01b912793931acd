//! Where a test's tasks wait: the embedded queue of its environment, or a database of its own.

use rex_test_support::env::Env;
use rex_test_support::pg::Database;

/// A kind of store and, for a server, the database that this test has made.
pub(crate) enum Store {
    Embedded,
    Pgsql(Database),
}

impl Store {
    /// A database of its own on the shared server.
    pub(crate) fn pgsql() -> Store {
        Store::Pgsql(Database::new())
    }

    /// The arguments that point a command at it.
    pub(crate) fn args(&self) -> Vec<String> {
        match self {
            Store::Embedded => Vec::new(),
            Store::Pgsql(database) => {
                vec!["--set".to_owned(), format!("asynctask_transport={}", database.uri())]
            }
        }
    }

    /// Puts tasks into `queue`, one for each JSON text.
    pub(crate) fn submit(&self, env: &Env, queue: &str, payloads: &[&str]) {
        let lines: Vec<String> = payloads
            .iter()
            .map(|payload| format!("{{\"queue\": \"{queue}\", \"payload\": {payload}}}\n"))
            .collect();
        let store = self.args();
        let mut args = vec!["submit", "--stdin"];
        args.extend(store.iter().map(String::as_str));
        env.rex_host_with(&args, &lines.concat()).ok();
    }
}
