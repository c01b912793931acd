//! How the plugin API may grow: what is built for 1.0 is served for ever, what is newer is served or
//! refused as `plugins::manifest` says, and a change of the boundary itself does not go unnoticed.
//!
//! The tests load plugins into their own process, which a host never does: so each is the host, and
//! can be an older or a newer one than this build.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rex_host::plugins::manifest::HostApi;
use rex_host::plugins::{Catalog, Finder, Loaded, load};
use rex_plugin_api::abi::{Buffer, Host};
use rex_plugin_api::ops::{self, ApiVersion, Failure};
use rex_test_support::env::repository;
use rex_test_support::plugins::{Chameleon, built, chameleon, manifest};
use serde_json::{Value, json};

/// An operation of a later API, in either direction.
const LATER_OP: u32 = 9999;

/// A host of a later API: it offers one more operation, and counts what it is asked.
#[derive(Default)]
struct LaterHost {
    calls: Mutex<Vec<(u32, Value)>>,
}

impl LaterHost {
    const API: HostApi = HostApi {
        version: ApiVersion { major: ops::API.major, minor: ops::API.minor + 1 },
        ops: &[ops::HOST_LOG, ops::HOST_SUBMIT, LATER_OP],
    };

    fn leaked() -> &'static LaterHost {
        Box::leak(Box::default())
    }

    fn take_calls(&self) -> Vec<(u32, Value)> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Host for LaterHost {
    fn call(&self, op: u32, input: &[u8], output: &mut Buffer) -> u32 {
        if !Self::API.ops.contains(&op) {
            output.set(Self::API.version.to_string().as_bytes());
            return ops::UNKNOWN_OP;
        }
        self.calls.lock().unwrap().push((op, serde_json::from_slice(input).unwrap()));
        output.clear();
        ops::OK
    }
}

/// A host of this build, which knows nothing later.
struct ThisHost;

impl Host for ThisHost {
    fn call(&self, op: u32, _: &[u8], output: &mut Buffer) -> u32 {
        if ops::HOST_OPS.contains(&op) {
            output.clear();
            return ops::OK;
        }
        output.set(ops::API.to_string().as_bytes());
        ops::UNKNOWN_OP
    }
}

/// A copy of its own: the same file, opened twice, would be one library with one host.
fn installed(plugin: &Chameleon) -> PathBuf {
    let folder = tempfile::tempdir().unwrap().keep();
    plugin.install(&folder.join("p.so"))
}

fn call(loaded: &Loaded, op: u32, input: &str) -> (u32, String) {
    let mut output = Buffer::default();
    let status = loaded.plugin.call(op, input.as_bytes(), &mut output);
    (status, String::from_utf8(output.to_vec()).unwrap())
}

fn start(loaded: &Loaded, worker: &str) {
    // A later host may say more than the plugin knows.
    let input = json!({
        "worker": worker, "queue": "q", "level": "DEBUG", "settings": {"a": 1}, "later": [1, 2],
    });
    assert_eq!(call(loaded, ops::PLUGIN_START, &input.to_string()), (ops::OK, String::new()));
}

fn process(loaded: &Loaded, payload: &Value) -> Result<(), Failure> {
    let input = format!("{}\n{payload}", json!({"id": 7, "attempt": 2, "later": "x"}));
    match call(loaded, ops::PLUGIN_PROCESS, &input) {
        (ops::OK, _) => Ok(()),
        (ops::FAILED, failure) => Err(serde_json::from_str(&failure).unwrap()),
        (status, text) => panic!("status {status}: {text}"),
    }
}

#[test]
fn a_later_host_serves_a_plugin_of_api_1_0() {
    let host = LaterHost::leaked();
    let loaded = load::load_for(&built("frozen_v1"), host, &LaterHost::API).unwrap();
    assert_eq!(loaded.manifest.api, ApiVersion { major: 1, minor: 0 });
    assert_eq!(loaded.manifest.workers[0].name, "frozen_worker");
    assert_eq!(loaded.manifest.workers[0].logger, "FrozenWorker");

    // It does not know what came later, says so, and goes on.
    assert_eq!(call(&loaded, LATER_OP, "{}"), (ops::UNKNOWN_OP, "1.0".to_owned()));
    start(&loaded, "frozen_worker");
    assert_eq!(
        host.take_calls(),
        [(ops::HOST_LOG, json!({"level": "INFO", "text": "started on q with {\"a\":1}"}))]
    );

    let log = |n: u32| {
        let text = format!("task 7, attempt 2, number {n}");
        (ops::HOST_LOG, json!({"level": "WARNING", "text": text}))
    };
    assert_eq!(process(&loaded, &json!({"do": "submit"})), Ok(()));
    let submit = json!({"queue": "elsewhere", "payload": "{\"n\":1}"});
    assert_eq!(host.take_calls(), [log(1), (ops::HOST_SUBMIT, submit)]);

    assert_eq!(process(&loaded, &json!({"do": "requeue"})), Ok(()));
    let calls = host.take_calls();
    assert_eq!(calls[..2], [log(2), (ops::HOST_SUBMIT, json!({"payload": "{\"again\":true}"}))]);

    let failure = process(&loaded, &json!({"do": "fail"})).unwrap_err();
    assert_eq!((failure.panicked, failure.last_line().as_str()), (false, "Exception: on purpose"));
    assert!(failure.place.unwrap().contains("frozen_v1/src/lib.rs:"));

    host.take_calls();
    let failure = process(&loaded, &json!({"do": "panic"})).unwrap_err();
    assert_eq!((failure.panicked, failure.text.as_str()), (true, "a panic on purpose"));
    assert!(failure.place.unwrap().contains("frozen_v1/src/lib.rs:"));
    assert_eq!(host.take_calls(), [log(4)]);
    assert_eq!(process(&loaded, &json!({"do": "nothing"})), Ok(()));
    let calls = host.take_calls();
    assert_eq!(calls[calls.len() - 1], log(1), "made anew after the panic");
}

#[test]
fn an_older_host_tells_a_plugin_that_it_does_not_know_an_operation() {
    let loaded = load::load(&installed(&chameleon()), &ThisHost).unwrap();
    start(&loaded, "chameleon_worker");
    let failure = process(&loaded, &json!({"op": LATER_OP})).unwrap_err();
    assert_eq!(failure.class, "UnknownOperation");
    assert_eq!(
        failure.text,
        format!(
            "the host does not know operation {LATER_OP}; it speaks plugin API {}, this plugin was \
             built against {}; update rex-host or do without",
            ops::API,
            ops::API
        )
    );
    assert!(failure.place.unwrap().contains("chameleon/src/lib.rs:"));
    // Nothing is broken by the question.
    let known = json!({"op": ops::HOST_LOG, "level": "INFO", "text": "still here"});
    assert_eq!(process(&loaded, &known), Ok(()));
}

/// The catalog of a directory that holds this plugin alone, found by this build of the host.
fn discovered(plugin: &Chameleon) -> Catalog {
    let folder = tempfile::tempdir().unwrap();
    plugin.install(&folder.path().join("p.so"));
    let finder = Finder::new(Path::new(env!("CARGO_BIN_EXE_rex-host")));
    finder.discover(folder.path(), None).unwrap()
}

fn claiming(major: u32, minor: u32, needs: &[u32]) -> Chameleon {
    let mut claim = manifest("chameleon", &["chameleon_worker"]);
    claim["api"] = json!({"major": major, "minor": minor});
    claim["needs"] = json!(needs);
    claim["later"] = json!("a field that only a later host knows");
    chameleon().claim(&claim)
}

#[track_caller]
fn refusal(plugin: &Chameleon) -> (String, String) {
    let catalog = discovered(plugin);
    assert_eq!((catalog.plugins.len(), catalog.refusals.len()), (0, 1), "{catalog:?}");
    let reason = &catalog.refusals[0].reason;
    (reason.text.clone(), reason.hint.clone().unwrap())
}

#[test]
fn a_plugin_of_the_next_minor_version_is_accepted_when_its_needs_are_met() {
    let next = ops::API.minor + 1;
    let catalog = discovered(&claiming(1, next, &[ops::HOST_LOG, ops::HOST_SUBMIT]));
    assert!(catalog.worker("chameleon_worker").is_some(), "{catalog:?}");

    // Its crate's version rises with it: the check at load must not mind.
    let built_later = chameleon().replace("rex-plugin-api;1.0.0", "rex-plugin-api;1.9.9");
    assert_eq!(discovered(&built_later).plugins.len(), 1);
}

#[test]
fn a_plugin_that_needs_what_this_host_does_not_offer_is_refused() {
    let next = ops::API.minor + 1;
    let (text, hint) = refusal(&claiming(1, next, &[ops::HOST_LOG, LATER_OP]));
    assert_eq!(
        text,
        format!(
            "needs host operation {LATER_OP}, which this host (plugin API {}) does not offer; it \
             is built against plugin API 1.{next}",
            ops::API
        )
    );
    assert!(
        hint.contains(&format!("update rex-host to a version that speaks plugin API 1.{next}"))
    );
    // A host of that version serves it.
    let path = installed(&claiming(1, next, &[ops::HOST_LOG, LATER_OP]));
    assert!(load::load_for(&path, LaterHost::leaked(), &LaterHost::API).is_ok());
}

#[test]
fn a_plugin_of_another_major_version_is_refused() {
    let (text, hint) = refusal(&claiming(2, 0, &[]));
    assert_eq!(text, format!("is built for plugin API 2.0; this host speaks {}", ops::API));
    assert!(hint.contains("update rex-host"), "{hint}");
    let (text, _) = refusal(&chameleon().replace("rex-plugin-api;1.0.0", "rex-plugin-api;2.0.0"));
    assert!(text.starts_with("is built for another plugin ABI: "), "{text}");
}

/// The lines of a source file that mean something to the compiler.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_boundary_is_what_it_was() {
    let now = code(&repository().join("plugin-api/src/abi.rs"));
    let then = code(&repository().join("tests/frozen/plugin-api-v1/src/abi.rs"));
    let difference = now.iter().zip(&then).find(|(now, then)| now != then);
    assert!(
        now == then,
        "plugin-api/src/abi.rs has changed, first: {difference:?}. If what crosses has (a symbol, a \
         type's layout, the meaning of a function), undo it: plugins of API 1.0 are out there; add \
         an operation to ops.rs, or a second symbol. If only this side's handling has, make the \
         same change to the frozen copy"
    );
}

#[test]
fn operations_keep_their_numbers() {
    let constants = |path: &str| {
        let lines = code(&repository().join(path));
        let constants = lines.into_iter().filter(|line| line.starts_with("pub const "));
        constants.filter(|line| line.contains(": u32 =")).collect::<Vec<_>>()
    };
    let now = constants("plugin-api/src/ops.rs");
    let then = constants("tests/frozen/plugin-api-v1/src/ops.rs");
    assert!(then.len() >= 9, "{then:?}");
    for constant in then {
        assert!(now.contains(&constant), "`{constant}` is no longer what it was");
    }
}

/// What one side writes, the other reads.
fn crosses<From, To>(message: &From) -> To
where
    From: serde::Serialize,
    To: serde::de::DeserializeOwned,
{
    let text = serde_json::to_string(message).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn what_crosses_is_understood_by_both_versions() {
    use rex_plugin_api_v1::ops as v1;

    // From this host to a plugin of 1.0.
    let start = ops::Start {
        worker: "w".to_owned(),
        queue: "q".to_owned(),
        level: rex_plugin_api::Level::Warning,
        settings: json!({"a": [1]}).as_object().unwrap().clone(),
        application: Default::default(),
    };
    let read: v1::Start = crosses(&start);
    assert_eq!((read.worker.as_str(), read.queue.as_str()), ("w", "q"));
    assert_eq!(read.level, rex_plugin_api_v1::Level::Warning);
    assert_eq!(read.settings, start.settings);
    let read: v1::TaskHeader = crosses(&ops::TaskHeader { id: i64::MAX, attempt: 3 });
    assert_eq!((read.id, read.attempt), (i64::MAX, 3));

    // From a plugin of 1.0 to this host.
    let read: ops::Log =
        crosses(&v1::Log { level: rex_plugin_api_v1::Level::Critical, text: "t".to_owned() });
    assert_eq!((read.level, read.text.as_str()), (rex_plugin_api::Level::Critical, "t"));
    for queue in [None, Some("q".to_owned())] {
        let read: ops::Submit =
            crosses(&v1::Submit { queue: queue.clone(), payload: "{}".to_owned() });
        assert_eq!((read.queue, read.payload.as_str()), (queue, "{}"));
    }
    let failure = v1::Failure {
        panicked: true,
        class: "Panic".to_owned(),
        text: "t".to_owned(),
        place: None,
        frames: vec!["f".to_owned()],
    };
    let read: Failure = crosses(&failure);
    assert_eq!(read.traceback(), failure.traceback());
    assert!(read.panicked);
    let described = v1::Manifest {
        name: "p".to_owned(),
        version: "0.1.0".to_owned(),
        api: v1::API,
        needs: vec![1],
        unwinds: true,
        workers: vec![v1::WorkerEntry { name: "w".to_owned(), logger: "W".to_owned() }],
    };
    let read: ops::Manifest = crosses(&described);
    assert_eq!(read.workers[0].logger, "W");
    assert_eq!((read.api.major, read.api.minor, read.needs), (1, 0, vec![1]));
}
