//! What command lines mean, and which are refused.

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
        let refused = parsed(&["-d", "x", "--timeout", bad]).unwrap().config(Project::default());
        assert!(matches!(refused, Err(CommandError::Usage(_))), "{bad}");
    }
    let config =
        parsed(&["-d", "x", "--timeout", "0.5"]).unwrap().config(Project::default()).unwrap();
    assert_eq!(config.statement_timeout, Some(Duration::from_millis(500)));
}
