//! What every kind of store must do, as tests: each check opens a fresh store through its address
//! and holds it to the promises of `transport.rs`. A kind passes by one line in its test file:
//! `rex_transport::keeps_the_contract!(fresh)`. Here is what the checks share.
//!
//! Nothing here sleeps for a guessed time: what needs a moment is waited for, up to a deadline.

#![expect(clippy::missing_panics_doc, reason = "a test suite fails by panic")]

mod attributes;
mod dead;
mod limits;
mod outcomes;
mod owners;
mod queues;
mod schedules;

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    Attributes, Claim, DeadLetter, DeadQuery, Death, Features, Finished, NewTask, Options, Outcome,
    Owner, Payload, QueueName, QueueStatus, Submitted, TaskId, Transport, TransportError, Uri,
    WaitingTask, Want, open,
};

pub use attributes::{
    a_delayed_task_comes_due_among_many, a_unique_task_is_there_once,
    attributes_survive_their_owner, claims_tell_attributes, delayed_tasks_wait,
    fill_around_a_delayed_task, many_come_due_at_once, many_retries_keep_their_ids,
    priorities_go_first, retries_keep_their_place,
};
pub use dead::{dead_letters_are_deleted, dead_letters_are_kept, dead_letters_come_back};
pub use limits::{
    a_long_name_is_kept_or_refused, a_paused_queue_gives_nothing, no_more_in_flight_than_allowed,
    room_in_flight_is_told, what_it_cannot_do_is_refused, what_may_not_be_claimed_is_not_awaited,
};
pub use outcomes::{
    one_batch_of_all_outcomes, partial_finish, released_tasks_go_to_their_old_place,
    submits_are_not_doubled, submits_go_with_the_outcome,
};
pub use owners::{
    a_dropped_owner_is_rescued, a_healthy_owner_keeps_its_tasks, a_killed_owner_is_rescued_at_once,
    a_silent_owner_is_fenced_off, claims_need_an_owner, claims_of_two_go_back_in_order,
    close_gives_back, doomed_owner, no_task_twice,
};
pub use queues::{
    claimed_tasks_are_out_of_sight, counts_and_lists, empty_queues, first_in_first_out,
    it_knows_itself, large_payloads_come_in_small_claims, many_at_once, opened_by_many_at_once,
    payloads_survive, purge_deletes_what_waits, queues_are_apart, watch_wakes,
};
pub use schedules::{an_occasion_is_recorded_once, one_of_many_hosts_records_an_occasion};

/// Makes a test of every check of some groups, of all unless they are named; `$fresh` is what
/// [`contract::Store`](crate::contract::Store) has under that name, `$features` what the kind says
/// that it can. `basics` is for every kind, `takeover` where hosts take over from each other,
/// `killed` where what a killed process held is still there.
#[macro_export]
macro_rules! keeps_the_contract {
    ($fresh:expr, $features:expr) => {
        $crate::keeps_the_contract!($fresh, $features, basics takeover killed);
    };
    ($fresh:expr, $features:expr, $($group:ident)*) => {
        $( $crate::keeps_the_contract!(@$group $fresh, $features); )*
    };
    (@basics $fresh:expr, $features:expr) => {
        $crate::keeps_the_contract!(
            @checks $fresh, $features;
            first_in_first_out empty_queues queues_are_apart claimed_tasks_are_out_of_sight
            counts_and_lists partial_finish released_tasks_go_to_their_old_place
            dead_letters_are_kept one_batch_of_all_outcomes submits_go_with_the_outcome
            submits_are_not_doubled purge_deletes_what_waits payloads_survive many_at_once
            claims_need_an_owner close_gives_back a_healthy_owner_keeps_its_tasks no_task_twice
            claims_of_two_go_back_in_order watch_wakes opened_by_many_at_once large_payloads_come_in_small_claims
            priorities_go_first delayed_tasks_wait a_delayed_task_comes_due_among_many
            many_come_due_at_once many_retries_keep_their_ids retries_keep_their_place claims_tell_attributes
            a_unique_task_is_there_once a_paused_queue_gives_nothing
            no_more_in_flight_than_allowed room_in_flight_is_told attributes_survive_their_owner dead_letters_come_back
            dead_letters_are_deleted what_it_cannot_do_is_refused a_long_name_is_kept_or_refused
            what_may_not_be_claimed_is_not_awaited it_knows_itself an_occasion_is_recorded_once
            one_of_many_hosts_records_an_occasion
        );
    };
    (@takeover $fresh:expr, $features:expr) => {
        $crate::keeps_the_contract!(
            @checks $fresh, $features; a_dropped_owner_is_rescued a_silent_owner_is_fenced_off
        );
    };
    (@killed $fresh:expr, $features:expr) => {
        $crate::keeps_the_contract!(
            @checks $fresh, $features; a_killed_owner_is_rescued_at_once
        );

        /// Not a check: the process that `a_killed_owner_is_rescued_at_once` kills.
        #[test]
        fn doomed_owner() {
            $crate::contract::doomed_owner();
        }
    };
    (@checks $fresh:expr, $features:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                let doomed = concat!(module_path!(), "::doomed_owner");
                let (fresh, features) = (&$fresh, $features);
                $crate::contract::$check(&$crate::contract::Store { fresh, features, doomed });
            }
        )*
    };
}

/// The kind of store under test.
pub struct Store<'a> {
    /// Makes an empty store: its address and what keeps it; `None` when its server is not there,
    /// which has been said.
    pub fresh: &'a (dyn Fn() -> Option<(Uri, Box<dyn Any>)> + Sync),
    pub features: Features,
    /// The full name of the test that calls [`doomed_owner`].
    pub doomed: &'a str,
}

const DEADLINE: Duration = Duration::from_secs(20);

/// The refusal to open `uri`.
pub fn fails(uri: &str) -> TransportError {
    let parsed = Uri::parse(uri).expect("a test asks for what has the form of an address");
    match open(&parsed, &Options::default()) {
        Ok(transport) => panic!("{uri} opens as {}", transport.label()),
        Err(error) => error,
    }
}

/// Opens `uri` as an owner of its own.
pub fn owner(uri: &Uri) -> Box<dyn Transport> {
    open_as(uri, Options::default())
}

fn open_as(uri: &Uri, options: Options) -> Box<dyn Transport> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let owner = Owner { id: format!("contract:{}:{number}", std::process::id()) };
    match open(uri, &Options { owner: Some(owner), ..options }) {
        Ok(transport) => transport,
        Err(error) => panic!("{error}"),
    }
}

pub fn queue(name: &str) -> QueueName {
    QueueName::parse(name).expect("a test names its queues by the rule")
}

/// A task of payload `{"n": N}`.
pub fn task(name: &str, number: u64) -> NewTask {
    let payload = Payload::parse(&json!({"n": number}).to_string(), 100);
    let payload = payload.expect("an object of one number has less than 100 bytes");
    NewTask::plain(queue(name), payload)
}

/// A task of queue `foo` and payload `{"n": N}`.
pub fn with(number: u64, attributes: Attributes) -> NewTask {
    NewTask { attributes, ..task("foo", number) }
}

pub fn numbers(claim: &Claim) -> Vec<u64> {
    claim.tasks.iter().map(|task| number(&task.payload)).collect()
}

fn number(payload: &Payload) -> u64 {
    let payload: serde_json::Value =
        serde_json::from_str(payload.as_str()).expect("it was submitted as JSON");
    payload["n"].as_u64().expect("each task of these tests has its number")
}

pub fn all_done(claim: &Claim) -> Vec<Finished> {
    (0..claim.tasks.len()).map(|at| finished(claim, at, Outcome::Done)).collect()
}

pub fn finished(claim: &Claim, at: usize, outcome: Outcome) -> Finished {
    Finished { claim: claim.id, task: claim.tasks[at].id, outcome, submits: Vec::new() }
}

/// Calls that a check takes for granted.
trait Granted {
    fn put(&mut self, tasks: &[NewTask]) -> Vec<Submitted>;
    fn take(&mut self, queue: &QueueName, want: &Want) -> Claim;
    /// Returns the tasks that were taken over.
    fn record(&mut self, finished: &[Finished]) -> Vec<TaskId>;
    /// How many are due.
    fn due(&mut self, queue: &QueueName) -> u64;
    fn look(&mut self, queue: &QueueName, most: u64) -> Vec<WaitingTask>;
    fn idle(&mut self, queue: &QueueName) -> bool;
    fn list(&mut self) -> Vec<QueueStatus>;
    fn letters(&mut self, query: &DeadQuery) -> Vec<DeadLetter>;
}

impl Granted for dyn Transport + '_ {
    #[track_caller]
    fn put(&mut self, tasks: &[NewTask]) -> Vec<Submitted> {
        self.submit(tasks).expect("the store takes what its features allow")
    }

    #[track_caller]
    fn take(&mut self, queue: &QueueName, want: &Want) -> Claim {
        let claim = self.claim(queue, want).expect("tasks can be claimed");
        claim.expect("there are tasks to claim")
    }

    #[track_caller]
    fn record(&mut self, finished: &[Finished]) -> Vec<TaskId> {
        self.finish(finished).expect("outcomes are recorded")
    }

    #[track_caller]
    fn due(&mut self, queue: &QueueName) -> u64 {
        self.poll(queue).expect("what waits can be counted")
    }

    #[track_caller]
    fn look(&mut self, queue: &QueueName, most: u64) -> Vec<WaitingTask> {
        self.peek(queue, most).expect("what waits can be seen")
    }

    #[track_caller]
    fn idle(&mut self, queue: &QueueName) -> bool {
        self.is_idle(queue).expect("it can be told whether a queue is idle")
    }

    #[track_caller]
    fn list(&mut self) -> Vec<QueueStatus> {
        self.queues().expect("queues can be listed")
    }

    #[track_caller]
    fn letters(&mut self, query: &DeadQuery) -> Vec<DeadLetter> {
        self.dead_letters(query).expect("dead letters can be listed")
    }
}

fn submit(transport: &mut dyn Transport, tasks: &[NewTask]) -> Vec<TaskId> {
    transport.put(tasks).iter().map(|done| done.id).collect()
}

fn task_ids(claim: &Claim) -> Vec<TaskId> {
    claim.tasks.iter().map(|task| task.id).collect()
}

pub fn dead(reason: &str) -> Outcome {
    Outcome::Dead(Death { reason: reason.to_owned(), details: json!({"build": "1ab"}) })
}

fn in_flight(transport: &mut dyn Transport, name: &str) -> u64 {
    let all = transport.queues().expect("the store can be looked at");
    all.iter().find(|status| status.queue.as_str() == name).map_or(0, |status| status.in_flight)
}

/// Asks until it holds, up to the deadline.
#[track_caller]
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Repeats a call while it fails in a way that is worth a retry.
fn insist<T>(what: &str, mut call: impl FnMut() -> Result<T, TransportError>) -> T {
    let mut answer = None;
    wait_for(what, || match call() {
        Ok(value) => {
            answer = Some(value);
            true
        }
        Err(error) if error.is_retryable() => false,
        Err(error) => panic!("{what}: {error}"),
    });
    answer.expect("it holds only when there is an answer")
}
