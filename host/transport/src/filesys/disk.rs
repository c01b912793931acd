//! Files: made, written so that a crash leaves the old or the new one, locked, and what went wrong
//! with them in words.
//!
//! Root works in directories of other users, who may put links to anything into them. So no file that
//! is opened here may be a link, everything is changed below a directory that is held open, to which
//! root follows no links inside the store, and given away is only what was made just now.

use std::error::Error as _;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Place;
use crate::owner_file::try_lock;
use crate::{Kind, TransportError};

/// An error about a path, its reason as the original prints it.
pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> TransportError + '_ {
    move |error| {
        let text = error.to_string();
        let plain = text.split(" (os error").next().unwrap_or(&text);
        let reason = match error.raw_os_error() {
            Some(number) => format!("[Errno {number}] {plain}: '{}'", path.display()),
            None => format!("{plain}: '{}'", path.display()),
        };
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => Some("it must be readable and writable for this user"),
            ErrorKind::StorageFull => Some("free some space on its disk"),
            _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                Some("links are not followed here, since anybody may have put them there")
            }
            _ => None,
        };
        let said = TransportError::new(
            Kind::Refused,
            format!("Failed to use the queue directory:\n    {reason}"),
        )
        .with_source(error);
        match hint {
            Some(hint) => said.with_hint(hint),
            None => said,
        }
    }
}

/// Whether nothing is there, or can be under such a name.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename)
}

/// Whether it is for what is there, or whose it is, that a place cannot be used.
pub(super) fn is_of_the_place(error: &TransportError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::AlreadyExists
                | ErrorKind::IsADirectory
                | ErrorKind::NotADirectory
                | ErrorKind::InvalidFilename
        ) || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
    })
}

/// Whether the store's directory can be used at all.
pub(super) fn check(place: &Place) -> Result<(), TransportError> {
    let found = fs::metadata(&place.root).map_err(failed(&place.root))?;
    if !found.is_dir() {
        return Err(failed(&place.root)(Errno::NOTDIR.into()));
    }
    Ok(())
}

/// The directory in which a file is or shall be, held open, and the file's name in it.
fn held<'a>(place: &Place, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((hold(place, parent)?, name)),
        _ => Err(Errno::INVAL.into()),
    }
}

/// Opens a directory of the store. Who is not root can do no more by a link there than whoever made it.
fn hold(place: &Place, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = path.strip_prefix(&place.root).ok();
    let Some(inside) = inside.filter(|_| rustix::process::geteuid().is_root()) else {
        return Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    };
    let mut directory = rustix::fs::openat(CWD, &place.root, flags, Mode::empty())?;
    for part in inside.components() {
        let Component::Normal(name) = part else { return Err(Errno::INVAL.into()) };
        let next = rustix::fs::openat(&directory, name, flags | OFlags::NOFOLLOW, Mode::empty());
        directory = match next {
            Err(Errno::NOTDIR) if is_link(&directory, name) => return Err(Errno::LOOP.into()),
            next => next?,
        };
    }
    Ok(directory)
}

fn is_link(directory: &OwnedFd, name: &OsStr) -> bool {
    let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink)
}

/// What is no file must not keep anybody waiting.
const SAFELY: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Opens a file that anybody may have put there, to read it.
pub(super) fn open_task(path: &Path) -> io::Result<File> {
    let file = File::from(rustix::fs::open(path, OFlags::RDONLY | SAFELY, Mode::empty())?);
    let found = file.metadata()?;
    match found.is_dir() || found.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file")),
    }
}

/// Reads such a file.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_task(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens such a file to write into it.
pub(super) fn open_to_write(place: &Place, path: &Path) -> io::Result<File> {
    let (directory, name) = held(place, path)?;
    Ok(rustix::fs::openat(directory, name, OFlags::WRONLY | SAFELY, Mode::empty())?.into())
}

/// Opens a file to lock or to date it, and makes it if it is missing.
pub(super) fn open_or_make(place: &Place, path: &Path, mode: u32) -> io::Result<File> {
    let (directory, name) = held(place, path)?;
    loop {
        match rustix::fs::openat(&directory, name, OFlags::RDWR | SAFELY, Mode::empty()) {
            Err(Errno::NOENT) => {}
            file => return Ok(file?.into()),
        }
        match make(&directory, name, OFlags::RDWR, mode) {
            // Somebody else has just made it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            file => return file,
        }
    }
}

/// Makes a file that is not there.
fn make(directory: &OwnedFd, name: &OsStr, access: OFlags, mode: u32) -> io::Result<File> {
    let flags = access | OFlags::CREATE | OFlags::EXCL | SAFELY;
    let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(mode))?;
    give_to_owner(&file, directory)?;
    Ok(file.into())
}

/// Makes a directory of the store and those above it, as far as they are missing; but never the
/// store's own: where that is gone its disk may be, and what is written into its mount point would
/// be hidden when it comes back.
pub(super) fn make_directory(place: &Place, path: &Path) -> Result<(), TransportError> {
    match hold(place, path) {
        Err(error) if is_missing(&error) || error.kind() == ErrorKind::NotADirectory => {}
        held => return held.map(drop).map_err(failed(path)),
    }
    check(place)?;
    if let Some(parent) = path.parent() {
        make_directory(place, parent)?;
        make_one_directory(place, path).map_err(failed(path))?;
        sync_directory(parent)?;
    }
    Ok(())
}

fn make_one_directory(place: &Place, path: &Path) -> io::Result<()> {
    let (parent, name) = held(place, path)?;
    // Who may write into it must be able to enter it.
    let mode = Mode::from_raw_mode(place.file_mode | 0o100);
    let model = model(place, path)?;
    match rustix::fs::mkdirat(&parent, name, mode) {
        // Somebody else has just made it, if it is one.
        Err(Errno::EXIST) => {
            return match hold(place, path) {
                Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                    Err(error)
                }
                held => held.map(drop).map_err(|_| Errno::EXIST.into()),
            };
        }
        made => made?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | SAFELY;
    let made = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
    // One that has something in it was put there instead.
    let is_empty = Dir::read_from(&made)?
        .filter_map(Result::ok)
        .all(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."));
    if !is_empty {
        return Ok(());
    }
    give_to_owner(&made, model.as_ref().unwrap_or(&parent))?;
    match model {
        Some(model) => open_as(&made, &model),
        None => Ok(()),
    }
}

/// Whose a directory of ours shall be and who may write into it, where that is not as above it: what
/// queues share is for whoever may make one, and what is ours of a queue for whoever has the queue.
fn model(place: &Place, path: &Path) -> io::Result<Option<OwnedFd>> {
    let Ok(inside) = path.strip_prefix(place.ours()) else { return Ok(None) };
    let parts: Vec<Component<'_>> = inside.components().collect();
    let model = match parts[..] {
        [] | [_] => place.root.clone(),
        [queues, Component::Normal(name)] if queues.as_os_str() == "queues" => {
            place.root.join(name)
        }
        _ => return Ok(None),
    };
    match hold(place, &model) {
        Err(error) if is_missing(&error) => Ok(None),
        held => held.map(Some),
    }
}

/// Lets those write into a new directory who may write into another one besides its owner.
fn open_as(made: &OwnedFd, model: &OwnedFd) -> io::Result<()> {
    let (mode, model) = (rustix::fs::fstat(made)?.st_mode, rustix::fs::fstat(model)?.st_mode);
    let mut wider = mode;
    for (may_write, all) in [(0o020, 0o2070), (0o002, 0o1007)] {
        if model & may_write != 0 {
            wider |= model & all;
        }
    }
    if wider != mode {
        rustix::fs::fchmod(made, Mode::from_raw_mode(wider & 0o7777))?;
    }
    Ok(())
}

/// As what is made in `directory`, for a file that was made just now and is to be moved there.
pub(super) fn give_for(place: &Place, made: &File, directory: &Path) -> io::Result<()> {
    match rustix::process::geteuid().is_root() {
        true => give_to_owner(made, &hold(place, directory)?),
        false => Ok(()),
    }
}

/// What root makes in a directory of somebody else's is his, who could not use it otherwise.
fn give_to_owner(made: &impl AsFd, directory: &OwnedFd) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = rustix::fs::fstat(directory)?;
    match owner.st_uid {
        0 => Ok(()),
        uid => std::os::unix::fs::fchown(made, Some(uid), Some(owner.st_gid)),
    }
}

/// Writes a new file, or leaves none, and syncs it unless many follow, which [`sync_all`] does together.
pub(super) fn write_new(
    place: &Place,
    path: &Path,
    bytes: &[u8],
    sync: bool,
) -> Result<File, TransportError> {
    let made = || {
        let (directory, name) = held(place, path)?;
        make(&directory, name, OFlags::WRONLY, place.file_mode)
    };
    let mut file = match made() {
        // What is written into might be known elsewhere under another name.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            remove(place, path)?;
            made()
        }
        file => file,
    }
    .map_err(failed(path))?;
    let written = file.write_all(bytes).and_then(|()| if sync { file.sync_all() } else { Ok(()) });
    written.map_err(|error| {
        // A part of it would only keep the disk full.
        let _removed = remove(place, path);
        failed(path)(error)
    })?;
    Ok(file)
}

/// Replaces a file as a whole; it stays as readable as it was to whoever it belongs to.
pub(super) fn replace(
    place: &Place,
    path: &Path,
    part: &Path,
    bytes: &[u8],
) -> Result<(), TransportError> {
    let file = write_new(place, part, bytes, true)?;
    let kept = match fs::symlink_metadata(path) {
        Ok(before) if before.is_symlink() => Err(Errno::LOOP.into()),
        Ok(before) => keep_owner(&file, &before),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(error),
    };
    match kept {
        // Who may write into it and not give it away does as the original: a crash may tear it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let written = open_to_write(place, path).and_then(|mut file| {
                file.write_all(bytes)?;
                file.set_len(bytes.len() as u64)?;
                file.sync_all()
            });
            written.map_err(failed(path))?;
            remove(place, part)?;
        }
        kept => {
            kept.map_err(failed(path))?;
            rename(place, part, path)?;
        }
    }
    path.parent().map_or(Ok(()), sync_directory)
}

fn keep_owner(file: &File, before: &Metadata) -> io::Result<()> {
    let now = file.metadata()?;
    if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
        std::os::unix::fs::fchown(file, Some(before.uid()), Some(before.gid()))?;
    }
    if now.mode() != before.mode() {
        file.set_permissions(Permissions::from_mode(before.mode() & 0o777))?;
    }
    Ok(())
}

pub(super) fn rename(place: &Place, from: &Path, to: &Path) -> Result<(), TransportError> {
    let renamed = || {
        let ((old, from), (new, to)) = (held(place, from)?, held(place, to)?);
        Ok(rustix::fs::renameat(old, from, new, to)?)
    };
    renamed().map_err(failed(from))
}

/// Removes a file; whether there was one.
pub(super) fn remove(place: &Place, path: &Path) -> Result<bool, TransportError> {
    let removed = || {
        let (directory, name) = held(place, path)?;
        Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?)
    };
    match removed() {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(failed(path)(error)),
    }
}

pub(super) fn sync_directory(path: &Path) -> Result<(), TransportError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let synced = || Ok(rustix::fs::fsync(rustix::fs::open(path, flags, Mode::empty())?)?);
    synced().map_err(failed(path))
}

/// Syncs everything on the file system of `path`.
pub(super) fn sync_all(path: &Path) -> Result<(), TransportError> {
    File::open(path).and_then(|directory| Ok(rustix::fs::syncfs(&directory)?)).map_err(failed(path))
}

/// The names in a directory; none if it is not there.
pub(super) fn names(path: &Path) -> Result<Vec<String>, TransportError> {
    let entries = match fs::read_dir(path) {
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        entries => entries.map_err(failed(path))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is no UTF-8 is none of ours and none of the original's.
        names.extend(entry.map_err(failed(path))?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// Takes the lock that the original takes; it is free again when the file is dropped.
pub(super) fn lock(place: &Place, path: &Path) -> Result<File, TransportError> {
    let begun = Instant::now();
    let mut wait = Duration::from_millis(1);
    loop {
        // Some lock libraries remove the file when they are done with it.
        let file = try_lock(path, || open_or_make(place, path, 0o644));
        if let Some(file) = file.map_err(failed(path))? {
            return Ok(file);
        }
        if place.lock_timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            let text = format!("The file lock '{}' could not be acquired.", path.display());
            return Err(TransportError::new(Kind::Refused, text)
                .with_hint("an old consumer that hangs may hold it; see lslocks"));
        }
        place.beat();
        std::thread::sleep(wait);
        wait = (wait * 2).min(Duration::from_millis(5));
    }
}
