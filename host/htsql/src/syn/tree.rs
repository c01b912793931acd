//! The syntax tree: what the text says, before any name is looked up.
//!
//! Nodes are shared and immutable; each knows the span of all tokens it was made of. `Debug`
//! prints the tree one node a line (the `syn` lens), `Display` prints it back as a query.

use std::fmt;
use std::sync::Arc;

use crate::error::Mark;

/// A syntax node.
#[derive(Clone)]
pub struct Syn(Arc<Node>);

struct Node {
    kind: Kind,
    mark: Mark,
    height: u32,
    nesting: u32,
}

/// The forms of syntax. Names are as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A lone `/`.
    Skip,
    /// `lhs := rhs`; `lhs` is a `Specify`.
    Assign {
        lhs: Syn,
        rhs: Syn,
    },
    /// `a.$b(c, $d)` on the left of `:=`.
    Specify {
        terms: Vec<Term>,
        params: Option<Vec<Term>>,
    },
    /// `name(args)`.
    Function {
        name: String,
        args: Vec<Syn>,
    },
    /// `base :name args`, or `base /:name args` when it may be a command. `is_open`: the single
    /// argument has no parentheses.
    Pipe {
        name: String,
        base: Syn,
        args: Vec<Syn>,
        is_command: bool,
        is_open: bool,
    },
    /// An infix operator, by its symbol.
    Operator {
        symbol: &'static str,
        left: Syn,
        right: Syn,
    },
    /// `+x`, `-x`, `!x`.
    Prefix {
        symbol: &'static str,
        arm: Syn,
    },
    /// `base ? filter`.
    Filter {
        base: Syn,
        filter: Syn,
    },
    /// `base ^ kernel`.
    Project {
        base: Syn,
        kernel: Syn,
    },
    /// `origin -> target`.
    Link {
        origin: Syn,
        target: Syn,
    },
    /// `condition @ target`.
    Attach {
        condition: Syn,
        target: Syn,
    },
    /// `@ arm`.
    Detach {
        arm: Syn,
    },
    /// `/ arm`.
    Collect {
        arm: Syn,
    },
    /// `base+`, `base-`.
    Direct {
        is_descending: bool,
        base: Syn,
    },
    /// `base . arm`.
    Compose {
        base: Syn,
        arm: Syn,
    },
    /// `*` or `*N`; the digits as written.
    Unpack {
        index: Option<String>,
    },
    /// `^`.
    Lift,
    /// `(arm)`.
    Group {
        arm: Syn,
    },
    /// `base {record}`.
    Select {
        base: Syn,
        record: Syn,
    },
    /// `base [identity]`.
    Locate {
        base: Syn,
        identity: Syn,
    },
    /// `{items}`.
    Record {
        items: Vec<Syn>,
    },
    /// `()`, `(a,)`, `(a, b)`.
    List {
        items: Vec<Syn>,
    },
    /// `[a.b]`; `is_hard` for brackets, not for parentheses inside of brackets.
    Identity {
        labels: Vec<Syn>,
        is_hard: bool,
    },
    /// `$name`.
    Reference {
        name: String,
    },
    Ident {
        name: String,
    },
    String {
        text: String,
    },
    /// An unquoted label of an identity.
    Label {
        text: String,
    },
    Integer {
        text: String,
    },
    Decimal {
        text: String,
    },
    Float {
        text: String,
    },
}

/// A name on the left of `:=`, a reference when written with `$`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    pub name: String,
    pub is_reference: bool,
}

/// Trees lower than this are dropped node by node from the top.
const LOW: u32 = 100;

impl Drop for Node {
    /// Takes a tall tree apart without recursion: a long chain must not need a large stack.
    fn drop(&mut self) {
        if self.height < LOW {
            return;
        }
        let mut nodes: Vec<Syn> = self.kind.children().into_iter().cloned().collect();
        self.kind = Kind::Skip;
        while let Some(node) = nodes.pop() {
            if Arc::strong_count(&node.0) == 1 {
                // The children outlive the node in the list, so that dropping it goes no deeper.
                nodes.extend(node.kind().children().into_iter().cloned());
            }
        }
    }
}

impl Syn {
    pub(crate) fn new(kind: Kind, mark: Mark) -> Syn {
        let children = kind.children();
        let scopes = u32::try_from(kind.scopes()).unwrap_or(u32::MAX);
        let height = children.iter().map(|c| c.0.height).max().unwrap_or(0);
        let height = height.saturating_add(1).saturating_add(scopes);
        let nesting = match &kind {
            Kind::Operator { left, right, .. } => {
                let goes_on = matches!(left.kind(), Kind::Operator { .. });
                (left.nesting() + u32::from(!goes_on)).max(right.nesting() + 1)
            }
            _ => children.iter().map(|c| c.0.nesting).max().unwrap_or(0) + 1,
        };
        Syn(Arc::new(Node { kind, mark, height, nesting }))
    }

    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    pub fn mark(&self) -> &Mark {
        &self.0.mark
    }

    /// Levels of the tree below and including this node, each item that is a scope for those after
    /// it counted.
    pub(crate) fn height(&self) -> u32 {
        self.0.height
    }

    /// As `height`, with a chain of infix operators as one level.
    pub(crate) fn nesting(&self) -> u32 {
        self.0.nesting
    }

    /// Writes the tree, one node a line with two spaces of indentation a level.
    pub fn outline(&self) -> String {
        let mut out = String::new();
        outline(self, 0, &mut out);
        out
    }
}

fn outline(syn: &Syn, level: usize, out: &mut String) {
    let label = syn.kind().label();
    out.push_str(&"  ".repeat(level));
    out.push_str(&label);
    out.push_str(&format!(" @{}..{}\n", syn.mark().start, syn.mark().end));
    for child in syn.kind().children() {
        outline(child, level + 1, out);
    }
}

/// Trees are equal when they say the same, wherever it is written.
impl PartialEq for Syn {
    fn eq(&self, other: &Syn) -> bool {
        let (mut one, mut other) = (self, other);
        // Down a chain of operators by a loop: it may be long.
        while !Arc::ptr_eq(&one.0, &other.0) {
            match (one.kind(), other.kind()) {
                (
                    Kind::Operator { symbol: a, left: one_left, right: one_right },
                    Kind::Operator { symbol: b, left: other_left, right: other_right },
                ) if a == b && one_right == other_right => (one, other) = (one_left, other_left),
                (one, other) => return one == other,
            }
        }
        true
    }
}

impl fmt::Debug for Syn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl Kind {
    /// The nodes below, left to right.
    pub fn children(&self) -> Vec<&Syn> {
        match self {
            Kind::Assign { lhs: a, rhs: b }
            | Kind::Operator { left: a, right: b, .. }
            | Kind::Filter { base: a, filter: b }
            | Kind::Project { base: a, kernel: b }
            | Kind::Link { origin: a, target: b }
            | Kind::Attach { condition: a, target: b }
            | Kind::Compose { base: a, arm: b }
            | Kind::Select { base: a, record: b }
            | Kind::Locate { base: a, identity: b } => vec![a, b],
            Kind::Prefix { arm, .. }
            | Kind::Detach { arm }
            | Kind::Collect { arm }
            | Kind::Direct { base: arm, .. }
            | Kind::Group { arm } => vec![arm],
            Kind::Function { args, .. } => args.iter().collect(),
            Kind::Pipe { base, args, .. } => std::iter::once(base).chain(args).collect(),
            Kind::Record { items } | Kind::List { items } => items.iter().collect(),
            Kind::Identity { labels, .. } => labels.iter().collect(),
            Kind::Skip
            | Kind::Specify { .. }
            | Kind::Unpack { .. }
            | Kind::Lift
            | Kind::Reference { .. }
            | Kind::Ident { .. }
            | Kind::String { .. }
            | Kind::Label { .. }
            | Kind::Integer { .. }
            | Kind::Decimal { .. }
            | Kind::Float { .. } => Vec::new(),
        }
    }

    /// Items that are a scope for those after them.
    pub(super) fn scopes(&self) -> usize {
        let (Kind::Record { items }
        | Kind::List { items }
        | Kind::Function { args: items, .. }
        | Kind::Pipe { args: items, .. }) = self
        else {
            return 0;
        };
        let is_scope =
            |item: &&Syn| matches!(item.kind(), Kind::Assign { .. } | Kind::Direct { .. });
        items.iter().filter(is_scope).count()
    }

    /// The name of the form with what the node itself says.
    fn label(&self) -> String {
        match self {
            Kind::Skip => "skip".into(),
            Kind::Assign { .. } => "assign".into(),
            Kind::Specify { terms, params } => {
                let show = |terms: &[Term], sep: &str| {
                    let terms: Vec<String> = terms
                        .iter()
                        .map(|t| format!("{}{}", if t.is_reference { "$" } else { "" }, t.name))
                        .collect();
                    terms.join(sep)
                };
                let params = params.as_ref().map(|p| format!("({})", show(p, ", ")));
                format!("specify {}{}", show(terms, "."), params.unwrap_or_default())
            }
            Kind::Function { name, .. } => format!("function {name}"),
            Kind::Pipe { name, is_command, .. } => {
                format!("pipe {}{name}", if *is_command { "/:" } else { ":" })
            }
            Kind::Operator { symbol, .. } => format!("operator {symbol}"),
            Kind::Prefix { symbol, .. } => format!("prefix {symbol}"),
            Kind::Filter { .. } => "filter".into(),
            Kind::Project { .. } => "project".into(),
            Kind::Link { .. } => "link".into(),
            Kind::Attach { .. } => "attach".into(),
            Kind::Detach { .. } => "detach".into(),
            Kind::Collect { .. } => "collect".into(),
            Kind::Direct { is_descending, .. } => {
                format!("direct {}", if *is_descending { "-" } else { "+" })
            }
            Kind::Compose { .. } => "compose".into(),
            Kind::Unpack { index } => format!("unpack {}", index.as_deref().unwrap_or("*")),
            Kind::Lift => "lift".into(),
            Kind::Group { .. } => "group".into(),
            Kind::Select { .. } => "select".into(),
            Kind::Locate { .. } => "locate".into(),
            Kind::Record { .. } => "record".into(),
            Kind::List { .. } => "list".into(),
            Kind::Identity { is_hard, .. } => {
                if *is_hard {
                    "identity []".into()
                } else {
                    "identity ()".into()
                }
            }
            Kind::Reference { name } => format!("reference ${name}"),
            Kind::Ident { name } => format!("identifier {name}"),
            Kind::String { text } => format!("string {text:?}"),
            Kind::Label { text } => format!("label {text}"),
            Kind::Integer { text } => format!("integer {text}"),
            Kind::Decimal { text } => format!("decimal {text}"),
            Kind::Float { text } => format!("float {text}"),
        }
    }
}
