//! Facts: what a database is to have, read from YAML or from data. A fact that says `present: false`
//! has no goal: what it names is to be absent.

use std::path::{Path, PathBuf};

use rex_htsql::syn::{self, Syn, tree};
use rex_yaml::validate::Input;
use rex_yaml::{Error, Loader, Node};
use serde_json::Value;

use crate::column_type::ColumnType;
use crate::spec::{self, Spec};
use rex_yaml::given::{Given, Members};

/// Facts in the order in which they are deployed.
#[derive(Debug)]
pub struct Facts(pub(crate) Vec<(Fact, String)>);

#[derive(Debug)]
pub(crate) enum Fact {
    Table(TableFact),
    Column(ColumnFact),
    Link(LinkFact),
    Identity(IdentityFact),
    Data(DataFact),
    Alias(AliasFact),
    Raw(RawFact),
    /// A file of further facts.
    Include(PathBuf),
}

#[derive(Debug)]
pub(crate) struct TableFact {
    pub(crate) label: String,
    pub(crate) goal: Option<TableGoal>,
}

#[derive(Debug)]
pub(crate) struct TableGoal {
    pub(crate) was: Vec<String>,
    pub(crate) reliable: bool,
    pub(crate) title: Option<String>,
    pub(crate) with: Facts,
}

#[derive(Debug)]
pub(crate) struct ColumnFact {
    pub(crate) table: String,
    pub(crate) label: String,
    pub(crate) goal: Option<ColumnGoal>,
}

#[derive(Debug)]
pub(crate) struct ColumnGoal {
    pub(crate) was: Vec<String>,
    pub(crate) after: Vec<String>,
    pub(crate) ty: ColumnType,
    /// As text of the type, or `today()`, `now()`.
    pub(crate) default: Option<String>,
    pub(crate) required: bool,
    pub(crate) unique: bool,
    pub(crate) title: Option<String>,
}

#[derive(Debug)]
pub(crate) struct LinkFact {
    pub(crate) table: String,
    pub(crate) label: String,
    pub(crate) goal: Option<LinkGoal>,
}

#[derive(Debug)]
pub(crate) struct LinkGoal {
    pub(crate) target: String,
    /// An identity of the target.
    pub(crate) default: Option<String>,
    pub(crate) was: Vec<String>,
    pub(crate) after: Vec<String>,
    pub(crate) required: bool,
    pub(crate) unique: bool,
    pub(crate) title: Option<String>,
}

#[derive(Debug)]
pub(crate) struct IdentityFact {
    pub(crate) table: String,
    /// Labels of columns and links, each with what fills it.
    pub(crate) fields: Vec<(String, Option<Generator>)>,
}

/// What gives a value to a field of an identity that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generator {
    Offset,
    Random,
    Uuid,
}

#[derive(Debug)]
pub(crate) struct DataFact {
    pub(crate) table: String,
    pub(crate) source: DataSource,
    pub(crate) is_present: bool,
}

#[derive(Debug)]
pub(crate) enum DataSource {
    File(PathBuf),
    Csv(String),
    Records(Vec<Members>),
}

#[derive(Debug)]
pub(crate) struct AliasFact {
    pub(crate) table: String,
    pub(crate) label: String,
    pub(crate) parameters: Option<Vec<String>>,
    pub(crate) body: Option<Syn>,
}

#[derive(Debug)]
pub(crate) struct RawFact {
    pub(crate) action: Text,
    pub(crate) unless: Text,
}

/// A text, or the file that holds it.
#[derive(Debug)]
pub(crate) enum Text {
    Here(String),
    File(PathBuf),
}

impl Fact {
    /// The entry by which its kind is told.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Fact::Table(_) => "table",
            Fact::Column(_) => "column",
            Fact::Link(_) => "link",
            Fact::Identity(_) => "identity",
            Fact::Data(_) => "data",
            Fact::Alias(_) => "alias",
            Fact::Raw(_) => "sql",
            Fact::Include(_) => "include",
        }
    }
}

impl Facts {
    /// Reads a file of facts; paths in it begin at its directory.
    ///
    /// # Errors
    /// The file cannot be read, is no YAML, or holds something that is no fact.
    pub fn file(path: &Path) -> Result<Facts, Error> {
        let base = path.parent().unwrap_or(Path::new(""));
        Facts::node(&Loader::new(base).file(path)?, base)
    }

    /// Reads facts from text, which errors call `name`; paths in it begin at `base`.
    ///
    /// # Errors
    /// As [`Facts::file`].
    pub fn text(text: &str, name: &str, base: &Path) -> Result<Facts, Error> {
        Facts::node(&Loader::new(base).text(text, name, Some(base))?, base)
    }

    /// Reads facts from a part of a document; paths in it begin at `base`.
    ///
    /// # Errors
    /// As [`Facts::file`].
    pub fn node(node: &Node, base: &Path) -> Result<Facts, Error> {
        facts(spec::specs(Input::Node(node))?, base)
    }

    /// Reads facts from plain data; paths in it begin at `base`. Errors show the fact, as there is
    /// no place to name.
    ///
    /// # Errors
    /// As [`Facts::file`].
    pub fn value(value: &Value, base: &Path) -> Result<Facts, Error> {
        facts(spec::specs(Input::Value(value))?, base)
    }

    /// The labels of the tables that they make, those of included files among them.
    ///
    /// # Errors
    /// An included file cannot be read.
    pub fn tables(&self) -> Result<Vec<String>, Error> {
        let mut tables = Vec::new();
        for (fact, _) in &self.0 {
            match fact {
                Fact::Table(TableFact { label, goal: Some(_) }) => tables.push(label.clone()),
                Fact::Include(path) => tables.extend(Facts::file(path)?.tables()?),
                _ => {}
            }
        }
        Ok(tables)
    }
}

fn facts(specs: Vec<Spec>, base: &Path) -> Result<Facts, Error> {
    specs.into_iter().map(|spec| fact(spec, base)).collect::<Result<_, _>>().map(Facts)
}

fn fact(spec: Spec, base: &Path) -> Result<(Fact, String), Error> {
    let place = spec.place.clone();
    let key = spec.key;
    let built = match key {
        "table" => table(spec, base).map(Fact::Table),
        "column" => column(&spec).map(Fact::Column),
        "link" => link(&spec).map(Fact::Link),
        "identity" => identity(&spec).map(Fact::Identity),
        "data" => data(&spec, base).map(Fact::Data),
        "alias" => alias(&spec).map(Fact::Alias),
        "sql" => Ok(Fact::Raw(RawFact {
            action: text_or_file(&spec, "sql", base),
            unless: text_or_file(&spec, "unless", base),
        })),
        _ => Ok(Fact::Include(join(base, spec.text("include").unwrap_or_default()))),
    };
    match built {
        Ok(fact) => Ok((fact, place)),
        Err(error) => Err(error.guard(format!("While parsing {key} fact:"), place)),
    }
}

fn join(base: &Path, path: &str) -> PathBuf {
    base.join(path.strip_prefix("./").unwrap_or(path))
}

/// What has no blanks is the path of a file.
fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

fn text_or_file(spec: &Spec, name: &str, base: &Path) -> Text {
    let text = spec.text(name).unwrap_or_default();
    if is_path(text) { Text::File(join(base, text)) } else { Text::Here(text.to_owned()) }
}

/// An absent thing has no other properties.
fn refuse_goal(spec: &Spec, names: &[&str]) -> Result<(), Error> {
    match names.iter().find(|name| spec.given(name).is_some()) {
        Some(name) => Err(Error::with("Got unexpected clause:", name)),
        None => Ok(()),
    }
}

fn is_present(spec: &Spec) -> bool {
    spec.flag("present") != Some(false)
}

/// Table and label of `table.label`, or of `label` with the table under `of`.
fn qualified(spec: &Spec, name: &str) -> Result<(String, String), Error> {
    let (text, of) = (spec.text(name).unwrap_or_default(), spec.text("of"));
    match (text.split_once('.'), of) {
        (Some((table, _)), Some(of)) if table != of => {
            Err(Error::with("Got mismatched table names:", format!("{table}, {of}")))
        }
        (Some((table, label)), _) => Ok((table.to_owned(), label.to_owned())),
        (None, Some(of)) => Ok((of.to_owned(), text.to_owned())),
        (None, None) => Err(Error::new("Got missing table name")),
    }
}

fn table(spec: Spec, base: &Path) -> Result<TableFact, Error> {
    let label = spec.text("table").unwrap_or_default().to_owned();
    if !is_present(&spec) {
        refuse_goal(&spec, &["was", "reliable", "title", "with"])?;
        return Ok(TableFact { label, goal: None });
    }
    let (was, reliable) = (spec.texts("was"), spec.flag("reliable") != Some(false));
    let title = spec.text("title").map(str::to_owned);
    let mut with = Vec::new();
    // Fields stay in the order in which they are listed.
    let mut listed: Vec<String> = Vec::new();
    for mut nested in spec.with {
        let unrelated = !nested.has("of") || nested.text("of").is_some_and(|of| of != label);
        if unrelated {
            return Err(Error::with("Got unrelated fact:", nested.place));
        }
        nested.fields.insert("of".to_owned(), label.clone().into());
        let is_field = nested.has("after") && is_present(&nested);
        if is_field && nested.given("after").is_none() && !listed.is_empty() {
            nested.fields.insert("after".to_owned(), listed.clone().into());
        }
        let built = fact(nested, base)?;
        match &built.0 {
            Fact::Column(ColumnFact { label, .. }) | Fact::Link(LinkFact { label, .. })
                if is_field =>
            {
                listed.push(label.clone());
            }
            _ => {}
        }
        with.push(built);
    }
    let goal = TableGoal { was, reliable, title, with: Facts(with) };
    Ok(TableFact { label, goal: Some(goal) })
}

fn column(spec: &Spec) -> Result<ColumnFact, Error> {
    let present = is_present(spec);
    if !present {
        let goal = ["was", "after", "type", "default", "required", "unique", "title"];
        refuse_goal(spec, &goal)?;
    }
    let (table, label) = qualified(spec, "column")?;
    if !present {
        return Ok(ColumnFact { table, label, goal: None });
    }
    let ty = match spec.given("type") {
        None => return Err(Error::with("Got missing clause:", "type")),
        Some(Value::Array(_)) => {
            let labels = spec.texts("type");
            if labels.is_empty() {
                return Err(Error::new("Got missing enum labels"));
            }
            if labels.iter().enumerate().any(|(n, label)| labels[..n].contains(label)) {
                return Err(Error::with("Got duplicate enum labels:", labels.join(", ")));
            }
            ColumnType::Enum(labels)
        }
        Some(name) => ColumnType::named(name.as_str().unwrap_or_default())?,
    };
    let default = match spec.default.as_ref().filter(|value| !value.is_null()) {
        Some(value) => Some(ty.default_text(value)?),
        None => None,
    };
    let goal = ColumnGoal {
        was: spec.texts("was"),
        after: spec.texts("after"),
        ty,
        default,
        required: spec.flag("required") != Some(false),
        unique: spec.flag("unique") == Some(true),
        title: spec.text("title").map(str::to_owned),
    };
    Ok(ColumnFact { table, label, goal: Some(goal) })
}

fn link(spec: &Spec) -> Result<LinkFact, Error> {
    let present = is_present(spec);
    if !present {
        let goal = ["to", "default", "was", "after", "required", "unique", "title"];
        refuse_goal(spec, &goal)?;
    }
    let (table, label) = qualified(spec, "link")?;
    let goal = present.then(|| LinkGoal {
        target: spec.text("to").unwrap_or(&label).to_owned(),
        default: spec.text("default").map(str::to_owned),
        was: spec.texts("was"),
        after: spec.texts("after"),
        required: spec.flag("required") != Some(false),
        unique: spec.flag("unique") == Some(true),
        title: spec.text("title").map(str::to_owned),
    });
    Ok(LinkFact { table, label, goal })
}

fn identity(spec: &Spec) -> Result<IdentityFact, Error> {
    let mut table = spec.text("of").map(str::to_owned);
    let items = spec.given("identity").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if items.is_empty() {
        return Err(Error::new("Got missing identity fields"));
    }
    let mut fields: Vec<(String, Option<Generator>)> = Vec::new();
    for item in items {
        let (name, generator) = match item {
            Value::Object(pair) if pair.len() == 1 => {
                let (name, generator) = pair.iter().next().map_or(("", None), |(name, value)| {
                    (name.as_str(), value.as_str().and_then(Generator::named))
                });
                (name, generator)
            }
            Value::Object(_) => return Err(Error::new("Expected a pair").guard("Got:", item)),
            other => (other.as_str().unwrap_or_default(), None),
        };
        let label = match name.split_once('.') {
            Some((of, label)) => {
                if let Some(known) = table.as_deref().filter(|known| *known != of) {
                    let names = format!("{of}, {known}");
                    return Err(Error::with("Got mismatched table names:", names));
                }
                table = Some(of.to_owned());
                label
            }
            None => name,
        };
        if fields.iter().any(|(known, _)| known == label) {
            return Err(Error::with("Got duplicate identity field:", label));
        }
        fields.push((label.to_owned(), generator));
    }
    let table = table.ok_or_else(|| Error::new("Got missing table name"))?;
    Ok(IdentityFact { table, fields })
}

impl Generator {
    pub(crate) fn named(name: &str) -> Option<Generator> {
        [Generator::Offset, Generator::Random, Generator::Uuid]
            .into_iter()
            .find(|generator| generator.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Generator::Offset => "offset",
            Generator::Random => "random",
            Generator::Uuid => "uuid",
        }
    }
}

fn data(spec: &Spec, base: &Path) -> Result<DataFact, Error> {
    let mut table = spec.text("of").map(str::to_owned);
    let source = match spec.fields.get("data") {
        Some(Value::String(text)) if is_path(text) => {
            let path = join(base, text);
            if table.is_none() {
                table = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            }
            DataSource::File(path)
        }
        Some(Value::String(text)) => DataSource::Csv(text.clone()),
        _ => DataSource::Records(spec.data.clone().map_or_else(Vec::new, Given::records)),
    };
    let table = table.ok_or_else(|| Error::new("Got missing table name"))?;
    Ok(DataFact { table, source, is_present: is_present(spec) })
}

fn alias(spec: &Spec) -> Result<AliasFact, Error> {
    if !is_present(spec) {
        refuse_goal(spec, &["expression"])?;
    }
    let text = spec.text("alias").unwrap_or_default();
    let head = Head::read(text)?;
    let of = spec.text("of");
    let table = match (head.table, of) {
        (Some(table), Some(of)) if table != of => {
            return Err(Error::with("Got mismatched table names:", format!("{table}, {of}")));
        }
        (Some(table), _) => table,
        (None, Some(of)) => of.to_owned(),
        (None, None) => return Err(Error::new("Got missing table name")),
    };
    let listed = spec.given("parameters").map(|_| spec.texts("parameters"));
    let parameters = match (head.parameters, listed) {
        (Some(named), Some(listed)) if named != listed => {
            let shown = |names: &[String]| {
                let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
                format!("[{}]", quoted.join(", "))
            };
            let both = format!("{}, {}", shown(&named), shown(&listed));
            return Err(Error::with("Got mismatched table parameters:", both));
        }
        (named, listed) => listed.or(named),
    };
    let expression = match spec.text("expression") {
        Some(text) => Some(parse(text)?),
        None => None,
    };
    let body = match (head.body, expression) {
        (Some(one), Some(other)) => {
            let both = format!("{one}, {other}");
            return Err(Error::with("Got mismatched alias expression:", both));
        }
        (one, other) => one.or(other),
    };
    if is_present(spec) && body.is_none() {
        return Err(Error::with("Got missing clause:", "expression"));
    }
    let body = body.filter(|_| is_present(spec));
    Ok(AliasFact { table, label: head.label, parameters, body })
}

fn parse(text: &str) -> Result<Syn, Error> {
    syn::parse(text).map_err(|error| Error::new(error.to_string()))
}

/// `table.label($parameter, …) := body`, of which only the label is needed.
struct Head {
    table: Option<String>,
    label: String,
    parameters: Option<Vec<String>>,
    body: Option<Syn>,
}

impl Head {
    fn read(text: &str) -> Result<Head, Error> {
        let syn = parse(text)?;
        let unknown = || Error::with("Expected an alias definition; got:", &syn);
        let found = match syn.kind() {
            tree::Kind::Assign { lhs, rhs } => {
                let tree::Kind::Specify { terms, params } = lhs.kind() else {
                    return Err(unknown());
                };
                let names: Option<Vec<String>> = terms.iter().map(plain_term).collect();
                let parameters = match params {
                    Some(params) => {
                        let names: Option<Vec<String>> =
                            params.iter().map(reference_term).collect();
                        Some(names.ok_or_else(unknown)?)
                    }
                    None => None,
                };
                let mut names = names.ok_or_else(unknown)?;
                let label = names.pop().ok_or_else(unknown)?;
                let table = names.pop();
                if !names.is_empty() {
                    return Err(unknown());
                }
                Head { table, label, parameters, body: Some(rhs.clone()) }
            }
            tree::Kind::Compose { base, arm } => {
                let tree::Kind::Ident { name } = base.kind() else { return Err(unknown()) };
                let (label, parameters) = call(arm).ok_or_else(unknown)?;
                Head { table: Some(name.clone()), label, parameters, body: None }
            }
            _ => {
                let (label, parameters) = call(&syn).ok_or_else(unknown)?;
                Head { table: None, label, parameters, body: None }
            }
        };
        Ok(found)
    }
}

/// `label` or `label($parameter, …)`.
fn call(syn: &Syn) -> Option<(String, Option<Vec<String>>)> {
    match syn.kind() {
        tree::Kind::Ident { name } => Some((name.clone(), None)),
        tree::Kind::Function { name, args } => {
            let names = args.iter().map(|arg| match arg.kind() {
                tree::Kind::Reference { name } => Some(name.clone()),
                _ => None,
            });
            Some((name.clone(), Some(names.collect::<Option<Vec<String>>>()?)))
        }
        _ => None,
    }
}

fn plain_term(term: &tree::Term) -> Option<String> {
    (!term.is_reference).then(|| term.name.clone())
}

fn reference_term(term: &tree::Term) -> Option<String> {
    term.is_reference.then(|| term.name.clone())
}

/// Label and number of parameters (none is not 0) of an alias as a comment has it.
pub(crate) fn alias_key(text: &str) -> Option<(String, Option<usize>)> {
    let head = Head::read(text).ok()?;
    Some((head.label, head.parameters.map(|names| names.len())))
}
