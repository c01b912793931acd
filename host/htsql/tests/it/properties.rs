//! What must hold for any input: no panics, errors that print, and texts that survive printing.

use proptest::prelude::*;
use rex_htsql::{Lens, Naming, Params};

/// Pieces of queries: random sequences of them are often grammatical.
const PIECES: &[&str] = &[
    "/",
    "school",
    "department",
    "course",
    "program",
    "student",
    "class",
    "code",
    "name",
    "no",
    "credits",
    ".",
    "?",
    "^",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    "=",
    "!=",
    "==",
    "~",
    "<",
    ">=",
    "&",
    "|",
    "!",
    "+",
    "-",
    "*",
    "/",
    ":",
    ":as ",
    ":=",
    "->",
    "@",
    "$",
    "$x",
    "'art'",
    "'%25'",
    "1",
    "2.5",
    "1e3",
    "0",
    "count(",
    "exists(",
    "sum(",
    "max(",
    "top(",
    "fork(",
    "moniker(",
    "distinct(",
    "define(",
    "given(",
    ":given ",
    "limit(",
    "sort(",
    "filter(",
    "id()",
    "this()",
    "root()",
    "home()",
    "null",
    "true",
    "if(",
    "date(",
    "text(",
    "round(",
    "head(",
    "/:csv",
    "/:insert",
    "x",
    "x(",
    " ",
    "\n",
    "#c\n",
    "%",
    "'",
    "é",
    "art.",
    ";",
    "id(",
    "guard(",
];

fn query() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 1..24).prop_map(|pieces| pieces.concat())
}

/// Queries that are made to be grammatical, to reach the later stages.
fn flow(depth: u32) -> BoxedStrategy<String> {
    let table = prop::sample::select(vec![
        "school",
        "department",
        "course",
        "program",
        "student",
        "class",
        "enrollment",
        "semester",
    ]);
    let leaf = table.prop_map(str::to_string).boxed();
    if depth == 0 {
        return leaf;
    }
    let inner = flow(depth - 1);
    let value = value(depth - 1);
    prop_oneof![
        3 => leaf.clone(),
        2 => (inner.clone(), leaf.clone()).prop_map(|(a, b)| format!("{a}.{b}")),
        2 => (inner.clone(), value.clone()).prop_map(|(a, b)| format!("({a}?{b})")),
        2 => (inner.clone(), value.clone()).prop_map(|(a, b)| format!("{a}.sort({b}-)")),
        1 => (inner.clone(), 0..3u8).prop_map(|(a, n)| format!("{a}.limit({n})")),
        2 => (inner.clone(), value.clone()).prop_map(|(a, b)| format!("({a}^{{{b}}})")),
        2 => (inner.clone(), value.clone(), value.clone())
            .prop_map(|(a, b, c)| format!("({a}{{{b},x:={c}}})")),
        1 => inner.clone().prop_map(|a| format!("top({a})")),
        1 => inner.clone().prop_map(|a| format!("{a}.fork()")),
        1 => inner.clone().prop_map(|a| format!("moniker({a})")),
        1 => inner.clone().prop_map(|a| format!("@{a}")),
        1 => inner.clone().prop_map(|a| format!("{a}.^")),
        1 => (value, inner).prop_map(|(a, b)| format!("({a}->{b})")),
    ]
    .boxed()
}

fn value(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop::sample::select(vec![
        "code",
        "name",
        "no",
        "credits",
        "title",
        "1",
        "'a'",
        "2.5",
        "null",
        "true",
        "id()",
        "*1",
        "x",
        "school.code",
        "department",
        "dob",
        "year",
        "season",
        "is_active",
    ])
    .prop_map(str::to_string)
    .boxed();
    if depth == 0 {
        return leaf;
    }
    let inner = value(depth - 1);
    let flow = flow(depth - 1);
    prop_oneof![
        4 => leaf,
        1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}={b})")),
        1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}+{b})")),
        1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}&{b})")),
        1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("if({a},{b})")),
        2 => flow.clone().prop_map(|a| format!("count({a})")),
        2 => flow.clone().prop_map(|a| format!("exists({a})")),
        1 => (flow.clone(), inner.clone()).prop_map(|(a, b)| format!("max({a}.{b})")),
        1 => (flow.clone(), inner).prop_map(|(a, b)| format!("/{a}{{{b}}}")),
        1 => flow.prop_map(|a| format!("count({a}.^)")),
    ]
    .boxed()
}

fn look(text: &str) {
    let catalog = crate::support::catalog(Naming::Stock);
    for lens in [Lens::Syn, Lens::Bound, Lens::Space, Lens::Rel, Lens::Sql] {
        match rex_htsql::explain(text, lens, &catalog, &crate::support::env(), &Params::new()) {
            Ok(shown) => drop(shown),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let _ = rex_htsql::compile(text, &catalog, &crate::support::env(), &Params::new());
}

fn survives(text: &str) {
    if let Ok(syn) = rex_htsql::syn::parse(text) {
        let printed = syn.to_string();
        let again = rex_htsql::syn::parse(&printed);
        assert!(again.is_ok(), "{text:?} prints as {printed:?}: {}", again.unwrap_err());
        assert_eq!(again.unwrap(), syn, "{text:?} prints as {printed:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_text(text in "\\PC{0,60}") {
        look(&text);
        survives(&text);
    }

    #[test]
    fn any_pieces(text in query()) {
        look(&text);
        survives(&text);
    }

    #[test]
    fn any_flow(flow in flow(4)) {
        let text = format!("/{flow}");
        look(&text);
        survives(&text);
    }

    #[test]
    fn any_value(value in value(4)) {
        let text = format!("/course{{{value}}}");
        look(&text);
        survives(&text);
    }
}

#[test]
fn deep_and_long_queries_end_in_an_answer() {
    let deep = [
        "(".repeat(5_000),
        format!("/{}1{}", "(".repeat(5_000), ")".repeat(5_000)),
        format!("/{}1{}", "(".repeat(150), ")".repeat(150)),
        format!("/school{}", "{code}".repeat(900)),
        format!("/{}1", "-".repeat(190)),
        format!("/{}1", "!".repeat(100_000)),
        format!("/{}true", "@".repeat(5_000)),
        format!("/1{}", "+1".repeat(100_000)),
        format!("/school{}", ".department.school".repeat(400)),
        format!("/school{}", "/:csv".repeat(900)),
        format!("/school[{}a{}]", "(".repeat(3_000), ")".repeat(3_000)),
        format!("/{}school{}", "count(".repeat(180), ")".repeat(180)),
        format!("/{}school", "/".repeat(3_000)),
        format!("/{{{}}}", "'x',".repeat(20_000)),
        format!("/define(a:=1{}).a", ",a:=a+a".repeat(60)),
        format!("/a{}", ".a".repeat(100_000)),
        format!("/{}", "$a.".repeat(100_000)),
        format!("/school{{code{}}}", "+-".repeat(50_000)),
        format!("/school{{{}}}", "code+,".repeat(300)),
        format!("/school{{{}}}", "code+,".repeat(6_000)),
        format!("/define({}).a", "a:=1,".repeat(1_000)),
        format!("/school{{{}}}", "a:=code,".repeat(6_000)),
        format!("/{}", "a".repeat(200_000)),
    ];
    for text in deep {
        look(&text);
        survives(&text);
    }
}

/// A generated filter is long, not deep.
#[test]
fn chains_of_operators_may_be_long() {
    let catalog = crate::support::catalog(Naming::Stock);
    for n in [1_000, 10_000] {
        let chains = [
            format!("/{{1{}}}", "+1".repeat(n)),
            format!("/{{'a'{}}}", "+'b'".repeat(n)),
            format!("/course{{no{}}}", "-no*2".repeat(n / 2)),
            format!("/school?code='a'{}", "|code='b'".repeat(n)),
            format!("/school?true{}", "&exists(program)".repeat(n / 100)),
            format!("/school?code='a'{}", "|code='b'&name~'c'".repeat(n / 2)),
        ];
        for text in chains {
            survives(&text);
            let compiled =
                rex_htsql::compile(&text, &catalog, &crate::support::env(), &Params::new());
            assert!(compiled.is_ok(), "{n}: {}", compiled.unwrap_err());
        }
    }
    let nested = format!("/1{}{}", "+(1".repeat(1_000), ")".repeat(1_000));
    let refused = rex_htsql::syn::parse(&nested).unwrap_err().to_string();
    assert!(refused.starts_with("Found too deeply nested expressions"), "{refused}");
    let endless = rex_htsql::syn::parse(&format!("/1{}", "+1".repeat(30_000))).unwrap_err();
    assert!(endless.to_string().starts_with("Found too long a chain of operators"), "{endless}");
}

/// What the fuzzer found.
#[test]
fn a_number_after_a_dot_stays_one() {
    for text in ["if(false. 1)", "/school. 1.5", "/a. 1 .b", "/a. .5"] {
        look(text);
        survives(text);
    }
}
