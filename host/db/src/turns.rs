//! The command `for`: a body run once an item, turn by turn as the results are read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec::IntoIter;

use rex_htsql::command::Command;
use rex_htsql::domain::Domain;
use rex_htsql::profile::Profile;
use rex_htsql::{Error, Param, Params, Value};

use crate::exec::{Run, marked};
use crate::item::Item;
use crate::product::Feed;

/// A running loop.
pub(crate) struct Turns<'a> {
    run: Run<'a>,
    reference: String,
    body: Command,
    params: Params,
    items: Feed<'a>,
    source: Source,
    /// Of all results.
    profile: Option<Profile>,
    /// The result that told the profile, before it is read.
    first: Option<Item>,
    /// The result that is being read, where it is a list, and what has its rest.
    current: Option<Feed<'a>>,
    segment: usize,
}

/// What the items are.
enum Source {
    /// The items of a list, all of one domain.
    List(Domain),
    /// The fields of a record; a list parameter is one.
    Record(IntoIter<Param>),
}

impl<'a> Turns<'a> {
    /// Takes turns until there is a result.
    pub(crate) async fn start(
        run: Run<'a>,
        reference: &str,
        items: &Command,
        body: &Command,
        params: &Params,
    ) -> Result<Turns<'a>, Error> {
        // Apart from the segments of plans, and from those of loops in loops.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let segment = usize::MAX - COUNT.fetch_add(1, Ordering::Relaxed) % (usize::MAX / 2);
        let items = run.compile(items, params).await?;
        let mut feed = Run { busy: Some(run.database), ..run }.plan(&items, params).await?;
        let source = Source::of(&mut feed).await.map_err(|error| marked(error, &items))?;
        let mut turns = Turns {
            run,
            reference: reference.to_string(),
            body: body.clone(),
            params: params.clone(),
            items: feed,
            source,
            profile: None,
            first: None,
            current: None,
            segment,
        };
        turns.first = turns.turn().await?;
        Ok(turns)
    }

    /// The profile of the list of results.
    pub(crate) fn profile(&self) -> Profile {
        let mut profile = self.profile.clone().unwrap_or_else(|| Profile::bare(Domain::Untyped));
        profile.domain = Domain::List(Box::new(profile.domain));
        profile
    }

    /// The next result that is not NULL.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, Error> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.turn().await,
        }
    }

    /// The next item of a list within the result.
    pub(crate) async fn rest(&mut self, segment: usize) -> Result<Option<Item>, Error> {
        match &mut self.current {
            Some(current) if segment == self.segment => current.next().await,
            Some(current) => current.rest(segment).await,
            None => Ok(None),
        }
    }

    async fn turn(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if let Some(mut last) = self.current.take() {
                last.drain().await?;
            }
            let Some(item) = self.source.next(&mut self.items).await? else { return Ok(None) };
            self.params.set(&self.reference, item);
            let plan = self.run.compile(&self.body, &self.params).await?;
            let mut feed = self.run.plan(&plan, &self.params).await?;
            let result = match feed.is_list() {
                true => feed.list(self.segment).await?,
                false => feed.next().await?.unwrap_or(Item::Whole(Value::Null)),
            };
            if matches!(result, Item::Whole(Value::Null)) {
                feed.drain().await?;
                continue;
            }
            match &self.profile {
                Some(known) if known.domain != feed.profile.domain => {
                    let quote = format!(" expected {}; got {}", known.domain, feed.profile.domain);
                    let error = Error::quoting("Unexpected loop body type", quote);
                    return Err(marked(error, &plan));
                }
                Some(_) => {}
                None => self.profile = Some(feed.profile.clone()),
            }
            self.current = Some(feed);
            return Ok(Some(result));
        }
    }
}

impl Source {
    async fn of(feed: &mut Feed<'_>) -> Result<Source, Error> {
        if let Domain::List(item) = &feed.profile.domain {
            return Ok(Source::List((**item).clone()));
        }
        let value = feed.next_value().await?.unwrap_or(Value::Null);
        feed.drain().await?;
        let fields = match (&feed.profile.domain, value) {
            (_, Value::Null) => Vec::new(),
            (Domain::Record(fields), Value::Record(values)) => fields
                .iter()
                .zip(values)
                .map(|(field, value)| Param { domain: field.domain.clone(), value })
                .collect(),
            _ => return Err(Error::new("Expected a list value")),
        };
        Ok(Source::Record(fields.into_iter()))
    }

    async fn next(&mut self, feed: &mut Feed<'_>) -> Result<Option<Param>, Error> {
        match self {
            Source::List(domain) => {
                let item = feed.next_value().await?;
                Ok(item.map(|value| Param { domain: domain.clone(), value }))
            }
            Source::Record(fields) => Ok(fields.next()),
        }
    }
}
