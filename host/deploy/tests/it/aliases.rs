//! Calculated fields, kept in the comment of their table and understood by queries.

use rex_htsql::Params;

use crate::support::{Driver, same};

#[test]
fn aliases_are_kept_in_comments() {
    let mut driver = Driver::new("alias_kept");
    driver.run(
        "
        - { table: family }
        - { column: family.code, type: text }
        - { identity: [family.code] }
        - { table: individual }
        - { link: individual.family }
        - { column: individual.code, type: text }
        - { column: individual.sex, type: [male, female], required: false }
        - { identity: [individual.family, individual.code] }
        - { data: { code: '1001' }, of: family }
        - { data: { family: '1001', code: '01', sex: male }, of: individual }
        ",
    );
    same(
        &driver.run("{ alias: \"family.size := count(individual)\" }"),
        "COMMENT ON TABLE \"family\" IS '---\naliases:\n- size := count(individual)\n';",
    );
    for text in [
        "{ alias: \"size := count( individual )\", of: family }",
        "{ alias: family.size, expression: count(individual) }",
    ] {
        assert_eq!(driver.run(text), "", "{text}");
    }
    let by_sex = "COMMENT ON TABLE \"family\" IS '---\naliases:\n- individual_by_sex($sex) := \
                  individual?sex=$sex\n- size := count(individual)\n';";
    same(
        &driver.run("{ alias: \"family.individual_by_sex($sex) := individual?sex=$sex\" }"),
        by_sex,
    );
    for text in [
        "{ alias: individual_by_sex, of: family, parameters: [sex], expression: \"individual?sex=$sex\" }",
        "{ alias: individual_by_sex($sex), of: family, expression: \"individual?sex=$sex\" }",
    ] {
        assert_eq!(driver.run(text), "", "{text}");
    }
    let query = "/family{size, count(individual_by_sex('male'))}";
    let product = driver.session.produce(query, &Params::new()).unwrap();
    let shown = format!("{:?}", product.data);
    assert!(shown.contains("Record([Integer(1), Integer(1)])"), "{shown}");
    // That an alias makes sense is seen when everything is deployed.
    let broken = "{ alias: \"family.individual_by_sex($sex) := individual?sex=$sexx\" }";
    assert!(driver.run_once(broken).contains("individual?sex=$sexx\n"));
    same(
        &driver.locked(broken),
        r#"
        Failed to compile HTSQL expression:
            Found unknown reference:
                $sexx
            Perhaps you had in mind:
                $sex
            While translating:
                family.individual_by_sex($sex) := individual?sex=$sexx
                                                                 ^^^^^
        While validating alias fact:
            "<unicode string>", line 1
        "#,
    );
    driver.run("{ alias: \"family.named := {$USER, individual{code}}\" }");
    driver.run("{ alias: family.named, present: false }");
    same(
        &driver.run("{ alias: family.individual_by_sex($sex), present: false }"),
        "COMMENT ON TABLE \"family\" IS '---\naliases:\n- size := count(individual)\n';",
    );
    // Renaming the table keeps them.
    driver.run("{ table: household, was: family, title: Who lives together }");
    assert_eq!(
        driver.text("SELECT obj_description('household'::regclass)"),
        "---\naliases:\n- size := count(individual)\ntitle: Who lives together\n"
    );
}

#[test]
fn aliases_that_contradict_themselves_are_refused() {
    let driver = Driver::new("alias_refused");
    for (text, message) in [
        ("{ alias: \"size := count(individual)\" }", "Got missing table name"),
        (
            "{ alias: \"family.size := count(individual)\", of: study }",
            "Got mismatched table names:\n    family, study",
        ),
        (
            "{ alias: individual_by_sex($s), of: family, parameters: [sex], expression: \"individual?sex=$sex\" }",
            "Got mismatched table parameters:\n    ['s'], ['sex']",
        ),
        ("{ alias: family, of: size }", "Got missing clause:\n    expression"),
        (
            "{ alias: \"family.size := count(individual)\", expression: count(individual) }",
            "Got mismatched alias expression:\n    count(individual), count(individual)",
        ),
        (
            "{ alias: family.size, expression: count(individual), present: false }",
            "Got unexpected clause:\n    expression",
        ),
    ] {
        same(
            &driver.unread(text),
            &format!("{message}\nWhile parsing alias fact:\n    \"<unicode string>\", line 1"),
        );
    }
}
