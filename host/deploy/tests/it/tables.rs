//! Tables: made, renamed with all that is named after them, their fields ordered, dropped.

use crate::support::{Driver, same};

#[test]
fn a_table_is_made_once() {
    let mut driver = Driver::new("table_made");
    same(
        &driver.run("{ table: individual }"),
        r#"
        CREATE TABLE "individual" (
            "id" "int4" NOT NULL
        );
        CREATE SEQUENCE "individual_seq" OWNED BY "individual"."id";
        ALTER TABLE "individual" ALTER COLUMN "id" SET DEFAULT nextval('"individual_seq"'::regclass);
        ALTER TABLE "individual" ADD CONSTRAINT "individual_uk" UNIQUE ("id");
        "#,
    );
    assert_eq!(driver.run("{ table: individual }"), "");
    let mangled = driver.run("{ table: individual_id, title: Identity }");
    assert!(mangled.starts_with("CREATE TABLE \"individual_id__3dcb2f\""), "{mangled}");
    let comment = "COMMENT ON TABLE \"individual_id__3dcb2f\" IS '---\nlabel: individual_id\n\
                   title: Identity\n';";
    assert!(mangled.ends_with(comment), "{mangled}");
    let unlogged = driver.run("{ table: history, reliable: false }");
    assert!(unlogged.starts_with("CREATE UNLOGGED TABLE \"history\" ("), "{unlogged}");
    same(
        &driver.fail("{ table: history, reliable: true }"),
        r#"
        Discovered table with mismatched reliability mode:
            history
        While deploying table fact:
            "<unicode string>", line 1
        "#,
    );
    same(
        &driver.locked("{ table: sample }"),
        r#"
        Detected inconsistent data model:
            CREATE TABLE "sample" (
                "id" "int4" NOT NULL
            );
        While validating table fact:
            "<unicode string>", line 1
        "#,
    );
}

#[test]
fn a_table_needs_its_surrogate_key() {
    let mut driver = Driver::new("table_key");
    let expected = r#"
        Discovered table without surrogate key:
            sample
        While deploying table fact:
            "<unicode string>", line 1
        "#;
    driver.sql("CREATE TABLE sample (sampleid int4 NOT NULL)");
    same(&driver.fail("{ table: sample }"), expected);
    driver.sql("ALTER TABLE sample ADD COLUMN id int4 NOT NULL");
    same(&driver.fail("{ table: sample }"), expected);
    driver.sql("ALTER TABLE sample ADD UNIQUE (id)");
    driver.run("{ table: sample }");
}

const MEASURE: &str = "
- { table: individual }
- { table: measure }
- { link: measure.individual }
- { column: measure.code, type: text }
- { identity: [measure.individual, measure.code: offset] }
- { column: measure.status, type: [in-process, processed, completed], default: in-process }
- { table: visit }
- { link: visit.measure }
";

#[test]
fn what_is_named_after_a_table_is_renamed_with_it() {
    let mut driver = Driver::new("table_renamed");
    driver.run(MEASURE);
    let renamed = driver.run("{ table: assessment, was: measure }");
    let (heads, function) = renamed.split_once("CREATE OR REPLACE FUNCTION").unwrap();
    same(
        heads,
        r#"
        ALTER TABLE "measure" RENAME TO "assessment";
        ALTER SEQUENCE "measure_seq" RENAME TO "assessment_seq";
        ALTER TABLE "assessment" RENAME CONSTRAINT "measure_uk" TO "assessment_uk";
        ALTER TABLE "visit" RENAME COLUMN "measure_id" TO "assessment_id";
        ALTER TABLE "visit" RENAME CONSTRAINT "visit_measure_fk" TO "visit_assessment_fk";
        ALTER INDEX "visit_measure_fk" RENAME TO "visit_assessment_fk";
        ALTER TABLE "assessment" RENAME CONSTRAINT "measure_individual_fk" TO "assessment_individual_fk";
        ALTER INDEX "measure_individual_fk" RENAME TO "assessment_individual_fk";
        ALTER TYPE "measure_status_enum" RENAME TO "assessment_status_enum";
        ALTER TABLE "assessment" RENAME CONSTRAINT "measure_pk" TO "assessment_pk";
        ALTER FUNCTION "measure_pk"() RENAME TO "assessment_pk";
        ALTER TRIGGER "measure_pk" ON "assessment" RENAME TO "assessment_pk";
        "#,
    );
    assert!(
        function
            .starts_with(" \"assessment_pk\"() RETURNS \"trigger\" LANGUAGE plpgsql AS '\nBEGIN\n")
    );
    assert!(function.contains("FROM \"assessment\"") && !function.contains("measure"));

    let moved = driver.run(
        "
        table: assessment
        with:
        - { column: code, type: text }
        - { link: individual }
        - { column: status, type: [in-process, processed, completed], default: in-process }
        ",
    );
    same(
        &moved,
        r#"
        ALTER TABLE "assessment" ADD COLUMN "?" "int4";
        UPDATE "assessment" SET "?" = "individual_id";
        ALTER TABLE "assessment" DROP COLUMN "individual_id";
        ALTER TABLE "assessment" RENAME COLUMN "?" TO "individual_id";
        ALTER TABLE "assessment" ALTER COLUMN "individual_id" SET NOT NULL;
        ALTER TABLE "assessment" ADD CONSTRAINT "assessment_pk" PRIMARY KEY ("individual_id", "code"), CLUSTER ON "assessment_pk";
        COMMENT ON CONSTRAINT "assessment_pk" ON "assessment" IS '---
        generators:
        - null
        - offset
        ';
        ALTER TABLE "assessment" ADD CONSTRAINT "assessment_individual_fk" FOREIGN KEY ("individual_id") REFERENCES "individual" ("id") ON DELETE CASCADE;
        CREATE INDEX "assessment_individual_fk" ON "assessment" ("individual_id");
        ALTER TABLE "assessment" ADD COLUMN "?" "assessment_status_enum";
        UPDATE "assessment" SET "?" = "status";
        ALTER TABLE "assessment" DROP COLUMN "status";
        ALTER TABLE "assessment" RENAME COLUMN "?" TO "status";
        ALTER TABLE "assessment" ALTER COLUMN "status" SET NOT NULL;
        ALTER TABLE "assessment" ALTER COLUMN "status" SET DEFAULT 'in-process'::assessment_status_enum;
        COMMENT ON COLUMN "assessment"."status" IS '---
        default: in-process
        ';
        "#,
    );

    same(&driver.run("{ table: visit, present: false }"), "DROP TABLE \"visit\";");
    assert_eq!(driver.run("{ table: visit, present: false }"), "");
    same(
        &driver.run("{ table: assessment, present: false }"),
        r#"
        DROP TABLE "assessment";
        DROP TYPE "assessment_status_enum";
        DROP FUNCTION "assessment_pk"();
        "#,
    );
}

#[test]
fn links_into_a_table_go_with_it() {
    let mut driver = Driver::new("table_dropped");
    driver.run(
        "
        - { table: individual }
        - { table: identity }
        - { link: identity.individual }
        - { link: individual.mother, to: individual, required: false }
        - { link: individual.father, to: individual, required: false }
        ",
    );
    same(
        &driver.run("{ table: individual, present: false }"),
        r#"
        ALTER TABLE "identity" DROP COLUMN "individual_id";
        DROP TABLE "individual";
        "#,
    );
}

#[test]
fn a_column_that_moves_keeps_its_indexes() {
    let mut driver = Driver::new("table_indexes");
    driver.run("[{ table: t }, { column: t.a, type: text }, { column: t.b, type: text }]");
    driver.sql(
        "CREATE UNIQUE INDEX t_lower ON t (lower(a), b DESC) WHERE b <> 'x';
         CREATE INDEX t_a ON t (a); CREATE INDEX t_b ON t USING hash (b)",
    );
    let indexes = "SELECT string_agg(indexdef, E'\n' ORDER BY indexname) FROM pg_indexes \
                   WHERE tablename = 't'";
    let before = driver.text(indexes);
    let facts = "{ table: t, with: [{ column: b, type: text }, { column: a, type: text }] }";
    assert!(driver.run(facts).contains("UPDATE \"t\" SET \"?\" = \"a\""));
    assert_eq!(driver.text(indexes), before);
}

const AUDIT: &str = "
CREATE SCHEMA audit;
COMMENT ON SCHEMA audit IS 'version: 2.11.0';
CREATE TABLE audit.log (entry text);
CREATE FUNCTION audit.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.log VALUES (TG_OP || ' ' || TG_TABLE_NAME);
    RETURN NULL;
END
$$;
";

/// Triggers by table, without those of identities.
const AUDITED: &str = "
SELECT coalesce(string_agg(tgrelid::regclass || ' ' || tgname, ', ' ORDER BY tgrelid::regclass::text), '')
FROM pg_trigger WHERE NOT tgisinternal AND tgname NOT LIKE '%pk'";

#[test]
fn new_tables_are_audited_where_others_are() {
    let mut driver = Driver::new("table_audited");
    driver.run("{ table: before }");
    driver.sql(AUDIT);
    let made = driver.run("[{ table: before }, { table: individual, title: Somebody }]");
    assert!(made.starts_with("CREATE TABLE \"individual\""), "{made}");
    let trigger = "CREATE TRIGGER \"audit\" AFTER INSERT OR UPDATE OR DELETE ON \"individual\" \
                   FOR EACH ROW EXECUTE PROCEDURE \"audit\".\"audit\"();";
    assert!(made.lines().any(|line| line == trigger), "{made}");
    assert_eq!(driver.text(AUDITED), "individual audit");
    assert_eq!(driver.run("[{ table: before }, { table: individual, title: Somebody }]"), "");

    // Rows of facts are audited, too, and so are those that the structure changes.
    driver.run(MEASURE);
    driver.run("[{ column: individual.code, type: text }, { identity: [individual.code] }]");
    driver.run("{ data: { code: one }, of: individual }");
    driver.run("{ data: { code: one }, of: individual, present: false }");
    let log = "SELECT string_agg(entry, ', ') FROM audit.log";
    assert_eq!(driver.text(log), "INSERT individual, DELETE individual");

    // The trigger goes with its table, and is not taken for that of an identity.
    driver.run("[{ table: assessment, was: measure }, { table: visit, present: false }]");
    assert_eq!(driver.text(AUDITED), "assessment audit, individual audit");
    driver.sql(
        "ALTER TABLE individual RENAME CONSTRAINT individual_pk TO audit;
         CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    );
    driver.run("{ table: person, was: individual }");
    driver.run("{ identity: [person.code: random] }");
    assert_eq!(driver.text(AUDITED), "assessment audit, person audit");
    driver.run("{ table: person, present: false }");
    driver.sql("DROP FUNCTION audit()");
    driver.run("{ table: assessment, present: false }");
    assert_eq!(driver.text(AUDITED), "");

    // Another version is nobody's.
    driver.sql("COMMENT ON SCHEMA audit IS 'version: 3'");
    driver.run("{ table: later }");
    driver.sql("DROP SCHEMA audit CASCADE");
    driver.run("{ table: latest }");
    assert_eq!(driver.text(AUDITED), "");
}
