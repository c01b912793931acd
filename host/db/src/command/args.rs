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

    /// Run the statements of a file in one transaction and print the last answer
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
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: QueryArgs,
    }

    fn parsed(line: &[&str]) -> Result<QueryArgs, clap::Error> {
        Line::try_parse_from([&["query"], line].concat()).map(|line| line.args)
    }

    #[test]
    fn options_that_would_do_nothing_are_refused() {
        for line in [
            &["--commit", "/school"] as &[&str],
            &["--commit", "-f", "x.htsql"],
            &["--commit"],
            &["--json", "--format", "csv", "/school"],
            &["--batch", "--json"],
            &["--batch", "-p", "a=1"],
            &["--explain", "sql", "--csv", "/school"],
        ] {
            assert!(parsed(line).is_err(), "{line:?}");
        }
        assert!(parsed(&["--batch", "--commit"]).is_ok());
    }

    #[test]
    fn a_query_is_no_address_of_rexdb() {
        let config = |line: &[&str]| {
            let mut args = parsed(line).unwrap();
            let naming = args.config(Project::default()).unwrap().naming;
            (args.query, naming)
        };
        let query = Some("/school".to_string());
        assert_eq!(config(&["-d", "x", "--rexdb", "/school"]), (query.clone(), Naming::Rex));
        assert_eq!(config(&["--rexdb", "dbname=x", "/school"]), (query.clone(), Naming::Rex));
        assert_eq!(config(&["-d", "x", "/school"]), (query, Naming::Stock));
    }

    #[test]
    fn gateways_are_named_as_queries_name_them() {
        let names = |line: &[&str]| -> Result<Vec<String>, CommandError> {
            let config = parsed(line).unwrap().config(Project::default())?;
            Ok(config.gateways.into_iter().map(|gateway| gateway.name).collect())
        };
        let given = ["-d", "x", "--gateway", "RexDB=postgresql://a/b", "--gateway", "rexdb=c"];
        assert_eq!(names(&given).unwrap(), ["rexdb"]);
        for bad in ["x", "=x", "my-db=x", "1st=x", "a b=x"] {
            let refused = names(&["-d", "x", "--gateway", bad]).unwrap_err().to_string();
            assert!(
                refused.contains("is given as NAME=URI") || refused.contains("is no name"),
                "{refused}"
            );
        }
        for command in ["insert", "Get", "json", "for", "truncate", "meta"] {
            let gateway = format!("{command}=x");
            let refused = names(&["-d", "x", "--gateway", &gateway]).unwrap_err().to_string();
            assert!(refused.ends_with("which is a command"), "{refused}");
        }
    }

    #[test]
    fn gateways_come_before_those_of_the_project() {
        let address = |text: &str| Address::parse(text).unwrap();
        let project = || Project {
            database: Some(address("postgresql://h/app")),
            gateways: vec![
                ("mart".into(), address("postgresql://h/mart")),
                ("lab".into(), address("postgresql://h/lab")),
            ],
        };
        let known = |line: &[&str]| -> Vec<(String, String, Naming)> {
            let config = parsed(line).unwrap().config(project()).unwrap();
            let shown = |gateway: Gateway| {
                (gateway.name, gateway.address.database().to_string(), gateway.naming)
            };
            config.gateways.into_iter().map(shown).collect()
        };
        let rex = |name: &str, database: &str| (name.into(), database.into(), Naming::Rex);
        assert_eq!(known(&["/x"]), [rex("mart", "mart"), rex("lab", "lab")]);
        let more = ["/x", "--gateway", "Mart=postgresql://h/other"];
        assert_eq!(known(&more), [rex("lab", "lab"), rex("mart", "other")]);
        let stock = ["-d", "x", "/x", "--gateway", "old=postgresql://h/old"];
        let old = ("old".into(), "old".into(), Naming::Stock);
        assert_eq!(known(&stock), [rex("mart", "mart"), rex("lab", "lab"), old]);
    }

    #[test]
    fn an_error_about_types_names_the_parameter_without_one() {
        let args = parsed(&["-d", "x", "-p", "n:=1", "-p", "x=1", "-p", "xy=1"]).unwrap();
        let culprit = |query: &str| {
            let text = "Cannot apply operator '+' to values of types (untyped, integer)";
            args.untyped_culprit(&format!("{text}\nWhile translating:\n    {query}\n     ^"))
        };
        assert_eq!(culprit("/{$x+1}").as_deref(), Some("x"));
        assert_eq!(culprit("/{$XY+1}").as_deref(), Some("xy"));
        assert_eq!(culprit("/{'1'+$n}"), None);
        assert_eq!(args.untyped_culprit("Found unknown attribute:\n    $x"), None);
    }

    #[test]
    fn a_time_limit_is_never_rounded_to_none() {
        for bad in ["0", "0.0", "nan", "inf", "1e30"] {
            let refused =
                parsed(&["-d", "x", "--timeout", bad]).unwrap().config(Project::default());
            assert!(matches!(refused, Err(CommandError::Usage(_))), "{bad}");
        }
        let config =
            parsed(&["-d", "x", "--timeout", "0.5"]).unwrap().config(Project::default()).unwrap();
        assert_eq!(config.statement_timeout, Some(Duration::from_millis(500)));
    }
}
