//! Queue names, parsed once at the edge.

use std::fmt;
use std::sync::Arc;

/// A queue's name: lower-case letters, digits and single underscores; at least 2 characters,
/// starting with a letter and ending with a letter or digit. The original's rule, so that rows of
/// either side are readable by the other.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(Arc<str>);

/// The text is not a queue name; prints as the original does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a properly-formatted queue name")]
pub struct BadQueueName(pub String);

impl QueueName {
    /// The only constructor.
    ///
    /// # Errors
    /// [`BadQueueName`] for any text outside the rule above.
    pub fn parse(text: &str) -> Result<QueueName, BadQueueName> {
        let bytes = text.as_bytes();
        let good = bytes.len() >= 2
            && bytes[0].is_ascii_lowercase()
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_')
            && !text.contains("__")
            && !text.ends_with('_');
        if good { Ok(QueueName(text.into())) } else { Err(BadQueueName(text.to_owned())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::QueueName;

    #[test]
    fn the_originals_rule() {
        for good in ["ab", "a1", "a_b", "rex_job_0", "scheduled_0_job_queuer"] {
            assert!(QueueName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "a_", "_a", "1a", "a__b", "A", "aB", "a-b", "a.b", "foo\n", "é1"] {
            let error = QueueName::parse(bad).unwrap_err().to_string();
            assert_eq!(error, format!("\"{bad}\" is not a properly-formatted queue name"));
        }
    }
}
