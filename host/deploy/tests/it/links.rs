//! Links: made, altered, renamed, dropped; their defaults.

use crate::support::{Driver, same};

#[test]
fn a_link_is_made_and_altered() {
    let mut driver = Driver::new("link_made");
    let made = driver.run(
        "
        - { table: individual }
        - { table: sample }
        - { link: sample.individual }
        - { column: sample.code, type: text }
        - { identity: [sample.individual, sample.code: offset] }
        ",
    );
    assert!(
        made.contains(
            r#"
ALTER TABLE "sample" ADD COLUMN "individual_id" "int4" NOT NULL;
ALTER TABLE "sample" ADD CONSTRAINT "sample_individual_fk" FOREIGN KEY ("individual_id") REFERENCES "individual" ("id") ON DELETE SET DEFAULT;
CREATE INDEX "sample_individual_fk" ON "sample" ("individual_id");
"#
        ),
        "{made}"
    );
    assert_eq!(driver.run("{ link: sample.individual }"), "");
    same(
        &driver.run("{ link: sample.individual, title: Subject }"),
        "COMMENT ON COLUMN \"sample\".\"individual_id\" IS '---\ntitle: Subject\n';",
    );
    for (fact, table) in [("measure.individual", "measure"), ("individual.family", "family")] {
        same(
            &driver.fail(&format!("{{ link: {fact} }}")),
            &format!(
                "Discovered missing table:\n    {table}\nWhile deploying link fact:\n    \
                 \"<unicode string>\", line 1"
            ),
        );
    }
    let looped = r#"
        Detected self-referential mandatory link:
            mother
        While deploying link fact:
            "<unicode string>", line 1
        "#;
    same(&driver.fail("{ link: individual.mother, to: individual }"), looped);
    same(
        &driver.run("{ link: individual.mother, to: individual, required: false }"),
        r#"
        ALTER TABLE "individual" ADD COLUMN "mother_id" "int4";
        ALTER TABLE "individual" ADD CONSTRAINT "individual_mother_fk" FOREIGN KEY ("mother_id") REFERENCES "individual" ("id") ON DELETE SET DEFAULT;
        CREATE INDEX "individual_mother_fk" ON "individual" ("mother_id");
        "#,
    );
    same(&driver.fail("{ link: individual.mother, to: individual }"), looped);
    same(
        &driver.fail("{ link: individual.mother, to: sample, required: false }"),
        r#"
        Discovered link with mismatched target:
            mother
        While deploying link fact:
            "<unicode string>", line 1
        "#,
    );
    driver.sql("CREATE TABLE family (familyid int4 NOT NULL)");
    same(
        &driver.fail("{ link: individual.family }"),
        r#"
        Discovered table without surrogate key:
            family
        While deploying link fact:
            "<unicode string>", line 1
        "#,
    );
    same(
        &driver.run("{ link: sample.individual, title: Subject, required: false }"),
        r#"
        ALTER TABLE "sample" DROP CONSTRAINT "sample_pk";
        DROP TRIGGER "sample_pk" ON "sample";
        DROP FUNCTION "sample_pk"();
        ALTER TABLE "sample" DROP CONSTRAINT "sample_individual_fk";
        ALTER TABLE "sample" ADD CONSTRAINT "sample_individual_fk" FOREIGN KEY ("individual_id") REFERENCES "individual" ("id") ON DELETE SET DEFAULT;
        ALTER TABLE "sample" ALTER COLUMN "individual_id" DROP NOT NULL;
        "#,
    );
    same(
        &driver.run("{ link: sample.individual, title: Subject, unique: true }"),
        r#"
        ALTER TABLE "sample" ALTER COLUMN "individual_id" SET NOT NULL;
        DROP INDEX "sample_individual_fk";
        ALTER TABLE "sample" ADD CONSTRAINT "sample_individual_uk" UNIQUE ("individual_id");
        "#,
    );
    same(
        &driver.run("{ link: sample.individual, title: Subject, unique: false }"),
        r#"
        ALTER TABLE "sample" DROP CONSTRAINT "sample_individual_uk";
        CREATE INDEX "sample_individual_fk" ON "sample" ("individual_id");
        "#,
    );
    same(
        &driver.fail(
            "
- { table: identity }
- { column: identity.individual, type: text }
- { link: identity.individual }
",
        ),
        r#"
        Discovered column with the same name:
            individual
        While deploying link fact:
            "<unicode string>", line 4
        "#,
    );
    same(
        &driver.run("{ link: sample.subject, to: individual, was: individual }"),
        r#"
        ALTER TABLE "sample" RENAME COLUMN "individual_id" TO "subject_id";
        ALTER TABLE "sample" RENAME CONSTRAINT "sample_individual_fk" TO "sample_subject_fk";
        ALTER INDEX "sample_individual_fk" RENAME TO "sample_subject_fk";
        COMMENT ON COLUMN "sample"."subject_id" IS NULL;
        "#,
    );
    same(
        &driver.run("{ link: sample.subject, present: false }"),
        "ALTER TABLE \"sample\" DROP COLUMN \"subject_id\";",
    );
    assert_eq!(driver.run("{ link: measure.subject, present: false }"), "");
}

/// The table's own `was` has renamed the link before.
#[test]
fn a_link_keeps_its_values_when_its_target_is_renamed_with_it() {
    let mut driver = Driver::new("link_followed");
    driver.run(
        "
- table: aa
  with: [{ column: code, type: text }, { identity: [code] }]
- table: bb
  with: [{ column: c, type: text }, { identity: [c] }, { link: aa, required: false }]
- { of: aa, data: { code: x } }
- { of: bb, data: { c: one, aa: x } }
",
    );
    let facts = "
- { table: a2, was: aa }
- { link: bb.par, was: aa, to: a2, required: false }
";
    driver.run(facts);
    assert_eq!(
        driver.text("SELECT code FROM bb JOIN a2 ON a2.id = bb.par_id WHERE c = 'one'"),
        "x"
    );
    let columns = "SELECT string_agg(column_name, ' ' ORDER BY column_name)
        FROM information_schema.columns WHERE table_name = 'bb'";
    assert_eq!(driver.text(columns), "c id par_id");
    assert_eq!(driver.run(facts), "");
    // Only as what it was.
    driver.run("[{ table: a3, was: a2 }, { link: bb.aa, to: a3, required: false }]");
    assert_eq!(driver.text(columns), "aa_id c id par_id");
}

#[test]
fn a_link_has_a_default_that_exists() {
    let mut driver = Driver::new("link_default");
    driver.run("[{ table: individual }, { table: site }, { column: site.code, type: text }]");
    let failed = |message: &str, value: &str| {
        format!(
            "{message}\n    site[{value}]\nWhile deploying link fact:\n    \"<unicode string>\", \
             line 1"
        )
    };
    let link = "{ link: individual.site, default: main }";
    same(&driver.fail(link), &failed("Got ill-formed link value:", "main"));
    driver.run("{ identity: [site.code] }");
    same(&driver.fail(link), &failed("Cannot find link:", "main"));
    driver.run("{ data: { code: main }, of: site }");
    same(
        &driver.fail("{ link: individual.site, default: main.1 }"),
        &failed("Got ill-formed link value:", "main.1"),
    );
    let made = driver.run(link);
    assert!(made.starts_with(
        "ALTER TABLE \"individual\" ADD COLUMN \"site_id\" \"int4\" NOT NULL DEFAULT 1;"
    ));
    assert!(
        made.ends_with("COMMENT ON COLUMN \"individual\".\"site_id\" IS '---\ndefault: main\n';")
    );
    same(
        &driver.run("{ link: individual.site }"),
        r#"
        ALTER TABLE "individual" ALTER COLUMN "site_id" DROP DEFAULT;
        COMMENT ON COLUMN "individual"."site_id" IS NULL;
        "#,
    );
}
