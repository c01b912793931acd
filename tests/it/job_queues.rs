//! Queues of jobs, and the limits of what runs at once.

use std::fs::File;

use rex_test_support::amqp::RabbitMq;
use rex_test_support::env::Env;
use rex_test_support::process::{descendants, wait_for};
use serde_json::json;

use crate::shop::{Shop, stop};

/// Whose tasks are at `transport`.
fn two_queues(transport: &str) -> Shop {
    Shop::new(&format!("job_queues: 2\nasynctask_transport: {transport}\n"))
}

/// A worker has nothing to do while another one is at the only job of a kind that may run.
#[test]
fn a_host_that_halts_does_all_jobs_of_a_limited_type() {
    let shop = Shop::new("job_queues: 2\njob_limits: {crash: {max_concurrency: 1}}\n");
    let codes = [(); 6].map(|()| shop.insert("crash", &json!({"how": "work", "ms": 200})));
    let output = shop.run(&["--halt-when-empty"]).wait_ok();
    for code in codes {
        assert_eq!(shop.status(code).0, "completed", "{output}");
    }
    shop.holds_limit(1);
}

#[test]
fn a_job_whose_payload_is_nested_too_deeply_fails_as_others_do() {
    let shop = Shop::new("");
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(1100), "]".repeat(1100));
    let sql =
        "INSERT INTO job (owner, type, payload) VALUES ('somebody', 'demo_fast', $1::text::jsonb)";
    shop.client().execute(sql, &[&deep]).expect("it can be inserted");
    let output = shop.run(&["--halt-when-empty"]).wait_ok();
    let (status, detail) = shop.status(1);
    assert_eq!(status, "failed");
    assert!(detail.expect("it says why").contains("Payload is nested too deeply"));
    let failed = "ERROR:JobExecutorWorker:Job #1 failed\n";
    assert!(output.contains("INFO:JobExecutorWorker:Processing Job #1\n"), "{output}");
    assert!(output.contains(failed) && !output.contains("dead letter"), "{output}");
    let log = shop.rex_host(&["job", "logs", "1"]).ok();
    assert!(log.contains(failed), "{log}");
}

/// Eight clients insert while two hosts queue and work: the limit holds by the dates of the rows, and each
/// job is run once. With REX_TEST_JOBS each client inserts as many.
#[test]
fn a_limit_holds_over_all_hosts() {
    const CLIENTS: usize = 8;
    let each: usize = std::env::var("REX_TEST_JOBS").map_or(50, |text| text.parse().unwrap());
    let shop = Shop::new("job_queues: 4\njob_limits: {crash: {max_concurrency: 3}}\n");
    let hosts = [shop.run(&["--name", "one"]), shop.run(&["--name", "two"])];
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let mut connection = shop.client();
            scope.spawn(move || {
                let sql = "INSERT INTO job (owner, type, payload) VALUES ($1, 'crash', '{\"how\": \"ok\"}')";
                for _ in 0..each {
                    let owner = format!("client {client}");
                    connection.execute(sql, &[&owner]).expect("it can be inserted");
                }
            });
        }
    });
    let count = i64::try_from(CLIENTS * each).unwrap();
    let mut client = shop.client();
    let mut done = move || -> i64 {
        let sql = "SELECT count(*) FROM job WHERE status = 'completed'";
        client.query_one(sql, &[]).expect("it can be asked").get(0)
    };
    let mut last = 0;
    while last < count {
        // As long as it goes on.
        wait_for(format_args!("more than {last} jobs"), || done() > last);
        last = done();
    }
    shop.holds_limit(3);
    let [one, two] = hosts.map(stop);
    let mut run: Vec<i64> = [&one, &two]
        .into_iter()
        .flat_map(|output| output.lines())
        .filter_map(|line| line.strip_prefix("INFO:JobExecutorWorker:Processing Job #"))
        .map(|code| code.parse().unwrap())
        .collect();
    run.sort_unstable();
    assert!(run.iter().copied().eq(1..=count), "{} runs of {count} jobs", run.len());
    assert!(one.contains("Processing Job #") && two.contains("Processing Job #"), "one did it all");
}

#[test]
fn a_queue_of_jobs_may_be_configured() {
    let shop = Shop::new(
        "asynctask_workers: {rex_job_0: {worker: job_executor, max_attempts: 2, backoff: 0.01, \
         timeout: 0.5, processes: 2}}\n",
    );
    let host = shop.run(&[]);
    let again = shop.insert("crash", &json!({"how": "again", "until": 2}));
    shop.wait_status(again, "completed");
    let twice = shop.insert("crash", &json!({"how": "again", "until": 3}));
    assert_eq!(shop.wait_status(twice, "failed").as_deref(), Some("attempt 2 failed"));
    let endless = shop.insert("crash", &json!({"how": "loop"}));
    let detail = shop.wait_status(endless, "failed").expect("it says why");
    assert!(detail.contains("passed the time limit of 0.5 s and was killed"), "{detail}");
    stop(host);
}

/// Every job ends, and the limit holds by the dates of the rows.
#[test]
fn a_limit_holds_whatever_is_killed() {
    const COUNT: i64 = 120;
    let shop = Shop::new("job_queues: 4\njob_limits: {crash: {max_concurrency: 3}}\n");
    let mut hosts = ["one", "two"].map(|name| shop.run(&["--name", name]));
    let insert = "INSERT INTO job (owner, type, payload) VALUES ('me', 'crash', $1::text::jsonb)";
    let payload = json!({"how": "work", "ms": 10}).to_string();
    let mut client = shop.client();
    for _ in 0..COUNT {
        client.execute(insert, &[&payload]).expect("it can be inserted");
    }
    let mut ended = move || -> i64 {
        let sql = "SELECT count(*) FROM job WHERE status IN ('completed', 'failed')";
        client.query_one(sql, &[]).expect("it can be asked").get(0)
    };
    for (round, enough) in [COUNT / 6, COUNT / 3, COUNT / 2].into_iter().enumerate() {
        wait_for(format_args!("{enough} jobs"), || ended() >= enough);
        // A worker of each, and one host.
        for host in &hosts {
            if let Some(worker) = descendants(host.pid()).last() {
                worker.kill();
            }
        }
        hosts[round % 2].signal(libc::SIGKILL);
        hosts[round % 2] = shop.run(&["--name", ["three", "four", "five"][round]]);
    }
    wait_for("all jobs", || ended() == COUNT);
    shop.holds_limit(3);
    hosts.into_iter().for_each(|host| drop(stop(host)));
    let failed = "SELECT status_detail FROM job WHERE status = 'failed'";
    for row in shop.client().query(failed, &[]).expect("it can be asked") {
        let detail: &str = row.get(0);
        assert!(detail.starts_with("the worker's process was killed by signal 9"), "{detail}");
    }
}

/// A host that had more queues is gone: what waits there is said, and worked off.
#[test]
fn jobs_in_queues_that_no_host_has_are_told() {
    let shop = Shop::new("job_queues: 1\n");
    for _ in 0..2 {
        shop.insert("demo_fast", &json!({}));
    }
    let more = ["--set", "job_queues=2"];
    shop.rex_host(&["submit", "scheduled_0_job_queuer", "{}"]).ok();
    shop.rex_host(&["work", "scheduled_0_job_queuer", more[0], more[1]]).ok();
    let host = shop.run(&[]);
    shop.wait_status(1, "completed");
    host.wait_output(
        "WARNING:rex-host:jobs wait in queue rex_job_1, which this host does not work",
    );
    shop.rex_host(&["work", "rex_job_1", more[0], more[1]]).ok();
    shop.wait_status(2, "completed");
    assert_eq!(stop(host).matches("jobs wait in queue").count(), 1);
}

#[test]
fn jobs_in_a_queue_that_is_disabled_are_told() {
    let shop = Shop::new("job_queues: 2\nasynctask_workers: {rex_job_1: null}\n");
    for _ in 0..2 {
        shop.insert("demo_fast", &json!({}));
    }
    let host = shop.run(&[]);
    shop.wait_status(1, "completed");
    host.wait_output("unless another one does, give it a worker in `asynctask_workers`");
    assert_eq!(shop.status(2).0, "queued");
    stop(host);
}

/// A task for a job that nobody has queued: somebody has put it in, or the host that was queueing it was
/// killed between.
#[test]
fn a_limit_holds_for_a_task_without_a_queued_job() {
    let shop = Shop::new(
        "asynctask_workers: {rex_job_0: {worker: job_executor, processes: 2}}
job_limits: {crash: {max_concurrency: 1}}
",
    );
    let host = shop.run(&[]);
    let gate = shop.env.path("gate").display().to_string();
    let first = shop.insert("crash", &json!({"how": "until", "file": gate}));
    shop.wait_status(first, "started");
    let second = shop.insert("crash", &json!({"how": "ok"}));
    shop.rex_host(&["submit", "rex_job_0", &json!({ "code": second }).to_string()]).ok();
    host.wait_output("job 2 cannot be started yet: 1 of its type are queued or run, and no more");
    assert_eq!(shop.status(second).0, "new");
    shop.env.write("gate", "");
    shop.wait_status(first, "completed");
    shop.wait_status(second, "completed");
    shop.holds_limit(1);
    stop(host);
}

/// Also where it is an application that makes it, which tells nobody.
#[test]
fn a_queued_job_that_goes_leaves_its_place_to_another() {
    let shop = Shop::new("job_queues: 2\njob_limits: {demo_fast: {max_concurrency: 1}}\n");
    let host = shop.run(&[]);
    let go = shop.env.path("go");
    let busy = shop.insert("crash", &json!({"how": "until", "file": go}));
    shop.wait_status(busy, "started");
    let delete = "DELETE FROM job WHERE code = $1";
    for by_command in [true, false] {
        // The executor of even codes is free.
        let other = shop.insert("crash", &json!({"how": "ok"}));
        shop.wait_status(other, "completed");
        let first = shop.insert("demo_fast", &json!({}));
        shop.wait_status(first, "queued");
        let second = shop.insert("demo_fast", &json!({}));
        let third = shop.insert("crash", &json!({"how": "ok"}));
        assert_eq!([first % 2, second % 2, third % 2], [1, 0, 1]);
        assert_eq!(shop.status(second).0, "new");
        match by_command {
            true => drop(shop.rex_host(&["job", "cancel", &first.to_string()]).ok()),
            false => drop(shop.client().execute(delete, &[&first]).expect("it is queued")),
        }
        shop.wait_status(second, "completed");
    }
    std::fs::write(go, "").expect("it is ours");
    shop.wait_status(busy, "completed");
    stop(host);
}

/// A queue's directory that cannot be used, and then can.
#[test]
fn a_queue_of_jobs_that_is_refused_costs_no_other() {
    let env = Env::new();
    let refused = env.obstruct("rex_job_0");
    let shop = two_queues(&env.directory());
    // More than are queued at once, and older.
    let many = "INSERT INTO job (code, owner, type, payload)
        SELECT 2 * n + 1, 'somebody', 'nothing', '{}' FROM generate_series(1000, 2000) AS n";
    shop.client().execute(many, &[]).expect("they can be inserted");
    let codes = [(); 6].map(|()| shop.insert("demo_fast", &json!({})));
    let (refusing, open): (Vec<i64>, Vec<i64>) = codes.iter().partition(|code| *code % 2 == 1);
    let host = shop.run(&[]);
    for code in open {
        shop.wait_status(code, "completed");
    }
    let said = "ERROR:rex-host:new jobs cannot be put into queue rex_job_0: ";
    host.wait_output(said);
    // Others that come later.
    let later = [(); 2].map(|()| shop.insert("demo_fast", &json!({})));
    shop.wait_status(later[1 - usize::from(later[0] % 2 == 0)], "completed");
    for code in &refusing {
        assert_eq!(shop.status(*code).0, "new");
    }
    shop.client().execute("DELETE FROM job WHERE type = 'nothing'", &[]).expect("it can be done");
    refused.remove();
    for code in refusing.into_iter().chain(later) {
        shop.wait_status(code, "completed");
    }
    let output = stop(host);
    assert_eq!(output.matches(said).count(), 1, "{output}");
    let again = "INFO:rex-host:new jobs are put into queue rex_job_0 again\n";
    assert_eq!(output.matches(again).count(), 1, "{output}");
    assert!(!output.contains("new jobs cannot be queued"), "{output}");
}

/// So it is where somebody else keeps its lock, for which is to be waited for ever.
#[test]
fn a_queue_of_jobs_that_is_locked_costs_no_other() {
    let env = Env::new();
    let lock = File::create(env.write("queues/rex_job_0/.lock", "")).expect("it is ours");
    lock.lock().expect("nobody has it");
    let shop = two_queues(&format!("{}?lock_timeout=-1", env.directory()));
    let codes = [(); 2].map(|()| shop.insert("crash", &json!({"how": "ok"})));
    let host = shop.run(&[]);
    let said = "ERROR:rex-host:new jobs cannot be put into queue rex_job_0: The file lock '";
    shop.wait_status(codes[1], "completed");
    host.wait_output(said);
    assert_eq!(shop.status(codes[0]).0, "new");
    drop(lock);
    shop.wait_status(codes[0], "completed");
    let output = stop(host);
    assert_eq!(output.matches(said).count(), 1, "{output}");
    assert!(!output.contains("new jobs cannot be queued"), "{output}");
}

/// So it is for a host that halts, which waits for that queue alone.
#[test]
fn a_refused_queue_of_jobs_holds_up_no_other_of_a_host_that_halts() {
    let env = Env::new();
    let refused = env.obstruct("rex_job_0");
    let shop = two_queues(&env.directory());
    let codes = [(); 4].map(|()| shop.insert("crash", &json!({"how": "ok"})));
    let host = shop.run(&["--halt-when-empty"]);
    for code in [codes[1], codes[3]] {
        shop.wait_status(code, "completed");
    }
    let said = "ERROR:rex-host:it cannot be told whether queue rex_job_0 is empty";
    host.wait_output(said);
    // The workers of jobs end together: what comes meanwhile is worked as well.
    let more = [(); 2].map(|()| shop.insert("crash", &json!({"how": "ok"})));
    shop.wait_status(more[1], "completed");
    assert_eq!([codes[0], codes[2], more[0]].map(|code| shop.status(code).0), ["new"; 3]);
    refused.remove();
    let output = host.wait_ok();
    for code in codes.into_iter().chain(more) {
        assert_eq!(shop.status(code).0, "completed", "{output}");
    }
    assert_eq!(output.matches(said).count(), 1, "{output}");
    assert!(!output.contains("refuses this host"), "{output}");
}

/// Those that come while it ends may be for any queue.
#[test]
fn jobs_that_come_while_a_host_halts_hold_it_up_no_longer_than_they_run() {
    let shop = Shop::new("job_queues: 8\n");
    for _ in 0..6 {
        let host = shop.run(&["--halt-when-empty"]);
        host.wait_output("No tasks found in queue");
        for _ in 0..20 {
            shop.insert("demo_fast", &json!({}));
        }
        host.wait_ok();
    }
    // What it has not seen any more.
    shop.run(&["--halt-when-empty"]).wait_ok();
    let statuses = shop.statuses();
    let done = statuses.iter().filter(|status| status.contains(" completed ")).count();
    assert_eq!(done, 120, "{statuses:?}");
}

/// So does one whose row another program has locked, as it will be new when that is done.
#[test]
fn a_locked_job_is_waited_for_by_a_host_that_halts() {
    let shop = Shop::new("");
    let code = shop.insert("demo_fast", &json!({}));
    let mut client = shop.client();
    let mut locking = client.transaction().expect("it can begin");
    locking.execute("SELECT 1 FROM job FOR UPDATE", &[]).expect("the row is there");
    let host = shop.run(&["--halt-when-empty"]);
    host.wait_output(&format!(
        "job {code} cannot be queued yet: another program has its row locked"
    ));
    locking.commit().expect("nobody is in its way");
    host.wait_ok();
    assert_eq!(shop.status(code).0, "completed");
}

/// The clock has new jobs queued every five seconds: none of that is a failure.
#[test]
fn a_refused_queue_of_jobs_makes_no_dead_letters() {
    let env = Env::new();
    let refused = env.obstruct("rex_job_0");
    let shop = two_queues(&env.directory());
    let codes = [(); 2].map(|()| shop.insert("crash", &json!({"how": "ok"})));
    let queuer = "scheduled_0_job_queuer";
    let said = "ERROR:rex-host:new jobs cannot be put into queue rex_job_0: ";
    let output = shop.work(queuer, Some("{}"));
    assert_eq!(output.matches(said).count(), 1, "{output}");
    assert_eq!(codes.map(|code| shop.status(code).0), ["new", "queued"]);
    for _ in 0..3 {
        shop.rex_host(&["submit", queuer, "{}"]).ok();
    }
    let host = shop.run(&[]);
    shop.wait_status(codes[1], "completed");
    wait_for("all that is to be done", || {
        shop.rex_host(&["queue", "list", "--json"]).json_lines().is_empty()
    });
    assert_eq!(shop.rex_host(&["dlq", "list", "--json"]).json_lines().len(), 0);
    assert_eq!(shop.status(codes[0]).0, "new");
    refused.remove();
    shop.wait_status(codes[0], "completed");
    let output = stop(host);
    assert_eq!(output.matches(said).count(), 1, "{output}");
    assert!(!output.contains("ERROR:JobQueuerWorker"), "{output}");
}

/// What a queue has taken of many is not put into it again.
#[test]
fn jobs_are_put_into_a_full_queue_once() {
    const COUNT: i64 = 20;
    let Some(mut broker) = RabbitMq::with_hosts(1) else { return };
    let rule = "{\"max-length\":2,\"overflow\":\"reject-publish\"}";
    broker.ctl(&format!("set_policy -p t0 --apply-to queues full ^rex_job_0$ {rule}"));
    let shop = Shop::new(&format!("job_queues: 2\nasynctask_transport: {}/t0\n", broker.uri));
    let path = |name: &str| shop.env.path(name).display().to_string();
    let host = shop.run(&[]);
    let until = json!({"how": "until", "file": path("gate"), "n": 1, "record": path("record")});
    let codes = [(); COUNT as usize].map(|()| shop.insert("crash", &until));
    let with = |numbers: &str, statuses: &str| -> i64 {
        let sql = format!(
            "SELECT count(*) FROM job WHERE code % 2 = {numbers} AND status IN ({statuses})"
        );
        shop.client().query_one(&sql, &[]).expect("it can be asked").get(0)
    };
    // One of each is at work; of those in the full queue two wait beside it.
    wait_for("all of one queue", || with("0", "'queued', 'started'") == COUNT / 2);
    wait_for("three of the other", || with("1", "'queued', 'started'") == 3);
    host.wait_output("ERROR:rex-host:new jobs cannot be put into queue rex_job_0: ");
    assert_eq!(with("1", "'new'"), COUNT / 2 - 3);
    shop.env.write("gate", "");
    for code in codes {
        shop.wait_status(code, "completed");
    }
    let output = stop(host);
    assert!(!output.contains("bailing"), "{output}");
    for code in codes {
        let line = format!("INFO:JobExecutorWorker:Processing Job #{code}\n");
        assert_eq!(output.matches(&line).count(), 1, "{output}");
    }
}
