//! What is kept of what a plugin says of a failure: it may be of any length, and is kept with each
//! attempt and in the dead letter.

use rex_plugin_api::ops::Failure;

/// Bytes of an error's text, and of its frames together.
const LONGEST: usize = 64 << 10;

/// Bytes of a line: a name, a place, a frame.
pub const LONGEST_LINE: usize = 4 << 10;

/// The beginning of a text, and how much more there is.
pub fn excerpt(text: &str, most: usize) -> String {
    match beyond(text, most) {
        0 => text.to_owned(),
        more => format!("{}... ({more} more bytes)", &text[..text.len() - more]),
    }
}

/// How many bytes of a text are left out when so many are kept: no character is torn.
pub fn beyond(text: &str, most: usize) -> usize {
    if text.len() <= most {
        return 0;
    }
    text.len() - (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0)
}

/// A failure with its texts cut.
pub fn shortened(failure: Failure) -> Failure {
    let mut room = LONGEST;
    let mut frames = Vec::new();
    for frame in &failure.frames {
        let frame = excerpt(frame, LONGEST_LINE);
        let Some(rest) = room.checked_sub(frame.len()) else {
            frames.push(format!("... ({} more lines)", failure.frames.len() - frames.len()));
            break;
        };
        room = rest;
        frames.push(frame);
    }
    Failure {
        class: excerpt(&failure.class, LONGEST_LINE),
        text: excerpt(&failure.text, LONGEST),
        place: failure.place.map(|place| excerpt(&place, LONGEST_LINE)),
        frames,
        ..failure
    }
}

#[cfg(test)]
mod tests {
    use rex_plugin_api::ops::{Again, Failure};

    use super::{LONGEST, excerpt, shortened};

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(excerpt("abc", 3), "abc");
        assert_eq!(excerpt("abcd", 3), "abc... (1 more bytes)");
        assert_eq!(excerpt("\u{e9}\u{e9}", 3), "\u{e9}... (2 more bytes)");
    }

    #[test]
    fn failures_are_kept_in_little_space() {
        let frames = vec!["x".repeat(1000); 200];
        let failure = |text: &str, frames: Vec<String>| Failure {
            panicked: true,
            class: "A".to_owned(),
            text: text.to_owned(),
            place: Some("a.rs:1".to_owned()),
            frames,
            again: Again::Never,
        };
        let short = failure("b", vec!["c".to_owned()]);
        assert_eq!(shortened(short.clone()), short);
        let kept = shortened(failure(&"b".repeat(1 << 20), frames));
        assert_eq!(kept.text, format!("{}... (983040 more bytes)", "b".repeat(LONGEST)));
        assert_eq!((kept.frames.len(), kept.frames[65].as_str()), (66, "... (135 more lines)"));
    }
}
