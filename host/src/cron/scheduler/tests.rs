//! What is fired into a queue that is full, on a broker that can refuse.

use rex_test_support::amqp::RabbitMq;
use rex_test_support::process::wait_for;
use rex_transport::{Options, Uri};
use serde_json::json;

use super::*;
use crate::settings::MisfirePolicy;

#[test]
fn an_occasion_that_was_fired_is_not_fired_again_where_the_next_one_is_refused() {
    let Some(mut broker) = RabbitMq::with_hosts(1) else { return };
    let rule = "{\"max-length\":2,\"overflow\":\"reject-publish\"}";
    broker.ctl(&format!("set_policy -p t0 --apply-to queues full ^scheduled_0_w$ {rule}"));
    let uri = Uri::parse(&format!("{}/t0", broker.uri)).unwrap();
    let mut transport = rex_transport::open(&uri, &Options::default()).unwrap();
    let given = json!({
        "worker": "w", "year": null, "month": null, "day": null, "week": null, "day_of_week": null,
        "hour": null, "minute": null, "second": "*/1",
    });
    let entry = Arc::new(Entry::of(&serde_json::from_value(given).unwrap()).unwrap());
    let begin = Timestamp::now() - Duration::from_secs(5);
    let mut scheduled = Scheduled { entry, last: None, next: None, refused: None };
    scheduled.settle(begin, &TimeZone::UTC);
    let misfire = Misfire { policy: MisfirePolicy::All, grace: Duration::from_secs(3600) };
    let mut fire = || scheduled.fire(&mut *transport, &TimeZone::UTC, misfire);
    let refusal = fire().unwrap_err();
    assert!(refusal.kind == Kind::Refused && refusal.text.contains("basic.nack"), "{refusal}");
    broker.ctl("clear_policy -p t0 full");
    wait_for("room", || fire().is_ok());
    let seconds = scheduled.last.unwrap().as_second() - begin.as_second();
    let waiting = transport.poll(&scheduled.entry.queue).unwrap();
    assert_eq!(i64::try_from(waiting).unwrap(), seconds);
}
