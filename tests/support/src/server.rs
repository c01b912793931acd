//! A PostgreSQL server of one test's own, which the test may stop, crash and start again; it ends
//! with the test process whatever ends that. Tests that leave the server alone use `pg.rs`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panic and tell on stderr"
)]

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

/// A running server.
pub struct Postgres {
    server: Server,
}

/// A database of its own for one test; dropped with this value.
pub struct Database {
    /// `pgsql://…`, as a transport takes it.
    pub uri: String,
    name: String,
    base: String,
}

/// A server that this process started.
struct Server {
    binaries: PathBuf,
    directory: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    /// Stops the server and removes the directory as soon as its stdin closes.
    keeper: Child,
}

impl Postgres {
    /// A new server; `None`, said on stderr, when there is no PostgreSQL on this machine.
    pub fn start() -> Option<Postgres> {
        let binaries = binaries()?;
        let mut complaint = String::new();
        // Another process may take the port between the look and the start.
        for _ in 0..3 {
            match Server::start(&binaries) {
                Ok(server) => return Some(Postgres { server }),
                Err(error) => complaint = error,
            }
        }
        panic!("PostgreSQL does not start: {complaint}");
    }

    /// A new, empty database.
    pub fn create_database(&self) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rex_test_{}_{number}", std::process::id());
        let base = self.server.address("postgres");
        let mut client = connect(&base);
        client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).unwrap();
        Database { uri: self.server.address(&name), name, base }
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.server.directory.join("data")
    }

    /// Stops the server as a crash would (`immediate`) or in good order.
    pub fn stop(&self, immediate: bool) {
        let mode = if immediate { "immediate" } else { "fast" };
        self.server.control(&["-m", mode, "stop"]).unwrap();
    }

    /// Starts the server again after [`Postgres::stop`].
    pub fn restart(&self) {
        self.server.launch().unwrap();
    }
}

impl Database {
    /// A connection of the test's own.
    pub fn client(&self) -> Client {
        connect(&self.uri)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A server that a test left stopped takes its databases along.
        if let Ok(mut client) = Client::connect(&for_driver(&self.base), NoTls) {
            let _gone = client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}

impl Server {
    fn start(binaries: &Path) -> Result<Server, String> {
        let user = if rustix::process::geteuid().is_root() { Some(other_user()?) } else { None };
        let directory = tempfile::Builder::new()
            .prefix("rex-pg-")
            .tempdir_in(scratch())
            .map_err(|error| error.to_string())?
            .keep();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&directory, Some(uid), Some(gid))
                .map_err(|error| error.to_string())?;
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|error| error.to_string())?
            .port();
        let script = "cat >/dev/null; \"$1/pg_ctl\" -D \"$2/data\" -m immediate stop >/dev/null 2>&1; \
                      rm -rf \"$2\"";
        let keeper = Command::new("sh")
            .args(["-c", script, "sh"])
            .args([binaries, &directory])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .as_user(user)
            // Out of the terminal's group: Ctrl-C must not end it before its work is done.
            .process_group(0)
            .spawn()
            .map_err(|error| error.to_string())?;
        let server = Server { binaries: binaries.to_owned(), directory, user, port, keeper };
        server.run(
            "initdb",
            &["-D", "data", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "-N"],
        )?;
        server.launch()?;
        Ok(server)
    }

    fn launch(&self) -> Result<(), String> {
        // Tests need no power-loss safety of the server itself.
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories='{}' \
             -c fsync=off -c full_page_writes=off -c max_connections=200",
            self.port,
            self.directory.display()
        );
        self.control(&["-w", "-l", "log", "-o", &options, "start"])?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = Client::connect(&for_driver(&self.address("postgres")), NoTls) {
            if Instant::now() > deadline {
                return Err(error.to_string());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn control(&self, arguments: &[&str]) -> Result<(), String> {
        self.run("pg_ctl", &[&["-D", "data"], arguments].concat())
    }

    /// Runs one of PostgreSQL's programs in the scratch directory.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
        // To a file and not a pipe: the server would inherit the pipe and keep it open.
        let path = self.directory.join("output");
        let _old = fs::remove_file(&path);
        let output = fs::File::create(&path).map_err(|error| error.to_string())?;
        let copy = output.try_clone().map_err(|error| error.to_string())?;
        let status = Command::new(self.binaries.join(program))
            .args(arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(copy)
            .as_user(self.user)
            .status()
            .map_err(|error| format!("{program}: {error}"))?;
        if status.success() {
            return Ok(());
        }
        let mut said = String::new();
        for name in ["output", "log"] {
            if let Ok(mut file) = fs::File::open(self.directory.join(name)) {
                let _read = file.read_to_string(&mut said);
            }
        }
        Err(format!("{program}: {status}\n{said}"))
    }

    fn address(&self, database: &str) -> String {
        let directory = self.directory.display().to_string().replace('/', "%2F");
        format!("pgsql://postgres@{directory}:{}/{database}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ended = self.keeper.wait();
    }
}

trait AsUser {
    fn as_user(&mut self, user: Option<(u32, u32)>) -> &mut Command;
}

impl AsUser for Command {
    /// PostgreSQL refuses to run as root.
    fn as_user(&mut self, user: Option<(u32, u32)>) -> &mut Command {
        match user {
            Some((uid, gid)) => self.uid(uid).gid(gid),
            None => self,
        }
    }
}

/// `postgres` if the system has it, else `nobody`.
fn other_user() -> Result<(u32, u32), String> {
    let users = fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            match fields[..] {
                [user, _, uid, gid, ..] if user == name => {
                    Some((uid.parse().ok()?, gid.parse().ok()?))
                }
                _ => None,
            }
        })
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .ok_or_else(|| "no user postgres or nobody to run it as".to_owned())
}

/// A place that another user can reach, with a path short enough for a socket.
fn scratch() -> PathBuf {
    let chosen = std::env::temp_dir();
    let reachable = !rustix::process::geteuid().is_root() && chosen.as_os_str().len() < 60;
    if reachable { chosen } else { PathBuf::from("/tmp") }
}

/// Where PostgreSQL's programs are; says on stderr that tests are left out when they are nowhere.
pub fn binaries() -> Option<PathBuf> {
    let found = find_binaries();
    if found.is_none() {
        eprintln!("NOT RUN: what needs PostgreSQL (no initdb on PATH or in /usr/lib/postgresql)");
    }
    found
}

fn find_binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).collect::<Vec<_>>();
    let mut installed: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    // The newest first.
    installed.sort_by_key(|path| {
        let version = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        std::cmp::Reverse(version.and_then(|version| version.parse::<u32>().ok()))
    });
    on_path
        .into_iter()
        .chain(installed)
        .find(|directory| ["initdb", "pg_ctl"].iter().all(|name| directory.join(name).exists()))
}

fn connect(uri: &str) -> Client {
    Client::connect(&for_driver(uri), NoTls).unwrap()
}

/// The driver knows the same form under another name.
fn for_driver(uri: &str) -> String {
    format!("postgres:{}", uri.split_once(':').unwrap().1)
}
