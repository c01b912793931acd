//! A server that is away, crashes, or has something else in it.

use std::time::{Duration, Instant};

use rex_test_support::redis::Redis;
use rex_transport::contract::{
    all_done, fails, fill_around_a_delayed_task, finished, numbers, owner, queue, task, wait_for,
};
use rex_transport::{
    Claim, DeadQuery, Death, Due, Kind, NewTask, Options, Outcome, TaskId, Timestamp,
    TransportError, Uri, Wake, Want, open,
};
use serde_json::json;

#[test]
fn the_originals_words() {
    let error = fails("redis://127.0.0.1:1");
    assert_eq!(error.kind, Kind::Unreachable);
    assert_eq!(
        error.text,
        "Failed to connect to the Redis server:\n    \
         Error 111 connecting to 127.0.0.1:1. Connection refused."
    );
    let error = fails("redis:///no/such.sock");
    assert_eq!(
        error.text,
        "Failed to connect to the Redis server:\n    \
         Error 2 connecting to unix socket: /no/such.sock. No such file or directory."
    );
    for bad in ["redis://h?db=x", "redis://h?key_prefix=A", "redis://h?nothing=1", "redis:x"] {
        assert_eq!(fails(bad).kind, Kind::Config, "{bad}");
    }
    let secret = fails("redis://me:secret@127.0.0.1:1?db=x");
    assert!(!secret.text.contains("secret"), "{secret}");
}

#[test]
fn a_crash_of_the_server_loses_nothing() {
    let Some(server) = Redis::start() else { return };
    let uri = Uri::parse(&server.uri()).unwrap();
    let mut host = owner(&uri);
    host.submit(&[task("foo", 1), task("foo", 2), task("foo", 3)]).unwrap();
    let claim = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
    let (wake, woken) = crossbeam_channel::unbounded();
    let _watch = host.watch(wake).unwrap();
    server.crash();
    let error = host.finish(&all_done(&claim)).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let error = host.claim(&queue("foo"), &Want::tasks(2)).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    server.restart();
    // The host keeps its claim and its name.
    assert_eq!(host.rescue().unwrap(), 0);
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    assert_eq!(numbers(&host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap()), [3]);
    wait_for("word of all that came", || woken.try_iter().any(|wake| wake == Wake::All));
    wait_for("word of a task", || {
        host.submit(&[task("bar", 1)]).unwrap();
        woken.recv_timeout(Duration::from_millis(100)) == Ok(Wake::Queue(queue("bar")))
    });
}

/// It is there, and will answer.
#[test]
fn a_server_that_is_at_a_script_is_waited_for() {
    let Some(server) = Redis::start() else { return };
    server.command(&["CONFIG", "SET", "lua-time-limit", "1"]);
    std::thread::scope(|scope| {
        scope.spawn(|| server.command(&["EVAL", "while true do end", "0"]));
        wait_for("the script", || server.command(&["PING"]).contains("BUSY"));
        let error = fails(&server.uri());
        server.command(&["SCRIPT", "KILL"]);
        assert_eq!((error.kind, error.hint), (Kind::Unreachable, None), "{}", error.text);
    });
}

#[test]
fn a_queue_without_rights_costs_no_other() {
    let Some(server) = Redis::start() else { return };
    let rules = ["~asynctask:rex*", "~asynctask_foo", "&*", "+@all"];
    server.command(&[&["acl", "setuser", "me", "on", ">pw"], &rules[..]].concat());
    let uri = server.uri().replacen("://", "://me:pw@", 1);
    let mut host = owner(&Uri::parse(&uri).unwrap());
    host.submit(&[task("foo", 1)]).unwrap();
    server.command(&["rpush", "asynctask_bar", "{}"]);
    assert_eq!(host.queues().unwrap().len(), 1);
    assert!(host.left_out().contains_key(&queue("bar")));
    let claim = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let mut asking = all_done(&claim);
    asking[0].submits = vec![task("bar", 2)];
    let error = host.finish(&asking).unwrap_err();
    assert_eq!(error.kind, Kind::Invalid, "{error}");
    assert!(error.hint.unwrap().contains("rights"));
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
}

/// As after a restart of one that keeps nothing on disk.
#[test]
fn a_server_that_has_lost_its_data_confuses_no_hosts() {
    let Some(server) = Redis::start() else { return };
    let uri = Uri::parse(&server.uri()).unwrap();
    let mut slow = owner(&uri);
    let mut other = owner(&uri);
    slow.submit(&[task("foo", 1)]).unwrap();
    let lost = slow.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    server.command(&["flushall"]);
    // Whoever comes first is the first one of the new data.
    other.rescue().unwrap();
    other.submit(&[task("foo", 2)]).unwrap();
    let theirs = other.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    assert_ne!(theirs.id, lost.id);
    assert_eq!(slow.finish(&all_done(&lost)).unwrap(), [lost.tasks[0].id], "that one is gone");
    slow.rescue().unwrap();
    assert_eq!(server.command(&["hlen", "asynctask:rex:owners"]), "2");
    // Nor does the new name make the old claim good.
    slow.finish(&all_done(&lost)).unwrap();
    slow.close().unwrap();
    assert_eq!(other.finish(&all_done(&theirs)).unwrap(), [], "it is still its own");
    assert!(other.is_idle(&queue("foo")).unwrap());
}

#[test]
fn a_socket_and_a_prefix() {
    let Some(server) = Redis::start() else { return };
    let socket = format!("redis://{}?key_prefix=mine", server.socket().display());
    let mut host = owner(&Uri::parse(&socket).unwrap());
    assert_eq!(host.label(), format!("RedisAsyncTransport({})", server.socket().display()));
    host.submit(&[task("foo", 1)]).unwrap();
    assert_eq!(server.command(&["lrange", "mine_foo", "0", "-1"]), r#"{"n": 1}"#);
    // Another prefix is another store.
    let mut other = owner(&Uri::parse(&server.uri()).unwrap());
    assert_eq!(other.poll(&queue("foo")).unwrap(), 0);
    assert!(other.queues().unwrap().is_empty());
}

/// A server that ends who says nothing for a while.
#[test]
fn who_was_idle_and_cut_off_goes_on() {
    let Some(server) = Redis::start() else { return };
    let mut producer = open(&Uri::parse(&server.uri()).unwrap(), &Options::default()).unwrap();
    producer.submit(&[task("foo", 1)]).unwrap();
    let begun = Instant::now();
    server.command(&["client", "kill", "type", "normal"]);
    wait_for("the idle time", || begun.elapsed() > Duration::from_secs(1));
    producer.submit(&[task("foo", 2)]).unwrap();
    assert_eq!(producer.poll(&queue("foo")).unwrap(), 2);
}

#[test]
fn old_clients_in_between() {
    let Some(server) = Redis::start() else { return };
    let mut host = owner(&Uri::parse(&server.uri()).unwrap());
    let ids: Vec<_> = host
        .submit(&[task("foo", 1), task("foo", 2)])
        .unwrap()
        .iter()
        .map(|done| done.id)
        .collect();
    server.command(&["rpush", "asynctask_foo", r#"{"n": 3}"#]);
    host.submit(&[task("foo", 4)]).unwrap();
    assert_eq!(server.command(&["lpop", "asynctask_foo"]), r#"{"n": 1}"#);
    let seen = host.peek(&queue("foo"), 9).unwrap();
    assert_eq!(seen[0].id, ids[1], "who is gone takes nobody's identity along");
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [2, 3, 4]);
    assert_eq!(claim.tasks[1].id, seen[1].id, "what peek has shown is what claim takes");
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    let left = server.command(&["keys", "*meta*"]);
    assert_eq!(left, "", "nothing is left behind");
}

/// So many are gone from the head since the last look that what is left is known from far ahead alone.
#[test]
fn who_is_left_by_an_old_consumer_is_known() {
    const GONE: usize = 250;
    let Some(server) = Redis::start() else { return };
    let mut host = owner(&Uri::parse(&server.uri()).unwrap());
    let name = queue("foo");
    let retries = |claim: &Claim| {
        let again = || Outcome::Retry { after: Duration::ZERO, history: json!(["once"]) };
        (0..claim.tasks.len()).map(|at| finished(claim, at, again())).collect::<Vec<_>>()
    };
    let histories = || server.command(&["hlen", "asynctask:rex:history"]);
    let pop = || {
        server.command(&["ltrim", "asynctask_foo", &GONE.to_string(), "-1"]);
    };
    for (pushed, all_alike) in [(0, false), (0, true), (GONE, false), (2 * GONE, false)] {
        let tasks: Vec<NewTask> =
            (0..600).map(|n| task("foo", if all_alike { 0 } else { n })).collect();
        host.submit(&tasks).unwrap();
        let claim = host.claim(&name, &Want::tasks(600)).unwrap().unwrap();
        let ids: Vec<TaskId> = claim.tasks.iter().map(|task| task.id).collect();
        host.finish(&retries(&claim)).unwrap();
        wait_for("the retries", || host.poll(&name).unwrap() == 600);
        pop();
        for n in 0..pushed {
            server.command(&["rpush", "asynctask_foo", &format!("{{\"new\": {n}}}")]);
        }
        let seen = host.peek(&name, 3).unwrap();
        let seen: Vec<_> = seen.iter().map(|task| (task.id, task.attempt)).collect();
        assert_eq!(seen, [0, 1, 2].map(|at| (ids[GONE + at], 2)), "{pushed} {all_alike}");
        let claim = host.claim(&name, &Want::tasks(600)).unwrap().unwrap();
        let left: Vec<TaskId> = claim.tasks.iter().map(|task| task.id).take(600 - GONE).collect();
        assert_eq!(left, ids[GONE..], "{pushed} {all_alike}");
        assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
        while let Some(claim) = host.claim(&name, &Want::tasks(600)).unwrap() {
            host.finish(&all_done(&claim)).unwrap();
        }
        assert_eq!(histories(), "0", "{pushed} {all_alike}");
    }
    // None is left, of more than are looked through at once.
    const MANY: u64 = 10_050;
    host.submit(&(0..MANY).map(|n| task("foo", n)).collect::<Vec<_>>()).unwrap();
    let next = || host.claim(&name, &Want::tasks(MANY as usize)).unwrap();
    let claims: Vec<Claim> = std::iter::from_fn(next).collect();
    for claim in &claims {
        host.finish(&retries(claim)).unwrap();
    }
    wait_for("the retries", || {
        host.peek(&name, 1).unwrap();
        server.command(&["llen", "asynctask_foo"]) == MANY.to_string()
    });
    server.command(&["ltrim", "asynctask_foo", &MANY.to_string(), "-1"]);
    assert!(host.peek(&name, 1).unwrap().is_empty());
    assert_eq!(histories(), "0");
}

/// What is at the head has the payload of one that is gone.
#[test]
fn who_is_like_one_that_an_old_consumer_has_taken_is_not_taken_for_it() {
    const GONE: usize = 301;
    let Some(server) = Redis::start() else { return };
    let mut host = owner(&Uri::parse(&server.uri()).unwrap());
    let name = queue("foo");
    let number = |at: usize| if at.is_multiple_of(GONE) { 0 } else { at as u64 };
    for (pushed, looked_at) in [(0, 600), (150, 600), (GONE, 600), (2 * GONE, 600), (GONE, 1)] {
        let tasks: Vec<NewTask> = (0..2 * GONE).map(|at| task("foo", number(at))).collect();
        let ids: Vec<TaskId> = host.submit(&tasks).unwrap().iter().map(|done| done.id).collect();
        server.command(&["ltrim", "asynctask_foo", &GONE.to_string(), "-1"]);
        for n in 0..pushed {
            server.command(&["rpush", "asynctask_foo", &format!("{{\"new\": {n}}}")]);
        }
        host.peek(&name, looked_at).unwrap();
        let seen = host.peek(&name, 2000).unwrap();
        assert_eq!(seen.len(), GONE + pushed);
        let seen: Vec<TaskId> = seen.iter().map(|task| task.id).take(GONE).collect();
        assert_eq!(seen, ids[GONE..], "{pushed} pushed");
        host.purge(&name).unwrap();
    }
}

/// An old producer pushes again and again what an old consumer pops.
#[test]
fn who_comes_after_all_others_are_gone_is_none_of_them() {
    let Some(server) = Redis::start() else { return };
    let mut host = owner(&Uri::parse(&server.uri()).unwrap());
    let name = queue("foo");
    let tasks: Vec<NewTask> = (0..5).map(|n| task("foo", n)).collect();
    let ids: Vec<TaskId> = host.submit(&tasks).unwrap().iter().map(|done| done.id).collect();
    server.command(&["ltrim", "asynctask_foo", "5", "-1"]);
    server.command(&["rpush", "asynctask_foo", tasks[0].payload.as_str()]);
    let seen = host.peek(&name, 9).unwrap();
    assert_eq!(seen.len(), 1);
    assert!(!ids.contains(&seen[0].id), "{seen:?}");
}

/// What was at the head until then is gone, and no other is.
#[test]
fn who_comes_back_after_an_old_consumer_is_known_and_so_are_others() {
    let Some(server) = Redis::start() else { return };
    let mut host = owner(&Uri::parse(&server.uri()).unwrap());
    let name = queue("foo");
    for gone in [5, 250] {
        let tasks: Vec<NewTask> = (0..600).map(|n| task("foo", n)).collect();
        let ids: Vec<TaskId> = host.submit(&tasks).unwrap().iter().map(|done| done.id).collect();
        let claim = host.claim(&name, &Want::tasks(20)).unwrap().unwrap();
        server.command(&["ltrim", "asynctask_foo", &gone.to_string(), "-1"]);
        let back: Vec<_> = (0..10).map(|at| finished(&claim, at, Outcome::Released)).collect();
        host.finish(&back).unwrap();
        server.command(&["ltrim", "asynctask_foo", "4", "-1"]);
        let again = || Outcome::Retry { after: Duration::ZERO, history: json!([]) };
        let back: Vec<_> = (10..20).map(|at| finished(&claim, at, again())).collect();
        host.finish(&back).unwrap();
        let left: Vec<TaskId> = [&ids[4..20], &ids[20 + gone..]].concat();
        wait_for("the retries", || host.poll(&name).unwrap() == left.len() as u64);
        let waiting: Vec<TaskId> =
            host.peek(&name, 600).unwrap().iter().map(|task| task.id).collect();
        assert_eq!(waiting, left);
        assert_eq!(host.purge(&name).unwrap(), left.len() as u64);
    }
}

#[test]
fn something_else_under_the_key_is_refused() {
    let Some(server) = Redis::start() else { return };
    server.command(&["set", "asynctask_foo", "text"]);
    let mut host = owner(&Uri::parse(&server.uri()).unwrap());
    let error = host.submit(&[task("foo", 1)]).unwrap_err();
    assert_eq!(error.kind, Kind::Invalid, "{error}");
    assert!(error.text.contains("WRONGTYPE"), "{error}");
    assert_eq!(server.command(&["get", "asynctask_foo"]), "text");
    host.submit(&[task("bar", 1)]).unwrap();
    let queues = host.queues().unwrap();
    assert_eq!(queues.iter().map(|one| one.queue.as_str()).collect::<Vec<_>>(), ["bar"]);
    let left_out = host.left_out();
    assert_eq!(left_out.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["foo"]);
    assert!(left_out[&queue("foo")].contains("WRONGTYPE"), "{left_out:?}");
}

#[test]
fn what_is_no_text_is_a_dead_letter_for_ever() {
    let Some(server) = Redis::start() else { return };
    let mut host = owner(&Uri::parse(&server.uri()).unwrap());
    let push = r#"redis.call('rpush', KEYS[1], '{"a": "\255\254"}')"#;
    server.command(&["eval", push, "1", "asynctask_foo"]);
    for _ in 0..2 {
        let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
        assert_eq!(claim.tasks[0].payload.as_str(), "{\"a\": \"\u{fffd}\u{fffd}\"}");
        claim.tasks[0].payload.check().unwrap_err();
        let death = Death { reason: "x".to_owned(), details: json!({}) };
        host.finish(&[finished(&claim, 0, Outcome::Dead(death))]).unwrap();
        let letters = host.dead_letters(&DeadQuery::default()).unwrap();
        assert_eq!(letters[0].payload, claim.tasks[0].payload);
        assert_eq!(host.revive(&[letters[0].letter]).unwrap(), 1);
    }
}

/// The server rolls nothing back: what is refused must be found out first.
#[test]
fn what_is_refused_changes_nothing() {
    let Some(server) = Redis::start() else { return };
    server.command(&["set", "asynctask_bad", "text"]);
    let (mut host, mut other) =
        (owner(&Uri::parse(&server.uri()).unwrap()), owner(&Uri::parse(&server.uri()).unwrap()));
    let mixed = [task("foo", 1), task("bad", 2)];
    assert_eq!(host.submit(&mixed).unwrap_err().kind, Kind::Invalid);
    assert_eq!(host.poll(&queue("foo")).unwrap(), 0, "all or none");
    let due = Timestamp(1);
    assert_eq!(host.record_occasion("s", due, &mixed).unwrap_err().kind, Kind::Invalid);
    assert!(host.record_occasion("s", due, &[]).unwrap(), "it was not recorded");
    host.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let first = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    let mut batch = all_done(&first);
    batch[0].submits = vec![task("bar", 3), task("bad", 4)];
    for _ in 0..2 {
        assert_eq!(host.finish(&batch).unwrap_err().kind, Kind::Invalid);
    }
    assert_eq!(host.poll(&queue("bar")).unwrap(), 0);
    let second = host.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    assert_eq!(numbers(&second), [2]);
    // A queue of which a host holds tasks is no queue any more.
    server.command(&["set", "asynctask_foo", "text"]);
    let mut back = all_done(&second);
    back[0].outcome = Outcome::Released;
    assert_eq!(host.finish(&back).unwrap_err().kind, Kind::Invalid);
    host.close().unwrap();
    other.rescue().unwrap();
    server.command(&["del", "asynctask_foo"]);
    wait_for("the tasks", || {
        other.rescue().unwrap();
        other.poll(&queue("foo")).unwrap() == 2
    });
    let again = other.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&again), [1, 2], "none is lost");
    assert_eq!(other.finish(&all_done(&again)).unwrap(), []);
    assert!(other.queues().unwrap().is_empty());
}

/// Somebody's slip of the hand.
#[test]
fn a_key_of_ours_that_is_something_else_loses_nothing() {
    let Some(server) = Redis::start() else { return };
    let uri = Uri::parse(&server.uri()).unwrap();
    let of_all = ["claims", "inflight", "history", "dead", "deaths", "paused", "schedules"];
    let of_all = of_all.iter().chain(&["id", "claim", "letter"]);
    let of_queue = ["meta:foo", "due:foo", "later:foo"];
    for name in of_all.clone().chain(&of_queue) {
        server.command(&["flushall"]);
        let mut host = owner(&uri);
        let key = format!("asynctask:rex:{name}");
        let spoil = || {
            if server.command(&["exists", &key]) == "1" {
                server.command(&["rename", &key, "saved"]);
            }
            server.command(&["set", &key, "text"]);
        };
        let mend = || {
            server.command(&["del", &key]);
            if server.command(&["exists", "saved"]) == "1" {
                server.command(&["rename", "saved", &key]);
            }
        };
        let refused = |error: TransportError| {
            assert!(error.text.contains(&format!("the key '{key}' is no ")), "{error}");
            // It holds up one queue, or all of them.
            let is_of_all = of_all.clone().any(|one| one == name);
            let kind = if is_of_all { Kind::Refused } else { Kind::Invalid };
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.hint.is_some(), "{error}");
        };
        // One is due, the other delayed.
        let mut later = task("foo", 4);
        later.attributes.due = Due::In(Duration::from_millis(1));
        host.submit(&[task("foo", 1), task("foo", 2), task("foo", 3), later]).unwrap();
        let first = host.claim(&queue("foo"), &Want::tasks(2)).unwrap().unwrap();
        let (kept, retried) = (first.tasks[0].id, first.tasks[1].id);
        spoil();
        refused(host.submit(&[task("foo", 5)]).unwrap_err());
        refused(host.claim(&queue("foo"), &Want::tasks(9)).unwrap_err());
        refused(host.peek(&queue("foo"), 9).unwrap_err());
        let outcome = Outcome::Retry { after: Duration::ZERO, history: json!([{"n": 1}]) };
        let retry = [finished(&first, 1, outcome)];
        refused(host.finish(&retry).unwrap_err());
        let death = Death { reason: "x".to_owned(), details: json!({}) };
        let mut died = [finished(&first, 0, Outcome::Dead(death))];
        died[0].submits = vec![task("foo", 6)];
        refused(host.finish(&died).unwrap_err());
        mend();
        assert_eq!(host.finish(&retry).unwrap(), [], "{name}");
        assert_eq!(host.finish(&died).unwrap(), [], "{name}");
        let mut rest = Vec::new();
        wait_for("the rest", || {
            rest.extend(host.claim(&queue("foo"), &Want::tasks(9)).unwrap());
            rest.iter().map(|claim| claim.tasks.len()).sum::<usize>() == 4
        });
        let mut all: Vec<u64> = rest.iter().flat_map(numbers).collect();
        all.sort_unstable();
        assert_eq!(all, [2, 3, 4, 6], "{name}");
        assert!(rest.iter().any(|claim| claim.tasks.iter().any(|task| task.id == retried)));
        let letters = host.dead_letters(&DeadQuery::default()).unwrap();
        assert_eq!(letters.iter().map(|dead| dead.id).collect::<Vec<_>>(), [kept], "{name}");
        // Nor is a letter.
        spoil();
        let ids = [letters[0].letter];
        assert!(host.revive(&ids).is_err());
        mend();
        assert_eq!(host.revive(&ids).unwrap(), 1, "{name}");
        assert_eq!(host.queues().unwrap()[0].waiting, 1, "{name}");
    }
}

/// It refuses what it could lose, and no more.
#[test]
fn a_server_that_cannot_save_is_looked_into() {
    let Some(server) = Redis::start() else { return };
    let uri = Uri::parse(&server.uri()).unwrap();
    owner(&uri).submit(&[task("foo", 1)]).unwrap();
    // The file's place is taken.
    std::fs::create_dir(server.socket().with_file_name("dump.rdb")).unwrap();
    server.command(&["config", "set", "save", "3600 1"]);
    wait_for("the failure to save", || {
        server.command(&["bgsave"]);
        server.command(&["info", "persistence"]).contains("rdb_last_bgsave_status:err")
    });
    let mut operator = open(&uri, &Options::default()).unwrap();
    assert_eq!(operator.queues().unwrap()[0].waiting, 1);
    let error = operator.submit(&[task("foo", 2)]).unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.text.starts_with("The Redis server refused:\n    \"MISCONF\""), "{error}");
    assert!(error.hint.unwrap().contains("cannot write its data to disk"));
}

#[test]
fn a_server_that_does_not_answer_is_said_to_be_away() {
    let Some(server) = Redis::start() else { return };
    let uri = Uri::parse(&server.uri()).unwrap();
    server.stop();
    let error = open(&uri, &Options::default()).map(|_| ()).unwrap_err();
    server.go_on();
    assert_eq!(error.kind, Kind::Unreachable);
    let at = server.uri().replace("redis://", "");
    assert_eq!(
        error.text,
        format!(
            "Failed to connect to the Redis server:\n    Error 110 connecting to {at}. \
             Connection timed out."
        )
    );
}

#[test]
fn a_full_server_is_worked_off() {
    let Some(server) = Redis::start() else { return };
    let uri = Uri::parse(&server.uri()).unwrap();
    let mut before = owner(&uri);
    before.submit(&[task("foo", 1), task("foo", 2)]).unwrap();
    let held = before.claim(&queue("foo"), &Want::tasks(1)).unwrap().unwrap();
    for n in 3..=6 {
        server.command(&["rpush", "asynctask_foo", &format!("{{\"n\": {n}}}")]);
    }
    server.command(&["config", "set", "maxmemory", "1"]);
    let error = before.submit(&[task("foo", 7)]).unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.text.contains("OOM"), "{error}");
    assert!(error.hint.unwrap().contains("maxmemory"));
    // One that lived before, and one that comes now.
    assert_eq!(before.rescue().unwrap(), 0);
    let mut host = owner(&uri);
    assert_eq!(host.rescue().unwrap(), 0);
    assert_eq!(host.queues().unwrap()[0].waiting, 5);
    assert_eq!(host.peek(&queue("foo"), 9).unwrap().len(), 5);
    let mark = host.identity().unwrap();
    assert!(before.is(&mark).unwrap());
    for paused in [true, false] {
        host.pause(&queue("foo"), paused).unwrap();
        assert_eq!(before.paused().unwrap().len(), usize::from(paused));
    }
    let since = Timestamp(5);
    assert_eq!(host.last_occasion("nightly", since).unwrap(), since);
    assert_eq!(host.last_occasion("nightly", Timestamp(9)).unwrap(), since);
    assert_eq!(
        host.record_occasion("nightly", Timestamp(9), &[task("foo", 8)]).unwrap_err().kind,
        Kind::Refused
    );
    assert_eq!(host.last_occasion("nightly", Timestamp(9)).unwrap(), since, "it comes later");
    // Every outcome is recorded, also of what old producers put in.
    let mut done = all_done(&held);
    done[0].submits = vec![task("bar", 1)];
    assert_eq!(before.finish(&done).unwrap(), []);
    let claim = host.claim(&queue("foo"), &Want::tasks(4)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [2, 3, 4, 5]);
    let death = Death { reason: "why".to_owned(), details: json!({}) };
    let retry = Outcome::Retry { after: Duration::ZERO, history: json!([1]) };
    let outcomes = [Outcome::Done, Outcome::Dead(death), Outcome::Released, retry];
    let outcomes: Vec<_> = outcomes
        .into_iter()
        .enumerate()
        .map(|(at, outcome)| finished(&claim, at, outcome))
        .collect();
    assert_eq!(host.finish(&outcomes).unwrap(), []);
    let letters = host.dead_letters(&DeadQuery::default()).unwrap();
    assert_eq!(host.revive(&[letters[0].letter]).unwrap(), 1);
    let claim = host.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [3, 4, 5, 6]);
    // A host that dies now is no obstacle either.
    host.close().unwrap();
    let claim = before.claim(&queue("foo"), &Want::tasks(9)).unwrap().unwrap();
    assert_eq!(numbers(&claim), [3, 4, 5, 6]);
    assert_eq!(before.finish(&all_done(&claim)).unwrap(), []);
    server.command(&["config", "set", "maxmemory", "0"]);
    before.submit(&[task("foo", 9)]).unwrap();
}

/// Else one script would move a backlog for each of them, and the server answers nobody meanwhile.
#[test]
fn what_comes_due_in_a_long_queue_goes_to_its_end() {
    let Some(server) = Redis::start() else { return };
    let uri = Uri::parse(&server.uri()).unwrap();
    let mut host = owner(&uri);
    fill_around_a_delayed_task(&mut *host);
    host.claim(&queue("foo"), &Want::tasks(1)).unwrap();
    let tasks = host.peek(&queue("foo"), 2000).unwrap();
    assert_eq!(tasks.last().unwrap().payload.to_string(), r#"{"n": 1500}"#);
    let stats = server.command(&["info", "commandstats"]);
    assert!(stats.contains("cmdstat_rpush:") && !stats.contains("cmdstat_lpop:"), "{stats}");
}
