//! Databases as records and as URIs.

use super::*;
use serde_json::json;

#[track_caller]
fn check(db: Value, expect: Option<&str>) {
    assert_eq!(uri(&db).unwrap().as_deref(), expect, "{db}");
}

#[test]
fn every_form_of_db_has_a_uri() {
    check(json!(null), None);
    check(json!("pgsql:x"), Some("pgsql:x"));
    check(json!({"htsql": {"db": "pgsql:x"}, "tweak.meta": {}}), Some("pgsql:x"));
    check(json!({"tweak.meta": {}}), None);
    check(json!({"engine": "pgsql", "database": "x"}), Some("pgsql:x"));
    check(json!({"engine": "sqlite", "database": "/a/b.db"}), Some("sqlite:/a/b.db"));
    check(
        json!({"htsql": {"db": {"engine": "pgsql", "database": "x", "username": "u",
            "password": "p@/", "host": "h", "port": "5433", "options": {"sslmode": "require"}}}}),
        Some("pgsql://u:p%40%2F@h:5433/x?sslmode=require"),
    );
    let error = uri(&json!({"engine": "pgsql", "port": 0})).unwrap_err().to_string();
    assert!(error.contains("[1..65535]"), "{error}");
}
