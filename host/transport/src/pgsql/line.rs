//! A connection that can be sent several statements at once: a transaction costs one round trip.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use rex_pg::Attempt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Connection, Error, NoTls, Notification};

use super::connect::tell;
use crate::{Kind, TransportError};

/// The driver's client, and what moves its bytes while somebody waits for an answer.
pub(super) struct Line {
    // Before the driver: it says farewell when this is gone.
    client: Client,
    driver: Driver,
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

/// A piece of work on the client, to be waited for.
pub(super) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + 'a>>;

impl Line {
    /// What a line runs on.
    pub(super) fn runtime() -> Result<Arc<Runtime>, TransportError> {
        let built = Builder::new_current_thread().enable_all().build();
        built.map(Arc::new).map_err(|error| TransportError::new(Kind::Refused, error.to_string()))
    }

    /// `heard` is told what the connection listens to.
    pub(super) fn connect(
        runtime: &Arc<Runtime>,
        attempt: Attempt,
        heard: impl FnMut(&Notification) + Send + 'static,
    ) -> Result<Line, Error> {
        let Attempt { config, connector } = attempt;
        let end = End::default();
        let (client, connection) = runtime.block_on(async {
            let end = Arc::clone(&end);
            Ok::<_, Error>(match connector {
                Some(connector) => {
                    let (client, connection) = config.connect(connector).await?;
                    (client, tokio::spawn(drive(connection, end, heard)))
                }
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    (client, tokio::spawn(drive(connection, end, heard)))
                }
            })
        })?;
        let runtime = Arc::clone(runtime);
        Ok(Line { client, driver: Driver { runtime, connection, end } })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Waits for one piece of work.
    pub(super) fn wait<'a, T, W>(&'a self, work: impl FnOnce(&'a Client) -> W) -> Result<T, Error>
    where
        W: Future<Output = Result<T, Error>> + 'a,
    {
        self.driver.runtime.block_on(work(&self.client)).map_err(|error| self.cause(error))
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
    pub(super) fn listen_until(&mut self, mut stop: impl Future + Unpin) -> bool {
        let Driver { runtime, connection, .. } = &mut self.driver;
        runtime.block_on(poll_fn(|context| {
            if Pin::new(&mut stop).poll(context).is_ready() {
                return Poll::Ready(true);
            }
            Pin::new(&mut *connection).poll(context).map(|_ended| false)
        }))
    }

    /// The server's last word rather than that the connection is closed.
    fn cause(&self, error: Error) -> Error {
        let mut end = self.driver.end.lock().unwrap_or_else(PoisonError::into_inner);
        if error.is_closed() { end.take().unwrap_or(error) } else { error }
    }
}

/// Moves bytes until the client is gone or the connection is broken.
async fn drive<S, T>(
    mut connection: Connection<S, T>,
    end: End,
    mut heard: impl FnMut(&Notification),
) where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
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
