//! Lets go of the code that was needed only to start: a process that is to wait for days need not
//! keep it mapped. It stays in the page cache, whence it comes back as soon as it is touched.
#![expect(unsafe_code, reason = "the program's own segments")]

use std::ffi::c_void;

/// The program and the libraries it was started with, but no plugin: what that has done to its code
/// while it was loaded (relocations, patches) would be lost.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    objects: usize,
}

impl Program {
    /// What is loaded at this moment.
    pub fn as_loaded() -> Program {
        let mut objects = usize::MAX;
        each_object(&mut objects, |_| {});
        Program { objects: usize::MAX - objects }
    }

    /// Unmaps what is only read, until it is needed again.
    pub fn shed(self) {
        let mut objects = self.objects;
        each_object(&mut objects, shed_object);
    }
}

/// What the callback needs; the loader hands it on.
struct Visit<'a> {
    left: &'a mut usize,
    visitor: fn(&libc::dl_phdr_info),
}

/// Shows the first `left` objects in the order in which they were loaded, and counts them down.
fn each_object(left: &mut usize, visitor: fn(&libc::dl_phdr_info)) {
    extern "C" fn callback(
        object: *mut libc::dl_phdr_info,
        _: usize,
        visit: *mut c_void,
    ) -> libc::c_int {
        // SAFETY: the loader passes a description that is valid during the call, and the `Visit`
        // that it was given, which nobody else uses meanwhile.
        let (object, visit) = unsafe { (&*object, &mut *visit.cast::<Visit<'_>>()) };
        if *visit.left == 0 {
            return 1;
        }
        *visit.left -= 1;
        (visit.visitor)(object);
        0
    }
    let mut visit = Visit { left, visitor };
    // SAFETY: the callback keeps to what the loader promises, and does not unwind.
    unsafe { libc::dl_iterate_phdr(Some(callback), (&raw mut visit).cast()) };
}

fn shed_object(object: &libc::dl_phdr_info) {
    // SAFETY: a loaded object's headers are mapped.
    let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
    let page = rustix::param::page_size() as u64;
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let from = (object.dlpi_addr + header.p_vaddr) / page * page;
        let to = (object.dlpi_addr + header.p_vaddr + header.p_memsz) / page * page;
        let length = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
        // SAFETY: these pages are a file's, mapped and never written: dropped, they are read again.
        // Where the kernel will not, nothing is lost.
        unsafe { libc::madvise(from as *mut c_void, length, libc::MADV_DONTNEED) };
    }
}
