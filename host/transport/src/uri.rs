//! A transport's address: its scheme, its parts decoded, its text without passwords.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::{Kind, TransportError};

/// A transport's address. `Display` and `Debug` mask passwords; the parts are for the drivers.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    text: String,
    colon: usize,
}

/// What stands behind the scheme, each part %-decoded; `None` where the address is silent.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    /// The database of `pgsql:db`, `pgsql://db` and `pgsql://host/db`.
    pub(crate) database: Option<String>,
    pub(crate) query: Vec<(String, String)>,
}

/// Query options that hold secrets.
const SECRET: [&str; 2] = ["password", "sslpassword"];

impl Uri {
    /// Takes anything of the form `scheme:rest`; whether the scheme is known and the rest makes
    /// sense, [`open`](crate::open()) decides.
    ///
    /// # Errors
    /// `Config`, in the original's words, for a text without scheme.
    pub fn parse(text: &str) -> Result<Uri, TransportError> {
        let text = text.trim();
        let colon = text.find(':').filter(|colon| {
            let scheme = &text[..*colon];
            scheme.starts_with(|c: char| c.is_ascii_lowercase())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c))
        });
        match colon {
            Some(colon) => Ok(Uri { text: text.to_owned(), colon }),
            None => Err(unknown(&masked(text))),
        }
    }

    /// The address of an embedded queue, whatever characters its path has.
    pub fn of_file(path: &Path) -> Uri {
        let mut text = "sqlite:".to_owned();
        for byte in path.as_os_str().as_bytes() {
            match byte {
                b'%' | b'?' | b'#' | b' ' | ..=0x1f | 0x7f.. => {
                    text.push_str(&format!("%{byte:02X}"));
                }
                byte => text.push(char::from(*byte)),
            }
        }
        Uri { text, colon: "sqlite".len() }
    }

    /// What names the kind of store: `pgsql`, `sqlite`, …
    pub fn scheme(&self) -> &str {
        &self.text[..self.colon]
    }

    /// The whole text, passwords and all: for handing on, never for showing.
    pub(crate) fn raw(&self) -> &str {
        &self.text
    }

    /// Everything behind `scheme:`, as written.
    pub(crate) fn rest(&self) -> &str {
        &self.text[self.colon + 1..]
    }

    /// The error for a scheme that no transport has.
    pub(crate) fn unknown(&self) -> TransportError {
        unknown(&self.to_string())
    }

    /// Reads the rest as the address of a server.
    pub(crate) fn server(&self) -> Result<Parts, TransportError> {
        self.parts(self.rest())
    }

    fn parts(&self, rest: &str) -> Result<Parts, TransportError> {
        let (address, query) = split_query(rest);
        let mut parts = Parts { query: self.query(query)?, ..Parts::default() };
        let Some(address) = address.strip_prefix("//") else {
            parts.database = self.decoded(address)?;
            return Ok(parts);
        };
        let (authority, database) = match address.split_once('/') {
            Some((authority, database)) => (authority, database),
            // `pgsql://db`: without a slash the original takes it for the database.
            None if !address.contains(['@', ':', '[']) => ("", address),
            None => (address, ""),
        };
        parts.database = self.decoded(database)?;
        let server = match authority.rsplit_once('@') {
            Some((login, server)) => {
                let (user, password) = match login.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (login, None),
                };
                parts.user = self.decoded(user)?;
                parts.password = password.map(|p| self.decoded(p)).transpose()?.flatten();
                server
            }
            None => authority,
        };
        let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match server.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (server, None),
            },
        };
        parts.host = self.decoded(host)?;
        parts.port = match port {
            None | Some("") => None,
            Some(port) => {
                let port = port.parse().ok().filter(|port| *port > 0);
                Some(port.ok_or_else(|| self.bad("the port is not a number from 1 to 65535"))?)
            }
        };
        Ok(parts)
    }

    /// Reads the rest as `//HOST[:PORT][/PATH]`, where a lone word is the host and not, as for
    /// databases, the path; the path is [`Parts::database`].
    pub(crate) fn network(&self) -> Result<Parts, TransportError> {
        let (address, query) = split_query(self.rest());
        match address.strip_prefix("//") {
            None => Err(self.bad("it does not begin with //")),
            Some(host) if host.contains('/') => self.server(),
            Some(_) => self.parts(&format!("{address}/?{query}")),
        }
    }

    /// Reads the rest as a path with options.
    pub(crate) fn path(&self) -> Result<(String, Vec<(String, String)>), TransportError> {
        let (path, query) = split_query(self.rest());
        let path = self.decoded(path)?.ok_or_else(|| self.bad("the path is missing"))?;
        // `sqlite:///srv/queue.db` is what some tools write for `sqlite:/srv/queue.db`.
        let path = path.strip_prefix("//").map_or(path.clone(), str::to_owned);
        Ok((path, self.query(query)?))
    }

    /// An error about this address.
    pub(crate) fn bad(&self, what: impl fmt::Display) -> TransportError {
        TransportError::new(Kind::Config, format!("Bad transport address \"{self}\": {what}"))
    }

    fn query(&self, query: &str) -> Result<Vec<(String, String)>, TransportError> {
        let mut options = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option
                .split_once('=')
                .ok_or_else(|| self.bad("an option is written as name=value"))?;
            let name = self.decoded(name)?.unwrap_or_default();
            options.push((name, self.decoded(value)?.unwrap_or_default()));
        }
        Ok(options)
    }

    /// %-decodes a part; an empty one is `None`.
    fn decoded(&self, part: &str) -> Result<Option<String>, TransportError> {
        let mut bytes = Vec::with_capacity(part.len());
        let mut rest = part.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'%' {
                bytes.push(byte);
                continue;
            }
            let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
            match (digit(), digit()) {
                (Some(high), Some(low)) => {
                    bytes.push(u8::try_from(high << 4 | low).unwrap_or_default());
                }
                _ => return Err(self.bad("% is not followed by two hex digits")),
            }
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.contains(&0) {
            return Err(self.bad("%00 cannot stand in an address"));
        }
        let part = String::from_utf8(bytes).map_err(|_| self.bad("it is not UTF-8"))?;
        Ok(Some(part))
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.text))
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", masked(&self.text))
    }
}

impl std::str::FromStr for Uri {
    type Err = TransportError;

    fn from_str(text: &str) -> Result<Uri, TransportError> {
        Uri::parse(text)
    }
}

fn unknown(masked: &str) -> TransportError {
    TransportError::new(
        Kind::Config,
        format!("\"{masked}\" does not resolve to a known AsyncTransport"),
    )
    .with_hint(
        "known are pgsql://USER@HOST/DATABASE, sqlite:/PATH/TO/FILE, redis://HOST, \
         amqp://USER:PASSWORD@HOST, filesys:/PATH/TO/DIRECTORY and localmem://",
    )
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// The text with `***` for what may be a password. Rather too much than too little: a password that
/// should have been %-encoded may hold any character, so everything between the login's colon and
/// the last `@` goes.
fn masked(text: &str) -> String {
    let (head, login) = match text.find("//") {
        Some(slashes) => text.split_at(slashes + 2),
        None => ("", text),
    };
    let masked = match login.rsplit_once('@') {
        // Of a file's path without `//` nothing is a login.
        Some((login, server))
            if login.contains(':')
                && !(login.starts_with("sqlite:") || login.starts_with("filesys:")) =>
        {
            let user = login.split(':').next().unwrap_or_default();
            format!("{head}{user}:***@{server}")
        }
        _ => text.to_owned(),
    };
    let (address, query) = split_query(&masked);
    if query.is_empty() {
        return masked;
    }
    let options = query.split('&').map(|option| match option.split_once('=') {
        Some((name, _)) if SECRET.contains(&name.to_ascii_lowercase().as_str()) => {
            format!("{name}=***")
        }
        _ => option.to_owned(),
    });
    format!("{address}?{}", options.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests;
