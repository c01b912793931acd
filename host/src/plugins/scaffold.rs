//! Writes the crate of a new plugin: one worker, a test of it, and how to put it in service.
//!
//! The crate depends on the SDK by path and is a workspace of its own, so that it builds wherever it
//! lies. The SDK is found beside the binary (`sdk/plugin-api` of a built tree), or in the source
//! checkout that the binary was built in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rex_transport::QueueName;

const MANIFEST: &str = r#"[package]
name = "{name}"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
rex-plugin-api = { path = {sdk} }

# A workspace of its own, wherever it lies.
[workspace]
"#;

const SOURCE: &str = r#"//! A plugin for rex-host with one worker, `{worker}`.

use rex_plugin_api::{Context, Payload, Result, Worker, export_plugin};

#[derive(Default)]
struct {type};

impl Worker for {type} {
    fn process(&mut self, payload: &Payload, ctx: &Context) -> Result<()> {
        let name = payload.text("name")?;
        ctx.info(format!("greeting {name}"));
        println!("Hello, {name}!");
        Ok(())
    }
}

export_plugin! { workers: { "{worker}" => {type} } }

#[cfg(test)]
mod tests {
    use rex_plugin_api::serde_json::json;
    use rex_plugin_api::testing;

    use super::{type};

    #[test]
    fn greets_by_name() {
        let run = testing::run(&mut {type}, json!({"name": "Ada"}));
        assert!(run.result.is_ok());
        assert_eq!(run.logs, ["INFO greeting Ada"]);
    }

    #[test]
    fn fails_without_a_name() {
        assert!(testing::run(&mut {type}, json!({})).result.is_err());
    }
}
"#;

const README: &str = r#"# {name}

A plugin for rex-host with one worker, `{worker}`.

    cargo test
    cargo build --release
    rex-host plugin check target/release/lib{name}.so

To put it in service, copy it into the host's plugin directory, give it a queue in the settings,
and have the host read both:

    cp target/release/lib{name}.so PLUGINS/{name}.so

    asynctask_workers:
      {name}: {worker}

    rex-host reload
    rex-host submit {name} '{"name": "Ada"}'

What a worker may do is told by the documentation of rex-plugin-api: `cargo doc --open`.
"#;

const IGNORED: &str = "/target\n";

#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    #[error("`{0}` is no name for a plugin")]
    Name(String),
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    #[error(
        "the plugin SDK is neither beside this binary nor in the checkout that it was built in"
    )]
    NoSdk,
    #[error("{} is no plugin SDK: it has no Cargo.toml of rex-plugin-api", .0.display())]
    NotSdk(PathBuf),
    #[error("cannot write {}: {}", .0.display(), .1)]
    Write(PathBuf, #[source] io::Error),
}

impl ScaffoldError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ScaffoldError::Name(_) => Some(
                "use two or more small letters, digits and single `_`, a letter first, and no \
                 word that means something in Rust",
            ),
            ScaffoldError::Exists(_) => Some("choose another name, or remove it"),
            ScaffoldError::NoSdk | ScaffoldError::NotSdk(_) => {
                Some("name the directory of rex-plugin-api's source with --sdk DIR")
            }
            ScaffoldError::Write(..) => None,
        }
    }
}

/// What was written.
pub struct Scaffold {
    pub dir: PathBuf,
    pub worker: String,
}

/// Writes the crate `name` into a new directory of that name below `parent`.
///
/// # Errors
/// When the name is of no use, the directory exists, or it cannot be written; nothing is left then.
pub fn write(parent: &Path, name: &str, sdk: &Path) -> Result<Scaffold, ScaffoldError> {
    if !is_crate_name(name) {
        return Err(ScaffoldError::Name(name.to_owned()));
    }
    let sdk = fs::canonicalize(sdk).map_err(|_| ScaffoldError::NotSdk(sdk.to_owned()))?;
    if !is_sdk(&sdk) {
        return Err(ScaffoldError::NotSdk(sdk));
    }
    let worker = if name.ends_with("_worker") { name.to_owned() } else { format!("{name}_worker") };
    let dir = parent.join(name);
    let failed = |error| ScaffoldError::Write(dir.clone(), error);
    fs::create_dir(&dir).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => ScaffoldError::Exists(dir.clone()),
        _ => failed(error),
    })?;
    let fill = |text: &str| {
        text.replace("{name}", name)
            .replace("{worker}", &worker)
            .replace("{type}", &type_name(&worker))
            .replace("{sdk}", &toml_string(&sdk))
    };
    // Of these, the greeting's own braces are the author's.
    let source = SOURCE.replace("{name}!", "\u{1}!").replace("greeting {name}", "greeting \u{1}");
    let source = fill(&source).replace('\u{1}', "{name}");
    let files = [
        ("Cargo.toml", fill(MANIFEST)),
        ("README.md", fill(README)),
        (".gitignore", IGNORED.to_owned()),
        ("src/lib.rs", source),
    ];
    let written = fs::create_dir(dir.join("src"))
        .and_then(|()| files.iter().try_for_each(|(name, text)| fs::write(dir.join(name), text)));
    if let Err(error) = written {
        // Half a crate is of no use; the directory is ours.
        let _ = fs::remove_dir_all(&dir);
        return Err(failed(error));
    }
    Ok(Scaffold { dir, worker })
}

/// The SDK that belongs to the binary `exe`.
///
/// # Errors
/// When there is none.
pub fn find_sdk(exe: &Path) -> Result<PathBuf, ScaffoldError> {
    let exe = fs::canonicalize(exe).unwrap_or_else(|_| exe.to_owned());
    let beside = exe.ancestors().nth(2).map(|tree| tree.join("sdk/plugin-api"));
    let in_checkout = exe.ancestors().skip(1).map(|dir| dir.join("plugin-api"));
    beside.into_iter().chain(in_checkout).find(|sdk| is_sdk(sdk)).ok_or(ScaffoldError::NoSdk)
}

fn is_sdk(dir: &Path) -> bool {
    fs::read_to_string(dir.join("Cargo.toml"))
        .is_ok_and(|text| text.lines().any(|line| line.trim() == r#"name = "rex-plugin-api""#))
}

/// Rust's keywords, the ones to come too, and what cargo does not take for a crate's name.
const TAKEN: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
    "rex_plugin_api",
];

/// The name is a queue's too, that of the first task.
fn is_crate_name(name: &str) -> bool {
    name.len() <= 64 && QueueName::parse(name).is_ok() && !TAKEN.contains(&name)
}

/// `csv_import` as a type: `CsvImport`.
fn type_name(name: &str) -> String {
    name.split('_')
        .flat_map(|word| {
            let mut letters = word.chars();
            let first = letters.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(letters)
        })
        .collect()
}

/// A path as TOML writes it.
fn toml_string(path: &Path) -> String {
    // JSON's strings are TOML's, but for the solidus that serde_json does not escape anyway.
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    use super::{is_crate_name, type_name};

    #[test]
    fn names() {
        for good in ["ab", "hello", "csv_import", "x86"] {
            assert!(is_crate_name(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "a__b",
            "1a",
            "_a",
            "Hello",
            "csv-import",
            "a b",
            "../a",
            "fn",
            "test",
            "ä",
            "a_",
            "std",
        ] {
            assert!(!is_crate_name(bad), "{bad}");
        }
        assert!(!is_crate_name(&"a".repeat(65)));
        assert_eq!(type_name("csv_import_worker"), "CsvImportWorker");
    }
}
