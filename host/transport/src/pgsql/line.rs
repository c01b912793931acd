//! A connection that can be sent several statements at once: a transaction costs one round trip.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use rex_pg::{ConnectError, Connected, Wire};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;
use tokio_postgres::{AsyncMessage, Client, Error, Notification};

use super::connect::tell;
use crate::{Kind, TransportError};

/// The driver's client, and what moves its bytes while somebody waits for an answer.
pub(super) struct Line {
    // Before the driver: it says farewell when this is gone.
    client: Client,
    driver: Driver,
    /// While what is asked first is a part of connecting.
    limit: Option<Limit>,
    connect_timeout: Duration,
}

/// The connection's task runs while anything is waited for, on the thread that waits.
struct Driver {
    runtime: Arc<Runtime>,
    connection: JoinHandle<()>,
    /// What ended the connection.
    end: End,
}

type End = Arc<Mutex<Option<Error>>>;

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.connection.is_finished() {
            let _gone = self.runtime.block_on(&mut self.connection);
        }
    }
}

/// How long connecting is waited for.
struct Limit {
    until: Option<Instant>,
    quit: Option<Quit>,
}

impl Limit {
    /// `None`: it is waited for no longer.
    async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut over) = (pin!(work), pin!(self.over()));
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => over.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    async fn over(&self) {
        let quit = async {
            match self.quit.clone() {
                Some(quit) => quit.wait().await,
                None => pending().await,
            }
        };
        match self.until {
            Some(until) => {
                let _either = timeout_at(until.into(), quit).await;
            }
            None => quit.await,
        }
    }
}

/// Word that a connection is of no more use; that is said by dropping the other end.
#[derive(Clone)]
pub(super) struct Quit(watch::Receiver<()>);

impl Quit {
    pub(super) fn new() -> (watch::Sender<()>, Quit) {
        let (sender, receiver) = watch::channel(());
        (sender, Quit(receiver))
    }

    pub(super) async fn wait(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// A piece of work on the client, to be waited for.
pub(super) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + 'a>>;

impl Line {
    /// What a line runs on.
    pub(super) fn runtime() -> Result<Arc<Runtime>, TransportError> {
        let built = Builder::new_current_thread().enable_all().build();
        built.map(Arc::new).map_err(|error| TransportError::new(Kind::Refused, error.to_string()))
    }

    /// `heard` is told what the connection listens to. The time to connect is also for what is asked
    /// first, until [`Line::settle`].
    pub(super) fn connect(
        runtime: &Arc<Runtime>,
        server: &rex_pg::Address,
        quit: Option<Quit>,
        heard: impl FnMut(&Notification) + Send + 'static,
    ) -> Result<Line, ConnectError> {
        let end = End::default();
        // Each attempt has its own time.
        let limit = Limit { until: None, quit };
        let (client, connection, until) = runtime.block_on(async {
            let Some(connected) = limit.within(server.connect()).await else {
                return Err(ConnectError { text: "given up".to_owned(), source: None });
            };
            let Connected { client, wire, until } = connected?;
            Ok((client, tokio::spawn(drive(wire, Arc::clone(&end), heard)), until))
        })?;
        let runtime = Arc::clone(runtime);
        let driver = Driver { runtime, connection, end };
        let limit = Some(Limit { until, ..limit });
        Ok(Line { client, driver, limit, connect_timeout: server.connect_timeout() })
    }

    /// Something else was waited for meanwhile.
    pub(super) fn restart_clock(&mut self) {
        if let Some(limit) = &mut self.limit {
            limit.until = Instant::now().checked_add(self.connect_timeout);
        }
    }

    /// The connection is made: from now on answers may take any time.
    pub(super) fn settle(&mut self) {
        self.limit = None;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Waits for one piece of work.
    pub(super) fn wait<'a, T, W>(&'a self, work: impl FnOnce(&'a Client) -> W) -> Result<T, Error>
    where
        W: Future<Output = Result<T, Error>> + 'a,
    {
        let Driver { runtime, connection, .. } = &self.driver;
        let work = work(&self.client);
        let done = match &self.limit {
            None => runtime.block_on(work),
            Some(limit) => runtime.block_on(limit.within(work)).unwrap_or_else(|| {
                // Its end would wait for the answer.
                connection.abort();
                Err(rex_pg::timed_out())
            }),
        };
        done.map_err(|error| self.cause(error))
    }

    /// Waits for several pieces of work that are sent together, in this order.
    pub(super) fn wait_for_all<'a, T>(
        &'a self,
        works: impl FnOnce(&'a Client) -> Vec<Work<'a, T>>,
    ) -> Vec<Result<T, Error>> {
        let mut works = works(&self.client);
        let mut results: Vec<Option<Result<T, Error>>> = works.iter().map(|_| None).collect();
        self.driver.runtime.block_on(poll_fn(|context| {
            // The first round sends them.
            for (work, result) in works.iter_mut().zip(&mut results) {
                if result.is_none()
                    && let Poll::Ready(done) = work.as_mut().poll(context)
                {
                    *result = Some(done);
                }
            }
            if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
        }));
        results
            .into_iter()
            .flatten()
            .map(|result| result.map_err(|error| self.cause(error)))
            .collect()
    }

    /// Listens until `stop` is done, which is `true`, or the connection is broken.
    pub(super) fn listen_until(&mut self, stop: impl Future) -> bool {
        let Driver { runtime, connection, .. } = &mut self.driver;
        let mut stop = pin!(stop);
        runtime.block_on(poll_fn(|context| {
            if stop.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            Pin::new(&mut *connection).poll(context).map(|_ended| false)
        }))
    }

    /// Listens as long as `whole` takes, whatever becomes of the connection.
    pub(super) fn listen_for<T>(&self, whole: impl Future<Output = T>) -> T {
        self.driver.runtime.block_on(whole)
    }

    /// The server's last word rather than that the connection is closed.
    fn cause(&self, error: Error) -> Error {
        let mut end = self.driver.end.lock().unwrap_or_else(PoisonError::into_inner);
        if error.is_closed() { end.take().unwrap_or(error) } else { error }
    }
}

/// Moves bytes until the client is gone or the connection is broken.
async fn drive(mut wire: Wire, end: End, mut heard: impl FnMut(&Notification)) {
    while let Some(message) = poll_fn(|context| wire.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) => tell(&notice),
            Ok(AsyncMessage::Notification(notification)) => heard(&notification),
            Ok(_) => {}
            Err(error) => {
                *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
        }
    }
}
