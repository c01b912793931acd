//! What fields become, how they merge, and what values they take, as the original has it.

use serde_json::{Value, json};

use super::{Cell, Field, Kind, Origin, Raw};
use crate::assessment::document::Json;

fn labels(all: &[&str]) -> Vec<String> {
    all.iter().map(|&label| label.to_owned()).collect()
}

fn kind(name: &str) -> Kind {
    Kind::named(name, labels(&["foo", "bar", "baz"])).unwrap()
}

fn cells_of(field: &Field, raw: Raw<'_>, was: &Kind) -> Result<Vec<String>, String> {
    let mut cells = Vec::new();
    let put = field.put(raw, was, &mut |cell| {
        cells.push(match cell {
            Cell::Null => "NULL".to_owned(),
            Cell::Boolean(truth) => if truth { "t" } else { "f" }.to_owned(),
            Cell::Integer(number) => number.to_string(),
            Cell::Float(number) => number.to_string(),
            Cell::Text(text) => text.into_owned(),
        });
    });
    put.map(|()| cells).map_err(|error| error.to_string())
}

fn raw(value: &Value) -> Raw<'static> {
    Raw::of_json(&Json::read(&value.to_string()).unwrap()).into_owned()
}

fn raws() -> Vec<Raw<'static>> {
    vec![
        Raw::Null,
        Raw::Text("foo".into()),
        Raw::Text("1".into()),
        Raw::Integer(1),
        Raw::Float(1.23),
        Raw::Decimal("1.23".into()),
        Raw::Boolean(true),
        Raw::Boolean(false),
        Raw::Date("2015-05-22".into()),
        Raw::Time("12:34:56".into()),
        Raw::DateTime("2015-05-22T12:34:56".into()),
    ]
}

fn field(kind: Kind) -> Field {
    Field::new("test", kind, Origin::Selected).unwrap()
}

/// The one cell that each value of [`raws`] becomes; `!` where it is refused.
fn cells(name: &str) -> Vec<String> {
    let field = field(kind(name));
    let cell =
        |raw| cells_of(&field, raw, &field.kind).map_or("!".to_owned(), |cells| cells[0].clone());
    raws().into_iter().map(cell).collect()
}

#[test]
fn values_become_what_their_column_can_hold() {
    for (name, expected) in [
        ("text", "NULL foo 1 1 1.23 1.23 TRUE FALSE 2015-05-22 12:34:56 2015-05-22T12:34:56"),
        ("integer", "NULL ! 1 1 1 1 1 0 ! ! !"),
        ("float", "NULL ! 1 1 1.23 1.23 1 0 ! ! !"),
        ("boolean", "NULL t t t t t t f ! ! !"),
        ("date", "NULL ! ! ! ! ! ! ! 2015-05-22 ! 2015-05-22"),
        ("time", "NULL ! ! ! ! ! ! ! ! 12:34:56 12:34:56"),
        ("dateTime", "NULL ! ! ! ! ! ! ! 2015-05-22T00:00:00 ! 2015-05-22T12:34:56"),
        ("enumeration", "NULL foo ! ! ! ! ! ! ! ! !"),
        ("enumerationSet", "f t ! ! ! ! ! ! ! ! !"),
        (
            "json",
            "null \"foo\" \"1\" 1 1.23 1.23 true false \"2015-05-22\" \"12:34:56\" \
             \"2015-05-22T12:34:56.000Z\"",
        ),
    ] {
        assert_eq!(cells(name).join(" "), expected, "{name}");
    }
}

#[test]
fn values_that_do_not_fit_are_told() {
    let refused = |name: &str, raw| cells_of(&field(kind(name)), raw, &kind(name)).unwrap_err();
    let text = || Raw::Text("blah".into());
    for (name, raw, error) in [
        ("integer", text(), "Cannot cast value to type \"integer\": 'blah'"),
        (
            "float",
            Raw::Date("2015-05-22".into()),
            "Cannot cast value to type \"float\": datetime.date(2015, 5, 22)",
        ),
        (
            "boolean",
            Raw::Time("12:34:56".into()),
            "Cannot cast value to type \"boolean\": datetime.time(12, 34, 56)",
        ),
        (
            "date",
            Raw::Decimal("1.23".into()),
            "Cannot cast value to type \"date\": Decimal('1.23')",
        ),
        ("dateTime", Raw::Boolean(true), "Cannot cast value to type \"dateTime\": True"),
        ("enumeration", text(), "Cannot cast value to type \"enumeration(foo,bar,baz): 'blah'"),
        (
            "enumerationSet",
            Raw::Integer(1),
            "Cannot cast value to type \"enumerationSet(foo,bar,baz): 1",
        ),
    ] {
        assert_eq!(refused(name, raw), error);
    }
    let error = Kind::named("imaginary", Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "Cannot map fields of type \"imaginary\"");
}

#[test]
fn sets_take_lists_of_labels() {
    let field = field(kind("enumerationSet"));
    let cells = |value: Value| cells_of(&field, raw(&value), &field.kind).unwrap().concat();
    assert_eq!(cells(json!(["foo", "baz"])), "tft");
    assert_eq!(cells(json!([])), "fff");
    assert_eq!(cells(json!("bar")), "ftf");
}

#[test]
fn fields_of_one_name_are_merged() {
    let merged = |names: &[&str]| {
        let mut fields = names
            .iter()
            .enumerate()
            .map(|(n, name)| Field::new("test", kind(name), Origin::Asked(&n.to_string())));
        let mut first = fields.next().unwrap().unwrap();
        for field in fields {
            first.merge(field.unwrap()).map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(first)
    };
    for (a, b, both) in [
        ("text", "integer", "text"),
        ("text", "enumeration", "text"),
        ("integer", "float", "float"),
        ("integer", "boolean", "integer"),
        ("float", "boolean", "float"),
        ("date", "dateTime", "dateTime"),
        ("date", "time", "text"),
        ("integer", "date", "text"),
        ("enumeration", "boolean", "text"),
        ("enumeration", "enumerationSet", "enumerationSet"),
        ("json", "json", "json"),
    ] {
        for pair in [[a, b], [b, a]] {
            assert_eq!(merged(&pair).unwrap().kind.name(), both, "{pair:?}");
        }
    }
    for (a, b) in [("date", "enumerationSet"), ("text", "json"), ("enumerationSet", "json")] {
        let error = merged(&[a, b]).unwrap_err();
        assert_eq!(error, format!("Cannot merge fields of types {a} and {b} (test)"));
    }
    // A value is read as its version meant it, and becomes what the column holds now.
    let text = merged(&["text", "date", "integer", "boolean", "float"]).unwrap();
    for (version, value, cell) in [
        ("1", json!("2015-05-22"), "2015-05-22"),
        ("2", json!(123), "123"),
        ("3", json!(true), "TRUE"),
        ("4", json!(1.0), "1.0"),
    ] {
        let was = &text.origins.asked[version];
        assert_eq!(cells_of(&text, raw(&value), was).unwrap(), [cell]);
    }
    let moment = merged(&["dateTime", "date"]).unwrap();
    let was = &moment.origins.asked["1"];
    let cells = cells_of(&moment, raw(&json!("2015-05-22")), was).unwrap();
    assert_eq!(cells, ["2015-05-22T00:00:00"]);
    let mut few = field(Kind::Enumeration(labels(&["a", "b"])));
    few.merge(field(Kind::Enumeration(labels(&["c", "b"])))).unwrap();
    assert_eq!(few.kind, Kind::Enumeration(labels(&["a", "b", "c"])));
}

#[test]
fn columns_of_fields() {
    let facts =
        |id: &str, kind: Kind| json!(Field::new(id, kind, Origin::Selected).unwrap().facts("t"));
    assert_eq!(
        facts("My Cool Field", kind("dateTime")),
        json!([{"column": "mycoolfield", "of": "t", "type": "datetime", "required": false,
            "title": "My Cool Field"}])
    );
    let set = Kind::EnumerationSet(labels(&["a-b", "0"]));
    let column = |name: &str| json!({"column": name, "of": "t", "type": "boolean", "required": false, "default": false});
    assert_eq!(facts("test", set), json!([column("test_a_b"), column("test_0")]));
    assert_eq!(facts("test", kind("enumeration"))[0]["type"], json!(["foo", "bar", "baz"]));
}
