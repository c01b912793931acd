//! The items of an answer: values, but for the lists in them that are too long to be held, whose
//! rest is read from the server as its reader asks for it.

use std::fmt;
use std::io;
use std::vec::IntoIter;

use rex_htsql::Value;

/// What is held of a list within an item, in bytes.
const MAX_HEAD: usize = 1 << 20;

/// An item of an answer, or the one value that an answer is.
#[derive(Debug)]
pub enum Item {
    /// All of it.
    Whole(Value),
    /// A record with a long list in it.
    Record(Vec<Item>),
    /// A list that is longer than what is held of it.
    Long(LongList),
}

/// A list whose items are read one by one, before the next item of the list around it is.
#[derive(Debug)]
pub struct LongList {
    head: IntoIter<Value>,
    /// What follows the head, where it has a long list in it itself.
    last: Option<Box<Item>>,
    segment: usize,
}

impl LongList {
    /// The next item that has been read; the segment of the rest where there is none.
    pub(crate) fn next_held(&mut self) -> Result<Item, usize> {
        let held = self.head.next().map(Item::Whole);
        held.or_else(|| self.last.take().map(|last| *last)).ok_or(self.segment)
    }
}

/// A list that is being read.
#[derive(Default)]
pub(crate) struct Head {
    values: Vec<Value>,
    size: usize,
}

impl Head {
    /// Adds an item. Where no more is to be held, the list as it is then: `segment` has the rest.
    pub(crate) fn add(&mut self, item: Item, segment: usize) -> Option<Item> {
        let last = match item {
            Item::Whole(value) => {
                self.size += value.size();
                self.values.push(value);
                if self.size <= MAX_HEAD {
                    return None;
                }
                None
            }
            long => Some(Box::new(long)),
        };
        let head = std::mem::take(&mut self.values).into_iter();
        Some(Item::Long(LongList { head, last, segment }))
    }

    /// The list, which has ended.
    pub(crate) fn end(self) -> Item {
        Item::Whole(Value::List(self.values))
    }
}

/// Reads the rest of long lists.
pub struct More<'a> {
    read: Option<Box<ReadRest<'a>>>,
    stop: Option<Box<dyn Fn() -> bool>>,
}

/// The next item of the list that a segment has the rest of.
type ReadRest<'a> = dyn FnMut(usize) -> io::Result<Option<Item>> + 'a;

impl<'a> More<'a> {
    /// For items that are whole.
    pub fn none() -> More<'a> {
        More { read: None, stop: None }
    }

    pub(crate) fn of(read: impl FnMut(usize) -> io::Result<Option<Item>> + 'a) -> More<'a> {
        More { read: Some(Box::new(read)), stop: None }
    }

    /// Fails from when `stop` says so.
    pub(crate) fn stop_when(&mut self, stop: impl Fn() -> bool + 'static) {
        self.stop = Some(Box::new(stop));
    }

    fn rest(&mut self, segment: usize) -> io::Result<Option<Item>> {
        if self.stop.as_ref().is_some_and(|stop| stop()) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match &mut self.read {
            Some(read) => read(segment),
            None => Err(io::Error::other("the rest of a list is out of reach")),
        }
    }
}

impl fmt::Debug for More<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("More").finish_non_exhaustive()
    }
}

/// What a value consists of.
pub(crate) enum Parts {
    /// Of a scalar, an identity or NULL.
    Scalar(Value),
    Record(Fields),
    List(Items),
}

/// The fields of a record.
pub(crate) enum Fields {
    Whole(IntoIter<Value>),
    Mixed(IntoIter<Item>),
}

/// The items of a list.
pub(crate) enum Items {
    Whole(IntoIter<Value>),
    Long(LongList),
}

impl Item {
    pub(crate) fn parts(self) -> Parts {
        match self {
            Item::Whole(Value::Record(values)) => Parts::Record(Fields::Whole(values.into_iter())),
            Item::Whole(Value::List(values)) => Parts::List(Items::Whole(values.into_iter())),
            Item::Whole(value) => Parts::Scalar(value),
            Item::Record(items) => Parts::Record(Fields::Mixed(items.into_iter())),
            Item::Long(list) => Parts::List(Items::Long(list)),
        }
    }

    /// A record of items: whole where all of them are.
    pub(crate) fn record(items: Vec<Item>) -> Item {
        if !items.iter().all(|item| matches!(item, Item::Whole(_))) {
            return Item::Record(items);
        }
        let values = items.into_iter().filter_map(|item| match item {
            Item::Whole(value) => Some(value),
            Item::Record(_) | Item::Long(_) => None,
        });
        Item::Whole(Value::Record(values.collect()))
    }

    /// The value without its long lists, which become NULL: for whoever has no use for lists.
    pub(crate) fn without_lists(self) -> Value {
        match self {
            Item::Whole(value) => value,
            Item::Record(items) => {
                Value::Record(items.into_iter().map(Item::without_lists).collect())
            }
            Item::Long(_) => Value::Null,
        }
    }

    /// All of it as a value, however long it is.
    ///
    /// # Errors
    /// Reading the rest of a list failed.
    pub fn into_value(self, more: &mut More<'_>) -> io::Result<Value> {
        Ok(match self {
            Item::Whole(value) => value,
            Item::Record(items) => {
                let values = items.into_iter().map(|item| item.into_value(more));
                Value::Record(values.collect::<io::Result<_>>()?)
            }
            Item::Long(list) => {
                let (mut items, mut values) = (Items::Long(list), Vec::new());
                while let Some(item) = items.next(more)? {
                    values.push(item.into_value(more)?);
                }
                Value::List(values)
            }
        })
    }
}

impl Iterator for Fields {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        match self {
            Fields::Whole(values) => values.next().map(Item::Whole),
            Fields::Mixed(items) => items.next(),
        }
    }
}

impl Items {
    pub(crate) fn next(&mut self, more: &mut More<'_>) -> io::Result<Option<Item>> {
        match self {
            Items::Whole(values) => Ok(values.next().map(Item::Whole)),
            Items::Long(list) => match list.next_held() {
                Ok(item) => Ok(Some(item)),
                Err(segment) => more.rest(segment),
            },
        }
    }
}
