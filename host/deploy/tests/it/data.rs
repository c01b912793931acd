//! Rows from CSV, JSON, YAML and inline: inserted, updated, deleted; links by identity.

use crate::support::{Driver, same};

const SCHEMA: &str = "
- { table: family }
- { column: family.code, type: text }
- { identity: [family.code] }
- { column: family.notes, type: text, required: false }
- { table: individual }
- { link: individual.family }
- { column: individual.code, type: text }
- { identity: [individual.family, individual.code] }
- { column: individual.sex, type: [male, female], required: false }
- { link: individual.mother, to: individual, required: false }
- { link: individual.father, to: individual, required: false }
- { table: sample }
- { link: sample.individual }
- { column: sample.code, type: text }
- { identity: [sample.individual, sample.code] }
- { column: sample.age, type: integer }
- { column: sample.height, type: float }
- { column: sample.salary, type: decimal }
- { column: sample.birth, type: date }
- { column: sample.sleep, type: time }
- { column: sample.timestamp, type: datetime }
- { column: sample.current, type: boolean }
- { column: sample.other, type: json }
";

fn driver(name: &str) -> Driver {
    let mut driver = Driver::new(name);
    driver.run(SCHEMA);
    driver
}

#[test]
fn rows_are_added_and_updated() {
    let mut driver = driver("data_added");
    same(
        &driver.run(
            "{ data: \"code,notes\\n1001,Andersons\\n1002,Bergmans\\n1003,\\n\", of: family }",
        ),
        r#"
        INSERT INTO "family" ("code", "notes")
            VALUES ('1001', 'Andersons')
            RETURNING "id", "code", "notes";
        INSERT INTO "family" ("code", "notes")
            VALUES ('1002', 'Bergmans')
            RETURNING "id", "code", "notes";
        INSERT INTO "family" ("code")
            VALUES ('1003')
            RETURNING "id", "code", "notes";
        "#,
    );
    same(
        &driver.run("{ data: \"code,notes\\n1001,\\n1002,Browns\\n1003,Clarks\\n\", of: family }"),
        r#"
        UPDATE "family"
            SET "notes" = 'Browns'
            WHERE "id" = 2
            RETURNING "id", "code", "notes";
        UPDATE "family"
            SET "notes" = 'Clarks'
            WHERE "id" = 3
            RETURNING "id", "code", "notes";
        "#,
    );
    same(
        &driver.fail("{ data: measure.csv }"),
        r#"
        Discovered missing table:
            measure
        While deploying data fact:
            "<unicode string>", line 1
        "#,
    );
    driver.run("{ table: measure }");
    same(
        &driver.fail("{ data: measure.csv }"),
        r#"
        Discovered table without identity:
            measure
        While deploying data fact:
            "<unicode string>", line 1
        "#,
    );
    same(
        &driver.locked("\ndata: |\n  code,notes\n  1003,Crawfords\nof: family\n"),
        r#"
        Detected inconsistent data model:
            UPDATE "family"
                SET "notes" = 'Crawfords'
                WHERE "id" = 3
                RETURNING "id", "code", "notes";
        While processing row #1:
            {'1003', 'Crawfords'}
        While validating data fact:
            "<unicode string>", line 2
        "#,
    );
    same(
        &driver.locked("\ndata: |\n  code,notes\n  1004,Dixons\nof: family\n"),
        r#"
        Detected inconsistent data model:
            INSERT INTO "family" ("code", "notes")
                VALUES ('1004', 'Dixons')
                RETURNING "id", "code", "notes";
        While processing row #1:
            {'1004', 'Dixons'}
        While validating data fact:
            "<unicode string>", line 2
        "#,
    );
}

#[test]
fn links_and_values_of_all_types() {
    let mut driver = driver("data_types");
    driver.run("{ data: \"code\\n1001\\n1002\\n1003\\n\", of: family }");
    same(
        &driver.run(
            "
data: |
  family,code,sex,mother,father
  1003,01,female,,
  1003,02,male,,
  1003,03,,1003.01,1003.02
of: individual
",
        ),
        r#"
        INSERT INTO "individual" ("family_id", "code", "sex")
            VALUES (3, '01', 'female')
            RETURNING "id", "family_id", "code", "sex", "mother_id", "father_id";
        INSERT INTO "individual" ("family_id", "code", "sex")
            VALUES (3, '02', 'male')
            RETURNING "id", "family_id", "code", "sex", "mother_id", "father_id";
        INSERT INTO "individual" ("family_id", "code", "mother_id", "father_id")
            VALUES (3, '03', 1, 2)
            RETURNING "id", "family_id", "code", "sex", "mother_id", "father_id";
        "#,
    );
    let samples = driver.run(
        "
- data: |
    individual,code,age,height,salary,birth,sleep,timestamp,current,other
    1003.03,01,30,175.05,95000,1990-03-13,22:30,2010-12-03 20:37,false,{}
  of: sample
- data:
    individual: '1003.03'
    code: '02'
    age: 33
    height: 175.05
    salary: 130000.50
    birth: 1990-03-13
    sleep: '23:15'
    timestamp: 2013-12-17 12:50:03
    current: false
    other: {b: it's, a: [1]}
  of: sample
",
    );
    assert!(samples.contains(
        "VALUES (3, '01', 30, 175.05, 95000, '1990-03-13', '22:30:00', '2010-12-03 20:37:00', FALSE, \
         '{}')"
    ));
    assert!(samples.contains(
        "VALUES (3, '02', 33, 175.05, 130000.5, '1990-03-13', '23:15:00', '2013-12-17 12:50:03', \
         FALSE, '{\n  \"a\": [\n    1\n  ],\n  \"b\": \"it''s\"\n}')"
    ));
    // A moment with a zone is that of the session.
    driver.sql("SET TIME ZONE 'Europe/Berlin'");
    let moved = driver.run(
        "{ data: { individual: '1003.03', code: '02', timestamp: '2013-12-17 12:50:03-10' }, of: sample }",
    );
    assert!(moved.contains("SET \"timestamp\" = '2013-12-17 23:50:03'"), "{moved}");

    let refused = |message: &str, row: &str| {
        format!(
            "{message}\nWhile parsing row #1:\n    {row}\nWhile deploying data fact:\n    \
                 \"<unicode string>\", line 2"
        )
    };
    same(
        &driver.fail("\ndata: |\n  family,code,sex,mother,father\n  1001,01,,1001.01,1001.01\nof: individual\n"),
        r#"
        Discovered missing record:
            individual[1001.01]
        While processing row #1:
            {'1001', '01', '1001.01', '1001.01'}
        While deploying data fact:
            "<unicode string>", line 2
        "#,
    );
    same(
        &driver.fail("\ndata: |\n  family,code,sex\n  1001,01,f\nof: individual\n"),
        &refused(
            "Discovered invalid input:\n    invalid enum literal: expected one of 'male', 'female'; \
             got 'f'\nWhile converting field:\n    sex",
            "1001,01,f",
        ),
    );
    same(
        &driver.fail("\ndata:\n  individual: '1003.03'\n  code: 5\nof: sample\n"),
        &refused(
            "Discovered invalid input:\n    5\nWhile converting field:\n    code",
            "{'individual': '1003.03', 'code': 5}",
        ),
    );
    let error = driver.fail("\ndata: { individual: '1003.03', code: \"a\\0b\" }\nof: sample\n");
    let text = "Discovered invalid input:\n    'a\\x00b'\nWhile converting field:\n    code";
    assert!(error.starts_with(text), "{error}");
    // Beyond what other programs can read back.
    let error = driver
        .fail("\ndata: { individual: '1003.03', code: '02', other: '[1e400]' }\nof: sample\n");
    let text = "Discovered invalid input:\n    invalid JSON literal: number out of range";
    assert!(error.starts_with(text), "{error}");
}

#[test]
fn rows_are_removed() {
    let mut driver = driver("data_removed");
    driver.run(
        "
- { data: \"code\\n1001\\n1003\\n\", of: family }
- { data: { family: '1003', code: '01' }, of: individual }
",
    );
    same(
        &driver.run("{ data: { code: '1003' }, of: family, present: false }"),
        "DELETE FROM \"family\"\n    WHERE \"id\" = 2;",
    );
    assert_eq!((driver.count("family"), driver.count("individual")), (1, 0));
    same(
        &driver.fail("\ndata: |\n  code,notes\n  1003,Clarks\nof: family\npresent: false\n"),
        r#"
        Discovered unexpected field:
            notes
        While parsing row #1:
            1003,Clarks
        While deploying data fact:
            "<unicode string>", line 2
        "#,
    );
}

#[test]
fn input_that_is_no_row_is_refused() {
    let mut driver = driver("data_refused");
    assert_eq!(driver.run("{ data: \"\", of: family }"), "");
    assert_eq!(driver.run("{ data: \"code,notes\\n\", of: family }"), "");
    for (data, table, message) in [
        (",Dixons", "family", "Discovered missing value for identity field:\n    code"),
        ("1001,Johnsons", "family", "Discovered missing field:\n    name"),
        ("1001,2002", "family", "Discovered duplicate field:\n    code"),
        ("01,f,,", "individual", "Discovered missing value for identity field:\n    family"),
        ("1001,Andersons", "family", "Discovered too many entries:\n    2 > 1"),
        ("1001,01", "individual", "Discovered too few entries:\n    2 < 3"),
    ] {
        let head = match message {
            m if m.contains("name") => "code,name",
            m if m.contains("duplicate") => "code,code",
            m if m.contains("> 1") => "code",
            m if m.contains("< 3") => "family,code,sex",
            m if m.contains("family") => "code,sex,father,mother",
            _ => "code,notes",
        };
        let sex = data.replace("01,f,,", "01,male,,");
        same(
            &driver.fail(&format!("\ndata: |\n  {head}\n  {sex}\nof: {table}\n")),
            &format!(
                "{message}\nWhile parsing row #1:\n    {sex}\nWhile deploying data fact:\n    \
                 \"<unicode string>\", line 2"
            ),
        );
    }
}

#[test]
fn rows_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut driver = Driver::within("data_files", folder.path());
    driver.run(SCHEMA);
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("deploy/family.csv", "code,notes\r\n1001,\"Anders,\nons\"\r\n");
    assert!(driver.run("{ data: ./deploy/family.csv }").contains("'Anders,\nons'"));
    write("deploy/family.json", r#"{ "code": "1002", "notes": "Browns" }"#);
    assert!(driver.run("{ data: ./deploy/family.json }").contains("'Browns'"));
    write("deploy/family.yaml", "code: '1003'\nnotes: Clarks\n");
    assert!(driver.run("{ data: ./deploy/family.yaml }").contains("'Clarks'"));

    let base = folder.path().display().to_string();
    let failed = |message: &str| {
        format!("{message}\nWhile deploying data fact:\n    \"<unicode string>\", line 1")
    };
    same(
        &driver.fail("{ data: ./deploy/family.xsl }"),
        &failed(&format!("Failed to recognize file format:\n    {base}/deploy/family.xsl")),
    );
    write("broken/family.json", "{]");
    let error = driver.fail("{ data: ./broken/family.json }");
    assert!(error.starts_with("Discovered ill-formed JSON:\n    "), "{error}");
    assert!(
        error.ends_with(&failed(&format!(
            "While parsing JSON data:\n    {base}/broken/family.json"
        )))
    );
    write("broken/family.yaml", "{]");
    let error = driver.fail("{ data: ./broken/family.yaml }");
    assert!(error.starts_with("Failed to parse a YAML document:\n    "), "{error}");
    assert!(
        error.ends_with(&failed(&format!(
            "While parsing YAML data:\n    {base}/broken/family.yaml"
        )))
    );
    write("broken/family.csv", "code\n1\n\"\n\"\n1,2\n");
    let error = driver.fail("{ data: ./broken/family.csv }");
    let place = format!("While parsing row #3:\n    \"{base}/broken/family.csv\", line #5");
    assert_eq!(error, failed(&format!("Discovered too many entries:\n    2 > 1\n{place}")));
}

#[test]
fn numbers_keep_their_digits() {
    let folder = tempfile::tempdir().unwrap();
    let mut driver = Driver::within("data_digits", folder.path());
    driver.run(
        "
- table: big
  with:
  - { column: k, type: text }
  - { identity: [k] }
  - { column: d, type: decimal, required: false }
  - { column: j, type: json, required: false }
  - { column: t, type: json-json, required: false }
",
    );
    let whole = "98765432109876543210987";
    for number in [
        whole,
        "98765432109876543210988",
        "-18446744073709551617",
        "0.1234567890123456789012345",
        "-123456789.123456789123456789",
    ] {
        let json = format!("{{\"a\": [{number}]}}");
        for (kind, text) in [
            ("inline", String::new()),
            (
                "json",
                format!("[{{\"k\": \"json\", \"d\": {number}, \"j\": {json}, \"t\": {json}}}]"),
            ),
            ("yaml", format!("{{k: yaml, d: {number}, j: {json}, t: {json}}}")),
            ("csv", format!("k,d,j,t\ncsv,{number},{json},{json}\n")),
        ] {
            std::fs::write(folder.path().join(format!("big.{kind}")), text).unwrap();
            let done = driver.run(&match kind {
                "inline" => {
                    format!("{{of: big, data: {{k: inline, d: {number}, j: {json}, t: {json}}}}}")
                }
                kind => format!("{{data: ./big.{kind}}}"),
            });
            assert!(!done.is_empty(), "{kind} {number}");
            let found = driver.text(&format!(
                "SELECT concat_ws(' ', d, j #>> '{{a,0}}', t #>> '{{a,0}}') FROM big WHERE k = '{kind}'"
            ));
            assert_eq!(found, [number; 3].join(" "), "{kind}");
        }
    }
    // However they are written.
    driver.run(&format!(
        "{{of: big, data: {{k: inline, d: +98_765432109876543210987, j: {whole}.0}}}}"
    ));
    assert_eq!(
        driver.text("SELECT d || ' ' || j::text FROM big WHERE k = 'inline'"),
        format!("{whole} {whole}.0")
    );
    let again = format!("{{of: big, data: {{k: inline, d: 0x14EA15B5A63F1E5FC5EB, j: {whole}}}}}");
    assert_eq!(driver.run(&again), "");
    // A name is no number, and keeps them, too.
    driver.run(&format!("{{of: big, data: {{k: inline, j: {{{whole}: 1}}}}}}"));
    assert_eq!(driver.text("SELECT jsonb_object_keys(j) FROM big WHERE k = 'inline'"), whole);
    // Beyond what other programs can read back from JSON, but no more than a decimal.
    driver.run("{of: big, data: {k: inline, d: 1.0e+400}}");
    assert_eq!(driver.text("SELECT length(d::text)::text FROM big WHERE k = 'inline'"), "401");
    for document in ["[1.0e+400]", "{a: 1.0e-20000}"] {
        let error = driver.fail(&format!("{{of: big, data: {{k: inline, j: {document}}}}}"));
        assert!(error.contains("out of range") || error.contains("overflow"), "{error}");
    }
    let error = driver.fail(&format!("{{of: big, data: {{k: {whole}}}}}"));
    let text = format!("Discovered invalid input:\n    {whole}\nWhile converting field:\n    k\n");
    assert!(error.starts_with(&text), "{error}");
    assert!(error.contains(&format!("{{'k': {whole}}}")), "{error}");
}

#[test]
fn records_may_be_texts_of_json() {
    let folder = tempfile::tempdir().unwrap();
    let mut driver = Driver::within("data_texts", folder.path());
    driver.run(SCHEMA);
    let path = folder.path().join("family.json");
    std::fs::write(path, r#"["{\"code\": \"1\"}", {"code": "2", "code": "3"}]"#).unwrap();
    driver.run("{data: ./family.json}");
    assert_eq!(driver.text("SELECT string_agg(code, ' ' ORDER BY code) FROM family"), "1 3");
}

#[test]
fn rows_of_a_large_table_are_found_one_by_one() {
    let mut driver = driver("data_large");
    driver.sql(
        "INSERT INTO family (code, notes) SELECT 'f' || n, 'old' FROM generate_series(1, 60000) n",
    );
    let done = driver.run(
        "
- { data: \"code,notes\\nf7,old\\nf59999,new\\nnone,new\\n\", of: family }
- { data: [{ family: f60000, code: '01' }, { family: none, code: '01' }], of: individual }
- { data: { code: f8 }, of: family, present: false }
",
    );
    let heads: Vec<&str> = done.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(
        heads,
        [
            "UPDATE \"family\"",
            "INSERT INTO \"family\" (\"code\", \"notes\")",
            "INSERT INTO \"individual\" (\"family_id\", \"code\")",
            "INSERT INTO \"individual\" (\"family_id\", \"code\")",
            "DELETE FROM \"family\"",
        ]
    );
    assert_eq!(driver.count("family"), 60000);
}
