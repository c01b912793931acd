//! Standard input by lines, and word of when no more of them come just now.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What there is to read.
pub(super) enum Next {
    Line(String),
    /// One of more bytes than any may have, which is so many as were read.
    TooLong(usize),
    /// No whole line, and whoever writes has no more just now.
    Dry,
    End,
}

/// Standard input by lines.
pub(super) struct Lines {
    input: BufReader<File>,
    /// A line as far as it was read.
    part: Vec<u8>,
    /// Bytes of the longest line.
    limit: usize,
}

impl Lines {
    pub(super) fn open(limit: usize) -> io::Result<Lines> {
        let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        Ok(Lines { input: BufReader::new(file), part: Vec::new(), limit })
    }

    /// The next line; waits for it unless what dries up is to be said.
    pub(super) fn next(&mut self, say_dry: bool) -> io::Result<Next> {
        loop {
            if self.input.buffer().is_empty() {
                if say_dry && self.is_dry() {
                    return Ok(Next::Dry);
                }
                match self.input.fill_buf() {
                    Ok([]) if self.part.is_empty() => return Ok(Next::End),
                    Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                    Err(_) => continue,
                    Ok(_) => {}
                }
            }
            let length = self.part.len();
            // No more than is in the buffer: a read might wait.
            let mut buffered = self.input.buffer();
            let read = buffered.read_until(b'\n', &mut self.part)?;
            self.input.consume(read);
            if self.part.len() > self.limit {
                return Ok(Next::TooLong(self.part.len()));
            }
            if self.part.len() == length || self.part.ends_with(b"\n") {
                let line = String::from_utf8(std::mem::take(&mut self.part));
                return line.map(Next::Line).map_err(|_| {
                    io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8")
                });
            }
        }
    }

    fn is_dry(&self) -> bool {
        let mut fds = [PollFd::new(self.input.get_ref(), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())) == Ok(0)
    }
}
