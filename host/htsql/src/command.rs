//! Commands: the top of a query, recognised but not yet compiled.
//!
//! A query is a command when, below a leading `/`, its top is a call `name(…)` or a pipe `/:name`
//! of a known command; anything else is a fetch. Arguments that are queries themselves are
//! recognised at once, so that miscounted arguments are found before anything runs; they are
//! compiled when their turn comes.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::error::{self, Error, Mark, Stage};
use crate::name::to_name;
use crate::pending::Pending;
use crate::plan::{EtlKind, EtlPlan, Format, Plan, Step};
use crate::profile::Profile;
use crate::syn::Syn;
use crate::syn::tree::Kind;
use crate::value::Params;
use crate::{Env, etl, fetch};

/// A recognised command (a fetch by default) that compiles when it is known with which parameters
/// it runs.
#[derive(Debug, Clone)]
pub struct Command(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    verb: Verb,
    /// The whole call.
    syn: Syn,
    /// The command's name; zero-width for a fetch.
    mark: Mark,
}

#[derive(Debug)]
enum Verb {
    Skip,
    Fetch,
    /// `fetch(q)`: what its argument is.
    Same(Command),
    Format(Format, Command),
    Sql(Command),
    Describe(Command),
    Pivot(Command, i64, i64),
    Gateway(String, Command),
    /// `meta(q)`: a query of the catalog.
    Meta(Command),
    Etl(EtlKind, Command),
    Truncate(String),
    Do(Vec<(Option<String>, Command)>),
    If(Vec<(Command, Command)>, Option<Command>),
    For(String, Command, Command),
    With(Command, Command),
}

/// Commands that may be inside of each other.
const MAX_DEPTH: usize = 40;

/// Recognises the command of a query.
///
/// # Errors
/// A command with arguments it does not take; marked as parsing.
pub(crate) fn recognize(syn: &Syn, env: &Env<'_>) -> Result<Command, Error> {
    recognize_at(syn, &Depth { env, depth: 0, in_meta: false })
}

/// Whether a name is that of a command, so that nothing else can be called by it in its place.
pub fn is_command(name: &str) -> bool {
    let nothing = Syn::new(Kind::Skip, Mark { text: Arc::from(""), start: 0, end: 0 });
    let env = Env { gateways: &crate::NoGateways };
    let depth = Depth { env: &env, depth: 0, in_meta: false };
    !matches!(verb(name, std::slice::from_ref(&nothing), &nothing, &depth), Ok(None))
}

/// How many commands are around the one being recognised.
struct Depth<'e> {
    env: &'e Env<'e>,
    depth: usize,
    /// What is recognised queries the catalog, which knows neither gateways nor `meta`.
    in_meta: bool,
}

fn recognize_at(syn: &Syn, at: &Depth<'_>) -> Result<Command, Error> {
    if at.depth > MAX_DEPTH {
        return Err(fail("Found too deeply nested commands", syn));
    }
    let env = &Depth { depth: at.depth + 1, ..*at };
    let top = match syn.kind() {
        Kind::Collect { arm } => arm,
        _ => syn,
    };
    let verb = match top.kind() {
        Kind::Function { name, args } => verb(name, args, top, env)?,
        Kind::Pipe { name, base, args, is_command: true, .. } => {
            let args: Vec<Syn> = std::iter::once(base).chain(args).cloned().collect();
            verb(name, &args, top, env)?
        }
        _ => None,
    };
    let verb = match (verb, syn.kind()) {
        (Some(verb), _) => {
            let mark = name_mark(top);
            return Ok(Command(Arc::new(Inner { verb, syn: top.clone(), mark })));
        }
        (None, Kind::Skip) => Verb::Skip,
        (None, _) => Verb::Fetch,
    };
    let mark = Mark { end: syn.mark().start, ..syn.mark().clone() };
    Ok(Command(Arc::new(Inner { verb, syn: syn.clone(), mark })))
}

/// Where the name of a call is written.
fn name_mark(syn: &Syn) -> Mark {
    let mark = syn.mark();
    match syn.kind() {
        Kind::Function { name, .. } => Mark { end: mark.start + name.len(), ..mark.clone() },
        Kind::Pipe { name, base, .. } => {
            // The first mention after the base; only `/`, `:` and blanks lie between.
            let from = base.mark().end.min(mark.text.len());
            let start = mark.text[from..].find(name.as_str()).map_or(from, |at| from + at);
            Mark { text: mark.text.clone(), start, end: start + name.len() }
        }
        _ => mark.clone(),
    }
}

fn fail(message: impl Into<String>, syn: &Syn) -> Error {
    Error::new(message).at(Stage::Parsing, syn.mark())
}

fn verb(name: &str, args: &[Syn], syn: &Syn, env: &Depth<'_>) -> Result<Option<Verb>, Error> {
    let key = to_name(name);
    let one = || match args {
        [arg] => recognize_at(arg, env),
        _ => Err(fail("Expected 1 argument", syn)),
    };
    let etl = |kind| {
        let feed = match args {
            [arg] => feed(arg, env)?,
            _ => return Err(fail("Expected 1 argument", syn)),
        };
        Ok(Some(Verb::Etl(kind, feed)))
    };
    Ok(Some(match key.as_str() {
        "fetch" | "retrieve" | "get" => match args {
            [arg] => return Ok(Some(Verb::Same(recognize_at(arg, env)?))),
            _ => return Err(fail("Expected 1 argument", syn)),
        },
        "txt" => Verb::Format(Format::Text, one()?),
        "html" => Verb::Format(Format::Html, one()?),
        "raw" => Verb::Format(Format::Raw, one()?),
        "json" if args.len() == 1 => Verb::Format(Format::Json, one()?),
        "csv" => Verb::Format(Format::Csv, one()?),
        "tsv" => Verb::Format(Format::Tsv, one()?),
        "xml" => Verb::Format(Format::Xml, one()?),
        "sql" => Verb::Sql(one()?),
        "describe" => match args {
            [arg] => Verb::Describe(recognize_at(arg, env)?),
            _ => return Err(fail("Expected one argument", syn)),
        },
        "pivot" => pivot(args, syn, env)?,
        "insert" => return etl(EtlKind::Insert),
        "copy" => return etl(EtlKind::Copy),
        "update" => return etl(EtlKind::Update),
        "merge" => return etl(EtlKind::Merge),
        "clone" => return etl(EtlKind::Clone),
        "delete" => return etl(EtlKind::Delete),
        "truncate" => match args {
            [arg] => match arg.kind() {
                Kind::Ident { name } => Verb::Truncate(name.clone()),
                _ => return Err(fail("Expected an identifier", arg)),
            },
            _ => return Err(fail("Expected 1 argument", syn)),
        },
        "do" => {
            if args.is_empty() {
                return Err(fail("expected 1 or more arguments", syn));
            }
            let mut steps = Vec::with_capacity(args.len());
            for arg in args {
                let (reference, body) = assignment(arg)?;
                steps.push((reference, recognize_at(body, env)?));
            }
            Verb::Do(steps)
        }
        "if" => {
            if args.len() < 2 {
                return Err(fail("expected 2 or more arguments", syn));
            }
            let mut arms = Vec::new();
            let mut otherwise = None;
            for pair in args.chunks(2) {
                match pair {
                    [test, then] => arms.push((recognize_at(test, env)?, recognize_at(then, env)?)),
                    [last] => otherwise = Some(recognize_at(last, env)?),
                    _ => {}
                }
            }
            Verb::If(arms, otherwise)
        }
        "when" => match args {
            [then, test] => {
                Verb::If(vec![(recognize_at(test, env)?, recognize_at(then, env)?)], None)
            }
            _ => return Err(fail("expected 2 arguments", syn)),
        },
        "for" => match args {
            [items, body] => match assignment(items)? {
                (Some(reference), items) => {
                    Verb::For(reference, recognize_at(items, env)?, recognize_at(body, env)?)
                }
                (None, items) => return Err(fail("Expected an assignment expression", items)),
            },
            _ => return Err(fail("expected 2 arguments", syn)),
        },
        "with" => match args {
            [record, body] => Verb::With(recognize_at(record, env)?, recognize_at(body, env)?),
            _ => return Err(fail("expected 2 arguments", syn)),
        },
        "meta" if !env.in_meta => match args {
            [arg] => Verb::Meta(recognize_at(arg, &Depth { in_meta: true, ..*env })?),
            _ => return Err(fail("Expected 1 argument", syn)),
        },
        key if !env.in_meta && env.env.gateways.has(key) => Verb::Gateway(key.to_string(), one()?),
        _ => return Ok(None),
    }))
}

/// The feed of an ETL command: `name := {…}` is the record under that name.
fn feed(arg: &Syn, env: &Depth<'_>) -> Result<Command, Error> {
    let Kind::Assign { lhs, rhs } = arg.kind() else {
        return recognize_at(arg, env);
    };
    let name = match lhs.kind() {
        Kind::Specify { terms, params: None } => match terms.as_slice() {
            [term] if !term.is_reference => term.name.clone(),
            _ => return Err(fail("Expected an identifier", lhs)),
        },
        _ => return Err(fail("Expected an identifier", lhs)),
    };
    let name = Syn::new(Kind::Ident { name }, lhs.mark().clone());
    let named = Kind::Pipe {
        name: "as".to_string(),
        base: rhs.clone(),
        args: vec![name],
        is_command: false,
        is_open: true,
    };
    recognize_at(&Syn::new(named, arg.mark().clone()), env)
}

/// `$r := body`, or just the body.
fn assignment(syn: &Syn) -> Result<(Option<String>, &Syn), Error> {
    let Kind::Assign { lhs, rhs } = syn.kind() else {
        return Ok((None, syn));
    };
    match lhs.kind() {
        Kind::Specify { terms, params: None } => match terms.as_slice() {
            [term] if term.is_reference => Ok((Some(to_name(&term.name)), rhs)),
            _ => Err(fail("Expected a reference", lhs)),
        },
        _ => Err(fail("Expected a reference", lhs)),
    }
}

fn pivot(args: &[Syn], syn: &Syn, env: &Depth<'_>) -> Result<Verb, Error> {
    if args.is_empty() || args.len() > 3 {
        return Err(fail("Expected 1 to 3 arguments", syn));
    }
    let index = |at: usize, default: i64| match args.get(at) {
        None => Ok(default),
        Some(arg) => whole(arg).ok_or_else(|| fail("Expected an integer", arg)),
    };
    Ok(Verb::Pivot(recognize_at(&args[0], env)?, index(1, -2)?, index(2, -1)?))
}

fn whole(syn: &Syn) -> Option<i64> {
    match syn.kind() {
        Kind::Integer { text } => text.parse().ok(),
        Kind::Prefix { symbol: "-", arm } => whole(arm).map(|n| -n),
        Kind::Prefix { symbol: "+", arm } | Kind::Group { arm } => whole(arm),
        _ => None,
    }
}

impl Command {
    /// Where errors at run time are marked: the name of the command, or the start of a fetch.
    pub fn mark(&self) -> &Mark {
        &self.0.mark
    }

    /// The query of the command.
    pub fn syn(&self) -> &Syn {
        &self.0.syn
    }

    /// The commands this one runs, in turn, each with the references that it waits for; `profile`
    /// is asked for that of a record that is taken apart.
    pub(crate) fn parts(
        &self,
        pending: &Pending,
        profile: impl FnOnce(&Command) -> Option<Profile>,
    ) -> Vec<(&Command, Pending)> {
        match &self.0.verb {
            Verb::Skip | Verb::Fetch | Verb::Truncate(_) => Vec::new(),
            Verb::Format(_, c)
            | Verb::Sql(c)
            | Verb::Describe(c)
            | Verb::Pivot(c, ..)
            | Verb::Gateway(_, c)
            | Verb::Meta(c)
            | Verb::Etl(_, c)
            | Verb::Same(c) => vec![(c, pending.clone())],
            Verb::Do(steps) => {
                let mut pending = pending.clone();
                let mut parts = Vec::with_capacity(steps.len());
                for (reference, command) in steps {
                    parts.push((command, pending.clone()));
                    if let Some(reference) = reference {
                        pending = pending.and(reference);
                    }
                }
                parts
            }
            Verb::If(arms, otherwise) => {
                let parts = arms.iter().flat_map(|(test, then)| [test, then]).chain(otherwise);
                parts.map(|part| (part, pending.clone())).collect()
            }
            Verb::For(reference, items, body) => {
                vec![(items, pending.clone()), (body, pending.and(reference))]
            }
            Verb::With(record, body) => {
                let fields = pending.and_fields(profile(record).as_ref());
                vec![(record, pending.clone()), (body, fields)]
            }
        }
    }

    /// Whether it is no command that is named, but a query.
    pub(crate) fn is_fetch(&self) -> bool {
        matches!(self.0.verb, Verb::Fetch)
    }

    /// The name of the gateway whose catalog the parts are compiled with.
    pub(crate) fn gateway(&self) -> Option<&str> {
        match &self.0.verb {
            Verb::Gateway(name, _) => Some(name),
            _ => None,
        }
    }

    /// Whether the parts are compiled with the catalog's own catalog.
    pub(crate) fn is_meta(&self) -> bool {
        matches!(self.0.verb, Verb::Meta(_))
    }

    /// Compiles the command.
    ///
    /// # Errors
    /// As `compile`.
    pub fn compile(
        &self,
        catalog: &Catalog,
        env: &Env<'_>,
        params: &Params,
    ) -> Result<Plan, Error> {
        let mark = self.0.mark.clone();
        let part = |command: &Command| command.compile(catalog, env, params).map(Box::new);
        Ok(match &self.0.verb {
            Verb::Skip => Plan::Skip,
            Verb::Fetch => {
                Plan::Fetch(Arc::new(fetch::compile(&self.0.syn, mark, catalog, params)?))
            }
            Verb::Format(format, feed) => Plan::Format { format: *format, feed: part(feed)?, mark },
            Verb::Sql(feed) => Plan::Sql { feed: part(feed)?, mark },
            Verb::Describe(feed) => Plan::Describe { feed: part(feed)?, mark },
            Verb::Pivot(feed, on, by) => Plan::Pivot { feed: part(feed)?, on: *on, by: *by, mark },
            Verb::Same(inner) => return inner.compile(catalog, env, params),
            Verb::Gateway(name, inner) => {
                let catalog = env.gateways.catalog(name)?;
                let plan = Box::new(inner.compile(&catalog, env, params)?);
                Plan::Gateway { name: name.clone(), plan, mark }
            }
            Verb::Meta(inner) => {
                let plan = Box::new(inner.compile(catalog.meta(), env, params)?);
                Plan::Meta { plan, mark }
            }
            Verb::Etl(..) | Verb::Truncate(_) if catalog.is_given() => {
                let error = Error::of(error::Kind::Permission, "No write permissions");
                return Err(error.at(Stage::Processing, &mark));
            }
            Verb::Etl(kind, feed) => {
                let feed = part(feed)?;
                let target = match feed.profile() {
                    Some(profile) => Some(
                        etl::resolve(*kind, &profile, catalog)
                            .map_err(|error| error.at(Stage::Processing, &mark))?,
                    ),
                    None => None,
                };
                Plan::Etl(EtlPlan { kind: *kind, feed, target, mark })
            }
            Verb::Truncate(name) => etl::truncate(name, mark, &self.0.syn, catalog)?,
            Verb::Do(steps) => {
                let step = |(reference, command): &(Option<String>, Command)| Step {
                    reference: reference.clone(),
                    command: command.clone(),
                };
                Plan::Do { steps: steps.iter().map(step).collect(), mark }
            }
            Verb::If(arms, otherwise) => {
                Plan::If { arms: arms.clone(), otherwise: otherwise.clone(), mark }
            }
            Verb::For(reference, items, body) => Plan::For {
                reference: reference.clone(),
                items: items.clone(),
                body: body.clone(),
                mark,
            },
            Verb::With(record, body) => {
                Plan::With { record: record.clone(), body: body.clone(), mark }
            }
        })
    }
}
