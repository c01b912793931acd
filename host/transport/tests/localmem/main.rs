//! Queues in memory keep the contract, as far as one process goes.

use std::any::Any;
use std::sync::atomic::{AtomicU32, Ordering};

use rex_transport::Uri;

fn fresh() -> Option<(Uri, Box<dyn Any>)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Some((Uri::parse(&format!("localmem://store{number}")).expect("a URI"), Box::new(())))
}

// Without `a_killed_owner_is_rescued_at_once`: what a killed process had in memory is gone.
rex_transport::keeps_the_contract!(
    fresh;
    first_in_first_out empty_queues queues_are_apart claimed_tasks_are_out_of_sight
    counts_and_lists partial_finish released_tasks_go_to_their_old_place
    dead_letters_are_kept one_batch_of_all_outcomes submits_go_with_the_outcome
    submits_are_not_doubled purge_deletes_what_waits payloads_survive many_at_once
    claims_need_an_owner close_gives_back a_healthy_owner_keeps_its_tasks
    a_dropped_owner_is_rescued a_silent_owner_is_fenced_off no_task_twice watch_wakes
    opened_by_many_at_once
    large_payloads_come_in_small_claims priorities_go_first delayed_tasks_wait
    retries_keep_their_place a_unique_task_is_there_once a_paused_queue_gives_nothing
    no_more_in_flight_than_allowed attributes_survive_their_owner dead_letters_come_back
    it_knows_itself dead_letters_are_deleted what_it_cannot_do_is_refused what_may_not_be_claimed_is_not_awaited claims_tell_attributes
    an_occasion_is_recorded_once one_of_many_hosts_records_an_occasion
);
