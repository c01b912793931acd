//! Values as Python shows them.

use super::{repr, repr_json};

#[test]
fn as_python_prints_it() {
    for (json, expected) in [
        ("{}", "{}"),
        (r#"{"foo": 1}"#, "{'foo': 1}"),
        (r#"{"a": [1, 2.5, null, true, false]}"#, "{'a': [1, 2.5, None, True, False]}"),
        (r#""it's""#, "\"it's\""),
        (r#""it's \"x\"""#, r#"'it\'s "x"'"#),
        (r#""é\n\t\\""#, r"'é\n\t\\'"),
        (r#""\u0000\u007f\u00a0\u2028\ud83d\ude00""#, r"'\x00\x7f\xa0\u2028😀'"),
        // Marks that join the character before them are letters to those who write so.
        (r#""नमस्ते தமிழ் \u0301""#, "'नमस्ते தமிழ் \u{301}'"),
        (r#""\u200d\ufeff\ue000""#, r"'\u200d\ufeff\ue000'"),
        ("1.0", "1.0"),
        // The digits that name this number, and no neighbour of it.
        ("99.86943171030205", "99.86943171030205"),
        ("2.4509269983971074e-20", "2.4509269983971074e-20"),
        ("1e5", "100000.0"),
        ("1e15", "1000000000000000.0"),
        ("1e16", "1e+16"),
        ("1.5e-7", "1.5e-07"),
        ("0.0001", "0.0001"),
        ("123456789012345", "123456789012345"),
        ("-0.0", "-0.0"),
    ] {
        let value = serde_json::from_str(json).unwrap();
        assert_eq!(repr(&value), expected, "{json}");
        assert_eq!(repr_json(json), expected, "{json}");
        let beyond = format!("[ -0,{json} ]");
        assert_eq!(repr_json(&beyond), format!("[0, {expected}]"), "{beyond}");
    }
    for (json, expected) in [
        ("-9223372036854775809", "-9223372036854775809"),
        (
            r#"{"a\\": [18446744073709551616, 1e400], "\u00e9": "x"}"#,
            r"{'a\\': [18446744073709551616, inf], 'é': 'x'}",
        ),
        (
            r#"[NaN, Infinity, -Infinity, "\ud83d \u0041'\ud83d\ude00"]"#,
            r#"[nan, inf, -inf, "\ud83d A'😀"]"#,
        ),
        ("[-0", "[-0"),
        ("[NaN", "[NaN"),
        ("-0 x", "-0 x"),
    ] {
        assert_eq!(repr_json(json), expected, "{json}");
    }
}
