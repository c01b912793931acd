//! Columns of all types: made, altered, renamed, converted, dropped.

use rex_htsql::Value;

use crate::support::{Driver, same};

#[test]
fn a_column_is_made_and_altered() {
    let mut driver = Driver::new("column_made");
    driver.run("{ table: individual }");
    same(
        &driver.run("{ column: individual.code, type: text }"),
        "ALTER TABLE \"individual\" ADD COLUMN \"code\" \"text\" NOT NULL;",
    );
    assert_eq!(driver.run("{ column: individual.code, type: text }"), "");
    same(
        &driver.run("{ column: individual.code, type: text, title: Individual ID }"),
        "COMMENT ON COLUMN \"individual\".\"code\" IS '---\ntitle: Individual ID\n';",
    );
    same(
        &driver.fail("{ column: identity.first_name, type: text }"),
        r#"
        Discovered missing table:
            identity
        While deploying column fact:
            "<unicode string>", line 1
        "#,
    );
    same(
        &driver.run("{ column: individual.sex, type: [not-known, male, female] }"),
        r#"
        CREATE TYPE "individual_sex_enum" AS ENUM ('not-known', 'male', 'female');
        ALTER TABLE "individual" ADD COLUMN "sex" "individual_sex_enum" NOT NULL;
        "#,
    );
    same(
        &driver.run("{ column: individual.email, type: text, unique: true }"),
        r#"
        ALTER TABLE "individual" ADD COLUMN "email" "text" NOT NULL;
        ALTER TABLE "individual" ADD CONSTRAINT "individual_email_uk" UNIQUE ("email");
        "#,
    );
    same(
        &driver.run("{ column: individual.birth_date, type: date, default: today() }"),
        r#"
        ALTER TABLE "individual" ADD COLUMN "birth_date" "date" NOT NULL DEFAULT 'now'::text::date;
        COMMENT ON COLUMN "individual"."birth_date" IS '---
        default: today()
        ';
        "#,
    );
    same(
        &driver
            .run("{ column: individual.sex, type: [not-known, male, female], default: not-known }"),
        r#"
        ALTER TABLE "individual" ALTER COLUMN "sex" SET DEFAULT 'not-known';
        COMMENT ON COLUMN "individual"."sex" IS '---
        default: not-known
        ';
        "#,
    );
    same(
        &driver.run("{ identity: [individual.code] }"),
        "ALTER TABLE \"individual\" ADD CONSTRAINT \"individual_pk\" PRIMARY KEY (\"code\"), CLUSTER \
         ON \"individual_pk\";",
    );
    let column = "column: individual.code, type: text, title: Individual ID";
    same(
        &driver.run(&format!("{{ {column}, required: false }}")),
        r#"
        ALTER TABLE "individual" DROP CONSTRAINT "individual_pk";
        ALTER TABLE "individual" ALTER COLUMN "code" DROP NOT NULL;
        "#,
    );
    same(
        &driver.run(&format!("{{ {column}, required: true }}")),
        "ALTER TABLE \"individual\" ALTER COLUMN \"code\" SET NOT NULL;",
    );
    same(
        &driver.run("{ column: individual.email, type: text, unique: false }"),
        "ALTER TABLE \"individual\" DROP CONSTRAINT \"individual_email_uk\";",
    );
    same(
        &driver.run("{ column: individual.email, type: text, unique: true }"),
        "ALTER TABLE \"individual\" ADD CONSTRAINT \"individual_email_uk\" UNIQUE (\"email\");",
    );
    same(
        &driver.fail(
            "
- { link: individual.mother, to: individual, required: false }
- { column: individual.mother, type: integer }
",
        ),
        r#"
        Discovered link with the same name:
            mother
        While deploying column fact:
            "<unicode string>", line 3
        "#,
    );
    same(
        &driver.run(
            "{ column: individual.gender, was: sex, type: [not-known, male, female], default: not-known }",
        ),
        r#"
        ALTER TABLE "individual" RENAME COLUMN "sex" TO "gender";
        ALTER TYPE "individual_sex_enum" RENAME TO "individual_gender_enum";
        "#,
    );
    same(
        &driver.run("{ column: individual.login_email, was: email, type: text, unique: true }"),
        r#"
        ALTER TABLE "individual" RENAME COLUMN "email" TO "login_email";
        ALTER TABLE "individual" RENAME CONSTRAINT "individual_email_uk" TO "individual__login_email__uk";
        "#,
    );
    driver.run("{ identity: [individual.code: random] }");
    let renamed = driver.run("{ column: individual.ident, was: code, type: text }");
    let (heads, function) = renamed.split_once("CREATE OR REPLACE").unwrap();
    same(
        heads,
        r#"
        ALTER TABLE "individual" RENAME COLUMN "code" TO "ident";
        COMMENT ON COLUMN "individual"."ident" IS NULL;
        "#,
    );
    assert!(function.contains("WHILE NEW.\"ident\" IS NULL LOOP"), "{function}");
    same(
        &driver.run("{ column: individual.ident, present: false }"),
        r#"
        ALTER TABLE "individual" DROP COLUMN "ident";
        DROP TRIGGER "individual_pk" ON "individual";
        DROP FUNCTION "individual_pk"();
        "#,
    );
    assert_eq!(driver.run("{ column: measure.date_of_evaluation, present: false }"), "");
    same(
        &driver.run("{ column: individual.gender, present: false }"),
        r#"
        ALTER TABLE "individual" DROP COLUMN "gender";
        DROP TYPE "individual_gender_enum";
        "#,
    );
    driver.run("{ link: individual.mother, to: individual, required: false }");
    same(
        &driver.fail("{ column: individual.mother, present: false }"),
        r#"
        Discovered link with the same name:
            mother
        While deploying column fact:
            "<unicode string>", line 1
        "#,
    );
}

#[test]
fn a_column_is_converted_with_its_values() {
    let mut driver = Driver::new("column_converted");
    driver.run(
        "
        - { table: address }
        - { column: address.code, type: text }
        - { identity: [address.code] }
        - { column: address.city, type: text }
        - { column: address.zip, type: text }
        - { column: address.state, type: text }
        - { data: [{ code: chi, city: Chicago, zip: '60614', state: IL }], of: address }
        ",
    );
    same(
        &driver.run("{ column: address.zip, type: integer }"),
        "ALTER TABLE \"address\" ALTER COLUMN \"zip\" SET DATA TYPE \"int8\" USING \
         \"zip\"::\"int8\";",
    );
    assert_eq!(driver.value("SELECT zip FROM address"), Value::Integer(60614));
    same(
        &driver.run("{ column: address.state, type: [IL] }"),
        r#"
        CREATE TYPE "address_state_enum" AS ENUM ('IL');
        ALTER TABLE "address" ALTER COLUMN "state" SET DATA TYPE "address_state_enum" USING "state"::"address_state_enum";
        "#,
    );
    same(
        &driver.run("{ column: address.state, type: [IL, MI] }"),
        r#"
        CREATE TYPE "?" AS ENUM ('IL', 'MI');
        ALTER TABLE "address" ALTER COLUMN "state" SET DATA TYPE "?" USING "state"::"text"::"?";
        DROP TYPE "address_state_enum";
        ALTER TYPE "?" RENAME TO "address_state_enum";
        "#,
    );
    same(
        &driver.run("{ column: address.state, type: text }"),
        r#"
        ALTER TABLE "address" ALTER COLUMN "state" SET DATA TYPE "text" USING "state"::"text";
        DROP TYPE "address_state_enum";
        "#,
    );
    same(
        &driver.fail("{ column: address.zip, type: date }"),
        r#"
        Cannot convert column of type integer to date:
            zip
        While deploying column fact:
            "<unicode string>", line 1
        "#,
    );
    // A default is converted with its column; a generator does not outlive its type.
    driver.run("{ identity: [address.code: random] }");
    driver.run("{ column: address.zip, type: integer, default: 5 }");
    let converted = driver.run("{ column: address.zip, type: text, default: '7' }");
    assert!(converted.contains("DROP DEFAULT") && converted.contains("SET DEFAULT '7'"));
    assert_eq!(driver.text("SELECT zip FROM address"), "60614");
    let converted = driver.run("{ column: address.code, type: [chi] }");
    assert!(converted.contains("DROP TRIGGER \"address_pk\""), "{converted}");
}

const NUMBERS: &[&str] = &["integer", "integer-int4", "decimal", "float"];

/// What the values of a type can become; of the types of one row each can become each other.
const CONVERSIONS: &[(&[&str], &[&str])] = &[
    (&["boolean"], &["integer-int4", "text"]),
    (NUMBERS, NUMBERS),
    (NUMBERS, &["text"]),
    (&["integer-int4"], &["boolean"]),
    (
        &["text"],
        &[
            "boolean",
            "integer",
            "integer-int4",
            "decimal",
            "float",
            "date",
            "time",
            "datetime",
            "json",
            "json-json",
            "[x, y]",
        ],
    ),
    (&["date"], &["text", "datetime"]),
    (&["time"], &["text"]),
    (&["datetime"], &["text", "date", "time"]),
    (&["json", "json-json"], &["text", "json", "json-json"]),
    (&["[x, y]"], &["text"]),
];

/// What the original tries and the server refuses.
const REFUSED: &[(&str, &str)] = &[("boolean", "integer"), ("integer", "boolean")];

#[test]
fn every_type_becomes_what_it_can() {
    let mut driver = Driver::new("column_conversions");
    let types = CONVERSIONS.iter().find(|(from, _)| *from == ["text"]).unwrap().1;
    let types: Vec<&str> = types.iter().copied().chain(["text"]).collect();
    for from in &types {
        for to in types.iter().filter(|to| *to != from) {
            let was = format!("[{{ table: t }}, {{ column: t.c, type: {from}, required: false }}]");
            driver.run(&was);
            let fact = format!("{{ column: t.c, type: {to}, required: false }}");
            let can = |(of, into): &(&[&str], &[&str])| of.contains(from) && into.contains(to);
            if CONVERSIONS.iter().any(can) {
                assert!(driver.run(&fact).contains(" USING "), "{from} to {to}");
            } else if REFUSED.contains(&(from, to)) {
                assert!(driver.fail(&fact).contains("cannot cast type "), "{from} to {to}");
            } else {
                let name = |ty: &str| match ty {
                    "[x, y]" => "enum('x', 'y')".to_owned(),
                    plain => plain.to_owned(),
                };
                let text = driver.fail(&fact);
                let (from, to) = (name(from), name(to));
                let said = format!("Cannot convert column of type {from} to {to}:\n    c\n");
                assert!(text.starts_with(&said), "{text}");
            }
            driver.run("{ table: t, present: false }");
        }
    }

    driver.run(
        "
        - { table: n, with: [{ column: code, type: text }, { identity: [code] },
                             { column: size, type: integer, default: 5 }] }
        - { data: { code: '7', size: 2147483647 }, of: n }
        ",
    );
    let converted = driver.run("{ column: n.size, type: integer-int4, default: 5 }");
    assert!(converted.contains("SET DATA TYPE \"int4\" USING \"size\"::\"int4\""), "{converted}");
    assert!(converted.ends_with("SET DEFAULT 5;"), "{converted}");
    driver.run("{ column: n.code, type: integer-int4 }");
    assert_eq!(driver.value("SELECT code + size / 2147483647 FROM n"), Value::Integer(8));
    driver
        .run("[{ column: n.size, type: integer }, { data: { code: 7, size: 2147483648 }, of: n }]");
    let text = driver.fail("{ column: n.size, type: integer-int4 }");
    assert!(text.starts_with("Got an error from the database driver:\n    "), "{text}");
    assert!(text.contains("integer out of range"), "{text}");
}

#[test]
fn every_type_has_its_default() {
    let mut driver = Driver::new("column_types");
    for (ty, default, sql, value) in [
        ("boolean", "true", "bool", "true"),
        ("integer", "-5", "int8", "'-5'::integer"),
        ("integer-int4", "5", "int4", "5"),
        ("decimal", "1.5", "numeric", "1.5"),
        ("float", "2.5", "float8", "2.5"),
        ("text", "it's", "text", "'it''s'::text"),
        ("date", "2010-02-03", "date", "'2010-02-03'::date"),
        ("time", "'12:30'", "time", "'12:30:00'::time without time zone"),
        ("datetime", "2010-02-03 04:05:06", "timestamp", "'2010-02-03 04:05:06'::timestamp"),
        ("datetime", "now()", "timestamp", "('now'::text)::timestamp without time zone"),
        ("json", "{b: [1], a: x}", "jsonb", "'{\"a\": \"x\", \"b\": [1]}'::jsonb"),
        ("json-json", "'{}'", "json", "'{}'::json"),
        ("[x, y]", "y", "t_c_enum", "'y'::t_c_enum"),
    ] {
        driver.run(&format!("[{{table: t}}, {{column: t.c, type: {ty}, default: {default}}}]"));
        let found = driver.text(
            "SELECT typname || ' ' || pg_get_expr(adbin, adrelid) FROM pg_attribute
             JOIN pg_type t ON t.oid = atttypid
             JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
             WHERE attrelid = 't'::regclass AND attname = 'c'",
        );
        assert!(found.starts_with(&format!("{sql} {value}")), "{ty}: {found}");
        driver.run("{table: t, present: false}");
    }
}

#[test]
fn defaults_keep_their_digits() {
    let mut driver = Driver::new("column_digits");
    driver.run("{table: t}");
    for number in
        ["12345678901234567890123", "12345678901234567890124", "-0.1234567890123456789012345"]
    {
        for (ty, default, path) in [
            ("decimal", number.to_owned(), "d::text"),
            ("json", format!("{{a: {number}}}"), "d ->> 'a'"),
            ("json-json", format!("'{{\"a\": {number}}}'"), "d ->> 'a'"),
        ] {
            driver.run(&format!("{{column: t.d, type: {ty}, default: {default}}}"));
            driver.sql("INSERT INTO t DEFAULT VALUES");
            let found = driver.text(&format!("SELECT {path} FROM t"));
            assert_eq!(found, number, "{ty}");
            driver.sql("DELETE FROM t");
            driver.run("{column: t.d, present: false}");
        }
        driver.run(&format!("{{column: t.d, type: decimal, default: {number}}}"));
    }
}
