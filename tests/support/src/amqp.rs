//! RabbitMQ for tests: one private broker for all that leave it alone, with a virtual host for each;
//! and brokers of one test's own, to be crashed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::env::{not_run, repository};

/// An empty virtual host, from number `first` on, on the shared broker, as `amqp://…`: the broker
/// that `REX_TEST_AMQP` names, or one that is started now and ends with this process. `None`, which
/// is announced, when there is no RabbitMQ on this machine.
pub fn fresh(first: u32) -> Option<String> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    static KEEPER: Mutex<Option<RabbitMq>> = Mutex::new(None);
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.get_or_init(|| {
        if let Ok(address) = std::env::var("REX_TEST_AMQP") {
            return Some(address).filter(|address| !address.is_empty());
        }
        let broker = RabbitMq::with(&[])?;
        let uri = broker.uri.clone();
        *KEEPER.lock().expect("nobody panics with it") = Some(broker);
        Some(uri)
    });
    let Some(server) = server else {
        not_run("amqp", "there is no RabbitMQ to start");
        return None;
    };
    // Each test program has a part of the virtual hosts for itself.
    let number = first + COUNT.fetch_add(1, Ordering::Relaxed);
    Some(format!("{server}/t{number}"))
}

/// A broker that a test may crash and start again; it ends with this value and with the process.
pub struct RabbitMq {
    /// `amqp://USER:PASSWORD@HOST:PORT`
    pub uri: String,
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl RabbitMq {
    /// A new broker with nothing in it; `None`, which is announced, when there is no RabbitMQ on this machine.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Option<RabbitMq> {
        RabbitMq::with(&["0"])
    }

    /// As [`RabbitMq::start`], with so many empty virtual hosts `t0`, `t1`, …
    ///
    /// # Panics
    /// When it does not start.
    pub fn with_hosts(count: u32) -> Option<RabbitMq> {
        RabbitMq::with(&[&count.to_string()])
    }

    fn with(arguments: &[&str]) -> Option<RabbitMq> {
        let installed =
            ["/usr/lib/rabbitmq/bin/rabbitmq-server", "/usr/local/sbin/rabbitmq-server"];
        if !installed.iter().any(|path| std::path::Path::new(path).exists()) {
            not_run("amqp", "the program rabbitmq-server is not installed");
            return None;
        }
        let mut child = Command::new(repository().join("tests/support/rabbitmq"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/support/rabbitmq can be run");
        let lines = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut broker = RabbitMq { uri: String::new(), child, lines };
        broker.uri = broker.line();
        assert!(!broker.uri.is_empty(), "tests/support/rabbitmq did not start a broker");
        Some(broker)
    }

    /// Kills the broker as a crash would.
    ///
    /// # Panics
    /// When its script has ended.
    pub fn crash(&mut self) {
        self.order("crash");
    }

    /// Starts the broker on the data it has.
    ///
    /// # Panics
    /// When its script has ended.
    pub fn restart(&mut self) {
        self.order("start");
    }

    /// Has `rabbitmqctl` do something; none of its words may have a blank.
    ///
    /// # Panics
    /// When it refuses.
    pub fn ctl(&mut self, words: &str) {
        self.order(&format!("ctl {words}"));
    }

    fn order(&mut self, order: &str) {
        let stdin = self.child.stdin.as_mut().expect("it was asked for");
        writeln!(stdin, "{order}").expect("the script reads");
        assert!(!self.line().is_empty(), "tests/support/rabbitmq has ended");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it prints text");
        line.trim_end().to_owned()
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}
