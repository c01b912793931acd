//! Which letters a command changes while others come.

use rex_transport::contract::{finished, queue, task};
use rex_transport::{Death, NewTask, Options, Outcome, Owner, Transport, Uri, Want, open};
use serde_json::json;

use super::{Choice, Filter, Output, PAGE};

fn kill(host: &mut dyn Transport, count: u64) {
    let tasks: Vec<NewTask> = (0..count).map(|n| task("foo", n)).collect();
    host.submit(&tasks).unwrap();
    while let Some(claim) = host.claim(&queue("foo"), &Want::tasks(1000)).unwrap() {
        let death = Death { reason: "x".to_owned(), details: json!({}) };
        let dead = |at| finished(&claim, at, Outcome::Dead(death.clone()));
        host.finish(&(0..claim.tasks.len()).map(dead).collect::<Vec<_>>()).unwrap();
    }
}

/// What is retried may fail again while the command is still at it.
#[test]
fn what_dies_meanwhile_is_not_chosen() {
    let uri = Uri::parse("localmem://dlq").unwrap();
    let owner = Some(Owner { id: "a".to_owned() });
    let mut host = open(&uri, &Options { owner, ..Options::default() }).unwrap();
    let mut viewer = open(&uri, &Options::default()).unwrap();
    kill(&mut *host, PAGE + 1);
    let choice = Choice {
        tasks: Vec::new(),
        all: true,
        filter: Filter::none(),
        dry_run: false,
        json: false,
    };
    let mut more = 3;
    let count = choice.change(&mut *viewer, "discarded", &mut Output::new(), |_| {
        if more > 0 {
            more -= 1;
            kill(&mut *host, 1);
        }
        true
    });
    assert_eq!(count.unwrap_or(0), PAGE + 1);
}
