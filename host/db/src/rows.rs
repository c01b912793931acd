//! The rows of one statement, as they come: straight from the socket, or by portions of a cursor.
//!
//! A statement that is alone on its connection streams. Where several must be read side by side,
//! or other statements run in between, each has a cursor within the transaction, of which portions
//! are fetched; a portion is bounded in rows and, by the width of the rows seen, in bytes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::TryStreamExt as _;
use futures_util::future::{join, join_all};
use rex_htsql::Error;
use rex_htsql::plan::Statement;
use tokio_postgres::{Row, RowStream};

use crate::connection::{Connection, bind};
use crate::driver;

/// Rows of the first portion: most answers end there.
const FIRST_PORTION: usize = 256;
const MAX_PORTION: usize = 4096;
const MIN_PORTION: usize = 16;
/// What the rows of a portion may hold together.
const PORTION_BYTES: usize = 4 << 20;

pub(crate) struct Rows {
    connection: Arc<Connection>,
    source: Source,
}

enum Source {
    Stream { stream: Pin<Box<RowStream>>, sql: Arc<str> },
    Cursor { name: String, portion: VecDeque<Row>, asked: usize, ended: bool, close: bool },
    Ended,
}

impl Rows {
    /// Streams a statement; the connection can do nothing else until the rows are read.
    pub(crate) async fn stream(
        connection: &Arc<Connection>,
        statement: &Statement,
    ) -> Result<Rows, Error> {
        let stream = connection
            .stream(statement)
            .await
            .map_err(|error| driver::error(&error, &statement.sql, 0))?;
        let source =
            Source::Stream { stream: Box::pin(stream), sql: statement.sql.as_str().into() };
        Ok(Rows { connection: connection.clone(), source })
    }

    /// Opens cursors for several statements and fetches the first portion of each, all in one
    /// round trip; `begin` is sent before them where it is given.
    pub(crate) async fn cursors(
        connection: &Arc<Connection>,
        begin: Option<&str>,
        statements: &[&Statement],
    ) -> Result<Vec<Rows>, Error> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let client = connection.client();
        let named: Vec<(String, &Statement)> = statements
            .iter()
            .map(|statement| (format!("rex_{}", COUNT.fetch_add(1, Ordering::Relaxed)), *statement))
            .collect();
        let opened = async {
            match begin {
                Some(begin) => client.batch_execute(begin).await,
                None => Ok(()),
            }
        };
        // Requests go out in the order in which the futures are first polled.
        let portions = named.iter().map(|(name, statement)| async move {
            let head = format!("DECLARE {name} NO SCROLL CURSOR FOR ");
            let sql = format!("{head}{}", statement.sql);
            let fetch = fetch_sql(name, FIRST_PORTION);
            let (declared, rows) = join(
                client.execute_typed_raw(&sql, statement),
                connection.rows(&fetch, Vec::new()),
            )
            .await;
            declared.map_err(|error| driver::error(&error, &sql, head.chars().count()))?;
            rows.map_err(|error| driver::error(&error, &statement.sql, usize::MAX))
        });
        let (opened, portions) = join(opened, join_all(portions)).await;
        opened.map_err(|error| driver::error(&error, "", 0))?;
        named
            .into_iter()
            .zip(portions)
            .map(|((name, _), portion)| {
                let portion = VecDeque::from(portion?);
                let ended = portion.len() < FIRST_PORTION;
                // The end of a transaction of its own closes the cursor as well.
                let close = begin.is_none();
                let source = Source::Cursor { name, portion, asked: FIRST_PORTION, ended, close };
                Ok(Rows { connection: connection.clone(), source })
            })
            .collect()
    }

    /// The next row; `None` at the end and ever after.
    pub(crate) async fn next(&mut self) -> Result<Option<Row>, Error> {
        match &mut self.source {
            Source::Ended => Ok(None),
            Source::Stream { stream, sql } => {
                let row = stream.try_next().await.map_err(|error| driver::error(&error, sql, 0))?;
                if row.is_none() {
                    self.source = Source::Ended;
                }
                Ok(row)
            }
            Source::Cursor { name, portion, asked, ended, close } => {
                if portion.is_empty() && !*ended {
                    let sql = fetch_sql(name, *asked);
                    let rows = self
                        .connection
                        .rows(&sql, Vec::new())
                        .await
                        .map_err(|error| driver::error(&error, "", 0))?;
                    *ended = rows.len() < *asked;
                    let bytes: usize = rows.iter().map(Row::raw_size_bytes).sum();
                    let width = (bytes / rows.len().max(1)).max(1);
                    *asked = (PORTION_BYTES / width).clamp(MIN_PORTION, MAX_PORTION);
                    portion.extend(rows);
                }
                let row = portion.pop_front();
                if row.is_none() {
                    let close = close.then(|| format!("CLOSE {name}"));
                    self.source = Source::Ended;
                    if let Some(close) = close {
                        self.connection.run(&close).await?;
                    }
                }
                Ok(row)
            }
        }
    }
}

fn fetch_sql(name: &str, rows: usize) -> String {
    format!("FETCH FORWARD {rows} FROM {name}")
}

/// `execute_typed` for the parameters of a statement.
trait ExecuteTyped {
    async fn execute_typed_raw(
        &self,
        sql: &str,
        statement: &Statement,
    ) -> Result<(), tokio_postgres::Error>;
}

impl ExecuteTyped for tokio_postgres::Client {
    async fn execute_typed_raw(
        &self,
        sql: &str,
        statement: &Statement,
    ) -> Result<(), tokio_postgres::Error> {
        let stream = self.query_typed_raw(sql, bind(statement)).await?;
        stream.try_for_each(|_row| async { Ok(()) }).await
    }
}
