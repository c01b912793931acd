//! A copy of a database. The server makes one by itself of a database that nobody is in; one that is
//! in use, or on another server, is dumped and restored by PostgreSQL's own programs, which disturbs
//! nobody.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};

use rex_db::Address;
use rex_yaml::Error;

use crate::cluster::Cluster;

/// What is missing in a database that was made for a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Nothing,
    /// All; [`restore`] brings it with owners and rights.
    All,
    /// All, and nobody here may give things to other roles, or knows them.
    AllAndRights,
}

/// Makes the database `name` for a copy of `source`, of the same collation.
pub(crate) fn database(
    cluster: &mut Cluster,
    source: &Address,
    name: &str,
) -> Result<Missing, Error> {
    let target = cluster.address(name);
    if target.with_database(source.database()) != *source {
        return cluster.create(name, None).map(|()| Missing::AllAndRights);
    }
    // The server copies nothing from one encoding to another.
    let is_utf8 = cluster.is_utf8(source.database())?;
    if is_utf8 && cluster.may_copy(source.database())? && !cluster.is_in_use(source.database())? {
        let copied = cluster.create(name, Some(source.database()));
        // Somebody may have come in the meantime.
        if copied.is_ok() || !cluster.is_in_use(source.database())? {
            return copied.map(|()| Missing::Nothing);
        }
    }
    match is_utf8 {
        true => cluster.create_like(name, source.database())?,
        false => cluster.create(name, None)?,
    }
    Ok(if cluster.is_superuser()? { Missing::All } else { Missing::AllAndRights })
}

/// What a program may have to say, in bytes; the rest is of no use to anybody.
const MAX_OUTPUT: u64 = 64 << 10;

fn program(name: &str, arguments: &[&str], address: &Address) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).envs(address.environment()).stderr(Stdio::piped());
    command
}

/// Fills an empty database with what is in another one.
pub(crate) fn restore(source: &Address, target: &Address, missing: Missing) -> Result<(), Error> {
    let arguments: &[&str] = match missing {
        Missing::Nothing => return Ok(()),
        Missing::All => &[],
        Missing::AllAndRights => &["--no-owner", "--no-privileges"],
    };
    let failed = |name: &str, error: &io::Error| {
        Error::with(format!("Failed to run `{name}`:"), error.to_string())
    };
    let mut dump = program("pg_dump", arguments, source)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed("pg_dump", &error))?;
    let arguments = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"];
    let load = program("psql", &arguments, target)
        .stdin(dump.stdout.take().map_or_else(Stdio::null, Stdio::from))
        .stdout(Stdio::null())
        .spawn();
    let mut load = match load {
        Ok(load) => load,
        Err(error) => {
            // Nobody reads what it says.
            let _ = dump.kill();
            let _ = dump.wait();
            return Err(failed("psql", &error));
        }
    };
    // The one that restores ends when the other one does, and the other way round.
    std::thread::scope(|scope| {
        let dumped = scope.spawn(|| end("pg_dump", &mut dump));
        let loaded = end("psql", &mut load);
        let dumped = dumped.join().unwrap_or_else(|_| Err(Error::new("Failed to run `pg_dump`")));
        // A dump that broke off is why the rest failed; one whose reader went is not.
        match (dumped, loaded) {
            (dumped, Ok(())) => dumped,
            (_, Err(error)) => Err(error),
        }
    })
}

/// Waits for a program; what it says where it fails.
fn end(name: &str, child: &mut Child) -> Result<(), Error> {
    let failed = |error: io::Error| Error::with(format!("Failed to run `{name}`:"), error);
    let mut text = Vec::new();
    if let Some(said) = child.stderr.take() {
        let mut said = said.take(MAX_OUTPUT);
        said.read_to_end(&mut text).map_err(failed)?;
        io::copy(&mut said.into_inner(), &mut io::sink()).map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => {
            let text = String::from_utf8_lossy(&text);
            Err(Error::with(format!("Got an error from `{name}`:"), text.trim_end()))
        }
    }
}
