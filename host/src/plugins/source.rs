//! One dropped file: opened once, so that what is judged, hashed and copied is the same file.
//!
//! The usual mishap is a file that is still being copied. dlopen of half a library kills the process
//! that tries, so the ELF header's own account of the file's length is compared with what is there.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::permissions::Trust;
use super::reason::Reason;

/// What changes when a file is written, replaced or given other rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    dev: u64,
    ino: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Stamp> {
        let meta = file.metadata()?;
        Ok(Stamp {
            dev: meta.dev(),
            ino: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Whether another file is at that path by now (`mv`), which touches the one that was there.
    pub fn is_replaced(&self, path: &Path) -> bool {
        let is_other = |meta: Metadata| (meta.dev(), meta.ino()) != (self.dev, self.ino);
        fs::symlink_metadata(path).is_ok_and(is_other)
    }
}

/// An open file that may hold a plugin.
pub struct Source {
    pub path: PathBuf,
    file: File,
    pub stamp: Stamp,
}

impl Source {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read or is no plain file.
    pub fn open(path: &Path) -> Result<Source, Reason> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = File::options()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(|error| explain_open(path, &error))?;
        let stamp = Stamp::of(&file).map_err(|e| unreadable(&e))?;
        let kind = file.metadata().map_err(|e| unreadable(&e))?.file_type();
        if !kind.is_file() {
            return Err(Reason::new("is no regular file"));
        }
        Ok(Source { path: path.to_owned(), file, stamp })
    }

    /// Judges owner, rights and completeness.
    ///
    /// # Errors
    /// The first fault, with what mends it.
    pub fn check(&self, trust: &Trust) -> Result<(), Reason> {
        let meta = self.file.metadata().map_err(|e| unreadable(&e))?;
        trust.check_file(&self.path, &meta)?;
        check_elf(&self.file, self.stamp.len).map_err(|fault| match fault {
            Fault::Io(error) => unreadable(&error),
            Fault::Text(reason) => reason,
        })
    }

    /// The content's SHA-256 in hexadecimal; each piece also goes to `copy`.
    ///
    /// # Errors
    /// When the file cannot be read, changed meanwhile, or when `copy` fails.
    pub fn hash(
        &self,
        mut copy: impl FnMut(&[u8]) -> Result<(), Reason>,
    ) -> Result<String, Reason> {
        let mut digest = Sha256::new();
        let mut chunk = vec![0; 1 << 16];
        let mut at = 0;
        loop {
            match self.file.read_at(&mut chunk, at) {
                Ok(0) => break,
                Ok(n) => {
                    digest.update(&chunk[..n]);
                    copy(&chunk[..n])?;
                    at += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(&e)),
            }
        }
        self.check_unchanged()?;
        Ok(hex(&digest.finalize()))
    }

    fn check_unchanged(&self) -> Result<(), Reason> {
        match Stamp::of(&self.file) {
            Ok(now) if now == self.stamp => Ok(()),
            Ok(_) => Err(Reason::new("changed while it was being read").hint(INSTALL_WHOLE)),
            Err(error) => Err(unreadable(&error)),
        }
    }
}

const INSTALL_WHOLE: &str = "is it still being copied? put it there in one step: copy it beside \
                             under a name that does not end in .so, then `mv` it";

/// The hash of a file's content.
///
/// # Errors
/// When it cannot be read.
pub fn hash_of(file: &mut File) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hex(&digest.finalize())),
            Ok(n) => digest.update(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

fn explain_open(path: &Path, error: &io::Error) -> Reason {
    match error.raw_os_error() {
        Some(libc::ELOOP) => Reason::new("is a symbolic link")
            .hint("put the file itself there: what a link leads to may change unseen"),
        Some(libc::EACCES) => Reason::new("cannot be read: permission denied")
            .hint(format_args!("chmod a+r {}", crate::shell::quote(path))),
        Some(libc::ENXIO) => Reason::new("is no regular file"),
        Some(libc::ENOENT) => Reason::new("does not exist"),
        _ => unreadable(error),
    }
}

fn unreadable(error: &io::Error) -> Reason {
    Reason::new(format_args!("cannot be read: {error}"))
}

enum Fault {
    Io(io::Error),
    Text(Reason),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

/// ELF for 64 bits, in this machine's byte order: offsets into the header and its tables.
mod elf {
    pub(super) const HEADER: usize = 64;
    pub(super) const MAGIC: &[u8] = b"\x7fELF";
    pub(super) const CLASS_64: u8 = 2;
    pub(super) const ORDER: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };
    pub(super) const SHARED: u16 = 3;
    pub(super) const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
        62
    } else if cfg!(target_arch = "aarch64") {
        183
    } else if cfg!(target_arch = "riscv64") {
        243
    } else {
        // Not known here: dlopen will say.
        0
    };
    pub(super) const LOAD: u32 = 1;
}

fn check_elf(file: &File, len: u64) -> Result<(), Fault> {
    let refuse = |text: &str| Err(Fault::Text(Reason::new(text)));
    let incomplete = || {
        Err(Fault::Text(
            Reason::new(format_args!("is incomplete: it ends after {len} bytes"))
                .hint(INSTALL_WHOLE),
        ))
    };
    if len == 0 {
        return Err(Fault::Text(Reason::new("is an empty file").hint(INSTALL_WHOLE)));
    }
    let mut start = [0; 4];
    if len < 4 || file.read_exact_at(&mut start, 0).is_err() || start != *elf::MAGIC {
        return refuse("is no shared library (not an ELF file)");
    }
    if len < elf::HEADER as u64 {
        return incomplete();
    }
    let mut header = [0; elf::HEADER];
    file.read_exact_at(&mut header, 0)?;
    if header[4] != elf::CLASS_64 || header[5] != elf::ORDER {
        return refuse("is a library for another kind of machine");
    }
    if half(&header, 16) != elf::SHARED {
        return refuse("is an ELF file, but no shared library");
    }
    let machine = half(&header, 18);
    if elf::MACHINE != 0 && machine != elf::MACHINE {
        return Err(Fault::Text(Reason::new(format_args!(
            "is a library for another kind of machine (ELF machine {machine}, here {})",
            elf::MACHINE
        ))));
    }

    let sections = table_end(long(&header, 40), half(&header, 58), half(&header, 60));
    let segments = table_end(long(&header, 32), half(&header, 54), half(&header, 56));
    if sections > len || segments > len {
        return incomplete();
    }
    let (offset, size) = (long(&header, 32), usize::from(half(&header, 54)));
    if size < 56 {
        return refuse("is a damaged library (its segment table)");
    }
    for n in 0..u64::from(half(&header, 56)) {
        let mut segment = [0; 56];
        file.read_exact_at(&mut segment, offset + n * size as u64)?;
        let end = long(&segment, 8).saturating_add(long(&segment, 32));
        if word(&segment, 0) == elf::LOAD && end > len {
            return incomplete();
        }
    }
    Ok(())
}

fn table_end(offset: u64, entry: u16, count: u16) -> u64 {
    offset.saturating_add(u64::from(entry) * u64::from(count))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(field)
}
