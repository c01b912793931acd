//! How fast tasks go through a transport, beside the bare database doing the same durable work in
//! the same run: `cargo run --release --example drain -- URI [TASKS] [BATCH] [CLIENTS]`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example prints and fails by panic"
)]

use std::time::{Duration, Instant};

use rex_transport::{
    Finished, NewTask, Options, Outcome, Owner, Payload, QueueName, Transport, Uri, Want, open,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, default| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let uri = Uri::parse(&arguments[0]).unwrap();
    let (tasks, batch, clients) = (number(1, 50_000), number(2, 500), number(3, 1));
    let queue = QueueName::parse("drain_bench").unwrap();

    let mut submitter = open(&uri, &Options::default()).unwrap();
    submitter.purge(&queue).unwrap();
    for round in 1..=3 {
        let submit = fill(&mut *submitter, &queue, tasks);
        let ours = each_client(clients, |client| {
            let owner = Some(Owner { id: format!("bench:{}:{client}", std::process::id()) });
            let mut host = open(&uri, &Options { owner, ..Options::default() }).unwrap();
            let started = Instant::now();
            while let Some(claim) = host.claim(&queue, &Want::tasks(batch)).unwrap() {
                let finished: Vec<Finished> = claim
                    .tasks
                    .iter()
                    .map(|task| Finished {
                        claim: claim.id,
                        task: task.id,
                        outcome: Outcome::Done,
                        submits: Vec::new(),
                    })
                    .collect();
                assert!(host.finish(&finished).unwrap().is_empty());
            }
            let taken = started.elapsed();
            host.close().unwrap();
            taken
        });
        let per_second = |time: Duration| tasks as f64 / time.as_secs_f64();
        print!(
            "round {round}: submit {:.0}/s, drain {:.0}/s",
            per_second(submit),
            per_second(ours)
        );
        if let Some(address) = arguments[0].strip_prefix("pgsql:") {
            let address = format!("postgres:{address}");
            type Probe = fn(&str, &QueueName, usize) -> Duration;
            let probes: [(&str, Probe); 2] = [("bare", bare), ("lease and delete", lease)];
            for (name, probe) in probes {
                fill(&mut *submitter, &queue, tasks);
                let time = each_client(clients, |_| probe(&address, &queue, batch));
                let ratio = time.as_secs_f64() / ours.as_secs_f64();
                print!(", {name} {:.0}/s (ours {ratio:.2} of it)", per_second(time));
            }
        }
        println!();
    }
}

fn fill(submitter: &mut dyn Transport, queue: &QueueName, tasks: usize) -> Duration {
    let payload =
        Payload::parse("{\"n\": 1, \"text\": \"a payload of some fifty bytes\"}", 999).unwrap();
    let one = NewTask::plain(queue.clone(), payload);
    let started = Instant::now();
    for _ in 0..tasks / 1000 {
        submitter.submit(&vec![one.clone(); 1000]).unwrap();
    }
    started.elapsed()
}

/// The longest of the clients' times.
fn each_client(clients: usize, work: impl Fn(usize) -> Duration + Sync) -> Duration {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let work = &work;
                scope.spawn(move || work(client))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
    })
}

/// The same durable work by bare SQL: rows into one row of arrays, commit, the row away, commit.
fn bare(address: &str, queue: &QueueName, batch: usize) -> Duration {
    let mut client = postgres::Client::connect(address, postgres::NoTls).unwrap();
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS rex_bench_claims
                (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ids bigint[], payloads json[])",
        )
        .unwrap();
    let claim = client
        .prepare(
            "WITH taken AS (
                DELETE FROM asynctask.asynctask_queue WHERE id = ANY (ARRAY(
                    SELECT id FROM asynctask.asynctask_queue WHERE queue_name = $1
                    ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))
                RETURNING id, payload)
             INSERT INTO rex_bench_claims (ids, payloads)
             SELECT array_agg(id), array_agg(payload) FROM taken HAVING count(*) > 0
             RETURNING id, ids, payloads::text[]",
        )
        .unwrap();
    let finish = client.prepare("DELETE FROM rex_bench_claims WHERE id = $1").unwrap();
    let started = Instant::now();
    while let Some(row) = client.query_opt(&claim, &[&queue.as_str(), &(batch as i64)]).unwrap() {
        let payloads: Vec<String> = row.get(2);
        assert!(!payloads.is_empty());
        client.execute(&finish, &[&row.get::<_, i64>(0)]).unwrap();
    }
    started.elapsed()
}

/// What every other job runner does at best: a lease on each row, then its deletion.
fn lease(address: &str, queue: &QueueName, batch: usize) -> Duration {
    let mut client = postgres::Client::connect(address, postgres::NoTls).unwrap();
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS rex_bench_jobs (
                id bigint PRIMARY KEY, queue_name text, payload json, leased timestamptz);
             CREATE INDEX IF NOT EXISTS rex_bench_jobs_order ON rex_bench_jobs (queue_name, id)
                 WHERE leased IS NULL",
        )
        .unwrap();
    let moved = "INSERT INTO rex_bench_jobs (id, queue_name, payload)
        SELECT id, queue_name, payload FROM asynctask.asynctask_queue WHERE queue_name = $1
        ON CONFLICT DO NOTHING";
    client.execute(moved, &[&queue.as_str()]).unwrap();
    let clear = "DELETE FROM asynctask.asynctask_queue WHERE queue_name = $1";
    client.execute(clear, &[&queue.as_str()]).unwrap();
    let claim = client
        .prepare(
            "UPDATE rex_bench_jobs SET leased = now() WHERE id = ANY (ARRAY(
                SELECT id FROM rex_bench_jobs WHERE queue_name = $1 AND leased IS NULL
                ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))
             RETURNING id, payload::text",
        )
        .unwrap();
    let finish = client.prepare("DELETE FROM rex_bench_jobs WHERE id = ANY ($1)").unwrap();
    let started = Instant::now();
    loop {
        let rows = client.query(&claim, &[&queue.as_str(), &(batch as i64)]).unwrap();
        if rows.is_empty() {
            return started.elapsed();
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        client.execute(&finish, &[&ids]).unwrap();
    }
}
