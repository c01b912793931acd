//! What is opened, made and given away where others may have put something else.
//!
//! Root works in directories of other users, who may put links to anything into them. So no file that
//! is opened here may be a link, everything is changed below a directory that is held open, to which
//! root follows no links inside the store, and given away is only what was made just now.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Place;

/// Whether nothing is there, or can be under such a name.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename)
}

/// The directory in which a file is or shall be, held open, and the file's name in it.
pub(super) fn held<'a>(place: &Place, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((hold(place, parent)?, name)),
        _ => Err(Errno::INVAL.into()),
    }
}

/// Opens a directory of the store. Who is not root can do no more by a link there than whoever made it.
pub(super) fn hold(place: &Place, path: &Path) -> io::Result<OwnedFd> {
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
pub(super) fn make(
    directory: &OwnedFd,
    name: &OsStr,
    access: OFlags,
    mode: u32,
) -> io::Result<File> {
    let flags = access | OFlags::CREATE | OFlags::EXCL | SAFELY;
    let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(mode))?;
    give_to_owner(&file, directory)?;
    Ok(file.into())
}

/// Makes a directory whose parent is there.
pub(super) fn make_one_directory(place: &Place, path: &Path) -> io::Result<()> {
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
