//! A TCP proxy that a test can cut, as a network or a server that goes away.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// When a client that only waits learns that its server is gone.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Passes connections on to one address while it is open.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    cut: AtomicBool,
    /// The server's end is not told to clients at once.
    silent: AtomicBool,
    /// Nobody hears what either end says.
    hushed: AtomicBool,
    /// How many clients have come since.
    unheard: AtomicUsize,
    /// To clients, and to the server.
    streams: Mutex<Vec<[TcpStream; 2]>>,
    /// What neither end may say so many times.
    last_word: Mutex<Option<LastWord>>,
}

struct LastWord {
    word: Vec<u8>,
    times: usize,
    /// Silence is what comes then, rather than a cut.
    hush: bool,
}

impl Shared {
    /// Both ends end when either does, or on a cut.
    fn join(self: &Arc<Shared>, client: TcpStream, server: TcpStream) -> std::io::Result<()> {
        let streams = [client.try_clone()?, server.try_clone()?];
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(streams);
        if self.cut.load(Ordering::SeqCst) {
            self.cut();
        }
        let (back_from, back_to) = (server.try_clone()?, client.try_clone()?);
        let (spoken, client_has_spoken) = mpsc::channel::<()>();
        let shared = Arc::clone(self);
        thread::spawn(move || {
            pass(&back_from, &back_to, |chunk| shared.hears(chunk));
            if shared.silent.load(Ordering::SeqCst) {
                let _either_way = client_has_spoken.recv_timeout(KEEPALIVE);
            }
            hang_up(&[back_from, back_to]);
        });
        let shared = Arc::clone(self);
        thread::spawn(move || {
            pass(&client, &server, |chunk| shared.hears(chunk));
            hang_up(&[client, server]);
            drop(spoken);
        });
        Ok(())
    }

    /// Whether the other end does.
    fn hears(&self, chunk: &[u8]) -> bool {
        let mut last_word = self.last_word.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(LastWord { word, times, hush }) = last_word.as_mut() {
            *times =
                times.saturating_sub(chunk.windows(word.len()).filter(|part| part == word).count());
            if *times == 0 {
                let flag = if *hush { &self.hushed } else { &self.cut };
                flag.store(true, Ordering::SeqCst);
                *last_word = None;
            }
        }
        if self.cut.load(Ordering::SeqCst) {
            self.cut();
        }
        !self.hushed.load(Ordering::SeqCst)
    }

    fn cut(&self) {
        for streams in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            hang_up(&streams);
        }
    }
}

fn hang_up(streams: &[TcpStream]) {
    for stream in streams {
        // One that has ended already is as good.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, hears: impl Fn(&[u8]) -> bool) {
    let mut chunk = [0; 8192];
    while let Ok(n) = from.read(&mut chunk) {
        if n == 0 || hears(&chunk[..n]) && to.write_all(&chunk[..n]).is_err() {
            break;
        }
    }
}

impl Proxy {
    /// A proxy to `target`, `HOST:PORT`, on a free port.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn to(target: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let shared = Arc::new(Shared::default());
        let (ours, target) = (Arc::clone(&shared), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // While cut, clients are hung up on.
                if !ours.cut.load(Ordering::SeqCst)
                    && let Ok(server) = TcpStream::connect(&target)
                {
                    let _ = ours.join(client, server);
                    if ours.hushed.load(Ordering::SeqCst) {
                        ours.unheard.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        });
        Proxy { address, shared }
    }

    /// `HOST:PORT` to connect to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Breaks all connections, and each new one, until [`restore`](Self::restore).
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.cut();
    }

    /// Ends all connections as a server that is gone without a word and there again: clients learn of it
    /// when they next say something, or by a keepalive.
    pub fn lose(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
        let mut streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for [_client, server] in streams.drain(..) {
            hang_up(&[server]);
        }
    }

    /// As [`Proxy::cut`], when a client or the server says `word`, of which the other end hears nothing.
    pub fn cut_before(&self, word: &[u8]) {
        self.cut_before_nth(1, word);
    }

    /// As [`Proxy::cut_before`], when it is said for the `nth` time.
    pub fn cut_before_nth(&self, nth: usize, word: &[u8]) {
        self.set_last_word(LastWord { word: word.to_vec(), times: nth, hush: false });
    }

    fn set_last_word(&self, last_word: LastWord) {
        let mut place = self.shared.last_word.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Some(last_word);
    }

    /// Breaks all connections; new ones are made, and never answered, also not after
    /// [`restore`](Self::restore).
    pub fn hush(&self) {
        self.shared.hushed.store(true, Ordering::SeqCst);
        self.shared.cut();
    }

    /// Lets nobody hear anything any more as soon as a client or the server says `word`, and breaks
    /// nothing.
    pub fn hush_before(&self, word: &[u8]) {
        self.set_last_word(LastWord { word: word.to_vec(), times: 1, hush: true });
    }

    pub fn is_hushed(&self) -> bool {
        self.shared.hushed.load(Ordering::SeqCst)
    }

    /// How many connections have been made while nobody was heard.
    pub fn unheard(&self) -> usize {
        self.shared.unheard.load(Ordering::SeqCst)
    }

    pub fn restore(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
        self.shared.hushed.store(false, Ordering::SeqCst);
    }
}
