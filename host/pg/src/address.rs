//! An address with all its blanks filled in: what the text says first, then the `PG…` environment,
//! then libpq's defaults.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::tls::{self, Protection, TlsFiles};
use crate::{Params, passfile};

/// All that is needed to connect. `Display` and `Debug` show no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    /// Why the password file was of no use.
    pub(crate) password_trouble: Option<String>,
    pub(crate) database: String,
    pub(crate) protection: Protection,
    pub(crate) tls: TlsFiles,
    pub(crate) connect_timeout: Duration,
    pub(crate) application: String,
    pub(crate) options: Option<String>,
    /// Parameters that are the driver's own business.
    driver: Vec<(String, String)>,
}

/// One place where the server may be.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// A name, an address, or a directory (with `/`) that holds the socket.
    pub(crate) name: String,
    /// libpq's `hostaddr`: where to find it without asking for the name.
    pub(crate) address: Option<std::net::IpAddr>,
    pub(crate) port: u16,
}

/// A text that is not an address of a database.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadAddress {
    #[error("`{0}` is not a scheme of PostgreSQL (postgresql:, postgres:, pgsql:)")]
    Scheme(String),
    #[error("the value of `{0}` has no closing quote")]
    Unfinished(String),
    #[error("% is not followed by two hex digits of UTF-8 text")]
    Escape,
    #[error("an option is written as name=value, and `{0}` is not")]
    NoValue(String),
    #[error("invalid sslmode value: \"{0}\"")]
    SslMode(String),
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error("hostaddr is not an IP address")]
    HostAddr,
    #[error("there are not as many ports or addresses as hosts")]
    Count,
    #[error("connect_timeout is not a number of seconds")]
    Timeout,
    #[error("no user is named, and this process's user has no name")]
    NoUser,
    #[error("unknown option {0}")]
    Unknown(String),
    #[error("the value of {0} is not one that it can have")]
    Value(String),
}

const PORT: u16 = 5432;

/// Debian's place of the socket, PostgreSQL's own in other builds.
const SOCKETS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

/// Without one, a server that swallows packets would hold a host for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// libpq's parameters that mean nothing here.
const IGNORED: [&str; 6] = [
    "gssencmode",
    "krbsrvname",
    "sslcompression",
    "sslnegotiation",
    "client_encoding",
    "fallback_application_name",
];

/// Parameters that the driver knows by libpq's names.
const DRIVER: [&str; 8] = [
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "tcp_user_timeout",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

impl Address {
    /// Reads an address and fills in its blanks.
    ///
    /// # Errors
    /// The text is malformed; the error shows no part that could hold a password.
    pub fn parse(text: &str) -> Result<Address, BadAddress> {
        Address::resolve(Params::parse(text)?)
    }

    /// Fills in the blanks.
    ///
    /// # Errors
    /// A value makes no sense, or a parameter is unknown.
    pub fn resolve(mut params: Params) -> Result<Address, BadAddress> {
        let hosts = hosts(&mut params)?;
        let user =
            params.take_or_env("user", "PGUSER").or_else(system_user).ok_or(BadAddress::NoUser)?;
        let database = params.take_or_env("dbname", "PGDATABASE").unwrap_or_else(|| user.clone());
        let protection = match params.take_or_env("sslmode", "PGSSLMODE") {
            Some(mode) => Protection::parse(&mode).ok_or(BadAddress::SslMode(mode))?,
            None => Protection::Prefer,
        };
        let tls = TlsFiles {
            root: params.take_or_env("sslrootcert", "PGSSLROOTCERT").map(PathBuf::from),
            certificate: params.take_or_env("sslcert", "PGSSLCERT").map(PathBuf::from),
            key: params.take_or_env("sslkey", "PGSSLKEY").map(PathBuf::from),
            revoked: params.take_or_env("sslcrl", "PGSSLCRL").map(PathBuf::from),
        };
        let connect_timeout = match params.take_or_env("connect_timeout", "PGCONNECT_TIMEOUT") {
            Some(text) => match text.parse::<u64>().map_err(|_| BadAddress::Timeout)? {
                0 => CONNECT_TIMEOUT,
                seconds => Duration::from_secs(seconds),
            },
            None => CONNECT_TIMEOUT,
        };
        let application = params.take_or_env("application_name", "PGAPPNAME");
        let options = params.take_or_env("options", "PGOPTIONS");
        let password = params.take_or_env("password", "PGPASSWORD");
        let passfile = params.take_or_env("passfile", "PGPASSFILE");
        let mut driver = Vec::new();
        for (name, value) in params.rest() {
            if DRIVER.contains(&name.as_str()) {
                driver.push((name, value));
            } else if !IGNORED.contains(&name.as_str()) {
                return Err(BadAddress::Unknown(name));
            }
        }
        let file = passfile.map(PathBuf::from).or_else(|| home().map(|h| h.join(".pgpass")));
        let (lines, password_trouble) = match file.filter(|_| password.is_none()) {
            Some(file) => match passfile::read(&file) {
                Ok(lines) => (lines, None),
                Err(trouble) => (String::new(), Some(trouble)),
            },
            None => (String::new(), None),
        };
        let password = password.or_else(|| {
            hosts.iter().find_map(|host| {
                passfile::password(
                    &lines,
                    [host.name_in_passfile(), &host.port.to_string(), &database, &user],
                )
            })
        });
        let address = Address {
            hosts,
            user,
            password,
            password_trouble,
            database,
            protection,
            tls,
            connect_timeout,
            application: application.unwrap_or_else(|| "rex-host".to_owned()),
            options,
            driver,
        };
        address.check_driver()?;
        Ok(address)
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Address {
        Address { database: name.to_owned(), ..self.clone() }
    }

    /// The same, with more command-line options of the server, such as `-c name=value`.
    #[must_use]
    pub fn with_options(&self, more: &str) -> Address {
        let options = match &self.options {
            Some(options) => format!("{options} {more}"),
            None => more.to_owned(),
        };
        Address { options: Some(options), ..self.clone() }
    }

    /// The name of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// What the programs of PostgreSQL (`pg_dump`, `psql`) find in their environment to connect to
    /// the same place.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let all = |part: &dyn Fn(&Host) -> String| {
            self.hosts.iter().map(part).collect::<Vec<String>>().join(",")
        };
        let mut variables = vec![
            ("PGHOST", all(&|host| host.name.clone())),
            ("PGPORT", all(&|host| host.port.to_string())),
            ("PGUSER", self.user.clone()),
            ("PGDATABASE", self.database.clone()),
            ("PGSSLMODE", self.protection.as_str().to_owned()),
            ("PGCONNECT_TIMEOUT", self.connect_timeout.as_secs().to_string()),
        ];
        if self.hosts.iter().any(|host| host.address.is_some()) {
            let address = |host: &Host| host.address.map_or(String::new(), |ip| ip.to_string());
            variables.push(("PGHOSTADDR", all(&address)));
        }
        let files = [
            ("PGSSLROOTCERT", &self.tls.root),
            ("PGSSLCERT", &self.tls.certificate),
            ("PGSSLKEY", &self.tls.key),
            ("PGSSLCRL", &self.tls.revoked),
        ];
        let path = |path: &PathBuf| path.display().to_string();
        variables.extend(
            files.into_iter().filter_map(|(name, file)| Some((name, path(file.as_ref()?)))),
        );
        variables.extend(self.password.clone().map(|password| ("PGPASSWORD", password)));
        variables.extend(self.options.clone().map(|options| ("PGOPTIONS", options)));
        variables
    }

    /// The driver's connector for TLS.
    ///
    /// # Errors
    /// One line in libpq's manner: a certificate is missing or cannot be read.
    pub fn connector(&self) -> Result<MakeRustlsConnect, String> {
        tls::connector(self.protection, &self.tls)
    }

    /// The driver's form of what is the same for all hosts.
    pub(crate) fn config(&self) -> Config {
        let mut config = self.driver_config().unwrap_or_default();
        config
            .user(&self.user)
            .dbname(&self.database)
            .application_name(&self.application)
            .connect_timeout(self.connect_timeout);
        if let Some(password) = &self.password {
            config.password(password);
        }
        if let Some(options) = &self.options {
            config.options(options);
        }
        config
    }

    fn driver_config(&self) -> Result<Config, tokio_postgres::Error> {
        let quote = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let pair = |(name, value): &(String, String)| format!("{name}='{}' ", quote(value));
        let text: String = self.driver.iter().map(pair).collect();
        // A dead peer is noticed within about 15 seconds, also while nothing is sent.
        let text = format!(
            "keepalives_idle=5 keepalives_interval=3 keepalives_retries=3 tcp_user_timeout=15 {text}"
        );
        text.parse()
    }

    fn check_driver(&self) -> Result<(), BadAddress> {
        for pair in &self.driver {
            let alone = Address { driver: vec![pair.clone()], ..self.clone() };
            alone.driver_config().map_err(|_| BadAddress::Value(pair.0.clone()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgresql://{}@", self.user)?;
        let mut sockets = None;
        for (at, host) in self.hosts.iter().enumerate() {
            if host.is_socket() {
                sockets = sockets.or(Some(host));
                continue;
            }
            let comma = if at > 0 { "," } else { "" };
            let name = &host.name;
            if name.contains(':') {
                write!(f, "{comma}[{name}]")
            } else {
                write!(f, "{comma}{name}")
            }?;
            if host.port != PORT {
                write!(f, ":{}", host.port)?;
            }
        }
        write!(f, "/{}", self.database)?;
        let Some(socket) = sockets else { return Ok(()) };
        write!(f, "?host={}", socket.name)?;
        if socket.port == PORT { Ok(()) } else { write!(f, "&port={}", socket.port) }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl Host {
    pub(crate) fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }

    /// libpq calls a server behind its default socket `localhost` there.
    fn name_in_passfile(&self) -> &str {
        if SOCKETS.contains(&self.name.as_str()) { "localhost" } else { &self.name }
    }
}

/// The hosts of an address: lists of names, addresses and ports, separated by commas; one port
/// counts for all.
fn hosts(params: &mut Params) -> Result<Vec<Host>, BadAddress> {
    let list = |text: Option<String>| -> Vec<String> {
        text.map(|text| text.split(',').map(|part| part.trim().to_owned()).collect())
            .unwrap_or_default()
    };
    let names = list(params.take_or_env("host", "PGHOST"));
    let addresses = list(params.take_or_env("hostaddr", "PGHOSTADDR"));
    let ports = list(params.take_or_env("port", "PGPORT"));
    let count = names.len().max(addresses.len()).max(1);
    let fits = |list: &[String]| list.is_empty() || list.len() == count;
    if !fits(&names) || !fits(&addresses) || !(fits(&ports) || ports.len() == 1) {
        return Err(BadAddress::Count);
    }
    let host = |at: usize| {
        let port = match ports.get(at).or_else(|| ports.first()).map(String::as_str) {
            None | Some("") => PORT,
            Some(port) => port.parse().map_err(|_| BadAddress::Port)?,
        };
        let address = match addresses.get(at).filter(|text| !text.is_empty()) {
            Some(text) => Some(text.parse().map_err(|_| BadAddress::HostAddr)?),
            None => None,
        };
        let name = match names.get(at).filter(|name| !name.is_empty()) {
            Some(name) => name.clone(),
            None => match addresses.get(at) {
                Some(address) => address.clone(),
                None => socket_directory(port),
            },
        };
        Ok(Host { name, address, port })
    };
    (0..count).map(host).collect()
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

pub(crate) fn home() -> Option<PathBuf> {
    env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests;
