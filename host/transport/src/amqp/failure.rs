//! What a broker's refusals mean to a host, and how the original's client words that a broker
//! cannot be reached.

use amqprs::error::Error;

use super::link::Address;
use crate::network::{self, Trouble};
use crate::{Kind, TransportError};

/// An error of a piece of work; `reason` is what the broker said when it closed the channel.
pub(super) fn say(address: &Address, error: &Error, reason: Option<String>) -> TransportError {
    let (head, kind, text) = match reason {
        Some(reason) => ("The AMQP server refused:", Kind::Refused, reason),
        None => ("Lost the connection to the AMQP server:", Kind::Unreachable, error.to_string()),
    };
    let said = TransportError::new(kind, format!("{head}\n    {text}\nOn:\n    {}", address.shown));
    match hint(&text) {
        Some(hint) => said.with_hint(hint),
        None => said,
    }
}

/// Says why the broker has closed the channel, and with it given back all that was held over it.
pub(super) fn warn(reason: &str) {
    let hint = hint(reason).map(|hint| format!(": {hint}")).unwrap_or_default();
    tracing::warn!("The AMQP server closed the channel: {reason}{hint}");
}

fn hint(text: &str) -> Option<&'static str> {
    match text {
        text if text.contains("delivery acknowledgement") => Some(
            "a task ran longer than the broker waits, so it took back all that this host had; raise \
             consumer_timeout in the broker's settings",
        ),
        text if text.contains("basic.nack") => Some(
            "a queue is full, under a limit with `overflow: reject-publish` that a policy sets or the \
             queue was made with; make room in it, or lift the limit",
        ),
        text if text.contains("larger than configured max size") => {
            Some("raise max_message_size in the broker's settings")
        }
        text if text.contains("limit in vhost") => {
            Some("the virtual host may have so many only; raise its limit in the broker")
        }
        text if text.contains("inequivalent arg") => Some(
            "a queue or exchange of that name is there with other properties; remove it, or have \
             it made as the original does: durable, direct",
        ),
        text if text.contains("no answer within") => Some(
            "a broker that is short of disk or memory takes nothing until it has enough; what \
                 was sent to it may still be taken then",
        ),
        text if text.contains("ACCESS_REFUSED") => {
            Some("the user needs to configure, write and read in this virtual host")
        }
        _ => None,
    }
}

/// A failure to connect, in the words of the original's client.
pub(super) fn failed(address: &Address, error: &Error) -> TransportError {
    let trouble = network::trouble(&address.host, address.port);
    let answers = trouble.is_none();
    let (kind, reason) = match trouble {
        Some(Trouble { number: Some(number), text }) => {
            (Kind::Unreachable, format!("[Errno {number}] {text}"))
        }
        Some(Trouble { number: None, text }) => (Kind::Unreachable, text),
        None => {
            let text = worded(&error.to_string());
            let refused = text.contains("ACCESS_REFUSED") || text.contains("NOT_ALLOWED");
            (if refused { Kind::Refused } else { Kind::Unreachable }, text)
        }
    };
    let error =
        TransportError::new(kind, format!("Failed to connect to the AMQP server:\n    {reason}"));
    if error.text.contains("limit (") {
        return error.with_hint("there may be so many connections only; raise the broker's limit");
    }
    if answers {
        // The broker may hang up instead of giving a reason.
        return error.with_hint(
            "check the user, the password and the virtual host, and that it is an AMQP server",
        );
    }
    error
}

/// The broker's own words, where the driver shows them within its own: `(530) NOT_ALLOWED - …`.
fn worded(text: &str) -> String {
    let said = || {
        let (_, rest) = text.split_once("reply_code: ")?;
        let (code, rest) = rest.split_once(',')?;
        let (_, rest) = rest.split_once("ShortStr(")?;
        let (_, rest) = rest.split_once(", \"")?;
        let (said, _) = rest.rsplit_once("\")")?;
        Some(format!("({code}) {said}"))
    };
    said().unwrap_or_else(|| text.to_owned())
}
