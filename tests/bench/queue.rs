//! What tasks cost on PostgreSQL with its default durability, through a real plugin process, beside
//! what the bare database does: the same durable work in batches, the loop that leases and deletes row
//! by row, `COPY`, `NOTIFY`. `REX_BENCH_TASKS` and `REX_BENCH_WAITING` set the sizes,
//! `REX_BENCH_IDLE` for how many seconds at least it is worked beside an idle transaction.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, Statement};
use rex_test_support::env::Env;
use rex_test_support::process::{Running, descendants, wait_for};
use rex_test_support::server::Server;
use serde_json::{Value, json};

use super::{environment, percentile, row, stamps};

/// What a host claims at once, for each process, when tasks are quick.
const BATCH: i64 = 2048;
/// What leasing loops take, each of two connections.
const LEASE: i64 = 500;
const LATENCIES: usize = 200;

fn size(name: &str, default: i64) -> i64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A server, a database and an environment whose programs use it.
struct Ground {
    env: Env,
    server: Server,
}

impl Ground {
    fn new(library: &Path) -> Option<Ground> {
        let durable = ["fsync=on", "full_page_writes=on", "synchronous_commit=on"];
        let server = Server::start_with(&durable)?;
        let uri = server.create_database("bench").expect("the server answers");
        let env = environment(library);
        env.set("REX_PARAMETERS", json!({"asynctask_transport": uri}).to_string());
        env.rex_host(&["migrate"]).ok();
        Some(Ground { env, server })
    }

    fn client(&self) -> Client {
        self.server.client("bench")
    }

    /// Rows as an application puts them in.
    fn fill(&self, queue: &str, count: i64) {
        let fill = "INSERT INTO asynctask.asynctask_queue (queue_name, payload)
            SELECT $1, '{\"how\": \"ok\"}' FROM generate_series(1, $2::bigint)";
        let mut client = self.client();
        client.execute(fill, &[&queue, &count]).expect("the server answers");
        settle(&mut client);
    }

    fn host(&self, processes: u32, more: &[&str]) -> Running {
        let workers =
            json!({"crash": {"worker": "crash_worker", "processes": processes}}).to_string();
        let workers = format!("asynctask_workers={workers}");
        let plugins = self.env.path("plugins").display().to_string();
        let args = ["run", "rex.asynctask", "--plugins", &plugins, "--set", &workers, "--quiet"];
        self.env.start(&[&args, more].concat())
    }

    /// Works until the queue is empty.
    fn drain(&self, processes: u32) -> Duration {
        let begun = Instant::now();
        self.host(processes, &["--halt-when-empty"]).wait_ok();
        begun.elapsed()
    }

    /// CPU time that the server has taken.
    fn server_cpu(&self) -> Duration {
        let file = self.server.data().join("postmaster.pid");
        let pid = std::fs::read_to_string(file).expect("it runs");
        let pid = pid.lines().next().and_then(|pid| pid.parse().ok()).expect("a pid");
        // What has ended is counted with its parent.
        let living: Duration = descendants(pid).iter().map(|child| cpu(child.pid, 2)).sum();
        cpu(pid, 4) + living
    }
}

/// CPU time of a process, from the first fields of its times: own user and system, those of its
/// children that have ended.
fn cpu(pid: i32, fields: usize) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let times = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let ticks: u64 = times.take(fields).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // The kernel's unit, on every machine that Linux runs on.
    Duration::from_millis(ticks * 10)
}

/// The time for one of `count`.
fn each(time: Duration, count: i64) -> Duration {
    time.div_f64(count as f64)
}

fn micros(figure: &str, measured: Duration, limit: Duration) {
    let us = |time: Duration| format!("{:.2} us", time.as_secs_f64() * 1e6);
    let ratio = measured.as_secs_f64() / limit.as_secs_f64();
    println!("{figure:<44} {:>12} {:>12} {ratio:>7.2}", us(measured), us(limit));
}

pub(crate) fn queue(library: &Path) {
    let Some(ground) = Ground::new(library) else { return };
    let tasks = size("REX_BENCH_TASKS", 200_000);
    let waiting = size("REX_BENCH_WAITING", 1_000_000);
    println!("a task of {tasks}, on PostgreSQL:");
    drains(&ground, tasks);
    submits(&ground, tasks);
    latency(&ground);
    backlogs(&ground, tasks, waiting);
}

fn drains(ground: &Ground, tasks: i64) {
    let bare = |batch: i64| {
        let mut client = ground.client();
        fill_bare(&mut client, tasks);
        let begun = Instant::now();
        let mut bare = Bare::new(client);
        while bare.move_and_delete(batch) > 0 {}
        each(begun.elapsed(), tasks)
    };
    let lease = {
        fill_bare(&mut ground.client(), tasks);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for mut client in [ground.client(), ground.client()] {
                scope.spawn(move || while lease_and_delete(&mut client) > 0 {});
            }
        });
        each(begun.elapsed(), tasks)
    };
    for processes in [1, 2] {
        let bare = bare(BATCH * i64::from(processes));
        ground.fill("crash", tasks);
        let (ours, server) = (children_cpu(), ground.server_cpu());
        let time = each(ground.drain(processes), tasks);
        let ours = each(children_cpu().saturating_sub(ours), tasks);
        let server = each(ground.server_cpu().saturating_sub(server), tasks);
        micros(&format!("run by {processes} processes, beside bare SQL"), time, bare);
        micros(&format!("run by {processes} processes, beside leasing"), time, lease);
        micros("  CPU of host and workers, beside 29 us", ours, Duration::from_micros(29));
        micros("  CPU of the server, beside 22 us", server, Duration::from_micros(22));
    }
}

/// CPU time of the programs that have ended, with theirs.
fn children_cpu() -> Duration {
    let own = i32::try_from(std::process::id()).expect("a pid fits");
    cpu(own, 4).saturating_sub(cpu(own, 2))
}

/// What was put in is no longer new to the server.
fn settle(client: &mut Client) {
    for what in ["VACUUM ANALYZE", "CHECKPOINT"] {
        client.batch_execute(what).expect("the server answers");
    }
}

fn fill_bare(client: &mut Client, count: i64) {
    let fill = format!(
        "DROP TABLE IF EXISTS bare, bare_claims;
         CREATE TABLE bare (id bigserial PRIMARY KEY, queue_name text NOT NULL, payload json NOT NULL,
            date_submitted timestamp NOT NULL DEFAULT now(), leased timestamptz);
         CREATE INDEX ON bare (queue_name, id);
         CREATE TABLE bare_claims (id bigserial PRIMARY KEY, ids bigint[], payloads json[],
            dates timestamp[]);
         ALTER TABLE bare_claims ALTER ids SET COMPRESSION lz4,
            ALTER payloads SET COMPRESSION lz4, ALTER dates SET COMPRESSION lz4;
         INSERT INTO bare (queue_name, payload)
         SELECT 'crash', '{{\"how\": \"ok\"}}' FROM generate_series(1, {count})"
    );
    client.batch_execute(&fill).expect("the server answers");
    settle(client);
}

/// What a host's claim and its end are at least, by the quickest statements known: a batch moved out
/// and committed, and the batch deleted and committed. The payloads come over the wire.
struct Bare {
    client: Client,
    take: Statement,
    end: Statement,
}

impl Bare {
    fn new(mut client: Client) -> Bare {
        // As a host's session is: planned once, for any number of rows.
        let settings = "SET enable_seqscan = off; SET enable_bitmapscan = off;
            SET plan_cache_mode = force_generic_plan; SET jit = off";
        client.batch_execute(settings).expect("the server answers");
        let take = "WITH taken AS (
                DELETE FROM bare WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM bare WHERE queue_name = 'crash' ORDER BY id LIMIT $1))
                RETURNING id, payload, date_submitted)
            INSERT INTO bare_claims (ids, payloads, dates)
            SELECT array_agg(id), array_agg(payload), array_agg(date_submitted) FROM taken
            HAVING count(*) > 0
            RETURNING id, ids, payloads";
        let take = client.prepare(take).expect("the server answers");
        let end = "DELETE FROM bare_claims WHERE id = $1";
        let end = client.prepare(end).expect("the server answers");
        Bare { client, take, end }
    }

    fn move_and_delete(&mut self, batch: i64) -> usize {
        let rows = self.client.query(&self.take, &[&batch]).expect("the server answers");
        let Some(row) = rows.first() else { return 0 };
        let claim: i64 = row.get(0);
        self.client.execute(&self.end, &[&claim]).expect("the server answers");
        row.get::<_, Vec<i64>>(1).len()
    }
}

/// The loop of most job runners: rows are marked, then deleted.
fn lease_and_delete(client: &mut Client) -> usize {
    let take = "UPDATE bare SET leased = now() WHERE id IN (
            SELECT id FROM bare WHERE queue_name = 'crash' AND leased IS NULL
            ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
        RETURNING id, payload::text";
    let rows = client.query(take, &[&LEASE]).expect("the server answers");
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    client.execute("DELETE FROM bare WHERE id = ANY ($1)", &[&ids]).expect("the server answers");
    ids.len()
}

fn submits(ground: &Ground, tasks: i64) {
    let count = usize::try_from(tasks).expect("it fits");
    let begun = Instant::now();
    let lines = "{\"how\": \"ok\"}\n".repeat(count);
    ground.env.rex_host_with(&["submit", "crash", "-"], &lines).ok();
    let measured = each(begun.elapsed(), tasks);
    let mut client = ground.client();
    fill_bare(&mut client, 0);
    let begun = Instant::now();
    let copy = "COPY bare (queue_name, payload) FROM STDIN";
    let mut writer = client.copy_in(copy).expect("the server answers");
    let lines = "crash\t{\"how\": \"ok\"}\n".repeat(count);
    std::io::Write::write_all(&mut writer, lines.as_bytes()).expect("the server listens");
    writer.finish().expect("the server answers");
    micros("submit of many, beside COPY", measured, each(begun.elapsed(), tasks));
    let purge = ["queue", "purge", "crash", "--yes"];
    ground.env.rex_host(&purge).ok();
    // One at a time, as an application does, beside its own table.
    let one = |client: &mut Client, sql: &str| {
        let statement = client.prepare(sql).expect("the server answers");
        let begun = Instant::now();
        for _ in 0..LATENCIES {
            client.query(&statement, &[]).expect("the server answers");
        }
        begun.elapsed().div_f64(LATENCIES as f64)
    };
    let ours = one(&mut client, "SELECT asynctask.rex_submit('crash', '{\"how\": \"ok\"}')");
    let insert = "INSERT INTO bare (queue_name, payload) VALUES ('crash', '{\"how\": \"ok\"}')";
    micros("rex_submit of one, beside INSERT", ours, one(&mut client, insert));
    ground.env.rex_host(&purge).ok();
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set")
}

/// From before a row is put in until its task starts, on an idle queue; in turns with what another
/// connection takes that was notified, so that both meet the same machine.
fn latency(ground: &Ground) {
    let host = ground.host(1, &[]);
    let task = json!({"how": "stamp", "stamps": ground.env.path("stamps")}).to_string();
    let insert = "INSERT INTO asynctask.asynctask_queue (queue_name, payload)
        VALUES ('crash', $1::text::json)";
    let mut client = ground.client();
    fill_bare(&mut client, 0);
    let (mut measured, mut limit) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let (send, taken) = std::sync::mpsc::channel();
        let mut listener = ground.client();
        listener.batch_execute("LISTEN bare").expect("the server answers");
        // The first ones find a host that is not ready yet.
        let rounds = LATENCIES + 10;
        scope.spawn(move || {
            let mut listener = Bare::new(listener);
            for _ in 0..rounds {
                let word = listener.client.notifications().blocking_iter().next();
                word.expect("the server answers").expect("it goes on");
                while listener.move_and_delete(BATCH) == 0 {}
                send.send(since_epoch()).expect("somebody waits");
            }
        });
        for count in 1..=rounds {
            let begun = since_epoch();
            client.execute(insert, &[&task]).expect("the server answers");
            wait_for("the task", || stamps(&ground.env).len() == count);
            measured.push(stamps(&ground.env)[count - 1].1.saturating_sub(begun));
            let begun = since_epoch();
            client
                .batch_execute(
                    "BEGIN; INSERT INTO bare (queue_name, payload) VALUES ('crash', '{}');
                     NOTIFY bare; COMMIT",
                )
                .expect("the server answers");
            limit.push(taken.recv().expect("it is sent").saturating_sub(begun));
        }
    });
    host.signal(libc::SIGTERM);
    host.wait_ok();
    let (mut measured, mut limit) = (measured.split_off(10), limit.split_off(10));
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        let figure = format!("submit to start, {name}, beside NOTIFY");
        row(&figure, percentile(&mut measured, part), percentile(&mut limit, part));
    }
}

/// Tasks with attributes: alone, beside a session that has written and keeps an old snapshot, and
/// before tasks that are not due for long. One host does it all: what it knows of a queue counts.
pub(crate) fn attributes(library: &Path) {
    let Some(ground) = &Ground::new(library) else { return };
    let tasks = size("REX_BENCH_TASKS", 50_000);
    println!("a task of {tasks} with attributes, on PostgreSQL:");
    let host = ground.host(2, &[]);
    wait_for("the host", || ground.env.rex_host(&["status"]).status.success());
    let mut client = ground.client();
    let mut round = |due: &str| {
        let fill = format!(
            "INSERT INTO asynctask.rex_tasks (id, queue_name, payload, priority, due)
            SELECT nextval(pg_get_serial_sequence('asynctask.asynctask_queue', 'id')), 'crash',
                '{{\"how\": \"ok\"}}', number % 3, {due}
            FROM generate_series(1, $1::bigint) AS number"
        );
        round(ground, tasks, || {
            client.execute(&fill, &[&tasks]).expect("the server answers");
            settle(&mut client);
        })
    };
    let (ready, delayed) = ("NULL", "now()");
    let alone = round(ready);
    micros("of three priorities, beside themselves", alone, alone);
    let alone_delayed = round(delayed);
    micros("and delayed, beside not delayed", alone_delayed, alone);
    let mut idle = ground.client();
    idle.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()")
        .expect("the server answers");
    let rounds = |round: &mut dyn FnMut() -> Duration| (0..5).map(|_| round()).last();
    let last = rounds(&mut || round(ready)).expect("some");
    micros("beside an old snapshot, the fifth time", last, alone);
    let last = rounds(&mut || round(delayed)).expect("some");
    micros("and delayed, the fifth time", last, alone_delayed);
    drop(idle);
    let later = "INSERT INTO asynctask.rex_tasks (id, queue_name, payload, due)
        SELECT nextval(pg_get_serial_sequence('asynctask.asynctask_queue', 'id')), 'crash', '{}',
            now() + interval '1 day'
        FROM generate_series(1, 300000)";
    ground.client().execute(later, &[]).expect("the server answers");
    micros("before 300000 for tomorrow, beside 0", round(ready), alone);
    host.signal(libc::SIGTERM);
    host.wait_ok();
}

/// One host, and round after round put in for it: what it has deleted stays where it was, since an old
/// snapshot sees it.
fn beside_an_idle_transaction(ground: &Ground, tasks: i64) {
    let host = ground.host(2, &[]);
    wait_for("the host", || ground.env.rex_host(&["status"]).status.success());
    let round = || round(ground, tasks, || ground.fill("crash", tasks));
    let alone = round();
    let mut idle = ground.client();
    idle.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()")
        .expect("the server answers");
    let (begun, least) = (Instant::now(), size("REX_BENCH_IDLE", 0));
    let (mut rounds, mut last) = (0, Duration::ZERO);
    while rounds < 5 || begun.elapsed() < Duration::from_secs(least.unsigned_abs()) {
        last = round();
        rounds += 1;
    }
    let figure = format!("beside an old snapshot, time {rounds}, beside none");
    micros(&figure, last, alone);
    drop(idle);
    host.signal(libc::SIGTERM);
    host.wait_ok();
}

/// The time that the running host takes for each of as many tasks as are put in.
fn round(ground: &Ground, tasks: i64, fill: impl FnOnce()) -> Duration {
    ground.env.rex_host(&["queue", "pause", "crash"]).ok();
    fill();
    let from = done(ground);
    let begun = Instant::now();
    ground.env.rex_host(&["queue", "resume", "crash"]).ok();
    wait_for("the tasks", || done(ground) - from == tasks);
    each(begun.elapsed(), tasks)
}

/// Tasks that the running host has done.
fn done(ground: &Ground) -> i64 {
    let status: Value = ground.env.rex_host(&["status", "--json"]).json_lines().remove(0);
    status["done"].as_i64().unwrap_or_default()
}

/// The same work beside an empty queue, behind other rows, and beside a session that keeps an old
/// snapshot.
fn backlogs(ground: &Ground, tasks: i64, waiting: i64) {
    ground.fill("crash", tasks);
    let alone = each(ground.drain(2), tasks);
    ground.fill("other", waiting.min(1_000_000));
    ground.fill("crash", tasks);
    micros("behind a million of another queue, beside 0", each(ground.drain(2), tasks), alone);
    beside_an_idle_transaction(ground, tasks);
    ground.fill("crash", waiting);
    let host = ground.host(2, &[]);
    let done = || done(ground);
    wait_for("the host", || ground.env.rex_host(&["status"]).status.success());
    wait_for("the first tasks", || done() > 0);
    let (from, begun) = (done(), Instant::now());
    wait_for("more tasks", || done() - from >= tasks);
    let time = each(begun.elapsed(), done() - from);
    host.signal(libc::SIGTERM);
    host.wait_ok();
    micros(&format!("with {waiting} waiting, beside {tasks}"), time, alone);
}
