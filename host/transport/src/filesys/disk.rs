//! Files: made, written so that a crash leaves the old or the new one, locked, and what went wrong
//! with them in words.

use std::error::Error as _;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Place, safely};
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

/// Makes a directory of the store and those above it, as far as they are missing; but never the
/// store's own: where that is gone its disk may be, and what is written into its mount point would
/// be hidden when it comes back.
pub(super) fn make_directory(place: &Place, path: &Path) -> Result<(), TransportError> {
    match safely::hold(place, path) {
        Err(error) if safely::is_missing(&error) || error.kind() == ErrorKind::NotADirectory => {}
        held => return held.map(drop).map_err(failed(path)),
    }
    check(place)?;
    if let Some(parent) = path.parent() {
        make_directory(place, parent)?;
        safely::make_one_directory(place, path).map_err(failed(path))?;
        sync_directory(parent)?;
    }
    Ok(())
}

/// Writes a new file, or leaves none, and syncs it unless many follow, which [`sync_all`] does together.
pub(super) fn write_new(
    place: &Place,
    path: &Path,
    bytes: &[u8],
    sync: bool,
) -> Result<File, TransportError> {
    let made = create(place, path).or_else(|error| match error.kind() {
        // What is written into might be known elsewhere under another name.
        ErrorKind::AlreadyExists => {
            remove(place, path)?;
            create(place, path).map_err(failed(path))
        }
        _ => Err(failed(path)(error)),
    });
    fill(place, path, made?, bytes, sync)
}

/// As [`write_new`], under a name that nothing else has; one that is there stays.
pub(super) fn write_unique(
    place: &Place,
    path: &Path,
    bytes: &[u8],
    sync: bool,
) -> Result<File, TransportError> {
    fill(place, path, create(place, path).map_err(failed(path))?, bytes, sync)
}

fn create(place: &Place, path: &Path) -> io::Result<File> {
    let (directory, name) = safely::held(place, path)?;
    safely::make(&directory, name, OFlags::WRONLY, place.file_mode)
}

fn fill(
    place: &Place,
    path: &Path,
    mut file: File,
    bytes: &[u8],
    sync: bool,
) -> Result<File, TransportError> {
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
        Err(error) if safely::is_missing(&error) => Ok(()),
        Err(error) => Err(error),
    };
    match kept {
        // Who may write into it and not give it away does as the original: a crash may tear it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let written = safely::open_to_write(place, path).and_then(|mut file| {
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
        let ((old, from), (new, to)) = (safely::held(place, from)?, safely::held(place, to)?);
        Ok(rustix::fs::renameat(old, from, new, to)?)
    };
    renamed().map_err(failed(from))
}

/// Removes a file; whether there was one.
pub(super) fn remove(place: &Place, path: &Path) -> Result<bool, TransportError> {
    let removed = || {
        let (directory, name) = safely::held(place, path)?;
        Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?)
    };
    match removed() {
        Ok(()) => Ok(true),
        Err(error) if safely::is_missing(&error) => Ok(false),
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
        Err(error) if safely::is_missing(&error) => return Ok(Vec::new()),
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

/// Takes the lock that the original takes; it is free again when the file is dropped. `None` when
/// somebody else has it for as long as there is patience, which may be for ever.
pub(super) fn lock(
    place: &Place,
    path: &Path,
    patience: Option<Duration>,
) -> Result<Option<File>, TransportError> {
    let begun = Instant::now();
    let mut wait = Duration::from_millis(1);
    loop {
        // Some lock libraries remove the file when they are done with it.
        let file = try_lock(path, || safely::open_or_make(place, path, 0o644));
        if let Some(file) = file.map_err(failed(path))? {
            return Ok(Some(file));
        }
        if patience.is_some_and(|patience| begun.elapsed() >= patience) {
            return Ok(None);
        }
        place.beat();
        std::thread::sleep(wait);
        wait = (wait * 2).min(Duration::from_millis(5));
    }
}
