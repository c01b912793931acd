//! Whether this host can serve what a plugin says of itself.
//!
//! The rule for versions: another major API version is refused. A later minor one is accepted as
//! long as the host knows every operation that the plugin declares to need; what it uses beyond that
//! it must be ready to do without (the host answers `UNKNOWN_OP`). An earlier minor one is always
//! accepted: operations are added and never change.

use std::collections::HashSet;

use rex_plugin_api::ops::{API, ApiVersion, HOST_OPS, Manifest};

/// What a host offers to plugins.
#[derive(Debug, Clone, Copy)]
pub struct HostApi {
    pub version: ApiVersion,
    pub ops: &'static [u32],
}

impl HostApi {
    /// What this build offers.
    pub const THIS: HostApi = HostApi { version: API, ops: HOST_OPS };
}

/// Longer names would not fit a line of the log.
const MAX_NAME: usize = 100;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("is built for plugin API {plugin}; this host speaks {host}")]
    Major { plugin: ApiVersion, host: ApiVersion },
    #[error(
        "needs {}, which this host (plugin API {host}) does not offer; it is built against \
         plugin API {plugin}", operations(.ops)
    )]
    Needs { ops: Vec<u32>, plugin: ApiVersion, host: ApiVersion },
    #[error("describes itself wrongly: {0}")]
    Content(String),
}

impl ManifestError {
    pub fn hint(&self) -> String {
        match self {
            ManifestError::Major { plugin, host } if plugin.major < host.major => {
                "rebuild the plugin against this host's SDK".to_owned()
            }
            ManifestError::Major { plugin, .. } => {
                format!(
                    "update rex-host to a version that speaks plugin API {}, or rebuild the \
                     plugin against this host's SDK",
                    plugin.major
                )
            }
            ManifestError::Needs { plugin, .. } => format!(
                "update rex-host to a version that speaks plugin API {plugin} or later, or build \
                 the plugin so that it does without"
            ),
            ManifestError::Content(_) => {
                "ask the plugin's author: what it exports cannot be used".to_owned()
            }
        }
    }
}

fn operations(ops: &[u32]) -> String {
    let list = ops.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    if ops.len() == 1 {
        format!("host operation {list}")
    } else {
        format!("host operations {list}")
    }
}

/// Judges a manifest; it may be anything, for it comes from the plugin.
///
/// # Errors
/// The first thing that this host cannot serve.
pub fn check(manifest: &Manifest, host: &HostApi) -> Result<(), ManifestError> {
    if manifest.api.major != host.version.major {
        return Err(ManifestError::Major { plugin: manifest.api, host: host.version });
    }
    let unknown: Vec<u32> =
        manifest.needs.iter().copied().filter(|op| !host.ops.contains(op)).collect();
    if !unknown.is_empty() {
        return Err(ManifestError::Needs {
            ops: unknown,
            plugin: manifest.api,
            host: host.version,
        });
    }
    check_content(manifest).map_err(ManifestError::Content)
}

fn check_content(manifest: &Manifest) -> Result<(), String> {
    check_text("its name", &manifest.name)?;
    check_text("its version", &manifest.version)?;
    let Manifest { workers, commands, executors, .. } = manifest;
    if workers.is_empty() && commands.is_empty() && executors.is_empty() {
        return Err("it exports no worker, no command and no executor".to_owned());
    }
    let mut seen = HashSet::new();
    for worker in &manifest.workers {
        if !is_worker_name(&worker.name) {
            return Err(format!(
                "`{}` is no worker name (letters, digits, `_`, `-` and `.`, at most {MAX_NAME})",
                shorten(&worker.name)
            ));
        }
        if !seen.insert(&worker.name) {
            return Err(format!("it exports the worker `{}` twice", worker.name));
        }
        check_text(&format!("the logger of `{}`", worker.name), &worker.logger)?;
    }
    let mut seen = HashSet::new();
    for executor in &manifest.executors {
        let name = &executor.name;
        // What a worker may be called.
        if !is_worker_name(name) {
            return Err(format!(
                "`{}` is no type of jobs (letters, digits, `_`, `-` and `.`, at most {MAX_NAME})",
                shorten(name)
            ));
        }
        if !seen.insert(name) {
            return Err(format!("it exports the executor `{name}` twice"));
        }
        check_text(&format!("the logger of `{name}`"), &executor.logger)?;
    }
    let mut seen = HashSet::new();
    for command in &manifest.commands {
        let name = &command.name;
        if !is_command_name(name) {
            return Err(format!(
                "`{}` is no command name (small letters, digits and `-`, at most {MAX_NAME})",
                shorten(name)
            ));
        }
        if !seen.insert(name) {
            return Err(format!("it exports the command `{name}` twice"));
        }
        for text in [&command.about, &command.arguments] {
            if text.chars().any(char::is_control) {
                return Err(format!("what the command `{name}` says of itself is no line"));
            }
        }
    }
    Ok(())
}

fn is_command_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// What settings may name: the original's names are Python identifiers.
fn is_worker_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.len() <= MAX_NAME
        && name.starts_with(plain)
        && name.chars().all(|c| plain(c) || c == '-' || c == '.')
}

fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        Err(format!("{what} is empty"))
    } else if text.len() > MAX_NAME {
        Err(format!("{what} is over {MAX_NAME} characters long"))
    } else if text.chars().any(char::is_control) {
        Err(format!("{what} holds control characters"))
    } else {
        Ok(())
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() > MAX_NAME {
        text.chars().take(MAX_NAME).chain(['…']).collect()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use rex_plugin_api::ops::{ApiVersion, ExecutorEntry, Manifest, WorkerEntry};

    use super::{HostApi, check};

    const HOST: HostApi = HostApi { version: ApiVersion { major: 1, minor: 2 }, ops: &[1, 2, 3] };

    fn worker(name: &str) -> WorkerEntry {
        WorkerEntry { name: name.to_owned(), logger: "W".to_owned(), application: false }
    }

    fn executor(name: &str) -> ExecutorEntry {
        let (name, logger) = (name.to_owned(), "E".to_owned());
        ExecutorEntry { name, logger, application: false, starts: false }
    }

    fn manifest(edit: impl FnOnce(&mut Manifest)) -> Manifest {
        let mut manifest = Manifest {
            name: "p".to_owned(),
            version: "1.0.0".to_owned(),
            api: ApiVersion { major: 1, minor: 2 },
            needs: vec![],
            unwinds: true,
            workers: vec![worker("w")],
            commands: vec![],
            executors: vec![],
        };
        edit(&mut manifest);
        manifest
    }

    fn refusal(edit: impl FnOnce(&mut Manifest)) -> String {
        check(&manifest(edit), &HOST).unwrap_err().to_string()
    }

    #[test]
    fn any_minor_version_whose_needs_are_known_is_accepted() {
        for minor in [0, 2, 3, 99] {
            let manifest = manifest(|m| {
                m.api.minor = minor;
                m.needs = vec![1, 3];
            });
            assert_eq!(check(&manifest, &HOST), Ok(()));
        }
    }

    #[test]
    fn unknown_needs_are_refused_with_numbers_and_versions() {
        assert_eq!(
            refusal(|m| {
                m.api.minor = 3;
                m.needs = vec![1, 77, 78];
            }),
            "needs host operations 77, 78, which this host (plugin API 1.2) does not offer; it is \
             built against plugin API 1.3"
        );
    }

    #[test]
    fn another_major_version_is_refused() {
        for major in [0, 2] {
            let error = check(&manifest(|m| m.api.major = major), &HOST).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("is built for plugin API {major}.2; this host speaks 1.2")
            );
            assert!(error.hint().contains("rebuild the plugin"), "{}", error.hint());
        }
    }

    #[test]
    fn lies_are_refused() {
        let cases = [
            (refusal(|m| m.workers.clear()), "it exports no worker, no command and no executor"),
            (refusal(|m| m.executors = vec![executor("")]), "`` is no type of jobs"),
            (
                refusal(|m| m.executors = vec![executor("e"), executor("e")]),
                "it exports the executor `e` twice",
            ),
            (refusal(|m| m.workers.push(worker("w"))), "it exports the worker `w` twice"),
            (refusal(|m| m.workers[0].name = String::new()), "`` is no worker name"),
            (refusal(|m| m.workers[0].name = "a b".into()), "`a b` is no worker name"),
            (refusal(|m| m.workers[0].name = "-a".into()), "`-a` is no worker name"),
            (refusal(|m| m.workers[0].name = "w".repeat(101)), "is no worker name"),
            (refusal(|m| m.workers[0].logger = "a\nb".into()), "logger of `w` holds control"),
            (refusal(|m| m.name = String::new()), "its name is empty"),
            (refusal(|m| m.version = "1".repeat(101)), "its version is over 100"),
        ];
        for (text, expected) in cases {
            assert!(text.contains(expected), "{text}");
        }
    }
}
