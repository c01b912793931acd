//! YAML text as nodes that know where they stand. Reading decides structure, implicit types, tags
//! and includes; whether the content is what somebody expects is for [`crate::validate`].
//!
//! A document is bounded in every direction (file size, depth, what aliases expand to, includes
//! within includes), so that no file can exhaust the host.

mod build;
mod include;
mod scalar;

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value};

pub use scalar::Scalar;

use crate::Error;

/// Where something stands in a file; lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub file: Arc<str>,
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\", line {}", self.file, self.line)
    }
}

impl Mark {
    /// A broken document: `text` about this place, in the shape that the original's parser uses.
    pub(crate) fn broken(&self, text: impl fmt::Display) -> Error {
        Error::with(
            "Failed to parse a YAML document:",
            format!("{text}\n  in \"{}\", line {}, column {}", self.file, self.line, self.column),
        )
    }
}

/// A piece of a document.
#[derive(Debug, Clone)]
pub struct Node {
    pub mark: Mark,
    pub kind: Kind,
    /// The `!include` that brought this node in from another file.
    pub included_at: Option<Box<Mark>>,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub enum Kind {
    /// The text as written and what it was read as.
    Scalar(String, Scalar),
    Seq(Vec<Node>),
    /// Pairs in the order of the file; the same key may come twice.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The node as plain data, refusing what data cannot hold.
    ///
    /// # Errors
    /// A key that is there twice, or is no scalar.
    pub fn value(&self) -> Result<Value, Error> {
        let value = match &self.kind {
            Kind::Scalar(text, scalar) => return Ok(scalar.value(text)),
            Kind::Seq(items) => {
                items.iter().map(Node::value).collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            Kind::Map(pairs) => self.object(pairs).map(Value::Object),
        };
        value.map_err(|error| self.arrive(error))
    }

    fn object(&self, pairs: &[(Node, Node)]) -> Result<Map<String, Value>, Error> {
        let mut object = Map::new();
        for (key, node) in pairs {
            let name = key.name(self)?;
            if object.contains_key(&name) {
                return Err(self.duplicate(key));
            }
            object.insert(name, node.value()?);
        }
        Ok(object)
    }

    /// What this node is called as a key of `map` in plain data.
    ///
    /// # Errors
    /// It is no scalar.
    pub fn name(&self, map: &Node) -> Result<String, Error> {
        match &self.kind {
            Kind::Scalar(_, Scalar::Long(digits)) => Ok(digits.clone()),
            _ => Ok(key_text(&self.key(map)?)),
        }
    }

    /// This node as a key of `map`.
    pub(crate) fn key(&self, map: &Node) -> Result<Value, Error> {
        match &self.kind {
            Kind::Scalar(text, scalar) => Ok(scalar.value(text)),
            Kind::Seq(_) | Kind::Map(_) => {
                let of = if matches!(self.kind, Kind::Seq(_)) { "list" } else { "dict" };
                let what = format!("found an unacceptable key (unhashable type: '{of}')");
                Err(map.bad_mapping(&self.mark, &what))
            }
        }
    }

    pub(crate) fn duplicate(&self, key: &Node) -> Error {
        self.bad_mapping(&key.mark, "found a duplicate key")
    }

    fn bad_mapping(&self, key: &Mark, what: &str) -> Error {
        let Mark { file, line, column } = &self.mark;
        key.broken(format!(
            "while constructing a mapping\n  in \"{file}\", line {line}, column {column}\n{what}"
        ))
    }

    /// Adds to an error inside this node the include that the node came by.
    pub fn arrive(&self, error: Error) -> Error {
        match &self.included_at {
            Some(mark) => error.guard("While processing !include directive:", mark),
            None => error,
        }
    }

    /// How a person would name what is there: the text of a scalar, else its kind.
    pub(crate) fn got(&self) -> &str {
        match &self.kind {
            Kind::Scalar(text, _) => text,
            Kind::Seq(_) => "a sequence",
            Kind::Map(_) => "a mapping",
        }
    }

    /// Whether nothing was written here.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.kind, Kind::Scalar(_, Scalar::Empty))
    }

    /// A node that was not written but computed, standing where `mark` says.
    pub(crate) fn of_value(value: &Value, mark: &Mark) -> Node {
        let leaf = |text: String, scalar| Kind::Scalar(text, scalar);
        let kind = match value {
            Value::Null => leaf("null".into(), Scalar::Null),
            Value::Bool(b) => leaf(b.to_string(), Scalar::Bool(*b)),
            Value::Number(n) => leaf(
                n.to_string(),
                match n.as_f64() {
                    Some(x) if n.is_f64() => Scalar::Float(x),
                    _ => Scalar::Int(n.clone()),
                },
            ),
            Value::String(text) => leaf(text.clone(), Scalar::Str),
            Value::Array(items) => {
                Kind::Seq(items.iter().map(|item| Node::of_value(item, mark)).collect())
            }
            Value::Object(fields) => Kind::Map(
                fields
                    .iter()
                    .map(|(name, value)| {
                        let key = leaf(name.clone(), Scalar::Str);
                        let key = Node { mark: mark.clone(), kind: key, included_at: None };
                        (key, Node::of_value(value, mark))
                    })
                    .collect(),
            ),
        };
        Node { mark: mark.clone(), kind, included_at: None }
    }
}

/// A key of plain data, which has only text keys.
pub(crate) fn key_text(key: &Value) -> String {
    match key {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Gives the value of a setting to `!setting`; `None` when there is no such setting.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<Value>;

/// Reads documents; knows what tags may refer to.
#[derive(Clone)]
pub struct Loader<'a> {
    /// What `{cwd}` in an include stands for.
    pub cwd: &'a Path,
    /// Values for `!setting`; without one the tag is an error.
    pub lookup: Option<Lookup<'a>>,
    depth: usize,
    /// What all documents that this loader has read weigh together, includes and aliases written
    /// out: about a byte a byte.
    weight: Rc<Cell<usize>>,
}

/// More than this no loader reads: includes and aliases can multiply a small file without end.
const MAX_WEIGHT: usize = 64 << 20;

/// No settings file comes near this; a larger one is a mistake or an attack.
const MAX_FILE: u64 = 16 << 20;

impl<'a> Loader<'a> {
    pub fn new(cwd: &'a Path) -> Loader<'a> {
        Loader { cwd, lookup: None, depth: 0, weight: Rc::default() }
    }

    /// Reads the document in a file. An empty one is an empty scalar.
    ///
    /// # Errors
    /// The file cannot be read, or is no YAML.
    pub fn file(&self, path: &Path) -> Result<Node, Error> {
        let text = read(path).map_err(|why| {
            let path = path.display();
            Error::with("Failed to parse a YAML document:", format!("unable to open file: {path}"))
                .guard("Because of:", why)
        })?;
        self.text(&text, &path.display().to_string(), path.parent())
    }

    /// Reads the document in `text`, which errors call `name`; relative includes start at `base`.
    ///
    /// # Errors
    /// The text is no YAML, or a tag in it leads nowhere.
    pub fn text(&self, text: &str, name: &str, base: Option<&Path>) -> Result<Node, Error> {
        let weigh = |weight, mark: &Mark| self.weigh(weight, mark);
        build::document(text, name, &weigh, &|tag, node| self.tag(tag, node, base))
    }

    fn deeper(&self) -> Loader<'a> {
        Loader { depth: self.depth + 1, ..self.clone() }
    }

    fn weigh(&self, weight: usize, mark: &Mark) -> Result<(), Error> {
        let weight = self.weight.get().saturating_add(weight);
        self.weight.set(weight);
        match weight > MAX_WEIGHT {
            true => Err(mark.broken("the document is too large with all aliases written out")),
            false => Ok(()),
        }
    }
}

/// The text of a regular file of a sane size; else why not.
fn read(path: &Path) -> Result<String, String> {
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("not a regular file".into());
    }
    if meta.len() > MAX_FILE {
        return Err(format!("larger than {} MB", MAX_FILE >> 20));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// `path` from `base` unless it is absolute already.
fn join(base: &Path, path: &str) -> PathBuf {
    // `./x` and `x` are one file; errors show the shorter name.
    base.join(path.strip_prefix("./").unwrap_or(path))
}

#[cfg(test)]
mod tests;
