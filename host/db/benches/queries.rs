//! What the engine costs, each figure beside its limit measured in the same run.
//!
//! `cargo bench -p rex-db`: compilation of the corpus, queries over the bare driver, inserts
//! through a gateway over bare COPY. `BENCH_ROWS=100000,1000000` sets the inserts.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::SinkExt as _;
use rex_db::{Address, Config, Gateway, Item, More, Session, Sink};
use rex_htsql::plan::Format;
use rex_htsql::profile::Profile;
use rex_htsql::{Env, Naming, NoGateways, Params};
use rex_test_support::server::{Server, load_sql};
use rex_test_support::shared::shared_file;
use serde_json::Value as Json;
use tokio_postgres::{Client, NoTls};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The server as it runs by default, syncing included.
const SETTINGS: &[&str] =
    &["fsync=on", "full_page_writes=on", "shared_buffers=256MB", "max_wal_size=4GB"];

/// A table as a deployment makes it: a serial `id`, the identity as the primary key.
fn deployed(name: &str) -> String {
    format!(
        "CREATE SEQUENCE {name}_seq;
        CREATE TABLE {name} (
            id int4 NOT NULL DEFAULT nextval('{name}_seq'), firstname text NOT NULL);
        ALTER TABLE {name} ADD CONSTRAINT {name}_uk UNIQUE (id);
        ALTER TABLE {name} ADD CONSTRAINT {name}_pk PRIMARY KEY (firstname);"
    )
}

fn main() -> Outcome<()> {
    let Some(server) = Server::start_with(SETTINGS) else { return Ok(()) };
    if let Some(dump) = shared_file("htsql-corpus/demo.sql") {
        let uri = server.create_database("demo")?;
        load_sql(&uri, &dump)?;
        compile_corpus(&uri)?;
        for query in [
            "/school",
            "/department{code, name, count(course), school.name}",
            "/school{code, /department{code, name, /course{no, title}}}",
            "/enrollment",
        ] {
            run_query(&uri, query)?;
        }
    }
    let rows = std::env::var("BENCH_ROWS").unwrap_or_else(|_| "100000,1000000".to_string());
    for n_rows in rows.split(',') {
        let n_rows = n_rows.trim().parse().map_err(|_| format!("BENCH_ROWS: `{n_rows}`"))?;
        insert(&server, n_rows)?;
    }
    Ok(())
}

fn session(uri: &str, naming: Naming, gateways: Vec<Gateway>) -> Outcome<Session> {
    let address = Address::parse(uri)?;
    Ok(Session::new(Config { address, naming, gateways, statement_timeout: None })?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn compile_corpus(uri: &str) -> Outcome<()> {
    let Some(cases) = shared_file("htsql-corpus/cases.jsonl") else { return Ok(()) };
    let catalog = session(uri, Naming::Stock, Vec::new())?.catalog()?;
    let text = std::fs::read_to_string(cases)?;
    let cases = text.lines().map(serde_json::from_str).collect::<Result<Vec<Json>, _>>()?;
    let queries: Vec<&str> = cases
        .iter()
        .filter(|case| case["db"] == "demo" && case.get("ok").is_some())
        .filter_map(|case| case["query"].as_str())
        .collect();
    let params = Params::new();
    let env = Env { gateways: &NoGateways };
    let times: Vec<Duration> = queries
        .iter()
        .map(|query| {
            median(
                (0..21)
                    .map(|_| {
                        let start = Instant::now();
                        let plan = rex_htsql::compile(query, &catalog, &env, &params);
                        let took = start.elapsed();
                        drop(plan);
                        took
                    })
                    .collect(),
            )
        })
        .collect();
    let worst = times.iter().max().ok_or("the corpus has no queries")?;
    let micros = |time: &Duration| time.as_secs_f64() * 1e6;
    println!(
        "compile, {} queries: p50 {:.1} us, worst {:.1} us (aim: p50 under 50)",
        queries.len(),
        micros(&median(times.clone())),
        micros(worst)
    );
    Ok(())
}

/// A query through the engine, and its first statement over the bare driver.
fn run_query(uri: &str, query: &str) -> Outcome<()> {
    let mut session = session(uri, Naming::Stock, Vec::new())?;
    let params = Params::new();
    session.produce(query, &params)?;
    let sql = session.explain(query, rex_htsql::Lens::Sql, &params)?;
    let statements: Vec<String> = sql
        .split("\n\n")
        .map(|part| part.lines().next().unwrap_or_default().to_string())
        .filter(|part| part.starts_with("SELECT"))
        .collect();
    let (runtime, client) = connect(uri)?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..101 {
        let start = Instant::now();
        session.produce(query, &params)?;
        ours.push(start.elapsed());
        let start = Instant::now();
        runtime.block_on(async {
            for sql in &statements {
                client.query(sql.as_str(), &[]).await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        })?;
        bare.push(start.elapsed());
    }
    let (ours, bare) = (median(ours).as_secs_f64(), median(bare).as_secs_f64());
    println!(
        "query {query}: {:.0} us, bare driver {:.0} us, ratio {:.2} (aim: within 1.2)",
        ours * 1e6,
        bare * 1e6,
        ours / bare
    );
    Ok(())
}

fn insert(server: &Server, n_rows: u64) -> Outcome<()> {
    let app = server.create_database("app")?;
    let people = deployed("people");
    server.sql("app", &people)?;
    let fill = format!(
        "INSERT INTO people (firstname) SELECT 'Name' || i FROM generate_series(1, {n_rows}) i; \
         ANALYZE people"
    );
    server.sql("app", &fill)?;
    let mart = server.create_database("mart")?;
    let made = deployed("foo");
    server.sql("mart", &made)?;

    let address = Address::parse(&app)?;
    let gateway = Gateway { name: "rexdb".into(), address, naming: Naming::Rex };
    let mut session = session(&mart, Naming::Rex, vec![gateway])?;
    let query = "/people{firstname} :as foo /:rexdb /:insert";
    session.catalog()?;
    let (mut ours, mut copied) = (Vec::new(), Vec::new());
    let mut memory = 0;
    for _ in 0..3 {
        server.sql("mart", "TRUNCATE foo; CHECKPOINT")?;
        let before = reset_peak();
        let start = Instant::now();
        let mut count = Count(0);
        session.stream(query, &Params::new(), &mut count)?;
        ours.push(start.elapsed());
        memory = peak().saturating_sub(before).max(memory);
        assert_eq!(count.0, n_rows);
        server.sql("mart", "TRUNCATE foo; CHECKPOINT")?;
        copied.push(bare_copy(&mart, n_rows)?);
    }
    let rate = |times: Vec<Duration>| n_rows as f64 / median(times).as_secs_f64();
    let (ours, copied) = (rate(ours), rate(copied));
    println!(
        "insert of {n_rows} rows through a gateway: {ours:.0} rows/s, bare COPY {copied:.0} \
         rows/s, ratio {:.2} (aim: 0.5); peak memory +{:.1} MB",
        ours / copied,
        memory as f64 / 1024.0
    );
    Ok(())
}

fn bare_copy(uri: &str, n_rows: u64) -> Outcome<Duration> {
    let text: String = (1..=n_rows).map(|i| format!("Name{i}\n")).collect();
    let text = Bytes::from(text);
    let (runtime, client) = connect(uri)?;
    let start = Instant::now();
    runtime.block_on(async {
        let sink = client.copy_in::<_, Bytes>("COPY foo (firstname) FROM STDIN").await?;
        let mut sink = Box::pin(sink);
        for at in (0..text.len()).step_by(1 << 16) {
            sink.send(text.slice(at..text.len().min(at + (1 << 16)))).await?;
        }
        sink.as_mut().finish().await
    })?;
    Ok(start.elapsed())
}

fn connect(uri: &str) -> Outcome<(tokio::runtime::Runtime, Client)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The driver knows the same form under another name.
    let uri = uri.replacen("pgsql:", "postgresql:", 1);
    let (client, connection) = runtime.block_on(tokio_postgres::connect(&uri, NoTls))?;
    runtime.spawn(connection);
    Ok((runtime, client))
}

/// Counts the items of an answer.
struct Count(u64);

impl Sink for Count {
    fn begin(&mut self, _profile: &Profile, _is_list: bool) -> std::io::Result<()> {
        Ok(())
    }

    fn item(&mut self, _item: Item, _more: &mut More<'_>) -> std::io::Result<()> {
        self.0 += 1;
        Ok(())
    }

    fn format(&mut self, _format: Format) {}
}

/// Starts the peak of memory anew; what is held now, in kB.
fn reset_peak() -> u64 {
    // Where the kernel does not allow it the peak counts from the start of the process.
    let _allowed = std::fs::write("/proc/self/clear_refs", "5");
    status("VmRSS:")
}

fn peak() -> u64 {
    status("VmHWM:")
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(0)
}
