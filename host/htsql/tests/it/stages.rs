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
