//! Where a database is: a libpq URI, a `key=value` string, HTSQL's `pgsql:name`, or a bare name.
//!
//! Read here rather than by the driver, because of the TLS options that the driver does not know,
//! because of libpq's defaults (`PGHOST` and the like, the local socket), and so that no error can
//! show a password.

use std::fmt;
use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode as DriverSslMode;

/// A parsed address of a database. `Display` and `Debug` show no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    /// Parameters by libpq's names, in the order given; TLS parameters are not among them.
    params: Vec<(String, String)>,
    pub(crate) tls: TlsParams,
}

/// The TLS options of libpq.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TlsParams {
    pub(crate) mode: SslMode,
    pub(crate) root_cert: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// How TLS is asked for and how much of the server's certificate is checked, as in libpq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SslMode {
    Disable,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// A text that is not an address of a database.
#[derive(Debug, thiserror::Error)]
pub enum BadUri {
    #[error("`{0}` is not a scheme of PostgreSQL (postgresql:, postgres:, pgsql:)")]
    Scheme(String),
    #[error("the connection string has an unfinished value of `{0}`")]
    Unfinished(String),
    #[error("the connection string has a bad percent escape")]
    Escape,
    #[error("the connection string has no value for `{0}`")]
    NoValue(String),
    #[error("`{0}` is not a value of `sslmode`")]
    SslMode(String),
    #[error("the connection string has a bad port or option")]
    Option(#[source] tokio_postgres::Error),
}

impl Uri {
    /// Reads an address.
    ///
    /// # Errors
    /// The text is malformed; the error shows no part that could hold a password.
    pub fn parse(text: &str) -> Result<Uri, BadUri> {
        let text = text.trim();
        let pairs = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => parse_url(scheme, rest)?,
            _ if text.contains('=') => parse_pairs(text)?,
            _ => vec![("dbname".to_string(), text.to_string())],
        };
        let mut uri = Uri { params: Vec::new(), tls: TlsParams::default() };
        let mut mode = env("PGSSLMODE");
        let mut root_cert = env("PGSSLROOTCERT");
        let mut cert = env("PGSSLCERT");
        let mut key = env("PGSSLKEY");
        for (name, value) in pairs {
            if value.is_empty() {
                continue;
            }
            match name.as_str() {
                "sslmode" => mode = Some(value),
                "sslrootcert" => root_cert = Some(value),
                "sslcert" => cert = Some(value),
                "sslkey" => key = Some(value),
                "gssencmode"
                | "krbsrvname"
                | "passfile"
                | "sslcrl"
                | "sslcompression"
                | "client_encoding"
                | "fallback_application_name" => {}
                _ => uri.set(&name, value),
            }
        }
        for (name, variable) in [
            ("host", "PGHOST"),
            ("port", "PGPORT"),
            ("user", "PGUSER"),
            ("password", "PGPASSWORD"),
            ("dbname", "PGDATABASE"),
            ("options", "PGOPTIONS"),
            ("connect_timeout", "PGCONNECT_TIMEOUT"),
        ] {
            if uri.get(name).is_none()
                && let Some(value) = env(variable)
            {
                uri.set(name, value);
            }
        }
        if uri.get("host").is_none() && uri.get("hostaddr").is_none() {
            let socket = "/var/run/postgresql";
            let local = if std::path::Path::new(socket).is_dir() { socket } else { "localhost" };
            uri.set("host", local.to_string());
        }
        uri.tls = TlsParams {
            mode: match mode {
                None => SslMode::default(),
                Some(mode) => parse_ssl_mode(&mode)?,
            },
            root_cert: root_cert.map(PathBuf::from),
            cert: cert.map(PathBuf::from),
            key: key.map(PathBuf::from),
        };
        // As libpq: a root certificate makes `require` check the chain.
        if uri.tls.mode == SslMode::Require && uri.tls.root_cert.is_some() {
            uri.tls.mode = SslMode::VerifyCa;
        }
        uri.config()?;
        Ok(uri)
    }

    /// The same server, another database.
    pub fn with_database(&self, name: &str) -> Uri {
        let mut uri = self.clone();
        uri.set("dbname", name.to_string());
        uri
    }

    /// The name of the database; that of the user where none is given.
    pub fn database(&self) -> &str {
        self.get("dbname").or_else(|| self.get("user")).unwrap_or_default()
    }

    /// Whether the server is reached by a socket of this machine, where TLS has no place.
    pub(crate) fn is_local(&self) -> bool {
        self.get("host").is_some_and(|host| host.starts_with('/'))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: String) {
        match self.params.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.params.push((name.to_string(), value)),
        }
    }

    /// The driver's form of the address.
    pub(crate) fn config(&self) -> Result<Config, BadUri> {
        let mut text = String::new();
        for (name, value) in &self.params {
            text.push_str(name);
            text.push_str("='");
            text.push_str(&value.replace('\\', "\\\\").replace('\'', "\\'"));
            text.push_str("' ");
        }
        let mut config: Config = text.parse().map_err(BadUri::Option)?;
        let local = self.is_local();
        config.ssl_mode(match self.tls.mode {
            _ if local => DriverSslMode::Disable,
            SslMode::Disable => DriverSslMode::Disable,
            SslMode::Prefer => DriverSslMode::Prefer,
            _ => DriverSslMode::Require,
        });
        if config.get_application_name().is_none() {
            config.application_name("rex-host");
        }
        Ok(config)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgresql://")?;
        if let Some(user) = self.get("user") {
            write!(f, "{user}@")?;
        }
        let host = self.get("host").or_else(|| self.get("hostaddr")).unwrap_or_default();
        let local = host.starts_with('/');
        if !local {
            f.write_str(host)?;
        }
        if let Some(port) = self.get("port").filter(|_| !local) {
            write!(f, ":{port}")?;
        }
        write!(f, "/{}", self.database())?;
        if local { write!(f, "?host={host}") } else { Ok(()) }
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({self})")
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether the text before a colon looks like a scheme; a `key=value` string has `=` before it.
fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '+')
}

fn parse_ssl_mode(text: &str) -> Result<SslMode, BadUri> {
    Ok(match text {
        "disable" => SslMode::Disable,
        "allow" | "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        other => return Err(BadUri::SslMode(other.to_string())),
    })
}

type Pairs = Vec<(String, String)>;

/// `//user:password@host:port/database?name=value&…`, or `database` alone.
fn parse_url(scheme: &str, rest: &str) -> Result<Pairs, BadUri> {
    if !matches!(scheme, "postgresql" | "postgres" | "pgsql") {
        return Err(BadUri::Scheme(scheme.to_string()));
    }
    let mut pairs = Pairs::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let Some(rest) = rest.strip_prefix("//") else {
        pairs.push(("dbname".to_string(), decode(rest)?));
        return Ok(pairs);
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts = match authority.rsplit_once('@') {
        None => authority,
        Some((credentials, hosts)) => {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            pairs.push(("user".to_string(), decode(user)?));
            pairs.push(("password".to_string(), decode(password)?));
            hosts
        }
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',').filter(|host| !host.is_empty()) {
        // A colon within brackets belongs to an IPv6 address.
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, port),
            _ => (host, ""),
        };
        names.push(decode(name.trim_start_matches('[').trim_end_matches(']'))?);
        ports.push(decode(port)?);
    }
    pairs.push(("host".to_string(), names.join(",")));
    if ports.iter().any(|port| !port.is_empty()) {
        let ports: Vec<&str> =
            ports.iter().map(|p| if p.is_empty() { "5432" } else { p.as_str() }).collect();
        pairs.push(("port".to_string(), ports.join(",")));
    }
    pairs.push(("dbname".to_string(), decode(database)?));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| BadUri::NoValue(pair.to_string()))?;
        let name = decode(name)?;
        let value = decode(value)?;
        match name.as_str() {
            "ssl" if value == "true" => pairs.push(("sslmode".to_string(), "require".to_string())),
            _ => pairs.push((name, value)),
        }
    }
    Ok(pairs)
}

/// `name = value` or `name='va\'lue'`, separated by spaces.
fn parse_pairs(text: &str) -> Result<Pairs, BadUri> {
    let mut pairs = Pairs::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| {
            BadUri::NoValue(rest.split_whitespace().next().unwrap_or_default().to_string())
        })?;
        let name = name.trim().to_string();
        let mut chars = after.trim_start().chars();
        let quoted = chars.as_str().starts_with('\'');
        if quoted {
            chars.next();
        }
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                None if quoted => return Err(BadUri::Unfinished(name)),
                Some(c) if !quoted && c.is_whitespace() => break,
                None => break,
                Some(c) => value.push(c),
            }
        }
        pairs.push((name, value));
        rest = chars.as_str().trim_start();
    }
    Ok(pairs)
}

fn decode(text: &str) -> Result<String, BadUri> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |at: usize| rest.get(at).and_then(|d| char::from(*d).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(BadUri::Escape) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| BadUri::Escape)?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| BadUri::Escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        assert_eq!(Uri::parse(text).unwrap().to_string(), expect);
    }

    #[test]
    fn addresses() {
        check("postgresql://u:p%40ss@db.example:5433/x", "postgresql://u@db.example:5433/x");
        check("postgresql:///x?host=/run/pg&user=me", "postgresql://me@/x?host=/run/pg");
        check(
            "host=localhost dbname='a b' user=me password='it\\'s'",
            "postgresql://me@localhost/a b",
        );
        check("pgsql://me@localhost/x", "postgresql://me@localhost/x");
    }

    #[test]
    fn passwords_stay_hidden() {
        let uri = Uri::parse("postgresql://u:secret@h/x?sslmode=require").unwrap();
        assert!(!format!("{uri} {uri:?}").contains("secret"));
        let error = Uri::parse("postgresql://u:secret@h:port/x").unwrap_err();
        assert!(!format!("{error:?}").contains("secret"));
        assert!(Uri::parse("mysql://u:secret@h/x").unwrap_err().to_string().contains("`mysql`"));
    }

    #[test]
    fn tls_modes() {
        let mode = |text: &str| Uri::parse(text).unwrap().tls.mode;
        assert_eq!(mode("postgresql://h/x?sslmode=verify-full"), SslMode::VerifyFull);
        assert_eq!(mode("postgresql://h/x?sslmode=require&sslrootcert=ca.pem"), SslMode::VerifyCa);
        assert!(Uri::parse("postgresql://h/x?sslmode=maybe").is_err());
    }
}
