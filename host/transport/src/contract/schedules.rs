//! What a store that keeps schedules must do.

use super::{Granted, Store, owner, queue, task};
use crate::{Kind, Timestamp, open};

pub fn an_occasion_is_recorded_once(store: &Store<'_>) {
    let Some((uri, _store)) = (store.fresh)() else { return };
    let mut host = owner(&uri);
    if !host.features().schedules {
        let refused = host.last_occasion("nightly", Timestamp(0)).expect_err("it says so");
        assert_eq!(refused.kind, Kind::Invalid);
        return;
    }
    let first = host
        .last_occasion("nightly", Timestamp(1_700_000_000_123_456))
        .expect("occasions are remembered");
    assert_eq!(first, Timestamp(1_700_000_000_123_456));
    assert_eq!(
        host.last_occasion("nightly", Timestamp(1_800_000_000_000_000))
            .expect("occasions are remembered"),
        first
    );

    let at = |n: i64| Timestamp(first.0 + n * 1_000_000);
    assert!(
        host.record_occasion("nightly", at(1), &[task("foo", 1)]).expect("occasions are recorded")
    );
    assert!(
        !host.record_occasion("nightly", at(1), &[task("foo", 1)]).expect("occasions are recorded")
    );
    assert!(
        !host.record_occasion("nightly", at(0), &[task("foo", 0)]).expect("occasions are recorded")
    );
    assert!(
        host.record_occasion("nightly", at(2), &[]).expect("occasions are recorded"),
        "passed over"
    );
    assert_eq!(host.last_occasion("nightly", at(9)).expect("occasions are remembered"), at(2));
    assert!(
        host.record_occasion("unseen", at(1), &[task("foo", 2)]).expect("occasions are recorded")
    );
    assert_eq!(host.due(&queue("foo")), 2);
}

pub fn one_of_many_hosts_records_an_occasion(store: &Store<'_>) {
    const OCCASIONS: i64 = 40;
    let Some((uri, _store)) = (store.fresh)() else { return };
    if !owner(&uri).features().schedules {
        return;
    }
    let recorded = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (uri, recorded) = (&uri, &recorded);
            scope.spawn(move || {
                let mut host =
                    open(uri, &crate::Options::default()).expect("the store can be opened");
                for n in 1..=OCCASIONS {
                    if host
                        .record_occasion("often", Timestamp(n), &[task("foo", 1)])
                        .expect("occasions are recorded")
                    {
                        recorded.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let waiting = owner(&uri).due(&queue("foo"));
    assert_eq!(recorded.into_inner(), waiting);
    // A host that is behind passes occasions over that another one is past.
    assert!(waiting as i64 <= OCCASIONS && waiting >= 1, "{waiting}");
}
