//! A pooler in front of a test's own server.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::env::not_run;
use crate::process::wait_for;
use crate::server::Server;

/// A pgbouncer, which ends with this value.
pub struct Pooler {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Pooler {
    /// One that pools by `transaction` or by `session`; `None`, which is announced, where there is no
    /// pgbouncer.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(server: &Server, mode: &str) -> Option<Pooler> {
        let program = || Command::new("pgbouncer");
        if program().arg("--version").stdout(Stdio::null()).status().is_err() {
            not_run("a pooler", "the program pgbouncer is not installed");
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("there is a port").port();
        let folder = tempfile::tempdir().expect("a scratch folder");
        let users = folder.path().join("users.txt");
        let settings = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\n\
             unix_socket_dir =\nlogfile = {}/log\n\
             ignore_startup_parameters = extra_float_digits,options\n",
            server.port(),
            users.display(),
            folder.path().display()
        );
        // It may run as another user.
        fs::write(&users, "\"rex\" \"\"\n").expect("the folder is ours");
        fs::write(&settings, text).expect("the folder is ours");
        for (path, mode) in [(folder.path(), 0o777), (&users, 0o644), (&settings, 0o644)] {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(path, permissions).expect("it is ours");
        }
        let mut command = program();
        // It refuses to run as root.
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let child = command.arg(&settings).stderr(Stdio::null()).spawn();
        let child = child.expect("it could be run just now");
        wait_for("the pooler", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Pooler { child, port, _folder: folder })
    }

    /// The address of a database behind it.
    pub fn uri(&self, database: &str) -> String {
        format!("pgsql://rex@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
