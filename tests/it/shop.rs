//! A project with jobs, in a database of its own.

use postgres::Client;
use rex_test_support::env::Env;
use rex_test_support::pg::Database;
use rex_test_support::plugins;
use rex_test_support::process::{Running, wait_for};
use serde_json::Value;

/// A project with the table of jobs in a database of its own.
pub(crate) struct Shop {
    pub(crate) env: Env,
    pub(crate) database: Database,
    pub(crate) project: String,
}

impl Shop {
    /// `settings` are lines of YAML.
    pub(crate) fn new(settings: &str) -> Shop {
        Shop::on(Database::new(), settings)
    }

    pub(crate) fn on(database: Database, settings: &str) -> Shop {
        let env = Env::new();
        for plugin in ["demo_job", "ctl"] {
            env.plugins(&[plugin]);
        }
        env.add_plugin(&plugins::built("crash"));
        env.set("REX_PLUGINS", env.path("plugins").display().to_string());
        let shop = Shop { project: env.path("shop.yaml").display().to_string(), env, database };
        shop.configure(settings);
        let done = shop.env.rex_host(&["deploy", "--project", &shop.project]);
        assert!(done.status.success(), "{done}");
        shop
    }

    pub(crate) fn configure(&self, settings: &str) {
        let uri = self.database.uri();
        self.env.write("shop.yaml", &format!("requires: [rex.job_demo]\ndb: {uri}\n{settings}"));
    }

    pub(crate) fn client(&self) -> Client {
        self.database.connect()
    }

    pub(crate) fn insert(&self, r#type: &str, payload: &Value) -> i64 {
        let sql = "INSERT INTO job (owner, type, payload) VALUES ('somebody', $1, $2::text::jsonb)
            RETURNING code";
        let row = self.client().query_one(sql, &[&r#type, &payload.to_string()]);
        row.expect("it can be inserted").get(0)
    }

    /// `rex-host` with the project.
    pub(crate) fn rex_host(&self, args: &[&str]) -> rex_test_support::process::Done {
        self.env.rex_host(&[args, &["--project", &self.project]].concat())
    }

    /// A host that goes on until it is told to stop.
    pub(crate) fn run(&self, args: &[&str]) -> Running {
        self.env.start(&[&["run", &self.project], args].concat())
    }

    /// Has one task of a queue worked, and what waits there already; returns what was logged.
    pub(crate) fn work(&self, queue: &str, payload: Option<&str>) -> String {
        if let Some(payload) = payload {
            self.rex_host(&["submit", queue, payload]).ok();
        }
        let done = self.rex_host(&["work", queue]);
        assert!(done.status.success(), "{done}");
        done.stdout
    }

    /// `code status` of all jobs, and the dates that each has.
    pub(crate) fn statuses(&self) -> Vec<String> {
        let sql = "SELECT code, status::text, concat_ws(',',
                CASE WHEN date_submitted IS NOT NULL THEN 'Submitted' END,
                CASE WHEN date_started IS NOT NULL THEN 'Started' END,
                CASE WHEN date_completed IS NOT NULL THEN 'Completed' END)
            FROM job ORDER BY code";
        let rows = self.client().query(sql, &[]).expect("it can be asked");
        let line = |row: &postgres::Row| {
            format!("{} {} {}", row.get::<_, i64>(0), row.get::<_, &str>(1), row.get::<_, &str>(2))
        };
        rows.iter().map(line).collect()
    }

    pub(crate) fn status(&self, code: i64) -> (String, Option<String>) {
        let sql = "SELECT status::text, status_detail FROM job WHERE code = $1";
        let row = self.client().query_one(sql, &[&code]).expect("it is there");
        (row.get(0), row.get(1))
    }

    /// By the dates of the rows, no more jobs ran at once.
    #[track_caller]
    pub(crate) fn holds_limit(&self, limit: i64) {
        let most = "SELECT max(running) FROM (
                SELECT sum(change) OVER (ORDER BY at, change) AS running FROM (
                    SELECT date_started AS at, 1 AS change FROM job
                    UNION ALL SELECT date_completed, -1 FROM job
                ) AS changes
            ) AS counts";
        let most: i64 = self.client().query_one(most, &[]).expect("it can be asked").get(0);
        assert!((1..=limit).contains(&most), "{most} at once");
    }

    #[track_caller]
    pub(crate) fn wait_status(&self, code: i64, status: &str) -> Option<String> {
        wait_for(format_args!("job {code} {status}"), || self.status(code).0 == status);
        self.status(code).1
    }
}

pub(crate) fn stop(host: Running) -> String {
    host.signal(libc::SIGTERM);
    host.wait_ok()
}
