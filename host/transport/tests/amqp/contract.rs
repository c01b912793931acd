//! The contract of `rex_transport::contract`. Ownership is the broker's here: what it does with a
//! dead host's tasks, and why nobody can take them from a silent one, is in `trouble.rs`.

use std::any::Any;

use rex_transport::Uri;

fn fresh() -> Option<(Uri, Box<dyn Any>)> {
    let uri = rex_test_support::amqp::fresh(0)?;
    Some((Uri::parse(&uri).unwrap(), Box::new(())))
}

// Without the three checks in which a host takes over from another, which here the broker does.
rex_transport::keeps_the_contract!(
    fresh;
    first_in_first_out empty_queues queues_are_apart claimed_tasks_are_out_of_sight
    counts_and_lists partial_finish released_tasks_go_to_their_old_place
    dead_letters_are_kept one_batch_of_all_outcomes submits_go_with_the_outcome
    submits_are_not_doubled purge_deletes_what_waits payloads_survive many_at_once
    claims_need_an_owner close_gives_back a_healthy_owner_keeps_its_tasks no_task_twice
    watch_wakes opened_by_many_at_once delayed_tasks_wait retries_keep_their_place large_payloads_come_in_small_claims
    dead_letters_come_back it_knows_itself dead_letters_are_deleted what_it_cannot_do_is_refused
    claims_tell_attributes an_occasion_is_recorded_once
);

/// Not a check: the process that `trouble` kills.
#[test]
fn doomed_owner() {
    rex_transport::contract::doomed_owner();
}
