//! Bindings: typed nodes that are scopes for lookups at the same time.
//!
//! A binding has a base (the scope it was made in, or the binding it decorates), and lookups that
//! it does not answer itself go there. `lookup` knows what each kind answers, `lower` turns
//! bindings into rows and values.

use std::collections::HashSet;
use std::fmt::Write;
use std::rc::Rc;

use crate::catalog::{Catalog, Join, TableId};
use crate::domain::Domain;
use crate::func::{Aggregate, Op};
use crate::show;
use crate::syn::Syn;
use crate::syn::tree::Term;
use crate::value::Value;

pub(crate) type Bound = Rc<Binding>;

/// A bound expression or flow.
pub(crate) struct Binding {
    pub(crate) kind: Kind,
    pub(crate) base: Option<Bound>,
    pub(crate) domain: Domain,
    /// What it was made from: its mark, name and header.
    pub(crate) syn: Syn,
}

/// What a binding stands for.
pub(crate) enum Kind {
    // Flows.
    Root,
    /// The home scope: one row for each row of the base.
    Home,
    /// All rows of a table. The title, if metadata gives one.
    Table(TableId, Option<String>),
    /// A link from the base.
    Chain(Join, Option<String>),
    /// A column of the base, with the link it stands for.
    Column {
        column: usize,
        link: Option<Bound>,
        title: Option<String>,
    },
    Quotient {
        seed: Bound,
        kernels: Vec<Bound>,
    },
    Kernel {
        index: usize,
    },
    Complement {
        quotient: Bound,
    },
    /// `moniker(seed)`.
    Cover {
        seed: Bound,
    },
    Fork {
        kernels: Vec<Bound>,
    },
    /// Rows of the seed whose images equal those of the base, or for which the condition holds.
    Attach {
        seed: Bound,
        images: Vec<(Bound, Bound)>,
        condition: Option<Bound>,
    },
    /// `top(seed, limit, offset)`; no limit is a single row.
    Clip {
        seed: Bound,
        limit: Option<u64>,
        offset: u64,
    },
    /// `seed[…]`; pairs of an identity leaf of the seed and its value.
    Locate {
        seed: Bound,
        leaves: Vec<(Bound, Bound)>,
    },
    Sieve(Bound),
    Sort {
        order: Vec<Bound>,
        limit: Option<u64>,
        offset: Option<u64>,
    },
    // Values.
    Literal {
        value: Value,
        is_param: bool,
    },
    Identity {
        elements: Vec<Bound>,
    },
    /// To the domain of the binding; an implicit cast keeps the name and header of its base.
    Cast {
        base: Bound,
        is_implicit: bool,
    },
    Formula {
        op: Op,
        args: Vec<Bound>,
    },
    /// An aggregate over `arg` for the rows of the base. `flow`: whose rows are aggregated, when
    /// that was written as a selector.
    Aggregate {
        op: Aggregate,
        arg: Bound,
        flow: Option<Bound>,
        delimiter: Option<Bound>,
    },
    /// `/seed`.
    Collect {
        seed: Bound,
    },
    // Decorations: all lookups go to the base unless said otherwise.
    /// `{…}`: fields, each with how it is expanded by `*`.
    Selection {
        elements: Vec<Bound>,
    },
    /// `*`: fields that are spliced into the selection around.
    Wild {
        elements: Vec<Bound>,
    },
    /// The base (a value) shown in the scope `scope`.
    Rescope {
        scope: Bound,
    },
    Direction {
        is_descending: bool,
    },
    Title(String),
    /// Replaces the syntax.
    Alias,
    Group,
    Define {
        name: String,
        is_reference: bool,
        arity: Option<usize>,
        recipe: Rc<Recipe>,
    },
    /// Attributes and references are looked up in the target.
    Reroute {
        target: Bound,
    },
    /// References are looked up in the target.
    ReferenceReroute {
        target: Bound,
    },
    /// `a := b` where it makes a definition.
    Assign {
        terms: Vec<Term>,
        params: Option<Vec<Term>>,
        body: Syn,
    },
    Void,
}

/// How a name becomes a binding.
#[derive(Clone)]
pub(crate) enum Recipe {
    Literal {
        domain: Domain,
        value: Value,
        is_param: bool,
    },
    Selection(Vec<Recipe>),
    Table(TableId, Option<String>),
    Chain(Join, Option<String>),
    Column {
        column: usize,
        link: Option<Box<Recipe>>,
        title: Option<String>,
    },
    Kernel(Bound, usize),
    Complement(Bound),
    Identity(Vec<Recipe>),
    /// One after the other, each in the scope of the one before.
    Sequence(Vec<Recipe>),
    /// A definition: `body` in place of the name, looked up where it was defined.
    Substitution {
        base: Bound,
        terms: Vec<Term>,
        params: Option<Vec<Term>>,
        body: Syn,
    },
    Bound(Bound),
    /// Keeps the syntax of the use.
    Closed(Box<Recipe>),
    /// A field of a record under its name.
    Named(String, Box<Recipe>),
    Ambiguous(Vec<String>),
}

impl Binding {
    /// The children that are parts of the value or flow, for printing.
    fn parts(&self) -> Vec<(&'static str, &Bound)> {
        let mut parts: Vec<(&'static str, &Bound)> = Vec::new();
        match &self.kind {
            Kind::Quotient { seed, kernels } => {
                parts.push(("seed", seed));
                parts.extend(kernels.iter().map(|k| ("kernel", k)));
            }
            Kind::Fork { kernels } => parts.extend(kernels.iter().map(|k| ("kernel", k))),
            Kind::Cover { seed } | Kind::Clip { seed, .. } | Kind::Collect { seed } => {
                parts.push(("seed", seed));
            }
            Kind::Attach { seed, images, condition } => {
                parts.push(("seed", seed));
                for (origin, target) in images {
                    parts.push(("origin", origin));
                    parts.push(("target", target));
                }
                parts.extend(condition.iter().map(|c| ("condition", c)));
            }
            Kind::Locate { seed, leaves } => {
                parts.push(("seed", seed));
                for (leaf, value) in leaves {
                    parts.push(("leaf", leaf));
                    parts.push(("value", value));
                }
            }
            Kind::Sieve(filter) => parts.push(("filter", filter)),
            Kind::Sort { order, .. } => parts.extend(order.iter().map(|o| ("by", o))),
            Kind::Identity { elements }
            | Kind::Selection { elements }
            | Kind::Wild { elements } => {
                parts.extend(elements.iter().map(|e| ("field", e)));
            }
            Kind::Cast { base, .. } => parts.push(("of", base)),
            Kind::Formula { args, .. } => parts.extend(args.iter().map(|a| ("arg", a))),
            Kind::Aggregate { arg, flow, delimiter, .. } => {
                parts.push(("arg", arg));
                parts.extend(flow.iter().map(|f| ("over", f)));
                parts.extend(delimiter.iter().map(|d| ("delimiter", d)));
            }
            _ => {}
        }
        parts
    }

    /// The table whose rows those of the binding are.
    fn table(&self, catalog: &Catalog) -> Option<TableId> {
        match &self.kind {
            Kind::Table(table, _) => Some(*table),
            Kind::Chain(join, _) => Some(catalog.target(*join)),
            Kind::Column { link, .. } => link.as_ref()?.table(catalog),
            Kind::Complement { quotient } => match &quotient.kind {
                Kind::Quotient { seed, .. } => seed.table(catalog),
                _ => quotient.base.as_ref()?.table(catalog),
            },
            Kind::Cover { seed }
            | Kind::Attach { seed, .. }
            | Kind::Clip { seed, .. }
            | Kind::Locate { seed, .. } => seed.table(catalog),
            _ => self.base.as_ref()?.table(catalog),
        }
    }

    /// The kind with its own attributes, on one line.
    fn label(&self, catalog: &Catalog) -> String {
        match &self.kind {
            Kind::Root => "root".into(),
            Kind::Home => "home".into(),
            Kind::Table(id, _) => format!("table {}", catalog.table(*id).name),
            Kind::Chain(join, _) => {
                let target = &catalog.table(catalog.target(*join)).name;
                format!("link to {target} by {}", catalog.key(*join).name)
            }
            Kind::Column { column, .. } => {
                let table = self.base.as_ref().and_then(|base| base.table(catalog));
                let name = table.map(|table| catalog.column(table, *column).name.as_str());
                format!("column {}", name.unwrap_or("?"))
            }
            Kind::Quotient { .. } => "quotient".into(),
            Kind::Kernel { index, .. } => format!("kernel {}", index + 1),
            Kind::Complement { .. } => "complement".into(),
            Kind::Cover { .. } => "moniker".into(),
            Kind::Fork { .. } => "fork".into(),
            Kind::Attach { .. } => "attach".into(),
            Kind::Clip { limit, offset, .. } => format!("top{}", show::cut(*limit, Some(*offset))),
            Kind::Locate { .. } => "locate".into(),
            Kind::Sieve(_) => "sieve".into(),
            Kind::Sort { limit, offset, .. } => format!("sort{}", show::cut(*limit, *offset)),
            Kind::Literal { value, .. } => {
                format!("literal {}", crate::literal::dump(&self.domain, value))
            }
            Kind::Identity { .. } => "identity".into(),
            Kind::Cast { .. } => "cast".into(),
            Kind::Formula { op, args } => {
                let places: Vec<String> = (1..=args.len()).map(|n| format!("#{n}")).collect();
                format!("formula {}", show::operation(*op, &places))
            }
            Kind::Aggregate { op, .. } => format!("aggregate {}", show::aggregate(*op)),
            Kind::Collect { .. } => "collect".into(),
            Kind::Selection { .. } => "selection".into(),
            Kind::Wild { .. } => "wildcard".into(),
            Kind::Rescope { .. } => "rescope".into(),
            Kind::Direction { is_descending: true } => "direction -".into(),
            Kind::Direction { .. } => "direction +".into(),
            Kind::Title(title) => format!("title {title:?}"),
            Kind::Alias => "alias".into(),
            Kind::Group => "group".into(),
            Kind::Define { name, is_reference, .. } => {
                format!("define {}{name}", if *is_reference { "$" } else { "" })
            }
            Kind::Reroute { .. } => "reroute".into(),
            Kind::ReferenceReroute { .. } => "reroute references".into(),
            Kind::Assign { .. } => "assign".into(),
            Kind::Void => "void".into(),
        }
    }

    /// Whether the base is what the binding decorates, not just the scope it was made in.
    pub(crate) fn is_decoration(&self) -> bool {
        matches!(
            self.kind,
            Kind::Sieve(_)
                | Kind::Sort { .. }
                | Kind::Selection { .. }
                | Kind::Wild { .. }
                | Kind::Rescope { .. }
                | Kind::Direction { .. }
                | Kind::Title(_)
                | Kind::Alias
                | Kind::Group
                | Kind::Define { .. }
                | Kind::Reroute { .. }
                | Kind::ReferenceReroute { .. }
        )
    }
}

/// Prints a binding as an outline, one node a line; names and definitions are left out. A subtree
/// that was printed before is not printed again.
pub(crate) fn outline(bound: &Bound, catalog: &Catalog) -> String {
    let mut out = String::new();
    let mut seen = HashSet::new();
    write(bound, ("", 0), catalog, &mut out, &mut seen);
    out
}

fn write(
    bound: &Bound,
    (role, level): (&str, usize),
    catalog: &Catalog,
    out: &mut String,
    seen: &mut HashSet<*const Binding>,
) {
    let silent = matches!(
        bound.kind,
        Kind::Alias
            | Kind::Group
            | Kind::Define { .. }
            | Kind::Reroute { .. }
            | Kind::ReferenceReroute { .. }
    );
    if silent && let Some(base) = &bound.base {
        return write(base, (role, level), catalog, out, seen);
    }
    let pointer = Rc::as_ptr(bound);
    let repeated = !seen.insert(pointer);
    let _ = writeln!(
        out,
        "{}{role}{}{} : {} `{}`{}",
        "  ".repeat(level),
        if role.is_empty() { "" } else { " " },
        bound.label(catalog),
        bound.domain,
        bound.syn,
        if repeated { " (above)" } else { "" },
    );
    if repeated {
        return;
    }
    for (role, part) in bound.parts() {
        write(part, (role, level + 1), catalog, out, seen);
    }
    match (&bound.base, &bound.kind) {
        (_, Kind::Literal { .. } | Kind::Formula { .. } | Kind::Collect { .. }) | (None, _) => {}
        (Some(base), _) => write(base, ("base", level + 1), catalog, out, seen),
    }
}
