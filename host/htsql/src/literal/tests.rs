//! Literals as people and databases write them.

use super::*;

#[test]
fn decimals_are_plain() {
    let cases = [
        ("1E-3", Some("0.001")),
        ("-1.50", Some("-1.50")),
        (".5", Some("0.5")),
        ("1.", Some("1")),
        ("12e2", Some("1200")),
        ("1.25e1", Some("12.5")),
        ("nan", None),
        ("1e999999999999", None),
        ("", None),
    ];
    for (text, plain) in cases {
        assert_eq!(plain_decimal(text).as_deref(), plain, "{text}");
    }
}

#[test]
fn identities_group_where_they_must() {
    let pair = Domain::Identity(vec![Domain::Text, Domain::Integer].into());
    let domain = Domain::Identity(vec![pair.clone(), pair, Domain::Text].into());
    let value = parse(&domain, "(astro.105).[b.2].'x y'").unwrap();
    assert_eq!(plain_text(&domain, &value).unwrap(), "(astro.105).(b.2).'x y'");
    assert_eq!(parse(&domain, "astro.105.b.2.'x y'").unwrap(), value);
    assert_eq!(parse(&domain, "a.1").unwrap_err(), "not enough labels: expected 5, got 2");
}

#[test]
fn datetimes() {
    let show = |text| parse(&Domain::DateTime, text).map(|v| plain_text(&Domain::DateTime, &v));
    assert_eq!(show("2010-04-15"), Ok(Some("2010-04-15 00:00:00".into())));
    assert_eq!(
        show("2010-04-15 20:13:04.5 -0400"),
        Ok(Some("2010-04-15 20:13:04.500000-04:00".into()))
    );
    assert!(show("2010-04-15x").is_err());
    assert!(show("2010-04-15 +").is_err());
}
