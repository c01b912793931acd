//! From parser events to nodes: anchors, aliases, tags, and the limits on all of them.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{Kind, Mark, Node, Scalar};
use crate::Error;

/// Deeper documents are refused: nodes are walked and dropped by recursion.
const MAX_DEPTH: usize = 100;
/// What a node weighs beside its text.
const NODE_WEIGHT: usize = 64;

/// Resolves a tag that starts with a single `!`, such as `!include`.
pub(super) type Resolve<'a> = &'a dyn Fn(&str, Node) -> Result<Node, Error>;

/// Counts the weight of what is read, and refuses when it is too much.
pub(super) type Weigh<'a> = &'a dyn Fn(usize, &Mark) -> Result<(), Error>;

/// The only document of `text`; an empty scalar when there is none.
pub(super) fn document(
    text: &str,
    name: &str,
    weigh: Weigh<'_>,
    resolve: Resolve<'_>,
) -> Result<Node, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        file: name.into(),
        resolve,
        weigh,
        open: Vec::new(),
        anchors: HashMap::new(),
        weight: 0,
        root: None,
    };
    let mut parser = Parser::new_from_str(text);
    let mut last = Marker::new(0, 1, 0);
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| {
            let mark = builder.mark(error.marker());
            mark.broken(error.info())
        })?;
        last = span.start;
        builder.event(event, &span.start)?;
    }
    let empty = Node {
        mark: builder.mark(&last),
        kind: Kind::Scalar(String::new(), Scalar::Empty),
        included_at: None,
    };
    Ok(builder.root.unwrap_or(empty))
}

/// A collection that is not closed yet.
struct Open {
    mark: Mark,
    anchor: usize,
    tag: Option<String>,
    /// For a mapping: keys and values in turn.
    items: Vec<Node>,
    is_map: bool,
    weight_before: usize,
}

struct Builder<'a> {
    file: Arc<str>,
    resolve: Resolve<'a>,
    weigh: Weigh<'a>,
    open: Vec<Open>,
    /// By anchor: what it names and what that weighs.
    anchors: HashMap<usize, (Node, usize)>,
    /// Of this document so far; what an anchor names weighs the difference.
    weight: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn mark(&self, at: &Marker) -> Mark {
        Mark { file: self.file.clone(), line: at.line().max(1), column: at.col() + 1 }
    }

    fn event(&mut self, event: Event<'_>, at: &Marker) -> Result<(), Error> {
        let mark = self.mark(at);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => match &self.root {
                None => Ok(()),
                Some(root) => {
                    let Mark { file, line, column } = &root.mark;
                    Err(mark.broken(format!(
                        "expected a single document in the stream\n  in \"{file}\", line {line}, \
                         column {column}\nbut found another document"
                    )))
                }
            },
            Event::Alias(anchor) => {
                let Some((node, weight)) = self.anchors.get(&anchor).cloned() else {
                    return Err(mark.broken("found an alias inside what it stands for"));
                };
                self.weigh(weight, &mark)?;
                self.add(node);
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let before = self.weight;
                self.weigh(text.len() + NODE_WEIGHT, &mark)?;
                let tag = tag.as_deref().and_then(tag_name);
                let node = self.scalar(text.into_owned(), style, tag, mark)?;
                self.close(node, anchor, before)
            }
            Event::SequenceStart(anchor, tag) => self.start(mark, anchor, tag.as_deref(), false),
            Event::MappingStart(anchor, tag) => self.start(mark, anchor, tag.as_deref(), true),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let Open { mark, anchor, tag, items, is_map, weight_before } = open;
                let kind = if is_map { Kind::Map(pairs(items)) } else { Kind::Seq(items) };
                let node = self.tagged(tag, Node { mark, kind, included_at: None })?;
                self.close(node, anchor, weight_before)
            }
        }
    }

    fn start(
        &mut self,
        mark: Mark,
        anchor: usize,
        tag: Option<&Tag>,
        is_map: bool,
    ) -> Result<(), Error> {
        if self.open.len() >= MAX_DEPTH {
            return Err(mark.broken(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let weight_before = self.weight;
        self.weigh(NODE_WEIGHT, &mark)?;
        let tag = tag.and_then(tag_name);
        self.open.push(Open { mark, anchor, tag, items: Vec::new(), is_map, weight_before });
        Ok(())
    }

    fn scalar(
        &self,
        text: String,
        style: ScalarStyle,
        tag: Option<String>,
        mark: Mark,
    ) -> Result<Node, Error> {
        let plain = style == ScalarStyle::Plain;
        let read = match tag.as_deref().and_then(|tag| tag.strip_prefix("!!")) {
            Some(core) => Scalar::tagged(core, &text)
                .ok_or_else(|| mark.broken(no_constructor(&format!("tag:yaml.org,2002:{core}"))))?,
            None if plain && tag.as_deref() != Some("!") => Scalar::plain(&text),
            None => Scalar::Str,
        };
        let node = Node { mark, kind: Kind::Scalar(text, read), included_at: None };
        match tag {
            Some(tag) if !tag.starts_with("!!") => self.tagged(Some(tag), node),
            _ => Ok(node),
        }
    }

    fn tagged(&self, tag: Option<String>, node: Node) -> Result<Node, Error> {
        match (tag.as_deref(), &node.kind) {
            (None | Some("!"), _)
            | (Some("!!seq"), Kind::Seq(_))
            | (Some("!!map"), Kind::Map(_)) => Ok(node),
            (Some(tag), _) => match tag.strip_prefix("!!") {
                Some(core) => {
                    Err(node.mark.broken(no_constructor(&format!("tag:yaml.org,2002:{core}"))))
                }
                None => (self.resolve)(tag, node),
            },
        }
    }

    /// A finished node: known by its anchor from here on, and part of what is open.
    fn close(&mut self, node: Node, anchor: usize, weight_before: usize) -> Result<(), Error> {
        if anchor != 0 {
            let weight = self.weight - weight_before;
            // The anchor keeps a copy, which counts.
            self.weigh(weight, &node.mark)?;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        self.add(node);
        Ok(())
    }

    fn add(&mut self, node: Node) {
        match self.open.last_mut() {
            Some(open) => open.items.push(node),
            None => self.root = Some(node),
        }
    }

    fn weigh(&mut self, weight: usize, mark: &Mark) -> Result<(), Error> {
        self.weight = self.weight.saturating_add(weight);
        (self.weigh)(weight, mark)
    }
}

fn pairs(items: Vec<Node>) -> Vec<(Node, Node)> {
    let mut items = items.into_iter();
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    pairs
}

/// `!!int` for the core schema, the tag as written for others.
fn tag_name(tag: &Tag) -> Option<String> {
    match (tag.is_yaml_core_schema(), tag.handle.as_str()) {
        (true, _) => Some(format!("!!{}", tag.suffix)),
        (false, "") if tag.suffix.is_empty() => None,
        (false, handle) => Some(format!("{handle}{}", tag.suffix)),
    }
}

pub(super) fn no_constructor(tag: &str) -> String {
    format!("could not determine a constructor for the tag '{tag}'")
}
