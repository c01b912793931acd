//! One thread that hears every worker process and every signal, and tells the host's loop.
//!
//! It reads sockets, output pipes and pidfds through one epoll, puts prints and frames back into
//! the order in which they happened (see [`wire`](crate::wire)), and sends
//! [`Event`]s into a bounded channel: a plugin that prints faster than the host's output takes it
//! is slowed down by its full pipe, and nothing grows.

mod tap;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::process::Pid;

use self::tap::Tap;
use super::signals::Signals;
use super::spawn::{self, Ends, HeldUp, ProcessId};
use crate::page::Page;
use crate::wire::{Answer, Frames, Marker, ToHost};

/// What happened to a worker process, or to the host.
#[derive(Debug)]
pub enum Event {
    /// Something that the plugin printed, whole lines.
    Output {
        process: ProcessId,
        stream: Stream,
        /// `seq` of the task that had been started last when it was read.
        started: u64,
        text: Vec<u8>,
    },
    Answer {
        process: ProcessId,
        answer: Answer,
    },
    /// The process sent something that is no frame; it is beyond talking to.
    Nonsense {
        process: ProcessId,
        reason: String,
    },
    /// So many bytes of what was given to [`Poller::send`] have left; nothing of it waits any more.
    Written {
        process: ProcessId,
        bytes: usize,
    },
    /// Dead and everything it said and printed told; to be reaped by whoever started it.
    Exited {
        process: ProcessId,
        /// Whether it had said that it would end.
        goodbye: bool,
    },
    Signal(i32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// The handle of the thread.
pub struct Poller {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
}

enum Command {
    Watch { process: ProcessId, pid: Pid, nonce: u64, ends: Ends },
    Send { process: ProcessId, bytes: Vec<u8> },
    Quit,
}

/// How often the thread looks whether it may listen again.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// How many events may wait for the host's loop.
const BACKLOG: usize = 1024;

impl Poller {
    /// Starts the thread; `signals` are delivered as [`Event::Signal`]. While `is_full` says so, what living processes say and print stays in
    /// their sockets and pipes.
    ///
    /// # Errors
    /// When the kernel has no descriptors or threads left.
    pub fn start(
        signals: Signals,
        is_full: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<(Poller, Receiver<Event>)> {
        let (events, heard) = crossbeam_channel::bounded(BACKLOG);
        let (commands, orders) = crossbeam_channel::unbounded();
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let talk = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &talk, token(0, Source::Talk), epoll::EventFlags::IN)?;
        epoll::add(&epoll, &*wake, token(0, Source::Wake), epoll::EventFlags::IN)?;
        let Signals(signals) = signals;
        for (signal, pipe) in &signals {
            let number = u64::try_from(*signal).unwrap_or(0);
            epoll::add(&epoll, pipe, token(number, Source::Signal), epoll::EventFlags::IN)?;
        }
        let thread_wake = Arc::clone(&wake);
        // Never joined: it may be waiting for the loop to take an event.
        std::thread::Builder::new().name("poller".to_owned()).spawn(move || {
            let wake = thread_wake;
            let watched = BTreeMap::new();
            let mut thread = Thread { epoll, talk, wake, orders, events, signals, watched };
            if let Err(error) = thread.run(is_full) {
                tracing::error!(logger = "Supervisor", "the poller failed: {error}");
            }
        })?;
        Ok((Poller { commands, wake }, heard))
    }

    /// Hears a process from now on.
    pub fn watch(&self, process: ProcessId, pid: Pid, nonce: u64, ends: Ends) {
        self.command(Command::Watch { process, pid, nonce, ends });
    }

    /// Writes `bytes` to the process's socket as it takes them; answered by [`Event::Written`].
    pub fn send(&self, process: ProcessId, bytes: Vec<u8>) {
        self.command(Command::Send { process, bytes });
    }

    fn command(&self, command: Command) {
        // Either fails only when the thread is gone, which has said why.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.command(Command::Quit);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Wake,
    Signal,
    Socket,
    Stdout,
    Stderr,
    Pidfd,
    /// Any of the sockets and pipes, all in an epoll of their own.
    Talk,
}

const SOURCES: [Source; 7] = [
    Source::Wake,
    Source::Signal,
    Source::Socket,
    Source::Stdout,
    Source::Stderr,
    Source::Pidfd,
    Source::Talk,
];

impl Source {
    fn of(event: &epoll::Event) -> Source {
        let at = usize::try_from(event.data.u64() & 7).unwrap_or(0);
        SOURCES.get(at).copied().unwrap_or(Source::Talk)
    }
}

fn wait(
    epoll: &OwnedFd,
    ready: &mut Vec<epoll::Event>,
    timeout: Option<&Timespec>,
) -> io::Result<()> {
    ready.clear();
    match epoll::wait(epoll, spare_capacity(ready), timeout) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn token(number: u64, source: Source) -> epoll::EventData {
    epoll::EventData::new_u64(number << 3 | source as u64)
}

struct Thread {
    epoll: OwnedFd,
    /// Sockets and pipes of workers: an epoll within the other one.
    talk: OwnedFd,
    wake: Arc<OwnedFd>,
    orders: Receiver<Command>,
    events: Sender<Event>,
    signals: Vec<(i32, UnixStream)>,
    watched: BTreeMap<ProcessId, Watched>,
}

/// A process that is heard.
struct Watched {
    pid: Pid,
    pidfd: OwnedFd,
    /// `None` after the end of the stream.
    socket: Option<UnixStream>,
    frames: Frames,
    outgoing: VecDeque<u8>,
    /// Bytes that left `outgoing` and were not told of.
    written: usize,
    taps: [Tap; 2],
    page: Arc<Page>,
    held_up: Arc<HeldUp>,
    goodbye: bool,
}

/// The host's loop is gone.
struct Gone;

impl Thread {
    fn run(&mut self, is_full: impl Fn() -> bool) -> io::Result<()> {
        let (mut ready, mut talking) = (Vec::with_capacity(64), Vec::with_capacity(64));
        // Since when nobody was listened to.
        let mut deaf: Option<Instant> = None;
        loop {
            let (now, is_full) = (Instant::now(), is_full());
            if let Some(since) = deaf {
                self.hold_up(now - since);
            }
            match (deaf, is_full) {
                (None, true) => epoll::delete(&self.epoll, &self.talk)?,
                (Some(_), false) => {
                    let talk = token(0, Source::Talk);
                    epoll::add(&self.epoll, &self.talk, talk, epoll::EventFlags::IN)?;
                }
                _ => {}
            }
            deaf = is_full.then_some(now);
            wait(&self.epoll, &mut ready, deaf.is_some().then_some(&LOOK_AGAIN))?;
            talking.clear();
            if ready.iter().any(|event| Source::of(event) == Source::Talk) {
                wait(&self.talk, &mut talking, Some(&Timespec::default()))?;
            }
            for event in ready.iter().chain(&talking) {
                let data = event.data.u64();
                let result = match Source::of(event) {
                    Source::Wake => {
                        if self.obey()? {
                            return Ok(());
                        }
                        Ok(())
                    }
                    Source::Signal => self.signal(data >> 3),
                    Source::Talk => Ok(()),
                    other => self.hear(ProcessId(data >> 3), other, event.flags)?,
                };
                if let Err(Gone) = result {
                    return Ok(());
                }
            }
        }
    }

    /// Returns whether to quit.
    fn obey(&mut self) -> io::Result<bool> {
        let mut count = [0; 8];
        // Nonblocking: somebody else's wake may have been read with ours.
        let _ = rustix::io::read(&*self.wake, &mut count);
        while let Ok(command) = self.orders.try_recv() {
            match command {
                Command::Quit => return Ok(true),
                Command::Watch { process, pid, nonce, ends } => {
                    self.add(process, pid, nonce, ends)?;
                }
                Command::Send { process, bytes } => {
                    if let Some(watched) = self.watched.get_mut(&process) {
                        watched.outgoing.extend(bytes);
                        self.flush(process)?;
                    }
                }
            }
        }
        Ok(false)
    }

    fn add(&mut self, process: ProcessId, pid: Pid, nonce: u64, ends: Ends) -> io::Result<()> {
        let Ends { socket, stdout, stderr, pidfd, page, held_up } = ends;
        let readable = epoll::EventFlags::IN;
        epoll::add(&self.talk, &socket, token(process.0, Source::Socket), readable)?;
        epoll::add(&self.talk, &stdout, token(process.0, Source::Stdout), readable)?;
        epoll::add(&self.talk, &stderr, token(process.0, Source::Stderr), readable)?;
        epoll::add(&self.epoll, &pidfd, token(process.0, Source::Pidfd), readable)?;
        let marker = Marker::new(nonce);
        let watched = Watched {
            pid,
            pidfd,
            socket: Some(socket),
            frames: Frames::default(),
            outgoing: VecDeque::new(),
            written: 0,
            taps: [Tap::new(stdout, marker), Tap::new(stderr, marker)],
            page,
            held_up,
            goodbye: false,
        };
        self.watched.insert(process, watched);
        Ok(())
    }

    /// Those that have something to say were not listened to for so long.
    fn hold_up(&self, time: Duration) {
        for watched in self.watched.values().filter(|watched| watched.is_unheard()) {
            watched.held_up.add(time);
        }
    }

    fn signal(&mut self, number: u64) -> Result<(), Gone> {
        for (signal, pipe) in &mut self.signals {
            if u64::try_from(*signal) == Ok(number) {
                let mut bytes = [0; 64];
                // One event a byte: a second TERM is another order, not an echo of the first.
                while let Ok(count @ 1..) = io::Read::read(pipe, &mut bytes) {
                    for _ in 0..count {
                        self.events.send(Event::Signal(*signal)).map_err(|_| Gone)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn hear(
        &mut self,
        process: ProcessId,
        source: Source,
        flags: epoll::EventFlags,
    ) -> io::Result<Result<(), Gone>> {
        if source == Source::Socket && flags.contains(epoll::EventFlags::OUT) {
            self.flush(process)?;
        }
        // An event of a process that was reaped earlier in the same round.
        let Some(watched) = self.watched.get_mut(&process) else { return Ok(Ok(())) };
        let mut mouth = Mouth { process, page: Arc::clone(&watched.page), events: &self.events };
        let result = match source {
            Source::Socket => watched.read_socket(&self.talk, &mut mouth),
            Source::Stdout => watched.read_pipe(&self.talk, 0, &mut mouth),
            Source::Stderr => watched.read_pipe(&self.talk, 1, &mut mouth),
            Source::Pidfd => {
                let result = watched.last_words(&self.talk, &mut mouth);
                let watched = self.watched.remove(&process);
                match (result, watched) {
                    (Ok(()), Some(watched)) => watched.bury(&self.epoll, &self.talk, &mut mouth),
                    (result, _) => result,
                }
            }
            Source::Wake | Source::Signal | Source::Talk => Ok(()),
        };
        Ok(result)
    }

    /// Writes what waits; asks to be told when the socket takes more.
    fn flush(&mut self, process: ProcessId) -> io::Result<()> {
        let Some(watched) = self.watched.get_mut(&process) else { return Ok(()) };
        let Some(socket) = &mut watched.socket else {
            watched.outgoing.clear();
            return Ok(());
        };
        let before = watched.outgoing.len();
        while !watched.outgoing.is_empty() {
            let (front, _) = watched.outgoing.as_slices();
            match socket.write(front) {
                Ok(count) => drop(watched.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A dead reader: its pidfd tells the rest.
                Err(_) => watched.outgoing.clear(),
            }
        }
        watched.written += before - watched.outgoing.len();
        let done = watched.outgoing.is_empty();
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, !done);
        epoll::modify(&self.talk, socket, token(process.0, Source::Socket), flags)?;
        if done {
            let bytes = std::mem::take(&mut watched.written);
            // Fails only when the host's loop is gone, which the next event finds out.
            let _ = self.events.send(Event::Written { process, bytes });
        }
        Ok(())
    }
}

/// Speaks for one process.
struct Mouth<'a> {
    process: ProcessId,
    page: Arc<Page>,
    events: &'a Sender<Event>,
}

impl Mouth<'_> {
    fn say(&mut self, event: Event) -> Result<(), Gone> {
        self.events.send(event).map_err(|_| Gone)
    }

    fn print(&mut self, stream: usize, text: Vec<u8>) -> Result<(), Gone> {
        if text.is_empty() {
            return Ok(());
        }
        let stream = if stream == 0 { Stream::Out } else { Stream::Err };
        let started = self.page.read().started;
        self.say(Event::Output { process: self.process, stream, started, text })
    }
}

impl Watched {
    /// Whether something is there that nobody has read.
    fn is_unheard(&self) -> bool {
        let waits = |count: Result<u64, Errno>| count.is_ok_and(|bytes| bytes > 0);
        self.socket.as_ref().is_some_and(|socket| waits(rustix::io::ioctl_fionread(socket)))
            || self.taps.iter().any(|tap| waits(rustix::io::ioctl_fionread(tap.file())))
    }

    fn read_socket(&mut self, epoll: &OwnedFd, mouth: &mut Mouth<'_>) -> Result<(), Gone> {
        // A bounded number of reads, so that one busy worker does not keep others waiting.
        for _ in 0..16 {
            let Some(socket) = &mut self.socket else { return Ok(()) };
            match self.frames.fill(socket) {
                Ok(0) => return self.deliver(mouth).map(|()| self.close_socket(epoll)),
                Ok(_) => self.deliver(mouth)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.close_socket(epoll);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Passes on the whole frames that came, each after the prints that it follows.
    fn deliver(&mut self, mouth: &mut Mouth<'_>) -> Result<(), Gone> {
        loop {
            match self.frames.next::<ToHost>() {
                Ok(None) => {
                    for (stream, tap) in self.taps.iter_mut().enumerate() {
                        mouth.print(stream, tap.take_lines())?;
                    }
                    return Ok(());
                }
                Ok(Some(ToHost { marker, body })) => {
                    if marker > 0 {
                        for (stream, tap) in self.taps.iter_mut().enumerate() {
                            mouth.print(stream, tap.read_to(marker))?;
                        }
                    }
                    self.goodbye |= matches!(body, Answer::Goodbye);
                    mouth.say(Event::Answer { process: mouth.process, answer: body })?;
                }
                Err(error) => {
                    self.frames = Frames::default();
                    let reason = error.to_string();
                    return mouth.say(Event::Nonsense { process: mouth.process, reason });
                }
            }
        }
    }

    fn read_pipe(
        &mut self,
        epoll: &OwnedFd,
        stream: usize,
        mouth: &mut Mouth<'_>,
    ) -> Result<(), Gone> {
        let tap = &mut self.taps[stream];
        let text = tap.read_some();
        if tap.ended() {
            forget(epoll, tap.file());
        }
        mouth.print(stream, text)
    }

    /// Everything that is there when the process is dead: its frames, then its prints. The end of
    /// the pipes is not waited for, since something that the plugin started may hold them.
    fn last_words(&mut self, epoll: &OwnedFd, mouth: &mut Mouth<'_>) -> Result<(), Gone> {
        // What it started may print for ever: it is killed before the rest is read.
        spawn::kill_group(self.pid);
        while let Some(socket) = &mut self.socket {
            match self.frames.fill(socket) {
                Ok(1..) => self.deliver(mouth)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => self.close_socket(epoll),
            }
        }
        for (stream, tap) in self.taps.iter_mut().enumerate() {
            mouth.print(stream, tap.read_rest())?;
        }
        Ok(())
    }

    fn bury(self, epoll: &OwnedFd, talk: &OwnedFd, mouth: &mut Mouth<'_>) -> Result<(), Gone> {
        forget(epoll, &self.pidfd);
        for tap in &self.taps {
            if !tap.ended() {
                forget(talk, tap.file());
            }
        }
        mouth.say(Event::Exited { process: mouth.process, goodbye: self.goodbye })
    }

    fn close_socket(&mut self, epoll: &OwnedFd) {
        if let Some(socket) = self.socket.take() {
            forget(epoll, &socket);
        }
    }
}

/// Stops watching a descriptor before it is closed.
fn forget(epoll: &OwnedFd, fd: &impl AsFd) {
    // Fails only when it is not watched any more, which is what is wanted.
    let _ = epoll::delete(epoll, fd);
}
