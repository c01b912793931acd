//! What a run list may say, and what it may not.

use super::*;

fn read(value: Value) -> Result<String, String> {
    let entry = Entry::read(Input::Value(&value)).map_err(|error| error.to_string())?;
    Ok(entry.to_string())
}

#[test]
fn entries_as_the_original_shows_them() {
    for (given, shown) in [
        (
            json!({"owner": "test", "definition": "some_def"}),
            "halt_on_failure=False, purge_on_failure=True, leave_incomplete=False, parameters={}",
        ),
        (
            json!({"owner": "test", "definition": "some_def", "halt_on_failure": true}),
            "halt_on_failure=True, purge_on_failure=True, leave_incomplete=False, parameters={}",
        ),
        (
            json!({"owner": "test", "definition": "some_def", "purge_on_failure": false}),
            "halt_on_failure=False, purge_on_failure=False, leave_incomplete=False, \
             parameters={}",
        ),
        (
            json!({"owner": "test", "definition": "some_def", "leave_incomplete": true,
                "parameters": {"foo": "bar"}}),
            "halt_on_failure=False, purge_on_failure=True, leave_incomplete=True, \
             parameters={'foo': 'bar'}",
        ),
    ] {
        let whole = format!("Record(owner='test', definition='some_def', {shown})");
        assert_eq!(read(given).unwrap(), whole);
    }
}

#[test]
fn what_an_entry_may_not_be() {
    for (given, text) in [
        (json!({"owner": "test"}), "Missing mandatory field:\n    definition"),
        (json!({"definition": "some_def"}), "Missing mandatory field:\n    owner"),
        (json!({"bad": "payload"}), "Got unexpected field:\n    bad"),
    ] {
        assert_eq!(read(given).unwrap_err(), text);
    }
    assert_eq!(Entry::list(Input::Value(&json!([]))).unwrap(), []);
    let error = Entry::list(Input::Value(&json!([{"owner": "x"}]))).unwrap_err().to_string();
    assert_eq!(
        error,
        "Missing mandatory field:\n    definition\nWhile validating sequence item\n    #1"
    );
}
