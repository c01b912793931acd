//! `rex-host deploy`: facts, of files or of a project, to the structure and the rows of a database.

use std::path::PathBuf;
use std::process::ExitCode;

use rex_db::{Address, Config, Session};
use rex_deploy::{Deployer, Facts, create_database, prepare};
use rex_htsql::Naming;
use serde_json::json;

use super::Environment;
use super::failure::Failure;
use super::output::Output;
use super::place::Common;
use crate::settings::Application;

#[derive(clap::Args)]
pub(crate) struct DeployArgs {
    /// Files of facts, deployed in this order in one transaction [default: those of the project and
    /// of all that it requires]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Database to deploy on, instead of the project's: a URI, `key=value` pairs, or a name
    #[arg(short = 'd', long = "database", value_name = "URI")]
    database: Option<String>,
    /// Print the SQL that would be run, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print what was done as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

/// Deployments of one database wait for each other.
const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('rex deploy'))";

pub(crate) fn deploy(
    args: &DeployArgs,
    environment: &Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let address = address(args, environment)?;
    let parts = parts(args, environment)?;
    if parts.is_empty() {
        output.remark("Nothing to deploy.");
    }
    let mut session = session(&address)?;
    if let Err(error) = prepare(&mut session) {
        if !is_absent(&address) {
            return Err(failed(error));
        }
        if args.dry_run {
            return Err(failed(error).hint("without --dry-run it is created"));
        }
        output.remark(format_args!("Creating database {address}."));
        let mut server = maintenance(&address)?;
        let created = create_database(&mut server, address.database(), None);
        // Somebody else may have made it meanwhile.
        if let Err(error) = created
            && is_absent(&address)
        {
            return Err(failed(error));
        }
        prepare(&mut session).map_err(failed)?;
    }
    session.begin();
    session.sql_rows(LOCK).map_err(failed)?;
    output.remark(format_args!("Deploying application database to {address}."));
    let mut deployer = Deployer::new(&mut session);
    for (name, facts) in &parts {
        output.remark(format_args!("Deploying {name}."));
        deployer.deploy(facts)?;
    }
    for (name, facts) in &parts {
        output.remark(format_args!("Validating {name}."));
        deployer.validate(facts)?;
    }
    let statements = deployer.statements().to_vec();
    if args.dry_run {
        output.remark("Rolling back changes (dry run).");
    }
    session.end(!args.dry_run).map_err(failed)?;
    output.remark("Done.");
    if args.json {
        output.json(&json!({
            "changes": statements.len(),
            "dry_run": args.dry_run,
            "statements": statements,
        }))?;
    } else if args.dry_run && !statements.is_empty() {
        for statement in &statements {
            output.line(statement.trim_end())?;
        }
    } else {
        output.line(match statements.len() {
            0 => "nothing to change".to_owned(),
            1 => "1 change".to_owned(),
            count => format!("{count} changes"),
        })?;
    }
    output.finish()
}

fn session(address: &Address) -> Result<Session, Failure> {
    let (address, gateways) = (address.clone(), Vec::new());
    let config = Config { address, naming: Naming::Rex, gateways, statement_timeout: None };
    Session::new(config).map_err(failed)
}

/// The database of the same server in which databases are made.
fn maintenance(address: &Address) -> Result<Session, Failure> {
    session(&address.with_database("postgres"))
}

/// Whether the server can be asked and has no such database.
fn is_absent(address: &Address) -> bool {
    let name = address.database().replace('\'', "''");
    let query = format!("SELECT TRUE FROM pg_catalog.pg_database WHERE datname = '{name}'");
    let rows = maintenance(address).ok().and_then(|mut session| session.sql_rows(&query).ok());
    rows.is_some_and(|rows| rows.is_empty())
}

/// What is to be deployed, under the names by which progress tells of it.
fn parts(args: &DeployArgs, environment: &Environment) -> Result<Vec<(String, Facts)>, Failure> {
    let mut parts = Vec::new();
    for file in &args.files {
        let facts = Facts::file(&environment.cwd.join(file))?;
        parts.push((file.display().to_string(), facts));
    }
    if args.files.is_empty() {
        let place = args.common.place(environment)?;
        for package in Application::load(&place.sources, &place.globals)?.packages {
            if let Some(path) = package.facts() {
                parts.push((package.name, Facts::file(&path)?));
            }
        }
    }
    Ok(parts)
}

/// The database that is named here, else that of the project's settings.
fn address(args: &DeployArgs, environment: &Environment) -> Result<Address, Failure> {
    if let Some(text) = &args.database {
        return Address::parse(text)
            .map_err(|error| Failure::new("-d names no database").because(&error));
    }
    let settings = args.common.place(environment)?.settings()?;
    super::query::database(&settings)?.ok_or_else(|| {
        Failure::new("no database is named")
            .hint("name one with -d URI, or a project whose setting db does with --project NAME")
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn failed(error: rex_htsql::Error) -> Failure {
    Failure::new(error.to_string())
}
