//! RexDB naming: hidden columns, links as identities, labels and aliases from comments.

use rex_htsql::catalog::model::{Column, Database, ForeignKey, Schema, Table, UniqueKey};
use rex_htsql::domain::Domain;
use rex_htsql::plan::{FieldTarget, Plan};
use rex_htsql::{Catalog, Naming, Params};

fn column(name: &str, domain: Domain, comment: Option<&str>) -> Column {
    Column {
        name: name.into(),
        domain,
        sql_type: "any".into(),
        nullable: false,
        has_default: name == "id",
        comment: comment.map(Into::into),
    }
}

fn key(columns: &[usize], primary: bool) -> UniqueKey {
    UniqueKey { name: "k".into(), columns: columns.into(), primary, partial: false }
}

/// A family and its individuals, as a deployment makes them.
fn catalog() -> Catalog {
    let family = Table {
        name: "family".into(),
        comment: Some("---\naliases:\n- size := count(individual)\n".into()),
        columns: vec![column("id", Domain::Integer, None), column("code", Domain::Text, None)],
        unique_keys: vec![key(&[0], false), key(&[1], true)],
        foreign_keys: Vec::new(),
        rows: None,
    };
    let link = |target: &str, column: usize| ForeignKey {
        name: "fk".into(),
        columns: vec![column],
        target_schema: "public".into(),
        target_table: target.into(),
        target_columns: vec![0],
        partial: false,
        comment: None,
    };
    let individual = Table {
        name: "individual".into(),
        comment: None,
        columns: vec![
            column("id", Domain::Integer, None),
            column("family_id", Domain::Integer, Some("---\ntitle: Kin\n")),
            column("first_name", Domain::Text, None),
            column("mother_id", Domain::Integer, None),
        ],
        unique_keys: vec![key(&[0], false), key(&[1, 2], true)],
        foreign_keys: vec![link("family", 1), link("individual", 3)],
        rows: None,
    };
    let tables = vec![family, individual];
    let schema = Schema { name: "public".into(), priority: 1, comment: None, tables };
    Catalog::new(Database { schemas: vec![schema] }, Naming::Rex)
}

fn compile(query: &str) -> Result<Plan, String> {
    rex_htsql::compile(query, &catalog(), &crate::support::env(), &Params::new())
        .map_err(|error| error.to_string())
}

/// Headers and domains of the fields of a query.
fn fields(query: &str) -> Vec<String> {
    let profile = compile(query).unwrap().profile().unwrap();
    let fields = profile.fields().unwrap();
    fields.iter().map(|f| format!("{:?} {}", f.header.as_deref(), f.domain)).collect()
}

#[test]
fn links_are_shown_as_identities_under_their_titles() {
    assert_eq!(
        fields("/individual"),
        [
            "Some(\"Kin\") identity(text)",
            "Some(\"First Name\") text",
            "Some(\"Mother\") identity(identity(text), text)"
        ]
    );
    assert_eq!(
        fields("/individual{id(), family.code}"),
        ["Some(\"id()\") identity(identity(text), text)", "Some(\"Code\") text"]
    );
}

/// Both ends of a link to the own table would be called as the table.
#[test]
fn a_table_that_is_linked_to_itself() {
    compile("/individual{mother.first_name, count(individual_via_mother)}").unwrap();
    let error = compile("/individual{count(individual)}").unwrap_err();
    assert!(error.starts_with("Found ambiguous name:\n    individual"), "{error}");
}

#[test]
fn keys_have_no_names() {
    let error = compile("/individual{family_id}").unwrap_err();
    assert!(error.starts_with("Found unknown attribute:\n    individual.family_id"), "{error}");
}

#[test]
fn aliases_are_expressions_of_their_table() {
    assert_eq!(fields("/family{code, size}"), ["Some(\"Code\") text", "Some(\"size\") integer"]);
}

#[test]
fn feeds_set_links_by_identity() {
    let Ok(Plan::Etl(etl)) = compile("/insert(individual := {family := 'f1', first_name := 'A'})")
    else {
        panic!("not an ETL plan");
    };
    let target = etl.target.unwrap();
    let FieldTarget::Link { columns, identify, .. } = &target.fields[0] else {
        panic!("not a link");
    };
    assert_eq!(
        (columns.as_slice(), identify.key.as_slice()),
        (["family_id".to_string()].as_slice(), ["id".to_string()].as_slice())
    );
    assert_eq!(target.key, ["family_id", "first_name"]);
}
