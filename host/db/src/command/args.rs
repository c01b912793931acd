//! The arguments of `query`, and what they mean together.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rex_htsql::plan::Format;
use rex_htsql::{Lens, Naming, Param, Params};

use super::{CommandError, Config, Project, Uri};
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

    /// Add a gateway: `/:NAME` runs what is before it on the database at URI
    #[arg(long = "gateway", value_name = "NAME=URI")]
    pub gateways: Vec<String>,

    /// Set the parameter `$NAME`; `NAME:=JSON` gives it the type of the JSON value
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    pub params: Vec<String>,

    /// Run the statements of a file in one transaction and print the last answer
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with_all = ["query", "batch"])]
    pub file: Option<PathBuf>,

    /// Print the answer as this
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: OutputFormat,

    /// Print JSON, the same as --format json
    #[arg(long, conflicts_with_all = ["csv", "tsv"])]
    pub json: bool,

    /// Print comma-separated values, the same as --format csv
    #[arg(long, conflicts_with = "tsv")]
    pub csv: bool,

    /// Print tab-separated values, the same as --format tsv
    #[arg(long)]
    pub tsv: bool,

    /// Print a stage of the compilation and do not run the query
    #[arg(long, value_enum, value_name = "STAGE", conflicts_with_all = ["file", "batch"])]
    pub explain: Option<Stage>,

    /// Read queries as JSON lines from standard input and answer each with a line
    #[arg(long, conflicts_with = "query")]
    pub batch: bool,

    /// Commit the transactions of --batch, which are rolled back otherwise
    #[arg(long, requires = "batch")]
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

    /// The databases and how they are spoken to. A query that `--rexdb` took for its own value is
    /// put back.
    pub(super) fn config(&mut self, project: Option<Project>) -> Result<Config, CommandError> {
        if let Some(value) = &mut self.rexdb
            && !value.is_empty()
            && !is_address(value)
            && self.query.is_none()
        {
            self.query = Some(std::mem::take(value));
        }
        let rexdb = self.rexdb.as_deref().filter(|uri| !uri.is_empty());
        let (uri, naming, known) = match (&self.database, rexdb, project) {
            (Some(_), Some(_), _) => {
                let message = "give the database once: -d URI --rexdb, or --rexdb URI";
                return Err(CommandError::Usage(message.to_string()));
            }
            (None, Some(uri), _) => (Uri::parse(uri)?, Naming::Rex, Vec::new()),
            (Some(uri), None, _) => {
                let naming = if self.rexdb.is_some() { Naming::Rex } else { Naming::Stock };
                (Uri::parse(uri)?, naming, Vec::new())
            }
            (None, None, Some(project)) => (project.uri, Naming::Rex, project.gateways),
            (None, None, None) => {
                let message = "no database is given: use -d URI, --rexdb URI or --project NAME";
                return Err(CommandError::Usage(message.to_string()));
            }
        };
        let mut gateways: Vec<Gateway> =
            known.into_iter().map(|(name, uri)| Gateway { name, uri, naming }).collect();
        for text in &self.gateways {
            let Some((name, uri)) = text.split_once('=').filter(|(name, _)| !name.is_empty())
            else {
                let message = "a gateway is given as NAME=URI".to_string();
                return Err(CommandError::Usage(message));
            };
            gateways.retain(|gateway| gateway.name != name);
            gateways.push(Gateway { name: name.to_string(), uri: Uri::parse(uri)?, naming });
        }
        let statement_timeout = match self.timeout {
            None => None,
            Some(seconds) => Some(Duration::try_from_secs_f64(seconds).map_err(|_| {
                CommandError::Usage(format!("`{seconds}` is not a number of seconds"))
            })?),
        };
        Ok(Config { uri, naming, gateways, statement_timeout })
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

/// Whether a text is an address rather than a query.
fn is_address(text: &str) -> bool {
    let scheme = ["postgresql:", "postgres:", "pgsql:"];
    let pairs = ["host=", "dbname=", "user=", "port=", "service=", "hostaddr="];
    scheme.iter().any(|head| text.starts_with(head))
        || pairs.iter().any(|head| text.split_whitespace().any(|pair| pair.starts_with(head)))
        || (!text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')))
}
