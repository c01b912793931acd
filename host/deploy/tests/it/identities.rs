//! Identities and their generators.

use rex_htsql::Value;

use crate::support::{Driver, same};

#[test]
fn an_identity_is_a_primary_key() {
    let mut driver = Driver::new("identity_key");
    driver.run("[{ table: individual }, { column: individual.code, type: text }]");
    let key = "ALTER TABLE \"individual\" ADD CONSTRAINT \"individual_pk\" PRIMARY KEY (\"code\"), \
               CLUSTER ON \"individual_pk\";";
    same(&driver.run("{ identity: [individual.code] }"), key);
    assert_eq!(driver.run("{ identity: [individual.code] }"), "");
    driver.run("{ column: individual.code, type: text, required: false }");
    same(
        &driver.fail("{ identity: [individual.code] }"),
        r#"
        Discovered nullable field:
            code
        While deploying identity fact:
            "<unicode string>", line 1
        "#,
    );
    driver.run("[{ column: individual.code, type: text }, { identity: [individual.code] }]");
    driver.run(
        "
        - { table: left }
        - { table: right }
        - { column: left.code, type: text }
        - { column: right.code, type: text }
        - { link: left.right }
        - { link: right.left }
        ",
    );
    let looped = r#"
        Discovered identity loop:
            left.right
        While deploying identity fact:
            "<unicode string>", line 3
        "#;
    same(&driver.fail("\n- { identity: [left.right] }\n- { identity: [right.left] }\n"), looped);
    driver.run("{ identity: [left.right] }");
    same(&driver.fail("\n- { identity: [right.code] }\n- { identity: [right.left] }\n"), looped);
    let made = driver.run(
        "
        - { table: identity }
        - { link: identity.individual }
        - { column: identity.code, type: text }
        - { identity: [individual, code], of: identity }
        ",
    );
    assert!(
        made.ends_with(
            r#"
ALTER TABLE "identity" ADD CONSTRAINT "identity_pk" PRIMARY KEY ("individual_id", "code"), CLUSTER ON "identity_pk";
ALTER TABLE "identity" DROP CONSTRAINT "identity_individual_fk";
ALTER TABLE "identity" ADD CONSTRAINT "identity_individual_fk" FOREIGN KEY ("individual_id") REFERENCES "individual" ("id") ON DELETE CASCADE;"#
        ),
        "{made}"
    );
    same(
        &driver.fail("{ identity: [sample.code] }"),
        r#"
        Discovered missing table:
            sample
        While deploying identity fact:
            "<unicode string>", line 1
        "#,
    );
    same(
        &driver.fail("{ identity: [individual.family, individual.code] }"),
        r#"
        Discovered missing field:
            family
        While deploying identity fact:
            "<unicode string>", line 1
        "#,
    );
    same(
        &driver.run("{ identity: [identity.individual] }"),
        r#"
        ALTER TABLE "identity" DROP CONSTRAINT "identity_pk";
        ALTER TABLE "identity" ADD CONSTRAINT "identity_pk" PRIMARY KEY ("individual_id"), CLUSTER ON "identity_pk";
        "#,
    );
    let without_link = driver.run("{ identity: [identity.code] }");
    assert!(without_link.contains("ON DELETE SET DEFAULT"), "{without_link}");
}

#[test]
fn links_of_an_identity_that_loses_a_field_cascade_no_more() {
    let mut driver = Driver::new("identity_field");
    let whole = "
        - { table: study, with: [{ column: code, type: text }, { identity: [code] }] }
        - { table: person, with: [{ column: code, type: text }, { identity: [code] }] }
        - { table: visit, with: [{ link: study }, { link: person }, { column: n, type: integer }] }
        - { identity: [study, person, n], of: visit }
        ";
    for erased in ["{ column: visit.n, present: false }", "{ link: visit.study, present: false }"] {
        driver.run(whole);
        let made = driver.run(erased);
        let anew =
            "FOREIGN KEY (\"person_id\") REFERENCES \"person\" (\"id\") ON DELETE SET DEFAULT;";
        assert!(made.contains(anew), "{made}");
        driver.run("[{ table: visit, present: false }]");
    }
}

#[test]
fn generators_are_triggers() {
    let mut driver = Driver::new("identity_triggers");
    driver.run(
        "
        - { table: individual }
        - { column: individual.code, type: text }
        - { identity: [individual.code] }
        ",
    );
    let made = driver.run("{ identity: [individual.code: random] }");
    assert!(made.starts_with(
        "CREATE OR REPLACE FUNCTION \"individual_pk\"() RETURNS \"trigger\" LANGUAGE plpgsql AS \
         '\nBEGIN\n    WHILE NEW.\"code\" IS NULL LOOP\n"
    ));
    assert!(made.ends_with(
        "    END LOOP;\n    RETURN NEW;\nEND;\n';\nCREATE TRIGGER \"individual_pk\" BEFORE INSERT ON \
         \"individual\" FOR EACH ROW EXECUTE PROCEDURE \"individual_pk\"();\nCOMMENT ON CONSTRAINT \
         \"individual_pk\" ON \"individual\" IS '---\ngenerators:\n- random\n';"
    ));
    let changed = driver.run("{ identity: [individual.code: offset] }");
    assert!(changed.starts_with("CREATE OR REPLACE FUNCTION \"individual_pk\"()"));
    assert!(changed.contains("\nCOMMENT ON CONSTRAINT \"individual_pk\" ON \"individual\" IS "));
    same(
        &driver.run("{ identity: [individual.code] }"),
        r#"
        DROP TRIGGER "individual_pk" ON "individual";
        DROP FUNCTION "individual_pk"();
        COMMENT ON CONSTRAINT "individual_pk" ON "individual" IS NULL;
        "#,
    );
}

#[test]
fn generators_give_values() {
    let mut driver = Driver::new("identity_values");
    driver.run(
        "
        - { table: individual }
        - { column: individual.code, type: text }
        - { identity: [individual.code: random] }
        - { table: visit }
        - { link: visit.individual }
        - { column: visit.num, type: integer }
        - { identity: [visit.individual, visit.num: offset] }
        - { table: measure_type }
        - { column: measure_type.uid, type: integer }
        - { identity: [measure_type.uid: random] }
        - { table: measure }
        - { link: measure.individual }
        - { link: measure.measure_type }
        - { column: measure.no, type: text }
        - { column: measure.date_of_evaluation, type: date, default: today() }
        - { identity: [measure.individual, measure.measure_type, measure.no: offset] }
        - { table: event }
        - { column: event.key, type: text }
        - { identity: [event.key: uuid] }
        ",
    );
    for _ in 0..2 {
        let Value::Integer(uid) =
            driver.value("INSERT INTO measure_type DEFAULT VALUES RETURNING uid")
        else {
            panic!("no integer")
        };
        assert!((1..=999_999_999).contains(&uid));
        let code = driver.text("INSERT INTO individual DEFAULT VALUES RETURNING code");
        let letter = |at: usize| code.as_bytes()[at].is_ascii_uppercase();
        let digit = |at: usize| code.as_bytes()[at].is_ascii_digit();
        assert!(code.len() == 8 && letter(0) && letter(3), "{code}");
        assert!([1, 2, 4, 5, 6, 7].into_iter().all(digit), "{code}");
    }
    let visit = "INSERT INTO visit (individual_id) VALUES (1) RETURNING num";
    assert_eq!(driver.value(visit), Value::Integer(1));
    assert_eq!(driver.value(visit), Value::Integer(2));
    let other = visit.replace("(1)", "(2)");
    assert_eq!(driver.value(&other), Value::Integer(1));
    let measure =
        "INSERT INTO measure (individual_id, measure_type__id) VALUES (1, 1) RETURNING no";
    assert_eq!(driver.text(measure), "001");
    assert_eq!(driver.text(measure), "002");
    assert_eq!(driver.text(&measure.replace("(1, 1)", "(1, 2)")), "001");
    assert_eq!(driver.text("INSERT INTO event DEFAULT VALUES RETURNING key").len(), 36);
    driver.sql("DELETE FROM measure");
    for (fact, column) in [
        ("[visit.individual: random, visit.num]", "individual_id"),
        (
            "[measure.individual, measure.measure_type, measure.date_of_evaluation: offset]",
            "date_of_evaluation",
        ),
    ] {
        same(
            &driver.fail(&format!("{{ identity: {fact} }}")),
            &format!(
                "Expected an integer or text column:\n    {column}\nWhile deploying identity \
                 fact:\n    \"<unicode string>\", line 1"
            ),
        );
    }
}
