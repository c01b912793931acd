//! Where a script of SQL is split.

use super::*;

#[test]
fn statements_as_the_original_splits_them() {
    let script = "# a\n/people{\n    a,\n\n# between\n    b\n}\n\n/foo\n# c\n/bar\n    /:insert";
    let expected = ["/people{\n    a,\n    b\n}", "/foo", "/bar\n    /:insert"];
    // What closes a brace at the margin begins a statement, as it did there.
    let split = statements(script).unwrap();
    assert_eq!(split, ["/people{\n    a,\n    b", "}", expected[1], expected[2]]);
    let error = statements("# x\n\n  /a").unwrap_err().to_string();
    assert_eq!(error, "Got unexpected indentation, line 3");
}
