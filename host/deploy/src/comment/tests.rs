//! Comments: what is read of them, what is written.

use super::*;

#[track_caller]
fn check(comment: &Comment, text: &str) {
    assert_eq!(comment.write().as_deref(), Some(text));
    assert_eq!(Comment::read(Some(text)), *comment);
}

fn default(value: &str) -> Comment {
    Comment { default: Some(value.to_owned()), ..Comment::default() }
}

#[test]
fn comments_are_those_of_the_original() {
    check(
        &Comment {
            label: Some("individual_id".into()),
            title: Some("Identity".into()),
            ..Comment::default()
        },
        "---\nlabel: individual_id\ntitle: Identity\n",
    );
    check(&default("now()"), "---\ndefault: now()\n");
    check(&default("{}"), "---\ndefault: '{}'\n");
    check(&default("true"), "---\ndefault: 'true'\n");
    check(&default("2010-01-01"), "---\ndefault: '2010-01-01'\n");
    check(&default("on"), "---\ndefault: 'on'\n");
    check(&default("12:30"), "---\ndefault: '12:30'\n");
    check(&default("it's"), "---\ndefault: it's\n");
    check(&default("caf\u{e9}"), "---\ndefault: \"caf\\xE9\"\n");
    check(&default("a\nb\n"), "---\ndefault: |\n  a\n  b\n");
    check(
        &Comment {
            aliases: vec!["__title__ := if_null(title,string(code))".into()],
            ..Comment::default()
        },
        "---\naliases:\n- __title__ := if_null(title,string(code))\n",
    );
    check(
        &Comment { generators: Some(vec![None, Some("offset".into())]), ..Comment::default() },
        "---\ngenerators:\n- null\n- offset\n",
    );
    assert_eq!(Comment::default().write(), None);
}

#[test]
fn long_texts_are_folded() {
    let title = "word ".repeat(30).trim_end().to_owned();
    let comment = Comment { title: Some(title), ..Comment::default() };
    let text = comment.write().unwrap();
    assert!(text.lines().count() == 3 && text.lines().all(|l| l.len() <= 86), "{text}");
    assert_eq!(Comment::read(Some(&text)), comment);
}

#[test]
fn other_comments_are_kept() {
    let mut comment = Comment::read(Some("List of test subjects"));
    assert_eq!(comment.write().as_deref(), Some("List of test subjects"));
    comment.title = Some("Test Subject".into());
    let text = comment.write().unwrap();
    assert_eq!(text, "---\ntitle: Test Subject\n--- List of test subjects\n...\n");
    assert_eq!(Comment::read(Some(&text)).write(), Some(text));
    for text in ["--- *", "--- ."] {
        assert_eq!(Comment::read(Some(text)).write().as_deref(), Some(text));
    }
}
