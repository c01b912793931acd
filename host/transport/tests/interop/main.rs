//! Old producers and consumers beside us: Python programs on other people's client libraries, each
//! transport in both directions, with payloads that are easy to spoil.

#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rex_test_support::pg::Database;
use rex_test_support::process::run;
use rex_test_support::redis::Redis;
use rex_test_support::{amqp, python};
use rex_transport::contract::{all_done, owner, queue, task, wait_for};
use rex_transport::{NewTask, Payload, Uri, Wake, Want};

struct Client {
    python: PathBuf,
    uri: String,
}

impl Client {
    fn run(&self, action: &[&str], input: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/client.py");
        let mut command = Command::new(&self.python);
        command.arg(script).arg(&self.uri).args(action);
        run(command, input).ok()
    }

    fn put(&self, texts: &[String]) {
        let lines: Vec<String> =
            texts.iter().map(|text| format!("{}\n", serde_json::json!(text))).collect();
        self.run(&["put", "foo"], &lines.concat());
    }

    fn get(&self, count: usize) -> Vec<String> {
        let lines = self.run(&["get", "foo", &count.to_string()], "");
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn count(&self) -> String {
        self.run(&["count", "foo"], "").trim_end().to_owned()
    }
}

/// Payloads as the original writes them.
fn texts() -> Vec<String> {
    let megabyte = format!("{{\"text\": \"{}\"}}", "x".repeat(1 << 20));
    let texts = [
        "{}",
        r#"{"a": {"z": 1, "a": 2}, "b": [1, 2.5, null, true, "it's \u00e9"]}"#,
        r#"{"quotes": "' \" \\ \n", "\u4f60": "\ud83d\ude00"}"#,
        &megabyte,
        r#"{"last": 1}"#,
    ];
    texts.map(str::to_owned).to_vec()
}

/// What Python writes and reads, and is no JSON; and as deep as it goes.
fn pythons_own() -> Vec<String> {
    let deep = format!("{}1{}", "{\"a\": ".repeat(900), "}".repeat(900));
    let texts = [r#"{"a": [NaN, Infinity, -Infinity], "b": "\ud800"}"#, &deep];
    texts.map(str::to_owned).to_vec()
}

/// A worker gets them as they are.
fn reads(uri: &str, texts: &[String]) {
    let Some(python) = python::with_clients() else { return };
    let client = Client { python, uri: uri.to_owned() };
    let mut host = owner(&Uri::parse(uri).unwrap());
    let name = queue("foo");
    client.put(texts);
    wait_for("their tasks", || host.poll(&name).unwrap() == texts.len() as u64);
    let claim = host.claim(&name, &Want::tasks(9)).unwrap().unwrap();
    assert!(claim.tasks.iter().map(|task| task.payload.as_str()).eq(texts));
    assert!(claim.tasks.iter().all(|task| task.payload.check().is_ok()));
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
}

fn both_directions(uri: &str) {
    let Some(python) = python::with_clients() else { return };
    let client = Client { python, uri: uri.to_owned() };
    let mut host = owner(&Uri::parse(uri).unwrap());
    let (name, texts) = (queue("foo"), texts());
    // Ours to theirs.
    let tasks: Vec<NewTask> = texts
        .iter()
        .map(|text| NewTask::plain(name.clone(), Payload::parse(text, 2 << 20).unwrap()))
        .collect();
    host.submit(&tasks).unwrap();
    assert_eq!(client.count(), "5");
    assert!(client.get(9) == texts, "what they read is what we wrote");
    assert_eq!(host.poll(&name).unwrap(), 0);
    // Theirs to ours, more than ten to make the original's index longer.
    let many: Vec<String> = texts.iter().cycle().take(15).cloned().collect();
    client.put(&many);
    wait_for("their tasks", || host.poll(&name).unwrap() == 15);
    let claim = host.claim(&name, &Want::tasks(99)).unwrap().unwrap();
    assert!(claim.tasks.iter().map(|task| task.payload.as_str()).eq(&many));
    assert_eq!(client.get(9), Vec::<String>::new(), "claimed tasks are out of their sight");
    // What we give back they get, and the other way round, in turns on one queue.
    host.close().unwrap();
    let mut host = owner(&Uri::parse(uri).unwrap());
    assert!(client.get(5) == many[..5]);
    let claim = host.claim(&name, &Want::tasks(3)).unwrap().unwrap();
    assert!(claim.tasks.iter().map(|task| task.payload.as_str()).eq(&many[5..8]));
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    host.submit(&tasks[..1]).unwrap();
    client.put(&texts[1..2]);
    let rest: Vec<String> = many[8..].iter().chain(&texts[..2]).cloned().collect();
    // No more than there is: the original itself fails on the index that its draining leaves.
    assert!(client.get(rest.len()) == rest);
    client.put(&texts[..2]);
    wait_for("their tasks", || host.poll(&name).unwrap() == 2);
    let claim = host.claim(&name, &Want::tasks(99)).unwrap().unwrap();
    assert!(claim.tasks.iter().map(|task| task.payload.as_str()).eq(&texts[..2]));
    assert_eq!(host.finish(&all_done(&claim)).unwrap(), []);
    assert!(host.is_idle(&name).unwrap());
}

#[test]
fn pgsql() {
    let database = Database::new();
    both_directions(&database.uri());
    // PostgreSQL takes JSON only.
    reads(&database.uri(), &pythons_own()[1..]);
}

#[test]
fn redis() {
    let Some(server) = Redis::start() else { return };
    both_directions(&server.uri());
    reads(&server.uri(), &pythons_own());
}

#[test]
fn amqp() {
    let Some(uri) = amqp::fresh(70) else { return };
    both_directions(&uri);
    reads(&uri, &pythons_own());
}

/// An idle host hears of what an old producer submits, in queues that were there before it and in new
/// ones.
#[test]
fn an_old_producer_wakes_a_host_on_amqp() {
    let (Some(uri), Some(python)) = (amqp::fresh(70), python::with_clients()) else { return };
    let client = Client { python, uri: uri.clone() };
    let mut host = owner(&Uri::parse(&uri).unwrap());
    assert_eq!(host.poll(&queue("foo")).unwrap(), 0);
    let (wake, woken) = crossbeam_channel::unbounded();
    let _watch = host.watch(wake).unwrap();
    assert_eq!(host.poll(&queue("bar")).unwrap(), 0);
    for name in ["foo", "bar", "foo"] {
        // The word that the queue is there.
        let quiet = Duration::from_millis(300);
        while woken.recv_timeout(quiet).is_ok() {}
        client.run(&["put", name], "\"{}\"\n");
        assert_eq!(woken.recv_timeout(Duration::from_secs(20)).unwrap(), Wake::Queue(queue(name)));
    }
}

/// It takes all within seconds.
#[test]
fn a_look_beside_an_old_consumer_leaves_time_to_take_some() {
    const TASKS: u64 = 3000;
    let (Some(uri), Some(python)) = (amqp::fresh(70), python::with_clients()) else { return };
    let client = Client { python, uri: uri.clone() };
    let mut host = owner(&Uri::parse(&uri).unwrap());
    let name = queue("foo");
    let tasks: Vec<NewTask> = (0..TASKS).map(|n| task("foo", n)).collect();
    host.submit(&tasks).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| client.run(&["nibble", "foo"], ""));
        wait_for("the old consumer", || host.poll(&name).unwrap() < TASKS);
        assert_eq!(host.peek(&name, 300).unwrap().len(), 300);
        let queues = host.queues().unwrap();
        assert_eq!(queues.iter().map(|one| &one.queue).collect::<Vec<_>>(), [&name]);
        let claim = host.claim(&name, &Want::tasks(9)).unwrap();
        assert_eq!(claim.expect("some are left").tasks.len(), 9);
        host.purge(&name).unwrap();
    });
}

#[test]
fn filesys() {
    let store = tempfile::tempdir().unwrap();
    let uri = format!("filesys:{}", store.path().display());
    both_directions(&uri);
    reads(&uri, &pythons_own());
}
