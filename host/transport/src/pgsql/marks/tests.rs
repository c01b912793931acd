//! From where to look, after what was seen and taken.

use std::time::{Duration, Instant};

use super::{Look, Marks, OFTENEST, PATIENCE, PRIORITIES, SELDOMEST, Seen, Snapshot, Took, WOKEN};
use crate::QueueName;
use crate::pgsql::types::Moment;

/// The marks of one queue, and a clock.
struct Bench {
    marks: Marks,
    queue: QueueName,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        let queue = QueueName::parse("foo").unwrap();
        Bench { marks: Marks::default(), queue, now: Instant::now() }
    }

    fn look(&self) -> Look {
        self.marks.look(&self.queue, 9, self.now)
    }

    /// From where it is looked: in the original's table, and by priority.
    fn above(&self) -> (i64, Vec<(i16, i64)>) {
        let (look, spans) = (self.look(), self.look().spans());
        let ours = spans.priorities.into_iter().zip(spans.ids).skip(1);
        (look.theirs(), ours.map(|(p, id)| (p, if id == i64::MIN { 0 } else { id })).collect())
    }

    fn took(&mut self, took: Took) {
        let look = self.look();
        self.marks.took(&self.queue, &look, &took, self.now);
    }

    fn saw(&mut self, seen: &Seen) {
        let look = self.look();
        self.marks.saw(&self.queue, &look, seen, self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }
}

/// Transactions in progress, and the first after all.
fn snapshot(running: &[i64], next: i64) -> Snapshot {
    Snapshot { running: running.to_vec(), next }
}

/// Of the original's table, with more to come.
fn theirs(last: i64, snapshot: Snapshot) -> Took {
    Took { theirs: Some(last), ours: None, end: Some((0, last)), snapshot, oldest_claim: None }
}

/// Of ours, with more to come after the last of them.
fn ours(tasks: &[(i16, i64)], snapshot: Snapshot) -> Took {
    let (end, ours) = (tasks.last().copied(), Some(tasks.to_vec()));
    Took { theirs: None, ours, end, snapshot, oldest_claim: None }
}

fn nothing(snapshot: Snapshot) -> Seen {
    Seen { theirs: false, ours: false, due: None, now: Moment(1000), given: None, snapshot }
}

#[test]
fn a_mark_is_believed_when_all_that_ran_have_ended() {
    let mut bench = Bench::new();
    assert_eq!(bench.above().0, i64::MIN, "the first look is from the start");
    // Transaction 7 is in progress: it may hold an id below 100.
    bench.took(theirs(100, snapshot(&[7], 9)));
    assert_eq!(bench.above().0, i64::MIN);
    bench.took(theirs(200, snapshot(&[11], 12)));
    assert_eq!(bench.above().0, 100);
    bench.saw(&Seen { theirs: true, ..nothing(snapshot(&[], 13)) });
    assert_eq!(bench.above().0, 100, "it may be what that transaction held");
    bench.saw(&nothing(snapshot(&[], 13)));
    assert_eq!(bench.above().0, 200);
}

#[test]
fn now_and_then_it_is_looked_from_the_start() {
    let mut bench = Bench::new();
    bench.took(theirs(100, snapshot(&[], 9)));
    bench.took(ours(&[(1, 50)], snapshot(&[], 9)));
    assert_eq!(bench.above(), (100, vec![(1, 50)]));
    for _ in 0..2 {
        bench.wait(OFTENEST);
        assert_eq!(bench.above(), (i64::MIN, vec![(1, 0)]));
        let look = bench.look();
        bench.wait(Duration::from_millis(100));
        bench.marks.saw(&bench.queue, &look, &nothing(snapshot(&[], 9)), bench.now);
    }
    // Looks take 100 ms: the next one has time.
    bench.wait(Duration::from_millis(1900));
    assert_eq!(bench.above(), (100, vec![(1, 50)]));
    bench.wait(Duration::from_millis(100));
    assert_eq!(bench.above(), (i64::MIN, vec![(1, 0)]));
}

#[test]
fn what_is_found_below_a_mark_is_gone_up_from() {
    let mut bench = Bench::new();
    bench.took(theirs(100, snapshot(&[], 9)));
    bench.wait(OFTENEST);
    // A sequence that was set back.
    bench.took(theirs(20, snapshot(&[], 13)));
    assert_eq!(bench.above().0, 20);
}

#[test]
fn a_mark_is_not_believed_above_what_was_taken() {
    let mut bench = Bench::new();
    bench.took(ours(&[(0, 100)], snapshot(&[7], 9)));
    // The late ones are more than a claim takes, or come after more urgent ones.
    bench.took(ours(&[(-1, 30)], snapshot(&[], 10)));
    assert_eq!(bench.above().1, [(-1, 30), (0, 0)]);
    bench.took(ours(&[(0, 20)], snapshot(&[], 10)));
    assert_eq!(bench.above().1, [(-1, 30), (0, 20)]);
}

#[test]
fn a_look_from_the_start_counts_for_what_it_has_reached() {
    let mut bench = Bench::new();
    bench.took(ours(&[(-1, 30), (0, 100), (2, 50)], snapshot(&[], 9)));
    bench.wait(OFTENEST);
    bench.took(ours(&[(-1, 40)], snapshot(&[], 9)));
    assert_eq!(bench.above().1, [(-1, 40), (0, 0), (2, 0)]);
    bench.took(ours(&[(0, 90)], snapshot(&[], 9)));
    assert_eq!(bench.above().1, [(-1, 40), (0, 90), (2, 0)], "there may be more above");
    bench.took(Took { end: None, ..ours(&[(0, 130)], snapshot(&[], 9)) });
    assert_eq!(bench.above().1, [(-1, 40), (0, 130), (2, 50)]);
}

#[test]
fn between_marks_it_is_looked_too() {
    let mut bench = Bench::new();
    bench.took(ours(&[(-1, 30), (3, 50)], snapshot(&[], 9)));
    let spans = bench.look().spans();
    assert_eq!(spans.priorities, [i16::MIN, -1, 3]);
    assert_eq!(spans.ids, [i64::MIN, 30, 50]);
    assert_eq!(spans.before, [-1, 3, 32768]);
}

#[test]
fn where_nothing_is_all_that_was_given_out_before_is_gone() {
    let mut bench = Bench::new();
    let empty = |given, snapshot| Seen { given: Some(given), ..nothing(snapshot) };
    bench.saw(&empty(100, snapshot(&[], 9)));
    assert_eq!(bench.above().0, i64::MIN, "somebody may have been given one meanwhile");
    // Transaction 11 may have been given an id below 100, and commit late.
    bench.saw(&empty(150, snapshot(&[11], 12)));
    assert_eq!(bench.above(), (i64::MIN, vec![(0, 0)]));
    bench.saw(&empty(160, snapshot(&[], 13)));
    assert_eq!(bench.above(), (150, vec![(0, 150)]), "nobody is left who could");
    // A mark of what was taken is not taken back for it.
    bench.took(theirs(400, snapshot(&[], 15)));
    bench.saw(&empty(150, snapshot(&[], 16)));
    bench.saw(&empty(150, snapshot(&[], 17)));
    assert_eq!(bench.above().0, 400);
}

#[test]
fn a_look_that_a_stall_made_slow_does_not_put_off_the_next_from_the_start() {
    let mut bench = Bench::new();
    let slow = |bench: &mut Bench| {
        let look = bench.look();
        bench.wait(Duration::from_secs(10));
        let seen = nothing(snapshot(&[], 9));
        bench.marks.saw(&bench.queue, &look, &seen, bench.now);
    };
    bench.took(theirs(100, snapshot(&[], 9)));
    bench.saw(&nothing(snapshot(&[], 9)));
    bench.wait(OFTENEST);
    slow(&mut bench);
    assert_eq!(bench.above().0, 100);
    bench.wait(OFTENEST);
    assert_eq!(bench.above().0, i64::MIN);
    // Twice it is what a look takes.
    slow(&mut bench);
    bench.wait(OFTENEST);
    assert_eq!(bench.above().0, 100);
    bench.wait(SELDOMEST);
    assert_eq!(bench.above().0, i64::MIN);
}

#[test]
fn a_transaction_that_never_ends_is_not_waited_for() {
    let mut bench = Bench::new();
    bench.took(theirs(100, snapshot(&[1], 9)));
    bench.wait(PATIENCE);
    // One that has begun since is.
    bench.took(theirs(200, snapshot(&[1], 10)));
    bench.took(theirs(300, snapshot(&[1, 11], 12)));
    bench.took(theirs(400, snapshot(&[1, 11], 13)));
    assert_eq!(bench.above().0, 200);
}

#[test]
fn what_was_made_claimable_below_a_mark_is_asked_for() {
    let mut bench = Bench::new();
    bench.took(ours(&[(1, 30), (2, 100)], snapshot(&[], 9)));
    bench.marks.woke(&bench.queue, [(2, 40), (1, 20), (2, 200), (3, 5), (1, 10)]);
    assert_eq!(bench.look().woken, [10, 20, 40], "the rest is where it is looked anyway");
    bench.took(ours(&[(1, 10)], snapshot(&[], 9)));
    assert_eq!(bench.look().woken, [20, 40]);
    assert_eq!(bench.above().1, [(1, 30), (2, 100)]);
    bench.took(ours(&[(1, 35)], snapshot(&[], 9)));
    assert_eq!(bench.look().woken, [40], "somebody else has the other");
    bench.saw(&nothing(snapshot(&[], 9)));
    assert_eq!(bench.look().woken, [0; 0]);
    bench.marks.woke(&bench.queue, (0..=WOKEN as i64).map(|id| (1, id)));
    assert_eq!(bench.above().1, [], "they are too many to ask for");
    assert_eq!(bench.look().woken, [0; 0]);
}

#[test]
fn the_due_have_a_mark_of_a_moment_and_an_id() {
    let mut bench = Bench::new();
    bench.saw(&nothing(snapshot(&[], 9)));
    assert_eq!(bench.look().due(), (Moment(1000), i64::MIN));
    let due = |at, id, now| {
        let due = Some((Moment(at), id));
        Seen { due, now: Moment(now), ..nothing(snapshot(&[], 9)) }
    };
    bench.saw(&due(2000, 7, 1500));
    assert_eq!(bench.look().due(), (Moment(1500), i64::MIN));
    bench.saw(&due(2000, 7, 2500));
    assert_eq!(bench.look().due(), (Moment(2000), 6));
    bench.saw(&due(2000, 1007, 2500));
    assert_eq!(bench.look().due(), (Moment(2000), 1006), "many may be of one moment");
    // A clock that was set back.
    bench.saw(&nothing(snapshot(&[], 9)));
    assert_eq!(bench.look().due(), (Moment(1000), i64::MIN));
}

#[test]
fn of_very_many_priorities_some_have_marks() {
    let mut bench = Bench::new();
    for priority in 0..i16::try_from(3 * PRIORITIES).unwrap() {
        bench.took(ours(&[(priority, 1)], snapshot(&[], 9)));
    }
    let marks = bench.above().1;
    assert!(!marks.is_empty() && marks.len() <= PRIORITIES, "{}", marks.len());
}
