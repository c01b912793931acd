//! The tags that bring something in from elsewhere: `!include`, `!include/str`, `!setting`.

use std::path::{Path, PathBuf};

use super::build::no_constructor;
use super::{Kind, Loader, Node, Scalar, join, read};
use crate::Error;

/// Includes within includes beyond this are taken for a loop.
const MAX_DEPTH: usize = 8;
/// What opening a file weighs beside its content, so that not even empty ones are read without end.
const FILE_WEIGHT: usize = 16 << 10;

impl Loader<'_> {
    pub(super) fn tag(&self, tag: &str, node: Node, base: Option<&Path>) -> Result<Node, Error> {
        match tag {
            "!include" => self.include(&node, base),
            "!include/str" => self.include_text(&node, base),
            "!setting" => self.setting(&node),
            other => Err(node.mark.broken(no_constructor(other))),
        }
    }

    /// `!include file` or `!include file#/key/key`: another document, or a part of it.
    fn include(&self, node: &Node, base: Option<&Path>) -> Result<Node, Error> {
        let (path, pointer) = self.target(node, base)?;
        if self.depth >= MAX_DEPTH {
            return Err(node.mark.broken(format!("includes nested deeper than {MAX_DEPTH}")));
        }
        self.weigh(FILE_WEIGHT, &node.mark)?;
        let text = read(&path).map_err(|_| unable_to_open(node, &path))?;
        let mark = Box::new(node.mark.clone());
        let name = path.display().to_string();
        self.deeper()
            .text(&text, &name, path.parent())
            .and_then(|document| select(document, pointer.as_deref().unwrap_or("")))
            .map(|part| Node { included_at: Some(mark.clone()), ..part })
            .map_err(|error| error.guard("While processing !include directive:", mark))
    }

    /// `!include/str file`: the raw text of a file.
    fn include_text(&self, node: &Node, base: Option<&Path>) -> Result<Node, Error> {
        let (path, pointer) = self.target(node, base)?;
        if let Some(pointer) = pointer {
            return Err(node.mark.broken(format!("unexpected pointer: #{pointer}")));
        }
        let text = read(&path).map_err(|_| unable_to_open(node, &path))?;
        self.weigh(FILE_WEIGHT + text.len(), &node.mark)?;
        let kind = Kind::Scalar(text, Scalar::Str);
        Ok(Node { mark: node.mark.clone(), kind, included_at: None })
    }

    /// `!setting name`: the value of a setting of the application.
    fn setting(&self, node: &Node) -> Result<Node, Error> {
        let name = text_of(node, "a setting name")?;
        let Some(lookup) = self.lookup else {
            let text = "cannot read a setting value without an active Rex application";
            return Err(node.mark.broken(text));
        };
        let value = lookup(name).ok_or_else(|| {
            Error::with("Got unknown setting:", name).guard("While parsing:", &node.mark)
        })?;
        Ok(Node::of_value(&value, &node.mark))
    }

    /// The file that a tag names, and what follows a `#`.
    fn target(&self, node: &Node, base: Option<&Path>) -> Result<(PathBuf, Option<String>), Error> {
        let text = text_of(node, "a file name")?;
        let (path, pointer) = match text.split_once('#') {
            Some((path, pointer)) => (path, Some(pointer.to_owned())),
            None => (text, None),
        };
        let path = path.replace("{cwd}", &self.cwd.display().to_string());
        let path = match base {
            _ if path.starts_with('/') => PathBuf::from(path),
            Some(base) => join(base, &path),
            None => {
                let text = format!("unable to resolve relative path: {path}");
                return Err(node.mark.broken(text));
            }
        };
        Ok((path, pointer))
    }
}

fn unable_to_open(node: &Node, path: &Path) -> Error {
    node.mark.broken(format!("unable to open file: {}", path.display()))
}

fn text_of<'a>(node: &'a Node, what: &str) -> Result<&'a str, Error> {
    let found = match &node.kind {
        Kind::Scalar(text, _) if !text.is_empty() => return Ok(text),
        Kind::Scalar(..) => "an empty node",
        Kind::Seq(_) => "sequence",
        Kind::Map(_) => "mapping",
    };
    Err(node.mark.broken(format!("expected {what}, but found {found}")))
}

/// The part of a document that `/key/key` leads to.
fn select(document: Node, pointer: &str) -> Result<Node, Error> {
    let mut node = document;
    for step in pointer.split('/').filter(|step| !step.is_empty()) {
        let mark = node.mark.clone();
        let Kind::Map(pairs) = node.kind else {
            return Err(Error::new("Expected a mapping")
                .guard("Got:", node.got())
                .guard("While parsing:", mark));
        };
        let found = pairs
            .into_iter()
            .find(|(key, _)| matches!(&key.kind, Kind::Scalar(text, _) if text == step));
        node = match found {
            Some((_, value)) => value,
            None => {
                return Err(Error::with("Expected a mapping with a key:", step)
                    .guard("While parsing:", mark));
            }
        };
    }
    Ok(node)
}
