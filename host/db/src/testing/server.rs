//! Starts and stops the private server.
//!
//! `initdb` and `postgres` refuse to run as root, so root drops to `postgres` or `nobody` for
//! them. A small shell stands between: it waits for the end of its input, which comes when this
//! process ends in whatever way, then stops the server and removes its folder.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a server may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the server until standard input ends. `$1` the folder to remove; the rest the server.
const KEEPER: &str = r#"
folder=$1; shift
"$@" >"$folder/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -INT $server 2>/dev/null
wait $server 2>/dev/null
cd / && rm -rf "$folder"
"#;

/// Settings of a server whose data nobody will miss.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=128MB",
    "max_connections=60",
    "max_wal_size=2GB",
    "autovacuum_naptime=60",
];

/// Why there is no server to test with.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("failed to start `{what}`")]
    Start {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("`{what}` failed:\n{messages}")]
    Failed { what: &'static str, messages: String },
    #[error("failed to prepare `{path}`")]
    Folder {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// A running server. Dropping it stops the server and removes its data; a server of
/// `REX_TEST_PG` is left alone, the databases made on it remain.
#[derive(Debug)]
pub struct Server {
    keeper: Option<Child>,
    uri: String,
}

impl Server {
    /// Starts a server with settings for tests (nothing is synced), or takes that of `REX_TEST_PG`.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or it does not start.
    pub fn start() -> Result<Server, ServerError> {
        Server::start_with(SETTINGS)
    }

    /// Starts a server with settings `name=value` of one's own; the socket is its only address.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with(settings: &[&str]) -> Result<Server, ServerError> {
        if let Ok(uri) = std::env::var("REX_TEST_PG")
            && !uri.is_empty()
        {
            return Ok(Server { keeper: None, uri });
        }
        let folder = scratch_folder();
        let owner = unprivileged();
        let context = |source| ServerError::Folder { path: folder.display().to_string(), source };
        fs::create_dir(&folder).map_err(context)?;
        if let Some((uid, gid)) = owner {
            chown(&folder, Some(uid), Some(gid)).map_err(context)?;
        }
        let data = folder.join("data");
        init_cluster(&data, owner)?;

        let mut server = Command::new("sh");
        server.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(binary("postgres"));
        server.arg("-D").arg(&data).arg("-k").arg(&folder).args(["-p", "5432"]);
        for setting in settings {
            server.args(["-c", setting]);
        }
        server.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        drop_to(&mut server, owner);
        let keeper =
            server.spawn().map_err(|source| ServerError::Start { what: "postgres", source })?;
        let host = folder.display().to_string();
        let uri = format!("postgresql:///postgres?host={host}&port=5432&user=postgres");
        let server = Server { keeper: Some(keeper), uri };
        wait_ready(&server.uri, &folder)?;
        Ok(server)
    }

    /// The libpq URI of a database of this server.
    pub fn uri(&self, database: &str) -> String {
        let (head, query) = match self.uri.split_once('?') {
            Some((head, query)) => (head, format!("?{query}")),
            None => (self.uri.as_str(), String::new()),
        };
        let authority = head.find("://").map_or(0, |at| at + 3);
        let end = head[authority..].find('/').map_or(head.len(), |at| authority + at);
        format!("{}/{database}{query}", &head[..end])
    }

    /// Makes a database, in place of one of that name, and returns its URI.
    ///
    /// # Errors
    /// The server's messages.
    pub fn create_database(&self, name: &str) -> Result<String, ServerError> {
        self.sql("postgres", &format!("DROP DATABASE IF EXISTS \"{name}\""))?;
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\" TEMPLATE template0"))?;
        Ok(self.uri(name))
    }

    /// Runs one SQL text on a database through `psql`; for set-up.
    ///
    /// # Errors
    /// The server's messages.
    pub fn sql(&self, database: &str, text: &str) -> Result<(), ServerError> {
        psql(&self.uri(database), text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            drop(keeper.stdin.take());
            // Nothing is left to do where the keeper cannot be waited for.
            let _ended = keeper.wait();
        }
    }
}

/// A program of PostgreSQL: that on the path, else that of the newest installed version.
pub(super) fn binary(name: &str) -> PathBuf {
    let mut found = None;
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        found = versions
            .filter_map(Result::ok)
            .map(|version| version.path().join("bin").join(name))
            .filter(|path| path.exists())
            .max();
    }
    found.unwrap_or_else(|| PathBuf::from(name))
}

/// A short path, since that of a Unix socket may have no more than 107 bytes.
fn scratch_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("rexpg-{}-{count}", std::process::id());
    let folder = std::env::temp_dir().join(&name);
    if folder.as_os_str().len() < 80 { folder } else { Path::new("/tmp").join(name) }
}

/// Whom root becomes for the server; `None` where this process is not root.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    user("postgres").or_else(|| user("nobody")).or(Some((65534, 65534)))
}

fn drop_to(command: &mut Command, owner: Option<(u32, u32)>) {
    command.current_dir("/").process_group(0);
    if let Some((uid, gid)) = owner {
        command.gid(gid).uid(uid);
    }
}

fn init_cluster(data: &Path, owner: Option<(u32, u32)>) -> Result<(), ServerError> {
    let mut initdb = Command::new(binary("initdb"));
    initdb.arg("-D").arg(data);
    initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]);
    drop_to(&mut initdb, owner);
    run(&mut initdb, "initdb")
}

fn run(command: &mut Command, what: &'static str) -> Result<(), ServerError> {
    command.stdin(Stdio::null());
    let output = command.output().map_err(|source| ServerError::Start { what, source })?;
    if output.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(ServerError::Failed { what, messages })
}

fn psql(uri: &str, text: &str) -> Result<(), ServerError> {
    let mut psql = Command::new(binary("psql"));
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", uri, "-c", text]);
    run(&mut psql, "psql")
}

fn wait_ready(uri: &str, folder: &Path) -> Result<(), ServerError> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match psql(uri, "SELECT 1") {
            Ok(()) => return Ok(()),
            Err(error @ ServerError::Start { .. }) => return Err(error),
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(50)),
            Err(_) => {
                let messages = fs::read_to_string(folder.join("log")).unwrap_or_default();
                return Err(ServerError::Failed { what: "postgres", messages });
            }
        }
    }
}
