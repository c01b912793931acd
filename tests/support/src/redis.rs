//! A Redis server of one test process's own, with its log of changes on disk, which a test may crash
//! and start again; it ends with the test process whatever ends that.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::env::not_run;
use crate::process::{Process, wait_for};

/// How soon one that does not answer is started again.
const AGAIN: Duration = Duration::from_secs(10);

/// A running server.
pub struct Redis {
    directory: PathBuf,
    port: u16,
    /// Ends the server and removes the directory as soon as its stdin closes.
    keeper: Child,
}

impl Redis {
    /// A new server; `None`, which is announced, when there is no Redis on this machine.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Option<Redis> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            not_run("redis", "the program redis-server is not installed");
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("rex-redis-")
            .tempdir()
            .expect("a scratch folder")
            .keep();
        let keeper = Command::new("sh")
            .args(["-c", "cat >/dev/null; kill -9 $(cat \"$0/pid\"); rm -rf \"$0\""])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh can be run");
        let port = free_port();
        let server = Redis { directory, port, keeper };
        server.restart();
        Some(server)
    }

    /// `redis://HOST:PORT`.
    pub fn uri(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts the server on the data it has.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self) {
        self.launch();
        let mut launched = Instant::now();
        wait_for("redis-server", || {
            // Somebody else may have had its port for a moment; if it just is slow, this one ends.
            if launched.elapsed() > AGAIN {
                self.launch();
                launched = Instant::now();
            }
            self.command(&["ping"]) == "PONG"
        });
    }

    fn launch(&self) {
        let folder = self.directory.display();
        let status = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--databases", "512"])
            .args(["--dir", &folder.to_string(), "--daemonize", "yes", "--save", ""])
            .args(["--pidfile", &format!("{folder}/pid"), "--logfile", &format!("{folder}/log")])
            .args(["--unixsocket", &format!("{folder}/sock")])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .stdout(Stdio::null())
            .status()
            .expect("redis-server can be run");
        assert!(status.success(), "redis-server: {status}");
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("sock")
    }

    /// Kills the server as a crash would.
    ///
    /// # Panics
    /// When it does not run.
    pub fn crash(&self) {
        let server = self.process();
        server.kill();
        wait_for("the server's end", || !server.is_alive());
    }

    /// Stops the server, as a machine would that hangs, until [`go_on`](Self::go_on).
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&self) {
        self.process().signal(libc::SIGSTOP);
    }

    /// # Panics
    /// When it does not run.
    pub fn go_on(&self) {
        self.process().signal(libc::SIGCONT);
    }

    fn process(&self) -> Process {
        let pid = std::fs::read_to_string(self.directory.join("pid")).expect("it wrote its pid");
        Process::find(pid.trim().parse().expect("a pid")).expect("it runs")
    }

    /// What `redis-cli` answers; empty when the server is away.
    ///
    /// # Panics
    /// When there is no `redis-cli`.
    pub fn command(&self, words: &[&str]) -> String {
        let done = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(words)
            .stderr(Stdio::null())
            .output()
            .expect("redis-cli comes with redis-server");
        String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ended = self.keeper.wait();
    }
}

/// A port that nobody uses, and below those that the system gives to connections: it is free for the
/// same server again after a crash.
///
/// # Panics
/// When there is none.
fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut seed = std::process::id().wrapping_mul(31);
    for _ in 0..1000 {
        seed = seed.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)).wrapping_mul(2_654_435_761);
        let port = 20_000 + u16::try_from((seed >> 16) % 12_000).expect("it is small");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
