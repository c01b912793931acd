//! A host that runs a job loses its connections, or the server is restarted: for all others the job is
//! being run as before.

use rex_test_support::pg::Database;
use rex_test_support::process::wait_for;
use rex_test_support::proxy::Proxy;
use rex_test_support::redis::Redis;
use rex_test_support::server::Server;
use serde_json::json;

use crate::shop::{Shop, stop};

const WORKERS: &str = "asynctask_workers:
  rex_job_0: { worker: job_executor, processes: 1 }
job_limits: { crash: { max_concurrency: 1 } }
";

/// Ends all connections of the hosts.
const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// A job runs on through a cut, whatever is asked of it, until it is cancelled.
fn outlives(shop: &Shop, args: &[&str], cut: impl Fn()) {
    let record = shop.env.path("record");
    let recorded = || std::fs::read_to_string(&record).unwrap_or_default();
    let first = shop.run(args);
    let payload = json!({"how": "until_told", "n": 1, "record": record.display().to_string()});
    let job = shop.insert("crash", &payload);
    wait_for("the job runs", || !recorded().is_empty());
    let second = shop.run(&[args, &["--name", "second"]].concat());
    second.wait_output("Starting; queue=rex_job_0");

    // At once, and when whoever is to come back is back.
    cut();
    let text = shop.rex_host(&["job", "retry", "1"]).fails(1);
    assert_eq!(text, "error: job 1 is started\n");
    cut();
    // The first one has no process for it.
    shop.rex_host(&["submit", "rex_job_0", r#"{"code": 1}"#]).ok();
    second.wait_output("WARNING:JobExecutorWorker:Job #1 is being run already; bailing");

    let other = shop.insert("crash", &json!({"how": "ok"}));
    cut();
    let text = shop.rex_host(&["job", "cancel", "1", "--grace", "1h"]).ok();
    assert_eq!(text, "job 1 is told to stop, and killed after 3600 s\n");
    assert_eq!(shop.wait_status(job, "failed").as_deref(), Some("Cancelled"));
    shop.wait_status(other, "completed");
    shop.holds_limit(1);
    assert_eq!(recorded(), "start 1\ndone 1\n");
    stop(first);
    stop(second);
}

/// For longer than others wait for it; the queue is still there.
fn is_told_when_it_is_back(retries: bool) {
    let shop = Shop::new(&format!("asynctask_transport: sqlite:queue.db\n{WORKERS}"));
    let proxy = Proxy::to(&shop.database.address());
    let db = shop.database.uri().replace(&shop.database.address(), proxy.address());
    let host = shop.run(&["--set", &format!("db={db}")]);
    let record = shop.env.path("record");
    let recorded = || std::fs::read_to_string(&record).unwrap_or_default();
    let payload = json!({"how": "until_told", "n": 1, "record": record.display().to_string()});
    shop.insert("crash", &payload);
    wait_for("the job runs", || !recorded().is_empty());
    proxy.cut();
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let mut client = shop.client();
    wait_for("the server to know", || {
        client.query_one(others, &[]).expect("it can be asked").get::<_, i64>(0) == 0
    });
    let text = shop.rex_host(&["job", "cancel", "1", "--grace", "1h"]).ok();
    assert_eq!(text, "job 1 is cancelled\n");
    if retries {
        shop.rex_host(&["job", "retry", "1"]).ok();
    }
    proxy.restore();
    if retries {
        wait_for("the next run", || recorded() == "start 1\ndone 1\nstart 1\n");
        shop.rex_host(&["job", "cancel", "1", "--grace", "1h"]).ok();
    }
    let runs = if retries { 2 } else { 1 };
    wait_for("its end", || recorded() == "start 1\ndone 1\n".repeat(runs));
    shop.wait_status(1, "failed");
    stop(host);
    assert_eq!(shop.status(1), ("failed".to_owned(), Some("Cancelled".to_owned())));
}

#[test]
fn a_job_that_is_cancelled_while_its_host_is_cut_off_is_told_when_it_is_back() {
    is_told_when_it_is_back(false);
}

#[test]
fn a_job_that_is_retried_while_its_host_is_cut_off_is_told_when_it_is_back() {
    is_told_when_it_is_back(true);
}

#[test]
fn a_job_whose_host_s_connections_break_is_being_run() {
    let shop = Shop::new(WORKERS);
    outlives(&shop, &[], || shop.client().batch_execute(TERMINATE).expect("it may"));
}

#[test]
fn a_job_whose_host_hears_nothing_of_a_break_is_being_run() {
    let shop = Shop::new(WORKERS);
    let proxy = Proxy::to(&shop.database.address());
    let db = shop.database.uri().replace(&shop.database.address(), proxy.address());
    outlives(&shop, &["--set", &format!("db={db}")], || proxy.lose());
}

#[test]
fn a_job_whose_queue_is_elsewhere_is_being_run() {
    let Some(redis) = Redis::start() else { return };
    let shop = Shop::new(&format!("asynctask_transport: {}\n{WORKERS}", redis.uri()));
    outlives(&shop, &[], || shop.client().batch_execute(TERMINATE).expect("it may"));
}

#[test]
fn a_job_is_being_run_while_the_server_is_restarted() {
    let Some(server) = Server::start() else { return };
    let shop = Shop::on(Database::on(&server), WORKERS);
    outlives(&shop, &[], || {
        server.stop(false);
        server.restart();
    });
}
