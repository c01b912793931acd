//! Documents in, nodes with their places or errors out.

use super::*;
use serde_json::json;

fn load(text: &str) -> Result<Value, Error> {
    Loader::new(Path::new("/work-dir")).text(text, "<unicode string>", None)?.value()
}

#[track_caller]
fn check(text: &str, expect: Value) {
    match load(text) {
        Ok(value) => assert_eq!(value, expect, "{text:?}"),
        Err(error) => panic!("{text:?} gave:\n{error}"),
    }
}

#[track_caller]
fn refused(text: &str, expect: &str) {
    let error = load(text).expect_err(text).to_string();
    assert_eq!(error, expect, "{text:?}");
}

#[test]
fn documents_become_plain_data() {
    check("", json!(null));
    check("---\n-8\n", json!(-8));
    check(
        "a: 1\nb: [x, '2', 3.5, ~]\nc:\n  d: true\n",
        json!({"a": 1, "b": ["x", "2", 3.5, null], "c": {"d": true}}),
    );
    check("a: &x {b: 1}\nc: *x\n", json!({"a": {"b": 1}, "c": {"b": 1}}));
    check("{1: a, true: b}", json!({"1": "a", "true": "b"}));
    check(
        "{98765432109876543210987: a, 98765432109876543210988: b}",
        json!({"98765432109876543210987": "a", "98765432109876543210988": "b"}),
    );
    check("!!str 10", json!("10"));
    check("! 10", json!("10"));
    check("|\n  two\n  lines\n", json!("two\nlines\n"));
    check("\u{feff}a: 1", json!({"a": 1}));
    check("a: 2017-05-22", json!({"a": "2017-05-22"}));
}

#[test]
fn broken_documents_say_where() {
    refused(
        " { key: value, key: value } ",
        "Failed to parse a YAML document:\n    while constructing a mapping\n      in \"<unicode \
         string>\", line 1, column 2\n    found a duplicate key\n      in \"<unicode string>\", \
         line 1, column 16",
    );
    refused(
        " { {}: {} } ",
        "Failed to parse a YAML document:\n    while constructing a mapping\n      in \"<unicode \
         string>\", line 1, column 2\n    found an unacceptable key (unhashable type: 'dict')\n      \
         in \"<unicode string>\", line 1, column 4",
    );
    refused(
        "a: 1\n--- \nb: 2",
        "Failed to parse a YAML document:\n    expected a single document in the stream\n      in \
         \"<unicode string>\", line 1, column 1\n    but found another document\n      in \
         \"<unicode string>\", line 2, column 1",
    );
    for text in ["***Invalid YAML***", "{]", "a: b: c", "'", "!!int x", "!nope x"] {
        let error = load(text).expect_err(text).to_string();
        assert!(error.starts_with("Failed to parse a YAML document:\n    "), "{error}");
        assert!(error.ends_with(|c: char| c.is_ascii_digit()), "{error}");
        assert!(error.contains("\n      in \"<unicode string>\", line 1, column "), "{error}");
    }
}

#[test]
fn aliases_and_depth_are_bounded() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let alias = format!("*a{}, ", n - 1).repeat(10);
        bomb += &format!("a{n}: &a{n} [{}]\n", alias.trim_end_matches(", "));
    }
    assert!(load(&bomb).expect_err("bomb").to_string().contains("too large with all aliases"));
    let deep = "[".repeat(5000);
    assert!(load(&deep).is_err());
    let deep = (0..200).map(|n| " ".repeat(n) + "a:\n").collect::<String>();
    assert!(load(&deep).expect_err("deep").to_string().contains("nested deeper than 100 levels"));
    assert!(load("&a [*a]").is_err());
    assert!(load("*nothing").is_err());
}

#[test]
fn tags_that_lead_nowhere_are_refused() {
    let broken = |what: &str| format!("Failed to parse a YAML document:\n    {what}\n      in ");
    for (text, what) in [
        ("!include ", "expected a file name, but found an empty node"),
        ("!include []", "expected a file name, but found sequence"),
        ("!include not-found.yaml", "unable to resolve relative path: not-found.yaml"),
        ("!include /not-found.yaml", "unable to open file: /not-found.yaml"),
        ("!include {cwd}/x", "unable to open file: /work-dir/x"),
        ("!include/str x#/a", "unexpected pointer: #/a"),
        ("!setting x", "cannot read a setting value without an active Rex application"),
        ("!setting {}", "expected a setting name, but found mapping"),
        ("!include/python a:b", "could not determine a constructor for the tag '!include/python'"),
    ] {
        let text = text.replace("{cwd}/x", "'{cwd}/x'");
        let base = text.contains("pointer").then_some(Path::new("/"));
        let base = if text.contains('#') { Some(Path::new("/")) } else { base };
        let loader = Loader::new(Path::new("/work-dir"));
        let error = loader.text(&text, "f", base).expect_err(&text).to_string();
        assert!(error.starts_with(&broken(what)), "{text}: {error}");
    }
}

#[test]
fn includes_bring_documents_parts_and_text() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("list.yaml", " [We, love, YAML] ");
    write("tree.yaml", "{ We : { love : YAML }, Not: XML }");
    write("loop.yaml", "!include loop.yaml");
    let path = dir.path().display().to_string();
    let loader = Loader::new(dir.path());
    let load =
        |text: &str| loader.text(text, "main.yaml", Some(dir.path())).and_then(|node| node.value());
    assert_eq!(load("!include list.yaml").unwrap(), json!(["We", "love", "YAML"]));
    assert_eq!(load("!include '{cwd}/list.yaml'").unwrap(), json!(["We", "love", "YAML"]));
    assert_eq!(load("!include/str ./list.yaml").unwrap(), json!(" [We, love, YAML] "));
    assert_eq!(load("a: !include tree.yaml#/We/love/").unwrap(), json!({"a": "YAML"}));
    assert_eq!(
        load("!include tree.yaml#/We/hate/").unwrap_err().to_string(),
        format!(
            "Expected a mapping with a key:\n    hate\nWhile parsing:\n    \"{path}/tree.yaml\", \
             line 1\nWhile processing !include directive:\n    \"main.yaml\", line 1"
        )
    );
    assert_eq!(
        load("!include list.yaml#/We").unwrap_err().to_string(),
        format!(
            "Expected a mapping\nGot:\n    a sequence\nWhile parsing:\n    \"{path}/list.yaml\", \
             line 1\nWhile processing !include directive:\n    \"main.yaml\", line 1"
        )
    );
    assert!(load("!include loop.yaml").unwrap_err().to_string().contains("nested deeper than 8"));
    assert!(load("!include .").unwrap_err().to_string().contains("unable to open file"));
    write("bomb.yaml", &"- !include list.yaml\n".repeat(5000));
    write("bombs.yaml", &"- !include bomb.yaml\n".repeat(5000));
    assert!(load("!include bombs.yaml").unwrap_err().to_string().contains("too large"));
}

#[test]
fn settings_can_be_looked_up() {
    let lookup = |name: &str| (name == "known").then(|| json!({"a": [1, 2.5, null, true, "x"]}));
    let loader = Loader { lookup: Some(&lookup), ..Loader::new(Path::new("/")) };
    let value = loader.text("k: !setting known", "f", None).and_then(|node| node.value());
    assert_eq!(value.unwrap(), json!({"k": {"a": [1, 2.5, null, true, "x"]}}));
    assert_eq!(
        loader.text("\n!setting other", "f", None).unwrap_err().to_string(),
        "Got unknown setting:\n    other\nWhile parsing:\n    \"f\", line 2"
    );
}

#[test]
fn no_text_makes_the_reader_panic() {
    let pieces = [
        "a",
        ":",
        " ",
        "\n",
        "-",
        "- ",
        "? ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&x ",
        "*x",
        "!",
        "!!str ",
        "!include ",
        "|",
        ">",
        "'",
        "\"",
        "\\",
        "#",
        "%",
        "---",
        "...",
        "\t",
        "é",
        "0",
        "\r",
        "<<",
        "2017-05-22",
        "1.5",
        "\u{0}",
        "\u{feff}",
        "@",
        "`",
        "~",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..30_000 {
        let mut text = String::new();
        for _ in 0..12 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text += pieces[(state % pieces.len() as u64) as usize];
        }
        let _ = load(&text);
    }
}
