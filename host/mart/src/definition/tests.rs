//! What a definition may be and may not be, as the original has it, and how files are read.

use std::path::Path;

use rex_yaml::validate::Input;
use serde_json::{Map, Value, json};

use super::{BaseKind, Definition, Definitions, Source};
use crate::settings::Settings;

fn settings() -> Settings {
    let mut values = Map::new();
    values.insert("mart_name_prefix".to_owned(), json!("mart_"));
    Settings::of(&values, Some("pgsql:app")).unwrap()
}

fn read(given: Value) -> Result<Definition, String> {
    let folder = Path::new("/nowhere");
    Definition::read(Input::Value(&given), folder, &settings()).map_err(|error| error.to_string())
}

#[test]
fn the_least_that_a_definition_says() {
    let definition = read(json!({"id": "foo"})).unwrap();
    assert_eq!((definition.label.as_str(), definition.description), ("foo", None));
    assert_eq!(definition.base.kind, BaseKind::Fresh);
    assert_eq!(definition.base.name_token.as_deref(), Some("foo_"));
    assert_eq!((definition.per_owner, definition.deploy.is_none()), (3, true));
    assert!(definition.assessments.is_empty() && definition.processors.is_empty());
}

#[test]
fn what_a_definition_may_say() {
    let definition = read(json!({
        "id": "foo", "label": "My Label", "description": " This is a database\n",
        "quota": {"per_owner": 5},
        "base": {"type": "copy", "target": "bar", "name_token": "custom_token_"},
        "deploy": [{"table": "my_table", "with": [{"column": "my_column", "type": "text"}]}],
        "parameters": [{"name": "foo", "type": "text"}],
        "post_deploy_scripts": [{"script": "/blah/:merge", "type": "htsql"}],
        "assessments": [{"instrument": "foo", "selector": "/m{id() :as assessment_uid}"},
            {"instrument": "@ALL", "selector": "/m"}, {"dynamic": "rexdb"}],
        "post_assessment_scripts": [{"script": "/foo/:insert", "type": "htsql"}],
        "processors": [{"id": "analyze"}],
    }));
    let definition = definition.unwrap();
    assert_eq!(definition.label, "My Label");
    assert_eq!(definition.description.as_deref(), Some("This is a database"));
    assert_eq!((definition.per_owner, definition.deploy.is_some()), (5, true));
    assert_eq!(definition.base.name_token.as_deref(), Some("custom_token_"));
    assert_eq!(definition.post_deploy_scripts[0].script, "/blah/:merge");
    assert!(matches!(definition.assessments[1], Source::All(..)));
    assert_eq!(definition.assessments[2], Source::Dynamic("rexdb".to_owned()));
    let plain = read(json!({"id": "foo", "label": "", "quota": null})).unwrap();
    assert_eq!((plain.label.as_str(), plain.per_owner), ("foo", 3));
    let existing = read(json!({"id": "foo", "base": {"type": "existing", "target": "x"}}));
    assert_eq!(existing.unwrap().base.name_token, None);
}

#[test]
fn what_a_definition_may_not_say() {
    let assessment = |instrument: &str, name: Value| json!({"instrument": instrument, "name": name, "selector": "/m{id() :as assessment_uid}"});
    for (more, text) in [
        (
            json!({"deploy": [{"table": "my_table", "with": "broken"}]}),
            "Expected a JSON array\nGot:\n    'broken'\nWhile validating field:\n    with\n\
             While validating sequence item\n    #1\nWhile validating field:\n    deploy",
        ),
        (
            json!({"assessments": [assessment("foo", json!(null)), assessment("a", json!("foo"))]}),
            "Assessment Names (foo) cannot be duplicated within a Definition\n\
             While validating field:\n    assessments",
        ),
        (
            json!({"base": {"type": "fresh",
                "name_token": "qwertyuiopasdfghjklzxcvbnmqwertyuiopasdfghjklzxcvbnm"}}),
            "Name Token cannot exceed 33 characters in length\nGot:\n    \
             qwertyuiopasdfghjklzxcvbnmqwertyuiopasdfghjklzxcvbnm\nWhile validating field:\n    \
             base.name_token",
        ),
        (
            json!({"parameters": [{"name": "foo", "type": "text"},
                {"name": "foo", "type": "integer"}]}),
            "Parameter Names (foo) cannot be duplicated within a Definition\n\
             While validating field:\n    parameters",
        ),
        (
            json!({"id": "Foo"}),
            "Expected a string matching:\n    /^[a-z_][0-9a-z_]*$/\nGot:\n    'Foo'\n\
             While validating field:\n    id",
        ),
        (json!({"tables": []}), "Got unexpected field:\n    tables"),
    ] {
        let mut given = json!({"id": "foo"});
        given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(read(given).unwrap_err(), text);
    }
}

#[test]
fn files_of_definitions() {
    let folder = tempfile::tempdir().unwrap();
    let load = |texts: &[&str]| {
        let write = |(n, text): (usize, &&str)| {
            let path = folder.path().join(format!("{n}.yaml"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let files: Vec<_> = texts.iter().enumerate().map(write).collect();
        Definitions::load(&files, &settings()).map_err(|error| {
            error.to_string().replace(&format!("{}/", folder.path().display()), "")
        })
    };
    assert!(load(&["{}"]).unwrap().ids().is_empty());
    std::fs::write(folder.path().join("a.htsql"), "/foo\n").unwrap();
    let script = "definitions: [{id: c, post_deploy_scripts: [{script: !include/str a.htsql, \
                  type: htsql}]}]";
    let all = load(&["definitions: [{id: a}, {id: b}]", script]).unwrap();
    assert_eq!(all.ids(), ["a", "b", "c"]);
    assert_eq!(all.get("c").unwrap().post_deploy_scripts[0].script, "/foo");
    // The original's loading does not mind either.
    let same = "definitions: [{id: a, base: {type: existing, target: t}}, \
                {id: b, base: {type: existing, target: t}}]";
    let shared = load(&[same]).unwrap();
    assert_eq!(shared.ids(), ["a", "b"]);
    assert_eq!(
        shared.warning().unwrap(),
        "Multiple definitions attempt to write to the same existing database(s): t"
    );
    assert_eq!(all.warning(), None);
    for (texts, text) in [
        (
            &["definitions: [{id: foo}, {id: foo}]"] as &[&str],
            "Definition IDs (foo) cannot be duplicated within a collection\n\
             While retrieving definitions from:\n    0.yaml",
        ),
        (
            &["definitions: [{id: foo}]", "definitions: [{id: foo}]"],
            "Definition IDs (foo) cannot be duplicated within a collection",
        ),
        (
            &["definitions:\n- id: foo\n- id: bar\n  base: {type: copy}\n"],
            "Base type of \"copy\" requires a target database name\nGot:\n    None\n\
             While validating field:\n    target\nWhile parsing:\n    \"0.yaml\", line 4\n\
             While validating field:\n    base\nWhile validating sequence item\n    #2\n\
             While validating field:\n    definitions\nWhile retrieving definitions from:\n    0.yaml",
        ),
        (
            &["definitions:\n- id: foo\n  parameters:\n  - name: k\n    type: text\n    \
               default: 12345678901234567890123\n"],
            "Expected a string\nGot:\n    12345678901234567890123\nWhile parsing:\n    \
             \"0.yaml\", line 6\nWhile validating field:\n    default\n\
             While validating sequence item\n    #1\nWhile validating field:\n    parameters\n\
             While validating sequence item\n    #1\nWhile validating field:\n    definitions\n\
             While retrieving definitions from:\n    0.yaml",
        ),
        (
            &["definitions:\n- id: foo\n  deploy:\n  - column: x\n    type: text\n"],
            "Got missing table name\nWhile parsing column fact:\n    \"0.yaml\", line 4\n\
             While validating field:\n    deploy\nWhile validating sequence item\n    #1\n\
             While validating field:\n    definitions\nWhile retrieving definitions from:\n    0.yaml",
        ),
    ] {
        assert_eq!(load(texts).unwrap_err(), text);
    }
}
