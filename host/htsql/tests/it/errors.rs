//! Error texts: layouts, marks, suggestions.

use rex_htsql::Lens;

#[track_caller]
fn check(query: &str, expected: &str) {
    assert_eq!(crate::support::explain(query, Lens::Sql), expected);
}

#[test]
fn only_the_line_of_the_mark_is_shown() {
    check(
        "/school{\n  code,\n  nam,\n}",
        "Found unknown attribute:\n    school.nam\nPerhaps you had in mind:\n    name\n\
         While translating:\n      nam,\n      ^^^",
    );
}

#[test]
fn marks_count_characters_not_bytes() {
    check(
        "/{'éé', x}",
        "Found unknown attribute:\n    x\nWhile translating:\n    /{'éé', x}\n            ^",
    );
}

#[test]
fn suggestions_by_kind() {
    check(
        "/count",
        "Found unknown attribute:\n    count\nPerhaps you had in mind:\n    a function 'count'\n\
         While translating:\n    /count\n     ^^^^^",
    );
    check(
        "/school()",
        "Found unknown function:\n    school\nPerhaps you had in mind:\n    an attribute 'school'\n\
         While translating:\n    /school()\n     ^^^^^^^^",
    );
}

#[test]
fn commands_check_their_arguments_first() {
    check("/insert()", "Expected 1 argument\nWhile parsing:\n    /insert()\n     ^^^^^^^^");
    check(
        "/for(school, school)",
        "Expected an assignment expression\nWhile parsing:\n    /for(school, school)\n         ^^^^^^",
    );
}

#[test]
fn bad_bytes_are_named() {
    check(
        "/'%ff'",
        "Cannot convert a byte sequence %ff to UTF-8: 'utf-8' codec can't decode byte 0xff in \
         position 0: invalid start byte\nWhile parsing:\n    /'%ff'\n      ^^^",
    );
}

#[test]
fn control_characters_are_shown_not_sent() {
    check(
        "/{'\u{e9}', 'a%00b%1b[2J'}",
        "cannot find a matching quote mark\nWhile parsing:\n    \
         /{'\u{e9}', 'a\u{2400}b\u{241b}[2J'}\n           ^",
    );
    check(
        "/school%1b",
        "Got unexpected character '\\x1b'\nWhile parsing:\n    /school\u{241b}\n           ^",
    );
    let shown = crate::support::explain("/{date('%9b%7f%0d')}", Lens::Sql);
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
}

#[test]
fn a_sign_belongs_to_its_number() {
    let shown = crate::support::explain("/{-9223372036854775808}", Lens::Sql);
    assert_eq!(shown, "SELECT '-9223372036854775808'::BIGINT\n");
    check(
        "/{-9223372036854775809}",
        "Found integer value is out of range\nWhile translating:\n    \
         /{-9223372036854775809}\n       ^^^^^^^^^^^^^^^^^^^",
    );
}
