//! What a directory of plugins holds: the ones to serve, and the ones that are refused.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rex_plugin_api::ops::{ExecutorEntry, Manifest, WorkerEntry};

use super::copies::{self, Copies, NotKept};
use super::manifest::{self, HostApi};
use super::permissions::Trust;
use super::probe::Prober;
use super::reason::{Reason, shown};
use super::source::{Source, Stamp};

/// A plugin that can be served.
#[derive(Debug, Clone)]
pub struct PluginFile {
    /// The file that was dropped.
    pub path: PathBuf,
    /// The SHA-256 of its content.
    pub hash: String,
    /// What is to be loaded; the dropped file itself for a [`Finder`] without copies.
    pub copy: PathBuf,
    pub manifest: Manifest,
}

impl PluginFile {
    /// What whoever serves it ought to know.
    pub fn warning(&self) -> Option<&'static str> {
        (!self.manifest.unwinds).then_some(
            "is built with panic = \"abort\": a panic kills its process and leaves no message",
        )
    }
}

/// A file that is not served.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub path: PathBuf,
    pub reason: Reason,
    /// The content's, when the file was good enough to be read.
    pub hash: Option<String>,
    stamp: Option<Stamp>,
}

/// Why there is no verdict on any file.
type NoCopies = io::Error;

impl Refusal {
    fn new(path: &Path, reason: Reason) -> Box<Refusal> {
        Box::new(Refusal { path: path.to_owned(), reason, hash: None, stamp: None })
    }

    fn is_replaced(&self) -> bool {
        self.stamp.is_some_and(|stamp| stamp.is_replaced(&self.path))
    }

    fn is_gone(&self) -> bool {
        let gone = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
        self.stamp.is_none() && fs::symlink_metadata(&self.path).is_err_and(gone)
    }

    fn is_same_file(&self, other: &Refusal) -> bool {
        self.path == other.path
            && match (&self.hash, &other.hash) {
                (Some(a), Some(b)) => a == b,
                _ => self.stamp == other.stamp,
            }
    }
}

/// What a directory holds, in the order of the files' names.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub plugins: Vec<PluginFile>,
    pub refusals: Vec<Refusal>,
}

impl Catalog {
    /// The plugin that exports a worker.
    pub fn worker(&self, name: &str) -> Option<(&PluginFile, &WorkerEntry)> {
        self.workers().find(|(_, worker)| worker.name == name)
    }

    /// All workers, those of a plugin in the order of their definition.
    pub fn worker_names(&self) -> Vec<&str> {
        self.workers().map(|(_, worker)| worker.name.as_str()).collect()
    }

    /// All executors of jobs, sorted by the type of their jobs.
    pub fn executors<'a>(&'a self) -> Vec<(&'a PluginFile, &'a ExecutorEntry)> {
        let of = |plugin: &'a PluginFile| {
            plugin.manifest.executors.iter().map(move |executor| (plugin, executor))
        };
        let mut all: Vec<_> = self.plugins.iter().flat_map(of).collect();
        all.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        all
    }

    fn workers(&self) -> impl Iterator<Item = (&PluginFile, &WorkerEntry)> {
        self.plugins
            .iter()
            .flat_map(|plugin| plugin.manifest.workers.iter().map(move |worker| (plugin, worker)))
    }
}

/// The refusals that were not there before: those that keep a reload from happening. A file that was
/// refused earlier and has not changed since is none of them.
pub fn new_refusals<'a>(previous: &Catalog, current: &'a Catalog) -> Vec<&'a Refusal> {
    current
        .refusals
        .iter()
        .filter(|refusal| !previous.refusals.iter().any(|old| old.is_same_file(refusal)))
        .collect()
}

/// Why there is no catalog at all. The texts are whole lines.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    #[error("the plugin directory {} does not exist", shown(.0))]
    Missing(PathBuf),
    #[error("the plugin directory {} is no directory", shown(.0))]
    NoDirectory(PathBuf),
    #[error("the plugin directory {} cannot be read: {}", shown(.0), .1)]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("the plugin directory {} cannot be trusted: {}", shown(.0), .1)]
    Untrusted(PathBuf, Reason),
    #[error("the state directory {} cannot be trusted: {}", shown(.0), .1)]
    UntrustedState(PathBuf, Reason),
    #[error("the state directory {} cannot hold copies of plugins: {}", shown(.0), .1)]
    State(PathBuf, #[source] io::Error),
}

impl DirError {
    pub fn hint(&self) -> Option<String> {
        match self {
            DirError::Missing(_) | DirError::NoDirectory(_) => {
                Some("name the directory of the plugins' .so files with --plugins DIR".to_owned())
            }
            DirError::Unreadable(path, error) => (error.kind() == io::ErrorKind::PermissionDenied)
                .then(|| format!("chmod a+rx {}", crate::shell::quote(path))),
            DirError::Untrusted(_, reason) | DirError::UntrustedState(_, reason) => {
                reason.hint.clone()
            }
            DirError::State(..) if self.is_full() => Some("free some space on its disk".to_owned()),
            DirError::State(..) => Some("choose a writable directory with --state DIR".to_owned()),
        }
    }

    /// Whether a disk is full, which may pass.
    pub fn is_full(&self) -> bool {
        let is_full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        matches!(self, DirError::State(_, error) if is_full(error))
    }
}

/// How often a file is looked at that is replaced again and again.
pub const MOST_LOOKS: u32 = 5;

/// What a file is.
type Judged = Result<PluginFile, Box<Refusal>>;

/// How a host looks for plugins.
#[derive(Debug, Clone)]
pub struct Finder {
    pub prober: Prober,
    pub trust: Trust,
    pub api: HostApi,
    copies: Option<Copies>,
    /// The state directory of the instance whose choice counts.
    instance: Option<PathBuf>,
}

impl Finder {
    /// `exe` is rex-host's own binary: `/proc/self/exe`, but for tests.
    pub fn new(exe: &Path) -> Finder {
        Finder {
            prober: Prober::new(exe),
            trust: Trust::of_host(exe),
            api: HostApi::THIS,
            copies: None,
            instance: None,
        }
    }

    /// Settles quarrels as the host does whose state directory this is: what it has in service stays.
    pub fn as_in(mut self, state: &Path) -> Finder {
        self.instance = Some(state.to_owned());
        self
    }

    /// Loads nothing but copies that are kept in the state directory, as a host must. Without them,
    /// files are probed where they lie.
    ///
    /// # Errors
    /// When they cannot be kept there, or others could change them.
    pub fn with_copies(mut self, state: &Path) -> Result<Finder, DirError> {
        let copies = Copies::open(state).map_err(|e| DirError::State(state.to_owned(), e))?;
        // What is in it is loaded.
        let dir = copies.dir();
        let real = fs::canonicalize(dir).map_err(|e| DirError::State(state.to_owned(), e))?;
        for way in [&real, &std::path::absolute(dir).unwrap_or_else(|_| real.clone())] {
            let checked = self.trust.check_parents(way);
            checked.map_err(|reason| DirError::UntrustedState(state.to_owned(), reason))?;
        }
        self.copies = Some(copies);
        self.instance.get_or_insert_with(|| state.to_owned());
        Ok(self)
    }

    pub fn copies(&self) -> Option<&Copies> {
        self.copies.as_ref()
    }

    /// Looks at all files of `dir` that are named `*.so`, other than hidden ones. A plugin whose
    /// content `previous` knows is not loaded again, and in a quarrel over a worker's name it stays.
    ///
    /// # Errors
    /// When the directory as a whole is of no use; a file that is of no use is a [`Refusal`].
    pub fn discover(&self, dir: &Path, previous: Option<&Catalog>) -> Result<Catalog, DirError> {
        let files = list(dir)?;
        let real = fs::canonicalize(dir).map_err(|e| DirError::Unreadable(dir.to_owned(), e))?;
        // Who can turn a link on the way elsewhere chooses the plugins too.
        let given = std::path::absolute(dir).unwrap_or_else(|_| real.clone());
        for way in [&real, &given] {
            self.trust.check_parents(way).map_err(|e| DirError::Untrusted(dir.to_owned(), e))?;
        }
        let known = Known::of(previous);
        let examined = in_parallel(&files, |path| self.examine_known(path, &known));
        let mut examined = self.judged(examined)?;
        // What went away meanwhile is nobody's fault.
        examined.retain(|result| !matches!(result, Err(refusal) if refusal.is_gone()));
        Ok(settle(examined, &self.in_service(previous)))
    }

    /// Notes that these plugins are in service: after the host's next start too, they stay in a
    /// quarrel over a worker's name.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn note_in_service(&self, catalog: &Catalog) -> io::Result<()> {
        match &self.copies {
            Some(copies) => {
                copies.note_in_service(catalog.plugins.iter().map(|plugin| plugin.hash.as_str()))
            }
            None => Ok(()),
        }
    }

    fn in_service(&self, previous: Option<&Catalog>) -> InService {
        match (previous, &self.instance) {
            (Some(catalog), _) => InService {
                hashes: catalog.plugins.iter().map(|plugin| plugin.hash.clone()).collect(),
                paths: catalog.plugins.iter().map(|plugin| plugin.path.clone()).collect(),
            },
            (None, Some(state)) => {
                InService { hashes: copies::in_service(state), paths: HashSet::new() }
            }
            (None, None) => InService::default(),
        }
    }

    /// Looks at single files, and at the directories above each.
    ///
    /// # Errors
    /// Only where it keeps copies: when it cannot.
    pub fn examine(&self, files: &[PathBuf]) -> Result<Catalog, DirError> {
        let known = Known::default();
        let examined = in_parallel(files, |path| match self.check_parents_of(path) {
            Ok(()) => self.examine_known(path, &known),
            Err(reason) => Ok(Err(Refusal::new(path, reason))),
        });
        Ok(settle(self.judged(examined)?, &InService::default()))
    }

    fn judged(&self, examined: Vec<Result<Judged, NoCopies>>) -> Result<Vec<Judged>, DirError> {
        let dir =
            || self.copies.as_ref().map_or_else(PathBuf::new, |copies| copies.dir().to_owned());
        examined.into_iter().collect::<io::Result<_>>().map_err(|e| DirError::State(dir(), e))
    }

    /// Of a link those directories count that hold it: the link itself is refused later.
    fn check_parents_of(&self, path: &Path) -> Result<(), Reason> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        match fs::canonicalize(parent) {
            Ok(real) => self.trust.check_parents(&real),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Reason::new("does not exist"))
            }
            Err(error) => Err(Reason::new(format_args!("cannot be read: {error}"))),
        }
    }

    /// A file that another takes the place of meanwhile is not judged: the other one is.
    fn examine_known(&self, path: &Path, known: &Known<'_>) -> Result<Judged, NoCopies> {
        let mut looks = 0;
        loop {
            looks += 1;
            let mut refusal = Refusal::new(path, Reason::new(""));
            match self.try_examine(path, known, &mut refusal) {
                Ok(plugin) => return Ok(Ok(plugin)),
                Err(NotKept::Store(error)) => return Err(error),
                Err(NotKept::File(_)) if refusal.is_replaced() && looks < MOST_LOOKS => {}
                Err(NotKept::File(reason)) => {
                    refusal.reason = reason;
                    return Ok(Err(refusal));
                }
            }
        }
    }

    /// Fills in what a refusal would tell as it finds it out.
    fn try_examine(
        &self,
        path: &Path,
        known: &Known<'_>,
        refusal: &mut Refusal,
    ) -> Result<PluginFile, NotKept> {
        let source = Source::open(path)?;
        refusal.stamp = Some(source.stamp);
        source.check(&self.trust)?;
        let hash = source.hash(|_| Ok(()))?;
        refusal.hash = Some(hash.clone());

        let copy = match &self.copies {
            Some(copies) => copies.keep(&source, &hash)?,
            None => path.to_owned(),
        };
        let manifest = match known.0.get(hash.as_str()) {
            Some(manifest) => (*manifest).clone(),
            None => self.prober.probe(&copy)?,
        };
        manifest::check(&manifest, &self.api)
            .map_err(|error| Reason::new(&error).hint(error.hint()))?;
        Ok(PluginFile { path: path.to_owned(), hash, copy, manifest })
    }
}

/// The manifests that were found out before, by content. Refusals are not kept: a missing library may
/// have been installed since.
#[derive(Default)]
struct Known<'a>(HashMap<&'a str, &'a Manifest>);

impl<'a> Known<'a> {
    fn of(previous: Option<&'a Catalog>) -> Known<'a> {
        let plugins = previous.map_or(&[][..], |previous| &previous.plugins[..]);
        Known(plugins.iter().map(|plugin| (plugin.hash.as_str(), &plugin.manifest)).collect())
    }
}

/// The `*.so` files of a directory, sorted by name.
fn list(dir: &Path) -> Result<Vec<PathBuf>, DirError> {
    let fail = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => DirError::Missing(dir.to_owned()),
        io::ErrorKind::NotADirectory => DirError::NoDirectory(dir.to_owned()),
        _ => DirError::Unreadable(dir.to_owned(), error),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if is_plugin_name(&path) {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// `.name.so` is what copying tools call a file that is not whole yet.
pub(super) fn is_plugin_name(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().first() == Some(&b'.'));
    !hidden && path.extension().is_some_and(|extension| extension == "so")
}

/// Applies `work` to each item, on as many threads as there are processors; the results are in the
/// items' order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    const MOST: usize = 8;
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
    if threads == 1 || items.len() < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(n) else { break };
                    let result = work(item);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((n, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(n, _)| *n);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The plugins whose workers are not to change hands.
#[derive(Default)]
struct InService {
    hashes: HashSet<String>,
    paths: HashSet<PathBuf>,
}

/// Settles quarrels over workers' names. Of two plugins that export the same one, the one stays whose
/// content is in service, else the one whose path is, else the first by name.
fn settle(examined: Vec<Result<PluginFile, Box<Refusal>>>, in_service: &InService) -> Catalog {
    let mut catalog = Catalog::default();
    let mut candidates = Vec::new();
    for result in examined {
        match result {
            Ok(plugin) => candidates.push(plugin),
            Err(refusal) => catalog.refusals.push(*refusal),
        }
    }
    // `false` sorts first: content and path, content alone, path alone, neither.
    let rank = |plugin: &PluginFile| {
        (!in_service.hashes.contains(&plugin.hash), !in_service.paths.contains(&plugin.path))
    };
    candidates.sort_by_key(rank);
    for plugin in candidates {
        match rival(&catalog, &plugin) {
            None => catalog.plugins.push(plugin),
            Some(reason) => catalog.refusals.push(Refusal {
                path: plugin.path,
                reason,
                hash: Some(plugin.hash),
                stamp: None,
            }),
        }
    }
    catalog.plugins.sort_by(|a, b| a.path.cmp(&b.path));
    catalog.refusals.sort_by(|a, b| a.path.cmp(&b.path));
    catalog
}

/// What a plugin exports, each with what it is.
fn exports(manifest: &Manifest) -> impl Iterator<Item = (&'static str, &str)> {
    let workers = manifest.workers.iter().map(|worker| ("worker", worker.name.as_str()));
    let commands = manifest.commands.iter().map(|command| ("command", command.name.as_str()));
    let executors = manifest.executors.iter().map(|executor| ("executor", executor.name.as_str()));
    workers.chain(commands).chain(executors)
}

/// Why `plugin` cannot join the plugins that were chosen.
fn rival(catalog: &Catalog, plugin: &PluginFile) -> Option<Reason> {
    exports(&plugin.manifest).find_map(|(what, name)| {
        let has_it =
            |other: &&PluginFile| exports(&other.manifest).any(|theirs| theirs == (what, name));
        let other = catalog.plugins.iter().find(has_it)?;
        let file = shown(&other.path);
        Some(if other.hash == plugin.hash {
            Reason::new(format_args!("has the same content as {file}"))
                .hint("remove one of the two files")
        } else {
            Reason::new(format_args!(
                "exports the {what} `{name}`, which {file} exports too and keeps"
            ))
            .hint(format!("remove one of the two files, or rename the {what} in one of them"))
        })
    })
}
