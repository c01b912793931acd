//! What marts cost, each figure beside its limit measured in the same run.
//!
//! `cargo bench -p rex-mart`: an empty mart over bare CREATE DATABASE; assessments of 50 fields over
//! COPY of the same rows, with the peak of memory. `BENCH_ASSESSMENTS=100000` says how many.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::error::Error;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use postgres::Client;
use rex_db::{Address, Config, Session};
use rex_deploy::{Deployer, Facts};
use rex_htsql::Naming;
use rex_mart::{Creation, Definitions, Entry, Mart, Settings};
use rex_test_support::env::repository;
use rex_test_support::process::Process;
use rex_test_support::server::Server;
use rex_yaml::validate::Input;
use serde_json::{Map, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The server as it runs by default, syncing included.
const SETTINGS: &[&str] =
    &["fsync=on", "full_page_writes=on", "shared_buffers=256MB", "max_wal_size=4GB"];

const FIELDS: usize = 50;
const EMPTY: usize = 10;

const DEFINITIONS: &str = "
definitions:
- id: empty
  quota: { per_owner: 100 }
- id: large
  assessments:
  - instrument: bench
    selector: /assessment{uid :as assessment_uid}/:rexdb
";

fn main() -> Outcome<()> {
    let Some(server) = Server::start_with(SETTINGS) else { return Ok(()) };
    let uri = server.create_database("mart_demo")?;
    let mut values = Map::new();
    values.insert("mart_name_prefix".to_owned(), json!("mart_"));
    values.insert("mart_max_marts_per_owner".to_owned(), json!(1000));
    let settings = Settings::of(&values, Some(&uri))?;
    deploy(&settings.database)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bench.mart.yaml");
    std::fs::write(&file, DEFINITIONS)?;
    let definitions = Definitions::load(&[file], &settings)?;
    let make = |definition: &str| -> Outcome<Mart> {
        let entry = json!({"owner": "bench", "definition": definition});
        let entry = Entry::read(Input::Value(&entry))?;
        Ok(Creation::new(&settings, &definitions, &entry)?.run(&mut |_, _| {}, &|| false)?)
    };
    empty(&server, &make)?;
    let count = std::env::var("BENCH_ASSESSMENTS").unwrap_or_else(|_| "100000".to_owned());
    large(&server, count.parse()?, &make)
}

fn deploy(address: &Address) -> Outcome<()> {
    let mut session = Session::new(Config {
        address: address.clone(),
        naming: Naming::Rex,
        gateways: Vec::new(),
        statement_timeout: None,
    })?;
    session.begin();
    for name in ["rex.job", "rex.mart", "rex.mart_demo"] {
        let file = repository().join("settings").join(format!("{name}.deploy.yaml"));
        Deployer::new(&mut session).deploy(&Facts::file(&file)?)?;
    }
    Ok(session.end(true)?)
}

/// An empty mart over a bare database, in turns.
fn empty(server: &Server, make: &dyn Fn(&str) -> Outcome<Mart>) -> Outcome<()> {
    let mut bare = server.client("postgres");
    let (mut databases, mut marts) = (Duration::ZERO, Duration::ZERO);
    for n in 0..EMPTY {
        let begun = Instant::now();
        bare.batch_execute(&format!("CREATE DATABASE bare_{n} ENCODING 'UTF-8'"))?;
        databases += begun.elapsed();
        let begun = Instant::now();
        make("empty")?;
        marts += begun.elapsed();
    }
    println!(
        "marts: empty: {:.1} ms; CREATE DATABASE alone: {:.1} ms; {:.2} times",
        millis(marts) / 10.0,
        millis(databases) / 10.0,
        marts.as_secs_f64() / databases.as_secs_f64()
    );
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Many assessments over COPY of the rows that they become.
fn large(server: &Server, count: u32, make: &dyn Fn(&str) -> Outcome<Mart>) -> Outcome<()> {
    fill(&mut server.client("mart_demo"), count)?;
    let begun = Instant::now();
    let mart = make("large")?;
    let made = begun.elapsed();
    let peak = Process::find(std::process::id().cast_signed())
        .and_then(|process| process.memory("VmHWM"))
        .unwrap_or(0);

    let mut client = server.client(&mart.name);
    let mut rows = Vec::new();
    client.copy_out("COPY bench TO STDOUT")?.read_to_end(&mut rows)?;
    let clean = "CREATE TABLE bare (LIKE bench INCLUDING ALL)";
    client.batch_execute(clean)?;
    let begun = Instant::now();
    let mut writer = client.copy_in("COPY bare FROM STDIN")?;
    writer.write_all(&rows)?;
    let copied = writer.finish()?;
    let bare = begun.elapsed();
    if copied != u64::from(count) {
        return Err(format!("{copied} of {count} assessments were loaded").into());
    }
    println!(
        "marts: {count} assessments of {FIELDS} fields: {:.1} s; COPY of the rows: {:.1} s; {:.1} \
         times; peak memory {} MB",
        made.as_secs_f64(),
        bare.as_secs_f64(),
        made.as_secs_f64() / bare.as_secs_f64(),
        peak >> 20
    );
    Ok(())
}

/// An instrument with fields of three types, and answers to it.
fn fill(client: &mut Client, count: u32) -> Outcome<()> {
    let ty = |n: usize| ["text", "integer", "float"][n % 3];
    let record: Vec<_> =
        (0..FIELDS).map(|n| json!({"id": format!("f{n}"), "type": ty(n)})).collect();
    let definition = json!({"id": "urn:bench", "version": "1.0", "title": "B", "record": record});
    let values: Vec<String> = (0..FIELDS)
        .map(|n| {
            let value = ["to_json('text ' || n)", "to_json(n)", "to_json(n / 7.0)"][n % 3];
            format!("'f{n}', json_build_object('value', {value})")
        })
        .collect();
    client.execute(
        "INSERT INTO instrument (uid, code, title) VALUES ('bench', 'bench', 'Bench')",
        &[],
    )?;
    client.execute(
        "INSERT INTO instrumentversion
             (uid, instrument_id, version, published_by, date_published, definition)
         SELECT 'bench1', id, 1, 'bench', now(), $1 FROM instrument WHERE uid = 'bench'",
        &[&definition.to_string()],
    )?;
    client.batch_execute(&format!(
        "DELETE FROM assessment;
         INSERT INTO assessment (uid, subject_id, instrumentversion_id, data, status)
         SELECT 'a' || lpad(n::text, 8, '0'), (SELECT min(id) FROM subject), v.id,
             json_build_object('values', json_build_object({}))::text, 'completed'
         FROM generate_series(1, {count}) AS n, instrumentversion AS v WHERE v.uid = 'bench1';
         ANALYZE;",
        values.join(", ")
    ))?;
    Ok(())
}
