//! One query through each lens; expectations lie in `snapshots`.
//!
//! `UPDATE_EXPECT=1` writes them anew.

use std::path::Path;

use rex_htsql::{Lens, Naming};

const QUERIES: &[(&str, &str)] = &[
    ("filter", "/department?school.code='ns'&name~'art'"),
    ("nested", "/school{code, count(department), /program{title}?degree='bs'}"),
    ("quotient", "/program^degree{degree, count(^.student)}?count(^)>1"),
    ("top", "/school{name, top(program.sort(title-)){title}}"),
    ("fork", "/course{no, credits}?credits=max(fork(department_code).credits)"),
    ("link", "/school.(code -> department{school_code})"),
    ("limit", "/course.sort(credits-).limit(9).sort(no)"),
    ("locate", "/class[(astro.105).(2010.fall).001]{section, course.department.name}"),
    ("define", "/department.define(c($n):=course?no>=$n){code, count(c(100)), count(c(200))}"),
    ("moniker", "/moniker(school.sort(name-)){code, count(department)}"),
    ("attach", "/school{code, count((code=^.school_code&^.name~'art')@department)}"),
    ("twice", "/(course^{department_code, credits})^credits{credits, count(^), count(^.^)}"),
    ("etl", "/school{id(), name+'!' :as name}?code=$code /:update"),
    ("gateway", "/school{code, name}?campus='old' /:other /:insert"),
    ("root", "/{count(school), exists(course?credits>3), 1+2*3, 'x'+'y'}"),
];

#[test]
fn lenses() {
    let lenses = [
        ("syn", Lens::Syn),
        ("bound", Lens::Bound),
        ("space", Lens::Space),
        ("rel", Lens::Rel),
        ("sql", Lens::Sql),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut different = Vec::new();
    for (name, query) in QUERIES {
        let mut text = format!("{query}\n");
        for (lens_name, lens) in lenses {
            text.push_str(&format!("\n== {lens_name}\n{}", crate::support::explain(query, lens)));
        }
        if query.contains("$code") || *name == "link" {
            let rex = crate::support::explain_in(query, Lens::Sql, Naming::Rex);
            text.push_str(&format!("\n== sql, by the names of RexDB\n{rex}"));
        }
        let file = folder.join(format!("{name}.txt"));
        if update {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &text).unwrap();
        } else if std::fs::read_to_string(&file).ok().as_deref() != Some(text.as_str()) {
            different.push(text);
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// A script is compiled as it runs: of what waits for a value only the query is shown.
#[test]
fn scripts_show_what_they_can() {
    for lens in [Lens::Bound, Lens::Space, Lens::Rel, Lens::Sql] {
        let show = |query: &str| crate::support::explain(query, lens);
        let alone = show("/course{title}");
        for query in [
            "do($x:=count(school), get(/school?count(department)=$x), /course{title})",
            "do($x:=1, for($y:=/school.id(), /school?count(department)=$x), /course{title})",
        ] {
            let shown = show(query);
            let waits = "-- not before it runs: /school?count(department)=$x\n";
            assert!(shown.contains(waits) && shown.ends_with(&alone), "{shown}");
        }
        let shown = show("for($x:=/course{title}, insert(department:={$x :as school}))");
        assert_eq!(
            shown,
            format!("{alone}\n-- not before it runs: {{$x :as school}} :as department\n")
        );
        // Of a record the fields are known; a parameter keeps its value.
        let shown = show("with({1 :as n}, {$code, 2})");
        assert!(shown.contains("x'") && !shown.contains("--"), "{shown}");
        let shown = show("with({1 :as code}, {$code})");
        assert!(shown.ends_with("-- not before it runs: {$code}\n"), "{shown}");
        let shown = show("with({1 :as n}, {$m := 3, $m})");
        assert!(!shown.contains("--"), "{shown}");
        assert_eq!(show("truncate(school)"), "-- nothing is fetched: truncate(school)\n");
        assert_eq!(show("/"), "-- nothing is fetched: /\n");
        // What is wrong whatever the value is an error.
        let error = show("do($x:=count(school), get(/schol))");
        assert!(error.starts_with("Found unknown attribute:\n    schol"), "{error}");
    }
}

/// Home has no public names, which is to say none, not that they are undefined.
#[test]
fn home_expands_to_nothing() {
    assert!(sql("/{*}").starts_with("SELECT"), "{}", sql("/{*}"));
    assert!(sql("/{*1}").starts_with("Expected value in range 1-0"));
    assert!(sql("/{'x'.*}").starts_with("Cannot expand '*' since output columns are not defined"));
}

fn sql(query: &str) -> String {
    crate::support::explain(query, Lens::Sql)
}

/// PostgreSQL takes an aggregate over outer values alone for one of the outer SELECT.
#[test]
fn an_aggregate_of_outer_values_is_over_a_column_of_its_own() {
    let shown = sql("/program^degree{count(program&degree)}");
    assert!(shown.contains("COUNT(NULLIF(t6.c0, FALSE))"), "{shown}");
    assert!(shown.contains("CROSS JOIN LATERAL (SELECT (TRUE AND"), "{shown}");
}

#[test]
fn aggregates_of_one_flow_may_need_one_another() {
    let shown = sql("/school{$n:=count(department), count(department.count(course)>$n)}");
    let sources = shown.matches("FROM \"ad\".\"department\"").count();
    assert_eq!(sources, 2, "{shown}");
    let shared = sql("/school{count(department), count(department.count(course)>1)}");
    assert_eq!(shared.matches("FROM \"ad\".\"department\"").count(), 1, "{shared}");
}

/// An aggregate that decides which rows are the first is needed of all: grouped, it is computed
/// once, and not anew for every row.
#[test]
fn what_rows_are_sorted_by_is_grouped() {
    let shown = sql("/school.sort(count(department)-).limit(3)");
    assert!(shown.contains("GROUP BY"), "{shown}");
    let shown = sql("/school{count(department)}.limit(3)");
    assert!(!shown.contains("GROUP BY"), "{shown}");
}
