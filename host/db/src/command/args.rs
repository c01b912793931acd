//! The arguments of `query`, and what they mean together.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rex_htsql::command::is_command;
use rex_htsql::name::to_name;
use rex_htsql::plan::Format;
use rex_htsql::{Lens, Naming, Param, Params};

use super::{Address, CommandError, Config, Project};
use crate::json_param::from_typed_json;
use crate::session::Gateway;

/// Run an HTSQL query
#[derive(Debug, Clone, Args)]
pub struct QueryArgs {
    /// Query to run; `-`, or none where input is not a terminal, reads it from standard input
    #[arg(value_name = "QUERY")]
    pub query: Option<String>,

    /// Connect to this database, by stock names: a libpq URI, `key=value` pairs, or a name
    #[arg(short = 'd', long = "database", value_name = "URI")]
    pub database: Option<String>,

    /// Use the names of RexDB deployments, for the database of -d or for this one
    #[arg(long, value_name = "URI", num_args = 0..=1, default_missing_value = "")]
    pub rexdb: Option<String>,

    /// Add a gateway, before those of the project: `/:NAME` runs what is before it on the database at URI
    #[arg(long = "gateway", value_name = "NAME=URI")]
    pub gateways: Vec<String>,

    /// Set the parameter `$NAME`; `NAME:=JSON` gives it the type of the JSON value
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE", conflicts_with = "batch")]
    pub params: Vec<String>,

    /// Run the statements of a file, or of standard input for `-`, in one transaction and print the last answer
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with_all = ["query", "batch"])]
    pub file: Option<PathBuf>,

    /// Print the answer as this
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text",
          conflicts_with_all = ["json", "csv", "tsv", "batch", "explain"])]
    pub format: OutputFormat,

    /// Print JSON, the same as --format json
    #[arg(long, conflicts_with_all = ["csv", "tsv", "batch", "explain"])]
    pub json: bool,

    /// Print comma-separated values, the same as --format csv
    #[arg(long, conflicts_with_all = ["tsv", "batch", "explain"])]
    pub csv: bool,

    /// Print tab-separated values, the same as --format tsv
    #[arg(long, conflicts_with_all = ["batch", "explain"])]
    pub tsv: bool,

    /// Print a stage of the compilation and do not run the query
    #[arg(long, value_enum, value_name = "STAGE", conflicts_with_all = ["file", "batch"])]
    pub explain: Option<Stage>,

    /// Read queries as JSON lines from standard input and answer each with a line
    #[arg(long, conflicts_with = "query")]
    pub batch: bool,

    /// Commit the transactions of --batch, which are rolled back otherwise
    // What conflicts with --batch is named too: clap drops a requirement that cannot be met.
    #[arg(long, requires = "batch", conflicts_with_all = ["query", "file", "explain"])]
    pub commit: bool,

    /// Have the server give up on a statement after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<f64>,

    /// Do not page long answers on a terminal
    #[arg(long)]
    pub no_pager: bool,
}

/// Formats of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A text table
    Text,
    /// Objects by tag, without NULLs
    Json,
    Csv,
    Tsv,
    Html,
    Xml,
    /// JSON arrays with the profile
    Raw,
}

/// Stages of the compilation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// What the text says
    Syn,
    /// What the names mean
    Bound,
    /// Which rows each expression speaks of
    Space,
    /// Joins, sub-selects, grouping, order
    Rel,
    /// The statements sent
    Sql,
}

impl Stage {
    pub(super) fn lens(self) -> Lens {
        match self {
            Stage::Syn => Lens::Syn,
            Stage::Bound => Lens::Bound,
            Stage::Space => Lens::Space,
            Stage::Rel => Lens::Rel,
            Stage::Sql => Lens::Sql,
        }
    }
}

impl QueryArgs {
    /// The format asked for.
    pub(super) fn output(&self) -> Format {
        match self.format {
            _ if self.json => Format::Json,
            _ if self.csv => Format::Csv,
            _ if self.tsv => Format::Tsv,
            OutputFormat::Text => Format::Text,
            OutputFormat::Json => Format::Json,
            OutputFormat::Csv => Format::Csv,
            OutputFormat::Tsv => Format::Tsv,
            OutputFormat::Html => Format::Html,
            OutputFormat::Xml => Format::Xml,
            OutputFormat::Raw => Format::Raw,
        }
    }

    /// Whether a database is named here, so that no project's is needed.
    pub fn names_database(&self) -> bool {
        let has_address = |value: &String| is_address(value) || self.query.is_some();
        self.database.is_some()
            || self.rexdb.as_ref().is_some_and(|value| !value.is_empty() && has_address(value))
    }

    /// The databases and how they are spoken to. A query that `--rexdb` took for its own value is
    /// put back.
    pub(super) fn config(&mut self, project: Project) -> Result<Config, CommandError> {
        if let Some(value) = &mut self.rexdb
            && !value.is_empty()
            && !is_address(value)
            && self.query.is_none()
        {
            self.query = Some(std::mem::take(value));
        }
        let rexdb = self.rexdb.as_deref().filter(|uri| !uri.is_empty());
        let (address, naming) = match (&self.database, rexdb, project.database) {
            (Some(_), Some(_), _) => {
                let message = "give the database once: -d URI --rexdb, or --rexdb URI";
                return Err(CommandError::Usage(message.to_string()));
            }
            (None, Some(uri), _) => (Address::parse(uri)?, Naming::Rex),
            (Some(uri), None, _) => {
                let naming = if self.rexdb.is_some() { Naming::Rex } else { Naming::Stock };
                (Address::parse(uri)?, naming)
            }
            (None, None, Some(project)) => (project, Naming::Rex),
            (None, None, None) => {
                let message = "no database is given: use -d URI, --rexdb URI or --project NAME";
                return Err(CommandError::Usage(message.to_string()));
            }
        };
        let of_project = |(name, address)| Gateway { name, address, naming: Naming::Rex };
        let mut gateways: Vec<Gateway> = project.gateways.into_iter().map(of_project).collect();
        for text in &self.gateways {
            let Some((name, uri)) = text.split_once('=') else {
                let message = "a gateway is given as NAME=URI";
                return Err(CommandError::Usage(message.to_string()));
            };
            let name = gateway_name(name).map_err(CommandError::Usage)?;
            gateways.retain(|gateway| gateway.name != name);
            gateways.push(Gateway { name, address: Address::parse(uri)?, naming });
        }
        let statement_timeout = match self.timeout {
            None => None,
            Some(seconds) => {
                let limit = Duration::try_from_secs_f64(seconds).ok().filter(|t| !t.is_zero());
                let message = || format!("`{seconds}` is not a number of seconds above 0");
                Some(limit.ok_or_else(|| CommandError::Usage(message()))?)
            }
        };
        Ok(Config { address, naming, gateways, statement_timeout })
    }

    /// The parameter without a type that an error about types is marked at.
    pub(super) fn untyped_culprit(&self, error: &str) -> Option<String> {
        let (message, excerpt) = error.split_once('\n')?;
        if !message.contains("untyped") {
            return None;
        }
        let excerpt = excerpt.to_lowercase();
        let names = self.params.iter().filter_map(|text| text.split_once('='));
        let untyped = names.map(|(name, _)| name.trim_start_matches('$'));
        let mut culprits = untyped.filter(|name| !name.ends_with(':'));
        let is_named = |name: &&str| {
            let mark = format!("${}", to_name(name));
            excerpt.match_indices(&mark).any(|(at, _)| {
                let rest = excerpt[at + mark.len()..].chars().next();
                rest.is_none_or(|c| !c.is_alphanumeric() && c != '_')
            })
        };
        culprits.find(is_named).map(str::to_string)
    }

    /// The parameters of the query.
    pub(super) fn params(&self) -> Result<Params, CommandError> {
        let mut params = Params::new();
        for text in &self.params {
            let given = text.split_once('=').filter(|(name, _)| !matches!(*name, "" | ":" | "$"));
            let Some((name, value)) = given else {
                let message = format!("parameter `{text}` is not of the form NAME=VALUE");
                return Err(CommandError::Usage(message));
            };
            let (name, is_json) = match name.strip_suffix(':') {
                None => (name, false),
                Some(name) => (name, true),
            };
            let name = name.strip_prefix('$').unwrap_or(name);
            let param = match is_json {
                false => Param::text(value),
                true => from_typed_json(value).map_err(|reason| {
                    CommandError::Usage(format!("parameter `{name}` is not a value: {reason}"))
                })?,
            };
            params.set(name, param);
        }
        Ok(params)
    }
}

/// The name of a gateway as a session knows it.
///
/// # Errors
/// Why no query could name it so.
pub fn gateway_name(given: &str) -> Result<String, String> {
    // Queries name it by an identifier, in any case of letters.
    let name = to_name(given);
    if name != given.to_lowercase() {
        return Err(format!("`{given}` is no name for a gateway: letters, digits and `_` are"));
    }
    if is_command(&name) {
        return Err(format!("a gateway cannot be named `{name}`, which is a command"));
    }
    Ok(name)
}

/// Whether a text is an address rather than a query.
fn is_address(text: &str) -> bool {
    let scheme = ["postgresql:", "postgres:", "pgsql:"];
    let pairs = ["host=", "dbname=", "user=", "port=", "service=", "hostaddr="];
    scheme.iter().any(|head| text.starts_with(head))
        || pairs.iter().any(|head| text.split_whitespace().any(|pair| pair.starts_with(head)))
        || (!text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')))
}

#[cfg(test)]
mod tests;
