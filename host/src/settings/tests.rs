//! Whole applications, from sources to settings or to the text of the error.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// A directory with project files, and sources that start there.
struct Place {
    dir: tempfile::TempDir,
    sources: Sources,
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../settings")
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Place {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let sources = Sources {
            cwd: dir.path().canonicalize().unwrap(),
            settings_dirs: vec![PathBuf::from("."), shipped()],
            ..Sources::default()
        };
        Place { dir, sources }
    }

    fn project(mut self, name: &str) -> Place {
        self.sources.project = Some(name.into());
        self
    }

    fn require(mut self, name: &str) -> Place {
        self.sources.requires.push(name.into());
        self
    }

    fn set(mut self, name: &str, value: &str) -> Place {
        self.sources.sets.push((name.into(), Some(value.into())));
        self
    }

    fn global(mut self, name: &str, value: Value) -> Place {
        self.sources.globals.insert(name.into(), value);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Place {
        self.sources.environment.insert(name.into(), value.into());
        self
    }

    fn globals(&self) -> Globals {
        Globals::read(&self.sources).unwrap()
    }

    fn load(&self) -> Result<Application, Error> {
        Application::load(&self.sources, &Globals::read(&self.sources)?)
    }

    fn settings(&self) -> Result<Settings, Error> {
        self.load()?.settings(Some(&workers()))
    }

    #[track_caller]
    fn ok(&self) -> Settings {
        self.settings().unwrap_or_else(|error| panic!("{error}"))
    }

    /// `@` stands for the directory.
    #[track_caller]
    fn fails(&self, expect: &str) {
        let error = self.settings().expect_err("an error").to_string();
        let dir = self.sources.cwd.display().to_string();
        assert_eq!(error, expect.replace('@', &dir));
    }
}

fn workers() -> Vec<String> {
    ["ctl_executor", "demo_foo_worker", "demo_bar_worker", "requeue_worker"]
        .map(String::from)
        .to_vec()
}

fn queues(settings: &Settings) -> Vec<(&str, &str)> {
    settings.queues.iter().map(|queue| (queue.queue.as_str(), queue.worker.as_str())).collect()
}

#[test]
fn without_project_the_defaults_hold() {
    let settings = Place::new(&[]).ok();
    assert_eq!(
        settings,
        Settings {
            transport: None,
            database: None,
            gateways: vec![],
            queues: vec![],
            schedules: vec![],
            timezone: jiff::tz::TimeZone::system(),
            misfire: Misfire { policy: MisfirePolicy::Once, grace: Duration::from_secs(300) },
            poll_interval: Duration::from_millis(500),
            check_child_interval: Duration::from_millis(1000),
            log_level: Level::Info,
            loggers: vec![],
            drain_timeout: Duration::from_secs(30),
            payload_limit: 16 << 20,
            output_limit: 1 << 20,
            dead_letter_retention: Some(Duration::from_secs(30 * 86_400)),
            rescue_grace: Duration::from_secs(2),
            owner_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(1),
            schema_additions: true,
            standby: true,
            debug: false,
            job_queues: 1,
            job_max_age: Some(Duration::from_secs(259_200)),
            job_limits: vec![],
        }
    );
}

#[test]
fn a_project_of_jobs_has_its_queues() {
    let place = || Place::new(&[]).project("rex.job");
    let mut workers: Vec<String> =
        ["job_cleanup", "job_executor", "job_queuer"].map(String::from).to_vec();
    let settings = place().load().unwrap().settings(Some(&workers)).unwrap();
    assert_eq!(queues(&settings), [("rex_job_0", "job_executor")]);
    let scheduled: Vec<_> = settings.schedules.iter().map(|s| s.worker.as_deref()).collect();
    assert_eq!(scheduled, [Some("job_queuer"), Some("job_cleanup")]);
    // An entry of one's own stays.
    workers.push("mine".to_owned());
    let settings = place()
        .set("job_queues", "3")
        .set("job_max_age", "0")
        .set("job_limits", r#"{"b": {}, "a": {"max_concurrency": 2}}"#)
        .set("asynctask_workers", r#"{"rex_job_1": "mine", "z1": "mine", "rex_job_2": null}"#)
        .load()
        .unwrap()
        .settings(Some(&workers))
        .unwrap();
    assert_eq!(
        queues(&settings),
        [("rex_job_0", "job_executor"), ("rex_job_1", "mine"), ("z1", "mine")]
    );
    assert_eq!(settings.job_max_age, None);
    assert_eq!(settings.job_limits, [("a".to_owned(), 2)]);
}

#[test]
fn settings_of_jobs_are_validated_in_the_originals_words() {
    for (name, value, expected) in [
        ("job_queues", "0", "Expected an integer in range:\n    [1..]\nGot:\n    '0'\n"),
        ("job_max_age", "-1", "Expected an integer in range:\n    [0..]\nGot:\n    '-1'\n"),
        ("job_queues", "1025", "Expected at most 1024 queues of jobs\nGot:\n    1025\n"),
        (
            "job_limits",
            r#"{"a": {"max_concurrency": 0}}"#,
            "[1..]\nGot:\n    0\nWhile validating field:\n    max_concurrency\nWhile validating mapping \
             value for key:\n    'a'\nWhile validating setting:\n    job_limits\n",
        ),
    ] {
        let error = Place::new(&[]).set(name, value).settings().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_demo_project_works_one_queue_and_logs_everything() {
    let place = Place::new(&[]).project("rex.asynctask_demo");
    let settings = place.ok();
    assert_eq!(queues(&settings), [("foo", "demo_foo_worker")]);
    assert_eq!(settings.log_level, Level::Debug);
    assert_eq!(settings.transport, None);
    let loggers = [("apscheduler", Level::Warning), ("filelock", Level::Warning)];
    let loggers = loggers.map(|(name, level)| (name.to_owned(), Some(level)));
    assert_eq!(settings.loggers, loggers);
    let application = place.load().unwrap();
    assert!(application.includes("rex.asynctask") && !application.includes("rex.mart"));
    let settings = Place::new(&[]).project("rex.asynctask").set("asynctask_workers", "{}").ok();
    assert_eq!(queues(&settings), []);
    assert_eq!(settings.log_level, Level::Info);
}

/// The file shows users what there is; here is what there is.
#[test]
fn default_yaml_lists_every_setting_with_its_default() {
    let path = shipped().join("default.yaml");
    let node = rex_yaml::Loader::new(Path::new("/")).file(&path).unwrap();
    let shown = node.value().unwrap();
    let known: serde_json::Map<String, Value> = known::settings()
        .into_iter()
        .map(|setting| (setting.name.to_owned(), setting.default))
        .collect();
    assert_eq!(shown, Value::Object(known));
    for setting in known::settings() {
        let value = setting.validate(&setting.default, Some(&workers()));
        value.unwrap_or_else(|error| panic!("default of {}: {error}", setting.name));
    }
}

#[test]
fn workers_take_names_and_records() {
    let demo = || Place::new(&[]).project("rex.asynctask_demo");
    let record = r#"{"a_queue": {"worker": "demo_bar_worker", "rate_max_calls": 10}}"#;
    let settings = demo().set("asynctask_workers", record).ok();
    assert_eq!(queues(&settings), [("a_queue", "demo_bar_worker"), ("foo", "demo_foo_worker")]);
    assert_eq!(settings.queues[0].rate_max_calls, Some(10));
    let record = r#"{"foo": {"worker": "demo_bar_worker", "rate_max_calls": null,
        "rate_period": null, "timeout": null}}"#;
    let settings = demo().set("asynctask_workers", record).ok();
    assert_eq!(settings.queues[0].rate_max_calls, None);
    let text = r#"{"foo": null, "some_queue": "demo_bar_worker"}"#;
    let settings = demo().set("asynctask_workers", text).ok();
    assert_eq!(queues(&settings), [("some_queue", "demo_bar_worker")]);
    assert_eq!(demo().set("asynctask-workers", r#"{"foo": null}"#).ok().queues, []);
    let full = r#"{"foo": {"worker": "requeue_worker", "rate_max_calls": "5", "rate_period": 2.5,
        "processes": 3, "timeout": 1.5, "notice": 0.5, "cpu_limit": 1, "memory_limit": "512M",
        "max_tasks": 100, "max_age": 60, "max_rss": "64M", "max_attempts": 5, "max_in_flight": 7,
        "backoff": {"initial": 0.5, "max": 9}, "settings": {"b": 1, "a": [2]}}}"#;
    assert_eq!(
        demo().set("asynctask_workers", full).ok().queues,
        [QueueSettings {
            queue: "foo".into(),
            worker: "requeue_worker".into(),
            rate_max_calls: Some(5),
            rate_period: Some(2.5),
            processes: 3,
            timeout: Some(Duration::from_millis(1500)),
            notice: Some(Duration::from_millis(500)),
            cpu_limit: Some(Duration::from_secs(1)),
            memory_limit: Some(512 << 20),
            max_tasks: Some(100),
            max_age: Some(Duration::from_secs(60)),
            max_rss: Some(64 << 20),
            max_attempts: 5,
            backoff: Backoff {
                initial: Duration::from_millis(500),
                factor: 2.0,
                max: Duration::from_secs(9),
            },
            max_in_flight: Some(7),
            settings: json!({"b": 1, "a": [2]}).as_object().unwrap().clone(),
        }]
    );
}

#[test]
fn an_unknown_worker_is_refused_with_all_layers() {
    Place::new(&[])
        .project("rex.asynctask_demo")
        .set("asynctask_workers", r#"{"some_queue": "doesntexist"}"#)
        .fails(
            "Failed to match the value against any of the following:
    Expected one of:
        ctl_executor, demo_foo_worker, demo_bar_worker, requeue_worker
    Got:
        'doesntexist'

    Expected a JSON object
    Got:
        'doesntexist'
While validating mapping value for key:
    'some_queue'
While validating setting:
    asynctask_workers
While initializing RexDB application:
    rex.asynctask_demo
With parameters:
    asynctask_workers: '{\"some_queue\": \"doesntexist\"}'",
        );
}

#[test]
fn schedules_are_validated_as_the_original_does() {
    let demo = |schedules: &str| {
        Place::new(&[])
            .project("rex.asynctask_demo")
            .global("parameters", json!({"asynctask-scheduled-workers": serde_json::from_str::<Value>(schedules).unwrap()}))
    };
    let place = demo(
        r#"[{"worker": "demo_foo_worker", "minute": "*/5"}, {"ctl": "demo-noisy-task", "hour": "7"},
            {"worker": "demo_foo_worker", "second": 0, "start-date": "2020-01-02T03:04:05+01:00"}]"#,
    );
    let schedules = place.ok().schedules;
    assert_eq!(schedules.len(), 3);
    assert_eq!((&schedules[0].minute, &schedules[1].hour), (&json!("*/5"), &json!(7)));
    assert_eq!(schedules[1].ctl.as_deref(), Some("demo-noisy-task"));
    assert_eq!(schedules[2].start_date.as_deref(), Some("2020-01-02T02:04:05"));
    let tail = |repr: &str| {
        format!(
            "While validating sequence item\n    #1\nWhile validating setting:\n    \
             asynctask_scheduled_workers\nWhile initializing RexDB application:\n    \
             rex.asynctask_demo\nWith parameters:\n    asynctask_scheduled_workers: {repr}"
        )
    };
    let one_of = "Must specify one of 'worker' or 'ctl'\n";
    demo(r#"[{"minute": "*/5"}]"#).fails(&(one_of.to_owned() + &tail("[{'minute': '*/5'}]")));
    demo(r#"[{"worker": "demo_foo_worker", "ctl": "demo-noisy-task", "minute": "*/5"}]"#).fails(
        &(one_of.to_owned()
            + &tail("[{'worker': 'demo_foo_worker', 'ctl': 'demo-noisy-task', 'minute': '*/5'}]")),
    );
    demo(r#"[{"worker": "demo_foo_worker"}]"#).fails(
        &("Must specify some property of the schedule\n".to_owned()
            + &tail("[{'worker': 'demo_foo_worker'}]")),
    );
    demo(r#"[{"worker": "doesntexist"}]"#).fails(
        &("Expected one of:\n    ctl_executor, demo_foo_worker, demo_bar_worker, requeue_worker\n\
           Got:\n    'doesntexist'\nWhile validating field:\n    worker\n"
            .to_owned()
            + &tail("[{'worker': 'doesntexist'}]")),
    );
    let files = [
        ("base.yaml", "asynctask_scheduled_workers: [{ctl: a, hour: 1}]"),
        ("top.yaml", "requires: base\nasynctask_scheduled_workers: [{ctl: b, hour: 2}]"),
    ];
    let schedules = Place::new(&files).project("top").ok().schedules;
    let ctls: Vec<_> = schedules.iter().filter_map(|s| s.ctl.as_deref()).collect();
    assert_eq!(ctls, ["a", "b"]);
}

#[test]
fn the_command_line_takes_settings_back() {
    let files = [("p.yaml", "mart_hosting_cluster: pgsql://marts/x\nmart_name_prefix: p_")];
    let place = Place::new(&files).project("p");
    let place = place.set("mart-hosting-cluster", "null").set("mart_name_prefix", "null");
    let told = place.load().unwrap().told().unwrap();
    assert_eq!(told.settings["mart_hosting_cluster"], json!(null));
    // Which may be any text.
    assert_eq!(told.settings["mart_name_prefix"], "null");
    let place = Place::new(&[]).project("rex.asynctask");
    let kept = place.set("asynctask_dead_letter_retention", "null").ok();
    assert_eq!(kept.dead_letter_retention, None);
}

/// What a worker of marts would find out at each of its starts.
#[test]
fn servers_of_marts_and_gateways_are_addresses() {
    let gateways = |text: &str, error: &str| {
        let place = Place::new(&[]).project("rex.asynctask").set("mart_etl_htsql_gateways", text);
        let error = format!(
            "{error}\nWhile validating mapping value for key:\n    g\nWhile validating setting:\n    \
             mart_etl_htsql_gateways\n"
        );
        let seen = place.load().and_then(|application| application.told()).unwrap_err().to_string();
        assert!(seen.starts_with(&error), "{seen}");
    };
    gateways(r#"{"g": 5}"#, "Expected the URI of a database");
    gateways(r#"{"g": "sqlite:x"}"#, "Only PostgreSQL systems can be gateways");
    let port = "the port is not a number from 1 to 65535";
    gateways(r#"{"g": {"htsql": {"db": "pgsql://h:99999/x"}}}"#, port);
    let place = Place::new(&[]).project("rex.asynctask");
    let place = place.set("mart_hosting_cluster", "pgsql://h:99999/x");
    let seen = place.load().and_then(|application| application.told()).unwrap_err().to_string();
    assert!(seen.starts_with(port), "{seen}");
}

#[test]
fn errors_of_settings_carry_the_application() {
    Place::new(&[]).project("rex.asynctask").set("asynctask_workers_poll_interval", "0").fails(
        "Expected an integer in range:\n    [1..]\nGot:\n    '0'\nWhile validating \
             setting:\n    asynctask_workers_poll_interval\nWhile initializing RexDB \
             application:\n    rex.asynctask\nWith parameters:\n    \
             asynctask_workers_poll_interval: '0'",
    );
    Place::new(&[]).set("nope", "1").set("debug", "1").fails(
        "Got unknown setting:\n    nope\nWhile initializing RexDB application\nWith \
         parameters:\n    debug: '1'\n    nope: '1'",
    );
    let mut place = Place::new(&[]);
    place.sources.sets.push(("asynctask_transport".into(), None));
    place.fails(
        "Expected a string\nGot:\n    True\nWhile validating setting:\n    \
         asynctask_transport\nWhile initializing RexDB application\nWith parameters:\n    \
         asynctask_transport: True",
    );
    Place::new(&[("p.yaml", "unknown: true")]).project("p").fails(
        "Got unknown setting:\n    unknown\nIn\n    @/p.yaml\nWhile initializing RexDB \
         application:\n    p",
    );
    Place::new(&[("p.yaml", "Ill-formed settings file")]).project("p").fails(
        "Expected a mapping\nGot:\n    Ill-formed settings file\nWhile parsing:\n    \
         \"@/p.yaml\", line 1\nWhile initializing RexDB application:\n    p",
    );
    Place::new(&[("p.yaml", "debug: 1\ndebug: 0")]).project("p").fails(
        "Failed to parse a YAML document:\n    while constructing a mapping\n      in \
         \"@/p.yaml\", line 1, column 1\n    found a duplicate key\n      in \"@/p.yaml\", line \
         2, column 1\nWhile initializing RexDB application:\n    p",
    );
    Place::new(&[("p.yaml", "requires: [a]\nrequires: [a]"), ("a.yaml", "{}")]).project("p").fails(
        "Failed to parse a YAML document:\n    while constructing a mapping\n      in \
         \"@/p.yaml\", line 1, column 1\n    found a duplicate key\n      in \"@/p.yaml\", line \
         2, column 1\nWhile initializing RexDB application:\n    p",
    );
    let error = Place::new(&[("p.yaml", "***Invalid YAML***")]).project("p");
    let error = error.settings().unwrap_err().to_string();
    assert!(error.starts_with("Failed to parse a YAML document:\n    "), "{error}");
    assert!(error.ends_with("\nWhile initializing RexDB application:\n    p"), "{error}");
    let place = Place::new(&[])
        .set("asynctask_workers", r#"{"a": {"worker": "ctl_executor", "rate_period": "nan"}}"#);
    let error = place.settings().unwrap_err().to_string();
    assert!(
        error
            .contains("[0..1000000000]\nGot:\n    'NaN'\nWhile validating field:\n    rate_period"),
        "{error}"
    );
    Place::new(&[]).project("rex.asynctask_demo").set("asynctask_workers", "{[]}").fails(
        "Expected a JSON object\nGot:\n    '{[]}'\nWhile validating setting:\n    \
         asynctask_workers\nWhile initializing RexDB application:\n    \
         rex.asynctask_demo\nWith parameters:\n    asynctask_workers: '{[]}'",
    );
}

#[test]
fn requirements_are_found_or_named() {
    let tail = |req: &str| format!("While initializing RexDB application:\n    {req}");
    let missing = |req: &str| format!("Failed to satisfy requirement:\n    {req}\n{}", tail(req));
    Place::new(&[]).project("nothing").fails(&missing("nothing"));
    Place::new(&[]).project("./nothing.yaml").fails(&missing("./nothing.yaml"));
    Place::new(&[])
        .project("a b")
        .fails(&format!("Got ill-formed requirement:\n    a b\n{}", tail("a b")));
    Place::new(&[])
        .project("..")
        .fails(&format!("Got ill-formed requirement:\n    ..\n{}", tail("..")));
    Place::new(&[])
        .project("nowhere/")
        .fails(&format!("Cannot find static directory:\n    nowhere/\n{}", tail("nowhere/")));
    Place::new(&[("p.yaml", "requires: [q]")]).project("p").fails(
        "Failed to satisfy requirement:\n    q\nRequired for:\n    p\nWhile initializing RexDB \
         application:\n    p",
    );
    Place::new(&[("p.yaml", "requires: q"), ("q.yaml", "requires: p")]).project("p").fails(
        "Got a circular requirement:\n    p\nRequired for:\n    q\nRequired for:\n    p\nWhile \
         initializing RexDB application:\n    p",
    );
    Place::new(&[("p.yaml", "requires: 5")]).project("p").fails(
        "Expected a string\nGot:\n    5\nWhile parsing:\n    \"@/p.yaml\", line 1\nWhile \
         validating field:\n    requires\nWhile initializing RexDB application:\n    p",
    );
    let files = [
        ("pa/settings.yaml", "asynctask_transport: a"),
        ("pb/settings.yaml", "asynctask_transport: b"),
        ("sub/own.yaml", "requires: ./beside.yaml\ndebug: 1"),
        ("sub/beside.yaml", "asynctask_lock_timeout: 7"),
        ("bare/x", ""),
        ("empty.yaml", ""),
    ];
    let place = Place::new(&files).project("./pa/").require("./pb/").require("rex.asynctask_demo");
    let names: Vec<String> =
        place.load().unwrap().packages.into_iter().map(|package| package.name).collect();
    assert_eq!(names, ["rex.asynctask", "rex.asynctask_demo", "pb", "pa"]);
    assert_eq!(place.ok().transport.as_deref(), Some("a"));
    let place =
        Place::new(&files).project("sub/own.yaml").require("bare/").require("-").require("empty");
    let settings = place.ok();
    assert!(settings.debug && settings.lock_timeout == Duration::from_secs(7));
    assert_eq!(place.load().unwrap().packages.len(), 5);
}

#[test]
fn the_more_specific_source_wins() {
    let files = [
        ("app.yaml", "requires: [base]\nasynctask_lock_timeout: 2\nlogging_root: {handlers: [x]}"),
        (
            "base.yaml",
            "asynctask_lock_timeout: 1\nasynctask_drain_timeout: 1\ndb: {htsql: {db: 'pgsql:a'}, x: 1}\nlogging_root: {level: WARN}",
        ),
        (
            "extra.yaml",
            "asynctask_drain_timeout: 9\nasynctask_lock_timeout: 9\ndb: {htsql: {y: 2}}",
        ),
    ];
    let settings = Place::new(&files).project("app").require("extra").ok();
    assert_eq!(settings.lock_timeout, Duration::from_secs(2));
    // `extra` is less specific than `app`, and so is `base`, which only `app` asked for.
    assert_eq!(settings.drain_timeout, Duration::from_secs(1));
    assert_eq!(settings.transport.as_deref(), Some("pgsql:a"));
    assert_eq!(settings.log_level, Level::Warning);
    let place = Place::new(&files)
        .project("app")
        .global("parameters", json!({"asynctask-lock-timeout": 3, "asynctask_drain_timeout": 3}))
        .set("asynctask_lock-timeout", "4");
    let settings = place.ok();
    assert_eq!(settings.lock_timeout, Duration::from_secs(4));
    assert_eq!(settings.drain_timeout, Duration::from_secs(3));
    let effective = place.load().unwrap().effective();
    let lock = effective.iter().find(|e| e.name == "asynctask_lock_timeout").unwrap();
    let dir = place.sources.cwd.display();
    assert_eq!(
        lock.from,
        [format!("{dir}/base.yaml"), format!("{dir}/app.yaml"), "parameters".into()]
    );
    assert_eq!(lock.value, json!("4"));
    let settings = Place::new(&[]).set("db", "pgsql:x").set("asynctask_transport", "sqlite:y").ok();
    assert_eq!(settings.transport.as_deref(), Some("sqlite:y"));
}

#[test]
fn global_settings_come_from_the_first_source() {
    let config = "project: from_file\nparameters: {debug: true}\nquiet: 1\nnope: 2\n";
    let place = || Place::new(&[("rex.yaml", config), ("other.yaml", "project: other")]);
    let globals = place().globals();
    assert_eq!(globals.project.as_deref(), Some("from_file"));
    assert!(globals.quiet && globals.parameters.contains_key("debug"));
    let path = place();
    let globals = path.globals();
    let shown = path.sources.cwd.join("rex.yaml").display().to_string();
    assert_eq!(globals.warnings, [format!("unknown setting nope in configuration file {shown}")]);
    let globals = place()
        .env("REX_PROJECT", "from_env")
        .env("REX_PARAMETERS", r#"{"a-b": 1}"#)
        .env("REX_BOGUS", "1")
        .env("REX_STATE", "/state")
        .env("REX_PLUGINS", "")
        .env("REX_SHARED", "/shared")
        .env("OTHER", "1")
        .globals();
    assert_eq!(globals.project.as_deref(), Some("from_env"));
    assert_eq!(Value::Object(globals.parameters), json!({"a_b": 1}));
    assert_eq!((globals.state, globals.plugins), (Some("/state".into()), None));
    assert_eq!(globals.warnings[0], "unknown setting REX_BOGUS in the environment");
    let globals = place()
        .env("REX_PROJECT", "from_env")
        .global("project", json!("from_line"))
        .global("debug", json!(true))
        .globals();
    assert_eq!(globals.project.as_deref(), Some("from_line"));
    assert!(globals.debug);
    let globals = place().global("config", json!("other.yaml")).globals();
    assert_eq!((globals.project.as_deref(), globals.quiet), (Some("other"), false));
    let mut instance = place().env("OTHER_QUIET", "true").env("REX_QUIET", "x");
    instance.sources.instance = "other".into();
    let globals = instance.globals();
    assert_eq!((globals.project.as_deref(), globals.quiet), (Some("other"), true));
    let prefix = tempfile::tempdir().unwrap();
    std::fs::write(prefix.path().join("rex.yaml"), "project: installed").unwrap();
    let mut place = place();
    place.sources.prefix = Some(prefix.path().to_path_buf());
    assert_eq!(place.globals().project.as_deref(), Some("installed"));
}

#[test]
fn bad_global_settings_are_refused() {
    let fails = |place: Place, expect: &str| {
        assert_eq!(Globals::read(&place.sources).unwrap_err().to_string(), expect);
    };
    fails(
        Place::new(&[]).global("parameters", json!("{[]}")),
        "invalid value for setting --parameters: \nExpected a JSON object\nGot:\n    '{[]}'",
    );
    fails(
        Place::new(&[]).env("REX_REQUIREMENTS", "x"),
        "invalid value for setting --requirements: \nExpected a JSON array\nGot:\n    'x'",
    );
    fails(
        Place::new(&[]).global("config", json!("nofile.yaml")),
        "specified configuration file nofile.yaml does not exist",
    );
    let place = Place::new(&[("rex.yaml", "[]")]);
    let dir = place.sources.cwd.display().to_string();
    fails(
        place,
        &format!(
            "Expected a mapping\nGot:\n    a sequence\nWhile parsing:\n    \"{dir}/rex.yaml\", line 1"
        ),
    );
}

#[test]
fn positional_and_global_projects_both_count() {
    let files = [("a.yaml", "asynctask_transport: a"), ("b.yaml", "asynctask_transport: b")];
    let place = Place::new(&files)
        .project("a")
        .global("project", json!("b"))
        .require("rex.asynctask")
        .global("requirements", json!(r#"["rex.asynctask_demo"]"#));
    let application = place.load().unwrap();
    let expect = ["a", "b", "rex.asynctask", "rex.asynctask_demo"];
    assert_eq!(application.requirements, expect);
    assert_eq!(place.ok().transport.as_deref(), Some("a"));
    let files = [("dir/rex.asynctask.yaml", "debug: true")];
    let place = Place::new(&files).project("rex.asynctask").env("REX_SETTINGS", "dir");
    assert!(place.ok().debug);
    drop(place.dir);
    Place::new(&[])
        .env("REX_SETTINGS", "none")
        .fails("Cannot find settings directory:\n    none\nWhile initializing RexDB application");
}

#[test]
fn commands_without_workers_do_not_look_at_them() {
    let place = Place::new(&[]).project("rex.asynctask_demo").set("asynctask_transport", "pgsql:x");
    let globals = place.globals();
    let settings = resolve_transport(&place.sources, &globals).unwrap();
    assert_eq!((settings.transport.as_deref(), settings.queues.len()), (Some("pgsql:x"), 0));
    assert!(resolve(&place.sources, &globals, &[]).is_err());
    assert!(resolve(&place.sources, &globals, &workers()).is_ok());
}

#[test]
fn passwords_are_not_shown() {
    let place = Place::new(&[])
        .set("asynctask_transport", "pgsql://me:s3cret@host/db")
        .set("db", r#"{"engine": "pgsql", "password": "s3cret", "port": "x"}"#)
        .set("debug", "maybe");
    let error = place.settings().unwrap_err().to_string();
    assert!(error.contains("'pgsql://me:***@host/db'") && !error.contains("s3cret"), "{error}");
    let effective = place.load().unwrap().effective();
    assert!(!format!("{effective:?}").contains("s3cret"));
    let place = Place::new(&[]).env("REX_PARAMETERS", "{'db': 'pgsql://me:s3cret@host'");
    let error = Globals::read(&place.sources).unwrap_err().to_string();
    assert!(!error.contains("s3cret"), "{error}");
}
