//! A network of two: this machine and a namespace beside it, joined by a wire that a test can cut.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::env::not_run;

/// A network namespace that is removed with this value, or when the test process ends.
pub struct Network {
    name: String,
    /// The third number of its addresses.
    net: u32,
    /// Removes the namespace as soon as its input ends.
    keeper: Child,
}

impl Network {
    /// `None`, which is announced, where this user may not make one.
    ///
    /// # Panics
    /// When a namespace can be made and not joined.
    pub fn new() -> Option<Network> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() * 4 + COUNT.fetch_add(1, Ordering::Relaxed);
        let (name, net) = (format!("rex{number}"), number % 250);
        if ip().is_none_or(|_| !run(&["netns", "add", &name])) {
            not_run("a cut network", "this user may make no network namespace");
            return None;
        }
        let keeper = Command::new("sh")
            .args(["-c", "cat >/dev/null; \"$0\" netns del \"$1\""])
            .args([ip().expect("it was just used"), PathBuf::from(&name)])
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh can be run");
        let network = Network { name, net, keeper };
        let (near, far) = (format!("rexn{number}"), format!("rexf{number}"));
        let [here, there] = [network.here(), network.there()].map(|host| format!("{host}/30"));
        let name = network.name.as_str();
        for words in [
            &["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name][..],
            &["address", "add", &here, "dev", &near],
            &["link", "set", &near, "up"],
            &["-n", name, "address", "add", &there, "dev", &far],
            &["-n", name, "link", "set", "lo", "up"],
            &["-n", name, "link", "set", &far, "up"],
        ] {
            assert!(run(words), "ip {}", words.join(" "));
        }
        Some(network)
    }

    /// This machine's address on the wire.
    pub fn here(&self) -> String {
        format!("10.231.{}.1", self.net)
    }

    fn there(&self) -> String {
        format!("10.231.{}.2", self.net)
    }

    /// The same command, run in the namespace.
    ///
    /// # Panics
    /// When there is no `ip`, which made the namespace.
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new(ip().expect("it was used before"));
        inside.args(["netns", "exec", &self.name]).arg(command.get_program());
        inside.args(command.get_args()).env_clear();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                inside.env(name, value);
            }
        }
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        inside
    }

    /// Lets nothing through any more, and tells nobody: what is sent is lost.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn cut(&self) {
        self.wire("down");
    }

    /// # Panics
    /// When the kernel refuses.
    pub fn mend(&self) {
        self.wire("up");
    }

    fn wire(&self, state: &str) {
        let near = self.name.replace("rex", "rexn");
        assert!(run(&["link", "set", &near, state]), "the wire goes {state}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ended = self.keeper.wait();
    }
}

/// An ordinary user's path lacks its folder.
fn ip() -> Option<PathBuf> {
    let places = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"].map(PathBuf::from);
    places.into_iter().find(|place| place.exists())
}

fn run(words: &[&str]) -> bool {
    let Some(ip) = ip() else { return false };
    let status = Command::new(ip).args(words).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
