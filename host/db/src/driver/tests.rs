//! The excerpt of a statement around an error.

use super::*;

#[test]
fn short_lines_are_shown_whole() {
    let text = excerpt("SELECT CAST('cinq' AS INTEGER)", 13).unwrap();
    assert_eq!(text, "LINE 1: SELECT CAST('cinq' AS INTEGER)\n                    ^");
}

#[test]
fn long_lines_are_cut_around_the_caret() {
    let sql = format!("SELECT {} oops {}", "a, ".repeat(40), "b, ".repeat(40));
    let at = sql.find("oops").unwrap() + 1;
    let text = excerpt(&sql, at).unwrap();
    let (line, caret) = text.split_once('\n').unwrap();
    assert!(line.starts_with("LINE 1: ...") && line.ends_with("..."));
    assert_eq!(line.find("oops"), caret.find('^'));
    assert_eq!(line.chars().count(), "LINE 1: ...".len() + DISPLAY_WIDTH + 3);
}
