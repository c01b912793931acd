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

/// A table with a column behind its identity, and with another one before that.
const BEFORE: &str = "
table: t
with:
- { column: code, type: text }
- { identity: [code] }
- { column: amount, type: integer }
";
const BETWEEN: &str = "
table: t
with:
- { column: code, type: text }
- { identity: [code] }
- { column: note, type: text, required: false }
- { column: amount, type: integer }
";

#[test]
fn a_column_stays_where_it_is_when_moving_would_cost_something() {
    let mut driver = Driver::new("table_bound");
    driver.sql("CREATE ROLE deploy_clerk");
    let all = [
        "ALTER TABLE t ADD CHECK (amount > 0)",
        "ALTER TABLE t ADD CHECK (amount > 0 OR code = 'free')",
        "ALTER TABLE t ADD EXCLUDE (amount WITH =)",
        "ALTER TABLE t ADD UNIQUE (amount, code) DEFERRABLE",
        "ALTER TABLE t ADD UNIQUE (amount, code) WITH (fillfactor = 50)",
        "ALTER TABLE t ADD UNIQUE (id, code) INCLUDE (amount)",
        "CREATE UNIQUE INDEX i ON t (amount); CREATE TABLE u (amount int8 REFERENCES t (amount))",
        "ALTER TABLE t ADD CONSTRAINT k UNIQUE (amount, code); COMMENT ON INDEX k IS 'K'",
        "CREATE TABLE u (n int8, c text, PRIMARY KEY (n, c)); INSERT INTO u VALUES (1, 'a');
         ALTER TABLE t ADD FOREIGN KEY (amount, code) REFERENCES u MATCH FULL",
        "CREATE TABLE u (n int8, c text, PRIMARY KEY (n, c));
         ALTER TABLE t ADD FOREIGN KEY (amount, code) REFERENCES u NOT VALID",
        "GRANT SELECT (code, amount) ON t TO deploy_clerk",
        "CREATE STATISTICS s ON code, amount FROM t",
        "ALTER TABLE t ALTER amount SET STATISTICS 500",
        "ALTER TABLE t ALTER amount SET (n_distinct = 5)",
        "ALTER TABLE t ALTER amount TYPE int8, ADD sum int8 GENERATED ALWAYS AS (amount + 1) STORED",
        "ALTER TABLE t ALTER amount ADD GENERATED ALWAYS AS IDENTITY",
        "CREATE SEQUENCE s OWNED BY t.amount",
        "CREATE VIEW v AS SELECT amount FROM t",
        "CREATE POLICY p ON t USING (amount > 0)",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER g AFTER UPDATE OF amount ON t EXECUTE FUNCTION f()",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE RULE r AS ON UPDATE TO t DO INSTEAD NOTHING",
        "CREATE INDEX i ON t (amount); COMMENT ON INDEX i IS 'I'",
        "CREATE INDEX i ON t ((amount + 1)); ALTER INDEX i ALTER 1 SET STATISTICS 500",
        "CREATE INDEX i ON t (amount); CLUSTER t USING i",
        "CREATE UNIQUE INDEX i ON t (amount); ALTER TABLE t REPLICA IDENTITY USING INDEX i",
        "CREATE TABLE child () INHERITS (t)",
        "CREATE PUBLICATION p FOR TABLE t (code, amount)",
    ];
    for bond in all {
        driver
            .sql("DROP PUBLICATION IF EXISTS p; DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        driver.run(BEFORE);
        driver.sql("INSERT INTO t (code, amount) VALUES ('a', 1)");
        driver.sql(bond);
        let done = driver.run(BETWEEN);
        assert_eq!(done, "ALTER TABLE \"t\" ADD COLUMN \"note\" \"text\";", "{bond}");
    }
    // Of a text.
    let (before, between) = (BEFORE.replace("integer", "text"), BETWEEN.replace("integer", "text"));
    for bond in ["STORAGE EXTERNAL", "COMPRESSION pglz", "TYPE text COLLATE \"C\""] {
        driver.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        driver.run(&before);
        driver.sql(&format!("ALTER TABLE t ALTER amount SET {bond}").replace("SET TYPE", "TYPE"));
        let done = driver.run(&between);
        assert_eq!(done, "ALTER TABLE \"t\" ADD COLUMN \"note\" \"text\";", "{bond}");
    }
    driver.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    driver.run(BEFORE);
    let stays = BETWEEN.to_owned() + "- { column: free, type: text, required: false }";
    driver.run(&BEFORE.replace(
        "- { column: amount",
        "- { column: free, type: text, required: false }\n- { column: amount",
    ));
    driver.sql("ALTER TABLE t ADD CHECK (amount > 0)");
    driver.run(&stays);
    let order = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
                 WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped";
    assert_eq!(driver.text(order), "id code amount note free");
    driver.sql("INSERT INTO t (code, amount) VALUES ('a', 1)");
    let wrong = driver.session.execute_sql("UPDATE t SET amount = -5").unwrap_err();
    assert!(wrong.to_string().contains("t_amount_check"), "{wrong}");
}

#[test]
fn what_is_known_of_a_column_moves_with_it() {
    let mut driver = Driver::new("table_moved");
    let link = "- { link: other, to: t, required: false, default: a, unique: true }\n\
                - { link: same, to: t, required: false, title: That }\n\
                - { column: state, type: [on, 'off'], default: 'off', unique: true }\n\
                - { column: more, type: text, default: x }\n";
    driver.run(BEFORE);
    driver.sql("INSERT INTO t (code, amount) VALUES ('a', 1)");
    driver.run(&(BEFORE.to_owned() + link));
    driver.sql(
        "CREATE INDEX i1 ON t (more text_pattern_ops); CREATE INDEX i2 ON t (more) WITH (fillfactor = 50);
         CREATE INDEX i3 ON t (amount) INCLUDE (more); GRANT UPDATE (code) ON t TO PUBLIC;
         ALTER TABLE t ADD CHECK (code <> 'none')",
    );
    let structure = "
        SELECT string_agg(line, E'\n' ORDER BY line) FROM (
            SELECT indexdef AS line FROM pg_indexes WHERE tablename = 't'
            UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) || coalesce(obj_description(oid), '')
                FROM pg_constraint WHERE conrelid = 't'::regclass
            UNION ALL SELECT concat_ws(' ', attname, attnotnull, pg_get_expr(adbin, adrelid),
                    atttypid::regtype, col_description(attrelid, attnum), attacl::text)
                FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
                WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped
                    AND attname <> 'note') found (line)";
    let before = driver.text(structure);
    let moved = driver.run(&(BETWEEN.to_owned() + link));
    assert_eq!(moved.matches("UPDATE \"t\" SET").count(), 5, "{moved}");
    assert_eq!(driver.text(structure), before);
}

#[test]
fn the_order_that_is_left_is_accepted_when_the_same_facts_loosen_the_column() {
    let mut driver = Driver::new("table_loosened");
    driver.run(BEFORE);
    driver.sql("ALTER TABLE t ADD CONSTRAINT pos CHECK (amount > 0)");
    let facts = format!(
        "- {}\n- {{ sql: ALTER TABLE t DROP CONSTRAINT pos,\n    \
         unless: SELECT count(*) = 0 FROM pg_constraint WHERE conname = 'pos' }}",
        BETWEEN.trim().replace('\n', "\n  ")
    );
    let done = driver.run_at_once(&facts);
    assert!(!done.contains("UPDATE"), "{done}");
    assert!(driver.run(&facts).contains("UPDATE"));
}

const VISIT: &str = "
table: visit
with:
- { column: num, type: integer }
- { identity: [num] }
- { column: date, type: date, default: today() }
- { column: kind, type: [first, next], default: next }
";

/// Indexes on `visit`, and where they are.
const INDEXES: &str = "
CREATE INDEX v1 ON visit (num, date);
CREATE UNIQUE INDEX v2 ON visit (date) WHERE kind = 'first';
CREATE INDEX v3 ON visit ((date + 1));
CREATE INDEX v4 ON visit USING hash (kind);
";
const WHERE: &str = "
SELECT string_agg(indexdef, E'\n' ORDER BY indexname) FROM pg_indexes WHERE indexname ~ '^v[0-9]'";

#[test]
fn a_column_that_moves_while_names_change_keeps_its_indexes() {
    let mut driver = Driver::new("table_renamed_indexes");
    let between = "- { identity: [num] }\n- { column: place, type: text, required: false }";
    let placed = VISIT.replace("- { identity: [num] }", between);
    let new_table = placed.replace("table: visit", "table: meeting\nwas: visit");
    let new_columns = placed
        .replace("column: date", "column: day, was: date")
        .replace("column: kind", "column: sort, was: kind");
    let given_anew = format!(
        "- {{ table: old_visit, was: visit }}\n- {}\n- {}",
        VISIT.trim().replace('\n', "\n  "),
        placed.replace("table: visit", "table: old_visit").trim().replace('\n', "\n  "),
    );
    let cases: [(&str, &[(&str, &str)]); 3] = [
        (&new_table, &[("public.visit", "public.meeting"), ("visit_kind", "meeting_kind")]),
        (&new_columns, &[("date", "day"), ("kind", "sort")]),
        (&given_anew, &[("public.visit", "public.old_visit"), ("visit_kind", "old_visit__kind_")]),
    ];
    for (facts, renamed) in cases {
        driver.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        driver.run(VISIT);
        driver.sql(INDEXES);
        let mut expected = driver.text(WHERE);
        for (old, new) in renamed {
            expected = expected.replace(old, new);
        }
        driver.run(facts);
        assert_eq!(driver.text(WHERE), expected);
    }
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
