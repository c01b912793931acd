//! Nothing is lost, whatever breaks: numbered tasks are worked by three hosts while workers, hosts,
//! connections and the database are killed, stopped and started again, and plugins are exchanged.
//!
//! One seed draws everything but the machine's own timing. `CHAOS_SEED` and `CHAOS_SECONDS` (for each
//! store) choose; a failure prints the seed. `ground.rs` has the stores, `harness.rs` what is done to
//! them, `verdict.rs` what may come of it.

#![expect(clippy::print_stdout, reason = "a run tells what it did")]

mod ground;
mod harness;
mod hosts;
mod journal;
mod seed;
mod verdict;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rex_test_support::amqp::RabbitMq;
use rex_test_support::env::Env;
use rex_test_support::redis::Redis;

use ground::{FileSys, Ground, Pgsql, Sqlite};

/// A number from the environment; an empty text counts as none.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn chaos(name: &str, ground: &mut dyn Ground) {
    let drawn = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    let seed = number("CHAOS_SEED").unwrap_or(u64::from(drawn.subsec_nanos()));
    let time = Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(10));
    // A failure shows what was printed.
    println!("chaos: {name}: make chaos SEED={seed} SECONDS={}", time.as_secs());
    harness::run(ground, name, seed, time);
}

#[test]
fn on_postgresql() {
    let Some(mut ground) = Pgsql::start() else { return };
    chaos("pgsql", &mut ground);
}

#[test]
fn on_sqlite() {
    let env = Env::new();
    chaos("sqlite", &mut Sqlite(env.path("queue.db")));
}

#[test]
fn on_redis() {
    let Some(mut server) = Redis::start() else { return };
    chaos("redis", &mut server);
}

#[test]
fn on_amqp() {
    let Some(mut broker) = RabbitMq::start() else { return };
    chaos("amqp", &mut broker);
}

#[test]
fn on_filesys() {
    let env = Env::new();
    let directory = env.path("queues");
    std::fs::create_dir(&directory).expect("the folder is ours");
    chaos("filesys", &mut FileSys(directory));
}
