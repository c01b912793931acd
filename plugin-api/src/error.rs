//! Why a task failed, with its place and chain of causes.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::ops::{Again, Failure, TOLD, USAGE};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed task: a class, a text, the place that raised it and the chain of causes.
///
/// Every standard error converts with `?`, which records the line of the `?`. Where a function's name
/// is handed on, as in `map_err(Error::new)`, the library calls it and is the place that is recorded;
/// a closure, `map_err(|error| Error::new(error))`, has the line of the author. It does not itself
/// implement `std::error::Error`, as is the custom for such catch-all types, because the two
/// conversions would overlap.
pub struct Error {
    class: String,
    text: String,
    place: &'static Location<'static>,
    /// Causes, outermost first.
    chain: Vec<String>,
    again: Again,
}

impl Error {
    /// A failure in words, of class `Exception`.
    #[track_caller]
    pub fn new(text: impl fmt::Display) -> Error {
        Error::of("Exception", text)
    }

    /// A failure of a class that the last line of its traceback starts with.
    #[track_caller]
    pub fn of(class: impl Into<String>, text: impl fmt::Display) -> Error {
        Error {
            class: class.into(),
            text: text.to_string(),
            place: Location::caller(),
            chain: Vec::new(),
            again: Again::default(),
        }
    }

    /// The arguments of a command were not understood: `rex-host` then ends with exit code 2.
    #[track_caller]
    pub fn usage(text: impl fmt::Display) -> Error {
        Error::of(USAGE, text)
    }

    /// A command has failed in part, has told so on the way and has gone on: nothing more is printed.
    /// `rex-host` then ends with exit code 1, `rex` with 0, as the original's commands of that kind.
    #[track_caller]
    pub fn told(text: impl fmt::Display) -> Error {
        Error::of(TOLD, text)
    }

    /// If the task has attempts left (`max_attempts` of its queue), the next one comes after `time`
    /// and not after the queue's backoff.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Error {
        self.again = Again::After(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Another attempt would fail too: the task goes to the dead letters now, whatever attempts it
    /// has left.
    #[must_use]
    pub fn give_up(mut self) -> Error {
        self.again = Again::Never;
        self
    }

    /// Says what was being done; the former text becomes the first cause.
    #[must_use]
    pub fn context(mut self, text: impl fmt::Display) -> Error {
        let cause = std::mem::replace(&mut self.text, text.to_string());
        self.chain.insert(0, cause);
        self
    }

    pub(crate) fn into_failure(self) -> Failure {
        let mut frames =
            vec![format!("File \"{}\", line {}", self.place.file(), self.place.line())];
        frames.extend(self.chain.iter().map(|cause| format!("caused by: {cause}")));
        Failure {
            panicked: false,
            class: self.class,
            text: self.text,
            place: Some(format!("{}:{}", self.place.file(), self.place.line())),
            frames,
            again: self.again,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.chain.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self} ({})", self.class, self.place)
    }
}

impl<E: std::error::Error + 'static> From<E> for Error {
    #[track_caller]
    fn from(error: E) -> Error {
        let name = std::any::type_name::<E>();
        let name = name.split('<').next().unwrap_or(name);
        let mut chain = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            chain.push(cause.to_string());
            source = cause.source();
        }
        Error {
            class: name.rsplit("::").next().unwrap_or(name).to_owned(),
            text: error.to_string(),
            place: Location::caller(),
            chain,
            again: Again::default(),
        }
    }
}

/// Adds what was being done to a failed result.
pub trait ResultExt<T> {
    /// # Errors
    /// The same error, with `text` before it.
    fn context(self, text: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for Result<T, E> {
    #[track_caller]
    fn context(self, text: impl fmt::Display) -> Result<T> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => {
                let place = Location::caller();
                let mut error: Error = error.into();
                error.place = place;
                Err(error.context(text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Result, ResultExt};

    fn parse(text: &str) -> Result<i32> {
        Ok(text.parse::<i32>()?)
    }

    #[test]
    fn question_mark_keeps_class_place_and_chain() {
        let error = parse("x").context("while reading the age").unwrap_err();
        let failure = error.into_failure();
        assert_eq!(failure.class, "ParseIntError");
        assert_eq!(failure.text, "while reading the age");
        assert!(failure.place.as_ref().is_some_and(|p| p.contains("error.rs:")), "{failure:?}");
        assert_eq!(failure.frames[1], "caused by: invalid digit found in string");
    }

    #[test]
    fn traceback_ends_with_class_and_text() {
        let text = Error::new("Oops!").into_failure().traceback();
        assert!(text.starts_with("Traceback (most recent call last):\n  File \""), "{text}");
        assert!(text.ends_with("\nException: Oops!"), "{text}");
    }
}
