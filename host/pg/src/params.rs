//! What the text of an address says, before any default: a libpq URI, a `key=value` string,
//! HTSQL's `pgsql:name`, or a bare name of a database.

use crate::BadAddress;

/// Parameters by libpq's names, in the order given; empty values are as none. It may hold a
/// password, so it has no `Debug`.
#[derive(Clone, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads an address.
    ///
    /// # Errors
    /// The text is malformed; the error shows no part that could hold a password.
    pub fn parse(text: &str) -> Result<Params, BadAddress> {
        let text = text.trim();
        match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => parse_url(scheme, rest),
            _ if text.contains('=') => parse_pairs(text),
            _ => {
                let mut params = Params::default();
                params.add("dbname", text);
                Ok(params)
            }
        }
    }

    /// Adds a value; of several with one name the last counts.
    pub fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Takes a value out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().rposition(|(option, _)| option == name)?;
        let (_, value) = self.0.remove(at);
        self.0.retain(|(option, _)| option != name);
        Some(value).filter(|value| !value.is_empty())
    }

    /// Takes a value out, or that of libpq's environment variable.
    pub(crate) fn take_or_env(&mut self, name: &str, variable: &str) -> Option<String> {
        let environment = std::env::var(variable).ok().filter(|value| !value.is_empty());
        self.take(name).or(environment)
    }

    /// What nobody took.
    pub(crate) fn rest(self) -> Vec<(String, String)> {
        self.0.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }
}

/// Whether a URI's scheme means PostgreSQL: the original's name, and what the world calls it.
pub fn is_postgresql(scheme: &str) -> bool {
    matches!(scheme, "pgsql" | "postgresql" | "postgres")
}

/// Whether the text before a colon looks like a scheme; a `key=value` string has `=` before it.
fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '+')
}

/// `//user:password@host:port/database?name=value&…`, or `database` alone.
fn parse_url(scheme: &str, rest: &str) -> Result<Params, BadAddress> {
    if !is_postgresql(scheme) {
        return Err(BadAddress::Scheme(scheme.to_owned()));
    }
    let mut params = Params::default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let Some(rest) = rest.strip_prefix("//") else {
        params.add("dbname", decode(rest)?);
        params.read_query(query)?;
        return Ok(params);
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts = match authority.rsplit_once('@') {
        None => authority,
        Some((credentials, hosts)) => {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            params.add("user", decode(user)?);
            params.add("password", decode(password)?);
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
    params.add("host", names.join(","));
    if ports.iter().any(|port| !port.is_empty()) {
        params.add("port", ports.join(","));
    }
    params.add("dbname", decode(database)?);
    params.read_query(query)?;
    Ok(params)
}

impl Params {
    fn read_query(&mut self, query: &str) -> Result<(), BadAddress> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| BadAddress::NoValue(pair.to_owned()))?;
            // An empty value takes nothing from what the address said before.
            let (name, value) = (decode(name)?, decode(value)?);
            match name.as_str() {
                _ if value.is_empty() => {}
                "ssl" if value == "true" => self.add("sslmode", "require"),
                _ => self.add(&name, value),
            }
        }
        Ok(())
    }
}

/// `name = value` or `name='va\'lue'`, separated by spaces.
fn parse_pairs(text: &str) -> Result<Params, BadAddress> {
    let mut params = Params::default();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| {
            BadAddress::NoValue(rest.split_whitespace().next().unwrap_or_default().to_owned())
        })?;
        let name = name.trim().to_owned();
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
                None if quoted => return Err(BadAddress::Unfinished(name)),
                Some(c) if !quoted && c.is_whitespace() => break,
                None => break,
                Some(c) => value.push(c),
            }
        }
        params.add(&name, value);
        rest = chars.as_str().trim_start();
    }
    Ok(params)
}

fn decode(text: &str) -> Result<String, BadAddress> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |at: usize| rest.get(at).and_then(|d| char::from(*d).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(BadAddress::Escape) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| BadAddress::Escape)?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or(BadAddress::Escape)
}
