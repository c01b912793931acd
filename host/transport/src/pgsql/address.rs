//! Where the server is and how to log in: the URI first, then the `PG…` environment, then libpq's
//! defaults, as for any libpq program.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tls::{Protection, TlsFiles};
use crate::{TransportError, Uri};

/// All that is needed to connect; holds the password, so it has no `Debug`.
#[derive(Clone)]
pub(super) struct Address {
    /// A host's name, an address, or a directory (with `/`) that holds the socket.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) database: String,
    pub(super) protection: Protection,
    pub(super) tls: TlsFiles,
    pub(super) connect_timeout: Duration,
    pub(super) application: String,
    pub(super) options: Option<String>,
    /// First key of the original's advisory locks.
    pub(super) master_lock: i32,
    /// The original's repr: `PostgresAsyncTransport(localhost/db)`.
    pub(super) label: String,
}

/// The original's default.
pub(super) const MASTER_LOCK: i32 = 1_234_567_890;

/// Debian's place of the socket, PostgreSQL's own in other builds.
const SOCKETS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

/// Without one, a server that swallows packets would hold a host for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Address {
    pub(super) fn resolve(uri: &Uri) -> Result<Address, TransportError> {
        let parts = uri.server()?;
        let mut query = Query { uri, options: parts.query };
        let master_lock = match query.take("master_lock_id") {
            Some(text) => {
                text.parse().map_err(|_| uri.bad("master_lock_id is not a 32-bit integer"))?
            }
            None => MASTER_LOCK,
        };
        let host = parts.host.clone().or_else(|| query.take_or_env("host", "PGHOST"));
        let port = match parts.port {
            Some(port) => port,
            None => match query.take_or_env("port", "PGPORT") {
                Some(text) => text.parse().map_err(|_| uri.bad("the port is not a number"))?,
                None => 5432,
            },
        };
        let host = host.unwrap_or_else(|| socket_directory(port));
        let user = parts
            .user
            .or_else(|| query.take_or_env("user", "PGUSER"))
            .or_else(system_user)
            .ok_or_else(|| uri.bad("no user is named, and this process's user has no name"))?;
        let database = parts
            .database
            .or_else(|| query.take_or_env("dbname", "PGDATABASE"))
            .unwrap_or_else(|| user.clone());
        let protection = match query.take_or_env("sslmode", "PGSSLMODE") {
            Some(mode) => Protection::parse(&mode)
                .ok_or_else(|| uri.bad(format!("invalid sslmode value: \"{mode}\"")))?,
            None => Protection::Prefer,
        };
        let tls = TlsFiles {
            root: query.take_or_env("sslrootcert", "PGSSLROOTCERT").map(PathBuf::from),
            certificate: query.take_or_env("sslcert", "PGSSLCERT").map(PathBuf::from),
            key: query.take_or_env("sslkey", "PGSSLKEY").map(PathBuf::from),
        };
        let connect_timeout = match query.take_or_env("connect_timeout", "PGCONNECT_TIMEOUT") {
            Some(text) => match text.parse::<u64>() {
                Ok(0) => CONNECT_TIMEOUT,
                Ok(seconds) => Duration::from_secs(seconds),
                Err(_) => return Err(uri.bad("connect_timeout is not a number of seconds")),
            },
            None => CONNECT_TIMEOUT,
        };
        let application = query.take_or_env("application_name", "PGAPPNAME");
        let options = query.take_or_env("options", "PGOPTIONS");
        let password = parts.password.or_else(|| query.take_or_env("password", "PGPASSWORD"));
        let passfile = query.take_or_env("passfile", "PGPASSFILE");
        query.finish()?;
        let password = password.or_else(|| {
            let file = passfile.map(PathBuf::from).or_else(|| home().map(|h| h.join(".pgpass")))?;
            password_of(&file, [&host, &port.to_string(), &database, &user])
        });
        let shown = parts.host.as_deref().unwrap_or("localhost");
        Ok(Address {
            label: format!("PostgresAsyncTransport({shown}/{database})"),
            host,
            port,
            user,
            password,
            database,
            protection,
            tls,
            connect_timeout,
            application: application.unwrap_or_else(|| "rex-host".to_owned()),
            options,
            master_lock,
        })
    }

    pub(super) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

/// The URI's options, each to be taken once.
struct Query<'a> {
    uri: &'a Uri,
    options: Vec<(String, String)>,
}

impl Query<'_> {
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.options.iter().rposition(|(option, _)| option == name)?;
        let (_, value) = self.options.remove(at);
        self.options.retain(|(option, _)| option != name);
        Some(value).filter(|value| !value.is_empty())
    }

    fn take_or_env(&mut self, name: &str, variable: &str) -> Option<String> {
        let environment = env::var(variable).ok().filter(|value| !value.is_empty());
        self.take(name).or(environment)
    }

    fn finish(&self) -> Result<(), TransportError> {
        match self.options.first() {
            Some((name, _)) => Err(self.uri.bad(format!("unknown option {name}"))),
            None => Ok(()),
        }
    }
}

/// The first place where a server of this port listens; Debian's if none does.
fn socket_directory(port: u16) -> String {
    let listens =
        |directory: &&&str| Path::new(directory).join(format!(".s.PGSQL.{port}")).exists();
    (*SOCKETS.iter().find(listens).unwrap_or(&SOCKETS[0])).to_owned()
}

/// The name of the effective user.
fn system_user() -> Option<String> {
    let id = rustix::process::geteuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(&id)).then(|| name.to_owned())
    });
    name.or_else(|| env::var("USER").ok()).or_else(|| env::var("LOGNAME").ok())
}

pub(super) fn home() -> Option<PathBuf> {
    env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// Looks the password up in a password file (`host:port:database:user:password`, `*` for any).
fn password_of(file: &Path, wanted: [&str; 4]) -> Option<String> {
    match fs::metadata(file) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            tracing::warn!(
                "password file {} has group or world access; permissions should be u=rw (0600) or \
                 less",
                file.display()
            );
            return None;
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!("cannot read the password file {}: {error}", file.display());
            return None;
        }
    }
    let lines = fs::read_to_string(file).ok()?;
    find_password(&lines, wanted)
}

fn find_password(lines: &str, wanted: [&str; 4]) -> Option<String> {
    // libpq calls a server behind its default socket `localhost` here.
    let [host, rest @ ..] = wanted;
    let host = if host.starts_with('/') && SOCKETS.contains(&host) { "localhost" } else { host };
    let wanted = [host, rest[0], rest[1], rest[2]];
    lines.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split_fields(line);
        let (password, keys) = fields.split_last()?;
        let fits = keys.len() == wanted.len()
            && keys.iter().zip(wanted).all(|(key, wanted)| key == "*" || key == wanted);
        fits.then(|| password.clone())
    })
}

/// At `:`, where `\` protects a `:` or a `\`; the fifth field is all the rest.
fn split_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        let last = fields.len() - 1;
        match c {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields[last].extend(rest.next()),
            c => fields[last].push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::{Address, find_password};
    use crate::Uri;

    #[test]
    fn options_and_label() {
        let address = |text: &str| Address::resolve(&Uri::parse(text).unwrap());
        let all = address("pgsql://u:p@h:1/d?master_lock_id=-5&sslmode=require").ok().unwrap();
        assert_eq!((all.host.as_str(), all.port, all.database.as_str()), ("h", 1, "d"));
        assert_eq!((all.user.as_str(), all.password.as_deref()), ("u", Some("p")));
        assert_eq!(all.master_lock, -5);
        assert_eq!(all.label, "PostgresAsyncTransport(h/d)");
        let local = address("pgsql:asynctask_demo").ok().unwrap();
        assert_eq!(local.label, "PostgresAsyncTransport(localhost/asynctask_demo)");
        assert_eq!(local.master_lock, 1_234_567_890);
        for bad in ["pgsql:d?sslmode=maybe", "pgsql:d?master_lock_id=x", "pgsql:d?colour=red"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn password_files() {
        let lines = "# comment\nh:5432:db:u:one\n*:*:other:u:t\\:w\\\\o\nlocalhost:1:*:*:three:x\n";
        let find = |host, port, db, user| find_password(lines, [host, port, db, user]);
        assert_eq!(find("h", "5432", "db", "u").as_deref(), Some("one"));
        assert_eq!(find("h", "1", "other", "u").as_deref(), Some("t:w\\o"));
        assert_eq!(find("/tmp", "1", "db", "x").as_deref(), Some("three:x"));
        assert_eq!(find("h", "5432", "db", "nobody"), None);
    }
}
