//! What a query gives: a profile and data, whole or item by item.

use rex_htsql::error::Mark;
use rex_htsql::profile::Profile;
use rex_htsql::{Error, Stage, Value};

use crate::etl::Work;
use crate::fetch::Fetch;
use crate::item::{Head, Item};
use crate::space::DatabaseId;
use crate::turns::Turns;

/// A finished answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// Name, title and domain; `None` where the query ends in a format command.
    pub profile: Option<Profile>,
    /// NULL where the query ends in a format command.
    pub data: Value,
    /// The text of a format command (`/:json`).
    pub rendered: Option<String>,
}

/// What a value that is held as a whole may take in memory.
const MAX_LIST: usize = 512 << 20;

/// The memory that is left for a value.
struct Room(usize);

impl Default for Room {
    fn default() -> Room {
        Room(MAX_LIST)
    }
}

impl Room {
    /// Counts an item in.
    fn take(&mut self, item: &Value) -> Result<(), Error> {
        let Some(left) = self.0.checked_sub(item.size()) else {
            let limit = MAX_LIST >> 20;
            return Err(Error::new(format!(
                "A list that is not streamed is limited to {limit} MB"
            )));
        };
        self.0 = left;
        Ok(())
    }
}

/// An answer that is read item by item.
pub(crate) struct Feed<'a> {
    pub(crate) profile: Profile,
    source: Source<'a>,
    mark: Option<Mark>,
    database: Option<DatabaseId>,
}

enum Source<'a> {
    Single(Option<Value>),
    Items(std::vec::IntoIter<Value>),
    Fetch(Box<Fetch>),
    Etl(Box<Work<'a>>),
    Turns(Box<Turns<'a>>),
}

impl<'a> Feed<'a> {
    /// A value at hand: a list gives its items.
    pub(crate) fn ready(profile: Profile, value: Value) -> Feed<'a> {
        let source = match value {
            Value::List(items) => Source::Items(items.into_iter()),
            single => Source::Single(Some(single)),
        };
        Feed { profile, source, mark: None, database: None }
    }

    /// A running fetch; its errors are marked.
    pub(crate) fn fetch(
        profile: Profile,
        database: DatabaseId,
        fetch: Fetch,
        mark: &Mark,
    ) -> Feed<'a> {
        let source = Source::Fetch(Box::new(fetch));
        Feed { profile, source, mark: Some(mark.clone()), database: Some(database) }
    }

    /// A running ETL command that gives a list of identities.
    pub(crate) fn etl(
        profile: Profile,
        database: DatabaseId,
        work: Work<'a>,
        mark: &Mark,
    ) -> Feed<'a> {
        let source = Source::Etl(Box::new(work));
        Feed { profile, source, mark: Some(mark.clone()), database: Some(database) }
    }

    /// The results of a running loop; its errors are marked.
    pub(crate) fn turns(profile: Profile, turns: Turns<'a>, mark: &Mark) -> Feed<'a> {
        let source = Source::Turns(Box::new(turns));
        Feed { profile, source, mark: Some(mark.clone()), database: None }
    }

    /// The database that is at work while the feed is read.
    pub(crate) fn database(&self) -> Option<DatabaseId> {
        self.database
    }

    /// Whether items come one by one; else there is one value.
    pub(crate) fn is_list(&self) -> bool {
        match &self.source {
            Source::Single(_) => false,
            Source::Items(_) => true,
            Source::Fetch(fetch) => fetch.is_list(),
            Source::Etl(_) | Source::Turns(_) => true,
        }
    }

    /// The next item of a list; of anything else its one value. Read what is long in it before the
    /// next one.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, Error> {
        match &mut self.source {
            Source::Single(value) => Ok(value.take().map(Item::Whole)),
            Source::Items(items) => Ok(items.next().map(Item::Whole)),
            Source::Etl(work) => Ok(Box::pin(work.next()).await?.map(Item::Whole)),
            Source::Turns(turns) => {
                let next = Box::pin(turns.next()).await;
                next.map_err(|error| marked(error, self.mark.as_ref()))
            }
            Source::Fetch(fetch) => {
                let next = fetch.next().await;
                next.map_err(|error| marked(error, self.mark.as_ref()))
            }
        }
    }

    /// The next item of the long list that a segment has the rest of.
    pub(crate) async fn rest(&mut self, segment: usize) -> Result<Option<Item>, Error> {
        match &mut self.source {
            Source::Fetch(fetch) => {
                let rest = fetch.rest(segment).await;
                rest.map_err(|error| marked(error, self.mark.as_ref()))
            }
            Source::Turns(turns) => {
                let rest = Box::pin(turns.rest(segment)).await;
                rest.map_err(|error| marked(error, self.mark.as_ref()))
            }
            Source::Single(_) | Source::Items(_) | Source::Etl(_) => Ok(None),
        }
    }

    /// All of a list as one item, of which the rest is asked for by the name `segment`: by
    /// [`Feed::next`].
    pub(crate) async fn list(&mut self, segment: usize) -> Result<Item, Error> {
        let mut head = Head::default();
        while let Some(item) = self.next().await? {
            if let Some(long) = head.add(item, segment) {
                return Ok(long);
            }
        }
        Ok(head.end())
    }

    /// As [`Feed::next`], held as a whole.
    pub(crate) async fn next_value(&mut self) -> Result<Option<Value>, Error> {
        match self.next().await? {
            Some(item) => self.hold(item, &mut Room::default()).await.map(Some),
            None => Ok(None),
        }
    }

    /// All of an item.
    async fn hold(&mut self, item: Item, room: &mut Room) -> Result<Value, Error> {
        match item {
            Item::Whole(value) => {
                room.take(&value)?;
                Ok(value)
            }
            Item::Record(items) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    values.push(Box::pin(self.hold(item, room)).await?);
                }
                Ok(Value::Record(values))
            }
            Item::Long(mut list) => {
                let mut values = Vec::new();
                loop {
                    let item = match list.next_held() {
                        Ok(item) => Some(item),
                        Err(segment) => self.rest(segment).await?,
                    };
                    let Some(item) = item else { return Ok(Value::List(values)) };
                    values.push(Box::pin(self.hold(item, room)).await?);
                }
            }
        }
    }

    /// Reads to the end.
    pub(crate) async fn collect(mut self) -> Result<(Profile, Value), Error> {
        let mut room = Room::default();
        let data = if self.is_list() {
            let mut items = Vec::new();
            while let Some(item) = self.next().await? {
                items.push(self.hold(item, &mut room).await?);
            }
            Value::List(items)
        } else {
            let value = match self.next().await? {
                Some(item) => self.hold(item, &mut room).await?,
                None => Value::Null,
            };
            self.drain().await?;
            value
        };
        Ok((self.profile, data))
    }

    /// Reads to the end and keeps nothing.
    pub(crate) async fn drain(&mut self) -> Result<(), Error> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

fn marked(error: Error, mark: Option<&Mark>) -> Error {
    match mark {
        Some(mark) => error.at(Stage::Processing, mark),
        None => error,
    }
}

impl std::fmt::Debug for Feed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("profile", &self.profile).finish_non_exhaustive()
    }
}
