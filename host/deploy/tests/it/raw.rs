//! SQL of one's own, and files of further facts.

use crate::support::{Driver, same};

const STUDY: &str = "
- { table: study }
- { column: study.code, type: text }
- { identity: [study.code] }
- { column: study.title, type: text }
";

const INDEX: &str = "
sql:
  CREATE INDEX study_title_idx ON study USING gin(to_tsvector('english', title));
unless:
  SELECT TRUE FROM pg_catalog.pg_class WHERE relname = 'study_title_idx';
";

#[test]
fn sql_runs_unless_its_condition_holds() {
    let mut driver = Driver::new("raw_once");
    driver.run(STUDY);
    same(
        &driver.locked(INDEX),
        r#"
        Discovered failed assertion:
            SELECT TRUE FROM pg_catalog.pg_class WHERE relname = 'study_title_idx';
        While validating sql fact:
            "<unicode string>", line 2
        "#,
    );
    same(
        &driver.run(INDEX),
        "CREATE INDEX study_title_idx ON study USING gin(to_tsvector('english', title));",
    );
    for (condition, runs) in [
        ("SELECT 0", true),
        ("SELECT ''", true),
        ("SELECT NULL WHERE FALSE", true),
        ("SELECT FALSE, 0.00, 'f' = 't'", true),
        ("SELECT 'f'", false),
        ("SELECT to_regclass('study')", false),
        ("SELECT FALSE, 1", false),
    ] {
        let facts = format!("{{ sql: CREATE TABLE x (), unless: \"{condition}\" }}");
        assert_eq!(driver.run_once(&facts) == "CREATE TABLE x ()", runs, "{condition}");
        driver.sql("DROP TABLE IF EXISTS x");
    }
    same(
        &driver.fail("{ sql: COMMIT; SELECT 1, unless: SELECT FALSE }"),
        r#"
        COMMIT is refused: the transaction is shared, and ends as a whole
        While executing SQL:
            COMMIT; SELECT 1
        While deploying sql fact:
            "<unicode string>", line 1
        "#,
    );
    same(
        &driver.fail("{ sql: CREATE TABLE study (), unless: SELECT FALSE }"),
        r#"
        Got an error from the database driver:
            relation "study" already exists
        While executing SQL:
            CREATE TABLE study ()
        While deploying sql fact:
            "<unicode string>", line 1
        "#,
    );
    // What SQL changed is seen by the facts that follow.
    driver.run_once(
        "
- { sql: ALTER TABLE study ADD COLUMN extra int8, unless: SELECT FALSE }
- { column: study.extra, type: integer, required: false }
",
    );
}

#[test]
fn files_are_included() {
    let folder = tempfile::tempdir().unwrap();
    let mut driver = Driver::within("raw_files", folder.path());
    std::fs::create_dir(folder.path().join("deploy")).unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join("deploy").join(name), text).unwrap();
    };
    write("study.yaml", &format!("{STUDY}- {{ include: more.yaml }}\n"));
    write("more.yaml", "- { data: study.csv }\n- { sql: index.sql, unless: check.sql }\n");
    write("study.csv", "code,title\nasdl,Lab\n");
    write("index.sql", "CREATE INDEX study_title_idx ON study (title);");
    write("check.sql", "SELECT TRUE FROM pg_class WHERE relname = 'study_title_idx'");
    let done = driver.run("{ include: ./deploy/study.yaml }");
    assert!(done.contains("'asdl'") && done.contains("CREATE INDEX study_title_idx"), "{done}");

    write("study.yaml", "- { column: study.title, type: text, present: false }\n");
    let base = folder.path().display();
    assert_eq!(
        driver.fail("{ include: ./deploy/study.yaml }"),
        format!(
            "Got unexpected clause:\n    type\nWhile parsing column fact:\n    \
             \"{base}/deploy/study.yaml\", line 1\nWhile deploying include fact:\n    \
             \"<unicode string>\", line 1"
        )
    );
    write("study.yaml", "- { include: study.yaml }\n");
    let looped = driver.fail("{ include: ./deploy/study.yaml }");
    assert!(looped.starts_with("Got facts nested deeper than 16\n"), "{looped}");
}
