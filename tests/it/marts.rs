//! Marts through the built tree: the worker by the original's own transcript, the commands, and the
//! demo project whole.

use rex_test_support::env::{Env, not_run, shared};
use rex_test_support::pg::Database;
use rex_test_support::server::Server;

/// The part of the original's document that is about the worker: payloads and what processing them
/// prints, where `...` stands for anything.
const TRANSCRIPT: [(&str, &str); 3] = [
    (
        "{'owner': 'async', 'definition': 'empty'}",
        "INFO:MartCreateWorker:Mart creation began: ...
INFO:MartCreateWorker:Creating database: mart_empty_...
INFO:MartCreateWorker:Executing Post-Deployment ETL...
INFO:MartCreateWorker:...ETL complete
INFO:MartCreateWorker:Executing Post-Assessment ETL...
INFO:MartCreateWorker:...ETL complete
INFO:MartCreateWorker:Mart creation complete: ...
INFO:MartCreateWorker:Mart creation duration: ...
",
    ),
    (
        "{'owner': 'async'}",
        "Traceback (most recent call last):
    ...
rex.core.Error: Missing mandatory field:
    definition
",
    ),
    (
        "{'definition': 'empty'}",
        "Traceback (most recent call last):
    ...
rex.core.Error: Missing mandatory field:
    owner
",
    ),
];

/// The part about jobs: payloads, and what is shown of the job before, logged while, and shown after.
const JOBS: [(&str, &str); 3] = [
    (
        "{'definition': 'empty', 'owner': 'async'}",
        "Job #1: status=new, type=rexmart_create, dates=Submitted, facet=None
INFO:JobExecutorWorker:Processing Job #1
INFO:MartCreateExecutor:Mart creation began: ...
INFO:MartCreateExecutor:Creating database: mart_empty_...
INFO:MartCreateExecutor:Executing Post-Deployment ETL...
INFO:MartCreateExecutor:...ETL complete
INFO:MartCreateExecutor:Executing Post-Assessment ETL...
INFO:MartCreateExecutor:...ETL complete
INFO:MartCreateExecutor:Mart creation complete: ...
INFO:MartCreateExecutor:Mart creation duration: ...
INFO:MartCreateExecutor:Mart database size: ...
INFO:JobExecutorWorker:Job #1 complete
Job #1: status=completed, type=rexmart_create, dates=Submitted,Started,Completed, facet=Mart creation...
",
    ),
    (
        "{'bad': 'payload'}",
        "Job #2: status=new, type=rexmart_create, dates=Submitted, facet=None
INFO:JobExecutorWorker:Processing Job #2
ERROR:JobExecutorWorker:Job #2 failed
Traceback (most recent call last):
...
rex.core.Error: Got unexpected field:
    bad
INFO:JobExecutorWorker:Job #2 complete
Job #2: status=failed, detail=\"Got unexpected field:
    bad\", type=rexmart_create, dates=Submitted,Started,Completed, facet=None
",
    ),
    (
        "{'definition': 'broken_htsql', 'owner': 'async'}",
        "Job #3: status=new, type=rexmart_create, dates=Submitted, facet=None
INFO:JobExecutorWorker:Processing Job #3
INFO:MartCreateExecutor:Mart creation began: ...
INFO:MartCreateExecutor:Creating database: mart_broken_htsql_...
INFO:MartCreateExecutor:Deploying structures...
INFO:MartCreateExecutor:Executing Post-Deployment ETL...
INFO:MartCreateExecutor:HTSQL script #1...
ERROR:JobExecutorWorker:Job #3 failed
Traceback (most recent call last):
...
rex.core.Error: Found unknown attribute:
    people.first_name
Perhaps you had in mind:
    firstname
While translating:
            first_name :as col1
            ^^^^^^^^^^
While executing statement:
    /people{
            first_name :as col1
        } :as foo
        /:rexdb
        /:insert
While executing HTSQL script:
    #1
While executing Post-Deployment Scripts
While creating Mart database:
    broken_htsql
INFO:JobExecutorWorker:Job #3 complete
Job #3: status=failed, detail=\"Found unknown attribute:
    people.first_name
Perhaps you had in mind:
    firstname
While translating:
            first_name :as col1
            ^^^^^^^^^^
While executing statement:
    /people{
            first_name :as col1
        } :as foo
        /:rexdb
        /:insert
While executing HTSQL script:
    #1
While executing Post-Deployment Scripts
While creating Mart database:
    broken_htsql\", type=rexmart_create, dates=Submitted,Started,Completed, facet=Mart creation...
",
    ),
];

/// An application with the tables and the rows of the demo project.
struct Demo {
    env: Env,
    database: Database,
}

impl Demo {
    fn new() -> Demo {
        let demo = Demo { env: Env::new(), database: Database::new() };
        demo.rex_host(&["deploy"]).ok();
        demo
    }

    /// Runs a command for the application.
    fn rex_host(&self, args: &[&str]) -> rex_test_support::process::Done {
        let db = format!("db={}", self.database.uri());
        let project = ["--project", "rex.mart_demo", "--set", &db];
        self.env.rex_host(&[&args[..1], &project, &args[1..]].concat())
    }

    /// As [`Demo::rex_host`], with input.
    fn rex_host_with(&self, args: &[&str], input: &str) -> rex_test_support::process::Done {
        let db = format!("db={}", self.database.uri());
        let project = ["--project", "rex.mart_demo", "--set", &db];
        self.env.rex_host_with(&[&args[..1], &project, &args[1..]].concat(), input)
    }

    /// What processing a task prints.
    fn process(&self, payload: &str, more: &[&str]) -> String {
        self.rex_host(&["submit", "rexmart_create", payload]).ok();
        let output = self.rex_host(&[&["work", "rexmart_create"], more].concat()).stdout;
        let begin = output.find("Starting; queue=rexmart_create\n").expect("it starts");
        let (_, rest) = output[begin..].split_once('\n').expect("it is a line");
        let end = rest.find("INFO:MartCreateWorker:No tasks found in queue").expect("it ends");
        rest[..end].to_owned()
    }
}

/// Whether a text is as expected, where `...` is anything.
fn agrees(text: &str, expected: &str) -> bool {
    let mut parts = expected.split("...");
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    for (n, part) in parts.iter().enumerate() {
        if n + 1 == parts.len() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

impl Demo {
    /// A job as the document shows it.
    fn job(&self, code: i64) -> String {
        let query =
            "SELECT status::text, coalesce(' detail=\"' || status_detail || '\",', ''), type,
                concat_ws(',',
                    CASE WHEN date_submitted IS NOT NULL THEN 'Submitted' END,
                    CASE WHEN date_started IS NOT NULL THEN 'Started' END,
                    CASE WHEN date_completed IS NOT NULL THEN 'Completed' END),
                coalesce(log, 'None')
            FROM job LEFT JOIN job_rexmart_create ON job_id = job.id WHERE code = $1";
        let row = self.database.connect().query_one(query, &[&code]).expect("there is the job");
        let text = |at: usize| row.get::<_, String>(at);
        format!(
            "Job #{code}: status={},{} type={}, dates={}, facet={}\n",
            text(0),
            text(1),
            text(2),
            text(3),
            text(4)
        )
    }

    /// What is shown and logged of a job from its submission to its end.
    fn run_job(&self, payload: &str, more: &[&str]) -> String {
        let insert = "INSERT INTO job (owner, type, payload)
            VALUES ('test', 'rexmart_create', $1::text::jsonb) RETURNING code";
        let row = self.database.connect().query_one(insert, &[&payload]);
        let code: i64 = row.expect("it can be inserted").get(0);
        let before = self.job(code);
        self.rex_host(&["submit", "rex_job_0", &format!("{{\"code\": {code}}}")]).ok();
        let done = self.rex_host(&[&["work", "rex_job_0"], more].concat());
        let begin = done.stdout.find("INFO:JobExecutorWorker:Processing Job #").expect("it begins");
        let last = format!("INFO:JobExecutorWorker:Job #{code} complete\n");
        let end = done.stdout.find(&last).expect("it ends") + last.len();
        format!("{before}{}{}", &done.stdout[begin..end], self.job(code))
    }
}

fn perform_jobs(more: &[&str]) {
    let demo = Demo::new();
    for (payload, expected) in JOBS {
        let output = demo.run_job(&payload.replace('\'', "\""), more);
        assert!(agrees(&output, expected), "{payload}\n{output}\nis not\n{expected}");
    }
    // What failed left nothing behind.
    let marts = "SELECT definition FROM rexmart_inventory";
    let marts = demo.database.connect().query(marts, &[]).expect("there is an inventory");
    assert_eq!(marts.len(), 1);
    demo.rex_host(&[&["mart-purge", "--all", "--force-accept"], more].concat()).ok();
}

#[test]
fn jobs_do_as_the_transcript_says() {
    perform_jobs(&[]);
}

#[test]
fn jobs_do_so_on_a_server_for_marts() {
    let Some(server) = Server::start() else { return };
    perform_jobs(&["--set", &format!("mart_hosting_cluster={}", server.uri("mart"))]);
}

fn perform(more: &[&str]) -> Demo {
    let demo = Demo::new();
    for (payload, expected) in TRANSCRIPT {
        let output = demo.process(&payload.replace('\'', "\""), more);
        let told = "ERROR:MartCreateWorker:An unhandled exception occurred while processing the \
                    payload\n";
        let output = output.strip_prefix(told).unwrap_or(&output);
        // Of a traceback the document's language compares the ends alone.
        let expected = expected.replace("\n    ...\n", "\n...\n");
        assert!(agrees(output, &expected), "{payload}\n{output}\nis not\n{expected}");
    }
    demo
}

#[test]
fn the_transcript_is_the_document() {
    let Ok(text) = std::fs::read_to_string(shared().join("seeds/mart-async.rst")) else {
        return not_run("seeds/mart-async.rst", "not found beside the repository");
    };
    let (worker, _) = text.split_once("\nJobExecutors\n").expect("the next part");
    assert_eq!(worker.matches("worker.process(payload)").count(), TRANSCRIPT.len());
    for (payload, expected) in JOBS {
        let call = format!("run_job('rexmart_create', {payload})  # doctest: +ELLIPSIS");
        let mut step = format!("    >>> {call}\n");
        for line in expected.lines() {
            step.push_str(&format!("    {line}\n"));
        }
        assert!(text.contains(&step), "not in the document:\n{step}");
    }
    for (payload, expected) in TRANSCRIPT {
        let call = "    >>> worker.process(payload)  # doctest: +ELLIPSIS\n";
        let mut step = format!("    >>> payload = {payload}\n{call}");
        for line in expected.lines() {
            step.push_str(&format!("    {line}\n"));
        }
        assert!(worker.contains(&step), "not in the document:\n{step}");
    }
}

#[test]
fn the_worker_does_as_the_transcript_says() {
    let demo = perform(&[]);
    let marts = "select name from rexmart_inventory where owner = 'async' and status = 'complete'";
    let names = demo.database.connect().query(marts, &[]).expect("there is an inventory");
    assert_eq!(names.len(), 1);
    assert!(demo.rex_host(&["mart-purge", "--all", "--force-accept"]).status.success());
}

#[test]
fn the_place_of_a_bad_payload_is_the_plugin_s() {
    let demo = Demo::new();
    let output = demo.process("{\"bad\": 1}", &[]);
    assert!(output.contains("  File \"plugins/mart/src/worker.rs\", line "), "{output}");
    assert!(!output.contains("/rustc/"), "{output}");
}

#[test]
fn the_worker_does_so_on_a_server_for_marts() {
    let Some(server) = Server::start() else { return };
    let hosting = format!("mart_hosting_cluster={}", server.uri("mart"));
    let demo = perform(&["--set", &hosting]);
    let found = |name: &str| {
        let query = format!("select count(*) from pg_database where datname like '{name}'");
        let row = server.client("postgres").query_one(&query, &[]);
        row.expect("it can be asked").get::<_, i64>(0)
    };
    assert_eq!(found("mart_empty_%"), 1);
    let purge = ["mart-purge", "-o", "async", "-f", "--set", &hosting];
    server.stop(false);
    let gone = demo.rex_host(&purge).fails(1);
    assert!(gone.contains("\n    DELETE FROM rexmart_inventory WHERE code = 1;\n"), "{gone}");
    server.restart();
    let purged = demo.rex_host(&purge).ok();
    assert!(purged.ends_with("(owner=async, definition=empty)...\nPurge complete.\n"), "{purged}");
    assert_eq!(found("mart_%"), 0);
}

/// Lines without the time before them.
fn unstamped(text: &str) -> String {
    let is_stamp = |line: &str| line.starts_with("20") || line.starts_with("     ");
    let bare = |line: &str| match line.get(27..) {
        Some(rest) if is_stamp(line) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(bare).collect()
}

#[test]
fn a_mart_that_cannot_be_purged_keeps_no_other() {
    let demo = Demo::new();
    for owner in ["a", "b", "c"] {
        demo.rex_host(&["mart-create", "-d", "empty", "-o", owner]).ok();
    }
    let name = "SELECT name FROM rexmart_inventory WHERE code = 2";
    let row = demo.database.connect().query_one(name, &[]);
    let name: String = row.expect("it was made").get(0);
    let odd = "CREATE SCHEMA rc; CREATE TABLE rc.rc (others int)";
    let uri = demo.database.uri().replace(demo.database.name(), &name);
    let mut client = rex_test_support::server::connect(&uri).expect("it is there");
    client.batch_execute(odd).expect("it can be made");
    let output = demo.rex_host(&["mart-purge", "--all", "--force-accept"]);
    assert!(output.stdout.ends_with("(owner=c, definition=empty)...\n"), "{output}");
    let error = output.fails(1);
    assert!(error.contains("column \"value\" does not exist"), "{error}");
    let place = format!("While purging Mart:\n    #2: {name} (owner=b, definition=empty)\n");
    assert!(error.ends_with(&place), "{error}");
    let left = demo.rex_host(&["mart-list"]).ok();
    assert!(left.contains(&name) && left.lines().count() == 2, "{left}");
}

#[test]
fn marts_from_a_terminal() {
    let demo = Demo::new();
    let made = demo.rex_host(&["mart-create", "--owner=foo", "--definition=some_data"]).ok();
    let expected = "Starting Mart creation for owner=foo, definition=some_data
Mart creation began: ...
Creating database: mart_some_data_1_...
Deploying structures...
Executing Post-Deployment ETL...
HTSQL script #1...
...ETL complete
Executing Post-Assessment ETL...
...ETL complete
Mart creation complete: ...
Mart creation duration: ...
Mart database size: ...
";
    assert!(agrees(&unstamped(&made), expected), "{made}");

    let list = demo.env.write(
        "work/runlist.yaml",
        "- {owner: foo, definition: broken_sql}\n- {owner: bar, definition: empty}\n\
         - {owner: bar, definition: broken_sql, halt_on_failure: true}\n\
         - {owner: bar, definition: empty}\n",
    );
    let done = demo.rex_host(&["mart-create", "-r", &list.display().to_string()]);
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert_eq!(done.stdout.matches("Mart creation complete").count(), 1, "{done}");
    let failed = "Mart creation for Record(owner='foo', definition='broken_sql', \
                  halt_on_failure=False, purge_on_failure=True, leave_incomplete=False, \
                  parameters={}) failed:
Traceback (most recent call last):
...
rex.core.Error: Got an error from the database driver:
    relation \"blah\" does not exist
    LINE 1: insert into blah (col1) values('stuff');
                        ^
While executing SQL script:
    #1
While executing Post-Deployment Scripts
While creating Mart database:
    broken_sql
...error: Halting RunList due to creation error
";
    assert!(agrees(&unstamped(&done.stderr), failed), "{done}");

    // The original's spelling; a list beside the settings of a project; a parameter that is missing.
    let project = ["--parameters", &format!("{{\"db\": \"{}\"}}", demo.database.uri())];
    let rex = |args: &[&str]| {
        demo.env.rex(&[&["--project", "rex.mart_demo"], &project as &[&str], args].concat())
    };
    let done = rex(&["mart-create", "--runlist", &list.display().to_string()]);
    assert!(
        done.stderr.ends_with("\nFATAL ERROR: Halting RunList due to creation error\n\n"),
        "{done}"
    );
    let done = rex(&["mart-create", "--owner=foo", "--definition=some_parameters"]);
    assert_eq!(done.status.code(), Some(0), "{done}");
    assert!(
        done.stderr.ends_with("rex.core.Error: Missing required parameter \"bar\"\n"),
        "{done}"
    );
    // In its own spelling a script is told.
    let args = ["mart-create", "--owner=foo", "--definition=some_parameters"];
    let text = demo.rex_host(&args).fails(1);
    assert!(text.ends_with("rex.core.Error: Missing required parameter \"bar\"\n"), "{text}");
    demo.env.write("clinic/settings.yaml", "requires: [rex.mart_demo]\n");
    demo.env.write("clinic/list.yaml", "- {owner: bar, definition: just_deploy}\n");
    let clinic = format!("{}/", demo.env.path("clinic").display());
    let db = format!("db={}", demo.database.uri());
    let packaged = |list: &str| {
        let args = ["mart-create", "--project", &clinic, "--set", &db, "--runlist", list];
        demo.env.rex_host(&args)
    };
    let done = packaged("clinic:/list.yaml");
    assert_eq!(done.stdout.matches("Mart creation complete").count(), 1, "{done}");
    packaged("nothing:/list.yaml").fails(1);
    let purged = demo.rex_host(&["mart-purge", "-d", "just_deploy", "--force-accept", "--quiet"]);
    assert_eq!(purged.ok(), "");
    let purged = demo.rex_host_with(&["mart-purge", "--owner=bar", "--code=2", "--code=3"], "y\n");
    assert!(purged.ok().ends_with("Purge complete.\n"));
    let quiet = demo.rex_host(&["mart-create", "--owner=bar", "--definition=empty", "--quiet"]);
    assert_eq!(quiet.ok(), "");

    for (args, code, text) in [
        (&["--definition=empty"] as &[&str], 2, "You must specify at least one owner"),
        (&["--owner=foo", "--definition=bar"], 1, "\"bar\" is not a valid definition"),
        (
            &["--owner=foo", "--runlist=bar"],
            2,
            "Cannot specify both a runlist and owner/definition combinations",
        ),
        (
            &["--runlist=./none.yaml"],
            1,
            "Could not open \"./none.yaml\": [Errno 2] No such file or directory: './none.yaml'",
        ),
        (&["--runlist=/"], 1, "Could not open \"/\": [Errno 21] Is a directory: '/'"),
        (&["--ower=foo"], 2, "unknown option --ower=foo"),
        (&["-ofoo", "-x"], 2, "unknown option -x"),
        (&["foo"], 2, "too many arguments for task mart-create"),
        (&["--owner"], 2, "missing value for option --owner"),
    ] {
        let done = demo.rex_host(&[&["mart-create"], args].concat());
        assert_eq!(done.fails(code), format!("error: {text}\n"));
    }
    for (args, text) in [
        (&["--ower=foo"] as &[&str], "unknown option --ower=foo"),
        (&["--Set", "mart_hosting_cluster=mysql:x", "--require=rex.mart"], "Only PostgreSQL "),
        (&["--set"], "missing value for option --set"),
    ] {
        let told = rex(&[&["mart-create"], args].concat()).fails(1);
        assert!(told.starts_with(&format!("FATAL ERROR: {text}")), "{told}");
    }
    let none = demo.env.rex(&["mart-list"]).fails(1);
    assert_eq!(none, "FATAL ERROR: application is not specified\n\n");
    let other = demo.env.rex(&["--project=rex.asynctask_demo", "mart-list"]).fails(1);
    assert_eq!(other, "FATAL ERROR: package rex.mart must be included with the application\n\n");
    rex(&["mart-list", "--"]).ok();
    let text = rex(&["mart-shell", "--", "-5"]).fails(1);
    assert!(!text.contains("unknown option"), "{text}");
    let text = demo.env.rex_host(&["mart-list", "--project"]).fails(2);
    assert_eq!(text, "error: --project needs a value\n");
    let text = demo.rex_host(&["mart-create"]).fails(2);
    assert!(
        text.starts_with("error: You must specify at least one definition (empty, just_copy, ")
    );

    let ask = |args: &[&str]| {
        let db = format!("db={}", demo.database.uri());
        let project = ["--project", "rex.mart_demo", "--set", &db];
        demo.env
            .rex_host_with(&[&["mart-shell"], &project as &[&str], args].concat(), "/count(foo)")
    };
    let table = " | count(foo) |\n-+------------+-\n |          5 |\n";
    for args in [&["1"] as &[&str], &["foo", "-rsome_data@latest"], &["foo", "-r", "some_data@1"]] {
        assert_eq!(ask(args).ok().trim_end(), table.trim_end());
    }
    let form = "The reference must be in the form <DEFINITION>@latest or <DEFINITION>@<NUMBER>";
    for (args, code, text) in [
        (&["foo", "--reference=some_data"] as &[&str], 1, form),
        (&["foo", "--reference=some_data@blah"], 1, form),
        (&["foo", "--reference=broken_sql@latest"], 1, "No matching Marts found"),
        (&["foo", "--reference=some_data@999"], 1, "No matching Marts found"),
        (&["doesntexist"], 1, "No Mart exists with code/name \"doesntexist\""),
        (&[], 2, "too few arguments for task mart-shell: missing <code-name-owner>"),
    ] {
        assert_eq!(ask(args).fails(code), format!("error: {text}\n"));
    }

    demo.rex_host(&["mart-pin", "1"]).ok();
    let listed = demo.rex_host(&["mart-list"]).ok();
    let expected = "CODE  NAME ...  DEFINITION  OWNER  STATUS    SIZE ...  STARTED ...  PINNED
1     mart_some_data_1_...  some_data   foo    complete  ...Z  yes
... mart_empty_...  empty       bar    complete  ...Z
";
    assert!(agrees(&listed, expected), "{listed}");
    demo.rex_host(&["mart-pin", "1", "--undo"]).ok();
    let marts = demo.rex_host(&["mart-list", "-o", "foo", "--json"]).json_lines();
    assert_eq!(marts.len(), 1);
    assert_eq!((&marts[0]["code"], &marts[0]["pinned"]), (&1.into(), &false.into()));
    let text = demo.rex_host(&["mart-pin", "nothing"]).fails(1);
    assert_eq!(text, "error: No Mart exists with code/name \"nothing\"\n");
    let definitions = demo.rex_host(&["mart-list", "--definitions", "-d", "some_parameters"]).ok();
    let expected = "ID               LABEL            BASE   PARAMETERS  DESCRIPTION
some_parameters  some_parameters  fresh  [foo] bar   Where parameters count
";
    assert_eq!(definitions, expected);

    let all = demo.rex_host(&["mart-purge", "--definition=some_data", "--owner=bar"]).ok();
    assert_eq!(all, "No Marts found matching the specified criteria.\n");
    let text = demo.rex_host(&["mart-purge"]).fails(2);
    assert_eq!(text, "error: You must specify some selection criteria\n");
    let kept = demo.rex_host(&["mart-purge", "--all"]).ok();
    let expected = "You are about to purge 2 Marts from the system:
  #1: mart_some_data_1_... (owner=foo, definition=some_data)
  #...: mart_empty_... (owner=bar, definition=empty)
Are you sure you want to continue? (y/N): Purge aborted.
";
    assert!(agrees(&kept, expected), "{kept}");
    let gone = demo.rex_host(&["mart-purge", "--code=1", "--force-accept"]).ok();
    assert!(gone.ends_with("Purge complete.\n"), "{gone}");
    let text = demo.rex_host(&["mart-purge", "-fcabc"]).fails(2);
    assert!(text.starts_with("error: invalid value for option --code: \n"), "{text}");
    // All is all, whatever else is said.
    demo.rex_host(&["mart-purge", "-afonobody"]).ok();
    let left = "select count(*) from rexmart_inventory";
    let left: i64 = demo.database.connect().query_one(left, &[]).expect("it can be asked").get(0);
    assert_eq!(left, 0);
}

#[test]
fn each_definition_of_the_demo_project_does_what_it_shows() {
    let Some(server) = Server::start() else { return };
    let env = Env::new();
    let db = format!("db={}", server.uri("mart_demo"));
    let project = ["--project", "rex.mart_demo", "--set", &db];
    env.rex_host(&[&["deploy"], &project as &[&str]].concat()).ok();
    let create = |id: &str| {
        let args = ["mart-create", "-o", "me", "-p", "bar=1", "-d", id];
        let plain = ["mart-create", "-o", "me", "-d", id];
        let args = if id == "some_parameters" { &args as &[&str] } else { &plain };
        env.rex_host(&[args, &project].concat())
    };
    let all = env.rex_host(&[&["mart-create"], &project as &[&str]].concat()).fails(2);
    let (_, ids) = all.split_once('(').expect("a list of them");
    let ids: Vec<&str> = ids.trim_end().trim_end_matches(')').split(", ").collect();
    assert_eq!(ids.len(), 37);
    let broken =
        ["just_copy_missing", "existing_missing", "broken_htsql", "broken_sql", "broken_selector"];
    for id in ids {
        let done = create(id);
        let is_made = done.stderr.is_empty() && done.stdout.contains("Mart creation complete");
        assert_eq!(is_made, !broken.contains(&id), "{id}: {done}");
    }
}
