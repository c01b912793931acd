//! Schedules as they are written, good and bad.

use serde_json::json;

use super::*;

fn schedule(given: Value) -> Schedule {
    let mut all = json!({
        "worker": null, "ctl": null, "year": null, "month": null, "day": null, "week": null,
        "day_of_week": null, "hour": null, "minute": null, "second": null, "start_date": null,
        "end_date": null,
    });
    for (name, value) in given.as_object().unwrap() {
        all[name] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

#[test]
fn queues_are_named_as_the_original_names_them() {
    let queue = |given| Entry::of(&schedule(given)).unwrap().queue.to_string();
    assert_eq!(
        record(&schedule(json!({"ctl": "demo-noisy-task", "hour": "*/3"}))),
        "Record(worker=None, ctl='demo-noisy-task', year=None, month=None, day=None, week=None, \
         day_of_week=None, hour='*/3', minute=None, second=None, start_date=None, end_date=None)"
    );
    assert_eq!(queue(json!({"ctl": "demo-noisy-task", "hour": "*/3"})), "scheduled_0_ctl_12bcbf45");
    let dated = json!({
        "ctl": "demo-noisy-task --x", "minute": 0, "start_date": "2020-01-02T03:04:05",
    });
    assert_eq!(queue(dated), "scheduled_0_ctl_76cf57b6");
    assert_eq!(queue(json!({"worker": "job_queuer", "second": "*/5"})), "scheduled_0_job_queuer");
}

#[test]
fn equal_schedules_are_not_one() {
    let one = schedule(json!({"worker": "w", "second": "*/5"}));
    let other = schedule(json!({"worker": "w", "second": "*/7"}));
    let keys = |schedules: &[Schedule]| -> Vec<String> {
        Entry::all(schedules).unwrap().into_iter().map(|entry| entry.key).collect()
    };
    let keys = keys(&[one.clone(), other, one.clone(), one]);
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys[2..], [format!("{} #2", keys[0]), format!("{} #3", keys[0])]);
}

#[test]
fn dates_are_shown_as_far_as_they_are_told() {
    for (text, expected) in [
        ("2020-01-02T00:00:00", "datetime.datetime(2020, 1, 2, 0, 0)"),
        ("2020-01-02T00:00:00.000500", "datetime.datetime(2020, 1, 2, 0, 0, 0, 500)"),
    ] {
        assert_eq!(date_repr(text), expected);
    }
}

#[test]
fn a_task_says_what_is_to_be_done() {
    let task = |given| Entry::of(&schedule(given)).unwrap().task();
    assert_eq!(task(json!({"worker": "foo", "hour": 1})).payload.as_str(), "{}");
    let command = task(json!({"ctl": "x --y", "hour": 1}));
    assert_eq!(command.payload.as_str(), "{\"command\": \"x --y\"}");
}
