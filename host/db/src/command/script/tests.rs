//! Where statements of a script begin and end, and which are refused.

use super::*;

#[test]
fn statements_begin_at_the_margin() {
    let script = "# head\n\n/a{b,\n  c}\n\n  ?d\n# between\n/e\n";
    let found = statements("s", script).unwrap();
    let texts: Vec<(usize, &str)> = found.iter().map(|s| (s.line, s.text.as_str())).collect();
    assert_eq!(texts, [(3, "/a{b,\n  c}\n\n  ?d"), (8, "/e")]);
}

#[test]
fn indentation_needs_a_statement() {
    let error = statements("s.htsql", "# x\n  /a").unwrap_err();
    assert_eq!(error.to_string(), "Got unexpected indentation:\n    s.htsql, line 2");
}
