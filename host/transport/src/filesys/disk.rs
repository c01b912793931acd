//! Files: made, written so that a crash leaves the old or the new one, locked, and what went wrong
//! with them in words.

use std::error::Error as _;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

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

/// Opens a file that anybody may have put there, to read it. What is no file may keep its reader
/// waiting.
pub(super) fn open_task(path: &Path) -> io::Result<File> {
    let found = fs::metadata(path)?;
    match found.is_dir() || found.is_file() {
        true => File::open(path),
        false => Err(io::Error::other("it is no file")),
    }
}

/// Makes a directory of the store and those above it, as far as they are missing; but never the
/// store's own: where that is gone its disk may be, and what is written into its mount point would
/// be hidden when it comes back.
pub(super) fn make_directory(place: &Place, path: &Path) -> Result<(), TransportError> {
    if path.is_dir() {
        return Ok(());
    }
    check(place)?;
    // Who may write into it must be able to enter it.
    let mode = place.file_mode | 0o100;
    if let Some(parent) = path.parent() {
        make_directory(place, parent)?;
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made
                .and_then(|()| give_to_owner(&File::open(path)?, parent))
                .map_err(failed(path))?,
        }
        sync_directory(parent)?;
    }
    Ok(())
}

/// What root makes in a directory of somebody else's is his, who could not use it otherwise.
pub(super) fn give_to_owner(made: &File, directory: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(directory)?;
    match owner.uid() {
        0 => Ok(()),
        uid => std::os::unix::fs::fchown(made, Some(uid), Some(owner.gid())),
    }
}

/// Writes a new file, or leaves none, and syncs it unless many follow, which [`sync_all`] does together.
pub(super) fn write_new(
    place: &Place,
    path: &Path,
    bytes: &[u8],
    sync: bool,
) -> Result<File, TransportError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(place.file_mode);
    let mut file = options.open(path).map_err(failed(path))?;
    let given = path.parent().map_or(Ok(()), |directory| give_to_owner(&file, directory));
    let written = given
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| if sync { file.sync_all() } else { Ok(()) });
    written.map_err(|error| {
        // A part of it would only keep the disk full.
        let _removed = fs::remove_file(path);
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
    let kept = match fs::metadata(path) {
        Ok(before) => keep_owner(&file, &before),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(error),
    };
    match kept {
        // Who may write into it and not give it away does as the original: a crash may tear it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let written = OpenOptions::new().write(true).open(path).and_then(|mut file| {
                file.write_all(bytes)?;
                file.set_len(bytes.len() as u64)?;
                file.sync_all()
            });
            written.map_err(failed(path))?;
            remove(part)?;
        }
        kept => {
            kept.map_err(failed(path))?;
            rename(part, path)?;
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
        file.set_permissions(before.permissions())?;
    }
    Ok(())
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), TransportError> {
    fs::rename(from, to).map_err(failed(from))
}

/// Removes a file; whether there was one.
pub(super) fn remove(path: &Path) -> Result<bool, TransportError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(failed(path)(error)),
    }
}

pub(super) fn sync_directory(path: &Path) -> Result<(), TransportError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed(path))
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
        if let Some(file) = try_lock(path, 0o644).map_err(failed(path))? {
            if let Some(directory) = path.parent() {
                give_to_owner(&file, directory).map_err(failed(path))?;
            }
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
