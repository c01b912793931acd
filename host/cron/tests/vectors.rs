//! Known schedules: what they match, and what is refused in which words.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rex_cron::{Cron, Field};

/// `minute=*/5 hour=3`, fields separated by `;`.
fn parse(text: &str) -> Result<Cron, rex_cron::CronError> {
    let given: Vec<(Field, &str)> = text
        .split(';')
        .map(|part| part.trim().split_once('=').expect("name=text"))
        .map(|(name, value)| {
            (
                Field::ALL
                    .into_iter()
                    .find(|field| field.name() == name)
                    .expect("the test is right"),
                value,
            )
        })
        .collect();
    Cron::parse(&given)
}

#[track_caller]
fn check(zone: &str, text: &str, from: &str, expected: &[&str]) {
    let (cron, zone) =
        (parse(text).expect("the test is right"), TimeZone::get(zone).expect("the test is right"));
    let mut at: Timestamp = from.parse().expect("the test is right");
    for expected in expected {
        at = cron.next(at, &zone).expect("the test is right");
        let shown = zone.to_datetime(at).strftime("%Y-%m-%d %H:%M:%S").to_string();
        let shown = format!("{shown} {}", zone.to_offset(at));
        let plain = shown.strip_suffix(" +00").unwrap_or(&shown);
        assert_eq!(plain, *expected, "{text}");
    }
}

#[test]
fn the_vectors_of_the_original() {
    // A Tuesday.
    let now = "2024-02-27T10:07:31.5Z";
    for (text, expected) in [
        ("second=*/20", &["2024-02-27 10:07:40", "2024-02-27 10:08:00"][..]),
        ("minute=*/25", &["2024-02-27 10:25:00", "2024-02-27 10:50:00", "2024-02-27 11:00:00"]),
        ("minute=7/20", &["2024-02-27 10:27:00", "2024-02-27 10:47:00", "2024-02-27 11:07:00"]),
        ("hour=3", &["2024-02-28 03:00:00"]),
        (
            "hour=10-12/2; minute=5,50",
            &["2024-02-27 10:50:00", "2024-02-27 12:05:00", "2024-02-27 12:50:00"],
        ),
        ("day=last", &["2024-02-29 00:00:00", "2024-03-31 00:00:00", "2024-04-30 00:00:00"]),
        ("day=3rd fri", &["2024-03-15 00:00:00", "2024-04-19 00:00:00"]),
        ("day=5th thu", &["2024-02-29 00:00:00", "2024-05-30 00:00:00"]),
        ("day=last sun; hour=4", &["2024-03-31 04:00:00"]),
        ("day_of_week=6", &["2024-03-03 00:00:00"]),
        ("day_of_week=mon-wed; hour=1", &["2024-02-28 01:00:00", "2024-03-04 01:00:00"]),
        ("day=31; day_of_week=fri", &["2024-05-31 00:00:00", "2025-01-31 00:00:00"]),
        (
            "month=feb-mar; day=29",
            &["2024-02-29 00:00:00", "2024-03-29 00:00:00", "2025-03-29 00:00:00"],
        ),
        ("week=53", &["2026-12-28 00:00:00", "2026-12-29 00:00:00"]),
        ("week=*/10; day_of_week=tue", &["2024-03-12 00:00:00", "2024-05-21 00:00:00"]),
        ("minute=*/5", &["2024-02-27 10:10:00"]),
        ("day=1", &["2024-03-01 00:00:00"]),
        ("day_of_week=mon", &["2024-03-04 00:00:00"]),
        ("minute=1 , 3 ,2", &["2024-02-27 11:01:00", "2024-02-27 11:02:00"]),
        ("day_of_week=MON/2", &["2024-03-04 00:00:00"]),
    ] {
        check("UTC", text, now, expected);
    }
    let past = parse("year=2023").unwrap();
    assert_eq!(past.next(now.parse().unwrap(), &TimeZone::UTC), None);
}

#[test]
fn what_never_happens_is_found_out() {
    for text in ["month=2; day=30", "week=53; month=6", "month=2; day=30; year=2000-9999/3"] {
        let never =
            parse(text).unwrap().between(None, Some("9000-01-01T00:00:00Z".parse().unwrap()));
        for zone in ["UTC", "Europe/Berlin"] {
            let zone = TimeZone::get(zone).unwrap();
            assert_eq!(never.next("2024-02-27T10:07:31Z".parse().unwrap(), &zone), None, "{text}");
        }
    }
}

#[test]
fn a_start_at_the_end_of_time_is_one() {
    let never = parse("second=*").unwrap().between(Some(jiff::Timestamp::MAX), None);
    assert_eq!(never.next("2024-02-27T10:07:31Z".parse().unwrap(), &TimeZone::UTC), None);
}

#[test]
fn bounds_are_due_themselves() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let (start, end) = (at("2024-01-01T00:00:20Z"), at("2024-01-01T00:00:40Z"));
    let cron = parse("second=*/20").unwrap().between(Some(start), Some(end));
    let next = |moment| cron.next(moment, &TimeZone::UTC);
    assert_eq!(next(at("1999-01-01T00:00:00Z")), Some(start));
    assert_eq!(next(start), Some(end));
    assert_eq!(next(end), None);
}

#[test]
fn named_times_happen_once_whatever_is_done_to_the_clock() {
    // Put forward from 02:00 to 03:00.
    check(
        "Europe/Berlin",
        "hour=2; minute=30",
        "2026-03-28T12:00:00Z",
        &["2026-03-29 03:30:00 +02", "2026-03-30 02:30:00 +02"],
    );
    check(
        "Europe/Berlin",
        "hour=2,3; minute=10,50",
        "2026-03-28T23:00:00Z",
        &["2026-03-29 03:10:00 +02", "2026-03-29 03:50:00 +02", "2026-03-30 02:10:00 +02"],
    );
    check(
        "Europe/Berlin",
        "hour=2,3; minute=10",
        "2026-03-29T01:20:00Z",
        &["2026-03-30 02:10:00 +02"],
    );
    check(
        "Europe/Berlin",
        "hour=2; minute=40",
        "2026-03-29T01:20:00Z",
        &["2026-03-29 03:40:00 +02"],
    );
    check(
        "Europe/Berlin",
        "hour=0; minute=30",
        "2026-03-29T12:00:00Z",
        &["2026-03-30 00:30:00 +02"],
    );
    // Put back from 03:00 to 02:00.
    check(
        "Europe/Berlin",
        "hour=2; minute=30",
        "2026-10-24T12:00:00Z",
        &["2026-10-25 02:30:00 +02", "2026-10-26 02:30:00 +01"],
    );
    check(
        "Europe/Berlin",
        "hour=2; minute=30",
        "2026-10-25T01:10:00Z",
        &["2026-10-26 02:30:00 +01"],
    );
    // Midnight itself is skipped, and the day after is not.
    check(
        "Africa/Cairo",
        "day=*",
        "2026-04-23T12:00:00Z",
        &["2026-04-24 01:00:00 +03", "2026-04-25 00:00:00 +03"],
    );
    // A whole day is skipped.
    check(
        "Pacific/Apia",
        "hour=12",
        "2011-12-29T12:00:00Z",
        &["2011-12-29 12:00:00 -10", "2011-12-31 12:00:00 +14", "2012-01-01 12:00:00 +14"],
    );
}

#[test]
fn schedules_of_every_hour_follow_elapsed_time() {
    check(
        "Europe/Berlin",
        "minute=*/30",
        "2026-03-29T00:20:00Z",
        &["2026-03-29 01:30:00 +01", "2026-03-29 03:00:00 +02"],
    );
    check(
        "Europe/Berlin",
        "minute=20,40",
        "2026-10-25T00:10:00Z",
        &[
            "2026-10-25 02:20:00 +02",
            "2026-10-25 02:40:00 +02",
            "2026-10-25 02:20:00 +01",
            "2026-10-25 02:40:00 +01",
            "2026-10-25 03:20:00 +01",
        ],
    );
    // From within the hour that will be repeated, and from within the repetition.
    check("Europe/Berlin", "minute=20", "2026-10-25T00:30:00Z", &["2026-10-25 02:20:00 +01"]);
    check("Europe/Berlin", "minute=20", "2026-10-25T01:30:00Z", &["2026-10-25 03:20:00 +01"]);
    check(
        "Australia/Lord_Howe",
        "minute=*/20",
        "2026-04-04T14:45:00Z",
        &["2026-04-05 01:40:00 +10:30", "2026-04-05 02:00:00 +10:30"],
    );
}

#[test]
fn what_is_wrong_is_said_as_the_original_says_it() {
    for (text, place, expected) in [
        (
            "hour=24",
            0,
            "Error validating expression '24': the last value (24) is higher than the maximum value \
             (23)",
        ),
        (
            "month=0",
            0,
            "Error validating expression '0': the first value (0) is lower than the minimum value (1)",
        ),
        (
            "minute=*/99",
            0,
            "Error validating expression '*/99': the step value (99) is higher than the total range \
             of the expression (59)",
        ),
        (
            "minute=5, 1-5/9",
            3,
            "Error validating expression '1-5/9': the step value (9) is higher than the total range \
             of the expression (4)",
        ),
        (
            "hour=24/2",
            0,
            "Error validating expression '24/2': the step value (2) is higher than the total range \
             of the expression (-1)",
        ),
        (
            "day_of_week=fri-mon",
            0,
            "The minimum value in a range must not be higher than the maximum",
        ),
        ("hour=5-2", 0, "The minimum value in a range must not be higher than the maximum"),
        ("hour=*/0", 0, "Increment must be higher than 0"),
        ("day=6th mon", 0, "Unrecognized expression \"6th mon\" for field \"day\""),
        ("day=1st foo", 0, "Invalid weekday name \"foo\""),
        ("day_of_week=0,monday", 2, "Invalid weekday name \"monday\""),
        ("month=foo", 0, "Invalid month name \"foo\""),
        ("hour=x", 0, "Unrecognized expression \"x\" for field \"hour\""),
        ("hour=1,,2", 2, "Unrecognized expression \"\" for field \"hour\""),
        ("second=-5", 0, "Unrecognized expression \"-5\" for field \"second\""),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!((error.place, error.to_string().as_str()), (place, expected), "{text}");
    }
}
